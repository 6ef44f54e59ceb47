//! `RouteAction`: a request goes to a cluster.

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::upstream::Priority;
use adit_io::Metadata;
use adit_match::ConfigError;
use http::{HeaderName, StatusCode};
use pb::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier};

use super::weighted::WeightedParts;
use super::{Above, Builder};
use crate::proxy_protocol::ProxyProtocol;
use crate::table::hash::HashPolicy;
use crate::table::matching::take;
use crate::table::rewrite::{HostRewrite, PathRewrite};
use crate::table::route::{Action, ClusterName, ConnectConfig, Forward, ForwardCommon, UpgradeEntry};

/// Of a response from upstream, by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

impl Builder<'_> {
    pub(super) fn forward(
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
    pub(super) fn cluster(&mut self, name: &str, at: &str) -> ClusterName {
        if self.message.validate_clusters.unwrap_or(true) && !(self.ctx.cluster_exists)(name) {
            self.errors.push(ConfigError::new(at, format!("route: unknown cluster '{name}'")));
        }
        ClusterName::Fixed(name.into())
    }

    pub(super) fn cluster_header(&mut self, name: &str, at: &str) -> Option<ClusterName> {
        let bad = |_| ConfigError::new(at, "not a header name");
        take(HeaderName::from_bytes(name.as_bytes()).map(ClusterName::Header).map_err(bad), &mut self.errors)
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
}

pub(super) fn metadata(message: &core::Metadata) -> Metadata {
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
