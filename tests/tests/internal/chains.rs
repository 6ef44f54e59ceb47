//! Chains of layers: what runs through internal hops is what went in, ends as ends, resets as resets, and a slow reader stops
//! the writer within the marks.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, resources, tcp_proxy, terminate, upgrades};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, free_port, origin};

use crate::build::{hop, inner, whole, with_buffer};

const TUNNEL: &str = "tunneling_config: { hostname: 'host.com:443' }\n";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A way from a client to an upstream.
struct Path {
    proxies: Vec<Proxy>,
    front: u16,
    upstream: TcpListener,
    /// What opens it.
    opening: &'static str,
}

impl Path {
    #[track_caller]
    fn open(&self) -> (Peer, Peer) {
        let mut client = Peer::connect(self.front);
        client.send(self.opening);
        let mut server = Peer::accept(&self.upstream);
        if !self.opening.is_empty() {
            assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
        }
        client.send("up");
        server.expect("up");
        server.send("down");
        client.expect("down");
        (client, server)
    }
}

/// Internal TCP proxies one behind the other: their listeners, and clusters `in0`, `in1` to them; the last goes to `to`.
fn hops(count: usize, to: &str) -> (Vec<String>, Vec<String>) {
    let name = |i: usize| if i == count { to.to_owned() } else { format!("in{i}") };
    let listeners = (0..count).map(|i| inner(&name(i), &tcp_proxy(&name(i + 1), ""))).collect();
    let clusters = (0..count).map(|i| hop(&name(i), &name(i), "")).collect();
    (listeners, clusters)
}

/// Listener `front` with this filter, hops to cluster `c`, and cluster `c` at a port.
fn through(front: u16, filter: &str, count: usize, c: (u16, &str), extension: &str) -> Proxy {
    let (mut listeners, mut clusters) = hops(count, "c");
    listeners.push(listener("front", front, filter));
    clusters.push(cluster("c", c.0, c.1));
    Proxy::adit(&with_buffer(extension, &listeners, &clusters))
}

fn path(kind: &str, extension: &str) -> Path {
    let (upstream, at) = origin::listen();
    let (front, middle, far) = (free_port(), free_port(), free_port());
    let tunnel = |cluster: &str| tcp_proxy(cluster, TUNNEL);
    let (proxies, opening) = match kind {
        "tcp, 1 hop" => (vec![through(front, &tcp_proxy("in0", ""), 1, (at, ""), extension)], ""),
        "tcp, 3 hops" => (vec![through(front, &tcp_proxy("in0", ""), 3, (at, ""), extension)], ""),
        "tcp, 10 hops" => (vec![through(front, &tcp_proxy("in0", ""), 10, (at, ""), extension)], ""),
        "connect terminated, 3 hops" => {
            (vec![through(front, &hcm("h", &terminate("in0"), ""), 3, (at, ""), extension)], CONNECT)
        }
        // A tunnel within a tunnel, both made here and both undone by the far proxy, over this version.
        "connect in connect, h1" | "connect in connect, h2" => {
            let version = if kind.ends_with("h2") { HTTP2 } else { "" };
            let near = whole(
                &[listener("front", front, &tunnel("in")), inner("in", &tunnel("far"))],
                &[hop("in", "in", version), cluster("far", far, version)],
            );
            let undo = whole(
                &[
                    listener("far", far, &hcm("outer", &terminate("in"), "")),
                    inner("in", &hcm("inner", &terminate("c"), "")),
                ],
                &[hop("in", "in", ""), cluster("c", at, "")],
            );
            (vec![Proxy::adit(&undo), Proxy::adit(&near)], "")
        }
        // An HTTP pool to an internal listener, with a CONNECT in it.
        "connect proxied by a second manager" => {
            let forward = "- match: { connect_matcher: {} }\n  route: { cluster: in, upgrade_configs: [{ upgrade_type: CONNECT }] }\n";
            let yaml = whole(
                &[
                    listener("front", front, &hcm("outer", forward, &upgrades(&["CONNECT"]))),
                    inner("in", &hcm("inner", &terminate("c"), "")),
                ],
                &[hop("in", "in", HTTP2), cluster("c", at, "")],
            );
            (vec![Proxy::adit(&yaml)], CONNECT)
        }
        // Tunnel, hop, tunnel: the middle proxy takes one off and puts one on.
        "tunnel, hop, tunnel" => {
            let near = resources(&[listener("front", front, &tunnel("c"))], &[cluster("c", middle, HTTP2)]);
            let mid = whole(
                &[listener("mid", middle, &hcm("mid", &terminate("in"), "")), inner("in", &tunnel("far"))],
                &[hop("in", "in", ""), cluster("far", far, HTTP2)],
            );
            let last = resources(&[listener("far", far, &hcm("far", &terminate("c"), ""))], &[cluster("c", at, "")]);
            (vec![Proxy::adit(&last), Proxy::adit(&mid), Proxy::adit(&near)], "")
        }
        other => panic!("{other}"),
    };
    Path { proxies, front, upstream, opening }
}

const KINDS: [&str; 8] = [
    "tcp, 1 hop",
    "tcp, 3 hops",
    "tcp, 10 hops",
    "connect terminated, 3 hops",
    "connect in connect, h1",
    "connect in connect, h2",
    "connect proxied by a second manager",
    "tunnel, hop, tunnel",
];

/// Runs one cell on every kind; a failure names its kind.
fn each(cell: impl Fn(&str, &Path) + Send + Sync + Clone + 'static) {
    let threads = KINDS.map(|kind| {
        let cell = cell.clone();
        thread::Builder::new().name(kind.into()).spawn(move || cell(kind, &path(kind, ""))).unwrap()
    });
    let failed: Vec<_> =
        KINDS.into_iter().zip(threads).filter_map(|(kind, thread)| thread.join().err().map(|_| kind)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_fin_either_way_leaves_the_other_direction_open() {
    each(|kind, path| {
        for client_first in [true, false] {
            let (client, server) = path.open();
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            first.send("last words");
            first.fin();
            assert_eq!(second.rest(), (b"last words".to_vec(), End::Fin), "{kind} {client_first}");
            second.send(vec![1; 1 << 20]);
            second.fin();
            let (data, end) = first.rest();
            assert_eq!((data.len(), end), (1 << 20, End::Fin), "{kind} {client_first}");
        }
    });
}

#[test]
fn an_rst_either_way_is_an_rst() {
    each(|kind, path| {
        for client_resets in [true, false] {
            let (client, server) = path.open();
            let (first, mut second) = if client_resets { (client, server) } else { (server, client) };
            first.rst();
            assert_eq!(second.rest(), (vec![], End::Reset), "{kind} {client_resets}");
        }
    });
}

#[test]
fn a_close_while_the_other_end_writes_is_a_reset() {
    each(|kind, path| {
        let (client, mut server) = path.open();
        drop(client);
        let end = std::time::Instant::now() + adit_tests::PATIENCE;
        while server.0.write_all(&[0; 4096]).is_ok() {
            assert!(std::time::Instant::now() < end, "{kind}: the upstream never notices");
            thread::sleep(Duration::from_millis(2));
        }
    });
}

const SIZE: usize = 64 << 20;

fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

fn send(mut peer: Peer) {
    let mut block = vec![0; 1 << 18];
    for start in (0..SIZE).step_by(block.len()) {
        for (i, byte) in block.iter_mut().enumerate() {
            *byte = pattern(start + i);
        }
        peer.send(&block);
    }
    peer.fin();
}

fn receive(mut peer: Peer) {
    let mut at = 0;
    let mut block = vec![0; 1 << 18];
    loop {
        let n = peer.0.read(&mut block).expect("an end");
        if n == 0 {
            break;
        }
        for (i, byte) in block[..n].iter().enumerate() {
            assert!(*byte == pattern(at + i), "byte {} is another", at + i);
        }
        at += n;
    }
    assert_eq!(at, SIZE);
}

#[test]
fn sixty_four_mebibytes_each_way_at_once() {
    for (kind, extension) in KINDS.iter().map(|kind| (*kind, "")).chain([
        ("tcp, 1 hop", "    buffer_size_kb: 1\n"),
        ("tcp, 3 hops", "    buffer_size_kb: 5\n"),
        ("tcp, 3 hops", "    buffer_size_kb: 8192\n"),
    ]) {
        let path = path(kind, extension);
        let (client, server) = path.open();
        let [client_out, server_out] = [client.0.try_clone().unwrap(), server.0.try_clone().unwrap()].map(Peer::from);
        let threads = [
            thread::spawn(|| send(client_out)),
            thread::spawn(|| send(server_out)),
            thread::spawn(|| receive(client)),
            thread::spawn(|| receive(server)),
        ];
        for thread in threads {
            thread.join().unwrap_or_else(|_| panic!("{kind} {extension}"));
        }
    }
}

/// How much a writer gets rid of while nobody reads at the other end.
fn held(path: &Path, from_server: bool) -> usize {
    let (client, server) = path.open();
    let (writer, mut reader) = if from_server { (server, client) } else { (client, server) };
    writer.0.set_write_timeout(Some(Duration::from_millis(400))).unwrap();
    let block = vec![9u8; 1 << 16];
    let mut sent = 0;
    while let Ok(n) = (&writer.0).write(&block) {
        sent += n;
        assert!(sent < 256 << 20, "the writer is never stopped");
    }
    writer.fin();
    let (data, end) = reader.rest();
    assert_eq!((data.len(), end), (sent, End::Fin));
    sent
}

/// What the hops hold is at most the high mark of each, and what each relay has in hand. Loopback's own buffers are measured
/// without a hop; the kernel tunes them as it likes, so that the most of three counts there, and the least of three here.
#[test]
fn a_slow_reader_stops_the_writer_within_the_marks() {
    // Each waits for writers that are stopped: all at once.
    thread::scope(|scope| {
        for from_server in [true, false] {
            scope.spawn(move || {
                let (upstream, at) = origin::listen();
                let front = free_port();
                let direct = Path {
                    proxies: vec![through(front, &tcp_proxy("c", ""), 0, (at, ""), "")],
                    front,
                    upstream,
                    opening: "",
                };
                let without = (0..3).map(|_| held(&direct, from_server)).max().expect("three");
                thread::scope(|scope| {
                    for kib in [16, 256, 1024] {
                        scope.spawn(move || within_the_marks(kib, from_server, without));
                    }
                });
            });
        }
    });
}

/// Three hops of so many KiB hold no more than that, beside what is held without them.
fn within_the_marks(kib: usize, from_server: bool, without: usize) {
    let path = path("tcp, 3 hops", &format!("    buffer_size_kb: {kib}\n"));
    let with = (0..3).map(|_| held(&path, from_server)).min().expect("three");
    // Kernel buffers grow as they like: half of what they took is allowed for.
    let most = without + without / 2 + 3 * (kib << 10) + 4 * (256 << 10);
    assert!(with <= most, "{kib} KiB: {with} bytes held, {without} without hops");
    for proxy in &path.proxies {
        proxy.wait_stat("listener.envoy_internal_in2.downstream_cx_active", 0);
    }
}

#[test]
fn a_get_inside_a_connect_over_either_version() {
    for (pool, outside) in [("", HTTP2), (HTTP2, HTTP2), ("", ""), (HTTP2, "")] {
        let (front, far) = (free_port(), free_port());
        let answer =
            "- match: { prefix: / }\n  direct_response: { status: 200, body: { inline_string: \"Hello, world!\" } }\n";
        let undo = Proxy::adit(&whole(
            &[listener("far", far, &hcm("far", &terminate("in"), "")), inner("in", &hcm("in", answer, ""))],
            &[hop("in", "in", "")],
        ));
        let near = Proxy::adit(&whole(
            &[listener("front", front, &hcm("front", &prefix("in"), "")), inner("in", &tcp_proxy("far", TUNNEL))],
            &[hop("in", "in", pool), cluster("far", far, outside)],
        ));
        let mut client = Peer::connect(front);
        for _ in 0..20 {
            client.send(GET);
            assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
            client.expect("Hello, world!");
        }
        // One tunnel for all of them.
        near.wait_stat("tcp.far.downstream_cx_total", 1);
        undo.wait_stat("http.far.downstream_cx_upgrades_total", 1);
        undo.wait_stat("http.in.downstream_rq_total", 20);
        undo.wait_stat("listener.envoy_internal_in.downstream_cx_total", 1);
    }
}

/// An upgrade through a pool over an internal listener, and a second manager behind it.
#[test]
fn a_websocket_through_two_managers() {
    const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                          sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for version in ["", HTTP2] {
        let front = free_port();
        let (at, _) = origin::http(ACCEPT);
        let allow = "http2_protocol_options: { allow_connect: true }\n";
        let more = format!("{}{allow}", upgrades(&["websocket"]));
        let adit = Proxy::adit(&whole(
            &[
                listener("front", front, &hcm("outer", &prefix("in"), &more)),
                inner("in", &hcm("inner", &prefix("c"), &more)),
            ],
            &[hop("in", "in", version), cluster("c", at, "")],
        ));
        let mut client = Peer::connect(front);
        client.send(
            "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert!(client.head().starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        client.send("payload");
        client.expect("payload");
        client.fin();
        assert_eq!(client.rest(), (vec![], End::Fin));
        adit.wait_stat("http.inner.downstream_cx_upgrades_active", 0);
    }
}

#[test]
fn filter_chains_of_an_internal_listener_are_matched_and_filters_look_at_first_bytes() {
    let front = free_port();
    let text = |protocol: &str| {
        format!(
            "    - filter_chain_match: {{ application_protocols: [\"{protocol}\"] }}\n      filters:\n{}",
            hcm(&protocol.replace(['/', '.'], "_"), "- match: { prefix: / }\n  direct_response: { status: 200 }\n", "")
        )
    };
    let inspected = format!(
        "  - name: in\n    internal_listener: {{}}\n    listener_filters:\n    - name: http\n      typed_config:\n        \"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector\n    filter_chains:\n{}{}",
        text("http/1.1"),
        text("h2c")
    );
    let adit =
        Proxy::adit(&whole(&[listener("front", front, &tcp_proxy("in", "")), inspected], &[hop("in", "in", "")]));
    let mut client = Peer::connect(front);
    client.send(GET);
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    adit.wait_stat("http.http_1_1.downstream_rq_total", 1);
    let mut client = Peer::connect(front);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    client.read(9);
    adit.wait_stat("http.h2c.downstream_cx_http2_total", 1);
    let mut client = Peer::connect(front);
    client.send("neither of them\r\n\r\n");
    client.rest();
    adit.wait_stat("listener.envoy_internal_in.no_filter_chain_match", 1);
}

/// Each worker has its own registry: with several of them every connection finds its listener.
#[test]
fn every_worker_has_its_internal_listeners() {
    let front = free_port();
    let (listeners, clusters) = {
        let (mut listeners, mut clusters) = hops(2, "c");
        listeners.push(listener("front", front, &tcp_proxy("in0", "")));
        clusters.push(cluster("c", origin::echo(), ""));
        (listeners, clusters)
    };
    let adit = Proxy::adit_with(&whole(&listeners, &clusters), &["--concurrency", "3"]);
    for _ in 0..60 {
        let mut client = Peer::connect(front);
        client.send("hello");
        client.expect("hello");
    }
    adit.wait_stat("listener.envoy_internal_in0.downstream_cx_total", 60);
    adit.wait_stat("listener.envoy_internal_in1.downstream_cx_total", 60);
    let used = (0..3).filter(|i| adit.stat(&format!("listener.envoy_internal_in1.worker_{i}.downstream_cx_total")) > 0);
    assert!(used.count() > 1);
    adit.wait_stat("listener.envoy_internal_in1.downstream_cx_active", 0);
}
