//! Choosing a host: priorities, panic, and the algorithm within a priority.

mod edf;
mod maglev;
mod priority;
mod ring;

use std::sync::{Arc, OnceLock};

use crate::host::{Health, HostState};
use crate::plan::{LbPlan, LbPolicy};
use edf::Scheduler;
use maglev::Maglev;
pub(crate) use priority::Availability;
use ring::Ring;

/// The hosts of a cluster at one moment, shared by all workers; made anew whenever a host or its health changes.
pub struct HostSet {
    /// By priority, 0 first.
    pub(crate) levels: Vec<Level>,
    availability: Availability,
    hosts: Vec<Arc<HostState>>,
}

/// The hosts of one priority.
pub(crate) struct Level {
    pub all: HostList,
    pub healthy: HostList,
    pub degraded: HostList,
}

/// Hosts among which an algorithm chooses.
pub(crate) struct HostList {
    pub hosts: Vec<Arc<HostState>>,
    /// What each host weighs, its locality's weight included; empty when all weigh the same.
    pub weights: Vec<f64>,
    ring: OnceLock<Ring>,
    maglev: OnceLock<Maglev>,
}

impl HostList {
    fn new(hosts: Vec<Arc<HostState>>, by_locality: bool) -> Self {
        let mut weights: Vec<f64> = if by_locality {
            priority::locality_weights(&hosts)
        } else {
            hosts.iter().map(|host| f64::from(host.facts.weight)).collect()
        };
        // Exact: equal weights come from equal numbers.
        #[expect(clippy::float_cmp, reason = "weights that were equal numbers are equal floats")]
        let same = weights.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
        if same {
            weights.clear();
        }
        Self { hosts, weights, ring: OnceLock::new(), maglev: OnceLock::new() }
    }

    fn weight(&self, index: usize) -> f64 {
        self.weights.get(index).copied().unwrap_or(1.0)
    }
}

impl HostSet {
    /// The set of these hosts.
    pub(crate) fn new(plan: &LbPlan, hosts: &[Arc<HostState>]) -> Self {
        let count = hosts.iter().map(|host| host.facts.priority as usize + 1).max().unwrap_or(1);
        let levels: Vec<Level> = (0..count)
            .map(|priority| {
                let of = |health: Option<Health>| {
                    let chosen = hosts.iter().filter(|host| {
                        host.facts.priority as usize == priority && health.is_none_or(|h| host.health() == h)
                    });
                    HostList::new(chosen.cloned().collect(), plan.locality_weighted)
                };
                Level { all: of(None), healthy: of(Some(Health::Healthy)), degraded: of(Some(Health::Degraded)) }
            })
            .collect();
        let availability = Availability::new(plan, &levels);
        Self { levels, availability, hosts: hosts.to_vec() }
    }

    /// Every host.
    pub fn hosts(&self) -> &[Arc<HostState>] {
        &self.hosts
    }
}

/// Which list of which level a choice fell on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Healthy,
    Degraded,
}

/// What a chosen host came from.
pub(crate) struct Choice {
    pub host: Arc<HostState>,
    /// The priority was in panic: any host was good enough.
    pub panic: bool,
}

/// One worker's place in the rotation; forgotten when the host set changes.
#[derive(Default)]
pub(crate) struct LbState {
    schedulers: Vec<(usize, Which, Scheduler)>,
    cursor: Option<usize>,
}

impl LbState {
    /// Starts anew for another host set.
    pub fn reset(&mut self) {
        self.schedulers.clear();
    }

    /// Chooses a host. `hash` decides where the policy hashes; without one it is random.
    pub fn choose(&mut self, plan: &LbPlan, set: &HostSet, hash: Option<u64>) -> Option<Choice> {
        let roll = hash.unwrap_or_else(|| fastrand::u64(..));
        let (priority, which) = set.availability.pick(roll)?;
        let panic = which == Which::All;
        let level = set.levels.get(priority)?;
        let list = match which {
            Which::All => &level.all,
            Which::Healthy => &level.healthy,
            Which::Degraded => &level.degraded,
        };
        let index = match list.hosts.len() {
            0 => return None,
            1 => 0,
            _ => self.index(plan, list, priority, which, hash),
        };
        list.hosts.get(index).map(|host| Choice { host: host.clone(), panic })
    }

    fn index(&mut self, plan: &LbPlan, list: &HostList, priority: usize, which: Which, hash: Option<u64>) -> usize {
        let count = list.hosts.len();
        match &plan.policy {
            LbPolicy::Random => fastrand::usize(..count),
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided if list.weights.is_empty() => {
                let cursor = self.cursor.get_or_insert_with(|| fastrand::usize(..count));
                *cursor = cursor.wrapping_add(1);
                *cursor % count
            }
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided => {
                self.scheduler(list, priority, which).next(|index| list.weight(index))
            }
            LbPolicy::LeastRequest { choices, .. } if list.weights.is_empty() => least(list, *choices),
            LbPolicy::LeastRequest { bias, .. } => self.scheduler(list, priority, which).next(|index| {
                let active = list.hosts.get(index).map_or(0, active);
                list.weight(index) / ((active + 1) as f64).powf(*bias)
            }),
            LbPolicy::RingHash { min, max } => {
                let ring = list.ring.get_or_init(|| Ring::new(list, *min, *max, plan.hash_by_hostname));
                ring.find(hash.unwrap_or_else(|| fastrand::u64(..)))
            }
            LbPolicy::Maglev { size } => {
                let table = list.maglev.get_or_init(|| Maglev::new(list, *size, plan.hash_by_hostname));
                table.find(hash.unwrap_or_else(|| fastrand::u64(..)))
            }
        }
    }

    fn scheduler(&mut self, list: &HostList, priority: usize, which: Which) -> &mut Scheduler {
        let at = self.schedulers.iter().position(|(p, w, _)| *p == priority && *w == which);
        let at = at.unwrap_or_else(|| {
            let made = Scheduler::new(list.hosts.len(), |index| list.weight(index));
            self.schedulers.push((priority, which, made));
            self.schedulers.len() - 1
        });
        // The index was found or made just above.
        &mut self.schedulers[at].2
    }
}

fn active(host: &Arc<HostState>) -> u64 {
    host.stats.rq_active.load(std::sync::atomic::Ordering::Relaxed)
}

/// The least busy of some hosts drawn at random (power of two choices).
fn least(list: &HostList, choices: u32) -> usize {
    let count = list.hosts.len();
    let mut best = fastrand::usize(..count);
    for _ in 1..choices {
        let other = fastrand::usize(..count);
        let busy = |index: usize| list.hosts.get(index).map_or(u64::MAX, active);
        if busy(other) < busy(best) {
            best = other;
        }
    }
    best
}

/// What a host is hashed by: its address, or its name where `use_hostname_for_hashing` says so.
fn hash_key(host: &HostState, by_hostname: bool) -> String {
    if by_hostname && !host.facts.info.hostname.is_empty() {
        host.facts.info.hostname.to_string()
    } else {
        host.address().to_string()
    }
}

#[cfg(test)]
mod tests;
