//! A connection, from the listener to its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_filter::{
    AccessLogType, BoxFuture, Connection, ListenerInfo, NetworkTerminal, ResponseFlag, StreamInfo, WorkerEnv,
};
use adit_io::{Refusal, Relay, RelayOptions, Side};
use tokio::time::Instant;

use crate::TcpProxy;
use crate::client::{Client, Left};
use crate::connect::{Connecting, Established, Failure, UpStream};
use crate::relaying::{DrainClose, Relaying, Up, ticker};
use crate::session::{Session, Upstream};

impl NetworkTerminal for TcpProxy {
    fn serve(self: Arc<Self>, connection: Connection) -> BoxFuture<'static, StreamInfo> {
        self.stats.downstream_cx_total.inc();
        Box::pin(Serving::Connecting(Box::pin(establish(self, connection))))
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
    type Output = StreamInfo;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StreamInfo> {
        loop {
            match &mut *self {
                Self::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(relaying) => *self = Self::Relaying(relaying),
                    Err(info) => return Poll::Ready(*info),
                },
                Self::Relaying(relaying) => return relaying.poll_run(cx),
            }
        }
    }
}

/// How waiting for an upstream ended.
enum Outcome {
    Up(Established),
    Failed(Failure),
    Left(Left),
    Idle,
    TooLong,
    Closing,
}

/// The two timers of a connection, both from its start.
struct Timers {
    idle: Option<Duration>,
    max: Option<Duration>,
    start: Instant,
}

impl Timers {
    fn at(&self, after: Option<Duration>) -> Option<Instant> {
        self.start.checked_add(after?)
    }

    /// Ready at the first of them.
    async fn expired(&self) -> Outcome {
        let (idle, max) = (self.at(self.idle), self.at(self.max));
        match (idle, max) {
            (None, None) => std::future::pending().await,
            (Some(idle), max) if max.is_none_or(|max| idle < max) => {
                tokio::time::sleep_until(idle).await;
                Outcome::Idle
            }
            (_, Some(max)) => {
                tokio::time::sleep_until(max).await;
                Outcome::TooLong
            }
            (Some(_), None) => std::future::pending().await,
        }
    }
}

async fn establish(proxy: Arc<TcpProxy>, connection: Connection) -> Result<Relaying, Box<StreamInfo>> {
    let mut info = Box::new(connection.stream_info());
    if proxy.logs.on_start {
        proxy.log(&info, AccessLogType::TcpConnectionStart);
    }
    let timers = Timers { idle: proxy.idle_timeout(&info), max: proxy.max_duration(), start: Instant::now() };
    let Connection { io, listener, worker, guards, .. } = connection;
    let early = proxy.early_data(&info);
    let tunnelled = proxy.tunnel_for(&info).is_some();
    let mut client = Client::new(io, early, tunnelled, proxy.stats.early_data_received_count_total.clone());
    let mut refused = (None, false);
    let outcome = match wait_for_data(&proxy, &worker, &mut client, &timers).await {
        Some(outcome) => outcome,
        None => {
            let mut connecting = Connecting::new(&proxy, &worker, &mut info);
            let outcome = tokio::select! {
                biased;
                result = connecting.run() => result.map_or_else(Outcome::Failed, Outcome::Up),
                left = client.left() => Outcome::Left(left),
                expired = timers.expired() => expired,
                () = worker.lifecycle.closing() => Outcome::Closing,
            };
            refused = (connecting.refused, connecting.looped);
            outcome
        }
    };
    match outcome {
        Outcome::Up(up) => {
            if let Some(slot) = &info.conn.refusal {
                match &up.stream {
                    UpStream::Plain(io) => {
                        io.info.refusal.as_ref().map_or_else(|| slot.open(), |next| slot.follow(next))
                    }
                    UpStream::Tunnel(..) => slot.open(),
                }
            }
            Ok(relaying(proxy, &info, client, listener, &worker, up, &timers, guards).await)
        }
        outcome => {
            explain(&proxy, &outcome, &mut info);
            if let Some(slot) = &info.conn.refusal {
                let upstream = info.upstream.as_ref();
                let details = upstream.and_then(|upstream| upstream.transport_failure.as_deref()).unwrap_or_default();
                let (status, looped) = refused;
                slot.set(Refusal { status, flags: info.flags.to_bits(), details: details.into(), looped });
            }
            proxy.log_end(&mut info);
            client.close().await;
            Err(info)
        }
    }
}

/// With `upstream_connect_mode` `ON_DOWNSTREAM_DATA`, waits for the client to speak; an outcome if it never does.
async fn wait_for_data(proxy: &TcpProxy, worker: &WorkerEnv, client: &mut Client, timers: &Timers) -> Option<Outcome> {
    if !proxy.wait_for_data {
        return None;
    }
    tokio::select! {
        biased;
        first = client.first_bytes() => first.err().map(Outcome::Left),
        expired = timers.expired() => Some(expired),
        () = worker.lifecycle.closing() => Some(Outcome::Closing),
    }
}

/// What logs say of a connection that got no upstream.
fn explain(proxy: &TcpProxy, outcome: &Outcome, info: &mut StreamInfo) {
    match outcome {
        Outcome::Up(_) | Outcome::Closing => {}
        Outcome::Failed(failure) => {
            info.local_close_reason = Some(format!("tcp_initializion_failure:{}", *failure as u8).into());
        }
        Outcome::Left(left) => {
            info.flags.set(ResponseFlag::DownstreamConnectionTermination);
            info.downstream_close_type = Some(if *left == Left::Reset { "RemoteReset" } else { "Normal" });
        }
        Outcome::Idle => {
            proxy.stats.idle_timeout.inc();
            info.local_close_reason = Some("tcp_session_idle_timeout".into());
        }
        Outcome::TooLong => {
            proxy.stats.max_downstream_connection_duration.inc();
            info.flags.set(ResponseFlag::DurationTimeout);
            info.local_close_reason = Some("max_connection_duration_reached".into());
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the whole of the connect phase comes together here")]
async fn relaying(
    proxy: Arc<TcpProxy>,
    info: &StreamInfo,
    client: Client,
    listener: Arc<ListenerInfo>,
    worker: &WorkerEnv,
    up: Established,
    timers: &Timers,
    downstream: Vec<Box<dyn Send>>,
) -> Relaying {
    let Established { stream, host, conn, version, guard, attempts, buffer_limit, meter } = up;
    let buffer_limit = buffer_limit.min(listener.buffer_limit);
    let upstream = Upstream { host, conn, version, attempts, ready: info.started.elapsed(), meter };
    let session = Arc::new(Session::new(proxy, info, listener, upstream));
    let proxy = &session.proxy;
    if proxy.logs.on_connected {
        proxy.log(&session.info(0, 0), AccessLogType::TcpUpstreamConnected);
    }
    let closing: BoxFuture<'static, ()> = if proxy.check_drain_close {
        Box::pin(DrainClose::new(worker.lifecycle.clone(), proxy.stats.downstream_cx_drain_close.clone()))
    } else {
        worker.lifecycle.closing()
    };
    let trailers = proxy.tunnel.as_ref().is_some_and(|tunnel| tunnel.propagate_trailers);
    let up = Up::new(stream, trailers).await;
    let io = client.into_io();
    let options = RelayOptions {
        idle_timeout: timers.idle,
        max_duration: timers.max.map(|max| max.saturating_sub(timers.start.elapsed())),
        buffer_limit,
        observer: Some(session.clone()),
        closing: Some(closing),
        ..RelayOptions::default()
    };
    Relaying {
        relay: Relay::new(options),
        down: Side::from(io),
        up,
        ticker: proxy.logs.interval.filter(|_| !proxy.logs.logs.is_empty()).map(ticker),
        session,
        flush: None,
        // Most connections have none of their own.
        _guard: if downstream.is_empty() { guard } else { Box::new((guard, downstream)) },
    }
}
