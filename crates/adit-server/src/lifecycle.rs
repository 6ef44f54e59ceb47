//! The process's state as its connections see it.

use std::time::Instant;

use adit_filter::{BoxFuture, Lifecycle, Spawn};
use adit_runtime::{Drain, Spawner};

/// The drain of one listener or worker, as the seams have it.
pub(crate) struct DrainLifecycle(pub(crate) Drain);

impl Lifecycle for DrainLifecycle {
    fn should_drain(&self) -> bool {
        (self.0.is_draining() || self.0.is_health_failed()) && self.0.should_close(Instant::now())
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.closing())
    }
}

/// A worker's spawner, as the seams have it.
pub(crate) struct WorkerSpawn(pub(crate) Spawner);

impl Spawn for WorkerSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // The set owns the task; the handle is for those who wait for one.
        drop(self.0.spawn(task));
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.drain().closing())
    }
}
