//! `connection_keepalive`: PINGs that find out whether the peer is still there (RFC 9113 section 6.7).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::conn::Core;
use crate::{Counter, KeepaliveOptions};

/// No answer came in time.
#[derive(Debug)]
pub(crate) struct Dead;

/// Sends PINGs and waits for their answers; polled by the connection's own task.
pub(crate) struct Keepalive {
    options: KeepaliveOptions,
    timer: Pin<Box<Sleep>>,
    /// A PING is out; the count of octets read when its timer was set.
    waiting: Option<u64>,
}

impl Keepalive {
    pub(crate) fn new(options: KeepaliveOptions) -> Self {
        let timer = Box::pin(tokio::time::sleep(next_interval(&options)));
        Self { options, timer, waiting: None }
    }

    /// `read`: octets ever read from the peer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, core: &mut Core, read: u64) -> Result<(), Dead> {
        loop {
            let Some(read_before) = self.waiting else {
                let wanted = std::mem::take(&mut core.ping_wanted);
                if !wanted && self.timer.as_mut().poll(cx).is_pending() {
                    return Ok(());
                }
                if wanted || self.options.interval.is_some() {
                    self.send(core, read);
                } else {
                    self.timer.as_mut().reset(Instant::now() + next_interval(&self.options));
                }
                continue;
            };
            if core.pong {
                self.waiting = None;
                self.timer.as_mut().reset(Instant::now() + next_interval(&self.options));
                continue;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if read == read_before {
                core.stats.count(Counter::KeepaliveTimeout);
                return Err(Dead);
            }
            self.waiting = Some(read);
            self.timer.as_mut().reset(Instant::now() + self.options.timeout);
        }
    }

    fn send(&mut self, core: &mut Core, read: u64) {
        core.send_ping();
        self.waiting = Some(read);
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
pub(crate) fn poll_dead(
    keepalive: &mut Option<Keepalive>,
    cx: &mut Context<'_>,
    core: &mut Core,
    read: u64,
) -> Poll<()> {
    match keepalive.as_mut().map(|keepalive| keepalive.poll(cx, core, read)) {
        Some(Err(Dead)) => Poll::Ready(()),
        Some(Ok(())) | None => Poll::Pending,
    }
}
