//! All clusters: of the process, and of one worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_filter::BoxFuture;
use adit_filter::upstream::{Cluster, Clusters};
use tokio::sync::watch;

use crate::cluster::SharedCluster;
use crate::plan::{ClusterPlan, Discovery};
use crate::quic::QuicEndpoints;
use crate::worker::{WorkerCluster, WorkerDeps};
use crate::{dns, health, outlier, view};

/// The clusters of the process. Workers take their [`ClusterSet`]s from it; the main runtime runs [`ClusterManager::run`].
pub struct ClusterManager {
    clusters: BTreeMap<Arc<str>, Arc<SharedCluster>>,
    /// DNS clusters whose first answer is due.
    resolving: watch::Sender<usize>,
}

impl ClusterManager {
    /// Clusters of these plans. Of two with one name the later one stays.
    pub fn new(plans: impl IntoIterator<Item = Arc<ClusterPlan>>) -> Arc<Self> {
        let clusters: BTreeMap<_, _> =
            plans.into_iter().map(|plan| (plan.name().clone(), SharedCluster::new(plan))).collect();
        let resolving = clusters.values().filter(|cluster| cluster.plan().resolves()).count();
        Arc::new(Self { clusters, resolving: watch::Sender::new(resolving) })
    }

    /// A cluster by name.
    pub fn get(&self, name: &str) -> Option<&Arc<SharedCluster>> {
        self.clusters.get(name)
    }

    /// Every cluster, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<SharedCluster>> {
        self.clusters.values()
    }

    /// The clusters as one worker uses them.
    pub fn worker(&self, deps: Arc<WorkerDeps>) -> Arc<ClusterSet> {
        let quic = Arc::<QuicEndpoints>::default();
        let cluster = |shared: &Arc<SharedCluster>| WorkerCluster::new(shared.clone(), deps.clone(), quic.clone());
        let clusters = self.clusters.iter().map(|(name, shared)| (name.clone(), cluster(shared)));
        let set = Arc::new(ClusterSet(clusters.collect()));
        for cluster in set.0.values() {
            // Set nowhere else.
            let _ = cluster.peers.set(Arc::downgrade(&set));
        }
        set
    }

    /// Resolution, health checks and outlier detection of every cluster: futures for the main runtime to run until the
    /// process ends. They end at once when dropped.
    pub fn run(self: &Arc<Self>) -> Vec<BoxFuture<'static, ()>> {
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        for cluster in self.clusters.values() {
            match &cluster.plan().discovery {
                Discovery::StrictDns(..) | Discovery::LogicalDns(..) => {
                    let this = self.clone();
                    let waits = cluster.plan().resolves();
                    let first = move || this.resolving.send_modify(|due| *due = due.saturating_sub(waits.into()));
                    tasks.push(Box::pin(dns::run(cluster.clone(), first)));
                }
                Discovery::OriginalDst(_) => tasks.push(Box::pin(clean_up(cluster.clone()))),
                Discovery::Static(_) => {}
            }
            if !cluster.plan().health_checks.is_empty() {
                tasks.push(Box::pin(health::run(cluster.clone())));
            }
            if cluster.plan().outlier.is_some() {
                tasks.push(Box::pin(outlier::run(cluster.clone())));
            }
        }
        tasks
    }

    /// Whether every DNS cluster has had its first answer, good or bad (`/ready`).
    pub fn is_ready(&self) -> bool {
        *self.resolving.borrow() == 0
    }

    /// Ready when [`ClusterManager::is_ready`] is. Needs [`ClusterManager::run`].
    pub async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.resolving.subscribe().wait_for(|due| *due == 0).await;
    }

    /// All that `/clusters` prints.
    pub fn describe(&self) -> Vec<view::ClusterView> {
        self.clusters.values().map(|cluster| view::describe(cluster)).collect()
    }
}

async fn clean_up(cluster: Arc<SharedCluster>) {
    let Discovery::OriginalDst(plan) = &cluster.plan().discovery else { return };
    let interval = plan.cleanup;
    loop {
        tokio::time::sleep(interval).await;
        cluster.clean_up_originals();
    }
}

/// The clusters with one worker's pools.
pub struct ClusterSet(BTreeMap<Arc<str>, Arc<WorkerCluster>>);

impl Clusters for ClusterSet {
    fn get(&self, name: &str) -> Option<Arc<dyn Cluster>> {
        self.0.get(name).map(|cluster| cluster.clone() as Arc<dyn Cluster>)
    }
}
