//! A host of a cluster: shared by all workers, with its health and its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use adit_filter::upstream::{Host, HostInfo, Priority, Report};
use adit_io::Address;

use crate::cluster::Core;
use crate::outlier::HostOutlier;
use crate::plan::{ConfigHealth, HealthTarget, Locality};

/// Why a host gets no traffic, or less. One bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthFlag {
    /// `failed_active_hc`: a health check says so.
    FailedActiveHealthCheck = 1,
    /// `failed_outlier_check`: outlier detection ejected it.
    FailedOutlierCheck = 2,
    /// `failed_eds_health`: the configuration says UNHEALTHY, DRAINING or TIMEOUT.
    FailedConfigHealth = 4,
    /// `degraded_eds_health`: the configuration says DEGRADED.
    DegradedConfigHealth = 16,
    /// `degraded_active_hc`: the health check's answer said so (`x-envoy-degraded`).
    DegradedActiveHealthCheck = 8,
    /// `pending_dynamic_removal`: no longer configured or resolved, kept while connections live.
    PendingRemoval = 32,
    /// `pending_active_hc`: the first health check is not done yet.
    PendingActiveHealthCheck = 64,
}

const FAILED: u32 = HealthFlag::FailedActiveHealthCheck as u32
    | HealthFlag::FailedOutlierCheck as u32
    | HealthFlag::FailedConfigHealth as u32;
const DEGRADED: u32 = HealthFlag::DegradedConfigHealth as u32 | HealthFlag::DegradedActiveHealthCheck as u32;

/// What load balancing makes of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Takes traffic.
    Healthy,
    /// Takes traffic where there are too few healthy ones.
    Degraded,
    /// Takes traffic in a panic only.
    Unhealthy,
}

/// Counters of one host, for `/clusters`.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each is the counter of its name")]
pub struct HostStats {
    pub cx_active: AtomicU64,
    pub cx_connect_fail: AtomicU64,
    pub cx_total: AtomicU64,
    pub rq_active: AtomicU64,
    pub rq_error: AtomicU64,
    pub rq_pending_active: AtomicU64,
    pub rq_success: AtomicU64,
    pub rq_timeout: AtomicU64,
    pub rq_total: AtomicU64,
}

/// Everything about a host that never changes.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// What routers and logs ask.
    pub info: HostInfo,
    /// Dialled after `info.address` failed or was slow (`additional_addresses`).
    pub additional: Vec<Address>,
    /// `load_balancing_weight`, 1 by default.
    pub weight: u32,
    /// `priority` of its locality.
    pub priority: u32,
    /// Its locality.
    pub locality: Arc<Locality>,
    /// `health_status`.
    pub health: ConfigHealth,
    /// `health_check_config`.
    pub health_target: HealthTarget,
    /// Index of the transport socket that its metadata chose (`transport_socket_matches`).
    pub transport: usize,
}

/// One host of a cluster.
pub struct HostState {
    /// Unique in this process.
    pub id: u64,
    /// What never changes.
    pub facts: HostFacts,
    /// Counters.
    pub stats: HostStats,
    pub(crate) outlier: HostOutlier,
    flags: AtomicU32,
    /// A bit for each of the cluster's health checks, set while that one fails.
    failing: AtomicU8,
    /// The same, set while that one's answer asks for less traffic.
    degrading: AtomicU8,
    /// Chosen since the last clean-up of original destinations.
    pub(crate) used: AtomicBool,
    /// Connections to it that were given a place.
    places: AtomicU64,
    core: Arc<Core>,
}

impl HostState {
    pub(crate) fn new(facts: HostFacts, core: &Arc<Core>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut flags = match facts.health {
            ConfigHealth::Healthy => 0,
            ConfigHealth::Unhealthy => HealthFlag::FailedConfigHealth as u32,
            ConfigHealth::Degraded => HealthFlag::DegradedConfigHealth as u32,
        };
        let mut failing = 0;
        if !core.plan.health_checks.is_empty() && !facts.health_target.disabled {
            failing = core.plan.health_checks.iter().enumerate().fold(0, |all, (index, _)| all | check_bit(index));
            // Envoy: a host is unhealthy until its first check succeeded.
            flags |= HealthFlag::FailedActiveHealthCheck as u32 | HealthFlag::PendingActiveHealthCheck as u32;
        }
        Arc::new(Self {
            id: NEXT.fetch_add(1, Relaxed),
            facts,
            stats: HostStats::default(),
            outlier: HostOutlier::default(),
            flags: AtomicU32::new(flags),
            failing: AtomicU8::new(failing),
            degrading: AtomicU8::new(0),
            used: AtomicBool::new(true),
            places: AtomicU64::new(0),
            core: core.clone(),
        })
    }

    /// Takes a place for a connection, if the cluster's limit and the host's own allow it.
    pub(crate) fn try_place(&self, priority: Priority) -> bool {
        let breaker = self.core.breaker(priority);
        let limit = breaker.limits.max_connections_per_host;
        if self.places.try_update(Relaxed, Relaxed, |taken| (taken < limit).then_some(taken + 1)).is_err() {
            return false;
        }
        if breaker.connections.try_take() {
            return true;
        }
        self.places.fetch_sub(1, Relaxed);
        false
    }

    /// Whether it has as many connections as its own limit allows, whatever the cluster's.
    pub(crate) fn is_full(&self, priority: Priority) -> bool {
        self.places.load(Relaxed) >= self.core.breaker(priority).limits.max_connections_per_host
    }

    /// Takes a place whatever the limits.
    pub(crate) fn place(&self, priority: Priority) {
        self.places.fetch_add(1, Relaxed);
        self.core.breaker(priority).connections.take();
    }

    /// Gives a place back.
    pub(crate) fn unplace(&self, priority: Priority) {
        self.places.fetch_sub(1, Relaxed);
        self.core.breaker(priority).connections.put();
    }

    /// Where it is dialled.
    pub fn address(&self) -> &Address {
        &self.facts.info.address
    }

    /// The raw flags, see [`HealthFlag`].
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: HealthFlag) -> bool {
        self.flags() & flag as u32 != 0
    }

    /// Sets or clears a flag; whether that changed it. The host set must be rebuilt afterwards.
    pub(crate) fn set_flag(&self, flag: HealthFlag, on: bool) -> bool {
        let bit = flag as u32;
        let before = if on { self.flags.fetch_or(bit, Relaxed) } else { self.flags.fetch_and(!bit, Relaxed) };
        (before & bit != 0) != on
    }

    /// Whether the health check of this index fails.
    pub(crate) fn check_fails(&self, index: usize) -> bool {
        self.failing.load(Relaxed) & check_bit(index) != 0
    }

    /// What the health check of this index says now. The host has failed while any of them fails.
    pub(crate) fn set_check(&self, index: usize, fails: bool) {
        let any = set_bit(&self.failing, index, fails);
        self.set_flag(HealthFlag::FailedActiveHealthCheck, any);
    }

    /// Whether the health check of this index asks for less traffic; whether that changed the host, which is degraded while any
    /// of them does.
    pub(crate) fn set_check_degraded(&self, index: usize, degraded: bool) -> bool {
        let any = set_bit(&self.degrading, index, degraded);
        self.set_flag(HealthFlag::DegradedActiveHealthCheck, any)
    }

    /// What load balancing makes of it.
    pub fn health(&self) -> Health {
        let flags = self.flags();
        if flags & FAILED != 0 {
            Health::Unhealthy
        } else if flags & DEGRADED != 0 {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }
}

/// A cluster has at most eight health checks.
fn check_bit(index: usize) -> u8 {
    u32::try_from(index).ok().and_then(|index| 1u8.checked_shl(index)).unwrap_or(0)
}

/// Whether any bit is set afterwards.
fn set_bit(bits: &AtomicU8, index: usize, on: bool) -> bool {
    let bit = check_bit(index);
    let before = if on { bits.fetch_or(bit, Relaxed) } else { bits.fetch_and(!bit, Relaxed) };
    (if on { before | bit } else { before & !bit }) != 0
}

impl Host for HostState {
    fn info(&self) -> &HostInfo {
        &self.facts.info
    }

    fn report(&self, report: Report) {
        let stats = &self.stats;
        match report {
            Report::Response { status, .. } | Report::Retried { status } => {
                let counter = if status.is_server_error() { &stats.rq_error } else { &stats.rq_success };
                counter.fetch_add(1, Relaxed);
                self.core.outlier_response(self, status.as_u16());
            }
            Report::Timeout | Report::PerTryTimeout | Report::PerTryIdleTimeout => {
                stats.rq_timeout.fetch_add(1, Relaxed);
                stats.rq_error.fetch_add(1, Relaxed);
                self.core.outlier_local(self, crate::outlier::LocalOrigin::Timeout);
            }
            Report::ReceivedReset => {
                stats.rq_error.fetch_add(1, Relaxed);
                self.core.outlier_local(self, crate::outlier::LocalOrigin::Reset);
            }
            _ => {}
        }
        self.core.report(report);
    }
}
