//! The drain signal: Serving -> Draining -> Closing, for the whole process or a part of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

/// Where a [`Drain`] stands. It only moves forward.
///
/// ```text
/// Serving --begin--> Draining --close--> Closing
///    +---------------close---------------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainState {
    /// Nothing ends.
    Serving,
    /// No new work is wanted; what runs may run on.
    Draining,
    /// What runs must end now, in order.
    Closing,
}

/// Why a drain began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainReason {
    /// The admin interface's `/drain_listeners`.
    Admin,
    /// A listener or filter chain was changed or removed.
    Modified,
    /// The process ends.
    Shutdown,
}

/// Envoy's `--drain-strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainStrategy {
    /// Connections are asked to close with a probability that grows over the drain time.
    #[default]
    Gradual,
    /// Connections are asked to close from the start of the drain.
    Immediate,
}

/// `Listener.drain_type`: which drains reach a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainType {
    /// All of them, and a failed health check.
    #[default]
    Default,
    /// Only the listener's own (`MODIFY_ONLY`), not the server's and not a failed health check.
    ModifyOnly,
}

/// What a drain begins with.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// Why.
    pub reason: DrainReason,
    /// When.
    pub now: Instant,
    /// `--drain-time-s`: over how long connections are asked to close.
    pub drain_time: Duration,
    /// `--drain-strategy`
    pub strategy: DrainStrategy,
}

/// The signal. A clone is the same signal; a child follows its parent and can also drain on its own.
///
/// Give each worker, and each listener on it, a child: the table of those who wait is per child, so waiting never
/// contends across workers.
#[derive(Clone)]
pub struct Drain(Arc<Shared>);

struct Shared {
    state: AtomicU8,
    drain_type: DrainType,
    /// One for the whole tree.
    health_failed: Arc<AtomicBool>,
    begun: OnceLock<Begin>,
    waiters: Mutex<Waiters>,
    children: Mutex<Vec<Weak<Shared>>>,
}

#[derive(Default)]
struct Waiters {
    draining: Slab<Waker>,
    closing: Slab<Waker>,
}

impl Drain {
    /// A signal at `Serving`.
    pub fn new() -> Self {
        Self(Arc::new(Shared::new(DrainType::Default, Arc::default())))
    }

    /// A signal that also follows this one.
    pub fn child(&self, drain_type: DrainType) -> Self {
        let child = Arc::new(Shared::new(drain_type, Arc::clone(&self.0.health_failed)));
        {
            let mut children = lock(&self.0.children);
            children.retain(|child| child.strong_count() > 0);
            children.push(Arc::downgrade(&child));
        }
        // A transition that missed the new entry is seen here: the state is set before the children are told.
        if let Some(begin) = self.0.begun.get() {
            child.follow(*begin);
        }
        if self.is_closing() {
            child.close();
        }
        Self(child)
    }

    /// Where it stands.
    pub fn state(&self) -> DrainState {
        self.0.state()
    }

    /// `Draining` or `Closing`.
    pub fn is_draining(&self) -> bool {
        self.state() >= DrainState::Draining
    }

    /// `Closing`
    pub fn is_closing(&self) -> bool {
        self.state() == DrainState::Closing
    }

    /// Why it drains, if it does and did not close without draining.
    pub fn reason(&self) -> Option<DrainReason> {
        self.0.begun.get().map(|begin| begin.reason)
    }

    /// When the drain time ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.begun.get().and_then(|begin| begin.now.checked_add(begin.drain_time))
    }

    /// Begins to drain, here and below. A second call changes nothing.
    pub fn begin(&self, begin: Begin) {
        self.0.begin(begin);
    }

    /// Ends it, here and below, also from `Serving`.
    pub fn close(&self) {
        self.0.close();
    }

    /// `/healthcheck/fail` (true) and `/healthcheck/ok` (false), for the whole tree this belongs to.
    pub fn set_health_failed(&self, failed: bool) {
        self.0.health_failed.store(failed, Release);
    }

    /// Whether `/healthcheck/fail` was called last.
    pub fn is_health_failed(&self) -> bool {
        self.0.health_failed.load(Acquire)
    }

    /// Whether a connection that just finished an exchange should be asked to close (`connection: close`, GOAWAY):
    /// Envoy's `DrainDecision`. With [`DrainStrategy::Gradual`] the answer is random, with a probability that grows
    /// from 0 to 1 over the drain time.
    pub fn should_close(&self, now: Instant) -> bool {
        self.should_close_with(now, fastrand::f64)
    }

    /// [`Drain::should_close`] with the random number, from 0 up to 1, as an argument.
    pub fn should_close_with(&self, now: Instant, random: impl FnOnce() -> f64) -> bool {
        if self.0.drain_type == DrainType::Default && self.is_health_failed() {
            return true;
        }
        match self.state() {
            DrainState::Serving => false,
            DrainState::Closing => true,
            DrainState::Draining => self.0.begun.get().is_none_or(|begin| {
                let elapsed = now.saturating_duration_since(begin.now);
                begin.strategy == DrainStrategy::Immediate
                    || elapsed >= begin.drain_time
                    || elapsed.as_secs_f64() > random() * begin.drain_time.as_secs_f64()
            }),
        }
    }

    /// Ready once the state is `Draining` or later.
    pub fn draining(&self) -> Draining {
        Draining(Wait::new(&self.0, DrainState::Draining))
    }

    /// Ready once the state is `Closing`: the moment in which a tunnel must end.
    pub fn closing(&self) -> Closing {
        Closing(Wait::new(&self.0, DrainState::Closing))
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("state", &self.state()).field("reason", &self.reason()).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(drain_type: DrainType, health_failed: Arc<AtomicBool>) -> Self {
        Self {
            state: AtomicU8::new(DrainState::Serving as u8),
            drain_type,
            health_failed,
            begun: OnceLock::new(),
            waiters: Mutex::default(),
            children: Mutex::default(),
        }
    }

    fn state(&self) -> DrainState {
        match self.state.load(Acquire) {
            0 => DrainState::Serving,
            1 => DrainState::Draining,
            _ => DrainState::Closing,
        }
    }

    fn begin(&self, begin: Begin) {
        if self.begun.set(begin).is_ok() {
            self.advance(DrainState::Draining);
            for child in self.live_children() {
                child.follow(begin);
            }
        }
    }

    /// The parent began to drain.
    fn follow(&self, begin: Begin) {
        if self.drain_type == DrainType::Default {
            self.begin(begin);
        }
    }

    fn close(&self) {
        self.advance(DrainState::Closing);
        for child in self.live_children() {
            child.close();
        }
    }

    /// Moves the state forward and wakes those who waited for it, outside the lock.
    fn advance(&self, to: DrainState) {
        let (draining, closing) = {
            let mut waiters = lock(&self.waiters);
            if self.state() >= to {
                return;
            }
            self.state.store(to as u8, Release);
            let closing = if to == DrainState::Closing { std::mem::take(&mut waiters.closing) } else { Slab::new() };
            (std::mem::take(&mut waiters.draining), closing)
        };
        for (_, waker) in draining.into_iter().chain(closing) {
            waker.wake();
        }
    }

    fn live_children(&self) -> Vec<Arc<Shared>> {
        lock(&self.children).iter().filter_map(Weak::upgrade).collect()
    }
}

impl Waiters {
    fn of(&mut self, target: DrainState) -> &mut Slab<Waker> {
        if target == DrainState::Closing { &mut self.closing } else { &mut self.draining }
    }
}

/// The future of [`Drain::draining`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Draining(Wait);

/// The future of [`Drain::closing`]: 24 bytes, `Unpin`, and ready again when polled after it was ready.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Closing(Wait);

impl Future for Draining {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().0.poll(cx)
    }
}

impl Future for Closing {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().0.poll(cx)
    }
}

struct Wait {
    shared: Arc<Shared>,
    /// The address of the registered waker's data. The table holds that waker, so the address cannot be reused while
    /// it stands here; 0 where nothing is registered.
    registered: usize,
    key: u32,
    target: DrainState,
}

impl Wait {
    fn new(shared: &Arc<Shared>, target: DrainState) -> Self {
        Self { shared: Arc::clone(shared), registered: 0, key: u32::MAX, target }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.state() >= self.target {
            return Poll::Ready(());
        }
        let data = cx.waker().data() as usize;
        if data != 0 && data == self.registered {
            return Poll::Pending;
        }
        let replaced;
        {
            let mut waiters = lock(&self.shared.waiters);
            if self.shared.state() >= self.target {
                return Poll::Ready(());
            }
            let table = waiters.of(self.target);
            match table.get_mut(self.key as usize).filter(|_| self.key != u32::MAX) {
                Some(waker) => replaced = Some(std::mem::replace(waker, cx.waker().clone())),
                None => {
                    replaced = None;
                    // A table never has four billion entries: each is a live task.
                    self.key = u32::try_from(table.insert(cx.waker().clone())).unwrap_or(u32::MAX);
                }
            }
        }
        self.registered = data;
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.key != u32::MAX {
            // After the transition the table is empty for good, so a stale key finds nothing.
            let removed = lock(&self.shared.waiters).of(self.target).try_remove(self.key as usize);
            drop(removed);
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("target", &self.target).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
