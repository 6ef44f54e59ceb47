//! UDP proxies that send their datagrams through CONNECT-UDP.

use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, resources};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, eventually, free_port};

use crate::{ACCEPTED, Client, FLUSH, Far, HTTP2_CONNECT, echo, listener, terminator, two_sessions};

/// What the tunnel tests put into the UDP proxy.
fn tunnel(more: &str) -> String {
    format!(
        "session_filters:\n- name: capsule\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig\n\
         tunneling_config:\n  proxy_host: proxy.host.com\n  target_host: target.host.com\n  default_target_port: 443\n  {more}\n"
    )
}

const BUFFERED: &str = "buffer_options: { max_buffered_datagrams: 100, max_buffered_bytes: 10000 }";

fn through_two_proxies(upstream: &str, options: &str, protocol: &str) {
    let (far, at) = terminator(echo(), options);
    let port = free_port();
    let near = Proxy::adit(&resources(&[listener(port, &tunnel(BUFFERED))], &[cluster("c", at, upstream)]));
    let _clients = two_sessions(port);
    for (name, value) in [
        ("udp.p.downstream_sess_active", 2),
        ("udp.p.downstream_sess_rx_datagrams", 4),
        ("udp.p.downstream_sess_tx_datagrams", 4),
        ("cluster.c.udp.sess_tunnel_success", 2),
        ("cluster.c.udp.sess_tunnel_failure", 0),
        ("cluster.c.udp.sess_tx_datagrams", 4),
        ("cluster.c.udp.sess_rx_datagrams", 4),
        (&format!("cluster.c.upstream_cx_{protocol}_total"), if protocol == "http1" { 2 } else { 1 }),
    ] {
        near.wait_stat(name, value);
    }
    far.wait_stat("http.t.downstream_cx_upgrades_active", 2);
    far.wait_stat("cluster.c.udp.sess_tx_datagrams", 4);
    far.wait_stat("cluster.c.udp.sess_rx_datagrams", 4);
}

#[test]
fn udp_travels_in_connect_udp_over_http1() {
    through_two_proxies("", "", "http1");
}

#[test]
fn udp_travels_in_connect_udp_over_http2() {
    through_two_proxies(HTTP2, HTTP2_CONNECT, "http2");
}

#[test]
fn an_idle_session_ends_on_both_sides_and_a_datagram_begins_a_new_one() {
    let (far, at) = terminator(echo(), HTTP2_CONNECT);
    let port = free_port();
    let more = tunnel(BUFFERED) + "idle_timeout: 2s\n";
    let near = Proxy::adit(&resources(&[listener(port, &more)], &[cluster("c", at, HTTP2)]));
    let client = Client::connect(port);
    client.send("one");
    client.expect("echo:one");
    near.wait_stat("udp.p.downstream_sess_active", 0);
    near.wait_stat("udp.p.idle_timeout", 1);
    far.wait_stat("http.t.downstream_cx_upgrades_active", 0);
    far.wait_stat("cluster.c.upstream_cx_active", 0);
    client.send("two");
    client.expect("echo:two");
    near.wait_stat("udp.p.downstream_sess_total", 2);
    near.wait_stat("cluster.c.upstream_cx_total", 1);
}

fn near(far: &Far, more: &str) -> (Proxy, Client) {
    let port = free_port();
    let near = Proxy::adit_with(&resources(&[listener(port, more)], &[cluster("c", far.1, "")]), FLUSH);
    (near, Client::connect(port))
}

#[test]
fn the_request_is_rfc_9298s_and_datagrams_wait_for_the_answer() {
    let far = Far::new();
    let more = format!(
        "{BUFFERED}\n  proxy_port: 8443\n  headers_to_add: [{{ header: {{ key: x-peer, value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' }} }}]"
    );
    let (near, client) = near(&far, &tunnel(&more));
    client.send("one");
    client.send("two");
    let mut peer = Peer::accept(&far.0);
    let head = peer.head();
    assert!(
        head.starts_with("GET /.well-known/masque/udp/target.host.com/443/ HTTP/1.1\r\nhost: proxy.host.com:8443\r\n"),
        "{head}"
    );
    for field in ["connection: Upgrade", "upgrade: connect-udp", "capsule-protocol: ?1", "x-peer: 127.0.0.1"] {
        assert!(head.to_lowercase().contains(&format!("{}\r\n", field.to_lowercase())), "{field}: {head}");
    }
    peer.silent(Duration::from_millis(200));
    peer.send("HTTP/1.1 100 Continue\r\n\r\n");
    peer.send(ACCEPTED);
    peer.expect("\0\x04\0one\0\x04\0two");
    // An unknown capsule, an unknown context, a datagram in pieces, an empty one.
    peer.send(b"\x17\x03xyz\0\x04\x02abc\0\x06\0pi");
    std::thread::sleep(Duration::from_millis(50));
    peer.send(b"ece\0\x01\0");
    client.expect("piece");
    client.expect("");
    peer.fin();
    near.wait_stat("udp.p.downstream_sess_active", 0);
    assert_eq!(peer.rest().0, b"");
    client.send("three");
    let (mut peer, _) = far.accept(ACCEPTED);
    peer.expect("\0\x06\0three");
}

#[test]
fn what_does_not_fit_is_dropped_and_counted_and_without_a_buffer_nothing_waits() {
    let far = Far::new();
    let (adit, client) = near(&far, &tunnel("buffer_options: { max_buffered_datagrams: 2, max_buffered_bytes: 5 }"));
    for datagram in ["one", "too long", "22", "3"] {
        client.send(datagram);
    }
    adit.wait_stat("cluster.c.udp.sess_tunnel_buffer_overflow", 2);
    let (mut peer, _) = far.accept(ACCEPTED);
    peer.expect("\0\x04\0one\0\x03\x0022");
    drop(adit);

    let (adit, client) = near(&far, &tunnel("propagate_response_headers: true"));
    client.send("lost");
    let (mut peer, _) = far.accept(ACCEPTED);
    adit.wait_stat("cluster.c.udp.sess_tunnel_success", 1);
    client.send("found");
    peer.expect("\0\x06\0found");
}

#[test]
fn refusals_are_tried_again_and_then_logged() {
    let far = Far::new();
    let log = "access_log:\n- name: log\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    \
               log_format: { text_format_source: { inline_string: \"udp %ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\\n\" } }\n\
               access_log_options: { flush_access_log_on_tunnel_connected: true }\n";
    let retry =
        "retry_options: { max_connect_attempts: 3, backoff_options: { base_interval: 0.05s, max_interval: 0.1s } }";
    let (adit, client) = near(&far, &(tunnel(&format!("{BUFFERED}\n  {retry}")) + log));
    const REFUSED: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    client.send("first");
    far.accept(REFUSED);
    drop(Peer::accept(&far.0));
    let (mut peer, _) = far.accept(ACCEPTED);
    peer.expect("\0\x06\0first");
    eventually("a line", || adit.log().contains("udp UdpTunnelUpstreamConnected UF "));
    adit.wait_stat("cluster.c.udp.sess_tunnel_failure", 2);
    adit.wait_stat("cluster.c.udp.sess_tunnel_success", 1);
    peer.rst();
    adit.wait_stat("udp.p.downstream_sess_active", 0);
    client.send("second");
    for _ in 0..3 {
        far.accept(REFUSED);
    }
    eventually("a line", || adit.log().contains("udp UdpSessionEnd UF,URX tunnel_response:404 3\n"));
    adit.wait_stat("cluster.c.upstream_cx_connect_attempts_exceeded", 1);
}

#[test]
fn a_tunnel_may_be_a_post() {
    let far = Far::new();
    let (adit, client) = near(&far, &tunnel(&format!("{BUFFERED}\n  use_post: true\n  post_path: /udp")));
    client.send("one");
    let (mut peer, head) = far.accept("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    assert!(head.starts_with("POST /udp HTTP/1.1\r\nhost: proxy.host.com\r\n"), "{head}");
    peer.expect("6\r\n\0\x04\0one\r\n");
    peer.send("6\r\n\0\x04\0two\r\n");
    client.expect("two");
    peer.send("0\r\n\r\n");
    adit.wait_stat("udp.p.downstream_sess_active", 0);
}
