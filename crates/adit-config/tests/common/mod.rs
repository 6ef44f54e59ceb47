//! What the tests of loading share.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adit_config::{ConfigError, Diagnostic, LoadOptions, Loaded, Source, load};

pub fn try_load(text: &str) -> Result<Loaded, ConfigError> {
    load(&[Source::new("x.yaml", text)], &LoadOptions::default())
}

#[track_caller]
pub fn good(text: &str) -> Loaded {
    try_load(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The errors of a text, as they are displayed.
pub fn errors(text: &str) -> Vec<String> {
    errors_of(&[("x.yaml", text)])
}

pub fn errors_of(sources: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|(name, text)| Source::new(*name, *text)).collect();
    match load(&sources, &LoadOptions::default()) {
        Ok(_) => Vec::new(),
        Err(error) => error.errors().map(Diagnostic::to_string).collect(),
    }
}

/// The warnings of a text that loads.
#[track_caller]
pub fn warnings(text: &str) -> Vec<String> {
    good(text).warnings.iter().map(Diagnostic::to_string).collect()
}

/// A listener `l` with these fields, whose first line is line 3; an address is added if there is none.
pub fn listener(fields: &str) -> String {
    let address = if fields.contains("address:") {
        ""
    } else {
        "    address: {socket_address: {address: 127.0.0.1, port_value: 1}}\n"
    };
    format!("static_resources:\n  listeners:\n{}{address}", fields.replacen("    ", "  - ", 1)) + "    name: l\n"
}

const TCP: &str = "\
static_resources:
  clusters: [{name: a}]
  listeners:
  - filter_chains:
    - filters:
      - name: tcp
        typed_config:
            '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
            CONFIG
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
";

/// A TCP proxy with this configuration, whose first line is line 9, and a cluster `a`.
pub fn tcp(config: &str) -> String {
    TCP.replace("CONFIG", config)
}

const HTTP: &str = "\
static_resources:
  clusters: [{name: a}]
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
            stat_prefix: s
            # @type need not come first
            '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            http_filters: [{name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
            route_config:
              name: r
              ROUTE_CONFIG
              virtual_hosts:
              - {name: v, domains: ['*'], routes: [
                ROUTES
                ]}
";

/// An HTTP connection manager over cluster `a`, with a field of its route configuration and one route (line 18).
pub fn http(route_config: &str, route: &str) -> String {
    let route_config = if route_config.is_empty() { "# nothing" } else { route_config };
    HTTP.replace("ROUTE_CONFIG", route_config).replace("ROUTES", route)
}
