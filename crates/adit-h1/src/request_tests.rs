#![allow(clippy::unwrap_used, clippy::panic)]
use http::StatusCode;

use super::*;
use crate::config::TokenMatcher;

fn take(text: impl AsRef<[u8]>) -> Result<Request, Refusal> {
    take_with(text, &ServerConfig::default())
}

fn take_with(text: impl AsRef<[u8]>, cfg: &ServerConfig) -> Result<Request, Refusal> {
    parse(&Bytes::copy_from_slice(text.as_ref()), 4, cfg, Scheme::Http)
}

fn get(fields: &str) -> Result<Request, Refusal> {
    take(format!("GET /p HTTP/1.1\r\nhost: h\r\n{fields}\r\n"))
}

fn kind(request: &Request) -> &str {
    request.head.kind.upgrade_type().unwrap_or("-")
}

fn value<'a>(request: &'a Request, name: &str) -> &'a str {
    request.head.headers.get(name).map_or("-", |value| value.to_str().unwrap())
}

#[test]
fn a_plain_request() {
    let request = get("X-Foo:  a b \t\r\nx-foo: c\r\nempty:\r\n").unwrap();
    let head = &request.head;
    assert_eq!(head.kind, RequestKind::Plain);
    assert_eq!((head.method.as_str(), head.path_only(), head.host()), ("GET", "/p", "h"));
    assert_eq!(head.headers.get_all("x-foo").iter().collect::<Vec<_>>(), ["a b", "c"]);
    assert_eq!(value(&request, "empty"), "");
    assert!(!head.headers.contains_key("host"));
    assert_eq!(request.body, Body::Empty);
    assert!(request.keep_alive && !request.expect_continue);
}

#[test]
fn u2_an_upgrade_with_a_length_keeps_it_and_everything_is_payload() {
    let request = get("connection: upgrade\r\nupgrade: foo\r\ncontent-length: 5\r\n").unwrap();
    assert_eq!((kind(&request), request.body, value(&request, "content-length")), ("foo", Body::Raw, "5"));
}

#[test]
fn u3_u5_an_upgrade_with_transfer_encoding_loses_it_and_the_chunks_are_payload() {
    let request = get("connection: upgrade\r\nupgrade: foo\r\ntransfer-encoding: chunked\r\n").unwrap();
    assert_eq!((kind(&request), request.body, value(&request, "transfer-encoding")), ("foo", Body::Raw, "-"));
}

#[test]
fn u4_both_framing_fields_are_refused_upgrade_or_not() {
    let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
    assert_eq!(get(both).unwrap_err(), Refusal::LENGTH_AND_CHUNKED);
    assert_eq!(get(&format!("connection: upgrade\r\nupgrade: x\r\n{both}")).unwrap_err(), Refusal::LENGTH_AND_CHUNKED);
    let lenient = ServerConfig { allow_chunked_length: true, ..ServerConfig::default() };
    let request = take_with(format!("POST / HTTP/1.1\r\nhost: h\r\n{both}\r\n"), &lenient).unwrap();
    assert_eq!((request.body, value(&request, "content-length")), (Body::Chunked, "-"));
}

#[test]
fn u13_h2c_never_counts() {
    for (fields, left) in [
        ("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n", "-"),
        ("connection: Upgrade,HTTP2-Settings\r\nupgrade: H2C\r\nhttp2-settings: AAA\r\n", "-"),
        ("connection: upgrade\r\nupgrade: h2c, websocket\r\n", "websocket"),
        ("connection: upgrade\r\nupgrade: websocket,h2c , foo\r\n", "websocket, foo"),
        ("connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n", "websocket"),
        ("connection: upgrade\r\nconnection: http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n", "-"),
    ] {
        let request = get(fields).unwrap();
        assert_eq!((kind(&request), value(&request, "http2-settings")), (left, "-"), "{fields}");
        assert_eq!(value(&request, "upgrade"), left, "{fields}");
        assert!(!value(&request, "connection").to_ascii_lowercase().contains("http2"), "{fields}");
    }
}

#[test]
fn what_is_to_be_ignored_is_removed_and_the_rest_stays() {
    let cfg = ServerConfig {
        ignore_upgrade: Some(TokenMatcher::new(|token| token.starts_with("TLS/"))),
        ..ServerConfig::default()
    };
    let head = |upgrade| format!("GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n");
    let request = take_with(head("TLS/1.2"), &cfg).unwrap();
    assert_eq!((kind(&request), value(&request, "upgrade"), value(&request, "connection")), ("-", "-", "-"));
    assert_eq!(kind(&take_with(head("TLS/1.2, foo, TLS/1.3"), &cfg).unwrap()), "foo");
}

#[test]
fn u18_connection_cannot_take_away_what_security_rests_on() {
    let request =
        get("connection: upgrade, x-auth, authorization, cookie, x-forwarded-for\r\nupgrade: foo\r\nx-auth: 1\r\n\
         authorization: a\r\ncookie: c\r\nx-forwarded-for: 1.2.3.4\r\n")
        .unwrap();
    assert_eq!(kind(&request), "foo");
    assert_eq!(value(&request, "x-auth"), "-");
    for name in ["authorization", "cookie", "x-forwarded-for"] {
        assert_ne!(value(&request, name), "-", "{name}");
    }
    assert_eq!(value(&request, "connection"), "upgrade");
}

#[test]
fn u19_close_and_upgrade_together() {
    let request = get("connection: close, upgrade\r\nupgrade: foo\r\n").unwrap();
    assert_eq!(kind(&request), "foo");
    assert!(!request.keep_alive);
}

#[test]
fn u20_upgrade_needs_its_connection_token_and_the_reverse() {
    for fields in [
        "upgrade: foo\r\n",
        "connection: upgrade\r\n",
        "connection: upgrade\r\nupgrade:\r\n",
        "connection: keep-alive\r\nupgrade: foo\r\n",
    ] {
        let request = get(fields).unwrap();
        assert_eq!(
            (kind(&request), value(&request, "upgrade"), value(&request, "connection")),
            ("-", "-", "-"),
            "{fields}"
        );
    }
}

#[test]
fn u21_odd_tokens() {
    assert_eq!(kind(&get("connection: , upgrade ,,\r\nupgrade: \tfoo\t \r\n").unwrap()), "foo");
    assert_eq!(kind(&get("connection: upgradex\r\nupgrade: foo\r\n").unwrap()), "-");
    for fields in [
        "connection: upgrade\r\nupgrade: foo\0\r\n",
        "connection: upgrade\r\nupgrade: foo\r\n bar\r\n",
        "connection: upgrade\r\nupgrade : foo\r\n",
        "connection: upgrade\r\nupgrade: f\u{f6}o\r\n",
    ] {
        assert_eq!(get(fields).unwrap_err().status.as_u16(), 400, "{fields:?}");
    }
}

#[test]
fn u22_many_tokens() {
    let list = (0..200).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ");
    let request = get(&format!("connection: {list}, upgrade\r\nupgrade: {list}\r\n")).unwrap();
    assert_eq!(kind(&request), list);
}

#[test]
fn u23_upgrades_with_other_methods() {
    for line in ["POST /p", "PUT /p", "TRACE /p", "OPTIONS *", "BREW /p"] {
        let text = format!("{line} HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n");
        let request = take(text).unwrap();
        assert_eq!(kind(&request), "foo");
        assert!(line.starts_with(request.head.method.as_str()));
    }
}

#[test]
fn u25_an_upgrade_over_http_1_0_is_none() {
    let text = "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n";
    assert_eq!(take(text).unwrap_err(), Refusal::LOW_VERSION);
    let cfg = ServerConfig {
        accept_http_10: true,
        default_host_for_http_10: Some("default.example".parse().unwrap()),
        ..ServerConfig::default()
    };
    let request = take_with(text, &cfg).unwrap();
    assert_eq!((kind(&request), value(&request, "upgrade")), ("-", "-"));
    assert_eq!(request.head.host(), "default.example");
    assert!(!request.keep_alive);
    assert!(take_with("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", &cfg).unwrap().keep_alive);
    assert_eq!(take_with("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", &cfg).unwrap_err(), Refusal::CODEC);
}

#[test]
fn u26_expect_with_an_upgrade() {
    let request = get("connection: upgrade\r\nupgrade: foo\r\nexpect: 100-Continue\r\n").unwrap();
    assert!(request.expect_continue);
    assert_eq!(value(&request, "expect"), "-");
    let cfg = ServerConfig { proxy_100_continue: true, ..ServerConfig::default() };
    let request =
        take_with("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n", &cfg).unwrap();
    assert!(!request.expect_continue);
    assert_eq!(value(&request, "expect"), "100-continue");
}

#[test]
fn u27_heads_that_peers_read_differently() {
    for text in [
        &b"GET / HTTP/1.1\r\nhost : h\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n host: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nx: a\x7fb\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nx\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nx y: x\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /\r\nhost: h\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: h\r\n\r\n",
        b"G\xc3T / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nhost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\nhost: other\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: u@h\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 5, 5\r\n\r\n",
        b"\r\n",
    ] {
        let refusal = take(text).unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{:?}", String::from_utf8_lossy(text));
    }
    for text in
        [&b"GET / HTTP/1.2\r\nhost: h\r\n\r\n"[..], b"GET / HTTP/2.0\r\nhost: h\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"]
    {
        assert_eq!(take(text).unwrap_err(), Refusal::LOW_VERSION, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn no_host_or_an_empty_one_is_for_the_connection_manager_to_judge() {
    assert!(take("GET / HTTP/1.1\r\n\r\n").unwrap().head.authority.is_none());
    assert!(take("GET / HTTP/1.1\r\nhost:\r\n\r\n").unwrap().head.authority.is_none());
}

#[test]
fn too_many_fields() {
    let head = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(n));
    assert!(take(head(100)).is_ok());
    assert_eq!(take(head(101)).unwrap_err(), Refusal::TOO_MANY_HEADERS);
    let least = format!("GET / HTTP/1.1\r\n{}\r\n", "x:\r\n".repeat(500));
    let cfg = ServerConfig { max_headers: usize::MAX, ..ServerConfig::default() };
    assert_eq!(take_with(least, &cfg).unwrap().head.headers.len(), 500);
    assert_eq!(take_with(head(2000), &cfg).unwrap().head.headers.len(), 2000);
    assert_eq!(refused_fields(head(2).as_bytes(), &Refusal::CHARACTERS, usize::MAX), 10);
    for max_headers in [10, 500] {
        let cfg = ServerConfig { max_headers, ..ServerConfig::default() };
        assert!(take_with(head(max_headers), &cfg).is_ok());
        assert_eq!(take_with(head(max_headers + 1), &cfg).unwrap_err(), Refusal::TOO_MANY_HEADERS);
    }
}

#[test]
fn custom_methods_may_be_refused() {
    let cfg = ServerConfig { allow_custom_methods: false, ..ServerConfig::default() };
    assert!(take("BREW / HTTP/1.1\r\nhost: h\r\n\r\n").is_ok());
    assert_eq!(take_with("BREW / HTTP/1.1\r\nhost: h\r\n\r\n", &cfg).unwrap_err(), Refusal::CODEC);
    assert!(take_with("PROPFIND / HTTP/1.1\r\nhost: h\r\n\r\n", &cfg).is_ok());
}

#[test]
fn c1_c2_connect_has_no_body() {
    let connect = |fields: &str| take(format!("CONNECT h:1 HTTP/1.1\r\n{fields}\r\n"));
    assert_eq!(connect("content-length: 5\r\n").unwrap_err(), Refusal::BODY_DISALLOWED);
    assert_eq!(connect("transfer-encoding: chunked\r\n").unwrap_err(), Refusal::TRANSFER_ENCODING);
    let request = connect("content-length: 0\r\n").unwrap();
    assert_eq!((request.body, value(&request, "content-length")), (Body::Raw, "-"));
}

#[test]
fn c10_c11_the_target_of_a_connect_beats_host() {
    let request = take("CONNECT h:443 HTTP/1.1\r\nhost: other\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").unwrap();
    assert_eq!(request.head.kind, RequestKind::Connect("h:443".parse().unwrap()));
    assert_eq!(request.head.authority.as_ref().unwrap(), "h:443");
    assert!(request.head.path.is_none());
    assert_eq!(value(&request, "upgrade"), "-");
    assert_eq!(take("CONNECT h:443 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").unwrap_err(), Refusal::CODEC);
    assert_eq!(take("CONNECT h:443 HTTP/1.0\r\n\r\n").unwrap_err(), Refusal::LOW_VERSION);
}

#[test]
fn fields_of_the_hop_do_not_pass() {
    let request = get(
        "connection: keep-alive, x-hop\r\nkeep-alive: 5\r\nproxy-connection: keep-alive\r\nx-hop: 1\r\nte: trailers, gzip\r\n\
         proxy-authorization: p\r\n",
    )
    .unwrap();
    let mut names: Vec<_> = request.head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["proxy-authorization", "te"]);
    assert_eq!(value(&request, "te"), "trailers");
}

#[test]
fn persistence() {
    for (fields, kept) in [
        ("", true),
        ("connection: close\r\n", false),
        ("connection: x, CLOSE\r\n", false),
        ("proxy-connection: close\r\n", false),
        ("connection: keep-alive\r\n", true),
    ] {
        assert_eq!(get(fields).unwrap().keep_alive, kept, "{fields}");
    }
}

#[test]
fn the_short_way_of_a_get_says_what_the_long_one_does() {
    let mut short = 0;
    for byte in 0..=u8::MAX {
        for line in [
            "GET /~ HTTP/1.1",
            "GET ~ HTTP/1.1",
            "GET~/ HTTP/1.1",
            "GET /~HTTP/1.1",
            "GET / HTTP/1.~",
            "~ET / HTTP/1.1",
        ] {
            let text: Vec<u8> = line.bytes().map(|c| if c == b'~' { byte } else { c }).collect();
            let head = Bytes::from([&text[..], b"\r\n\r\n"].concat());
            let Some((line, start)) = plain_get(&head) else { continue };
            let (long, at) = request_line(&head).unwrap();
            assert_eq!((line.method, line.target, line.version, start), (long.method, long.target, long.version, at));
            short += 1;
        }
    }
    assert!(short > 180, "{short}");
}
