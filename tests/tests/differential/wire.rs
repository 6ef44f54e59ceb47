//! Bytes on the wire over HTTP/2, of the same frames in both proxies.
//!
//! What is received is the same to the byte. What is sent differs where the header compression of the two does: the rest of it is
//! the same, and all of it is what the client received.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, resources, upgrades};
use adit_tests::frames::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, H2, HEADERS, PADDED, PRIORITY};
use adit_tests::frames::{RST_STREAM, data, frame, get, headers, reset, window_update};
use adit_tests::{Proxy, eventually, free_port, origin};

const FORMAT: &str = "BL|%DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_RECEIVED% \
    %UPSTREAM_HEADER_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT% %DOWNSTREAM_HEADER_BYTES_SENT% \
    %UPSTREAM_WIRE_BYTES_SENT% %UPSTREAM_HEADER_BYTES_SENT%\\n";

const FLUSH: &[&str] = &["--file-flush-interval-msec", "20"];

/// What `x-request-id` and the upstream's time take when they are compressed.
const CHANGING: u64 = 6;

/// What the origin does about a frame.
type Play = fn(&mut H2, &Frame);

struct Case {
    name: &'static str,
    client: fn(&mut H2),
    origin: Play,
}

const WEBSOCKET: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a.example"),
    (":path", "/chat"),
];

fn post() -> Vec<(&'static str, &'static str)> {
    let mut fields = get("/");
    fields[0].1 = "POST";
    fields
}

/// A payload between the octet that says how much padding there is, and the padding.
fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    [&[padding][..], payload, &vec![0; padding.into()]].concat()
}

/// Answers a request once it has ended.
fn hello(h2: &mut H2, came: &Frame) {
    if came.ends() {
        let answer = headers(came.stream, &[(":status", "200"), ("x-o", "y")], false);
        h2.send([answer, data(came.stream, b"hello", true)].concat());
    }
}

/// Accepts a tunnel and sends back what comes in it.
fn echo(h2: &mut H2, came: &Frame) {
    match came.kind {
        HEADERS => h2.send(headers(came.stream, &[(":status", "200")], false)),
        DATA => h2.send(data(came.stream, &came.payload, came.ends())),
        _ => {}
    }
}

/// Sends frames one after the other, so that neither proxy puts them together.
fn slowly(h2: &mut H2, frames: &[Vec<u8>]) {
    for frame in frames {
        h2.send(frame);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn through_a_tunnel(h2: &mut H2, head: &[(&str, &str)]) {
    slowly(h2, &[headers(1, head, false), data(1, b"hello", false), data(1, b"again", false), data(1, b"", true)]);
}

const CASES: &[Case] = &[
    Case { name: "get", client: |h2| h2.send(headers(1, &get("/"), true)), origin: hello },
    Case {
        name: "post",
        client: |h2| slowly(h2, &[headers(1, &post(), false), data(1, &[0; 10], false), data(1, &[0; 10], true)]),
        origin: hello,
    },
    Case {
        name: "an end of its own",
        client: |h2| slowly(h2, &[headers(1, &post(), false), data(1, &[0; 10], false), data(1, b"", true)]),
        origin: hello,
    },
    Case {
        name: "padding",
        client: |h2| {
            let head = frame(HEADERS, END_HEADERS | PADDED, 1, &padded(&frames::block(&post()), 20));
            h2.send([head, frame(DATA, END_STREAM | PADDED, 1, &padded(b"hello", 7))].concat());
        },
        origin: |h2, came| {
            if came.ends() {
                h2.send(headers(came.stream, &[(":status", "200")], false));
                h2.send(frame(DATA, END_STREAM | PADDED, came.stream, &padded(b"hello", 4)));
            }
        },
    },
    Case {
        name: "heads in pieces",
        client: |h2| {
            let block = frames::block(&get("/"));
            let (first, rest) = block.split_at(10);
            h2.send(frame(HEADERS, END_STREAM, 1, first));
            h2.send(frame(CONTINUATION, END_HEADERS, 1, rest));
        },
        origin: |h2, came| {
            if came.ends() {
                let block = frames::block(&[(":status", "200"), ("x-o", "y")]);
                let (first, rest) = block.split_at(3);
                let pieces = [frame(HEADERS, 0, came.stream, first), frame(CONTINUATION, 0, came.stream, rest)];
                let last = frame(CONTINUATION, END_HEADERS, came.stream, b"");
                h2.send([pieces.concat(), last, data(came.stream, b"hello", true)].concat());
            }
        },
    },
    Case {
        name: "trailers",
        client: |h2| {
            h2.send([headers(1, &post(), false), data(1, b"x", false), headers(1, &[("t", "1")], true)].concat());
        },
        origin: |h2, came| {
            if came.ends() {
                let answer = headers(came.stream, &[(":status", "200")], false);
                h2.send([answer, data(came.stream, b"x", false), headers(came.stream, &[("t", "1")], true)].concat());
            }
        },
    },
    Case {
        name: "frames beside the message",
        client: |h2| {
            h2.send([headers(1, &post(), false), frame(0x20, 0, 1, b"unknown"), window_update(1, 100)].concat());
            slowly(h2, &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), data(1, b"", true)]);
        },
        origin: hello,
    },
    Case {
        name: "100",
        client: |h2| h2.send(headers(1, &get("/"), true)),
        origin: |h2, came| {
            if came.ends() {
                h2.send(headers(came.stream, &[(":status", "100")], false));
                hello(h2, came);
            }
        },
    },
    Case {
        name: "a long answer",
        client: |h2| h2.send(headers(1, &get("/"), true)),
        origin: |h2, came| {
            if came.ends() {
                h2.send(headers(came.stream, &[(":status", "200")], false));
                for n in 0..4 {
                    h2.send(data(came.stream, &[0; 10_000], n == 3));
                }
            }
        },
    },
    Case {
        name: "reset by the client",
        client: |h2| {
            slowly(h2, &[headers(1, &post(), false), data(1, b"x", false), reset(1, 8)]);
        },
        origin: |_, _| {},
    },
    Case {
        name: "reset by the origin",
        client: |h2| h2.send(headers(1, &get("/"), true)),
        origin: |h2, came| {
            if came.ends() {
                h2.send(headers(came.stream, &[(":status", "200")], false));
                h2.send([data(came.stream, b"x", false), reset(came.stream, 2)].concat());
            }
        },
    },
    Case { name: "websocket", client: |h2| through_a_tunnel(h2, WEBSOCKET), origin: echo },
    Case { name: "connect", client: |h2| through_a_tunnel(h2, frames::CONNECT), origin: echo },
];

struct Side {
    proxy: Proxy,
    port: u16,
    play: Arc<Mutex<Play>>,
}

impl Side {
    fn start(start: fn(&str) -> Proxy) -> Self {
        let play: Arc<Mutex<Play>> = Arc::new(Mutex::new(hello));
        let (port, plays) = (free_port(), play.clone());
        let origin = origin::serve(move |socket| {
            let mut h2 = H2::accept(socket, &[(8, 1)]);
            loop {
                match h2.next_within(Duration::from_secs(60)) {
                    Ok(Some(frame)) if frame.stream > 0 => {
                        let play = *plays.lock().unwrap_or_else(PoisonError::into_inner);
                        play(&mut h2, &frame);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(()) => break,
                }
            }
        });
        let more = format!(
            "codec_type: HTTP2\n{}- upgrade_type: CONNECT\nhttp2_protocol_options: {{ allow_connect: true }}\naccess_log:\n\
             - name: log\n  typed_config:\n    \
             \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    \
             log_format: {{ text_format_source: {{ inline_string: \"{FORMAT}\" }} }}\n",
            upgrades(&["websocket"])
        );
        let routes = format!("- match: {{ connect_matcher: {{}} }}\n  route: {{ cluster: c }}\n{}", prefix("c"));
        let yaml = resources(&[listener("l", port, &hcm("h", &routes, &more))], &[cluster("c", origin, HTTP2)]);
        Self { proxy: start(&yaml), port, play }
    }

    fn lines(&self) -> Vec<String> {
        self.proxy.log().lines().filter_map(|line| line.strip_prefix("BL|")).map(str::to_owned).collect()
    }

    /// The numbers of the line that the case makes, and what the client received of its stream.
    fn run(&self, case: &Case) -> ([u64; 8], u64) {
        *self.play.lock().unwrap() = case.origin;
        let before = self.lines().len();
        let mut h2 = H2::connect(self.port);
        (case.client)(&mut h2);
        let mut got = 0;
        // A client that resets hears no more.
        while !case.name.ends_with("by the client") {
            let came = h2.next().unwrap_or_else(|| panic!("{}: the connection ended", case.name));
            // A reset leaves behind the line.
            if came.stream == 1 && came.kind != RST_STREAM {
                got += 9 + came.payload.len() as u64;
            }
            if came.stream == 1 && (came.ends() || came.kind == RST_STREAM) {
                break;
            }
        }
        eventually("a line", || self.lines().len() > before);
        let line = self.lines().pop().unwrap();
        let numbers: Vec<u64> = line.split(' ').map(|text| text.parse().unwrap()).collect();
        (numbers.try_into().unwrap(), got)
    }
}

#[test]
fn http2_counts() {
    let (adit, envoy) = std::thread::scope(|scope| {
        let envoy = scope.spawn(|| Side::start(|yaml| Proxy::envoy_with(yaml, FLUSH)));
        (
            Side::start(|yaml| Proxy::adit_with(yaml, &[FLUSH, &["--concurrency", "1"]].concat())),
            envoy.join().expect("envoy"),
        )
    });
    let mut report = String::new();
    for case in CASES {
        // What differs does so every time; what a machine with much to do put together does not.
        let mut tries = (0..3).map(|_| compare(case, &adit, &envoy));
        if let Some(problems) = tries.by_ref().take_while(|problems| !problems.is_empty()).nth(2) {
            report += &problems;
        }
    }
    crate::lab::check(&report);
}

/// Where the two differ.
fn compare(case: &Case, adit: &Side, envoy: &Side) -> String {
    let ((ours, our_client), (theirs, their_client)) = (adit.run(case), envoy.run(case));
    let mut problems = Vec::new();
    if ours[..4] != theirs[..4] {
        problems.push("what is received");
    }
    let beside = |numbers: &[u64; 8]| [numbers[4] - numbers[5], numbers[6] - numbers[7]];
    if beside(&ours) != beside(&theirs) {
        problems.push("what is sent beside heads");
    }
    if [5, 7].iter().any(|&at| ours[at].abs_diff(theirs[at]) > CHANGING) {
        problems.push("heads that are sent");
    }
    if (ours[4], theirs[4]) != (our_client, their_client) {
        problems.push("what the client received");
    }
    if problems.is_empty() {
        return String::new();
    }
    let name = case.name;
    format!("{name}: {problems:?}\n  adit : {ours:?} {our_client}\n  envoy: {theirs:?} {their_client}\n")
}
