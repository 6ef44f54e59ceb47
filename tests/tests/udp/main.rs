//! UDP: proxied as it is, tunnelled in CONNECT-UDP, terminated and forwarded.

mod examples;
mod proxied;
mod terminated;
mod tunnelled;

use std::net::UdpSocket;
use std::time::Duration;

use adit_tests::config::{cluster, hcm, listener as stream_listener, resources};
use adit_tests::peer::Peer;
use adit_tests::{PATIENCE, Proxy, free_port, origin};

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

/// Two sessions with an echo behind them: 3 datagrams with 8003 bytes in the first, 1 with 3 in the second.
fn two_sessions(port: u16) -> (Client, Client) {
    let (a, b) = (Client::connect(port), Client::connect(port));
    a.send("one");
    a.expect("echo:one");
    b.send("two");
    b.expect("echo:two");
    a.send("");
    a.expect("echo:");
    a.send(vec![b'x'; 8000]);
    assert_eq!(a.recv().len(), 8005);
    (a, b)
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

/// A route that terminates CONNECT-UDP.
const TERMINATE: &str = "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT-UDP, connect_config: {} }] }\n";

const HTTP2_CONNECT: &str = "http2_protocol_options: { allow_connect: true }\n";

fn terminator(origin: u16, more: &str) -> (Proxy, u16) {
    let port = free_port();
    let yaml = resources(&[stream_listener("t", port, &hcm("t", TERMINATE, more))], &[cluster("c", origin, "")]);
    (Proxy::adit(&yaml), port)
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
