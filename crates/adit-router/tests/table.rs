//! Route tables from YAML, as the loader gives them: which route a request finds, and what it does to the request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use adit_config::proto::envoy::config::listener::v3::filter::ConfigType;
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use adit_config::{LoadOptions, Source, load, unpack};
use adit_filter::{Route, RouteTable as _, RuntimeValues};
use adit_http::{RequestHead, Scheme};
use http::{HeaderName, HeaderValue, Method};
use support::*;

/// A route configuration as a file has it, through the loader's own checks.
fn routes(yaml: &str) -> pb::RouteConfiguration {
    let indented: String = yaml.lines().map(|line| format!("            {line}\n")).collect();
    let text = format!(
        "static_resources:
  listeners:
  - name: l
    address: {{socket_address: {{address: 127.0.0.1, port_value: 1}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: t
          http_filters:
          - name: router
            typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
{indented}
  clusters:
  - {{name: c, connect_timeout: 1s}}
  - {{name: d, connect_timeout: 1s}}
"
    );
    let loaded =
        load(&[Source::new("t.yaml", &text)], &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let listener = &loaded.bootstrap.static_resources.as_ref().unwrap().listeners[0];
    let Some(ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else { panic!() };
    let manager: hcm::HttpConnectionManager = unpack(any).unwrap();
    let Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(config)) = manager.route_specifier else {
        panic!()
    };
    config
}

fn request(host: &str, path: &str) -> RequestHead {
    let mut head = get(path);
    head.authority = Some(host.parse().unwrap());
    head
}

fn with(mut head: RequestHead, name: &'static str, value: &str) -> RequestHead {
    head.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    head
}

fn found(config: &pb::RouteConfiguration, head: &RequestHead, random: u64) -> Option<Arc<dyn Route>> {
    table(config).unwrap_or_else(|errors| panic!("{errors:?}")).find(head, &info(), random)
}

fn name(config: &pb::RouteConfiguration, head: &RequestHead) -> String {
    found(config, head, 0).map_or("-".into(), |route| route.name().to_string())
}

#[test]
fn virtual_hosts_by_domain() {
    let host = |name: &str, domains: &str| {
        format!(
            "- name: {name}\n  domains: {domains}\n  routes: [{{name: {name}, match: {{prefix: /}}, route: {{cluster: c}}}}]\n"
        )
    };
    let yaml = format!(
        "virtual_hosts:\n{}{}{}{}{}{}",
        host("exact", "['example.com', 'proxy:8080']"),
        host("suffix", "['*.com', '*-bar.com']"),
        host("longer", "['*.example.com']"),
        host("prefix", "['foo.*', 'bar.*']"),
        host("longer-prefix", "['foo.bar.*']"),
        host("any", "['*']"),
    );
    let config = routes(&yaml);
    for (authority, expected) in [
        ("example.com", "exact"),
        ("EXAMPLE.com", "exact"),
        ("proxy:8080", "exact"),
        ("proxy", "any"),
        ("a.com", "suffix"),
        ("x-bar.com", "suffix"),
        ("a.example.com", "longer"),
        ("another.long.name.com", "suffix"),
        ("foo.org", "prefix"),
        ("bar.a.longer.org", "prefix"),
        ("foo.bar.org", "longer-prefix"),
        // The longest suffix wins over any prefix.
        ("foo.com", "suffix"),
        // A wildcard stands for something.
        (".com", "any"),
        ("example.com:443", "any"),
    ] {
        assert_eq!(name(&config, &request(authority, "/")), expected, "{authority}");
    }
    let ignoring = routes(&format!("ignore_port_in_host_matching: true\n{yaml}"));
    assert_eq!(name(&ignoring, &request("example.com:443", "/")), "exact");
    assert_eq!(name(&ignoring, &request("[::1]:443", "/")), "any");
}

#[test]
fn connect_finds_its_host_by_target_and_port() {
    let config = routes(
        "virtual_hosts:
- {name: a, domains: ['www.google.com:443'], routes: [{name: exact, match: {connect_matcher: {}}, route: {cluster: c}}]}
- {name: b, domains: ['*:8443'], routes: [{name: port, match: {connect_matcher: {}}, route: {cluster: c}}]}
- {name: c, domains: ['foo.com:*'], routes: [{name: host, match: {connect_matcher: {}}, route: {cluster: c}}]}
- name: d
  domains: ['*']
  routes:
  - {name: plain, match: {prefix: /}, route: {cluster: c}}
  - {name: header, match: {connect_matcher: {}, headers: [{name: foo, string_match: {exact: bar}}]}, route: {cluster: c}}
",
    );
    for (target, expected) in
        [("www.google.com:443", "exact"), ("any:8443", "port"), ("foo.com:1", "host"), ("other:1", "-")]
    {
        assert_eq!(name(&config, &connect(target)), expected, "{target}");
    }
    // A pathless request matches no path; connect_matcher matches CONNECT-UDP and no other upgrade.
    assert_eq!(name(&config, &with(connect("other:1"), "foo", "bar")), "header");
    let udp = || {
        let mut head = upgrade("connect-udp");
        head.authority = Some("www.google.com:443".parse().unwrap());
        head
    };
    assert_eq!(name(&config, &udp()), "exact");
    let mut websocket = udp();
    websocket.kind = upgrade("websocket").kind;
    assert_eq!(name(&config, &websocket), "-");
}

#[test]
fn routes_in_order() {
    let config = routes(
        "virtual_hosts:
- name: v
  domains: ['*']
  routes:
  - {name: path, match: {path: /exact}, route: {cluster: c}}
  - {name: nocase, match: {path: /NoCase, case_sensitive: false}, route: {cluster: c}}
  - {name: separated, match: {path_separated_prefix: /api/v1}, route: {cluster: c}}
  - {name: regex, match: {safe_regex: {regex: '/re/[0-9]+'}}, route: {cluster: c}}
  - {name: method, match: {prefix: /m, headers: [{name: ':method', string_match: {exact: POST}}]}, route: {cluster: c}}
  - {name: header, match: {prefix: /h, headers: [{name: x, present_match: true}]}, route: {cluster: c}}
  - {name: query, match: {prefix: /q, query_parameters: [{name: a, string_match: {exact: b}}]}, route: {cluster: c}}
  - {name: cookie, match: {prefix: /c, cookies: [{name: k, string_match: {exact: v}}]}, route: {cluster: c}}
  - {name: half, match: {prefix: /f, runtime_fraction: {default_value: {numerator: 50}, runtime_key: rk}}, route: {cluster: c}}
  - {name: rest, match: {prefix: /}, route: {cluster: c}}
",
    );
    let post = |path| {
        let mut head = get(path);
        head.method = Method::POST;
        head
    };
    for (head, expected) in [
        (get("/exact"), "path"),
        (get("/exact?query"), "path"),
        (get("/exact/"), "rest"),
        (get("/Exact"), "rest"),
        (get("/nOcASE"), "nocase"),
        (get("/api/v1"), "separated"),
        (get("/api/v1/x"), "separated"),
        (get("/api/v12"), "rest"),
        (get("/re/12?x"), "regex"),
        (get("/re/12x"), "rest"),
        (post("/m"), "method"),
        (get("/m"), "rest"),
        (with(get("/h"), "x", ""), "header"),
        (get("/h"), "rest"),
        (get("/q?z=1&a=b"), "query"),
        (get("/q?a=c"), "rest"),
        (with(get("/c"), "cookie", "j=1; k=v"), "cookie"),
        (get("/c"), "rest"),
    ] {
        assert_eq!(name(&config, &head), expected, "{:?}", head.path);
    }
    let runtime = RuntimeValues::default();
    let table = table_with(&config, runtime.clone()).unwrap();
    let hits = |_| (0..100).filter(|roll| &**table.find(&get("/f"), &info(), *roll).unwrap().name() == "half").count();
    assert_eq!(hits(()), 50);
    runtime.set("rk", "10");
    assert_eq!(hits(()), 10);
}

#[tokio::test(start_paused = true)]
async fn what_a_route_does_to_a_request() {
    let action = |action: &str| {
        routes(&format!(
            "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - match: {{prefix: /old}}\n    route: {{cluster: c, {action}}}\n"
        ))
    };
    // route action, path, path upstream, host upstream
    for (yaml, path, new_path, host) in [
        ("prefix_rewrite: /new", "/old/x?q=1", "/new/x?q=1", "host"),
        ("prefix_rewrite: /", "/old", "/", "host"),
        (
            r"regex_rewrite: {pattern: {regex: '^/old/([^/]+)(/.*)$'}, substitution: '\2/i/\1'}",
            "/old/a/b",
            "/b/i/a",
            "host",
        ),
        ("host_rewrite_literal: new.host", "/old", "/old", "new.host"),
        ("host_rewrite_header: x-host", "/old", "/old", "from.header"),
        (
            r"host_rewrite_path_regex: {pattern: {regex: '^/old/(.+)$'}, substitution: '\1.org'}",
            "/old/sub",
            "/old/sub",
            "sub.org",
        ),
        ("auto_host_rewrite: true", "/old", "/old", "chosen"),
    ] {
        let mut cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, ""))]);
        cluster.hostnames = &["chosen"];
        let head = with(get(path), "x-host", "from.header");
        let mut case =
            Case::new(&action(&format!("{yaml}, append_x_forwarded_host: true")), cluster, head, Half::empty());
        case.run().await;
        let seen = case.cluster.seen.lock().unwrap();
        let sent = &seen.heads[0].0;
        assert_eq!(
            (sent.path.as_ref().unwrap().as_str(), sent.authority.as_ref().unwrap().as_str()),
            (new_path, host),
            "{yaml}"
        );
        assert_eq!(sent.headers.contains_key("x-envoy-original-path"), new_path != path, "{yaml}");
        assert_eq!(sent.headers.contains_key("x-forwarded-host"), host != "host", "{yaml}");
        assert_eq!(case.stream.request.authority.as_ref().unwrap(), host);
    }
}

#[tokio::test(start_paused = true)]
async fn header_mutations_in_envoys_order() {
    let yaml = |wins: bool| {
        format!(
            "most_specific_header_mutations_wins: {wins}
request_headers_to_add:
- {{header: {{key: level, value: table}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
- {{header: {{key: who, value: '%DOWNSTREAM_REMOTE_ADDRESS%'}}}}
response_headers_to_remove: [secret]
virtual_hosts:
- name: v
  domains: ['*']
  request_headers_to_add:
  - {{header: {{key: level, value: host}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
  routes:
  - match: {{prefix: /}}
    route:
      weighted_clusters: {{clusters: [{{name: c, weight: 1, request_headers_to_remove: [gone], response_headers_to_add: [{{header: {{key: via-cluster, value: c}}}}]}}]}}
    request_headers_to_add:
    - {{header: {{key: level, value: route}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
"
        )
    };
    for (wins, expected) in [(false, "table"), (true, "route")] {
        let upstream = Upstream::new(vec![Ok(response(200, &[("secret", "x")]))], "");
        let head = with(get("/"), "gone", "1");
        let mut case =
            Case::new(&routes(&yaml(wins)), FakeCluster::new("c", vec![Attempt::Http(upstream)]), head, Half::empty());
        case.run().await;
        let seen = case.cluster.seen.lock().unwrap();
        let sent = &seen.heads[0].0.headers;
        assert_eq!(
            (&sent["level"], &sent["who"]),
            (&HeaderValue::from_static(expected), &HeaderValue::from_static("127.0.0.1:5000"))
        );
        assert!(!sent.contains_key("gone"));
        assert_eq!((case.client.header("secret"), case.client.header("via-cluster").as_deref()), (None, Some("c")));
    }
}

#[tokio::test(start_paused = true)]
async fn redirects() {
    for (redirect, status, location) in [
        ("https_redirect: true", 301, "https://host/old/x?q=1"),
        ("host_redirect: new.host, response_code: FOUND", 302, "http://new.host/old/x?q=1"),
        ("path_redirect: /p, port_redirect: 8443", 301, "http://host:8443/p?q=1"),
        ("path_redirect: '/p?z=2', response_code: SEE_OTHER", 303, "http://host/p?z=2"),
        ("prefix_rewrite: /new, strip_query: true, response_code: TEMPORARY_REDIRECT", 307, "http://host/new/x"),
        (r"regex_rewrite: {pattern: {regex: '^/old/(.*)$'}, substitution: '/\1/old'}", 301, "http://host/x/old?q=1"),
        ("scheme_redirect: ftp, response_code: PERMANENT_REDIRECT", 308, "ftp://host/old/x?q=1"),
    ] {
        let config = routes(&format!(
            "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - match: {{prefix: /old}}\n    redirect: {{{redirect}}}\n"
        ));
        let mut case = Case::new(&config, FakeCluster::new("c", vec![]), get("/old/x?q=1"), Half::empty());
        case.run().await;
        assert_eq!(
            (case.client.status(), case.client.header("location").as_deref()),
            (Some(status), Some(location)),
            "{redirect}"
        );
    }
    let config = routes(
        "virtual_hosts:\n- name: v\n  domains: ['*']\n  require_tls: ALL\n  routes: [{match: {prefix: /}, route: {cluster: c}}]\n",
    );
    let mut case = Case::new(&config, FakeCluster::new("c", vec![]), request("host:80", "/a?b"), Half::empty());
    case.run().await;
    assert_eq!(
        (case.client.status(), case.client.header("location").as_deref()),
        (Some(301), Some("https://host/a?b"))
    );
    let mut secure = get("/");
    secure.scheme = Scheme::Https;
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, ""))]);
    let mut case = Case::new(&config, cluster, secure, Half::empty());
    case.run().await;
    assert_eq!(case.client.status(), Some(200));
}

#[test]
fn weights_and_their_overrides() {
    let config = routes(
        "virtual_hosts:
- name: v
  domains: ['*']
  routes:
  - match: {prefix: /h}
    route: {weighted_clusters: {header_name: x-pick, clusters: [{name: c, weight: 30}, {name: d, weight: 70, typed_per_filter_config: {f: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}}]}}
  - match: {prefix: /}
    route: {weighted_clusters: {runtime_key_prefix: w, clusters: [{name: c, weight: 30}, {name: d, weight: 70, typed_per_filter_config: {f: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}}]}}
",
    );
    let runtime = RuntimeValues::default();
    let table = table_with(&config, runtime.clone()).unwrap();
    let second = |head: &RequestHead, random| {
        let route = table.find(head, &info(), random).unwrap();
        route.filter_config("f").is_some_and(|config| config.disabled == Some(true))
    };
    assert_eq!((0..100).filter(|random| second(&get("/"), *random)).count(), 70);
    runtime.set("w.d", "0");
    assert_eq!((0..100).filter(|random| second(&get("/"), *random)).count(), 0);
    assert!(!second(&with(get("/h"), "x-pick", "29"), 99));
    assert!(second(&with(get("/h"), "x-pick", "30"), 0));
}

#[test]
fn the_word_of_a_route_on_upgrades() {
    let config = routes(
        "virtual_hosts:
- name: v
  domains: ['*']
  routes:
  - match: {prefix: /}
    route: {cluster: c, idle_timeout: 0s, max_stream_duration: {max_stream_duration: 5s}, upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: foo, enabled: false}]}
",
    );
    let route = found(&config, &get("/"), 0).unwrap();
    assert_eq!(
        [route.upgrade("websocket"), route.upgrade("FOO"), route.upgrade("CONNECT")],
        [Some(true), Some(false), None]
    );
    assert_eq!(route.idle_timeout(), Some(std::time::Duration::ZERO));
    assert_eq!(route.max_stream_duration(), Some(std::time::Duration::from_secs(5)));
}

#[tokio::test(start_paused = true)]
async fn hashes() {
    let config = |policies: &str| {
        routes(&format!(
            "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - match: {{prefix: /}}\n    route: {{cluster: c, hash_policy: [{policies}]}}\n"
        ))
    };
    let hash = async |policies: &str, head: RequestHead| {
        let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, ""))]);
        let mut case = Case::new(&config(policies), cluster, head, Half::empty());
        case.run().await;
        let hash = case.cluster.seen.lock().unwrap().hashes[0];
        (hash, case.client.header("set-cookie"))
    };
    let header = "{header: {header_name: x}}";
    assert_eq!(hash(header, get("/")).await, (None, None));
    let one = hash(header, with(get("/"), "x", "1")).await.0.unwrap();
    assert_ne!(hash(header, with(get("/"), "x", "2")).await.0, Some(one));
    assert_eq!(hash("{query_parameter: {name: k}}", get("/?k=1")).await.0, Some(one));
    assert_eq!(
        hash(
            "{header: {header_name: x}, terminal: true}, {connection_properties: {source_ip: true}}",
            with(get("/"), "x", "1")
        )
        .await
        .0,
        Some(one)
    );
    assert!(hash("{connection_properties: {source_ip: true}}", get("/")).await.0.is_some());
    let (made, cookie) = hash("{cookie: {name: k, ttl: 60s, path: /}}", get("/")).await;
    let cookie = cookie.unwrap();
    assert!(made.is_some() && cookie.contains("; Max-Age=60; Path=/; HttpOnly"), "{cookie}");
    let again = hash("{cookie: {name: k}}", with(get("/"), "cookie", cookie.split(';').next().unwrap())).await;
    assert_eq!(again, (made, None));
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let mut config = routes(
        "name: r
virtual_hosts:
- {name: a, domains: [x, '*'], routes: [{match: {prefix: /}, route: {cluster: c}}]}
- name: b
  domains: ['b']
  routes:
  - {match: {prefix: /}, route: {cluster: c, retry_policy: {retry_on: 5xx}, upgrade_configs: [{upgrade_type: w}]}}
",
    );
    config.virtual_hosts[1].domains = vec!["X".into(), "*".into()];
    let route = &mut config.virtual_hosts[1].routes[0];
    route.typed_per_filter_config.insert("f".into(), prost_types::Any { type_url: "t/Bad".into(), value: vec![] });
    let Some(pb::route::Action::Route(action)) = &mut route.action else { panic!() };
    action.cluster_specifier = Some(pb::route_action::ClusterSpecifier::Cluster("missing".into()));
    action.retry_policy.as_mut().unwrap().retry_on = "5xx,envoy-ratelimited".into();
    action.upgrade_configs.push(pb::route_action::UpgradeConfig {
        upgrade_type: "W".into(),
        enabled: None,
        connect_config: Some(Default::default()),
    });
    let errors: Vec<String> = table(&config).err().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "virtual_hosts[1].domains[0]: Only unique values for domains are permitted. Duplicate entry of domain x in route r",
            "virtual_hosts[1].domains[1]: Only a single wildcard domain is permitted in route r",
            "virtual_hosts[1].routes[0].typed_per_filter_config[f]: bad",
            "virtual_hosts[1].routes[0].route.cluster: route: unknown cluster 'missing'",
            "virtual_hosts[1].routes[0].route.retry_policy.retry_on: 'envoy-ratelimited' is not a condition that is supported",
            "virtual_hosts[1].routes[0].route.upgrade_configs[1]: Duplicate upgrade W",
            "virtual_hosts[1].routes[0].route.upgrade_configs[1]: Non-CONNECT upgrade type W has ConnectConfig",
        ]
    );
    config.validate_clusters = Some(false);
    assert!(table(&config).err().unwrap().iter().all(|error| !error.message.contains("unknown cluster")));
}
