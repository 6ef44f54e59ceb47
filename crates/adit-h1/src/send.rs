//! The sending half of a stream, for both sides.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::Meter;
use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use http::HeaderMap;
use tokio::net::TcpStream;

use crate::config::HeaderCase;
use crate::encode::{self, Out};
use crate::io::{Watch, WriteHalf, Writer};
use crate::slot::{Side, Slot};

const OVERRUN: StreamError = StreamError::Local(ErrorCode::Internal);

/// A body that is being sent, or a tunnel's direction to the peer. Owns the writer from its first use to its end.
pub(crate) struct Sender {
    slot: Arc<Slot>,
    writer: Option<Writer>,
    out: Out,
    /// Bytes that the open chunk still owes.
    chunk: usize,
    /// The last chunk was written.
    last_chunk: bool,
    ended: bool,
    error: Option<StreamError>,
    case: HeaderCase,
    trailers: bool,
    /// What a half does that is dropped before its end: a reset at once, or when the connection closes.
    reset_on_drop: bool,
    /// Counts its framing.
    meter: Arc<Meter>,
    /// The socket of a tunnel over plain TCP, where the writer stayed in the slot or went back there with the end.
    socket: Option<Arc<TcpStream>>,
    /// The head is known to have left the writer in the slot: raw bytes may follow it past that writer.
    head_left: Cell<bool>,
    watch: Option<Watch>,
}

impl Sender {
    /// A half whose writer waits in the slot. `reset_on_drop`: dropped before its end, it resets the connection at once;
    /// otherwise when the connection closes, so that an answer can still be read.
    pub(crate) fn new(
        slot: Arc<Slot>,
        out: Out,
        case: HeaderCase,
        trailers: bool,
        reset_on_drop: bool,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            slot,
            writer: None,
            out,
            chunk: 0,
            last_chunk: false,
            ended: false,
            error: None,
            case,
            trailers,
            reset_on_drop,
            meter,
            socket: None,
            head_left: Cell::new(false),
            watch: None,
        }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Takes the writer, and what delimits the body from here on.
    pub(crate) fn start(&mut self, writer: Option<Writer>, out: Out) {
        self.writer = writer;
        self.out = out;
    }

    /// Keeps the socket of a tunnel at hand for [`Sender::as_tcp`].
    pub(crate) fn keep_socket(&mut self, socket: Option<Arc<TcpStream>>) {
        self.socket = socket;
    }

    /// There is nothing to send, or nothing any more.
    pub(crate) fn set_ended(&mut self) {
        self.ended = true;
    }

    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        end: bool,
    ) -> Poll<Result<(), StreamError>> {
        if let Some(error) = self.error {
            return Poll::Ready(Err(error));
        }
        if self.ended {
            return Poll::Ready(if data.is_empty() {
                Ok(())
            } else {
                Err(StreamError::Local(ErrorCode::StreamClosed))
            });
        }
        let result = match self.poll_body(cx, data, end) {
            Poll::Ready(result) => result,
            Poll::Pending if self.writer.as_ref().is_some_and(|writer| writer.socket().is_some()) => {
                return Poll::Pending;
            }
            Poll::Pending => Err(ready!(self.slot.park(1, cx))),
        };
        self.settle(cx, result, end)
    }

    pub(crate) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
        trailers: &HeaderMap,
    ) -> Poll<Result<(), StreamError>> {
        if self.error.is_none()
            && !self.ended
            && self.out == Out::Chunked
            && self.chunk == 0
            && !self.last_chunk
            && self.trailers
        {
            let case = self.case;
            if let Some(writer) = self.writer() {
                let before = writer.out.len();
                encode::last_chunk(writer.room(), case, Some(trailers));
                let size = writer.out.len() - before;
                self.meter.sent(size, 0);
                self.last_chunk = true;
            }
        }
        self.poll_send(cx, &mut Bytes::new(), true)
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Some(error) = self.error {
            return Poll::Ready(Err(error));
        }
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let result = match self.writer() {
            Some(writer) => ready!(writer.poll_flush(cx)),
            None => Ok(()),
        };
        self.settle(cx, result, false)
    }

    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if let Some(error) = self.error {
            return Poll::Ready(error);
        }
        if self.ended {
            return Poll::Pending;
        }
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(error);
        }
        let Some(writer) = &mut self.writer else { return Poll::Pending };
        let Some(socket) = writer.socket() else { return writer.poll_stopped(cx) };
        let watch = self.watch.get_or_insert_with(|| Watch::new(socket));
        ready!(watch.poll(cx));
        let error = match socket.take_error() {
            Ok(Some(error)) | Err(error) => error.into(),
            Ok(None) => StreamError::Reset(ErrorCode::Cancel),
        };
        self.watch = None;
        let _ = self.settle(cx, Err(error), false);
        Poll::Ready(self.error.unwrap_or(error))
    }

    /// The connection's writing half, once nothing of the head waits in front of it; see `SendStream::detach`.
    pub(crate) fn detach(&mut self, cx: &mut Context<'_>) -> Option<adit_io::Sink> {
        if self.out != Out::Raw || self.ended || self.error.is_some() {
            return None;
        }
        match self.writer()?.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                // Whoever sends next is told.
                let _ = self.settle(cx, Err(error), false);
                return None;
            }
            Poll::Pending => return None,
        }
        let half = self.writer.take()?.handle();
        self.ended = true;
        self.socket = None;
        self.slot.update(|shared| shared.send = Side::Done);
        Some(half.into_sink())
    }

    pub(crate) fn as_tcp(&self) -> Option<&TcpStream> {
        if self.out != Out::Raw || self.ended || self.error.is_some() {
            return None;
        }
        match &self.writer {
            Some(writer) if writer.out.is_empty() => writer.socket().map(|socket| &**socket),
            Some(_) => None,
            None => self.socket.as_deref().filter(|_| self.head_left()),
        }
    }

    /// Whether nothing waits in the slot's writer. A peer may accept a tunnel before it has read the whole request.
    fn head_left(&self) -> bool {
        if !self.head_left.get() {
            let waits = self.slot.lock().writer.as_ref().is_some_and(|writer| !writer.out.is_empty());
            self.head_left.set(!waits);
        }
        self.head_left.get()
    }

    /// Ends the connection with a reset, unless this direction of a message has ended. That of a tunnel is reset behind its
    /// end too: the peer must not wait for a tunnel that broke.
    pub(crate) fn reset(&mut self, code: ErrorCode) {
        if self.ended
            && let Some(socket) = self.socket.take()
        {
            WriteHalf::Tcp(socket).reset(code);
        }
        if self.ended || self.error.is_some() {
            return;
        }
        let error = StreamError::Local(code);
        self.error = Some(error);
        self.watch = None;
        let mine = self.writer.take();
        self.slot.update(|shared| {
            if let Some(mut writer) = mine.or_else(|| shared.writer.take()) {
                writer.reset(code);
            }
            shared.send = Side::Cut;
            shared.last = true;
            shared.aborted.get_or_insert(error);
        });
    }

    fn writer(&mut self) -> Option<&mut Writer> {
        if self.writer.is_none() {
            self.writer = self.slot.lock().writer.take();
        }
        self.writer.as_mut()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        if self.writer().is_none() {
            return Poll::Ready(Err(StreamError::Stopped(ErrorCode::Cancel)));
        }
        let Some(writer) = &mut self.writer else { return Poll::Ready(Err(OVERRUN)) };
        match &mut self.out {
            Out::Nothing if !data.is_empty() => return Poll::Ready(Err(OVERRUN)),
            Out::Nothing => {}
            Out::Discard => data.clear(),
            Out::Length(left) => {
                let before = data.len();
                if before as u64 > *left {
                    return Poll::Ready(Err(OVERRUN));
                }
                let result = writer.poll_parts(cx, data, before, b"");
                *left -= (before - data.len()) as u64;
                ready!(result)?;
                if end && *left > 0 {
                    return Poll::Ready(Err(OVERRUN));
                }
            }
            Out::UntilClose | Out::Raw => {
                let n = data.len();
                ready!(writer.poll_parts(cx, data, n, b""))?;
            }
            Out::Chunked => ready!(self.poll_chunks(cx, data, end))?,
        }
        let Some(writer) = &mut self.writer else { return Poll::Ready(Err(OVERRUN)) };
        match (end, self.out) {
            (true, Out::Raw) => writer.poll_end(cx),
            (true, _) => writer.poll_flush(cx),
            (false, _) => writer.poll_drain(cx),
        }
    }

    fn poll_chunks(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        let Some(writer) = &mut self.writer else { return Poll::Ready(Err(OVERRUN)) };
        while !data.is_empty() {
            if self.last_chunk {
                return Poll::Ready(Err(OVERRUN));
            }
            if self.chunk == 0 {
                let before = writer.out.len();
                encode::chunk_head(writer.room(), data.len());
                // And the line's end behind its data.
                self.meter.sent(writer.out.len() - before + 2, 0);
                self.chunk = data.len();
            }
            let n = self.chunk.min(data.len());
            let closes = n == self.chunk;
            let ends = closes && end && n == data.len();
            let tail: &[u8] = match (closes, ends) {
                (_, true) => b"\r\n0\r\n\r\n",
                (true, _) => b"\r\n",
                _ => b"",
            };
            let before = data.len();
            let result = writer.poll_parts(cx, data, n, tail);
            let taken = before - data.len();
            self.chunk -= taken;
            if ends && taken == n {
                self.last_chunk = true;
                self.meter.sent(b"0\r\n\r\n".len(), 0);
            }
            ready!(result)?;
        }
        if end && !self.last_chunk {
            if self.chunk > 0 {
                return Poll::Ready(Err(OVERRUN));
            }
            encode::last_chunk(writer.room(), self.case, None);
            self.meter.sent(b"0\r\n\r\n".len(), 0);
            self.last_chunk = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands the writer back at the end; an error ends this half, and with it the connection's use.
    fn settle(
        &mut self,
        cx: &Context<'_>,
        result: Result<(), StreamError>,
        end: bool,
    ) -> Poll<Result<(), StreamError>> {
        match result {
            Ok(()) if end => {
                self.ended = true;
                self.watch = None;
                let writer = self.writer.take();
                if self.out == Out::Raw {
                    self.socket = writer.as_ref().and_then(Writer::socket).cloned();
                }
                self.slot.update_in(cx, |shared| {
                    shared.send = Side::Done;
                    shared.writer = writer;
                });
            }
            Ok(()) => {}
            Err(error) => {
                let mut error = self.slot.lock().aborted.unwrap_or(error);
                if error == OVERRUN {
                    self.reset(ErrorCode::Internal);
                    error = OVERRUN;
                }
                self.error = Some(error);
                let writer = self.writer.take();
                self.slot.update(|shared| {
                    shared.send = Side::Cut;
                    shared.last = true;
                    shared.lose(error);
                });
                if let Some(mut writer) = writer {
                    writer.reset_at_close();
                }
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.ended || self.error.is_some() {
            return;
        }
        if self.reset_on_drop {
            self.reset(ErrorCode::Cancel);
            return;
        }
        let mine = self.writer.take();
        self.slot.update(|shared| {
            shared.send = Side::Cut;
            shared.last = true;
            match (mine, &mut shared.writer) {
                (Some(mut writer), _) => writer.reset_at_close(),
                // The head may have to leave yet.
                (None, Some(writer)) => writer.set_abortive(),
                (None, None) => {}
            }
        });
    }
}
