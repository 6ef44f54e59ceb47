//! Which upgrades are on: the connection manager's word and the route's (`upgrade_configs` of both).

use std::sync::Arc;

use adit_filter::FilterChain;

/// One entry of `HttpConnectionManager.upgrade_configs`.
pub(crate) struct UpgradeEntry {
    /// `upgrade_type`, lower case.
    pub(crate) upgrade_type: Box<str>,
    /// `enabled`, true by default.
    pub(crate) enabled: bool,
    /// `filters`: a chain of its own, which must end in a terminal filter.
    pub(crate) chain: Option<Arc<FilterChain>>,
}

/// The connection manager's `upgrade_configs`.
#[derive(Default)]
pub(crate) struct UpgradeTable(pub(crate) Vec<UpgradeEntry>);

impl UpgradeTable {
    /// What the connection manager says about a type.
    pub(crate) fn find(&self, upgrade_type: &str) -> Option<&UpgradeEntry> {
        self.0.iter().find(|entry| entry.upgrade_type.eq_ignore_ascii_case(upgrade_type))
    }
}

/// The route's word wins where it has one; else the connection manager's; else off.
pub(crate) fn allowed(manager: Option<bool>, route: Option<bool>) -> bool {
    route.or(manager).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn every_row_of_the_enable_table() {
        for (manager, route, expected) in [
            (None, None, false),
            (None, Some(true), true),
            (None, Some(false), false),
            (Some(true), None, true),
            (Some(true), Some(true), true),
            (Some(true), Some(false), false),
            (Some(false), None, false),
            (Some(false), Some(true), true),
            (Some(false), Some(false), false),
        ] {
            assert_eq!(allowed(manager, route), expected, "{manager:?} {route:?}");
        }
    }
}
