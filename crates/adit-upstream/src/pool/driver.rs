//! The cluster's task on a worker: acts on wakers of connections, on freed places and on timers.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use adit_filter::BoxFuture;
use tokio::time::Instant;

use super::conn::Gone;
use super::{ConnId, GRAIN, earlier};
use crate::cluster::lock;
use crate::worker::{State, WorkerCluster};

/// What the task has to look at; filled by wakers, which must not lock the pools.
pub(crate) struct Kicks {
    cluster: Weak<WorkerCluster>,
    queue: Mutex<Queue>,
    /// How many wait for a connection.
    waiting: AtomicUsize,
    /// Connections that were called while a stream held them, and that nobody has looked at since.
    called: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    conns: Vec<ConnId>,
    freed: bool,
    closed: bool,
    waker: Option<Waker>,
}

impl Kicks {
    pub fn new(cluster: Weak<WorkerCluster>) -> Self {
        Self { cluster, queue: Mutex::default(), waiting: AtomicUsize::new(0), called: AtomicUsize::new(0) }
    }

    /// The cluster, while it is there.
    pub fn cluster(&self) -> Option<Arc<WorkerCluster>> {
        self.cluster.upgrade()
    }

    /// A connection's waker was called.
    pub fn woken(&self, id: ConnId) {
        self.push(|queue| queue.conns.push(id));
    }

    /// Whether somebody waits for a connection.
    pub fn are_awaited(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Somebody waits for a connection.
    pub fn begin_wait(&self) {
        self.waiting.fetch_add(1, SeqCst);
    }

    /// One of them waits no longer.
    pub fn end_wait(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// A connection was called while a stream held it.
    pub fn begin_call(&self) {
        self.called.fetch_add(1, SeqCst);
    }

    /// One of them was looked at.
    pub fn end_call(&self) {
        self.called.fetch_sub(1, SeqCst);
    }

    /// Whether there may be connections that were called while a stream held them.
    pub fn are_called_while_held(&self) -> bool {
        self.called.load(SeqCst) > 0
    }

    /// Looks at a connection that was held while its waker was called. Where somebody waited then, the task may still do so
    /// too, and find nothing to do.
    pub fn settle(&self, id: ConnId) {
        if let Some(cluster) = self.cluster() {
            cluster.woken(&mut lock(&cluster.state), id);
        }
    }

    /// A promised stream will not be opened.
    pub fn give_back(&self, id: ConnId) {
        if let Some(cluster) = self.cluster() {
            cluster.give_back(id);
        }
    }

    /// A place under `max_connections` is free.
    pub fn freed(&self) {
        self.push(|queue| queue.freed = true);
    }

    /// The cluster is gone.
    pub fn close(&self) {
        self.push(|queue| queue.closed = true);
    }

    fn push(&self, change: impl FnOnce(&mut Queue)) {
        let waker = {
            let mut queue = lock(&self.queue);
            change(&mut queue);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connections whose wakers were called, without waiting for the task's turn.
    pub fn take_woken(&self) -> Vec<ConnId> {
        std::mem::take(&mut lock(&self.queue).conns)
    }

    /// What has come, once something has; `Err` when the cluster is gone.
    fn poll(&self, waker: &Waker, into: &mut Vec<ConnId>) -> Poll<Result<bool, Closed>> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Poll::Ready(Err(Closed));
        }
        if queue.conns.is_empty() && !queue.freed {
            if queue.waker.as_ref().is_none_or(|old| !old.will_wake(waker)) {
                queue.waker = Some(waker.clone());
            }
            return Poll::Pending;
        }
        // The two buffers change places, so that neither is allocated again.
        std::mem::swap(&mut queue.conns, into);
        Poll::Ready(Ok(std::mem::take(&mut queue.freed)))
    }
}

struct Closed;

/// Runs until the cluster is dropped, or the worker closes.
pub(super) async fn run(cluster: Weak<WorkerCluster>, kicks: Arc<Kicks>, mut closing: BoxFuture<'static, ()>) {
    let mut conns = Vec::new();
    // One timer for all sweeps: it is set anew only when the moment changes, not for each connection that is free again.
    let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let mut sweep: Option<Instant> = None;
    loop {
        let kicked = std::future::poll_fn(|cx| {
            if let Poll::Ready(kicked) = kicks.poll(cx.waker(), &mut conns) {
                return Poll::Ready(Kicked::Conns(kicked));
            }
            if sweep.is_some() && timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Kicked::Sweep);
            }
            closing.as_mut().poll(cx).map(|()| Kicked::Closing)
        })
        .await;
        let Some(cluster) = cluster.upgrade() else { return };
        let mut freed = false;
        match kicked {
            Kicked::Conns(Err(Closed)) => return,
            Kicked::Conns(Ok(places)) => freed = places,
            Kicked::Sweep => sweep = None,
            Kicked::Closing => return cluster.let_go(&mut lock(&cluster.state)),
        }
        let mut state = lock(&cluster.state);
        for id in conns.drain(..) {
            cluster.woken(&mut state, id);
        }
        if freed {
            cluster.serve_all(&mut state);
        }
        // Connections come and go between two sweeps: none lives longer past its time than the grain of a sweep.
        if sweep.is_none() {
            sweep = cluster.sweep(&mut state, Instant::now());
            if let Some(next) = sweep {
                timer.as_mut().reset(next);
            }
        }
    }
}

/// Why the task runs.
enum Kicked {
    Conns(Result<bool, Closed>),
    Sweep,
    Closing,
}

impl WorkerCluster {
    /// Starts the task unless it runs.
    pub(super) fn ensure_driver(&self, state: &mut State) {
        if !std::mem::replace(&mut state.pools.running, true) {
            self.deps.spawn.spawn(Box::pin(run(self.this.clone(), self.kicks.clone(), self.deps.spawn.closing())));
        }
    }

    /// Lets every connection go: it ends once its last stream has.
    fn let_go(&self, state: &mut State) {
        let all: Vec<usize> = state.pools.conns.iter().map(|(index, _)| index).collect();
        for index in all {
            self.remove(state, index, Gone::default());
        }
    }

    /// Closes connections that idled for too long or are too old; when to look again.
    fn sweep(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let http = &self.core.plan.http;
        if http.idle_timeout.is_none() && http.max_connection_duration.is_none() {
            return None;
        }
        let stats = &self.core.stats.traffic;
        let mut next = None;
        let mut over = Vec::new();
        for (index, conn) in &mut state.pools.conns {
            let old = http.max_connection_duration.map(|max| conn.life.born + max);
            if old.is_some_and(|old| old <= now) {
                stats.upstream_cx_max_duration_reached.inc();
                over.push(index);
                continue;
            }
            next = earlier(next, old);
            let Some(timeout) = http.idle_timeout else { continue };
            // While its SETTINGS are due somebody waits for it; the codec bounds how long.
            let idle = conn.is_idle() && !conn.fresh;
            let deadline = if idle { conn.life.last() + timeout } else { now + timeout };
            if deadline <= now {
                stats.upstream_cx_idle_timeout.inc();
                over.push(index);
            } else {
                next = earlier(next, Some(deadline));
            }
        }
        for index in over {
            self.retire(state, index);
        }
        next.map(|next| next.max(now + GRAIN))
    }
}
