//! CONNECT in the clear with TLS inside, in one hop: both example files, and what a proxy in between sees.
#![cfg(feature = "e2e")]

use std::io::Write;
use std::time::Duration;

use adit_tests::certs::Certs;
use adit_tests::config::{HTTP2, cluster, hcm, listener, quic_listener, resources, terminate};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, curl, free_port, origin};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

/// A file of `configs/` with other ports and absolute names of certificates, without its `admin`.
fn file(name: &str, ports: &[(u16, u16)]) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").canonicalize().unwrap();
    let mut text = std::fs::read_to_string(folder.join(name)).unwrap();
    let admin = text.find("admin:\n").unwrap();
    let end = admin + text[admin..].match_indices('\n').nth(1).unwrap().0 + 1;
    text.replace_range(admin..end, "");
    for (from, to) in ports {
        text = text.replace(&format!("port_value: {from} "), &format!("port_value: {to} "));
    }
    text.replace("certs/", &format!("{}/certs/", folder.display()))
}

fn body(out: &std::process::Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Both files, with adit and with Envoy at either end.
#[test]
fn either_end_may_be_envoy() {
    let hello = origin::http(HELLO).0;
    for (near, far) in [("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")] {
        let start = |who: &str, yaml: &str| if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) };
        let (tcp, http, proxy) = (free_port(), free_port(), free_port());
        let _far = start(far, &file("connect_tls_terminated.yaml", &[(10001, proxy), (10080, hello)]));
        let ports = [(10000, tcp), (10002, http), (10001, proxy)];
        let client = start(near, &file("connect_tls_in_one_hop.yaml", &ports));
        assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{tcp}/")])), "hello\n", "{near} -> {far}");
        for _ in 0..2 {
            assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{http}/")])), "hello\n", "{near} -> {far}");
        }
        assert_eq!(
            client.stat("cluster.origin.ssl.handshake"),
            2,
            "{near}: the second request has a pooled connection"
        );
    }
}

#[test]
fn the_proxy_in_between_sees_a_connect_and_ciphertext() {
    let (tcp, http) = (free_port(), free_port());
    let (listener, proxy) = origin::listen();
    let _near = Proxy::adit(&file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, http), (10001, proxy)]));
    let mut client = Peer::connect(tcp);
    client.send("secret");
    let mut seen = Peer::accept(&listener);
    assert!(seen.head().starts_with("CONNECT 127.0.0.1:10443 HTTP/1.1\r\nHost: 127.0.0.1:10443\r\n"));
    seen.send("HTTP/1.1 200 OK\r\n\r\n");
    // A TLS record with a ClientHello.
    let record = seen.read(6);
    assert_eq!((record[0], record[1], record[5]), (22, 3, 1));
}

#[test]
fn a_refusal_of_the_proxy_is_a_503() {
    let (tcp, http) = (free_port(), free_port());
    let proxy = origin::http("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").0;
    let _near = Proxy::adit(&file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, http), (10001, proxy)]));
    let mut client = Peer::connect(http);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

/// The near example, whose tunnels are streams of a cluster `proxy` with these fields.
fn near_through(ports: &[(u16, u16)], proxy_cluster: &str) -> String {
    let near = file("connect_tls_in_one_hop.yaml", ports);
    let near = near.replace(
        "  - name: origin\n",
        "  - name: origin\n    metadata: { filter_metadata: { adit.http_11_proxy: { cluster: proxy, proxy_authorization: Basic dTpw } } }\n",
    );
    near + proxy_cluster
}

/// A cluster of no hosts of its own: the proxy is where `http_11_proxy` says.
fn wherever(more: &str) -> String {
    format!("  - name: proxy\n    type: ORIGINAL_DST\n    lb_policy: CLUSTER_PROVIDED\n    connect_timeout: 5s\n{more}")
}

fn http2() -> String {
    HTTP2.lines().map(|line| format!("    {line}\n")).collect()
}

/// The far example, reached over QUIC.
fn far_over_http3(certs: &Certs, ports: &[(u16, u16)], proxy: u16) -> String {
    let mut far = file("connect_tls_terminated.yaml", ports);
    let start = far.find("  - name: connect\n").unwrap();
    let end = far.find("  - name: tls_inside\n    internal_listener").unwrap();
    let filter = hcm("connect", &terminate("tls_inside"), "http3_protocol_options: { allow_extended_connect: true }\n");
    far.replace_range(start..end, &quic_listener("connect", proxy, &filter, &certs.server_context("h3")));
    far
}

fn http3(certs: &Certs) -> String {
    format!(
        "    transport_socket:\n      name: quic\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport\n        \
         upstream_tls_context: {{ sni: localhost, common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: {} }} }} }} }}\n    \
         typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
         explicit_http_config: {{ http3_protocol_options: {{}} }}\n",
        certs.path("ca.pem")
    )
}

/// 4 MiB there and back with a half-close, then another twenty tunnels beside one that nobody reads.
fn tunnels(what: &str, port: u16) {
    let mut client = Peer::connect(port);
    let data: Vec<u8> = (0..4u32 << 20).map(|i| (i % 253) as u8).collect();
    let mut writer = Peer::from(client.0.try_clone().unwrap());
    let sent = data.clone();
    let thread = std::thread::spawn(move || {
        writer.send(&sent);
        writer.fin();
    });
    let (got, end) = client.rest();
    thread.join().unwrap();
    assert!(got == data && end == End::Fin, "{what}: {} bytes, {end:?}", got.len());
    let stalled = Peer::connect(port);
    stalled.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // Envoy gives a connection's window back by halves: a stalled stream's 16 MiB and what it was read of before use it all up,
    // now and then, and then nothing moves on that connection.
    let most = if what == "envoy" { 8 << 20 } else { usize::MAX };
    let mut poured = 0;
    while poured < most
        && let Ok(n) = (&stalled.0).write(&data)
    {
        poured += n;
    }
    let mut clients: Vec<Peer> = (0..20).map(|_| Peer::connect(port)).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(format!("{i:04}"));
    }
    for (i, client) in clients.iter_mut().enumerate() {
        client.expect(format!("{i:04}"));
    }
}

/// The hop to the proxy is HTTP/2, far end adit or Envoy: TLS with the origin inside streams that share one connection.
#[test]
fn the_hop_to_the_proxy_is_http2_and_shared() {
    for far in ["adit", "envoy"] {
        let start = |yaml: &str| if far == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) };
        let hello = origin::http(HELLO).0;
        let (tcp, http, proxy) = (free_port(), free_port(), free_port());
        let far_ports = [(10001, proxy), (10080, hello)];
        let _far = start(&file("connect_tls_terminated.yaml", &far_ports));
        let near = near_through(&[(10000, tcp), (10002, http), (10001, proxy)], &wherever(&http2()));
        let near = Proxy::adit(&near);
        assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{tcp}/")])), "hello\n", "{far}");
        for _ in 0..2 {
            assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{http}/")])), "hello\n", "{far}");
        }
        near.wait_stat("cluster.origin.ssl.handshake", 2);
        near.wait_stat("cluster.proxy.upstream_cx_total", 1);
        near.wait_stat("cluster.proxy.upstream_rq_total", 2);

        let (tcp, proxy) = (free_port(), free_port());
        let _far = start(&file("connect_tls_terminated.yaml", &[(10001, proxy), (10080, origin::echo())]));
        let near =
            Proxy::adit(&near_through(&[(10000, tcp), (10002, free_port()), (10001, proxy)], &wherever(&http2())));
        tunnels(far, tcp);
        near.wait_stat("cluster.proxy.upstream_cx_total", 1);
        near.wait_stat("cluster.proxy.upstream_rq_active", 0);
    }
}

/// The hop to the proxy is HTTP/3; or HTTP/2 in TLS of its own, to hosts of the cluster.
#[test]
fn the_hop_to_the_proxy_is_encrypted_too() {
    let certs = Certs::new();
    let hello = origin::http(HELLO).0;
    for (version, inside) in [("h3", "hello"), ("h3", "echo"), ("h2", "hello"), ("h2", "echo")] {
        let (tcp, http, proxy) = (free_port(), free_port(), free_port());
        let origin = if inside == "hello" { hello } else { origin::echo() };
        let ports = [(10001, proxy), (10080, origin)];
        let far = match version {
            "h3" => far_over_http3(&certs, &ports, proxy),
            _ => file("connect_tls_terminated.yaml", &ports).replacen(
                "    filter_chains:\n    - filters:\n",
                &format!("    filter_chains:\n    - {}      filters:\n", certs.downstream("h2", "")),
                1,
            ),
        };
        let cluster = match version {
            "h3" => wherever(&http3(&certs)),
            _ => cluster("proxy", proxy, &format!("{}{HTTP2}", certs.upstream("localhost", "h2", ""))),
        };
        let far = Proxy::adit(&far);
        let near = Proxy::adit(&near_through(&[(10000, tcp), (10002, http), (10001, proxy)], &cluster));
        if inside == "hello" {
            assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{tcp}/")])), "hello\n", "{version}");
            assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{http}/")])), "hello\n", "{version}");
        } else {
            tunnels(version, tcp);
        }
        let number = &version[1..];
        far.wait_stat(&format!("http.connect.downstream_cx_http{number}_total"), 1);
        near.wait_stat("cluster.proxy.upstream_cx_total", 1);
    }
}

/// Ends cross the shared hop as they are: a FIN leaves the other way open, an RST is an RST.
#[test]
fn ends_cross_the_shared_hop() {
    let certs = Certs::new();
    for version in ["h2", "h3"] {
        let (upstream, at) = origin::listen();
        let (tcp, proxy) = (free_port(), free_port());
        let ports = [(10001, proxy), (10080, at)];
        let (far, cluster) = match version {
            "h3" => (far_over_http3(&certs, &ports, proxy), wherever(&http3(&certs))),
            _ => (file("connect_tls_terminated.yaml", &ports), wherever(&http2())),
        };
        let _far = Proxy::adit(&far);
        let _near = Proxy::adit(&near_through(&[(10000, tcp), (10002, free_port()), (10001, proxy)], &cluster));
        let open = || {
            let mut client = Peer::connect(tcp);
            client.send("up");
            let mut server = Peer::accept(&upstream);
            server.expect("up");
            server.send("down");
            client.expect("down");
            (client, server)
        };
        let (mut client, mut server) = open();
        client.fin();
        assert_eq!(server.rest(), (vec![], End::Fin), "{version}");
        server.send("late");
        server.fin();
        assert_eq!(client.rest(), (b"late".to_vec(), End::Fin), "{version}");
        let (client, mut server) = open();
        client.rst();
        assert_eq!(server.rest(), (vec![], End::Reset), "{version}");
        let (mut client, server) = open();
        server.rst();
        assert_eq!(client.rest(), (vec![], End::Reset), "{version}");
    }
}

/// A proxy that refuses over HTTP/2, one that is not there and one that has no cluster: failed connects, each with its words.
#[test]
fn a_proxy_behind_a_cluster_that_opens_nothing() {
    let proxy = free_port();
    // 418 tells that the authorization arrived.
    let routes = "- match: { connect_matcher: {}, headers: [{ name: proxy-authorization, string_match: { exact: Basic dTpw } }] }\n  \
                  direct_response: { status: 418 }\n- match: { connect_matcher: {} }\n  direct_response: { status: 407 }\n";
    let far = resources(
        &[listener("far", proxy, &hcm("far", routes, "upgrade_configs: [{ upgrade_type: CONNECT }]\n"))],
        &[],
    );
    let _far = Proxy::adit(&far);
    let gone = free_port();
    for (at, name, words) in [
        (proxy, "proxy", "the HTTP proxy opened no tunnel (418)"),
        (gone, "proxy", "the HTTP proxy is not reached: delayed connect error: "),
        (proxy, "another", "there is no cluster proxy"),
    ] {
        let http = free_port();
        let cluster = cluster(name, at, HTTP2);
        let log = "access_log: [{ name: log, typed_config: { \"@type\": \
                   type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: { text_format_source: { \
                   inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%\\n\" } } } }]";
        let near = near_through(&[(10000, free_port()), (10002, http), (10001, at)], &cluster).replace(
            "          upgrade_configs: [{ upgrade_type: websocket }]\n",
            &format!("          upgrade_configs: [{{ upgrade_type: websocket }}]\n          {log}\n"),
        );
        let near = Proxy::adit_with(&near, &["--file-flush-interval-msec", "50"]);
        let mut client = Peer::connect(http);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        adit_tests::eventually("the log", || near.log().replace('_', " ").contains(&format!("503 UF {words}")));
    }
}

/// Endpoint metadata in Envoy's form, and filter state with a target of its own, name the proxy; a WebSocket goes the same way.
#[test]
fn the_proxy_is_named_by_metadata_or_filter_state() {
    let (upstream, at) = origin::listen();
    let (http, proxy) = (free_port(), free_port());
    let far = Proxy::adit(&file("connect_tls_terminated.yaml", &[(10001, proxy), (10080, at)]));
    let metadata = format!(
        "metadata: {{ typed_filter_metadata: {{ envoy.http11_proxy_transport_socket.proxy_address: {{ \"@type\": \
         type.googleapis.com/envoy.config.core.v3.Address, socket_address: {{ address: 127.0.0.1, port_value: {proxy} }} }} }} }}"
    );
    let state = format!(
        "          - name: state\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config\n              on_request_headers:\n              \
         - object_key: envoy.network.transport_socket.http_11_proxy.info\n                \
         format_string: {{ text_format_source: {{ inline_string: \"other.example:443,127.0.0.1:{proxy}\" }} }}\n"
    );
    let plain = file("connect_tls_in_one_hop.yaml", &[(10000, free_port()), (10002, http), (10001, 1)]);
    let by_metadata = plain.replace(
        "- endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 10443 } } }",
        &format!(
            "- {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 10443 }} }} }}, {metadata} }}"
        ),
    );
    let by_state = plain.replace("          http_filters:\n", &format!("          http_filters:\n{state}"));
    for near in [by_metadata, by_state] {
        assert_ne!(near, plain);
        let _near = Proxy::adit(&near);
        let mut client = Peer::connect(http);
        client.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
        let mut server = Peer::accept(&upstream);
        assert!(server.head().contains("upgrade: websocket\r\n"));
        server.send("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.send("ping");
        server.expect("ping");
        server.send("pong");
        client.expect("pong");
        client.fin();
        assert_eq!(server.rest(), (vec![], End::Fin));
        server.fin();
        assert_eq!(client.rest(), (vec![], End::Fin));
    }
    far.wait_stat("http.connect.downstream_cx_http1_total", 2);
    // The proxy is told the target that the filter state names.
    let (listener, seen) = origin::listen();
    let near = plain.replace(
        "          http_filters:\n",
        &format!("          http_filters:\n{}", state.replace(&proxy.to_string(), &seen.to_string())),
    );
    let _near = Proxy::adit(&near);
    let mut client = Peer::connect(http);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = Peer::accept(&listener).head();
    assert!(head.starts_with("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n"), "{head}");
}
