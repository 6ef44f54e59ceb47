//! The cluster's message as a whole.

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::cluster::v3::{self as pb, cluster};
use adit_config::proto::envoy::extensions::upstreams::http as upstreams;
use adit_config::{Diagnostic, Path, duration, is};
use adit_filter::upstream::ClusterSettings;
use http::Version;

use super::options::{fields_of, metadata};
use super::{
    ClusterPlan, Discovery, DnsFamily, DnsPlan, HttpProtocol, LbPolicy, OriginalDstPlan, PlanEnv, Problems,
    TransportChoice, endpoints, forward, health, http as http_plan, lb, options,
};
use crate::transport::{self, TransportSite};

type DiscoveryType = cluster::DiscoveryType;

pub(super) fn cluster(message: &pb::Cluster, path: &Path, env: &PlanEnv<'_>) -> Result<ClusterPlan, Vec<Diagnostic>> {
    let mut problems = Problems::new();
    if message.name.is_empty() {
        problems.error(&path.field("name"), "must be at least 1 character long");
    }
    refuse(message, path, &mut problems);
    let name: Arc<str> = message.name.as_str().into();
    let stat_name = if message.alt_stat_name.is_empty() { &message.name } else { &message.alt_stat_name };
    let scope = env.scope.cluster(stat_name);
    let kind = discovery_type(message, path, &mut problems);
    let forward = forward::forward(message, path, env.scope, &mut problems);
    let discovery = match &forward {
        Some(forward) => Discovery::OriginalDst(forward.plan()),
        None => discovery(message, kind, path, &mut problems),
    };
    let lb = lb::lb_plan(message, path, &mut problems);
    if (kind == DiscoveryType::OriginalDst) != (lb.policy == LbPolicy::ClusterProvided) {
        let text = "CLUSTER_PROVIDED and cluster type ORIGINAL_DST belong together";
        problems.error(&path.field("lb_policy"), text);
    }
    let connect_timeout = message.connect_timeout.as_ref().map_or(Duration::from_secs(5), duration);
    let site = http_plan::Site { scope: &scope, connect_timeout };
    let http = http_plan::http_options(message, path, &site, &mut problems);
    let transports = transports(message, &scope, path, env, &mut problems);
    let breakers = options::breakers(message, path, &mut problems);
    let dial = options::dial(message, env.bind, path, &mut problems);
    let health_checks = health::health_checks(message, path, &mut problems);
    let outlier = health::outlier(message, path, &mut problems);
    let terminates_connect = upstream_config(message, path, &mut problems);
    let preconnect_ratio = preconnect(message, path, &mut problems);
    let Some(transports) = transports else { return Err(problems.fail()) };
    if http.h3.is_some() && transports.iter().any(|choice| choice.factory.quic().is_none()) {
        let name = message.transport_socket.as_ref().map_or("", |socket| &socket.name);
        let text = format!("HTTP3 requires a QuicUpstreamTransport transport socket: {name}");
        problems.error(&path.field("transport_socket"), text);
    }
    let secure = transports.last().is_some_and(|choice| choice.factory.secure());
    let any_secure = transports.iter().any(|choice| choice.factory.secure());
    if forward.is_some() && any_secure && !(http.auto_sni.is_some() && http.auto_san_validation.is_some()) {
        let text = "a dynamic_forward_proxy cluster with TLS needs upstream_http_protocol_options with auto_sni and \
                    auto_san_validation: without them nobody asks whose certificate it is";
        problems.error(&path.field("typed_extension_protocol_options"), text);
    }
    problems.finish(ClusterPlan {
        settings: ClusterSettings {
            name,
            terminates_connect,
            version: match http.protocol {
                HttpProtocol::Explicit(version) => Some(version),
                HttpProtocol::Downstream => None,
                HttpProtocol::Auto => (!secure).then_some(Version::HTTP_11),
            },
            secure,
            buffer_limit: message
                .per_connection_buffer_limit_bytes
                .map_or(1 << 20, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            max_stream_duration: http.max_stream_duration,
            metadata: message.metadata.as_ref().map(metadata).unwrap_or_default(),
            resolver: forward.map(forward::Forward::resolver),
        },
        observability_name: stat_name.as_str().into(),
        scope,
        discovery,
        lb,
        connect_timeout,
        breakers,
        dial,
        transports,
        http,
        preconnect_ratio,
        health_checks,
        outlier,
        wait_for_warm: message.wait_for_warm_on_init.unwrap_or(true),
    })
}

/// Fields that another loader than ours may let through.
fn refuse(message: &pb::Cluster, path: &Path, problems: &mut Problems) {
    let unsupported = [
        (message.transport_socket_matcher.is_some(), "transport_socket_matcher"),
        (message.eds_cluster_config.is_some(), "eds_cluster_config"),
        (message.lb_subset_config.is_some(), "lb_subset_config"),
        (!message.filters.is_empty(), "filters"),
        (message.lrs_server.is_some(), "lrs_server"),
        (message.queuing_policies.is_some(), "queuing_policies"),
        (message.connection_pool_per_downstream_connection, "connection_pool_per_downstream_connection"),
        (message.close_connections_on_host_health_failure, "close_connections_on_host_health_failure"),
        (
            message.preconnect_policy.as_ref().is_some_and(|policy| policy.predictive_preconnect_ratio.is_some()),
            "preconnect_policy.predictive_preconnect_ratio",
        ),
    ];
    for (set, field) in unsupported {
        if set {
            problems.unsupported(&path.field(field));
        }
    }
}

fn preconnect(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> f64 {
    let ratio = message.preconnect_policy.as_ref().and_then(|policy| policy.per_upstream_preconnect_ratio);
    let ratio = ratio.unwrap_or(1.0);
    if !(1.0..=3.0).contains(&ratio) {
        problems.error(&path.field("preconnect_policy").field("per_upstream_preconnect_ratio"), "must be from 1 to 3");
    }
    ratio.clamp(1.0, 3.0)
}

fn discovery_type(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> DiscoveryType {
    match &message.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(cluster::ClusterDiscoveryType::Type(kind)) => match DiscoveryType::try_from(*kind) {
            Ok(DiscoveryType::Eds) | Err(_) => {
                problems.unsupported(&path.field("type"));
                DiscoveryType::Static
            }
            Ok(kind) => kind,
        },
        // `forward` looks at it; hosts are named as for this type.
        Some(cluster::ClusterDiscoveryType::ClusterType(_)) => DiscoveryType::OriginalDst,
    }
}

fn discovery(message: &pb::Cluster, kind: DiscoveryType, path: &Path, problems: &mut Problems) -> Discovery {
    let assignment = message.load_assignment.clone().unwrap_or_default();
    let assignment_path = path.field("load_assignment");
    let endpoints = endpoints::endpoints(&assignment, kind, &assignment_path, problems);
    match kind {
        DiscoveryType::StrictDns => Discovery::StrictDns(endpoints, dns(message)),
        DiscoveryType::LogicalDns => {
            if assignment.endpoints.len() != 1 || endpoints.len() != 1 {
                let text = "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";
                problems.error(&assignment_path, text);
            }
            match endpoints.into_iter().next() {
                Some(endpoint) => Discovery::LogicalDns(Box::new(endpoint), dns(message)),
                None => Discovery::Static(Vec::new()),
            }
        }
        DiscoveryType::OriginalDst => {
            if message.load_assignment.is_some() {
                problems.error(&assignment_path, "ORIGINAL_DST clusters must have no load assignment");
            }
            Discovery::OriginalDst(original_dst(message))
        }
        DiscoveryType::Static | DiscoveryType::Eds => Discovery::Static(endpoints),
    }
}

#[allow(deprecated, reason = "Envoy still accepts them, and most configurations use them")]
fn dns(message: &pb::Cluster) -> DnsPlan {
    use cluster::DnsLookupFamily as Family;
    let refresh = message.dns_refresh_rate.as_ref().map_or(Duration::from_secs(5), duration);
    DnsPlan {
        family: match Family::try_from(message.dns_lookup_family) {
            Ok(Family::V4Only) => DnsFamily::V4Only,
            Ok(Family::V6Only) => DnsFamily::V6Only,
            Ok(Family::V4Preferred) => DnsFamily::V4Preferred,
            Ok(Family::All) => DnsFamily::All,
            _ => DnsFamily::Auto,
        },
        refresh,
        failure: message.dns_failure_refresh_rate.as_ref().map(|rate| {
            let base = rate.base_interval.as_ref().map_or(refresh, duration);
            (base, rate.max_interval.as_ref().map_or(base * 10, duration))
        }),
        jitter: message.dns_jitter.as_ref().map_or(Duration::ZERO, duration),
    }
}

fn original_dst(message: &pb::Cluster) -> OriginalDstPlan {
    let cleanup = message.cleanup_interval.as_ref().map_or(Duration::from_secs(5), duration);
    let Some(cluster::LbConfig::OriginalDstLbConfig(config)) = &message.lb_config else {
        return OriginalDstPlan { cleanup, ..OriginalDstPlan::default() };
    };
    let header = match config.http_header_name.as_str() {
        "" => "x-envoy-original-dst-host".to_owned(),
        name => name.to_ascii_lowercase(),
    };
    use adit_config::proto::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
    let metadata = config.metadata_key.as_ref().map(|key| {
        let steps = key.path.iter().map(|step| match &step.segment {
            Some(Segment::Key(key)) => key.as_str().into(),
            // An index is met in no path that metadata of ours has.
            Some(Segment::Index(_)) | None => "".into(),
        });
        (key.key.as_str().into(), steps.collect())
    });
    OriginalDstPlan {
        header: config.use_http_header.then(|| header.into()),
        port: config.upstream_port_override.and_then(|port| u16::try_from(port).ok()),
        metadata,
        cleanup,
        resolved: false,
        limit: None,
    }
}

fn transports(
    message: &pb::Cluster,
    scope: &adit_stats::Scope,
    path: &Path,
    env: &PlanEnv<'_>,
    problems: &mut Problems,
) -> Option<Vec<TransportChoice>> {
    let site = TransportSite { cluster: &message.name, scope, cluster_message: message };
    let mut choices = Vec::new();
    for (index, choice) in message.transport_socket_matches.iter().enumerate() {
        let path = path.item("transport_socket_matches", index);
        let socket = choice.transport_socket.as_ref();
        let built = transport::build(socket, &path.field("transport_socket"), &site, env.transports);
        if let Some(factory) = problems.take(built) {
            let criteria = choice.r#match.as_ref().map(fields_of).unwrap_or_default();
            choices.push(TransportChoice { name: choice.name.as_str().into(), criteria, factory });
        }
    }
    let built =
        transport::build(message.transport_socket.as_ref(), &path.field("transport_socket"), &site, env.transports);
    let factory = problems.take(built)?;
    choices.push(TransportChoice { name: "".into(), criteria: Default::default(), factory });
    Some(choices)
}

/// Whether `upstream_config` makes the pool a TCP one.
fn upstream_config(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> bool {
    let Some(config) = &message.upstream_config else { return false };
    let path = path.field("upstream_config");
    let Some(any) = &config.typed_config else {
        problems.error(&path.field("typed_config"), "value is required");
        return false;
    };
    if is::<upstreams::tcp::v3::TcpConnectionPoolProto>(any) {
        return true;
    }
    let known = is::<upstreams::http::v3::HttpConnectionPoolProto>(any)
        || is::<upstreams::generic::v3::GenericConnectionPoolProto>(any)
        || is::<adit_config::proto::envoy::extensions::upstreams::tcp::generic::v3::GenericConnectionPoolProto>(any);
    if !known {
        problems.unsupported(&path);
    }
    false
}
