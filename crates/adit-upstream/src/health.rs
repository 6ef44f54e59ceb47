//! Active health checks, run by the main runtime: one task for each host and check.

mod http;
mod tcp;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use adit_io::{Address, FilterState, Metadata};
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::SharedCluster;
use crate::host::{Health, HealthFlag, HostState};
use crate::outlier;
use crate::plan::{HealthCheckPlan, HealthCheckType};
use crate::transport::TransportContext;

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Healthy {
        /// The answer asks for less traffic.
        degraded: bool,
    },
    /// It answered, and not well: unhealthy at once.
    Failed,
    /// It did not answer, or said that it will: unhealthy once the threshold is reached.
    Network,
}

/// Checks every host of a cluster until dropped, following hosts as they come and go.
pub(crate) async fn run(cluster: Arc<SharedCluster>) {
    let mut changes = cluster.changes();
    // Dropped with this future, it ends its tasks.
    let mut tasks = JoinSet::new();
    let mut running: HashMap<u64, Vec<AbortHandle>> = HashMap::new();
    loop {
        let hosts = cluster.hosts();
        running.retain(|id, handles| {
            let stays = hosts.iter().any(|host| host.id == *id);
            if !stays {
                handles.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        for host in hosts.iter().filter(|host| !host.facts.health_target.disabled) {
            running.entry(host.id).or_insert_with(|| {
                let checks = 0..cluster.plan().health_checks.len();
                checks.map(|index| tasks.spawn(watch(cluster.clone(), host.clone(), index))).collect()
            });
        }
        while tasks.try_join_next().is_some() {}
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn watch(cluster: Arc<SharedCluster>, host: Arc<HostState>, index: usize) {
    let plan = cluster.plan().clone();
    let Some(check) = plan.health_checks.get(index) else { return };
    let mut checker = Checker::new(&cluster, &host, check);
    if !check.initial_jitter.is_zero() {
        tokio::time::sleep(check.initial_jitter.mul_f64(fastrand::f64())).await;
    }
    let mut record = Record::new(index);
    loop {
        if let Some(stats) = cluster.core().health_stats.get(index) {
            stats.attempt.inc();
        }
        let outcome = tokio::time::timeout(check.timeout, checker.check()).await.unwrap_or_else(|_| {
            checker.close();
            Outcome::Network
        });
        let changed = record.take(&cluster, &host, check, outcome);
        tokio::time::sleep(pause(&cluster, &host, check, changed)).await;
    }
}

/// How often in a row a host answered well or not.
struct Record {
    /// Which check it is.
    index: usize,
    first: bool,
    healthy: u32,
    unhealthy: u32,
}

impl Record {
    fn new(index: usize) -> Self {
        Self { index, first: true, healthy: 0, unhealthy: 0 }
    }

    /// Takes an outcome in; whether the host changed sides.
    fn take(&mut self, cluster: &SharedCluster, host: &HostState, check: &HealthCheckPlan, outcome: Outcome) -> bool {
        let failed = host.check_fails(self.index);
        let stats = cluster.core().health_stats.get(self.index);
        let mut changed = host.set_flag(HealthFlag::PendingActiveHealthCheck, false);
        let turned = match outcome {
            Outcome::Healthy { degraded } => {
                if let Some(stats) = stats {
                    stats.success.inc();
                }
                self.unhealthy = 0;
                self.healthy = self.healthy.saturating_add(1);
                changed |= host.set_check_degraded(self.index, degraded);
                // The very first answer decides alone, so that a start is quick.
                let turned = failed && (self.first || self.healthy >= check.healthy_threshold);
                if turned {
                    host.set_check(self.index, false);
                }
                turned
            }
            Outcome::Failed | Outcome::Network => {
                if let Some(stats) = stats {
                    stats.failure.inc();
                    if outcome == Outcome::Network {
                        stats.network_failure.inc();
                    }
                }
                self.healthy = 0;
                self.unhealthy = self.unhealthy.saturating_add(1);
                let turned = !failed && (outcome == Outcome::Failed || self.unhealthy >= check.unhealthy_threshold);
                if turned {
                    host.set_check(self.index, true);
                }
                turned
            }
        };
        self.first = false;
        if turned || changed {
            cluster.rebuild();
        }
        if turned {
            let (name, host) = (&*check.name, host.address());
            tracing::debug!(name, %host, fails = !failed, "a health check turned");
        }
        if matches!(outcome, Outcome::Healthy { .. }) {
            outlier::checked_healthy(cluster, host);
        }
        turned
    }
}

/// How long until the next check.
fn pause(cluster: &SharedCluster, host: &HostState, check: &HealthCheckPlan, changed: bool) -> Duration {
    let healthy = host.health() != Health::Unhealthy;
    let base = if !cluster.core().stats.traffic.upstream_cx_total.used() {
        if healthy { check.no_traffic_healthy } else { check.no_traffic }
    } else {
        match (changed, healthy) {
            (true, true) => check.healthy_edge,
            (true, false) => check.unhealthy_edge,
            (false, true) => check.interval,
            (false, false) => check.unhealthy,
        }
    };
    let percent = base.mul_f64(f64::from(check.jitter_percent) / 100.0);
    let jitter = check.jitter.mul_f64(fastrand::f64()) + percent.mul_f64(fastrand::f64());
    // A pause of nothing would spin.
    (base + jitter).max(Duration::from_millis(1))
}

/// One check of one host, with the connection it may keep.
enum Checker {
    Tcp(Box<tcp::Checker>),
    Http(Box<http::Checker>),
}

impl Checker {
    fn new(cluster: &SharedCluster, host: &Arc<HostState>, check: &HealthCheckPlan) -> Self {
        let alpn: &'static [&'static str] = match &check.check {
            HealthCheckType::Http(http) if http.http2 => &["h2"],
            HealthCheckType::Http(_) => &["http/1.1"],
            HealthCheckType::Tcp(_) => &[],
        };
        let target = Target {
            core: cluster.core().clone(),
            address: target_address(host, check),
            context: TransportContext {
                host: host.clone(),
                cluster_metadata: cluster.plan().settings.metadata.clone(),
                clusters: None,
                downstream: None,
                state: FilterState::default(),
                metadata: Metadata::default(),
                auto_sni: None,
                auto_san_validation: false,
                verify_name: None,
                alpn,
            },
            host: host.clone(),
            reuse: check.reuse_connection,
        };
        match &check.check {
            HealthCheckType::Tcp(tcp) => Self::Tcp(Box::new(tcp::Checker::new(target, tcp.clone()))),
            HealthCheckType::Http(http) => Self::Http(Box::new(http::Checker::new(target, (**http).clone()))),
        }
    }

    async fn check(&mut self) -> Outcome {
        match self {
            Self::Tcp(tcp) => tcp.check().await,
            Self::Http(http) => http.check().await,
        }
    }

    /// Lets go of a connection that did not answer.
    fn close(&mut self) {
        match self {
            Self::Tcp(tcp) => tcp.close(),
            Self::Http(http) => http.close(),
        }
    }
}

/// What is checked.
struct Target {
    core: Arc<crate::cluster::Core>,
    host: Arc<HostState>,
    address: Address,
    context: TransportContext,
    reuse: bool,
}

impl Target {
    async fn connect(&self) -> Option<adit_io::Io> {
        crate::connect::probe(&self.core, &self.host, &self.address, &self.context).await.ok()
    }
}

/// The endpoint's own health-check address or port, else `alt_port`, else where traffic goes.
fn target_address(host: &HostState, check: &HealthCheckPlan) -> Address {
    let target = &host.facts.health_target;
    if let Some(address) = &target.address {
        return address.clone();
    }
    match (host.address(), target.port.or(check.alt_port)) {
        (Address::Ip(address), Some(port)) => Address::Ip(std::net::SocketAddr::new(address.ip(), port)),
        (address, _) => address.clone(),
    }
}

#[cfg(test)]
mod tests;
