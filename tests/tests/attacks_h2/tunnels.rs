//! The tunnel phase: resets, half-closes and drains in each state of a tunnel, and more bytes than 32 bits can count.

use std::net::TcpListener;
use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, hcm, listener, resources, terminate, upgrades};
use adit_tests::frames::*;
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, free_port, origin};

/// adit between raw frames on both sides: WebSockets and CONNECT are passed on over HTTP/2.
struct Between {
    adit: Proxy,
    port: u16,
    upstream: TcpListener,
}

const ROUTES: &str = "- match: { connect_matcher: {} }\n  route: { cluster: c, timeout: 0s }\n- match: { prefix: / }\n  route: { cluster: c, timeout: 0s }\n";
const WEBSOCKET: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a.example"),
    (":path", "/"),
    ("sec-websocket-version", "13"),
];

impl Between {
    fn new() -> Self {
        let (upstream, at) = origin::listen();
        let port = free_port();
        let more =
            format!("{}http2_protocol_options: {{ allow_connect: true }}\n", upgrades(&["websocket", "CONNECT"]));
        let once = HTTP2.replace(
            "    explicit_http_config",
            "    common_http_protocol_options: { max_requests_per_connection: 1 }\n    explicit_http_config",
        );
        let adit =
            Proxy::adit(&resources(&[listener("l", port, &hcm("h", ROUTES, &more))], &[cluster("c", at, &once)]));
        Self { adit, port, upstream }
    }

    fn accept(&self) -> (H2, u32) {
        let mut server = H2::accept(Peer::accept(&self.upstream).0, &[(8, 1)]);
        loop {
            let frame = server.next().expect("a request");
            if frame.kind == HEADERS {
                return (server, frame.stream);
            }
        }
    }

    fn nothing_left(&self) {
        for gauge in
            ["http.h.downstream_rq_active", "http.h.downstream_cx_upgrades_active", "cluster.c.upstream_rq_active"]
        {
            self.adit.wait_stat(gauge, 0);
        }
    }
}

fn accepted(server: &mut H2, stream: u32) {
    server.send(headers(stream, &[(":status", "200")], false));
}

/// A stream's payload up to its end or reset.
#[track_caller]
fn rest(conn: &mut H2, stream: u32) -> (Vec<u8>, Option<u32>) {
    let mut got = Vec::new();
    loop {
        let frame = conn.next().expect("the connection stays");
        if frame.stream != stream {
            continue;
        }
        match frame.kind {
            DATA => got.extend(&frame.payload),
            RST_STREAM => return (got, Some(frame.code())),
            _ => {}
        }
        if frame.ends() {
            return (got, None);
        }
    }
}

#[test]
fn a_reset_in_each_state() {
    let lab = Between::new();
    for fields in [CONNECT, WEBSOCKET] {
        // By the client, while the upstream has not answered.
        let mut client = H2::connect(lab.port);
        client.send(headers(1, fields, false));
        let (mut server, stream) = lab.accept();
        client.send(data(1, b"early", false));
        client.send(reset(1, 8));
        let (early, code) = rest(&mut server, stream);
        assert!(early.is_empty() && code.is_some(), "nothing goes ahead of the acceptance: {early:?} {code:?}");
        // An acceptance that comes too late is nobody's.
        server.try_send(headers(stream, &[(":status", "200")], false));
        lab.nothing_left();

        // By the upstream, before its answer: not a tunnel, and an answer of ours.
        client.send(headers(3, fields, false));
        let (mut server, stream) = lab.accept();
        server.send(reset(stream, 2));
        assert_eq!(client.outcome(3), Outcome::Status(503));
        lab.nothing_left();

        // By the upstream, right behind its answer; then behind payload.
        for payload in [&b""[..], b"payload"] {
            client.send(headers(5 + payload.len() as u32 * 2, fields, false));
            let id = 5 + payload.len() as u32 * 2;
            let (mut server, stream) = lab.accept();
            accepted(&mut server, stream);
            if !payload.is_empty() {
                server.send(data(stream, payload, false));
                assert_eq!(client.expect(DATA, id).payload, payload);
            }
            server.send(reset(stream, 11));
            let (got, code) = rest(&mut client, id);
            assert!(got.is_empty());
            // A head that a reset overtakes may be answered by us.
            assert!(matches!(code, Some(11) | None), "{code:?}");
            lab.nothing_left();
        }

        // By either side, when one direction is over.
        for by_client in [true, false] {
            let mut client = H2::connect(lab.port);
            client.send(headers(1, fields, false));
            let (mut server, stream) = lab.accept();
            accepted(&mut server, stream);
            assert_eq!(client.outcome(1), Outcome::Status(200));
            client.send(data(1, b"last", true));
            assert_eq!(rest(&mut server, stream), (b"last".to_vec(), None));
            if by_client {
                client.send(reset(1, 5));
                assert_eq!(rest(&mut server, stream), (vec![], Some(5)));
            } else {
                server.send(reset(stream, 5));
                assert_eq!(rest(&mut client, 1), (vec![], Some(5)));
            }
            lab.nothing_left();
        }
    }
}

/// Half-closed tunnels in both orders; DATA behind END_STREAM costs no more than the connection of who sent it.
#[test]
fn a_fin_and_then_data() {
    let lab = Between::new();
    let mut client = H2::connect(lab.port);
    client.send(headers(1, CONNECT, false));
    let (mut server, stream) = lab.accept();
    accepted(&mut server, stream);
    assert_eq!(client.outcome(1), Outcome::Status(200));
    client.send(data(1, b"", true));
    client.send(data(1, b"more", false));
    let outcome = client.outcome(1);
    assert!(matches!(outcome, Outcome::Reset(5) | Outcome::GoAway(5 | 1)), "{outcome:?}");
    let (got, _) = rest(&mut server, stream);
    assert!(got.is_empty());
    lab.nothing_left();
}

/// A drain while a tunnel is asked for, while it is open and while it is half-closed: GOAWAY, and nothing is cut.
#[test]
fn a_drain_in_each_state() {
    let lab = Between::new();
    let mut client = H2::connect(lab.port);
    client.send(headers(1, CONNECT, false));
    let (mut one, first) = lab.accept();
    accepted(&mut one, first);
    assert_eq!(client.outcome(1), Outcome::Status(200));
    client.send(headers(3, WEBSOCKET, false));
    let (mut two, second) = lab.accept();
    accepted(&mut two, second);
    assert_eq!(client.outcome(3), Outcome::Status(200));
    client.send(data(3, b"", true));
    client.send(headers(5, WEBSOCKET, false));
    let (mut three, third) = lab.accept();
    lab.adit.admin_post("/healthcheck/fail");
    lab.adit.admin_post("/drain_listeners?graceful&skip_exit");
    std::thread::sleep(Duration::from_millis(200));
    accepted(&mut three, third);
    let mut goaway = false;
    let mut open = false;
    while !open {
        let frame = client.next().expect("the connection stays");
        goaway |= frame.kind == GOAWAY && frame.code() == 0;
        open = frame.kind == HEADERS && frame.stream == 5 && frame.status() == Some(200);
    }
    for (id, server, stream) in [(1, &mut one, first), (5, &mut three, third)] {
        client.send(data(id, b"ping", false));
        loop {
            let frame = server.next().expect("the upstream's connection stays");
            if frame.kind == DATA && frame.stream == stream && !frame.payload.is_empty() {
                assert_eq!(frame.payload, b"ping");
                break;
            }
        }
        server.send(data(stream, b"pong", true));
        client.send(data(id, b"", true));
    }
    two.send(data(second, b"answer", true));
    let (mut pongs, mut answer) = (0, false);
    while pongs < 2 || !answer {
        match client.next() {
            Some(frame) if frame.kind == DATA => {
                pongs += usize::from(frame.payload == b"pong");
                answer |= frame.payload == b"answer";
            }
            Some(frame) => {
                goaway |= frame.kind == GOAWAY && frame.code() == 0;
                assert_ne!(frame.kind, RST_STREAM, "a drain resets nothing");
            }
            None => panic!("a drain cuts nothing"),
        }
    }
    assert!(goaway || client.end().is_none(), "the client is told");
    lab.nothing_left();
}

/// A byte at a time, both ways at once.
#[test]
fn a_dribble() {
    let lab = Between::new();
    let mut client = H2::connect(lab.port);
    client.send(headers(1, CONNECT, false));
    let (mut server, stream) = lab.accept();
    accepted(&mut server, stream);
    assert_eq!(client.outcome(1), Outcome::Status(200));
    for _ in 0..50 {
        client.send(data(1, b"x", false).repeat(20));
        server.send(data(stream, b"y", false).repeat(20));
        for (conn, id, byte) in [(&mut server, stream, b'x'), (&mut client, 1, b'y')] {
            let mut got = 0;
            while got < 20 {
                let payload = conn.expect(DATA, id).payload;
                assert!(payload.iter().all(|got| *got == byte));
                got += payload.len();
            }
        }
    }
    drop(client);
    lab.nothing_left();
}

/// More than 4 GiB one way through two hops: no counter or window overflows, nothing is lost.
#[test]
fn more_than_four_gibibytes_one_way() {
    use std::io::{Read, Write};
    const SIZE: u64 = (4 << 30) + (64 << 20);
    let (upstream, at) = origin::listen();
    let (middle, front) = (free_port(), free_port());
    let far =
        Proxy::adit(&resources(&[listener("far", middle, &hcm("far", &terminate("c"), ""))], &[cluster("c", at, "")]));
    let tunnel = adit_tests::config::tcp_proxy("c", "tunneling_config: { hostname: 'host.com:443' }\n");
    let _near = Proxy::adit(&resources(&[listener("near", front, &tunnel)], &[cluster("c", middle, HTTP2)]));
    let mut client = Peer::connect(front);
    client.send("x");
    let mut server = Peer::accept(&upstream);
    server.expect("x");
    let writer = std::thread::spawn(move || {
        let block: Vec<u8> = (0..1u32 << 20).map(|i| (i % 251) as u8).collect();
        for _ in 0..SIZE >> 20 {
            client.0.write_all(&block).expect("send");
        }
        client.fin();
        client
    });
    let (mut got, mut block) = (0u64, vec![0; 1 << 20]);
    loop {
        let n = server.0.read(&mut block).expect("read");
        if n == 0 {
            break;
        }
        // The first byte of each read stands for the rest.
        assert_eq!(u64::from(block[0]), (got & 0xf_ffff) % 251, "at {got}");
        got += n as u64;
    }
    assert_eq!(got, SIZE);
    server.fin();
    assert_eq!(writer.join().unwrap().rest(), (vec![], End::Fin));
    far.wait_stat("cluster.c.upstream_cx_rx_bytes_total", 0);
    assert!(far.stat("cluster.c.upstream_cx_tx_bytes_total") > SIZE);
}
