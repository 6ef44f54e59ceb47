//! The binary as a process: arguments, signals, draining, ending.

use std::process::{Command, Output};

use adit_tests::config::{cluster, hcm, listener, prefix, resources, tcp_proxy, terminate, upgrades};
use adit_tests::peer::{End, Peer};
use adit_tests::process::{adit_binary, http};
use adit_tests::{Proxy, eventually, free_port, listens, origin};

fn run(args: &[&str]) -> Output {
    Command::new(adit_binary()).args(args).output().expect("the binary")
}

fn err(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn one(port: u16, filter: &str, upstream: u16) -> String {
    resources(&[listener("l", port, filter)], &[cluster("c", upstream, "")])
}

#[test]
fn arguments_without_a_configuration_name_what_is_missing() {
    for args in [&["--mode", "validate"][..], &["--concurrency", "1"], &["-l", "debug"]] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(1));
        assert!(err(&out).contains("--config-path") && err(&out).contains("--config-yaml"), "{}", err(&out));
    }
}

#[test]
fn the_version_has_envoys_shape() {
    let out = run(&["--version"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success());
    let parts: Vec<&str> = text.trim_end().strip_prefix("adit  version: ").expect("two spaces").split('/').collect();
    assert_eq!(parts.len(), 5, "{text}");
    assert_eq!((parts[2], parts[4]), ("Clean", "rustls"));
}

#[test]
fn validation_says_ok_or_everything_that_is_wrong() {
    let good = one(free_port(), &tcp_proxy("c", ""), 1);
    let out = run(&["--mode", "validate", "--config-yaml", &good]);
    assert_eq!(out.status.code(), Some(0), "{}", err(&out));
    assert!(String::from_utf8_lossy(&out.stdout).contains("OK"));

    let folder = std::env::temp_dir().join(format!("adit-validate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("bad.yaml");
    let bad = good.replace("connect_timeout: 5s", "conect_timeout: 5s").replace("stat_prefix: c", "stat_prefix: \"\"");
    std::fs::write(&file, bad).unwrap();
    let out = run(&["--mode", "validate", "-c", file.to_str().unwrap()]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = err(&out);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("bad.yaml: line 10: static_resources.listeners[0].filter_chains[0].filters[0]"),
        "{text}"
    );
    assert!(lines[0].contains("stat_prefix: "), "{text}");
    assert!(lines[1].contains("did you mean 'connect_timeout'?"), "{text}");
}

/// Flags that cannot be honoured are warnings.
#[test]
fn flags_without_effect_are_warned_of() {
    let yaml = one(free_port(), &tcp_proxy("c", ""), 1);
    let args = ["--log-format", "%v", "--socket-path", "@x", "--component-log-level", "lua:debug,router:debug"];
    let out = run(&[&["--mode", "validate", "--config-yaml", &yaml][..], &args].concat());
    assert_eq!(out.status.code(), Some(0), "{}", err(&out));
    for named in ["--log-format", "--socket-path", "'lua'"] {
        assert!(err(&out).contains(named), "{named}: {}", err(&out));
    }
    assert!(!err(&out).contains("'router'"), "{}", err(&out));
    let out = run(&[&["--mode", "validate", "--config-yaml", &yaml, "-l", "off"][..], &args].concat());
    assert!(err(&out).is_empty(), "{}", err(&out));
}

#[test]
fn a_port_that_is_taken_ends_the_start_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let out = run(&["--config-yaml", &one(port, &tcp_proxy("c", ""), 1)]);
    assert_eq!(out.status.code(), Some(1));
    assert!(err(&out).contains(&format!("127.0.0.1:{port}")), "{}", err(&out));

    let foreign = one(port, &tcp_proxy("c", ""), 1)
        .replace("address: 127.0.0.1, port_value: ", "address: 192.0.2.1, port_value: ");
    let out = run(&["--config-yaml", &foreign]);
    assert_eq!(out.status.code(), Some(1));
    assert!(err(&out).contains("192.0.2.1"), "{}", err(&out));
}

/// The kernel would let two share it.
#[test]
fn a_second_adit_on_the_same_port_is_refused_unless_it_is_meant() {
    let port = free_port();
    let yaml = one(port, &tcp_proxy("c", ""), origin::echo());
    let _first = Proxy::adit(&yaml);
    let out = run(&["--config-yaml", &yaml]);
    assert_eq!(out.status.code(), Some(1));
    assert!(err(&out).contains(&format!("127.0.0.1:{port}")), "{}", err(&out));
    let _second = Proxy::adit_with(&yaml, &["--base-id", "1"]);
}

#[test]
fn a_restart_on_the_same_port_works_at_once() {
    let port = free_port();
    let yaml = one(port, &tcp_proxy("c", ""), origin::echo());
    for _ in 0..3 {
        let mut adit = Proxy::adit(&yaml);
        let mut client = Peer::connect(port);
        client.send("x");
        client.expect("x");
        adit.signal("TERM");
        assert_eq!(adit.wait(), Some(0));
        assert_eq!(client.rest().1, End::Fin);
    }
}

#[test]
fn sigterm_ends_tunnels_in_order_and_writes_logs() {
    let (tcp, http_port) = (free_port(), free_port());
    let log = std::env::temp_dir().join(format!("adit-term-{}.log", std::process::id()));
    let access = format!(
        "access_log:\n- name: f\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    \
         path: {}\n    log_format: {{ text_format_source: {{ inline_string: \"%PROTOCOL% %BYTES_RECEIVED% %BYTES_SENT%\\n\" }} }}\n",
        log.display()
    );
    let upstream = origin::echo();
    let yaml = resources(
        &[listener("t", tcp, &tcp_proxy("c", &access)), listener("h", http_port, &hcm("h", &terminate("c"), &access))],
        &[cluster("c", upstream, "")],
    );
    let mut adit = Proxy::adit(&yaml);
    let mut raw = Peer::connect(tcp);
    raw.send("abc");
    raw.expect("abc");
    let mut connect = Peer::connect(http_port);
    connect.send("CONNECT a.example:1 HTTP/1.1\r\n\r\n");
    connect.head();
    connect.send("hello");
    connect.expect("hello");
    let idle = Peer::connect(http_port);
    adit.signal("TERM");
    assert_eq!(adit.wait(), Some(0));
    adit.cut_nothing();
    assert_eq!(raw.rest(), (vec![], End::Fin));
    assert_eq!(connect.rest(), (vec![], End::Fin));
    drop(idle);
    let mut lines: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    std::fs::remove_file(&log).unwrap();
    assert_eq!(lines, ["- 3 3", "HTTP/1.1 5 5"]);
}

#[test]
fn quitquitquit_ends_with_status_0() {
    let mut adit = Proxy::adit(&one(free_port(), &tcp_proxy("c", ""), 1));
    assert_eq!(adit.admin_post("/quitquitquit"), "OK\n");
    assert_eq!(adit.wait(), Some(0));
}

#[test]
fn sighup_and_sigpipe_are_harmless_and_sigusr1_reopens_logs() {
    let port = free_port();
    let log = std::env::temp_dir().join(format!("adit-usr1-{}.log", std::process::id()));
    let access = format!(
        "access_log:\n- name: f\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    \
         path: {}\n    log_format: {{ text_format_source: {{ inline_string: \"line\\n\" }} }}\n",
        log.display()
    );
    let yaml = one(port, &tcp_proxy("c", &access), origin::echo());
    let adit = Proxy::adit_with(&yaml, &["--file-flush-interval-msec", "20"]);
    let connection = || {
        let mut client = Peer::connect(port);
        client.fin();
        client.rest();
    };
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    connection();
    eventually("the first line", || lines(&log) == 1);
    let moved = log.with_extension("old");
    std::fs::rename(&log, &moved).unwrap();
    adit.signal("HUP");
    adit.signal("PIPE");
    adit.signal("USR1");
    eventually("a new file", || log.exists());
    connection();
    eventually("the second line", || lines(&log) == 1);
    assert_eq!(lines(&moved), 1);
    std::fs::remove_file(&log).unwrap();
    std::fs::remove_file(&moved).unwrap();
}

#[test]
fn draining_never_cuts_a_live_tunnel() {
    let (upstream, _) =
        origin::http("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    let port = free_port();
    let yaml = one(port, &hcm("h", &prefix("c"), &upgrades(&["websocket"])), upstream);
    let adit = Proxy::adit_with(&yaml, &["--drain-time-s", "5", "--drain-strategy", "immediate"]);
    let mut tunnel = Peer::connect(port);
    tunnel.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(tunnel.head().starts_with("HTTP/1.1 101"));
    assert_eq!(adit.admin_post("/drain_listeners?graceful"), "OK\n");
    let mut second = Peer::connect(port);
    second.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let head = second.head();
    assert!(head.starts_with("HTTP/1.1 101") && !head.contains("close"), "{head}");
    eventually("the listener stops", || !listens(port));
    tunnel.send("alive");
    tunnel.expect("alive");
    second.send("too");
    second.expect("too");
}

#[test]
fn a_failed_health_check_closes_connections_and_says_so() {
    let (upstream, _) = origin::http("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let port = free_port();
    let adit = Proxy::adit(&one(port, &hcm("h", &prefix("c"), ""), upstream));
    assert!(!http_head(port).contains("connection: close"));
    assert_eq!(adit.admin_post("/healthcheck/fail"), "OK\n");
    assert!(http(adit.admin, "GET", "/ready").unwrap().starts_with("HTTP/1.1 503"));
    assert_eq!(adit.admin("/ready"), "DRAINING\n");
    assert!(http_head(port).contains("connection: close"));
    assert_eq!(adit.admin_post("/healthcheck/ok"), "OK\n");
    assert_eq!(adit.admin("/ready"), "LIVE\n");
    assert!(!http_head(port).contains("connection: close"));
}

fn http_head(port: u16) -> String {
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head()
}

#[test]
fn the_admin_interface_has_envoys_forms() {
    let port = free_port();
    let adit = Proxy::adit(&one(port, &hcm("h", &prefix("c"), ""), 1));
    assert_eq!(adit.admin("/listeners"), format!("l::127.0.0.1:{port}\n"));
    let json: serde_json::Value = serde_json::from_str(&adit.admin("/listeners?format=json")).unwrap();
    assert_eq!(json["listener_statuses"][0]["local_address"]["socket_address"]["port_value"], port);
    assert!(adit.admin("/clusters").contains("c::default_priority::max_connections::1024\n"));
    assert!(adit.admin("/clusters").contains("c::127.0.0.1:1::health_flags::healthy\n"));
    let info: serde_json::Value = serde_json::from_str(&adit.admin("/server_info")).unwrap();
    assert_eq!(info["state"], "LIVE");
    let dump: serde_json::Value = serde_json::from_str(&adit.admin("/config_dump")).unwrap();
    assert_eq!(dump["configs"][1]["static_clusters"][0]["cluster"]["name"], "c");
    assert!(adit.admin("/stats?filter=^server.live$").contains("server.live: 1\n"));
    let prometheus = adit.admin("/stats/prometheus");
    assert!(
        prometheus.contains("envoy_http_downstream_cx_upgrades_total{envoy_http_conn_manager_prefix=\"h\"} 0\n"),
        "{prometheus}"
    );
    let stats: serde_json::Value = serde_json::from_str(&adit.admin("/stats?format=json&filter=server.live")).unwrap();
    assert_eq!(stats["stats"][0]["name"], "server.live");
    assert!(http(adit.admin, "GET", "/quitquitquit").unwrap().starts_with("HTTP/1.1 405"));
    assert!(http(adit.admin, "GET", "/nowhere").unwrap().starts_with("HTTP/1.1 404"));
    assert!(http(adit.admin, "POST", "/runtime_modify?a=b").unwrap().contains("No admin layer specified"));
    assert_eq!(adit.admin_post("/reset_counters"), "OK\n");
    assert!(adit.admin_post("/logging?router=debug").contains("router: debug"));
    assert!(adit.admin("/").contains("/stats/prometheus"));
}

#[test]
fn flags_name_the_node() {
    let yaml = format!(
        "node: {{ id: i, cluster: c, locality: {{ region: r }} }}\n{}",
        one(free_port(), &tcp_proxy("c", ""), 1)
    );
    let adit = Proxy::adit_with(&yaml, &["--service-node", "n", "--service-zone", "z"]);
    let info: serde_json::Value = serde_json::from_str(&adit.admin("/server_info")).unwrap();
    let node = &info["node"];
    assert_eq!((&node["id"], &node["cluster"]), (&"n".into(), &"c".into()), "{node}");
    assert_eq!(node["locality"], serde_json::json!({ "region": "r", "zone": "z" }));
}

#[test]
fn the_admin_interface_logs_and_keeps_paths_back() {
    let yaml = one(free_port(), &tcp_proxy("c", ""), 1);
    let log = std::env::temp_dir().join(format!("adit-admin-{}.log", std::process::id()));
    let more = format!(
        "admin:\n  allow_paths: [{{ prefix: /ready }}, {{ exact: /stats }}]\n  access_log:\n  - name: f\n    typed_config:\n      \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n      path: {}\n      \
         log_format: {{ text_format_source: {{ inline_string: \"%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%\\n\" }} }}\n",
        log.display()
    );
    let adit = Proxy::adit_with(&yaml, &["--config-yaml", &more, "--file-flush-interval-msec", "20"]);
    assert_eq!(adit.admin("/ready"), "LIVE\n");
    assert!(http(adit.admin, "POST", "/quitquitquit").unwrap().starts_with("HTTP/1.1 403"));
    eventually("two lines", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("GET /ready 200\n") && text.contains("POST /quitquitquit 403\n")
    });
    std::fs::remove_file(&log).unwrap();
}

#[test]
fn fixed_tags_and_rejected_stats() {
    let yaml = one(free_port(), &tcp_proxy("c", ""), 1);
    let more = "stats_config:\n  stats_tags: [{ tag_name: site, fixed_value: here }]\n  \
                stats_matcher: { exclusion_list: { patterns: [{ prefix: cluster. }] } }\n";
    let adit = Proxy::adit_with(&yaml, &["--config-yaml", more]);
    let text = adit.admin("/stats/prometheus");
    assert!(text.contains("envoy_tcp_downstream_cx_total{envoy_tcp_prefix=\"c\",site=\"here\"} 0\n"), "{text}");
    assert!(!text.contains("envoy_cluster_upstream_cx_total"), "{text}");
}
