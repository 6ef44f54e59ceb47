//! The answer to one request: first how to give it, then its body.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{Meter, Responder, SendStream};
use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError};
use adit_io::ByteSink;
use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use tokio::net::TcpStream;

use crate::config::{HeaderCase, ServerConfig};
use crate::encode::{self, Answering, Out};
use crate::io::Watch;
use crate::send::Sender;
use crate::slot::{Shared, Side, Slot};

/// Interim answers that a client does not read are queued up to this many bytes.
const MAX_QUEUE: usize = 64 << 10;

impl Answering {
    pub(crate) fn to(head: &RequestHead, keep: bool) -> Self {
        Self {
            upgrade: matches!(head.kind, RequestKind::Upgrade(_)),
            connect: matches!(head.kind, RequestKind::Connect(_)),
            head: head.method == Method::HEAD,
            old: head.version == Version::HTTP_10,
            keep,
        }
    }
}

pub(super) struct ServerStream {
    sender: Sender,
    case: HeaderCase,
    to: Answering,
    watch: Option<Watch>,
}

impl ServerStream {
    pub(super) fn new(slot: Arc<Slot>, cfg: &ServerConfig, to: Answering, meter: Arc<Meter>) -> Self {
        let sender = Sender::new(slot, Out::Nothing, cfg.header_case, cfg.enable_trailers, true, meter);
        Self { sender, case: cfg.header_case, to, watch: None }
    }

    /// Queues the head and hands the writer to whoever sends the body; before its end the connection has nothing to do.
    fn answer(&mut self, head: &ResponseHead, end: bool) -> Result<(), StreamError> {
        let mut shared = self.sender.slot().lock();
        let gone = shared.aborted.or(shared.lost).unwrap_or(StreamError::Stopped(ErrorCode::Cancel));
        self.to.keep &= !shared.last && shared.recv != Side::Cut;
        let writer = shared.writer.as_mut().ok_or(gone)?;
        let before = writer.out.len();
        let sent = encode::response(writer.room(), head, end, self.to, self.case)?;
        let (size, fields) = encode::measure(writer.out.get(before..).unwrap_or_default());
        self.sender.meter().sent(size, fields);
        let (over, tunnel) = (end || sent.body == Out::Nothing, sent.body == Out::Raw);
        if (over || tunnel)
            && let Err(error) = writer.try_drain()
        {
            shared.lose(error);
        }
        shared.last |= !sent.keep;
        shared.tunnel = tunnel;
        if over {
            shared.send = Side::Done;
            Shared::wake_conn(shared);
            self.sender.set_ended();
        } else {
            let writer = shared.writer.take();
            drop(shared);
            self.sender.start(writer, sent.body);
        }
        Ok(())
    }
}

impl Responder for ServerStream {
    fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        if self.to.old {
            return Ok(());
        }
        let case = self.case;
        self.sender.slot().update(|shared| {
            let gone = shared.aborted.or(shared.lost).unwrap_or(StreamError::Stopped(ErrorCode::Cancel));
            let Some(writer) = &mut shared.writer else { return Err(gone) };
            if writer.out.len() > MAX_QUEUE {
                return Err(StreamError::TooLarge("http1.response_flood"));
            }
            let before = writer.out.len();
            encode::interim(writer.room(), &head, case)?;
            let (size, fields) = encode::measure(writer.out.get(before..).unwrap_or_default());
            self.sender.meter().sent(size, fields);
            if let Err(error) = writer.try_drain() {
                shared.lose(error);
            }
            Ok(())
        })
    }

    fn respond(mut self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        self.watch = None;
        // On an error the drop of self resets the connection.
        self.answer(&head, end)?;
        Ok(self)
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut shared = self.sender.slot().lock();
        if let Some(error) = shared.aborted.or(shared.lost) {
            return Poll::Ready(error);
        }
        Shared::wait(&mut shared.canceller, cx.waker());
        if shared.watched {
            return Poll::Pending;
        }
        let Some(writer) = &mut shared.writer else { return Poll::Pending };
        let Some(socket) = writer.socket() else { return writer.poll_stopped(cx) };
        ready!(self.watch.get_or_insert_with(|| Watch::new(socket)).poll(cx));
        self.watch = None;
        Poll::Ready(StreamError::Reset(ErrorCode::Cancel))
    }

    fn reset(mut self: Box<Self>, code: ErrorCode) {
        self.sender.reset(code);
    }
}

impl ByteSink for ServerStream {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        self.sender.poll_send(cx, data, end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.sender.poll_flush(cx)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.sender.poll_stopped(cx)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.sender.reset(code);
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        self.sender.as_tcp()
    }
}

impl SendStream for ServerStream {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.sender.poll_trailers(cx, trailers)
    }

    fn detach(&mut self, cx: &mut Context<'_>) -> Option<adit_io::Sink> {
        self.sender.detach(cx)
    }
}
