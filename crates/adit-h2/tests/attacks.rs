//! Bad input in raw frames. Each case costs its stream, or the attacker its connection; a second connection is served
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use adit_h2::{ClientConfig, ServerConfig};
use common::attack::*;
use common::raw::*;
use common::*;

#[tokio::test]
async fn malformed_requests_cost_their_stream_only() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("no method", &[(":scheme", "http"), (":authority", "a"), (":path", "/")]),
        ("no scheme", &[(":method", "GET"), (":authority", "a"), (":path", "/")]),
        ("no path", &[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        ("no path, no authority", &[(":method", "GET"), (":scheme", "http")]),
        ("empty path", &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")]),
        ("path without a slash", &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "x")]),
        ("asterisk with GET", &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "*")]),
        ("fragment", &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/a#b")]),
        ("unknown scheme", &[(":method", "GET"), (":scheme", "gopher"), (":authority", "a"), (":path", "/")]),
        ("user information", &[(":method", "GET"), (":scheme", "http"), (":authority", "u@a"), (":path", "/")]),
        ("duplicate method", &[(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/")]),
        ("duplicate path", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/b")]),
        ("pseudo after regular", &[(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/")]),
        ("status in a request", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":status", "200")]),
        ("two hosts", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "b")]),
        ("bad host", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a b")]),
        ("connection", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("connection", "close")]),
        ("keep-alive", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("keep-alive", "1")]),
        ("proxy-connection", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("proxy-connection", "x")]),
        ("upgrade", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("upgrade", "websocket")]),
        (
            "transfer-encoding",
            &[(":method", "POST"), (":scheme", "http"), (":path", "/"), ("transfer-encoding", "chunked")],
        ),
        ("te gzip", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("te", "gzip")]),
        ("te list", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("te", "trailers, gzip")]),
        ("leading blank", &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("x", " y")]),
        ("trailing tab", &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("x", "y\t")]),
        (
            "two content-lengths",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                ("content-length", "1"),
                ("content-length", "2"),
            ],
        ),
        ("signed content-length", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("content-length", "+1")]),
        ("C13 CONNECT with path", &[(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")]),
        ("C13 CONNECT with scheme", &[(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")]),
        ("CONNECT without authority", &[(":method", "CONNECT")]),
        (
            "C13 extended without path",
            &[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")],
        ),
        (
            "C13 extended without scheme",
            &[(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/"), (":authority", "a")],
        ),
        (
            "extended without authority",
            &[(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/"), (":scheme", "http")],
        ),
        (
            "C14 protocol on GET",
            &[(":method", "GET"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
        ),
        (
            "C14 empty protocol",
            &[(":method", "CONNECT"), (":protocol", ""), (":scheme", "http"), (":authority", "a"), (":path", "/")],
        ),
        (
            "C14 protocol twice",
            &[
                (":method", "CONNECT"),
                (":protocol", "x"),
                (":protocol", "y"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
            ],
        ),
        (
            "C14 protocol with CRLF",
            &[
                (":method", "CONNECT"),
                (":protocol", "x\r\ny: z"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
            ],
        ),
        (
            "C14 protocol after regular",
            &[
                (":method", "CONNECT"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
                ("x", "y"),
                (":protocol", "x"),
            ],
        ),
    ];
    let (mut raw, _served) = attack().await;
    let mut stream = 1;
    for (name, fields) in cases {
        for end in [true, false] {
            raw.send(&headers(stream, fields, end)).await;
            assert_eq!(raw.outcome(stream).await, "rst:1", "{name}");
            stream += 2;
        }
    }
    let long = "x".repeat(8 << 10);
    let fields =
        [(":method", "CONNECT"), (":protocol", &long), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    raw.send(&headers(stream, &fields, false)).await;
    assert_eq!(raw.outcome(stream).await, "rst:1", "C14 a protocol of 8 KiB");
    still_serves(&mut raw, stream + 2).await;
}

#[tokio::test]
async fn names_and_values_that_are_none_cost_their_stream() {
    for (name, field) in [
        ("uppercase", ("X-Upper", "y")),
        ("unknown pseudo", (":foo", "y")),
        ("space in a name", ("a b", "y")),
        ("colon in a name", ("a:b", "y")),
        ("LF in a value", ("x", "a\nb")),
        ("CR in a value", ("x", "a\rb")),
        ("NUL in a value", ("x", "a\0b")),
        ("LF in a name", ("a\nb", "y")),
    ] {
        let (mut raw, _served) = attack().await;
        let mut fields = GET.to_vec();
        fields.push(field);
        raw.send(&headers(1, &fields, true)).await;
        assert_eq!(raw.outcome(1).await, "rst:1", "{name}");
        still_serves(&mut raw, 3).await;
    }
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_malformed_message_costs_the_connection_where_the_configuration_says_so() {
    let mut cfg = ServerConfig::default();
    cfg.http2.stream_error_on_invalid_http_message = Some(false);
    let (mut raw, _served) = attack_with(cfg).await;
    raw.send(&headers(1, &[(":method", "GET"), (":scheme", "http")], true)).await;
    raw.expect_goaway(1).await;
}

#[tokio::test]
async fn c15_extended_connect_without_leave_costs_its_stream_only() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (mut raw, _served) = attack_with(cfg).await;
    assert!(!raw.expect(SETTINGS).await.payload.chunks(6).any(|setting| setting[..2] == [0, 8] && setting[5] == 1));
    raw.send(&headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], false)).await;
    assert_eq!(raw.outcome(1).await, "headers", "plain CONNECT needs no leave");
    let fields =
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    raw.send(&headers(3, &fields, false)).await;
    assert_eq!(raw.outcome(3).await, "rst:1");
    raw.send(&frame(DATA, 0, 1, b"alive")).await;
    assert_eq!(raw.expect(DATA).await.payload, b"alive");
    stats.expect("rx_messaging_error", 1).await;
    stats.expect("tx_reset", 1).await;
}

#[tokio::test]
async fn bytestream_is_a_plain_connect() {
    let (dialled, accepted) = sockets().await;
    serve(accepted, allow_connect(), |stream| async move {
        assert!(matches!(&stream.head.kind, adit_http::RequestKind::Connect(target) if target == "a:1"));
        assert_eq!(stream.head.path, None);
        echo(stream).await;
    });
    let mut raw = Raw::client(dialled).await;
    let settings = raw.expect(SETTINGS).await;
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]));
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "bytestream"),
        (":scheme", "http"),
        (":authority", "a:1"),
        (":path", "/"),
    ];
    raw.send(&headers(1, &fields, false)).await;
    raw.send(&frame(DATA, 0, 1, b"tcp")).await;
    assert_eq!(raw.expect(DATA).await.payload, b"tcp");
}

#[tokio::test]
async fn authority_wins_and_cookie_crumbs_are_joined() {
    let (dialled, accepted) = sockets().await;
    serve(accepted, ServerConfig::default(), |stream| async move {
        assert_eq!(stream.head.authority.as_ref().unwrap(), "real");
        assert!(!stream.head.headers.contains_key("host"));
        let cookies: Vec<_> = stream.head.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
        echo(stream).await;
    });
    let mut raw = Raw::client(dialled).await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "real"),
        (":path", "/"),
        ("host", "x"),
        ("cookie", "a=1"),
        ("host", "y"),
        ("cookie", "b=2"),
        ("cookie", "c=3"),
    ];
    raw.send(&headers(1, &fields, true)).await;
    assert_eq!(raw.outcome(1).await, "headers");
}

#[tokio::test]
async fn cookie_crumbs_and_hosts_count_as_fields() {
    for (name, value) in [("cookie", "a=1"), ("host", "a"), ("x", "y")] {
        let (mut raw, _served) = attack().await;
        let mut fields = GET.to_vec();
        fields.extend(vec![(name, value); 101]);
        raw.send(&headers(1, &fields, true)).await;
        let answer = raw.expect(HEADERS).await;
        assert!(answer.ends() && answer.payload.windows(3).any(|text| text == b"431") || answer.payload.len() < 12);
        still_serves(&mut raw, 3).await;
    }
}

#[tokio::test]
async fn an_oversized_header_list_is_answered_431() {
    let (mut raw, _served) = attack().await;
    let value = "v".repeat(1000);
    let mut fields = GET.to_vec();
    fields.extend(vec![("x", value.as_str()); 61]);
    let bytes = block(&fields);
    let mut pieces = bytes.chunks(16_000).peekable();
    raw.send(&frame(HEADERS, END_STREAM, 1, pieces.next().unwrap())).await;
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        raw.send(&frame(CONTINUATION, flags, 1, piece)).await;
    }
    assert!(raw.expect(HEADERS).await.ends());
    still_serves(&mut raw, 3).await;
}

#[tokio::test]
async fn connection_errors_of_rfc_9113() {
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("HEADERS on a lower stream id", [headers(5, GET, true), headers(3, GET, true)].concat(), &["goaway:1"]),
        ("HEADERS on an even stream id", headers(2, GET, true), &["goaway:1"]),
        ("HEADERS on stream 0", headers(0, GET, true), &["goaway:1"]),
        ("DATA on an idle stream", frame(DATA, 0, 9, b"x"), &["goaway:1"]),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), &["goaway:1"]),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 9, &[0; 4]), &["goaway:1"]),
        ("WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1]), &["goaway:1"]),
        ("zero WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), &["goaway:1"]),
        ("connection window overflow", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()), &["goaway:3"]),
        ("short PING", frame(PING, 0, 0, &[0; 7]), &["goaway:6"]),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), &["goaway:1"]),
        ("SETTINGS of odd length", frame(SETTINGS, 0, 0, &[0; 5]), &["goaway:6"]),
        ("SETTINGS ack with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), &["goaway:6"]),
        (
            "RST_STREAM of three bytes",
            [headers(1, GET, true), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            &["goaway:6"],
        ),
        ("WINDOW_UPDATE of five bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 5]), &["goaway:6"]),
        ("SETTINGS ack unasked", frame(SETTINGS, ACK, 0, &[]).repeat(2), &["goaway:1"]),
        ("SETTINGS window too large", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0]), &["goaway:3"]),
        ("CONTINUATION alone", frame(CONTINUATION, 4, 1, &[]), &["goaway:1"]),
        (
            "another frame inside a header block",
            [frame(HEADERS, 0, 1, &block(GET)), frame(PING, 0, 0, &[0; 8])].concat(),
            &["goaway:1"],
        ),
        ("a frame above the size limit", frame(DATA, 0, 1, &vec![0; (256 << 10) + 1]), &["goaway:6"]),
        ("padding beyond the frame", [headers(1, GET, false), frame(DATA, PADDED, 1, &[9, 0])].concat(), &["goaway:1"]),
        ("PRIORITY of four bytes", [headers(1, GET, false), frame(PRIORITY, 0, 1, &[0; 4])].concat(), &["goaway:6"]),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1]), &["goaway:1"]),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]), &["goaway:1"]),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), &["goaway:1"]),
        ("SETTINGS push of 2", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), &["goaway:1"]),
        ("SETTINGS extended CONNECT of 2", frame(SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 2]), &["goaway:1"]),
        ("SETTINGS frame size too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]), &["goaway:1"]),
        ("SETTINGS frame size too large", frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0]), &["goaway:1"]),
        (
            "an unknown frame inside a header block",
            [frame(HEADERS, 0, 1, &block(GET)), frame(0x16, 0, 1, b"x")].concat(),
            &["goaway:1"],
        ),
        (
            "CONTINUATION on another stream",
            [frame(HEADERS, 0, 1, &block(GET)), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            &["goaway:1"],
        ),
        ("PUSH_PROMISE from a client", frame(5, END_HEADERS, 1, &[0, 0, 0, 2]), &["goaway:1"]),
    ];
    for (name, bytes, expected) in cases {
        let (mut raw, _served) = attack().await;
        raw.send(&bytes).await;
        let outcome = loop {
            match raw.next().await {
                None => break "closed".to_owned(),
                Some(frame) if frame.kind == GOAWAY => break format!("goaway:{}", frame.code()),
                Some(_) => {}
            }
        };
        assert!(expected.contains(&outcome.as_str()), "{name}: {outcome}");
    }
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_preface_without_settings_is_refused() {
    let (dialled, accepted) = sockets().await;
    let served = serve(accepted, ServerConfig::default(), echo);
    use tokio::io::AsyncWriteExt;
    let mut dialled = dialled;
    dialled.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    dialled.write_all(&headers(1, GET, true)).await.unwrap();
    assert!(soon("server", served).await.unwrap().is_err());
}

/// Neither half a frame nor a block that never ends waits for longer than it may; streams that came whole are not in its way.
#[tokio::test]
async fn a_header_block_has_its_time() {
    let timeout = Some(std::time::Duration::from_millis(100));
    for bytes in [
        frame(HEADERS, 0, 3, &block(GET)),
        frame(HEADERS, END_HEADERS, 3, &block(GET)).split_last().unwrap().1.to_vec(),
        [frame(HEADERS, 0, 3, &block(GET)), frame(CONTINUATION, 0, 3, &[])].concat(),
    ] {
        let (dialled, accepted) = sockets().await;
        let cfg = ServerConfig { request_headers_timeout: timeout, ..ServerConfig::default() };
        let served = serve(accepted, cfg, echo);
        let mut raw = Raw::client(dialled).await;
        raw.send(&headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], false)).await;
        assert_eq!(raw.outcome(1).await, "headers");
        // Quiet for longer, and nothing happens.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        raw.send(&bytes).await;
        raw.expect_goaway(11).await;
        let error = soon("server", served).await.unwrap().unwrap_err();
        assert_eq!(error.details, "request_header_timeout");
    }
}

#[tokio::test]
async fn content_length_and_data_must_agree() {
    for (name, length, data) in [("short", "5", "four"), ("long", "3", "four"), ("none", "3", "")] {
        let (mut raw, _served) = attack().await;
        let mut fields = GET.to_vec();
        fields.push(("content-length", length));
        raw.send(&headers(1, &fields, false)).await;
        raw.send(&frame(DATA, END_STREAM, 1, data.as_bytes())).await;
        loop {
            match raw.next().await.unwrap() {
                frame if frame.kind == RST_STREAM => break assert_eq!(frame.code(), 1, "{name}"),
                frame => assert!(!frame.ends(), "{name}: a cut message looks whole"),
            }
        }
        still_serves(&mut raw, 3).await;
    }
}

#[tokio::test]
async fn trailers_without_end_stream_are_malformed() {
    let (mut raw, _served) = attack().await;
    raw.send(&headers(1, GET, false)).await;
    raw.send(&headers(1, &[("x", "y")], false)).await;
    loop {
        match raw.next().await.unwrap() {
            frame if frame.kind == RST_STREAM => break assert_eq!(frame.code(), 1),
            frame => assert!(!frame.ends()),
        }
    }
    still_serves(&mut raw, 3).await;
}

#[tokio::test]
async fn data_after_end_stream_costs_the_connection_at_most() {
    let (mut raw, _served) = attack().await;
    raw.send(&headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], true)).await;
    raw.send(&frame(DATA, 0, 1, b"late")).await;
    let mut outcome = raw.outcome(1).await;
    if outcome == "headers" {
        outcome = raw.outcome(1).await;
    }
    assert!(["rst:5", "rst:1", "goaway:1", "goaway:5"].contains(&outcome.as_str()), "{outcome}");
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_stream_window_overrun_is_a_flow_control_error() {
    let mut cfg = ServerConfig::default();
    cfg.http2.initial_stream_window_size = Some(65_535);
    let (dialled, accepted) = sockets().await;
    serve(accepted, cfg, |stream| async move {
        // Reads nothing.
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    });
    let mut raw = Raw::client(dialled).await;
    raw.expect(WINDOW_UPDATE).await;
    raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
    raw.send(&headers(1, GET, false)).await;
    raw.send(&frame(DATA, 0, 1, &vec![0; 16_384]).repeat(5)).await;
    assert_eq!(raw.outcome(1).await, "rst:3");
}

/// A client that is to be sent much and opens no window: nothing is queued for it, and nothing is lost for others.
#[tokio::test]
async fn zero_window_stall() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (dialled, accepted) = sockets().await;
    serve(accepted, cfg, |stream| async move {
        let mut sink = stream.responder.respond(status(200), false).unwrap();
        let mut data = bytes::Bytes::from(vec![0; 1 << 20]);
        let _ = poll_fn(|cx| sink.poll_send(cx, &mut data, true)).await;
    });
    let mut raw = Raw::client_with(dialled, &[(4, 0)]).await;
    for stream in (1..200).step_by(2) {
        raw.send(&headers(stream, GET, true)).await;
        assert_eq!(raw.outcome(stream).await, "headers");
    }
    stats.expect("pending_send_bytes", 0).await;
    stats.expect("streams_active", 100).await;
    // One byte of window lets out one byte.
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())).await;
    assert_eq!(raw.expect(DATA).await.payload.len(), 1);
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_server_that_answers_101_has_answered_nothing() {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut raw = Raw::server(accepted, &[(8, 1)]).await;
    let mut stream = client.open(upgrade("websocket"), false).await.unwrap();
    let request = raw.expect(HEADERS).await;
    raw.send(&headers(request.stream, &[(":status", "101")], false)).await;
    assert!(head(&mut stream).await.is_err());
    drop(stream);
    assert_eq!(raw.outcome(request.stream).await, "rst:8");
}

#[tokio::test]
async fn c16_leave_for_extended_connect_taken_back() {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut raw = Raw::server(accepted, &[(8, 1)]).await;
    let ready = soon("ready", poll_fn(|cx| client.conn.poll_ready(cx))).await.unwrap();
    assert!(ready.extended_connect);
    raw.send(&frame(SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 0])).await;
    raw.send(&frame(PING, 0, 0, &[0; 8])).await;
    raw.expect(PING).await;
    assert!(client.open(upgrade("websocket"), false).await.is_err());
}

#[tokio::test]
async fn fields_beyond_the_limits_of_the_configuration() {
    let mut cfg = ServerConfig::default();
    cfg.http2.max_header_field_size = 1000;
    cfg.http2.disallow_obs_text = true;
    let (mut raw, _served) = attack_with(cfg).await;
    let long = "v".repeat(1000);
    let with = |value| [GET, &[("x", value)]].concat();
    raw.send(&headers(1, &with(&long), true)).await;
    assert!(raw.expect(HEADERS).await.ends(), "431");
    raw.send(&headers(3, &with("\u{fc}"), true)).await;
    assert_eq!(raw.outcome(3).await, "rst:1");
    still_serves(&mut raw, 5).await;
}
