//! Each class of mistake, with its line, path and words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{errors, errors_of, http, listener, tcp, warnings};

#[track_caller]
fn assert_errors(text: &str, expected: &[&str]) {
    let found = errors(text);
    assert_eq!(found, expected, "\n{}", found.join("\n"));
}

#[test]
fn unknown_field_with_a_hint() {
    assert_errors(
        "admin:\n  adress: {}\n",
        &[
            "x.yaml: line 2: admin.adress: unknown field 'adress' in envoy.config.bootstrap.v3.Admin; did you mean 'address'?",
        ],
    );
    assert_errors("zzz: 1\n", &["x.yaml: line 1: zzz: unknown field 'zzz' in envoy.config.bootstrap.v3.Bootstrap"]);
}

#[test]
fn all_problems_are_found_in_one_run() {
    let text = "\
static_resources:
  listners: []
  clusters:
  - name: a
    connect_timeout: 5
    lb_policy: ROUND_ROBBIN
  - name: a
    type: STATIC
  - connect_timeout: 0s
";
    assert_errors(
        text,
        &[
            "x.yaml: line 2: static_resources.listners: unknown field 'listners' in \
             envoy.config.bootstrap.v3.Bootstrap.StaticResources; did you mean 'listeners'?",
            "x.yaml: line 5: static_resources.clusters[0].connect_timeout: expected a duration like '0.25s', found '5'",
            "x.yaml: line 6: static_resources.clusters[0].lb_policy: 'ROUND_ROBBIN' is no value of \
             envoy.config.cluster.v3.Cluster.LbPolicy; did you mean 'ROUND_ROBIN'?",
            "x.yaml: line 7: static_resources.clusters[1].name: cluster manager: duplicate cluster 'a'",
            "x.yaml: line 9: static_resources.clusters[2].connect_timeout: value must be greater than 0s",
            "x.yaml: line 9: static_resources.clusters[2].name: value length must be at least 1 characters",
        ],
    );
}

#[test]
fn what_follows_from_a_mistake_is_not_a_mistake() {
    assert_errors(
        "static_resources: {clusters: [7, {nam: a}]}\n",
        &[
            "x.yaml: line 1: static_resources.clusters[0]: expected a mapping, found the number 7",
            "x.yaml: line 1: static_resources.clusters[1].nam: unknown field 'nam' in \
             envoy.config.cluster.v3.Cluster; did you mean 'name'?",
        ],
    );
    // Two mistakes in one message are two.
    assert_errors(
        "static_resources: {clusters: [{name: '', lb_policy: NONE}]}\n",
        &[
            "x.yaml: line 1: static_resources.clusters[0].lb_policy: 'NONE' is no value of \
             envoy.config.cluster.v3.Cluster.LbPolicy",
            "x.yaml: line 1: static_resources.clusters[0].name: value length must be at least 1 characters",
        ],
    );
}

#[test]
fn wrong_types() {
    let path = "static_resources.listeners[0]";
    for (field, value, why) in [
        ("freebind", "maybe", "expected a boolean, found 'maybe'"),
        ("freebind", "'on'", "expected a boolean, found 'on'"),
        ("freebind", "{value: maybe}", "freebind.value: expected a boolean, found 'maybe'"),
        ("listener_filters_timeout", "{seconds: -1}", "a duration may not be negative"),
        ("listener_filters_timeout", "{nanos: 1000000000}", "a duration is out of range"),
        ("freebind", "1", "expected a boolean, found the number 1"),
        ("freebind", "[true]", "expected a boolean, found a list"),
        ("stat_prefix", "7", "expected a string, found the number 7 (put it in quotes)"),
        ("stat_prefix", "on", "expected a string, found the boolean on (put it in quotes)"),
        ("stat_prefix", "{a: b}", "expected a string, found a mapping"),
        ("tcp_backlog_size", "x", "expected an unsigned 32-bit integer, found 'x'"),
        ("tcp_backlog_size", "-1", "-1 is out of range for an unsigned 32-bit integer"),
        ("tcp_backlog_size", "4294967296", "4294967296 is out of range for an unsigned 32-bit integer"),
        ("tcp_backlog_size", "1.5", "expected an unsigned 32-bit integer, found '1.5'"),
        ("filter_chains", "{}", "expected a list, found a mapping"),
        ("socket_options", "[7]", "expected a mapping, found the number 7"),
        ("metadata", "[]", "expected a mapping, found a list"),
        (
            "listener_filters_timeout",
            "-1s",
            "expected a duration like '0.25s', found '-1s': a duration may not be negative",
        ),
        ("listener_filters_timeout", "1m", "expected a duration like '0.25s', found '1m'"),
        (
            "listener_filters_timeout",
            "999999999999s",
            "expected a duration like '0.25s', found '999999999999s': out of range",
        ),
        ("listener_filters_timeout", "0.1234567891s", "expected a duration like '0.25s', found '0.1234567891s'"),
        ("drain_type", "SOMETIMES", "'SOMETIMES' is no value of envoy.config.listener.v3.Listener.DrainType"),
    ] {
        let found = errors(&listener(&format!("    {field}: {value}\n")));
        let rest: Vec<_> = found.iter().filter(|text| text.contains(&format!("{path}.{field}"))).collect();
        assert_eq!(rest.len(), 1, "{field}: {value}: {found:?}");
        assert!(rest[0].contains("line 3") && rest[0].ends_with(why), "{field}: {value}: {}", rest[0]);
    }
}

#[test]
fn oneofs_duplicates_and_twins() {
    let text =
        listener("    address:\n      pipe: {path: /a}\n      socket_address: {address: 127.0.0.1, port_value: 1}\n");
    assert_errors(
        &text,
        &["x.yaml: line 5: static_resources.listeners[0].address.socket_address: 'socket_address' and 'pipe' \
           exclude each other: only one of address may be set"],
    );
    assert_errors("node:\n  id: a\n  id: b\n", &["x.yaml: line 3: duplicate key 'id'"]);
    assert_errors(
        "stats_flush_interval: 1s\nnode: {}\nstatsFlushInterval: 1s\n",
        &["x.yaml: line 3: stats_flush_interval: 'statsFlushInterval' is the same field as 'stats_flush_interval'"],
    );
}

#[test]
fn rules_of_the_schema() {
    assert_errors(
        "admin:\n  address: {}\n",
        &["x.yaml: line 2: admin.address: address is required: one of socket_address, pipe, envoy_internal_address"],
    );
    assert_errors(
        "admin:\n  address:\n    socket_address: {address: '', port_value: 65536}\n",
        &[
            "x.yaml: line 3: admin.address.socket_address.address: value length must be at least 1 characters",
            "x.yaml: line 3: admin.address.socket_address.port_value: value must be less than or equal to 65535",
        ],
    );
    assert_errors(
        "stats_flush_interval: 301s\n",
        &["x.yaml: line 1: stats_flush_interval: value must be inside range [0.001s, 300s)"],
    );
    assert_errors("stats_flush_on_admin: false\n", &["x.yaml: line 1: stats_flush_on_admin: value must equal true"]);
    assert_errors(
        &tcp("stat_prefix: ''\n            cluster: a\n            max_connect_attempts: 0"),
        &[
            "x.yaml: line 9: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefix: \
             value length must be at least 1 characters",
            "x.yaml: line 11: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.\
             max_connect_attempts: value must be greater than or equal to 1",
        ],
    );
}

#[test]
fn extensions() {
    let at = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let filter = |config: &str| {
        listener(&format!("    filter_chains:\n    - filters:\n      - name: f\n        typed_config: {config}\n"))
    };
    let found = |config: &str| -> String {
        let found = errors(&filter(config));
        found.iter().find(|text| text.contains(at)).unwrap_or_else(|| panic!("{found:?}")).clone()
    };
    assert_eq!(
        found("{stat_prefix: a}"),
        format!("x.yaml: line 6: {at}: '@type' is missing: an extension is chosen by it, not by its name")
    );
    assert_eq!(
        found("{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxi}"),
        format!(
            "x.yaml: line 6: {at}.@type: unknown @type \
             'type.googleapis.com/envoy.extensions.filters.network.tcp_pro...'; did you mean \
             'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy'?"
        )
    );
    assert_eq!(
        found("{'@type': type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy}"),
        format!(
            "x.yaml: line 6: {at}.@type: extension envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy \
             is not implemented by adit"
        )
    );
    assert_eq!(
        found("{'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: a}"),
        format!(
            "x.yaml: line 6: {at}.@type: xds.type.v3.TypedStruct is not implemented by adit: give the message itself"
        )
    );
    assert_eq!(
        found("{'@type': TcpProxy}"),
        format!("x.yaml: line 6: {at}.@type: 'TcpProxy' is not of the form type.googleapis.com/NAME")
    );
}

#[test]
fn the_top_of_the_file() {
    assert_errors(
        "admin: {address: {socket_address: {address: here, port_value: 1}}}\n",
        &["x.yaml: line 1: admin.address.socket_address.address: malformed IP address: here"],
    );
    assert_errors(
        "admin: {address: {pipe: {path: /a}}}\n",
        &["x.yaml: line 1: admin.address: the admin interface of adit has a socket_address"],
    );
    assert_errors(
        "layered_runtime:\n  layers:\n  - {name: a, admin_layer: {}}\n  - {name: a, static_layer: {}}\n",
        &["x.yaml: line 4: layered_runtime.layers[1].name: Duplicate layer name: a"],
    );
    let long = "a".repeat(108);
    let text = format!(
        "static_resources:\n  clusters:\n  - name: a\n    load_assignment: {{cluster_name: a, endpoints: [{{lb_endpoints: \
         [{{endpoint: {{address: {{pipe: {{path: {long}}}}}}}}}]}}]}}\n"
    );
    assert_errors(
        &text,
        &[
            "x.yaml: line 4: static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: \
           the path of a Unix socket has at most 107 bytes",
        ],
    );
    assert_errors(
        "static_resources:\n  clusters:\n  - name: a\n    original_dst_lb_config: {http_header_name: x}\n",
        &[
            "x.yaml: line 4: static_resources.clusters[0].original_dst_lb_config.http_header_name: http_header_name is set and \
           use_http_header is false",
        ],
    );
}

#[test]
fn several_health_checks_have_names() {
    let check = "timeout: 1s, interval: 1s, healthy_threshold: 1, unhealthy_threshold: 1, tcp_health_check: {}";
    let with = |first: &str, second: &str| {
        format!(
            "static_resources:\n  clusters:\n  - name: a\n    health_checks:\n    - {{ {first}{check} }}\n    - {{ {second}{check} }}\n"
        )
    };
    assert_errors(&with("name: a, ", "name: b, "), &[]);
    let place = "static_resources.clusters[0].health_checks[1].name";
    assert_errors(
        &with("name: a, ", ""),
        &[&format!(
            "x.yaml: line 6: {place}: health check at index 1 is missing a name; all health checks must have a name when multiple health checks are configured"
        )],
    );
    assert_errors(
        &with("name: a, ", "name: a, "),
        &[&format!(
            "x.yaml: line 6: {place}: duplicate health check name 'a' at index 1; all health check names must be unique within a cluster"
        )],
    );
}

#[test]
fn what_adit_does_not_implement() {
    assert_errors(
        "watchdogs: {}\n",
        &[
            "x.yaml: line 1: watchdogs: field watchdogs of envoy.config.bootstrap.v3.Bootstrap is not implemented by adit",
        ],
    );
    assert_errors(
        &tcp("stat_prefix: a\n            cluster: a\n            downstream_idle_timeout: 1s"),
        &["x.yaml: line 11: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.\
           downstream_idle_timeout: field downstream_idle_timeout of \
           envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy is not implemented by adit"],
    );
}

#[test]
fn documents() {
    for text in ["", "# nothing\n", "---\n", "~\n"] {
        assert_errors(text, &["x.yaml: the configuration is empty"]);
    }
    assert_errors("[1]\n", &["x.yaml: the configuration must be a mapping, found a list"]);
    assert_errors("word\n", &["x.yaml: the configuration must be a mapping, found 'word'"]);
    let found = errors("admin: {\n");
    assert!(found.len() == 1 && found[0].starts_with("x.yaml: line ") && found[0].contains("not YAML"), "{found:?}");
    assert!(errors("a: *b\n")[0].contains("not YAML"));
    assert_eq!(warnings("admin: {}\n---\nadmin: 5\n"), ["x.yaml: line 3: only the first YAML document is read"]);
}

#[test]
fn routes() {
    let host = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0]";
    let route = |route: &str| http("", &format!("{{match: {{prefix: /}}, {route}}}"));
    assert_errors(
        &route("route: {cluster: zz}"),
        &[&format!("x.yaml: line 18: {host}.routes[0].route.cluster: route: unknown cluster 'zz'")],
    );
    assert_errors(
        &route("route: {weighted_clusters: {clusters: [{name: zz, weight: 1}]}}"),
        &[&format!(
            "x.yaml: line 18: {host}.routes[0].route.weighted_clusters.clusters[0].name: route: unknown weighted cluster 'zz'"
        )],
    );
    assert_errors(
        &route("route: {cluster: a, request_mirror_policies: [{cluster: zz}]}"),
        &[&format!(
            "x.yaml: line 18: {host}.routes[0].route.request_mirror_policies[0].cluster: route: unknown shadow cluster 'zz'"
        )],
    );
    assert_errors(
        &route("route: {cluster: a, upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: websocket}]}"),
        &[&format!(
            "x.yaml: line 18: {host}.routes[0].route.upgrade_configs[1].upgrade_type: Duplicate upgrade websocket"
        )],
    );
    assert_errors(
        &route("route: {cluster: a, upgrade_configs: [{upgrade_type: websocket, connect_config: {}}]}"),
        &[&format!(
            "x.yaml: line 18: {host}.routes[0].route.upgrade_configs[0].connect_config: Non-CONNECT upgrade type \
             websocket has ConnectConfig"
        )],
    );
    assert_errors(
        &route("route: {cluster: a}, request_headers_to_add: [{header: {key: Host, value: a}}]"),
        &[&format!(
            "x.yaml: line 18: {host}.routes[0].request_headers_to_add[0]: :-prefixed or host headers may not be modified"
        )],
    );
    assert_errors(
        &route("route: {cluster: a}, request_headers_to_remove: [':path']"),
        &[&format!(
            "x.yaml: line 18: {host}.routes[0].request_headers_to_remove[0]: :-prefixed or host headers may not be removed"
        )],
    );
    assert_errors(&http("validate_clusters: false", "{match: {prefix: /}, route: {cluster: zz}}"), &[]);
}

#[test]
fn domains() {
    let text =
        http("", "{match: {prefix: /}, route: {cluster: a}}").replace("domains: ['*']", "domains: [A, a, '*', '*']");
    let host = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0]";
    assert_errors(
        &text,
        &[
            &format!(
                "x.yaml: line 17: {host}.domains[1]: Only unique values for domains are permitted. Duplicate entry of domain a in route r"
            ),
            &format!("x.yaml: line 17: {host}.domains[3]: Only a single wildcard domain is permitted in route r"),
        ],
    );
}

#[test]
fn connection_manager() {
    let good = http("", "{match: {prefix: /}, route: {cluster: a}}");
    let at = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let with = |line: &str| {
        good.replace("            stat_prefix: s\n", &format!("            stat_prefix: s\n            {line}\n"))
    };
    assert_errors(
        &with("upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: WebSocket}]"),
        &[&format!(
            "x.yaml: line 10: {at}.upgrade_configs[1].upgrade_type: Error: multiple upgrade configs with the same \
             name: 'WebSocket'"
        )],
    );
    assert_errors(
        &with("strip_matching_host_port: true\n            strip_any_host_port: true"),
        &[&format!(
            "x.yaml: line 11: {at}.strip_any_host_port: Error: Only one of `strip_matching_host_port` or \
             `strip_any_host_port` can be set."
        )],
    );
    let buffer = "{name: b, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1}}";
    assert_errors(
        &with(&format!("upgrade_configs: [{{upgrade_type: websocket, filters: [{buffer}]}}]")),
        &[&format!(
            "x.yaml: line 10: {at}.upgrade_configs[0].filters[0]: Error: non-terminal filter named b of type \
             envoy.filters.http.buffer is the last filter in a http upgrade filter chain."
        )],
    );
}

#[test]
fn filter_order() {
    let filters = "static_resources.listeners[0].filter_chains[0].filters";
    let echo = "{name: e, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}";
    let two = tcp(&format!("stat_prefix: a\n            cluster: a\n      - {echo}"));
    assert_errors(
        &two,
        &[&format!(
            "x.yaml: line 6: {filters}[0]: Error: terminal filter named tcp of type envoy.filters.network.tcp_proxy \
             must be the last filter in a network filter chain."
        )],
    );
}

#[test]
fn tcp_proxies() {
    let at = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let with = |rest: &str| tcp(&format!("stat_prefix: a\n            cluster: a\n            {rest}"));
    assert_errors(
        &with("tunneling_config: {hostname: h, post_path: /a}"),
        &[&format!(
            "x.yaml: line 11: {at}.tunneling_config.post_path: Can't set a post path when POST method isn't used"
        )],
    );
    assert_errors(
        &with("backoff_options: {base_interval: 2s, max_interval: 1s}"),
        &[&format!(
            "x.yaml: line 11: {at}.backoff_options.max_interval: max_backoff_interval must be greater or equal to \
             base_backoff_interval"
        )],
    );
    assert_errors(
        &with("upstream_connect_mode: ON_DOWNSTREAM_DATA"),
        &[&format!(
            "x.yaml: line 11: {at}.upstream_connect_mode: max_early_data_bytes must be set when \
             upstream_connect_mode is not IMMEDIATE"
        )],
    );
    assert_errors(&with("upstream_connect_mode: ON_DOWNSTREAM_DATA\n            max_early_data_bytes: 0"), &[]);
    assert_errors(
        &with("tunneling_config: {hostname: h, headers_to_add: [{header: {key: ':a', value: b}}]}"),
        &[&format!(
            "x.yaml: line 11: {at}.tunneling_config.headers_to_add[0]: :-prefixed or host headers may not be modified"
        )],
    );
    assert_eq!(
        warnings(&tcp("stat_prefix: a\n            cluster: zz")),
        [format!("x.yaml: line 10: {at}.cluster: there is no cluster 'zz': connections will be closed")]
    );
}

/// They are accepted as in Envoy, where nearly no socket ever has that state.
#[test]
fn socket_options_of_upstreams_for_later_states_are_warned_of() {
    let text = "cluster_manager:
  upstream_bind_config:
    socket_options:
    - { level: 0, name: 1, int_value: 8, type: { stream: {} }, ip_version: SOCKET_IP_VERSION_IPV4 }
    - { level: 0, name: 1, int_value: 8, state: STATE_BOUND }
static_resources:
  clusters:
  - name: a
    upstream_bind_config:
      socket_options: [{ level: 0, name: 1, int_value: 8, state: STATE_LISTENING, type: { datagram: {} } }]
  listeners:
  - name: l
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    socket_options: [{ level: 0, name: 1, int_value: 8, state: STATE_LISTENING }]
    filter_chains: [{}]
";
    let why = "set on the sockets of HTTP/3 only, as in Envoy; an option for all is STATE_PREBIND";
    assert_eq!(
        warnings(text),
        [
            format!("x.yaml: line 5: cluster_manager.upstream_bind_config.socket_options[1].state: {why}"),
            format!(
                "x.yaml: line 10: static_resources.clusters[0].upstream_bind_config.socket_options[0].state: {why}"
            ),
        ]
    );
}

#[test]
fn listeners() {
    let two = |a: &str, b: &str| format!("static_resources:\n  listeners:\n  - {a}\n  - {b}\n");
    let address =
        |host: &str, port: u16| format!("address: {{socket_address: {{address: {host}, port_value: {port}}}}}");
    assert_errors(
        &two(
            &format!("{{name: a, {}}}", address("127.0.0.1", 1)),
            &format!("{{name: b, {}}}", address("127.0.0.1", 1)),
        ),
        &["x.yaml: line 4: static_resources.listeners[1].address: error adding listener: 'b' has duplicate address \
           '127.0.0.1:1' as existing listener 'a'"],
    );
    // Port 0 is another one each time, and UDP is not TCP.
    let udp = "address: {socket_address: {address: 127.0.0.1, port_value: 1, protocol: UDP}}";
    assert_errors(&two(&format!("{{name: a, {}}}", address("127.0.0.1", 1)), &format!("{{name: b, {udp}}}")), &[]);
    assert_errors(
        &two(
            &format!("{{name: a, {}}}", address("127.0.0.1", 0)),
            &format!("{{name: b, {}}}", address("127.0.0.1", 0)),
        ),
        &[],
    );
    assert_errors(
        &two(&format!("{{name: a, {}}}", address("127.0.0.1", 1)), &format!("{{name: a, {}}}", address("'::1'", 1))),
        &["x.yaml: line 4: static_resources.listeners[1].name: error adding listener: duplicate listener name 'a'"],
    );
    assert_errors(
        "static_resources: {listeners: [{name: a}]}\n",
        &["x.yaml: line 1: static_resources.listeners[0]: error adding listener named 'a': address is necessary"],
    );
}

#[test]
fn internal_listeners() {
    let with = |field: &str, extension: bool| {
        let mut text =
            format!("static_resources:\n  listeners:\n  - name: i\n    internal_listener: {{}}\n    {field}\n");
        if extension {
            text += "bootstrap_extensions:\n- name: e\n  typed_config:\n    '@type': type.googleapis.com/\
                     envoy.extensions.bootstrap.internal_listener.v3.InternalListener\n";
        }
        text
    };
    let at = "static_resources.listeners[0]";
    assert_errors(&with("listener_filters_timeout: 1s", true), &[]);
    assert_errors(
        &with("listener_filters_timeout: 1s", false),
        &[&format!(
            "x.yaml: line 4: {at}.internal_listener: error adding listener named 'i': InternalListener bootstrap \
             extension is mandatory"
        )],
    );
    for field in [
        "enable_reuse_port: false",
        "freebind: true",
        "tcp_backlog_size: 1",
        "connection_balance_config: {exact_balance: {}}",
    ] {
        let name = field.split(':').next().unwrap();
        assert_errors(
            &with(field, true),
            &[&format!(
                "x.yaml: line 5: {at}.{name}: error adding listener named 'i': has unsupported tcp listener feature"
            )],
        );
    }
    assert_errors(
        &with("socket_options: [{level: 1, name: 1, int_value: 1}]", true),
        &[&format!(
            "x.yaml: line 5: {at}.socket_options: error adding listener named 'i': does not support socket option"
        )],
    );
    assert_errors(
        &with("address: {socket_address: {address: 127.0.0.1, port_value: 1}}", true),
        &[&format!(
            "x.yaml: line 5: {at}.address: error adding listener named 'i': address should not be used when an \
             internal listener config is provided"
        )],
    );
    assert_errors(
        "static_resources: {listeners: [{name: a, address: {envoy_internal_address: {server_listener_name: b}}}]}\n",
        &[&format!(
            "x.yaml: line 1: {at}.address: error adding listener named 'a': use internal_listener field instead of \
             address for internal listeners"
        )],
    );
    let endpoint = "static_resources:\n  clusters:\n  - name: c\n    load_assignment:\n      cluster_name: c\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {address: {envoy_internal_address: {server_listener_name: gone}}}\n";
    let at = "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.envoy_internal_address";
    assert_eq!(
        warnings(endpoint),
        [
            format!(
                "x.yaml: line 8: {at}: internal listeners are not enabled: the InternalListener bootstrap extension is missing"
            ),
            format!("x.yaml: line 8: {at}.server_listener_name: there is no internal listener 'gone'"),
        ]
    );
}

#[test]
fn filter_chain_matches() {
    let text = listener(
        "    filter_chains:\n    - {name: a, filter_chain_match: {server_names: [X, b]}}\n    \
         - {name: b, filter_chain_match: {server_names: [x]}}\n    - {name: c, filter_chain_match: {server_names: [z]}}\n",
    );
    assert_errors(
        &text,
        &[
            "x.yaml: line 5: static_resources.listeners[0].filter_chains[1]: error adding listener 'l': filter chain 'b' \
           has the same matching rules defined as 'a'",
        ],
    );
}

#[test]
fn files_must_be_there() {
    let at = "static_resources.listeners[0]";
    let missing = listener(
        "    access_log: [{name: f, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /nonexistent-dir/log}}]\n",
    );
    let found = errors(&missing);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(&format!(
            "x.yaml: line 3: {at}.access_log[0].typed_config.path: unable to open file '/nonexistent-dir/log'"
        )),
        "{found:?}"
    );
    let certificate = listener(
        "    filter_chains: [{transport_socket: {name: t, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
         {tls_certificates: [{certificate_chain: {filename: /nonexistent.pem}, private_key: {inline_string: k}}]}}}}]\n",
    );
    let found = errors(&certificate);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("certificate_chain.filename: /nonexistent.pem cannot be read"), "{found:?}");
}

#[test]
fn sources_merge_as_messages_do() {
    let file = "static_resources:\n  clusters:\n  - name: a\nnode: {id: p}\n";
    let over = "node: {cluster: c}\nstatic_resources: {clusters: [{name: a}, {nam: b}]}\n";
    assert_eq!(
        errors_of(&[("f.yaml", file), ("--config-yaml", over)]),
        [
            "--config-yaml: line 2: static_resources.clusters[1].name: cluster manager: duplicate cluster 'a'",
            "--config-yaml: line 2: static_resources.clusters[2].nam: unknown field 'nam' in \
             envoy.config.cluster.v3.Cluster; did you mean 'name'?",
        ]
    );
}

#[test]
fn a_cluster_that_leads_to_no_proxy_is_warned_of() {
    let named = |name: &str| {
        let text = format!(
            "static_resources: {{ clusters: [{{ name: a, metadata: {{ filter_metadata: {{ adit.http_11_proxy: {{ cluster: {name} }} }} }} }}] }}"
        );
        warnings(&text)
    };
    assert!(named("a").is_empty());
    let [warning] = &named("zz")[..] else { panic!("one warning") };
    assert!(warning.ends_with("metadata: there is no cluster 'zz': connections will fail"), "{warning}");
}

#[test]
fn clusters_that_lead_to_each_other_are_refused() {
    let lead = |edges: &[(&str, &[&str])]| {
        let host = |to: &&str| {
            format!(
                "{{ metadata: {{ filter_metadata: {{ adit.http_11_proxy: {{ cluster: {to} }} }} }}, endpoint: {{ address: \
                 {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }} }} }}"
            )
        };
        let clusters = edges.iter().map(|(name, to)| {
            let hosts: Vec<String> = to.iter().map(host).collect();
            let hosts = hosts.join(", ");
            format!("{{ name: {name}, load_assignment: {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{hosts}] }}] }} }}")
        });
        format!("static_resources: {{ clusters: [{}] }}", clusters.collect::<Vec<_>>().join(", "))
    };
    for (edges, circle) in [
        (
            &[("a", &["b"][..]), ("b", &["a"])][..],
            "static_resources.clusters[1]: metadata adit.http_11_proxy: clusters lead in a circle: 'a' -> 'b' -> 'a'",
        ),
        (&[("a", &["b"]), ("b", &["d", "c"]), ("c", &["b"]), ("d", &[])], "circle: 'b' -> 'c' -> 'b'"),
    ] {
        let found = errors(&lead(edges));
        let [error] = &found[..] else { panic!("{found:?}") };
        assert!(error.contains(circle), "{error}");
    }
    // Two ways to one proxy are no circle.
    assert!(warnings(&lead(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])])).is_empty());
}
