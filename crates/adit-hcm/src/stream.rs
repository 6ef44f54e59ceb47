//! One request on its way through the connection manager: checks, route, upgrade decision, filters, the terminal filter,
//! and its account afterwards.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use adit_codec::{IncomingStream, RecvStream};
use adit_filter::{
    AccessLogType, BoxFuture, FilterChain, HttpStream, LocalReply, ResponseFlag, Route, StreamInfo, Verdict,
};
use adit_http::{ErrorCode, RequestKind, StreamError, target};
use adit_io::ByteSource;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use crate::Hcm;
use crate::conn::{ConnShared, Ends as CxEnds, Live};
use crate::request;
use crate::response::ResponsePath;
use crate::stats::HttpStats;
use crate::upgrade;

/// How long a live tunnel may take to end in order once the process closes.
const CLOSING_GRACE: Duration = Duration::from_secs(1);

/// Serves one request to its end. Every path answers or resets. The future lives as long as a tunnel does: what only a phase
/// needs is in a box that goes with the phase, and it is boxed here, once: a future that awaits another by value holds it
/// twice.
pub(crate) fn serve(shared: Arc<ConnShared>, incoming: IncomingStream, live: Option<Live>) -> BoxFuture<'static, ()> {
    let account = Account::open(shared, incoming.head.version);
    let (mut stream, disarmed) = new_stream(&account.0, incoming);
    Box::pin(async move {
        let shared = &account.0;
        let hcm = &shared.hcm;
        match admit(shared, &mut stream) {
            Ok(chain) => {
                let _upgrade = counts_as_upgrade(hcm, &stream).then(|| UpgradeAccount::open(&hcm.stats.http));
                drive(shared, &mut stream, &chain, disarmed).await;
            }
            Err(reply) => {
                // A client that left has nothing to be told.
                let _ = Box::pin(stream.reply(*reply)).await;
            }
        }
        account.close(&mut stream);
        drop(account);
        drop(live);
    })
}

/// The stream, and the flag that disarms `request_timeout` where there is one: set once the request was received whole or
/// is answered.
fn new_stream(shared: &Arc<ConnShared>, incoming: IncomingStream) -> (HttpStream, Option<Arc<AtomicBool>>) {
    let IncomingStream { mut head, recv, responder, meter } = incoming;
    let hcm = &shared.hcm;
    let mut info = shared.stream_info();
    info.meter = meter;
    info.protocol = Some(head.version);
    let id = || HeaderValue::from_maybe_shared(Bytes::from(request::uuid())).ok();
    let client = request::prepare(&mut head, &shared.info, &hcm.config.request, id);
    info.conn = request::with_remote(&shared.info, &client);
    hcm.config.client_cert.apply(&mut head, &info);
    info.stream_id = head.headers.get(request::X_REQUEST_ID).and_then(|id| id.to_str().ok()).map(Arc::from);
    let end = recv.is_end();
    if end {
        info.timing.request_received = Some(info.elapsed());
    }
    let disarmed = hcm.config.request_timeout.map(|_| Arc::new(AtomicBool::new(end)));
    let recv = match &disarmed {
        Some(done) if !end => Box::new(Watched { recv, done: done.clone() }),
        _ => recv,
    };
    let hook = Box::new(ResponsePath::new(shared.clone(), disarmed.clone()));
    let mut stream = HttpStream::new(head, recv, responder, hook, info, shared.worker.clone());
    stream.random = fastrand::u64(..);
    stream.buffer_limit = shared.buffer_limit;
    stream.idle_timeout = hcm.config.stream_idle_timeout;
    stream.internal = client.internal;
    (stream, disarmed)
}

/// An upgrade or a CONNECT that is let through; where there is no route the connection manager alone decides.
fn counts_as_upgrade(hcm: &Hcm, stream: &HttpStream) -> bool {
    let Some(upgrade_type) = stream.request.kind.upgrade_type() else { return false };
    let own = stream.route.as_ref().and_then(|route| route.upgrade(upgrade_type));
    upgrade::allowed(hcm.upgrades.find(upgrade_type).map(|entry| entry.enabled), own)
}

/// Checks the request, finds its route, decides about an upgrade: the chain to run, or the refusal.
fn admit(shared: &Arc<ConnShared>, stream: &mut HttpStream) -> Result<Arc<FilterChain>, Box<LocalReply>> {
    let hcm = &shared.hcm;
    let stats = &hcm.stats.http;
    let udp = matches!(&stream.request.kind, RequestKind::Upgrade(token) if token.is_connect_udp());
    let no_target = if udp { connect_udp_authority(stream, None).err() } else { None };
    let before = stream.request.authority.clone();
    let dropped = request::check(&mut stream.request, &shared.info, &hcm.config.request).map_err(|reply| {
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
    hcm.stats.dropped_underscores.add(dropped);
    let route = hcm.routes.find(&stream.request, &stream.info, stream.random);
    if let Some(refusal) = no_target {
        let own = route.as_deref().ok_or(refusal)?;
        connect_udp_authority(stream, Some(own))?;
    }
    if matches!(stream.request.kind, RequestKind::Connect(_)) {
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
    let mut chain = hcm.chain.clone();
    if let (Some(upgrade_type), Some(route)) = (&upgrade_type, &route) {
        let entry = hcm.upgrades.find(upgrade_type);
        if !upgrade::allowed(entry.map(|entry| entry.enabled), route.upgrade(upgrade_type)) {
            stream.route = Some(route.clone());
            stats.downstream_rq_ws_on_non_ws_route.inc();
            log_start(hcm, stream);
            return Err(Box::new(LocalReply::new(StatusCode::FORBIDDEN, "upgrade_failed")));
        }
        if let Some(own) = entry.and_then(|entry| entry.chain.clone()) {
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

/// Runs the chain under the timers that end a stream whatever it is doing.
async fn drive(
    shared: &Arc<ConnShared>,
    stream: &mut HttpStream,
    chain: &FilterChain,
    disarmed: Option<Arc<AtomicBool>>,
) {
    let mut ends = Ends::new(shared, stream, disarmed);
    let end = {
        let mut work = std::pin::pin!(run_chain(stream, chain));
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => ends.poll(cx).map(Some),
        })
        .await
    };
    drop(ends);
    if let Some(end) = end {
        Box::pin(cut(&shared.hcm.stats.http, stream, end)).await;
    }
}

/// What may end a stream from above: the process, and timers. Without timers it is small, for tunnels that only wait.
struct Ends {
    closing: BoxFuture<'static, ()>,
    /// Closing leaves a tunnel some time to end in order.
    tunnel: bool,
    grace: Option<Timer>,
    timers: Option<Box<Timers>>,
}

type Timer = Pin<Box<tokio::time::Sleep>>;

/// `request_timeout`, until the request was received whole, and `max_stream_duration`.
struct Timers {
    request: Option<(Timer, Arc<AtomicBool>)>,
    max_duration: Option<Timer>,
}

impl Ends {
    fn new(shared: &ConnShared, stream: &HttpStream, disarmed: Option<Arc<AtomicBool>>) -> Self {
        let config = &shared.hcm.config;
        let timer = |limit| Box::pin(tokio::time::sleep(limit));
        let limit = stream.route.as_ref().and_then(|route| route.max_stream_duration()).or(config.max_stream_duration);
        let max_duration = limit.filter(|limit| !limit.is_zero()).map(timer);
        let request = config.request_timeout.zip(disarmed).map(|(timeout, disarmed)| (timer(timeout), disarmed));
        let timed = request.is_some() || max_duration.is_some();
        Self {
            closing: shared.worker.lifecycle.closing(),
            tunnel: stream.request.kind.is_tunnel(),
            grace: None,
            timers: timed.then(|| Box::new(Timers { request, max_duration })),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<StreamEnd> {
        if let Some(grace) = &mut self.grace {
            if grace.as_mut().poll(cx).is_ready() {
                return Poll::Ready(StreamEnd::Closing);
            }
        } else if self.closing.as_mut().poll(cx).is_ready() {
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

/// Filters in order, then the terminal filter.
async fn run_chain(stream: &mut HttpStream, chain: &FilterChain) {
    if !chain.entries.is_empty() {
        let filters = chain.instantiate(stream.route.as_deref());
        if !filters.is_empty() && !Box::pin(enter(stream, filters)).await {
            return;
        }
    }
    chain.terminal.serve(stream).await;
}

/// Whether the request got past the filters; if not, it was answered, or its client is gone.
async fn enter(stream: &mut HttpStream, filters: Vec<Box<dyn adit_filter::HttpFilter>>) -> bool {
    match run_filters(stream, filters).await {
        Ok(()) => return true,
        Err(FilterEnd::Reply(reply)) => {
            // A client that left has nothing to be told.
            let _ = stream.reply(*reply).await;
        }
        Err(FilterEnd::Client(error)) => {
            stream.client_gone(error);
            stream.reject(error).await;
        }
    }
    false
}

enum FilterEnd {
    Reply(Box<LocalReply>),
    Client(StreamError),
}

/// Shows the head to each filter. The filters then wait in the response path, where they see the answer.
async fn run_filters(stream: &mut HttpStream, filters: Vec<Box<dyn adit_filter::HttpFilter>>) -> Result<(), FilterEnd> {
    let mut filters = filters.into_iter();
    let result = show_request(stream, &mut filters).await;
    if result.is_err() {
        // The answer, also that to a request that breaks the protocol, passes through every filter of the chain, as in Envoy, also those that never saw the request.
        for filter in filters {
            stream.keep_filter(filter);
        }
    }
    result
}

async fn show_request(
    stream: &mut HttpStream,
    filters: &mut std::vec::IntoIter<Box<dyn adit_filter::HttpFilter>>,
) -> Result<(), FilterEnd> {
    for mut filter in filters {
        let end = stream.recv.as_ref().is_none_or(|recv| recv.is_end());
        let mut verdict = filter.on_request(stream, end);
        if let Verdict::Delay(_) | Verdict::Wait(_) = verdict {
            if let Err(error) = wait(stream, verdict).await {
                stream.keep_filter(filter);
                return Err(FilterEnd::Client(error));
            }
            verdict = filter.after_delay(stream);
        }
        stream.keep_filter(filter);
        match verdict {
            Verdict::Continue => {}
            Verdict::Delay(_) | Verdict::Wait(_) => wait(stream, verdict).await.map_err(FilterEnd::Client)?,
            Verdict::Buffer(limit) => buffer(stream, limit).await?,
            Verdict::Reply(reply) => return Err(FilterEnd::Reply(Box::new(reply))),
        }
    }
    Ok(())
}

async fn wait(stream: &mut HttpStream, verdict: Verdict) -> Result<(), StreamError> {
    let done = async {
        match verdict {
            Verdict::Delay(delay) => tokio::time::sleep(delay).await,
            Verdict::Wait(waiting) => waiting.0.await,
            Verdict::Continue | Verdict::Buffer(_) | Verdict::Reply(_) => {}
        }
    };
    tokio::select! {
        () = done => Ok(()),
        error = std::future::poll_fn(|cx| stream.poll_cancelled(cx)) => Err(error),
    }
}

/// Holds the whole body in memory, at most `limit` bytes: then the chain goes on.
async fn buffer(stream: &mut HttpStream, limit: u64) -> Result<(), FilterEnd> {
    let Some(mut recv) = stream.recv.take() else { return Ok(()) };
    if recv.is_end() {
        stream.recv = Some(recv);
        return Ok(());
    }
    let too_large = || {
        let reply = LocalReply::new(StatusCode::PAYLOAD_TOO_LARGE, "request_payload_too_large");
        FilterEnd::Reply(Box::new(reply.body("Payload Too Large")))
    };
    let mut held = BytesMut::new();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = std::future::poll_fn(|cx| recv.poll_chunk(cx, 16 * 1024)) => chunk,
            () = idle(stream.idle_timeout) => {
                let reply = LocalReply::new(StatusCode::REQUEST_TIMEOUT, "stream_idle_timeout");
                return Err(FilterEnd::Reply(Box::new(reply.body("stream timeout").flag(ResponseFlag::StreamIdleTimeout))));
            }
        };
        match chunk {
            Some(Ok(chunk)) if (held.len() + chunk.len()) as u64 > limit => {
                stream.info.bytes_received = (held.len() + chunk.len()) as u64;
                return Err(too_large());
            }
            Some(Ok(chunk)) => held.extend_from_slice(&chunk),
            Some(Err(error)) => return Err(FilterEnd::Client(error)),
            None => break,
        }
    }
    let trailers = std::future::poll_fn(|cx| recv.poll_trailers(cx)).await.map_err(FilterEnd::Client)?;
    if matches!(stream.request.kind, RequestKind::Plain) {
        stream.request.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(held.len()));
    }
    stream.info.timing.request_received = Some(stream.info.elapsed());
    stream.recv = Some(Box::new(Held { body: held.freeze(), trailers }));
    Ok(())
}

async fn idle(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// A body that is all in memory.
struct Held {
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl ByteSource for Held {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.body.is_empty() {
            return Poll::Ready(None);
        }
        let n = self.body.len().min(max.max(1));
        Poll::Ready(Some(Ok(self.body.split_to(n))))
    }

    fn stop(&mut self, _code: ErrorCode) {
        self.body = Bytes::new();
    }
}

impl RecvStream for Held {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Ok(self.trailers.take()))
    }

    fn is_end(&self) -> bool {
        self.body.is_empty() && self.trailers.is_none()
    }
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
}

/// Counts a request from its head to its end; dropped with the stream's future, so that a stream cut from above is counted
/// out too.
struct Account(Arc<ConnShared>);

impl Account {
    fn open(shared: Arc<ConnShared>, version: Version) -> Self {
        let stats = &shared.hcm.stats.http;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_active.inc();
        match version {
            Version::HTTP_2 => stats.downstream_rq_http2_total.inc(),
            Version::HTTP_3 => stats.downstream_rq_http3_total.inc(),
            _ => stats.downstream_rq_http1_total.inc(),
        }
        shared.streams_total.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    fn close(&self, stream: &mut HttpStream) {
        let shared = &*self.0;
        let hcm = &shared.hcm;
        let stats = &hcm.stats.http;
        name_cluster(stream);
        let info = &mut stream.info;
        let elapsed = info.elapsed();
        info.timing.end = Some(elapsed);
        if info.response_code != 0 {
            hcm.stats.completed(info.response_code);
        }
        if info.details.as_deref() == Some("stream_idle_timeout") {
            stats.downstream_rq_idle_timeout.inc();
        }
        let cut = stream.response.is_some() && info.timing.downstream_last_sent.is_none();
        note_end(shared, stream.request.version, stream.request.kind.is_tunnel(), cut, info);
        stats.downstream_rq_time.record(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        hcm.log(info, Some(&stream.request), stream.response.as_ref(), AccessLogType::DownstreamEnd);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.0.hcm.stats.http.downstream_rq_active.dec();
    }
}

/// A request that its route would have sent to a cluster is logged with that, whatever answered it.
fn name_cluster(stream: &mut HttpStream) {
    if stream.info.upstream.is_some() {
        return;
    }
    let name = stream.route.as_ref().and_then(|route| route.cluster(&stream.request));
    if let Some(cluster) = name.and_then(|name| stream.worker.clusters.get(name)) {
        stream.info.upstream_mut().cluster = Some(cluster.settings().name.clone());
    }
}

/// How the end of a stream is told of its connection (Envoy's `onResetStream`, and what a connection was destroyed with).
fn note_end(shared: &ConnShared, version: Version, tunnel: bool, cut: bool, info: &mut StreamInfo) {
    let stats = &shared.hcm.stats.http;
    info.downstream_close_type.get_or_insert("Normal");
    let left = info.flags.has(ResponseFlag::DownstreamConnectionTermination);
    if version >= Version::HTTP_2 {
        if info.details.as_deref().is_some_and(|details| details.ends_with("remote_reset")) {
            stats.downstream_rq_rx_reset.inc();
        }
    } else if left || info.timing.request_received.is_none() {
        // Over HTTP/1 a request that did not end ends with its connection.
        stats.downstream_rq_rx_reset.inc();
    }
    let ended = ["stream_idle_timeout", "upstream_max_stream", "max_duration_timeout", "upstream_reset_after_response"];
    let by_us = info.details.as_deref().is_some_and(|text| ended.iter().any(|details| text.starts_with(details)));
    if !left && (cut || tunnel && by_us && info.response_code < 400) {
        // What was being answered was reset.
        stats.downstream_rq_tx_reset.inc();
        if version < Version::HTTP_2 && info.timing.request_received.is_some() {
            stats.downstream_rq_rx_reset.inc();
        }
        shared.ends.note(CxEnds::LOCAL);
    }
    let codec = info.details.as_deref().is_some_and(|text| text.starts_with("http1.") && !text.contains("underscore"));
    if codec && info.flags.has(ResponseFlag::DownstreamProtocolError) {
        stats.downstream_cx_protocol_error.inc();
    }
    if info.details.as_deref() == Some("request_payload_too_large") {
        stats.downstream_rq_too_large.inc();
    }
    if left {
        shared.ends.note(CxEnds::ACTIVE);
    } else if tunnel && version < Version::HTTP_2 {
        shared.ends.note(CxEnds::LOCAL);
    }
}

/// Counts an upgrade or a CONNECT for as long as its stream lives. Dropped with the stream's future, so that a stream cut
/// from above is counted out too.
struct UpgradeAccount(adit_stats::Gauge);

impl UpgradeAccount {
    fn open(stats: &HttpStats) -> Self {
        stats.downstream_cx_upgrades_total.inc();
        stats.downstream_cx_upgrades_active.inc();
        Self(stats.downstream_cx_upgrades_active.clone())
    }
}

impl Drop for UpgradeAccount {
    fn drop(&mut self) {
        self.0.dec();
    }
}
