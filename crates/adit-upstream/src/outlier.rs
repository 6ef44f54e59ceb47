//! Outlier detection: hosts that fail in a row, or more than others, are ejected for a while.

mod rates;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use adit_stats::Counter;
use tokio::time::Instant;

use crate::cluster::{Core, SharedCluster, lock};
use crate::host::{HealthFlag, HostState};
use crate::plan::OutlierPlan;

/// What one host did in a row, and how often it was ejected.
#[derive(Default)]
pub(crate) struct HostOutlier {
    errors: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
    /// Of what the server answered.
    pub(crate) rate: rates::Rate,
    /// Of what happened on our side, where that is told apart.
    pub(crate) local_rate: rates::Rate,
    ejection: Mutex<Ejection>,
}

#[derive(Default)]
struct Ejection {
    /// Ejections so far, less those that time has forgiven.
    times: u32,
    since: Option<Instant>,
}

/// What happened on our side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalOrigin {
    /// It stands.
    Connected,
    /// It was refused or reset.
    ConnectFailed,
    /// It, or an answer, took too long.
    Timeout,
    /// A stream was reset.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Errors,
    Gateway,
    Local,
}

/// Why a host is to go, and where that is counted.
struct Ejecting<'a> {
    /// How often that has consequences, in per cent.
    percent: u32,
    detected: &'a Counter,
    enforced: &'a Counter,
    /// The counter from before Envoy told detected from enforced.
    old: Option<&'a Counter>,
}

impl Core {
    /// A response came.
    pub(crate) fn outlier_response(&self, host: &HostState, status: u16) {
        if let Some(plan) = &self.plan.outlier {
            self.status(plan, host, status);
        }
    }

    /// Something happened before or instead of a response. Without the split it counts as the status that Envoy maps
    /// it to: a 503 or a 504; a connection that stands proves nothing of the server.
    pub(crate) fn outlier_local(&self, host: &HostState, event: LocalOrigin) {
        let Some(plan) = &self.plan.outlier else { return };
        if plan.split {
            host.outlier.local_rate.count(event == LocalOrigin::Connected);
            match event {
                LocalOrigin::Connected => host.outlier.local.store(0, Relaxed),
                _ => self.count(plan, host, Cause::Local),
            }
            return;
        }
        match event {
            LocalOrigin::Connected => {}
            LocalOrigin::Timeout => self.status(plan, host, 504),
            LocalOrigin::ConnectFailed | LocalOrigin::Reset => self.status(plan, host, 503),
        }
    }

    fn status(&self, plan: &OutlierPlan, host: &HostState, status: u16) {
        let outlier = &host.outlier;
        let success = !(500..600).contains(&status);
        outlier.rate.count(success);
        if success {
            outlier.errors.store(0, Relaxed);
            outlier.gateway.store(0, Relaxed);
            return;
        }
        if matches!(status, 502..=504) {
            self.count(plan, host, Cause::Gateway);
        } else {
            outlier.gateway.store(0, Relaxed);
        }
        self.count(plan, host, Cause::Errors);
    }

    fn count(&self, plan: &OutlierPlan, host: &HostState, cause: Cause) {
        let outlier = &host.outlier;
        let (counter, limit, enforcing) = match cause {
            Cause::Errors => (&outlier.errors, plan.consecutive_5xx, plan.enforcing_5xx),
            Cause::Gateway => (&outlier.gateway, plan.consecutive_gateway, plan.enforcing_gateway),
            Cause::Local => (&outlier.local, plan.consecutive_local, plan.enforcing_local),
        };
        if counter.fetch_add(1, Relaxed) + 1 != limit.max(1) {
            return;
        }
        counter.store(0, Relaxed);
        let Some(stats) = &self.outlier_stats else { return };
        let (detected, enforced, old) = match cause {
            Cause::Errors => (
                &stats.ejections_detected_consecutive_5xx,
                &stats.ejections_enforced_consecutive_5xx,
                Some(&stats.ejections_consecutive_5xx),
            ),
            Cause::Gateway => (
                &stats.ejections_detected_consecutive_gateway_failure,
                &stats.ejections_enforced_consecutive_gateway_failure,
                None,
            ),
            Cause::Local => (
                &stats.ejections_detected_consecutive_local_origin_failure,
                &stats.ejections_enforced_consecutive_local_origin_failure,
                None,
            ),
        };
        self.eject(plan, host, &Ejecting { percent: enforcing, detected, enforced, old });
    }

    /// A host stands out: it goes, if that is enforced and not too many are gone already.
    fn eject(&self, plan: &OutlierPlan, host: &HostState, why: &Ejecting<'_>) {
        let Some(stats) = &self.outlier_stats else { return };
        if host.has(HealthFlag::FailedOutlierCheck) {
            return;
        }
        why.detected.inc();
        if let Some(old) = why.old {
            old.inc();
        }
        if !self.may_eject(plan) {
            stats.ejections_overflow.inc();
            return;
        }
        // Envoy's older counters tell what would be.
        if why.old.is_some() {
            stats.ejections_total.inc();
        }
        if fastrand::u32(..100) >= why.percent {
            return;
        }
        {
            let mut ejection = lock(&host.outlier.ejection);
            if !host.set_flag(HealthFlag::FailedOutlierCheck, true) {
                return;
            }
            ejection.times += 1;
            ejection.since = Some(Instant::now());
        }
        why.enforced.inc();
        stats.ejections_enforced_total.inc();
        stats.ejections_active.inc();
        self.health_changed();
    }

    /// Whether there may be one ejection more (`max_ejection_percent`, `always_eject_one_host`).
    fn may_eject(&self, plan: &OutlierPlan) -> bool {
        let Some(shared) = self.shared() else { return false };
        let hosts = shared.hosts();
        let ejected = hosts.iter().filter(|host| host.has(HealthFlag::FailedOutlierCheck)).count();
        let percent = 100.0 * (ejected + 1) as f64 / hosts.len().max(1) as f64;
        (ejected == 0 && plan.always_one) || percent <= f64::from(plan.max_percent)
    }
}

/// Looks at every host once an `interval`: takes back those that were out for long enough.
pub(crate) async fn run(shared: std::sync::Arc<SharedCluster>) {
    let Some(plan) = shared.plan().outlier else { return };
    let mut ticks = tokio::time::interval(plan.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut changed = false;
        let hosts = shared.hosts();
        for host in hosts.iter() {
            changed |= look_at(&shared, &plan, host);
        }
        rates::judge(&shared, &plan, &hosts, false);
        if plan.split {
            rates::judge(&shared, &plan, &hosts, true);
        }
        if changed {
            shared.rebuild();
        }
    }
}

fn look_at(shared: &SharedCluster, plan: &OutlierPlan, host: &HostState) -> bool {
    let mut ejection = lock(&host.outlier.ejection);
    let Some(since) = ejection.since else {
        // A host that stayed in for a whole interval is forgiven one ejection.
        ejection.times = ejection.times.saturating_sub(1);
        return false;
    };
    let jitter = plan.jitter.mul_f64(fastrand::f64());
    let out = plan.base_ejection.saturating_mul(ejection.times).min(plan.max_ejection) + jitter;
    if since.elapsed() < out {
        return false;
    }
    ejection.since = None;
    drop(ejection);
    uneject(shared, host)
}

/// A health check succeeded: an ejected host comes back at once where that is wanted.
pub(crate) fn checked_healthy(shared: &SharedCluster, host: &HostState) {
    if shared.plan().outlier.is_some_and(|plan| plan.uneject_on_check) && uneject(shared, host) {
        lock(&host.outlier.ejection).since = None;
        shared.rebuild();
    }
}

fn uneject(shared: &SharedCluster, host: &HostState) -> bool {
    if !host.set_flag(HealthFlag::FailedOutlierCheck, false) {
        return false;
    }
    host.outlier.errors.store(0, Relaxed);
    host.outlier.gateway.store(0, Relaxed);
    host.outlier.local.store(0, Relaxed);
    if let Some(stats) = &shared.core().outlier_stats {
        stats.ejections_active.dec();
    }
    true
}

#[cfg(test)]
mod tests;
