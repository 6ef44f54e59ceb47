//! How much each priority gets: overprovisioning, spill-over, panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{HostList, Level, Which};
use crate::host::HostState;
use crate::plan::LbPlan;

/// Per cent of the load for each list of each priority; they add up to 100 unless there is no host at all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Availability(Vec<(usize, Which, u64)>);

impl Availability {
    pub fn new(plan: &LbPlan, levels: &[Level]) -> Self {
        let health: Vec<(u64, u64)> = levels.iter().map(|level| share(plan, level)).collect();
        let total = health.iter().map(|(healthy, degraded)| healthy + degraded).sum::<u64>().min(100);
        let panics: Vec<bool> = levels.iter().map(|level| total < 100 && in_panic(plan, level)).collect();
        if !panics.is_empty() && panics.iter().all(|panic| *panic) {
            return Self(total_panic(levels));
        }
        if total == 0 {
            // Without panic nobody is good enough.
            return Self(Vec::new());
        }
        Self(spread(&health, total, &panics))
    }

    /// The list on which this roll falls.
    pub fn pick(&self, roll: u64) -> Option<(usize, Which)> {
        if let [(priority, which, _)] = self.0.as_slice() {
            return Some((*priority, *which));
        }
        let mut left = roll % 100 + 1;
        for (priority, which, load) in &self.0 {
            if left <= *load {
                return Some((*priority, *which));
            }
            left -= load;
        }
        self.0.last().map(|(priority, which, _)| (*priority, *which))
    }
}

/// Healthy and degraded availability of a priority in per cent, overprovisioned.
fn share(plan: &LbPlan, level: &Level) -> (u64, u64) {
    let all = count(plan, &level.all);
    if all == 0 {
        return (0, 0);
    }
    let part = |list: &HostList| (u64::from(plan.overprovisioning) * count(plan, list) / all).min(100);
    let healthy = part(&level.healthy);
    (healthy, part(&level.degraded).min(100 - healthy))
}

/// Hosts, or their weights where `weighted_priority_health` says so.
fn count(plan: &LbPlan, list: &HostList) -> u64 {
    if plan.weighted_priority_health {
        list.hosts.iter().map(|host| u64::from(host.facts.weight)).sum()
    } else {
        list.hosts.len() as u64
    }
}

fn in_panic(plan: &LbPlan, level: &Level) -> bool {
    let all = level.all.hosts.len();
    let good = level.healthy.hosts.len() + level.degraded.hosts.len();
    let percent = if all == 0 { 0.0 } else { 100.0 * good as f64 / all as f64 };
    percent < plan.panic_threshold
}

/// Every priority panics: load by the number of hosts.
fn total_panic(levels: &[Level]) -> Vec<(usize, Which, u64)> {
    let hosts: u64 = levels.iter().map(|level| level.all.hosts.len() as u64).sum();
    if hosts == 0 {
        return Vec::new();
    }
    let mut left = 100;
    let mut loads = Vec::new();
    for (priority, level) in levels.iter().enumerate().filter(|(_, level)| !level.all.hosts.is_empty()) {
        let load = (100 * level.all.hosts.len() as u64 / hosts).min(left);
        left -= load;
        loads.push((priority, Which::All, load));
    }
    if let Some(first) = loads.first_mut() {
        first.2 += left;
    }
    loads
}

/// Healthy hosts first, from the highest priority down, then degraded ones.
fn spread(health: &[(u64, u64)], total: u64, panics: &[bool]) -> Vec<(usize, Which, u64)> {
    let mut left = 100;
    let mut loads = Vec::new();
    let healthy = health.iter().map(|(healthy, _)| (Which::Healthy, *healthy)).enumerate();
    let degraded = health.iter().map(|(_, degraded)| (Which::Degraded, *degraded)).enumerate();
    for (priority, (which, share)) in healthy.chain(degraded) {
        let load = (share * 100 / total).min(left);
        if load > 0 {
            left -= load;
            let panic = panics.get(priority).copied().unwrap_or(false);
            loads.push((priority, if panic { Which::All } else { which }, load));
        }
    }
    // What rounding left over goes to the first.
    if let Some(first) = loads.first_mut() {
        first.2 += left;
    }
    loads
}

/// Each host's share of its locality's weight (`locality_weighted_lb_config`).
///
/// A locality's weight shrinks with its availability, overprovisioning included, which the caller's list reflects by
/// the hosts in it.
pub(crate) fn locality_weights(hosts: &[Arc<HostState>]) -> Vec<f64> {
    let mut sums: BTreeMap<*const crate::plan::Locality, u64> = BTreeMap::new();
    for host in hosts {
        *sums.entry(Arc::as_ptr(&host.facts.locality)).or_default() += u64::from(host.facts.weight);
    }
    let weight = |host: &Arc<HostState>| {
        let sum = sums.get(&Arc::as_ptr(&host.facts.locality)).copied().unwrap_or(1).max(1);
        // A locality without a weight gets no traffic.
        f64::from(host.facts.locality.weight) * f64::from(host.facts.weight) / sum as f64
    };
    hosts.iter().map(weight).collect()
}
