//! What the connection manager does to a response on its way to the client.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use adit_filter::{AccessLogType, HttpFilter, LocalReply, ResponseHook, StreamInfo};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tokio::time::{Instant, Sleep};

use crate::Hcm;
use crate::conn::ConnShared;
use crate::request::X_REQUEST_ID;

const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");

/// `server_header_transformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ServerHeader {
    #[default]
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

/// The response path of one stream: the chain's filters, then the connection manager.
pub(crate) struct ResponsePath {
    conn: Arc<ConnShared>,
    pub(crate) filters: Vec<Box<dyn HttpFilter>>,
    /// The next periodic log line; made only where an interval is configured.
    periodic: Option<std::pin::Pin<Box<Sleep>>>,
    /// Set by the answer: it disarms `request_timeout`.
    disarmed: Option<Arc<AtomicBool>>,
}

impl ResponsePath {
    pub(crate) fn new(conn: Arc<ConnShared>, disarmed: Option<Arc<AtomicBool>>) -> Self {
        Self { conn, filters: Vec::new(), periodic: None, disarmed }
    }
}

impl Hcm {
    /// A local reply becomes a head and a body, before filters see it. `request` is `None` where none could be read.
    pub(crate) fn word(
        &self,
        mut reply: LocalReply,
        request: Option<&RequestHead>,
        info: &mut StreamInfo,
    ) -> (ResponseHead, Bytes) {
        let content_type = self.config.local_reply.map(&mut reply, request, info);
        let mut head = ResponseHead::new(reply.status);
        head.headers = std::mem::take(&mut reply.headers);
        if !reply.body.is_empty() {
            if let Ok(content_type) = HeaderValue::from_str(content_type) {
                head.headers.entry(header::CONTENT_TYPE).or_insert(content_type);
            }
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
        }
        let body = match reply.body {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        (head, body)
    }

    /// Sets what every answer carries.
    pub(crate) fn finish(&self, head: &mut ResponseHead, request: Option<&RequestHead>, now: Instant) {
        let config = &self.config;
        let server = HeaderValue::clone(&config.server_name);
        match config.server_header {
            ServerHeader::Overwrite => {
                head.headers.insert(header::SERVER, server);
            }
            ServerHeader::AppendIfAbsent => {
                head.headers.entry(header::SERVER).or_insert(server);
            }
            ServerHeader::PassThrough => {}
        }
        if let Entry::Vacant(missing) = head.headers.entry(header::DATE)
            && let Some(date) = crate::date::date(now)
        {
            missing.insert(date);
        }
        if let Some(via) = &config.request.via {
            head.headers.append(header::VIA, via.clone());
        }
        // One look at the names that are there costs less than looking one up.
        if let Some(request) = request
            && (config.always_set_request_id_in_response || request.headers.keys().any(|name| *name == FORCE_TRACE))
            && let Some(id) = request.headers.get(X_REQUEST_ID)
        {
            head.headers.insert(X_REQUEST_ID, id.clone());
        }
        // A client that asked to switch is told what it may switch to.
        let asked = request.is_some_and(|request| matches!(request.kind, RequestKind::Upgrade(_)));
        if head.status != StatusCode::SWITCHING_PROTOCOLS
            && !asked
            && head.headers.keys().any(|name| name == header::UPGRADE)
        {
            head.headers.remove(header::UPGRADE);
        }
    }
}

impl ResponsePath {
    /// An answer that leaves before its request is whole: the rest of that request has no reader, and over HTTP/1 no other
    /// can follow it. Nor can one on a connection that is to end.
    fn close_behind_unfinished(&self, head: &mut ResponseHead, request: &RequestHead, info: &StreamInfo) {
        let unfinished = info.timing.request_received.is_none();
        if unfinished {
            self.conn.hcm.stats.http.downstream_rq_response_before_rq_complete.inc();
        }
        let last = unfinished || self.conn.is_last();
        if last && request.version < Version::HTTP_2 && !head.accepts(&request.kind) {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl ResponseHook for ResponsePath {
    fn keep_filter(&mut self, filter: Box<dyn HttpFilter>) {
        self.filters.push(filter);
    }

    fn on_response(&mut self, head: &mut ResponseHead, request: &RequestHead, info: &mut StreamInfo, now: Instant) {
        if let Some(disarmed) = &self.disarmed {
            disarmed.store(true, Ordering::Relaxed);
        }
        for filter in self.filters.iter_mut().rev() {
            filter.on_response(head, info);
        }
        self.conn.hcm.finish(head, Some(request), now);
        self.close_behind_unfinished(head, request, info);
        note_first_sent(info, now);
    }

    fn render_reply(
        &mut self,
        reply: LocalReply,
        request: &RequestHead,
        info: &mut StreamInfo,
        now: Instant,
    ) -> (ResponseHead, Bytes) {
        // A 400 says that the message was broken: nothing more is taken from a connection of HTTP/1.
        let broken = reply.status == StatusCode::BAD_REQUEST && !self.conn.hcm.config.stream_error;
        let (mut head, body) = self.conn.hcm.word(reply, Some(request), info);
        if broken && request.version < Version::HTTP_2 {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        for filter in self.filters.iter_mut().rev() {
            filter.on_response(&mut head, info);
        }
        self.conn.hcm.finish(&mut head, Some(request), now);
        self.close_behind_unfinished(&mut head, request, info);
        note_first_sent(info, now);
        let body = if request.method == Method::HEAD { Bytes::new() } else { body };
        (head, body)
    }

    fn on_tunnel(&mut self, request: &RequestHead, info: &mut StreamInfo) {
        if self.conn.hcm.config.log_on_tunnel {
            self.conn.hcm.log(info, Some(request), None, AccessLogType::DownstreamTunnelSuccessfullyEstablished);
        }
    }

    fn keep(&self, head: &ResponseHead) -> Option<Box<ResponseHead>> {
        (!self.conn.hcm.config.access_logs.is_empty()).then(|| Box::new(head.clone()))
    }

    fn trim(&mut self, request: &mut RequestHead, response: Option<&mut ResponseHead>) -> bool {
        let logs = &self.conn.hcm.config.access_logs;
        // A filter may count until it is dropped.
        if logs.is_empty() && self.filters.is_empty() {
            return false;
        }
        request.headers = kept(&request.headers, logs.iter().flat_map(|log| log.request_fields()));
        detach(request);
        if let Some(response) = response {
            response.headers = kept(&response.headers, logs.iter().flat_map(|log| log.response_fields()));
        }
        true
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>, request: &RequestHead, info: &mut StreamInfo) {
        let Some(interval) = self.conn.hcm.config.log_interval else { return };
        let sleep = self.periodic.get_or_insert_with(|| Box::pin(tokio::time::sleep(interval)));
        while sleep.as_mut().poll(cx) == Poll::Ready(()) {
            self.conn.hcm.log(info, Some(request), None, AccessLogType::DownstreamPeriodic);
            sleep.as_mut().reset(Instant::now() + interval.max(Duration::from_millis(1)));
        }
    }
}

fn note_first_sent(info: &mut StreamInfo, now: Instant) {
    let elapsed = info.elapsed_at(now);
    info.timing.downstream_first_sent.get_or_insert(elapsed);
}

/// These fields of a map, in a map no larger than they need. Without any it owns no memory.
fn kept<'a>(headers: &HeaderMap, names: impl Iterator<Item = &'a HeaderName>) -> HeaderMap {
    let mut small = HeaderMap::new();
    for name in names {
        if small.contains_key(name) {
            continue;
        }
        for value in headers.get_all(name) {
            // A clone would keep the head's buffer.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                small.append(name.clone(), value);
            }
        }
    }
    small
}

/// Copies what is left of a head out of the buffer that it was read into, which may be large.
fn detach(request: &mut RequestHead) {
    if let Some(path) = &mut request.path
        && let Ok(copy) = path.as_str().parse()
    {
        *path = copy;
    }
    if let Some(authority) = &mut request.authority
        && let Ok(copy) = authority.as_str().parse()
    {
        *authority = copy;
    }
    if let RequestKind::Connect(target) = &mut request.kind
        && let Some(authority) = &request.authority
    {
        *target = if *target == *authority { Some(authority.clone()) } else { target.as_str().parse().ok() }
            .unwrap_or_else(|| target.clone());
    }
}
