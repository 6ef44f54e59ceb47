//! One adit with one worker before origins, and a neighbour that measures how long it is kept waiting.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adit_tests::config::{cluster, hcm, listener, resources, upgrades};
use adit_tests::frames::H2;
use adit_tests::origin::Heads;
use adit_tests::peer::Peer;
use adit_tests::{Proxy, eventually, free_port, origin};

/// No exchange of a neighbour may take longer, on a loaded machine and with a debug build.
pub const BOUND: Duration = Duration::from_secs(25);

/// CONNECT and WebSockets are let through; `/big` never ends, `/silent` is never answered, all else is `ok`.
pub struct Lab {
    pub adit: Proxy,
    pub port: u16,
    /// Heads that the plain origin received.
    pub heads: Heads,
}

const ROUTES: &str = "\
- match: { connect_matcher: {}, headers: [{ name: ':authority', string_match: { prefix: source } }] }
  route: { cluster: source, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- match: { connect_matcher: {} }
  route: { cluster: echo, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- match: { path: /big }
  route: { cluster: source_http, timeout: 0s }
- match: { path: /silent }
  route: { cluster: silent, timeout: 0s }
- match: { prefix: / }
  route: { cluster: ok }
";

impl Lab {
    pub fn new() -> Self {
        let (ok, heads) = origin::http("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let source = origin::serve(|socket| pour(socket, b""));
        let source_http = origin::serve(|mut socket| {
            let _ = socket.read(&mut [0; 4096]);
            pour(socket, b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n");
        });
        let silent = origin::serve(|mut socket| while matches!(socket.read(&mut [0; 4096]), Ok(1..)) {});
        let port = free_port();
        let limits = "circuit_breakers: { thresholds: [{ max_connections: 5000, max_requests: 5000, max_pending_requests: 5000 }] }\n";
        let more = format!("{}http2_protocol_options: {{ allow_connect: true }}\n", upgrades(&["websocket"]));
        let adit = Proxy::adit(&resources(
            &[listener("l", port, &hcm("h", ROUTES, &more))],
            &[
                cluster("ok", ok, limits),
                cluster("echo", origin::echo(), limits),
                cluster("source", source, limits),
                cluster("source_http", source_http, limits),
                cluster("silent", silent, limits),
            ],
        ));
        Self { adit, port, heads }
    }

    /// An HTTP/2 client that has seen our SETTINGS.
    pub fn client(&self) -> H2 {
        H2::connect(self.port)
    }

    /// Runs an attack while a neighbour is served; nothing of the attack is left afterwards.
    #[track_caller]
    pub fn while_served<T>(&self, attack: impl FnOnce(&Self) -> T) -> T {
        let neighbour = Neighbour::start(self.port);
        let result = attack(self);
        neighbour.finish();
        self.nothing_left();
        result
    }

    #[track_caller]
    pub fn nothing_left(&self) {
        for gauge in
            ["http.h.downstream_cx_active", "http.h.downstream_rq_active", "http.h.downstream_cx_upgrades_active"]
        {
            self.adit.wait_stat(gauge, 0);
        }
        for cluster in ["ok", "echo", "source", "source_http", "silent"] {
            self.adit.wait_stat(&format!("cluster.{cluster}.upstream_rq_active"), 0);
        }
        eventually("raw upstream connections end", || self.adit.stat("cluster.source.upstream_cx_active") == 0);
    }
}

fn pour(mut socket: std::net::TcpStream, first: &[u8]) {
    let block = vec![7; 65536];
    if socket.write_all(first).is_ok() {
        while socket.write_all(&block).is_ok() {}
    }
}

/// Requests and echoes on connections of its own, for as long as the attack lasts.
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    worst: Arc<AtomicU64>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Neighbour {
    pub fn start(port: u16) -> Self {
        let (stop, worst, rounds) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, slowest, count) = (stop.clone(), worst.clone(), rounds.clone());
        let mut tunnel = Peer::connect(port);
        tunnel.send("CONNECT h:1 HTTP/1.1\r\n\r\n");
        assert!(tunnel.head().starts_with("HTTP/1.1 200 "));
        let mut plain = Peer::connect(port);
        let thread = std::thread::spawn(move || {
            loop {
                let start = Instant::now();
                tunnel.send("ping");
                tunnel.expect("ping");
                plain.send("GET /neighbour HTTP/1.1\r\nhost: n\r\n\r\n");
                assert!(plain.head().starts_with("HTTP/1.1 200 "));
                plain.expect("ok");
                slowest.fetch_max(start.elapsed().as_millis() as u64, Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, worst, rounds, thread }
    }

    #[track_caller]
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the neighbour is served");
        let worst = Duration::from_millis(self.worst.load(Ordering::Relaxed));
        assert!(worst < BOUND, "the neighbour waited {worst:?}");
        assert!(self.rounds.load(Ordering::Relaxed) > 0);
    }
}
