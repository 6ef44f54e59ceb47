//! UDP: proxied as it is, tunnelled in CONNECT-UDP, terminated and forwarded.

use std::net::UdpSocket;
use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, hcm, listener as stream_listener, resources};
use adit_tests::peer::{End, Peer};
use adit_tests::{PATIENCE, Proxy, eventually, free_port, origin};

/// Log lines that are not waited for long.
const FLUSH: &[&str] = &["--file-flush-interval-msec", "50"];

/// Answers every datagram with `echo:` and itself. Gives the port.
fn echo() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((size, peer)) = socket.recv_from(&mut buffer) {
            let answer = [b"echo:", &buffer[..size]].concat();
            let _ = socket.send_to(&answer, peer);
        }
    });
    port
}

struct Client(UdpSocket);

impl Client {
    fn connect(port: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn send(&self, data: impl AsRef<[u8]>) {
        self.0.send(data.as_ref()).unwrap();
    }

    #[track_caller]
    fn recv(&self) -> Vec<u8> {
        let mut buffer = [0; 65_536];
        let size = self.0.recv(&mut buffer).expect("a datagram");
        buffer[..size].to_vec()
    }

    #[track_caller]
    fn expect(&self, data: &str) {
        assert_eq!(String::from_utf8_lossy(&self.recv()), data);
    }

    #[track_caller]
    fn silent(&self, time: Duration) {
        self.0.set_read_timeout(Some(time)).unwrap();
        let got = self.0.recv(&mut [0; 2000]);
        assert!(got.is_err(), "not silent: {got:?}");
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

/// A UDP listener with a UDP proxy to the cluster `c`; `more` is appended to the proxy's fields.
fn listener(port: u16, more: &str) -> String {
    let mut text = format!(
        "  - name: u\n    address: {{ socket_address: {{ protocol: UDP, address: 127.0.0.1, port_value: {port} }} }}\n    \
         udp_listener_config: {{ downstream_socket_config: {{ max_rx_datagram_size: 9000 }} }}\n    \
         listener_filters:\n    - name: udp\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig\n        \
         stat_prefix: p\n        upstream_socket_config: {{ max_rx_datagram_size: 9000 }}\n        matcher:\n          on_no_match:\n            action:\n              name: route\n              typed_config:\n                \
         \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route\n                cluster: c\n"
    );
    for line in more.lines() {
        text += &format!("        {line}\n");
    }
    text
}

#[test]
fn datagrams_are_proxied_and_counted() {
    let (port, origin) = (free_port(), echo());
    let log = "access_log:\n- name: log\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    \
               log_format: { text_format_source: { inline_string: \"udp %ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %DYNAMIC_METADATA(udp.proxy.session:datagrams_sent)% %BYTES_RECEIVED%\\n\" } }\n\
               idle_timeout: 6s\n";
    let adit = Proxy::adit_with(&resources(&[listener(port, log)], &[cluster("c", origin, "")]), FLUSH);
    let (a, b) = (Client::connect(port), Client::connect(port));
    a.send("one");
    a.expect("echo:one");
    b.send("two");
    b.expect("echo:two");
    a.send("");
    a.expect("echo:");
    a.send(vec![b'x'; 8000]);
    assert_eq!(a.recv().len(), 8005);
    a.send(vec![b'x'; 9001]);
    adit.wait_stat(&format!("listener.127.0.0.1_{port}.downstream_rx_datagram_dropped"), 1);
    for (name, value) in [
        ("udp.p.downstream_sess_total", 2),
        ("udp.p.downstream_sess_active", 2),
        ("udp.p.downstream_sess_rx_datagrams", 4),
        ("udp.p.downstream_sess_rx_bytes", 8006),
        ("udp.p.downstream_sess_tx_datagrams", 4),
        ("udp.p.downstream_sess_tx_bytes", 8026),
        ("cluster.c.udp.sess_tx_datagrams", 4),
        ("cluster.c.udp.sess_rx_datagrams", 4),
        ("cluster.c.upstream_cx_active", 2),
        ("cluster.c.upstream_cx_tx_bytes_total", 8006),
    ] {
        adit.wait_stat(name, value);
    }
    adit.wait_stat("udp.p.downstream_sess_active", 0);
    adit.wait_stat("udp.p.idle_timeout", 2);
    adit.wait_stat("cluster.c.upstream_cx_active", 0);
    a.send("again");
    a.expect("echo:again");
    adit.wait_stat("udp.p.downstream_sess_total", 3);
    assert!(adit.admin("/listeners").contains(&format!("u::127.0.0.1:{port}")));
    eventually("the log", || adit.log().contains("udp UdpSessionEnd SI c 3 8003\n"));
}

#[test]
fn a_datagram_that_is_refused_does_not_end_the_session() {
    let (port, gone) = (free_port(), free_port());
    let adit = Proxy::adit(&resources(&[listener(port, "")], &[cluster("c", gone, "")]));
    let client = Client::connect(port);
    client.send("nobody");
    adit.wait_stat("cluster.c.udp.sess_rx_errors", 1);
    let origin = UdpSocket::bind(("127.0.0.1", gone)).unwrap();
    origin.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send("somebody");
    let mut buffer = [0; 100];
    let (size, from) = origin.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"somebody");
    origin.send_to(b"yes", from).unwrap();
    client.expect("yes");
    adit.wait_stat("udp.p.downstream_sess_total", 1);
}

#[test]
fn sessions_are_limited_and_a_cluster_must_exist() {
    let (port, origin) = (free_port(), echo());
    let limit = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }\n";
    let adit = Proxy::adit(&resources(&[listener(port, "")], &[cluster("c", origin, limit)]));
    let (a, b) = (Client::connect(port), Client::connect(port));
    a.send("one");
    a.expect("echo:one");
    b.send("two");
    b.silent(Duration::from_millis(200));
    adit.wait_stat("cluster.c.upstream_cx_overflow", 1);
    adit.wait_stat("udp.p.downstream_sess_active", 1);
    drop(adit);
    let adit = Proxy::adit(&resources(&[listener(port, "")], &[cluster("other", origin, "")]));
    a.send("one");
    adit.wait_stat("udp.p.downstream_sess_no_route", 1);
}

#[test]
fn a_stopped_listener_keeps_its_sessions() {
    let (port, origin) = (free_port(), echo());
    let adit = Proxy::adit(&resources(&[listener(port, "")], &[cluster("c", origin, "")]));
    let a = Client::connect(port);
    a.send("one");
    a.expect("echo:one");
    adit.admin_post("/drain_listeners");
    eventually("it stopped", || {
        // Each is a client of its own: one that came before the worker stopped has a session.
        Client::connect(port).send("new");
        adit.stat("udp.p.downstream_sess_rx_errors") > 0
    });
    a.send("two");
    a.expect("echo:two");
}

/// What the tunnel tests put into the UDP proxy.
fn tunnel(more: &str) -> String {
    format!(
        "session_filters:\n- name: capsule\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig\n\
         tunneling_config:\n  proxy_host: proxy.host.com\n  target_host: target.host.com\n  default_target_port: 443\n  {more}\n"
    )
}

const BUFFERED: &str = "buffer_options: { max_buffered_datagrams: 100, max_buffered_bytes: 10000 }";

/// A route that terminates CONNECT-UDP.
const TERMINATE: &str = "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT-UDP, connect_config: {} }] }\n";

const HTTP2_CONNECT: &str = "http2_protocol_options: { allow_connect: true }\n";

fn terminator(origin: u16, more: &str) -> (Proxy, u16) {
    let port = free_port();
    let yaml = resources(&[stream_listener("t", port, &hcm("t", TERMINATE, more))], &[cluster("c", origin, "")]);
    (Proxy::adit(&yaml), port)
}

fn through_two_proxies(upstream: &str, options: &str, protocol: &str) {
    let (far, at) = terminator(echo(), options);
    let port = free_port();
    let near = Proxy::adit(&resources(&[listener(port, &tunnel(BUFFERED))], &[cluster("c", at, upstream)]));
    let (a, b) = (Client::connect(port), Client::connect(port));
    a.send("one");
    a.expect("echo:one");
    b.send("two");
    b.send("");
    b.expect("echo:two");
    b.expect("echo:");
    a.send(vec![b'x'; 8000]);
    assert_eq!(a.recv().len(), 8005);
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

/// An HTTP/1 proxy in the hands of the test.
struct Far(std::net::TcpListener, u16);

impl Far {
    fn new() -> Self {
        let (listener, port) = origin::listen();
        Self(listener, port)
    }

    fn accept(&self, answer: &str) -> (Peer, String) {
        let mut peer = Peer::accept(&self.0);
        let head = peer.head();
        peer.send(answer);
        (peer, head)
    }
}

const ACCEPTED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: connect-udp\r\ncapsule-protocol: ?1\r\n\r\n";

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

const CONNECT_UDP: &str = "GET /.well-known/masque/udp/127.0.0.1/53/ HTTP/1.1\r\nhost: proxy\r\nconnection: upgrade\r\nupgrade: connect-udp\r\n\r\n";

#[test]
fn connect_udp_is_terminated_over_http1_with_a_101() {
    let (adit, port) = terminator(echo(), "");
    let mut client = Peer::connect(port);
    client.send(CONNECT_UDP);
    let head = client.head().to_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    for field in ["upgrade: connect-udp", "connection: upgrade", "capsule-protocol: ?1"] {
        assert!(head.contains(&format!("{field}\r\n")), "{field}: {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    client.send(b"\x17\x03xyz\0\x04\0one\0\x04\x02abc\0\x01\0");
    client.expect(b"\0\x09\0echo:one\0\x06\0echo:");
    adit.wait_stat("http.t.downstream_cx_upgrades_active", 1);
    client.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
    adit.wait_stat("http.t.downstream_cx_upgrades_active", 0);
    adit.wait_stat("cluster.c.upstream_cx_active", 0);

    // A datagram that cannot be one, and an end within one.
    for (bytes, fin) in [(&b"\0\x80\x01\0\x10"[..], false), (b"\0\0", false), (b"\0\x04\0on", true)] {
        let mut client = Peer::connect(port);
        client.send(CONNECT_UDP);
        client.head();
        client.send(bytes);
        if fin {
            client.fin();
        }
        assert_eq!(client.rest(), (vec![], End::Reset), "{bytes:?}");
    }
}

#[test]
fn targets_that_are_none_are_refused() {
    let (_adit, port) = terminator(echo(), "");
    for (path, status) in [
        ("/.well-known/masque/udp/127.0.0.1/0/", 400),
        ("/.well-known/masque/udp/127.0.0.1/65536/", 400),
        ("/.well-known/masque/udp/127.0.0.1/dns/", 400),
        ("/.well-known/masque/udp/127.0.0.1//", 404),
        ("/.well-known/masque/udp//53/", 404),
        ("/.well-known/masque/udp/fe80::1%25eth0/53/", 404),
        ("/masque/127.0.0.1/53/", 404),
    ] {
        let mut client = Peer::connect(port);
        client.send(CONNECT_UDP.replace("/.well-known/masque/udp/127.0.0.1/53/", path));
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
}

#[test]
fn a_target_that_refuses_ends_the_tunnel_with_a_reset() {
    let (adit, port) = terminator(free_port(), "");
    let mut client = Peer::connect(port);
    client.send(CONNECT_UDP);
    client.head();
    client.send(b"\0\x04\0one");
    assert_eq!(client.rest(), (vec![], End::Reset));
    adit.wait_stat("cluster.c.udp.sess_rx_errors", 1);
}

#[test]
fn an_idle_tunnel_is_reset() {
    let (_adit, port) = terminator(echo(), "stream_idle_timeout: 3s\n");
    let mut client = Peer::connect(port);
    client.send(CONNECT_UDP);
    client.head();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(700));
        client.send(b"\0\x04\0one");
        client.expect(b"\0\x09\0echo:one");
    }
    assert_eq!(client.rest(), (vec![], End::Reset));
}

#[test]
fn a_client_that_does_not_keep_up_costs_a_bounded_amount() {
    let origin = UdpSocket::bind("127.0.0.1:0").unwrap();
    origin.set_read_timeout(Some(PATIENCE)).unwrap();
    let (adit, port) = terminator(origin.local_addr().unwrap().port(), "");
    let mut client = Peer::connect(port);
    client.send(CONNECT_UDP);
    client.head();
    client.send(b"\0\x04\0one");
    let (_, from) = origin.recv_from(&mut [0; 100]).unwrap();
    let before = adit.rss_kib();
    for _ in 0..4000 {
        let _ = origin.send_to(&[7; 16_000], from);
        std::thread::sleep(Duration::from_micros(50));
    }
    assert!(adit.rss_kib() < before + 4096, "{before} -> {}", adit.rss_kib());
    // It is still there, and so is another one.
    client.send(b"\0\x04\0two");
    let mut buffer = [0; 100];
    let (size, _) = origin.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"two");
}

#[test]
fn connect_udp_is_forwarded_as_it_is() {
    let far = Far::new();
    let port = free_port();
    let route =
        "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT-UDP }] }\n";
    let _adit =
        Proxy::adit(&resources(&[stream_listener("f", port, &hcm("f", route, ""))], &[cluster("c", far.1, "")]));
    let mut client = Peer::connect(port);
    client.send(CONNECT_UDP.replace("upgrade: connect-udp", "upgrade: connect-udp\r\ncapsule-protocol: ?1"));
    let (mut peer, head) = far.accept(ACCEPTED);
    assert!(head.starts_with("GET /.well-known/masque/udp/127.0.0.1/53/ HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("capsule-protocol: ?1\r\n") && head.contains("host: proxy\r\n"), "{head}");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send(b"\x17\x03xyz\0\x04\0one");
    peer.expect(b"\x17\x03xyz\0\x04\0one");
    peer.send(b"\0\x04\0two");
    client.expect(b"\0\x04\0two");
    client.fin();
    assert_eq!(peer.rest(), (vec![], End::Fin));

    let mut client = Peer::connect(port);
    client.send("GET /chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_route_may_have_a_uri_template_of_its_own() {
    let port = free_port();
    let route = "- match: { prefix: /masque }\n  metadata: { filter_metadata: { adit.connect_udp: { uri_template: 'https://proxy/masque{?target_host,target_port}' } } }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT-UDP, connect_config: {} }] }\n";
    let _adit =
        Proxy::adit(&resources(&[stream_listener("t", port, &hcm("t", route, ""))], &[cluster("c", echo(), "")]));
    let ask = |path: &str| {
        let mut client = Peer::connect(port);
        client.send(CONNECT_UDP.replace("/.well-known/masque/udp/127.0.0.1/53/", path));
        let head = client.head();
        (client, head)
    };
    let (mut client, head) = ask("/masque?target_host=target.example&target_port=53");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.send(b"\0\x04\0one");
    client.expect(b"\0\x09\0echo:one");
    for (path, status) in [
        ("/masque?target_host=target.example&target_port=0", 400),
        ("/masque?target_host=target.example", 404),
        ("/.well-known/masque/udp/127.0.0.1/53/", 404),
    ] {
        let (_, head) = ask(path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
}

#[test]
fn every_worker_has_its_sessions() {
    let (port, origin) = (free_port(), echo());
    let wildcard = listener(port, "").replace("127.0.0.1", "0.0.0.0");
    let adit = Proxy::adit_with(&resources(&[wildcard], &[cluster("c", origin, "")]), &["--concurrency", "3"]);
    let clients: Vec<_> = (0..40).map(|_| Client::connect(port)).collect();
    for round in 0..3 {
        for client in &clients {
            client.send(format!("{round}"));
        }
        for client in &clients {
            client.expect(&format!("echo:{round}"));
        }
    }
    adit.wait_stat("udp.p.downstream_sess_active", 40);
    adit.wait_stat("udp.p.downstream_sess_total", 40);
}

#[test]
fn ipv6_and_an_answer_larger_than_a_frame() {
    let (port, origin) = (free_port(), echo());
    let v6 = listener(port, "").replace("127.0.0.1", "'::1'").replace("9000", "65535");
    let Ok(socket) = UdpSocket::bind("[::1]:0") else { return };
    let _adit = Proxy::adit(&resources(&[v6], &[cluster("c", origin, "")]));
    socket.connect(("::1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = Client(socket);
    client.send(vec![1; 60_000]);
    assert_eq!(client.recv().len(), 60_005);
}

/// One of the files in `configs/`, on other ports, without its admin section.
fn own(name: &str, ports: &[(u16, u16)]) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (before, rest) = text.split_once("admin:\n").unwrap();
    let (_, rest) = rest.split_once("static_resources:").unwrap();
    let mut text = format!("{before}static_resources:{rest}");
    for (from, to) in ports {
        text = text.replace(&format!("port_value: {from}"), &format!("port_value: {to}"));
    }
    text
}

#[test]
fn the_example_configurations_work_together() {
    for version in ["http1", "http2"] {
        let (near, far, middle) = (free_port(), free_port(), free_port());
        let terminator = own(&format!("terminate_connect_udp_{version}.yaml"), &[(10001, far), (10002, echo())]);
        let forwarder = own(&format!("proxy_connect_udp_{version}.yaml"), &[(10001, far), (10003, middle)]);
        let raw = |to| own(&format!("raw_udp_tunneling_{version}.yaml"), &[(10000, near), (10001, to)]);
        let far_proxy = Proxy::adit(&terminator);
        let _forwarder = Proxy::adit(&forwarder);
        for to in [far, middle] {
            let _near = Proxy::adit(&raw(to));
            let client = Client::connect(near);
            for text in ["one", "two", "three"] {
                client.send(text);
                client.expect(&format!("echo:{text}"));
            }
        }
        far_proxy.wait_stat("cluster.service.udp.sess_tx_datagrams", 6);
    }
}

/// Beside Envoy in each role. Over HTTP/1 Envoy cannot terminate: it answers 200.
#[cfg(feature = "e2e")]
#[test]
fn the_example_configurations_work_with_envoy() {
    for (version, near_is_envoy) in [("http1", true), ("http2", true), ("http2", false)] {
        let (near, far) = (free_port(), free_port());
        let terminator = own(&format!("terminate_connect_udp_{version}.yaml"), &[(10001, far), (10002, echo())]);
        let raw = own(&format!("raw_udp_tunneling_{version}.yaml"), &[(10000, near), (10001, far)]);
        let start = |envoy: bool, yaml: &str| if envoy { Proxy::envoy(yaml) } else { Proxy::adit(yaml) };
        let _far = start(!near_is_envoy, &terminator);
        let _near = start(near_is_envoy, &raw);
        let client = Client::connect(near);
        for text in ["one", "two", ""] {
            client.send(text);
            client.expect(&format!("echo:{text}"));
        }
    }
}
