//! Ejection of hosts whose share of failures stands out, once an interval: below the others (`success_rate_*`), or beyond a
//! limit (`failure_percentage_*`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Ejecting;
use crate::cluster::{SharedCluster, lock};
use crate::host::{HealthFlag, HostState};
use crate::plan::{OutlierPlan, RatePlan};

/// What one host answered in the current interval, and the share of it that was no error in the last one.
pub(crate) struct Rate {
    success: AtomicU64,
    total: AtomicU64,
    /// The bits of a number of per cent; -1 where there was too little to go by.
    last: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { success: AtomicU64::new(0), total: AtomicU64::new(0), last: AtomicU64::new((-1f64).to_bits()) }
    }
}

impl Rate {
    pub(super) fn count(&self, success: bool) {
        self.total.fetch_add(1, Relaxed);
        self.success.fetch_add(u64::from(success), Relaxed);
    }

    /// In per cent, of the last interval; -1 for none.
    pub(crate) fn last(&self) -> f64 {
        f64::from_bits(self.last.load(Relaxed))
    }

    /// Ends the interval: the share of successes in per cent, and of how many.
    fn take(&self) -> Option<(f64, u64)> {
        let (success, total) = (self.success.swap(0, Relaxed), self.total.swap(0, Relaxed));
        self.last.store((-1f64).to_bits(), Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
        (total > 0).then(|| (100.0 * success as f64 / total as f64, total))
    }
}

/// Looks at what all hosts did in the interval that ends now: the servers' answers, or what happened on our side.
pub(super) fn judge(shared: &SharedCluster, plan: &OutlierPlan, hosts: &[Arc<HostState>], local: bool) {
    let Some(stats) = &shared.core().outlier_stats else { return };
    let rates = &plan.rates;
    let (mut by_rate, mut by_percentage) = (Vec::new(), Vec::new());
    for host in hosts {
        let rate = if local { &host.outlier.local_rate } else { &host.outlier.rate };
        let Some((percent, volume)) = rate.take() else { continue };
        if host.has(HealthFlag::FailedOutlierCheck) {
            continue;
        }
        if volume >= rates.success_volume.min(rates.failure_volume) {
            rate.last.store(percent.to_bits(), Relaxed);
        }
        if volume >= rates.success_volume {
            by_rate.push((host, percent));
        }
        if volume >= rates.failure_volume {
            by_percentage.push((host, percent));
        }
    }
    let known = by_rate.len() >= rates.success_hosts.max(1);
    let (mean, limit) = if known { threshold(&by_rate, rates) } else { (-1.0, -1.0) };
    {
        let mut all = lock(&shared.core().success_rates);
        let [server_mean, server_limit, local_mean, local_limit] = &mut *all;
        let (to_mean, to_limit) = if local { (local_mean, local_limit) } else { (server_mean, server_limit) };
        (*to_mean, *to_limit) = (mean, limit);
    }
    if known {
        let ejecting = if local {
            Ejecting {
                percent: rates.enforcing_local_success,
                detected: &stats.ejections_detected_local_origin_success_rate,
                enforced: &stats.ejections_enforced_local_origin_success_rate,
                old: None,
            }
        } else {
            Ejecting {
                percent: rates.enforcing_success,
                detected: &stats.ejections_detected_success_rate,
                enforced: &stats.ejections_enforced_success_rate,
                old: Some(&stats.ejections_success_rate),
            }
        };
        for (host, _) in by_rate.iter().filter(|(_, percent)| *percent < limit) {
            shared.core().eject(plan, host, &ejecting);
        }
    }
    if by_percentage.len() >= rates.failure_hosts.max(1) {
        let ejecting = if local {
            Ejecting {
                percent: rates.enforcing_local_failure,
                detected: &stats.ejections_detected_local_origin_failure_percentage,
                enforced: &stats.ejections_enforced_local_origin_failure_percentage,
                old: None,
            }
        } else {
            Ejecting {
                percent: rates.enforcing_failure,
                detected: &stats.ejections_detected_failure_percentage,
                enforced: &stats.ejections_enforced_failure_percentage,
                old: None,
            }
        };
        for (host, _) in by_percentage.iter().filter(|(_, percent)| 100.0 - percent >= rates.failure_threshold) {
            shared.core().eject(plan, host, &ejecting);
        }
    }
}

/// The mean, and so many standard deviations below it.
fn threshold(rates: &[(&Arc<HostState>, f64)], plan: &RatePlan) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a number of hosts")]
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, percent)| percent).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, percent)| (percent - mean).powi(2)).sum::<f64>() / count;
    (mean, mean - plan.deviations * variance.sqrt())
}
