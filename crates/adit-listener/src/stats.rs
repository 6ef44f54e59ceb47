//! `listener.<address>.` and its parts.

use adit_stats::{Counter, Gauge, Histogram, Scope};

/// The stats of a listener (`listener.<address>.`), all workers together.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "Envoy's own names")]
pub struct ListenerStats {
    pub downstream_cx_total: Counter,
    pub downstream_cx_destroy: Counter,
    pub downstream_cx_active: Gauge,
    pub downstream_cx_length_ms: Histogram,
    pub downstream_cx_overflow: Counter,
    pub downstream_cx_overload_reject: Counter,
    pub downstream_cx_transport_socket_connect_timeout: Counter,
    pub downstream_global_cx_overflow: Counter,
    pub downstream_listener_filter_error: Counter,
    pub downstream_listener_filter_remote_close: Counter,
    pub downstream_pre_cx_active: Gauge,
    pub downstream_pre_cx_timeout: Counter,
    pub no_filter_chain_match: Counter,
    pub connections_accepted_per_socket_event: Histogram,
}

impl ListenerStats {
    pub(crate) fn new(scope: &Scope) -> Self {
        // Nothing is discovered here, but both exist in Envoy.
        let _ = (scope.counter("extension_config_missing"), scope.counter("network_extension_config_missing"));
        Self {
            downstream_cx_total: scope.counter("downstream_cx_total"),
            downstream_cx_destroy: scope.counter("downstream_cx_destroy"),
            downstream_cx_active: scope.gauge("downstream_cx_active"),
            downstream_cx_length_ms: scope.histogram("downstream_cx_length_ms"),
            downstream_cx_overflow: scope.counter("downstream_cx_overflow"),
            downstream_cx_overload_reject: scope.counter("downstream_cx_overload_reject"),
            downstream_cx_transport_socket_connect_timeout: scope
                .counter("downstream_cx_transport_socket_connect_timeout"),
            downstream_global_cx_overflow: scope.counter("downstream_global_cx_overflow"),
            downstream_listener_filter_error: scope.counter("downstream_listener_filter_error"),
            downstream_listener_filter_remote_close: scope.counter("downstream_listener_filter_remote_close"),
            downstream_pre_cx_active: scope.gauge("downstream_pre_cx_active"),
            downstream_pre_cx_timeout: scope.counter("downstream_pre_cx_timeout"),
            no_filter_chain_match: scope.counter("no_filter_chain_match"),
            connections_accepted_per_socket_event: scope.histogram("connections_accepted_per_socket_event"),
        }
    }
}

/// `listener.<address>.worker_<i>.`
pub(crate) struct WorkerStats {
    pub(crate) downstream_cx_active: Gauge,
    pub(crate) downstream_cx_total: Counter,
}

impl WorkerStats {
    pub(crate) fn new(scope: &Scope, worker: usize) -> Self {
        let scope = scope.worker(worker);
        Self {
            downstream_cx_active: scope.gauge("downstream_cx_active"),
            downstream_cx_total: scope.counter("downstream_cx_total"),
        }
    }
}
