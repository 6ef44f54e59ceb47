//! The order of filters: the last of a chain must be terminal, no other may be.

use prost_types::Any;

use super::Whole;
use crate::{Path, type_name};

const TERMINAL_NETWORK: [&str; 4] = [
    "envoy.extensions.filters.network.direct_response.v3.Config",
    "envoy.extensions.filters.network.echo.v3.Echo",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
];

const TERMINAL_HTTP: [&str; 1] = ["envoy.extensions.filters.http.router.v3.Router"];

#[derive(Clone, Copy)]
pub(super) enum Chain {
    Network,
    Http,
    Upgrade,
}

impl Chain {
    fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Http => "http",
            Self::Upgrade => "http upgrade",
        }
    }

    fn terminal(self, filter: &str) -> bool {
        match self {
            Self::Network => TERMINAL_NETWORK.contains(&filter),
            Self::Http | Self::Upgrade => TERMINAL_HTTP.contains(&filter),
        }
    }
}

/// `filters`: name and configuration of each, in their order.
pub(super) fn order(whole: &mut Whole, chain: Chain, filters: &[(&str, Option<&Any>)], path: &Path) {
    for (index, (name, config)) in filters.iter().enumerate() {
        // One that could not be read was reported, and may have been of either kind.
        let Some(message) = config.map(type_name).filter(|message| !message.is_empty()) else { continue };
        let last = index + 1 == filters.len();
        let (kind, filter) = (chain.name(), extension_name(message));
        match (chain.terminal(message), last) {
            (true, false) => whole.error(
                &path.index(index),
                format!(
                    "Error: terminal filter named {name} of type {filter} must be the last filter in a {kind} filter chain."
                ),
            ),
            (false, true) => whole.error(
                &path.index(index),
                format!("Error: non-terminal filter named {name} of type {filter} is the last filter in a {kind} filter chain."),
            ),
            _ => {}
        }
    }
}

/// `envoy.filters.http.buffer`, the name that Envoy registers for `envoy.extensions.filters.http.buffer.v3.Buffer`.
fn extension_name(message: &str) -> String {
    let short = message.strip_prefix("envoy.extensions.").unwrap_or(message);
    format!("envoy.{}", short.split_once(".v3.").map_or(short, |(name, _)| name))
}
