//! Upstreams that attack our client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use adit_tests::config::{HTTP2, cluster, hcm, listener, prefix, resources, tcp_proxy, upgrades};
use adit_tests::frames::*;
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin};

/// What a server does with a connection, after the preface and its SETTINGS, unless it is to be silent.
type Behaviour = fn(&mut H2);

struct Lab {
    adit: Proxy,
    http: u16,
    tcp: u16,
    good: Arc<AtomicBool>,
}

impl Lab {
    /// Plain requests and TCP tunnels to an upstream that behaves so until it is told to be good.
    fn new(behave: Behaviour) -> Self {
        let good = Arc::new(AtomicBool::new(false));
        let turn = good.clone();
        let upstream = origin::serve(move |socket| {
            if turn.load(Ordering::Relaxed) {
                serve_well(H2::accept(socket, &[(8, 1)]));
            } else {
                let mut server = H2::accept_silent(socket);
                behave(&mut server);
                // Whatever else comes is read, so that nothing ends for want of a reader.
                let end = Instant::now() + Duration::from_secs(15);
                while Instant::now() < end {
                    match server.next_within(Duration::from_secs(15)) {
                        Ok(Some(frame)) if frame.kind == HEADERS && turn.load(Ordering::Relaxed) => {
                            server.try_send(headers(frame.stream, &[(":status", "200")], true));
                        }
                        Ok(Some(_)) => {}
                        Ok(None) | Err(()) => break,
                    }
                }
            }
        });
        let (http, tcp) = (free_port(), free_port());
        let more = format!("{}http2_protocol_options: {{ allow_connect: true }}\n", upgrades(&["websocket"]));
        let adit = Proxy::adit(&resources(
            &[
                listener("http", http, &hcm("h", &prefix("c"), &more)),
                listener("tcp", tcp, &tcp_proxy("c", "tunneling_config: { hostname: 'h:443' }\n")),
            ],
            &[cluster("c", upstream, HTTP2)],
        ));
        Self { adit, http, tcp, good }
    }

    /// The request fails clearly, and once the upstream is good again the next one works.
    #[track_caller]
    fn survives(&self, name: &str, statuses: &[&str]) {
        let mut client = Peer::connect(self.http);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let (answer, _) = client.rest();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let last = text.rfind("HTTP/1.1 ").unwrap_or(0);
        let text: String = text[last..].chars().take(300).collect();
        let status = text.get(9..12).unwrap_or("");
        assert!(statuses.contains(&status), "{name}: {text:?}");
        let mut tunnel = Peer::connect(self.tcp);
        tunnel.send("x");
        tunnel.0.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        // It ends, or waits for an answer that does not come; it never echoes.
        use std::io::Read;
        assert!(!matches!(tunnel.0.read(&mut [0; 16]), Ok(1..)), "{name}: a tunnel that nobody accepted");
        drop(tunnel);
        self.good.store(true, Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            let mut client = Peer::connect(self.http);
            client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let (answer, _) = client.rest();
            if answer.starts_with(b"HTTP/1.1 200 ") {
                break;
            }
            assert!(
                Instant::now() < end,
                "{name}: a good upstream is not found again: {:?}",
                String::from_utf8_lossy(&answer)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.adit.wait_stat("http.h.downstream_rq_active", 0);
        self.adit.wait_stat("cluster.c.upstream_rq_active", 0);
        let tcp = self.tcp;
        self.adit.wait_stat(&format!("listener.127.0.0.1_{tcp}.downstream_cx_active"), 0);
    }
}

/// Each in a thread and a lab of its own; a failure names its case.
#[track_caller]
fn all_survive(cases: &'static [(&'static str, Behaviour)]) {
    let threads = cases.iter().map(|(name, behave)| std::thread::spawn(move || Lab::new(*behave).survives(name, BAD)));
    let threads: Vec<_> = threads.collect();
    let failed: Vec<_> =
        cases.iter().zip(threads).filter_map(|((name, _), thread)| thread.join().err().map(|_| name)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Answers every request with an empty 200.
fn serve_well(mut server: H2) {
    while let Some(frame) = server.next() {
        if frame.kind == HEADERS {
            let end = frame.ends();
            server.send(headers(frame.stream, &[(":status", "200")], end));
        }
    }
}

/// The first request's stream.
fn request(server: &mut H2) -> u32 {
    loop {
        match server.next() {
            Some(frame) if frame.kind == HEADERS => return frame.stream,
            Some(_) => {}
            None => return 1,
        }
    }
}

fn begin(server: &mut H2) {
    server.send(settings(&[(8, 1)]));
}

const BAD: &[&str] = &["502", "503", "504"];

#[test]
fn an_upstream_that_sends_no_settings() {
    // A plain request may go at once; it is not answered on such a connection.
    Lab::new(|_| {}).survives("no SETTINGS", &["503", "504", "502"]);
}

#[test]
fn answers_that_are_no_http() {
    let cases: &'static [(&'static str, Behaviour)] = &[
        ("no status", |s| answer(s, &[("x", "1")])),
        ("a status twice", |s| answer(s, &[(":status", "200"), (":status", "200")])),
        ("a status of 99", |s| answer(s, &[(":status", "99")])),
        ("a status of 101", |s| answer(s, &[(":status", "101")])),
        ("a path", |s| answer(s, &[(":status", "200"), (":path", "/")])),
        ("a method alone", |s| answer(s, &[(":method", "GET")])),
        ("the end with an interim answer", |s| answer(s, &[(":status", "103")])),
        ("no block", |s| {
            let stream = begin_and_request(s);
            s.try_send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88, 0xff, 0x7f]));
        }),
        ("a field of the hop", |s| answer(s, &[(":status", "200"), ("connection", "close")])),
        ("chunks", |s| answer(s, &[(":status", "200"), ("transfer-encoding", "chunked")])),
        ("a line break", |s| answer(s, &[(":status", "200"), ("x", "a\r\nset-cookie: evil")])),
        ("a huge head", |s| {
            let stream = begin_and_request(s);
            s.send(frame(HEADERS, 0, stream, &block(&[(":status", "200")])));
            for _ in 0..100 {
                if !s.try_send(frame(CONTINUATION, 0, stream, &block(&[("x", &"y".repeat(16_000))]))) {
                    break;
                }
            }
        }),
        ("many fields", |s| {
            let mut fields = vec![(":status", "200")];
            fields.extend([("x", "y"); 2000]);
            answer(s, &fields);
        }),
        ("endless interim answers", |s| {
            let stream = begin_and_request(s);
            for _ in 0..2000 {
                if !s.try_send(headers(stream, &[(":status", "103")], false)) {
                    break;
                }
            }
        }),
    ];
    all_survive(cases);
}

fn begin_and_request(server: &mut H2) -> u32 {
    begin(server);
    request(server)
}

fn answer(server: &mut H2, fields: &[(&str, &str)]) {
    let stream = begin_and_request(server);
    let whole = block(fields);
    let (first, rest) = whole.split_at(whole.len().min(16_000));
    server.try_send(frame(HEADERS, END_STREAM | if rest.is_empty() { END_HEADERS } else { 0 }, stream, first));
    if !rest.is_empty() {
        server.try_send(frame(CONTINUATION, END_HEADERS, stream, rest));
    }
}

#[test]
fn frames_that_break_the_rules() {
    let cases: &'static [(&'static str, Behaviour)] = &[
        ("DATA before HEADERS", |s| {
            let stream = begin_and_request(s);
            s.try_send(data(stream, b"x", true));
        }),
        ("DATA on a stream that was not opened", |s| {
            begin_and_request(s);
            s.try_send(data(99, b"x", true));
        }),
        ("HEADERS on a stream that was not opened", |s| {
            begin_and_request(s);
            s.try_send(headers(99, &[(":status", "200")], true));
        }),
        ("PUSH_PROMISE", |s| {
            let stream = begin_and_request(s);
            s.try_send(frame(5, END_HEADERS, stream, &[&[0, 0, 0, 2][..], &block(&get("/pushed"))].concat()));
        }),
        ("garbage", |s| {
            begin_and_request(s);
            s.try_send([0xa5; 4096]);
        }),
        ("an answer of HTTP/1.1", |s| {
            s.try_send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }),
        ("a window beyond 2^31-1", |s| {
            let stream = begin_and_request(s);
            s.try_send([window_update(stream, 0x7fff_ffff), window_update(0, 0x7fff_ffff)].concat());
        }),
        ("SETTINGS turned on and off", |s| {
            begin_and_request(s);
            for n in 0..20_000 {
                if !s.try_send(settings(&[(8, 1), (4, n % 2 * 65_535), (5, 16_384 + n % 2)])) {
                    return;
                }
            }
            s.try_send(settings(&[(8, 0)]));
        }),
        ("PING without end", |s| {
            begin_and_request(s);
            let many = frame(PING, 0, 0, &[1; 8]).repeat(1000);
            for _ in 0..200 {
                if !s.try_send(&many) {
                    return;
                }
            }
        }),
        ("RST_STREAM without end", |s| {
            begin(s);
            for _ in 0..100 {
                let stream = request(s);
                if !s.try_send(reset(stream, 2)) {
                    return;
                }
            }
        }),
        ("GOAWAY without end", |s| {
            begin_and_request(s);
            s.try_send(goaway(0, 0).repeat(1000));
        }),
        ("GOAWAY with an error", |s| {
            begin_and_request(s);
            s.try_send(goaway(0, 11));
        }),
        ("REFUSED_STREAM always", |s| {
            begin(s);
            for _ in 0..100 {
                let stream = request(s);
                if !s.try_send(reset(stream, 7)) {
                    return;
                }
            }
        }),
    ];
    all_survive(cases);
}

/// What follows a good head must not look whole when it is not.
#[test]
fn bodies_that_break_the_rules() {
    let cases: &[(&str, Behaviour)] = &[
        ("DATA beyond the length", |s| {
            let stream = begin_and_request(s);
            s.try_send(headers(stream, &[(":status", "200"), ("content-length", "2")], false));
            s.try_send(data(stream, b"toolong", true));
        }),
        ("DATA short of the length", |s| {
            let stream = begin_and_request(s);
            s.try_send(headers(stream, &[(":status", "200"), ("content-length", "9")], false));
            s.try_send(data(stream, b"short", true));
        }),
        ("trailers without an end", |s| {
            let stream = begin_and_request(s);
            s.try_send(headers(stream, &[(":status", "200"), ("content-length", "9")], false));
            s.try_send(data(stream, b"short", false));
            s.try_send(headers(stream, &[("x", "1")], false));
        }),
        ("DATA beyond the window", |s| {
            let stream = begin_and_request(s);
            s.try_send(headers(stream, &[(":status", "200"), ("content-length", "99999999999")], false));
            s.socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            let block = data(stream, &[0; 16_000], false);
            // 64 MiB whatever the window says.
            for _ in 0..4096 {
                if !s.try_send(&block) {
                    return;
                }
            }
        }),
    ];
    for (name, behave) in cases {
        let lab = Lab::new(*behave);
        let before = lab.adit.rss_kib();
        let mut client = Peer::connect(lab.http);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        if name.contains("window") {
            // Not read for a while: what comes in spite of the window is not kept.
            std::thread::sleep(Duration::from_millis(800));
            let grown = lab.adit.rss_kib().saturating_sub(before);
            assert!(grown < 16 << 10, "{name}: {grown} KiB");
        }
        let (answer, _) = client.rest();
        let text = String::from_utf8_lossy(&answer[..answer.len().min(500)]).into_owned();
        let body = answer.len() - text.find("\r\n\r\n").map_or(0, |at| at + 4);
        let length =
            text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        let whole = text.starts_with("HTTP/1.1 200") && length == Some(body);
        assert!(!whole, "{name}: {text:?}");
        lab.adit.wait_stat("http.h.downstream_rq_active", 0);
    }
}

/// C15, C16: an upgrade goes only where it is allowed, and only while it is.
#[test]
fn c15_c16_extended_connect_needs_leave() {
    for entries in [&[][..], &[(8, 0)]] {
        let sent = Arc::new(AtomicBool::new(false));
        let seen = sent.clone();
        let entries: Vec<(u16, u32)> = entries.to_vec();
        let upstream = origin::serve(move |socket| {
            let mut server = H2::accept(socket, &entries);
            while let Some(frame) = server.next() {
                if frame.kind == HEADERS {
                    seen.store(true, Ordering::Relaxed);
                }
            }
        });
        let port = free_port();
        let _adit = Proxy::adit(&resources(
            &[listener("l", port, &hcm("h", &prefix("c"), &upgrades(&["websocket"])))],
            &[cluster("c", upstream, HTTP2)],
        ));
        let mut client = Peer::connect(port);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 50"), "{head}");
        assert!(!sent.load(Ordering::Relaxed));
    }
}
