//! UDP: proxied as it is, tunnelled in CONNECT-UDP, terminated and forwarded.

use std::net::UdpSocket;
use std::time::Duration;

use adit_tests::config::{cluster, resources};
use adit_tests::{PATIENCE, Proxy, eventually, free_port};

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
               idle_timeout: 1s\n";
    let adit = Proxy::adit(&resources(&[listener(port, log)], &[cluster("c", origin, "")]));
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
        assert_eq!(adit.stat(name), value, "{name}");
    }
    adit.wait_stat("udp.p.downstream_sess_active", 0);
    adit.wait_stat("udp.p.idle_timeout", 2);
    adit.wait_stat("cluster.c.upstream_cx_active", 0);
    a.send("again");
    a.expect("echo:again");
    assert_eq!(adit.stat("udp.p.downstream_sess_total"), 3);
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
    client.send("somebody");
    let mut buffer = [0; 100];
    let (size, from) = origin.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"somebody");
    origin.send_to(b"yes", from).unwrap();
    client.expect("yes");
    assert_eq!(adit.stat("udp.p.downstream_sess_total"), 1);
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
    assert_eq!(adit.stat("cluster.c.upstream_cx_overflow"), 1);
    assert_eq!(adit.stat("udp.p.downstream_sess_active"), 1);
    drop(adit);
    let adit = Proxy::adit(&resources(&[listener(port, "")], &[cluster("other", origin, "")]));
    a.send("one");
    adit.wait_stat("udp.p.downstream_sess_no_route", 1);
}

#[test]
fn a_stopped_listener_keeps_its_sessions() {
    let (port, origin) = (free_port(), echo());
    let adit = Proxy::adit(&resources(&[listener(port, "")], &[cluster("c", origin, "")]));
    let (a, b) = (Client::connect(port), Client::connect(port));
    a.send("one");
    a.expect("echo:one");
    adit.admin_post("/drain_listeners");
    eventually("it stopped", || {
        b.send("new");
        adit.stat("udp.p.downstream_sess_rx_errors") > 0
    });
    a.send("two");
    a.expect("echo:two");
}
