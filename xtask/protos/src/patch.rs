//! What is changed in the `.proto` files before they are compiled.

/// File, text that must occur in it exactly once, and what stands there instead.
/// They bring the files, which are a little older, to Envoy 1.40.
#[rustfmt::skip]
const PATCHES: &[(&str, &str, &str)] = &[
    (
        "envoy/config/core/v3/health_check.proto",
        "  bool always_log_health_check_success = 26;",
        "  bool always_log_health_check_success = 26;\n  string name = 27;",
    ),
    (
        "envoy/config/core/v3/health_check.proto",
        "    type.v3.CodecClientType codec_client_type = 10 [(validate.rules).enum = {defined_only: true}];",
        "    type.v3.CodecClientType codec_client_type = 10 [(validate.rules).enum = {defined_only: true}];\n    bool use_alpn_protocol = 15;",
    ),
    (
        "envoy/config/metrics/v3/stats.proto",
        "  string prefix = 3;\n}",
        "  string prefix = 3;\n  bool scale_histogram_units_to_milliseconds = 4;\n}",
    ),
    (
        "envoy/config/metrics/v3/stats.proto",
        "  google.protobuf.UInt64Value max_bytes_per_datagram = 4 [(validate.rules).uint64 = {gt: 0}];",
        "  google.protobuf.UInt64Value max_bytes_per_datagram = 4 [(validate.rules).uint64 = {gt: 0}];\n  bool scale_histogram_units_to_milliseconds = 5;",
    ),
    (
        "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
        "  type.v3.Percent drain_timeout_jitter = 62;",
        "  type.v3.Percent drain_timeout_jitter = 62;\n  bool record_route_resolution_stats = 63;",
    ),
    (
        "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.proto",
        "    bool propagate_response_trailers = 11;",
        "    bool propagate_response_trailers = 11;\n    repeated config.core.v3.TypedExtensionConfig formatters = 12;",
    ),
    (
        "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.proto",
        "import \"envoy/config/core/v3/config_source.proto\";",
        "import \"envoy/config/core/v3/config_source.proto\";\nimport \"envoy/config/core/v3/extension.proto\";",
    ),
    (
        "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
        "  repeated config.common.mutation_rules.v3.HeaderMutation request_trailers_mutations = 5;",
        "  repeated config.common.mutation_rules.v3.HeaderMutation request_trailers_mutations = 5;\n  repeated config.core.v3.TypedExtensionConfig formatters = 6;",
    ),
    (
        "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
        "import \"envoy/config/core/v3/base.proto\";",
        "import \"envoy/config/core/v3/base.proto\";\nimport \"envoy/config/core/v3/extension.proto\";",
    ),
    (
        "envoy/config/cluster/v3/cluster.proto",
        "  repeated core.v3.HealthCheck health_checks = 8;",
        "  repeated core.v3.HealthCheck health_checks = 8 [(validate.rules).repeated = {max_items: 8}];",
    ),
    (
        "envoy/config/route/v3/route.proto",
        "  string vhost_header = 18;",
        "  string vhost_header = 18 [(validate.rules).string = {well_known_regex: HTTP_HEADER_NAME strict: false}];",
    ),
];

/// Packages below `envoy.extensions` that files name relatively (`common.tap.v3.X`). protox looks such a name up in
/// sibling packages of the same name (`envoy.extensions.filters.common`) even if the file does not import them.
const RELATIVE: [&str; 5] = ["async_files", "aws", "dynamic_forward_proxy", "ratelimit", "tap"];

/// The source of the file `name`, with the changes that are listed for it.
///
/// # Panics
/// If a change does not fit: the source of the files has another version than the list was made for.
pub fn source(name: &str, mut text: String) -> String {
    if name.starts_with("envoy/extensions/") {
        for package in RELATIVE {
            text = text.replace(
                &format!(" common.{package}.v3."),
                &format!(" .envoy.extensions.common.{package}.v3."),
            );
        }
    }
    for (_, from, to) in PATCHES.iter().filter(|(file, _, _)| *file == name) {
        assert_eq!(text.matches(from).count(), 1, "{name}: the patch of {from:?} does not fit");
        text = text.replace(from, to);
    }
    text
}
