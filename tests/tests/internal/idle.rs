//! What an idle hop costs.

use std::io::{Read as _, Write as _};
use std::thread;

use adit_tests::config::{cluster, listener, tcp_proxy};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin};

use crate::build::{hop, inner, whole};

const TUNNELS: usize = 1500;
const MANY: &str = "circuit_breakers: { thresholds: [{ max_connections: 100000, max_pending_requests: 100000 }] }\n";

/// Resident KiB of so many idle tunnels, which have carried a message each way, over so many hops.
fn tunnels(hops: usize) -> f64 {
    let (upstream, at) = origin::listen();
    let front = free_port();
    let name = |i: usize| if i == hops { "c".to_owned() } else { format!("in{i}") };
    let mut listeners = vec![listener("front", front, &tcp_proxy(&name(0), ""))];
    let mut clusters = vec![cluster("c", at, MANY)];
    for i in 0..hops {
        listeners.push(inner(&name(i), &tcp_proxy(&name(i + 1), "")));
        clusters.push(hop(&name(i), &name(i), MANY));
    }
    let adit = Proxy::adit(&whole(&listeners, &clusters));
    // One thread for all of them: each answers its first bytes and is kept.
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut socket in upstream.incoming().flatten() {
            let mut word = [0; 5];
            if socket.read_exact(&mut word).is_err() || socket.write_all(&word).is_err() {
                return;
            }
            kept.push(socket);
        }
    });
    let open = |count| -> Vec<Peer> {
        (0..count)
            .map(|_| {
                let mut client = Peer::connect(front);
                client.send("hello");
                client.expect("hello");
                client
            })
            .collect()
    };
    // What opening took is given back a moment later.
    let settled = || {
        let looks = (0..10).map(|_| {
            thread::sleep(std::time::Duration::from_millis(100));
            adit.rss_kib()
        });
        looks.min().unwrap()
    };
    let _first = open(20);
    let before = settled();
    let _all = open(TUNNELS);
    let kib = settled().saturating_sub(before) as f64;
    println!("{hops} hops: {:.2} KiB for each tunnel", kib / TUNNELS as f64);
    kib
}

#[test]
fn an_idle_hop_costs_at_most_two_kib() {
    let (none, three) = (tunnels(0), tunnels(3));
    let hop = (three - none) / (3 * TUNNELS) as f64;
    assert!(hop <= 2.0, "{hop:.2} KiB");
}
