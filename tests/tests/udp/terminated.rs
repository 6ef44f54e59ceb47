//! Requests for CONNECT-UDP: terminated and forwarded.

use std::net::UdpSocket;
use std::time::Duration;

use adit_tests::config::{cluster, hcm, listener as stream_listener, resources};
use adit_tests::peer::{End, Peer};
use adit_tests::{PATIENCE, Proxy, free_port};

use crate::{ACCEPTED, Far, echo, terminator};

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
