//! Header fields to add and to remove, at every level of a route configuration.

use std::sync::Arc;

use adit_access_log::HeaderAdder;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_match::ConfigError;

/// The mutations of one level, or of every level in the order in which they are applied. Each removes before it adds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mutations {
    pub(crate) request: Vec<Arc<HeaderAdder>>,
    pub(crate) response: Vec<Arc<HeaderAdder>>,
}

/// One level's `*_headers_to_add` and `*_headers_to_remove`, found at `at` without those endings.
pub(crate) fn adder(
    add: &[core::HeaderValueOption],
    remove: &[String],
    at: &str,
    errors: &mut Vec<ConfigError>,
) -> Vec<Arc<HeaderAdder>> {
    match HeaderAdder::from_proto(add, &format!("{at}_to_add"), remove, &format!("{at}_to_remove")) {
        Ok(adder) if adder.is_empty() => Vec::new(),
        Ok(adder) => vec![Arc::new(adder)],
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    }
}

impl Mutations {
    /// Levels come from the most specific to the least; `most_specific_header_mutations_wins` has them applied the other
    /// way round, so that the most specific has the last word.
    pub(crate) fn in_order(levels: &[&Self], most_specific_wins: bool) -> Self {
        let mut all = Self::default();
        for level in levels {
            all.request.extend(level.request.iter().cloned());
            all.response.extend(level.response.iter().cloned());
        }
        if most_specific_wins {
            all.request.reverse();
            all.response.reverse();
        }
        all
    }
}
