//! What a connection lends to one stream after the other, so that none makes its own.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Instant, Sleep};

use crate::{BoxFuture, Lifecycle};

/// A timer, and the end of the process, as whoever is served now waits for them. Empty until first waited for.
#[derive(Default)]
pub struct Lent {
    /// For every wait with a deadline.
    pub alarm: Alarm,
    /// The end of the process.
    pub closing: Closing,
}

/// [`Lifecycle::closing`], asked for when it is first waited for.
#[derive(Default)]
pub struct Closing(Option<BoxFuture<'static, ()>>);

impl Closing {
    /// Ready when everything must end now.
    pub fn poll(&mut self, cx: &mut Context<'_>, lifecycle: &dyn Lifecycle) -> Poll<()> {
        ready!(self.0.get_or_insert_with(|| lifecycle.closing()).as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

/// One timer for waits that follow one another, each with its own deadline.
///
/// It is set early and looked at late: where it is due before the deadline that is waited for, it is left as it is until it
/// fires. So a wait that ends in time, as most do, touches no timer.
#[derive(Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// Who is woken when the timer fires; `None` where that is to be told to it again.
    waker: Option<Waker>,
}

impl Alarm {
    /// The timer itself, due whenever it was set to last, for who waits on after the last wait of this kind.
    pub fn into_timer(self) -> Option<Pin<Box<Sleep>>> {
        self.timer
    }

    /// Ready at the deadline.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
                self.waker = None;
            }
            let told = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if told && !timer.is_elapsed() {
                return Poll::Pending;
            }
            // Outside the task's budget, without which the timer would not be told whom to wake.
            if pin!(tokio::task::coop::unconstrained(timer.as_mut())).poll(cx).is_pending() {
                if !told {
                    self.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            self.waker = None;
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests;
