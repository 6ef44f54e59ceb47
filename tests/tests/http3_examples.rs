//! The examples over HTTP/3, run as they stand: TCP, WebSocket and UDP tunnels, beside Envoy in each role.

use std::net::UdpSocket;
use std::path::Path;

use adit_tests::peer::{End, Peer};
use adit_tests::{PATIENCE, Proxy, free_port, origin};

/// A file of `configs/` with other ports and absolute names of certificates, without its `admin`.
fn file(name: &str, ports: &[(u16, u16)]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").canonicalize().unwrap();
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut text = text[text.find("static_resources:").unwrap()..].to_owned();
    for (from, to) in ports {
        text = text.replace(&format!("port_value: {from} "), &format!("port_value: {to} "));
    }
    text.replace("certs/", &format!("{}/certs/", folder.display()))
}

fn start(who: &str, yaml: &str) -> Proxy {
    if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) }
}

/// Who plays which part.
const CASTS: &[(&str, &str)] =
    if cfg!(feature = "e2e") { &[("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")] } else { &[("adit", "adit")] };

fn udp_client(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[track_caller]
fn echoes(client: &UdpSocket, datagram: &[u8], who: &str) {
    client.send(datagram).unwrap();
    let mut buffer = [0; 65_536];
    let size = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{who}: {} bytes: {error}", datagram.len()));
    assert!(&buffer[..size] == datagram, "{who}: {size} bytes came for {}", datagram.len());
}

#[test]
fn tcp_in_connect_over_http3() {
    for &(near, far) in CASTS {
        let (a, b) = (free_port(), free_port());
        let far_proxy = start(far, &file("terminate_http3_connect.yaml", &[(10001, b), (10002, origin::echo())]));
        let near_proxy = start(near, &file("encapsulate_in_http3_connect.yaml", &[(10000, a), (10001, b)]));
        let mut client = Peer::connect(a);
        let data: Vec<u8> = (0..4u32 << 20).map(|i| (i % 251) as u8).collect();
        let mut writer = Peer::from(client.0.try_clone().unwrap());
        let sent = data.clone();
        let thread = std::thread::spawn(move || writer.send(&sent));
        assert!(client.read(data.len()) == data, "{near} -> {far}: 4 MiB came back changed");
        thread.join().unwrap();
        // A second one shares the connection.
        let mut second = Peer::connect(a);
        second.send("second");
        second.expect("second");
        near_proxy.wait_stat("cluster.cluster_0.upstream_cx_http3_total", 1);
        far_proxy.wait_stat("http.ingress_http.downstream_cx_http3_total", 1);
        if (near, far) == ("adit", "adit") {
            client.send("last");
            client.fin();
            assert_eq!(client.rest(), (b"last".to_vec(), End::Fin));
        }
    }
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn websocket_over_http3() {
    for &(near, far) in CASTS {
        let (a, b) = (free_port(), free_port());
        let (origin, heads) = origin::http(SWITCH);
        let _far = start(far, &file("terminate_http3_websocket.yaml", &[(10001, b), (10002, origin)]));
        let near_proxy = start(near, &file("encapsulate_websocket_in_http3.yaml", &[(10000, a), (10001, b)]));
        let mut browser = Peer::connect(a);
        browser.send(
            "GET /chat HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let head = browser.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{near} -> {far}: {head}");
        browser.send("over three versions");
        browser.expect("over three versions");
        near_proxy.wait_stat("cluster.service.upstream_cx_http3_total", 1);
        assert!(heads.lock().unwrap()[0].starts_with("GET /chat HTTP/1.1\r\n"));
    }
}

/// From a datagram on the near side to the origin's and back: one tunnel, many datagrams, up to what a QUIC packet
/// carries.
#[test]
fn udp_in_connect_udp_over_http3() {
    for &(near, far) in CASTS {
        let who = format!("{near} -> {far}");
        let (a, b) = (free_port(), free_port());
        let far_proxy =
            start(far, &file("terminate_http3_connect_udp.yaml", &[(10001, b), (10002, origin::udp_echo())]));
        let near_proxy = start(near, &file("raw_udp_tunneling_http3.yaml", &[(10000, a), (10001, b)]));
        let (client, second) = (udp_client(a), udp_client(a));
        for number in 0..500 {
            echoes(&client, format!("datagram {number}").as_bytes(), &who);
        }
        for size in [0, 1, 63, 64, 1000, 1100] {
            echoes(&second, &vec![7; size], &who);
        }
        near_proxy.wait_stat("udp.foo.downstream_sess_active", 2);
        near_proxy.wait_stat("cluster.cluster_0.udp.sess_tunnel_success", 2);
        near_proxy.wait_stat("cluster.cluster_0.upstream_cx_http3_total", 1);
        far_proxy.wait_stat("http.ingress_http.downstream_cx_http3_total", 1);
        if far == "adit" {
            far_proxy.wait_stat("cluster.service.udp.sess_tx_datagrams", 506);
            far_proxy.wait_stat("cluster.service.udp.sess_rx_datagrams", 506);
        }
        if near == "adit" {
            near_proxy.wait_stat("cluster.cluster_0.udp.sess_rx_datagrams", 506);
        }
    }
}

/// What no QUIC packet carries goes as a capsule on the stream. (Envoy drops it.)
#[test]
fn datagrams_larger_than_a_packet_arrive() {
    let (a, b) = (free_port(), free_port());
    let far = Proxy::adit(&file("terminate_http3_connect_udp.yaml", &[(10001, b), (10002, origin::udp_echo())]));
    let _near = Proxy::adit(&file("raw_udp_tunneling_http3.yaml", &[(10000, a), (10001, b)]));
    let client = udp_client(a);
    for _ in 0..20 {
        for size in [10, 1200, 1300, 1400, 1472, 1500] {
            echoes(&client, &vec![7; size], "adit");
        }
    }
    far.wait_stat("cluster.service.udp.sess_rx_datagrams", 120);
}

/// More tunnels than a connection has streams, over several workers on both sides.
#[test]
fn many_tunnels_of_many_workers() {
    const WORKERS: &[&str] = &["--concurrency", "3"];
    let (a, b) = (free_port(), free_port());
    let far = Proxy::adit_with(
        &file("terminate_http3_connect_udp.yaml", &[(10001, b), (10002, origin::udp_echo())]),
        WORKERS,
    );
    let near = Proxy::adit_with(&file("raw_udp_tunneling_http3.yaml", &[(10000, a), (10001, b)]), WORKERS);
    let clients: Vec<_> = (0..400).map(|_| udp_client(a)).collect();
    for round in 0..5 {
        // Few at a time: no socket's buffer overflows.
        for few in clients.chunks(20) {
            for client in few {
                client.send(format!("{round} {client:?}").as_bytes()).unwrap();
            }
            for client in few {
                let mut buffer = [0; 200];
                let size = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{round} {client:?}: {error}"));
                assert_eq!(std::str::from_utf8(&buffer[..size]), Ok(&*format!("{round} {client:?}")));
            }
        }
    }
    near.wait_stat("udp.foo.downstream_sess_active", 400);
    near.wait_stat("cluster.cluster_0.udp.sess_tunnel_success", 400);
    near.wait_stat("cluster.cluster_0.udp.sess_tunnel_failure", 0);
    far.wait_stat("http.ingress_http.downstream_cx_upgrades_active", 400);
    // A connection has 100 streams.
    adit_tests::eventually("as many connections", || near.stat("cluster.cluster_0.upstream_cx_http3_total") >= 4);
}

/// Datagrams through three proxies, one after the other.
fn passed_on(whose: [&str; 3], forward: &str, terminate: &str) {
    let who = format!("{whose:?} {forward}");
    let (a, b, c) = (free_port(), free_port(), free_port());
    let far = start(whose[2], &file(terminate, &[(10001, c), (10002, origin::udp_echo())]));
    let middle = start(whose[1], &file(forward, &[(10003, b), (10001, c)]));
    let near = start(whose[0], &file("raw_udp_tunneling_http3.yaml", &[(10000, a), (10001, b)]));
    let client = udp_client(a);
    for number in 0..500 {
        echoes(&client, format!("datagram {number}").as_bytes(), &who);
    }
    for size in [0, 1, 63, 64, 1000, 1100] {
        echoes(&client, &vec![7; size], &who);
    }
    if whose[2] == "adit" {
        far.wait_stat("cluster.service.udp.sess_tx_datagrams", 506);
    }
    middle.wait_stat("http.ingress_http.downstream_cx_upgrades_active", 1);
    near.wait_stat("udp.foo.downstream_sess_active", 1);
}

const TO_HTTP3: (&str, &str) = ("proxy_connect_udp_http3.yaml", "terminate_http3_connect_udp.yaml");
const TO_HTTP2: (&str, &str) = ("proxy_connect_udp_http3_to_http2.yaml", "terminate_connect_udp_http2.yaml");

/// A proxy in between passes CONNECT-UDP on, to HTTP/3 and to HTTP/2.
#[test]
fn connect_udp_over_http3_is_passed_on() {
    for (forward, terminate) in [TO_HTTP3, TO_HTTP2] {
        passed_on(["adit"; 3], forward, terminate);
    }
}

/// The same with Envoy in each place.
#[cfg(feature = "e2e")]
#[test]
fn connect_udp_over_http3_is_passed_on_beside_envoy() {
    for (forward, terminate) in [TO_HTTP3, TO_HTTP2] {
        for place in 0..3 {
            let mut whose = ["adit"; 3];
            whose[place] = "envoy";
            passed_on(whose, forward, terminate);
        }
    }
}

/// Requests and WebSockets over HTTP/2 first, and over HTTP/3 once it was advertised.
#[test]
fn http3_is_advertised_and_learned() {
    let (a, b) = (free_port(), free_port());
    let (hello, _) = origin::http("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n");
    let far_yaml = file("http3_downstream.yaml", &[(10001, b), (10002, hello)]).replace(":10001", &format!(":{b}"));
    let far = Proxy::adit(&far_yaml);
    let near = Proxy::adit(&file("auto_http3_upstream.yaml", &[(10000, a), (10001, b)]));
    let get = || {
        let mut client = Peer::connect(a);
        client.send("GET / HTTP/1.1\r\nhost: proxy.example\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(&format!("alt-svc: h3=\":{b}\"")), "{head}");
        client.expect("hello\n");
    };
    get();
    far.wait_stat("http.tcp.downstream_rq_total", 1);
    far.wait_stat("http.quic.downstream_rq_total", 0);
    // Where HTTP/3 is slow to connect, HTTP/2 serves meanwhile.
    adit_tests::eventually("requests go over HTTP/3", || {
        get();
        far.stat("http.quic.downstream_rq_total") > 0
    });
    for version in ["http2", "http3"] {
        near.wait_stat(&format!("cluster.service.upstream_cx_{version}_total"), 1);
    }
}

/// The client names the target; what is no address has no host.
#[test]
fn connect_udp_to_any_target() {
    let (a, b) = (free_port(), free_port());
    let far = Proxy::adit(&file("terminate_http3_connect_udp_any_target.yaml", &[(10001, b)]));
    let to = |host: &str, port: u16| {
        let near = file("raw_udp_tunneling_http3.yaml", &[(10000, a), (10001, b)]);
        let near = near.replace("target_host: target.host.com", &format!("target_host: {host}"));
        let near = near.replace("default_target_port: 443", &format!("default_target_port: {port}"));
        Proxy::adit(&near)
    };
    for _ in 0..2 {
        let _near = to("127.0.0.1", origin::udp_echo());
        let client = udp_client(a);
        echoes(&client, b"to wherever it says", "adit");
    }
    let near = to("name.example", 53);
    udp_client(a).send(b"lost").unwrap();
    near.wait_stat("cluster.cluster_0.udp.sess_tunnel_success", 0);
    far.wait_stat("cluster.service.original_dst_host_invalid", 2);
}
