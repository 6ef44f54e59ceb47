//! Routes: matching, what they do to requests and answers, failures and retries.

use adit_tests::certs::Certs;

use crate::case::{Case, Do, OK, send};
use crate::lab::Lab;
use crate::origin::Reply;
use crate::yaml::{Yaml, cluster};

#[test]
fn matching() {
    let mut lab = Yaml::hosts(
        "- name: exact\n  domains: [exact.com, 'exact.com:8080']\n  routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: exact } } }]\n\
         - name: suffix\n  domains: ['*.suffix.com', '*-suffix.com']\n  routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: suffix } } }]\n\
         - name: longer\n  domains: ['*.long.suffix.com']\n  routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: longer } } }]\n\
         - name: prefix\n  domains: ['prefix.*', 'prefix-*']\n  routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: prefix } } }]\n\
         - name: tls\n  domains: [tls.com]\n  require_tls: ALL\n  routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: tls } } }]\n\
         - name: tlsx\n  domains: [tlsx.com]\n  require_tls: EXTERNAL_ONLY\n  routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: tls } } }]\n\
         - name: all\n  domains: ['*']\n  routes:\n\
        \x20 - { name: path, match: { path: /path }, direct_response: { status: 200, body: { inline_string: path } } }\n\
        \x20 - { name: ipath, match: { path: /IPath, case_sensitive: false }, direct_response: { status: 200, body: { inline_string: ipath } } }\n\
        \x20 - { name: iprefix, match: { prefix: /IPrefix, case_sensitive: false }, direct_response: { status: 200, body: { inline_string: iprefix } } }\n\
        \x20 - { name: sep, match: { path_separated_prefix: /sep }, direct_response: { status: 200, body: { inline_string: sep } } }\n\
        \x20 - { name: regex, match: { safe_regex: { regex: '/re/[0-9]+' } }, direct_response: { status: 200, body: { inline_string: regex } } }\n\
        \x20 - { name: query, match: { prefix: /q, query_parameters: [{ name: a, string_match: { exact: b } }] }, direct_response: { status: 200, body: { inline_string: query } } }\n\
        \x20 - { name: qpresent, match: { prefix: /q, query_parameters: [{ name: p, present_match: true }] }, direct_response: { status: 200, body: { inline_string: qpresent } } }\n\
        \x20 - { name: qplain, match: { prefix: /q, query_parameters: [{ name: z }] }, direct_response: { status: 200, body: { inline_string: qplain } } }\n\
        \x20 - { name: hexact, match: { prefix: /h, headers: [{ name: x, string_match: { exact: 'y' } }] }, direct_response: { status: 200, body: { inline_string: hexact } } }\n\
        \x20 - { name: hrange, match: { prefix: /h, headers: [{ name: 'n', range_match: { start: 5, end: 10 } }] }, direct_response: { status: 200, body: { inline_string: hrange } } }\n\
        \x20 - { name: hpresent, match: { prefix: /h, headers: [{ name: p, present_match: true }] }, direct_response: { status: 200, body: { inline_string: hpresent } } }\n\
        \x20 - { name: hinvert, match: { prefix: /hi, headers: [{ name: i, string_match: { prefix: a }, invert_match: true, treat_missing_header_as_empty: true }] }, direct_response: { status: 200, body: { inline_string: hinvert } } }\n\
        \x20 - { name: method, match: { prefix: /m, headers: [{ name: ':method', exact_match: POST }] }, direct_response: { status: 200, body: { inline_string: method } } }\n\
        \x20 - { name: authority, match: { prefix: /a, headers: [{ name: ':authority', suffix_match: b.com }] }, direct_response: { status: 200, body: { inline_string: authority } } }\n\
        \x20 - { name: never, match: { prefix: /f, runtime_fraction: { default_value: { numerator: 0 } } }, direct_response: { status: 200, body: { inline_string: never } } }\n\
        \x20 - { name: always, match: { prefix: /f, runtime_fraction: { default_value: { numerator: 100 } } }, direct_response: { status: 200, body: { inline_string: always } } }\n",
    )
    .lab();
    for host in [
        "exact.com",
        "EXACT.com",
        "exact.com:80",
        "exact.com:8080",
        "a.suffix.com",
        "a-suffix.com",
        ".suffix.com",
        "suffix.com",
        "x.long.suffix.com",
        "prefix.com",
        "prefix.",
        "prefix-x",
        "tls.com",
        "tlsx.com",
        "tls.com:80",
    ] {
        lab.case(Case::new(host, format!("GET /path HTTP/1.1\r\nhost: {host}\r\n\r\n")));
    }
    for path in [
        "/path",
        "/path?x",
        "/path/",
        "/ipath",
        "/IPREFIXx",
        "/sep",
        "/sep/a",
        "/sepa",
        "/sep?x",
        "/re/12",
        "/re/12?x",
        "/re/a",
        "/re/12/",
        "/q?a=b",
        "/q?a=c",
        "/q?c&a=b",
        "/q?a=%62",
        "/q?p",
        "/q?p=",
        "/q?z=1",
        "/q",
        "/f",
        "/nothing",
        "/a",
        "/hi",
    ] {
        lab.case(Case::get(path));
    }
    for (name, fields) in [
        ("x y", "x: y\r\n"),
        ("x two", "x: a\r\nx: y\r\n"),
        ("n 5", "n: 5\r\n"),
        ("n 10", "n: 10\r\n"),
        ("n x", "n: x\r\n"),
        ("p", "p:\r\n"),
    ] {
        lab.case(Case::with(name, "/h", fields));
    }
    lab.case(Case::with("i b", "/hi", "i: b\r\n"));
    lab.case(Case::with("i ab", "/hi", "i: ab\r\n"));
    lab.case(Case::new("post", "POST /m HTTP/1.1\r\nhost: a.com\r\ncontent-length: 0\r\n\r\n"));
    lab.case(Case::new("authority", "GET /a HTTP/1.1\r\nhost: x.b.com\r\n\r\n"));
    lab.done();
}

#[test]
fn actions() {
    let mut lab = Yaml::routes(
        "- { match: { prefix: /r1 }, redirect: { host_redirect: b.com } }\n\
         - { match: { prefix: /r2 }, redirect: { https_redirect: true } }\n\
         - { match: { prefix: /r3 }, redirect: { path_redirect: '/new?x', response_code: FOUND } }\n\
         - { match: { prefix: /r4/ }, redirect: { prefix_rewrite: /new/, response_code: SEE_OTHER, strip_query: true } }\n\
         - { match: { prefix: /r5 }, redirect: { port_redirect: 8443, scheme_redirect: wss, response_code: TEMPORARY_REDIRECT } }\n\
         - { match: { prefix: /r6 }, redirect: { regex_rewrite: { pattern: { regex: '/r6/(.*)' }, substitution: '/x/\\1' }, response_code: PERMANENT_REDIRECT } }\n\
         - { match: { prefix: /d1 }, direct_response: { status: 204 } }\n\
         - { match: { prefix: /d2 }, direct_response: { status: 503, body: { inline_string: 'no' } }, response_headers_to_add: [{ header: { key: x-a, value: '%RESPONSE_CODE%-%REQ(:path)%' } }] }\n\
         - { match: { prefix: /d3 }, direct_response: { status: 200, body: { inline_string: '<x>' } }, response_headers_to_add: [{ header: { key: content-type, value: text/html }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }] }\n\
         - { match: { prefix: /w1/ }, route: { cluster: c, prefix_rewrite: /new/ } }\n\
         - { match: { path: /w2 }, route: { cluster: c, prefix_rewrite: /new } }\n\
         - { match: { prefix: /w3 }, route: { cluster: c, regex_rewrite: { pattern: { regex: '^/w3/(\\w+)' }, substitution: '/a/\\1/b' } } }\n\
         - { match: { prefix: /w4 }, route: { cluster: c, host_rewrite_literal: new.com, append_x_forwarded_host: true } }\n\
         - { match: { prefix: /w5 }, route: { cluster: c, host_rewrite_header: x-host } }\n\
         - { match: { prefix: /w6 }, route: { cluster: c, host_rewrite_path_regex: { pattern: { regex: '^/w6/([^/]+).*' }, substitution: '\\1' } } }\n\
         - { match: { prefix: /w7 }, route: { cluster: named, auto_host_rewrite: true } }\n\
         - { match: { safe_regex: { regex: '/w8.*' } }, route: { cluster: c, prefix_rewrite: /new } }\n\
         - { match: { prefix: /c1 }, route: { cluster_header: x-cluster } }\n\
         - { match: { prefix: /c2 }, route: { cluster_header: x-cluster, cluster_not_found_response_code: NOT_FOUND } }\n\
         - { match: { prefix: /c3 }, route: { weighted_clusters: { clusters: [{ name: c, weight: 0 }, { name: dead, weight: 1 }] } } }\n\
         - { match: { prefix: /c4 }, route: { weighted_clusters: { clusters: [{ name: c, weight: 1, request_headers_to_add: [{ header: { key: w, value: '1' } }], response_headers_to_remove: [x-gone], host_rewrite_literal: w.com }] } } }\n\
         - { match: { prefix: /c5 }, route: { weighted_clusters: { clusters: [{ cluster_header: x-cluster, weight: 1 }] } } }\n\
         - match: { prefix: /hd }\n\
        \x20 route: { cluster: c }\n\
        \x20 request_headers_to_add:\n\
        \x20 - { header: { key: a, value: new } }\n\
        \x20 - { header: { key: b, value: new }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }\n\
        \x20 - { header: { key: c, value: new }, append_action: ADD_IF_ABSENT }\n\
        \x20 - { header: { key: d, value: new }, append_action: OVERWRITE_IF_EXISTS }\n\
        \x20 - { header: { key: e, value: '%REQ(nothing)%' } }\n\
        \x20 - { header: { key: f, value: '%REQ(nothing)%' }, keep_empty_value: true }\n\
        \x20 - { header: { key: g, value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %PROTOCOL% %REQ(a)% %ROUTE_NAME% 100%% %REQ(x-envoy-original-path?:path)% %REQ(long):2%' } }\n\
        \x20 - { header: { key: h, value: '%UPSTREAM_CLUSTER% %LISTENER_NAME% %DOWNSTREAM_LOCAL_PORT%' } }\n\
        \x20 request_headers_to_remove: [gone, x-request-id]\n\
        \x20 response_headers_to_add:\n\
        \x20 - { header: { key: a, value: '%RESPONSE_CODE%' } }\n\
        \x20 - { header: { key: b, value: '%UPSTREAM_HOST%' }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }\n\
        \x20 - { header: { key: c, value: '%RESP(x-gone)% %REQ(gone)%' } }\n\
        \x20 response_headers_to_remove: [x-gone, server]\n",
    )
    .clusters(&cluster("named", "@ORIGIN@", "").replace("endpoint: {", "endpoint: { hostname: named.com,").lines().map(|line| line.get(2..).unwrap_or("").to_owned() + "\n").collect::<String>())
    .lab();
    for path in [
        "/r1/a?b",
        "/r2/a?b",
        "/r3/a?b",
        "/r4/a?b",
        "/r5?b",
        "/r6/a?b",
        "/d1",
        "/d2?x",
        "/d3",
        "/w1/a?b",
        "/w2?b",
        "/w2",
        "/w3/abc/d?e",
        "/w3/",
        "/w4",
        "/w5",
        "/w6/h.com/x",
        "/w7",
        "/w8/abc?x",
        "/c1",
        "/c2",
        "/c3",
        "/c4",
        "/c5",
    ] {
        lab.case(Case::get(path));
    }
    lab.cases([
        Case::new("redirect with port", "GET /r1 HTTP/1.1\r\nhost: a.com:8080\r\n\r\n"),
        Case::new("redirect to https with port", "GET /r2 HTTP/1.1\r\nhost: a.com:80\r\n\r\n"),
        Case::new("redirect to https with other port", "GET /r2 HTTP/1.1\r\nhost: a.com:8080\r\n\r\n"),
        Case::new("redirect port on port", "GET /r5 HTTP/1.1\r\nhost: a.com:8080\r\n\r\n"),
        Case::new("redirect v6", "GET /r5 HTTP/1.1\r\nhost: [::1]:8080\r\n\r\n"),
        Case::new("head direct", "HEAD /d2 HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        Case::new("post direct", "POST /d2 HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhello"),
        Case::with("x-host", "/w5", "x-host: other.com\r\n"),
        Case::with("x-host bad", "/w5", "x-host: a b\r\n"),
        Case::with("x-cluster c", "/c1", "x-cluster: c\r\n"),
        Case::with("x-cluster unknown", "/c1", "x-cluster: zz\r\n"),
        Case::with("x-cluster unknown 404", "/c2", "x-cluster: zz\r\n"),
        Case::with("weighted x-cluster", "/c5", "x-cluster: c\r\n"),
        Case::with("headers", "/hd", "a: old\r\nb: old\r\nc: old\r\nd: old\r\ngone: 1\r\nlong: abcdef\r\n").origin(
            Reply::Answer(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\na: old\r\nb: old\r\nx-gone: 1\r\nserver: x\r\n\r\nok",
            ),
        ),
        Case::with("headers absent", "/hd", ""),
    ]);
    lab.done();
}

#[test]
fn failures() {
    let mut lab = Yaml::routes(
        "- { match: { prefix: /dead }, route: { cluster: dead } }\n\
         - { match: { prefix: /none }, route: { cluster: none } }\n\
         - { match: { prefix: /t1 }, route: { cluster: c, timeout: 0.2s } }\n\
         - { match: { prefix: /t2 }, route: { cluster: c, idle_timeout: 0.2s } }\n\
         - { match: { prefix: /t3 }, route: { cluster: c, timeout: 1s, retry_policy: { retry_on: 5xx, num_retries: 1, per_try_timeout: 0.15s } } }\n\
         - { match: { prefix: /t4 }, route: { cluster: c, max_stream_duration: { max_stream_duration: 0.2s } } }\n\
         - { match: { prefix: /t5 }, route: { cluster: c, timeout: 0s, idle_timeout: 0s } }\n\
         - { match: { prefix: /t6 }, route: { cluster: c, timeout: 1s, retry_policy: { retry_on: 5xx, num_retries: 1, per_try_idle_timeout: 0.15s } } }\n\
         - { match: { prefix: /y1 }, route: { cluster: dead, retry_policy: { retry_on: connect-failure, num_retries: 2 } } }\n\
         - { match: { prefix: /y2 }, route: { cluster: c, retry_policy: { retry_on: 5xx, num_retries: 2, retry_back_off: { base_interval: 0.01s } } } }\n\
         - { match: { prefix: /y3 }, route: { cluster: c, retry_policy: { retry_on: 'gateway-error,retriable-4xx,reset', num_retries: 1 } } }\n\
         - { match: { prefix: /y4 }, route: { cluster: c, retry_policy: { retry_on: retriable-status-codes, retriable_status_codes: [418], num_retries: 1 } } }\n\
         - { match: { prefix: /y5 }, route: { cluster: c, retry_policy: { retry_on: retriable-headers, retriable_headers: [{ name: again }], num_retries: 1 } } }\n\
         - { match: { prefix: /y6 }, route: { cluster: c, retry_policy: { retry_on: 5xx, retriable_request_headers: [{ name: may }], num_retries: 1 } } }\n\
         - { match: { prefix: /y7 }, route: { cluster: c, retry_policy: { retry_on: reset-before-request, num_retries: 1 } } }\n\
         - { match: { prefix: /t7 }, route: { cluster: c, timeout: 2s, max_stream_duration: { max_stream_duration: 3s } } }\n\
         - { match: { prefix: / }, route: { cluster: c } }\n",
    )
    .hcm("upgrade_configs: [{ upgrade_type: websocket }]\n")
    .lab();
    const E500: &str = "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno";
    const E503: &str = "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno";
    let get = |path: &str, script: Vec<Reply>| Case::get(path).script(script);
    let ws = |path: &str, script: Vec<Reply>| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: a.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        Case::new(format!("ws {path}"), head).script(script).quiet(900)
    };
    lab.cases([
        get("/dead", vec![]),
        get("/none", vec![]),
        get("/t1", vec![Reply::Silence]).quiet(900),
        get("/t1-slow-body", vec![Reply::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", 500, "ay")])
            .quiet(900),
        get("/t2", vec![Reply::Silence]).quiet(900),
        get("/t2-body", vec![Reply::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", 700, "ay")]).quiet(900),
        get("/t3", vec![Reply::Silence]).quiet(900),
        get("/t3-second", vec![Reply::Silence, Reply::Answer(OK)]).quiet(900),
        get("/t4", vec![Reply::Silence]).quiet(900),
        get("/t4-body", vec![Reply::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", 700, "ay")]).quiet(900),
        get("/t5", vec![Reply::Answer(OK)]),
        get("/t7", vec![Reply::Answer(OK)]),
        get("/t6", vec![Reply::Silence]).quiet(900),
        get("/y1", vec![]).quiet(600),
        get("/y2", vec![Reply::Answer(E500), Reply::Answer(OK)]).quiet(500),
        get("/y2-limit", vec![Reply::Answer(E500)]).quiet(500),
        get("/y2-reset", vec![Reply::Reset]).quiet(500),
        get("/y3-500", vec![Reply::Answer(E500), Reply::Answer(OK)]),
        get("/y3-503", vec![Reply::Answer(E503), Reply::Answer(OK)]),
        get("/y3-409", vec![Reply::Answer("HTTP/1.1 409 No\r\ncontent-length: 0\r\n\r\n"), Reply::Answer(OK)]),
        get("/y3-close", vec![Reply::Close, Reply::Answer(OK)]),
        get("/y4", vec![Reply::Answer("HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n"), Reply::Answer(OK)]),
        get("/y5", vec![Reply::Answer("HTTP/1.1 200 No\r\ncontent-length: 0\r\nagain: 1\r\n\r\n"), Reply::Answer(OK)]),
        get("/y6", vec![Reply::Answer(E500), Reply::Answer(OK)]),
        get("/y7", vec![Reply::Close, Reply::Answer(OK)]),
        Case::with("may", "/y6", "may: 1\r\n").script(vec![Reply::Answer(E500), Reply::Answer(OK)]),
        Case::new("post retried", "POST /y2 HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhello")
            .script(vec![Reply::Answer(E500), Reply::Answer(OK)]),
        Case::with("retry by header", "/", "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 1\r\n")
            .script(vec![Reply::Answer(E500), Reply::Answer(OK)]),
        // A client outside may not say so; it leaves with a reset, as we would take its FIN for a half-close.
        unheard("timeout by header", "x-envoy-upstream-rq-timeout-ms: 200\r\n"),
        unheard("per try by header", "x-envoy-upstream-rq-per-try-timeout-ms: 200\r\n"),
        unheard(
            "alt response",
            "x-envoy-upstream-rq-timeout-alt-response: 1\r\nx-envoy-upstream-rq-timeout-ms: 200\r\n",
        ),
        ws("/t1", vec![Reply::Silence]),
        ws("/t2", vec![Reply::Silence]),
        ws("/t2", vec![Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")])
            .named("ws idle"),
        ws("/t3", vec![Reply::Silence]),
        ws("/t4", vec![Reply::Silence]),
        ws("/t4", vec![Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")])
            .named("ws max duration"),
        ws("/t1", vec![Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")])
            .named("ws timeout is over"),
        ws(
            "/y2",
            vec![
                Reply::Answer(E500),
                Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello"),
            ],
        ),
        ws("/y2", vec![Reply::Answer(E500)]).named("ws retries used up"),
        ws("/dead", vec![]),
        ws("/none", vec![]),
    ]);
    lab.done();
}

#[test]
fn timeouts_of_the_manager() {
    let mut lab = Yaml::routes("- { match: { prefix: / }, route: { cluster: c } }\n")
        .hcm("request_timeout: 0.3s\nrequest_headers_timeout: 0.2s\nstream_idle_timeout: 0.5s\n")
        .lab();
    lab.cases([
        Case::new("head slow", "GET / HTTP/1.1\r\nho").quiet(900),
        Case::new("body slow", "POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhe").quiet(900),
        Case::steps(
            "body in time",
            vec![send("POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: 5\r\n\r\nhe"), Do::Pause(100), send("llo")],
        ),
        Case::get("/").named("answer slow").origin(Reply::Silence).quiet(900),
        Case::get("/")
            .named("answer stalls")
            .origin(Reply::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", 1000, "ay"))
            .quiet(900),
    ]);
    lab.done();
    let mut lab = Yaml::routes("- { match: { prefix: / }, route: { cluster: c } }\n")
        .hcm("common_http_protocol_options: { idle_timeout: 0.2s, max_requests_per_connection: 2, max_stream_duration: 0.4s }\n")
        .lab();
    lab.cases([
        Case::get("/").named("idle after an answer").quiet(800),
        Case::steps("idle at once", vec![]).quiet(800),
        Case::new("max requests", "GET /1 HTTP/1.1\r\nhost: a.com\r\n\r\nGET /2 HTTP/1.1\r\nhost: a.com\r\n\r\nGET /3 HTTP/1.1\r\nhost: a.com\r\n\r\n").quiet(800),
        Case::get("/").named("max stream duration").origin(Reply::Silence).quiet(900),
    ]);
    lab.done();
    let mut lab = Yaml::routes("- { match: { prefix: / }, route: { cluster: c } }\n")
        .hcm("common_http_protocol_options: { max_connection_duration: 0.3s }\ndrain_timeout: 0.3s\n")
        .lab();
    lab.cases([
        Case::get("/").named("old connection").quiet(1200),
        Case::steps(
            "request on an old connection",
            vec![
                send("GET /1 HTTP/1.1\r\nhost: a.com\r\n\r\n"),
                Do::Head,
                Do::Pause(400),
                send("GET /2 HTTP/1.1\r\nhost: a.com\r\n\r\n"),
            ],
        )
        .quiet(900),
        Case::get("/")
            .named("busy when old")
            .origin(Reply::Slowly("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", 800, "ay"))
            .quiet(1200),
    ]);
    lab.done();
}

/// The name of a host, the list of those before and TLS's server name from attempt to attempt (`auto_host_rewrite`,
/// `auto_sni`). TLS ends in the same proxy, and for one name only.
#[test]
fn names_of_attempts() {
    let certs = Certs::new();
    let proxy = |fields: &str| {
        format!(
            "name: tcp, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, {fields} }}"
        )
    };
    let listener = format!(
        "  - name: tls\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: @DEAD@ }} }}\n    listener_filters: \
         [{{ name: tls, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }} }}]\n    \
         filter_chains:\n    - filter_chain_match: {{ server_names: [a.com, b.com] }}\n      filters: [{{ {} }}]\n      {}",
        proxy("stat_prefix: t, cluster: c"),
        certs.downstream("", "")
    );
    let named = |name: &str, options: &str| {
        let socket = "transport_socket: { name: tls, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext } }";
        let options = format!(
            "typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{ http_protocol_options: {{}} }}, \
             upstream_http_protocol_options: {{ auto_sni: true{options} }} }} }}"
        );
        let text = cluster(name, "@DEAD@", &format!("{socket}\n{options}\n"));
        text.replace("endpoint: {", "endpoint: { hostname: host.com,")
    };
    let route = |prefix: &str, cluster: &str| {
        format!(
            "- {{ match: {{ prefix: {prefix} }}, route: {{ cluster: {cluster}, auto_host_rewrite: true, append_x_forwarded_host: true, \
             retry_policy: {{ retry_on: 5xx, num_retries: 2, retry_back_off: {{ base_interval: 0.01s }} }} }} }}\n"
        )
    };
    let text = Yaml::routes(&(route("/n", "named") + &route("/o", "overridden")))
        .hcm("upgrade_configs: [{ upgrade_type: websocket }]\n")
        .text()
        .replace("  clusters:\n", &format!("{listener}  clusters:\n"));
    let more = named("named", "") + &named("overridden", ", override_auto_sni_header: x-envoy-original-host");
    let mut lab = Lab::new(&(text + &more)).ignore(&["listener."]);
    const E500: &str = "HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let script = |last| vec![Reply::AnswerAndClose(E500), Reply::AnswerAndClose(E500), last];
    let plain = || script(Reply::Answer(OK));
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    lab.cases([
        Case::get("/n").script(plain()),
        Case::with("forwarded", "/n", "x-forwarded-host: first.com\r\n").script(plain()),
        Case::get("/o").script(plain()),
        Case::with("original", "/o", "x-envoy-original-host: b.com\r\n").script(plain()),
        Case::with("websocket", "/n", "connection: upgrade\r\nupgrade: websocket\r\n")
            .script(script(Reply::Tunnel(switched))),
    ]);
    lab.done();
}

/// `upstream_bind_config`: what is set changes no answer; what cannot be had is a failure on our side.
#[test]
fn upstream_sockets() {
    let routes = "- { match: { prefix: /retry }, route: { cluster: c, retry_policy: { retry_on: connect-failure, num_retries: 2 } } }\n\
                  - { match: { prefix: /a }, route: { cluster: c } }\n\
                  - { match: { connect_matcher: {} }, route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] } }\n";
    let connect = || Case::new("connect", "CONNECT a.com:443 HTTP/1.1\r\nhost: a.com:443\r\n\r\n");
    for bind in [
        "socket_options: [{ level: 6, name: 13, buf_value: cmVubw== }, { level: 0, name: 1, int_value: 8 }]",
        "source_address: { address: 127.0.0.3, port_value: 0 }, socket_options: [{ level: 1, name: 7, int_value: 70000, type: { stream: {} } }]",
    ] {
        let mut lab = Yaml::routes(routes).cluster(&format!("upstream_bind_config: {{ {bind} }}\n")).lab();
        lab.cases([Case::get("/a"), Case::get("/retry")]);
        lab.done();
    }
    for bind in [
        "socket_options: [{ level: 6, name: 13, buf_value: bm9zdWNo }]",
        "socket_options: [{ level: 1, name: 25, buf_value: bm9zdWNo }, { level: 0, name: 1, int_value: 8 }]",
        "source_address: { address: 192.0.2.1, port_value: 0 }",
    ] {
        let mut lab = Yaml::routes(routes)
            .hcm("upgrade_configs: [{ upgrade_type: CONNECT }]\n")
            .cluster(&format!("upstream_bind_config: {{ {bind} }}\n"))
            .lab();
        lab.cases([Case::get("/a"), Case::get("/retry"), connect()].map(|case| case.script(vec![])));
        lab.done();
    }
}

fn unheard(name: &str, fields: &str) -> Case {
    let head = format!("GET / HTTP/1.1\r\nhost: a.com\r\n{fields}\r\n");
    Case::steps(name, vec![send(head), Do::Pause(600), Do::Rst]).origin(Reply::Silence)
}
