//! What a client may cost: floods, stalls, bombs.

use std::time::{Duration, Instant};

use adit_tests::PATIENCE;
use adit_tests::frames::*;

use crate::lab::Lab;

/// Sends a piece again and again, at most so often: whether the attacker lost its connection, and the code it was told.
#[track_caller]
fn flood(lab: &Lab, start: &[u8], times: u32, mut piece: impl FnMut(u32) -> Vec<u8>) -> (bool, Option<u32>) {
    lab.while_served(|lab| {
        let mut client = lab.client();
        client.send(start);
        client.socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let (mut lost, mut last) = (false, Vec::new());
        for n in 0..times {
            last = piece(n);
            if !client.try_send(&last) {
                lost = true;
                break;
            }
        }
        // Who is served to the end is answered this PING; inside a header block it would be an attack of its own.
        let inside = matches!(last.get(3..5), Some([CONTINUATION, 0]));
        let served = *b"the last";
        if !lost && !inside {
            client.try_send(frame(PING, 0, 0, &served));
        }
        let wait = if lost { Duration::from_secs(5) } else { PATIENCE };
        let (end, mut code) = (Instant::now() + wait, None);
        loop {
            match client.next_within(end.saturating_duration_since(Instant::now())) {
                Ok(Some(frame)) if frame.kind == GOAWAY => code = Some(frame.code()),
                Ok(Some(frame)) if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == served => {
                    return (false, code);
                }
                Ok(Some(_)) => {}
                Ok(None) => return (true, code),
                Err(()) => return (lost, code),
            }
            // An attacker that is told to go and stays is not waited for.
            if code.is_some_and(|code| code != 0) {
                return (true, code);
            }
        }
    })
}

#[track_caller]
fn costs_the_connection(outcome: (bool, Option<u32>)) {
    let (lost, code) = outcome;
    assert!(lost, "the flood goes on: {code:?}");
    assert!(code.is_none_or(|code| code != 0), "{code:?}");
}

fn get_silent() -> Vec<(&'static str, &'static str)> {
    get("/silent")
}

#[test]
fn rapid_reset() {
    let lab = Lab::new();
    costs_the_connection(flood(&lab, b"", 50_000, |n| {
        [headers(n * 2 + 1, &get_silent(), true), reset(n * 2 + 1, 8)].concat()
    }));
}

#[test]
fn made_you_reset() {
    for provoke in [
        |stream| window_update(stream, 0),
        |stream| window_update(stream, 0x7fff_ffff),
        |stream| data(stream, b"x", true),
        |stream| frame(PRIORITY, 0, stream, &[0; 4]),
        |stream| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat()),
    ] {
        let lab = Lab::new();
        costs_the_connection(flood(&lab, b"", 50_000, |n| {
            [headers(n * 2 + 1, &get_silent(), true), provoke(n * 2 + 1)].concat()
        }));
    }
}

#[test]
fn malformed_requests_without_end() {
    let lab = Lab::new();
    let mut bad = get_silent();
    bad.push(("connection", "close"));
    costs_the_connection(flood(&lab, b"", 50_000, |n| headers(n * 2 + 1, &bad, true)));
}

#[test]
fn continuation_flood() {
    for payload in [&[][..], &[0, 1, b'x', 1, b'y'].repeat(1000)] {
        let lab = Lab::new();
        let start = frame(HEADERS, END_STREAM, 1, &block(&get_silent()));
        costs_the_connection(flood(&lab, &start, 50_000, |_| frame(CONTINUATION, 0, 1, payload)));
    }
}

/// Control frames: whoever reads the answers is served, within the turn of others; whoever does not loses the connection.
#[test]
fn control_frames_without_end() {
    for (name, piece) in [
        ("SETTINGS", settings(&[(3, 100)])),
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", window_update(0, 1)),
        ("empty DATA", data(1, b"", false)),
        ("an unknown frame", frame(77, 0, 0, &[0; 8])),
        ("SETTINGS of an unknown id", settings(&[(999, 1)])),
    ] {
        let lab = Lab::new();
        let start = headers(1, CONNECT, false);
        let chunk = piece.repeat(100);
        let (lost, code) = flood(&lab, &start, 5_000, |_| chunk.clone());
        // Answers that fit into the kernel's buffers count as read.
        if ["PRIORITY", "WINDOW_UPDATE", "empty DATA"].contains(&name) {
            assert!(lost, "{name}: {code:?}");
        }
    }
}

/// PRIORITY and WINDOW_UPDATE beside streams that come and go: each stream earns some, and no more.
#[test]
fn control_frames_with_stream_churn() {
    for piece in
        [|stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]).repeat(200), |_| window_update(0, 1).repeat(200)]
    {
        let lab = Lab::new();
        costs_the_connection(flood(&lab, b"", 20_000, |n| {
            [headers(n * 2 + 1, &get("/churn"), true), piece(n * 2 + 1)].concat()
        }));
    }
}

/// HEADERS without a field, and header blocks that do nothing but resize the table.
#[test]
fn empty_headers() {
    for block in [&[][..], &[0x20, 0x3f, 0xe1, 0x1f]] {
        let lab = Lab::new();
        costs_the_connection(flood(&lab, b"", 50_000, |n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, block)));
    }
}

#[test]
fn table_size_thrash() {
    let lab = Lab::new();
    flood(&lab, b"", 100_000, |n| settings(&[(1, n % 2 * 4096)]));
}

/// One byte a frame, padding only: legal, and slow for nobody but the sender.
#[test]
fn tiny_data() {
    let lab = Lab::new();
    lab.while_served(|lab| {
        let mut client = lab.client();
        client.send(headers(1, CONNECT, false));
        assert_eq!(client.outcome(1), Outcome::Status(200));
        let bytes = data(1, b"x", false).repeat(1000);
        let mut got = 0;
        for _ in 0..10 {
            client.send(&bytes);
            while got % 1000 != 0 || got == 0 {
                got += client.expect(DATA, 1).payload.len();
            }
            got = 0;
            let grown = [window_update(0, 1000), window_update(1, 1000)].concat();
            client.send(grown);
        }
    });
    let lab = Lab::new();
    let padding = frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat());
    let (lost, _) = flood(&lab, &headers(1, CONNECT, false), 3_000, |_| padding.clone());
    // Over its window or over the limit of empty frames: both end it.
    assert!(lost);
}

/// Twenty responses, and twenty tunnels, whose reader has stopped: less than 64 MiB together.
#[test]
fn stalled_streams_cost_a_bounded_amount() {
    for (name, fields) in
        [("responses", get("/big")), ("tunnels", vec![(":method", "CONNECT"), (":authority", "source:1")])]
    {
        // Windows that never open, closed windows opened a byte at a time, and a huge window that nobody reads from.
        for window in [0, 65_535, 0x7fff_ffff] {
            let lab = Lab::new();
            let mut warm = lab.client();
            warm.send(headers(1, &get("/x"), true));
            warm.outcome(1);
            drop(warm);
            let before = lab.adit.rss_kib();
            let mut client = H2::connect_with(lab.port, &[(4, window)]);
            if window > 65_535 {
                client.send(window_update(0, 0x7fff_ffff - 65_535));
            }
            for n in 0..20 {
                client.send(headers(n * 2 + 1, &fields, name == "responses"));
            }
            let mut most = 0;
            for step in 0..30 {
                std::thread::sleep(Duration::from_millis(50));
                if window == 0 {
                    for n in 0..20 {
                        client.send(window_update(n * 2 + 1, 1 + step));
                    }
                }
                most = most.max(lab.adit.rss_kib().saturating_sub(before));
            }
            println!("20 stalled {name}, window {window}: {most} KiB");
            assert!(most < 64 << 10, "{name} with a window of {window}: {most} KiB");
            drop(client);
            lab.nothing_left();
        }
    }
}

/// The peer sends into tunnels whose upstream does not read: its windows bound what is held.
#[test]
fn stalled_uploads_cost_a_bounded_amount() {
    let lab = Lab::new();
    let before = lab.adit.rss_kib();
    let mut client = lab.client();
    client.socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let block = vec![1; 16_000];
    for n in 0..20 {
        // `source` never reads.
        client.send(headers(n * 2 + 1, &[(":method", "CONNECT"), (":authority", "source:1")], false));
    }
    let mut sent = 0;
    let mut refused = false;
    for _ in 0..64 {
        for n in 0..20 {
            refused |= !client.try_send(data(n * 2 + 1, &block, false));
            sent += block.len();
        }
        if refused {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let grown = lab.adit.rss_kib().saturating_sub(before);
    println!("{sent} bytes into 20 tunnels that nobody reads: {grown} KiB");
    assert!(grown < 64 << 10, "{grown} KiB");
    drop(client);
    lab.nothing_left();
}

#[test]
fn hpack_bombs() {
    let lab = Lab::new();
    let before = lab.adit.rss_kib();
    lab.while_served(|lab| {
        // One entry of 4000 bytes in the dynamic table, named two thousand times: 8 MB from 6 KB, each time.
        let mut bomb = block(&get("/bomb"));
        bomb.extend([0x40, 1, b'x', 0x7f]);
        bomb.extend([(3900u32 - 127) as u8 & 0x7f | 0x80, ((3900 - 127) >> 7) as u8]);
        bomb.extend([b'y'; 3900]);
        bomb.extend([0xbe; 2000]);
        let mut client = lab.client();
        for n in 0..200 {
            if !client.try_send(frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &bomb)) {
                break;
            }
        }
        let outcome = client.outcome(1);
        assert!(
            matches!(outcome, Outcome::Status(431) | Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed),
            "{outcome:?}"
        );
    });
    let grown = lab.adit.rss_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    assert!(!lab.heads.lock().unwrap().iter().any(|head| head.contains("bomb")));
}

#[test]
fn cookie_crumbs_and_hosts_are_counted() {
    let lab = Lab::new();
    for name in ["cookie", "host"] {
        let mut fields = get("/crumbs");
        fields.extend([(name, "a=b"); 2000]);
        let mut client = lab.client();
        client.send(frame(HEADERS, END_STREAM, 1, &block(&fields)[..16_000]));
        client.send(frame(CONTINUATION, END_HEADERS, 1, &block(&fields)[16_000..]));
        let outcome = client.outcome(1);
        assert!(
            matches!(outcome, Outcome::Status(431 | 400) | Outcome::Reset(_) | Outcome::GoAway(_)),
            "{name}: {outcome:?}"
        );
    }
    assert!(!lab.heads.lock().unwrap().iter().any(|head| head.contains("crumbs")));
    lab.nothing_left();
}

#[test]
fn every_stream_and_then_nothing() {
    let lab = Lab::new();
    lab.while_served(|lab| {
        let mut client = lab.client();
        for n in 0..1024 {
            client.send(headers(n * 2 + 1, &get_silent(), true));
        }
        lab.adit.wait_stat("cluster.silent.upstream_rq_active", 1024);
        client.send(headers(2049, &get("/one-more"), true));
        assert!(matches!(client.outcome(2049), Outcome::Reset(7 | 1) | Outcome::GoAway(_)));
    });
    assert!(!lab.heads.lock().unwrap().iter().any(|head| head.contains("one-more")));
}

#[test]
fn connection_errors_are_those_of_rfc_9113() {
    let mut wrong = Vec::new();
    for (name, bytes, codes) in [
        (
            "HEADERS on a lower stream",
            [headers(5, &get("/a"), true), headers(3, &get("/b"), true)].concat(),
            &[1, 5][..],
        ),
        ("HEADERS on an even stream", headers(2, &get("/a"), true), &[1]),
        ("DATA on stream 0", data(0, b"x", false), &[1]),
        ("DATA on an idle stream", data(9, b"x", false), &[1]),
        ("RST_STREAM on an idle stream", reset(9, 8), &[1]),
        ("WINDOW_UPDATE on an idle stream", window_update(9, 5), &[1]),
        ("a window beyond 2^31-1", window_update(0, 0x7fff_ffff), &[3]),
        ("a WINDOW_UPDATE of 0", window_update(0, 0), &[1]),
        ("a SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), &[6]),
        ("an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), &[6]),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), &[1]),
        ("an initial window beyond 2^31-1", settings(&[(4, 0x8000_0000)]), &[3]),
        ("a frame size of 1", settings(&[(5, 1)]), &[1]),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7]), &[6]),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), &[1]),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &[]), &[1]),
        (
            "DATA inside a header block",
            [frame(HEADERS, END_STREAM, 1, &block(&get("/a"))), data(1, b"x", true)].concat(),
            &[1],
        ),
        ("padding beyond the frame", frame(DATA, PADDED, 1, &[200, 1]), &[1]),
        ("PUSH_PROMISE from a client", frame(5, END_HEADERS, 1, &[0, 0, 0, 2]), &[1]),
        ("an HPACK index of 0", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80]), &[9]),
        ("an HPACK index of nothing", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f]), &[9]),
        ("a frame beyond the limit", frame(DATA, 0, 1, &vec![0; 300 << 10]), &[6, 1]),
    ] {
        let lab = Lab::new();
        let mut client = lab.client();
        if name.contains("padding") || name.contains("limit") {
            client.send(headers(1, CONNECT, false));
        }
        client.try_send(&bytes);
        let end = client.end();
        if !end.is_none_or(|code| codes.contains(&code)) {
            wrong.push(format!("{name}: {end:?}, not {codes:?}"));
        }
        lab.nothing_left();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn goaway_races() {
    let lab = Lab::new();
    lab.while_served(|lab| {
        let mut client = lab.client();
        client.send(headers(1, CONNECT, false));
        assert_eq!(client.outcome(1), Outcome::Status(200));
        client.send(goaway(0, 0));
        client.send(goaway(0, 0).repeat(100));
        client.send(headers(3, &get("/after"), true));
        client.send(data(1, b"still", false));
        let mut got = Vec::new();
        while got.len() < 5 {
            match client.next() {
                Some(frame) if frame.kind == DATA && frame.stream == 1 => got.extend(frame.payload),
                Some(_) => {}
                None => panic!("a live tunnel does not outlive GOAWAY"),
            }
        }
        assert_eq!(got, b"still");
    });
}

#[test]
fn many_half_closed_tunnels() {
    let lab = Lab::new();
    lab.while_served(|lab| {
        let mut client = lab.client();
        for n in 0..500 {
            client.send(headers(n * 2 + 1, &[(":method", "CONNECT"), (":authority", "source:1")], true));
        }
        lab.adit.wait_stat("http.h.downstream_cx_upgrades_active", 501);
        // They hold what one connection's window lets out, and go with the connection.
        drop(client);
    });
}

/// A preface, then nothing; half a preface; a frame's head without its payload.
#[test]
fn silence_costs_little() {
    let lab = Lab::new();
    lab.while_served(|lab| {
        let mut held = Vec::new();
        let before = lab.adit.rss_kib();
        for n in 0..200 {
            let mut client = lab.client();
            match n % 3 {
                0 => {}
                1 => client.send(&frame(DATA, 0, 1, &[0; 100])[..50]),
                _ => client.send(&frame(HEADERS, END_HEADERS, 1, &[0; 16_000])[..9]),
            }
            held.push(client);
        }
        std::thread::sleep(Duration::from_millis(200));
        let grown = lab.adit.rss_kib().saturating_sub(before);
        println!("200 silent connections: {grown} KiB");
        assert!(grown < 16 << 10, "{grown} KiB");
    });
}
