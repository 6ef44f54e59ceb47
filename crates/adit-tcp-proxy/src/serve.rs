//! A connection, from the listener to its end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_filter::{AccessLogType, BoxFuture, Connection, NetworkTerminal, ResponseFlag, StreamInfo, WorkerEnv};
use adit_io::{Io, Refusal, Relay, RelayOptions, Side};
use adit_stats::Counter;
use tokio::time::{Instant, Sleep};

use crate::TcpProxy;
use crate::client::{Client, Left};
use crate::connect::{Connecting, Established, Failure};
use crate::relaying::{DrainClose, Relaying, Up, ticker};
use crate::session::{Session, Upstream};

impl NetworkTerminal for TcpProxy {
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
        self.stats.downstream_cx_total.inc();
        Box::pin(Serving::Connecting(establish(self, connection)))
    }

    fn refused(&self, info: &mut StreamInfo) {
        self.stats.downstream_cx_total.inc();
        self.log_end(info);
    }

    fn decides(&self) -> bool {
        !self.wait_for_data
    }
}

/// The connect phase needs much and passes: it lives in a box of its own, which is freed when the relay begins.
enum Serving {
    Connecting(BoxFuture<'static, Result<Relaying, Box<StreamInfo>>>),
    Relaying(Relaying),
}

impl Future for Serving {
    type Output = Option<Box<StreamInfo>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut *self {
                Self::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(relaying) => *self = Self::Relaying(relaying),
                    Err(info) => return Poll::Ready(Some(info)),
                },
                Self::Relaying(relaying) => return relaying.poll_run(cx),
            }
        }
    }
}

/// Why there is no upstream.
#[derive(Clone, Copy)]
enum Ended {
    Failed(Failure),
    Left(Left),
    Idle,
    TooLong,
    Closing,
}

/// The two timers of a connection, both from its start, and what ends it while it waits: held until the relay takes them over.
struct Waits {
    idle: Option<Duration>,
    /// End of `max_downstream_connection_duration`.
    max: Option<Instant>,
    /// Set to the first of the two.
    timer: Option<Pin<Box<Sleep>>>,
    /// Idle comes first.
    idle_first: bool,
    /// Ready when the worker closes.
    closing: BoxFuture<'static, ()>,
}

impl Waits {
    fn new(idle: Option<Duration>, max: Option<Duration>, closing: BoxFuture<'static, ()>) -> Self {
        let start = Instant::now();
        // What is beyond the clock's range never comes.
        let (idle_at, max) =
            (idle.and_then(|idle| start.checked_add(idle)), max.and_then(|max| start.checked_add(max)));
        let idle_first = idle_at.is_some_and(|idle| max.is_none_or(|max| idle < max));
        let first = if idle_first { idle_at } else { max };
        Self { idle, max, timer: first.map(|at| Box::pin(tokio::time::sleep_until(at))), idle_first, closing }
    }

    /// Ready when the connection is to wait no more.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(if self.idle_first { Ended::Idle } else { Ended::TooLong });
        }
        self.closing.as_mut().poll(cx).map(|()| Ended::Closing)
    }
}

/// From a client that waits to the relay. Not an `async fn`, in whose future what it is given has a place of its own beside that
/// where it is used.
fn establish(proxy: Arc<TcpProxy>, connection: Connection) -> BoxFuture<'static, Result<Relaying, Box<StreamInfo>>> {
    let mut info = Box::new(connection.stream_info());
    let Connection { io, listener, worker, guards, .. } = connection;
    let early = proxy.early_data(&info);
    let tunnelled = proxy.tunnel_for(&info).is_some();
    let mut client = Client::new(io, early, tunnelled);
    Box::pin(async move {
        if proxy.logs.on_start {
            proxy.log(&info, AccessLogType::TcpConnectionStart);
        }
        let mut waits = Waits::new(proxy.idle_timeout(&info), proxy.max_duration(), worker.lifecycle.closing());
        let early_reads = &proxy.stats.early_data_received_count_total;
        let mut refused = (None, false);
        // With `upstream_connect_mode` `ON_DOWNSTREAM_DATA` the client is to speak first.
        let spoken = match proxy.wait_for_data {
            true => poll_fn(|cx| poll_spoken(cx, &mut client, &mut waits, early_reads)).await,
            false => Ok(()),
        };
        let outcome = match spoken {
            Err(ended) => Err(ended),
            Ok(()) => {
                client.look_away();
                let mut connecting = Connecting::new(&proxy, &worker, &mut info, client.has_spoken());
                let outcome = {
                    let mut run = pin!(connecting.run());
                    poll_fn(|cx| match run.as_mut().poll(cx) {
                        Poll::Ready(Ok(established)) => Poll::Ready(Ok(tunnel(cx, &proxy, established))),
                        Poll::Ready(Err(failure)) => Poll::Ready(Err(Ended::Failed(failure))),
                        Poll::Pending => poll_ended(cx, &mut client, &mut waits, early_reads).map(Err),
                    })
                    .await
                };
                refused = (connecting.refused, connecting.looped);
                outcome
            }
        };
        let Tunnel { up, upstream, guard, buffer_limit } = match outcome {
            Ok(tunnel) => tunnel,
            Err(ended) => {
                refuse(&proxy, ended, refused, &mut info);
                // Rare, and larger than all else here.
                Box::pin(client.close()).await;
                return Err(info);
            }
        };
        tell_taken(&info, &up, &upstream);
        let buffer_limit = buffer_limit.min(listener.buffer_limit);
        let session = Session::new(proxy, &info, listener, upstream);
        // Most connections have no guards of their own.
        let guard = if guards.is_empty() { guard } else { Box::new((guard, guards)) };
        Ok(relaying(session, client.into_io(), up, &worker, waits, buffer_limit, guard))
    })
}

/// Waits for the client's first bytes.
fn poll_spoken(
    cx: &mut Context<'_>,
    client: &mut Client,
    waits: &mut Waits,
    early_reads: &Counter,
) -> Poll<Result<(), Ended>> {
    match client.poll_first_bytes(cx, early_reads) {
        Poll::Ready(first) => Poll::Ready(first.map_err(Ended::Left)),
        Poll::Pending => waits.poll_over(cx).map(Err),
    }
}

/// What ends a connection that waits for its upstream.
fn poll_ended(cx: &mut Context<'_>, client: &mut Client, waits: &mut Waits, early_reads: &Counter) -> Poll<Ended> {
    match client.poll_left(cx, early_reads) {
        Poll::Ready(left) => Poll::Ready(Ended::Left(left)),
        Poll::Pending => waits.poll_over(cx),
    }
}

/// Tells who made an internal connection that it has its upstream.
fn tell_taken(info: &StreamInfo, up: &Up, upstream: &Upstream) {
    if let Some(slot) = &info.conn.refusal {
        // That of a tunnel's connection is of all its streams.
        let next = if matches!(up, Up::Plain(_)) { upstream.conn.refusal.as_ref() } else { None };
        next.map_or_else(|| slot.open(), |next| slot.follow(next));
    }
}

/// What a connection got, ready to be relayed.
struct Tunnel {
    up: Up,
    upstream: Upstream,
    guard: Box<dyn Send>,
    buffer_limit: usize,
}

fn tunnel(cx: &mut Context<'_>, proxy: &TcpProxy, established: Established) -> Tunnel {
    let Established { stream, upstream, guard, buffer_limit } = established;
    let trailers = proxy.tunnel.as_ref().is_some_and(|tunnel| tunnel.propagate_trailers);
    Tunnel { up: Up::new(cx, stream, trailers), upstream, guard, buffer_limit }
}

/// Accounts for a connection that got no upstream, and tells who made an internal one.
fn refuse(proxy: &TcpProxy, ended: Ended, refused: (Option<u16>, bool), info: &mut StreamInfo) {
    explain(proxy, ended, info);
    if let Some(slot) = &info.conn.refusal {
        let upstream = info.upstream.as_ref();
        let details = upstream.and_then(|upstream| upstream.transport_failure.as_deref()).unwrap_or_default();
        let (status, looped) = refused;
        slot.set(Refusal { status, flags: info.flags.to_bits(), details: details.into(), looped });
    }
    proxy.log_end(info);
}

/// What logs say of a connection that got no upstream.
fn explain(proxy: &TcpProxy, ended: Ended, info: &mut StreamInfo) {
    match ended {
        Ended::Closing => {}
        Ended::Failed(failure) => {
            info.local_close_reason = Some(format!("tcp_initializion_failure:{}", failure as u8).into());
        }
        Ended::Left(left) => {
            info.flags.set(ResponseFlag::DownstreamConnectionTermination);
            info.downstream_close_type = Some(if left == Left::Reset { "RemoteReset" } else { "Normal" });
        }
        Ended::Idle => {
            proxy.stats.idle_timeout.inc();
            info.local_close_reason = Some("tcp_session_idle_timeout".into());
        }
        Ended::TooLong => {
            proxy.stats.max_downstream_connection_duration.inc();
            info.flags.set(ResponseFlag::DurationTimeout);
            info.local_close_reason = Some("max_connection_duration_reached".into());
        }
    }
}

fn relaying(
    session: Session,
    client: Io,
    up: Up,
    worker: &WorkerEnv,
    waits: Waits,
    buffer_limit: usize,
    guard: Box<dyn Send>,
) -> Relaying {
    let proxy = &session.proxy;
    if proxy.logs.on_connected
        && let Some(info) = session.info(0, 0)
    {
        proxy.log(&info, AccessLogType::TcpUpstreamConnected);
    }
    let Waits { idle, max, timer, closing, .. } = waits;
    let closing: BoxFuture<'static, ()> = if proxy.check_drain_close {
        let closed = proxy.stats.downstream_cx_drain_close.clone();
        Box::pin(DrainClose::new(closing, worker.lifecycle.clone(), closed))
    } else {
        closing
    };
    let options = RelayOptions {
        idle_timeout: idle,
        max_duration: max.map(|max| max.saturating_duration_since(Instant::now())),
        buffer_limit,
        ..RelayOptions::default()
    };
    Relaying {
        relay: Relay::with_timer(&options, timer),
        down: Side::from(client),
        up,
        ticker: proxy.logs.interval.filter(|_| !proxy.logs.logs.is_empty()).map(ticker),
        session,
        closing: Some(closing),
        flush: None,
        _guard: guard,
    }
}
