//! The writing half: heads and small bodies gather in front of one write, large bodies go beside them in a writev.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSink, Sink, Spliced, TcpSink};
use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::tcp;

/// Bodies up to this size are copied behind their head, so that both leave in one write.
const COALESCE: usize = 4 << 10;
/// Bytes gathered at most before more is taken: what is queued so far leaves first.
const MAX_GATHERED: usize = 64 << 10;
/// Room for a head at first.
const ROOM: usize = 1 << 10;
/// The largest buffer that a worker keeps for the next head; it keeps one.
const MAX_SPARE: usize = 4 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The socket or the half of a transport that is written to.
#[derive(Clone)]
pub(crate) enum WriteHalf {
    Tcp(Arc<TcpStream>),
    /// Shared, so that a connection can be reset by those who do not own its sending half.
    Other(Arc<Mutex<Box<dyn ByteSink>>>),
}

impl WriteHalf {
    /// A reset at once.
    pub(crate) fn reset(&self, code: ErrorCode) {
        match self {
            Self::Tcp(socket) => tcp::reset_now(socket),
            Self::Other(sink) => with(sink, |sink| sink.reset(code)),
        }
    }

    /// The half as a sink of its own.
    pub(crate) fn into_sink(self) -> Sink {
        match self {
            Self::Tcp(socket) => Sink::Tcp(TcpSink::new(socket)),
            Self::Other(sink) => Sink::Other(match Arc::try_unwrap(sink) {
                Ok(sink) => sink.into_inner().unwrap_or_else(PoisonError::into_inner),
                Err(shared) => Box::new(SharedSink(shared)),
            }),
        }
    }
}

/// A half of which the connection held a handle when the tunnel left it.
struct SharedSink(Arc<Mutex<Box<dyn ByteSink>>>);

impl ByteSink for SharedSink {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        with(&self.0, |sink| sink.poll_send(cx, data, end))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        with(&self.0, |sink| sink.poll_flush(cx))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        with(&self.0, |sink| sink.poll_stopped(cx))
    }

    fn reset(&mut self, code: ErrorCode) {
        with(&self.0, |sink| sink.reset(code));
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        with(&self.0, |sink| sink.poll_splice(cx))
    }

    fn send_spliced(&mut self, data: Spliced) -> Result<(), StreamError> {
        with(&self.0, |sink| sink.send_spliced(data))
    }
}

fn with<T>(sink: &Mutex<Box<dyn ByteSink>>, use_it: impl FnOnce(&mut dyn ByteSink) -> T) -> T {
    use_it(&mut **sink.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The writing half. Dropped with bytes that did not leave, it makes the close a reset.
pub(crate) struct Writer {
    half: WriteHalf,
    /// Bytes to be sent before anything else; their memory is given up when they are gone.
    pub(crate) out: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(half: WriteHalf) -> Self {
        Self { half, out: Vec::new() }
    }

    /// Something to reset the connection with, whoever owns this writer by then.
    pub(crate) fn handle(&self) -> WriteHalf {
        self.half.clone()
    }

    /// The socket, where this is plain TCP.
    pub(crate) fn socket(&self) -> Option<&Arc<TcpStream>> {
        match &self.half {
            WriteHalf::Tcp(socket) => Some(socket),
            WriteHalf::Other(_) => None,
        }
    }

    /// What gathers, with room for a head.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = SPARE.take();
            self.out.reserve(ROOM);
        }
        &mut self.out
    }

    /// Gives up what has gathered, and its memory.
    pub(crate) fn clear(&mut self) {
        let mut out = mem::take(&mut self.out);
        if (1..=MAX_SPARE).contains(&out.capacity()) {
            out.clear();
            SPARE.set(out);
        }
    }

    /// Sends what has gathered.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &self.half {
            WriteHalf::Tcp(socket) => ready!(drain_tcp(socket, cx, &mut self.out))?,
            WriteHalf::Other(sink) => ready!(with(sink, |sink| send_gathered(sink, cx, &mut self.out)))?,
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    /// Sends what has gathered, the first `n` bytes of `data`, and `tail`.
    ///
    /// Pending: bytes were taken from the front of `data`; once all `n` are, the tail is taken too and gathered.
    pub(crate) fn poll_parts(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        mut n: usize,
        tail: &[u8],
    ) -> Poll<Result<(), StreamError>> {
        if self.out.len() > MAX_GATHERED && n > 0 {
            ready!(self.poll_drain(cx))?;
        }
        n = n.min(data.len());
        let alone = self.out.is_empty() && tail.is_empty();
        let split = n < data.len() && matches!(self.half, WriteHalf::Other(_));
        if split || (n <= COALESCE && !alone) {
            self.out.reserve(n + tail.len());
            self.out.extend_from_slice(data.get(..n).unwrap_or_default());
            self.out.extend_from_slice(tail);
            data.advance(n);
            return self.poll_drain(cx);
        }
        match &self.half {
            WriteHalf::Tcp(socket) => ready!(send_tcp(socket, cx, &mut self.out, data, n, tail))?,
            WriteHalf::Other(sink) => {
                let out = &mut self.out;
                ready!(with(sink, |sink| {
                    ready!(send_gathered(sink, cx, out))?;
                    if n > 0 {
                        let result = sink.poll_send(cx, data, false);
                        if data.is_empty() {
                            out.extend_from_slice(tail);
                        }
                        ready!(result)?;
                        ready!(send_gathered(sink, cx, out))?;
                    }
                    Poll::Ready(Ok::<(), StreamError>(()))
                }))?;
            }
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    /// Sends what has gathered as far as that is possible right now, where this is plain TCP. What is left is for the next poll;
    /// so is an error, but the kernel says only once that the peer has reset the connection.
    pub(crate) fn try_drain(&mut self) -> Result<(), StreamError> {
        if let WriteHalf::Tcp(socket) = &self.half {
            while !self.out.is_empty() {
                match socket.try_write(&self.out) {
                    Ok(n) => remove(&mut self.out, n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            self.clear();
        }
        Ok(())
    }

    /// Sends what has gathered and sees it leave.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_drain(cx))?;
        match &self.half {
            WriteHalf::Tcp(_) => Poll::Ready(Ok(())),
            WriteHalf::Other(sink) => with(sink, |sink| sink.poll_flush(cx)),
        }
    }

    /// Sends what has gathered, then the end of this direction.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_drain(cx))?;
        match &self.half {
            WriteHalf::Tcp(socket) => Poll::Ready(tcp::shutdown_write(socket).map_err(Into::into)),
            WriteHalf::Other(sink) => with(sink, |sink| {
                ready!(sink.poll_send(cx, &mut Bytes::new(), true))?;
                sink.poll_flush(cx)
            }),
        }
    }

    /// For a transport that is not plain TCP: ready when its peer reads no more.
    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &self.half {
            WriteHalf::Tcp(_) => Poll::Pending,
            WriteHalf::Other(sink) => with(sink, |sink| sink.poll_stopped(cx)),
        }
    }

    /// A reset at once.
    pub(crate) fn reset(&mut self, code: ErrorCode) {
        self.clear();
        self.half.reset(code);
    }

    /// A reset when the last owner of the connection lets go of it, so that what is still to be read can be read.
    pub(crate) fn reset_at_close(&mut self) {
        self.clear();
        self.set_abortive();
    }

    /// As [`Writer::reset_at_close`], and what has gathered may still leave.
    pub(crate) fn set_abortive(&self) {
        if let WriteHalf::Tcp(socket) = &self.half {
            tcp::set_abortive(socket);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.out.is_empty() {
            self.reset_at_close();
        }
    }
}

/// A socket takes a head at once, as a rule: it is asked for its readiness only when it did not.
fn drain_tcp(socket: &TcpStream, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), StreamError>> {
    while !out.is_empty() {
        let n = match socket.try_write(out) {
            Ok(n) => n,
            Err(error) if tcp::is_again(&error) => ready!(tcp::poll_write(socket, cx, &[IoSlice::new(out)]))?,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        remove(out, n);
    }
    Poll::Ready(Ok(()))
}

/// Removes the first `n` bytes: all of them, as a rule.
fn remove(out: &mut Vec<u8>, n: usize) {
    if n >= out.len() {
        out.clear();
    } else {
        out.drain(..n);
    }
}

fn send_tcp(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    out: &mut Vec<u8>,
    data: &mut Bytes,
    mut n: usize,
    mut tail: &[u8],
) -> Poll<Result<(), StreamError>> {
    while n > 0 || !out.is_empty() || !tail.is_empty() {
        let body = data.get(..n).unwrap_or_default();
        let sent = if body.is_empty() && tail.is_empty() {
            ready!(tcp::poll_write(socket, cx, &[IoSlice::new(out)]))?
        } else if out.is_empty() && tail.is_empty() {
            ready!(tcp::poll_write(socket, cx, &[IoSlice::new(body)]))?
        } else {
            ready!(tcp::poll_write(socket, cx, &[IoSlice::new(out), IoSlice::new(body), IoSlice::new(tail)]))?
        };
        let from_out = sent.min(out.len());
        remove(out, from_out);
        let from_data = (sent - from_out).min(n);
        data.advance(from_data);
        n -= from_data;
        if n == 0 {
            // Out is empty here, or nothing of the data and the tail went.
            out.extend_from_slice(tail.get(sent - from_out - from_data..).unwrap_or_default());
            tail = b"";
        }
    }
    Poll::Ready(Ok(()))
}

fn send_gathered(sink: &mut dyn ByteSink, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), StreamError>> {
    if out.is_empty() {
        return Poll::Ready(Ok(()));
    }
    let mut gathered = Bytes::from(mem::take(out));
    let result = sink.poll_send(cx, &mut gathered, false);
    *out = Vec::from(gathered);
    result
}
