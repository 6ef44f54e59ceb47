//! Heads of HTTP/1.1 from bytes and to bytes, without a connection.
//!
//! `cargo bench -p adit-h1`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use adit_h1::probe::{self, Outcome};
use adit_h1::{ClientConfig, ServerConfig};
use adit_http::RequestKind;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = requests, responses
}
criterion_main!(benches);

/// As a browser sends it.
const REQUEST: &[u8] = b"GET /assets/app.js?v=20240131 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.com/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nConnection: keep-alive\r\nPriority: u=2\r\n\r\n";

/// RFC 6455 section 1.2.
const UPGRADE: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Of a file; its body is not here.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 31 Jan 2024 12:00:00 GMT\r\n\
    Content-Type: application/javascript\r\nContent-Length: 0\r\nLast-Modified: Tue, 30 Jan 2024 12:00:00 GMT\r\n\
    ETag: \"65b8e4c0-1f40\"\r\nCache-Control: public, max-age=31536000, immutable\r\nVary: Accept-Encoding\r\n\
    Accept-Ranges: bytes\r\n\r\n";

fn requests(c: &mut Criterion) {
    let (server, client) = (ServerConfig::default(), ClientConfig::default());
    for (name, bytes) in [("request", REQUEST), ("upgrade", UPGRADE)] {
        let mut group = c.benchmark_group(format!("h1 {name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("parse", |b| b.iter(|| taken(probe::request(&[black_box(bytes)], &server))));
        let head = taken(probe::request(&[bytes], &server));
        group.bench_function("write", |b| {
            b.iter(|| probe::write_request(black_box(&head), true, &client).unwrap());
        });
        group.finish();
    }
}

fn responses(c: &mut Criterion) {
    let client = ClientConfig::default();
    let parse = |bytes| taken(probe::response(&[bytes], &client, RequestKind::Plain, false));
    let mut group = c.benchmark_group("h1 response");
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse", |b| b.iter(|| parse(black_box(RESPONSE))));
    let head = parse(RESPONSE);
    let to = taken(probe::request(&[REQUEST], &ServerConfig::default()));
    group.bench_function("write", |b| b.iter(|| probe::write_response(black_box(&head), true, &to).unwrap()));
    group.finish();
}

fn taken<H: std::fmt::Debug>(outcome: Outcome<H>) -> H {
    match outcome {
        Outcome::Taken(message) => message.head,
        other => panic!("{other:?}"),
    }
}
