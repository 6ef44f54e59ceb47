//! Pieces of YAML. Each is a whole, indented for its place.

use std::fmt::Write as _;

/// `static_resources` of these listeners and clusters.
pub fn resources(listeners: &[String], clusters: &[String]) -> String {
    format!("static_resources:\n  listeners:\n{}  clusters:\n{}", listeners.concat(), clusters.concat())
}

/// A listener on a loopback port with one filter chain of one filter.
pub fn listener(name: &str, port: u16, filter: &str) -> String {
    format!(
        "  - name: {name}\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n    \
         filter_chains:\n    - filters:\n{filter}"
    )
}

/// A TCP proxy; `more` is appended to its fields (at ten spaces).
pub fn tcp_proxy(cluster: &str, more: &str) -> String {
    let mut text = format!(
        "      - name: tcp\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
         stat_prefix: {cluster}\n          cluster: {cluster}\n"
    );
    push(&mut text, more, 10);
    text
}

/// A connection manager with these routes (a YAML list) under one virtual host `*`; `more` is appended to its fields.
pub fn hcm(stat_prefix: &str, routes: &str, more: &str) -> String {
    let mut text = format!(
        "      - name: http\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
         stat_prefix: {stat_prefix}\n          route_config:\n            virtual_hosts:\n            - name: all\n              \
         domains: [\"*\"]\n              routes:\n"
    );
    push(&mut text, routes, 14);
    text.push_str(
        "          http_filters:\n          - name: router\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n",
    );
    push(&mut text, more, 10);
    text
}

/// A static cluster of one loopback port; `more` is appended to its fields (at four spaces).
pub fn cluster(name: &str, port: u16, more: &str) -> String {
    let mut text = format!(
        "  - name: {name}\n    connect_timeout: 5s\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      \
         - lb_endpoints:\n        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
    );
    push(&mut text, more, 4);
    text
}

/// Fields that make a cluster speak HTTP/2.
pub const HTTP2: &str = "\
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http2_protocol_options: { allow_connect: true } }
";

/// A route that sends a CONNECT to a cluster and terminates it.
pub fn terminate(cluster: &str) -> String {
    format!(
        "- match: {{ connect_matcher: {{}} }}\n  route: {{ cluster: {cluster}, upgrade_configs: [{{ upgrade_type: CONNECT, connect_config: {{}} }}] }}\n"
    )
}

/// A route that sends everything to a cluster.
pub fn prefix(cluster: &str) -> String {
    format!("- match: {{ prefix: / }}\n  route: {{ cluster: {cluster} }}\n")
}

/// The `upgrade_configs` of a connection manager that lets these types through.
pub fn upgrades(types: &[&str]) -> String {
    let entries: String = types.iter().map(|name| format!("- upgrade_type: {name}\n")).collect();
    format!("upgrade_configs:\n{entries}")
}

fn push(text: &mut String, more: &str, indent: usize) {
    for line in more.lines() {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

/// One of Envoy's own example files, unchanged but for what must differ on this machine: each `port_value: A` becomes
/// `port_value: B`, `www.google.com:443` becomes `localhost` with the port of `google`, and the `admin` section goes (the
/// test brings its own).
pub fn example(name: &str, ports: &[(u16, u16)], google: u16) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/envoy").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out = String::new();
    let mut admin = false;
    for line in text.lines() {
        if line.starts_with("admin:") {
            admin = true;
            continue;
        }
        admin = admin && (line.starts_with(' ') || line.is_empty());
        if admin {
            continue;
        }
        let mut line = line.replace("www.google.com", "localhost");
        if let Some((before, port)) = line.split_once("port_value: ") {
            let port: u16 = port.trim().parse().expect("a port");
            let port =
                if port == 443 { google } else { ports.iter().find(|(a, _)| *a == port).map_or(port, |(_, b)| *b) };
            line = format!("{before}port_value: {port}");
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// A listener as [`listener`], whose filter chain has more fields (at four spaces below the chain), such as a
/// `transport_socket`.
pub fn listener_with(name: &str, port: u16, filter: &str, more: &str) -> String {
    let mut text = listener(name, port, filter);
    push(&mut text, more, 6);
    text
}

/// A QUIC listener with an HTTP/3 connection manager.
pub fn quic_listener(name: &str, port: u16, hcm: &str, tls_context: &str) -> String {
    let filter = hcm.replacen("          stat_prefix:", "          codec_type: HTTP3\n          stat_prefix:", 1);
    format!(
        "  - name: {name}\n    address: {{ socket_address: {{ protocol: UDP, address: 127.0.0.1, port_value: {port} }} }}\n    \
         udp_listener_config: {{ quic_options: {{}}, downstream_socket_config: {{ prefer_gro: true }} }}\n    filter_chains:\n    - filters:\n{filter}      \
         transport_socket:\n        name: envoy.transport_sockets.quic\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport\n          \
         downstream_tls_context: {{ {tls_context} }}\n"
    )
}

/// The version that two proxies speak between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in the clear.
    Http2,
    /// HTTP/2 in TLS, with the certificates of `configs/certs`; no version of its own.
    Http2Tls,
    /// HTTP/3, with the certificates of `configs/certs`.
    Http3,
}

impl Hop {
    /// Every version.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Http3];

    /// A listener that speaks it, with these routes; extended CONNECT is allowed. `more` are fields of its connection manager.
    pub fn listener(self, name: &str, port: u16, routes: &str, more: &str) -> String {
        match self {
            Self::Http1 => listener(name, port, &hcm(name, routes, more)),
            Self::Http2 => {
                let more = format!("{more}http2_protocol_options: {{ allow_connect: true }}\n");
                listener(name, port, &hcm(name, routes, &more))
            }
            Self::Http2Tls => {
                let more = format!("{more}http2_protocol_options: {{ allow_connect: true }}\n");
                let socket = format!(
                    "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
                     type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {} }} }}\n",
                    own_certificate()
                );
                listener_with(name, port, &hcm(name, routes, &format!("codec_type: HTTP2\n{more}")), &socket)
            }
            Self::Http3 => {
                let more = format!("{more}http3_protocol_options: {{ allow_extended_connect: true }}\n");
                quic_listener(name, port, &hcm(name, routes, &more), &own_certificate())
            }
        }
    }

    /// Fields that make a cluster speak it.
    pub fn cluster(self) -> String {
        match self {
            Self::Http1 => String::new(),
            Self::Http2 => HTTP2.to_owned(),
            Self::Http2Tls => format!(
                "{HTTP2}transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: localhost, \
                 common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: {} }} }} }} }} }}\n",
                own("cacert.pem")
            ),
            Self::Http3 => http3(&own("cacert.pem")),
        }
    }
}

/// A file of `configs/certs`.
pub fn own(file: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/certs");
    folder.canonicalize().expect("configs/certs").join(file).display().to_string()
}

/// A `downstream_tls_context` with the certificate of `configs/certs`, in flow style.
pub fn own_certificate() -> String {
    format!(
        "common_tls_context: {{ tls_certificates: [{{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}] }}",
        own("servercert.pem"),
        own("serverkey.pem")
    )
}

/// Fields that make a cluster speak HTTP/3 to `localhost`, trusting this CA.
pub fn http3(ca: &str) -> String {
    format!(
        "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
         explicit_http_config: {{ http3_protocol_options: {{ allow_extended_connect: true }} }}\n{}",
        quic_socket(ca, "")
    )
}

/// A cluster's transport socket for HTTP/3 to `localhost`, trusting this CA; `more` are fields of its TLS context's
/// `common_tls_context`, in flow style with a comma in front.
pub fn quic_socket(ca: &str, more: &str) -> String {
    format!(
        "transport_socket:\n  name: envoy.transport_sockets.quic\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport\n    \
         upstream_tls_context: {{ sni: localhost, common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: {ca} }} }}{more} }} }}\n"
    )
}

/// A route that passes CONNECT-UDP on to a cluster, or terminates it where `connect_config` is `, connect_config: {}`.
pub fn connect_udp(cluster: &str, connect_config: &str) -> String {
    format!(
        "- match: {{ connect_matcher: {{}} }}\n  route: {{ cluster: {cluster}, upgrade_configs: [{{ upgrade_type: CONNECT-UDP{connect_config} }}] }}\n"
    )
}

/// A UDP listener whose datagrams travel in CONNECT-UDP to a cluster, to `target.host.com:443`; datagrams wait for the tunnel.
pub fn udp_tunnel(port: u16, cluster: &str) -> String {
    format!(
        "  - name: u\n    address: {{ socket_address: {{ protocol: UDP, address: 127.0.0.1, port_value: {port} }} }}\n    \
         listener_filters:\n    - name: udp\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig\n        stat_prefix: p\n        \
         matcher: {{ on_no_match: {{ action: {{ name: route, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route, cluster: {cluster} }} }} }} }}\n        \
         session_filters: [{{ name: capsule, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig }} }}]\n        \
         tunneling_config: {{ proxy_host: proxy.host.com, target_host: target.host.com, default_target_port: 443, \
         buffer_options: {{ max_buffered_datagrams: 100, max_buffered_bytes: 10000 }} }}\n"
    )
}
