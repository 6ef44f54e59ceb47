//! Configurations for adit and Envoy: the very same, as JSON.

use serde_json::{Value, json};

use crate::suite::plan::{Between, Role};
use crate::suite::proxies::Ports;

const TYPE: &str = "type.googleapis.com/envoy";

/// Where certificates are.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// PEM chain.
    pub chain: String,
    /// PEM key.
    pub key: String,
}

/// The bootstrap of one hop of a scenario: 0 is where the client connects.
pub fn bootstrap(role: Role, hop: usize, ports: &Ports, certificates: &Certificates) -> Value {
    let first = hop == 0;
    let (listeners, clusters) = match role {
        Role::Tcp => (vec![listener(ports.listen, tcp_proxy("out", None))], vec![cluster("out", ports.origin, None)]),
        Role::Upgrade => (
            vec![listener(ports.listen, hcm(upgrade_route("out"), websocket()))],
            vec![cluster("out", ports.origin, Some(json!({"http_protocol_options": {}})))],
        ),
        Role::Terminate => (
            vec![listener(ports.listen, hcm(connect_route("out"), json!([])))],
            vec![cluster("out", ports.origin, None)],
        ),
        Role::TwoHops(between) if first => two_hops_first(between, ports),
        Role::TwoHops(between) => two_hops_second(between, ports, certificates),
        Role::UpgradeTwoHops if first => (
            vec![listener(ports.listen, hcm(upgrade_route("out"), websocket()))],
            vec![cluster("out", ports.between, Some(h2_options()))],
        ),
        Role::UpgradeTwoHops => (
            vec![listener(ports.between, hcm(upgrade_route("out"), websocket()))],
            vec![cluster("out", ports.origin, Some(json!({"http_protocol_options": {}})))],
        ),
        Role::Internal => (
            vec![listener(ports.listen, tcp_proxy("inside", None)), internal_listener(tcp_proxy("out", None))],
            vec![internal_cluster(), cluster("out", ports.origin, None)],
        ),
        Role::RequestsInConnect if first => (
            vec![
                listener(ports.listen, hcm(plain_route("inside"), json!([]))),
                internal_listener(tcp_proxy("out", Some(json!({"hostname": "origin.test:80"})))),
            ],
            vec![internal_cluster(), cluster("out", ports.between, Some(h2_options()))],
        ),
        Role::RequestsInConnect => (
            vec![
                listener(ports.between, hcm(connect_route("inside"), json!([]))),
                internal_listener(hcm(plain_route("out"), json!([]))),
            ],
            vec![internal_cluster(), cluster("out", ports.origin, Some(json!({"http_protocol_options": {}})))],
        ),
        Role::Requests { h2_upstream } => {
            let options = if h2_upstream { h2_options() } else { json!({"http_protocol_options": {}}) };
            (
                vec![listener(ports.listen, hcm(plain_route("out"), json!([])))],
                vec![cluster("out", ports.origin, Some(options))],
            )
        }
    };
    let mut all = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    if matches!(role, Role::Internal | Role::RequestsInConnect)
        && let Some(all) = all.as_object_mut()
    {
        all.insert(
            "bootstrap_extensions".to_owned(),
            json!([{"name": "envoy.bootstrap.internal_listener", "typed_config":
                {"@type": format!("{TYPE}.extensions.bootstrap.internal_listener.v3.InternalListener")}}]),
        );
    }
    all
}

fn two_hops_first(between: Between, ports: &Ports) -> (Vec<Value>, Vec<Value>) {
    let tunneling = if between == Between::H2Post {
        json!({"hostname": "origin.test:80", "use_post": true})
    } else {
        json!({"hostname": "origin.test:80"})
    };
    let options = match between {
        Between::H1Connect => json!({"http_protocol_options": {}}),
        Between::H2Connect | Between::H2Post | Between::H2Tls => h2_options(),
        Between::H3Connect => json!({"http3_protocol_options": {}}),
    };
    let mut cluster = cluster("out", ports.between, Some(options));
    let tls = json!({"@type": format!("{TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": "origin.test", "common_tls_context": {"alpn_protocols": ["h2"]}});
    match between {
        Between::H2Tls => {
            cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": tls});
        }
        Between::H3Connect => {
            let quic = json!({"@type": format!("{TYPE}.extensions.transport_sockets.quic.v3.QuicUpstreamTransport"),
                "upstream_tls_context": {"sni": "origin.test"}});
            cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.quic", "typed_config": quic});
        }
        Between::H1Connect | Between::H2Connect | Between::H2Post => {}
    }
    (vec![listener(ports.listen, tcp_proxy("out", Some(tunneling)))], vec![cluster])
}

fn two_hops_second(between: Between, ports: &Ports, certificates: &Certificates) -> (Vec<Value>, Vec<Value>) {
    let route = if between == Between::H2Post { post_route("out") } else { connect_route("out") };
    let mut manager = hcm(route, json!([]));
    if between == Between::H3Connect {
        manager["typed_config"]["codec_type"] = json!("HTTP3");
        manager["typed_config"]["http3_protocol_options"] = json!({"allow_extended_connect": true});
    }
    let mut listener = listener(ports.between, manager);
    let mut common = json!({"tls_certificates": [{"certificate_chain": {"filename": certificates.chain},
        "private_key": {"filename": certificates.key}}]});
    let context = format!("{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
    match between {
        Between::H2Tls => {
            common["alpn_protocols"] = json!(["h2"]);
            listener["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.tls",
                "typed_config": {"@type": context, "common_tls_context": common}});
        }
        Between::H3Connect => {
            listener["address"]["socket_address"]["protocol"] = json!("UDP");
            listener["udp_listener_config"] = json!({"quic_options": {}});
            listener["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.quic",
                "typed_config": {"@type": format!("{TYPE}.extensions.transport_sockets.quic.v3.QuicDownstreamTransport"),
                    "downstream_tls_context": {"common_tls_context": common}}});
        }
        Between::H1Connect | Between::H2Connect | Between::H2Post => {}
    }
    (vec![listener], vec![cluster("out", ports.origin, None)])
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn listener(port: u16, filter: Value) -> Value {
    json!({"name": "in", "address": address(port), "tcp_backlog_size": 4096, "filter_chains": [{"filters": [filter]}]})
}

fn internal_listener(filter: Value) -> Value {
    json!({"name": "inside", "internal_listener": {}, "filter_chains": [{"filters": [filter]}]})
}

fn internal_cluster() -> Value {
    let mut cluster = cluster("inside", 0, None);
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
        json!({"envoy_internal_address": {"server_listener_name": "inside"}});
    cluster
}

/// Limits are out of the way: they are not what is measured.
fn cluster(name: &str, port: u16, options: Option<Value>) -> Value {
    let limit = 1_000_000;
    let mut cluster = json!({"name": name, "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": limit, "max_pending_requests": limit,
            "max_requests": limit, "max_retries": limit}]},
        "load_assignment": {"cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}});
    if let Some(options) = options {
        let kind = format!("{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions");
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": kind, "explicit_http_config": options}});
    }
    cluster
}

fn h2_options() -> Value {
    json!({"http2_protocol_options": {"allow_connect": true}})
}

fn tcp_proxy(cluster: &str, tunneling: Option<Value>) -> Value {
    let mut config = json!({"@type": format!("{TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "tcp", "cluster": cluster});
    if let Some(tunneling) = tunneling {
        config["tunneling_config"] = tunneling;
    }
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
}

fn hcm(route: Value, upgrades: Value) -> Value {
    let router = json!({"name": "envoy.filters.http.router",
        "typed_config": {"@type": format!("{TYPE}.extensions.filters.http.router.v3.Router")}});
    let kind = format!("{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {"@type": kind,
        "stat_prefix": "http", "generate_request_id": false, "upgrade_configs": upgrades,
        "http2_protocol_options": {"allow_connect": true}, "http_filters": [router],
        "route_config": {"name": "routes",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}}})
}

fn websocket() -> Value {
    json!([{"upgrade_type": "websocket"}])
}

fn plain_route(cluster: &str) -> Value {
    json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}})
}

fn upgrade_route(cluster: &str) -> Value {
    plain_route(cluster)
}

fn connect_route(cluster: &str) -> Value {
    json!({"match": {"connect_matcher": {}}, "route": {"cluster": cluster, "timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}})
}

fn post_route(cluster: &str) -> Value {
    json!({"match": {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
        "route": {"cluster": cluster, "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {"allow_post": true}}]}})
}
