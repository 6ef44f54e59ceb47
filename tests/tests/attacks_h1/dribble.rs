//! Peers that send a byte now and then: a timer of the configuration ends each, whatever trickles in meanwhile, and nobody
//! else waits for them.

use std::io::Write;
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, listener, listener_with, prefix, resources, tcp_proxy};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, free_port, origin};

/// Between two bytes.
const PAUSE: Duration = Duration::from_millis(50);
/// A timer of 1 s has run out by then, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(40);

/// Sends these bytes one by one, over and over, until the other side has had enough.
fn dribble(socket: &TcpStream, bytes: &'static [u8]) -> JoinHandle<()> {
    let mut socket = socket.try_clone().unwrap();
    std::thread::spawn(move || {
        let end = Instant::now() + SOON;
        for byte in bytes.iter().cycle() {
            if Instant::now() > end || socket.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    })
}

/// What came until the end, which was soon.
#[track_caller]
fn ended(client: &mut Peer, start: Instant) -> (String, End) {
    let (data, end) = client.rest();
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
    (String::from_utf8_lossy(&data).into_owned(), end)
}

fn ok(port: u16) {
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
}

/// Request bodies: a byte at a time, as chunks of one byte, as a chunk size that goes on, as trailers.
#[test]
fn request_bodies() {
    let (upstream, _) = origin::http("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let port = free_port();
    let buffer = "          http_filters:\n          - name: b\n            typed_config: { \"@type\": \
                  type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 4096 }\n";
    let filter = hcm("h", &prefix("c"), "request_timeout: 1s\n").replace("          http_filters:\n", buffer);
    let adit = Proxy::adit(&resources(&[listener("l", port, &filter)], &[cluster("c", upstream, "")]));
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let cases: [(&str, &[u8]); 4] = [
        ("content-length: 4000\r\n\r\n", b"x"),
        (chunked, b"1\r\nx\r\n"),
        (&format!("{chunked}1;ext="), b"x"),
        (&format!("{chunked}0\r\n"), b"x-trailer: y\r\n"),
    ];
    for (fields, bytes) in cases {
        let mut client = Peer::connect(port);
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}"));
        let start = Instant::now();
        let thread = dribble(&client.0, bytes);
        ok(port);
        let (text, _) = ended(&mut client, start);
        assert!(text.starts_with("HTTP/1.1 408 "), "{fields:?}: {text:?}");
        thread.join().unwrap();
    }
    adit.wait_stat("http.h.downstream_cx_active", 0);
    adit.wait_stat("http.h.downstream_rq_timeout", 4);
    adit.wait_stat("cluster.c.upstream_rq_total", 4);
}

/// Answers whose head or body trickles: the route's timeout is for the whole answer.
#[test]
fn responses() {
    for (first, bytes, status) in [
        ("", &b"HTTP/1.1 200 OK\r\nx-a: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..], "504"),
        ("", &b"HTTP/1.1 102 Processing\r\n\r\n"[..], "504"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n", &b"x"[..], "200"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &b"1\r\nx\r\n"[..], "200"),
    ] {
        let upstream = origin::serve(move |socket| {
            let mut peer = Peer::from(socket);
            if peer.head().contains("/ok") {
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                return;
            }
            peer.send(first);
            let _ = dribble(&peer.0, bytes).join();
        });
        let port = free_port();
        let route = "- match: { prefix: / }\n  route: { cluster: c, timeout: 2s }\n";
        let adit = Proxy::adit(&resources(&[listener("l", port, &hcm("h", route, ""))], &[cluster("c", upstream, "")]));
        let mut client = Peer::connect(port);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let start = Instant::now();
        let mut neighbour = Peer::connect(port);
        neighbour.send("GET /ok HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(neighbour.head().starts_with("HTTP/1.1 200 "));
        drop(neighbour);
        let text = if status == "504" {
            let mut head = client.head();
            // Behind 102s, which pass.
            while head.starts_with("HTTP/1.1 102 ") {
                head = client.head();
            }
            drop(client);
            head
        } else {
            let (text, end) = ended(&mut client, start);
            assert_eq!(end, End::Reset, "an answer that is cut must not look complete: {text:?}");
            text
        };
        assert!(start.elapsed() < SOON, "{first:?}: after {:?}", start.elapsed());
        assert!(text.get(9..12) == Some(status), "{first:?}: {text:?}");
        adit.wait_stat("cluster.c.upstream_rq_active", 0);
        adit.wait_stat("cluster.c.upstream_rq_timeout", 1);
        adit.wait_stat("http.h.downstream_cx_active", 0);
    }
}

/// What listener filters wait for: a PROXY header, a ClientHello, the first line of HTTP. And the handshake behind them.
#[test]
fn what_comes_before_the_filter_chain() {
    let certs = Certs::new();
    let filter = |name: &str, message: &str| {
        format!(
            "    listener_filters_timeout: 1s\n    listener_filters: [{{ name: f, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{message} }} }}]\n    filter_chains:\n"
        )
    };
    let hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let v2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02\x04\xff\xf0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let cases: [(&str, &str, &'static [u8]); 4] = [
        (
            "proxy_protocol",
            "ProxyProtocol",
            b"PROXY TCP4 127.0.0.1 127.0.0.1 1111111111111111111111111111111111111111111",
        ),
        ("proxy_protocol", "ProxyProtocol", v2),
        ("tls_inspector", "TlsInspector", hello),
        (
            "http_inspector",
            "HttpInspector",
            b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
    ];
    let echo = origin::echo();
    for (name, message, bytes) in cases {
        let (port, fine) = (free_port(), free_port());
        let slow = listener("slow", port, &tcp_proxy("c", "")).replace("    filter_chains:\n", &filter(name, message));
        let adit =
            Proxy::adit(&resources(&[slow, listener("fine", fine, &tcp_proxy("c", ""))], &[cluster("c", echo, "")]));
        let mut client = Peer::connect(port);
        let start = Instant::now();
        let thread = dribble(&client.0, bytes);
        let mut neighbour = Peer::connect(fine);
        neighbour.send("x");
        neighbour.expect("x");
        let (text, _) = ended(&mut client, start);
        assert_eq!(text, "", "{name}");
        thread.join().unwrap();
        adit.wait_stat(&format!("listener.127.0.0.1_{port}.downstream_pre_cx_active"), 0);
        adit.wait_stat(&format!("listener.127.0.0.1_{port}.downstream_pre_cx_timeout"), 1);
        adit.wait_stat("cluster.c.upstream_cx_total", 1);
    }

    let port = free_port();
    let timeout = format!("transport_socket_connect_timeout: 1s\n{}", certs.downstream("http/1.1", ""));
    let adit =
        Proxy::adit(&resources(&[listener_with("l", port, &tcp_proxy("c", ""), &timeout)], &[cluster("c", echo, "")]));
    let mut client = Peer::connect(port);
    let start = Instant::now();
    let thread = dribble(&client.0, hello);
    ended(&mut client, start);
    thread.join().unwrap();
    adit.wait_stat(&format!("listener.127.0.0.1_{port}.downstream_cx_transport_socket_connect_timeout"), 1);
    adit.wait_stat(&format!("listener.127.0.0.1_{port}.downstream_cx_active"), 0);
}

/// A tunnel's bytes keep it for as long as they come: nothing but its own timers ends it.
#[test]
fn tunnels() {
    let port = free_port();
    let adit = Proxy::adit(&resources(
        &[listener("l", port, &tcp_proxy("c", "idle_timeout: 2s\nmax_downstream_connection_duration: 4s\n"))],
        &[cluster("c", origin::echo(), "")],
    ));
    let start = Instant::now();
    let mut client = Peer::connect(port);
    let thread = dribble(&client.0, b"x");
    let (text, _) = ended(&mut client, start);
    assert!(start.elapsed() > Duration::from_millis(3500), "{:?}", start.elapsed());
    assert!(text.len() > 10, "{}", text.len());
    thread.join().unwrap();
    adit.wait_stat("tcp.c.max_downstream_connection_duration", 1);
    assert_eq!(adit.stat("tcp.c.idle_timeout"), 0);
}
