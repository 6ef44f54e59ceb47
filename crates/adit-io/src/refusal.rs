//! Whether the far side of an internal connection took it, and if not, why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What an inner listener's terminal tells the side that connected to it, before it resets the connection: so that a 403
/// of a far proxy is a 403 outside and not a bare close.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The status of the answer that refused, where one came.
    pub status: Option<u16>,
    /// Envoy's response flags, as the bits of whoever defines them.
    pub flags: u64,
    /// What `%UPSTREAM_TRANSPORT_FAILURE_REASON%` was inside, such as `tunnel_response:403`.
    pub details: Box<str>,
    /// The hop limit of internal listeners was reached: another attempt would end likewise, and each hop's own attempts
    /// would multiply.
    pub looped: bool,
}

/// Where the accepting end of an internal connection says whether it took the connection, shared by both ends.
///
/// ```text
/// Open -- defer --> Deciding -- open ----> Open
///   |                  +------- follow --> Following
///   |                  +------- set -----> Refused
///   +----- set ----------------------------> Refused
/// ```
#[derive(Debug, Clone, Default)]
pub struct RefusalSlot(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// The connection is used as soon as it is made, like one that a kernel accepted.
    #[default]
    Open,
    /// The accepting end will say [`RefusalSlot::open`] or [`RefusalSlot::set`], and needs no byte for that.
    Deciding(Option<Waker>),
    /// As the next hop's accepting end decides.
    Following(RefusalSlot),
    /// The first refusal stays: later ones follow from it.
    Refused(Box<Refusal>),
}

impl RefusalSlot {
    /// One of a connection that may be used at once.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a decision will come. To be called while the connection is being accepted, by an end that neither waits
    /// for bytes before it decides nor forgets to.
    pub fn defer(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Open) {
            *state = State::Deciding(None);
        }
    }

    /// Takes the connection.
    pub fn open(&self) {
        self.decide(State::Open);
    }

    /// Takes the connection if the next hop's accepting end does.
    pub fn follow(&self, next: &Self) {
        self.decide(if next.is_deciding() { State::Following(next.clone()) } else { State::Open });
    }

    /// Refuses the connection. To be called before it is reset.
    pub fn set(&self, refusal: Refusal) {
        self.decide(State::Refused(Box::new(refusal)));
    }

    fn decide(&self, next: State) {
        let mut state = self.lock();
        if matches!(*state, State::Refused(_)) {
            return;
        }
        let before = std::mem::replace(&mut *state, next);
        drop(state);
        if let State::Deciding(Some(waker)) = before {
            waker.wake();
        }
    }

    /// The refusal, if there is one.
    pub fn get(&self) -> Option<Refusal> {
        let next = match &*self.lock() {
            State::Refused(refusal) => return Some(Refusal::clone(refusal)),
            State::Open | State::Deciding(_) => return None,
            State::Following(next) => next.clone(),
        };
        next.get()
    }

    /// Whether the far side met the hop limit, and forgets it: an HTTP connection serves further requests, which may not.
    pub fn take_loop(&self) -> Option<Refusal> {
        let mut state = self.lock();
        match std::mem::take(&mut *state) {
            State::Refused(refusal) if refusal.looped => Some(*refusal),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Whether a decision is to come.
    pub fn is_deciding(&self) -> bool {
        let next = match &*self.lock() {
            State::Open | State::Refused(_) => return false,
            State::Deciding(_) => return true,
            State::Following(next) => next.clone(),
        };
        next.is_deciding()
    }

    /// Ready once no decision is to come any more. Whoever waits also watches for the end of the connection.
    pub fn poll_decided(&self, cx: &mut Context<'_>) -> Poll<()> {
        let next = match &mut *self.lock() {
            State::Deciding(waker) => {
                if waker.as_ref().is_none_or(|old| !old.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            State::Open | State::Refused(_) => return Poll::Ready(()),
            State::Following(next) => next.clone(),
        };
        next.poll_decided(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decided(slot: &RefusalSlot) -> bool {
        slot.poll_decided(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_first_refusal_stays() {
        let slot = RefusalSlot::new();
        assert!(decided(&slot));
        slot.set(Refusal { status: Some(403), ..Refusal::default() });
        slot.set(Refusal::default());
        slot.open();
        slot.defer();
        assert_eq!(slot.get().unwrap().status, Some(403));
        assert!(decided(&slot));
    }

    #[test]
    fn a_slot_follows_the_next_one() {
        for refuse in [false, true] {
            let [first, middle, last] = [0; 3].map(|_| RefusalSlot::new());
            for slot in [&first, &middle, &last] {
                slot.defer();
            }
            first.follow(&middle);
            middle.follow(&last);
            assert!(first.is_deciding() && !decided(&first) && first.get().is_none());
            if refuse {
                last.set(Refusal::default())
            } else {
                last.open()
            }
            assert!(decided(&first) && !first.is_deciding());
            assert_eq!(first.get().is_some(), refuse);
        }
    }

    #[test]
    fn a_loop_is_told_once() {
        let slot = RefusalSlot::new();
        slot.set(Refusal { looped: true, ..Refusal::default() });
        assert!(slot.take_loop().is_some() && slot.take_loop().is_none() && slot.get().is_none());
        slot.set(Refusal::default());
        assert!(slot.take_loop().is_none() && slot.get().is_some());
    }

    #[test]
    fn a_deferred_decision_is_waited_for() {
        for refuse in [false, true] {
            let slot = RefusalSlot::new();
            slot.defer();
            assert!(slot.is_deciding() && !decided(&slot));
            if refuse {
                slot.set(Refusal::default())
            } else {
                slot.open()
            }
            assert!(decided(&slot));
            assert_eq!(slot.get().is_some(), refuse);
        }
    }
}
