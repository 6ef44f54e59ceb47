//! Bulk and new connections through internal hops, for as long as asked: memory and the cost of a byte stay as they are.
//! `ADIT_STEADY=600` runs ten minutes (the default is six seconds); `--nocapture` shows each of its ten parts.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::config::{cluster, hcm, listener, tcp_proxy, terminate};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin};

use crate::build::{hop, inner, whole};

const PARTS: u32 = 10;

fn seconds() -> u64 {
    std::env::var("ADIT_STEADY").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// CPU time used, in seconds.
fn cpu(adit: &Proxy) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", adit.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) as f64 / 100.0
}

/// An echo client that keeps a window of bytes in flight, and counts them.
fn bulk(port: u16, over: &AtomicBool, moved: &AtomicU64) {
    let mut reader = Peer::connect(port);
    let mut writer = reader.0.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let block = vec![7; 1 << 18];
            while !over.load(Relaxed) {
                writer.write_all(&block).unwrap();
                // Ten minutes of all that a machine can do would be for nothing.
                thread::sleep(Duration::from_millis(2));
            }
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut block = vec![0; 1 << 18];
        loop {
            match reader.0.read(&mut block).unwrap() {
                0 => break,
                n => _ = moved.fetch_add(n as u64, Relaxed),
            }
        }
    });
}

/// Connections that come, speak and go, one way or another.
fn churn(raw: u16, connect: u16, over: &AtomicBool, made: &AtomicU64) {
    let mut count = 0_u64;
    while !over.load(Relaxed) {
        count += 1;
        let mut client = Peer::connect(if count.is_multiple_of(2) { raw } else { connect });
        if count % 2 == 1 {
            client.send("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
            assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
        }
        client.send("hello");
        client.expect("hello");
        match count % 3 {
            0 => client.rst(),
            1 => drop(client),
            _ => {
                client.fin();
                client.rest();
            }
        }
        made.fetch_add(1, Relaxed);
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn bulk_and_connections_for_as_long_as_asked() {
    let (raw, connect, at) = (free_port(), free_port(), origin::echo());
    let adit = Proxy::adit(&whole(
        &[
            listener("raw", raw, &tcp_proxy("a", "")),
            listener("connect", connect, &hcm("connect", &terminate("a"), "")),
            inner("a", &tcp_proxy("b", "")),
            inner("b", &tcp_proxy("c", "")),
        ],
        &[hop("a", "a", ""), hop("b", "b", ""), cluster("c", at, "")],
    ));
    let (over, moved, made) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..3)
        .map(|index| {
            let (over, moved, made) = (over.clone(), moved.clone(), made.clone());
            thread::spawn(move || match index {
                0 => bulk(raw, &over, &moved),
                1 => bulk(raw, &over, &moved),
                _ => churn(raw, connect, &over, &made),
            })
        })
        .collect();
    let begin = Instant::now();
    let mut parts = Vec::new();
    for part in 1..=PARTS {
        let (cpu_before, moved_before) = (cpu(&adit), moved.load(Relaxed));
        thread::sleep(
            (begin + Duration::from_secs(seconds()) * part / PARTS).saturating_duration_since(Instant::now()),
        );
        let gb = (moved.load(Relaxed) - moved_before) as f64 / 1e9;
        let (rss, cost) = (adit.rss_kib(), (cpu(&adit) - cpu_before) / gb);
        println!("{part}/{PARTS}: {rss} KiB, {gb:.2} GB at {cost:.3} CPU-s/GB, {} connections", made.load(Relaxed));
        parts.push(rss);
    }
    over.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // The first parts bring the buffers and pipes that bulk needs; on a slow machine, later than on a fast one.
    let (first, last) = (parts[..parts.len() / 2].iter().copied().max().unwrap(), parts[parts.len() - 1]);
    assert!(last <= first + 4096, "{parts:?} KiB");
    assert!(made.load(Relaxed) > 0 && moved.load(Relaxed) > 0);
    for gauge in ["listener.envoy_internal_a.downstream_cx_active", "listener.envoy_internal_b.downstream_cx_active"] {
        adit.wait_stat(gauge, 0);
    }
}
