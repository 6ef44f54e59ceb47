//! The serving side of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{ConnError, IncomingStream, RecvStream, Responder, SendStream, ServerConn};
use adit_http::{ErrorCode, RequestKind, ResponseHead, StreamError};
use adit_io::Io;
use http::StatusCode;
use tokio::time::{Sleep, sleep};

use crate::ServerConfig;
use crate::conn::{Arrived, Core, Link};
use crate::error::{End, MISUSED, code};
use crate::frame::Fault;
use crate::head;
use crate::keepalive::{Keepalive, poll_dead};
use crate::recv::{Ended, H2Recv};
use crate::send::H2Send;
use crate::wire::Wire;

/// Serves HTTP/2 on `io`. The handshake happens in [`ServerConn::poll_accept`]; bytes read ahead are part of it.
pub fn server(io: Io, cfg: Arc<ServerConfig>) -> Server {
    let secure = io.info.tls.is_some();
    let link = Link::new(Core::new(&cfg.http2, true, secure, cfg.stats.clone()));
    let wire = Some(Box::new(Wire::new(io, link.clone(), true)));
    Server { wire, link, cfg, keepalive: None, head_timer: None, late: false }
}

/// One HTTP/2 connection from a client.
pub struct Server {
    /// `None` once the connection is over.
    wire: Option<Box<Wire>>,
    link: Arc<Link>,
    cfg: Arc<ServerConfig>,
    keepalive: Option<Keepalive>,
    /// Runs while a header block is under way, where `request_headers_timeout` is set.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// It ends for a header block that did not end in time.
    late: bool,
}

impl Server {
    /// Ready when a header block has been under way for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(timeout), Some(wire)) = (self.cfg.request_headers_timeout, &self.wire) else { return Poll::Pending };
        if !wire.in_header_block() {
            self.head_timer = None;
            return Poll::Pending;
        }
        self.head_timer.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx)
    }

    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(options), Some(wire)) = (self.cfg.http2.keepalive, &self.wire) else { return Poll::Pending };
        self.keepalive.get_or_insert_with(|| Keepalive::new(options));
        poll_dead(&mut self.keepalive, cx, &mut self.link.lock(), wire.octets_read)
    }

    fn over(&self, end: End) -> Option<Result<IncomingStream, ConnError>> {
        let (error, details) = match end.result() {
            Err(_) if self.late => (StreamError::TimedOut, "request_header_timeout"),
            Err(error) => error,
            Ok(()) => return None,
        };
        Some(Err(conn_error(error, details)))
    }

    fn accept(&self) -> Option<IncomingStream> {
        let Arrived { key, head, ended, meter } = self.link.lock().accept()?;
        let recv: Box<dyn RecvStream> =
            if ended { Box::new(Ended) } else { Box::new(H2Recv::new(self.link.clone(), key)) };
        let responder = H2Responder { half: Some(H2Send::new(self.link.clone(), key)), kind: head.kind.clone() };
        Some(IncomingStream { head, recv, responder: Box::new(responder), meter: Some(meter) })
    }
}

impl ServerConn for Server {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>> {
        loop {
            if let Some(stream) = self.accept() {
                return Poll::Ready(Some(Ok(stream)));
            }
            let Some(wire) = &mut self.wire else { return Poll::Ready(None) };
            if let Poll::Ready(end) = wire.poll(cx) {
                self.wire = None;
                return Poll::Ready(self.over(end));
            }
            if let Some(stream) = self.accept() {
                return Poll::Ready(Some(Ok(stream)));
            }
            if self.poll_late(cx).is_ready() {
                self.late = true;
                self.link.lock().fault(Fault(code::ENHANCE_YOUR_CALM));
                continue;
            }
            if self.poll_dead(cx).is_ready() {
                self.wire = None;
                return Poll::Ready(Some(Err(conn_error(StreamError::TimedOut, "http2_ping_timeout"))));
            }
            return Poll::Pending;
        }
    }

    fn drain(&mut self) {
        self.link.lock().drain();
    }

    /// The GOAWAY leaves when the connection is polled on, until it gives `None`.
    fn abort(&mut self, code: ErrorCode) {
        self.link.lock().finish(End::Asked(code.to_h2()));
    }

    fn live_streams(&self) -> usize {
        self.link.lock().live()
    }
}

fn conn_error(error: StreamError, details: &'static str) -> ConnError {
    ConnError { error, answered: None, details }
}

struct H2Responder {
    /// Taken when the answer is given. Dropped before, it resets the stream.
    half: Option<H2Send>,
    kind: RequestKind,
}

impl Responder for H2Responder {
    fn inform(&mut self, mut head: ResponseHead) -> Result<(), StreamError> {
        let Some(half) = &mut self.half else { return Err(MISUSED) };
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(MISUSED);
        }
        adit_http::hop_by_hop::strip(&mut head.headers, false);
        head.headers.remove(http::header::TE);
        half.respond(&head, false)
    }

    fn respond(mut self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        let head = head::answer_to_wire(head, &self.kind)?;
        let half = self.half.take().ok_or(MISUSED)?;
        half.respond(&head, end)?;
        Ok(Box::new(half))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let Some(half) = &mut self.half else { return Poll::Pending };
        Poll::Ready(ready!(half.poll_cancelled(cx)))
    }

    fn reset(mut self: Box<Self>, code: ErrorCode) {
        if let Some(half) = self.half.take() {
            half.reset_now(code);
        }
    }
}
