//! Upgrades and CONNECT: which are let through, what of them reaches the origin, what becomes of its answer.

use crate::case::{Case, Do, OK, send};
use crate::lab::check;
use crate::origin::Reply;
use crate::parallel::each;
use crate::yaml::Yaml;

const ACCEPT: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

fn upgrade(name: &str, token: &str, path: &str) -> Case {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: {token}\r\nsec-websocket-key: k\r\n\r\n"
    );
    Case::steps(name, vec![send(head), Do::Head, send("payload"), Do::Pause(100), Do::Fin])
        .origin(Reply::Tunnel(ACCEPT))
}

/// Rows: what the connection manager says; columns: what the route says.
#[test]
fn the_enable_table() {
    let labs = [
        ("absent", ""),
        ("on", "upgrade_configs: [{ upgrade_type: WebSocket }]\n"),
        ("enabled", "upgrade_configs: [{ upgrade_type: websocket, enabled: true }]\n"),
        ("off", "upgrade_configs: [{ upgrade_type: websocket, enabled: false }]\n"),
    ];
    let report = each(&labs, |(manager, hcm)| {
        let mut lab = Yaml::routes(
            "- match: { prefix: /on }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: WEBSOCKET }] }\n\
             - match: { prefix: /off }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: websocket, enabled: false }] }\n\
             - match: { prefix: /none }\n  route: { cluster: c }\n\
             - match: { prefix: /redirect }\n  redirect: { host_redirect: b.com }\n\
             - match: { prefix: /direct }\n  direct_response: { status: 200, body: { inline_string: hi } }\n",
        )
        .hcm(hcm)
        .lab();
        for route in ["/on", "/off", "/none", "/missing", "/redirect", "/direct"] {
            lab.case(upgrade(&format!("manager {manager}, route {route}"), "websocket", route));
        }
        lab.report()
    });
    check(&report);
}

#[test]
fn requests() {
    let mut lab = Yaml::routes("- match: { prefix: / }\n  route: { cluster: c }\n")
        .hcm("upgrade_configs: [{ upgrade_type: websocket }, { upgrade_type: foo }]\n")
        .lab();
    let raw = |name: &str, text: &str| {
        Case::steps(name, vec![send(text), Do::Head, send("more"), Do::Pause(100), Do::Fin])
            .origin(Reply::Tunnel(ACCEPT))
    };
    lab.cases([
        upgrade("other token", "bar", "/"),
        upgrade("mixed case", "WebSocket", "/"),
        upgrade("list", "websocket, foo", "/"),
        upgrade("h2c", "h2c", "/").origin(Reply::Answer(OK)),
        upgrade("h2c and websocket", "h2c, websocket", "/"),
        raw("early payload", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nearly"),
        raw("length", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\nabcdef"),
        raw("chunked", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        raw("length and chunked", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        raw("post", "POST / HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"),
        raw("connection list", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n"),
        raw("connection nominates", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: upgrade, x-auth\r\nupgrade: websocket\r\nx-auth: 1\r\n\r\n"),
        raw("connection close, upgrade", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\r\n"),
        raw("connection in two fields", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: keep-alive\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
        raw("upgrade without connection", "GET / HTTP/1.1\r\nhost: a.com\r\nupgrade: websocket\r\n\r\n").origin(Reply::Answer(OK)),
        raw("connection without upgrade", "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: upgrade\r\n\r\n").origin(Reply::Answer(OK)),
        raw("expect", "GET / HTTP/1.1\r\nhost: a.com\r\nexpect: 100-continue\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"),
        raw("absolute form", "GET http://b.com/x HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"),
        raw("1.0", "GET / HTTP/1.0\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"),
    ]);
    lab.done();
}

/// Switches to `websocket`, and the same to `foo`.
const FOO: &[(&str, &str)] = &[
    (ACCEPT, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: foo\r\n\r\n"),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nhello",
    ),
    (
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nhello",
    ),
    (
        "HTTP/1.1 101 Mine\r\nconnection: upgrade\r\nupgrade: websocket\r\nserver: x\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nhello",
        "HTTP/1.1 101 Mine\r\nconnection: upgrade\r\nupgrade: foo\r\nserver: x\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nhello",
    ),
];

#[test]
fn answers() {
    let mut lab = Yaml::routes("- match: { prefix: / }\n  route: { cluster: c }\n")
        .hcm("upgrade_configs: [{ upgrade_type: websocket }, { upgrade_type: foo }]\n")
        .lab();
    for token in ["websocket", "foo"] {
        let answer = |name: &str, reply: Reply| {
            // What comes early counts as received in Envoy even where it goes nowhere.
            let early = if matches!(&reply, Reply::Tunnel(_)) { "early" } else { "" };
            let head =
                format!("GET / HTTP/1.1\r\nhost: a.com\r\nconnection: Upgrade\r\nupgrade: {token}\r\n\r\n{early}");
            let switched = |text: &'static str| {
                if token == "foo" { FOO.iter().find(|(ws, _)| *ws == text).map_or(text, |(_, foo)| foo) } else { text }
            };
            let reply = match reply {
                Reply::Tunnel(text) => Reply::Tunnel(switched(text)),
                Reply::AnswerAndReset(text) => Reply::AnswerAndReset(switched(text)),
                Reply::AnswerAndClose(text) => Reply::AnswerAndClose(switched(text)),
                other => other,
            };
            Case::new(format!("{token} {name}"), head).origin(reply)
        };
        lab.cases([
            answer("200", Reply::Answer(OK)),
            answer("200 with upgrade", Reply::Answer("HTTP/1.1 200 OK\r\nupgrade: websocket\r\nconnection: upgrade\r\nx: y\r\ncontent-length: 2\r\n\r\nok")),
            answer("302", Reply::Answer("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nok")),
            answer("403", Reply::Answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")),
            answer("426", Reply::Answer("HTTP/1.1 426 Upgrade Required\r\nupgrade: TLS/1.3\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nno")),
            answer("500 chunked", Reply::Answer("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")),
            answer("100 then 101", Reply::Tunnel("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")),
            answer("103 then 101", Reply::Tunnel("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")),
            answer("101 with length", Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\nhello")),
            answer("101 with other token", Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nhello")),
            answer("101 without connection", Reply::Tunnel("HTTP/1.1 101 S\r\nupgrade: websocket\r\n\r\nhello")),
            answer("101 without upgrade", Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\n\r\nhello")),
            answer("101 with server and date", Reply::Tunnel("HTTP/1.1 101 Mine\r\nconnection: upgrade\r\nupgrade: websocket\r\nserver: x\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nhello")),
            answer("close", Reply::Close),
            answer("reset", Reply::Reset),
            answer("garbage", Reply::AnswerAndClose("garbage\r\n\r\n")),
            answer("tunnel then reset", Reply::AnswerAndReset(ACCEPT)),
            answer("tunnel then close", Reply::AnswerAndClose(ACCEPT)).quiet(600),
        ]);
    }
    lab.done();
}

const CONNECT: &str =
    "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n";

fn connect(name: &str, target: &str, fields: &str) -> Case {
    let head = format!("CONNECT {target} HTTP/1.1\r\n{fields}\r\n");
    Case::steps(name, vec![send(head), Do::Head, send("payload"), Do::Pause(100), Do::Fin])
        .origin(Reply::Tunnel("HTTP/1.1 200 Connection established\r\n\r\n"))
}

#[test]
fn connect_targets() {
    let mut lab = Yaml::routes(CONNECT).lab();
    for target in [
        "a.com:443",
        "A.com:443",
        "1.2.3.4:80",
        "[::1]:443",
        "a.com:0",
        "a.com:65535",
        "a.com:65536",
        "a.com",
        "a.com:",
        ":80",
        "u@a.com:443",
        "/path",
        "http://a.com/",
        "*",
        "a.com:+443",
        "a.com:0x1bb",
        "a.com:443/x",
        "a.com:443?x",
        "a.com:443#x",
        "[fe80::1%25eth0]:443",
        "[::ffff:1.2.3.4]:80",
        "2130706433:80",
        "a.com.:443",
        "xn--a:443",
        "%61.com:443",
        "[::1]",
        "a b:443",
        "a_b.com:443",
        "a.com:0443",
        "a.com:443:443",
    ] {
        lab.case(connect(target, target, ""));
    }
    lab.case(connect("long label", &format!("{}.com:443", "a".repeat(300)), ""));
    lab.done();
}

#[test]
fn connect_heads() {
    let mut lab = Yaml::routes(CONNECT).lab();
    lab.cases([
        connect("host differs", "a.com:443", "host: b.com\r\n"),
        connect("two hosts", "a.com:443", "host: b.com\r\nhost: c.com\r\n"),
        connect(
            "proxy fields",
            "a.com:443",
            "proxy-authorization: x\r\nproxy-connection: keep-alive\r\nkeep-alive: 1\r\nuser-agent: me\r\n",
        ),
        connect("length", "a.com:443", "content-length: 5\r\n"),
        connect("length 0", "a.com:443", "content-length: 0\r\n"),
        connect("chunked", "a.com:443", "transfer-encoding: chunked\r\n"),
        connect("expect", "a.com:443", "expect: 100-continue\r\n"),
        connect("upgrade too", "a.com:443", "connection: upgrade\r\nupgrade: websocket\r\n"),
        connect("connection close", "a.com:443", "connection: close\r\n"),
        Case::steps("early", vec![send("CONNECT a.com:443 HTTP/1.1\r\n\r\nearly"), Do::Head, Do::Pause(100), Do::Fin])
            .origin(Reply::Tunnel("HTTP/1.1 200 OK\r\n\r\n")),
        connect("407", "a.com:443", "").origin(Reply::Answer(
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno",
        )),
        connect("202", "a.com:443", "").origin(Reply::Tunnel("HTTP/1.1 202 Accepted\r\n\r\n")),
        connect("204", "a.com:443", "").origin(Reply::Tunnel("HTTP/1.1 204 No Content\r\n\r\n")),
        connect("200 with length", "a.com:443", "")
            .origin(Reply::Tunnel("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhello")),
        connect("200 chunked", "a.com:443", "")
            .origin(Reply::Tunnel("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello")),
        connect("302", "a.com:443", "")
            .origin(Reply::Answer("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n")),
        connect("503", "a.com:443", "").origin(Reply::Answer("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno")),
        connect("100 then 200", "a.com:443", "")
            .origin(Reply::Tunnel("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")),
        connect("101", "a.com:443", "")
            .origin(Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")),
        connect("close", "a.com:443", "").origin(Reply::Close),
        connect("reset", "a.com:443", "").origin(Reply::Reset),
    ]);
    lab.done();
}

#[test]
fn connect_without_leave() {
    let mut lab = Yaml::hosts(
        "- name: exact\n  domains: ['exact.com:443']\n  routes:\n  - match: { connect_matcher: {} }\n    route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n\
         - name: port\n  domains: ['port.com:*']\n  routes:\n  - match: { connect_matcher: {} }\n    route: { cluster: c, upgrade_configs: [{ upgrade_type: connect }] }\n\
         - name: suffix\n  domains: ['*:8443']\n  routes:\n  - match: { connect_matcher: {} }\n    redirect: { host_redirect: b.com }\n\
         - name: direct\n  domains: ['direct.com:1']\n  routes:\n  - match: { connect_matcher: {} }\n    direct_response: { status: 200, body: { inline_string: tunnelled } }\n\
         - name: direct4\n  domains: ['direct.com:2']\n  routes:\n  - match: { connect_matcher: {} }\n    direct_response: { status: 404, body: { inline_string: none } }\n\
         - name: noleave\n  domains: ['off.com:443']\n  routes:\n  - match: { connect_matcher: {} }\n    route: { cluster: c }\n\
         - name: prefix\n  domains: ['prefix.com:443']\n  routes:\n  - match: { prefix: / }\n    route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n\
         - name: header\n  domains: ['header.com:443']\n  routes:\n  - match: { connect_matcher: {}, headers: [{ name: foo, string_match: { exact: bar } }] }\n    route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n",
    )
    .lab();
    for target in [
        "exact.com:443",
        "EXACT.com:443",
        "exact.com:80",
        "port.com:1",
        "x.com:8443",
        "direct.com:1",
        "direct.com:2",
        "off.com:443",
        "prefix.com:443",
        "header.com:443",
    ] {
        lab.case(connect(target, target, ""));
    }
    lab.case(connect("header", "header.com:443", "foo: bar\r\n"));
    lab.done();
}

#[test]
fn stripped_ports() {
    let labs = [
        ("any", "strip_any_host_port: true\n"),
        ("matching", "strip_matching_host_port: true\n"),
        ("dot", "strip_trailing_host_dot: true\n"),
    ];
    let report = each(&labs, |(name, field)| {
        let mut lab = Yaml::hosts(
            "- name: bare\n  domains: [a.com]\n  routes:\n  - match: { connect_matcher: {} }\n    route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n  - match: { prefix: / }\n    route: { cluster: c }\n\
             - name: port\n  domains: ['a.com:443']\n  routes:\n  - match: { connect_matcher: {} }\n    route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n  - match: { prefix: / }\n    direct_response: { status: 503 }\n",
        )
        .hcm(field)
        .lab();
        let port = lab.adit.port;
        let _ = port;
        for host in ["a.com", "a.com:443", "a.com:80", "a.com.", "a.com.:443", "A.com:443"] {
            lab.case(Case::new(format!("{name} get {host}"), format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")));
        }
        for host in ["a.com:443", "a.com:80", "a.com.:443"] {
            lab.case(connect(&format!("{name} connect {host}"), host, ""));
        }
        lab.report()
    });
    check(&report);
}

const TERMINATE: &str = "- match: { connect_matcher: {}, headers: [{ name: to, string_match: { exact: dead } }] }\n  route: { cluster: dead, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }\n\
- match: { connect_matcher: {}, headers: [{ name: to, string_match: { exact: retry } }] }\n  route: { cluster: dead, retry_policy: { retry_on: connect-failure, num_retries: 2 }, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }\n\
- match: { connect_matcher: {}, headers: [{ name: to, string_match: { exact: none } }] }\n  route: { cluster: none, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }\n\
- match: { connect_matcher: {}, headers: [{ name: to, string_match: { exact: header } }] }\n  route: { cluster_header: x-cluster, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }\n\
- match: { connect_matcher: {}, headers: [{ name: to, string_match: { exact: proxy1 } }] }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { proxy_protocol_config: { version: V1 } } }] }\n\
- match: { connect_matcher: {}, headers: [{ name: to, string_match: { exact: proxy2 } }] }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { proxy_protocol_config: { version: V2 } } }] }\n\
- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }\n\
- match: { prefix: /post }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }\n\
- match: { prefix: /dead }\n  route: { cluster: dead, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }\n";

#[test]
fn terminated() {
    let mut lab = Yaml::routes(TERMINATE).lab();
    let term = |name: &str, fields: &str| {
        let head = format!("CONNECT a.com:443 HTTP/1.1\r\n{fields}\r\n");
        Case::steps(name, vec![send(head), Do::Head, send("payload"), Do::Pause(150), Do::Fin]).origin(Reply::Raw(""))
    };
    lab.cases([
        term("plain", ""),
        term("early", "").named("early"),
        Case::steps(
            "early bytes",
            vec![send("CONNECT a.com:443 HTTP/1.1\r\n\r\nearly"), Do::Head, Do::Pause(100), Do::Fin],
        )
        .origin(Reply::Raw("")),
        term("upstream speaks", "").origin(Reply::Raw("hello")),
        term("dead", "to: dead\r\n"),
        term("retry", "to: retry\r\n"),
        term("none", "to: none\r\n"),
        term("no cluster header", "to: header\r\n"),
        term("unknown cluster", "to: header\r\nx-cluster: zz\r\n"),
        term("cluster header", "to: header\r\nx-cluster: c\r\n"),
        term("expect", "expect: 100-continue\r\n"),
        Case::new("post", "POST /post HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhello")
            .origin(Reply::Raw("")),
        Case::new(
            "post chunked",
            "POST /post HTTP/1.1\r\nhost: a.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .origin(Reply::Raw("")),
        Case::new("post dead", "POST /dead HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhello")
            .origin(Reply::Raw("")),
        Case::new("get", "GET /post HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        Case::new("get to the tunnel", "GET / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
    ]);
    // The client's port is in them.
    lab.case(term("proxy1", "to: proxy1\r\n").differs(&[crate::case::Part::Origin], "ports of clients"));
    lab.done();
}
