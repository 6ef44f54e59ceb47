//! One request on its way through the connection manager: checks, route, upgrade decision, filters, the terminal filter.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use adit_codec::{IncomingStream, RecvStream};
use adit_filter::{
    AccessLogType, BoxFuture, Closing, FilterChain, HttpStream, Lent, LocalReply, Route, StandingTunnel, StreamInfo,
};
use adit_http::{ErrorCode, RequestKind, StreamError, target};
use adit_io::{ByteSource, ConnInfo};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::account::{Account, UpgradeAccount, name_cluster};
use crate::conn::ConnShared;
use crate::response::ResponsePath;
use crate::stats::HttpStats;
use crate::tunnel::Tunnel;
use crate::{Hcm, filters, request, upgrade};

/// How long a UDP session may take to end in order once the process closes; tunnels of bytes have `adit_io::LINGER`.
const CLOSING_GRACE: Duration = Duration::from_secs(1);

/// Serves one request to its end, or to the tunnel that it became. Every path answers or resets. What only a phase needs is in
/// a box that goes with the phase, and it is boxed here, once: a future that awaits another by value holds it twice. `at_once`
/// says that it is polled right away.
pub(crate) fn serve(
    shared: Arc<ConnShared>,
    incoming: IncomingStream,
    lent: Lent,
    now: Instant,
    at_once: bool,
) -> ServingStream {
    let account = Account::open(&shared, incoming.head.version);
    let end = incoming.recv.is_end();
    // Disarms `request_timeout` where there is one: set once the request was received whole or is answered.
    let disarmed = shared.hcm.config.request_timeout.map(|_| Arc::new(AtomicBool::new(end)));
    let mut stream = new_stream(&shared, incoming, disarmed.as_ref(), now);
    prepare(&shared, &mut stream, end);
    stream.lent = lent;
    let future: Box<_> = Box::write(Box::new_uninit(), run(shared, stream, account, disarmed, at_once));
    Box::into_pin(future)
}

/// See [`serve`].
#[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
#[inline]
fn run(
    shared: Arc<ConnShared>,
    mut stream: HttpStream,
    account: Account,
    disarmed: Option<Arc<AtomicBool>>,
    at_once: bool,
) -> impl Future<Output = Outcome> {
    async move {
        if !at_once {
            stream.now = Instant::now();
        }
        let chain = match admit(&shared.hcm, &shared.info, &mut stream) {
            Ok(chain) => Some(chain),
            Err(reply) => {
                // A client that left has nothing to be told.
                let _ = Box::pin(stream.reply(*reply)).await;
                None
            }
        };
        if let Some(chain) = chain {
            let upgrade = counts_as_upgrade(&shared, &stream).then(|| UpgradeAccount::open(&shared.hcm));
            let mut ends = Ends::new(&shared, &mut stream, disarmed);
            let end = {
                let mut work = work(&mut stream, chain);
                std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
                    Poll::Ready(tunnel) => Poll::Ready(Ok(tunnel)),
                    Poll::Pending => ends.poll(cx, &shared).map(Err),
                })
                .await
            };
            match end {
                Ok(Some(tunnel)) => {
                    let (tunnel, stream) = (Some(tunnel), stream.into_tunnel());
                    let max_duration = ends.timers.and_then(|timers| timers.max_duration);
                    let tunnel = Tunnel { tunnel, stream, max_duration, upgrade, account };
                    return Outcome::Tunnel(Box::pin(tunnel));
                }
                Ok(None) => stream.lent.closing = ends.closing,
                Err(end) => Box::pin(cut(&shared.hcm.stats.http, &mut stream, end)).await,
            }
        }
        let at = account.close(&shared, &mut stream);
        drop(account);
        Outcome::Over { lent: stream.lent, at }
    }
}

/// A request until it is over, or is a tunnel that stands.
pub(crate) type ServingStream = BoxFuture<'static, Outcome>;

/// What became of a request.
pub(crate) enum Outcome {
    /// It is over since then: its connection takes back what it lent.
    Over {
        lent: Lent,
        at: Instant,
    },
    Tunnel(Pin<Box<Tunnel>>),
}

/// The stream as it came. Nothing is done to it here: it is large, and made where it is to be.
#[inline]
fn new_stream(
    shared: &Arc<ConnShared>,
    incoming: IncomingStream,
    disarmed: Option<&Arc<AtomicBool>>,
    now: Instant,
) -> HttpStream {
    let IncomingStream { head, recv, responder, meter } = incoming;
    let recv = match disarmed {
        Some(done) if !recv.is_end() => Box::new(Watched { recv, done: done.clone() }),
        _ => recv,
    };
    let hook = Box::new(ResponsePath::new(shared.clone(), disarmed.cloned()));
    let info = StreamInfo { meter, protocol: Some(head.version), ..shared.stream_info(now) };
    HttpStream::new(head, recv, responder, hook, info, shared.worker.clone())
}

/// What the connection manager does to a request before it looks at it; `end` says that its head is all of it.
fn prepare(shared: &ConnShared, stream: &mut HttpStream, end: bool) {
    let hcm = &shared.hcm;
    let (head, info) = (&mut stream.request, &mut stream.info);
    let id = || HeaderValue::from_maybe_shared(Bytes::from(request::uuid())).ok();
    let client = request::prepare(head, &shared.info, &hcm.config.request, id);
    if let Some(conn) = request::with_remote(&shared.info, &client) {
        info.conn = conn;
    }
    hcm.config.client_cert.apply(head, info, client.extensions);
    if client.extensions || hcm.config.request.generate_request_id {
        info.stream_id = head.headers.get(request::X_REQUEST_ID).and_then(|id| id.to_str().ok()).map(Arc::from);
    }
    if end {
        // It came just now.
        info.timing.request_received = Some(Duration::ZERO);
    }
    stream.random = fastrand::u64(..);
    stream.buffer_limit = shared.buffer_limit;
    stream.idle_timeout = hcm.config.stream_idle_timeout;
    stream.internal = client.internal;
}

/// An upgrade or a CONNECT that is let through; where there is no route the connection manager alone decides.
fn counts_as_upgrade(shared: &ConnShared, stream: &HttpStream) -> bool {
    let Some(upgrade_type) = stream.request.kind.upgrade_type() else { return false };
    let own = stream.route.as_ref().and_then(|route| route.upgrade(upgrade_type));
    upgrade::allowed(shared.hcm.upgrades.find(upgrade_type).map(|entry| entry.enabled), own)
}

/// Checks the request, finds its route, decides about an upgrade: the chain to run, or the refusal.
fn admit<'a>(hcm: &'a Hcm, conn: &ConnInfo, stream: &mut HttpStream) -> Result<&'a FilterChain, Box<LocalReply>> {
    let stats = &hcm.stats.http;
    let udp = matches!(&stream.request.kind, RequestKind::Upgrade(token) if token.is_connect_udp());
    let no_target = if udp { connect_udp_authority(stream, None).err() } else { None };
    let connects = matches!(stream.request.kind, RequestKind::Connect(_));
    let before = if connects { stream.request.authority.clone() } else { None };
    let dropped = request::check(&mut stream.request, conn, &hcm.config.request).map_err(|reply| {
        match &*reply.details {
            "path_normalization_failed" if reply.status.is_redirection() => {
                stats.downstream_rq_redirected_with_normalized_path.inc();
            }
            "path_normalization_failed" => stats.downstream_rq_failed_path_normalization.inc(),
            "absolute_path_rejected" => stats.downstream_rq_non_relative_path.inc(),
            "http1.unexpected_underscore" => hcm.stats.rejected_underscores.inc(),
            _ => {}
        }
        Box::new(reply)
    })?;
    if dropped > 0 {
        hcm.stats.dropped_underscores.add(dropped);
    }
    let route = hcm.routes.find(&stream.request, &stream.info, stream.random);
    if let Some(refusal) = no_target {
        let own = route.as_deref().ok_or(refusal)?;
        connect_udp_authority(stream, Some(own))?;
    }
    if connects {
        // The port goes upstream again (`strip_*_host_port`); a dot that was taken off stays off.
        stream.request.authority = before.map(|before| request::without_dot(before, &hcm.config.request));
        if let Some(target) = stream.request.authority.clone() {
            stream.request.kind = RequestKind::Connect(target);
        }
    }
    let upgrade_type = stream.request.kind.upgrade_type().map(str::to_owned);
    if let Some(route) = &route {
        stream.info.route_name = (!route.name().is_empty()).then(|| route.name().clone());
        if let Some(timeout) = route.idle_timeout() {
            stream.idle_timeout = (!timeout.is_zero()).then_some(timeout);
        }
    }
    let mut chain = &hcm.chain;
    if let (Some(upgrade_type), Some(route)) = (&upgrade_type, &route) {
        let entry = hcm.upgrades.find(upgrade_type);
        if !upgrade::allowed(entry.map(|entry| entry.enabled), route.upgrade(upgrade_type)) {
            stream.route = Some(route.clone());
            stats.downstream_rq_ws_on_non_ws_route.inc();
            log_start(hcm, stream);
            return Err(Box::new(LocalReply::new(StatusCode::FORBIDDEN, "upgrade_failed")));
        }
        if let Some(own) = entry.and_then(|entry| entry.chain.as_ref()) {
            chain = own;
        }
    }
    stream.route = route;
    log_start(hcm, stream);
    Ok(chain)
}

/// `flush_access_log_on_new_request`: once the request is known to be one, and its route.
fn log_start(hcm: &Hcm, stream: &mut HttpStream) {
    if hcm.config.log_on_new_request {
        name_cluster(stream);
        hcm.log(&stream.info, Some(&stream.request), None, AccessLogType::DownstreamStart);
    }
}

/// The target in the path of a CONNECT-UDP (RFC 9298 section 2) becomes the authority: by Envoy's template before routing, so
/// that virtual hosts see it, and where that does not fit by the template of the route that was found.
fn connect_udp_authority(stream: &mut HttpStream, own: Option<&dyn Route>) -> Result<(), Box<LocalReply>> {
    let path = stream.request.path.as_ref().map_or("", |path| path.as_str());
    let target = own
        .and_then(|route| route.connect_udp_target(path))
        .unwrap_or_else(|| target::connect_udp_target(stream.request.path_only()))
        .map_err(|error| {
            let status = match error {
                target::TargetError::Port => StatusCode::BAD_REQUEST,
                _ => StatusCode::NOT_FOUND,
            };
            Box::new(LocalReply::new(status, "invalid_path").body("The path is incorrect for CONNECT-UDP"))
        })?;
    let original = std::mem::replace(&mut stream.request.authority, target.authority());
    stream.original_authority = original.map(Box::new);
    Ok(())
}

/// What may end a stream from above until its tunnel stands, whatever it is doing: the process, and timers.
struct Ends {
    closing: Closing,
    /// Closing leaves a tunnel some time to end in order.
    tunnel: bool,
    grace: Option<Timer>,
    timers: Option<Box<Timers>>,
}

pub(crate) type Timer = Pin<Box<tokio::time::Sleep>>;

/// `request_timeout`, until the request was received whole, and `max_stream_duration`.
struct Timers {
    request: Option<(Timer, Arc<AtomicBool>)>,
    max_duration: Option<Timer>,
}

impl Ends {
    fn new(shared: &ConnShared, stream: &mut HttpStream, disarmed: Option<Arc<AtomicBool>>) -> Self {
        let config = &shared.hcm.config;
        let timer = |limit| Box::pin(tokio::time::sleep(limit));
        let limit = stream.route.as_ref().and_then(|route| route.max_stream_duration()).or(config.max_stream_duration);
        let max_duration = limit.filter(|limit| !limit.is_zero()).map(timer);
        let request = config.request_timeout.zip(disarmed).map(|(timeout, disarmed)| (timer(timeout), disarmed));
        let timed = request.is_some() || max_duration.is_some();
        Self {
            closing: std::mem::take(&mut stream.lent.closing),
            tunnel: stream.request.kind.is_tunnel(),
            grace: None,
            timers: timed.then(|| Box::new(Timers { request, max_duration })),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, shared: &ConnShared) -> Poll<StreamEnd> {
        if let Some(grace) = &mut self.grace {
            if grace.as_mut().poll(cx).is_ready() {
                return Poll::Ready(StreamEnd::Closing);
            }
        } else if self.closing.poll(cx, &*shared.worker.lifecycle).is_ready() {
            if !self.tunnel {
                return Poll::Ready(StreamEnd::Closing);
            }
            let mut grace = Box::pin(tokio::time::sleep(CLOSING_GRACE));
            // Its first poll arms it.
            let over = grace.as_mut().poll(cx);
            self.grace = Some(grace);
            if over.is_ready() {
                return Poll::Ready(StreamEnd::Closing);
            }
        }
        let Some(timers) = &mut self.timers else { return Poll::Pending };
        if let Some((timer, received)) = &mut timers.request
            && timer.as_mut().poll(cx).is_ready()
        {
            if !received.load(Ordering::Relaxed) {
                return Poll::Ready(StreamEnd::RequestTimeout);
            }
            timers.request = None;
        }
        match &mut timers.max_duration {
            Some(timer) => timer.as_mut().poll(cx).map(|()| StreamEnd::MaxDuration),
            None => Poll::Pending,
        }
    }
}

/// Why a stream is ended from above its terminal filter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    Closing,
    RequestTimeout,
    MaxDuration,
}

async fn cut(stats: &HttpStats, stream: &mut HttpStream, end: StreamEnd) {
    let reply = match end {
        StreamEnd::Closing => {
            stream.info.local_close_reason = Some("server_shutdown".into());
            stream.reset(ErrorCode::NoError);
            return;
        }
        StreamEnd::RequestTimeout => {
            if stream.answered() {
                return;
            }
            stats.downstream_rq_timeout.inc();
            LocalReply::new(StatusCode::REQUEST_TIMEOUT, "request_overall_timeout").body("request timeout")
        }
        StreamEnd::MaxDuration => {
            stats.downstream_rq_max_duration_reached.inc();
            let complete = stream.info.timing.request_received.is_some();
            let status = if complete { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
            LocalReply::new(status, "max_duration_timeout").body("downstream duration timeout")
        }
    };
    stream.info.details = Some(reply.details.clone());
    // The client may be gone already; then there is nobody to answer.
    let _ = stream.reply(reply).await;
}

/// The terminal filter, behind those that come before it.
fn work<'a>(stream: &'a mut HttpStream, chain: &'a FilterChain) -> BoxFuture<'a, Option<Box<dyn StandingTunnel>>> {
    let instances = if chain.entries.is_empty() { Vec::new() } else { chain.instantiate(stream.route.as_deref()) };
    if instances.is_empty() {
        return chain.terminal.serve(stream);
    }
    Box::pin(async move {
        if !Box::pin(filters::enter(stream, instances)).await {
            return None;
        }
        stream.now = Instant::now();
        chain.terminal.serve(stream).await
    })
}

/// Notes when the request was received whole, for `request_timeout`.
struct Watched {
    recv: Box<dyn RecvStream>,
    done: Arc<AtomicBool>,
}

impl ByteSource for Watched {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        let chunk = std::task::ready!(self.recv.poll_chunk(cx, max));
        if chunk.is_none() || self.recv.is_end() {
            self.done.store(true, Ordering::Relaxed);
        }
        Poll::Ready(chunk)
    }

    fn take_spliced(&mut self) -> Option<adit_io::Spliced> {
        self.recv.take_spliced()
    }

    fn stop(&mut self, code: ErrorCode) {
        self.recv.stop(code);
    }

    fn as_tcp(&self) -> Option<&tokio::net::TcpStream> {
        self.recv.as_tcp()
    }
}

impl RecvStream for Watched {
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.recv.poll_left(cx)
    }

    fn datagrams(&mut self) -> Option<Box<dyn adit_codec::Datagrams>> {
        self.recv.datagrams()
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.recv.poll_trailers(cx)
    }

    fn is_end(&self) -> bool {
        self.recv.is_end()
    }

    fn detach(&mut self) -> Option<adit_io::Source> {
        self.recv.detach()
    }
}
