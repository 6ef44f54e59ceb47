//! Many TCP tunnels on few HTTP/2 connections.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, hcm, listener, resources, tcp_proxy, terminate};
use adit_tests::frames::{ACK, CONNECT, H2, Outcome, PING, frame, headers};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, eventually, free_port, origin};

const LIMITS: &str =
    "circuit_breakers: { thresholds: [{ max_connections: 5000, max_requests: 5000, max_pending_requests: 5000 }] }\n";

/// A tunnelling proxy before a terminating one, and the port in front.
fn tunnels(near_more: &str, far_more: &str) -> (Proxy, Proxy, u16) {
    let (front, middle) = (free_port(), free_port());
    let far = resources(
        &[listener("far", middle, &hcm("far", &terminate("c"), far_more))],
        &[cluster("c", origin::echo(), LIMITS)],
    );
    let near = resources(
        &[listener("near", front, &tcp_proxy("c", "tunneling_config: { hostname: 'host.com:443' }\n"))],
        &[cluster("c", middle, &format!("{HTTP2}{near_more}"))],
    );
    (Proxy::adit(&far), Proxy::adit(&near), front)
}

fn open(front: u16, count: usize) -> Vec<Peer> {
    let mut clients: Vec<Peer> = (0..count).map(|_| Peer::connect(front)).collect();
    clients.iter_mut().for_each(|client| client.send("hello"));
    clients.iter_mut().for_each(|client| client.expect("hello"));
    clients
}

/// One connection carries them all; neither way is one that does not read in the way of another.
#[test]
fn one_stalled_tunnel_among_hundreds() {
    let (far, near, front) = tunnels(LIMITS, "");
    let mut clients = open(front, 300);
    let stalled: Vec<Peer> = (0..3).map(|_| Peer::connect(front)).collect();
    let block = vec![1; 1 << 16];
    for client in &stalled {
        // What comes back is not read, so that both directions fill up.
        client.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        while (&client.0).write(&block).is_ok() {}
    }
    let block = vec![2; 20_000];
    for _ in 0..3 {
        for client in &mut clients {
            client.send(&block);
        }
        for client in &mut clients {
            client.expect(&block);
        }
    }
    near.wait_stat("cluster.c.upstream_cx_total", 1);
    far.wait_stat("http.far.downstream_cx_http2_total", 1);
    drop((clients, stalled));
    near.wait_stat("cluster.c.upstream_rq_active", 0);
    far.wait_stat("cluster.c.upstream_cx_active", 0);
}

/// Twenty tunnels on one connection between two proxies, full in one direction or the other: less than 64 MiB on each side.
#[test]
fn twenty_stalled_tunnels_cost_a_bounded_amount() {
    for pouring in [true, false] {
        let (front, middle) = (free_port(), free_port());
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let upstream = origin::serve(move |mut socket| {
            use std::io::Read;
            let _ = socket.read(&mut [0; 5]);
            let _ = socket.write_all(b"hello");
            let block = vec![7; 1 << 16];
            while pouring && socket.write_all(&block).is_ok() {}
            // Not read from here on.
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let far =
            resources(&[listener("far", middle, &hcm("far", &terminate("c"), ""))], &[cluster("c", upstream, "")]);
        let near = resources(
            &[listener("near", front, &tcp_proxy("c", "tunneling_config: { hostname: 'host.com:443' }\n"))],
            &[cluster("c", middle, HTTP2)],
        );
        let (far, near) = (Proxy::adit(&far), Proxy::adit(&near));
        let before = (near.rss_kib(), far.rss_kib());
        let clients = open(front, 20);
        let block = vec![1; 1 << 16];
        std::thread::scope(|scope| {
            for client in clients.iter().filter(|_| !pouring) {
                scope.spawn(|| {
                    client.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
                    while (&client.0).write(&block).is_ok() {}
                });
            }
        });
        std::thread::sleep(Duration::from_millis(1000));
        let grown = (near.rss_kib().saturating_sub(before.0), far.rss_kib().saturating_sub(before.1));
        println!("twenty stalled tunnels, pouring {pouring}: {grown:?} KiB");
        near.wait_stat("cluster.c.upstream_cx_total", 1);
        assert!(grown.0 < 64 << 10 && grown.1 < 64 << 10, "{grown:?} KiB");
        drop(clients);
        over.store(true, Ordering::Relaxed);
        near.wait_stat("cluster.c.upstream_rq_active", 0);
        far.wait_stat("http.far.downstream_cx_upgrades_active", 0);
    }
}

/// An idle tunnel is a stream's state and a socket on each side.
#[test]
fn idle_tunnels_on_a_shared_connection_are_small() {
    let (far, near, front) = tunnels(LIMITS, "");
    let warm = open(front, 300);
    let before = (near.rss_kib(), far.rss_kib());
    let more = open(front, 600);
    let per_tunnel = |now: u64, before: u64| (now.saturating_sub(before)) as f64 / 600.0;
    let (near_kib, far_kib) = (per_tunnel(near.rss_kib(), before.0), per_tunnel(far.rss_kib(), before.1));
    println!("an idle tunnel: {near_kib:.1} KiB near, {far_kib:.1} KiB far");
    // A debug build's futures are larger than a release build's.
    assert!(near_kib < 16.0 && far_kib < 16.0, "{near_kib:.1} and {far_kib:.1} KiB");
    drop((warm, more));
}

#[test]
fn a_full_connection_is_followed_by_another() {
    let (far, near, front) = tunnels(LIMITS, "http2_protocol_options: { max_concurrent_streams: 100 }\n");
    let clients = open(front, 250);
    // While the peer's SETTINGS are on their way more may be asked for than it takes; no tunnel is lost by it.
    let connections = near.stat("cluster.c.upstream_cx_total");
    assert!((3..=4).contains(&connections), "{connections}");
    far.wait_stat("http.far.downstream_cx_upgrades_active", 250);
    drop(clients);
    near.wait_stat("cluster.c.upstream_rq_active", 0);
}

#[test]
fn circuit_breakers_bound_tunnels() {
    let limits = "circuit_breakers: { thresholds: [{ max_requests: 3 }] }\n";
    let (_far, near, front) = tunnels(limits, "");
    let clients = open(front, 3);
    let mut refused = Peer::connect(front);
    assert!(refused.rest().0.is_empty());
    near.wait_stat("cluster.c.circuit_breakers.default.rq_open", 1);
    eventually("it is counted", || near.stat("cluster.c.upstream_rq_active_overflow") >= 1);
    drop(clients);
    near.wait_stat("cluster.c.upstream_rq_active", 0);
    open(front, 3);
}

/// No connection is made before it is needed, unless that is asked for.
#[test]
fn connections_are_made_ahead_only_where_that_is_asked() {
    for (policy, connections) in [("", 2), ("preconnect_policy: { per_upstream_preconnect_ratio: 3.0 }\n", 6)] {
        let (front, middle) = (free_port(), free_port());
        let far = resources(
            &[listener("far", middle, &hcm("far", &terminate("c"), ""))],
            &[cluster("c", origin::echo(), LIMITS)],
        );
        let one = HTTP2.replace("{ allow_connect: true }", "{ max_concurrent_streams: 1 }");
        let near = resources(
            &[listener("near", front, &tcp_proxy("c", "tunneling_config: { hostname: 'host.com:443' }\n"))],
            &[cluster("c", middle, &format!("{one}{policy}"))],
        );
        let (_far, near) = (Proxy::adit(&far), Proxy::adit(&near));
        assert_eq!(near.stat("cluster.c.upstream_cx_total"), 0);
        let _first = open(front, 1);
        // This one takes a spare connection, which is made up for.
        let _second = open(front, 1);
        eventually("spare connections", || near.stat("cluster.c.upstream_cx_total") >= connections);
        std::thread::sleep(Duration::from_millis(100));
        near.wait_stat("cluster.c.upstream_cx_total", connections);
    }
}

/// `connection_keepalive`: who answers PINGs stays, who does not goes with its tunnels.
#[test]
fn pings_keep_connections_honest() {
    let keepalive = "http2_protocol_options: { connection_keepalive: { interval: 0.2s, timeout: 5s, interval_jitter: { value: 0 } } }\n";
    let port = free_port();
    let adit = Proxy::adit(&resources(
        &[listener("l", port, &hcm("h", &terminate("c"), keepalive))],
        &[cluster("c", origin::echo(), "")],
    ));
    let mut client = H2::connect(port);
    client.send(headers(1, CONNECT, false));
    assert_eq!(client.outcome(1), Outcome::Status(200));
    for _ in 0..5 {
        let ping = loop {
            let next = client.next().expect("a frame");
            if next.kind == PING && next.flags & ACK == 0 {
                break next;
            }
        };
        client.send(frame(PING, ACK, 0, &ping.payload));
    }
    adit.wait_stat("cluster.c.upstream_cx_active", 1);
    // Silence from here on.
    client.end();
    adit.wait_stat("cluster.c.upstream_cx_active", 0);
    adit.wait_stat("http2.keepalive_timeout", 1);
}

/// Ends a tunnel that threads are at, also when the test fails.
struct Cut<'a>(&'a Peer);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        let _ = self.0.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A small message beside a bulk tunnel waits for the frames in hand, not for the bulk: a few milliseconds with a release build
/// (`ADIT_BINARY`, `--nocapture` shows them). The bound leaves room for debug builds on a machine in use.
#[test]
fn bulk_does_not_hold_up_a_small_tunnel_beside_it() {
    let (_far, near, front) = tunnels(LIMITS, "");
    let mut small = open(front, 1).remove(0);
    let bulk = open(front, 1).remove(0);
    let moved = AtomicU64::new(0);
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let _cut = Cut(&bulk);
        scope.spawn(|| {
            let block = vec![1; 256 << 10];
            while (&bulk.0).write_all(&block).is_ok() {}
        });
        scope.spawn(|| {
            let mut block = vec![0; 256 << 10];
            while let Ok(n @ 1..) = (&bulk.0).read(&mut block) {
                moved.fetch_add(n as u64, Ordering::Relaxed);
            }
        });
        eventually("the bulk flows", || moved.load(Ordering::Relaxed) > 8 << 20);
        let waits = (0..200).map(|_| {
            let asked = std::time::Instant::now();
            small.send("small");
            small.expect("small");
            asked.elapsed()
        });
        waits.collect()
    });
    waits.sort();
    let (median, worst) = (waits[100], waits[199]);
    eprintln!("beside {} MiB of bulk: median {median:?}, longest {worst:?}", moved.load(Ordering::Relaxed) >> 20);
    near.wait_stat("cluster.c.upstream_cx_total", 1);
    assert!(median < Duration::from_millis(500), "median {median:?}, longest {worst:?}");
}
