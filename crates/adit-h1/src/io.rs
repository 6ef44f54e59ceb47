//! The two halves of a connection, each with the buffer in front of it. An idle half holds no memory but itself.

mod tcp;
mod writer;

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use adit_http::StreamError;
use adit_io::{ByteSource, Io, Prefixed, Source, Stream, TcpSource};
use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

pub(crate) use tcp::Watch;
pub(crate) use writer::{WriteHalf, Writer};

/// One read of heads and chunk framing, in bytes. Each worker has one such scratch buffer.
pub(crate) const SCRATCH: usize = 16 << 10;
/// Reads up to this size get a buffer of their own size, so that a small message never pins a large block.
const SMALL_READ: usize = 2 << 10;

thread_local! {
    static SCRATCH_BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// The socket or the half of a transport that is read from.
pub(crate) enum ReadHalf {
    Tcp(Arc<TcpStream>),
    Other(Box<dyn ByteSource>),
}

/// The reading half.
pub(crate) struct Reader {
    pub(crate) half: ReadHalf,
    /// Bytes that arrived and that nobody took yet.
    pub(crate) buf: BytesMut,
    /// The peer has ended its direction.
    pub(crate) eof: bool,
}

/// Takes a connection apart.
pub(crate) fn split(io: Io) -> (Reader, Writer) {
    if io.tcp_socket().is_some() {
        let (stream, first) = io.into_parts();
        return match stream {
            Stream::Tcp(socket) => {
                (Reader::new(ReadHalf::Tcp(socket.clone()), first), Writer::new(WriteHalf::Tcp(socket)))
            }
            Stream::Other(transport) => {
                let (source, sink) = transport.into_halves();
                (Reader::new(ReadHalf::Other(source), first), Writer::new(WriteHalf::Other(Arc::new(Mutex::new(sink)))))
            }
        };
    }
    let (source, sink) = io.into_halves();
    (Reader::new(ReadHalf::Other(source), Bytes::new()), Writer::new(WriteHalf::Other(Arc::new(Mutex::new(sink)))))
}

impl Reader {
    /// The first `length` bytes of the buffer: all that is there, as a rule.
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        if length == self.buf.len() {
            std::mem::take(&mut self.buf).freeze()
        } else {
            self.buf.split_to(length).freeze()
        }
    }

    /// The half as a source of its own, with what was read already in front.
    pub(crate) fn into_source(self) -> Source {
        let first = self.buf.freeze();
        match self.half {
            ReadHalf::Tcp(socket) => Source::Tcp(TcpSource::new(socket, first)),
            ReadHalf::Other(source) if first.is_empty() => Source::Other(source),
            ReadHalf::Other(source) => Source::Other(Box::new(Prefixed::new(first, source))),
        }
    }

    fn new(half: ReadHalf, first: Bytes) -> Self {
        Self { half, buf: BytesMut::from(first), eof: false }
    }

    /// The socket, where this is plain TCP.
    pub(crate) fn socket(&self) -> Option<&Arc<TcpStream>> {
        match &self.half {
            ReadHalf::Tcp(socket) => Some(socket),
            ReadHalf::Other(_) => None,
        }
    }

    /// Whether the end of the input may be a cut (see [`ByteSource::truncated`]).
    pub(crate) fn truncated(&self) -> bool {
        match &self.half {
            ReadHalf::Tcp(_) => false,
            ReadHalf::Other(source) => source.truncated(),
        }
    }

    /// Reads once, about `want` bytes, behind what the buffer holds. False is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<bool, StreamError>> {
        if self.eof {
            return Poll::Ready(Ok(false));
        }
        let buf = &mut self.buf;
        let before = buf.len();
        match &mut self.half {
            ReadHalf::Tcp(socket) if want <= SCRATCH => {
                let read = || {
                    with_scratch(|scratch| {
                        let n = tcp::read(socket, scratch)?;
                        let got = scratch.get(..n).unwrap_or_default();
                        // Memory that was shared with an earlier head is not worth a look.
                        if before == 0 {
                            *buf = BytesMut::from(got)
                        } else {
                            buf.extend_from_slice(got)
                        }
                        Ok(n)
                    })
                };
                ready!(tcp::poll_once(socket, cx, SCRATCH, read))?;
            }
            ReadHalf::Tcp(socket) => {
                let mut block = Vec::with_capacity(before + want);
                block.extend_from_slice(buf);
                let n = ready!(tcp::poll_read_spare(socket, cx, &mut block))?;
                if n <= SMALL_READ {
                    buf.extend_from_slice(block.get(before..).unwrap_or_default());
                } else {
                    *buf = BytesMut::from(Bytes::from(block));
                }
            }
            ReadHalf::Other(source) => match ready!(source.poll_chunk(cx, want)).transpose()? {
                Some(chunk) if buf.is_empty() => *buf = BytesMut::from(chunk),
                Some(chunk) => buf.extend_from_slice(&chunk),
                None => {}
            },
        }
        self.eof = buf.len() == before;
        Poll::Ready(Ok(!self.eof))
    }

    /// As [`Reader::poll_fill`], for who asks again and again while nothing comes. `waits` is whom the socket will wake: as
    /// long as its readiness has not changed, it need not be told once more.
    pub(crate) fn poll_fill_or_wait(
        &mut self,
        cx: &mut Context<'_>,
        waits: &mut Option<Waker>,
    ) -> Poll<Result<bool, StreamError>> {
        if let (ReadHalf::Tcp(socket), Some(known)) = (&self.half, &*waits)
            && known.will_wake(cx.waker())
            && !self.eof
            && !tcp::is_readable(socket)
        {
            return Poll::Pending;
        }
        let filled = self.poll_fill(cx, SCRATCH);
        // A task that has had its turn is put off without the socket being told.
        let told = filled.is_pending() && tokio::task::coop::has_budget_remaining();
        *waits = told.then(|| cx.waker().clone());
        filled
    }

    /// With an empty buffer: reads once, at most `max` bytes, straight to the caller. A source that chooses its own sizes
    /// may give more than `max`: the rest goes to the buffer.
    pub(crate) fn poll_direct(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.eof {
            return Poll::Ready(Ok(None));
        }
        let data = match &mut self.half {
            ReadHalf::Tcp(socket) => {
                let mut block = Vec::with_capacity(max);
                let n = ready!(tcp::poll_read_spare(socket, cx, &mut block))?;
                if n <= SMALL_READ && max > 2 * SMALL_READ {
                    Bytes::copy_from_slice(&block)
                } else {
                    Bytes::from(block)
                }
            }
            ReadHalf::Other(source) => {
                let mut data = ready!(source.poll_chunk(cx, max)).transpose()?.unwrap_or_default();
                if data.len() > max {
                    self.buf = BytesMut::from(data.split_off(max));
                }
                data
            }
        };
        self.eof = data.is_empty();
        Poll::Ready(Ok((!self.eof).then_some(data)))
    }
}

/// Lends the worker's scratch buffer; a second borrower at the same time would get one of its own.
fn with_scratch<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH_BUFFER.with(Cell::take).unwrap_or_else(|| vec![0u8; SCRATCH].into_boxed_slice());
    let result = use_it(&mut scratch);
    SCRATCH_BUFFER.with(|slot| slot.set(Some(scratch)));
    result
}

#[cfg(test)]
#[path = "io_tests.rs"]
mod tests;
