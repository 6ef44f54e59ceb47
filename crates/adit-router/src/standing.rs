//! A tunnel that stands: the relay, and what becomes of the record when it is over.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_filter::upstream::{Host, Report};
use adit_filter::{BoxFuture, HttpStream, ResponseFlag, StandingTunnel, TunnelStream};
use adit_io::{Cause as RelayCause, Direction, Peer, Relay, RelayObserver, RelayOptions, Side, TimeoutAction};
use http::Version;
use tokio::time::Instant;

/// Counts the bytes of a raw upstream while they move.
struct HostBytes<'a>(&'a dyn Host);

impl RelayObserver for HostBytes<'_> {
    fn on_bytes(&self, direction: Direction, bytes: u64) {
        self.0.report(match direction {
            Direction::DownToUp => Report::Bytes { sent: bytes, received: 0 },
            Direction::UpToDown => Report::Bytes { sent: 0, received: bytes },
        });
    }

    fn on_paused(&self, direction: Direction) {
        if direction == Direction::UpToDown {
            self.0.report(Report::FlowControl { paused: true });
        }
    }

    fn on_resumed(&self, direction: Direction) {
        if direction == Direction::UpToDown {
            self.0.report(Report::FlowControl { paused: false });
        }
    }
}

/// The upstream of a tunnel.
pub(crate) struct Upstream {
    pub(crate) host: Arc<dyn Host>,
    /// Held for as long as the tunnel lives.
    pub(crate) guard: Box<dyn Send>,
    /// `None` for raw bytes.
    pub(crate) version: Option<Version>,
    /// End of the cluster's `max_stream_duration`.
    pub(crate) max: Option<Instant>,
}

/// The relay with its sides, and what its end is told to.
pub(crate) struct Standing {
    relay: Relay,
    /// Downstream and upstream; gone once it is over.
    sides: Option<(Side, Side)>,
    /// Ready when the worker closes.
    closing: Option<BoxFuture<'static, ()>>,
    host: Arc<dyn Host>,
    guard: Option<Box<dyn Send>>,
    version: Option<Version>,
    /// The client ended its direction first.
    client_first: bool,
}

impl Standing {
    /// Takes over the timer that the connection lent.
    pub(crate) fn new(stream: &mut HttpStream, down: Side, up: Side, upstream: Upstream) -> Self {
        let Upstream { host, guard, version, max } = upstream;
        let options = RelayOptions {
            idle_timeout: stream.idle_timeout,
            max_duration: max.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1))),
            timeout_action: TimeoutAction::Reset,
            buffer_limit: stream.buffer_limit,
            ..RelayOptions::default()
        };
        let timer = std::mem::take(&mut stream.lent.alarm).into_timer();
        Self {
            relay: Relay::with_timer(&options, timer),
            sides: Some((down, up)),
            closing: Some(stream.worker.lifecycle.closing()),
            host,
            guard: Some(guard),
            version,
            client_first: false,
        }
    }
}

impl StandingTunnel for Standing {
    fn poll_relay(&mut self, cx: &mut Context<'_>, stream: &mut TunnelStream) -> Poll<()> {
        let Some((down, up)) = &mut self.sides else { return Poll::Ready(()) };
        let close = self.relay.poll_closing(cx, &mut self.closing);
        // That of a codec counts itself.
        let bytes = HostBytes(&*self.host);
        let observer = self.version.is_none().then_some(&bytes as &dyn RelayObserver);
        let polled = self.relay.poll_relay(cx, down.as_mut(), up.as_mut(), observer, close);
        count(stream, self.relay.bytes());
        let (down_over, up_over) = self.relay.ended();
        self.client_first |= down_over && !up_over;
        stream.poll_tick(cx);
        let summary = ready!(polled);
        self.sides = None;
        self.closing = None;
        record(stream, summary.cause, self.client_first, self.version, &*self.host);
        self.guard = None;
        Poll::Ready(())
    }
}

/// What a relay moved is what either side was given and gave.
fn count(stream: &mut TunnelStream, (received, sent): (u64, u64)) {
    let Some(info) = stream.info() else { return };
    (info.bytes_received, info.bytes_sent) = (received, sent);
    if let Some(upstream) = &mut info.upstream {
        (upstream.bytes_sent, upstream.bytes_received) = (received, sent);
    }
}

fn record(stream: &mut TunnelStream, cause: RelayCause, client_first: bool, version: Option<Version>, host: &dyn Host) {
    stream.set_over();
    match cause {
        RelayCause::Ended => {
            if client_first && stream.is_tunnel && stream.version < Version::HTTP_2 {
                let flag = ResponseFlag::DownstreamConnectionTermination;
                stream.explain("downstream_remote_disconnect", Some(flag));
            }
        }
        RelayCause::IdleTimeout => {
            host.report(Report::SentReset);
            stream.explain("stream_idle_timeout", Some(ResponseFlag::StreamIdleTimeout));
        }
        RelayCause::MaxDuration => {
            host.report(Report::MaxDuration);
            host.report(Report::SentReset);
            let flag = ResponseFlag::UpstreamMaxStreamDurationReached;
            stream.explain("upstream_max_stream_duration_reached", Some(flag));
        }
        RelayCause::Reset { by: Peer::Downstream, error } => {
            host.report(Report::SentReset);
            stream.client_gone(error);
        }
        RelayCause::Reset { by: Peer::Upstream, error } => {
            host.report(Report::ReceivedReset);
            // A raw upstream has no stream to reset but its connection.
            let reason = crate::reset::ResetReason::of_stream(&error, version.unwrap_or(Version::HTTP_11));
            stream.explain(reason.after_response(), Some(reason.flag()));
            if let Some(upstream) = stream.info().and_then(|info| info.upstream.as_mut()) {
                upstream.close_type = Some("RemoteReset");
            }
        }
        RelayCause::Closing => {
            if let Some(info) = stream.info() {
                info.local_close_reason = Some("server_shutdown".into());
            }
        }
    }
}
