//! A sink that takes no more bytes a second than it may (`fault.response_rate_limit`).

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_codec::SendStream;
use adit_http::{ErrorCode, StreamError};
use adit_io::ByteSink;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::time::{Instant, Sleep};

/// How often more may leave: 50 ms, as in Envoy.
const TICK: Duration = Duration::from_millis(50);
/// Ticks of a second.
const TICKS: u64 = 20;

/// Passes bytes on as the rate allows: a twentieth of it at once, and as much again every 50 ms. What was not used adds up to
/// one second's worth.
pub(crate) struct Throttled {
    sink: Box<dyn SendStream>,
    /// Bytes of one tick.
    slice: u64,
    /// Bytes that may leave now.
    budget: u64,
    /// When the budget was last added to.
    filled: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Throttled {
    /// A sink limited to so many KiB a second.
    pub(crate) fn new(sink: Box<dyn SendStream>, kib: NonZeroU32) -> Self {
        let slice = u64::from(kib.get()) * 1024 / TICKS;
        Self { sink, slice, budget: slice, filled: Instant::now(), timer: None }
    }

    fn poll_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ticks = u64::try_from(self.filled.elapsed().as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
            if ticks > 0 {
                let most = self.slice.saturating_mul(TICKS);
                self.budget = self.budget.saturating_add(ticks.saturating_mul(self.slice)).min(most);
                self.filled += TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
            }
            if self.budget > 0 {
                self.timer = None;
                return Poll::Ready(());
            }
            let next = self.filled + TICK;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
    }
}

impl ByteSink for Throttled {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        while !data.is_empty() {
            if self.poll_budget(cx).is_pending() {
                // What was allowed leaves meanwhile; a failure shows at the next call.
                let _ = self.sink.poll_flush(cx);
                return Poll::Pending;
            }
            let allowed = data.len().min(usize::try_from(self.budget).unwrap_or(usize::MAX));
            let last = end && allowed == data.len();
            let mut part = data.slice(..allowed);
            let result = self.sink.poll_send(cx, &mut part, last);
            let taken = allowed - part.len();
            data.advance(taken);
            self.budget -= taken as u64;
            ready!(result)?;
            if last {
                return Poll::Ready(Ok(()));
            }
        }
        if end { self.sink.poll_send(cx, data, true) } else { Poll::Ready(Ok(())) }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.sink.poll_flush(cx)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.sink.poll_stopped(cx)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.sink.reset(code);
    }
}

impl SendStream for Throttled {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.sink.poll_send_trailers(cx, trailers)
    }
}

#[cfg(test)]
mod tests;
