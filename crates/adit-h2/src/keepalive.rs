//! `connection_keepalive`: PINGs that find out whether the peer is still there (RFC 9113 section 6.7).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use crate::shared::Shared;
use crate::{Counter, KeepaliveOptions};

/// No answer came in time.
#[derive(Debug)]
pub(crate) struct Dead;

/// Sends PINGs and waits for their answers; polled by the connection's own task.
pub(crate) struct Keepalive {
    options: KeepaliveOptions,
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    /// A PING is out; the count of bytes read when its timer was set.
    waiting: Option<u64>,
}

impl Keepalive {
    pub(crate) fn new(options: KeepaliveOptions, pings: PingPong) -> Self {
        let timer = Box::pin(tokio::time::sleep(next_interval(&options)));
        Self { options, pings, timer, waiting: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Result<(), Dead> {
        loop {
            let Some(read_before) = self.waiting else {
                let wanted = shared.ping_wanted.swap(false, Relaxed);
                if !wanted && self.timer.as_mut().poll(cx).is_pending() {
                    return Ok(());
                }
                if wanted || self.options.interval.is_some() {
                    self.send(shared);
                } else {
                    self.timer.as_mut().reset(Instant::now() + next_interval(&self.options));
                }
                continue;
            };
            if self.pings.poll_pong(cx).is_ready() {
                self.waiting = None;
                self.timer.as_mut().reset(Instant::now() + next_interval(&self.options));
                continue;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let read = shared.bytes_read.load(Relaxed);
            if read == read_before {
                shared.count(Counter::KeepaliveTimeout);
                return Err(Dead);
            }
            self.waiting = Some(read);
            self.timer.as_mut().reset(Instant::now() + self.options.timeout);
        }
    }

    fn send(&mut self, shared: &Shared) {
        // Refused only while one is under way, or when the connection is over, which its owner learns otherwise.
        let _ = self.pings.send_ping(Ping::opaque());
        self.waiting = Some(shared.bytes_read.load(Relaxed));
        self.timer.as_mut().reset(Instant::now() + self.options.timeout);
    }
}

/// Beyond any connection's life.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Where no interval is set, a timer far away.
fn next_interval(options: &KeepaliveOptions) -> Duration {
    let Some(interval) = options.interval else { return FAR };
    // A percentage is 0 to 100; whatever else the configuration let through must not make the product overflow.
    let percent = if options.jitter_percent.is_finite() { options.jitter_percent.clamp(0.0, 100.0) } else { 0.0 };
    interval.saturating_add(interval.min(FAR).mul_f64(percent / 100.0 * fastrand::f64())).min(FAR)
}

/// The answer of a poll that never completes by itself.
pub(crate) fn poll_dead(keepalive: &mut Option<Keepalive>, cx: &mut Context<'_>, shared: &Shared) -> Poll<()> {
    match keepalive.as_mut().map(|keepalive| keepalive.poll(cx, shared)) {
        Some(Err(Dead)) => Poll::Ready(()),
        Some(Ok(())) | None => Poll::Pending,
    }
}
