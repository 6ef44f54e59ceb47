//! `http.<stat_prefix>.` and the listener's share of it.

use std::time::Duration;

use adit_stats::{Counter, Gauge, Histogram, ResponseClasses, Scope};

macro_rules! stats {
    ($(#[$doc:meta])* $name:ident { counters { $($counter:ident,)* } gauges { $($gauge:ident,)* } histograms { $($histogram:ident,)* } }) => {
        $(#[$doc])*
        #[allow(dead_code, reason = "every stat is there from load on, also those that nothing here moves")]
        pub(crate) struct $name {
            $(pub(crate) $counter: Counter,)*
            $(pub(crate) $gauge: Gauge,)*
            $(pub(crate) $histogram: Histogram,)*
        }

        impl $name {
            pub(crate) fn new(scope: &Scope) -> Self {
                Self {
                    $($counter: scope.counter(stringify!($counter)),)*
                    $($gauge: scope.gauge(stringify!($gauge)),)*
                    $($histogram: scope.histogram(stringify!($histogram)),)*
                }
            }
        }
    };
}

stats! {
    /// Envoy's names.
    HttpStats {
        counters {
            downstream_cx_total,
            downstream_cx_destroy,
            downstream_cx_destroy_active_rq,
            downstream_cx_destroy_local,
            downstream_cx_destroy_local_active_rq,
            downstream_cx_destroy_remote,
            downstream_cx_destroy_remote_active_rq,
            downstream_cx_delayed_close_timeout,
            downstream_cx_drain_close,
            downstream_cx_http1_total,
            downstream_cx_http2_total,
            downstream_cx_http3_total,
            downstream_cx_idle_timeout,
            downstream_cx_max_duration_reached,
            downstream_cx_max_requests_reached,
            downstream_cx_overload_disable_keepalive,
            downstream_cx_protocol_error,
            downstream_cx_rx_bytes_total,
            downstream_cx_ssl_total,
            downstream_cx_tx_bytes_total,
            downstream_cx_upgrades_total,
            downstream_flow_control_paused_reading_total,
            downstream_flow_control_resumed_reading_total,
            downstream_rq_completed,
            downstream_rq_failed_path_normalization,
            downstream_rq_header_timeout,
            downstream_rq_http1_total,
            downstream_rq_http2_total,
            downstream_rq_http3_total,
            downstream_rq_idle_timeout,
            downstream_rq_max_duration_reached,
            downstream_rq_non_relative_path,
            downstream_rq_overload_close,
            downstream_rq_redirected_with_normalized_path,
            downstream_rq_rejected_via_ip_detection,
            downstream_rq_response_before_rq_complete,
            downstream_rq_rx_reset,
            downstream_rq_timeout,
            downstream_rq_too_large,
            downstream_rq_too_many_premature_resets,
            downstream_rq_total,
            downstream_rq_tx_reset,
            downstream_rq_ws_on_non_ws_route,
            rs_too_large,
        }
        gauges {
            downstream_cx_active,
            downstream_cx_http1_active,
            downstream_cx_http1_soft_drain,
            downstream_cx_http2_active,
            downstream_cx_http3_active,
            downstream_cx_rx_bytes_buffered,
            downstream_cx_ssl_active,
            downstream_cx_tx_bytes_buffered,
            downstream_cx_upgrades_active,
            downstream_rq_active,
        }
        histograms {
            downstream_cx_length_ms,
            downstream_rq_time,
        }
    }
}

impl HttpStats {
    /// A connection that a filter before the connection manager closed.
    pub(crate) fn refused(&self, tls: bool, length: Duration) {
        self.downstream_cx_total.inc();
        self.downstream_cx_destroy.inc();
        self.downstream_cx_destroy_local.inc();
        self.downstream_cx_length_ms.record(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        if tls {
            self.downstream_cx_ssl_total.inc();
        }
    }
}

/// The stats of one connection manager: its own and those that its listener shares.
pub(crate) struct Stats {
    pub(crate) http: HttpStats,
    pub(crate) classes: ResponseClasses,
    pub(crate) listener_classes: ResponseClasses,
    pub(crate) listener_completed: Counter,
    pub(crate) dropped_underscores: Counter,
    pub(crate) rejected_underscores: Counter,
}

impl Stats {
    /// `root` is the store's scope, `listener` that of the listener.
    pub(crate) fn new(root: &Scope, listener: &Scope, stat_prefix: &str) -> Self {
        let http = root.http(stat_prefix);
        let below_listener = listener.http(stat_prefix);
        let http1 = root.scope("http1");
        // There is no tracing; a codec of HTTP/1 knows no metadata, and bounds what it queues by itself.
        for name in ["client_enabled", "health_check", "not_traceable", "random_sampling", "service_forced"] {
            let _ = http.scope("tracing").counter(name);
        }
        let _ = (http1.counter("metadata_not_supported_error"), http1.counter("response_flood"));
        Self {
            classes: ResponseClasses::new(&http, "downstream_rq"),
            listener_classes: ResponseClasses::new(&below_listener, "downstream_rq"),
            listener_completed: below_listener.counter("downstream_rq_completed"),
            dropped_underscores: http1.counter("dropped_headers_with_underscores"),
            rejected_underscores: http1.counter("requests_rejected_with_underscores_in_headers"),
            http: HttpStats::new(&http),
        }
    }

    /// A stream's final status.
    pub(crate) fn completed(&self, status: u16) {
        self.http.downstream_rq_completed.inc();
        self.listener_completed.inc();
        self.classes.inc(status);
        self.listener_classes.inc(status);
    }
}
