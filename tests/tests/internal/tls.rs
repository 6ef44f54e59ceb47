//! TLS inside a tunnel, by an internal hop: the near proxy encrypts over the hop and tunnels what comes out of it, the far
//! one decrypts behind the CONNECT that it terminates. The tunnel itself carries ciphertext only.

use std::thread;

use adit_tests::config::{Hop, cluster, hcm, listener, own, own_certificate, prefix, tcp_proxy};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, free_port, origin};

use crate::build::{hop, inner, whole};

const TUNNEL: &str = "tunneling_config: { hostname: 'host.com:443' }\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A transport socket that encrypts to `sni` and validates it.
fn tls(sni: &str, alpn: &str) -> String {
    format!(
        "name: tls, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
         sni: {sni}, common_tls_context: {{ {alpn}validation_context: {{ trusted_ca: {{ filename: {} }}, \
         match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: {sni} }} }}] }} }} }}",
        own("cacert.pem")
    )
}

/// The same within `internal_upstream`, so that state crosses too.
fn inside_internal_upstream(socket: &str) -> String {
    format!(
        "name: internal, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport, transport_socket: {{ {socket} }} }}"
    )
}

/// A filter chain with TLS for this server name.
fn chain(name: &str, alpn: &str, filters: &str) -> String {
    let context = own_certificate().replacen("common_tls_context: { ", &format!("common_tls_context: {{ {alpn}"), 1);
    format!(
        "    - filter_chain_match: {{ server_names: [{name}] }}\n      transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {context} }} }}\n      filters:\n{filters}"
    )
}

const BY_NAME: &str = "- match: { connect_matcher: {} }\n  route: { cluster: in, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }\n";
const ANSWER: &str =
    "- match: { prefix: / }\n  direct_response: { status: 200, body: { inline_string: \"Hello, world!\" } }\n";
const H2: &str = "alpn_protocols: [h2], ";

/// The far end: CONNECT, then TLS whose server name chooses between TCP and HTTP.
fn far(version: Hop, port: u16, at: u16) -> Proxy {
    let inside = format!(
        "  - name: in\n    internal_listener: {{}}\n    listener_filters:\n    - name: sni\n      typed_config:\n        \"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector\n    filter_chains:\n{}{}",
        chain("origin.example", "", &tcp_proxy("c", "")),
        chain("proxy.example", "alpn_protocols: [h2, http/1.1], ", &hcm("inside", ANSWER, ""))
    );
    Proxy::adit(&whole(
        &[version.listener("far", port, BY_NAME, ""), inside],
        &[hop("in", "in", ""), cluster("c", at, "")],
    ))
}

struct Near {
    _proxy: Proxy,
    tcp: u16,
    http1: u16,
    http2: u16,
}

fn near(version: Hop, middle: u16) -> Near {
    let (tcp, http1, http2) = (free_port(), free_port(), free_port());
    let socket = |socket: &str| format!("transport_socket: {{ {socket} }}\n");
    let proxy = Proxy::adit(&whole(
        &[
            listener("tcp", tcp, &tcp_proxy("tcp", "")),
            listener("http1", http1, &hcm("http1", &prefix("http1"), "")),
            listener("http2", http2, &hcm("http2", &prefix("http2"), "")),
            inner("encap", &tcp_proxy("far", TUNNEL)),
        ],
        &[
            hop("tcp", "encap", &socket(&inside_internal_upstream(&tls("origin.example", "")))),
            hop("http1", "encap", &socket(&tls("proxy.example", ""))),
            hop("http2", "encap", &format!("{}{}", socket(&tls("proxy.example", H2)), Hop::Http2.cluster())),
            cluster("far", middle, &version.cluster()),
        ],
    ));
    Near { _proxy: proxy, tcp, http1, http2 }
}

#[test]
fn tls_inside_a_tunnel_over_every_version() {
    for version in Hop::ALL {
        let (upstream, at) = origin::listen();
        let middle = free_port();
        let far = far(version, middle, at);
        let near = near(version, middle);
        let open = || {
            let mut client = Peer::connect(near.tcp);
            client.send("up");
            let mut server = Peer::accept(&upstream);
            server.expect("up");
            server.send("down");
            client.expect("down");
            (client, server)
        };
        for client_first in [true, false] {
            let (client, server) = open();
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            let data: Vec<u8> = (0..4u32 << 20).map(|i| (i % 251) as u8).collect();
            let (mut writer, sent) = (Peer::from(first.0.try_clone().unwrap()), data.clone());
            let thread = thread::spawn(move || {
                writer.send(&sent);
                writer.fin();
            });
            let (got, end) = second.rest();
            assert!(got == data && end == End::Fin, "{version:?}: {} bytes, {end:?}", got.len());
            thread.join().unwrap();
            second.send("last words");
            second.fin();
            assert_eq!(first.rest(), (b"last words".to_vec(), End::Fin), "{version:?}");
        }
        for client_resets in [true, false] {
            let (client, server) = open();
            let (first, mut second) = if client_resets { (client, server) } else { (server, client) };
            first.rst();
            assert_eq!(second.rest(), (vec![], End::Reset), "{version:?}, by the client: {client_resets}");
        }
        for port in [near.http1, near.http2] {
            let mut client = Peer::connect(port);
            for _ in 0..3 {
                client.send(GET);
                assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"), "{version:?}");
                client.expect("Hello, world!");
            }
        }
        far.wait_stat("http.inside.downstream_rq_total", 6);
        far.wait_stat("http.inside.downstream_cx_http2_total", 1);
        far.wait_stat("listener.envoy_internal_in.downstream_cx_total", 6);
    }
}

/// Between the two there is a CONNECT and a TLS record.
#[test]
fn the_tunnel_carries_ciphertext() {
    let (between, at) = origin::listen();
    let near = near(Hop::Http1, at);
    let mut client = Peer::connect(near.tcp);
    client.send("secret");
    let mut seen = Peer::accept(&between);
    assert!(seen.head().starts_with("CONNECT host.com:443 HTTP/1.1\r\n"));
    seen.send("HTTP/1.1 200 OK\r\n\r\n");
    let record = seen.read(6);
    assert_eq!((record[0], record[1], record[5]), (22, 3, 1), "a TLS record with a ClientHello");
}

/// A certificate that is not the one asked for ends it before a byte of the client's leaves.
#[test]
fn a_far_end_that_is_another_gets_nothing() {
    let (upstream, at) = origin::listen();
    upstream.set_nonblocking(true).unwrap();
    let (middle, front) = (free_port(), free_port());
    let _far = far(Hop::Http2, middle, at);
    let near = Proxy::adit(&whole(
        &[listener("tcp", front, &tcp_proxy("tcp", "")), inner("encap", &tcp_proxy("far", TUNNEL))],
        &[
            hop(
                "tcp",
                "encap",
                &format!(
                    "transport_socket: {{ {} }}\n",
                    tls("origin.example", "").replace("exact: origin", "exact: other")
                ),
            ),
            cluster("far", middle, &Hop::Http2.cluster()),
        ],
    ));
    let mut client = Peer::connect(front);
    client.send("secret");
    assert!(client.rest().0.is_empty());
    near.wait_stat("cluster.tcp.ssl.fail_verify_san", 1);
    assert!(upstream.accept().is_err(), "nobody is called");
}
