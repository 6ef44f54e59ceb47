//! Upgrades and framing: the client attacks.

use std::time::Duration;

use adit_tests::peer::{End, Peer};

use crate::lab::{Lab, ROUTES, SMUGGLED, switch, upgrade};

/// An upgrade that the origin refuses: one answer, the end, and not a byte behind the head at the origin.
#[track_caller]
fn payload_behind_a_refusal(token: &str, fields: &str, payload: &str) {
    for status in
        ["200 OK", "204 No Content", "302 Found", "403 Forbidden", "426 Upgrade Required", "500 Internal Server Error"]
    {
        let body = if status.starts_with("204") { "" } else { "content-length: 4\r\n\r\nno!\n" };
        let lab = Lab::new(format!("HTTP/1.1 {status}\r\n{}", if body.is_empty() { "\r\n" } else { body }));
        let seen = lab.attack(upgrade(token, fields) + payload);
        assert_eq!(seen.status(), &status[..3], "{token} {status}: {seen:?}");
        assert!(seen.head().contains("connection: close\r\n"), "{token} {status}: {seen:?}");
        assert_eq!(seen.text.matches("HTTP/1.1 ").count(), 1, "{token} {status}: {seen:?}");
        assert!(seen.end.is_some(), "{token} {status}: open after a refusal");
        lab.origin_closed();
        let (_, behind) = lab.record().parts();
        assert_eq!(behind, "", "{token} {status}");
        lab.unharmed();
    }
}

#[test]
fn u01_payload_behind_a_refused_upgrade_is_nobodys_request() {
    for token in ["websocket", "foo"] {
        payload_behind_a_refusal(token, "", SMUGGLED);
    }
}

#[test]
fn u02_a_length_delimits_nothing() {
    let lab = Lab::new(switch("foo"));
    let seen = lab.attack(upgrade("foo", "content-length: 5\r\n") + "hello" + SMUGGLED);
    assert_eq!(seen.status(), "101");
    let record = lab.payload(&format!("hello{SMUGGLED}"));
    assert!(record.parts().0.contains("content-length: 5\r\n"), "{record:?}");
    lab.unharmed();
    payload_behind_a_refusal("foo", "content-length: 5\r\n", &format!("hello{SMUGGLED}"));
}

#[test]
fn u03_chunks_are_payload() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let lab = Lab::new(switch("websocket"));
    let seen = lab.attack(upgrade("websocket", "transfer-encoding: chunked\r\n") + chunks + "more");
    assert_eq!(seen.status(), "101");
    let record = lab.payload(&format!("{chunks}more"));
    assert!(!record.parts().0.contains("transfer-encoding"), "{record:?}");
    lab.unharmed();
}

#[test]
fn u04_length_and_chunks_together_are_refused() {
    let lab = Lab::new(switch("foo"));
    let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
    lab.refused(upgrade("foo", both) + "0\r\n\r\n" + SMUGGLED, "400");
    lab.refused(format!("POST / HTTP/1.1\r\nhost: a\r\n{both}\r\n0\r\n\r\n{SMUGGLED}"), "400");
    lab.unharmed();
}

#[test]
fn u05_a_chunked_body_that_holds_a_request() {
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    payload_behind_a_refusal("websocket", "transfer-encoding: chunked\r\n", &chunk);
    payload_behind_a_refusal("foo", "transfer-encoding: chunked\r\n", &format!("0\r\n\r\n{SMUGGLED}"));
}

#[test]
fn u13_h2c_is_never_negotiated() {
    for fields in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "connection: upgrade,http2-settings\r\nupgrade: H2C\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nconnection: http2-settings\r\nupgrade: h2\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n",
    ] {
        let lab = Lab::new("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let seen = lab.attack(format!("GET /chat HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        if seen.status() != "403" {
            assert_eq!(seen.status(), "200", "{fields}: {seen:?}");
            let (head, behind) = lab.record().parts();
            assert!(!head.contains("h2c") && !head.contains("http2-settings"), "{head}");
            assert_eq!(behind, "");
        }
        lab.unharmed();
    }
    // In a list, what else is asked for counts.
    for fields in ["upgrade: h2c, websocket\r\n", "upgrade: websocket\r\nupgrade: h2c\r\n"] {
        let lab = Lab::new(switch("websocket"));
        let seen = lab.attack(format!("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n{fields}\r\n"));
        assert_eq!(seen.status(), "101", "{fields}: {seen:?}");
        assert!(!lab.record().parts().0.contains("h2c"));
        lab.unharmed();
    }
}

#[test]
fn u14_a_refused_version_opens_nothing() {
    let lab = Lab::new("HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13\r\ncontent-length: 0\r\n\r\n");
    let mut client = Peer::connect(lab.port);
    client.send(upgrade("websocket", "sec-websocket-version: 777\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 426 "));
    // It goes on as if it had a tunnel.
    let _ = std::io::Write::write_all(&mut client.0, SMUGGLED.as_bytes());
    assert!(lab.collect(&mut client).end.is_some());
    lab.origin_closed();
    let (head, behind) = lab.record().parts();
    assert!(head.contains("sec-websocket-version: 777\r\n"), "{head}");
    assert_eq!(behind, "");
    lab.unharmed();
}

#[test]
fn u16_the_key_is_the_origins_to_judge() {
    for fields in [
        "",
        "sec-websocket-key: short\r\n",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    ] {
        let lab = Lab::new("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        let seen = lab.attack(upgrade("websocket", fields) + SMUGGLED);
        assert_eq!(seen.status(), "400");
        lab.origin_closed();
        let (head, behind) = lab.record().parts();
        assert_eq!(
            head.matches("sec-websocket-key: ").count(),
            fields.matches("sec-websocket-key: ").count(),
            "{head}"
        );
        assert_eq!(behind, "");
        lab.unharmed();
    }
}

#[test]
fn u17_the_answer_to_a_clients_own_key_passes_unchecked() {
    let lab = Lab::new(switch("websocket").replace("\r\n\r\n", "\r\nsec-websocket-accept: wrong\r\n\r\n"));
    let seen = lab.attack(upgrade("websocket", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
    assert_eq!(seen.status(), "101");
    assert!(seen.head().contains("sec-websocket-accept: wrong\r\n"), "{seen:?}");
    lab.unharmed();
}

#[test]
fn u18_connection_takes_no_security_field_away() {
    let lab = Lab::new(switch("foo"));
    let seen = lab.attack(
        "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade, x-hop, authorization, cookie, x-forwarded-for, host\r\n\
         upgrade: foo\r\nx-hop: 1\r\nauthorization: Basic x\r\ncookie: c=1\r\n\r\n",
    );
    assert_eq!(seen.status(), "101");
    let (head, _) = lab.record().parts();
    assert!(head.contains("authorization: basic x\r\n") && head.contains("cookie: c=1\r\n"), "{head}");
    assert!(head.contains("host: a\r\n") && head.contains("x-forwarded-proto: http\r\n"), "{head}");
    assert!(!head.contains("x-hop"), "{head}");
    lab.unharmed();
}

#[test]
fn u19_close_beside_upgrade() {
    let lab = Lab::new(switch("foo"));
    let request = upgrade("foo", "").replace("connection: Upgrade", "connection: close, Upgrade");
    let seen = lab.attack(request + "payload");
    assert_eq!(seen.status(), "101");
    lab.payload("payload");
    lab.unharmed();
}

#[test]
fn u20_half_of_the_fields_is_no_upgrade() {
    for fields in ["upgrade: websocket\r\n", "connection: upgrade\r\n", "connection: upgrade\r\nupgrade:\r\n"] {
        // An origin that switches all the same is not believed.
        let lab = Lab::new(switch("websocket"));
        let seen = lab.attack(format!("GET /chat HTTP/1.1\r\nhost: a\r\n{fields}\r\n{SMUGGLED}"));
        assert!(seen.text.starts_with("HTTP/1.1 502 "), "{fields}: {seen:?}");
        for record in lab.records() {
            let (head, _) = record.parts();
            assert!(!head.contains("upgrade"), "{fields}: {head}");
        }
        lab.origin_closed();
        lab.unharmed();
    }
}

#[test]
fn u21_odd_bytes_in_tokens() {
    let lab = Lab::new(switch("foo"));
    for token in ["fo\0o", "foo\r\n bar", "fo\u{f6}", "foo\x0b", "foo\rbar", "fo o\x7f"] {
        lab.refused(upgrade(token, ""), "400");
    }
    lab.refused(upgrade("foo", "").replace("upgrade: ", "upgrade : "), "400");
    let seen = lab.attack(upgrade("\tfoo \t", "").replace("connection: Upgrade", "connection: ,, \tUPGRADE\t,"));
    assert_eq!(seen.status(), "101");
    lab.unharmed();
}

#[test]
fn u22_more_tokens_than_anyone_needs() {
    let list = (0..200).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ");
    let lab = Lab::new(switch("foo"));
    let request = upgrade("foo", "").replace("connection: Upgrade", &format!("connection: {list}, upgrade"));
    assert_eq!(lab.attack(request).status(), "101");
    lab.refused(upgrade(&list, ""), "403");
    lab.unharmed();
}

#[test]
fn u23_an_upgrade_with_any_method() {
    for line in ["POST /x", "PUT /x", "TRACE /x", "OPTIONS *"] {
        let routes = format!("- match: {{ path: '*' }}\n  route: {{ cluster: c }}\n{ROUTES}");
        let lab = Lab::with(switch("foo"), &routes, "");
        let seen = lab.attack(upgrade("foo", "").replace("GET /chat", line) + "payload");
        if line.starts_with("OPTIONS") && seen.status() == "404" {
            continue;
        }
        assert_eq!(seen.status(), "101", "{line}: {seen:?}");
        let record = lab.payload("payload");
        assert!(record.text().starts_with(line), "{record:?}");
        lab.unharmed();
    }
}

#[test]
fn u24_an_absolute_target_beats_host() {
    let lab = Lab::new(switch("foo"));
    let seen = lab.attack(upgrade("foo", "").replace("GET /chat", "GET http://real.example/chat?x=1"));
    assert_eq!(seen.status(), "101");
    let (head, _) = lab.record().parts();
    assert!(head.starts_with("get /chat?x=1 http/1.1\r\nhost: real.example\r\n"), "{head}");
    for bad in ["GET http://u:p@h/", "GET http://", "GET ftp://h/", "GET http://h/#f"] {
        lab.refused(upgrade("foo", "").replace("GET /chat", bad), "400");
    }
    lab.unharmed();
}

/// Also U11: no 101 ever reaches an HTTP/1.0 client.
#[test]
fn u25_u11_http_1_0_has_no_upgrade() {
    let lab = Lab::new(switch("foo"));
    lab.refused(upgrade("foo", "").replace("HTTP/1.1", "HTTP/1.0"), "426");
    lab.unharmed();
    let lab = Lab::with(switch("foo"), ROUTES, "http_protocol_options: { accept_http_10: true }\n");
    let seen = lab.attack(upgrade("foo", "").replace("HTTP/1.1", "HTTP/1.0") + SMUGGLED);
    assert!(seen.text.contains(" 502 ") && !seen.text.contains(" 101 "), "{seen:?}");
    assert!(seen.end.is_some());
    let (head, behind) = lab.record().parts();
    assert!(!head.contains("upgrade") && behind.is_empty(), "{head}{behind}");
    lab.unharmed();
}

#[test]
fn u26_expect_beside_an_upgrade() {
    let lab = Lab::new(switch("foo"));
    let mut client = Peer::connect(lab.port);
    client.send(upgrade("foo", "expect: 100-continue\r\n"));
    let first = client.head();
    let head = if first.starts_with("HTTP/1.1 100 ") { client.head() } else { first };
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.send("payload");
    lab.payload("payload");
    drop(client);
    lab.unharmed();
}

#[test]
fn u27_framing_that_peers_read_differently() {
    let lab = Lab::new("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    for (line, fields) in [
        ("GET / HTTP/1.1\n", "host: a\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a\n"),
        ("GET / HTTP/1.1\r\n", "host: a\r\nx: a\rb\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a\r\nx: a\0b\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a\r\nx : y\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a\r\nx: y\r\n z\r\n"),
        ("GET / HTTP/1.1\r\n", " host: a\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a\r\nhost: b\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a b\r\n"),
        ("GET / HTTP/1.1\r\n", "host: a\r\nhost\r\n"),
        ("GET  / HTTP/1.1\r\n", "host: a\r\n"),
        ("GET / HTTP/1.1 \r\n", "host: a\r\n"),
        ("GET /a b HTTP/1.1\r\n", "host: a\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: +5\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: -1\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: 5 5\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: 5, 6\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: 0x5\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length: 99999999999999999999\r\n"),
        ("POST / HTTP/1.1\r\n", "host: a\r\ncontent-length:\r\n"),
    ] {
        lab.refused(format!("{line}{fields}\r\nhello{SMUGGLED}"), "400");
    }
    // A version that is not ours to speak.
    lab.refused(format!("GET / HTTP/1.9\r\nhost: a\r\n\r\n{SMUGGLED}"), "426");
    for coding in [
        "chunked, identity",
        ",chunked",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "\"chunked\"",
        "chunked;q=1",
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        let mut client = Peer::connect(lab.port);
        client.send(request);
        let seen = lab.collect(&mut client);
        assert!(["400", "501"].contains(&seen.status()), "{coding}: {seen:?}");
        assert_eq!((seen.end, lab.records().len()), (Some(End::Fin), 0), "{coding}: {seen:?}");
    }
    lab.unharmed();
}

/// The body breaks the rules after the head went to the origin: the origin never sees a complete body, nor what follows.
#[test]
fn u27_chunks_that_peers_read_differently() {
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
        "-1\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
    ] {
        let lab = Lab::new("");
        let mut client = Peer::connect(lab.port);
        client.send(format!("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{SMUGGLED}"));
        let seen = lab.collect(&mut client);
        assert!(seen.end.is_some(), "{chunks:?}: {seen:?}");
        assert_eq!(seen.status(), "400", "{chunks:?}: {seen:?}");
        // A proxy that has refused lingers for who stays.
        drop(client);
        lab.origin_closed();
        for record in lab.records() {
            let (_, behind) = record.parts();
            assert!(!behind.contains("0\r\n\r\n") && !behind.contains("smuggled"), "{chunks:?}: {behind:?}");
        }
        lab.unharmed();
    }
}

/// A head that never ends is refused once it is too large, and costs no more than that.
#[test]
fn u27_a_head_without_end() {
    let lab = Lab::with("", ROUTES, "request_headers_timeout: 4s\n");
    lab.refused(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(70 << 10)), "431");
    lab.refused(format!("GET /{} HTTP/1.1\r\n", "y".repeat(70 << 10)), "431");
    lab.refused(format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(101)), "431");
    let mut slow = Peer::connect(lab.port);
    slow.send("GET / HTTP/1.1\r\nhost: a\r\n");
    let mut end = None;
    for _ in 0..20 {
        if std::io::Write::write_all(&mut slow.0, b"x: y\r\n").is_err() {
            end = Some(());
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let seen = lab.collect(&mut slow);
    assert!(seen.status() == "408" || end.is_some(), "{seen:?}");
    lab.unharmed();
}

/// As many fields as one likes are too many for a map of them; room for all that are allowed is not made ahead.
#[test]
fn u28_more_fields_than_a_map_holds() {
    let options = "common_http_protocol_options: { max_headers_count: 4294967295 }\nmax_request_headers_kb: 8192\n";
    let lab = Lab::with("", ROUTES, options);
    let head = |count| {
        let fields: String = (0..count).map(|index| format!("f{index:x}:\r\n")).collect();
        format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
    };
    // One more and the map is full; then each of the fields that we add.
    for count in 24_560..24_576 {
        lab.refused(head(count), "431");
    }
    lab.refused("GET / HTTP/9.9\r\nhost: a\r\n\r\n", "426");
    lab.unharmed();
}
