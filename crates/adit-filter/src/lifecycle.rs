//! What a worker lends to the connections it serves.

use std::sync::Arc;

use crate::upstream::Clusters;
use crate::{BoxFuture, RuntimeValues};

/// The state of the process as a connection sees it.
pub trait Lifecycle: Send + Sync {
    /// Whether a connection should be let go at its next convenient moment: `connection: close` on HTTP/1, GOAWAY on
    /// HTTP/2 and 3. Never a reason to end a live tunnel.
    fn should_drain(&self) -> bool;

    /// Ready when everything must end now, tunnels too, in order: peers see an end, logs are written.
    fn closing(&self) -> BoxFuture<'static, ()>;
}

/// Starts tasks that the worker owns and can drain.
pub trait Spawn: Send + Sync {
    /// Starts a task on this worker.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Ready when the tasks are to end: who keeps connections for later lets them go.
    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// What a worker lends to the connections it serves. One for each worker.
pub struct WorkerEnv {
    /// From 0.
    pub index: usize,
    /// The clusters, with this worker's pools.
    pub clusters: Arc<dyn Clusters>,
    /// Starts tasks on this worker.
    pub spawn: Arc<dyn Spawn>,
    /// Draining and closing.
    pub lifecycle: Arc<dyn Lifecycle>,
    /// The layered runtime.
    pub runtime: RuntimeValues,
}
