//! The requesting side of a connection.

mod pending;

use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::{Capabilities, ClientConn, Meter, OutgoingStream, SendStream};
use adit_http::{ErrorCode, RequestHead, StreamError};
use adit_io::{ByteSink, Io};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use tokio::net::TcpStream;

use crate::config::ClientConfig;
use crate::encode::{self, Out};
use crate::io::{self, Reader, SCRATCH, Writer};
use crate::response::Asked;
use crate::send::Sender;
use crate::slot::{Shared, Side, Slot};
use pending::Pending;

/// The requesting side of one HTTP/1.1 connection: one exchange at a time, driven by the streams themselves.
///
/// It may be dropped while a stream lives; the stream goes on. [`ClientConn::poll_ready`] gives an error as soon as no
/// further exchange is possible: `Stopped` when the idle peer closed (`Stopped(NoError)`: with an end), `Local(NoError)` when
/// the last exchange was the last one (`connection: close`), another `Local` when it was given up on this side or is a tunnel,
/// `Protocol` when the idle peer sent something, anything else when the peer cut the exchange short.
pub struct Client {
    cfg: Arc<ClientConfig>,
    slot: Arc<Slot>,
    /// Here while no exchange is on.
    reader: Option<Reader>,
    drained: bool,
    error: Option<StreamError>,
}

impl Client {
    pub(crate) fn new(io: Io, cfg: Arc<ClientConfig>) -> Self {
        let (reader, writer) = io::split(io);
        Self { cfg, slot: Arc::new(Slot::new(None, writer)), reader: Some(reader), drained: false, error: None }
    }

    /// Takes the halves of a finished exchange back. Ready once the connection is idle.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.reader.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut shared = self.slot.lock();
        if shared.recv == Side::Cut || shared.send == Side::Cut {
            let error = match (shared.lost, shared.aborted) {
                (Some(error), _) => error,
                (None, Some(_)) => StreamError::Local(ErrorCode::Cancel),
                (None, None) if shared.reader.as_ref().is_some_and(|reader| reader.eof) => StreamError::Truncated,
                (None, None) => StreamError::Local(ErrorCode::Cancel),
            };
            return Poll::Ready(Err(error));
        }
        if shared.last {
            if shared.reader.as_ref().is_some_and(|reader| reader.eof) {
                return Poll::Ready(Err(StreamError::Stopped(ErrorCode::NoError)));
            }
            let code = if shared.tunnel { ErrorCode::Cancel } else { ErrorCode::NoError };
            return Poll::Ready(Err(StreamError::Local(code)));
        }
        if shared.recv == Side::Open || shared.send == Side::Open {
            Shared::wait(&mut shared.conn, cx.waker());
            return Poll::Pending;
        }
        self.reader = shared.reader.take();
        Poll::Ready(if self.reader.is_some() { Ok(()) } else { Err(StreamError::Local(ErrorCode::NoError)) })
    }

    /// Writes a head, and sends it where nothing follows it. Says what delimits the body, and whether all has left or why it never
    /// will.
    fn write(
        &self,
        writer: Option<&mut Writer>,
        head: &RequestHead,
        end: bool,
        meter: &Meter,
    ) -> Result<(Out, Result<bool, StreamError>), StreamError> {
        let writer = writer.ok_or(StreamError::Local(ErrorCode::Internal))?;
        let body = match encode::request(writer.room(), head, end, &self.cfg) {
            Ok(body) => body,
            Err(error) => {
                writer.clear();
                return Err(error);
            }
        };
        let (size, fields) = encode::measure(&writer.out);
        meter.sent(size, fields);
        if end && !head.kind.is_tunnel() {
            let drained = writer.try_drain();
            return Ok((body, drained.map(|()| writer.out.is_empty())));
        }
        Ok((body, Ok(false)))
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let Some(reader) = &mut self.reader else { return Poll::Ready(Err(StreamError::Local(ErrorCode::NoError))) };
        if !reader.buf.is_empty() {
            return Poll::Ready(Err(StreamError::Protocol("http1.codec_error")));
        }
        reader.buf = BytesMut::new();
        match reader.poll_fill(cx, SCRATCH) {
            Poll::Pending => Poll::Ready(Ok(())),
            Poll::Ready(Ok(true)) => Poll::Ready(Err(StreamError::Protocol("http1.codec_error"))),
            Poll::Ready(Ok(false)) => Poll::Ready(Err(StreamError::Stopped(ErrorCode::NoError))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(StreamError::Stopped(error.code()))),
        }
    }
}

impl ClientConn for Client {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Capabilities, StreamError>> {
        if self.drained {
            self.error.get_or_insert(StreamError::Local(ErrorCode::NoError));
        }
        if let Some(error) = self.error {
            return Poll::Ready(Err(error));
        }
        let settled = std::task::ready!(self.poll_settled(cx));
        let idle = settled.and_then(|()| match self.poll_idle(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        });
        match idle {
            Ok(()) => Poll::Ready(Ok(Capabilities { open: 1, extended_connect: true, version: Version::HTTP_11 })),
            Err(error) => {
                self.error = Some(error);
                self.reader = None;
                Poll::Ready(Err(error))
            }
        }
    }

    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Some(mut reader) = self.reader.take() else { return Err(StreamError::Local(ErrorCode::Refused)) };
        let tunnel = head.kind.is_tunnel();
        let ended = end && !tunnel;
        let meter = Arc::new(Meter::default());
        let mut shared = self.slot.lock();
        let (body, sent) = match self.write(shared.writer.as_mut(), head, end, &meter) {
            Ok(written) => written,
            Err(error) => {
                drop(shared);
                self.reader = Some(reader);
                return Err(error);
            }
        };
        shared.recv = Side::Open;
        shared.send = if ended { Side::Done } else { Side::Open };
        shared.last = tunnel;
        shared.tunnel = tunnel;
        let sent = sent.unwrap_or_else(|error| {
            shared.last = true;
            shared.lose(error);
            shared.writer = None;
            false
        });
        let handle = shared.writer.as_ref().filter(|writer| writer.socket().is_none()).map(Writer::handle);
        drop(shared);
        let send: Box<dyn SendStream> = if ended {
            Box::new(Nothing)
        } else {
            let (case, trailers) = (self.cfg.header_case, self.cfg.enable_trailers);
            let mut sender = Sender::new(self.slot.clone(), body, case, trailers, false, meter.clone());
            if tunnel {
                sender.keep_socket(reader.socket().cloned());
            }
            Box::new(ClientSend(sender))
        };
        reader.buf = BytesMut::new();
        let asked = Asked { head: head.method == Method::HEAD, kind: head.kind.clone() };
        let pending = Pending::new(reader, handle, self.slot.clone(), *self.cfg, asked, meter.clone(), sent);
        Ok(OutgoingStream { send, response: Box::new(pending), meter: Some(meter) })
    }

    fn live_streams(&self) -> usize {
        if self.reader.is_some() || self.error.is_some() {
            return 0;
        }
        let shared = self.slot.lock();
        usize::from(shared.recv == Side::Open || shared.send == Side::Open)
    }

    fn drain(&mut self) {
        self.drained = true;
        self.slot.update(|shared| shared.last = true);
    }
}

/// The body of a request that has none, as most: there is nothing to keep for it.
struct Nothing;

impl ByteSink for Nothing {
    fn poll_send(&mut self, _cx: &mut Context<'_>, data: &mut Bytes, _end: bool) -> Poll<Result<(), StreamError>> {
        Poll::Ready(if data.is_empty() { Ok(()) } else { Err(StreamError::Local(ErrorCode::StreamClosed)) })
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, _cx: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Pending
    }

    fn reset(&mut self, _code: ErrorCode) {}
}

impl SendStream for Nothing {
    fn poll_send_trailers(&mut self, _cx: &mut Context<'_>, _trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }
}

/// The request's body. A tunnel opened with `end` ends this direction only when its owner says so after acceptance: a FIN
/// straight behind the head of a CONNECT would look like a client that left.
struct ClientSend(Sender);

impl ByteSink for ClientSend {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        self.0.poll_send(cx, data, end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.0.poll_flush(cx)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.poll_stopped(cx)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.0.reset(code);
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        self.0.as_tcp()
    }
}

impl SendStream for ClientSend {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.0.poll_trailers(cx, trailers)
    }

    fn detach(&mut self, cx: &mut Context<'_>) -> Option<adit_io::Sink> {
        self.0.detach(cx)
    }
}
