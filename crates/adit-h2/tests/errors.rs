//! The errors of RFC 9113 that are easily overlooked: header blocks that cannot be decompressed, frames behind the end
//! of a stream, pseudo-header fields out of place. Whole, and octet by octet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;

use adit_codec::OutgoingStream;
use adit_h2::{ClientConfig, ServerConfig};
use adit_http::StreamError;
use common::raw::*;
use common::*;
use http::HeaderMap;
use tokio::sync::mpsc;

const PRIORITISED: u8 = 0x20;
const TUNNEL: &[(&str, &str)] = &[(":method", "CONNECT"), (":authority", "a:1")];

const COMPRESSION_ERROR: u32 = 9;
const STREAM_CLOSED: u32 = 5;
const PROTOCOL_ERROR: u32 = 1;

/// In one go, or so that each octet is read for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    Octets,
}

async fn send_cut(raw: &mut Raw, bytes: &[u8], cut: Cut) {
    match cut {
        Cut::Whole => raw.send(bytes).await,
        Cut::Octets => {
            for octet in bytes {
                if !raw.socket_write(&[*octet]).await {
                    return;
                }
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

async fn raw_client(cfg: ServerConfig) -> Raw {
    let (dialled, accepted) = sockets().await;
    serve(accepted, cfg, echo);
    Raw::client(dialled).await
}

async fn still_serves(raw: &mut Raw, stream: u32) {
    raw.send(&headers(stream, GET, true)).await;
    assert_eq!(raw.outcome(stream).await, "headers");
}

/// Code of the GOAWAY that ends the connection.
async fn goaway(raw: &mut Raw) -> Option<u32> {
    loop {
        match raw.next().await {
            Some(frame) if frame.kind == GOAWAY => return Some(frame.code()),
            Some(_) => {}
            None => return None,
        }
    }
}

/// Blocks that are none (RFC 7541), behind the fields of a good request.
fn undecodable() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("index 0", vec![0x80]),
        ("index beyond the table", vec![0xff, 0x7f]),
        ("name beyond the table", vec![0x7f, 0x40, 1, b'y']),
        ("integer too long", vec![0xff, 0x80, 0x80, 0x80, 0x80, 0x00]),
        ("table size behind a field", vec![0x82, 0x20]),
        ("cut short", vec![0, 1, b'x', 5, b'y']),
        ("a name of no octets", vec![0x40, 0, 1, b'y']),
        ("Huffman padding of zeros", vec![0, 1, b'x', 0x81, 0]),
        ("Huffman padding too long", vec![0, 1, b'x', 0x82, 0x1f, 0xff]),
        ("EOS", vec![0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
    ]
}

#[tokio::test]
async fn a_block_that_cannot_be_decompressed_is_a_compression_error() {
    let mut cases = undecodable();
    cases.push(("table above the limit", vec![0x3f, 0xe2, 0x1f]));
    for (name, bad) in cases {
        for cut in [Cut::Whole, Cut::Octets] {
            let good = if name == "table above the limit" { Vec::new() } else { block(GET) };
            for bytes in [
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&good[..], &bad].concat()),
                [frame(HEADERS, END_STREAM, 1, &good), frame(CONTINUATION, END_HEADERS, 1, &bad)].concat(),
                // In trailers.
                [headers(1, GET, false), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&good[..], &bad].concat())]
                    .concat(),
            ] {
                let mut raw = raw_client(ServerConfig::default()).await;
                send_cut(&mut raw, &bytes, cut).await;
                assert_eq!(goaway(&mut raw).await, Some(COMPRESSION_ERROR), "{name}, {cut:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_name_of_no_octets_ahead_of_continuation_is_a_compression_error() {
    let first = [0x82, 0x86, 0x84, 0x41, 1, b'a', 0x40, 0, 1, b'y'];
    for rest in [&[][..], &[0x40, 1, b'x', 1, b'y'], &[1, b'x', 1, b'y']] {
        for cut in [Cut::Whole, Cut::Octets] {
            let mut raw = raw_client(ServerConfig::default()).await;
            let bytes = [frame(HEADERS, END_STREAM, 1, &first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat();
            send_cut(&mut raw, &bytes, cut).await;
            assert_eq!(goaway(&mut raw).await, Some(COMPRESSION_ERROR), "{rest:x?}, {cut:?}");
        }
    }
}

/// As RFC 7540 section 5.3.1 had it, for the connection.
#[tokio::test]
async fn headers_that_depend_on_themselves_cost_the_connection() {
    let good = [&[0x82, 0x86, 0x84, 0x41, 1, b'a'][..], &[0x40, 1, b'x', 1, b'y']].concat();
    let on = |dependency: [u8; 4]| [&dependency[..], &[15], &good].concat();
    let padded = |dependency| [&[2][..], &on(dependency), &[0; 2]].concat();
    let (flags, itself) = (END_HEADERS | END_STREAM | PRIORITISED, [0, 0, 0, 3]);
    for cut in [Cut::Whole, Cut::Octets] {
        for (flags, payload) in [
            (flags, on(itself)),
            (flags, on([0x80, 0, 0, 3])),
            (flags | PADDED, padded(itself)),
            (PRIORITISED, on(itself)),
        ] {
            let mut raw = raw_client(ServerConfig::default()).await;
            send_cut(&mut raw, &frame(HEADERS, flags, 3, &payload), cut).await;
            assert_eq!(goaway(&mut raw).await, Some(PROTOCOL_ERROR), "{payload:x?}, {cut:?}");
        }
        let mut raw = raw_client(ServerConfig::default()).await;
        for (flags, payload) in [(flags, on([0, 0, 0, 1])), (flags | PADDED, padded([0, 3, 0, 0]))] {
            send_cut(&mut raw, &frame(HEADERS, flags, 3, &payload), cut).await;
            assert_eq!(raw.outcome(3).await, "headers", "{payload:x?}, {cut:?}");
            raw = raw_client(ServerConfig::default()).await;
        }
    }
}

/// Padding, priority, CONTINUATION, a new table size and entries of the dynamic table: all of it is good.
#[tokio::test]
async fn blocks_of_any_form_are_read() {
    for cut in [Cut::Whole, Cut::Octets] {
        let mut raw = raw_client(ServerConfig::default()).await;
        let block =
            [&[0x20, 0x3f, 0xe1, 0x1f, 0x82, 0x86, 0x84, 0x41, 1, b'a'][..], &[0x40, 0x81, 0xf3, 0x81, 0xf7]].concat();
        let mut payload = vec![3, 0, 0, 0, 0, 7];
        payload.extend(&block[..4]);
        payload.extend([0; 3]);
        let bytes = [
            frame(HEADERS, PADDED | PRIORITISED | END_STREAM, 1, &payload),
            frame(CONTINUATION, 0, 1, &block[4..5]),
            frame(CONTINUATION, END_HEADERS, 1, &block[5..]),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x82, 0x86, 0x84, 0xbf, 0xbe]),
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 5, &[1, 0x82, 0x86, 0x84, 0xbf, 0xff]),
        ];
        send_cut(&mut raw, &bytes.concat(), cut).await;
        for stream in [1, 3, 5] {
            assert_eq!(raw.outcome(stream).await, "headers", "stream {stream}, {cut:?}");
        }
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 7, &[0x82, 0x86, 0x84, 0xc0])).await;
        assert_eq!(goaway(&mut raw).await, Some(COMPRESSION_ERROR));
    }
}

#[tokio::test]
async fn the_table_we_announce_counts_once_it_is_acknowledged() {
    let mut cfg = ServerConfig::default();
    cfg.http2.hpack_table_size = 8192;
    let request = |stream, size: &[u8]| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &[size, &[0x82, 0x86, 0x84, 0x41, 1, b'a']].concat())
    };
    let (above_default, above_all) = ([0x3f, 0xe1, 0x3f], [0x3f, 0xe2, 0x3f]);
    let mut raw = raw_client(cfg.clone()).await;
    raw.send(&request(1, &above_default)).await;
    assert_eq!(goaway(&mut raw).await, Some(COMPRESSION_ERROR));

    let mut raw = raw_client(cfg).await;
    raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
    raw.send(&request(1, &above_default)).await;
    assert_eq!(raw.outcome(1).await, "headers");
    raw.send(&request(3, &above_all)).await;
    assert_eq!(goaway(&mut raw).await, Some(COMPRESSION_ERROR));

    // What is held must go first where the table became smaller (RFC 9113 section 4.3.1).
    let mut cfg = ServerConfig::default();
    cfg.http2.hpack_table_size = 0;
    for (size, good) in [(&[0x20][..], true), (&[], false)] {
        let mut raw = raw_client(cfg.clone()).await;
        raw.send(&request(1, &[])).await;
        raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
        raw.send(&request(3, size)).await;
        if good {
            assert_eq!(raw.outcome(3).await, "headers");
        } else {
            assert_eq!(goaway(&mut raw).await, Some(COMPRESSION_ERROR));
        }
    }
}

#[tokio::test]
async fn frames_behind_the_end_of_a_stream_are_of_a_closed_stream() {
    let data = frame(DATA, 0, 1, b"late");
    let last = frame(DATA, END_STREAM, 1, &[]);
    let again = headers(1, GET, true);
    for (what, late) in [("DATA", &data), ("the end", &last), ("HEADERS", &again)] {
        for cut in [Cut::Whole, Cut::Octets] {
            let half_closed = [&frame(DATA, END_STREAM, 1, b"x")[..], late].concat();
            let unanswered = [&headers(3, GET, true)[..], &late[..5], &[0, 0, 0, 3], &late[9..]].concat();
            for (state, bytes) in [("half closed", half_closed), ("unanswered", unanswered)] {
                let mut raw = raw_client(ServerConfig::default()).await;
                raw.send(&headers(1, TUNNEL, false)).await;
                send_cut(&mut raw, &bytes, cut).await;
                assert_eq!(goaway(&mut raw).await, Some(STREAM_CLOSED), "{what}, {state}, {cut:?}");
            }
        }
        // Both sides ended.
        let mut raw = raw_client(ServerConfig::default()).await;
        raw.send(&headers(1, GET, true)).await;
        while !raw.next().await.unwrap().ends() {}
        raw.send(late).await;
        assert_eq!(goaway(&mut raw).await, Some(STREAM_CLOSED), "{what}, closed");
        // The peer reset it.
        let mut raw = raw_client(ServerConfig::default()).await;
        let reset = frame(RST_STREAM, 0, 1, &8u32.to_be_bytes());
        // More than one read of them.
        let unknown = frame(0x16, 0, 0, &[0; 16_000]);
        raw.send(&[&headers(1, TUNNEL, false)[..], &reset, &unknown, late].concat()).await;
        assert_eq!(goaway(&mut raw).await, Some(STREAM_CLOSED), "{what}, reset");
    }
}

/// A sender that has not heard yet of its own reset does not cost the other streams theirs.
#[tokio::test]
async fn frames_behind_a_reset_that_was_seen() {
    for (what, late) in [("DATA", frame(DATA, 0, 1, b"late")), ("HEADERS", headers(1, GET, true))] {
        let stats = Arc::new(Stats::default());
        let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
        let mut raw = raw_client(cfg).await;
        raw.send(&headers(1, TUNNEL, false)).await;
        assert_eq!(raw.outcome(1).await, "headers");
        raw.send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
        stats.expect("streams_active", 0).await;
        raw.send(&late.repeat(3)).await;
        if what == "DATA" {
            assert_eq!(raw.outcome(1).await, format!("rst:{STREAM_CLOSED}"));
            still_serves(&mut raw, 3).await;
        } else {
            assert_eq!(goaway(&mut raw).await, Some(STREAM_CLOSED));
        }
    }
}

/// RFC 9113 section 5.1: what was under way to a stream that we reset is ignored; what is allowed on a closed one, too.
#[tokio::test]
async fn what_crosses_the_end_of_a_stream_is_no_error() {
    let mut raw = raw_client(ServerConfig::default()).await;
    raw.send(&headers(1, &GET[..2], false)).await;
    assert_eq!(raw.outcome(1).await, "rst:1");
    raw.send(&frame(DATA, 0, 1, b"late")).await;
    raw.send(&headers(1, &[("x", "y")], true)).await;
    raw.send(&headers(3, GET, true)).await;
    while !raw.next().await.unwrap().ends() {}
    for stream in [1, 3] {
        raw.send(&frame(WINDOW_UPDATE, 0, stream, &1u32.to_be_bytes())).await;
        raw.send(&frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])).await;
        raw.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
    }
    still_serves(&mut raw, 5).await;
}

type Ended = Result<Option<HeaderMap>, StreamError>;

/// A raw client of a server that says how the body of stream 1 ended, and echoes the others.
async fn reader(cfg: ServerConfig) -> (Raw, mpsc::UnboundedReceiver<Ended>) {
    let (dialled, accepted) = sockets().await;
    let (told, ends) = mpsc::unbounded_channel();
    serve(accepted, cfg, move |mut stream| {
        let told = told.clone();
        async move {
            if stream.head.headers.contains_key("x-read") {
                let ended = match body(&mut *stream.recv).await {
                    Ok(_) => trailers(&mut *stream.recv).await,
                    Err(error) => Err(error),
                };
                told.send(ended).unwrap();
            }
            echo(stream).await;
        }
    });
    (Raw::client(dialled).await, ends)
}

fn bad_trailers() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        ("method", vec![(":method", "GET")]),
        ("status", vec![("x", "y"), (":status", "200")]),
        ("protocol", vec![(":protocol", "x")]),
        ("among others", vec![("a", "b"), (":path", "/"), ("c", "d")]),
    ]
}

#[tokio::test]
async fn pseudo_header_fields_in_trailers_cost_the_stream() {
    let open = [GET, &[("x-read", "1")]].concat();
    for (name, fields) in bad_trailers() {
        for cut in [Cut::Whole, Cut::Octets] {
            let (mut raw, mut ends) = reader(ServerConfig::default()).await;
            raw.send(&headers(1, &open, false)).await;
            let bytes = [
                headers(3, TUNNEL, false),
                frame(DATA, 0, 1, b"body"),
                headers(1, &fields, true),
                frame(DATA, 0, 3, b"alive"),
            ];
            send_cut(&mut raw, &bytes.concat(), cut).await;
            assert_eq!(raw.outcome(1).await, format!("rst:{PROTOCOL_ERROR}"), "{name}, {cut:?}");
            let ended = soon("the end", ends.recv()).await.unwrap();
            assert!(matches!(ended, Err(StreamError::Protocol(_))), "{name}, {cut:?}: {ended:?}");
            assert_eq!(raw.expect(DATA).await.payload, b"alive", "{name}, {cut:?}");
            still_serves(&mut raw, 5).await;
        }
    }
}

/// A header block in two frames, cut at `at`.
fn in_pieces(stream: u32, fields: &[(&str, &str)], end: bool, at: usize) -> Vec<u8> {
    let octets = block(fields);
    let (first, rest) = octets.split_at(at);
    let flags = if end { END_STREAM } else { 0 };
    [frame(HEADERS, flags, stream, first), frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
}

/// A block may be cut at any octet.
#[tokio::test]
async fn malformed_messages_in_pieces_cost_their_stream() {
    let open = [GET, &[("x-read", "1")]].concat();
    let request = [GET, &[("connection", "close"), ("x", "y")]].concat();
    for fields in [&[("x", "y"), (":status", "200")][..], &[("connection", "close"), ("x", "y")]] {
        for at in 0..=block(fields).len() {
            for cut in [Cut::Whole, Cut::Octets] {
                let (mut raw, mut ends) = reader(ServerConfig::default()).await;
                let bytes = [headers(1, &open, false), in_pieces(1, fields, true, at), headers(3, GET, true)];
                send_cut(&mut raw, &bytes.concat(), cut).await;
                assert_eq!(raw.outcome(1).await, "rst:1", "{fields:?}, {at}, {cut:?}");
                assert!(soon("the end", ends.recv()).await.unwrap().is_err());
                assert_eq!(raw.outcome(3).await, "headers", "{fields:?}, {at}, {cut:?}");
            }
        }
    }
    let mut raw = raw_client(ServerConfig::default()).await;
    for (at, stream) in (0..=block(&request).len()).zip((1..).step_by(2)) {
        raw.send(&in_pieces(stream, &request, true, at)).await;
        assert_eq!(raw.outcome(stream).await, "rst:1", "{at}");
    }
    still_serves(&mut raw, 999).await;
}

/// Where one frame cannot hold a block it goes on in pieces, and good ones are read.
#[tokio::test]
async fn blocks_larger_than_a_frame_pass_in_pieces() {
    let mut cfg = ServerConfig::default();
    cfg.http2.max_frame_size = 16_384;
    let long = "v".repeat(15_000);
    let fields = [GET, &[("x-read", &long[..]), ("y", &long)]].concat();
    let (mut raw, mut ends) = reader(cfg).await;
    raw.send(&in_pieces(1, &fields, false, 15_050)).await;
    raw.send(&in_pieces(1, &[("x", &long), ("y", &long)], true, 16_000)).await;
    let trailers = soon("the end", ends.recv()).await.unwrap().unwrap().unwrap();
    assert!(trailers["x"] == *long && trailers["y"] == *long);
}

/// One stream is malformed once.
#[tokio::test]
async fn malformed_trailers_of_one_stream_many_times_at_once() {
    let mut raw = raw_client(ServerConfig::default()).await;
    let again = headers(1, &[(":path", "/")], false).repeat(3000);
    raw.send(&[headers(1, TUNNEL, false), again].concat()).await;
    let mut outcome = raw.outcome(1).await;
    if outcome == "headers" {
        outcome = raw.outcome(1).await;
    }
    assert_eq!(outcome, "rst:1");
    still_serves(&mut raw, 3).await;
}

/// A long block that is over does not count towards what is held of the next.
#[tokio::test]
async fn malformed_trailers_behind_long_ones() {
    let mut cfg = ServerConfig::default();
    cfg.http2.max_header_list_size = 1 << 20;
    cfg.http2.max_header_field_size = 1 << 20;
    let mut raw = raw_client(cfg).await;
    for stream in [1, 3] {
        raw.send(&headers(stream, TUNNEL, false)).await;
        assert_eq!(raw.outcome(stream).await, "headers");
    }
    let long = headers(1, &[("x", &"v".repeat(64_500))], true);
    let next = headers(3, &[("x", &"v".repeat(7000)), (":path", "/")], true);
    let (first, last) = next.split_at(next.len() - 5);
    // Of a type that nobody knows: one read has the end of one block and the beginning of the other.
    let unknown = frame(0x16, 0, 0, &[0; 4096]);
    raw.send(&[&unknown, &long, first].concat()).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    raw.send(last).await;
    assert_eq!(raw.outcome(3).await, "rst:1");
    still_serves(&mut raw, 5).await;
}

/// Several in one read, good ones between them, and the last one in two reads.
#[tokio::test]
async fn malformed_trailers_of_many_streams_at_once() {
    let mut raw = raw_client(ServerConfig::default()).await;
    let (bad, good) = ([(":path", "/")], [("x", "y")]);
    for stream in [1, 3, 5, 7, 9] {
        raw.send(&headers(stream, TUNNEL, false)).await;
        assert_eq!(raw.outcome(stream).await, "headers");
    }
    let first = [headers(1, &bad, true), headers(3, &good, true), headers(5, &bad, true), frame(DATA, 0, 9, b"alive")];
    let last = headers(7, &bad, true);
    let (now, later) = last.split_at(12);
    raw.send(&[first.concat(), now.to_vec()].concat()).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let frame = raw.next().await.unwrap();
        match frame.kind {
            RST_STREAM => seen.push((frame.stream, frame.code())),
            DATA if frame.ends() => seen.push((frame.stream, 0)),
            DATA => seen.push((frame.stream, frame.payload.len() as u32)),
            _ => assert_ne!(frame.kind, GOAWAY),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (3, 0), (5, 1), (9, 5)]);
    raw.send(later).await;
    assert_eq!(raw.outcome(7).await, "rst:1");
    still_serves(&mut raw, 11).await;
}

#[tokio::test]
async fn good_trailers_pass_however_they_come() {
    let open = [GET, &[("x-read", "1")]].concat();
    let long = "v".repeat(50_000);
    for value in ["y", &long] {
        for cut in [Cut::Whole, Cut::Octets] {
            let (mut raw, mut ends) = reader(ServerConfig::default()).await;
            let bytes = block(&[("x", value)]);
            let (first, rest) = bytes.split_at(2);
            let bytes = [
                headers(1, &open, false),
                frame(DATA, 0, 1, b"body"),
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, END_HEADERS, 1, rest),
                headers(3, GET, true),
            ];
            let (now, later) = bytes.split_at(if value.len() > 1 { 4 } else { 0 });
            raw.send(&now.concat()).await;
            send_cut(&mut raw, &later.concat(), cut).await;
            let ended = soon("the end", ends.recv()).await.unwrap().unwrap().unwrap();
            assert_eq!(ended["x"], *value);
            assert_eq!(raw.outcome(3).await, "headers");
        }
    }
}

/// However long they are within the limit.
#[tokio::test]
async fn long_trailers_cost_their_stream_if_anything() {
    let mut cfg = ServerConfig::default();
    cfg.http2.max_header_list_size = 1 << 20;
    cfg.http2.max_header_field_size = 1 << 20;
    let long = "v".repeat(200_000);
    for (fields, good) in [(vec![("x", &long[..])], true), (vec![("x", &long[..]), (":path", "/")], false)] {
        let (mut raw, mut ends) = reader(cfg.clone()).await;
        raw.send(&headers(1, &[GET, &[("x-read", "1")]].concat(), false)).await;
        let trailers = headers(1, &fields, true);
        let (first, last) = trailers.split_at(trailers.len() - 10);
        raw.send(first).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        raw.send(last).await;
        if good {
            assert_eq!(soon("the end", ends.recv()).await.unwrap().unwrap().unwrap()["x"], long);
        } else {
            assert_eq!(raw.outcome(1).await, format!("rst:{PROTOCOL_ERROR}"));
            still_serves(&mut raw, 3).await;
        }
    }
}

#[tokio::test]
async fn malformed_trailers_cost_the_connection_where_the_configuration_says_so() {
    let mut cfg = ServerConfig::default();
    cfg.http2.stream_error_on_invalid_http_message = Some(false);
    let mut raw = raw_client(cfg).await;
    raw.send(&headers(1, GET, false)).await;
    raw.send(&headers(1, &[(":path", "/")], true)).await;
    raw.expect_goaway(PROTOCOL_ERROR).await;
}

/// A client that has sent two requests to a raw server, whose streams are 1 and 3.
async fn two_requests(cfg: ClientConfig) -> (Raw, ClientSide, OutgoingStream, OutgoingStream) {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, cfg);
    let mut raw = Raw::server(accepted, &[]).await;
    let first = client.open(get("/"), true).await.unwrap();
    let second = client.open(connect("a:1"), false).await.unwrap();
    for stream in [1, 3] {
        assert_eq!(raw.expect(HEADERS).await.stream, stream);
    }
    (raw, client, first, second)
}

#[tokio::test]
async fn malformed_responses_cost_their_stream() {
    let ok = &[(":status", "200")][..];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("path", headers(1, &[(":status", "200"), (":path", "/")], false)),
        ("method", headers(1, &[(":method", "GET"), (":status", "200")], true)),
        ("authority", headers(1, &[(":status", "200"), (":authority", "a")], true)),
        ("scheme", headers(1, &[(":status", "200"), (":scheme", "http")], true)),
        ("protocol", headers(1, &[(":status", "200"), (":protocol", "x")], true)),
        ("path in an interim head", headers(1, &[(":status", "103"), (":path", "/")], false)),
        ("the end with an interim head", headers(1, &[(":status", "103")], true)),
        ("unknown pseudo-header field", headers(1, &[(":status", "200"), (":x", "y")], true)),
        ("upper case", headers(1, &[(":status", "200"), ("X", "y")], true)),
        ("no status", headers(1, &[("x", "y")], true)),
        ("status behind a field", headers(1, &[("x", "y"), (":status", "200")], true)),
        ("status twice", headers(1, &[(":status", "200"), (":status", "200")], true)),
        ("connection", headers(1, &[(":status", "200"), ("connection", "close")], true)),
        ("connection in the first piece", in_pieces(1, &[(":status", "200"), ("connection", "close")], true, 31)),
        ("connection cut", in_pieces(1, &[(":status", "200"), ("connection", "close"), ("x", "y")], false, 33)),
        ("path in the second piece", in_pieces(1, &[(":status", "200"), (":path", "/")], true, 13)),
        ("trailers that do not end", [headers(1, ok, false), headers(1, &[("x", "y")], false)].concat()),
        ("status in trailers", [headers(1, ok, false), headers(1, ok, true)].concat()),
        (
            "path in trailers behind an interim head",
            [headers(1, &[(":status", "103")], false), headers(1, ok, false), headers(1, &[(":path", "/")], true)]
                .concat(),
        ),
    ];
    for (name, bytes) in cases {
        for cut in [Cut::Whole, Cut::Octets] {
            let (mut raw, _client, mut first, mut second) = two_requests(ClientConfig::default()).await;
            send_cut(&mut raw, &[bytes.clone(), headers(3, ok, false)].concat(), cut).await;
            assert_eq!(raw.outcome(1).await, format!("rst:{PROTOCOL_ERROR}"), "{name}, {cut:?}");
            assert_eq!(head(&mut second).await.unwrap().status, 200, "{name}, {cut:?}");
            let failed = loop {
                match head(&mut first).await {
                    Ok(head) if head.status.is_informational() => {}
                    Ok(_) => break body(&mut *first.response.into_recv()).await.unwrap_err(),
                    Err(error) => break error,
                }
            };
            assert!(matches!(failed, StreamError::Protocol(_)), "{name}, {cut:?}: {failed:?}");
        }
    }
}

#[tokio::test]
async fn a_malformed_response_costs_the_connection_where_the_configuration_says_so() {
    let mut cfg = ClientConfig::default();
    cfg.http2.stream_error_on_invalid_http_message = Some(false);
    let (mut raw, client, mut first, mut second) = two_requests(cfg).await;
    raw.send(&headers(1, &[(":status", "200"), (":path", "/")], true)).await;
    assert_eq!(goaway(&mut raw).await, Some(PROTOCOL_ERROR));
    assert!(soon("driver", client.driver).await.unwrap().is_err());
    for stream in [&mut first, &mut second] {
        let error = head(stream).await.unwrap_err();
        assert!(matches!(error, StreamError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn good_responses_pass_however_they_come() {
    for cut in [Cut::Whole, Cut::Octets] {
        let (mut raw, _client, mut first, _second) = two_requests(ClientConfig::default()).await;
        let bytes = [
            headers(1, &[(":status", "103"), ("link", "a")], false),
            frame(HEADERS, PADDED | PRIORITISED, 1, &[2, 0, 0, 0, 0, 1, 0x88, 0, 0]),
            frame(CONTINUATION, END_HEADERS, 1, &[0x40, 1, b'x', 1, b'y']),
            frame(DATA, 0, 1, b"body"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xbe]),
        ];
        send_cut(&mut raw, &bytes.concat(), cut).await;
        assert_eq!(head(&mut first).await.unwrap().status, 103);
        let answer = head(&mut first).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.headers["x"]), (200, &"y".parse().unwrap()));
        let mut recv = first.response.into_recv();
        assert_eq!(body(&mut *recv).await.unwrap(), b"body");
        assert_eq!(trailers(&mut *recv).await.unwrap().unwrap()["x"], "y");
    }
}

/// The client says why, too, and its streams fail as on any broken connection.
#[tokio::test]
async fn connection_errors_of_a_server() {
    let ok = headers(1, &[(":status", "200")], true);
    let mut cases: Vec<(&str, Vec<u8>, u32)> = undecodable()
        .into_iter()
        .map(|(name, bad)| (name, frame(HEADERS, END_HEADERS, 1, &[&[0x88][..], &bad].concat()), COMPRESSION_ERROR))
        .collect();
    cases.extend([
        ("DATA behind the end", [&ok[..], &frame(DATA, 0, 1, b"late")].concat(), STREAM_CLOSED),
        ("HEADERS behind the end", [&ok[..], &ok].concat(), STREAM_CLOSED),
        ("short PING", frame(PING, 0, 0, &[0; 7]), 6),
        ("window too large", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0]), 3),
        ("PUSH_PROMISE", frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x84, 0x86]), PROTOCOL_ERROR),
        ("another frame inside a block", [frame(HEADERS, 0, 1, &[0x88]), frame(PING, 0, 0, &[0; 8])].concat(), 1),
        ("CONTINUATION alone", frame(CONTINUATION, END_HEADERS, 1, &[0x88]), PROTOCOL_ERROR),
        ("padding beyond the frame", frame(HEADERS, PADDED | END_HEADERS, 1, &[9, 0x88]), PROTOCOL_ERROR),
        ("no room for the priority", frame(HEADERS, PRIORITISED | END_HEADERS, 1, &[0; 4]), 6),
        ("no room for the padding's length", frame(DATA, PADDED, 1, &[]), 6),
    ]);
    for (name, bytes, code) in cases {
        for cut in [Cut::Whole, Cut::Octets] {
            let (mut raw, client, _first, mut second) = two_requests(ClientConfig::default()).await;
            send_cut(&mut raw, &bytes, cut).await;
            assert_eq!(goaway(&mut raw).await, Some(code), "{name}, {cut:?}");
            assert!(soon("driver", client.driver).await.unwrap().is_err());
            let error = head(&mut second).await.unwrap_err();
            assert!(matches!(error, StreamError::Protocol(_)), "{name}, {cut:?}: {error:?}");
        }
    }
}

/// What a server had under way when our reset left is no error (RFC 9113 section 5.1).
#[tokio::test]
async fn what_crosses_the_reset_of_a_client_is_no_error() {
    let ok = &[(":status", "200")][..];
    let (data, last) = (frame(DATA, 0, 1, b"body"), headers(1, &[("x", "y")], true));
    let bad = headers(1, &[("x", "y"), (":path", "/")], false);
    for (before, after) in [
        (vec![], vec![headers(1, ok, false), data.clone(), last.clone()]),
        (vec![headers(1, ok, false)], vec![data.clone(), last.clone()]),
        (vec![headers(1, ok, false), data.clone()], vec![data, last]),
        (vec![headers(1, ok, false)], vec![bad.clone(), bad]),
    ] {
        for cut in [Cut::Whole, Cut::Octets] {
            let (mut raw, _client, mut first, mut second) = two_requests(ClientConfig::default()).await;
            raw.send(&before.concat()).await;
            if !before.is_empty() {
                assert_eq!(head(&mut first).await.unwrap().status, 200);
            }
            drop(first);
            assert_eq!(raw.outcome(1).await, "rst:8");
            send_cut(&mut raw, &[after.concat(), headers(3, ok, false)].concat(), cut).await;
            assert_eq!(head(&mut second).await.unwrap().status, 200, "{before:x?}, {after:x?}, {cut:?}");
        }
    }
}

/// PINGs whose answers are not read condemn a client by what it cannot write.
#[tokio::test]
async fn the_streams_of_a_client_that_is_flooded_are_told() {
    let (mut raw, client, mut first, mut second) = two_requests(ClientConfig::default()).await;
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    let mut driver = client.driver;
    let flood = async {
        loop {
            tokio::select! {
                end = &mut driver => return end.unwrap(),
                _ = raw.socket_write(&pings) => tokio::task::yield_now().await,
            }
        }
    };
    assert!(soon("driver", flood).await.is_err());
    for stream in [&mut first, &mut second] {
        let error = head(stream).await.unwrap_err();
        assert!(matches!(error, StreamError::Protocol(_)), "{error:?}");
    }
}

/// Many streams open at once, and each ended by either side first.
#[tokio::test]
async fn many_streams_end_in_any_order() {
    let (dialled, accepted) = sockets().await;
    serve(accepted, ServerConfig::default(), echo);
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut rng = fastrand::Rng::with_seed(7);
    let mut open = Vec::new();
    for _ in 0..600 {
        let mut stream = client.open(connect("a:1"), false).await.unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 200);
        open.push(stream);
        if open.len() > 50 {
            let mut stream = open.swap_remove(rng.usize(..open.len()));
            match rng.u8(0..3) {
                0 => drop(stream),
                1 => stream.send.reset(adit_http::ErrorCode::Cancel),
                _ => {
                    send(&mut *stream.send, "x", true).await.unwrap();
                    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"x");
                }
            }
        }
    }
    soon("ready", poll_fn(|cx| client.conn.poll_ready(cx))).await.unwrap();
}
