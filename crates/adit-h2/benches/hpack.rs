//! Header blocks of HTTP/2 to fields and back (RFC 7541), as they come behind others like them.
//!
//! `cargo bench -p adit-h2 --bench hpack`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use adit_h2::hpack::{Decoder, Encoder, Pseudo};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderName, HeaderValue};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = blocks
}
criterion_main!(benches);

type Head = (Vec<(Pseudo, &'static str)>, Vec<(HeaderName, HeaderValue)>);

fn head(pseudo: &[(Pseudo, &'static str)], fields: &[(&'static str, &'static str)]) -> Head {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    (pseudo.to_vec(), fields.iter().map(field).collect())
}

/// As the load generator sends it.
fn small_request() -> Head {
    let pseudo = [
        (Pseudo::Method, "GET"),
        (Pseudo::Scheme, "http"),
        (Pseudo::Authority, "www.example.com"),
        (Pseudo::Path, "/index.txt"),
    ];
    head(&pseudo, &[("user-agent", "h2load nghttp2/1.52.0"), ("x-forwarded-proto", "http")])
}

/// As a browser sends it.
fn browser_request() -> Head {
    let pseudo = [
        (Pseudo::Method, "GET"),
        (Pseudo::Scheme, "https"),
        (Pseudo::Authority, "www.example.com"),
        (Pseudo::Path, "/assets/app.js?v=20240131"),
    ];
    let fields = [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("accept", "*/*"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br"),
        ("referer", "https://www.example.com/"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("x-request-id", "6d1a3f6a-6a0e-4c0b-9a57-0b5b7b0f7f3c"),
    ];
    head(&pseudo, &fields)
}

fn response() -> Head {
    let fields = [
        ("server", "envoy"),
        ("date", "Wed, 31 Jan 2024 12:00:00 GMT"),
        ("content-type", "application/javascript"),
        ("content-length", "8000"),
        ("x-envoy-upstream-service-time", "3"),
    ];
    head(&[(Pseudo::Status, "200")], &fields)
}

fn encode(encoder: &mut Encoder, (pseudo, fields): &Head, out: &mut BytesMut) {
    encoder.begin(out);
    for (name, value) in pseudo {
        encoder.pseudo(*name, value.as_bytes(), out);
    }
    for (name, value) in fields {
        encoder.field(name, value, out);
    }
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> usize {
    let mut octets = 0;
    decoder.decode(block, &mut |field, size| octets += size + usize::from(black_box(Some(field)).is_some())).unwrap();
    octets
}

fn blocks(c: &mut Criterion) {
    let heads = [("small request", small_request()), ("browser request", browser_request()), ("response", response())];
    for (name, head) in heads {
        let mut group = c.benchmark_group(format!("HPACK {name}"));
        group.throughput(Throughput::Elements((head.0.len() + head.1.len()) as u64));
        group.bench_function("encode, first", |b| {
            let mut out = BytesMut::with_capacity(4096);
            b.iter(|| {
                out.clear();
                encode(&mut Encoder::default(), black_box(&head), &mut out);
                out.len()
            });
        });
        let (mut encoder, mut first, mut next) = (Encoder::default(), BytesMut::new(), BytesMut::new());
        encode(&mut encoder, &head, &mut first);
        encode(&mut encoder, &head, &mut next);
        group.bench_function("encode, again", |b| {
            let mut out = BytesMut::with_capacity(4096);
            b.iter(|| {
                out.clear();
                encode(&mut encoder, black_box(&head), &mut out);
                out.len()
            });
        });
        group.bench_function("decode, first", |b| {
            b.iter(|| decode(&mut Decoder::default(), black_box(&first)));
        });
        let mut decoder = Decoder::default();
        decode(&mut decoder, &first);
        group.bench_function("decode, again", |b| {
            b.iter(|| decode(&mut decoder, black_box(&next)));
        });
        group.finish();
    }
}
