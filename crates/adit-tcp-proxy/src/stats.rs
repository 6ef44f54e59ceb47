//! `tcp.<stat_prefix>.`

use adit_stats::{Counter, Gauge, Scope};

/// The stats of a TCP proxy (`tcp.<stat_prefix>.`).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "Envoy's own names")]
pub struct TcpProxyStats {
    pub downstream_cx_total: Counter,
    pub downstream_cx_no_route: Counter,
    pub downstream_cx_drain_close: Counter,
    pub downstream_cx_rx_bytes_total: Counter,
    pub downstream_cx_tx_bytes_total: Counter,
    pub downstream_flow_control_paused_reading_total: Counter,
    pub downstream_flow_control_resumed_reading_total: Counter,
    pub early_data_received_count_total: Counter,
    pub idle_timeout: Counter,
    pub max_downstream_connection_duration: Counter,
    pub upstream_flush_total: Counter,
    pub upstream_flush_active: Gauge,
}

/// Counters that exist in Envoy and stay 0 here: what they count does not happen.
const ZEROS: [&str; 6] = [
    "downstream_cx_overload_close",
    "route_delayed_total",
    "on_demand_cluster_attempt",
    "on_demand_cluster_missing",
    "on_demand_cluster_timeout",
    "on_demand_cluster_success",
];

/// As [`ZEROS`], with `tunneling_config`: those of the router that Envoy's tunnels go through.
const TUNNEL_ZEROS: [&str; 15] = [
    "no_cluster",
    "no_route",
    "passthrough_internal_redirect_bad_location",
    "passthrough_internal_redirect_no_route",
    "passthrough_internal_redirect_predicate",
    "passthrough_internal_redirect_too_many_redirects",
    "passthrough_internal_redirect_unsafe_scheme",
    "rq_direct_response",
    "rq_overload_local_reply",
    "rq_redirect",
    "rq_reset_after_downstream_response_started",
    "rq_retry_skipped_request_not_complete",
    "rq_total",
    "rs_too_large",
    "rq_timeout",
];

impl TcpProxyStats {
    /// Makes them all, at 0.
    pub(crate) fn new(scope: &Scope, stat_prefix: &str, tunneling: bool) -> Self {
        let scope = scope.tcp(stat_prefix);
        for name in ZEROS {
            scope.counter(name);
        }
        if tunneling {
            let scope = scope.scope("tcpproxy_tunneling");
            for name in TUNNEL_ZEROS {
                scope.counter(name);
            }
        }
        // Bytes never wait in this filter: they are in a socket, or with the relay.
        let _ = (scope.gauge("downstream_cx_rx_bytes_buffered"), scope.gauge("downstream_cx_tx_bytes_buffered"));
        Self {
            downstream_cx_total: scope.counter("downstream_cx_total"),
            downstream_cx_no_route: scope.counter("downstream_cx_no_route"),
            downstream_cx_drain_close: scope.counter("downstream_cx_drain_close"),
            downstream_cx_rx_bytes_total: scope.counter("downstream_cx_rx_bytes_total"),
            downstream_cx_tx_bytes_total: scope.counter("downstream_cx_tx_bytes_total"),
            downstream_flow_control_paused_reading_total: scope.counter("downstream_flow_control_paused_reading_total"),
            downstream_flow_control_resumed_reading_total: scope
                .counter("downstream_flow_control_resumed_reading_total"),
            early_data_received_count_total: scope.counter("early_data_received_count_total"),
            idle_timeout: scope.counter("idle_timeout"),
            max_downstream_connection_duration: scope.counter("max_downstream_connection_duration"),
            upstream_flush_total: scope.counter("upstream_flush_total"),
            upstream_flush_active: scope.gauge("upstream_flush_active"),
        }
    }
}
