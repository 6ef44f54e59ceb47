//! The configuration that both proxies get.

use std::fmt::Write as _;

use crate::lab::Lab;

/// A configuration: one listener with a connection manager `h`, clusters `c` (the origin), `dead` (nobody listens) and
/// `none` (no host).
pub struct Yaml {
    pub hosts: String,
    pub filters: String,
    pub hcm: String,
    pub clusters: String,
    pub cluster: String,
    pub log_more: String,
}

impl Yaml {
    /// With these routes for every host.
    pub fn routes(routes: &str) -> Self {
        Self::hosts(&format!("- name: all\n  domains: ['*']\n  routes:\n{}", indent(routes, 2)))
    }

    /// With these virtual hosts.
    pub fn hosts(hosts: &str) -> Self {
        Self {
            hosts: hosts.to_owned(),
            filters: String::new(),
            hcm: "delayed_close_timeout: 0.1s\n".to_owned(),
            clusters: String::new(),
            cluster: String::new(),
            log_more: String::new(),
        }
    }

    /// More fields of the connection manager.
    pub fn hcm(mut self, more: &str) -> Self {
        self.hcm.push_str(more);
        self
    }

    /// Filters in front of the router.
    pub fn filters(mut self, more: &str) -> Self {
        self.filters.push_str(more);
        self
    }

    /// More clusters.
    pub fn clusters(mut self, more: &str) -> Self {
        self.clusters.push_str(more);
        self
    }

    /// More fields of the cluster `c`.
    pub fn cluster(mut self, more: &str) -> Self {
        self.cluster.push_str(more);
        self
    }

    /// More operators in the log line.
    pub fn log(mut self, more: &str) -> Self {
        self.log_more.push_str(more);
        self
    }

    pub fn text(&self) -> String {
        const TYPE: &str = "\"@type\": type.googleapis.com/";
        let log = format!(
            "AL|{}{}\\n",
            LOG.iter().map(|(key, value)| format!("{key}={value}|")).collect::<String>(),
            self.log_more
        );
        let bytes = "BL|d=%DOWNSTREAM_WIRE_BYTES_RECEIVED%/%DOWNSTREAM_WIRE_BYTES_SENT% \
             dh=%DOWNSTREAM_HEADER_BYTES_RECEIVED%/%DOWNSTREAM_HEADER_BYTES_SENT% \
             u=%UPSTREAM_WIRE_BYTES_RECEIVED%/%UPSTREAM_WIRE_BYTES_SENT% \
             uh=%UPSTREAM_HEADER_BYTES_RECEIVED%/%UPSTREAM_HEADER_BYTES_SENT%\\n";
        let mut text = format!(
            "static_resources:\n  listeners:\n  - name: l\n    address: {{ socket_address: {{ address: 127.0.0.1, \
             port_value: @PORT@ }} }}\n    filter_chains:\n    - filters:\n      - name: http\n        typed_config:\n          \
             {TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
             stat_prefix: h\n          access_log:\n"
        );
        for format in [log.as_str(), bytes] {
            let _ = writeln!(
                text,
                "          - name: log\n            typed_config:\n              {TYPE}envoy.extensions.access_loggers.\
                 stream.v3.StdoutAccessLog\n              log_format: {{ text_format_source: {{ inline_string: \"{format}\" }} }}"
            );
        }
        text.push_str("          route_config:\n            name: routes\n");
        text.push_str("            virtual_hosts:\n");
        text.push_str(&indent(&self.hosts, 12));
        text.push_str("          http_filters:\n");
        text.push_str(&indent(&self.filters, 10));
        let _ = writeln!(
            text,
            "          - name: router\n            typed_config:\n              {TYPE}envoy.extensions.filters.http.router.v3.Router"
        );
        text.push_str(&indent(&self.hcm, 10));
        text.push_str("  clusters:\n");
        text.push_str(&cluster("c", "@ORIGIN@", &self.cluster));
        text.push_str(&cluster("dead", "@DEAD@", ""));
        text.push_str("  - name: none\n    connect_timeout: 1s\n    load_assignment: { cluster_name: none }\n");
        text.push_str(&indent(&self.clusters, 2));
        text
    }

    pub fn lab(&self) -> Lab {
        Lab::new(&self.text())
    }
}

/// What a log line holds.
const LOG: &[(&str, &str)] = &[
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)% %PATH%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("protocol", "%PROTOCOL%"),
    ("code", "%RESPONSE_CODE%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("flags", "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%"),
    ("received", "%BYTES_RECEIVED%"),
    ("sent", "%BYTES_SENT%"),
    ("host", "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS%"),
    ("cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream protocol", "%UPSTREAM_PROTOCOL%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("route", "%ROUTE_NAME%"),
    ("termination", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream failure", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("type", "%ACCESS_LOG_TYPE%"),
    ("remote", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("local", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("local close", "%DOWNSTREAM_LOCAL_CLOSE_REASON% %UPSTREAM_LOCAL_CLOSE_REASON%"),
    ("downstream close type", "%DOWNSTREAM_DETECTED_CLOSE_TYPE%"),
    ("upstream close type", "%UPSTREAM_DETECTED_CLOSE_TYPE%"),
    ("listener", "%LISTENER_NAME% %FILTER_CHAIN_NAME%"),
];

/// A static cluster of one loopback port.
pub fn cluster(name: &str, port: &str, more: &str) -> String {
    format!(
        "  - name: {name}\n    connect_timeout: 1s\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      \
         - lb_endpoints:\n        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n{}",
        indent(more, 4)
    )
}

/// A filter of a type.
pub fn filter(name: &str, message: &str, fields: &str) -> String {
    format!(
        "- name: {name}\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.http.{message}\n{}",
        indent(fields, 4)
    )
}

pub fn indent(text: &str, spaces: usize) -> String {
    text.lines().map(|line| format!("{:spaces$}{line}\n", "")).collect()
}
