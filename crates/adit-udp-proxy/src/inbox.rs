//! What a client sent and its tunnel has not taken yet: a bounded queue, from the listener's task to the session's.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::config::BufferLimits;

/// What may wait once the tunnel stands.
const OPEN: BufferLimits = BufferLimits { datagrams: 1024, bytes: 256 << 10 };

/// A queue of datagrams. One that does not fit is not taken.
pub(crate) struct Inbox(Mutex<State>);

struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    limits: Option<BufferLimits>,
    waker: Option<Waker>,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Taken,
    /// There is no room for it.
    Full,
    /// Nothing is taken before the tunnel stands.
    Closed,
}

impl Inbox {
    /// A queue for a tunnel that does not stand yet; it takes nothing without `limits`.
    pub(crate) fn new(limits: Option<BufferLimits>) -> Self {
        Self(Mutex::new(State { queue: VecDeque::new(), bytes: 0, limits, waker: None }))
    }

    /// The tunnel stands.
    pub(crate) fn open(&self) {
        self.state().limits = Some(OPEN);
    }

    pub(crate) fn push(&self, payload: &[u8]) -> Pushed {
        let waker = {
            let mut state = self.state();
            let Some(limits) = state.limits else { return Pushed::Closed };
            if state.queue.len() >= limits.datagrams || state.bytes + payload.len() > limits.bytes {
                return Pushed::Full;
            }
            state.bytes += payload.len();
            state.queue.push_back(Bytes::copy_from_slice(payload));
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Pushed::Taken
    }

    pub(crate) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut state = self.state();
        match state.queue.pop_front() {
            Some(payload) => {
                state.bytes -= payload.len();
                Poll::Ready(payload)
            }
            None => {
                // An idle session holds none.
                state.queue = VecDeque::new();
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock still guards whole values: nothing panics under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::task::Waker;

    use super::*;

    fn pop(inbox: &Inbox) -> Option<Bytes> {
        match inbox.poll_pop(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(payload) => Some(payload),
            Poll::Pending => None,
        }
    }

    #[test]
    fn limits_of_number_and_size_hold_in_both_phases() {
        let inbox = Inbox::new(Some(BufferLimits { datagrams: 2, bytes: 5 }));
        assert_eq!(inbox.push(b"abc"), Pushed::Taken);
        assert_eq!(inbox.push(b"def"), Pushed::Full);
        assert_eq!(inbox.push(b""), Pushed::Taken);
        assert_eq!(inbox.push(b""), Pushed::Full);
        inbox.open();
        assert_eq!(inbox.push(b"def"), Pushed::Taken);
        assert_eq!(
            [pop(&inbox), pop(&inbox), pop(&inbox), pop(&inbox)].map(|one| one.map(|one| one.len())),
            [Some(3), Some(0), Some(3), None]
        );
        assert_eq!(inbox.push(&vec![0; OPEN.bytes + 1]), Pushed::Full);
        for _ in 0..OPEN.datagrams {
            assert_eq!(inbox.push(b"x"), Pushed::Taken);
        }
        assert_eq!(inbox.push(b"x"), Pushed::Full);
    }

    #[test]
    fn without_limits_nothing_is_taken_before_the_tunnel_stands() {
        let inbox = Inbox::new(None);
        assert_eq!(inbox.push(b"abc"), Pushed::Closed);
        inbox.open();
        assert_eq!(inbox.push(b"abc"), Pushed::Taken);
    }
}
