//! Field sections of HTTP/3 from bytes and to bytes (RFC 9204).
//!
//! `cargo bench -p adit-h3`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use adit_h3::qpack;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = sections
}
criterion_main!(benches);

const MAX: usize = 60 << 10;

/// As a browser sends it.
const REQUEST: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "www.example.com"),
    (":path", "/assets/app.js?v=20240131"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "*/*"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("referer", "https://www.example.com/"),
    ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ("cookie", "theme=dark"),
    ("priority", "u=2"),
];

/// RFC 9220.
const EXTENDED_CONNECT: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "server.example.com"),
    (":path", "/chat"),
    ("sec-websocket-protocol", "chat, superchat"),
    ("sec-websocket-version", "13"),
    ("origin", "http://www.example.com"),
];

/// Of a file.
const RESPONSE: &[(&str, &str)] = &[
    (":status", "200"),
    ("server", "nginx"),
    ("date", "Wed, 31 Jan 2024 12:00:00 GMT"),
    ("content-type", "application/javascript"),
    ("content-length", "8000"),
    ("last-modified", "Tue, 30 Jan 2024 12:00:00 GMT"),
    ("etag", "\"65b8e4c0-1f40\""),
    ("cache-control", "public, max-age=31536000"),
    ("vary", "accept-encoding"),
    ("accept-ranges", "bytes"),
];

fn sections(c: &mut Criterion) {
    for (name, fields) in [("request", REQUEST), ("extended CONNECT", EXTENDED_CONNECT), ("response", RESPONSE)] {
        let mut block = Vec::new();
        encode(fields, &mut block);
        let mut group = c.benchmark_group(format!("QPACK {name}"));
        group.throughput(Throughput::Elements(fields.len() as u64));
        group.bench_function("encode", |b| {
            let mut out = Vec::with_capacity(block.len());
            b.iter(|| {
                out.clear();
                encode(black_box(fields), &mut out);
                out.len()
            });
        });
        group.bench_function("decode", |b| {
            b.iter(|| {
                let mut bytes = 0;
                let read = qpack::decode(black_box(&block), MAX, |name, value| {
                    bytes += name.len() + value.len();
                    Ok::<(), ()>(())
                });
                assert!(read.is_ok());
                bytes
            });
        });
        group.finish();
    }
}

fn encode(fields: &[(&str, &str)], out: &mut Vec<u8>) {
    qpack::start(out);
    for (name, value) in fields {
        qpack::encode(name.as_bytes(), value.as_bytes(), out);
    }
}
