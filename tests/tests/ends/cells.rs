//! Each pair, each end, either way.

use std::time::Duration;

use adit_tests::frames;

use crate::legs::{Ending, Leg, Seen};
use crate::pairs::{Kind, Pair};

/// What the peer on the other side must see.
fn expected(ending: Ending, to: Kind) -> &'static str {
    match ending {
        // TLS without close_notify is an end, as in Envoy: many programs leave it out.
        Ending::Clean | Ending::NotifyOnly | Ending::WithoutNotify => "end",
        Ending::Rst | Ending::Code(_) | Ending::Lost if to == Kind::H2 => "RST_STREAM",
        Ending::Rst | Ending::Code(_) | Ending::Lost => "RST",
    }
}

fn kind_of(seen: Seen) -> &'static str {
    match seen {
        Seen::Clean => "end",
        Seen::Rst => "RST",
        Seen::Code(_) => "RST_STREAM",
        Seen::Cut => "cut",
    }
}

fn each_end(down: Kind, up: Kind) {
    let pair = Pair::new(down, up, None, true);
    for from_client in [true, false] {
        let (from, to) = if from_client { (down, up) } else { (up, down) };
        for ending in from.endings() {
            let name =
                format!("{down:?} -> {up:?}, {ending:?} by the {}", if from_client { "client" } else { "upstream" });
            let (client, server) = pair.open();
            let (mut ends, mut other) = if from_client { (client, server) } else { (server, client) };
            ends.send(b"last words");
            if matches!(ending, Ending::Clean | Ending::NotifyOnly | Ending::WithoutNotify) {
                ends.end(ending);
                let (bytes, seen) = other.rest();
                assert_eq!((&*bytes, kind_of(seen)), (&b"last words"[..], expected(ending, to)), "{name}");
                // The other direction is open as before.
                other.send(b"answer");
                ends.expect(b"answer");
                other.end(Ending::Clean);
                assert_eq!(ends.rest(), (vec![], Seen::Clean), "{name}");
            } else {
                other.expect(b"last words");
                ends.end(ending);
                let (bytes, seen) = other.rest();
                assert_eq!((bytes.len(), kind_of(seen)), (0, expected(ending, to)), "{name}: {seen:?}");
                code(&name, ending, from, from_client, seen);
            }
        }
        // A reset behind an end is still one.
        let (client, server) = pair.open();
        let (mut ends, mut other) = if from_client { (client, server) } else { (server, client) };
        ends.end(Ending::Clean);
        assert_eq!(other.rest(), (vec![], Seen::Clean), "{down:?} -> {up:?}");
        ends.end(if from == Kind::H2 { Ending::Code(8) } else { Ending::Rst });
        other.is_stopped();
    }
    pair.adit.wait_stat("cluster.c.upstream_cx_active", 0);
}

/// Codes of streams go on as they are. An upstream connection's error is CONNECT_ERROR for who asked for it (RFC 9113 section
/// 8.5); a client that is gone cancels.
fn code(name: &str, ending: Ending, from: Kind, from_client: bool, seen: Seen) {
    let Seen::Code(code) = seen else { return };
    let expected = match ending {
        Ending::Code(code) => vec![code],
        _ if from == Kind::H2 => vec![10],
        _ if from_client || from == Kind::H1 => vec![8],
        _ => vec![10],
    };
    assert!(expected.contains(&code), "{name}: {code}, not {expected:?}");
}

/// A tunnel outlives GOAWAY from either side, and an upstream's connection takes no other tunnel then.
fn goaways(down: Kind, up: Kind) {
    let pair = Pair::new(down, up, None, false);
    if down == Kind::H2 {
        let (mut client, mut server) = pair.open();
        let Leg::H2(stream) = &mut client else { unreachable!() };
        stream.conn.send(frames::goaway(0, 0));
        both_ways(&mut client, &mut server);
        drop((client, server));
        pair.adit.wait_stat("cluster.c.upstream_cx_active", 0);
    }
    if up == Kind::H2 {
        let (mut client, mut server) = pair.open();
        let Leg::H2(stream) = &mut server else { unreachable!() };
        let goaway = frames::goaway(stream.id, 0);
        stream.conn.send(goaway);
        both_ways(&mut client, &mut server);
        // A stream that is asked for before the GOAWAY was read would be refused by nobody: it is read by now.
        let (mut other_client, mut other_server) = pair.open();
        both_ways(&mut other_client, &mut other_server);
        both_ways(&mut client, &mut server);
        // One that disowns the tunnel's stream ends it.
        let Leg::H2(stream) = &mut other_server else { unreachable!() };
        stream.conn.send(frames::goaway(0, 2));
        let (_, seen) = other_client.rest();
        assert_eq!(kind_of(seen), expected(Ending::Lost, down), "{down:?} -> {up:?}");
    }
}

fn both_ways(client: &mut Leg, server: &mut Leg) {
    for _ in 0..3 {
        client.send(b"ping");
        server.expect(b"ping");
        server.send(b"pong");
        client.expect(b"pong");
    }
}

/// An idle tunnel ends for both; bytes of either side keep it.
fn idles(down: Kind, up: Kind) {
    let pair = Pair::new(down, up, Some("3s"), true);
    let (mut client, mut server) = pair.open();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(700));
        client.send(b"x");
        server.expect(b"x");
        std::thread::sleep(Duration::from_millis(700));
        server.send(b"y");
        client.expect(b"y");
    }
    let (bytes, client) = client.rest();
    assert!(bytes.is_empty());
    let (bytes, server) = server.rest();
    assert!(bytes.is_empty());
    // An idle TCP proxy ends in order, as Envoy's; a stream is reset.
    let leg = |kind| match kind {
        Kind::H2 => Seen::Code(8),
        _ if matches!(down, Kind::Tcp | Kind::Tls) => Seen::Clean,
        _ => Seen::Rst,
    };
    assert_eq!((client, server), (leg(down), leg(up)), "{down:?} -> {up:?}");
    pair.adit.wait_stat("cluster.c.upstream_cx_active", 0);
}

/// Keys change in the middle of a tunnel, either way.
fn new_keys(down: Kind, up: Kind) {
    let pair = Pair::new(down, up, None, true);
    let (mut client, mut server) = pair.open();
    for _ in 0..3 {
        client.update_keys();
        both_ways(&mut client, &mut server);
        server.update_keys();
        both_ways(&mut client, &mut server);
    }
    client.end(Ending::Clean);
    assert_eq!(server.rest(), (vec![], Seen::Clean), "{down:?} -> {up:?}");
}

fn cell(down: Kind, up: Kind) {
    each_end(down, up);
    if down == Kind::Tls || up == Kind::Tls {
        new_keys(down, up);
    }
    if down == Kind::H2 || up == Kind::H2 {
        goaways(down, up);
    }
    idles(down, up);
}

macro_rules! cells {
    ($($name:ident: $down:ident $up:ident,)*) => { $(#[test] fn $name() { cell(Kind::$down, Kind::$up); })* };
}

cells! {
    tcp_to_tcp: Tcp Tcp,
    tcp_to_tls: Tcp Tls,
    tcp_to_h1: Tcp H1,
    tcp_to_h2: Tcp H2,
    tls_to_tcp: Tls Tcp,
    tls_to_tls: Tls Tls,
    tls_to_h1: Tls H1,
    tls_to_h2: Tls H2,
    h1_to_tcp: H1 Tcp,
    h1_to_tls: H1 Tls,
    h1_to_h1: H1 H1,
    h1_to_h2: H1 H2,
    h2_to_tcp: H2 Tcp,
    h2_to_tls: H2 Tls,
    h2_to_h1: H2 H1,
    h2_to_h2: H2 H2,
}
