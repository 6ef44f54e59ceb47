//! What each frame does in each state of a stream (RFC 9113 section 5.1), the whole table.

use super::*;

const STATES: [&str; 12] = [
    "idle",
    "open",
    "peer ended",
    "we ended",
    "both ended, held",
    "both ended",
    "peer reset, held",
    "peer reset",
    "we reset, held",
    "we reset",
    "refused",
    "long over",
];
const FRAMES: [&str; 8] =
    ["HEADERS", "HEADERS, end", "DATA", "DATA, end", "RST_STREAM", "WINDOW_UPDATE", "WINDOW_UPDATE of 0", "PRIORITY"];

/// A server whose stream 5 is in this state.
fn server_in(state: &str) -> End {
    let options = Http2Options { max_concurrent_streams: 40, ..Http2Options::default() };
    let mut end = End::ready(&options, true);
    let ended = matches!(state, "peer ended" | "both ended, held" | "both ended" | "long over");
    if state == "idle" {
        return end;
    }
    if state == "refused" {
        for id in (7..87).step_by(2) {
            // Out of the way of the identifier.
            end.core.streams.open(end.core.new_stream(id, Flags::HEAD_CAME));
        }
        end.core.streams.last = 3;
    }
    end.feed(&octets(frame::HEADERS, if ended { ENDS } else { GOES_ON }, 5, GET)).unwrap();
    if state == "refused" {
        assert_eq!(end.sent()[0].code(), code::REFUSED_STREAM);
        return end;
    }
    let key = end.core.accept().unwrap().key;
    if state.starts_with("both ended") || matches!(state, "we ended" | "long over") {
        end.core.respond(key, http::StatusCode::OK, &http::HeaderMap::new(), true).unwrap();
    }
    if state.starts_with("peer reset") {
        end.feed(&octets(frame::RST_STREAM, 0, 5, &8u32.to_be_bytes())).unwrap();
    }
    if state.starts_with("we reset") {
        end.core.send_reset(key, ErrorCode::Cancel);
    }
    if matches!(state, "both ended" | "peer reset" | "we reset" | "long over") {
        end.core.drop_recv(key);
        end.core.drop_send(key, ErrorCode::Internal);
    }
    if state == "long over" {
        for id in (7..87).step_by(2) {
            end.feed(&octets(frame::HEADERS, ENDS, id, GET)).unwrap();
            let arrived = end.core.accept().unwrap();
            end.core.respond(arrived.key, http::StatusCode::OK, &http::HeaderMap::new(), true).unwrap();
            end.core.drop_send(arrived.key, ErrorCode::Internal);
        }
    }
    end.sent();
    end
}

fn frame_of(name: &str) -> Vec<u8> {
    let end = name.contains("end");
    match name.split(',').next().unwrap() {
        "HEADERS" => {
            octets(frame::HEADERS, if end { ENDS } else { GOES_ON }, 5, if end { &[0x40, 1, b'x', 0] } else { GET })
        }
        "DATA" => octets(frame::DATA, u8::from(end), 5, b"x"),
        "RST_STREAM" => octets(frame::RST_STREAM, 0, 5, &8u32.to_be_bytes()),
        "WINDOW_UPDATE" => octets(frame::WINDOW_UPDATE, 0, 5, &1u32.to_be_bytes()),
        "WINDOW_UPDATE of 0" => octets(frame::WINDOW_UPDATE, 0, 5, &0u32.to_be_bytes()),
        _ => octets(frame::PRIORITY, 0, 5, &[0, 0, 0, 0, 1]),
    }
}

fn outcome(state: &str, name: &str) -> String {
    let mut end = server_in(state);
    let before = end.core.streams.find(5).is_some();
    if let Err(Fault(code)) = end.feed(&frame_of(name)) {
        return format!("GOAWAY {code}");
    }
    if let Some(reset) = end.sent().iter().find(|sent| sent.kind == frame::RST_STREAM) {
        return format!("RST {}", reset.code());
    }
    let Some(key) = end.core.streams.find(5) else { return "-".into() };
    if !before {
        return "opens".into();
    }
    let stream = end.core.streams.get(key).unwrap();
    match stream.cause {
        Some(Cause::Peer(8)) if !state.starts_with("peer reset") => "is reset".into(),
        _ if stream.is(Flags::PEER_ENDED) && !state.contains("ended, held") && state != "peer ended" => "ends".into(),
        _ if !stream.inbound.is_empty() => "takes".into(),
        _ => "-".into(),
    }
}

#[test]
fn of_a_server() {
    let mut table = String::new();
    for state in STATES {
        let row: Vec<_> = FRAMES.iter().map(|name| outcome(state, name)).collect();
        table += &format!("{state}: {}\n", row.join(", "));
    }
    // HEADERS; HEADERS with END_STREAM (trailers); DATA; DATA with END_STREAM; RST_STREAM; WINDOW_UPDATE; of 0; PRIORITY.
    let expected = "\
idle: opens, RST 1, GOAWAY 1, GOAWAY 1, GOAWAY 1, GOAWAY 1, GOAWAY 1, -
open: RST 1, ends, takes, ends, is reset, -, RST 1, -
peer ended: GOAWAY 5, GOAWAY 5, GOAWAY 5, GOAWAY 5, is reset, -, RST 1, -
we ended: RST 1, ends, takes, ends, is reset, -, RST 1, -
both ended, held: GOAWAY 5, GOAWAY 5, GOAWAY 5, GOAWAY 5, -, -, -, -
both ended: GOAWAY 5, GOAWAY 5, GOAWAY 5, GOAWAY 5, -, -, -, -
peer reset, held: GOAWAY 5, GOAWAY 5, GOAWAY 5, GOAWAY 5, -, -, -, -
peer reset: GOAWAY 5, GOAWAY 5, RST 5, RST 5, -, -, -, -
we reset, held: -, -, -, -, -, -, -, -
we reset: -, -, -, -, -, -, -, -
refused: -, -, -, -, -, -, -, -
long over: GOAWAY 1, GOAWAY 1, RST 5, RST 5, -, -, -, -
";
    assert_eq!(table, expected);
}

/// A client with a request on stream 1.
fn client() -> (End, u32) {
    let mut end = End::ready(&Http2Options::default(), false);
    let key = end.core.open(&request(), false).unwrap();
    end.sent();
    (end, key)
}

#[test]
fn of_a_client() {
    let headers = |flags, block: &[u8]| octets(frame::HEADERS, flags, 1, block);
    let (ok, last, interim, trailers) =
        (headers(GOES_ON, OK), headers(ENDS, OK), headers(GOES_ON, b"\x08\x03103"), headers(ENDS, &[0x40, 1, b'x', 0]));
    let data = octets(frame::DATA, 0, 1, b"x");
    let cases: [(&str, Vec<&[u8]>, &str); 10] = [
        ("DATA ahead of the head", vec![&data], "GOAWAY 1"),
        ("DATA behind an interim head", vec![&interim, &data], "GOAWAY 1"),
        ("a whole answer", vec![&interim, &interim, &ok, &data, &trailers], "ends"),
        ("an answer without content", vec![&last], "ends"),
        ("trailers alone", vec![&trailers], "RST 1"),
        ("two heads", vec![&ok, &ok], "RST 1"),
        ("behind the end", vec![&last, &data], "GOAWAY 5"),
        ("an interim head with the end", vec![&headers(ENDS, b"\x08\x03103")], "RST 1"),
        ("a stream that nobody opened", vec![&octets(frame::HEADERS, GOES_ON, 3, OK)], "GOAWAY 1"),
        ("a stream of the server's", vec![&octets(frame::HEADERS, GOES_ON, 2, OK)], "GOAWAY 1"),
    ]
    .map(|(name, frames, outcome)| (name, frames.into_iter().map(|frame| &*frame.to_vec().leak()).collect(), outcome));
    for (name, frames, expected) in cases {
        let (mut end, key) = client();
        let outcome = match end.feed(&frames.concat()) {
            Err(Fault(code)) => format!("GOAWAY {code}"),
            Ok(()) => match end.sent().first() {
                Some(sent) => format!("RST {}", sent.code()),
                None if end.core.streams.get(key).unwrap().is(Flags::PEER_ENDED) => "ends".into(),
                None => "-".into(),
            },
        };
        assert_eq!(outcome, expected, "{name}");
    }
}

#[test]
fn lengths_and_contents_agree() {
    let with_length = |status: u8, length: u8| vec![0x80 | status, 0x0f, 0x0d, 1, length];
    for (head, method, content, good) in [
        (with_length(8, b'1'), "GET", Some(1), true),
        (with_length(8, b'2'), "GET", Some(1), false),
        (with_length(8, b'1'), "GET", Some(2), false),
        (with_length(8, b'1'), "GET", None, false),
        (with_length(8, b'0'), "GET", None, true),
        (with_length(8, b'9'), "HEAD", None, true),
        (with_length(8, b'9'), "HEAD", Some(0), true),
        (with_length(8, b'9'), "HEAD", Some(9), false),
        (with_length(11, b'9'), "GET", None, true),
        (with_length(9, b'9'), "GET", Some(9), false),
        (with_length(8, b'x'), "GET", None, false),
        (vec![0x88, 0x0f, 0x0d, 0], "GET", None, false),
        ([with_length(8, b'1'), vec![0x0f, 0x0d, 1, b'1']].concat(), "GET", Some(1), true),
        ([with_length(8, b'1'), vec![0x0f, 0x0d, 1, b'2']].concat(), "GET", Some(1), false),
    ] {
        let mut end = End::ready(&Http2Options::default(), false);
        let mut asked = request();
        asked.method = method.parse().unwrap();
        end.core.open(&asked, true).unwrap();
        end.sent();
        end.feed(&octets(frame::HEADERS, if content.is_none() { ENDS } else { GOES_ON }, 1, &head)).unwrap();
        if let Some(len) = content {
            end.feed(&octets(frame::DATA, 1, 1, &vec![0; len])).unwrap();
        }
        assert_eq!(end.sent().is_empty(), good, "{head:x?}, {method}, {content:?}");
    }
}
