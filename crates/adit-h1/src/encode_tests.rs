#![allow(clippy::unwrap_used)]
use adit_http::{Scheme, Token};
use http::HeaderValue;

use super::*;

const PLAIN: Answering = Answering { upgrade: false, connect: false, head: false, old: false, keep: true };

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn answer(status: u16, fields: &[(&'static str, &'static str)], end: bool, to: Answering) -> (String, Sent) {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    head.headers = map(fields);
    let mut out = Vec::new();
    let sent = response(&mut out, &head, end, to, HeaderCase::Lower).unwrap();
    (String::from_utf8(out).unwrap(), sent)
}

#[test]
fn answers() {
    let head = Answering { head: true, ..PLAIN };
    let old = Answering { old: true, ..PLAIN };
    let last = Answering { keep: false, ..PLAIN };
    for (status, fields, end, to, text, body) in [
        (200, &[][..], true, PLAIN, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Out::Nothing),
        (200, &[("content-length", "0")], true, PLAIN, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Out::Nothing),
        (
            299,
            &[("content-length", "7")],
            false,
            PLAIN,
            "HTTP/1.1 299 Unknown\r\ncontent-length: 7\r\n\r\n",
            Out::Length(7),
        ),
        (200, &[], false, PLAIN, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Out::Chunked),
        (200, &[], false, old, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n", Out::UntilClose),
        (200, &[], true, old, "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", Out::Nothing),
        (204, &[("content-length", "0")], true, PLAIN, "HTTP/1.1 204 No Content\r\n\r\n", Out::Nothing),
        (204, &[], false, PLAIN, "HTTP/1.1 204 No Content\r\n\r\n", Out::Discard),
        (
            304,
            &[("content-length", "5")],
            true,
            PLAIN,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            Out::Nothing,
        ),
        (200, &[("content-length", "5")], true, head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Out::Nothing),
        (200, &[("content-length", "5")], false, head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Out::Discard),
        (200, &[], true, head, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Out::Nothing),
        (200, &[], true, last, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Out::Nothing),
        (
            200,
            &[("connection", "close")],
            true,
            PLAIN,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            Out::Nothing,
        ),
        (
            200,
            &[("transfer-encoding", "gzip"), ("upgrade", "x"), ("connection", "x"), ("keep-alive", "1")],
            true,
            PLAIN,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Out::Nothing,
        ),
    ] {
        let (got, sent) = answer(status, fields, end, to);
        assert_eq!((got.as_str(), sent.body), (text, body));
        assert_eq!(sent.keep, !text.contains("close"), "{text}");
    }
}

#[test]
fn acceptance_has_no_framing_and_refusal_closes() {
    let upgrade = Answering { upgrade: true, ..PLAIN };
    let connect = Answering { connect: true, ..PLAIN };
    let framed = [("content-length", "5"), ("transfer-encoding", "chunked"), ("x", "y")];
    let (text, sent) = answer(200, &framed, false, connect);
    assert_eq!((text.as_str(), sent.body), ("HTTP/1.1 200 OK\r\nx: y\r\n\r\n", Out::Raw));
    let switch = [("connection", "Upgrade, foo"), ("upgrade", "websocket"), ("content-length", "0")];
    let (text, sent) = answer(101, &switch, false, Answering { keep: false, ..upgrade });
    assert_eq!(text, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade, foo\r\n\r\n");
    assert_eq!(sent.body, Out::Raw);
    for (status, to) in [(200, upgrade), (403, upgrade), (302, connect), (407, connect)] {
        let (text, sent) = answer(status, &[], true, to);
        assert!(text.contains("\r\nconnection: close\r\n") && !sent.keep, "{text}");
    }
}

#[test]
fn answers_that_would_be_wrong_are_not_written() {
    let mut out = Vec::new();
    for (status, fields, end, to) in [
        (101, &[][..], false, PLAIN),
        (101, &[], false, Answering { connect: true, ..PLAIN }),
        (100, &[], true, PLAIN),
        (200, &[("content-length", "5")], true, PLAIN),
        (200, &[("content-length", "x")], false, PLAIN),
        (200, &[("content-length", "5"), ("content-length", "6")], false, PLAIN),
    ] {
        let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
        head.headers = map(fields);
        assert!(response(&mut out, &head, end, to, HeaderCase::Lower).is_err(), "{status} {fields:?}");
        assert!(out.is_empty());
    }
    assert!(interim(&mut out, &ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS), HeaderCase::Lower).is_err());
    assert!(interim(&mut out, &ResponseHead::new(StatusCode::OK), HeaderCase::Lower).is_err());
}

fn ask(head: &RequestHead, end: bool, cfg: &ClientConfig) -> (String, Out) {
    let mut out = Vec::new();
    let body = request(&mut out, head, end, cfg).unwrap();
    (String::from_utf8(out).unwrap(), body)
}

fn head(kind: RequestKind, method: Method) -> RequestHead {
    let mut head = RequestHead::new(kind, method);
    head.authority = Some("h:80".parse().unwrap());
    head.path = Some("/p?q".parse().unwrap());
    head
}

#[test]
fn requests() {
    let cfg = ClientConfig::default();
    let get = head(RequestKind::Plain, Method::GET);
    assert_eq!(ask(&get, true, &cfg), ("GET /p?q HTTP/1.1\r\nhost: h:80\r\n\r\n".into(), Out::Nothing));
    let post = head(RequestKind::Plain, Method::POST);
    assert_eq!(ask(&post, true, &cfg).0, "POST /p?q HTTP/1.1\r\nhost: h:80\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(
        ask(&post, false, &cfg),
        ("POST /p?q HTTP/1.1\r\nhost: h:80\r\ntransfer-encoding: chunked\r\n\r\n".into(), Out::Chunked)
    );
    let full = ClientConfig { send_fully_qualified_url: true, header_case: HeaderCase::ProperWords, ..cfg };
    let mut secure = get.clone();
    secure.scheme = Scheme::Https;
    secure.headers = map(&[("x-foo-bar", "1"), ("te", "trailers"), ("connection", "x"), ("host", "other")]);
    assert_eq!(
        ask(&secure, true, &full).0,
        "GET https://h:80/p?q HTTP/1.1\r\nHost: h:80\r\nX-Foo-Bar: 1\r\nTe: trailers\r\n\r\n"
    );
}

#[test]
fn requests_for_tunnels() {
    let cfg = ClientConfig::default();
    let mut connect = head(RequestKind::Connect("t:443".parse().unwrap()), Method::CONNECT);
    connect.headers = map(&[("content-length", "0"), ("x", "y")]);
    assert_eq!(ask(&connect, false, &cfg), ("CONNECT t:443 HTTP/1.1\r\nhost: t:443\r\nx: y\r\n\r\n".into(), Out::Raw));
    let mut upgrade = head(RequestKind::Upgrade(Token::new("foo").unwrap()), Method::POST);
    upgrade.headers = map(&[
        ("content-length", "5"),
        ("upgrade", "Foo"),
        ("connection", "Upgrade"),
        ("transfer-encoding", "chunked"),
    ]);
    assert_eq!(
        ask(&upgrade, false, &cfg),
        (
            "POST /p?q HTTP/1.1\r\nhost: h:80\r\ncontent-length: 5\r\nupgrade: Foo\r\nconnection: Upgrade\r\n\r\n"
                .into(),
            Out::Raw
        )
    );
    upgrade.headers.clear();
    assert_eq!(
        ask(&upgrade, true, &cfg).0,
        "POST /p?q HTTP/1.1\r\nhost: h:80\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n"
    );
}

#[test]
fn requests_that_would_be_wrong_are_not_written() {
    let mut out = Vec::new();
    let mut pathless = head(RequestKind::Plain, Method::GET);
    pathless.path = None;
    assert!(request(&mut out, &pathless, true, &ClientConfig::default()).is_err());
    let mut short = head(RequestKind::Plain, Method::GET);
    short.headers = map(&[("content-length", "5")]);
    assert!(request(&mut out, &short, true, &ClientConfig::default()).is_err());
    assert!(out.is_empty());
}

#[test]
fn chunk_heads_are_hexadecimal() {
    for (length, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcd, "abcd\r\n"), (1 << 20, "100000\r\n")] {
        let mut out = Vec::new();
        chunk_head(&mut out, length);
        assert_eq!(out, text.as_bytes());
    }
}

#[test]
fn the_last_chunk_carries_clean_trailers() {
    let mut out = Vec::new();
    last_chunk(
        &mut out,
        HeaderCase::Lower,
        Some(&map(&[("x", "y"), ("content-length", "5"), ("transfer-encoding", "chunked")])),
    );
    assert_eq!(out, b"0\r\nx: y\r\n\r\n");
}
