//! Connections opened and dropped in every state leave nothing behind.

use std::net::TcpListener;
use std::thread;

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, tcp_proxy, terminate};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin};

use crate::build::{hop, inner, internal_upstream, set_state, whole};

/// Connections of each state.
const ROUNDS: usize = 1000;
/// Connections at once.
const WIDTH: usize = 50;
const TUNNEL: &str = "tunneling_config: { hostname: 'host.com:443' }\n";
/// Ended connections wait up to a second for their last bytes to be taken.
const MANY: &str = "circuit_breakers: { thresholds: [{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }] }\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// What a client does before it goes.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing.
    Connected,
    /// Bytes are on their way, and not read.
    Sending,
    /// It has seen its own bytes again.
    Echoed,
    /// It ended its direction.
    HalfClosed,
    /// It leaves with a reset.
    Reset,
}

const STATES: [State; 5] = [State::Connected, State::Sending, State::Echoed, State::HalfClosed, State::Reset];

fn run(state: State, front: u16, opening: &str, answers: bool) {
    let mut client = Peer::connect(front);
    client.send(opening);
    match state {
        State::Connected => {}
        State::Sending => client.send([1; 20_000]),
        State::Echoed | State::HalfClosed if !answers => {}
        State::Echoed | State::HalfClosed => {
            if !opening.is_empty() {
                let head = client.head();
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            }
            client.send("echo");
            client.expect("echo");
            if matches!(state, State::HalfClosed) {
                client.fin();
                client.rest();
            }
        }
        State::Reset => client.rst(),
    }
}

/// Runs every state, `ROUNDS` times each, several at once.
fn storm(front: u16, opening: &'static str, answers: bool) {
    for state in STATES {
        for _ in 0..ROUNDS / WIDTH {
            let threads: Vec<_> =
                (0..WIDTH).map(|_| thread::spawn(move || run(state, front, opening, answers))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }
}

/// Every gauge of connections and requests is zero.
fn empty(adit: &Proxy) {
    adit_tests::eventually("every gauge is zero", || {
        let text = adit.admin("/stats?filter=(cx|rq|upgrades|pre_cx|pending)_active$");
        text.lines()
            .all(|line| line.ends_with(": 0") || line.starts_with("http.admin") || line.starts_with("listener.admin"))
    });
}

/// Twice the same, so that what the allocator keeps is there before the second. What is free goes back to the kernel within
/// seconds.
fn flat(adit: &Proxy, storms: impl Fn()) {
    let round = || {
        storms();
        empty(adit);
    };
    round();
    let looks = (0..24).map(|_| {
        thread::sleep(std::time::Duration::from_millis(500));
        adit.rss_kib()
    });
    let before = looks.min().unwrap();
    round();
    // 10,000 connections that each left a task or what is known of a connection would be more.
    adit_tests::eventually("memory is as it was", || adit.rss_kib() <= before + 4096);
}

#[test]
fn ten_thousand_connections_in_every_state_leave_nothing() {
    let (raw, connect) = (free_port(), free_port());
    let state = set_state(&[("test.client", "%DOWNSTREAM_REMOTE_ADDRESS%", "TRANSITIVE")]);
    let pass = format!("{MANY}{}", internal_upstream("[]"));
    let adit = Proxy::adit(&whole(
        &[
            listener("raw", raw, &format!("{state}{}", tcp_proxy("a", ""))),
            listener("connect", connect, &hcm("connect", &terminate("a"), "")),
            inner("a", &tcp_proxy("b", "")),
            inner("b", &tcp_proxy("c", "")),
        ],
        &[hop("a", "a", &pass), hop("b", "b", &pass), cluster("c", origin::echo(), MANY)],
    ));
    flat(&adit, || {
        storm(raw, "", true);
        storm(connect, "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", true);
    });
    adit.wait_stat("listener.envoy_internal_a.downstream_cx_total", 4 * 5 * ROUNDS as u64);
}

/// A far proxy that never answers, one that refuses, and none at all.
#[test]
fn tunnels_that_never_open_leave_nothing() {
    let (silent, at) = origin::listen();
    thread::spawn(move || swallow(&silent));
    let (refuses, _) = origin::http("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    for far in [at, refuses, free_port()] {
        let (raw, get) = (free_port(), free_port());
        let adit = Proxy::adit(&whole(
            &[
                listener("raw", raw, &tcp_proxy("a", "")),
                listener("get", get, &hcm("get", &prefix("b"), "")),
                inner("a", &tcp_proxy("b", "")),
                inner("b", &tcp_proxy("far", TUNNEL)),
            ],
            &[hop("a", "a", ""), hop("b", "b", HTTP2), cluster("far", far, "")],
        ));
        let storms = || {
            for (front, opening) in [(raw, ""), (get, GET)] {
                for _ in 0..4 {
                    let threads: Vec<_> = (0..WIDTH)
                        .map(|i| {
                            thread::spawn(move || {
                                // Where the far end refuses, a client's bytes may meet a reset.
                                let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", front)) else { return };
                                use std::io::Write as _;
                                let _ = socket.write_all(opening.as_bytes());
                                if i % 2 == 0 {
                                    thread::sleep(std::time::Duration::from_millis(20));
                                }
                                let _ = socket2::SockRef::from(&socket)
                                    .set_linger((i % 3 == 0).then_some(std::time::Duration::ZERO));
                            })
                        })
                        .collect();
                    threads.into_iter().for_each(|thread| thread.join().unwrap());
                }
            }
        };
        storms();
        storms();
        let names = [
            "cluster.a.upstream_cx_active",
            "listener.envoy_internal_a.downstream_cx_active",
            "cluster.a.upstream_rq_pending_active",
            "cluster.b.upstream_rq_active",
            "listener.get.downstream_cx_active",
        ];
        for name in names {
            if !name.starts_with("listener.get") {
                adit.wait_stat(name, 0);
            }
        }
    }
}

fn swallow(listener: &TcpListener) {
    use std::io::Read as _;
    for mut socket in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut block = [0; 4096];
            while matches!(socket.read(&mut block), Ok(n) if n > 0) {}
        });
    }
}
