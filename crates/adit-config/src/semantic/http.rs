//! The HTTP connection manager.

use std::collections::HashSet;

use prost_types::Any;

use super::filters::{self, Chain};
use super::{Whole, routes};
use crate::Path;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    RouteSpecifier, StripPortMode,
};
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
};

pub(super) fn check(whole: &mut Whole, manager: &HttpConnectionManager, path: &Path) {
    if manager.strip_matching_host_port
        && matches!(manager.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)))
    {
        let message = "Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.";
        whole.error(&path.field("strip_any_host_port"), message);
    }
    let here = path.field("http_filters");
    if manager.http_filters.is_empty() {
        whole.error(&here, "an HTTP connection manager needs filters, of which the last is terminal");
    }
    filters::order(whole, Chain::Http, &named(&manager.http_filters), &here);
    let mut names = HashSet::new();
    for (index, upgrade) in manager.upgrade_configs.iter().enumerate() {
        let here = path.item("upgrade_configs", index);
        if !names.insert(upgrade.upgrade_type.to_ascii_lowercase()) {
            let message = format!("Error: multiple upgrade configs with the same name: '{}'", upgrade.upgrade_type);
            whole.error(&here.field("upgrade_type"), message);
        }
        filters::order(whole, Chain::Upgrade, &named(&upgrade.filters), &here.field("filters"));
    }
    if let Some(RouteSpecifier::RouteConfig(config)) = &manager.route_specifier {
        routes::check(whole, config, &path.field("route_config"));
    }
}

fn named(filters: &[HttpFilter]) -> Vec<(&str, Option<&Any>)> {
    filters
        .iter()
        .map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) => (filter.name.as_str(), Some(config)),
            _ => (filter.name.as_str(), None),
        })
        .collect()
}
