//! Many connections in one state, then gone: every gauge returns to 0, descriptors are given back, memory settles, and the
//! process ends when told to, each peer with an end. `ADIT_SOAK=4500` takes more than the default thousand
//! (each is two descriptors here, and two in the proxy), best with `--test-threads=1`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, resources, tcp_proxy, terminate, upgrades};
use adit_tests::peer::Peer;
use adit_tests::process::{adit_binary, http};
use adit_tests::{PATIENCE, Proxy, eventually, free_port, origin};

fn many() -> usize {
    wanted(1000)
}

/// So many connections as `ADIT_SOAK` says, or this number, or fewer where the machine has no descriptors for them: four
/// tests run at once, and each holds both ends.
fn wanted(number: usize) -> usize {
    let limit = usize::try_from(adit_tests::raise_fd_limit()).unwrap_or(usize::MAX);
    let asked = std::env::var("ADIT_SOAK").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or_else(|| number.min(limit / 10))
}

const LIMITS: &str = "circuit_breakers: { thresholds: [{ max_connections: 50000, max_requests: 50000, max_pending_requests: 50000 }] }\n";

/// Listeners of each kind before an upstream that accepts, keeps, and answers as told.
struct Lab {
    adit: Proxy,
    tcp: u16,
    http: u16,
    /// What the upstream accepted.
    kept: Arc<Mutex<Vec<TcpStream>>>,
}

impl Lab {
    fn new(answer: &'static str) -> Self {
        let (upstream, at) = origin::listen();
        // A backlog for a thousand at once.
        socket2::SockRef::from(&upstream).listen(4096).unwrap();
        let kept: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let keep = kept.clone();
        std::thread::spawn(move || {
            for mut socket in upstream.incoming().flatten() {
                if !answer.is_empty() {
                    let mut head = Vec::new();
                    let mut block = [0; 4096];
                    while !head.ends_with(b"\r\n\r\n") {
                        match socket.read(&mut block) {
                            Ok(n) if n > 0 => head.extend_from_slice(&block[..n]),
                            _ => break,
                        }
                    }
                    let _ = socket.write_all(answer.as_bytes());
                }
                keep.lock().unwrap().push(socket);
            }
        });
        let (tcp, http) = (free_port(), free_port());
        let routes = "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n\
                      - match: { prefix: / }\n  route: { cluster: c, timeout: 0s }\n";
        let yaml = resources(
            &[
                listener("tcp", tcp, &tcp_proxy("c", "")),
                listener("http", http, &hcm("h", routes, &upgrades(&["websocket"]))),
            ],
            &[cluster("c", at, LIMITS)],
        );
        Self { adit: Proxy::adit(&yaml), tcp, http, kept }
    }

    /// So many clients that each sent this.
    fn clients(&self, port: u16, first: &str) -> Vec<TcpStream> {
        self.connect(many(), port, first)
    }

    fn connect(&self, count: usize, port: u16, first: &str) -> Vec<TcpStream> {
        (0..count)
            .map(|_| {
                let mut socket = Peer::connect(port).0;
                socket.write_all(first.as_bytes()).unwrap();
                socket
            })
            .collect()
    }

    /// The proxy is gone: every client and every upstream has seen an end or a reset.
    #[track_caller]
    fn all_ended(&self, clients: Vec<TcpStream>) {
        let upstream = std::mem::take(&mut *self.kept.lock().unwrap());
        for socket in clients.into_iter().chain(upstream) {
            Peer::from(socket).rest();
        }
    }

    #[track_caller]
    fn upstream_has(&self, count: usize) {
        eventually("the upstream accepts", || self.kept.lock().unwrap().len() >= count);
    }

    fn fds(&self) -> usize {
        fds(&self.adit)
    }

    /// Everything is as it was before.
    #[track_caller]
    fn settles(&self, name: &str, before: Start) {
        for gauge in [
            "http.h.downstream_cx_active",
            "http.h.downstream_rq_active",
            "http.h.downstream_cx_upgrades_active",
            "cluster.c.upstream_cx_active",
            "cluster.c.upstream_rq_active",
            "cluster.c.upstream_rq_pending_active",
            &format!("listener.127.0.0.1_{}.downstream_cx_active", self.tcp),
            &format!("listener.127.0.0.1_{}.downstream_cx_active", self.http),
        ] {
            self.adit.wait_stat(gauge, 0);
        }
        eventually("descriptors are given back", || self.fds() <= before.fds + 4);
        let (after, count) = (self.adit.rss_kib(), many() as u64);
        println!("{name}: {} KiB before, {after} KiB after {count}", before.rss);
        // Nothing is kept for each: what an allocator keeps of the peak is below a few KiB for each.
        assert!(after < before.rss + 8 * 1024 + count * 20, "{name}: {} -> {after} KiB", before.rss);
    }

    fn start(&self) -> Start {
        Start { fds: self.fds(), rss: self.adit.rss_kib() }
    }
}

#[derive(Clone, Copy)]
struct Start {
    fds: usize,
    rss: u64,
}

fn fds(adit: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", adit.pid())).unwrap().count()
}

/// CPU time used, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn rst(socket: TcpStream) {
    Peer(socket).rst();
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const CONNECT: &str = "CONNECT h.example:443 HTTP/1.1\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    IdleTcp,
    WaitingConnect,
    Upgraded,
    SlowHead,
    ClientHalfClosed,
    ServerHalfClosed,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Fin,
    Rst,
    Term,
}

#[track_caller]
fn soak(state: State, end: End) {
    let name = format!("{state:?} {end:?}");
    let mut lab = Lab::new(if state == State::Upgraded { SWITCH } else { "" });
    let before = lab.start();
    let (port, first) = match state {
        State::WaitingConnect => (lab.http, CONNECT),
        State::Upgraded => (lab.http, UPGRADE),
        State::SlowHead => (lab.http, "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "),
        State::IdleTcp | State::ClientHalfClosed | State::ServerHalfClosed => (lab.tcp, "hello"),
    };
    let clients = lab.clients(port, first);
    if state == State::SlowHead {
        lab.adit.wait_stat("http.h.downstream_cx_active", many() as u64);
    } else {
        lab.upstream_has(many());
    }
    match state {
        State::ClientHalfClosed => clients.iter().for_each(|client| Peer(client.try_clone().unwrap()).fin()),
        State::ServerHalfClosed => lab.kept.lock().unwrap().iter().for_each(|socket| {
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }),
        _ => {}
    }
    match end {
        End::Fin => drop(clients),
        End::Rst => clients.into_iter().for_each(rst),
        End::Term => {
            lab.adit.signal("TERM");
            assert_eq!(lab.adit.wait(), Some(0), "{name}");
            lab.all_ended(clients);
            return;
        }
    }
    lab.kept.lock().unwrap().clear();
    lab.settles(&name, before);
}

#[test]
fn idle_tcp_tunnels() {
    soak(State::IdleTcp, End::Fin);
    soak(State::IdleTcp, End::Rst);
    soak(State::IdleTcp, End::Term);
}

/// A shorter form of a run by hand with ten thousand, which takes more descriptors than one test process may have.
#[test]
fn two_thousand_idle_tunnels() {
    let count = wanted(2000);
    let mut lab = Lab::new(SWITCH);
    let clients = lab.connect(count, lab.http, UPGRADE);
    lab.upstream_has(count);
    lab.adit.wait_stat("http.h.downstream_cx_upgrades_active", count as u64);
    let before = cpu(lab.adit.pid());
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu(lab.adit.pid()) - before;
    assert!(spent < 0.5, "idle tunnels cost {spent} s of CPU in 1 s");
    lab.adit.signal("TERM");
    assert_eq!(lab.adit.wait(), Some(0));
    lab.all_ended(clients);
}

/// Memory that many connections took is the kernel's again when they are gone, not the allocator's for good.
#[test]
fn memory_of_a_peak_is_given_back() {
    let count = wanted(2000);
    let lab = Lab::new(SWITCH);
    let before = lab.adit.rss_kib();
    let clients = lab.connect(count, lab.http, UPGRADE);
    lab.upstream_has(count);
    lab.adit.wait_stat("http.h.downstream_cx_upgrades_active", count as u64);
    // It looks once a second.
    std::thread::sleep(Duration::from_secs(3));
    let peak = lab.adit.rss_kib();
    drop(clients);
    lab.kept.lock().unwrap().clear();
    lab.adit.wait_stat("http.h.downstream_cx_active", 0);
    let bound = before + (peak - before) / 2;
    eventually("half of what the peak took is given back", || lab.adit.rss_kib() <= bound);
}

#[test]
fn connects_that_wait_for_their_answer() {
    soak(State::WaitingConnect, End::Rst);
    soak(State::WaitingConnect, End::Fin);
    soak(State::WaitingConnect, End::Term);
}

#[test]
fn upgrades_that_stand() {
    soak(State::Upgraded, End::Fin);
    soak(State::Upgraded, End::Rst);
    soak(State::Upgraded, End::Term);
}

#[test]
fn heads_that_do_not_end() {
    soak(State::SlowHead, End::Fin);
    soak(State::SlowHead, End::Rst);
    soak(State::SlowHead, End::Term);
}

#[test]
fn half_closed_tunnels() {
    for state in [State::ClientHalfClosed, State::ServerHalfClosed] {
        soak(state, End::Rst);
        soak(state, End::Fin);
        soak(state, End::Term);
    }
}

/// Tunnels over two hops of HTTP/2, dropped by either end; the terminator is ended in the middle of the second lot.
#[test]
fn tunnels_over_http2() {
    let (near, far) = (free_port(), free_port());
    let upstream = origin::echo();
    let far_yaml =
        resources(&[listener("far", far, &hcm("far", &terminate("c"), ""))], &[cluster("c", upstream, LIMITS)]);
    let near_yaml = resources(
        &[listener("near", near, &tcp_proxy("c", "tunneling_config: { hostname: 'h:1' }\n"))],
        &[cluster("c", far, &format!("{HTTP2}{LIMITS}"))],
    );
    let mut terminator = Proxy::adit(&far_yaml);
    let opener = Proxy::adit(&near_yaml);
    let open = || -> Vec<Peer> {
        let mut clients: Vec<Peer> = (0..many()).map(|_| Peer::connect(near)).collect();
        clients.iter_mut().for_each(|client| client.send("hello"));
        clients.iter_mut().for_each(|client| client.expect("hello"));
        clients
    };
    drop(open());
    terminator.wait_stat("http.far.downstream_cx_upgrades_active", 0);
    terminator.wait_stat("cluster.c.upstream_cx_active", 0);
    opener.wait_stat("cluster.c.upstream_rq_active", 0);
    open().into_iter().for_each(Peer::rst);
    terminator.wait_stat("http.far.downstream_cx_upgrades_active", 0);
    opener.wait_stat("cluster.c.upstream_rq_active", 0);
    let clients = open();
    terminator.signal("TERM");
    assert_eq!(terminator.wait(), Some(0));
    for mut client in clients {
        client.rest();
    }
    opener.wait_stat("cluster.c.upstream_rq_active", 0);
    opener.wait_stat(&format!("listener.127.0.0.1_{near}.downstream_cx_active"), 0);
}

/// Connections that wait in a pool for the next tunnel do not hold up the end of the process.
#[test]
fn pooled_connections_end_at_once() {
    let (near, far, web) = (free_port(), free_port(), free_port());
    let upstream = origin::echo();
    let (plain, _) = origin::http("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let far_yaml =
        resources(&[listener("far", far, &hcm("far", &terminate("c"), ""))], &[cluster("c", upstream, LIMITS)]);
    let near_yaml = resources(
        &[
            listener("near", near, &tcp_proxy("h2", "tunneling_config: { hostname: 'h:1' }\n")),
            listener("web", web, &hcm("web", &prefix("h1"), "")),
        ],
        &[cluster("h2", far, &format!("{HTTP2}{LIMITS}")), cluster("h1", plain, "")],
    );
    let terminator = Proxy::adit(&far_yaml);
    let mut opener = Proxy::adit(&near_yaml);
    let mut client = Peer::connect(near);
    client.send("x");
    client.expect("x");
    drop(client);
    assert!(http(web, "GET", "/").unwrap().starts_with("HTTP/1.1 200 "));
    terminator.wait_stat("http.far.downstream_cx_upgrades_active", 0);
    opener.wait_stat("cluster.h2.upstream_cx_active", 1);
    opener.wait_stat("cluster.h1.upstream_cx_active", 1);
    opener.signal("TERM");
    assert_eq!(opener.wait(), Some(0));
    opener.cut_nothing();
    terminator.wait_stat("http.far.downstream_cx_active", 0);
}

/// No descriptor is left: accepting pauses without a spin, and goes on once there are some.
#[test]
fn descriptors_run_out() {
    let (upstream, port, admin) = (origin::echo(), free_port(), free_port());
    let yaml = format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}\n{}",
        resources(&[listener("l", port, &tcp_proxy("c", ""))], &[cluster("c", upstream, LIMITS)])
    );
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 128; exec \"$0\" --concurrency 1 --config-yaml \"$1\""])
        .arg(adit_binary())
        .arg(&yaml)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is ready", || http(admin, "GET", "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    let clients: Vec<Peer> = (0..300).map(|_| Peer::connect(port)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = cpu(child.id());
    std::thread::sleep(Duration::from_secs(2));
    let spent = cpu(child.id()) - before;
    assert!(child.try_wait().unwrap().is_none(), "it died");
    assert!(spent < 0.5, "it spins: {spent} s of CPU in 2 s");
    drop(clients);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut client = Peer::connect(port);
        client.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = client.0.write_all(b"x");
        if matches!(client.0.read(&mut [0; 1]), Ok(1)) {
            break;
        }
        assert!(Instant::now() < end, "it does not recover");
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A byte a second keeps nobody else waiting, and a deadline for the head ends it.
#[test]
fn a_client_that_dribbles() {
    let port = free_port();
    let (upstream, _) = origin::http("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let more = "request_headers_timeout: 1s\n";
    let adit =
        Proxy::adit(&resources(&[listener("l", port, &hcm("h", &prefix("c"), more))], &[cluster("c", upstream, "")]));
    let mut slow = Peer::connect(port);
    let start = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nhost: a" {
        if slow.0.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_secs(3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let mut answer = Vec::new();
    let _ = slow.0.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
    adit.wait_stat("http.h.downstream_cx_active", 0);
}

/// An upstream that takes no SYN any more, one that accepts and is silent, and a name that is not there.
#[test]
fn upstreams_that_do_not_answer() {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&full).listen(0).unwrap();
    let hole = full.local_addr().unwrap().port();
    // Fills its backlog: what comes after is not answered.
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], hole)).into());
            socket
        })
        .collect();
    let silent = origin::serve(|mut socket| while matches!(socket.read(&mut [0; 1024]), Ok(1..)) {});
    let (tcp, web) = (free_port(), free_port());
    let routes = "- match: { path: /hole }\n  route: { cluster: hole }\n\
                  - match: { path: /nowhere }\n  route: { cluster: nowhere }\n\
                  - match: { prefix: / }\n  route: { cluster: silent, timeout: 0.5s }\n";
    let nowhere = "  - name: nowhere\n    type: STRICT_DNS\n    load_assignment:\n      cluster_name: nowhere\n      endpoints:\n      \
                   - lb_endpoints:\n        - endpoint: { address: { socket_address: { address: nowhere.invalid, port_value: 80 } } }\n";
    let adit = Proxy::adit(&resources(
        &[listener("tcp", tcp, &tcp_proxy("hole", "")), listener("web", web, &hcm("h", routes, ""))],
        &[
            cluster("hole", hole, "").replace("connect_timeout: 5s", "connect_timeout: 0.5s"),
            cluster("silent", silent, ""),
            nowhere.to_owned(),
        ],
    ));
    let mut client = Peer::connect(tcp);
    client.rest();
    for (path, status) in [("/hole", "503"), ("/silent", "504"), ("/nowhere", "503")] {
        let answer = http(web, "GET", path).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    adit.wait_stat("cluster.hole.upstream_cx_active", 0);
    adit.wait_stat("cluster.hole.upstream_cx_connect_timeout", 2);
}

/// Access logs on a full disk, and to a file that is taken away: lines are lost, tunnels are not.
#[test]
fn logs_that_cannot_be_written() {
    let port = free_port();
    let gone = std::env::temp_dir().join(format!("adit-soak-{}.log", std::process::id()));
    let logs: String = ["/dev/full", gone.to_str().unwrap()]
        .iter()
        .map(|path| {
            format!(
                "- name: f\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    path: {path}\n"
            )
        })
        .collect();
    let yaml = resources(
        &[listener("l", port, &tcp_proxy("c", &format!("access_log:\n{logs}")))],
        &[cluster("c", origin::echo(), LIMITS)],
    );
    let mut adit = Proxy::adit_with(&yaml, &["--file-flush-interval-msec", "10"]);
    for n in 0..500 {
        if n == 100 {
            std::fs::remove_file(&gone).unwrap();
        }
        let mut client = Peer::connect(port);
        client.send("x");
        client.expect("x");
    }
    let before = cpu(adit.pid());
    std::thread::sleep(Duration::from_secs(1));
    assert!(cpu(adit.pid()) - before < 0.5, "it spins on a full disk");
    adit.signal("TERM");
    assert_eq!(adit.wait(), Some(0));
}
