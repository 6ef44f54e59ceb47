//! From messages to the table.

mod forward;
mod mirrors;
mod weighted;

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_access_log::LineFormat;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::PerFilterConfig;
use adit_http::UdpTemplate;
use adit_match::ConfigError;
use bytes::Bytes;
use http::StatusCode;
use pb::virtual_host::TlsRequirementType;

use super::domains::Domains;
use super::matching::{RouteMatcher, take};
use super::mutate::{Mutations, adder};
use super::rewrite::Redirect;
use super::route::{Action, DirectResponse, HostOptions, RouteEntry};
use super::{RequireTls, RouteConfig, RouteContext, Rule, Targets, VirtualHost, Weighted};
use crate::retry::RetryPolicy;
use weighted::WeightedParts;

/// `max_direct_response_body_size_bytes` by default.
const MAX_DIRECT_BODY: u32 = 4096;

type Filters = BTreeMap<Box<str>, PerFilterConfig>;

struct Builder<'a> {
    ctx: &'a RouteContext<'a>,
    message: &'a pb::RouteConfiguration,
    top: Level,
    errors: Vec<ConfigError>,
}

/// What each level of the configuration may say for all below it.
#[derive(Default)]
struct Level {
    mutations: Mutations,
    filters: Filters,
}

/// Fields to add, and fields to remove.
type Changes<'a> = (&'a [core::HeaderValueOption], &'a [String]);

pub(super) fn route_config(
    message: &pb::RouteConfiguration,
    ctx: &RouteContext<'_>,
) -> Result<Arc<RouteConfig>, Vec<ConfigError>> {
    let at = |field: &str| if ctx.path.is_empty() { field.to_owned() } else { format!("{}.{field}", ctx.path) };
    let mut builder = Builder { ctx, message, top: Level::default(), errors: Vec::new() };
    for (set, field) in [
        (message.vhds.is_some(), "vhds"),
        (!message.cluster_specifier_plugins.is_empty(), "cluster_specifier_plugins"),
        (!message.vhost_header.is_empty(), "vhost_header"),
        (message.ignore_path_parameters_in_path_matching, "ignore_path_parameters_in_path_matching"),
        (!message.route_specifiers.is_empty(), "route_specifiers"),
        (!message.internal_only_headers.is_empty(), "internal_only_headers"),
    ] {
        builder.refuse(set, &at(field));
    }
    builder.top = builder.level(
        (&message.request_headers_to_add, &message.request_headers_to_remove),
        (&message.response_headers_to_add, &message.response_headers_to_remove),
        &message.typed_per_filter_config,
        &at,
    );
    let mut domains = Domains::default();
    let mut hosts = Vec::new();
    for (index, host) in message.virtual_hosts.iter().enumerate() {
        let at = at(&format!("virtual_hosts[{index}]"));
        for (place, domain) in host.domains.iter().enumerate() {
            if let Err(error) = domains.add(domain, index, &format!("{at}.domains[{place}]"), &message.name) {
                builder.errors.push(error);
            }
        }
        hosts.push(builder.virtual_host(host, &at));
    }
    if !builder.errors.is_empty() {
        return Err(builder.errors);
    }
    let runtime = ctx.runtime.clone();
    Ok(Arc::new(RouteConfig { domains, hosts, ignore_port: message.ignore_port_in_host_matching, runtime }))
}

/// What the levels above a route say.
struct Above<'a> {
    host: &'a pb::VirtualHost,
    level: Level,
    options: HostOptions,
    retry: Option<Arc<RetryPolicy>>,
}

impl Builder<'_> {
    fn refuse(&mut self, set: bool, at: &str) {
        if set {
            self.errors.push(ConfigError::unsupported(at));
        }
    }

    fn virtual_host(&mut self, host: &pb::VirtualHost, at: &str) -> VirtualHost {
        for (set, field) in [
            (host.matcher.is_some(), "matcher"),
            (!host.virtual_clusters.is_empty(), "virtual_clusters"),
            (!host.rate_limits.is_empty(), "rate_limits"),
            (host.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
            (host.hedge_policy.is_some(), "hedge_policy"),
            (host.include_is_timeout_retry_header, "include_is_timeout_retry_header"),
            (!host.route_specifiers.is_empty(), "route_specifiers"),
        ] {
            self.refuse(set, &format!("{at}.{field}"));
        }
        let above = Above {
            host,
            level: self.level(
                (&host.request_headers_to_add, &host.request_headers_to_remove),
                (&host.response_headers_to_add, &host.response_headers_to_remove),
                &host.typed_per_filter_config,
                &|field| format!("{at}.{field}"),
            ),
            options: HostOptions {
                attempt_count_in_request: host.include_request_attempt_count,
                attempt_count_in_response: host.include_attempt_count_in_response,
            },
            retry: self.retry(host.retry_policy.as_ref(), &format!("{at}.retry_policy")),
        };
        let mut routes = Vec::new();
        for (index, route) in host.routes.iter().enumerate() {
            routes.extend(self.route(route, &above, &format!("{at}.routes[{index}]")));
        }
        let tls = match host.require_tls() {
            TlsRequirementType::None => RequireTls::None,
            TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            TlsRequirementType::All => RequireTls::All,
        };
        let redirect = Arc::new(RouteEntry {
            name: "".into(),
            path: super::matching::PathRule::Connect,
            action: Action::Redirect(Redirect::to_https()),
            mutations: Mutations::default(),
            filters: Filters::new(),
            options: HostOptions::default(),
            udp_template: None,
            body_limit: None,
        });
        VirtualHost { routes, tls, redirect }
    }

    fn retry(&mut self, message: Option<&pb::RetryPolicy>, at: &str) -> Option<Arc<RetryPolicy>> {
        message.map(|message| Arc::new(RetryPolicy::from_proto(message, at, &mut self.errors)))
    }

    fn route(&mut self, route: &pb::Route, above: &Above<'_>, at: &str) -> Option<Rule> {
        for (set, field) in [
            (route.tracing.is_some(), "tracing"),
            (!route.stat_prefix.is_empty(), "stat_prefix"),
            (route.decorator.is_some(), "decorator"),
            (!route.route_specifiers.is_empty(), "route_specifiers"),
        ] {
            self.refuse(set, &format!("{at}.{field}"));
        }
        let matcher = match &route.r#match {
            Some(message) => RouteMatcher::from_proto(message, &format!("{at}.match"), &mut self.errors),
            None => {
                self.errors.push(ConfigError::missing(format!("{at}.match")));
                None
            }
        };
        let own = self.level(
            (&route.request_headers_to_add, &route.request_headers_to_remove),
            (&route.response_headers_to_add, &route.response_headers_to_remove),
            &route.typed_per_filter_config,
            &|field| format!("{at}.{field}"),
        );
        let action = self.action(route, above, at);
        let udp_template = self.udp_template(route, at);
        let (matcher, (action, weighted)) = (matcher?, action?);
        let entry = |action, weighted: Option<&Level>| {
            let levels = || weighted.into_iter().chain([&own, &above.level, &self.top]);
            let mut filters: Vec<&Filters> = levels().map(|level| &level.filters).collect();
            filters.reverse();
            let filters = filters.into_iter().flatten().map(|(name, config)| (name.clone(), config.clone()));
            let mutations: Vec<&Mutations> = levels().map(|level| &level.mutations).collect();
            Arc::new(RouteEntry {
                name: route.name.as_str().into(),
                path: matcher.path.clone(),
                action,
                mutations: Mutations::in_order(&mutations, self.message.most_specific_header_mutations_wins),
                filters: filters.collect(),
                options: above.options,
                udp_template: udp_template.clone(),
                body_limit: body_limit(route, above.host),
            })
        };
        let targets = targets(action, weighted, entry);
        Some(Rule { matcher, targets })
    }

    /// Metadata `adit.connect_udp: { uri_template: ... }` of a route.
    fn udp_template(&mut self, route: &pb::Route, at: &str) -> Option<UdpTemplate> {
        use prost_types::value::Kind;
        let fields = route.metadata.as_ref()?.filter_metadata.get("adit.connect_udp")?;
        let at = format!("{at}.metadata.filter_metadata[adit.connect_udp]");
        for name in fields.fields.keys().filter(|name| *name != "uri_template") {
            self.errors.push(ConfigError::unsupported(format!("{at}.{name}")));
        }
        let at = format!("{at}.uri_template");
        let Some(Kind::StringValue(text)) = fields.fields.get("uri_template").and_then(|value| value.kind.as_ref())
        else {
            self.errors.push(ConfigError::new(at, "a text is required"));
            return None;
        };
        UdpTemplate::parse(text).map_err(|error| self.errors.push(ConfigError::new(at, error.to_string()))).ok()
    }

    fn action(&mut self, route: &pb::Route, above: &Above<'_>, at: &str) -> Option<(Action, Option<WeightedParts>)> {
        match &route.action {
            None => {
                self.errors.push(ConfigError::missing(format!("{at}.action")));
                None
            }
            Some(pb::route::Action::Route(action)) => self.forward(action, above, &format!("{at}.route")),
            Some(pb::route::Action::Redirect(redirect)) => {
                let redirect = Redirect::from_proto(redirect, &format!("{at}.redirect"), &mut self.errors)?;
                Some((Action::Redirect(redirect), None))
            }
            Some(pb::route::Action::DirectResponse(direct)) => {
                Some((Action::Direct(self.direct(direct, &format!("{at}.direct_response"))?), None))
            }
            Some(pb::route::Action::FilterAction(_)) => {
                self.refuse(true, &format!("{at}.filter_action"));
                None
            }
            Some(pb::route::Action::NonForwardingAction(_)) => {
                self.refuse(true, &format!("{at}.non_forwarding_action"));
                None
            }
        }
    }

    fn direct(&mut self, message: &pb::DirectResponseAction, at: &str) -> Option<DirectResponse> {
        let format =
            message.body_format.as_ref().map(|format| LineFormat::from_proto(format, &format!("{at}.body_format")));
        let format = take(format.transpose(), &mut self.errors)?;
        let status = u16::try_from(message.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
        let Some(status) = status.filter(|status| (200..600).contains(&status.as_u16())) else {
            self.errors.push(ConfigError::new(format!("{at}.status"), "value must be inside range [200, 600)"));
            return None;
        };
        let body = match &message.body {
            None => Vec::new(),
            Some(source) => adit_config::read_data_source(source)
                .map_err(|error| self.errors.push(ConfigError::new(format!("{at}.body"), error.to_string())))
                .ok()?,
        };
        let limit = self.message.max_direct_response_body_size_bytes.unwrap_or(MAX_DIRECT_BODY);
        if body.len() as u64 > u64::from(limit) {
            let text = format!("response body size is {} bytes; maximum is {limit}", body.len());
            self.errors.push(ConfigError::new(format!("{at}.body"), text));
        }
        Some(DirectResponse { status, body: Bytes::from(body), format })
    }

    fn level(
        &mut self,
        request: Changes<'_>,
        response: Changes<'_>,
        filters: &BTreeMap<String, prost_types::Any>,
        at: &dyn Fn(&str) -> String,
    ) -> Level {
        let request = adder(request.0, request.1, &at("request_headers"), &mut self.errors);
        let response = adder(response.0, response.1, &at("response_headers"), &mut self.errors);
        let filters = self.filters(filters, &at("typed_per_filter_config"));
        Level { mutations: Mutations { request, response }, filters }
    }

    fn filters(&mut self, configs: &BTreeMap<String, prost_types::Any>, at: &str) -> Filters {
        let mut filters = Filters::new();
        for (name, any) in configs {
            let at = format!("{at}[{name}]");
            match self.filter(name, any, &at) {
                Ok(Some(config)) => {
                    filters.insert(name.as_str().into(), config);
                }
                Ok(None) => {}
                Err(error) => self.errors.push(error),
            }
        }
        filters
    }

    fn filter(&self, name: &str, any: &prost_types::Any, at: &str) -> Result<Option<PerFilterConfig>, ConfigError> {
        if !adit_config::is::<pb::FilterConfig>(any) {
            return self.ctx.filters.compile(name, any, at).map(Some);
        }
        let wrapper: pb::FilterConfig =
            adit_config::unpack(any).map_err(|error| ConfigError::new(at, error.to_string()))?;
        let inner = match wrapper.config.as_ref().filter(|inner| !inner.type_url.is_empty()) {
            Some(inner) => match self.ctx.filters.compile(name, inner, &format!("{at}.config")) {
                Ok(inner) => inner,
                Err(_) if wrapper.is_optional => return Ok(None),
                Err(error) => return Err(error),
            },
            None => PerFilterConfig::default(),
        };
        Ok(Some(PerFilterConfig { disabled: Some(wrapper.disabled), ..inner }))
    }
}

/// Where a route leads: to one entry, or to one for each of its weighted clusters.
fn targets(
    action: Action,
    weighted: Option<WeightedParts>,
    entry: impl Fn(Action, Option<&Level>) -> Arc<RouteEntry>,
) -> Targets {
    match (weighted, action) {
        (Some((settings, clusters)), Action::Forward(base)) => {
            let entries = clusters.into_iter().map(|cluster| {
                let mut forward = base.clone();
                forward.cluster = cluster.cluster;
                forward.metadata_match = cluster.metadata_match.or(forward.metadata_match);
                forward.host_rewrite = cluster.host_rewrite.or(forward.host_rewrite);
                let entry = entry(Action::Forward(forward), Some(&cluster.level));
                (cluster.weight, cluster.name, entry)
            });
            Targets::Weighted(Box::new(Weighted { entries: entries.collect(), ..settings }))
        }
        (_, action) => Targets::One(entry(action, None)),
    }
}

#[expect(deprecated, reason = "old files have the 32-bit forms")]
fn body_limit(route: &pb::Route, host: &pb::VirtualHost) -> Option<usize> {
    let bytes = |small: Option<u32>, large: Option<u64>| large.or(small.map(u64::from));
    bytes(route.per_request_buffer_limit_bytes, route.request_body_buffer_limit)
        .or_else(|| bytes(host.per_request_buffer_limit_bytes, host.request_body_buffer_limit))
        .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
