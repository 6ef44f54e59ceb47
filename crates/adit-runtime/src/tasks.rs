//! Tasks that have an owner.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::drain::{Drain, DrainType};

/// Called with the spawner's name when one of its tasks panicked.
pub type PanicHook = Arc<dyn Fn(&str) + Send + Sync>;

/// How long aborted tasks may take to be dropped: they are ready to run, so only code that blocks needs longer.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// Spawns tasks on one worker and owns them: it knows how many live, tells them to end, and drops those that do not.
///
/// A clone is the same owner. A child ([`Spawner::child`]) is an owner of its own, for example one listener's
/// connections, whose tasks also count for its parent.
#[derive(Clone)]
pub struct Spawner(Arc<Set>);

struct Set {
    name: Box<str>,
    handle: Handle,
    drain: Drain,
    parent: Option<Spawner>,
    children: Mutex<Vec<Weak<Set>>>,
    /// Tasks and guards, those of children included.
    live: AtomicUsize,
    aborted: AtomicBool,
    panics: Arc<AtomicU64>,
    on_panic: Option<PanicHook>,
    /// One entry for each task of this set itself; the waker is there after the first poll.
    wakers: Mutex<Slab<Option<Waker>>>,
    idle: Notify,
}

/// What a shutdown came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Tasks that did not end within the grace and were dropped.
    pub aborted: usize,
    /// Tasks that could not even be dropped, because they block their thread, and guards still held.
    pub left: usize,
}

impl Spawner {
    /// An owner of tasks on the runtime of `handle`, which are told to end by `drain`.
    pub fn new(name: &str, handle: Handle, drain: Drain, on_panic: Option<PanicHook>) -> Self {
        Self(Arc::new(Set::new(name, handle, drain, None, Arc::default(), on_panic)))
    }

    /// An owner below this one with a drain of its own that follows this one's.
    pub fn child(&self, name: &str, drain_type: DrainType) -> Self {
        self.child_with(name, self.0.drain.child(drain_type))
    }

    /// An owner below this one with the given drain, which should be a child of this one's: [`Spawner::shutdown`] of
    /// this one closes only its own drain and what follows it.
    pub fn child_with(&self, name: &str, drain: Drain) -> Self {
        let parent = &self.0;
        let set = Set::new(
            name,
            parent.handle.clone(),
            drain,
            Some(self.clone()),
            Arc::clone(&parent.panics),
            parent.on_panic.clone(),
        );
        let child = Arc::new(set);
        let mut children = lock(&parent.children);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child));
        if parent.aborted.load(Acquire) {
            child.aborted.store(true, Relaxed);
        }
        drop(children);
        Self(child)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The signal that its tasks watch.
    pub fn drain(&self) -> &Drain {
        &self.0.drain
    }

    /// The runtime its tasks run on.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Starts a task; from any thread. A panic in it ends only this task, is logged and counted.
    ///
    /// After [`Spawner::abort`] the task is dropped without being polled.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.guard();
        // A table never has four billion entries: each is a live task.
        let key = lock(&self.0.wakers).insert(None) as u32;
        let ticket = Ticket { key, registered: false, guard };
        self.0.handle.spawn(Tracked { future, ticket })
    }

    /// Something that a shutdown waits for although it is no task of its own.
    pub fn guard(&self) -> DrainGuard {
        let mut set = Some(self);
        while let Some(spawner) = set {
            spawner.0.live.fetch_add(1, Relaxed);
            set = spawner.0.parent.as_ref();
        }
        DrainGuard(self.clone())
    }

    /// Tasks and guards alive, those of children included.
    pub fn live(&self) -> usize {
        self.0.live.load(Acquire)
    }

    /// Tasks that panicked since the start, in the whole tree this belongs to.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Relaxed)
    }

    /// Ready once no task and no guard is alive.
    pub async fn wait_idle(&self) {
        loop {
            let mut notified = std::pin::pin!(self.0.idle.notified());
            // Registered before the count is read, so that the last end is not missed.
            notified.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Drops every task, here and below, at its next poll, which it is woken for.
    pub fn abort(&self) {
        let children: Vec<_> = {
            let children = lock(&self.0.children);
            self.0.aborted.store(true, Relaxed);
            children.iter().filter_map(Weak::upgrade).collect()
        };
        for child in children {
            Self(child).abort();
        }
        // Cloned so that no waker runs under the lock; a task that has none yet sees the flag at its first poll.
        let wakers: Vec<_> = lock(&self.0.wakers).iter().filter_map(|(_, waker)| waker.clone()).collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Ends all tasks: closes the drain, waits up to `grace` for them to end by themselves, drops the rest. Returns at
    /// the latest about a second after the grace. May be awaited on another runtime than the tasks'.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        self.0.drain.close();
        Self::shutdown_all(std::slice::from_ref(self), deadline_in(grace)).await
    }

    /// The second half of [`Spawner::shutdown`] for several owners at once.
    pub(crate) async fn shutdown_all(all: &[Self], deadline: Instant) -> ShutdownReport {
        wait_all_idle(all, deadline).await;
        let live = |all: &[Self]| all.iter().map(Self::live).sum();
        let mut report = ShutdownReport { aborted: live(all), left: 0 };
        if report.aborted > 0 {
            all.iter().for_each(Self::abort);
            wait_all_idle(all, Instant::now() + ABORT_GRACE).await;
            report.left = live(all);
            report.aborted = report.aborted.saturating_sub(report.left);
        }
        report
    }
}

/// The moment after `grace`; one beyond the clock's range is a year away.
pub(crate) fn deadline_in(grace: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(grace).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

async fn wait_all_idle(all: &[Spawner], deadline: Instant) {
    for spawner in all {
        if tokio::time::timeout_at(deadline, spawner.wait_idle()).await.is_err() {
            return;
        }
    }
}

impl Set {
    fn new(
        name: &str,
        handle: Handle,
        drain: Drain,
        parent: Option<Spawner>,
        panics: Arc<AtomicU64>,
        on_panic: Option<PanicHook>,
    ) -> Self {
        Self {
            name: name.into(),
            handle,
            drain,
            parent,
            children: Mutex::default(),
            live: AtomicUsize::new(0),
            aborted: AtomicBool::new(false),
            panics,
            on_panic,
            wakers: Mutex::default(),
            idle: Notify::new(),
        }
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("name", &self.name()).field("live", &self.live()).finish_non_exhaustive()
    }
}

/// Held by what a shutdown of its [`Spawner`] waits for.
#[derive(Debug)]
pub struct DrainGuard(Spawner);

impl DrainGuard {
    /// The signal of its owner.
    pub fn drain(&self) -> &Drain {
        self.0.drain()
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        let mut set = Some(&self.0);
        while let Some(spawner) = set {
            if spawner.0.live.fetch_sub(1, AcqRel) == 1 {
                spawner.0.idle.notify_waiters();
            }
            set = spawner.0.parent.as_ref();
        }
    }
}

/// A task's place in its owner's table.
struct Ticket {
    key: u32,
    registered: bool,
    guard: DrainGuard,
}

impl Ticket {
    fn set(&self) -> &Set {
        &self.guard.0.0
    }

    /// Leaves the waker with the owner. Once is enough: a tokio task is always polled with the same one.
    fn register(&mut self, waker: &Waker) {
        self.registered = true;
        if let Some(entry) = lock(&self.set().wakers).get_mut(self.key as usize) {
            *entry = Some(waker.clone());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The waker is dropped after the lock is released.
        let _waker = lock(&self.set().wakers).try_remove(self.key as usize);
    }
}

pin_project! {
    /// The task itself. Fields are dropped in this order: the connection is gone before its owner counts it out.
    struct Tracked<F> {
        #[pin]
        future: F,
        ticket: Ticket,
    }
}

impl<F: Future<Output = ()>> Future for Tracked<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if !this.ticket.registered {
            this.ticket.register(cx.waker());
        }
        if this.ticket.set().aborted.load(Relaxed) {
            return Poll::Ready(());
        }
        let watch = PanicWatch(this.ticket.set());
        let result = this.future.poll(cx);
        std::mem::forget(watch);
        ready!(result);
        Poll::Ready(())
    }
}

/// Is dropped only while a poll unwinds.
struct PanicWatch<'a>(&'a Set);

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        self.0.panics.fetch_add(1, Relaxed);
        tracing::error!(owner = &*self.0.name, "a task panicked; only this task ends");
        if let Some(hook) = &self.0.on_panic {
            hook(&self.0.name);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
