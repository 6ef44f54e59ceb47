#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adit_http::Token;
use proptest::prelude::*;

use super::*;
use crate::{Http3Options, frame, qpack, varint};

type Fields<'a> = &'a [(&'a str, &'a str)];

fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    qpack::start(&mut out);
    for (name, value) in fields {
        qpack::encode(name.as_bytes(), value.as_bytes(), &mut out);
    }
    out
}

fn limits() -> Limits {
    Http3Options::default().limits()
}

fn asked(fields: Fields<'_>) -> Result<Request, Refusal> {
    request(&block(fields), limits(), true)
}

fn answered(fields: Fields<'_>) -> Result<Response, Refusal> {
    response(&block(fields), limits(), &RequestKind::Plain, false)
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.b"), (":path", "/x?y")];

fn get_with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&GET, more].concat()
}

#[test]
fn a_plain_request() {
    let Request { head, length } = asked(&get_with(&[("content-length", "5"), ("x", "1"), ("x", "2")])).unwrap();
    assert_eq!((head.kind, length), (RequestKind::Plain, Some(5)));
    assert_eq!(head.path.unwrap(), "/x?y");
    assert_eq!(head.authority.unwrap(), "a.b");
    assert_eq!(head.headers.get_all("x").iter().count(), 2);
    assert_eq!(head.version, Version::HTTP_3);
}

#[test]
fn host_stands_for_authority() {
    let host = [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a.b")];
    let head = asked(&host).unwrap().head;
    assert_eq!((head.authority.unwrap().as_str(), head.headers.len()), ("a.b", 0));
    assert!(asked(&get_with(&[("host", "A.B")])).is_ok());
}

#[test]
fn cookie_crumbs_are_joined() {
    let head = asked(&get_with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")])).unwrap().head;
    assert_eq!(head.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn a_connect() {
    let fields = [(":method", "CONNECT"), (":authority", "a.b:443"), ("content-length", "4")];
    let Request { head, length } = asked(&fields).unwrap();
    assert_eq!(head.kind, RequestKind::Connect("a.b:443".parse().unwrap()));
    assert!(head.path.is_none() && length.is_none() && !head.headers.contains_key("content-length"));
}

const EXTENDED: [(&str, &str); 5] =
    [(":method", "CONNECT"), (":protocol", "foo-BAR"), (":scheme", "https"), (":authority", "a.b"), (":path", "/chat")];

#[test]
fn an_extended_connect_with_any_token() {
    let head = asked(&EXTENDED).unwrap().head;
    assert_eq!(head.kind, RequestKind::Upgrade(Token::new("foo-bar").unwrap()));
    assert_eq!((head.method, head.headers.get("upgrade").unwrap().to_str().unwrap()), (Method::GET, "foo-BAR"));
    assert_eq!(head.headers.get("connection").unwrap(), "upgrade");
}

#[test]
fn bytestream_is_a_plain_connect() {
    let mut fields = EXTENDED;
    fields[1].1 = "bytestream";
    let head = asked(&fields).unwrap().head;
    assert_eq!(head.kind, RequestKind::Connect("a.b".parse().unwrap()));
    assert!(head.path.is_none());
}

#[test]
fn an_extended_connect_without_leave_is_malformed() {
    assert_eq!(request(&block(&EXTENDED), limits(), false).unwrap_err(), Refusal::Malformed);
}

/// RFC 9114 sections 4.2 to 4.4, one rule each.
#[test]
fn malformed_requests() {
    let long = "x".repeat(257);
    let mut cases: Vec<Vec<(&str, &str)>> = vec![
        vec![],
        vec![(":method", "GET")],
        vec![(":method", "GET"), (":scheme", "https"), (":authority", "a.b")],
        vec![(":method", "GET"), (":authority", "a.b"), (":path", "/")],
        vec![(":scheme", "https"), (":authority", "a.b"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "https"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "ftp"), (":authority", "a.b"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "https"), (":authority", ""), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "https"), (":authority", "u@a.b"), (":path", "/")],
        vec![(":method", "G T"), (":scheme", "https"), (":authority", "a.b"), (":path", "/")],
        vec![(":method", ""), (":scheme", "https"), (":authority", "a.b"), (":path", "/")],
        vec![(":method", "GET"), ("x", "y"), (":scheme", "https"), (":authority", "a.b"), (":path", "/")],
        vec![(":method", "CONNECT"), (":authority", "a.b:1"), (":path", "/")],
        vec![(":method", "CONNECT"), (":authority", "a.b:1"), (":scheme", "https")],
        vec![(":method", "CONNECT"), ("host", "a.b:1")],
        vec![(":method", "CONNECT"), (":protocol", "x"), (":authority", "a.b")],
        vec![(":method", "CONNECT"), (":protocol", "x"), (":scheme", "https"), (":path", "/")],
        vec![(":method", "CONNECT"), (":protocol", "x"), (":scheme", "https"), (":path", "/"), ("host", "a.b")],
    ];
    for (name, value) in [
        (":path", "/2"),
        (":method", "GET"),
        (":authority", "a.b"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":other", "x"),
        (":", "x"),
        ("", "x"),
        ("X-Upper", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("a\0b", "x"),
        ("a\r\nb", "x"),
        ("x", "a\r\nb"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", " a"),
        ("x", "a\t"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "+5"),
        ("content-length", "5, 5"),
        ("content-length", ""),
        ("content-length", "99999999999999999999"),
        ("host", "other"),
    ] {
        cases.push(get_with(&[(name, value)]));
    }
    cases.push(get_with(&[("content-length", "5"), ("content-length", "6")]));
    cases.push(get_with(&[("host", "a.b"), ("host", "a.b")]));
    for path in ["", "x", "*", "https://a.b/", "/a#b", "/a b"] {
        cases.push(vec![(":method", "GET"), (":scheme", "https"), (":authority", "a.b"), (":path", path)]);
    }
    for protocol in ["", "a b", "a\r\nb", long.as_str()] {
        let mut fields = EXTENDED.to_vec();
        fields[1].1 = protocol;
        cases.push(fields);
    }
    for fields in cases {
        assert_eq!(asked(&fields).unwrap_err(), Refusal::Malformed, "{fields:?}");
    }
}

#[test]
fn what_is_allowed() {
    assert!(asked(&get_with(&[("te", "trailers"), ("content-length", "5"), ("content-length", "5")])).is_ok());
    assert!(asked(&get_with(&[("x", ""), ("x", "ä")])).is_ok());
    let options = [(":method", "OPTIONS"), (":scheme", "https"), (":authority", "a.b"), (":path", "*")];
    assert_eq!(asked(&options).unwrap().head.path.unwrap(), "*");
    let strict = Http3Options { disallow_obs_text: true, ..Http3Options::default() }.limits();
    assert_eq!(request(&block(&get_with(&[("x", "ä")])), strict, true).unwrap_err(), Refusal::Malformed);
}

#[test]
fn limits_of_count_and_size() {
    let fields = |n| get_with(&vec![("cookie", "a=b"); n]);
    assert!(asked(&fields(100)).is_ok());
    assert_eq!(asked(&fields(101)).unwrap_err(), Refusal::TooLarge);
    assert_eq!(asked(&fields(2000)).unwrap_err(), Refusal::TooLarge);
    let long = "x".repeat(61 << 10);
    assert_eq!(asked(&get_with(&[("x", &long)])).unwrap_err(), Refusal::TooLarge);
}

#[test]
fn responses() {
    let got = answered(&[(":status", "204"), ("content-length", "7")]).unwrap();
    assert_eq!((got.head.status.as_u16(), got.length), (204, Some(0)));
    for fields in [
        &[][..],
        &[("x", "y")],
        &[(":status", "101")],
        &[(":status", "20")],
        &[(":status", "2000")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
        &[("x", "y"), (":status", "200")],
        &[(":status", "200"), ("connection", "close")],
    ] {
        assert_eq!(answered(fields).unwrap_err(), Refusal::Malformed, "{fields:?}");
    }
}

#[test]
fn only_a_200_accepts_an_extended_connect() {
    let kind = RequestKind::Upgrade(Token::new("x").unwrap());
    for (status, accepted) in [("200", true), ("204", false), ("403", false)] {
        let fields = block(&[(":status", status), ("content-length", "3")]);
        let got = response(&fields, limits(), &kind, false).unwrap();
        assert_eq!(got.head.accepts(&kind), accepted);
        assert_eq!(got.length.is_none(), accepted);
    }
    let answer = answer_block(ResponseHead::new(StatusCode::NO_CONTENT), &kind, u64::MAX).unwrap();
    assert_eq!(response(&answer[2..], limits(), &kind, false).unwrap().head.status, 502);
}

#[test]
fn trailers_have_no_pseudo_fields() {
    assert_eq!(fields::trailers(&block(&[("x", "y")]), limits()).unwrap().len(), 1);
    assert_eq!(fields::trailers(&block(&[(":status", "200")]), limits()), Err(Refusal::Malformed));
}

#[test]
fn heads_larger_than_the_peer_takes_are_not_sent() {
    let head = ResponseHead::new(StatusCode::OK);
    assert!(matches!(answer_block(head.clone(), &RequestKind::Plain, 41), Err(StreamError::TooLarge(_))));
    assert!(answer_block(head, &RequestKind::Plain, 42).is_ok());
}

fn payload(frame: &Bytes) -> Bytes {
    let (kind, a) = varint::decode(frame).unwrap();
    let (length, b) = varint::decode(&frame[a..]).unwrap();
    assert_eq!((kind, length as usize), (frame::HEADERS, frame.len() - a - b));
    frame.slice(a + b..)
}

#[test]
fn requests_go_and_come() {
    for kind in [
        RequestKind::Plain,
        RequestKind::Connect("a.b:1".parse().unwrap()),
        RequestKind::Upgrade(Token::new("websocket").unwrap()),
    ] {
        let mut head = RequestHead::new(kind.clone(), if kind.is_tunnel() { Method::GET } else { Method::POST });
        head.authority = Some("a.b:1".parse().unwrap());
        head.path = Some("/p".parse().unwrap());
        for (name, value) in [("x", "y"), ("connection", "upgrade, z"), ("z", "1"), ("te", "trailers, gzip")] {
            head.headers.insert(name, HeaderValue::from_static(value));
        }
        let wire = request_block(head, u64::MAX).unwrap();
        let got = request(&payload(&wire), limits(), true).unwrap().head;
        assert_eq!(got.kind, kind);
        assert_eq!(got.headers.get("x").unwrap(), "y");
        assert!(!got.headers.contains_key("z"));
        assert_eq!(got.path.is_none(), matches!(kind, RequestKind::Connect(_)));
    }
}

proptest! {
    #[test]
    fn anything_is_survived(block in proptest::collection::vec(any::<u8>(), 0..400)) {
        let block = [&[0, 0], &block[..]].concat();
        let _ = request(&block, limits(), true);
        let _ = response(&block, limits(), &RequestKind::Plain, false);
        let _ = fields::trailers(&block, limits());
    }
}
