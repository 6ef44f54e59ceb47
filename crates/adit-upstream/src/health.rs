//! Active health checks, run by the main runtime.

use std::sync::Arc;

use crate::cluster::SharedCluster;

/// Checks every host of a cluster until dropped.
pub(crate) async fn run(cluster: Arc<SharedCluster>) {
    let _ = cluster;
}
