//! Network filters.

mod connection_limit;
mod direct_response;
mod echo;
mod local_ratelimit;
mod rbac;
mod set_filter_state;

use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::network as pb;
use adit_config::type_name;
use adit_filter::{NetworkFilter, NetworkTerminal};
use adit_match::ConfigError;

use crate::Env;
use crate::unpack::unpack;

/// A network filter of either kind.
#[derive(Clone)]
pub enum NetworkEntry {
    /// It judges a connection and lets it pass on.
    Filter(Arc<dyn NetworkFilter>),
    /// It takes a connection: the last of its chain.
    Terminal(Arc<dyn NetworkTerminal>),
}

/// The filter that a `typed_config` describes; `None` if it is not one of this crate.
///
/// # Errors
/// If the configuration is malformed or asks for what is not supported.
pub fn network_filter(any: &prost_types::Any, env: &Env<'_>, path: &str) -> Result<Option<NetworkEntry>, ConfigError> {
    use NetworkEntry::{Filter, Terminal};
    Ok(Some(match type_name(any) {
        "envoy.extensions.filters.network.rbac.v3.RBAC" => {
            Filter(Arc::new(rbac::Filter::new(&unpack(any, path)?, env, path)?))
        }
        "envoy.extensions.filters.network.set_filter_state.v3.Config" => {
            Filter(Arc::new(set_filter_state::Filter::new(&unpack(any, path)?, path)?))
        }
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit" => {
            Filter(Arc::new(connection_limit::Filter::new(&unpack(any, path)?, env, path)?))
        }
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit" => {
            Filter(Arc::new(local_ratelimit::Filter::new(&unpack(any, path)?, env, path)?))
        }
        "envoy.extensions.filters.network.echo.v3.Echo" => {
            unpack::<pb::echo::v3::Echo>(any, path)?;
            Terminal(Arc::new(echo::Echo))
        }
        "envoy.extensions.filters.network.direct_response.v3.Config" => {
            Terminal(Arc::new(direct_response::DirectResponse::new(&unpack(any, path)?, path)?))
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests;
