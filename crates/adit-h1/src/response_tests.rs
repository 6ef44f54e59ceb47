#![allow(clippy::unwrap_used)]
use adit_http::Token;
use http::Method;

use super::*;

fn asked(kind: RequestKind, method: &Method) -> Asked {
    Asked { kind, head: method == Method::HEAD }
}

fn plain() -> Asked {
    asked(RequestKind::Plain, &Method::GET)
}

fn upgrade(offer: &str) -> Asked {
    asked(RequestKind::Upgrade(Token::new(offer).unwrap()), &Method::GET)
}

fn connect() -> Asked {
    asked(RequestKind::Connect("h:1".parse().unwrap()), &Method::CONNECT)
}

fn take(asked: &Asked, text: &str) -> Result<Response, Refusal> {
    parse(&Bytes::copy_from_slice(text.as_bytes()), 4, &ClientConfig::default(), asked)
}

#[test]
fn what_delimits_a_body() {
    for (text, body, kept) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Body::Length(5), true),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Body::Empty, true),
        ("HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n", Body::Length(3), true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Body::Chunked, true),
        ("HTTP/1.1 200 OK\r\n\r\n", Body::UntilClose, false),
        ("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", Body::Empty, true),
        ("HTTP/1.1 304 Not\r\ncontent-length: 5\r\n\r\n", Body::Empty, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n", Body::Length(5), false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Body::Length(5), false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n", Body::Length(5), true),
    ] {
        let response = take(&plain(), text).unwrap();
        assert_eq!((response.body, response.keep_alive, response.interim), (body, kept, false), "{text}");
    }
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let head = asked(RequestKind::Plain, &Method::HEAD);
    let response = take(&head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").unwrap();
    assert_eq!(response.body, Body::Empty);
    assert_eq!(response.head.headers.get("content-length").unwrap(), "5");
}

#[test]
fn u6_u7_u8_u10_a_switch_must_have_been_asked_for() {
    let switch = |fields: &str| format!("HTTP/1.1 101 X\r\n{fields}\r\n");
    let good = switch("upgrade: foo\r\nconnection: upgrade\r\n");
    assert_eq!(take(&plain(), &good).unwrap_err(), Refusal::CODEC);
    assert_eq!(take(&connect(), &good).unwrap_err(), Refusal::CODEC);
    assert_eq!(take(&upgrade("foo"), &good).unwrap().body, Body::Raw);
    assert_eq!(take(&upgrade("bar, FOO"), &good).unwrap().body, Body::Raw);
    for bad in [
        "upgrade: bar\r\nconnection: upgrade\r\n",
        "upgrade: foo, bar\r\nconnection: upgrade\r\n",
        "upgrade:\r\nconnection: upgrade\r\n",
        "connection: upgrade\r\n",
        "upgrade: foo\r\n",
        "upgrade: foo\r\nconnection: close\r\n",
    ] {
        assert_eq!(take(&upgrade("foo"), &switch(bad)).unwrap_err(), Refusal::CODEC, "{bad}");
    }
    assert_eq!(take(&upgrade("foo"), &good.replace("1.1", "1.0")).unwrap_err(), Refusal::CODEC);
    for bad in ["content-length: x", "content-length: 5", "transfer-encoding: gzip", "transfer-encoding: chunked"] {
        let framed = switch(&format!("upgrade: foo\r\nconnection: upgrade\r\n{bad}\r\n"));
        assert!(take(&upgrade("foo"), &framed).is_err(), "{bad}");
    }
    let response =
        take(&upgrade("foo"), &switch("upgrade: foo\r\nconnection: upgrade\r\ncontent-length: 0\r\n")).unwrap();
    assert_eq!((response.body, response.head.headers.len()), (Body::Raw, 2));
}

#[test]
fn a_refused_upgrade_says_what_else_could_be_switched_to() {
    let text = "HTTP/1.1 426 X\r\nupgrade: bar\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n";
    let response = take(&upgrade("foo"), text).unwrap();
    assert_eq!(response.head.headers.get("upgrade").unwrap(), "bar");
    assert!(!response.head.headers.contains_key("connection"));
    assert!(!take(&plain(), text).unwrap().head.headers.contains_key("upgrade"));
}

#[test]
fn c5_c7_any_2xx_accepts_a_connect_whatever_its_framing_fields_say() {
    for status in [200, 204, 206, 299] {
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n");
        let response = take(&connect(), &text).unwrap();
        assert_eq!((response.body, response.keep_alive), (Body::Raw, false));
        assert!(response.head.headers.is_empty());
    }
}

#[test]
fn c8_a_redirect_or_a_refusal_of_a_connect_is_an_ordinary_answer() {
    for status in [302, 407, 503] {
        let response = take(&connect(), &format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n")).unwrap();
        assert_eq!(response.body, Body::Length(2));
    }
}

#[test]
fn interim_heads_have_no_body() {
    let response = take(&plain(), "HTTP/1.1 103 Early\r\nlink: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert!(response.interim);
    assert_eq!(response.head.headers.len(), 1);
}

#[test]
fn what_has_no_body_must_not_announce_one() {
    for status in [100, 103, 204] {
        for (framing, refusal) in [
            ("content-length: 5", Refusal::LENGTH_NOT_ALLOWED),
            ("transfer-encoding: chunked", Refusal::CODING_NOT_ALLOWED),
            ("content-length: 0\r\ncontent-length: 0", Refusal::CODEC),
        ] {
            let text = format!("HTTP/1.1 {status} X\r\n{framing}\r\n\r\n");
            assert_eq!(take(&plain(), &text).unwrap_err(), refusal, "{text}");
        }
    }
}

#[test]
fn what_is_no_answer() {
    for text in [
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 999 X\r\n\r\n",
        "HTTP/1.1 20 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/1.1 +20 X\r\n\r\n",
        "HTTP/1.1  200 X\r\n\r\n",
        "HTTP/1.2 200 X\r\n\r\n",
        "HTTP/2 200 X\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 X\r\na : b\r\n\r\n",
        "HTTP/1.1 200 X\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 X\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 X\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 X\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        "HTTP/1.0 200 X\r\ntransfer-encoding: chunked\r\n\r\n",
        "\r\n",
    ] {
        assert!(take(&plain(), text).is_err(), "{text:?}");
    }
}
