//! TCP connections to one host: counted, and queued while the circuit breaker is open.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_filter::upstream::{FailureKind, Priority};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cluster::{Core, lock};
use crate::connect::Failed;
use crate::host::HostState;
use crate::worker::{State, WorkerCluster};

/// One host's TCP connections of one priority.
#[derive(Default)]
pub(crate) struct TcpPool {
    /// Connections that live or are being made.
    live: usize,
    waiters: VecDeque<(u64, oneshot::Sender<Result<(), Failed>>)>,
}

impl TcpPool {
    pub fn is_done(&self) -> bool {
        self.live == 0 && self.waiters.is_empty()
    }
}

pub(crate) fn slot(priority: Priority) -> usize {
    match priority {
        Priority::Default => 0,
        Priority::High => 1,
    }
}

/// `max_pending_requests` and its gauges, held while a stream waits for its connection.
pub(crate) struct Pending {
    core: Arc<Core>,
    host: Arc<HostState>,
    priority: Priority,
}

impl Pending {
    pub fn take(core: &Arc<Core>, host: &Arc<HostState>, priority: Priority) -> Result<Self, Failed> {
        let stats = &core.stats.traffic;
        if !core.breaker(priority).pending.try_take() {
            stats.upstream_rq_pending_overflow.inc();
            return Err(Failed::new(FailureKind::Overflow, ""));
        }
        stats.upstream_rq_pending_total.inc();
        stats.upstream_rq_pending_active.inc();
        host.stats.rq_pending_active.fetch_add(1, Relaxed);
        Ok(Self { core: core.clone(), host: host.clone(), priority })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.core.breaker(self.priority).pending.put();
        self.core.stats.traffic.upstream_rq_pending_active.dec();
        self.host.stats.rq_pending_active.fetch_sub(1, Relaxed);
    }
}

/// The right to make one connection. Dropped, the connection was given up.
pub(crate) struct TcpTicket {
    slot: Option<Slot>,
    /// Given back once connected.
    pending: Option<Pending>,
}

/// One connection's place under `max_connections` and in its pool.
struct Slot {
    cluster: Arc<WorkerCluster>,
    host: Arc<HostState>,
    priority: Priority,
}

/// Held while a TCP upstream connection lives.
struct TcpGuard {
    slot: Slot,
    start: Instant,
}

impl WorkerCluster {
    /// Waits for the right to make a connection to this host.
    pub(crate) async fn tcp_ticket(&self, host: &Arc<HostState>, priority: Priority) -> Result<TcpTicket, Failed> {
        let Some(this) = self.this.upgrade() else { return Err(Failed::new(FailureKind::Local, "")) };
        let pending = Pending::take(&self.core, host, priority)?;
        if let Some((serial, receiver)) = self.take_place(host, priority)? {
            // Rare, and larger than all else here.
            Box::pin(Waiting { cluster: &this, host, priority, serial, receiver }.granted()).await?;
        }
        self.count_connection(host);
        let slot = Slot { cluster: this, host: host.clone(), priority };
        Ok(TcpTicket { slot: Some(slot), pending: Some(pending) })
    }

    /// A place in the pool, or one in its queue.
    fn take_place(&self, host: &Arc<HostState>, priority: Priority) -> Result<Option<Queued>, Failed> {
        let mut state = lock(&self.state);
        let serial = state.pools.next_serial();
        let pools = state.pools.of(host);
        let Some(pool) = pools.tcp.get_mut(slot(priority)) else {
            return Err(Failed::new(FailureKind::Local, ""));
        };
        // A pool without a connection may always make one, or its streams would wait for nothing.
        if host.try_place(priority)
            || (pool.live == 0 && {
                host.place(priority);
                true
            })
        {
            pool.live += 1;
            return Ok(None);
        }
        self.core.stats.traffic.upstream_cx_overflow.inc();
        let (sender, receiver) = oneshot::channel();
        pool.waiters.push_back((serial, sender));
        Ok(Some((serial, receiver)))
    }

    pub(crate) fn count_connection(&self, host: &HostState) {
        let stats = &self.core.stats.traffic;
        stats.upstream_cx_total.inc();
        stats.upstream_cx_active.inc();
        host.stats.cx_total.fetch_add(1, Relaxed);
        host.stats.cx_active.fetch_add(1, Relaxed);
    }

    pub(crate) fn uncount_connection(&self, host: &HostState) {
        let stats = &self.core.stats.traffic;
        stats.upstream_cx_active.dec();
        stats.upstream_cx_destroy.inc();
        host.stats.cx_active.fetch_sub(1, Relaxed);
    }

    /// A connection's place is free: the next in the queue takes it.
    fn tcp_freed(&self, host: &Arc<HostState>, priority: Priority) {
        host.unplace(priority);
        let mut state = lock(&self.state);
        let Some(pool) = tcp_pool(&mut state, host, priority) else { return };
        pool.live = pool.live.saturating_sub(1);
        while !pool.waiters.is_empty() {
            if !host.try_place(priority) {
                if pool.live != 0 {
                    return;
                }
                host.place(priority);
            }
            pool.live += 1;
            let gone = pool.waiters.pop_front().is_none_or(|(_, waiter)| waiter.send(Ok(())).is_err());
            if gone {
                pool.live -= 1;
                host.unplace(priority);
            }
        }
    }

    /// A connect failed: who waits for this host is told the same.
    fn tcp_failed(&self, host: &Arc<HostState>, priority: Priority, failed: &Failed) {
        // The connection that was made for somebody, and the somebody.
        self.core.stats.traffic.count_failed(failed);
        self.core.stats.traffic.upstream_rq_pending_failure_eject.inc();
        let waiters = {
            let mut state = lock(&self.state);
            tcp_pool(&mut state, host, priority).map(|pool| std::mem::take(&mut pool.waiters)).unwrap_or_default()
        };
        for (_, waiter) in waiters {
            self.core.stats.traffic.upstream_rq_pending_failure_eject.inc();
            // A waiter that is gone needs no answer.
            let _ = waiter.send(Err(failed.clone()));
        }
    }
}

fn tcp_pool<'a>(state: &'a mut State, host: &HostState, priority: Priority) -> Option<&'a mut TcpPool> {
    state.pools.hosts.get_mut(&host.id)?.tcp.get_mut(slot(priority))
}

/// A waiter's number, and what it is told.
type Queued = (u64, oneshot::Receiver<Result<(), Failed>>);

/// A place in the queue, left when dropped.
struct Waiting<'a> {
    cluster: &'a Arc<WorkerCluster>,
    host: &'a Arc<HostState>,
    priority: Priority,
    serial: u64,
    receiver: oneshot::Receiver<Result<(), Failed>>,
}

impl Waiting<'_> {
    async fn granted(mut self) -> Result<(), Failed> {
        match (&mut self.receiver).await {
            Ok(granted) => granted,
            Err(_) => Err(Failed::new(FailureKind::Local, "")),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let granted = {
            let mut state = lock(&self.cluster.state);
            if let Some(pool) = tcp_pool(&mut state, self.host, self.priority) {
                let waited = pool.waiters.len();
                pool.waiters.retain(|(serial, _)| *serial != self.serial);
                if pool.waiters.len() < waited {
                    self.cluster.core.stats.traffic.upstream_rq_cancelled.inc();
                }
            }
            // Granted but never taken: an awaited receiver is empty by now.
            matches!(self.receiver.try_recv(), Ok(Ok(())))
        };
        if granted {
            self.cluster.tcp_freed(self.host, self.priority);
        }
    }
}

impl TcpTicket {
    /// The connection stands; the guard lives as long.
    pub fn connected(mut self) -> impl Send + 'static {
        let pending = self.pending.take();
        let guard = self.slot.take().map(|slot| {
            let stats = &slot.cluster.core.stats.traffic;
            stats.upstream_rq_total.inc();
            stats.upstream_rq_active.inc();
            slot.host.stats.rq_total.fetch_add(1, Relaxed);
            slot.host.stats.rq_active.fetch_add(1, Relaxed);
            TcpGuard { slot, start: Instant::now() }
        });
        drop(pending);
        guard
    }

    /// The connection failed.
    pub fn fail(mut self, failed: &Failed) {
        if let Some(slot) = self.slot.take() {
            slot.cluster.tcp_failed(&slot.host, slot.priority, failed);
        }
    }
}

impl Drop for TcpTicket {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            let stats = &slot.cluster.core.stats.traffic;
            stats.upstream_rq_cancelled.inc();
            stats.upstream_cx_destroy_local.inc();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.cluster.uncount_connection(&self.host);
        self.cluster.tcp_freed(&self.host, self.priority);
    }
}

impl Drop for TcpGuard {
    fn drop(&mut self) {
        let stats = &self.slot.cluster.core.stats.traffic;
        stats.upstream_rq_active.dec();
        // Its only stream is the connection: who held it ended both.
        stats.upstream_cx_destroy_local.inc();
        stats.upstream_cx_destroy_local_with_active_rq.inc();
        stats.upstream_cx_destroy_with_active_rq.inc();
        self.slot.host.stats.rq_active.fetch_sub(1, Relaxed);
        stats.upstream_cx_length_ms.record(crate::stats::millis(self.start.elapsed()));
    }
}
