//! Filters of HTTP requests, the chain that runs them, and the stream they share.

use std::any::Any;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use adit_codec::{RecvStream, Responder, SendStream};
use adit_http::{ErrorCode, RequestHead, ResponseHead, StreamError};
use bytes::Bytes;
use http::StatusCode;
use http::uri::Authority;
use tokio::time::Instant;

use crate::throttle::Throttled;
use crate::tunnel::{StandingTunnel, TunnelStream, client_gone};
use crate::{Alarm, BoxFuture, Lent, LocalReply, ResponseFlag, Route, StreamInfo, WorkerEnv};

/// What a filter decided about a request.
#[derive(Debug)]
pub enum Verdict {
    /// Next filter.
    Continue,
    /// Next filter, after this long (fault injection).
    Delay(Duration),
    /// Next filter, or what [`HttpFilter::after_delay`] says, once this is done. It ends by itself.
    Wait(Waiting),
    /// Next filter once the whole body is held in memory, at most this many bytes; more is a 413. The payload of an
    /// upgrade or a CONNECT is body here too, as in Envoy.
    Buffer(u64),
    /// No next filter: this answer.
    Reply(LocalReply),
}

/// What a filter waits for.
pub struct Waiting(pub crate::BoxFuture<'static, ()>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

/// One filter on one stream. Heads pass through every filter of the chain; response heads in reverse order.
pub trait HttpFilter: Send {
    /// A request's head. `end` says that there is no body.
    fn on_request(&mut self, stream: &mut HttpStream, end: bool) -> Verdict {
        let _ = (stream, end);
        Verdict::Continue
    }

    /// Another look behind a [`Verdict::Delay`] or a [`Verdict::Wait`], for filters that then abort.
    fn after_delay(&mut self, stream: &mut HttpStream) -> Verdict {
        let _ = stream;
        Verdict::Continue
    }

    /// A response's head, local replies included.
    fn on_response(&mut self, head: &mut ResponseHead, info: &mut StreamInfo) {
        let _ = (head, info);
    }
}

/// Makes a filter for each stream; made once from its configuration.
pub trait HttpFilterFactory: Send + Sync {
    /// A filter for one stream; `per_route` is what the filter made of the configuration of the stream's route, where it has one.
    /// `None` when the filter has nothing to do here.
    fn create(&self, per_route: Option<&Arc<dyn Any + Send + Sync>>) -> Option<Box<dyn HttpFilter>>;
}

/// The last filter of an HTTP chain: it sees the request to its answer, and the exchange to its end.
pub trait HttpTerminal: Send + Sync {
    /// Serves the request; every path answers through `stream` exactly once, or resets. The exchange is over then, unless it
    /// became a tunnel: that is given back, to be relayed without the chain and this future.
    fn serve<'a>(&'a self, stream: &'a mut HttpStream) -> BoxFuture<'a, Option<Box<dyn StandingTunnel>>>;
}

/// What the connection manager does to a response on its way to the client: filters in reverse, its own fields, stats,
/// logs.
pub trait ResponseHook: Send {
    /// A filter that has seen the request waits here for the response.
    fn keep_filter(&mut self, filter: Box<dyn HttpFilter>);

    /// A final response head on its way out, now.
    fn on_response(&mut self, head: &mut ResponseHead, request: &RequestHead, info: &mut StreamInfo, now: Instant);

    /// A local reply becomes a head and a body, now.
    fn render_reply(
        &mut self,
        reply: LocalReply,
        request: &RequestHead,
        info: &mut StreamInfo,
        now: Instant,
    ) -> (ResponseHead, Bytes);

    /// What is kept of an answer for the log: all of it, or nothing where no log reads it.
    fn keep(&self, head: &ResponseHead) -> Option<Box<ResponseHead>> {
        Some(Box::new(head.clone()))
    }

    /// The tunnel stands: both sides have accepted (`flush_log_on_tunnel_successfully_established`).
    fn on_tunnel(&mut self, request: &RequestHead, info: &mut StreamInfo);

    /// The tunnel stands, for hours perhaps: drops from the heads what no log reads. False when nothing reads them, and
    /// nothing more is to be done here.
    fn trim(&mut self, request: &mut RequestHead, response: Option<&mut ResponseHead>) -> bool {
        let _ = (request, response);
        true
    }

    /// Polled by the terminal filter whenever it is, once the answer left: writes periodic log lines
    /// (`access_log_flush_interval`).
    fn poll_tick(&mut self, cx: &mut std::task::Context<'_>, request: &RequestHead, info: &mut StreamInfo) {
        let _ = (cx, request, info);
    }
}

/// A request, its client's side, and everything the chain knows of it.
pub struct HttpStream {
    /// The request's head; filters and routes change it in place.
    pub request: RequestHead,
    /// The request's body, or the client's direction of the tunnel.
    pub recv: Option<Box<dyn RecvStream>>,
    /// What logs and formats read.
    pub info: StreamInfo,
    /// The route that matched.
    pub route: Option<Arc<dyn Route>>,
    /// What the worker lends.
    pub worker: Arc<WorkerEnv>,
    /// The response's head as it left, for the log, where one reads it.
    pub response: Option<Box<ResponseHead>>,
    /// The idle timeout of the stream; `None` for off (`stream_idle_timeout`, or the route's).
    pub idle_timeout: Option<Duration>,
    /// The bytes that may be held for one direction (`per_connection_buffer_limit_bytes`).
    pub buffer_limit: usize,
    /// An evenly spread number for this stream's choices (fractions, weights).
    pub random: u64,
    /// The client is internal (`internal_address_config`).
    pub internal: bool,
    /// The answer's bytes may leave at so many KiB a second (`fault.response_rate_limit`).
    pub response_limit: Option<NonZeroU32>,
    /// While an upstream's word on a tunnel is awaited: a client that ends before it sent a byte has left.
    pub end_is_leaving: bool,
    /// What the connection lent, to whoever waits in this stream.
    pub lent: Lent,
    /// When the last wait in it was over, at first its start: what is done up to the next wait is done then. Whoever has waited,
    /// and whoever moves bytes, looks at the clock again.
    pub now: Instant,
    /// The authority as it came, where another one took its place for routing: the target of a CONNECT-UDP.
    pub original_authority: Option<Box<Authority>>,
    responder: Option<Box<dyn Responder>>,
    hook: Box<dyn ResponseHook>,
    /// The heads are needed, and the hook, however long it takes.
    kept: bool,
    /// An answer was begun.
    begun: bool,
}

impl HttpStream {
    /// A stream about to enter a chain.
    #[inline]
    pub fn new(
        request: RequestHead,
        recv: Box<dyn RecvStream>,
        responder: Box<dyn Responder>,
        hook: Box<dyn ResponseHook>,
        info: StreamInfo,
        worker: Arc<WorkerEnv>,
    ) -> Self {
        Self {
            now: Instant::from_std(info.started),
            request,
            recv: Some(recv),
            info,
            route: None,
            worker,
            response: None,
            idle_timeout: None,
            buffer_limit: 1 << 20,
            random: 0,
            internal: false,
            response_limit: None,
            end_is_leaving: false,
            lent: Lent::default(),
            original_authority: None,
            responder: Some(responder),
            hook,
            kept: true,
            begun: false,
        }
    }

    /// Whether the final answer has left, or the stream was reset.
    pub fn answered(&self) -> bool {
        self.responder.is_none()
    }

    /// Whether an answer was begun, and not only the stream reset.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Sends an interim response (1xx but 101).
    pub fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        match &mut self.responder {
            Some(responder) => responder.inform(head),
            None => Ok(()),
        }
    }

    /// Sends the final head through the chain's response path, at this moment; with `end` there is no body.
    pub fn respond(
        &mut self,
        mut head: ResponseHead,
        end: bool,
        now: Instant,
    ) -> Result<Box<dyn SendStream>, StreamError> {
        let Some(responder) = self.responder.take() else {
            return Err(StreamError::Local(ErrorCode::Internal));
        };
        self.hook.on_response(&mut head, &self.request, &mut self.info, now);
        self.info.response_code = head.status.as_u16();
        self.response = self.hook.keep(&head);
        self.begun = true;
        let sent = responder.respond(head, end)?;
        Ok(self.limited(sent))
    }

    fn limited(&self, send: Box<dyn SendStream>) -> Box<dyn SendStream> {
        match self.response_limit {
            Some(limit) => Box::new(Throttled::new(send, limit)),
            None => send,
        }
    }

    /// Answers with a local reply, body and end included. Does nothing if an answer has left already.
    pub async fn reply(&mut self, reply: LocalReply) -> Result<(), StreamError> {
        if self.responder.is_none() {
            return Ok(());
        }
        self.info.details = Some(reply.details.clone());
        if let Some(flag) = reply.flag {
            self.info.flags.set(flag);
        }
        let now = Instant::now();
        let (head, mut body) = self.hook.render_reply(reply, &self.request, &mut self.info, now);
        let Some(responder) = self.responder.take() else {
            return Ok(());
        };
        self.info.response_code = head.status.as_u16();
        self.response = self.hook.keep(&head);
        self.begun = true;
        let mut send = self.limited(responder.respond(head, body.is_empty())?);
        self.send_whole(&mut *send, &mut body).await
    }

    /// Sends the body of an answer that is made here, and its end. A client that takes nothing of it for
    /// [`HttpStream::idle_timeout`] is reset.
    pub async fn send_whole(&mut self, send: &mut dyn SendStream, body: &mut Bytes) -> Result<(), StreamError> {
        let mut sent = body.is_empty();
        let mut moved = Instant::now();
        std::future::poll_fn(|cx| {
            let before = body.len();
            let polled = if sent { Poll::Ready(Ok(())) } else { send.poll_send(cx, body, true) };
            if body.len() < before {
                self.info.bytes_sent += (before - body.len()) as u64;
                moved = Instant::now();
            }
            let polled = match polled {
                Poll::Ready(Ok(())) => {
                    sent = true;
                    send.poll_flush(cx)
                }
                other => other,
            };
            if polled.is_ready() {
                if sent {
                    self.info.timing.downstream_last_sent = Some(self.info.elapsed());
                }
                return polled;
            }
            let deadline = self.idle_timeout.and_then(|idle| moved.checked_add(idle));
            std::task::ready!(deadline.map_or(Poll::Pending, |at| self.lent.alarm.poll_until(cx, at)));
            send.reset(ErrorCode::Cancel);
            self.info.details = Some("stream_idle_timeout".into());
            self.info.flags.set(ResponseFlag::StreamIdleTimeout);
            Poll::Ready(Err(StreamError::TimedOut))
        })
        .await
    }

    /// Ready when the client gave up before it was answered. Pending for ever after the answer.
    pub fn poll_cancelled(&mut self, cx: &mut std::task::Context<'_>) -> Poll<StreamError> {
        self.split().2.poll_cancelled(cx)
    }

    /// The request and its record; and the client, to be watched while those are borrowed.
    pub fn split(&mut self) -> (&RequestHead, &StreamInfo, Watch<'_>) {
        let Self { request, info, responder, recv, end_is_leaving, lent, .. } = self;
        (request, info, Watch { responder, recv, end_is_leaving: *end_is_leaving, alarm: &mut lent.alarm })
    }

    /// Resets the stream without an answer.
    pub fn reset(&mut self, code: ErrorCode) {
        if let Some(responder) = self.responder.take() {
            responder.reset(code);
        }
    }

    /// Records a client that left, or broke its protocol, before the exchange was over.
    pub fn client_gone(&mut self, error: StreamError) {
        let (details, flag) = client_gone(self.request.version, error);
        self.info.details = Some(details.into());
        self.info.flags.set(flag);
    }

    /// Answers a client whose request broke the protocol, as [`HttpStream::client_gone`] recorded; one that is gone is not
    /// answered but reset.
    pub async fn reject(&mut self, error: StreamError) {
        let status = match error {
            StreamError::Protocol(_) => StatusCode::BAD_REQUEST,
            StreamError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => return self.reset(ErrorCode::Cancel),
        };
        let details = self.info.details.clone().unwrap_or_default();
        let text = status.canonical_reason().unwrap_or_default();
        let reply = LocalReply::new(status, details).body(text).flag(ResponseFlag::DownstreamProtocolError);
        // A client that left meanwhile has nothing to be told.
        let _ = self.reply(reply).await;
    }

    /// Keeps a filter that has seen the request, so that it sees the response.
    pub fn keep_filter(&mut self, filter: Box<dyn HttpFilter>) {
        self.hook.keep_filter(filter);
    }

    /// Gives the connection manager its turn; to be polled by who drives the stream, together with what it waits for.
    pub fn poll_tick(&mut self, cx: &mut std::task::Context<'_>) {
        self.hook.poll_tick(cx, &self.request, &mut self.info);
    }

    /// Tells the connection manager that the tunnel stands. Of both heads only what logs read is kept.
    pub fn tunnel_established(&mut self) {
        self.hook.on_tunnel(&self.request, &mut self.info);
        self.kept = self.hook.trim(&mut self.request, self.response.as_deref_mut());
    }

    /// What is to be kept of a stream whose tunnel stands.
    pub fn into_tunnel(self) -> TunnelStream {
        let Self { info, request, response, hook, kept, .. } = self;
        TunnelStream::new(info, request, response, kept.then_some(hook))
    }
}

/// The client of a stream, for who waits.
pub struct Watch<'a> {
    responder: &'a mut Option<Box<dyn Responder>>,
    recv: &'a mut Option<Box<dyn RecvStream>>,
    end_is_leaving: bool,
    /// The timer that the connection lent.
    pub alarm: &'a mut Alarm,
}

impl Watch<'_> {
    /// As [`HttpStream::poll_cancelled`].
    pub fn poll_cancelled(&mut self, cx: &mut std::task::Context<'_>) -> Poll<StreamError> {
        let Some(responder) = &mut self.responder else { return Poll::Pending };
        if let Poll::Ready(error) = responder.poll_cancelled(cx) {
            return Poll::Ready(error);
        }
        match &mut self.recv {
            Some(recv) if self.end_is_leaving => recv.poll_left(cx).map(|()| StreamError::Truncated),
            _ => Poll::Pending,
        }
    }
}

/// One filter of a chain as configured.
pub struct ChainEntry {
    /// The filter's configured name, by which routes speak of it.
    pub name: Arc<str>,
    /// Off unless a route turns it on.
    pub disabled: bool,
    /// Makes the filter.
    pub factory: Arc<dyn HttpFilterFactory>,
}

/// An HTTP filter chain: filters, then the terminal one.
pub struct FilterChain {
    /// The filters, in order.
    pub entries: Vec<ChainEntry>,
    /// The last one.
    pub terminal: Arc<dyn HttpTerminal>,
}

impl FilterChain {
    /// The filters of one stream, as its route has them.
    pub fn instantiate(&self, route: Option<&dyn Route>) -> Vec<Box<dyn HttpFilter>> {
        self.entries
            .iter()
            .filter_map(|entry| {
                let config = route.and_then(|route| route.filter_config(&entry.name));
                let disabled = config.and_then(|config| config.disabled).unwrap_or(entry.disabled);
                if disabled {
                    return None;
                }
                entry.factory.create(config.and_then(|config| config.config.as_ref()))
            })
            .collect()
    }
}
