//! The ends of a pair.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSink, ByteSource, Spliced, Transport};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Limits;
use crate::queue::Queue;

/// Two linked streams; each direction holds at most what `limits` say.
pub fn pair(limits: Limits) -> (InternalStream, InternalStream) {
    let link = Arc::new([Queue::new(limits), Queue::new(limits)]);
    (InternalStream::new(link.clone(), End::First), InternalStream::new(link, End::Second))
}

/// Both directions of a pair: the first is written by the first end.
type Link = [Queue; 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Second,
}

fn incoming(link: &Link, end: End) -> &Queue {
    let [to_second, to_first] = link;
    if end == End::First { to_first } else { to_second }
}

fn outgoing(link: &Link, end: End) -> &Queue {
    let [to_second, to_first] = link;
    if end == End::First { to_second } else { to_first }
}

/// One end of a pair: reads and writes by copying, and gives halves that do not.
#[derive(Debug)]
pub struct InternalStream {
    source: InternalSource,
    sink: InternalSink,
}

impl InternalStream {
    fn new(link: Arc<Link>, end: End) -> Self {
        Self {
            source: InternalSource { link: link.clone(), end, over: false },
            sink: InternalSink { link, end, over: false },
        }
    }

    /// The two halves.
    pub fn split(self) -> (InternalSource, InternalSink) {
        (self.source, self.sink)
    }
}

impl Transport for InternalStream {
    fn abort(&mut self) {
        self.sink.reset(ErrorCode::Cancel);
        self.source.stop(ErrorCode::Cancel);
    }

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        (Box::new(self.source), Box::new(self.sink))
    }

    fn unread(&mut self, bytes: Bytes) -> Option<Bytes> {
        // An end that was read already is read again behind them.
        self.source.over = false;
        incoming(&self.source.link, self.source.end).unread(bytes);
        None
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sink.poll_stopped(cx).is_ready() {
            return Poll::Ready(());
        }
        incoming(&self.source.link, self.source.end).poll_reset(cx)
    }
}

impl AsyncRead for InternalStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let source = &mut self.source;
        if source.over || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let filled = buf.filled().len();
        let result = incoming(&source.link, source.end).poll_read(cx, buf);
        if let Poll::Ready(result) = &result {
            coop.made_progress();
            source.over = result.is_ok() && buf.filled().len() == filled;
        }
        result.map_err(io_error)
    }
}

impl AsyncWrite for InternalStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sink = &self.sink;
        let result = outgoing(&sink.link, sink.end).poll_write(cx, data);
        if result.is_ready() {
            coop.made_progress();
        }
        result.map_err(io_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sink.finish().map_err(io_error))
    }
}

/// The reading half of an end. Dropped before its end, it is a stop.
#[derive(Debug)]
pub struct InternalSource {
    link: Arc<Link>,
    end: End,
    /// Nothing more is to be read or to be said.
    over: bool,
}

impl ByteSource for InternalSource {
    /// Chunks come as they were written, whatever `max` says.
    fn poll_chunk(&mut self, cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = incoming(&self.link, self.end).poll_pop(cx);
        // Nothing of the writer's is lost any more when this half goes.
        self.over = matches!(next, Poll::Ready(None));
        next
    }

    fn take_spliced(&mut self) -> Option<Spliced> {
        if self.over { None } else { incoming(&self.link, self.end).take_spliced() }
    }

    fn stop(&mut self, code: ErrorCode) {
        self.over = true;
        incoming(&self.link, self.end).stop(code);
    }
}

impl Drop for InternalSource {
    fn drop(&mut self) {
        if !self.over {
            incoming(&self.link, self.end).stop(ErrorCode::Cancel);
        }
    }
}

/// The writing half of an end. Dropped before it was ended, it is a reset.
#[derive(Debug)]
pub struct InternalSink {
    link: Arc<Link>,
    end: End,
    /// Ended or reset.
    over: bool,
}

impl InternalSink {
    fn finish(&mut self) -> Result<(), StreamError> {
        outgoing(&self.link, self.end).end()?;
        self.over = true;
        Ok(())
    }
}

impl ByteSink for InternalSink {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        if !data.is_empty() {
            ready!(outgoing(&self.link, self.end).poll_push(cx, data))?;
        }
        Poll::Ready(if end { self.finish() } else { Ok(()) })
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        outgoing(&self.link, self.end).poll_stopped(cx).map(StreamError::Stopped)
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        outgoing(&self.link, self.end).poll_splice(cx)
    }

    fn send_spliced(&mut self, data: Spliced) -> Result<(), StreamError> {
        outgoing(&self.link, self.end).push_spliced(data)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.over = true;
        outgoing(&self.link, self.end).reset(code);
    }
}

impl Drop for InternalSink {
    fn drop(&mut self) {
        if !self.over {
            outgoing(&self.link, self.end).reset(ErrorCode::Cancel);
        }
    }
}

fn io_error(error: StreamError) -> io::Error {
    let kind = match error {
        StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
        StreamError::Stopped(_) | StreamError::Local(_) => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests;
