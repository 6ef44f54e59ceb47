//! One downstream connection: the codec, the timers of a connection without streams, draining.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use adit_codec::{ConnError, IncomingStream, ServerConn};
use adit_filter::{Lent, StreamInfo, WorkerEnv};
use adit_http::ErrorCode;
use adit_io::{ConnInfo, FilterState, Io, Metadata};
use adit_stats::GaugeHold;
use http::Version;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Hcm;
use crate::serving::{CxAccount, Ends, NotedEnds};
use crate::stream::{Outcome, ServingStream};
use crate::tunnel::Tunnel;

/// What the streams of one connection share.
pub(crate) struct ConnShared {
    pub(crate) hcm: Arc<Hcm>,
    pub(crate) worker: Arc<WorkerEnv>,
    pub(crate) info: Arc<ConnInfo>,
    pub(crate) buffer_limit: usize,
    pub(crate) streams_total: AtomicU64,
    origin: Origin,
    /// Wakes the connection when a stream of it ends.
    ended: Notify,
    live: AtomicU64,
    pub(crate) ends: NotedEnds,
    /// `max_connection_duration`, with its jitter.
    age_limit: Option<Duration>,
}

/// What each stream's record takes from its connection.
pub(crate) struct Origin {
    start: SystemTime,
    started: std::time::Instant,
    filter_chain_name: Option<Arc<str>>,
    listener_name: Option<Arc<str>>,
    state: FilterState,
    metadata: Metadata,
}

impl From<StreamInfo> for Origin {
    fn from(info: StreamInfo) -> Self {
        Self {
            start: info.start,
            started: info.started,
            filter_chain_name: info.filter_chain_name,
            listener_name: info.listener_name,
            state: info.state,
            metadata: info.metadata,
        }
    }
}

impl ConnShared {
    pub(crate) fn new(
        hcm: &Arc<Hcm>,
        worker: Arc<WorkerEnv>,
        info: Arc<ConnInfo>,
        buffer_limit: usize,
        origin: Origin,
    ) -> Self {
        Self {
            hcm: hcm.clone(),
            worker,
            info,
            buffer_limit,
            streams_total: AtomicU64::new(0),
            origin,
            ended: Notify::new(),
            live: AtomicU64::new(0),
            ends: NotedEnds::default(),
            age_limit: hcm.config.max_connection_duration.map(|limit| limit.with_jitter()),
        }
    }

    /// The record of a stream that starts now, which knows what the connection knows.
    #[inline]
    pub(crate) fn stream_info(&self, now: Instant) -> StreamInfo {
        self.info_of(crate::date::time_of_day(now), now.into_std())
    }

    /// The connection's own record.
    pub(crate) fn connection_info(&self) -> StreamInfo {
        self.info_of(self.origin.start, self.origin.started)
    }

    #[inline]
    fn info_of(&self, start: SystemTime, started: std::time::Instant) -> StreamInfo {
        let origin = &self.origin;
        StreamInfo {
            filter_chain_name: origin.filter_chain_name.clone(),
            listener_name: origin.listener_name.clone(),
            state: origin.state.clone(),
            metadata: origin.metadata.clone(),
            ..StreamInfo::started(self.info.clone(), start, started)
        }
    }
}

/// What is left of a connection once its streams are served.
pub(crate) enum Served {
    /// Nothing; with why it got no codec.
    Over(Option<String>),
    /// Its last stream, which became a tunnel and needs no codec, and the count of the codec's version.
    Tunnel(Pin<Box<Tunnel>>, GaugeHold),
}

/// Serves the streams of a connection to their end, or to a tunnel that needs no codec.
pub(crate) async fn serve_streams(
    opening: impl Future<Output = Result<(Version, Box<dyn ServerConn>, Lent), String>>,
    shared: Arc<ConnShared>,
    started: Instant,
) -> Served {
    match opening.await {
        Ok((version, codec, lent)) => serve_codec(&shared, codec, version, started, lent).await,
        Err(error) => {
            if error == IDLE {
                shared.hcm.stats.http.downstream_cx_idle_timeout.inc();
            }
            if error == IDLE || error == CLOSING {
                shared.ends.note(Ends::LOCAL);
            }
            Served::Over(Some(error))
        }
    }
}

/// Serves a connection that is one of streams from the start (QUIC) to its end.
pub(crate) async fn serve_session(hcm: Arc<Hcm>, codec: Box<dyn ServerConn>, session: crate::Session) -> StreamInfo {
    let mut info = StreamInfo::new(session.info.clone());
    info.filter_chain_name = session.filter_chain_name;
    info.listener_name = Some(session.listener.name.clone());
    let limit = session.listener.buffer_limit;
    let origin = info.clone().into();
    let shared = Arc::new(ConnShared::new(&hcm, session.worker, session.info, limit, origin));
    let started = Instant::from_std(info.started);
    let account = CxAccount::open(hcm, shared.clone(), started);
    // The streams of QUIC are tasks of their own, tunnels too.
    let _ = serve_codec(&shared, codec, Version::HTTP_3, started, Lent::default()).await;
    drop(account);
    drop(session.guards);
    info
}

async fn serve_codec(
    shared: &Arc<ConnShared>,
    codec: Box<dyn ServerConn>,
    version: Version,
    started: Instant,
    lent: Lent,
) -> Served {
    let (total, active) = by_version(&shared.hcm, version);
    total.inc();
    let active = active.hold();
    match run(shared, codec, version, started, lent).await {
        CxEnd::Remote => {}
        CxEnd::Local => shared.ends.note(Ends::LOCAL),
        CxEnd::Tunnel(tunnel) => return Served::Tunnel(tunnel, active),
    }
    Served::Over(None)
}

/// How a connection came to its end.
enum CxEnd {
    Remote,
    Local,
    /// It goes on as the tunnel that its last stream became.
    Tunnel(Pin<Box<Tunnel>>),
}

/// The stream of a connection that has one at a time.
enum Current {
    Stream(ServingStream),
    Tunnel(Pin<Box<Tunnel>>),
}

impl Current {
    fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel(_))
    }
}

impl Future for Current {
    type Output = Ends;

    /// Ready at its very end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ends> {
        loop {
            match &mut *self {
                Self::Stream(stream) => match ready!(stream.as_mut().poll(cx)) {
                    Outcome::Over { .. } => return Poll::Ready(Ends::default()),
                    Outcome::Tunnel(tunnel) => *self = Self::Tunnel(tunnel),
                },
                Self::Tunnel(tunnel) => return tunnel.as_mut().poll(cx),
            }
        }
    }
}

/// A stream in a task of its own. Not an `async` block, which would be several times its size.
struct Alone {
    current: Current,
    live: Live,
}

impl Future for Alone {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ends = ready!(Pin::new(&mut self.current).poll(cx));
        self.live.0.ends.note(ends);
        Poll::Ready(())
    }
}

/// A connection that is served.
struct Streams<'a> {
    shared: &'a Arc<ConnShared>,
    codec: Box<dyn ServerConn>,
    multiplexed: bool,
    current: Option<Current>,
    /// The peer was told that the connection ends.
    drained: bool,
    /// When a connection that is too old, or was idle, is closed.
    closes: Option<Instant>,
    /// When the stream of a connection that has one at a time was over.
    idle_since: Option<Instant>,
    /// What waits here, and in the stream of a connection that has one at a time.
    lent: Lent,
}

async fn run(
    shared: &Arc<ConnShared>,
    codec: Box<dyn ServerConn>,
    version: Version,
    started: Instant,
    lent: Lent,
) -> CxEnd {
    let stats = &shared.hcm.stats.http;
    let multiplexed = version >= Version::HTTP_2;
    let mut serving =
        Streams { shared, codec, multiplexed, current: None, drained: false, closes: None, idle_since: None, lent };
    loop {
        if !serving.drained && wants_drain(shared) {
            serving.drain();
        }
        let busy = serving.current.is_some() || shared.live.load(Ordering::Relaxed) > 0;
        let event = if busy { serving.wait_busy().await } else { serving.wait_idle(started).await };
        match event {
            Event::Started | Event::StreamDone => {}
            Event::Broken(error) => {
                let remote = error.details == "downstream_remote_disconnect";
                protocol_error(shared, *error);
                serving.finish().await;
                return if remote { CxEnd::Remote } else { CxEnd::Local };
            }
            Event::Over => {
                if let Some(Current::Tunnel(tunnel)) = serving.current.take_if(|current| current.is_tunnel()) {
                    return CxEnd::Tunnel(tunnel);
                }
                serving.finish().await;
                return CxEnd::Remote;
            }
            // Envoy's drain sequence: the peer is told where the protocol has a word for it, and has `drain_timeout`.
            Event::Idle | Event::MaxDuration => {
                match event {
                    Event::Idle => stats.downstream_cx_idle_timeout.inc(),
                    _ => stats.downstream_cx_max_duration_reached.inc(),
                }
                if multiplexed && !serving.drained {
                    serving.drain();
                }
                serving.closes = Some(Instant::now() + shared.hcm.config.drain_timeout());
            }
            Event::Drained => {
                Box::pin(close_idle(&mut serving.codec)).await;
                return CxEnd::Local;
            }
            Event::Closing => {
                if busy {
                    serving.finish().await;
                }
                Box::pin(close_idle(&mut serving.codec)).await;
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

impl Streams<'_> {
    fn drain(&mut self) {
        self.codec.drain();
        self.drained = true;
    }

    /// A request came, or the connection broke. Requests start here and not where the event is looked at, whose future
    /// lives as long as the connection and would have room for one.
    fn came(&mut self, request: Result<IncomingStream, ConnError>) -> Event {
        let incoming = match request {
            Ok(incoming) => incoming,
            Err(error) => return Event::Broken(Box::new(error)),
        };
        let shared = self.shared;
        let limit = shared.hcm.config.max_requests_per_connection;
        if limit > 0 && shared.streams_total.load(Ordering::Relaxed) + 1 >= limit && !self.drained {
            shared.hcm.stats.http.downstream_cx_max_requests_reached.inc();
            self.drain();
        }
        if !self.drained && (self.closes.is_some() || wants_drain(shared)) {
            self.drain();
        }
        self.start(incoming);
        Event::Started
    }

    fn start(&mut self, incoming: IncomingStream) {
        let (shared, now) = (self.shared, Instant::now());
        if self.multiplexed {
            shared.live.fetch_add(1, Ordering::Relaxed);
            let live = Live(shared.clone());
            let current = Current::Stream(crate::stream::serve(shared.clone(), incoming, Lent::default(), now, false));
            shared.worker.spawn.spawn(Box::pin(Alone { current, live }));
            return;
        }
        let (lent, at_once) = (std::mem::take(&mut self.lent), self.current.is_none());
        let stream = crate::stream::serve(shared.clone(), incoming, lent, now, at_once);
        self.current = Some(Current::Stream(match self.current.take() {
            None => stream,
            // Both its directions are over; it may still have its account to write.
            Some(before) => {
                let shared = shared.clone();
                Box::pin(async move {
                    shared.ends.note(before.await);
                    stream.await
                })
            }
        }));
    }

    /// Waits while streams live: they have their own timers.
    async fn wait_busy(&mut self) -> Event {
        let shared = self.shared;
        if shared.live.load(Ordering::Relaxed) == 0 {
            return poll_fn(|cx| self.poll_busy(cx)).await;
        }
        tokio::select! {
            biased;
            // First, as the codec is asked again anyway when a stream is done.
            () = shared.ended.notified() => Event::StreamDone,
            event = poll_fn(|cx| self.poll_busy(cx)) => event,
        }
    }

    fn poll_busy(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match &mut self.current {
            Some(Current::Stream(stream)) => match stream.as_mut().poll(cx) {
                Poll::Ready(Outcome::Over { lent, at }) => {
                    self.current = None;
                    self.lent = lent;
                    self.idle_since = Some(at);
                    return Poll::Ready(Event::StreamDone);
                }
                // Polled right away: a tunnel without its codec is not polled here again.
                Poll::Ready(Outcome::Tunnel(tunnel)) => self.current = Some(Current::Tunnel(tunnel)),
                Poll::Pending => {}
            },
            Some(Current::Tunnel(_)) | None => {}
        }
        if let Some(Current::Tunnel(tunnel)) = &mut self.current
            && let Poll::Ready(ends) = tunnel.as_mut().poll(cx)
        {
            self.shared.ends.note(ends);
            self.current = None;
            return Poll::Ready(Event::StreamDone);
        }
        match self.codec.poll_accept(cx) {
            Poll::Ready(Some(request)) => Poll::Ready(self.came(request)),
            // The connection is over but its stream still writes its account.
            Poll::Ready(None) if matches!(self.current, Some(Current::Stream(_))) => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Event::Over),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Waits for the next request of a connection without streams.
    async fn wait_idle(&mut self, started: Instant) -> Event {
        let shared = self.shared;
        let since = self.idle_since.take();
        let since = || since.unwrap_or_else(Instant::now);
        let idle = shared.hcm.config.idle_timeout.map(|timeout| (since() + timeout, Event::Idle));
        let age = shared.age_limit.map(|limit| (started + limit, Event::MaxDuration));
        let (deadline, event) = match (self.closes, idle, age) {
            (Some(closes), _, _) => (Some(closes), Event::Drained),
            (None, Some(idle), Some(age)) if age.0 < idle.0 => (Some(age.0), age.1),
            (None, Some(idle), _) => (Some(idle.0), idle.1),
            (None, None, Some(age)) => (Some(age.0), age.1),
            (None, None, None) => (None, Event::Idle),
        };
        let mut event = Some(event);
        poll_fn(|cx| {
            if let Poll::Ready(request) = self.codec.poll_accept(cx) {
                return Poll::Ready(request.map_or(Event::Over, |request| self.came(request)));
            }
            if self.lent.closing.poll(cx, &*shared.worker.lifecycle).is_ready() {
                return Poll::Ready(Event::Closing);
            }
            let Some(deadline) = deadline else { return Poll::Pending };
            self.lent.alarm.poll_until(cx, deadline).map(|()| event.take().unwrap_or(Event::Idle))
        })
        .await
    }

    /// Lets the streams of a connection that is over write their accounts.
    async fn finish(&mut self) {
        if let Some(current) = self.current.take() {
            self.shared.ends.note(current.await);
        }
        while self.shared.live.load(Ordering::Relaxed) > 0 {
            self.shared.ended.notified().await;
        }
    }
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
    /// A request came, and is served.
    Started,
    /// The codec gave the connection up.
    Broken(Box<ConnError>),
    /// The connection is over.
    Over,
    StreamDone,
    Idle,
    MaxDuration,
    Drained,
    Closing,
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
/// The process ends before the client said anything.
pub(crate) const CLOSING: &str = "server_shutdown";

impl ConnShared {
    /// Whether answers of HTTP/1 are to be the last of the connection: it is too old, or the process drains.
    pub(crate) fn is_last(&self) -> bool {
        let old = self.age_limit.is_some_and(|limit| self.origin.started.elapsed() >= limit);
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
