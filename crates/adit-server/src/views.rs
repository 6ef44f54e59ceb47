//! What the admin interface shows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use adit_admin::{ListenerView, Rendered, Views};
use adit_io::Address;
use adit_upstream::breaker::Thresholds;
use adit_upstream::{ClusterManager, ClusterView, HostView};
use serde_json::{Map, Value, json};

use crate::control::ServerControl;
use crate::options::{DrainStrategy, Mode, Options};
use crate::runtime_layers::Layers;
use adit_tls::CertificateStore;

/// What the process can tell of itself.
pub(crate) struct ServerViews {
    pub(crate) options: Options,
    pub(crate) concurrency: usize,
    pub(crate) started: (Instant, SystemTime),
    pub(crate) control: Arc<ServerControl>,
    pub(crate) clusters: Arc<ClusterManager>,
    pub(crate) layers: Layers,
    pub(crate) certificates: CertificateStore,
    /// The bootstrap as JSON, for `/config_dump`.
    pub(crate) bootstrap: Value,
}

impl Views for ServerViews {
    fn server_info(&self) -> Value {
        let uptime = format!("{}s", self.started.0.elapsed().as_secs());
        let node = self.node();
        json!({
            "version": self.options.version,
            "state": self.control.server_state().as_str(),
            "hot_restart_version": "disabled",
            "command_line_options": self.command_line(),
            "node": node,
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
        })
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let listeners = self.control.listeners();
        let each = listeners.iter().filter(|listener| !listener.is_stopped());
        each.flat_map(|listener| {
            listener.addresses().into_iter().map(|address| ListenerView {
                name: listener.name().to_string(),
                json: address_json(&address),
                address: address.to_string(),
            })
        })
        .collect()
    }

    fn clusters(&self, json: bool, filter: &dyn Fn(&str) -> bool) -> Rendered {
        let clusters: Vec<ClusterView> =
            self.clusters.describe().into_iter().filter(|cluster| filter(&cluster.name)).collect();
        if json {
            return Rendered::Json(
                json!({ "cluster_statuses": clusters.iter().map(cluster_json).collect::<Vec<_>>() }),
            );
        }
        let mut text = String::new();
        for cluster in &clusters {
            // Writing to a string cannot fail.
            let _ = cluster_text(&mut text, cluster);
        }
        Rendered::Text(text)
    }

    fn config_dump(&self) -> Vec<Value> {
        let at = timestamp(self.started.1);
        let resources = self.bootstrap.get("static_resources");
        let list =
            |field: &str| resources.and_then(|r| r.get(field)).and_then(Value::as_array).cloned().unwrap_or_default();
        let typed = |message: &str, mut value: Value| {
            if let Some(map) = value.as_object_mut() {
                map.insert("@type".into(), json!(format!("type.googleapis.com/{message}")));
            }
            value
        };
        let clusters: Vec<Value> = list("clusters")
            .into_iter()
            .map(|cluster| json!({ "cluster": typed("envoy.config.cluster.v3.Cluster", cluster), "last_updated": at }))
            .collect();
        let listeners: Vec<Value> = list("listeners")
            .into_iter()
            .map(|listener| json!({ "listener": typed("envoy.config.listener.v3.Listener", listener), "last_updated": at }))
            .collect();
        let routes: Vec<Value> = route_configs(&self.bootstrap)
            .into_iter()
            .map(|routes| json!({ "route_config": typed("envoy.config.route.v3.RouteConfiguration", routes), "last_updated": at }))
            .collect();
        let dump = |name: &str, fields: Value| typed(&format!("envoy.admin.v3.{name}"), fields);
        vec![
            dump("BootstrapConfigDump", json!({ "bootstrap": self.bootstrap, "last_updated": at })),
            dump("ClustersConfigDump", with("static_clusters", clusters)),
            dump("ListenersConfigDump", with("static_listeners", listeners)),
            dump("ScopedRoutesConfigDump", json!({})),
            dump("RoutesConfigDump", with("static_route_configs", routes)),
            dump("SecretsConfigDump", json!({})),
        ]
    }

    fn certs(&self) -> Value {
        self.certificates.describe()
    }

    fn memory(&self) -> Value {
        let resident = crate::memory::resident();
        json!({
            "allocated": resident.to_string(),
            "heap_size": resident.to_string(),
            "pageheap_unmapped": "0",
            "pageheap_free": "0",
            "total_thread_cache": "0",
            "total_physical_bytes": resident.to_string(),
        })
    }

    fn runtime(&self) -> Value {
        let values = self.control.runtime().all();
        let layer_of = |layer: &[(String, String)], key: &str| {
            layer.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let entries: Map<String, Value> = values
            .iter()
            .map(|(key, value)| {
                let each: Vec<String> = self.layers.values.iter().map(|layer| layer_of(layer, key)).collect();
                (key.clone(), json!({ "final_value": value, "layer_values": each }))
            })
            .collect();
        json!({ "layers": self.layers.names, "entries": entries })
    }
}

impl ServerViews {
    /// `node` of the bootstrap; the flags win.
    fn node(&self) -> Value {
        let mut node = self.bootstrap.get("node").and_then(Value::as_object).cloned().unwrap_or_default();
        let options = &self.options;
        for (field, flag) in [("id", &options.service_node), ("cluster", &options.service_cluster)] {
            if let Some(text) = flag {
                node.insert(field.to_owned(), json!(text));
            }
        }
        if let Some(zone) = &options.service_zone {
            let locality = node.entry("locality").or_insert_with(|| json!({}));
            if let Some(locality) = locality.as_object_mut() {
                locality.insert("zone".to_owned(), json!(zone));
            }
        }
        node.entry("user_agent_name").or_insert_with(|| json!("adit"));
        Value::Object(node)
    }

    fn command_line(&self) -> Value {
        let options = &self.options;
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
        };
        json!({
            "concurrency": self.concurrency,
            "config_path": path(&options.config_path),
            "config_yaml": options.config_yaml.clone().unwrap_or_default(),
            "admin_address_path": path(&options.admin_address_path),
            "log_level": options.log_level.as_str(),
            "component_log_level": options
                .component_log_level
                .iter()
                .map(|(name, level)| format!("{name}:{}", level.as_str()))
                .collect::<Vec<_>>()
                .join(","),
            "log_path": path(&options.log_path),
            "mode": match options.mode {
                Mode::Serve => "Serve",
                Mode::Validate => "Validate",
                Mode::InitOnly => "InitOnly",
            },
            "drain_strategy": match options.drain_strategy {
                DrainStrategy::Gradual => "Gradual",
                DrainStrategy::Immediate => "Immediate",
            },
            "drain_time": format!("{}s", options.drain_time.as_secs()),
            "file_flush_interval": format!("{}s", options.file_flush_interval.as_secs_f64()),
            "file_flush_min_size": options.file_flush_min_size / 1024,
            "skip_deprecated_logs": options.skip_deprecated_logs,
            "allow_unknown_static_fields": options.allow_unknown_static_fields,
            "service_cluster": options.service_cluster.clone().unwrap_or_default(),
            "service_node": options.service_node.clone().unwrap_or_default(),
            "service_zone": options.service_zone.clone().unwrap_or_default(),
            "disable_hot_restart": true,
        })
    }
}

/// An object with one list, without the list when it is empty.
fn with(name: &str, list: Vec<Value>) -> Value {
    if list.is_empty() { json!({}) } else { json!({ name: list }) }
}

/// Every inline route configuration, wherever it stands.
fn route_configs(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(map) => {
            let own = map.get("route_config").into_iter().cloned();
            own.chain(map.values().flat_map(route_configs)).collect()
        }
        Value::Array(list) => list.iter().flat_map(route_configs).collect(),
        _ => Vec::new(),
    }
}

fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = since.as_secs() / 86_400;
    let (year, month, day) = civil(days);
    let second = since.as_secs() % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn address_json(address: &Address) -> Value {
    match address {
        Address::Ip(socket) => {
            json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
        }
        Address::Pipe(path) => json!({ "pipe": { "path": path.to_string() } }),
        Address::Internal { listener, endpoint_id } if endpoint_id.is_empty() => {
            json!({ "envoy_internal_address": { "server_listener_name": listener.to_string() } })
        }
        Address::Internal { listener, endpoint_id } => json!({
            "envoy_internal_address":
                { "server_listener_name": listener.to_string(), "endpoint_id": endpoint_id.to_string() }
        }),
    }
}

fn cluster_text(out: &mut String, cluster: &ClusterView) -> std::fmt::Result {
    let name = &cluster.name;
    writeln!(out, "{name}::observability_name::{}", cluster.observability_name)?;
    if let Some(rates) = cluster.success_rates {
        let keys = [
            "success_rate_average",
            "success_rate_ejection_threshold",
            "local_origin_success_rate_average",
            "local_origin_success_rate_ejection_threshold",
        ];
        for (key, rate) in keys.into_iter().zip(rates) {
            // Four places, as far as they say something.
            let rate = (rate * 10_000.0).round() / 10_000.0;
            writeln!(out, "{name}::outlier::{key}::{rate}")?;
        }
    }
    for (priority, limits) in [("default", &cluster.default_priority), ("high", &cluster.high_priority)] {
        for (key, value) in thresholds(limits) {
            writeln!(out, "{name}::{priority}_priority::{key}::{value}")?;
        }
    }
    writeln!(out, "{name}::added_via_api::{}", cluster.added_via_api)?;
    for host in &cluster.hosts {
        let address = &host.address;
        for (key, value) in counters(host) {
            writeln!(out, "{name}::{address}::{key}::{value}")?;
        }
        for (key, value) in [
            ("hostname", host.hostname.to_string()),
            ("health_flags", host.health_flags.clone()),
            ("weight", host.weight.to_string()),
            ("region", host.locality.region.to_string()),
            ("zone", host.locality.zone.to_string()),
            ("sub_zone", host.locality.sub_zone.to_string()),
            ("canary", host.canary.to_string()),
            ("priority", host.priority.to_string()),
            ("success_rate", host.success_rate.to_string()),
            ("local_origin_success_rate", host.local_origin_success_rate.to_string()),
        ] {
            writeln!(out, "{name}::{address}::{key}::{value}")?;
        }
    }
    Ok(())
}

fn thresholds(limits: &Thresholds) -> [(&'static str, u64); 4] {
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
}

fn counters(host: &HostView) -> [(&'static str, u64); 9] {
    [
        ("cx_active", host.cx_active),
        ("cx_connect_fail", host.cx_connect_fail),
        ("cx_total", host.cx_total),
        ("rq_active", host.rq_active),
        ("rq_error", host.rq_error),
        ("rq_pending_active", host.rq_pending_active),
        ("rq_success", host.rq_success),
        ("rq_timeout", host.rq_timeout),
        ("rq_total", host.rq_total),
    ]
}

fn cluster_json(cluster: &ClusterView) -> Value {
    let hosts: Vec<Value> = cluster.hosts.iter().map(host_json).collect();
    let mut out = json!({
        "name": cluster.name.to_string(),
        "observability_name": cluster.observability_name.to_string(),
        "circuit_breakers": { "thresholds": [
            breaker_json(None, &cluster.default_priority),
            breaker_json(Some("HIGH"), &cluster.high_priority),
        ] },
    });
    if !hosts.is_empty()
        && let Some(map) = out.as_object_mut()
    {
        map.insert("host_statuses".into(), Value::Array(hosts));
    }
    out
}

fn breaker_json(priority: Option<&str>, limits: &Thresholds) -> Value {
    let mut map: Map<String, Value> =
        thresholds(limits).into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    if let Some(priority) = priority {
        map.insert("priority".into(), json!(priority));
    }
    Value::Object(map)
}

fn host_json(host: &HostView) -> Value {
    let gauges = ["cx_active", "rq_active", "rq_pending_active"];
    let stats: Vec<Value> = counters(host)
        .into_iter()
        .map(|(name, value)| {
            let mut stat = Map::new();
            if gauges.contains(&name) {
                stat.insert("type".into(), json!("GAUGE"));
            }
            if value != 0 {
                stat.insert("value".into(), json!(value.to_string()));
            }
            stat.insert("name".into(), json!(name));
            Value::Object(stat)
        })
        .collect();
    let mut health: Map<String, Value> = host.flags.iter().map(|flag| ((*flag).to_owned(), json!(true))).collect();
    health.insert("eds_health_status".into(), json!("HEALTHY"));
    let mut out = json!({
        "address": address_json(&host.address),
        "stats": stats,
        "health_status": health,
        "weight": host.weight,
        "locality": {},
    });
    if let Some(map) = out.as_object_mut() {
        if !host.hostname.is_empty() {
            map.insert("hostname".into(), json!(host.hostname.to_string()));
        }
        if host.priority != 0 {
            map.insert("priority".into(), json!(host.priority));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_out_right() {
        for (days, date) in [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_778, (2026, 11, 21))] {
            assert_eq!(civil(days), date);
        }
    }
}
