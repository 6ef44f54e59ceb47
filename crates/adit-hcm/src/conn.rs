//! One downstream connection: the codec, the timers of a connection without streams, draining.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use adit_codec::{ConnError, IncomingStream, ServerConn};
use adit_filter::{BoxFuture, Connection, StreamInfo, WorkerEnv};
use adit_http::ErrorCode;
use adit_io::{ConnInfo, Io};
use http::Version;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Hcm;

/// What the streams of one connection share.
pub(crate) struct ConnShared {
    pub(crate) hcm: Arc<Hcm>,
    pub(crate) worker: Arc<WorkerEnv>,
    pub(crate) info: Arc<ConnInfo>,
    pub(crate) buffer_limit: usize,
    pub(crate) streams_total: AtomicU64,
    template: StreamInfo,
    /// Wakes the connection when a stream of it ends.
    ended: Notify,
    live: AtomicU64,
    pub(crate) ends: Ends,
    /// `max_connection_duration`, with its jitter.
    age_limit: Option<Duration>,
}

/// What is known of how a connection ends, for its account.
#[derive(Default)]
pub(crate) struct Ends(AtomicU8);

impl Ends {
    /// This side ended it.
    pub(crate) const LOCAL: u8 = 1;
    /// A request was not over.
    pub(crate) const ACTIVE: u8 = 2;

    pub(crate) fn note(&self, what: u8) {
        self.0.fetch_or(what, Ordering::Relaxed);
    }

    fn has(&self, what: u8) -> bool {
        self.0.load(Ordering::Relaxed) & what != 0
    }
}

impl ConnShared {
    fn new(
        hcm: &Arc<Hcm>,
        worker: Arc<WorkerEnv>,
        info: Arc<ConnInfo>,
        buffer_limit: usize,
        template: StreamInfo,
    ) -> Self {
        Self {
            hcm: hcm.clone(),
            worker,
            info,
            buffer_limit,
            streams_total: AtomicU64::new(0),
            template,
            ended: Notify::new(),
            live: AtomicU64::new(0),
            ends: Ends::default(),
            age_limit: hcm.config.max_connection_duration.map(|limit| limit.with_jitter()),
        }
    }

    /// A stream's record that knows what the connection knows.
    pub(crate) fn stream_info(&self) -> StreamInfo {
        let fresh = StreamInfo::new(self.info.clone());
        StreamInfo { start: fresh.start, started: fresh.started, ..self.template.clone() }
    }
}

/// Serves a connection of bytes to its end. The future lives as long as the connection: what only a phase needs is in a box
/// that goes with the phase.
pub(crate) fn serve(hcm: Arc<Hcm>, connection: Connection) -> BoxFuture<'static, StreamInfo> {
    let template = connection.stream_info();
    let Connection { io, listener, worker, guards, .. } = connection;
    let started = Instant::now();
    let shared = Arc::new(ConnShared::new(&hcm, worker, io.info.clone(), listener.buffer_limit, template));
    let opening = {
        let (hcm, shared) = (hcm.clone(), shared.clone());
        Box::pin(async move { hcm.open_codec(io, &shared).await })
    };
    Box::pin(async move {
        let account = CxAccount::open(shared, started);
        let shared = &account.shared;
        match opening.await {
            Ok((version, codec)) => {
                serve_codec(shared, codec, version, started).await;
                drop(guards);
                shared.template.clone()
            }
            Err(error) => {
                if error == IDLE {
                    hcm.stats.http.downstream_cx_idle_timeout.inc();
                    shared.ends.note(Ends::LOCAL);
                }
                let mut info = shared.template.clone();
                info.termination_details = Some(error.into());
                info
            }
        }
    })
}

/// Serves a connection that is one of streams from the start (QUIC) to its end.
pub(crate) async fn serve_session(hcm: Arc<Hcm>, codec: Box<dyn ServerConn>, session: crate::Session) -> StreamInfo {
    let mut template = StreamInfo::new(session.info.clone());
    template.filter_chain_name = session.filter_chain_name;
    template.listener_name = Some(session.listener.name.clone());
    let info = template.clone();
    let limit = session.listener.buffer_limit;
    let shared = Arc::new(ConnShared::new(&hcm, session.worker, session.info, limit, template));
    let started = Instant::now();
    let account = CxAccount::open(shared, started);
    serve_codec(&account.shared, codec, Version::HTTP_3, started).await;
    drop(account);
    drop(session.guards);
    info
}

async fn serve_codec(shared: &Arc<ConnShared>, codec: Box<dyn ServerConn>, version: Version, started: Instant) {
    let (total, active) = by_version(&shared.hcm, version);
    total.inc();
    let active = active.hold();
    let end = run(shared, codec, version, started).await;
    drop(active);
    if end == CxEnd::Local {
        shared.ends.note(Ends::LOCAL);
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CxEnd {
    Remote,
    Local,
}

async fn run(shared: &Arc<ConnShared>, mut codec: Box<dyn ServerConn>, version: Version, started: Instant) -> CxEnd {
    let hcm = &shared.hcm;
    let mut current: Option<BoxFuture<'static, ()>> = None;
    let mut drained = false;
    // When a connection that is too old, or was idle, is closed.
    let mut closes: Option<Instant> = None;
    let multiplexed = version >= Version::HTTP_2;
    loop {
        if !drained && wants_drain(shared) {
            codec.drain();
            drained = true;
        }
        let busy = current.is_some() || shared.live.load(Ordering::Relaxed) > 0;
        let event = if busy {
            wait_busy(shared, &mut codec, &mut current).await
        } else {
            Box::pin(wait_idle(shared, &mut codec, started, closes)).await
        };
        match event {
            Event::Request(Ok(incoming)) => {
                let limit = hcm.config.max_requests_per_connection;
                if limit > 0 && shared.streams_total.load(Ordering::Relaxed) + 1 >= limit && !drained {
                    hcm.stats.http.downstream_cx_max_requests_reached.inc();
                    codec.drain();
                    drained = true;
                }
                if !drained && (closes.is_some() || wants_drain(shared)) {
                    codec.drain();
                    drained = true;
                }
                start(shared, incoming, multiplexed, &mut current);
            }
            Event::Request(Err(error)) => {
                protocol_error(shared, error);
                finish(shared, current).await;
                if error.details == "downstream_remote_disconnect" {
                    return CxEnd::Remote;
                }
                return CxEnd::Local;
            }
            Event::Over => {
                finish(shared, current).await;
                return CxEnd::Remote;
            }
            Event::StreamDone => {}
            // Envoy's drain sequence: the peer is told where the protocol has a word for it, and has `drain_timeout`.
            Event::Idle | Event::MaxDuration => {
                match event {
                    Event::Idle => hcm.stats.http.downstream_cx_idle_timeout.inc(),
                    _ => hcm.stats.http.downstream_cx_max_duration_reached.inc(),
                }
                if multiplexed && !drained {
                    codec.drain();
                    drained = true;
                }
                closes = Some(Instant::now() + hcm.config.drain_timeout());
            }
            Event::Drained => {
                Box::pin(close_idle(&mut codec)).await;
                return CxEnd::Local;
            }
            Event::Closing => {
                if busy {
                    finish(shared, current).await;
                }
                Box::pin(close_idle(&mut codec)).await;
                return CxEnd::Local;
            }
        }
    }
}

fn wants_drain(shared: &ConnShared) -> bool {
    let drains = shared.worker.lifecycle.should_drain();
    if drains {
        shared.hcm.stats.http.downstream_cx_drain_close.inc();
    }
    drains
}

fn start(
    shared: &Arc<ConnShared>,
    incoming: IncomingStream,
    multiplexed: bool,
    current: &mut Option<BoxFuture<'static, ()>>,
) {
    if multiplexed {
        shared.live.fetch_add(1, Ordering::Relaxed);
        let live = Live(shared.clone());
        shared.worker.spawn.spawn(crate::stream::serve(shared.clone(), incoming, Some(live)));
        return;
    }
    let stream = crate::stream::serve(shared.clone(), incoming, None);
    *current = Some(match current.take() {
        None => stream,
        // Both its directions are over; it may still have its account to write.
        Some(before) => Box::pin(async move {
            before.await;
            stream.await;
        }),
    });
}

/// A stream in a task of its own; dropped with the task, however it ends.
pub(crate) struct Live(Arc<ConnShared>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_one();
    }
}

enum Event {
    Request(Result<IncomingStream, ConnError>),
    /// The connection is over.
    Over,
    StreamDone,
    Idle,
    MaxDuration,
    Drained,
    Closing,
}

/// Waits while streams live: they have their own timers.
async fn wait_busy(
    shared: &Arc<ConnShared>,
    codec: &mut Box<dyn ServerConn>,
    current: &mut Option<BoxFuture<'static, ()>>,
) -> Event {
    let inline = poll_fn(|cx| {
        if let Some(stream) = current
            && stream.as_mut().poll(cx).is_ready()
        {
            *current = None;
            return Poll::Ready(Event::StreamDone);
        }
        match codec.poll_accept(cx) {
            Poll::Ready(Some(request)) => Poll::Ready(Event::Request(request)),
            // The connection is over but its stream still writes its account.
            Poll::Ready(None) if current.is_some() => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Event::Over),
            Poll::Pending => Poll::Pending,
        }
    });
    if shared.live.load(Ordering::Relaxed) == 0 {
        return inline.await;
    }
    tokio::select! {
        biased;
        event = inline => event,
        () = shared.ended.notified() => Event::StreamDone,
    }
}

/// Waits for the next request of a connection without streams.
async fn wait_idle(
    shared: &Arc<ConnShared>,
    codec: &mut Box<dyn ServerConn>,
    started: Instant,
    closes: Option<Instant>,
) -> Event {
    let config = &shared.hcm.config;
    let idle = config.idle_timeout.map(|timeout| (Instant::now() + timeout, Event::Idle));
    let age = shared.age_limit.map(|limit| (started + limit, Event::MaxDuration));
    let (deadline, event) = match (closes, idle, age) {
        (Some(closes), _, _) => (Some(closes), Event::Drained),
        (None, Some(idle), Some(age)) if age.0 < idle.0 => (Some(age.0), age.1),
        (None, Some(idle), _) => (Some(idle.0), idle.1),
        (None, None, Some(age)) => (Some(age.0), age.1),
        (None, None, None) => (None, Event::Idle),
    };
    let timer = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        request = poll_fn(|cx| codec.poll_accept(cx)) => match request {
            Some(request) => Event::Request(request),
            None => Event::Over,
        },
        () = shared.worker.lifecycle.closing() => Event::Closing,
        () = timer => event,
    }
}

/// Ends a connection without streams in order: GOAWAY where there is one, then the end.
async fn close_idle(codec: &mut Box<dyn ServerConn>) {
    codec.drain();
    let over = poll_fn(|cx| match codec.poll_accept(cx) {
        Poll::Ready(None | Some(Err(_))) => Poll::Ready(()),
        // A request that raced with the end is reset by being dropped.
        Poll::Ready(Some(Ok(_))) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Pending,
    });
    // Bounded: a peer that answers nothing is cut.
    let _ = tokio::time::timeout(Duration::from_secs(1), over).await;
    codec.abort(ErrorCode::NoError);
}

/// Lets the streams of a connection that is over write their accounts.
async fn finish(shared: &Arc<ConnShared>, current: Option<BoxFuture<'static, ()>>) {
    if let Some(stream) = current {
        stream.await;
    }
    while shared.live.load(Ordering::Relaxed) > 0 {
        shared.ended.notified().await;
    }
}

/// A connection that its codec gave up. What it answered was counted when it was (see `refused.rs`).
fn protocol_error(shared: &ConnShared, error: ConnError) {
    let broken = matches!(error.error, adit_http::StreamError::Protocol(_) | adit_http::StreamError::TooLarge(_));
    if error.answered.is_none() && broken {
        shared.hcm.stats.http.downstream_cx_protocol_error.inc();
    }
    if error.answered.is_none() && error.details == "request_header_timeout" {
        shared.hcm.stats.http.downstream_rq_header_timeout.inc();
    }
}

/// Counts a connection from its first byte to its end; dropped with the connection's future, however that ends.
struct CxAccount {
    shared: Arc<ConnShared>,
    started: Instant,
}

impl CxAccount {
    fn open(shared: Arc<ConnShared>, started: Instant) -> Self {
        let stats = &shared.hcm.stats.http;
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        if shared.info.tls.is_some() {
            stats.downstream_cx_ssl_total.inc();
            stats.downstream_cx_ssl_active.inc();
        }
        Self { shared, started }
    }
}

impl Drop for CxAccount {
    fn drop(&mut self) {
        let shared = &self.shared;
        let stats = &shared.hcm.stats.http;
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        let (all, with_request) = if shared.ends.has(Ends::LOCAL) {
            (&stats.downstream_cx_destroy_local, &stats.downstream_cx_destroy_local_active_rq)
        } else {
            (&stats.downstream_cx_destroy_remote, &stats.downstream_cx_destroy_remote_active_rq)
        };
        all.inc();
        if shared.ends.has(Ends::ACTIVE) {
            with_request.inc();
            stats.downstream_cx_destroy_active_rq.inc();
        }
        if shared.info.tls.is_some() {
            stats.downstream_cx_ssl_active.dec();
        }
        let length = self.started.elapsed().as_millis();
        stats.downstream_cx_length_ms.record(u64::try_from(length).unwrap_or(u64::MAX));
    }
}

fn by_version(hcm: &Hcm, version: Version) -> (&adit_stats::Counter, &adit_stats::Gauge) {
    let stats = &hcm.stats.http;
    match version {
        Version::HTTP_2 => (&stats.downstream_cx_http2_total, &stats.downstream_cx_http2_active),
        Version::HTTP_3 => (&stats.downstream_cx_http3_total, &stats.downstream_cx_http3_active),
        _ => (&stats.downstream_cx_http1_total, &stats.downstream_cx_http1_active),
    }
}

/// Nothing came for as long as `idle_timeout` says.
pub(crate) const IDLE: &str = "idle_timeout";

impl ConnShared {
    /// Whether answers of HTTP/1 are to be the last of the connection: it is too old, or the process drains.
    pub(crate) fn is_last(&self) -> bool {
        let old = self.age_limit.is_some_and(|limit| self.template.started.elapsed() >= limit);
        old || self.worker.lifecycle.should_drain()
    }
}

/// The bytes by which an HTTP/2 client announces itself (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the first bytes of a connection are those of HTTP/2; waits only until that is decided.
pub(crate) async fn sniff_http2(io: &mut Io) -> Result<bool, String> {
    let mut wanted = 1;
    loop {
        let seen = io.fill(wanted, PREFACE.len()).await.map_err(|error| error.to_string())?;
        if seen.is_empty() {
            return Err("downstream_remote_disconnect".to_owned());
        }
        let n = seen.len().min(PREFACE.len());
        if PREFACE.get(..n) != seen.get(..n) || n < wanted {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        wanted = n + 1;
    }
}
