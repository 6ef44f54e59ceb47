//! The two halves of a transport that is read and written as one object: TLS, Unix sockets.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use adit_http::{ErrorCode, StreamError};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, ReadBuf};

use crate::{ByteSink, ByteSource, Transport, scratch};

/// A read of this size is followed by reads into a buffer of the size that is asked for.
const BULK_READ: usize = 8 << 10;

/// Splits a transport into halves that share it.
///
/// The lock between them is never waited for where one task polls both. A buffer exists only while bytes move. The end of
/// the sink is `poll_shutdown`; a sink dropped before it aborts the transport. `UnexpectedEof` is
/// [`StreamError::Truncated`].
pub fn transport_halves(transport: impl Transport) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
    let shared = Arc::new(Mutex::new(transport));
    let source = SharedSource { shared: shared.clone(), bulk: false, over: None };
    (Box::new(source), Box::new(SharedSink { shared, ended: false }))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock is one of the transport's own; its state is its own business.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SharedSource<T> {
    shared: Arc<Mutex<T>>,
    bulk: bool,
    over: Option<Result<(), StreamError>>,
}

impl<T: Transport> SharedSource<T> {
    fn poll_small(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<std::io::Result<Bytes>> {
        scratch::with(max, |buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *lock(&self.shared)).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
        })
    }

    /// Reads for as long as there is something and room; an end behind bytes is kept for the next call.
    fn poll_bulk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<std::io::Result<Bytes>> {
        let mut buffer = scratch::take(max);
        let mut transport = lock(&self.shared);
        while buffer.len() < max {
            let mut space = (&mut buffer).limit_to(max);
            match pin!(transport.read_buf(&mut space)).poll(cx) {
                Poll::Ready(Ok(0)) if buffer.is_empty() => break,
                Poll::Ready(Ok(0)) => {
                    self.over = Some(Ok(()));
                    break;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if buffer.is_empty() => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.over = Some(Err(error.into()));
                    break;
                }
                Poll::Pending if buffer.is_empty() => {
                    scratch::keep(buffer);
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(scratch::chunk(buffer)))
    }
}

/// Room up to a total length, whatever a buffer would grow to.
trait LimitTo {
    fn limit_to(self, max: usize) -> bytes::buf::Limit<Self>
    where
        Self: Sized;
}

impl LimitTo for &mut BytesMut {
    fn limit_to(self, max: usize) -> bytes::buf::Limit<Self> {
        let room = max.saturating_sub(self.len());
        bytes::BufMut::limit(self, room)
    }
}

impl<T: Transport> ByteSource for SharedSource<T> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        if let Some(over) = self.over {
            return Poll::Ready(over.err().map(Err));
        }
        let max = max.max(1);
        let read = if self.bulk { self.poll_bulk(cx, max) } else { self.poll_small(cx, max) };
        match read {
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                self.over = Some(Ok(()));
                Poll::Ready(None)
            }
            Poll::Ready(Ok(bytes)) => {
                self.bulk = bytes.len() >= BULK_READ.min(max);
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Err(error)) => {
                let error = StreamError::from(error);
                self.over = Some(Err(error));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => {
                self.bulk = false;
                Poll::Pending
            }
        }
    }

    fn stop(&mut self, _code: ErrorCode) {
        self.over = Some(Ok(()));
    }

    fn truncated(&self) -> bool {
        lock(&self.shared).truncated()
    }
}

struct SharedSink<T: Transport> {
    shared: Arc<Mutex<T>>,
    ended: bool,
}

impl<T: Transport> ByteSink for SharedSink<T> {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        let mut transport = lock(&self.shared);
        while data.has_remaining() {
            let n = ready!(Pin::new(&mut *transport).poll_write(cx, data))?;
            if n == 0 {
                return Poll::Ready(Err(StreamError::Io(std::io::ErrorKind::WriteZero)));
            }
            data.advance(n);
        }
        if end && !self.ended {
            ready!(Pin::new(&mut *transport).poll_shutdown(cx))?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *lock(&self.shared)).poll_flush(cx).map_err(StreamError::from)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        lock(&self.shared).poll_closed(cx).map(|()| StreamError::Reset(ErrorCode::Cancel))
    }

    fn reset(&mut self, _code: ErrorCode) {
        self.ended = true;
        lock(&self.shared).abort();
    }
}

impl<T: Transport> Drop for SharedSink<T> {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.shared).abort();
        }
    }
}
