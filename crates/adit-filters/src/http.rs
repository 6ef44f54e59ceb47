//! HTTP filters.

mod buffer;
mod cors;
mod dynamic_forward_proxy;
mod fault;
mod header_mutation;
mod local_ratelimit;
mod rbac;
mod set_filter_state;

use std::any::Any;
use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::http as pb;
use adit_config::type_name;
use adit_filter::HttpFilterFactory;
use adit_match::ConfigError;
pub(crate) use rbac::{Rules, RulesMessage};

use crate::Env;
use crate::unpack::unpack;

/// What a route says about a filter.
type RouteConfig = Arc<dyn Any + Send + Sync>;

/// The filter that a `typed_config` describes; `None` if it is not one of this crate.
///
/// # Errors
/// If the configuration is malformed or asks for what is not supported.
pub fn http_filter(
    any: &prost_types::Any,
    env: &Env<'_>,
    path: &str,
) -> Result<Option<Arc<dyn HttpFilterFactory>>, ConfigError> {
    Ok(Some(match type_name(any) {
        "envoy.extensions.filters.http.buffer.v3.Buffer" => Arc::new(buffer::Factory::new(&unpack(any, path)?, path)?),
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation" => {
            Arc::new(header_mutation::Factory::new(&unpack(any, path)?, path)?)
        }
        "envoy.extensions.filters.http.set_filter_state.v3.Config" => {
            Arc::new(set_filter_state::Factory::new(&unpack(any, path)?, path)?)
        }
        "envoy.extensions.filters.http.rbac.v3.RBAC" => Arc::new(rbac::Factory::new(&unpack(any, path)?, env, path)?),
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit" => {
            Arc::new(local_ratelimit::Factory::new(&unpack(any, path)?, env, path)?)
        }
        "envoy.extensions.filters.http.cors.v3.Cors" => {
            unpack::<pb::cors::v3::Cors>(any, path)?;
            Arc::new(cors::Factory::new(env))
        }
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig" => {
            Arc::new(dynamic_forward_proxy::Factory::new(&unpack(any, path)?, path)?)
        }
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => {
            Arc::new(fault::Factory::new(&unpack(any, path)?, env, path)?)
        }
        _ => return Ok(None),
    }))
}

/// What an entry of `typed_per_filter_config` says, for [`HttpFilterFactory::create`]; `None` if it is not about a filter
/// of this crate.
///
/// # Errors
/// Like [`http_filter`].
pub fn route_config(any: &prost_types::Any, env: &Env<'_>, path: &str) -> Result<Option<RouteConfig>, ConfigError> {
    Ok(Some(match type_name(any) {
        "envoy.extensions.filters.http.buffer.v3.BufferPerRoute" => buffer::route(&unpack(any, path)?, path)?,
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute" => {
            header_mutation::route(&unpack(any, path)?, path)?
        }
        "envoy.extensions.filters.http.set_filter_state.v3.Config" => {
            set_filter_state::route(&unpack(any, path)?, path)?
        }
        "envoy.extensions.filters.http.rbac.v3.RBACPerRoute" => rbac::route(&unpack(any, path)?, env, path)?,
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit" => {
            local_ratelimit::route(&unpack(any, path)?, env, path)?
        }
        "envoy.extensions.filters.http.cors.v3.CorsPolicy" => cors::route(&unpack(any, path)?, path)?,
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => fault::route(&unpack(any, path)?, path)?,
        _ => return Ok(None),
    }))
}

/// The route's own settings, if it has any of this type, else the filter's.
fn settings<T: Send + Sync + 'static>(own: &Arc<T>, per_route: Option<&RouteConfig>) -> Arc<T> {
    per_route.and_then(|config| config.clone().downcast().ok()).unwrap_or_else(|| own.clone())
}

#[cfg(test)]
mod tests;
