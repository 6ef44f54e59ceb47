//! What a client may do to a server, and a server to a client, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::time::Duration;

use adit_codec::conformance::peers;
use adit_h3::{ServerConfig, frame, varint};
use adit_http::{ErrorCode, RequestKind, StreamError};
use common::allow_connect;
use common::raw::*;
use http::Method;

const DATA: u64 = frame::DATA;
const HEADERS: u64 = frame::HEADERS;

mod code {
    pub const STREAM_CREATION: u64 = 0x103;
    pub const CLOSED_CRITICAL: u64 = 0x104;
    pub const FRAME_UNEXPECTED: u64 = 0x105;
    pub const FRAME_ERROR: u64 = 0x106;
    pub const EXCESSIVE_LOAD: u64 = 0x107;
    pub const ID: u64 = 0x108;
    pub const SETTINGS: u64 = 0x109;
    pub const MISSING_SETTINGS: u64 = 0x10a;
    pub const CANCELLED: u64 = 0x10c;
    pub const INCOMPLETE: u64 = 0x10d;
    pub const MESSAGE: u64 = 0x10e;
    pub const QPACK: u64 = 0x200;
    pub const QPACK_ENCODER: u64 = 0x201;
    pub const QPACK_DECODER: u64 = 0x202;
    pub const DATAGRAM: u64 = 0x33;
}

/// A stream of these bytes is reset with this code, and its neighbours go on.
async fn resets(bytes: &[u8], end: bool, expected: u64) {
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, mut recv) = client.bi(bytes, end).await;
    assert_eq!(outcome(&mut recv).await, Err(expected));
    client.still_works().await;
}

/// A request stream of these bytes closes the connection with this code.
async fn closes(bytes: &[u8], end: bool, expected: u64) {
    let client = RawClient::polite(allow_connect()).await;
    let (_send, _recv) = client.bi(bytes, end).await;
    assert_eq!(client.closed().await, expected);
    let error = client.served.await.unwrap().expect("an error");
    assert_eq!(error.details, "http3.codec_error");
}

/// A unidirectional stream of these bytes closes the connection with this code.
async fn uni_closes(bytes: &[u8], expected: u64) {
    let mut client = RawClient::polite(allow_connect()).await;
    client.uni(bytes).await;
    assert_eq!(client.closed().await, expected);
}

/// The control stream says these frames behind its type.
async fn control_closes(bytes: &[u8], expected: u64) {
    let mut client = RawClient::new(allow_connect()).await;
    client.uni(&[&[0][..], bytes].concat()).await;
    assert_eq!(client.closed().await, expected);
}

fn with<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&GET, fields].concat()
}

#[tokio::test]
async fn content_length_on_headers_only() {
    resets(&request(&with(&[("content-length", "5")])), true, code::MESSAGE).await;
}

#[tokio::test]
async fn content_length_against_data() {
    for body in ["four", "sixsix"] {
        let mut client = RawClient::polite(allow_connect()).await;
        let bytes = [request(&with(&[("content-length", "5")])), frame(DATA, body.as_bytes())].concat();
        let (_send, _recv) = client.bi(&bytes, true).await;
        let mut incoming = client.requests.recv().await.unwrap();
        let error = peers::failure(&mut incoming.recv).await;
        assert_eq!(error, StreamError::Protocol("http3.violation.of.messaging.rule"));
        client.still_works().await;
    }
}

#[tokio::test]
async fn malformed_heads_are_stream_errors() {
    for fields in [
        with(&[(":path", "/2")]),
        with(&[("Upper", "x")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("x", "a\r\nb: c")]),
        with(&[(":protocol", "websocket")]),
        vec![(":method", "CONNECT"), (":authority", "a:1"), (":path", "/"), (":scheme", "https")],
        vec![("x", "y"), (":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")],
    ] {
        resets(&request(&fields), true, code::MESSAGE).await;
    }
}

#[tokio::test]
async fn malformed_heads_close_the_connection_where_it_is_asked_for() {
    let mut cfg = allow_connect();
    cfg.http3.stream_error_on_invalid_http_message = Some(false);
    let client = RawClient::polite(cfg).await;
    let (_send, _recv) = client.bi(&request(&with(&[("connection", "close")])), true).await;
    assert_eq!(client.closed().await, code::MESSAGE);
}

#[tokio::test]
async fn extended_connect_without_the_setting() {
    let fields =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    let mut client = RawClient::polite(ServerConfig::default()).await;
    let (_send, mut recv) = client.bi(&request(&fields), false).await;
    assert_eq!(outcome(&mut recv).await, Err(code::MESSAGE));
    client.still_works().await;
}

#[tokio::test]
async fn an_empty_stream_is_no_request() {
    resets(b"", true, code::INCOMPLETE).await;
    resets(&frame(0x21, b"grease"), true, code::INCOMPLETE).await;
}

#[tokio::test]
async fn frames_in_the_wrong_place() {
    closes(&frame(DATA, b"x"), false, code::FRAME_UNEXPECTED).await;
    for kind in [frame::SETTINGS, frame::GOAWAY, frame::PUSH_PROMISE, frame::MAX_PUSH_ID, 0x2, 0x6, 0x8, 0x9] {
        closes(&frame(kind, b""), false, code::FRAME_UNEXPECTED).await;
    }
}

#[tokio::test]
async fn a_frame_cut_short_by_the_end() {
    let whole = request(&GET);
    closes(&whole[..whole.len() - 1], true, code::FRAME_ERROR).await;
    let client = RawClient::polite(allow_connect()).await;
    let (_send, _recv) = client.bi(&[whole, vec![0, 5, b'x']].concat(), true).await;
    let mut client = client;
    let mut incoming = client.requests.recv().await.unwrap();
    peers::failure(&mut incoming.recv).await;
    assert_eq!(client.closed().await, code::FRAME_ERROR);
}

#[tokio::test]
async fn a_tunnel_knows_nothing_but_data() {
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, _recv) = client.bi(&[request(&CONNECT), request(&[("x", "y")])].concat(), false).await;
    let mut incoming = client.requests.recv().await.unwrap();
    peers::failure(&mut incoming.recv).await;
    assert_eq!(client.closed().await, code::FRAME_UNEXPECTED);
}

#[tokio::test]
async fn frames_behind_trailers() {
    let mut client = RawClient::polite(allow_connect()).await;
    let bytes = [request(&GET), request(&[("x", "y")]), frame(DATA, b"z")].concat();
    let (_send, _recv) = client.bi(&bytes, false).await;
    let mut incoming = client.requests.recv().await.unwrap();
    assert_eq!(peers::all(&mut incoming.recv).await.unwrap(), b"");
    peers::trailers(&mut incoming.recv).await.unwrap_err();
    assert_eq!(client.closed().await, code::FRAME_UNEXPECTED);
}

#[tokio::test]
async fn trailers_with_pseudo_fields() {
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, _recv) = client.bi(&[request(&GET), request(&[(":path", "/")])].concat(), true).await;
    let mut incoming = client.requests.recv().await.unwrap();
    peers::failure(&mut incoming.recv).await;
    client.still_works().await;
}

/// 24 576 one-byte references in one block.
#[tokio::test]
async fn qpack_bomb() {
    let mut bomb = vec![0, 0];
    bomb.extend_from_slice(&[0xd1; 24_576]);
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, mut recv) = client.bi(&frame(HEADERS, &bomb), true).await;
    let answer = outcome(&mut recv).await.unwrap();
    assert_eq!(answer, request(&[(":status", "431")]));
    client.still_works().await;
}

#[tokio::test]
async fn more_fields_than_allowed() {
    let fields = with(&vec![("cookie", "a=b"); 101]);
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, mut recv) = client.bi(&request(&fields), true).await;
    assert_eq!(outcome(&mut recv).await.unwrap(), request(&[(":status", "431")]));
    client.still_works().await;
}

#[tokio::test]
async fn a_head_of_an_absurd_length_is_not_waited_for() {
    let mut bytes = Vec::new();
    frame::header(HEADERS, varint::MAX, &mut bytes);
    let mut client = RawClient::polite(allow_connect()).await;
    let (send, mut recv) = client.bi(&bytes, false).await;
    assert_eq!(outcome(&mut recv).await.unwrap(), request(&[(":status", "431")]));
    assert_eq!(stopped(&send).await, code::EXCESSIVE_LOAD);
    client.still_works().await;
}

#[tokio::test]
async fn dynamic_references_and_broken_blocks() {
    for block in [&b"\x01\0\xd1"[..], b"\0\0\x80", b"\0\0\x10", b"\0", b"\0\0\x51\x7f"] {
        closes(&frame(HEADERS, block), true, code::QPACK).await;
    }
}

/// Nothing waits for the encoder stream: a blocked stream cannot be.
#[tokio::test]
async fn instructions_for_a_table_of_no_capacity() {
    uni_closes(&[0x2, 0x3f, 0xe1, 0x1f], code::QPACK_ENCODER).await;
    uni_closes(&[0x2, 0xc0, 0x01, b'x'], code::QPACK_ENCODER).await;
    uni_closes(&[0x3, 0x80], code::QPACK_DECODER).await;
    uni_closes(&[0x3, 0x01], code::QPACK_DECODER).await;
    let mut client = RawClient::polite(allow_connect()).await;
    client.uni(&[&[0x2][..], &[0x20; 50_000]].concat()).await;
    client.uni(&[0x3, 0x7f, 0x80, 0x01, 0x44]).await;
    client.still_works().await;
}

#[tokio::test]
async fn control_streams_that_are_none() {
    control_closes(&frame(frame::GOAWAY, &[0]), code::MISSING_SETTINGS).await;
    control_closes(&frame(frame::SETTINGS, &[0x2, 0]), code::SETTINGS).await;
    control_closes(&frame(frame::SETTINGS, &[0x8, 2]), code::SETTINGS).await;
    control_closes(&frame(frame::SETTINGS, &[0x6, 1, 0x6, 1]), code::SETTINGS).await;
    control_closes(&frame(frame::SETTINGS, &[0x6]), code::FRAME_ERROR).await;
    control_closes(&frame(frame::SETTINGS, &[]).repeat(2), code::FRAME_UNEXPECTED).await;
    control_closes(&frame(HEADERS, &[]), code::FRAME_UNEXPECTED).await;
    let settings = frame(frame::SETTINGS, &[]);
    control_closes(&[&settings[..], &frame(frame::CANCEL_PUSH, &[1])].concat(), code::ID).await;
    control_closes(&[&settings[..], &frame(frame::GOAWAY, &[1, 2])].concat(), code::FRAME_ERROR).await;
    let pushes = [settings, frame(frame::MAX_PUSH_ID, &[5]), frame(frame::MAX_PUSH_ID, &[4])].concat();
    control_closes(&pushes, code::ID).await;
}

/// The released `h3` crate would gather all of it.
#[tokio::test]
async fn a_control_frame_of_an_absurd_length() {
    let mut bytes = Vec::new();
    frame::header(frame::SETTINGS, varint::MAX, &mut bytes);
    control_closes(&bytes, code::EXCESSIVE_LOAD).await;
}

#[tokio::test]
async fn second_streams_and_pushes() {
    uni_closes(&[0x0], code::STREAM_CREATION).await;
    uni_closes(&[0x1, 0x0], code::STREAM_CREATION).await;
    let mut client = RawClient::polite(allow_connect()).await;
    client.uni(&[0x2]).await;
    client.uni(&[0x2]).await;
    assert_eq!(client.closed().await, code::STREAM_CREATION);
}

#[tokio::test]
async fn a_critical_stream_that_ends() {
    for kind in [0, 2, 3] {
        let client = RawClient::new(allow_connect()).await;
        let mut stream = client.conn.open_uni().await.unwrap();
        let bytes = if kind == 0 { [&[0][..], &frame(frame::SETTINGS, &[])].concat() } else { vec![kind] };
        stream.write_all(&bytes).await.unwrap();
        stream.finish().unwrap();
        assert_eq!(client.closed().await, code::CLOSED_CRITICAL);
    }
}

#[tokio::test]
async fn streams_of_unknown_types() {
    let mut client = RawClient::polite(allow_connect()).await;
    for _ in 0..50 {
        let mut stream = client.conn.open_uni().await.unwrap();
        stream.write_all(&[0x21, 1, 2, 3]).await.unwrap();
        assert_eq!(stopped(&stream).await, code::STREAM_CREATION);
    }
    // Ended or reset before they have a type.
    client.conn.open_uni().await.unwrap().finish().unwrap();
    client.conn.open_uni().await.unwrap().reset(7u32.into()).unwrap();
    client.still_works().await;
}

#[tokio::test]
async fn a_flood_of_streams_of_unknown_types() {
    let client = RawClient::polite(allow_connect()).await;
    let flood = async {
        loop {
            let Ok(mut stream) = client.conn.open_uni().await else { return };
            if stream.write_all(&[0x21]).await.is_err() || stream.stopped().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), flood).await.unwrap();
    assert_eq!(client.closed().await, code::EXCESSIVE_LOAD);
}

#[tokio::test]
async fn reserved_frame_flood() {
    closes(&frame(0x21, b"").repeat(1001), false, code::EXCESSIVE_LOAD).await;
    control_closes(&[frame(frame::SETTINGS, &[]), frame(0x21, b"").repeat(1001)].concat(), code::EXCESSIVE_LOAD).await;
    let mut client = RawClient::polite(allow_connect()).await;
    let bytes = [frame(0x21, b"x").repeat(500), request(&GET), frame(0x40, b"y")].concat();
    let (_send, _recv) = client.bi(&bytes, true).await;
    let mut incoming = client.requests.recv().await.unwrap();
    assert_eq!(peers::all(&mut incoming.recv).await.unwrap(), b"");
    client.still_works().await;
}

#[tokio::test]
async fn a_flood_of_empty_data() {
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, _recv) = client.bi(&[request(&GET), frame(DATA, b"").repeat(1001)].concat(), false).await;
    let mut incoming = client.requests.recv().await.unwrap();
    peers::failure(&mut incoming.recv).await;
    assert_eq!(client.closed().await, code::EXCESSIVE_LOAD);
}

#[tokio::test]
async fn small_frames_are_joined() {
    let mut client = RawClient::polite(allow_connect()).await;
    let (_send, _recv) = client.bi(&[request(&GET), frame(DATA, b"ab").repeat(1000)].concat(), true).await;
    let mut incoming = client.requests.recv().await.unwrap();
    let mut chunks = 0;
    let mut bytes = Vec::new();
    while let Some(chunk) = peers::chunk(&mut incoming.recv).await {
        bytes.extend_from_slice(&chunk.unwrap());
        chunks += 1;
    }
    assert_eq!(bytes, b"ab".repeat(1000));
    assert!(chunks < 20, "{chunks}");
}

#[tokio::test]
async fn datagrams_without_a_stream() {
    for datagram in [&b""[..], &[0x40], &[0xff; 8]] {
        let client = RawClient::polite(allow_connect()).await;
        client.conn.send_datagram(datagram.to_vec().into()).unwrap();
        assert_eq!(client.closed().await, code::DATAGRAM);
    }
    let mut client = RawClient::polite(allow_connect()).await;
    for _ in 0..100 {
        client.conn.send_datagram_wait(b"\x05nobody asked".to_vec().into()).await.unwrap();
    }
    client.still_works().await;
}

#[tokio::test]
async fn reset_and_stop_codes_cross() {
    let mut client = RawClient::polite(allow_connect()).await;
    let (mut send, mut recv) = client.bi(&request(&CONNECT), false).await;
    let mut incoming = client.requests.recv().await.unwrap();
    assert_eq!(incoming.head.kind, RequestKind::Connect("example.com:443".parse().unwrap()));
    let mut back = incoming.responder.respond(peers::response(200, &[]), false).unwrap();
    send.reset(0x10fu32.into()).unwrap();
    assert_eq!(peers::failure(&mut incoming.recv).await, StreamError::Reset(ErrorCode::Connect));
    // The other direction is not concerned.
    peers::send(&mut back, "still", false).await.unwrap();
    recv.stop(0x10cu32.into()).unwrap();
    let stopped = tokio::time::timeout(WAIT, poll_fn(|cx| back.poll_stopped(cx))).await.unwrap();
    assert_eq!(stopped, StreamError::Stopped(ErrorCode::Cancel));

    let (send, mut recv) = client.bi(&request(&CONNECT), false).await;
    let mut incoming = client.requests.recv().await.unwrap();
    let mut back = incoming.responder.respond(peers::response(200, &[]), false).unwrap();
    back.reset(ErrorCode::Connect);
    assert_eq!(outcome(&mut recv).await, Err(0x10f));
    incoming.recv.stop(ErrorCode::EnhanceYourCalm);
    assert_eq!(common::raw::stopped(&send).await, 0x107);
    client.still_works().await;
}

#[tokio::test]
async fn a_half_let_go_is_never_an_end() {
    let mut client = RawClient::polite(allow_connect()).await;
    let (send, mut recv) = client.bi(&request(&CONNECT), false).await;
    let incoming = client.requests.recv().await.unwrap();
    drop(incoming.responder.respond(peers::response(200, &[]), false).unwrap());
    assert_eq!(outcome(&mut recv).await, Err(0x102));
    drop(incoming.recv);
    assert_eq!(stopped(&send).await, code::CANCELLED);
}

#[tokio::test]
async fn rapid_resets_are_survived() {
    let mut client = RawClient::polite(allow_connect()).await;
    for _ in 0..500 {
        let (mut send, mut recv) = client.bi(&request(&GET), false).await;
        send.reset(0x10cu32.into()).unwrap();
        recv.stop(0x10cu32.into()).unwrap();
        while client.requests.try_recv().is_ok() {}
    }
    while tokio::time::timeout(Duration::from_millis(100), client.requests.recv()).await.is_ok() {}
    client.still_works().await;
}

#[tokio::test]
async fn heads_that_never_end_hold_no_neighbour_up() {
    let mut client = RawClient::polite(allow_connect()).await;
    let mut kept = Vec::new();
    for _ in 0..50 {
        let whole = request(&GET);
        kept.push(client.bi(&whole[..whole.len() - 1], false).await);
    }
    client.still_works().await;
}

#[tokio::test]
async fn answers_that_are_none() {
    use adit_codec::conformance::peers::{head, request as plain};
    let large = [&[0, 0][..], &[0xd9; 3000]].concat();
    for (bytes, end) in [
        (request(&[(":status", "200"), (":status", "200")]), false),
        (request(&[(":status", "101")]), false),
        (request(&[("x", "y")]), false),
        (request(&[(":status", "200"), ("content-length", "5")]), true),
        (request(&[(":status", "200"), ("upgrade", "x")]), false),
        (request(&[(":status", "103")]).repeat(101), false),
        (vec![], true),
        (frame(HEADERS, &large), false),
    ] {
        let mut server = RawServer::polite(&[]).await;
        poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap();
        let mut outgoing = server.client.conn.open(&plain(Method::GET, "/"), true).unwrap();
        let (mut send, _recv) = server.conn.accept_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        if end {
            send.finish().unwrap();
        }
        let error = loop {
            if let Err(error) = head(&mut outgoing).await {
                break error;
            }
        };
        assert!(matches!(error, StreamError::Protocol(_) | StreamError::TooLarge(_)), "{error:?}");
        assert_eq!(head(&mut outgoing).await.unwrap_err(), error);
        poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap();
    }
}

#[tokio::test]
async fn servers_that_break_the_connection() {
    let mut server = RawServer::polite(&[]).await;
    server.more(0, &frame(frame::MAX_PUSH_ID, &[1])).await;
    assert_eq!(close_code(&server.conn).await, code::FRAME_UNEXPECTED);
    let mut server = RawServer::polite(&[]).await;
    server.more(0, &frame(frame::GOAWAY, &[1])).await;
    assert_eq!(close_code(&server.conn).await, code::ID);
    let mut server = RawServer::polite(&[]).await;
    server.uni(&[0x1, 0]).await;
    assert_eq!(close_code(&server.conn).await, code::ID);
    let error = poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap_err();
    assert!(matches!(error, StreamError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn extended_connect_waits_for_the_servers_leave() {
    let mut server = RawServer::polite(&[]).await;
    let capabilities = poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap();
    assert!(!capabilities.extended_connect);
    assert!(server.client.conn.open(&peers::upgrade("x"), false).is_err());
    let mut server = RawServer::polite(&[(8, 1)]).await;
    let capabilities = poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap();
    assert!(capabilities.extended_connect);
    let _outgoing = server.client.conn.open(&peers::upgrade("x"), false).unwrap();
}

#[tokio::test]
async fn a_goaway_disowns_later_streams() {
    let mut server = RawServer::polite(&[]).await;
    poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap();
    let mut kept = server.client.conn.open(&peers::request(Method::GET, "/1"), true).unwrap();
    poll_fn(|cx| server.client.conn.poll_ready(cx)).await.unwrap();
    let mut disowned = server.client.conn.open(&peers::request(Method::GET, "/2"), true).unwrap();
    let (mut send, _recv) = server.conn.accept_bi().await.unwrap();
    server.more(0, &frame(frame::GOAWAY, &[4])).await;
    loop {
        match poll_fn(|cx| server.client.conn.poll_ready(cx)).await {
            Err(error) => break assert_eq!(error, StreamError::Stopped(ErrorCode::NoError)),
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    send.write_all(&request(&[(":status", "200")])).await.unwrap();
    send.finish().unwrap();
    assert_eq!(peers::head(&mut kept).await.unwrap().status, 200);
    server.conn.close(0x100u32.into(), b"");
    assert_eq!(peers::head(&mut disowned).await.unwrap_err(), StreamError::Reset(ErrorCode::Refused));
}
