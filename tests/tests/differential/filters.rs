//! HTTP filters, and what routes say about them.

use crate::case::{Case, OK};
use crate::origin::Reply;
use crate::yaml::{Yaml, filter};

const ANY: &str = "type.googleapis.com/envoy.extensions.filters.http.";

#[test]
fn buffer_and_mutation() {
    let mut lab = Yaml::routes(&format!(
        "- match: {{ prefix: /off }}\n  route: {{ cluster: c }}\n  typed_per_filter_config:\n    buffer: {{ '@type': {ANY}buffer.v3.BufferPerRoute, disabled: true }}\n\
         - match: {{ prefix: /more }}\n  route: {{ cluster: c }}\n  typed_per_filter_config:\n    buffer: {{ '@type': {ANY}buffer.v3.BufferPerRoute, buffer: {{ max_request_bytes: 100 }} }}\n\
         - match: {{ prefix: /flag }}\n  route: {{ cluster: c }}\n  typed_per_filter_config:\n    buffer: {{ '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true }}\n\
         - match: {{ prefix: /mut }}\n  route: {{ cluster: c }}\n  typed_per_filter_config:\n    mutation:\n      '@type': {ANY}header_mutation.v3.HeaderMutationPerRoute\n      mutations: {{ request_mutations: [{{ append: {{ header: {{ key: r, value: route }} }} }}] }}\n\
         - match: {{ prefix: / }}\n  route: {{ cluster: c }}\n"
    ))
    .hcm("upgrade_configs: [{ upgrade_type: websocket }]\n")
    .filters(&filter("buffer", "buffer.v3.Buffer", "max_request_bytes: 10\n"))
    .filters(&filter(
        "mutation",
        "header_mutation.v3.HeaderMutation",
        "mutations:\n  request_mutations:\n  - remove: gone\n  - append: { header: { key: a, value: '%REQ(b)%' }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }\n  - append: { header: { key: c, value: new } }\n  response_mutations:\n  - remove: x-gone\n  - append: { header: { key: d, value: '%RESPONSE_CODE%' } }\n",
    ))
    .lab();
    let post = |path: &str, body: &str| {
        Case::new(
            format!("{path} {}", body.len()),
            format!("POST {path} HTTP/1.1\r\nhost: a.com\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        )
    };
    let chunked = |path: &str| {
        Case::new(
            format!("{path} chunked"),
            format!("POST {path} HTTP/1.1\r\nhost: a.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        )
    };
    lab.cases([
        Case::get("/"),
        post("/", "hello"),
        post("/", "hello hello hello"),
        post("/off", "hello hello hello"),
        post("/more", "hello hello hello"),
        post("/flag", "hello hello hello"),
        chunked("/"),
        chunked("/off"),
        Case::with("mutation", "/mut", "gone: 1\r\na: 1\r\nb: 2\r\nc: 1\r\n")
            .origin(Reply::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-gone: 1\r\n\r\n")),
        Case::new(
            "upgrade too large",
            "GET / HTTP/1.1\r\nhost: a.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello hello hello",
        ),
        Case::with("upgrade off", "/off", "connection: upgrade\r\nupgrade: websocket\r\n")
            .origin(Reply::Tunnel("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")),
    ]);
    lab.done();
}

#[test]
fn cors() {
    let mut lab = Yaml::hosts(&format!(
        "- name: all\n  domains: ['*']\n  typed_per_filter_config:\n    cors:\n      '@type': {ANY}cors.v3.CorsPolicy\n      allow_origin_string_match: [{{ exact: 'http://good.com' }}]\n      allow_methods: GET, POST\n      allow_headers: x-a\n      expose_headers: x-b\n      max_age: '100'\n      allow_credentials: true\n  routes:\n  - match: {{ prefix: / }}\n    route: {{ cluster: c }}\n"
    ))
    .filters(&filter("cors", "cors.v3.Cors", ""))
    .lab();
    let options =
        |name: &str, fields: &str| Case::new(name, format!("OPTIONS / HTTP/1.1\r\nhost: a.com\r\n{fields}\r\n"));
    lab.cases([
        Case::get("/"),
        Case::with("good origin", "/", "origin: http://good.com\r\n"),
        Case::with("bad origin", "/", "origin: http://bad.com\r\n"),
        options("preflight", "origin: http://good.com\r\naccess-control-request-method: POST\r\n"),
        options("preflight bad", "origin: http://bad.com\r\naccess-control-request-method: POST\r\n"),
        options("no preflight", "origin: http://good.com\r\n"),
    ]);
    lab.done();
}

#[test]
fn fault() {
    let mut lab = Yaml::routes("- { match: { prefix: /other }, route: { cluster: dead } }\n- { match: { prefix: / }, route: { cluster: c } }\n")
        .filters(&filter("fault", "fault.v3.HTTPFault", "abort: { header_abort: {}, percentage: { numerator: 100 } }\ndelay: { header_delay: {}, percentage: { numerator: 100 } }\n"))
        .filters(&filter("fault2", "fault.v3.HTTPFault", "abort: { http_status: 403, percentage: { numerator: 100 } }\nheaders: [{ name: x-teapot, present_match: true }]\n"))
        .lab();
    lab.cases([
        Case::get("/"),
        Case::with("abort", "/", "x-envoy-fault-abort-request: 503\r\n"),
        Case::with("abort bad", "/", "x-envoy-fault-abort-request: 42\r\n"),
        Case::with(
            "abort none",
            "/",
            "x-envoy-fault-abort-request: 503\r\nx-envoy-fault-abort-request-percentage: 0\r\n",
        ),
        Case::with("delay", "/", "x-envoy-fault-delay-request: 100\r\n"),
        Case::with("both", "/", "x-envoy-fault-delay-request: 100\r\nx-envoy-fault-abort-request: 503\r\n"),
        Case::with("teapot", "/", "x-teapot: 1\r\n"),
        Case::new("connect", "CONNECT a.com:443 HTTP/1.1\r\nx-teapot: 1\r\n\r\n"),
    ]);
    lab.done();
}

#[test]
fn rbac_and_limits() {
    let mut lab = Yaml::routes(&format!(
        "- match: {{ prefix: /free }}\n  route: {{ cluster: c }}\n  typed_per_filter_config:\n    rbac: {{ '@type': {ANY}rbac.v3.RBACPerRoute }}\n- match: {{ connect_matcher: {{}} }}\n  route: {{ cluster: c, upgrade_configs: [{{ upgrade_type: CONNECT }}] }}\n- match: {{ prefix: /limited }}\n  route: {{ cluster: c }}\n  typed_per_filter_config:\n    limit:\n      '@type': {ANY}local_ratelimit.v3.LocalRateLimit\n      stat_prefix: lim\n      token_bucket: {{ max_tokens: 1, fill_interval: 100s }}\n      filter_enabled: {{ default_value: {{ numerator: 100 }} }}\n      filter_enforced: {{ default_value: {{ numerator: 100 }} }}\n      response_headers_to_add: [{{ header: {{ key: x-limited, value: 'yes' }} }}]\n      status: {{ code: 503 }}\n- match: {{ prefix: / }}\n  route: {{ cluster: c }}\n"
    ))
    .filters(&filter(
        "rbac",
        "rbac.v3.RBAC",
        "rules:\n  action: DENY\n  policies:\n    bad:\n      permissions: [{ header: { name: x-bad, present_match: true } }]\n      principals: [{ any: true }]\n    path:\n      permissions: [{ url_path: { path: { prefix: /secret } } }]\n      principals: [{ direct_remote_ip: { address_prefix: 127.0.0.0, prefix_len: 8 } }]\nshadow_rules:\n  action: ALLOW\n  policies:\n    none:\n      permissions: [{ header: { name: x-shadow, present_match: true } }]\n      principals: [{ any: true }]\n",
    ))
    .filters(&filter("limit", "local_ratelimit.v3.LocalRateLimit", "stat_prefix: lim\n"))
    .lab();
    lab.cases([
        Case::get("/"),
        Case::with("denied", "/", "x-bad: 1\r\n"),
        Case::with("free", "/free", "x-bad: 1\r\n"),
        Case::with("shadow", "/", "x-shadow: 1\r\n"),
        Case::get("/secret"),
        Case::new("connect denied", "CONNECT a.com:443 HTTP/1.1\r\nx-bad: 1\r\n\r\n"),
        Case::new("connect", "CONNECT a.com:443 HTTP/1.1\r\n\r\n").origin(Reply::Tunnel("HTTP/1.1 200 OK\r\n\r\n")),
        Case::get("/limited").named("first"),
        Case::get("/limited").named("second"),
    ]);
    lab.done();
}

#[test]
fn filter_state_and_hashes() {
    let mut lab = Yaml::routes(
        "- { match: { prefix: /cookie }, route: { cluster: ring, hash_policy: [{ cookie: { name: stick, ttl: 100s, path: / } }] } }\n- { match: { prefix: /header }, route: { cluster: ring, hash_policy: [{ header: { header_name: x-h } }] } }\n- { match: { prefix: /ip }, route: { cluster: ring, hash_policy: [{ connection_properties: { source_ip: true } }] } }\n- { match: { prefix: /mirror }, route: { cluster: c, request_mirror_policies: [{ cluster: mirror }] } }\n- { match: { prefix: /count }, route: { cluster: c } }\n- { match: { prefix: / }, route: { cluster: c } }\n",
    )
    .filters(&filter(
        "state",
        "set_filter_state.v3.Config",
        "on_request_headers:\n- { object_key: k, factory_key: envoy.string, format_string: { text_format_source: { inline_string: 'v-%REQ(:path)%' } } }\n- { object_key: e, factory_key: envoy.string, format_string: { text_format_source: { inline_string: '%REQ(none)%' } }, skip_if_empty: true }\n",
    ))
    .log("state=%FILTER_STATE(k:PLAIN)% %FILTER_STATE(k)% %FILTER_STATE(e:PLAIN)%|")
    .clusters("- name: ring\n  connect_timeout: 1s\n  lb_policy: RING_HASH\n  load_assignment: { cluster_name: ring, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: @ORIGIN@ } } } }] }] }\n- name: mirror\n  connect_timeout: 1s\n  load_assignment: { cluster_name: mirror, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: @ORIGIN@ } } } }] }] }\n")
    .lab();
    lab.cases([
        Case::get("/x"),
        Case::with("no cookie", "/cookie", "").differs(&[crate::case::Part::Answer], "the cookie's value is random"),
        Case::with("cookie", "/cookie", "cookie: stick=abc\r\n"),
        Case::with("header", "/header", "x-h: 1\r\n"),
        Case::get("/ip"),
        Case::get("/mirror").named("mirrored").script(vec![Reply::Answer(OK)]),
        Case::new("mirrored body", "POST /mirror HTTP/1.1\r\nhost: a.com:80\r\ncontent-length: 5\r\n\r\nhello"),
    ]);
    lab.done();
}
