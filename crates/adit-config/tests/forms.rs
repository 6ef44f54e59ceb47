//! The forms in which a value may be written, and what it becomes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use adit_config::proto::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, LbPolicy};
use adit_config::proto::envoy::config::cluster::v3::{Cluster, cluster};
use adit_config::proto::envoy::config::core::v3::{data_source, socket_address};
use adit_config::proto::envoy::config::listener::v3::{Listener, filter};
use adit_config::proto::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use adit_config::proto::envoy::extensions::upstreams::http::v3::{HttpProtocolOptions, http_protocol_options};
use adit_config::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use adit_config::{LoadOptions, Source, duration, load, struct_to_json, to_json, unpack};
use common::{good, http, listener, warnings};

fn first_listener(text: &str) -> Listener {
    good(text).bootstrap.static_resources.unwrap().listeners.remove(0)
}

fn first_cluster(fields: &str) -> Cluster {
    let text = format!("static_resources:\n  clusters:\n  - name: a\n{fields}");
    good(&text).bootstrap.static_resources.unwrap().clusters.remove(0)
}

#[test]
fn names_in_either_spelling() {
    let text = "staticResources: {clusters: [{name: a, connectTimeout: 0.25s, lb_policy: RANDOM}]}";
    let loaded = good(text);
    let cluster = &loaded.bootstrap.static_resources.unwrap().clusters[0];
    assert_eq!(duration(cluster.connect_timeout.as_ref().unwrap()).as_millis(), 250);
    assert_eq!(cluster.lb_policy(), LbPolicy::Random);
}

#[test]
fn json_is_read_too() {
    let text = r#"{"node": {"id": "p", "metadata": {"a": 1.5, "b": [true, null, "x"]}}}"#;
    let loaded = load(&[Source::new("x.json", text)], &LoadOptions::default()).unwrap();
    let metadata = loaded.bootstrap.node.unwrap().metadata.unwrap();
    assert_eq!(struct_to_json(&metadata), serde_json::json!({"a": 1.5, "b": [true, null, "x"]}));
    let refused = load(&[Source::new("x.json", r#"{"node": {"id": 1.5}}"#)], &LoadOptions::default());
    assert!(refused.unwrap_err().to_string().contains("expected a string"));
}

#[test]
fn enums_by_name_and_number_in_any_case() {
    for (text, expected) in [
        ("STRICT_DNS", ClusterDiscoveryType::Type(cluster::DiscoveryType::StrictDns as i32)),
        ("strict_dns", ClusterDiscoveryType::Type(cluster::DiscoveryType::StrictDns as i32)),
        ("1", ClusterDiscoveryType::Type(cluster::DiscoveryType::StrictDns as i32)),
    ] {
        let cluster = first_cluster(&format!("    type: {text}\n"));
        assert_eq!(cluster.cluster_discovery_type, Some(expected), "{text}");
    }
}

#[test]
fn numbers_and_booleans() {
    for (text, expected) in [("7", 7), ("'7'", 7), ("0x10", 16), ("010", 8), ("1e3", 1000), ("2.0", 2), ("+5", 5)] {
        let listener = first_listener(&listener(&format!("    tcp_backlog_size: {text}\n")));
        assert_eq!(listener.tcp_backlog_size, Some(expected), "{text}");
    }
    for (text, expected) in [("y", true), ("on", true), ("Yes", true), ("TRUE", true), ("off", false), ("n", false)] {
        let listener = first_listener(&listener(&format!("    freebind: {text}\n")));
        assert_eq!(listener.freebind, Some(expected), "{text}");
    }
    // Neither of these is a boolean or an integer of 32 bits, so Envoy's reader makes strings of them.
    for text in ["1.5", "4294967296", "yEs", "'7'", "'on'"] {
        let listener = first_listener(&listener(&format!("    stat_prefix: {text}\n")));
        assert_eq!(listener.stat_prefix, text.trim_matches('\''), "{text}");
    }
}

/// Wrappers and durations in the form of their messages, booleans and numbers of enums in quotes: Envoy reads them.
#[test]
fn forms_of_generated_files() {
    let listener = first_listener(&listener(
        "    tcp_backlog_size: {value: 7}\n    listener_filters_timeout: {seconds: 1, nanos: 5000000}\n    \
         freebind: {value: 'yes'}\n    transparent: \"TRUE\"\n    drain_type: '1'\n",
    ));
    assert_eq!(listener.tcp_backlog_size, Some(7));
    assert_eq!(duration(listener.listener_filters_timeout.as_ref().unwrap()).as_millis(), 1005);
    assert_eq!((listener.freebind, listener.transparent), (Some(true), Some(true)));
    assert_eq!(listener.drain_type, 1);
}

#[test]
fn null_is_not_set() {
    let listener = first_listener(&listener("    freebind: null\n    stat_prefix: ~\n    metadata:\n"));
    assert_eq!((listener.freebind, listener.stat_prefix.as_str(), listener.metadata), (None, "", None));
}

#[test]
fn bytes_are_base64() {
    for text in ["aGk/", "aGk_", "'aGk/'"] {
        let listener =
            first_listener(&listener(&format!("    socket_options: [{{level: 1, name: 2, buf_value: {text}}}]\n")));
        assert!(format!("{:?}", listener.socket_options).contains("[104, 105, 63]"), "{text}: {listener:?}");
    }
}

#[test]
fn free_form_values_are_those_of_envoys_reader() {
    let text = "node: {metadata: {i: 5, f: 1.5, s: '5', t: on, n: ~, big: 4294967296, l: [a, {b: c}]}}";
    let metadata = good(text).bootstrap.node.unwrap().metadata.unwrap();
    assert_eq!(
        struct_to_json(&metadata),
        serde_json::json!({"i": 5, "f": "1.5", "s": "5", "t": true, "n": null, "big": "4294967296", "l": ["a", {"b": "c"}]})
    );
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let text = "\
node:
  metadata:
    base: &base {a: 1, b: 2}
    more: {<<: *base, b: 3}
    list: {<<: [{c: 1}, *base]}
static_resources:
  clusters:
  - &first {name: a, connect_timeout: 2s}
  - {<<: *first, name: b}
";
    let loaded = good(text);
    let metadata = struct_to_json(&loaded.bootstrap.node.unwrap().metadata.unwrap());
    assert_eq!(metadata["more"], serde_json::json!({"a": 1, "b": 3}));
    assert_eq!(metadata["list"], serde_json::json!({"a": 1, "b": 2, "c": 1}));
    let clusters = loaded.bootstrap.static_resources.unwrap().clusters;
    assert_eq!((clusters[1].name.as_str(), &clusters[1].connect_timeout), ("b", &clusters[0].connect_timeout));
}

#[test]
fn a_key_tagged_ignore_only_holds_anchors() {
    let text = "!ignore templates:\n- &t {name: a}\nstatic_resources: {clusters: [*t]}\n";
    assert_eq!(good(text).bootstrap.static_resources.unwrap().clusters[0].name, "a");
}

#[test]
fn unknown_fields_can_be_allowed() {
    let options = LoadOptions { allow_unknown_fields: true, ..LoadOptions::default() };
    let loaded = load(&[Source::new("x.yaml", "zzz: 1\nadmin: {}\n")], &options).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    // Known to Envoy is not unknown.
    assert!(load(&[Source::new("x.yaml", "watchdogs: {}\n")], &options).is_err());
}

#[test]
fn lines_are_found_later() {
    let loaded = good(&listener("    stat_prefix: a\n    listener_filters_timeout: 1s\n"));
    let find = |path| loaded.locations.find(path).unwrap();
    assert_eq!(find("static_resources.listeners[0].listener_filters_timeout"), ("x.yaml", 4));
    // What is not written there has the line of what is around it.
    assert_eq!(find("static_resources.listeners[0].drain_type"), ("x.yaml", 3));
    let finding = adit_config::Diagnostic::error("static_resources.listeners[0].stat_prefix", "no");
    assert_eq!(
        loaded.locations.resolve(finding).to_string(),
        "x.yaml: line 3: static_resources.listeners[0].stat_prefix: no"
    );
}

#[test]
fn deprecated_forms_warn_and_become_modern() {
    let text = "admin: {access_log_path: /dev/null}\n";
    assert_eq!(
        warnings(text),
        [
            "x.yaml: line 1: admin.access_log_path: field access_log_path of envoy.config.bootstrap.v3.Admin is deprecated"
        ]
    );
    let admin = good(text).bootstrap.admin.unwrap();
    let adit_config::proto::envoy::config::accesslog::v3::access_log::ConfigType::TypedConfig(log) =
        admin.access_log[0].config_type.as_ref().unwrap();
    assert_eq!(unpack::<FileAccessLog>(log).unwrap().path, "/dev/null");

    let cluster = first_cluster("    http2_protocol_options: {max_concurrent_streams: 7}\n");
    assert!(!format!("{cluster:?}").contains("http2_protocol_options: Some"));
    let options = &cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let options: HttpProtocolOptions = unpack(options).unwrap();
    let Some(http_protocol_options::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) =
        options.upstream_protocol_options
    else {
        panic!("{options:?}")
    };
    let Some(http_protocol_options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(http2)) =
        explicit.protocol_config
    else {
        panic!("{explicit:?}")
    };
    assert_eq!(http2.max_concurrent_streams, Some(7));
}

#[test]
fn deprecated_header_matchers_become_string_matchers() {
    for (old, new) in [
        ("exact_match: v", MatchPattern::Exact("v".to_owned())),
        ("prefix_match: v", MatchPattern::Prefix("v".to_owned())),
        ("suffix_match: v", MatchPattern::Suffix("v".to_owned())),
        ("contains_match: v", MatchPattern::Contains("v".to_owned())),
    ] {
        let text = http("", &format!("{{match: {{prefix: /, headers: [{{name: h, {old}}}]}}, route: {{cluster: a}}}}"));
        let listener = first_listener(&text);
        let filter::ConfigType::TypedConfig(config) =
            listener.filter_chains[0].filters[0].config_type.as_ref().unwrap()
        else {
            panic!()
        };
        let manager: HttpConnectionManager = unpack(config).unwrap();
        assert!(format!("{manager:?}").contains(&format!("{new:?}")), "{old}: {manager:?}");
    }
}

#[test]
fn deprecated_log_formats_become_format_strings() {
    let listener = first_listener(&listener(
        "    access_log: [{name: f, typed_config: {'@type': \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null, format: \"%A%\"}}]\n",
    ));
    let adit_config::proto::envoy::config::accesslog::v3::access_log::ConfigType::TypedConfig(log) =
        listener.access_log[0].config_type.as_ref().unwrap();
    let log: FileAccessLog = unpack(log).unwrap();
    let Some(file_access_log::AccessLogFormat::LogFormat(format)) = log.access_log_format else { panic!("{log:?}") };
    let expected = data_source::Specifier::InlineString("%A%".to_owned());
    assert!(format!("{format:?}").contains(&format!("{expected:?}")), "{format:?}");
}

#[test]
fn a_message_prints_as_envoys_admin_interface_has_it() {
    let loaded = good(&http("", "{match: {prefix: /}, route: {cluster: a, timeout: 1.5s}}"));
    let json = to_json(&loaded.bootstrap).unwrap();
    let manager = &json["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(
        manager["@type"],
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    );
    assert_eq!(manager["stat_prefix"], "s");
    let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!(route, &serde_json::json!({"cluster": "a", "timeout": "1.500s"}));
    assert!(json.get("admin").is_none());
}

#[test]
fn sources_continue_each_other() {
    let file = "static_resources: {clusters: [{name: a}]}\nnode: {id: p}\nadmin: {address: {pipe: {path: /x}}}\n";
    let over = "static_resources: {clusters: [{name: b}]}\n\
                node: {id: q}\n\
                admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}\n";
    let sources = [Source::new("f.yaml", file), Source::inline(over)];
    let bootstrap = load(&sources, &LoadOptions::default()).unwrap().bootstrap;
    let names: Vec<_> = bootstrap.static_resources.unwrap().clusters.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(bootstrap.node.unwrap().id, "q");
    let admin = bootstrap.admin.unwrap();
    let expected = socket_address::PortSpecifier::PortValue(9);
    assert!(format!("{:?}", admin.address).contains(&format!("{expected:?}")));
}

#[test]
fn files_by_their_ending() {
    use std::path::Path;
    let refused = Source::read(Path::new("/a/b.pb_text")).unwrap_err().to_string();
    assert!(refused.starts_with("/a/b.pb_text: ") && refused.contains("not implemented"), "{refused}");
    let missing = Source::read(Path::new("/nonexistent/x.yaml")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/x.yaml: cannot be read"), "{missing}");
}
