//! What may end a wait other than what is waited for: the client, and time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_filter::HttpStream;
use adit_http::StreamError;
use tokio::time::{Instant, Sleep};

/// Why a wait was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The client gave up.
    Client(StreamError),
    /// The route's `timeout`.
    Response,
    /// `per_try_timeout`.
    PerTry,
    /// `per_try_idle_timeout`.
    PerTryIdle,
    /// The stream's idle timeout.
    Idle,
    /// The cluster's `max_stream_duration`.
    MaxDuration,
}

/// The deadlines of one request, checked by one timer that is set late and never per byte.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) response: Option<Instant>,
    pub(crate) per_try: Option<Instant>,
    pub(crate) max: Option<Instant>,
    idle: Option<(Duration, Instant)>,
    per_try_idle: Option<(Duration, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Waits {
    pub(crate) fn new(idle: Option<Duration>) -> Self {
        Self { idle: idle.map(|idle| (idle, Instant::now())), ..Self::default() }
    }

    /// Something moved.
    pub(crate) fn touch(&mut self) {
        if self.idle.is_some() || self.per_try_idle.is_some() {
            let now = Instant::now();
            for (_, since) in self.idle.iter_mut().chain(&mut self.per_try_idle) {
                *since = now;
            }
        }
    }

    /// An attempt begins.
    pub(crate) fn start_try(&mut self, limit: Option<Duration>, idle: Option<Duration>) {
        self.per_try = limit.and_then(after);
        self.per_try_idle = idle.map(|idle| (idle, Instant::now()));
    }

    /// An attempt is over.
    pub(crate) fn end_try(&mut self) {
        self.per_try = None;
        self.per_try_idle = None;
    }

    fn deadlines(&self) -> [(Option<Instant>, Interrupt); 5] {
        let at = |idle: Option<(Duration, Instant)>| idle.and_then(|(limit, since)| since.checked_add(limit));
        [
            (self.response, Interrupt::Response),
            (self.max, Interrupt::MaxDuration),
            (at(self.idle), Interrupt::Idle),
            (self.per_try, Interrupt::PerTry),
            (at(self.per_try_idle), Interrupt::PerTryIdle),
        ]
    }

    /// Ready when time is up for one of them.
    pub(crate) fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Interrupt> {
        loop {
            let Some(next) = self.deadlines().into_iter().filter_map(|(at, _)| at).min() else { return Poll::Pending };
            // A timer set too early is only looked at again when it fires; one set too late is moved.
            if self.armed.is_none_or(|armed| next < armed) {
                self.arm(next);
            }
            if let Some(timer) = &mut self.timer
                && timer.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            let now = Instant::now();
            let due = self.deadlines().into_iter().find(|(at, _)| at.is_some_and(|at| at <= now));
            if let Some((_, interrupt)) = due {
                self.armed = None;
                return Poll::Ready(interrupt);
            }
            self.arm(next);
        }
    }

    fn arm(&mut self, at: Instant) {
        self.armed = Some(at);
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Ready when the client is gone or time is up.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut HttpStream) -> Poll<Interrupt> {
        if let Poll::Ready(error) = stream.poll_cancelled(cx) {
            return Poll::Ready(Interrupt::Client(error));
        }
        self.poll_time(cx)
    }
}

/// The moment this long from now; `None` beyond what the clock can say.
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    Instant::now().checked_add(duration)
}
