//! What `/clusters` prints.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_filter::upstream::Priority;
use adit_io::Address;

use crate::breaker::Thresholds;
use crate::cluster::{SharedCluster, lock};
use crate::host::{HealthFlag, HostState};
use crate::plan::Locality;

/// One cluster.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// The name.
    pub name: Arc<str>,
    /// `alt_stat_name`, or the name.
    pub observability_name: Arc<str>,
    /// Came by an API; never, here.
    pub added_via_api: bool,
    /// With `outlier_detection`: the average success rate of the servers in the last interval in per cent, the threshold of
    /// ejection, and both of our own side; -1 where there was too little to go by.
    pub success_rates: Option<[f64; 4]>,
    /// Limits of DEFAULT.
    pub default_priority: Thresholds,
    /// Limits of HIGH.
    pub high_priority: Thresholds,
    /// The hosts, in the order of configuration or resolution.
    pub hosts: Vec<HostView>,
}

/// One host.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is what /clusters calls it")]
pub struct HostView {
    pub address: Address,
    pub hostname: Arc<str>,
    pub cx_active: u64,
    pub cx_connect_fail: u64,
    pub cx_total: u64,
    pub rq_active: u64,
    pub rq_error: u64,
    pub rq_pending_active: u64,
    pub rq_success: u64,
    pub rq_timeout: u64,
    pub rq_total: u64,
    /// Each flag by name, joined by `|` with a leading slash as Envoy prints it; `healthy` without any.
    pub health_flags: String,
    pub flags: Vec<&'static str>,
    pub weight: u32,
    pub locality: Arc<Locality>,
    pub canary: bool,
    pub priority: u32,
    /// Per cent; -1 while there is no rate.
    pub success_rate: f64,
    /// Per cent; -1 while there is no rate.
    pub local_origin_success_rate: f64,
}

const FLAGS: [(HealthFlag, &str); 7] = [
    (HealthFlag::FailedActiveHealthCheck, "failed_active_hc"),
    (HealthFlag::FailedOutlierCheck, "failed_outlier_check"),
    (HealthFlag::FailedConfigHealth, "failed_eds_health"),
    (HealthFlag::DegradedActiveHealthCheck, "degraded_active_hc"),
    (HealthFlag::DegradedConfigHealth, "degraded_eds_health"),
    (HealthFlag::PendingRemoval, "pending_dynamic_removal"),
    (HealthFlag::PendingActiveHealthCheck, "pending_active_hc"),
];

pub(crate) fn describe(cluster: &SharedCluster) -> ClusterView {
    let plan = cluster.plan();
    ClusterView {
        name: plan.name().clone(),
        observability_name: plan.observability_name.clone(),
        added_via_api: false,
        success_rates: plan.outlier.map(|_| *lock(&cluster.core().success_rates)),
        default_priority: cluster.core().breaker(Priority::Default).limits,
        high_priority: cluster.core().breaker(Priority::High).limits,
        hosts: cluster.hosts().iter().map(|host| host_view(host)).collect(),
    }
}

fn host_view(host: &HostState) -> HostView {
    let stats = &host.stats;
    let flags: Vec<&'static str> = FLAGS.iter().filter(|(flag, _)| host.has(*flag)).map(|(_, name)| *name).collect();
    let health_flags = match flags.as_slice() {
        [] => "healthy".to_owned(),
        flags => flags.iter().map(|flag| format!("/{flag}")).collect(),
    };
    HostView {
        address: host.address().clone(),
        hostname: host.facts.info.hostname.clone(),
        cx_active: stats.cx_active.load(Relaxed),
        cx_connect_fail: stats.cx_connect_fail.load(Relaxed),
        cx_total: stats.cx_total.load(Relaxed),
        rq_active: stats.rq_active.load(Relaxed),
        rq_error: stats.rq_error.load(Relaxed),
        rq_pending_active: stats.rq_pending_active.load(Relaxed),
        rq_success: stats.rq_success.load(Relaxed),
        rq_timeout: stats.rq_timeout.load(Relaxed),
        rq_total: stats.rq_total.load(Relaxed),
        health_flags,
        flags,
        weight: host.facts.weight,
        locality: host.facts.locality.clone(),
        canary: host.canary(),
        priority: host.facts.priority,
        success_rate: host.outlier.rate.last(),
        local_origin_success_rate: host.outlier.local_rate.last(),
    }
}

impl HostState {
    /// `envoy.lb`'s `canary` in its metadata.
    fn canary(&self) -> bool {
        let canary = self.facts.info.metadata.get("envoy.lb").and_then(|lb| lb.walk(["canary"]));
        matches!(canary, Some(adit_io::Value::Bool(true)))
    }
}
