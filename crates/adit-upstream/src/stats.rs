//! A cluster's metrics under Envoy's names (`cluster.<name>.`).

use std::sync::OnceLock;

use adit_stats::{Counter, Gauge, Histogram, ResponseCodes, Scope};

macro_rules! metrics {
    ($(#[$doc:meta])* $name:ident { $($kind:ident $field:ident $(= $stat:literal)?,)* }) => {
        $(#[$doc])*
        #[allow(missing_docs, reason = "each is the metric of its name")]
        #[derive(Clone)]
        pub struct $name { $(pub $field: metrics!(@type $kind),)* }

        impl $name {
            /// Makes every metric in `scope`, at zero.
            pub fn new(scope: &Scope) -> Self {
                Self { $($field: scope.$kind(metrics!(@name $field $($stat)?)),)* }
            }
        }
    };
    (@type counter) => { Counter };
    (@type gauge) => { Gauge };
    (@type histogram) => { Histogram };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $stat:literal) => { $stat };
}

metrics! {
    /// Connections and requests of a cluster.
    TrafficStats {
        counter bind_errors,
        counter upstream_http3_broken,
        counter upstream_queue_overloaded,
        counter original_dst_host_invalid,
        counter retry_or_shadow_abandoned,
        counter upstream_cx_close_notify,
        counter upstream_cx_connect_attempts_exceeded,
        counter upstream_cx_connect_fail,
        counter upstream_cx_connect_timeout,
        counter upstream_cx_connect_with_0_rtt,
        counter upstream_cx_destroy,
        counter upstream_cx_destroy_local,
        counter upstream_cx_destroy_local_with_active_rq,
        counter upstream_cx_destroy_remote,
        counter upstream_cx_destroy_remote_with_active_rq,
        counter upstream_cx_destroy_with_active_rq,
        counter upstream_cx_http1_total,
        counter upstream_cx_http2_total,
        counter upstream_cx_http3_total,
        counter upstream_cx_idle_timeout,
        counter upstream_cx_max_duration_reached,
        counter upstream_cx_max_requests,
        counter upstream_cx_none_healthy,
        counter upstream_cx_overflow,
        counter upstream_cx_pool_overflow,
        counter upstream_cx_preconnect_skipped,
        counter upstream_cx_protocol_error,
        counter upstream_cx_rx_bytes_total,
        counter upstream_cx_total,
        counter upstream_cx_tx_bytes_total,
        counter upstream_flow_control_backed_up_total,
        counter upstream_flow_control_drained_total,
        counter upstream_flow_control_paused_reading_total,
        counter upstream_flow_control_resumed_reading_total,
        counter upstream_internal_redirect_failed_total,
        counter upstream_internal_redirect_succeeded_total,
        counter upstream_rq_0rtt,
        counter upstream_rq_active_overflow,
        counter upstream_rq_cancelled,
        counter upstream_rq_completed,
        counter upstream_rq_maintenance_mode,
        counter upstream_rq_max_duration_reached,
        counter upstream_rq_pending_failure_eject,
        counter upstream_rq_pending_overflow,
        counter upstream_rq_pending_total,
        counter upstream_rq_per_try_idle_timeout,
        counter upstream_rq_per_try_timeout,
        counter upstream_rq_retry,
        counter upstream_rq_retry_backoff_exponential,
        counter upstream_rq_retry_backoff_ratelimited,
        counter upstream_rq_retry_limit_exceeded,
        counter upstream_rq_retry_overflow,
        counter upstream_rq_retry_success,
        counter upstream_rq_rx_reset,
        counter upstream_rq_rx_reset_no_error,
        counter upstream_rq_timeout,
        counter upstream_rq_total,
        counter upstream_rq_tx_reset,
        gauge upstream_cx_active,
        gauge upstream_cx_rx_bytes_buffered,
        gauge upstream_cx_tx_bytes_buffered,
        gauge upstream_rq_active,
        gauge upstream_rq_pending_active,
        histogram upstream_cx_connect_ms,
        histogram upstream_cx_length_ms,
        histogram upstream_rq_per_cx,
        histogram upstream_rq_time,
    }
}

metrics! {
    /// Hosts, load balancing and updates of a cluster.
    MembershipStats {
        counter lb_healthy_panic,
        counter lb_local_cluster_not_ok,
        counter lb_recalculate_zone_structures,
        counter lb_subsets_created,
        counter lb_subsets_fallback,
        counter lb_subsets_fallback_panic,
        counter lb_subsets_removed,
        counter lb_subsets_selected,
        counter lb_zone_cluster_too_small,
        counter lb_zone_no_capacity_left,
        counter lb_zone_routing_all_directly,
        counter lb_zone_routing_cross_zone,
        counter lb_zone_routing_sampled,
        counter assignment_stale,
        counter assignment_timeout_received,
        counter assignment_use_cached,
        counter membership_change,
        counter update_attempt,
        counter update_empty,
        counter update_failure,
        counter update_no_rebuild,
        counter update_success,
        gauge lb_subsets_active,
        gauge warming_state,
        gauge max_host_weight,
        gauge membership_degraded,
        gauge membership_excluded,
        gauge membership_healthy,
        gauge membership_total,
        gauge version,
    }
}

metrics! {
    /// `health_check.`, where a cluster has health checks.
    HealthCheckStats {
        counter attempt,
        counter failure,
        counter network_failure,
        counter passive_failure,
        counter success,
        counter verify_cluster,
        gauge degraded,
        gauge healthy,
    }
}

impl HealthCheckStats {
    /// Those of one health check of the cluster whose scope this is: one with a name has it in front.
    pub(crate) fn of(cluster: &Scope, name: &str) -> Self {
        let scope = cluster.scope("health_check");
        Self::new(&if name.is_empty() { scope } else { scope.scope("name").scope(name) })
    }
}

metrics! {
    /// `outlier_detection.`, where a cluster has outlier detection.
    OutlierStats {
        counter ejections_consecutive_5xx,
        counter ejections_detected_degradation,
        counter ejections_detected_failure_percentage,
        counter ejections_detected_local_origin_failure_percentage,
        counter ejections_detected_local_origin_success_rate,
        counter ejections_detected_success_rate,
        counter ejections_enforced_failure_percentage,
        counter ejections_enforced_local_origin_failure_percentage,
        counter ejections_enforced_local_origin_success_rate,
        counter ejections_enforced_success_rate,
        counter ejections_success_rate,
        counter ejections_detected_consecutive_5xx,
        counter ejections_detected_consecutive_gateway_failure,
        counter ejections_detected_consecutive_local_origin_failure,
        counter ejections_enforced_consecutive_5xx,
        counter ejections_enforced_consecutive_gateway_failure,
        counter ejections_enforced_consecutive_local_origin_failure,
        counter ejections_enforced_total,
        counter ejections_overflow,
        counter ejections_total,
        gauge ejections_active,
    }
}

/// Every metric that a cluster has from its load on, and those by status code, made when they are first used.
pub struct ClusterStats {
    /// Connections and requests.
    pub traffic: TrafficStats,
    /// Hosts and updates.
    pub membership: MembershipStats,
    codes: ResponseCodes,
    external: Family,
    internal: Family,
    retry: Family,
}

/// `external.`, `internal.` and `retry.`: answers by status, made when they are first used.
struct Family {
    codes: ResponseCodes,
    completed: OnceLock<Counter>,
    time: OnceLock<Histogram>,
    scope: Scope,
}

impl Family {
    fn new(scope: Scope) -> Self {
        let codes = ResponseCodes::new(&scope, "upstream_rq");
        Self { codes, completed: OnceLock::new(), time: OnceLock::new(), scope }
    }

    fn count(&self, status: u16) {
        self.codes.inc(status);
        self.completed.get_or_init(|| self.scope.counter("upstream_rq_completed")).inc();
    }
}

impl ClusterStats {
    /// The metrics of the cluster with this scope.
    pub fn new(scope: &Scope) -> Self {
        Self {
            traffic: TrafficStats::new(scope),
            membership: MembershipStats::new(scope),
            codes: ResponseCodes::new(scope, "upstream_rq"),
            external: Family::new(scope.scope("external")),
            internal: Family::new(scope.scope("internal")),
            retry: Family::new(scope.scope("retry")),
        }
    }

    /// Counts a final response.
    pub fn response(&self, status: u16, time: std::time::Duration, internal: bool) {
        self.charge(status, internal);
        let millis = millis(time);
        self.traffic.upstream_rq_time.record(millis);
        let family = self.family(internal);
        family.time.get_or_init(|| family.scope.histogram("upstream_rq_time")).record(millis);
    }

    /// Counts an answer by its status alone.
    pub fn charge(&self, status: u16, internal: bool) {
        self.codes.inc(status);
        self.traffic.upstream_rq_completed.inc();
        self.family(internal).count(status);
    }

    /// Counts an answer that another attempt follows.
    pub fn charge_retried(&self, status: u16) {
        self.retry.count(status);
    }

    fn family(&self, internal: bool) -> &Family {
        if internal { &self.internal } else { &self.external }
    }
}

/// Whole milliseconds, for histograms.
pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
