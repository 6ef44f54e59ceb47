//! `listener.<address>.`: what a QUIC listener counts, under the names that every listener has.

use adit_stats::{Counter, Gauge, Histogram, Scope};

pub(crate) struct QuicStats {
    pub(crate) total: Counter,
    pub(crate) destroy: Counter,
    pub(crate) active: Gauge,
    pub(crate) handshake_timeout: Counter,
    pub(crate) connection_error: Counter,
    pub(crate) handshake: Counter,
    pub(crate) length: Histogram,
    scope: Scope,
}

impl QuicStats {
    pub(crate) fn new(scope: &Scope) -> Self {
        let ssl = scope.scope("ssl");
        Self {
            total: scope.counter("downstream_cx_total"),
            destroy: scope.counter("downstream_cx_destroy"),
            active: scope.gauge("downstream_cx_active"),
            handshake_timeout: scope.counter("downstream_cx_transport_socket_connect_timeout"),
            connection_error: ssl.counter("connection_error"),
            handshake: ssl.counter("handshake"),
            length: scope.histogram("downstream_cx_length_ms"),
            scope: scope.clone(),
        }
    }

    /// `worker_<i>.downstream_cx_{total,active}`.
    pub(crate) fn worker(&self, index: usize) -> (Counter, Gauge) {
        let scope = self.scope.worker(index);
        (scope.counter("downstream_cx_total"), scope.gauge("downstream_cx_active"))
    }
}
