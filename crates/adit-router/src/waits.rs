//! What may end a wait other than what is waited for: the client, and time.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_filter::{Alarm, HttpStream, Watch};
use adit_http::StreamError;
use tokio::time::Instant;

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

/// The deadlines of one request, for which the stream's one timer is set; never per byte.
#[derive(Default)]
pub(crate) struct Waits {
    pub(crate) response: Option<Instant>,
    pub(crate) per_try: Option<Instant>,
    pub(crate) max: Option<Instant>,
    idle: Option<(Duration, Instant)>,
    per_try_idle: Option<(Duration, Instant)>,
}

impl Waits {
    pub(crate) fn new(idle: Option<Duration>, now: Instant) -> Self {
        Self { idle: idle.map(|idle| (idle, now)), ..Self::default() }
    }

    /// Something moved.
    pub(crate) fn touch(&mut self) {
        if self.idle.is_some() || self.per_try_idle.is_some() {
            self.touch_at(Instant::now());
        }
    }

    /// Something moved just now.
    pub(crate) fn touch_at(&mut self, now: Instant) {
        for (_, since) in self.idle.iter_mut().chain(&mut self.per_try_idle) {
            *since = now;
        }
    }

    /// An attempt begins.
    pub(crate) fn start_try(&mut self, limit: Option<Duration>, idle: Option<Duration>, now: Instant) {
        self.per_try = limit.and_then(|limit| now.checked_add(limit));
        self.per_try_idle = idle.map(|idle| (idle, now));
    }

    /// An attempt is over.
    pub(crate) fn end_try(&mut self) {
        self.per_try = None;
        self.per_try_idle = None;
    }

    fn deadlines(&self) -> [(Option<Instant>, Interrupt); 5] {
        [
            (self.response, Interrupt::Response),
            (self.max, Interrupt::MaxDuration),
            (at(self.idle), Interrupt::Idle),
            (self.per_try, Interrupt::PerTry),
            (at(self.per_try_idle), Interrupt::PerTryIdle),
        ]
    }

    /// The first of them.
    fn next(&self) -> Option<Instant> {
        let next = sooner(self.response, at(self.idle));
        if self.max.is_none() && self.per_try.is_none() && self.per_try_idle.is_none() {
            // As nearly always.
            return next;
        }
        sooner(next, sooner(self.max, sooner(self.per_try, at(self.per_try_idle))))
    }

    /// What time is up for.
    #[cold]
    fn due(&self, now: Instant) -> Option<Interrupt> {
        self.deadlines().into_iter().find(|(at, _)| at.is_some_and(|at| at <= now)).map(|(_, interrupt)| interrupt)
    }

    /// Ready when time is up for one of them.
    pub(crate) fn poll_time(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<Interrupt> {
        loop {
            let Some(next) = self.next() else { return Poll::Pending };
            ready!(alarm.poll_until(cx, next));
            if let Some(interrupt) = self.due(Instant::now()) {
                return Poll::Ready(interrupt);
            }
        }
    }

    /// Ready when the client is gone or time is up.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut HttpStream) -> Poll<Interrupt> {
        self.poll_watch(cx, &mut stream.split().2)
    }

    /// The same, while the rest of the stream is borrowed.
    pub(crate) fn poll_watch(&mut self, cx: &mut Context<'_>, client: &mut Watch<'_>) -> Poll<Interrupt> {
        if let Poll::Ready(error) = client.poll_cancelled(cx) {
            return Poll::Ready(Interrupt::Client(error));
        }
        self.poll_time(cx, client.alarm)
    }
}

fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// When so long a time without a move is over.
fn at(idle: Option<(Duration, Instant)>) -> Option<Instant> {
    idle.and_then(|(limit, since)| since.checked_add(limit))
}

/// The moment this long from now; `None` beyond what the clock can say.
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    Instant::now().checked_add(duration)
}
