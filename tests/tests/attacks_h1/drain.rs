//! Draining, in each state that a tunnel can be in: what has begun is finished, to the last byte, and nothing new begins
//! once the listeners are closed.

use std::net::TcpListener;
use std::time::Duration;

use adit_tests::config::{cluster, hcm, listener, resources, tcp_proxy, terminate, upgrades};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, eventually, free_port, listens, origin};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const CONNECT: &str = "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n";

/// A TCP proxy, and a connection manager for upgrades and terminated CONNECTs, before an upstream in the test's hands.
struct Lab {
    adit: Proxy,
    tcp: u16,
    http: u16,
    upstream: TcpListener,
}

/// A tunnel, or what will be one.
struct Pair {
    name: &'static str,
    client: Peer,
    server: Option<Peer>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// The client has connected and said nothing.
    Silent,
    /// Half of the request's head was sent.
    HalfHead,
    /// The upstream has the request and has not answered.
    Waiting,
    Open,
    ClientEnded,
    ServerEnded,
}

impl Lab {
    fn new() -> Self {
        let (upstream, at) = origin::listen();
        let (tcp, http) = (free_port(), free_port());
        let routes = terminate("c") + "- match: { prefix: / }\n  route: { cluster: c, timeout: 0s }\n";
        let yaml = resources(
            &[
                listener("tcp", tcp, &tcp_proxy("c", "")),
                listener("http", http, &hcm("h", &routes, &upgrades(&["websocket"]))),
            ],
            &[cluster("c", at, "")],
        );
        let args = ["--drain-time-s", "1", "--drain-strategy", "immediate"];
        Self { adit: Proxy::adit_with(&yaml, &args), tcp, http, upstream }
    }

    fn pair(&self, name: &'static str, state: State) -> Pair {
        let mut client = Peer::connect(if name == "tcp" { self.tcp } else { self.http });
        let request = match name {
            "tcp" => "",
            "connect" => CONNECT,
            _ => UPGRADE,
        };
        let mut server = None;
        match state {
            State::Silent => {}
            State::HalfHead => client.send(&request[..request.len() / 2]),
            _ => {
                client.send(request);
                let mut up = Peer::accept(&self.upstream);
                if name == "upgrade" {
                    assert!(up.head().starts_with("GET /chat "));
                }
                if state != State::Waiting {
                    opened(name, &mut client, &mut up);
                }
                server = Some(up);
            }
        }
        if let Some(server) = &mut server {
            match state {
                State::ClientEnded => {
                    client.fin();
                    assert_eq!(server.rest(), (vec![], End::Fin));
                }
                State::ServerEnded => {
                    server.fin();
                    assert_eq!(client.rest(), (vec![], End::Fin));
                }
                _ => {}
            }
        }
        Pair { name, client, server, state }
    }

    /// What it began with goes on to its end.
    #[track_caller]
    fn finish(&self, pair: Pair) {
        let Pair { name, mut client, server, state } = pair;
        let shown = format!("{name} {state:?}");
        let mut server = server.unwrap_or_else(|| {
            let request = if name == "connect" { CONNECT } else { UPGRADE };
            client.send(if state == State::HalfHead { &request[request.len() / 2..] } else { request });
            let mut up = Peer::accept(&self.upstream);
            if name == "upgrade" {
                assert!(up.head().starts_with("GET /chat "), "{shown}");
            }
            opened(name, &mut client, &mut up);
            up
        });
        if state == State::Waiting {
            opened(name, &mut client, &mut server);
        }
        let block = vec![7; 300_000];
        if state != State::ClientEnded {
            client.send(&block);
            client.fin();
            assert_eq!(server.rest(), (block.clone(), End::Fin), "{shown}");
        }
        if state != State::ServerEnded {
            server.send(&block);
            server.fin();
            assert_eq!(client.rest(), (block, End::Fin), "{shown}");
        }
    }
}

/// The tunnel stands, and bytes pass.
#[track_caller]
fn opened(name: &str, client: &mut Peer, server: &mut Peer) {
    match name {
        "connect" => assert!(client.head().starts_with("HTTP/1.1 200 ")),
        "upgrade" => {
            server.send(SWITCH);
            assert!(client.head().starts_with("HTTP/1.1 101 "));
        }
        _ => {}
    }
    client.send("up");
    server.expect("up");
    server.send("down");
    client.expect("down");
}

const STATES: [(&str, State); 13] = [
    ("tcp", State::Open),
    ("tcp", State::ClientEnded),
    ("tcp", State::ServerEnded),
    ("connect", State::Silent),
    ("connect", State::HalfHead),
    ("connect", State::Open),
    ("connect", State::ClientEnded),
    ("connect", State::ServerEnded),
    ("upgrade", State::Silent),
    ("upgrade", State::HalfHead),
    ("upgrade", State::Waiting),
    ("upgrade", State::Open),
    ("upgrade", State::ClientEnded),
];

fn drained(how: &str) {
    let lab = Lab::new();
    let pairs: Vec<Pair> = STATES.iter().map(|(name, state)| lab.pair(name, *state)).collect();
    assert_eq!(lab.adit.admin_post(how), "OK\n");
    // A connection to see whether they listen would be one more for the upstream.
    lab.adit.wait_stat("listener_manager.total_listeners_active", 0);
    for port in [lab.tcp, lab.http] {
        eventually("nobody listens", || !listens(port));
    }
    // Were anything to be cut, it would be by now.
    std::thread::sleep(Duration::from_millis(300));
    for pair in pairs {
        lab.finish(pair);
    }
    lab.adit.wait_stat("http.h.downstream_cx_active", 0);
    lab.adit.wait_stat("http.h.downstream_cx_upgrades_active", 0);
    lab.adit.wait_stat("cluster.c.upstream_cx_active", 0);
}

#[test]
fn listeners_that_drain_at_once() {
    drained("/drain_listeners");
}

#[test]
fn listeners_that_drain_gracefully() {
    drained("/drain_listeners?graceful");
}

/// A failed health check drains too, and ends nothing that has begun; the listeners go on.
#[test]
fn a_failed_health_check() {
    let lab = Lab::new();
    let pairs: Vec<Pair> = STATES.iter().map(|(name, state)| lab.pair(name, *state)).collect();
    assert_eq!(lab.adit.admin_post("/healthcheck/fail"), "OK\n");
    std::thread::sleep(Duration::from_millis(300));
    for pair in pairs {
        lab.finish(pair);
    }
    let another = lab.pair("upgrade", State::Open);
    lab.finish(another);
}

/// The end of the process is an end for both sides, in every state.
#[test]
fn the_end_of_the_process() {
    for signal in ["TERM", "INT"] {
        let mut lab = Lab::new();
        let pairs: Vec<Pair> = STATES.iter().map(|(name, state)| lab.pair(name, *state)).collect();
        lab.adit.signal(signal);
        assert_eq!(lab.adit.wait(), Some(0));
        for Pair { name, mut client, server, state } in pairs {
            let (data, end) = client.rest();
            let text = String::from_utf8_lossy(&data).into_owned();
            // A request that waits for its answer may be told so; a tunnel's bytes are the peers' own.
            assert!(data.is_empty() || state == State::Waiting, "{name} {state:?}: {text:?}");
            if matches!(state, State::Open | State::ServerEnded) {
                assert_eq!(end, End::Fin, "{name} {state:?}");
            }
            if let Some(mut server) = server {
                server.rest();
            }
        }
    }
}
