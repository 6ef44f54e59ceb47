//! The route table (`envoy.config.route.v3.RouteConfiguration`): virtual hosts, their routes in order, and what to do with
//! a request that matches one.

mod build;
mod domains;
pub(crate) mod hash;
pub(crate) mod matching;
pub(crate) mod mutate;
pub(crate) mod rewrite;
pub(crate) mod route;

use std::sync::Arc;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::{PerFilterConfig, Route, RouteTable, RuntimeValues, StreamInfo};
use adit_http::{RequestHead, RequestKind, Scheme};
use adit_match::ConfigError;
use http::HeaderName;
use http::uri::Authority;

use domains::Domains;
use matching::RouteMatcher;
pub use route::RouteEntry;

/// Compiles `typed_per_filter_config`: each HTTP filter's factory knows its own message.
pub trait PerFilterConfigs {
    /// What a filter's configuration on a route comes to; `at` is the path of the message, for errors. The router unwraps
    /// `envoy.config.route.v3.FilterConfig` before it asks.
    fn compile(&self, filter_name: &str, config: &prost_types::Any, at: &str) -> Result<PerFilterConfig, ConfigError>;
}

/// What a route configuration needs to know of the rest of the configuration.
pub struct RouteContext<'a> {
    /// The path of the message, which errors begin with; empty for none.
    pub path: &'a str,
    /// Whether a cluster of this name exists (`validate_clusters`).
    pub cluster_exists: &'a dyn Fn(&str) -> bool,
    /// Compiles what routes say of filters.
    pub filters: &'a dyn PerFilterConfigs,
    /// Decides runtime fractions.
    pub runtime: RuntimeValues,
}

/// A route configuration, ready to be asked.
pub struct RouteConfig {
    domains: Domains,
    hosts: Vec<VirtualHost>,
    ignore_port: bool,
    runtime: RuntimeValues,
}

struct VirtualHost {
    routes: Vec<Rule>,
    tls: RequireTls,
    /// Where a request goes that must be over TLS and is not.
    redirect: Arc<RouteEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequireTls {
    None,
    ExternalOnly,
    All,
}

struct Rule {
    matcher: RouteMatcher,
    targets: Targets,
}

/// The entries of a route: one, or one for each weighted cluster.
enum Targets {
    One(Arc<RouteEntry>),
    Weighted(Box<Weighted>),
}

struct Weighted {
    /// Each with its weight and its name, by which the runtime may override it.
    entries: Vec<(u32, Box<str>, Arc<RouteEntry>)>,
    header: Option<HeaderName>,
    use_hash_policy: bool,
    runtime_key_prefix: Box<str>,
}

impl RouteConfig {
    /// Builds the table, or reports everything that is wrong with the message.
    pub fn from_proto(message: &pb::RouteConfiguration, ctx: &RouteContext<'_>) -> Result<Arc<Self>, Vec<ConfigError>> {
        build::route_config(message, ctx)
    }
}

impl RouteTable for RouteConfig {
    fn find(&self, head: &RequestHead, info: &StreamInfo, random: u64) -> Option<Arc<dyn Route>> {
        let host = self.hosts.get(self.domains.find(self.host_of(head))?)?;
        let insecure = head.scheme == Scheme::Http;
        match host.tls {
            RequireTls::All if insecure => return Some(host.redirect.clone()),
            RequireTls::ExternalOnly if insecure && !is_internal(head) => return Some(host.redirect.clone()),
            _ => {}
        }
        let rule = host.routes.iter().find(|rule| rule.matcher.matches(head, info, &self.runtime, random))?;
        let entry: Arc<dyn Route> = match &rule.targets {
            Targets::One(entry) => entry.clone(),
            Targets::Weighted(weighted) => weighted.pick(head, info, random, &self.runtime)?,
        };
        Some(entry)
    }
}

impl RouteConfig {
    /// The authority to match: for a CONNECT its target, with the port.
    fn host_of<'a>(&self, head: &'a RequestHead) -> &'a str {
        let authority = match (&head.authority, &head.kind) {
            (Some(authority), _) => authority.as_str(),
            (None, RequestKind::Connect(target)) => target.as_str(),
            (None, _) => "",
        };
        if self.ignore_port { without_port(authority) } else { authority }
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            // A bare IPv6 address has colons and no port.
            if host.contains(':') && !host.ends_with(']') { authority } else { host }
        }
        _ => authority,
    }
}

fn is_internal(head: &RequestHead) -> bool {
    head.headers.get("x-envoy-internal").is_some_and(|value| value.as_bytes() == b"true")
}

impl Weighted {
    fn pick(
        &self,
        head: &RequestHead,
        info: &StreamInfo,
        random: u64,
        runtime: &RuntimeValues,
    ) -> Option<Arc<RouteEntry>> {
        let selector = self.selector(head, info, random);
        let weight = |weight: u32, name: &str| {
            if self.runtime_key_prefix.is_empty() {
                return u64::from(weight);
            }
            runtime.number(&format!("{}.{name}", self.runtime_key_prefix), f64::from(weight)).max(0.0) as u64
        };
        let total: u64 = self.entries.iter().map(|(own, name, _)| weight(*own, name)).sum();
        let mut left = selector.checked_rem(total)?;
        for (own, name, entry) in &self.entries {
            let own = weight(*own, name);
            if left < own {
                return Some(entry.clone());
            }
            left -= own;
        }
        None
    }

    fn selector(&self, head: &RequestHead, info: &StreamInfo, random: u64) -> u64 {
        if let Some(name) = &self.header {
            let text = head.headers.get(name).and_then(|value| value.to_str().ok());
            return text.and_then(|text| text.trim().parse().ok()).unwrap_or(random);
        }
        let policies =
            self.entries.first().and_then(|(_, _, entry)| entry.forward()).map(|forward| &forward.common.hash);
        match policies {
            Some(policies) if self.use_hash_policy => hash::hash(policies, head, info, random).0.unwrap_or(random),
            _ => random,
        }
    }
}

/// The text of an authority for building requests.
pub(crate) fn authority(text: &str) -> Option<Authority> {
    Authority::try_from(text).ok()
}
