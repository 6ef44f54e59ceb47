//! A connection whose upstream stands: all that is left of it in memory.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_codec::{RecvStream, SendStream};
use adit_filter::{AccessLogType, BoxFuture, Lifecycle, ResponseFlag, ResponseFlags, StreamInfo};
use adit_io::{Cause, DirectionEnd, Peer, Refusal, Relay, Side, SideMut, Summary};
use adit_stats::{Counter, GaugeHold};
use tokio::time::{Instant, Sleep};

use crate::connect::UpStream;
use crate::session::Session;
use crate::tunnel;

/// The relay with its sides, and what writes the log when it is over.
pub(crate) struct Relaying {
    pub(crate) relay: Relay,
    pub(crate) down: Side,
    pub(crate) up: Up,
    pub(crate) session: Session,
    /// Ready when the worker closes, or with `check_drain_close` earlier.
    pub(crate) closing: Option<BoxFuture<'static, ()>>,
    /// When the next periodic line is due.
    pub(crate) ticker: Option<Pin<Box<Sleep>>>,
    /// Counts a client that is gone while its last bytes wait for the upstream.
    pub(crate) flush: Option<Box<GaugeHold>>,
    /// Held while the connection lives; dropped after the sides.
    pub(crate) _guard: Box<dyn Send>,
}

/// The upstream's two halves.
pub(crate) enum Up {
    Plain(Side),
    /// Those of a tunnel, without their codec where it has no more to do.
    Bytes(Side),
    /// Those of a tunnel whose trailers are passed on.
    Tunnel(Box<dyn SendStream>, Box<dyn RecvStream>),
}

impl Up {
    pub(crate) fn new(cx: &mut Context<'_>, stream: UpStream, trailers: bool) -> Self {
        match stream {
            UpStream::Plain(io) => Self::Plain(Side::from(io)),
            UpStream::Tunnel(send, recv) if trailers => Self::Tunnel(send, recv),
            UpStream::Tunnel(send, recv) => Self::Bytes(adit_codec::tunnel_side_in(cx, recv, send)),
        }
    }
}

impl Relaying {
    /// Ready with what the listener logs, if it does, once both sides are over and this proxy's own line is written.
    pub(crate) fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<StreamInfo>>> {
        self.poll_ticker(cx);
        let up = match &mut self.up {
            Up::Plain(side) | Up::Bytes(side) => side.as_mut(),
            Up::Tunnel(send, recv) => SideMut { source: &mut **recv, sink: &mut **send },
        };
        let close = self.relay.poll_closing(cx, &mut self.closing);
        let polled = self.relay.poll_relay(cx, self.down.as_mut(), up, Some(&self.session), close);
        if self.flush.is_none() && self.relay.flushes_upstream() {
            let stats = &self.session.proxy.stats;
            stats.upstream_flush_total.inc();
            self.flush = Some(Box::new(stats.upstream_flush_active.hold()));
        }
        let summary = ready!(polled);
        self.flush = None;
        Poll::Ready(self.finish(cx, &summary))
    }

    fn finish(&mut self, cx: &mut Context<'_>, summary: &Summary) -> Option<Box<StreamInfo>> {
        let refusal = self.count(summary.cause);
        let mut info = self.session.info(summary.down_to_up.bytes, summary.up_to_down.bytes)?;
        if let Some(refusal) = &refusal {
            note_refusal(refusal, &mut info);
        }
        self.explain(summary.cause, refusal.is_some(), &mut info);
        if let Up::Tunnel(_, recv) = &mut self.up
            && summary.up_to_down.end == DirectionEnd::End
            && let Poll::Ready(Ok(Some(trailers))) = recv.poll_trailers(cx)
        {
            tunnel::keep_trailers(&trailers, &mut info.state);
        }
        self.session.proxy.log_end(&mut info);
        self.session.listener_logs.then_some(info)
    }

    /// Counts the end, and passes on why the upstream refused after all, if it did.
    fn count(&self, cause: Cause) -> Option<Refusal> {
        let stats = &self.session.proxy.stats;
        match cause {
            Cause::Reset { by: Peer::Upstream, .. } => return self.session.refused(),
            Cause::IdleTimeout => stats.idle_timeout.inc(),
            Cause::MaxDuration => stats.max_downstream_connection_duration.inc(),
            Cause::Ended | Cause::Reset { .. } | Cause::Closing => {}
        }
        None
    }

    fn explain(&self, cause: Cause, refused: bool, info: &mut StreamInfo) {
        let (downstream, upstream) = match cause {
            Cause::Reset { by: Peer::Downstream, .. } => ("RemoteReset", "LocalReset"),
            Cause::Reset { by: Peer::Upstream, .. } => {
                // A refusal has flags of its own; a tunnel was reset, whatever became of its connection.
                if !refused || !matches!(self.up, Up::Plain(_)) {
                    info.flags.set(ResponseFlag::UpstreamRemoteReset);
                }
                ("LocalReset", "RemoteReset")
            }
            Cause::Ended | Cause::IdleTimeout | Cause::MaxDuration | Cause::Closing => ("Normal", "Normal"),
        };
        info.downstream_close_type = Some(downstream);
        info.upstream_mut().close_type = Some(upstream);
        match cause {
            Cause::IdleTimeout => info.local_close_reason = Some("tcp_session_idle_timeout".into()),
            Cause::MaxDuration => {
                info.flags.set(ResponseFlag::DurationTimeout);
                info.local_close_reason = Some("max_connection_duration_reached".into());
            }
            Cause::Ended | Cause::Reset { .. } | Cause::Closing => {}
        }
    }

    fn poll_ticker(&mut self, cx: &mut Context<'_>) {
        let (Some(ticker), Some(interval)) = (&mut self.ticker, self.session.proxy.logs.interval) else { return };
        while ticker.as_mut().poll(cx).is_ready() {
            let (received, sent) = self.relay.bytes();
            if let Some(info) = self.session.info(received, sent) {
                self.session.proxy.log(&info, AccessLogType::TcpPeriodic);
            }
            ticker.as_mut().reset(next(interval));
        }
    }
}

/// What logs say of an internal upstream that refused after all.
fn note_refusal(refusal: &Refusal, info: &mut StreamInfo) {
    for flag in ResponseFlags::from_bits(refusal.flags).iter() {
        info.flags.set(flag);
    }
    if !refusal.details.is_empty() {
        info.upstream_mut().transport_failure = Some(refusal.details.to_string().into());
    }
}

/// The moment of the next periodic line.
fn next(interval: Duration) -> Instant {
    let now = Instant::now();
    // An interval beyond the clock's range never comes.
    now.checked_add(interval).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

/// Waits for the first periodic line.
pub(crate) fn ticker(interval: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep_until(next(interval)))
}

/// `check_drain_close`: ready when the worker closes, or when the connection moves while it drains.
pub(crate) struct DrainClose {
    closing: BoxFuture<'static, ()>,
    lifecycle: Arc<dyn Lifecycle>,
    closed: Counter,
    /// A connection that just began has moved nothing.
    begun: bool,
}

impl DrainClose {
    pub(crate) fn new(closing: BoxFuture<'static, ()>, lifecycle: Arc<dyn Lifecycle>, closed: Counter) -> Self {
        Self { closing, lifecycle, closed, begun: false }
    }
}

impl Future for DrainClose {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.begun, true) && self.lifecycle.should_drain() {
            self.closed.inc();
            return Poll::Ready(());
        }
        self.closing.as_mut().poll(cx)
    }
}
