//! The serving side of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use adit_codec::{ConnError, IncomingStream, RecvStream, Responder, SendStream, ServerConn};
use adit_http::{ErrorCode, RequestKind, ResponseHead, StreamError};
use adit_io::Io;
use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::{Request, Response, StatusCode};
use tokio::time::{Sleep, sleep};

use crate::head::{self, Refusal};
use crate::keepalive::{Keepalive, poll_dead};
use crate::recv::{Ended, H2Recv};
use crate::send::H2Send;
use crate::shared::{Shared, StreamGuard};
use crate::watch::Watched;
use crate::{Counter, Http2Options, ServerConfig, error};

/// Resets remembered so that what is still under way to a stream that we reset is ignored, not answered as an error.
pub(crate) const RESET_MEMORY: usize = 1024;
/// How long they are remembered.
pub(crate) const RESET_MEMORY_FOR: std::time::Duration = std::time::Duration::from_secs(10);
/// Streams that a client may cancel before they were looked at.
pub(crate) const PENDING_RESETS: usize = 100;
/// A last resort of the h2 crate, per life of a connection: the rate is limited by `stream_reset_rate`.
pub(crate) const LOCAL_ERRORS: usize = 1 << 20;

/// Serves HTTP/2 on `io`. The handshake happens in [`ServerConn::poll_accept`]; bytes read ahead are part of it.
pub fn server(io: Io, cfg: Arc<ServerConfig>) -> Server {
    let options = &cfg.http2;
    let secure = io.info.tls.is_some();
    let shared = Shared::new(cfg.stats.clone(), options, ErrorCode::Internal);
    let watched = Watched::new(io, shared.clone(), options, true);
    let state = State::Handshake(Box::new(builder(options).handshake(watched)));
    Server {
        state,
        cfg,
        shared,
        keepalive: None,
        head_timer: None,
        secure,
        draining: false,
        condemned: false,
        late: false,
    }
}

fn builder(options: &Http2Options) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(options.stream_window())
        .initial_connection_window_size(options.connection_window())
        .max_frame_size(options.frame_size())
        .max_header_list_size(options.max_header_list_size)
        .header_table_size(options.table_size())
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_concurrent_reset_streams(RESET_MEMORY)
        .reset_stream_duration(RESET_MEMORY_FOR)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_ERRORS))
        .max_send_buffer_size(options.max_send_buffer_size)
        .data_frame_budget(options.data_frame_budget());
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    builder
}

enum State {
    Handshake(Box<Handshake<Watched, Bytes>>),
    Open(Box<Connection<Watched, Bytes>>),
    Over,
}

/// One HTTP/2 connection from a client.
pub struct Server {
    state: State,
    cfg: Arc<ServerConfig>,
    shared: Arc<Shared>,
    keepalive: Option<Keepalive>,
    /// Runs while a header block is under way, where `request_headers_timeout` is set.
    head_timer: Option<Pin<Box<Sleep>>>,
    secure: bool,
    draining: bool,
    condemned: bool,
    /// It is condemned for a header block that did not end in time.
    late: bool,
}

impl Server {
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), ConnError>>> {
        let State::Handshake(handshake) = &mut self.state else { return Poll::Ready(Some(Ok(()))) };
        self.shared.begin_poll();
        match ready!(Pin::new(&mut **handshake).poll(cx)) {
            Ok(mut connection) => {
                if self.draining {
                    connection.graceful_shutdown();
                }
                let pings = self.cfg.http2.keepalive.and_then(|options| Some((options, connection.ping_pong()?)));
                self.keepalive = pings.map(|(options, pings)| Keepalive::new(options, pings));
                self.state = State::Open(Box::new(connection));
                Poll::Ready(Some(Ok(())))
            }
            Err(cause) => {
                self.state = State::Over;
                let gone = cause.get_io().is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof);
                Poll::Ready((!gone).then(|| Err(conn_error(error::connection(&cause), error::CODEC))))
            }
        }
    }

    /// The next request, or the end of the connection.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>> {
        self.shared.begin_poll();
        loop {
            let State::Open(connection) = &mut self.state else { return Poll::Ready(None) };
            let polled = connection.poll_accept(cx);
            if let Some(reason) = self.shared.condemned()
                && !self.condemned
            {
                self.condemned = true;
                connection.abrupt_shutdown(reason);
                continue;
            }
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if let Some(stream) = self.admit(request, respond) {
                        return Poll::Ready(Some(Ok(stream)));
                    }
                }
                Poll::Ready(Some(Err(cause))) => {
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(conn_error(error::connection(&cause), error::CODEC))));
                }
                Poll::Ready(None) => {
                    if self.condemned {
                        return Poll::Ready(self.over_condemned());
                    }
                    self.state = State::Over;
                    return Poll::Ready(None);
                }
                // A flooder that does not read its GOAWAY is not waited for.
                Poll::Pending if self.condemned => return Poll::Ready(self.over_condemned()),
                Poll::Pending => {
                    if self.poll_late(cx).is_ready() {
                        self.late = true;
                        self.shared.condemn(h2::Reason::ENHANCE_YOUR_CALM);
                        continue;
                    }
                    if poll_dead(&mut self.keepalive, cx, &self.shared).is_ready() {
                        self.state = State::Over;
                        return Poll::Ready(Some(Err(conn_error(StreamError::TimedOut, "http2_ping_timeout"))));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Ready when a header block has been under way for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.cfg.request_headers_timeout else { return Poll::Pending };
        if !self.shared.in_header_block.load(Relaxed) {
            self.head_timer = None;
            return Poll::Pending;
        }
        self.head_timer.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx)
    }

    fn over_condemned(&mut self) -> Option<Result<IncomingStream, ConnError>> {
        self.state = State::Over;
        if self.late {
            return Some(Err(conn_error(StreamError::TimedOut, "request_header_timeout")));
        }
        let (error, details) = error::condemned(self.shared.condemned().unwrap_or(h2::Reason::ENHANCE_YOUR_CALM));
        Some(Err(conn_error(error, details)))
    }

    /// Gives a good request its form; answers a bad one.
    fn admit(&mut self, request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Option<IncomingStream> {
        let (parts, recv) = request.into_parts();
        let guard = StreamGuard::new(self.shared.clone());
        match head::request(parts, self.secure, self.shared.rules) {
            Ok(head) => {
                let kind = head.kind.clone();
                let recv: Box<dyn RecvStream> =
                    if recv.is_end_stream() { Box::new(Ended) } else { Box::new(H2Recv::new(recv, guard.clone())) };
                let responder = H2Responder { respond: Some(respond), kind, guard };
                Some(IncomingStream { head, recv, responder: Box::new(responder), meter: None })
            }
            Err(Refusal::Malformed) => {
                respond.send_reset(h2::Reason::PROTOCOL_ERROR);
                None
            }
            Err(Refusal::TooLarge) => {
                self.shared.count(Counter::HeaderOverflow);
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                // Fails only when the client has reset the stream.
                let _ = respond.send_response(response, true);
                None
            }
        }
    }
}

impl ServerConn for Server {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>> {
        match ready!(self.poll_handshake(cx)) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
        let polled = self.poll_open(cx);
        self.shared.end_poll();
        polled
    }

    fn drain(&mut self) {
        self.draining = true;
        if let State::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    /// The GOAWAY leaves when the connection is polled on, until it gives `None`.
    fn abort(&mut self, code: ErrorCode) {
        match &mut self.state {
            State::Open(connection) => connection.abrupt_shutdown(error::reason(code)),
            State::Handshake(_) => self.state = State::Over,
            State::Over => {}
        }
    }

    fn live_streams(&self) -> usize {
        self.shared.live()
    }
}

fn conn_error(error: StreamError, details: &'static str) -> ConnError {
    ConnError { error, answered: None, details }
}

struct H2Responder {
    /// Taken when the answer is given.
    respond: Option<SendResponse<Bytes>>,
    kind: RequestKind,
    guard: Arc<StreamGuard>,
}

impl H2Responder {
    fn send_reset(&mut self, code: ErrorCode) {
        if let Some(mut respond) = self.respond.take() {
            self.guard.shared.note_asked_reset(code);
            respond.send_reset(error::reason(code));
        }
    }
}

/// The reset behind an answer that the h2 crate did not take.
fn why_refused(respond: &mut SendResponse<Bytes>, cause: &h2::Error) -> StreamError {
    match respond.poll_reset(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Ok(reason)) => StreamError::Reset(error::code(reason)),
        Poll::Ready(Err(cause)) => error::stream(&cause),
        Poll::Pending => error::stream(cause),
    }
}

impl Responder for H2Responder {
    fn inform(&mut self, mut head: ResponseHead) -> Result<(), StreamError> {
        let Some(respond) = &mut self.respond else { return Err(StreamError::Local(ErrorCode::Internal)) };
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(StreamError::Local(ErrorCode::Internal));
        }
        adit_http::hop_by_hop::strip(&mut head.headers, false);
        head.headers.remove(http::header::TE);
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
        match respond.send_informational(response) {
            Ok(()) => Ok(()),
            Err(cause) => Err(why_refused(respond, &cause)),
        }
    }

    fn respond(mut self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        let response = head::answer_to_wire(head, &self.kind)?;
        let Some(respond) = &mut self.respond else { return Err(StreamError::Local(ErrorCode::Internal)) };
        let stream = match respond.send_response(response, end) {
            Ok(stream) => stream,
            Err(cause) => return Err(why_refused(respond, &cause)),
        };
        self.respond = None;
        Ok(Box::new(H2Send::new(stream, self.guard.clone(), end)))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let Some(respond) = &mut self.respond else { return Poll::Pending };
        Poll::Ready(match ready!(respond.poll_reset(cx)) {
            Ok(reason) => StreamError::Reset(error::code(reason)),
            Err(cause) => error::stream(&cause),
        })
    }

    fn reset(mut self: Box<Self>, code: ErrorCode) {
        self.send_reset(code);
    }
}

impl Drop for H2Responder {
    fn drop(&mut self) {
        self.send_reset(ErrorCode::Internal);
    }
}
