//! Who waits for a connection of a pool, and who is next.

use std::sync::Arc;

use adit_filter::upstream::{Cluster, FailureKind, Priority};
use tokio::sync::oneshot;

use super::Grant;
use super::making::Ask;
use crate::cluster::lock;
use crate::connect::Failed;
use crate::host::HostState;
use crate::pool::ConnId;
use crate::worker::{State, WorkerCluster};

pub(super) struct Waiter {
    pub(super) serial: u64,
    pub(super) sender: oneshot::Sender<Result<Grant, Failed>>,
    /// What a connection is made with on its behalf.
    pub(super) ask: Arc<Ask>,
}

impl WorkerCluster {
    /// Queues for a connection, having one made where there are too few.
    pub(super) async fn wait(&self, host: &Arc<HostState>, pool: u64, ask: Ask, queues: bool) -> Result<Grant, Failed> {
        let (sender, receiver) = oneshot::channel();
        let serial = {
            let mut state = lock(&self.state);
            let serial = state.pools.next_serial();
            let Some(queue) = state.pools.pool(host.id, pool) else {
                return Err(Failed::new(FailureKind::Local, ""));
            };
            queue.waiters.push_back(Waiter { serial, sender, ask: Arc::new(ask) });
            self.connect_more(&mut state, host.id, pool);
            if !queues && !self.comes_to_last(&mut state, host.id, pool) {
                if let Some(queue) = state.pools.pool(host.id, pool) {
                    queue.waiters.pop_back();
                }
                return Err(Failed::new(FailureKind::Overflow, ""));
            }
            serial
        };
        self.kicks.begin_wait();
        let mut waiting = Waiting { cluster: self, host: host.id, pool, serial, receiver };
        match (&mut waiting.receiver).await {
            Ok(result) => result,
            Err(_) => Err(Failed::new(FailureKind::Local, "")),
        }
    }

    /// Whether a stream more would have to wait for another to end: the limit is reached, and no connection in the making
    /// has room. Counts that.
    pub(super) fn is_full(&self, host: &HostState, pool: u64, priority: Priority) -> bool {
        let joins = {
            let mut state = lock(&self.state);
            let options = &self.core.plan.http;
            let pool = state.pools.pool(host.id, pool);
            pool.is_some_and(|queue| queue.connecting * queue.width(options) > queue.waiters.len())
        };
        !joins && self.tcp_overflows(priority)
    }

    /// Whether the connections in the making carry all who wait.
    fn comes_to_last(&self, state: &mut State, host: u64, pool: u64) -> bool {
        let options = &self.core.plan.http;
        state.pools.pool(host, pool).is_some_and(|queue| queue.connecting * queue.width(options) >= queue.waiters.len())
    }

    /// Gives ready connections to those who wait.
    pub(super) fn serve(&self, state: &mut State, host: &HostState, pool: u64) {
        loop {
            let Some(queue) = state.pools.pool(host.id, pool) else { return };
            if queue.waiters.is_empty() {
                return;
            }
            let Some(grant) = self.take_ready(state, host, pool) else {
                return self.connect_more(state, host.id, pool);
            };
            let id = grant.id;
            let Some(waiter) = state.pools.pool(host.id, pool).and_then(|queue| queue.waiters.pop_front()) else {
                return;
            };
            if waiter.sender.send(Ok(grant)).is_err() {
                self.unreserve(state, id);
            }
        }
    }

    /// A promised stream is not wanted: the connection is put back without serving anybody.
    fn unreserve(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        conn.reserved = conn.reserved.saturating_sub(1);
        conn.left = conn.left.map(|left| left + 1);
        let (listed, host, pool) = (std::mem::replace(&mut conn.listed, true), conn.life.host.id, conn.pool);
        if !listed && let Some(queue) = state.pools.pool(host, pool) {
            queue.ready.push(id);
        }
    }

    /// A place under `max_connections` is free: pools with a queue may use it.
    pub(in crate::pool) fn serve_all(&self, state: &mut State) {
        let waiting: Vec<(u64, u64)> = state
            .pools
            .hosts
            .iter()
            .flat_map(|(host, pools)| pools.http.iter().filter(|pool| !pool.waiters.is_empty()).map(|p| (*host, p.id)))
            .collect();
        for (host, pool) in waiting {
            self.connect_more(state, host, pool);
        }
    }
}

/// A place in the queue, left when dropped.
struct Waiting<'a> {
    cluster: &'a WorkerCluster,
    host: u64,
    pool: u64,
    serial: u64,
    receiver: oneshot::Receiver<Result<Grant, Failed>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cluster.kicks.end_wait();
        let mut state = lock(&self.cluster.state);
        if let Some(queue) = state.pools.pool(self.host, self.pool) {
            let waited = queue.waiters.len();
            queue.waiters.retain(|waiter| waiter.serial != self.serial);
            if queue.waiters.len() < waited {
                self.cluster.core.stats.traffic.upstream_rq_cancelled.inc();
            }
        }
        // Granted but never taken: an awaited receiver is empty by now.
        if let Ok(Ok(grant)) = self.receiver.try_recv() {
            self.cluster.core.stats.traffic.upstream_rq_cancelled.inc();
            self.cluster.unreserve(&mut state, grant.id);
            let id = grant.id;
            drop(grant);
            self.cluster.offer(&mut state, id);
        }
    }
}
