//! What the connection manager must know of routes. The rest is between the route table and the router.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use adit_http::RequestHead;
use adit_http::target::{ConnectTarget, TargetError};

use crate::StreamInfo;

/// Finds the route of a request (`envoy.config.route.v3.RouteConfiguration`).
pub trait RouteTable: Send + Sync {
    /// The first route that matches; `None` is a 404 with flag NR. `random` decides runtime fractions and weights.
    fn find(&self, head: &RequestHead, info: &StreamInfo, random: u64) -> Option<Arc<dyn Route>>;
}

/// A route that matched one request.
pub trait Route: Any + Send + Sync {
    /// `%ROUTE_NAME%`; empty for none.
    fn name(&self) -> &Arc<str>;

    /// The route's own word on an upgrade type (`RouteAction.upgrade_configs`), compared without case; `None` when it
    /// has none and the connection manager decides.
    fn upgrade(&self, upgrade_type: &str) -> Option<bool>;

    /// `idle_timeout` of the route: `None` unset, `Some(ZERO)` off.
    fn idle_timeout(&self) -> Option<Duration>;

    /// `max_stream_duration` of the route: `None` unset, `Some(ZERO)` off.
    fn max_stream_duration(&self) -> Option<Duration>;

    /// What the route, its weighted cluster, its virtual host or the table say about an HTTP filter, the most specific
    /// first (`typed_per_filter_config`).
    fn filter_config(&self, filter_name: &str) -> Option<&PerFilterConfig>;

    /// The target of a CONNECT-UDP by the route's own URI template (RFC 9298 section 2), from a path with its query; `None`
    /// when it has none, or none that matches.
    fn connect_udp_target(&self, path: &str) -> Option<Result<ConnectTarget, TargetError>> {
        let _ = path;
        None
    }

    /// The cluster that a request goes to; `None` where it goes to none, or what names it is missing.
    fn cluster<'a>(&'a self, head: &'a RequestHead) -> Option<&'a str> {
        let _ = head;
        None
    }

    /// For the router, to see its own type again.
    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

/// A filter's configuration on one route.
#[derive(Clone, Default)]
pub struct PerFilterConfig {
    /// `envoy.config.route.v3.FilterConfig.disabled`: `Some(false)` turns on a filter that the chain has off.
    pub disabled: Option<bool>,
    /// What the filter's factory made of its configuration.
    pub config: Option<Arc<dyn Any + Send + Sync>>,
}
