//! A route as a request finds it: an immutable entry for each route, and one for each of its weighted clusters.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adit_access_log::{HeaderMutations, LineFormat};
use adit_filter::upstream::Priority;
use adit_filter::{PerFilterConfig, Route, RuntimeValues};
use adit_http::target::{ConnectTarget, TargetError};
use adit_http::{RequestHead, RequestKind, UdpTemplate};
use adit_io::Metadata;
use adit_match::Fraction;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderName, StatusCode};

use super::hash::HashPolicy;
use super::matching::PathRule;
use super::mutate::Mutations;
use super::rewrite::{HostRewrite, PathRewrite, Redirect};
use crate::proxy_protocol::ProxyProtocol;
use crate::retry::RetryPolicy;

/// A route that matched.
pub struct RouteEntry {
    pub(crate) name: Arc<str>,
    pub(crate) path: PathRule,
    pub(crate) action: Action,
    pub(crate) mutations: Mutations,
    pub(crate) filters: BTreeMap<Box<str>, PerFilterConfig>,
    pub(crate) options: HostOptions,
    /// How a CONNECT-UDP names its target beside Envoy's way.
    pub(crate) udp_template: Option<UdpTemplate>,
    /// `request_body_buffer_limit` of the route or its virtual host: bytes kept for retries and mirrors.
    pub(crate) body_limit: Option<usize>,
}

/// What a virtual host says for all its routes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HostOptions {
    pub(crate) attempt_count_in_request: bool,
    pub(crate) attempt_count_in_response: bool,
}

pub(crate) enum Action {
    Forward(Box<Forward>),
    Redirect(Redirect),
    Direct(DirectResponse),
}

/// `DirectResponseAction`.
pub(crate) struct DirectResponse {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) format: Option<LineFormat>,
}

/// `RouteAction`, for one cluster.
#[derive(Clone)]
pub(crate) struct Forward {
    pub(crate) cluster: ClusterName,
    pub(crate) common: Arc<ForwardCommon>,
    /// Of the weighted cluster over the route's.
    pub(crate) metadata_match: Option<Metadata>,
    pub(crate) host_rewrite: Option<HostRewrite>,
}

/// What is the same for every cluster of a route.
pub(crate) struct ForwardCommon {
    pub(crate) not_found: StatusCode,
    pub(crate) path_rewrite: Option<PathRewrite>,
    pub(crate) append_forwarded_host: bool,
    /// 15 s by default; `None` for off.
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_stream_duration: Option<Duration>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) priority: Priority,
    pub(crate) hash: Vec<HashPolicy>,
    pub(crate) upgrades: Vec<UpgradeEntry>,
}

#[derive(Debug, Clone)]
pub(crate) enum ClusterName {
    Fixed(Arc<str>),
    Header(HeaderName),
}

impl ClusterName {
    pub(crate) fn resolve<'a>(&'a self, head: &'a RequestHead) -> Option<&'a str> {
        match self {
            Self::Fixed(name) => Some(name),
            Self::Header(name) => {
                head.headers.get(name).and_then(|value| value.to_str().ok()).filter(|name| !name.is_empty())
            }
        }
    }
}

/// `RequestMirrorPolicy`.
pub(crate) struct Mirror {
    pub(crate) cluster: ClusterName,
    pub(crate) fraction: Fraction,
    pub(crate) runtime: RuntimeValues,
    pub(crate) host: ShadowHost,
    /// `request_headers_mutations`
    pub(crate) mutations: HeaderMutations,
}

/// The host of a mirrored request.
pub(crate) enum ShadowHost {
    /// As it came (`disable_shadow_host_suffix_append`).
    Same,
    /// With `-shadow` appended.
    Suffixed,
    /// `host_rewrite_literal`
    Literal(Authority),
}

/// One entry of the route's `upgrade_configs`.
pub(crate) struct UpgradeEntry {
    pub(crate) upgrade_type: Box<str>,
    pub(crate) enabled: bool,
    pub(crate) connect: Option<ConnectConfig>,
}

/// `UpgradeConfig.connect_config`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectConfig {
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) allow_post: bool,
}

impl ForwardCommon {
    /// Whether the route itself terminates this request: a CONNECT, or a POST where that is allowed.
    pub(crate) fn terminates(&self, head: &RequestHead) -> Option<ConnectConfig> {
        let connect =
            || self.upgrades.iter().filter(|entry| entry.enabled && entry.upgrade_type.eq_ignore_ascii_case("CONNECT"));
        let mut configs = connect().filter_map(|entry| entry.connect);
        match &head.kind {
            RequestKind::Connect(_) => configs.next(),
            RequestKind::Plain if head.method == http::Method::POST => configs.find(|config| config.allow_post),
            _ => None,
        }
    }
}

impl ForwardCommon {
    /// Whether the route itself terminates this CONNECT-UDP.
    pub(crate) fn terminates_udp(&self, head: &RequestHead) -> bool {
        let wanted = |entry: &UpgradeEntry| {
            entry.enabled && entry.connect.is_some() && entry.upgrade_type.eq_ignore_ascii_case("CONNECT-UDP")
        };
        matches!(&head.kind, RequestKind::Upgrade(token) if token.is_connect_udp()) && self.upgrades.iter().any(wanted)
    }
}

impl RouteEntry {
    pub(crate) fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }
}

impl Route for RouteEntry {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn upgrade(&self, upgrade_type: &str) -> Option<bool> {
        match &self.action {
            Action::Forward(forward) => {
                let mut entries = forward.common.upgrades.iter();
                entries.find(|entry| entry.upgrade_type.eq_ignore_ascii_case(upgrade_type)).map(|entry| entry.enabled)
            }
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.forward().and_then(|forward| forward.common.idle_timeout)
    }

    fn max_stream_duration(&self) -> Option<Duration> {
        self.forward().and_then(|forward| forward.common.max_stream_duration)
    }

    fn filter_config(&self, filter_name: &str) -> Option<&PerFilterConfig> {
        if self.filters.is_empty() { None } else { self.filters.get(filter_name) }
    }

    fn cluster<'a>(&'a self, head: &'a RequestHead) -> Option<&'a str> {
        self.forward().and_then(|forward| forward.cluster.resolve(head))
    }

    fn connect_udp_target(&self, path: &str) -> Option<Result<ConnectTarget, TargetError>> {
        self.udp_template.as_ref()?.target(path)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
