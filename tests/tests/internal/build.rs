//! Pieces of YAML for internal listeners.

use std::fmt::Write as _;

use adit_tests::Proxy;

/// A filter in a filter chain of a listener; of a list, the last is terminal.
pub fn inner(name: &str, filters: &str) -> String {
    format!("  - name: {name}\n    internal_listener: {{}}\n    filter_chains:\n    - filters:\n{filters}")
}

/// A cluster of one endpoint, an internal listener; `more` is appended to its fields (at four spaces).
pub fn hop(name: &str, listener: &str, more: &str) -> String {
    let mut text = format!(
        "  - name: {name}\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n        \
         - endpoint: {{ address: {{ envoy_internal_address: {{ server_listener_name: {listener} }} }} }}\n"
    );
    for line in more.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// The transport socket that passes metadata and filter state on; `passthrough` is a YAML list.
pub fn internal_upstream(passthrough: &str) -> String {
    format!(
        "transport_socket:\n  name: internal_upstream\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport\n    \
         passthrough_metadata: {passthrough}\n    transport_socket: {{ name: raw, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }} }}\n"
    )
}

/// An access log on standard output.
pub fn log(format: &str) -> String {
    format!(
        "access_log:\n- name: out\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    \
         log_format: {{ text_format_source: {{ inline_string: \"{format}\\n\" }} }}\n"
    )
}

/// A network filter that sets objects of the filter state: name, format, sharing.
pub fn set_state(objects: &[(&str, &str, &str)]) -> String {
    let mut text = String::from(
        "      - name: state\n        typed_config:\n          \"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config\n          on_new_connection:\n",
    );
    for (name, format, sharing) in objects {
        let _ = writeln!(
            text,
            "          - object_key: {name}\n            factory_key: envoy.string\n            shared_with_upstream: {sharing}\n            \
             format_string: {{ text_format_source: {{ inline_string: \"{format}\" }} }}"
        );
    }
    text
}

/// `static_resources` with the bootstrap extension.
pub fn whole(listeners: &[String], clusters: &[String]) -> String {
    with_buffer("", listeners, clusters)
}

/// The same with fields of the extension.
pub fn with_buffer(fields: &str, listeners: &[String], clusters: &[String]) -> String {
    format!(
        "bootstrap_extensions:\n- name: internal\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener\n{fields}{}",
        adit_tests::config::resources(listeners, clusters)
    )
}

/// Starts adit so that access logs are written at once.
pub fn adit(yaml: &str) -> Proxy {
    Proxy::adit_with(yaml, &["--file-flush-interval-msec", "20"])
}

/// Waits until the log has this line.
#[track_caller]
pub fn wait_log(adit: &Proxy, line: &str) {
    let end = std::time::Instant::now() + adit_tests::PATIENCE;
    while !adit.log().lines().any(|one| one == line) {
        assert!(std::time::Instant::now() < end, "no line {line:?}:\n{}", adit.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
