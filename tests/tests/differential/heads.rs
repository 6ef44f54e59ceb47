//! Heads and framing of HTTP/1.1: what is refused, what is stripped, what goes on.

use crate::case::{Case, Do, OK, Part, send};
use crate::origin::Reply;
use crate::yaml::Yaml;

const ROUTES: &str = "- match: { prefix: / }\n  route: { cluster: c }\n";

fn raw(name: &str, bytes: &str) -> Case {
    Case::new(name, bytes)
}

#[test]
fn request_heads() {
    let mut lab = Yaml::routes(ROUTES).lab();
    lab.cases([
        Case::get("/"),
        raw("no host", "GET / HTTP/1.1\r\n\r\n"),
        raw("two hosts", "GET / HTTP/1.1\r\nhost: a.com\r\nhost: b.com\r\n\r\n"),
        raw("empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n"),
        raw("http/1.0", "GET / HTTP/1.0\r\nhost: a.com\r\n\r\n"),
        raw("http/1.2", "GET / HTTP/1.2\r\nhost: a.com\r\n\r\n"),
        raw("http/2.0", "GET / HTTP/2.0\r\nhost: a.com\r\n\r\n"),
        raw("http/0.9", "GET /\r\n\r\n"),
        raw("bare lf", "GET / HTTP/1.1\nhost: a.com\n\n"),
        raw("bare cr", "GET / HTTP/1.1\r\nhost: a.com\r\na: b\rc\r\n\r\n"),
        raw("nul in value", "GET / HTTP/1.1\r\nhost: a.com\r\na: b\0c\r\n\r\n"),
        raw("obs-fold", "GET / HTTP/1.1\r\nhost: a.com\r\na: b\r\n c\r\n\r\n"),
        raw("space before colon", "GET / HTTP/1.1\r\nhost: a.com\r\na : b\r\n\r\n"),
        raw("space in name", "GET / HTTP/1.1\r\nhost: a.com\r\na b: c\r\n\r\n"),
        raw("no colon", "GET / HTTP/1.1\r\nhost: a.com\r\nab\r\n\r\n"),
        raw("empty name", "GET / HTTP/1.1\r\nhost: a.com\r\n: b\r\n\r\n"),
        raw("high bytes in value", "GET / HTTP/1.1\r\nhost: a.com\r\na: \u{e9}\r\n\r\n"),
        raw("high bytes in path", "GET /\u{e9} HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("space in path", "GET /a b HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("two spaces", "GET  / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("leading space", " GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("leading empty line", "\r\nGET / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("fragment", "GET /a#b HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("absolute form", "GET http://b.com/x?y HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("absolute form https", "GET https://b.com/x HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("absolute form ftp", "GET ftp://b.com/x HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("absolute form no path", "GET http://b.com HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("asterisk options", "OPTIONS * HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("asterisk get", "GET * HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("no slash", "GET a HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("custom method", "FOO / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("lower case method", "get / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("bad method", "G@T / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("trace", "TRACE / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("tls record", "\x16\x03\x01\x02\x00\x01\x00"),
        raw("bad host", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
        raw("host with userinfo", "GET / HTTP/1.1\r\nhost: u@a.com\r\n\r\n"),
        raw("host with slash", "GET / HTTP/1.1\r\nhost: a.com/x\r\n\r\n"),
        raw("host with bad port", "GET / HTTP/1.1\r\nhost: a.com:x\r\n\r\n"),
        raw("host with port", "GET / HTTP/1.1\r\nhost: a.com:8080\r\n\r\n"),
        raw("hop by hop", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: x-a, keep-alive\r\nx-a: 1\r\nkeep-alive: 5\r\nproxy-connection: close\r\nte: trailers, deflate\r\nproxy-authorization: x\r\n\r\n"),
        raw("te trailers nominated", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: te\r\nte: trailers\r\n\r\n"),
        raw("te gzip", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: te\r\nte: gzip\r\n\r\n"),
        raw("connection close", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: close\r\n\r\n"),
        raw("connection CLOSE", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: CLOSE, x\r\n\r\n"),
        raw("proxy-connection close", "GET / HTTP/1.1\r\nhost: a.com\r\nproxy-connection: close\r\n\r\n"),
        raw("pipelined", "GET /1 HTTP/1.1\r\nhost: a.com\r\n\r\nGET /2 HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("pipelined after close", "GET /1 HTTP/1.1\r\nhost: a.com\r\nconnection: close\r\n\r\nGET /2 HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        raw("good then bad", "GET /1 HTTP/1.1\r\nhost: a.com\r\n\r\nBAD\r\n\r\n"),
        Case::steps("half a head then FIN", vec![send("GET / HTTP/1.1\r\nhos"), Do::Fin]),
        // Before it is answered.
        Case::steps("FIN behind a request", vec![send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"), Do::Fin])
            .origin(Reply::Slowly("", 700, OK))
            .quiet(3000),
        Case::steps("nothing then FIN", vec![Do::Fin]),
        raw("head request", "HEAD / HTTP/1.1\r\nhost: a.com\r\n\r\n").origin(Reply::Answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")),
        raw("duplicate fields", "GET / HTTP/1.1\r\nhost: a.com\r\na: 1\r\nA: 2\r\ncookie: x\r\ncookie: y\r\n\r\n"),
        raw("empty value", "GET / HTTP/1.1\r\nhost: a.com\r\na:\r\nb: \t x \t\r\n\r\n"),
        raw("underscore", "GET / HTTP/1.1\r\nhost: a.com\r\na_b: 1\r\n\r\n"),
        Case::with("70 KiB of head", "/", &format!("a: {}\r\n", "x".repeat(70_000))),
        Case::with("59 KiB of head", "/", &format!("a: {}\r\n", "x".repeat(59_000))),
        Case::with("101 fields", "/", &(0..101).map(|i| format!("a{i}: 1\r\n")).collect::<String>()),
        Case::with("99 fields", "/", &(0..99).map(|i| format!("a{i}: 1\r\n")).collect::<String>()),
    ]);
    lab.done();
}

#[test]
fn request_bodies() {
    let mut lab = Yaml::routes(ROUTES).lab();
    let post = |name: &str, rest: &str| raw(name, &format!("POST / HTTP/1.1\r\nhost: a.com\r\n{rest}"));
    lab.cases([
        post("length", "content-length: 5\r\n\r\nhello"),
        post("length 0", "content-length: 0\r\n\r\n"),
        post("no length", "\r\n"),
        post("length twice, same", "content-length: 5\r\ncontent-length: 5\r\n\r\nhello"),
        post("length twice, other", "content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        post("length list", "content-length: 5, 5\r\n\r\nhello"),
        post("length signed", "content-length: +5\r\n\r\nhello"),
        post("length negative", "content-length: -5\r\n\r\nhello"),
        post("length with space", "content-length: 5 5\r\n\r\nhello"),
        post("length hex", "content-length: 0x5\r\n\r\nhello"),
        post("length huge", "content-length: 99999999999999999999\r\n\r\nhello"),
        post("length empty", "content-length:\r\n\r\n"),
        post("chunked", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        post("chunked upper", "transfer-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        post("chunked trailers", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n"),
        post("chunk extension", "transfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
        post("chunk size bad", "transfer-encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n"),
        post("chunk size 0x", "transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
        post("chunk size huge", "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        post("chunk without crlf", "transfer-encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n"),
        post("chunk bare lf", "transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
        post("length and chunked", "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        post("te identity", "transfer-encoding: identity\r\n\r\n"),
        post("te gzip, chunked", "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        post("te chunked, identity", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        post("te ,chunked", "transfer-encoding: ,chunked\r\n\r\n0\r\n\r\n"),
        post("te chunked twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        post("te xchunked", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        post("te empty", "transfer-encoding:\r\n\r\n"),
        raw("get with length", "GET / HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhello"),
        raw(
            "get with chunked",
            "GET / HTTP/1.1\r\nhost: a.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        post("expect", "expect: 100-continue\r\ncontent-length: 5\r\n\r\nhello"),
        post("expect other", "expect: x\r\ncontent-length: 5\r\n\r\nhello"),
        Case::steps(
            "expect, waiting",
            vec![
                send("POST / HTTP/1.1\r\nhost: a.com\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"),
                Do::Head,
                send("hello"),
            ],
        ),
        Case::steps(
            "body cut by FIN",
            vec![send("POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhe"), Do::Pause(100), Do::Fin],
        ),
        Case::steps(
            "body cut by RST",
            vec![send("POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhe"), Do::Pause(100), Do::Rst],
        ),
        Case::steps(
            "client leaves while waiting",
            vec![send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"), Do::Pause(100), Do::Rst],
        )
        .origin(Reply::Silence),
        post("answer before the body", "content-length: 50\r\n\r\nhello").origin(Reply::Tunnel(OK)),
    ]);
    lab.done();
}

#[test]
fn answers() {
    let mut lab = Yaml::routes(ROUTES).lab();
    let answer = |name: &str, text: &'static str| Case::get("/").named(name).origin(Reply::Answer(text));
    let last = |name: &str, text: &'static str| Case::get("/").named(name).origin(Reply::AnswerAndClose(text));
    lab.cases([
        answer("chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        answer("trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n"),
        answer("204", "HTTP/1.1 204 No Content\r\n\r\n"),
        answer("204 with length", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"),
        answer("204 that announces a body", "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n"),
        answer("204 in chunks", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        answer("100 that announces a body", "HTTP/1.1 100 X\r\ncontent-length: 4\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        answer("spaces behind a chunk's size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2 \r\nok\r\n0\t;x\r\n\r\n"),
        answer("304", "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\netag: x\r\n\r\n"),
        answer("205", "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"),
        answer("reason", "HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n"),
        answer("299", "HTTP/1.1 299 X\r\ncontent-length: 0\r\n\r\n"),
        answer("no reason", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"),
        answer("hop by hop", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x-a\r\nx-a: 1\r\nkeep-alive: 1\r\nproxy-connection: x\r\nupgrade: foo\r\nserver: theirs\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\nvia: x\r\n\r\nok"),
        answer("426", "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\nupgrade: TLS/1.3\r\nconnection: upgrade\r\n\r\nno"),
        answer("426 without connection", "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\nupgrade: TLS/1.3\r\n\r\nno"),
        last("until close", "HTTP/1.1 200 OK\r\n\r\nthe body"),
        last("connection close", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"),
        last("http/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        last("http/1.0 until close", "HTTP/1.0 200 OK\r\n\r\nok"),
        last("cut length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"),
        last("cut chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok"),
        last("cut head", "HTTP/1.1 200 OK\r\ncontent-le"),
        last("reset body", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok").origin(Reply::AnswerAndReset("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok")),
        last("nothing", ""),
        Case::get("/").named("reset").origin(Reply::Reset),
        last("garbage", "garbage\r\n\r\n"),
        last("length and chunked", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        last("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        last("bad te", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello"),
        last("status 1000", "HTTP/1.1 1000 X\r\ncontent-length: 0\r\n\r\n"),
        last("status 99", "HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n"),
        last("status 600", "HTTP/1.1 600 X\r\ncontent-length: 0\r\n\r\n"),
        last("unasked 101", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        answer("100 first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        answer("103 first", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        answer("102 first", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        answer("more than its length", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokXXX"),
        last("bad field", "HTTP/1.1 200 OK\r\na b: c\r\ncontent-length: 2\r\n\r\nok"),
        last("nul in field", "HTTP/1.1 200 OK\r\na: b\0c\r\ncontent-length: 2\r\n\r\nok"),
        answer("slow", "").origin(Reply::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", 150, "ay")),
        Case::new("head, chunked", "HEAD / HTTP/1.1\r\nhost: a.com\r\n\r\n").origin(Reply::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")),
        Case::new("head, no framing", "HEAD / HTTP/1.1\r\nhost: a.com\r\n\r\n").origin(Reply::Answer("HTTP/1.1 200 OK\r\n\r\n")),
        Case::new("head 404", "HEAD / HTTP/1.1\r\nhost: a.com\r\n\r\n").origin(Reply::Answer("HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\n")),
    ]);
    lab.done();
}

#[test]
fn http10() {
    let mut lab = Yaml::routes(ROUTES)
        .hcm("http_protocol_options: { accept_http_10: true, default_host_for_http_10: def.com, enable_trailers: true, allow_chunked_length: true }\n")
        .lab();
    lab.cases([
        Case::new("1.0", "GET / HTTP/1.0\r\n\r\n"),
        Case::new("1.0 with host", "GET / HTTP/1.0\r\nhost: a.com\r\n\r\n"),
        Case::new("1.0 keep-alive", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"),
        Case::new("1.0 chunked answer", "GET / HTTP/1.0\r\n\r\n").origin(Reply::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")),
        Case::new("1.0 keep-alive chunked answer", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").origin(Reply::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")),
        Case::new("1.0 post chunked", "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        Case::new("1.0 connect", "CONNECT a.com:443 HTTP/1.0\r\n\r\n"),
        Case::new("1.0 upgrade", "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
        Case::new("0.9", "GET /\r\n"),
        Case::new("trailers in", "POST / HTTP/1.1\r\nhost: a.com\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\nz: w\r\n\r\n"),
        Case::get("/").named("trailers out").origin(Reply::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n")),
        Case::new("length and chunked allowed", "POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .differs(&[], ""),
    ]);
    let _ = Part::Answer;
    lab.done();
}
