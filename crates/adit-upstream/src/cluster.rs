//! A cluster as the whole process shares it: hosts, health, breakers, stats.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, RwLock, Weak};

use adit_filter::upstream::{Priority, Report};
use adit_stats::{Counter, Gauge};
use tokio::sync::watch;

use crate::breaker::{Breaker, Breakers};
use crate::host::{Health, HealthFlag, HostFacts, HostState};
use crate::lb::HostSet;
use crate::plan::{ClusterPlan, HostLimit};
use crate::stats::{ClusterStats, HealthCheckStats, OutlierStats};

/// Locks; a poisoned lock still guards whole values here, as no code panics while it writes one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What hosts, pools and guards need of their cluster: everything but the hosts.
pub struct Core {
    /// The configuration.
    pub plan: Arc<ClusterPlan>,
    /// The metrics.
    pub stats: ClusterStats,
    /// The circuit breakers.
    pub breakers: Breakers,
    /// Of each health check.
    pub(crate) health_stats: Vec<HealthCheckStats>,
    /// Healthy and degraded hosts, where there are several health checks.
    health_total: Option<(Gauge, Gauge)>,
    pub(crate) outlier_stats: Option<OutlierStats>,
    /// See [`crate::view::ClusterView::success_rates`].
    pub(crate) success_rates: Mutex<[f64; 4]>,
    shared: OnceLock<Weak<SharedCluster>>,
    warned: Once,
}

impl Core {
    /// Says in the log, once, that one of the cluster's `socket_options` cannot be set.
    pub(crate) fn warn_of_option(&self, error: &std::io::Error) {
        let cluster = &self.plan.settings.name;
        self.warned.call_once(|| tracing::warn!(%cluster, %error, "no connection is made: an option cannot be set"));
    }

    /// The breakers of a priority.
    pub fn breaker(&self, priority: Priority) -> &Breaker {
        self.breakers.of(priority)
    }

    /// Has the host set made anew, after a host's health changed.
    pub(crate) fn health_changed(&self) {
        if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
            shared.rebuild();
        }
    }

    pub(crate) fn shared(&self) -> Option<Arc<SharedCluster>> {
        self.shared.get().and_then(Weak::upgrade)
    }

    /// Counts a report.
    pub(crate) fn report(&self, report: Report) {
        let stats = &self.stats.traffic;
        let counter: &Counter = match report {
            Report::Response { status, time, internal } => {
                return self.stats.response(status.as_u16(), time, internal);
            }
            Report::Charged { status, internal } => return self.stats.charge(status.as_u16(), internal),
            Report::Retried { status } => return self.stats.charge_retried(status.as_u16()),
            Report::Bytes { sent, received } => {
                stats.upstream_cx_tx_bytes_total.add(sent);
                stats.upstream_cx_rx_bytes_total.add(received);
                return;
            }
            Report::Timeout => &stats.upstream_rq_timeout,
            Report::PerTryTimeout => &stats.upstream_rq_per_try_timeout,
            Report::PerTryIdleTimeout => &stats.upstream_rq_per_try_idle_timeout,
            Report::MaxDuration => &stats.upstream_rq_max_duration_reached,
            // HTTP/1 has no resets to count.
            Report::ReceivedReset | Report::SentReset if self.plan.http.is_http1() => return,
            Report::ReceivedReset => &stats.upstream_rq_rx_reset,
            Report::SentReset => &stats.upstream_rq_tx_reset,
            Report::ProtocolError => &stats.upstream_cx_protocol_error,
            Report::Retry => {
                stats.upstream_rq_retry_backoff_exponential.inc();
                &stats.upstream_rq_retry
            }
            Report::RetrySuccess => &stats.upstream_rq_retry_success,
            Report::RetryLimitExceeded => &stats.upstream_rq_retry_limit_exceeded,
            Report::ConnectAttemptsExceeded => &stats.upstream_cx_connect_attempts_exceeded,
            Report::FlowControl { paused: true } => &stats.upstream_flow_control_paused_reading_total,
            Report::FlowControl { paused: false } => &stats.upstream_flow_control_resumed_reading_total,
        };
        counter.inc();
    }
}

/// One cluster of the process.
pub struct SharedCluster {
    core: Arc<Core>,
    /// Hosts in the order of configuration or resolution; the writers' lock.
    hosts: Mutex<Vec<Arc<HostState>>>,
    /// Hosts of original destinations.
    originals: Mutex<HashMap<SocketAddr, Arc<HostState>>>,
    set: RwLock<Arc<HostSet>>,
    version: AtomicU64,
    /// Tells the health checker of hosts that come and go.
    changes: watch::Sender<()>,
}

impl SharedCluster {
    /// A cluster with its static hosts; those of DNS come later.
    pub fn new(plan: Arc<ClusterPlan>) -> Arc<Self> {
        let scope = &plan.scope;
        if plan.http.is_http1() {
            // A codec of HTTP/1 knows no metadata, drops no field and bounds what it queues by itself.
            let http1 = scope.scope("http1");
            for name in [
                "dropped_headers_with_underscores",
                "metadata_not_supported_error",
                "requests_rejected_with_underscores_in_headers",
                "response_flood",
            ] {
                let _ = http1.counter(name);
            }
        }
        let core = Arc::new(Core {
            stats: ClusterStats::new(scope),
            breakers: Breakers::new(plan.breakers, scope),
            health_stats: plan.health_checks.iter().map(|check| HealthCheckStats::of(scope, &check.name)).collect(),
            health_total: (plan.health_checks.len() > 1).then(|| {
                let scope = scope.scope("health_check");
                (scope.gauge("healthy"), scope.gauge("degraded"))
            }),
            outlier_stats: plan.outlier.is_some().then(|| OutlierStats::new(&scope.scope("outlier_detection"))),
            success_rates: Mutex::new([-1.0; 4]),
            shared: OnceLock::new(),
            warned: Once::new(),
            plan,
        });
        let set = RwLock::new(Arc::new(HostSet::new(&core.plan.lb, &[])));
        let this = Arc::new(Self {
            core,
            hosts: Mutex::default(),
            originals: Mutex::default(),
            set,
            version: AtomicU64::new(0),
            changes: watch::Sender::new(()),
        });
        let _ = this.core.shared.set(Arc::downgrade(&this));
        let facts = this.core.plan.fixed_hosts();
        if !facts.is_empty() {
            this.update(facts);
        }
        this
    }

    /// What hosts and pools need of it.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The configuration.
    pub fn plan(&self) -> &Arc<ClusterPlan> {
        &self.core.plan
    }

    /// Every host.
    pub fn hosts(&self) -> Vec<Arc<HostState>> {
        let mut hosts = lock(&self.hosts).clone();
        hosts.extend(lock(&self.originals).values().cloned());
        hosts
    }

    /// The hosts as load balancing sees them.
    pub fn set(&self) -> Arc<HostSet> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Grows whenever [`SharedCluster::set`] would give another one.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Told whenever hosts come or go.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Replaces the hosts by those of `facts`; a host that is in both keeps its health and its counters.
    pub fn update(&self, facts: Vec<HostFacts>) {
        let mut hosts = lock(&self.hosts);
        let mut old = std::mem::take(&mut *hosts);
        let mut changed = facts.len() != old.len();
        for facts in facts {
            let same = old.iter().position(|host| same_host(&host.facts, &facts));
            hosts.push(match same {
                Some(at) => old.swap_remove(at),
                None => {
                    changed = true;
                    HostState::new(facts, &self.core)
                }
            });
        }
        if changed || !old.is_empty() {
            self.core.stats.membership.membership_change.inc();
            // Hosts of the configuration are no update.
            if self.core.plan.fixed_hosts().is_empty() {
                self.core.stats.membership.update_success.inc();
            }
        } else {
            self.core.stats.membership.update_no_rebuild.inc();
        }
        for gone in &old {
            self.forget(gone);
        }
        self.publish(&hosts);
        self.changes.send_replace(());
    }

    /// Makes the host set anew, after the health of a host changed.
    pub fn rebuild(&self) {
        let hosts = lock(&self.hosts);
        self.publish(&hosts);
    }

    /// The host of an original destination, made if it is new; `None` beyond the limit. Load balancing does not know these.
    pub(crate) fn original(&self, address: SocketAddr, limit: Option<&HostLimit>) -> Option<Arc<HostState>> {
        let mut originals = lock(&self.originals);
        if let Some(limit) = limit
            && originals.len() >= limit.max
            && !originals.contains_key(&address)
        {
            limit.overflow.inc();
            return None;
        }
        let host = originals.entry(address).or_insert_with(|| {
            self.core.stats.membership.membership_change.inc();
            HostState::new(self.core.plan.original_host(address), &self.core)
        });
        host.used.store(true, Ordering::Relaxed);
        let host = host.clone();
        self.count_originals(originals.len());
        Some(host)
    }

    /// Removes the original destinations that nothing used since the last call (`cleanup_interval`).
    pub fn clean_up_originals(&self) {
        let mut originals = lock(&self.originals);
        let before = originals.len();
        originals.retain(|_, host| {
            let keep = host.used.swap(false, Ordering::Relaxed) || !host.unused();
            if !keep {
                host.set_flag(HealthFlag::PendingRemoval, true);
            }
            keep
        });
        if originals.len() != before {
            self.core.stats.membership.membership_change.inc();
            self.count_originals(originals.len());
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    fn count_originals(&self, count: usize) {
        self.core.stats.membership.membership_total.set(count as u64);
        self.core.stats.membership.membership_healthy.set(count as u64);
    }

    fn forget(&self, host: &HostState) {
        host.set_flag(HealthFlag::PendingRemoval, true);
        if host.has(HealthFlag::FailedOutlierCheck)
            && let Some(stats) = &self.core.outlier_stats
        {
            stats.ejections_active.dec();
        }
    }

    fn publish(&self, hosts: &[Arc<HostState>]) {
        let set = HostSet::new(&self.core.plan.lb, hosts);
        let membership = &self.core.stats.membership;
        let count = |health| hosts.iter().filter(|host| host.health() == health).count() as u64;
        membership.membership_total.set(hosts.len() as u64);
        membership.membership_healthy.set(count(Health::Healthy));
        membership.membership_degraded.set(count(Health::Degraded));
        membership.max_host_weight.set(hosts.iter().map(|host| u64::from(host.facts.weight)).max().unwrap_or(0));
        let (healthy, degraded) = (count(Health::Healthy), count(Health::Degraded));
        if let Some((healthy_total, degraded_total)) = &self.core.health_total {
            healthy_total.set(healthy);
            degraded_total.set(degraded);
        }
        for (index, stats) in self.core.health_stats.iter().enumerate() {
            let passed = || hosts.iter().filter(|host| !host.check_fails(index)).count() as u64;
            stats.healthy.set(if self.core.health_total.is_some() { passed() } else { healthy });
            stats.degraded.set(degraded);
        }
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        self.version.fetch_add(1, Ordering::Release);
    }
}

fn same_host(a: &HostFacts, b: &HostFacts) -> bool {
    a.info.address == b.info.address
        && a.info.hostname == b.info.hostname
        && a.weight == b.weight
        && a.priority == b.priority
        && a.health == b.health
        && a.transport == b.transport
        && a.locality == b.locality
}
