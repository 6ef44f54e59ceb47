//! Where a connection and its one stream meet: the halves that nobody is using, and how far the exchange has come.
//!
//! Locked a few times for each message, never for a byte of a body.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use adit_http::StreamError;

use crate::io::{Reader, Writer};

/// How far one direction of the current exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Somebody is at it.
    Open,
    /// Ended as it should.
    Done,
    /// Given up before its end, or failed: the connection cannot be used for another exchange.
    Cut,
}

/// See the module.
pub(crate) struct Slot(Mutex<Shared>);

pub(crate) struct Shared {
    pub(crate) reader: Option<Reader>,
    pub(crate) writer: Option<Writer>,
    pub(crate) recv: Side,
    pub(crate) send: Side,
    /// No exchange may follow the current one.
    pub(crate) last: bool,
    /// The current exchange became a tunnel.
    pub(crate) tunnel: bool,
    /// A 100 was sent in it.
    pub(crate) continued: bool,
    /// Reset by us: halves that still live fail with this.
    pub(crate) aborted: Option<StreamError>,
    /// Why the peer is known to be gone.
    pub(crate) lost: Option<StreamError>,
    /// The connection's own poll function watches for the peer's reset.
    pub(crate) watched: bool,
    /// Who waits in the connection's poll function.
    pub(crate) conn: Option<Waker>,
    /// A task that polls both its stream and the connection polls the stream first.
    pub(crate) driven_last: bool,
    /// Who waits to hear that the peer is gone.
    pub(crate) canceller: Option<Waker>,
    /// Who waits in the receiving and in the sending half, over a transport that nobody else can reset.
    pub(crate) halves: [Option<Waker>; 2],
}

impl Slot {
    pub(crate) fn new(reader: Option<Reader>, writer: Writer) -> Self {
        Self(Mutex::new(Shared {
            reader,
            writer: Some(writer),
            recv: Side::Done,
            send: Side::Done,
            last: false,
            tunnel: false,
            continued: false,
            aborted: None,
            lost: None,
            watched: false,
            conn: None,
            driven_last: false,
            canceller: None,
            halves: [None, None],
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the waker of a half that is pending, over a transport whose abort does not wake it. Ready when it was aborted.
    pub(crate) fn park(&self, half: usize, cx: &Context<'_>) -> std::task::Poll<StreamError> {
        let mut shared = self.lock();
        if let Some(error) = shared.aborted {
            return std::task::Poll::Ready(error);
        }
        if let Some(slot) = shared.halves.get_mut(half) {
            Shared::wait(slot, cx.waker());
        }
        std::task::Poll::Pending
    }

    /// Changes something and wakes the connection.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.lock();
        let result = change(&mut shared);
        Shared::wake_conn(shared);
        result
    }

    /// As [`Slot::update`], for a half that is being polled: where the connection is polled next, by the same task, it need
    /// not be woken.
    pub(crate) fn update_in(&self, cx: &Context<'_>, change: impl FnOnce(&mut Shared)) {
        let mut shared = self.lock();
        change(&mut shared);
        let conn = shared.conn.as_ref().filter(|_| shared.driven_last);
        if !conn.is_some_and(|conn| conn.will_wake(cx.waker())) {
            Shared::wake_conn(shared);
        }
    }
}

impl Shared {
    /// Remembers who to wake; cheap when it is the same task as before.
    pub(crate) fn wait(slot: &mut Option<Waker>, waker: &Waker) {
        match slot {
            Some(known) if known.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }

    /// Wakes who waits in the connection's poll function.
    pub(crate) fn wake_conn(mut shared: MutexGuard<'_, Self>) {
        let waker = shared.conn.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Everybody who waits for something, to be woken because the connection was reset by us.
    pub(crate) fn take_wakers(&mut self) -> [Option<Waker>; 4] {
        let [recv, send] = &mut self.halves;
        [self.conn.take(), self.canceller.take(), recv.take(), send.take()]
    }

    /// Writing failed. A peer that merely reads no more has ended before, and can be read to its end.
    pub(crate) fn lose(&mut self, error: StreamError) {
        if !matches!(error, StreamError::Stopped(_)) {
            self.lost.get_or_insert(error);
        }
    }

    /// The peer is gone: tells who asked to know.
    pub(crate) fn set_lost(&mut self, error: StreamError) {
        self.lost.get_or_insert(error);
        if let Some(waker) = self.canceller.take() {
            waker.wake();
        }
    }
}
