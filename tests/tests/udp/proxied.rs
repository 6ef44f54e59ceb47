//! Datagrams that go on as they came.

use std::net::UdpSocket;
use std::time::Duration;

use adit_tests::config::{cluster, resources};
use adit_tests::{PATIENCE, Proxy, eventually, free_port};

use crate::{Client, FLUSH, echo, listener, two_sessions};

#[test]
fn datagrams_are_proxied_and_counted() {
    let (port, origin) = (free_port(), echo());
    let log = "access_log:\n- name: log\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    \
               log_format: { text_format_source: { inline_string: \"udp %ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %DYNAMIC_METADATA(udp.proxy.session:datagrams_sent)% %BYTES_RECEIVED%\\n\" } }\n\
               idle_timeout: 6s\n";
    let adit = Proxy::adit_with(&resources(&[listener(port, log)], &[cluster("c", origin, "")]), FLUSH);
    let (a, _b) = two_sessions(port);
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
