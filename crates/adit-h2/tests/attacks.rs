//! Bad input in raw frames. Each case costs its stream, or the attacker its connection; a second connection is served
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_h2::{ClientConfig, Http2Options, ServerConfig};
use common::raw::*;
use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

type Served = JoinHandle<Result<(), adit_codec::ConnError>>;

/// A raw client of a server that echoes.
async fn attack_with(cfg: ServerConfig) -> (Raw, Served) {
    let (dialled, accepted) = sockets().await;
    let served = serve(accepted, cfg, echo);
    (Raw::client(dialled).await, served)
}

async fn attack() -> (Raw, Served) {
    attack_with(allow_connect()).await
}

/// A connection beside the attacked one is served, and soon.
async fn neighbour_is_served() {
    let mut client = pair(ServerConfig::default(), echo).await;
    let started = Instant::now();
    let mut stream = client.open(get("/"), true).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
    assert!(started.elapsed() < Duration::from_secs(10), "a flood starves other connections");
}

/// The rest of the attacked connection still works.
async fn still_serves(raw: &mut Raw, stream: u32) {
    raw.send(&headers(stream, GET, true)).await;
    assert_eq!(raw.outcome(stream).await, "headers");
}

/// Sends until the peer closes; gives the GOAWAY code, if one arrived before the connection died.
async fn flood(mut raw: Raw, piece: Vec<u8>, times: usize) -> String {
    for _ in 0..times {
        if !raw.try_send(&piece).await {
            break;
        }
    }
    loop {
        match raw.next().await {
            None => return "closed".into(),
            Some(frame) if frame.kind == GOAWAY => return format!("goaway:{}", frame.code()),
            Some(_) => {}
        }
    }
}

/// Sends until the server has had enough, and reads nothing.
async fn flood_until_end(mut raw: Raw, mut served: Served, piece: &[u8]) -> Result<(), adit_codec::ConnError> {
    let end = async {
        loop {
            tokio::select! {
                end = &mut served => return end.unwrap(),
                // Its write may fail before the server has said why.
                _ = raw.socket_write(piece) => tokio::task::yield_now().await,
            }
        }
    };
    soon("server", end).await
}

fn is_calm_or_closed(outcome: &str) {
    assert!(outcome == "goaway:11" || outcome == "closed", "{outcome}");
}

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
async fn hpack_bomb() {
    let (mut raw, _served) = attack().await;
    // One entry of 4000 bytes in the dynamic table, named ten thousand times with one byte each.
    let mut bytes = block(GET);
    bytes.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bytes.extend(vec![b'v'; 127 + 33 + 30 * 128]);
    bytes.extend(vec![0xbe; 10_000]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bytes)).await;
    let outcome = raw.outcome(1).await;
    assert!(outcome.starts_with("goaway:") || outcome == "closed", "{outcome}");
    neighbour_is_served().await;
}

#[tokio::test]
async fn continuation_flood() {
    let (mut raw, _served) = attack().await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(GET))).await;
    let field = block(&[("x", "y")]);
    let outcome = flood(raw, frame(CONTINUATION, 0, 1, &field), 200_000).await;
    assert!(outcome.starts_with("goaway:") || outcome == "closed", "{outcome}");
    neighbour_is_served().await;
}

#[tokio::test]
async fn empty_continuation_flood() {
    let (mut raw, _served) = attack().await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(GET))).await;
    is_calm_or_closed(&flood(raw, frame(CONTINUATION, 0, 1, &[]), 1000).await);
    neighbour_is_served().await;
}

#[tokio::test]
async fn rapid_reset() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (mut raw, served) = attack_with(cfg).await;
    for stream in (1..100_000).step_by(2) {
        let mut bytes = headers(stream, GET, false);
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        if !raw.try_send(&bytes).await {
            break;
        }
    }
    is_calm_or_closed(&flood(raw, Vec::new(), 0).await);
    assert!(soon("server", served).await.unwrap().is_err());
    assert!(stats.get("rx_reset") < 5000, "{}", stats.get("rx_reset"));
    stats.expect("streams_active", 0).await;
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_few_cancelled_requests_cost_nothing() {
    let (mut raw, _served) = attack().await;
    let mut bytes = Vec::new();
    for stream in (1..100).step_by(2) {
        bytes.extend(headers(stream, GET, false));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    raw.send(&bytes).await;
    still_serves(&mut raw, 101).await;
}

/// CVE-2025-8671: the client provokes the server's resets.
#[tokio::test]
async fn made_you_reset() {
    for provocation in ["zero window update", "window overflow", "malformed", "content-length"] {
        let stats = Arc::new(Stats::default());
        let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
        let (mut raw, served) = attack_with(cfg).await;
        for stream in (1..20_000).step_by(2) {
            let mut bytes = headers(stream, GET, false);
            match provocation {
                "zero window update" => bytes.extend(frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes())),
                "window overflow" => bytes.extend(frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes())),
                "malformed" => bytes = headers(stream, &GET[..2], false),
                _ => {
                    let mut fields = GET.to_vec();
                    fields.push(("content-length", "1"));
                    bytes = headers(stream, &fields, false);
                    bytes.extend(frame(DATA, END_STREAM, stream, b"xx"));
                }
            }
            if !raw.try_send(&bytes).await {
                break;
            }
        }
        let outcome = flood(raw, Vec::new(), 0).await;
        assert!(outcome.starts_with("goaway:") || outcome == "closed", "{provocation}: {outcome}");
        assert!(soon("server", served).await.unwrap().is_err(), "{provocation}");
        assert!(stats.get("tx_reset") <= 3000, "{provocation}: {}", stats.get("tx_reset"));
        neighbour_is_served().await;
    }
}

#[tokio::test]
async fn ping_flood_without_reading() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (dialled, accepted) = sockets().await;
    socket2::SockRef::from(&accepted).set_send_buffer_size(4096).unwrap();
    let served = serve(accepted, cfg, echo);
    let raw = Raw::client(dialled).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    let neighbour = tokio::spawn(neighbour_is_served());
    assert!(flood_until_end(raw, served, &pings).await.is_err());
    stats.expect("outbound_control_flood", 1).await;
    neighbour.await.unwrap();
}

/// A client that asks and does not read is read no further, and again once it reads: nothing it asked is lost.
#[tokio::test]
async fn requests_without_reading_wait_for_their_reader() {
    const REQUESTS: u32 = 20_000;
    let (dialled, accepted) = sockets().await;
    for socket in [&dialled, &accepted] {
        let socket = socket2::SockRef::from(socket);
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.set_send_buffer_size(16 << 10).unwrap();
    }
    let http2 = Http2Options { stream_reset_burst: u64::from(REQUESTS), ..Http2Options::default() };
    let _served = serve(accepted, ServerConfig { http2, ..ServerConfig::default() }, echo);
    let raw = Raw::client(dialled).await;
    let (mut read, mut write) = raw.socket.into_split();
    let requests: Vec<u8> = (0..REQUESTS).flat_map(|i| headers(2 * i + 1, GET, true)).collect();
    let writer = tokio::spawn(async move {
        write.write_all(&requests).await.unwrap();
        write
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!writer.is_finished(), "all is taken of a client that reads nothing");
    let (mut answered, mut bytes) = (std::collections::HashSet::new(), Vec::new());
    while answered.len() < REQUESTS as usize {
        let mut piece = [0; 16 << 10];
        let n = tokio::time::timeout(PATIENCE, read.read(&mut piece)).await.expect("answers come").unwrap();
        assert!(n > 0, "the connection ended behind {} answers", answered.len());
        bytes.extend_from_slice(&piece[..n]);
        let mut rest = &bytes[..];
        while let Some((head, behind)) = rest.split_first_chunk::<9>() {
            let len = usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(behind) = behind.get(len..) else { break };
            if matches!(head[3], HEADERS | RST_STREAM) {
                answered.insert(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
            rest = behind;
        }
        bytes = rest.to_vec();
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn settings_flood_without_reading() {
    let (dialled, accepted) = sockets().await;
    socket2::SockRef::from(&accepted).set_send_buffer_size(4096).unwrap();
    let served = serve(accepted, ServerConfig::default(), echo);
    let raw = Raw::client(dialled).await;
    let settings = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 9, 0, 1, 0, 0, 16, 0]).repeat(10_000);
    assert!(flood_until_end(raw, served, &settings).await.is_err());
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_ping_flood_that_reads_starves_nobody() {
    let (raw, served) = attack().await;
    let (mut reader, mut writer) = raw.socket.into_split();
    let drain = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(5000);
    let flooder = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for _ in 0..40 {
            writer.write_all(&pings).await.unwrap();
        }
        writer
    });
    neighbour_is_served().await;
    let writer = soon("flooder", flooder).await.unwrap();
    assert!(!served.is_finished());
    drop(writer);
    let _ = soon("drain", drain).await;
}

#[tokio::test]
async fn empty_data_flood() {
    // Empty, and nothing but padding.
    for piece in [frame(DATA, 0, 1, &[]), frame(DATA, PADDED, 1, &[3, 0, 0, 0])] {
        let stats = Arc::new(Stats::default());
        let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
        let (mut raw, _served) = attack_with(cfg).await;
        raw.send(&headers(1, GET, false)).await;
        is_calm_or_closed(&flood(raw, piece, 1000).await);
        stats.expect("inbound_empty_frames_flood", 1).await;
    }
    neighbour_is_served().await;
}

#[tokio::test]
async fn tiny_data_within_the_window_is_served() {
    let (mut raw, _served) = attack().await;
    raw.send(&headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], false)).await;
    raw.send(&frame(DATA, 0, 1, b"x").repeat(20_000)).await;
    let mut seen = 0;
    while seen < 20_000 {
        seen += raw.expect(DATA).await.payload.len();
    }
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())).await;
    still_serves(&mut raw, 3).await;
}

#[tokio::test]
async fn priority_flood() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (raw, _served) = attack_with(cfg).await;
    is_calm_or_closed(&flood(raw, frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), 10_000).await);
    stats.expect("inbound_priority_frames_flood", 1).await;
    neighbour_is_served().await;
}

#[tokio::test]
async fn window_update_flood() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (raw, _served) = attack_with(cfg).await;
    is_calm_or_closed(&flood(raw, frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()), 10_000).await);
    stats.expect("inbound_window_update_frames_flood", 1).await;
    neighbour_is_served().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let mut cfg = ServerConfig::default();
    cfg.http2.max_concurrent_streams = 3;
    let (mut raw, _served) = attack_with(cfg).await;
    let tunnel = [(":method", "CONNECT"), (":authority", "a:1")];
    for stream in [1, 3, 5] {
        raw.send(&headers(stream, &tunnel, false)).await;
        assert_eq!(raw.outcome(stream).await, "headers");
    }
    raw.send(&headers(7, &tunnel, false)).await;
    assert_eq!(raw.outcome(7).await, "rst:7");
    raw.send(&frame(DATA, 0, 1, b"x")).await;
    assert_eq!(raw.expect(DATA).await.payload, b"x");
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
async fn a_server_that_floods_our_client_loses_its_connection() {
    for (name, piece) in [
        ("priority", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
    ] {
        let (dialled, accepted) = sockets().await;
        let client = ClientSide::new(dialled, ClientConfig::default());
        let mut raw = Raw::server(accepted, &[]).await;
        for _ in 0..1000 {
            if !raw.try_send(&piece).await {
                break;
            }
        }
        assert!(soon("driver", client.driver).await.unwrap().is_err(), "{name}");
    }
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
async fn c6_a_server_of_endless_interim_responses_is_given_up() {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut raw = Raw::server(accepted, &[]).await;
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    let request = raw.expect(HEADERS).await;
    raw.send(&headers(request.stream, &[(":status", "103")], false).repeat(200)).await;
    let mut interim = 0;
    while head(&mut stream).await.is_ok() {
        interim += 1;
    }
    assert!(interim <= 100);
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
