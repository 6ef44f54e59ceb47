//! Whatever the text is, loading ends soon, without a panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use common::{errors, try_load};
use proptest::prelude::*;

/// Refused, within a time that is generous for a debug build on a busy machine.
#[track_caller]
fn refused_soon(what: &str, text: &str) {
    // The schema is read once for the process, and is not what is measured.
    let _ = errors("");
    let start = Instant::now();
    let found = errors(text);
    let taken = start.elapsed();
    assert!(!found.is_empty(), "{what}: accepted");
    let most = if cfg!(debug_assertions) { Duration::from_secs(120) } else { Duration::from_secs(10) };
    assert!(taken < most, "{what}: took {taken:?}");
}

#[test]
fn alias_bombs() {
    let mut laughs = "node:\n  metadata:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(laughs, "    a{level}: &a{level} [{aliases}]").unwrap();
    }
    refused_soon("billion laughs", &laughs);

    let mut merges = "node:\n  metadata:\n    a0: &a0 {x: 1, y: 2, z: 3}\n".to_owned();
    for level in 1..40 {
        writeln!(merges, "    a{level}: &a{level} {{p: *a{0}, q: *a{0}, <<: *a{0}}}", level - 1).unwrap();
    }
    refused_soon("merge keys", &merges);

    refused_soon("an alias within its own anchor", "node: &a {metadata: *a}\n");
    refused_soon("an alias within its own list", "a: &a [*a]\n");
}

#[test]
fn depth_bombs() {
    refused_soon("flow lists", &"[".repeat(1_000_000));
    refused_soon("flow mappings", &"{a: ".repeat(300_000));
    refused_soon("block lists", &"- ".repeat(100_000));
    refused_soon("keys of mappings", &"? ".repeat(100_000));
    let mut block = String::new();
    for level in 0..2000 {
        writeln!(block, "{}a:", " ".repeat(level)).unwrap();
    }
    refused_soon("block mappings", &block);
    // A free-form value is three messages a level, of which the wire format has a hundred.
    let nested = |levels| format!("node: {{metadata: {}1{}}}", "{a: ".repeat(levels), "}".repeat(levels));
    assert!(try_load(&nested(30)).is_ok());
    refused_soon("a deep value", &nested(90));
    let log = "static_resources: {listeners: [{address: {pipe: {path: /x}}, access_log: [{name: f, typed_config: {'@type': \
               type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: {json_format: ";
    refused_soon(
        "a deep value in an extension",
        &format!("{log}{}1{}}}}}}}]}}]}}}}", "{a: ".repeat(60), "}".repeat(60)),
    );
}

#[test]
fn size_bombs() {
    refused_soon("many values", &format!("a: [{}]\n", "1,".repeat(2_000_000)));
    refused_soon(
        "many keys",
        &(0..500_000).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "k{n}: 1");
            text
        }),
    );
    refused_soon(
        "many unknown types",
        &(0..2_000).fold("bootstrap_extensions:\n".to_owned(), |mut text, n| {
            let name = format!("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.Proxy{n}");
            let _ = writeln!(text, "- {{name: a, typed_config: {{'@type': {name}}}}}");
            text
        }),
    );
    refused_soon("a long key", &format!("{}: 1\n", "a".repeat(1_000)));
    refused_soon("a long scalar", &format!("admin: {{profile_path: [{}]}}\n", "a".repeat(4_000_000)));
    refused_soon(
        "many unknown fields",
        &(0..2_000).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "unknown_{n}: 1");
            text
        }),
    );
}

/// Trees of the words that a configuration is made of.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let word = prop::sample::select(vec![
        "static_resources",
        "listeners",
        "clusters",
        "admin",
        "address",
        "socket_address",
        "port_value",
        "name",
        "filter_chains",
        "filters",
        "typed_config",
        "@type",
        "connect_timeout",
        "load_assignment",
        "endpoints",
        "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "type.googleapis.com/google.protobuf.Struct",
        "type.googleapis.com/google.protobuf.Any",
        "value",
        "metadata",
        "route_config",
        "virtual_hosts",
        "routes",
        "match",
        "route",
        "cluster",
        "headers",
        "exact_match",
        "http2_protocol_options",
        "access_log_path",
        "node",
        "id",
        "5s",
        "-1s",
        "",
        "0x",
        "layered_runtime",
        "layers",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        word.clone().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(8, 128, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|fields| {
                serde_json::Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,300}") {
        let _ = errors(&text);
    }

    #[test]
    fn any_octets(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = errors(&String::from_utf8_lossy(&octets));
    }

    #[test]
    fn any_yaml(text in "([a-c&*:!<>{}\\[\\],'\"#|?%@` -]|\n|~|- |: ){0,120}") {
        let _ = errors(&text);
    }

    #[test]
    fn any_tree(tree in tree()) {
        if let Err(error) = try_load(&tree.to_string()) {
            prop_assert!(error.errors().count() > 0);
        }
    }
}
