//! From messages to the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adit_access_log::{HeaderAdder, HeaderMutations, LineFormat};
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::PerFilterConfig;
use adit_filter::upstream::Priority;
use adit_http::UdpTemplate;
use adit_io::Metadata;
use adit_match::{ConfigError, Fraction};
use bytes::Bytes;
use http::{HeaderName, StatusCode};
use pb::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, RequestMirrorPolicy};
use pb::virtual_host::TlsRequirementType;
use pb::weighted_cluster::RandomValueSpecifier;
use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier as WeightedHostRewrite;

use super::domains::Domains;
use super::hash::HashPolicy;
use super::matching::{RouteMatcher, take};
use super::mutate::{Mutations, adder};
use super::rewrite::{HostRewrite, PathRewrite, Redirect, weighted};
use super::route::{
    Action, ClusterName, ConnectConfig, DirectResponse, Forward, ForwardCommon, HostOptions, Mirror, RouteEntry,
    ShadowHost, UpgradeEntry,
};
use super::{RequireTls, RouteConfig, RouteContext, Rule, Targets, VirtualHost, Weighted, authority};
use crate::proxy_protocol::ProxyProtocol;
use crate::retry::RetryPolicy;

/// Of a response from upstream, by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// `max_direct_response_body_size_bytes` by default.
const MAX_DIRECT_BODY: u32 = 4096;

type Filters = BTreeMap<Box<str>, PerFilterConfig>;

struct Builder<'a> {
    ctx: &'a RouteContext<'a>,
    message: &'a pb::RouteConfiguration,
    mutations: Mutations,
    filters: Filters,
    errors: Vec<ConfigError>,
}

pub(super) fn route_config(
    message: &pb::RouteConfiguration,
    ctx: &RouteContext<'_>,
) -> Result<Arc<RouteConfig>, Vec<ConfigError>> {
    let at = |field: &str| if ctx.path.is_empty() { field.to_owned() } else { format!("{}.{field}", ctx.path) };
    let mut builder =
        Builder { ctx, message, mutations: Mutations::default(), filters: Filters::new(), errors: Vec::new() };
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
    builder.mutations = Mutations {
        request: builder.mutation(
            &message.request_headers_to_add,
            &message.request_headers_to_remove,
            &at("request_headers"),
        ),
        response: builder.mutation(
            &message.response_headers_to_add,
            &message.response_headers_to_remove,
            &at("response_headers"),
        ),
    };
    builder.filters = builder.filters(&message.typed_per_filter_config, &at("typed_per_filter_config"));
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
    mutations: Mutations,
    filters: Filters,
    options: HostOptions,
    retry: Option<Arc<RetryPolicy>>,
}

impl Builder<'_> {
    fn refuse(&mut self, set: bool, at: &str) {
        if set {
            self.errors.push(ConfigError::unsupported(at));
        }
    }

    fn mutation(&mut self, add: &[core::HeaderValueOption], remove: &[String], at: &str) -> Vec<Arc<HeaderAdder>> {
        adder(add, remove, at, &mut self.errors)
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
            mutations: Mutations {
                request: self.mutation(
                    &host.request_headers_to_add,
                    &host.request_headers_to_remove,
                    &format!("{at}.request_headers"),
                ),
                response: self.mutation(
                    &host.response_headers_to_add,
                    &host.response_headers_to_remove,
                    &format!("{at}.response_headers"),
                ),
            },
            filters: self.filters(&host.typed_per_filter_config, &format!("{at}.typed_per_filter_config")),
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
        let own = Mutations {
            request: self.mutation(
                &route.request_headers_to_add,
                &route.request_headers_to_remove,
                &format!("{at}.request_headers"),
            ),
            response: self.mutation(
                &route.response_headers_to_add,
                &route.response_headers_to_remove,
                &format!("{at}.response_headers"),
            ),
        };
        let filters = self.filters(&route.typed_per_filter_config, &format!("{at}.typed_per_filter_config"));
        let action = self.action(route, above, at);
        let udp_template = self.udp_template(route, at);
        let (matcher, (action, weighted)) = (matcher?, action?);
        let entry = |action, weighted_mutations: Option<&Mutations>, weighted_filters: Option<&Filters>| {
            let mut levels: Vec<&Mutations> = weighted_mutations.into_iter().collect();
            levels.extend([&own, &above.mutations, &self.mutations]);
            let mut all = self.filters.clone();
            for level in [Some(&above.filters), Some(&filters), weighted_filters].into_iter().flatten() {
                all.extend(level.iter().map(|(name, config)| (name.clone(), config.clone())));
            }
            Arc::new(RouteEntry {
                name: route.name.as_str().into(),
                path: matcher.path.clone(),
                action,
                mutations: Mutations::in_order(&levels, self.message.most_specific_header_mutations_wins),
                filters: all,
                options: above.options,
                udp_template: udp_template.clone(),
                body_limit: body_limit(route, above.host),
            })
        };
        let targets = match (weighted, action) {
            (Some((settings, clusters)), Action::Forward(base)) => {
                let entries = clusters.into_iter().map(|cluster| {
                    let mut forward = base.clone();
                    forward.cluster = cluster.cluster;
                    forward.metadata_match = cluster.metadata_match.or(forward.metadata_match);
                    forward.host_rewrite = cluster.host_rewrite.or(forward.host_rewrite);
                    let entry = entry(Action::Forward(forward), Some(&cluster.mutations), Some(&cluster.filters));
                    (cluster.weight, cluster.name, entry)
                });
                Targets::Weighted(Box::new(Weighted { entries: entries.collect(), ..settings }))
            }
            (_, action) => Targets::One(entry(action, None, None)),
        };
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

    fn forward(
        &mut self,
        action: &pb::RouteAction,
        above: &Above<'_>,
        at: &str,
    ) -> Option<(Action, Option<WeightedParts>)> {
        self.refuse_of_action(action, at);
        let mut weighted = None;
        let cluster = match &action.cluster_specifier {
            None => {
                self.errors.push(ConfigError::missing(format!("{at}.cluster_specifier")));
                return None;
            }
            Some(ClusterSpecifier::Cluster(name)) => self.cluster(name, &format!("{at}.cluster")),
            Some(ClusterSpecifier::ClusterHeader(name)) => {
                self.cluster_header(name, &format!("{at}.cluster_header"))?
            }
            Some(ClusterSpecifier::WeightedClusters(message)) => {
                weighted = Some(self.weighted(message, &format!("{at}.weighted_clusters"))?);
                ClusterName::Fixed("".into())
            }
            Some(_) => {
                self.refuse(true, &format!("{at}.cluster_specifier_plugin"));
                return None;
            }
        };
        let forward = Forward {
            cluster,
            metadata_match: action.metadata_match.as_ref().map(metadata),
            host_rewrite: HostRewrite::from_proto(action.host_rewrite_specifier.as_ref(), at, &mut self.errors),
            common: Arc::new(self.common(action, above, at)),
        };
        Some((Action::Forward(Box::new(forward)), weighted))
    }

    fn common(&mut self, action: &pb::RouteAction, above: &Above<'_>, at: &str) -> ForwardCommon {
        let max = action.max_stream_duration.as_ref();
        let hash = action.hash_policy.iter().enumerate();
        let hash =
            hash.filter_map(|(i, m)| HashPolicy::from_proto(m, &format!("{at}.hash_policy[{i}]"), &mut self.errors));
        let hash = hash.collect();
        ForwardCommon {
            not_found: match action.cluster_not_found_response_code() {
                ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
                ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            },
            path_rewrite: PathRewrite::from_proto(action, at, &mut self.errors),
            append_forwarded_host: action.append_x_forwarded_host,
            // A route with a max_stream_duration has no other timeout, not even the one it sets (Envoy's usingNewTimeouts).
            timeout: Some(action.timeout.as_ref().map_or(DEFAULT_TIMEOUT, adit_config::duration))
                .filter(|timeout| !timeout.is_zero())
                .filter(|_| action.max_stream_duration.as_ref().is_none_or(|max| max.max_stream_duration.is_none())),
            idle_timeout: action.idle_timeout.as_ref().map(adit_config::duration),
            max_stream_duration: max.and_then(|max| max.max_stream_duration.as_ref()).map(adit_config::duration),
            retry: self
                .retry(action.retry_policy.as_ref(), &format!("{at}.retry_policy"))
                .or_else(|| above.retry.clone()),
            mirrors: self.mirrors(action, above, at),
            priority: match action.priority() {
                core::RoutingPriority::Default => Priority::Default,
                core::RoutingPriority::High => Priority::High,
            },
            hash,
            upgrades: self.upgrades(action, at),
        }
    }

    #[expect(deprecated, reason = "deprecated fields that are not rewritten by the loader are refused")]
    fn refuse_of_action(&mut self, action: &pb::RouteAction, at: &str) {
        let max = action.max_stream_duration.as_ref();
        for (set, field) in [
            (action.flush_timeout.is_some(), "flush_timeout"),
            (action.early_data_policy.is_some(), "early_data_policy"),
            (action.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
            (!action.rate_limits.is_empty(), "rate_limits"),
            (action.internal_redirect_policy.is_some(), "internal_redirect_policy"),
            (action.internal_redirect_action != 0, "internal_redirect_action"),
            (action.hedge_policy.is_some(), "hedge_policy"),
            (action.cors.is_some(), "cors"),
            (action.max_grpc_timeout.is_some(), "max_grpc_timeout"),
            (
                max.is_some_and(|max| max.grpc_timeout_header_max.is_some()),
                "max_stream_duration.grpc_timeout_header_max",
            ),
            (
                max.is_some_and(|max| max.grpc_timeout_header_offset.is_some()),
                "max_stream_duration.grpc_timeout_header_offset",
            ),
        ] {
            self.refuse(set, &format!("{at}.{field}"));
        }
    }

    /// A cluster by name; one that does not exist is an error unless `validate_clusters` is off.
    fn cluster(&mut self, name: &str, at: &str) -> ClusterName {
        if self.message.validate_clusters.unwrap_or(true) && !(self.ctx.cluster_exists)(name) {
            self.errors.push(ConfigError::new(at, format!("route: unknown cluster '{name}'")));
        }
        ClusterName::Fixed(name.into())
    }

    fn cluster_header(&mut self, name: &str, at: &str) -> Option<ClusterName> {
        let bad = |_| ConfigError::new(at, "not a header name");
        take(HeaderName::from_bytes(name.as_bytes()).map(ClusterName::Header).map_err(bad), &mut self.errors)
    }

    #[expect(deprecated, reason = "`total_weight` is checked where old files have it")]
    fn weighted(&mut self, message: &pb::WeightedCluster, at: &str) -> Option<WeightedParts> {
        let mut clusters = Vec::new();
        for (index, cluster) in message.clusters.iter().enumerate() {
            clusters.extend(self.weighted_cluster(cluster, &format!("{at}.clusters[{index}]")));
        }
        let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        if total == 0 || total > u64::from(u32::MAX) {
            self.errors.push(ConfigError::new(
                at,
                "Sum of weights in the weighted_cluster must be greater than 0 and fit 32 bits",
            ));
        }
        if message.total_weight.is_some_and(|expected| u64::from(expected) != total) {
            let text = format!("Sum of weights in the weighted_cluster must equal total_weight, and is {total}");
            self.errors.push(ConfigError::new(format!("{at}.total_weight"), text));
        }
        let header = match &message.random_value_specifier {
            Some(RandomValueSpecifier::HeaderName(name)) => {
                let bad = |_| ConfigError::new(format!("{at}.header_name"), "not a header name");
                Some(take(HeaderName::from_bytes(name.as_bytes()).map_err(bad), &mut self.errors)?)
            }
            _ => None,
        };
        let settings = Weighted {
            entries: Vec::new(),
            header,
            use_hash_policy: matches!(message.random_value_specifier, Some(RandomValueSpecifier::UseHashPolicy(true))),
            runtime_key_prefix: message.runtime_key_prefix.as_str().into(),
        };
        Some((settings, clusters))
    }

    fn weighted_cluster(&mut self, cluster: &pb::weighted_cluster::ClusterWeight, at: &str) -> Option<WeightedCluster> {
        let name = match (cluster.name.is_empty(), cluster.cluster_header.is_empty()) {
            (false, true) => self.cluster(&cluster.name, &format!("{at}.name")),
            (true, false) => self.cluster_header(&cluster.cluster_header, &format!("{at}.cluster_header"))?,
            _ => {
                self.errors.push(ConfigError::new(at, "exactly one of name and cluster_header must be set"));
                return None;
            }
        };
        let host_rewrite = cluster
            .host_rewrite_specifier
            .as_ref()
            .map(|WeightedHostRewrite::HostRewriteLiteral(text)| weighted(text, &format!("{at}.host_rewrite_literal")));
        Some(WeightedCluster {
            cluster: name,
            name: cluster.name.as_str().into(),
            weight: cluster.weight.unwrap_or(0),
            metadata_match: cluster.metadata_match.as_ref().map(metadata),
            host_rewrite: take(host_rewrite.transpose(), &mut self.errors)?,
            mutations: Mutations {
                request: self.mutation(
                    &cluster.request_headers_to_add,
                    &cluster.request_headers_to_remove,
                    &format!("{at}.request_headers"),
                ),
                response: self.mutation(
                    &cluster.response_headers_to_add,
                    &cluster.response_headers_to_remove,
                    &format!("{at}.response_headers"),
                ),
            },
            filters: self.filters(&cluster.typed_per_filter_config, &format!("{at}.typed_per_filter_config")),
        })
    }

    fn mirrors(&mut self, action: &pb::RouteAction, above: &Above<'_>, at: &str) -> Vec<Mirror> {
        // The most specific level that has any replaces those above it.
        let levels = [
            &action.request_mirror_policies,
            &above.host.request_mirror_policies,
            &self.message.request_mirror_policies,
        ];
        let Some(policies) = levels.into_iter().find(|level| !level.is_empty()) else { return Vec::new() };
        let mut mirrors = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            mirrors.extend(self.mirror(policy, &format!("{at}.request_mirror_policies[{index}]")));
        }
        mirrors
    }

    fn mirror(&mut self, policy: &RequestMirrorPolicy, at: &str) -> Option<Mirror> {
        self.refuse(policy.trace_sampled.is_some(), &format!("{at}.trace_sampled"));
        let cluster = match (policy.cluster.is_empty(), policy.cluster_header.is_empty()) {
            (false, true) => self.cluster(&policy.cluster, &format!("{at}.cluster")),
            (true, false) => self.cluster_header(&policy.cluster_header, &format!("{at}.cluster_header"))?,
            _ => {
                self.errors.push(ConfigError::new(at, "exactly one of cluster and cluster_header must be set"));
                return None;
            }
        };
        let fraction = policy.runtime_fraction.as_ref().map_or_else(Fraction::always, Fraction::from_runtime);
        let mutations =
            HeaderMutations::from_proto(&policy.request_headers_mutations, &format!("{at}.request_headers_mutations"))
                .map_err(|error| self.errors.push(error))
                .ok()?;
        let host = match policy.host_rewrite_literal.as_str() {
            "" if policy.disable_shadow_host_suffix_append => ShadowHost::Same,
            "" => ShadowHost::Suffixed,
            // Envoy appends nothing to it.
            literal => match authority(literal) {
                Some(literal) => ShadowHost::Literal(literal),
                None => {
                    self.errors.push(ConfigError::new(format!("{at}.host_rewrite_literal"), "not a host"));
                    return None;
                }
            },
        };
        Some(Mirror { cluster, fraction, runtime: self.ctx.runtime.clone(), host, mutations })
    }

    fn upgrades(&mut self, action: &pb::RouteAction, at: &str) -> Vec<UpgradeEntry> {
        let mut entries: Vec<UpgradeEntry> = Vec::new();
        for (index, config) in action.upgrade_configs.iter().enumerate() {
            let at = format!("{at}.upgrade_configs[{index}]");
            let name = config.upgrade_type.as_str();
            if entries.iter().any(|entry| entry.upgrade_type.eq_ignore_ascii_case(name)) {
                self.errors.push(ConfigError::new(&at, format!("Duplicate upgrade {name}")));
            }
            let connects = name.eq_ignore_ascii_case("CONNECT") || name.eq_ignore_ascii_case("CONNECT-UDP");
            if config.connect_config.is_some() && !connects {
                self.errors.push(ConfigError::new(&at, format!("Non-CONNECT upgrade type {name} has ConnectConfig")));
            }
            if let Some(connect) = config.connect_config.as_ref().filter(|_| name.eq_ignore_ascii_case("CONNECT-UDP")) {
                self.refuse(
                    connect.proxy_protocol_config.is_some(),
                    &format!("{at}.connect_config.proxy_protocol_config"),
                );
                self.refuse(connect.allow_post, &format!("{at}.connect_config.allow_post"));
            }
            let connect = config.connect_config.as_ref().map(|connect| {
                let at = format!("{at}.connect_config.proxy_protocol_config");
                let proxy_protocol = connect.proxy_protocol_config.as_ref();
                let proxy_protocol =
                    proxy_protocol.and_then(|message| ProxyProtocol::from_proto(message, &at, &mut self.errors));
                ConnectConfig { proxy_protocol, allow_post: connect.allow_post }
            });
            entries.push(UpgradeEntry { upgrade_type: name.into(), enabled: config.enabled.unwrap_or(true), connect });
        }
        entries
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

type WeightedParts = (Weighted, Vec<WeightedCluster>);

struct WeightedCluster {
    cluster: ClusterName,
    name: Box<str>,
    weight: u32,
    metadata_match: Option<Metadata>,
    host_rewrite: Option<HostRewrite>,
    mutations: Mutations,
    filters: Filters,
}

#[expect(deprecated, reason = "old files have the 32-bit forms")]
fn body_limit(route: &pb::Route, host: &pb::VirtualHost) -> Option<usize> {
    let bytes = |small: Option<u32>, large: Option<u64>| large.or(small.map(u64::from));
    bytes(route.per_request_buffer_limit_bytes, route.request_body_buffer_limit)
        .or_else(|| bytes(host.per_request_buffer_limit_bytes, host.request_body_buffer_limit))
        .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn metadata(message: &core::Metadata) -> Metadata {
    let mut metadata = Metadata::default();
    for (namespace, fields) in &message.filter_metadata {
        let fields = fields.fields.iter().map(|(key, value)| (key.as_str().into(), self::value(value)));
        metadata.set(namespace, adit_io::Value::Struct(fields.collect()));
    }
    metadata
}

fn value(message: &prost_types::Value) -> adit_io::Value {
    use prost_types::value::Kind;
    match &message.kind {
        None | Some(Kind::NullValue(_)) => adit_io::Value::Null,
        Some(Kind::BoolValue(value)) => adit_io::Value::Bool(*value),
        Some(Kind::NumberValue(number)) => adit_io::Value::Number(*number),
        Some(Kind::StringValue(text)) => adit_io::Value::String(text.as_str().into()),
        Some(Kind::ListValue(list)) => adit_io::Value::List(list.values.iter().map(value).collect()),
        Some(Kind::StructValue(fields)) => adit_io::Value::Struct(
            fields.fields.iter().map(|(key, inner)| (key.as_str().into(), value(inner))).collect(),
        ),
    }
}
