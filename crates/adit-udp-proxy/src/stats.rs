//! `udp.<stat_prefix>.` and `cluster.<name>.udp.`

use adit_stats::{Counter, Gauge, Scope};

/// The stats of a UDP proxy (`udp.<stat_prefix>.`).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "Envoy's own names")]
pub struct UdpProxyStats {
    pub downstream_sess_active: Gauge,
    pub downstream_sess_total: Counter,
    pub downstream_sess_no_route: Counter,
    pub downstream_sess_rx_bytes: Counter,
    pub downstream_sess_rx_datagrams: Counter,
    pub downstream_sess_rx_errors: Counter,
    pub downstream_sess_tx_bytes: Counter,
    pub downstream_sess_tx_datagrams: Counter,
    pub downstream_sess_tx_errors: Counter,
    pub idle_timeout: Counter,
}

impl UdpProxyStats {
    /// Makes them all, at 0.
    pub(crate) fn new(root: &Scope, stat_prefix: &str) -> Self {
        let scope = root.udp(stat_prefix);
        // Nothing is discovered here, but it exists in Envoy.
        let _ = scope.counter("session_filter_config_missing");
        Self {
            downstream_sess_active: scope.gauge("downstream_sess_active"),
            downstream_sess_total: scope.counter("downstream_sess_total"),
            downstream_sess_no_route: scope.counter("downstream_sess_no_route"),
            downstream_sess_rx_bytes: scope.counter("downstream_sess_rx_bytes"),
            downstream_sess_rx_datagrams: scope.counter("downstream_sess_rx_datagrams"),
            downstream_sess_rx_errors: scope.counter("downstream_sess_rx_errors"),
            downstream_sess_tx_bytes: scope.counter("downstream_sess_tx_bytes"),
            downstream_sess_tx_datagrams: scope.counter("downstream_sess_tx_datagrams"),
            downstream_sess_tx_errors: scope.counter("downstream_sess_tx_errors"),
            idle_timeout: scope.counter("idle_timeout"),
        }
    }
}

/// What UDP does to a cluster (`cluster.<name>.udp.`). Unlike in Envoy they move in tunnels too.
#[derive(Debug, Clone)]
pub(crate) struct ClusterUdpStats {
    pub(crate) sess_rx_datagrams: Counter,
    pub(crate) sess_rx_datagrams_dropped: Counter,
    pub(crate) sess_rx_errors: Counter,
    pub(crate) sess_tx_datagrams: Counter,
    pub(crate) sess_tx_errors: Counter,
    pub(crate) sess_tunnel_success: Counter,
    pub(crate) sess_tunnel_failure: Counter,
    pub(crate) sess_tunnel_buffer_overflow: Counter,
}

impl ClusterUdpStats {
    pub(crate) fn new(root: &Scope, cluster: &str) -> Self {
        let scope = root.cluster(cluster).scope("udp");
        Self {
            sess_rx_datagrams: scope.counter("sess_rx_datagrams"),
            sess_rx_datagrams_dropped: scope.counter("sess_rx_datagrams_dropped"),
            sess_rx_errors: scope.counter("sess_rx_errors"),
            sess_tx_datagrams: scope.counter("sess_tx_datagrams"),
            sess_tx_errors: scope.counter("sess_tx_errors"),
            sess_tunnel_success: scope.counter("sess_tunnel_success"),
            sess_tunnel_failure: scope.counter("sess_tunnel_failure"),
            sess_tunnel_buffer_overflow: scope.counter("sess_tunnel_buffer_overflow"),
        }
    }
}
