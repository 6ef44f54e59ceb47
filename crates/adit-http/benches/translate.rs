//! An upgrade as an extended CONNECT, and back: what each tunnel pays between two HTTP versions.
//!
//! `cargo bench -p adit-http`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use adit_http::{RequestHead, RequestKind, ResponseHead, Token, translate};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = requests, responses
}
criterion_main!(benches);

fn websocket() -> Token {
    Token::new("websocket").unwrap()
}

fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// RFC 6455 section 1.2, with what browsers add.
fn upgrade() -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Upgrade(websocket()), Method::GET);
    head.authority = Some("server.example.com".parse().unwrap());
    head.path = Some("/chat".parse().unwrap());
    head.headers = fields(&[
        ("host", "server.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("origin", "http://example.com"),
    ]);
    head
}

fn accepted() -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
    head.headers = fields(&[
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLBmiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
        ("server", "origin"),
    ]);
    head
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate request");
    group.bench_function("upgrade to extended CONNECT", |b| {
        b.iter_batched_ref(upgrade, translate::upgrade_to_extended_connect, BatchSize::SmallInput);
    });
    let mut sent = upgrade();
    translate::upgrade_to_extended_connect(&mut sent);
    group.bench_function("extended CONNECT to upgrade", |b| {
        b.iter_batched_ref(
            || (sent.clone(), Some(websocket())),
            |(head, token)| translate::extended_connect_to_upgrade(head, token.take().unwrap()),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn responses(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate response");
    group.bench_function("101 to 200", |b| {
        b.iter_batched_ref(accepted, translate::response_to_extended_connect, BatchSize::SmallInput);
    });
    let mut sent = accepted();
    translate::response_to_extended_connect(&mut sent);
    let token = websocket();
    group.bench_function("200 to 101", |b| {
        b.iter_batched_ref(
            || sent.clone(),
            |head| translate::response_from_extended_connect(head, &token),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
