//! Who the client is, what it may say of itself, and what the connection manager adds.

use crate::case::Case;
use crate::lab::check;
use crate::origin::Reply;
use crate::parallel::each;
use crate::yaml::{Yaml, filter};

const ROUTES: &str = "- { match: { prefix: /i, headers: [{ name: x-envoy-internal, present_match: true }] }, route: { cluster: c, prefix_rewrite: /internal } }\n- { match: { prefix: / }, route: { cluster: c } }\n";

const FIELDS: &str = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\nx-envoy-upstream-rq-timeout-ms: 5000\r\nx-envoy-internal: true\r\n\
x-envoy-external-address: 9.9.9.9\r\nx-envoy-original-path: /o\r\nx-envoy-expected-rq-timeout-ms: 1\r\nx-envoy-decorator-operation: d\r\n\
x-envoy-downstream-service-cluster: dc\r\nx-envoy-downstream-service-node: dn\r\nx-envoy-ip-tags: t\r\nx-envoy-force-trace: 1\r\n\
x-envoy-hedge-on-per-try-timeout: 1\r\nx-envoy-attempt-count: 7\r\nx-envoy-is-timeout-retry: 1\r\nx-envoy-retriable-status-codes: 1\r\n\
x-envoy-retriable-header-names: q\r\nx-envoy-retry-grpc-on: cancelled\r\nx-envoy-original-url: u\r\nx-envoy-upstream-alt-stat-name: a\r\n\
x-envoy-upstream-canary: true\r\nx-envoy-overloaded: 1\r\nx-forwarded-proto: https\r\nx-forwarded-host: h\r\nx-forwarded-port: 1\r\n\
x-client-trace-id: 1\r\nx-forwarded-client-cert: By=x\r\nx-request-id: 00000000-0000-4000-8000-00000000000a\r\n\
x-envoy-upstream-rq-per-try-timeout-ms: 100\r\nx-envoy-original-dst-host: 1.1.1.1:1\r\nx-envoy-peer-metadata: p\r\nx-ot-span-context: s\r\n";

#[test]
fn addresses() {
    let labs = [
        ("default", ""),
        ("remote", "use_remote_address: true\n"),
        ("remote, skip append", "use_remote_address: true\nskip_xff_append: true\n"),
        ("hops 1", "xff_num_trusted_hops: 1\n"),
        ("remote, hops 1", "use_remote_address: true\nxff_num_trusted_hops: 1\n"),
        (
            "remote, internal",
            "use_remote_address: true\ninternal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }\n",
        ),
        (
            "internal",
            "internal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }, { address_prefix: 10.0.0.0, prefix_len: 8 }] }\n",
        ),
        (
            "preserve id",
            "use_remote_address: true\npreserve_external_request_id: true\nalways_set_request_id_in_response: true\n",
        ),
        ("no id", "generate_request_id: false\n"),
        ("port", "append_x_forwarded_port: true\nvia: me\nadd_user_agent: true\nserver_name: mine\n"),
        ("scheme", "scheme_header_transformation: { scheme_to_overwrite: https }\n"),
    ];
    let report = each(&labs, |(name, hcm)| {
        let mut lab = Yaml::routes(ROUTES).hcm(hcm).lab();
        let with = |case: &str, fields: &str| Case::with(format!("{name}: {case}"), "/i", fields);
        lab.cases([
            with("nothing", ""),
            with("everything", FIELDS),
            with("xff one", "x-forwarded-for: 1.2.3.4\r\n"),
            with("xff two", "x-forwarded-for: 1.2.3.4, 5.6.7.8\r\n"),
            with("xff internal", "x-forwarded-for: 10.0.0.1\r\n"),
            with("xff three fields", "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8, 9.10.11.12\r\n"),
            with("xff bad", "x-forwarded-for: nonsense\r\n"),
            with("xff v6", "x-forwarded-for: ::1\r\n"),
            with("xff with port", "x-forwarded-for: 1.2.3.4:80\r\n"),
            with("proto", "x-forwarded-proto: https\r\n"),
            with("bad proto", "x-forwarded-proto: ftp\r\n"),
            with("user agent", "user-agent: ua\r\nvia: v\r\nx-forwarded-port: 9\r\n"),
            with("request id", "x-request-id: own\r\n"),
        ]);
        lab.report()
    });
    check(&report);
}

#[test]
fn paths() {
    let labs = [
        ("as they are", ""),
        ("normalized", "normalize_path: true\n"),
        ("merged", "merge_slashes: true\n"),
        ("both", "normalize_path: true\nmerge_slashes: true\n"),
        ("reject", "path_with_escaped_slashes_action: REJECT_REQUEST\n"),
        ("unescape", "normalize_path: true\npath_with_escaped_slashes_action: UNESCAPE_AND_FORWARD\n"),
        ("redirect", "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT\n"),
    ];
    let report = each(&labs, |(name, hcm)| {
        let mut lab = Yaml::routes("- { match: { prefix: /b }, route: { cluster: c, prefix_rewrite: /B } }\n- { match: { prefix: / }, route: { cluster: c } }\n").hcm(hcm).lab();
        for path in [
            "/a/../b",
            "/a/./b",
            "//a//b",
            "/a%2Fb",
            "/a%2fb?x=%2F",
            "/a%5cb",
            "/a\\b",
            "/%61",
            "/a/..",
            "/..",
            "/../b",
            "/%2e%2e/b",
            "/a%00b",
            "/%zz",
            "/a%",
            "/a?b/../c",
            "/a/b/../../../c",
            "/a;x/../b",
            "/caf%C3%A9",
            "/a%20b",
            "/a//../b",
            "/.",
            "/a/.",
            "/~x",
            "/%7ex",
            "/a|b",
            "/a\"b",
            "/{a}",
            "/[a]",
            "/a^b`c",
        ] {
            lab.case(Case::get(path).named(format!("{name}: {path}")));
        }
        lab.report()
    });
    check(&report);
}

#[test]
fn answers_of_the_manager() {
    let labs = [
        ("append", "server_header_transformation: APPEND_IF_ABSENT\n"),
        ("pass", "server_header_transformation: PASS_THROUGH\n"),
        ("underscores rejected", "common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }\n"),
        ("underscores dropped", "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }\n"),
        ("proxied 100", "proxy_100_continue: true\n"),
        ("proper case", "http_protocol_options: { header_key_format: { proper_case_words: {} } }\n"),
        ("absolute off", "http_protocol_options: { allow_absolute_url: false }\n"),
        (
            "ignored upgrades",
            "upgrade_configs: [{ upgrade_type: websocket }]\nhttp_protocol_options: { ignore_http_11_upgrade: [{ prefix: TLS/ }, { exact: foo }] }\n",
        ),
        ("small heads", "max_request_headers_kb: 1\ncommon_http_protocol_options: { max_headers_count: 5 }\n"),
        ("errors of streams", "stream_error_on_invalid_http_message: true\n"),
        ("custom methods", "http_protocol_options: { allow_custom_methods: true }\n"),
    ];
    let report = each(&labs, |(name, hcm)| {
        let mut lab = Yaml::routes("- { match: { prefix: / }, route: { cluster: c } }\n").hcm(hcm).lab();
        let with = |case: &str, fields: &str| Case::with(format!("{name}: {case}"), "/", fields);
        lab.cases([
            with("plain", ""),
            with("server", "").origin(Reply::Answer("HTTP/1.1 200 OK\r\nserver: theirs\r\ncontent-length: 0\r\n\r\n")),
            with("underscore", "a_b: 1\r\n"),
            Case::new(
                format!("{name}: expect body"),
                "POST / HTTP/1.1\r\nhost: a.com\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
            )
            .origin(Reply::Answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
            Case::new(format!("{name}: absolute"), "GET http://b.com/x HTTP/1.1\r\nhost: a.com\r\n\r\n"),
            with("upgrade TLS", "connection: upgrade\r\nupgrade: TLS/1.2\r\n"),
            with("upgrade foo", "connection: upgrade\r\nupgrade: foo\r\n"),
            with("upgrade foo, websocket", "connection: upgrade\r\nupgrade: foo, websocket\r\n"),
            with("many", "a: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\n"),
            with("big", &format!("a: {}\r\n", "x".repeat(1100))),
            Case::new(format!("{name}: custom"), "FOO / HTTP/1.1\r\nhost: a.com\r\n\r\n"),
            Case::new(format!("{name}: bad"), "GET / HTTP/1.1\r\nhost: a.com\r\na b: c\r\n\r\n"),
            Case::new(format!("{name}: no host"), "GET / HTTP/1.1\r\n\r\n"),
            with("answer 1xx", "")
                .origin(Reply::Answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        ]);
        lab.report()
    });
    check(&report);
}

#[test]
fn local_replies() {
    let mut lab = Yaml::routes(
        "- { match: { prefix: /d }, direct_response: { status: 500, body: { inline_string: direct } } }\n- { match: { prefix: /dead }, route: { cluster: dead } }\n- { match: { prefix: /up }, route: { cluster: c } }\n- { match: { connect_matcher: {} }, route: { cluster: c } }\n",
    )
    .hcm(
        "local_reply_config:\n  mappers:\n\
        \x20 - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 404, runtime_key: x } } } }\n    status_code: 410\n    body: { inline_string: gone }\n    headers_to_add: [{ header: { key: x-mapped, value: '%RESPONSE_CODE%' } }]\n\
        \x20 - filter: { response_flag_filter: { flags: [UF] } }\n    body_format_override: { json_format: { text: '%LOCAL_REPLY_BODY%', code: '%RESPONSE_CODE%', path: '%REQ(:path)%', flags: '%RESPONSE_FLAGS%' } }\n\
        \x20 - filter: { header_filter: { header: { name: x-html, present_match: true } } }\n    body_format_override: { text_format_source: { inline_string: '<b>%LOCAL_REPLY_BODY%</b>' }, content_type: 'text/html' }\n\
        \x20 body_format: { text_format_source: { inline_string: '%LOCAL_REPLY_BODY%|%RESPONSE_CODE%|%RESPONSE_CODE_DETAILS%' } }\n",
    )
    .filters(&filter("cors", "cors.v3.Cors", ""))
    .lab();
    lab.cases([
        Case::get("/missing"),
        Case::get("/d"),
        Case::get("/dead"),
        Case::get("/up"),
        Case::get("/up")
            .named("503 of the origin")
            .origin(Reply::Answer("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno")),
        Case::with("html", "/d", "x-html: 1\r\n"),
        Case::new("head", "HEAD /d HTTP/1.1\r\nhost: a.com\r\n\r\n"),
        Case::new("bad", "GET / HTTP/1.1\r\nhost: a.com\r\na b: c\r\n\r\n"),
        Case::new("no host", "GET / HTTP/1.1\r\n\r\n"),
        Case::new("connect refused", "CONNECT a.com:443 HTTP/1.1\r\n\r\n"),
        Case::new("connect bad", "CONNECT a.com HTTP/1.1\r\n\r\n"),
        Case::new("1.0", "GET / HTTP/1.0\r\nhost: a.com\r\n\r\n"),
    ]);
    lab.done();
}
