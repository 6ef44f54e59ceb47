//! Sockets, breakers and metadata.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use adit_config::Path;
use adit_config::proto::envoy::config::cluster::v3 as pb;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_io::{Metadata, Value};
use adit_socket::SocketOptions;
use prost_types::value::Kind;

use super::Problems;
use crate::breaker::{RetryBudget, Thresholds};
use crate::connect::{DialOptions, Keepalive};

/// `envoy.config.core.v3.Metadata`: its untyped part, and what of the typed one is an IP address, as text.
pub(crate) fn metadata(message: &core::Metadata) -> Metadata {
    let mut metadata = Metadata::default();
    for (namespace, fields) in &message.filter_metadata {
        metadata.set(namespace, Value::Struct(fields_of(fields)));
    }
    for (namespace, any) in &message.typed_filter_metadata {
        if let Some(address) = adit_config::unpack::<core::Address>(any).ok().and_then(|address| socket(&address)) {
            metadata.set(namespace, Value::String(address.to_string().into()));
        }
    }
    metadata
}

fn socket(address: &core::Address) -> Option<SocketAddr> {
    let Some(core::address::Address::SocketAddress(address)) = &address.address else { return None };
    let Some(core::socket_address::PortSpecifier::PortValue(port)) = address.port_specifier else { return None };
    Some(SocketAddr::new(address.address.parse().ok()?, u16::try_from(port).ok()?))
}

pub(crate) fn fields_of(fields: &prost_types::Struct) -> std::collections::BTreeMap<Box<str>, Value> {
    fields.fields.iter().map(|(key, value)| (key.as_str().into(), value_of(value))).collect()
}

fn value_of(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => Value::Number(*value),
        Some(Kind::StringValue(value)) => Value::String(value.as_str().into()),
        Some(Kind::ListValue(list)) => Value::List(list.values.iter().map(value_of).collect()),
        Some(Kind::StructValue(fields)) => Value::Struct(fields_of(fields)),
    }
}

/// `circuit_breakers.per_host_thresholds`: DEFAULT, then HIGH. Only the number of connections can be limited so.
fn per_host(breakers: &pb::CircuitBreakers, path: &Path, problems: &mut Problems) -> [u64; 2] {
    let mut limits = [u64::MAX; 2];
    let mut seen = [false; 2];
    for (index, thresholds) in breakers.per_host_thresholds.iter().enumerate() {
        let path = path.item("per_host_thresholds", index);
        for (set, field) in [
            (thresholds.max_pending_requests.is_some(), "max_pending_requests"),
            (thresholds.max_requests.is_some(), "max_requests"),
            (thresholds.max_retries.is_some(), "max_retries"),
            (thresholds.retry_budget.is_some(), "retry_budget"),
            (thresholds.track_remaining, "track_remaining"),
            (thresholds.max_connection_pools.is_some(), "max_connection_pools"),
        ] {
            if set {
                problems.unsupported(&path.field(field));
            }
        }
        let at = usize::from(thresholds.priority == core::RoutingPriority::High as i32);
        if let (Some(limit), Some(seen)) = (limits.get_mut(at), seen.get_mut(at))
            && !std::mem::replace(seen, true)
        {
            *limit = thresholds.max_connections.map_or(u64::MAX, u64::from);
        }
    }
    limits
}

/// `circuit_breakers`: DEFAULT, then HIGH.
pub(super) fn breakers(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> [Thresholds; 2] {
    let mut limits = [Thresholds::default(); 2];
    let Some(breakers) = &message.circuit_breakers else { return limits };
    let path = path.field("circuit_breakers");
    let per_host = per_host(breakers, &path, problems);
    let mut seen = [false; 2];
    for (index, thresholds) in breakers.thresholds.iter().enumerate() {
        let path = path.item("thresholds", index);
        let at = usize::from(thresholds.priority == core::RoutingPriority::High as i32);
        let (Some(limit), Some(seen)) = (limits.get_mut(at), seen.get_mut(at)) else { continue };
        // Envoy takes the first of a priority.
        if std::mem::replace(seen, true) {
            continue;
        }
        if thresholds.max_connection_pools.is_some() {
            problems.unsupported(&path.field("max_connection_pools"));
        }
        let or = |value: Option<u32>, default: u64| value.map_or(default, u64::from);
        *limit = Thresholds {
            max_connections: or(thresholds.max_connections, 1024),
            max_pending_requests: or(thresholds.max_pending_requests, 1024),
            max_requests: or(thresholds.max_requests, 1024),
            max_retries: or(thresholds.max_retries, 3),
            retry_budget: thresholds.retry_budget.as_ref().map(|budget| RetryBudget {
                percent: budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value),
                min_concurrency: or(budget.min_retry_concurrency, 3),
            }),
            track_remaining: thresholds.track_remaining,
            ..Thresholds::default()
        };
    }
    for (limit, per_host) in limits.iter_mut().zip(per_host) {
        limit.max_connections_per_host = per_host;
    }
    limits
}

/// `upstream_bind_config` (the cluster's, else the cluster manager's) and `upstream_connection_options`.
pub(super) fn dial(
    message: &pb::Cluster,
    fallback: Option<(&core::BindConfig, &Path)>,
    path: &Path,
    problems: &mut Problems,
) -> DialOptions {
    let mut options = DialOptions::default();
    // As a whole: a cluster's own takes nothing from the manager's.
    match (&message.upstream_bind_config, fallback) {
        (Some(bind), _) => bind_config(bind, &path.field("upstream_bind_config"), &mut options, problems),
        (None, Some((bind, path))) => bind_config(bind, path, &mut options, problems),
        (None, None) => {}
    }
    if let Some(connection) = &message.upstream_connection_options {
        let path = path.field("upstream_connection_options");
        if let Some(keepalive) = &connection.tcp_keepalive {
            let seconds = |value: Option<u32>| value.map(|value| Duration::from_secs(value.into()));
            options.keepalive = Some(Keepalive {
                probes: keepalive.keepalive_probes,
                time: seconds(keepalive.keepalive_time),
                interval: seconds(keepalive.keepalive_interval),
            });
        }
        if connection.set_local_interface_name_on_upstream_connections {
            problems.unsupported(&path.field("set_local_interface_name_on_upstream_connections"));
        }
        if connection.happy_eyeballs_config.is_some() {
            problems.unsupported(&path.field("happy_eyeballs_config"));
        }
    }
    options
}

#[allow(deprecated, reason = "a deprecated field is refused by its name, too")]
fn bind_config(bind: &core::BindConfig, path: &Path, options: &mut DialOptions, problems: &mut Problems) {
    let unsupported = [
        (!bind.extra_source_addresses.is_empty(), "extra_source_addresses"),
        (!bind.additional_source_addresses.is_empty(), "additional_source_addresses"),
        (bind.local_address_selector.is_some(), "local_address_selector"),
    ];
    for (set, field) in unsupported {
        if set {
            problems.unsupported(&path.field(field));
        }
    }
    let listed = SocketOptions::from_proto(&bind.socket_options, &path.field("socket_options"));
    options.options = problems.take(listed).unwrap_or_default();
    options.freebind = bind.freebind.unwrap_or(false);
    let Some(source) = &bind.source_address else { return };
    let port = match source.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => u16::try_from(port).unwrap_or(0),
        _ => 0,
    };
    match source.address.parse::<IpAddr>() {
        Ok(ip) => options.source = Some(SocketAddr::new(ip, port)),
        Err(_) => problems.error(&path.field("source_address").field("address"), "malformed IP address"),
    }
}
