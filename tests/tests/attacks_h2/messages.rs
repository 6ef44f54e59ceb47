//! Messages that must not be passed on (the downgrade list, C12 to C15).

use adit_tests::frames::*;

use crate::lab::Lab;

type Fields = Vec<(&'static str, &'static str)>;

fn with(more: &[(&'static str, &'static str)]) -> Fields {
    [&get("/bad")[..], more].concat()
}

fn extended(more: &[(&'static str, &'static str)]) -> Fields {
    [&[(":method", "CONNECT"), (":scheme", "http"), (":authority", "a"), (":path", "/bad")][..], more].concat()
}

fn bad_heads() -> Vec<Fields> {
    let mut all = vec![
        with(&[("x", "a\rb")]),
        with(&[("x", "a\nb")]),
        with(&[("x", "a\r\nx-smuggled: 1")]),
        with(&[("x", "a\0b")]),
        with(&[("x y", "1")]),
        with(&[("x:y", "1")]),
        with(&[("x\r\ny", "1")]),
        with(&[("X-Upper", "1")]),
        with(&[("", "1")]),
        with(&[("te", "gzip")]),
        with(&[("te", "trailers, gzip")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "5")]),
        with(&[("proxy-connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[(":path", "/twice")]),
        with(&[(":method", "GET")]),
        with(&[("x", "1"), (":status", "200")]),
        with(&[(":unknown", "1")]),
        with(&[(":protocol", "websocket")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "-1")]),
        with(&[("content-length", "0"), ("content-length", "5")]),
        vec![("x", "1"), (":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/bad")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a")],
        vec![(":method", "GET"), (":authority", "a"), (":path", "/bad")],
        vec![(":scheme", "http"), (":authority", "a"), (":path", "/bad")],
        vec![(":method", "G T"), (":scheme", "http"), (":authority", "a"), (":path", "/bad")],
        vec![(":method", "GET\r\nx: y"), (":scheme", "http"), (":authority", "a"), (":path", "/bad")],
        vec![(":method", ""), (":scheme", "http"), (":authority", "a"), (":path", "/bad")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "bad")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/bad /x HTTP/1.1\r\n")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a\r\nx: y"), (":path", "/bad")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "u:p@a"), (":path", "/bad")],
        vec![(":method", "GET"), (":scheme", "ht tp"), (":authority", "a"), (":path", "/bad")],
        // C13
        vec![(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")],
        vec![(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")],
        vec![(":method", "CONNECT")],
        vec![(":method", "CONNECT"), (":authority", "")],
        vec![(":method", "CONNECT"), (":authority", "a:0")],
        vec![(":method", "CONNECT"), (":authority", "a:65536")],
        vec![(":method", "CONNECT"), (":authority", "u@a:1")],
        vec![(":method", "CONNECT"), (":authority", "a:1"), (":protocol", "websocket")],
        vec![(":method", "CONNECT"), (":authority", "a"), (":path", "/"), (":protocol", "websocket")],
        // C14
        extended(&[(":protocol", "")]),
        extended(&[(":protocol", "websocket"), (":protocol", "websocket")]),
        extended(&[(":protocol", "web\r\nsocket")]),
        extended(&[("x", "1"), (":protocol", "websocket")]),
        extended(&[(":protocol", Box::leak("w".repeat(8192).into_boxed_str()))]),
    ];
    all.push(with(&[("x", Box::leak("y".repeat(70 << 10).into_boxed_str()))]));
    all
}

#[test]
fn h2_downgrade_heads_that_are_no_http() {
    let lab = Lab::new();
    for fields in bad_heads() {
        let shown: String = format!("{fields:?}").chars().take(200).collect();
        let mut client = lab.client();
        let whole = block(&fields);
        let mut pieces = whole.chunks(16_000).peekable();
        let (mut kind, stream) = (HEADERS, 1);
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            client.send(frame(kind, last | if kind == HEADERS { END_STREAM } else { 0 }, stream, piece));
            kind = CONTINUATION;
        }
        let outcome = client.outcome(stream);
        let refused = match outcome {
            Outcome::Status(status) => [400, 403, 404, 413, 431].contains(&status),
            Outcome::Reset(code) => [1, 2].contains(&code),
            Outcome::GoAway(code) => [1, 9].contains(&code),
            Outcome::Closed => false,
        };
        assert!(refused, "{shown}: {outcome:?}");
        if !matches!(outcome, Outcome::GoAway(_)) {
            client.send(headers(3, &get("/neighbour"), true));
            assert_eq!(client.outcome(3), Outcome::Status(200), "{shown}: the connection is spoilt");
        }
        let heads = lab.heads.lock().unwrap();
        // Not anywhere in the head: a request id may say so.
        let bad = |head: &String| head.lines().next().is_some_and(|line| line.contains("bad"));
        assert!(!heads.iter().any(|head| bad(head) || head.contains("smuggled")), "{shown}: {heads:?}");
    }
    lab.nothing_left();
}

#[test]
fn h2_downgrade_bodies_that_lie_about_their_length() {
    let lab = Lab::new();
    for (length, body) in [("5", "hello world"), ("5", "hell"), ("0", "x"), ("5", "")] {
        let mut client = lab.client();
        let fields = [
            &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/silent")][..],
            &[("content-length", length)],
        ]
        .concat();
        client.send(headers(1, &fields, false));
        client.send(data(1, body.as_bytes(), true));
        let outcome = client.outcome(1);
        assert!(matches!(outcome, Outcome::Reset(1) | Outcome::Status(400)), "{length} {body}: {outcome:?}");
    }
    lab.nothing_left();
}

#[test]
fn h2_downgrade_trailers() {
    let lab = Lab::new();
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/silent")];
    for trailers in [
        headers(1, &[("x", "1")], false),
        headers(1, &[("X", "1")], true),
        headers(1, &[("connection", "close")], true),
        headers(1, &[("x", "a\r\nb")], true),
    ] {
        let mut client = lab.client();
        client.send(headers(1, &post, false));
        client.send(data(1, b"body", false));
        client.send(&trailers);
        let outcome = client.outcome(1);
        assert!(
            matches!(outcome, Outcome::Reset(1) | Outcome::GoAway(1) | Outcome::Status(400)),
            "{trailers:?}: {outcome:?}"
        );
    }
    // Pseudo-header fields in trailers (RFC 9113 section 8.1).
    for trailers in [headers(1, &[(":path", "/smuggled")], true), headers(1, &[(":status", "200"), ("x", "1")], true)] {
        let mut client = lab.client();
        client.send(headers(3, CONNECT, false));
        assert_eq!(client.outcome(3), Outcome::Status(200));
        client.send(headers(5, &post, false));
        client.send(data(5, b"body", false));
        client.send([&trailers[..5], &5u32.to_be_bytes(), &trailers[9..]].concat());
        assert_eq!(client.outcome(5), Outcome::Reset(1));
        client.send(data(3, b"still here", false));
        assert_eq!(client.expect(DATA, 3).payload, b"still here");
        assert!(!lab.heads.lock().unwrap().iter().any(|head| head.contains("smuggled")));
    }
    // Behind END_STREAM nothing may follow (RFC 9113 section 5.1).
    for late in [data(1, b"late", true), headers(1, &[("x", "1")], true)] {
        let mut client = lab.client();
        client.send(headers(1, &get("/silent"), true));
        client.send(&late);
        assert_eq!(client.outcome(1), Outcome::GoAway(5));
    }
    lab.nothing_left();
}

/// RFC 9113 section 4.3; and a client beside it is served.
#[test]
fn header_blocks_that_cannot_be_decompressed() {
    let lab = Lab::new();
    lab.while_served(|lab| {
        for bad in [
            &[0x80][..],
            &[0xff, 0x7f],
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            &[0x82, 0x3f, 0],
            &[0x3f, 0xff, 0xff, 0x7f],
            &[0x40, 1, b'x', 0x81, 0],
            &[0x40, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x40, 1, b'x', 9, b'y'],
        ] {
            let mut client = lab.client();
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, bad));
            assert_eq!(client.outcome(1), Outcome::GoAway(9), "{bad:x?}");
        }
    });
}

#[test]
fn c12_authority_beats_host() {
    let lab = Lab::new();
    let mut client = lab.client();
    client.send(headers(1, &with(&[("host", "other.example")]), true));
    match client.outcome(1) {
        Outcome::Status(200) => {
            let heads = lab.heads.lock().unwrap();
            let head = heads.last().unwrap();
            assert!(head.contains("host: a.example\r\n") && !head.contains("other.example"), "{head}");
        }
        other => assert!(matches!(other, Outcome::Reset(1) | Outcome::Status(400)), "{other:?}"),
    }
}

/// A stream that is refused leaves the tunnels beside it alone.
#[test]
fn a_bad_stream_beside_a_tunnel() {
    let lab = Lab::new();
    let mut client = lab.client();
    client.send(headers(1, CONNECT, false));
    assert_eq!(client.outcome(1), Outcome::Status(200));
    let mut stream = 3;
    for fields in [
        with(&[("te", "gzip")]),
        with(&[("connection", "close")]),
        with(&[("content-length", "5")]),
        extended(&[(":protocol", "nope")]),
    ] {
        client.send(headers(stream, &fields, true));
        let outcome = client.outcome(stream);
        assert!(matches!(outcome, Outcome::Reset(1) | Outcome::Status(400 | 403)), "{fields:?}: {outcome:?}");
        stream += 2;
    }
    client.send(data(1, b"still here", false));
    assert_eq!(client.expect(DATA, 1).payload, b"still here");
    drop(client);
    lab.nothing_left();
}
