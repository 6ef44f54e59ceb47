//! The two halves of a plain TCP socket: no lock, no buffer held while idle.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_http::{ErrorCode, StreamError};
use bytes::{Buf, Bytes};
use rustix::net::RecvFlags;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::{ByteSink, ByteSource};

/// Reads up to this size go through the thread's buffer into one of their own size: a small message never pins a large
/// block. Larger ones are asked for where there is bulk, and save that copy.
const SCRATCH_READ: usize = 16 << 10;

/// One read; `WouldBlock` when the socket has nothing.
///
/// A read that did not fill `buffer` emptied the socket: as the event is edge-triggered, readiness is cleared at once and
/// the call that would only find that out is saved. The event is taken before the read, so that a later one is not lost.
pub(crate) fn read(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let size = buffer.len();
    let mut short = None;
    let result = socket.try_io(Interest::READABLE, || {
        match retry(|| Ok(rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?.0))? {
            read if read > 0 && read < size => {
                short = Some(read);
                Err(io::ErrorKind::WouldBlock.into())
            }
            read => Ok(read),
        }
    });
    short.map_or(result, Ok)
}

/// One write; `WouldBlock` when the socket takes nothing. Readiness is handled as in [`read`].
pub(crate) fn write(socket: &TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut short = None;
    let flags = rustix::net::SendFlags::NOSIGNAL;
    let result = socket.try_io(Interest::WRITABLE, || match retry(|| rustix::net::send(socket, data, flags))? {
        written if written > 0 && written < data.len() => {
            short = Some(written);
            Err(io::ErrorKind::WouldBlock.into())
        }
        written => Ok(written),
    });
    short.map_or(result, Ok)
}

pub(crate) fn retry(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

pub(crate) fn poll_read(socket: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let size = buf.remaining();
        let mut short = false;
        // The reader's memory is not zeroed for this. Readiness is handled as in `read`.
        let result = socket.try_io(Interest::READABLE, || match socket.try_read_buf(buf)? {
            read if read > 0 && read < size => {
                short = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(()),
        });
        match result {
            _ if short => return Poll::Ready(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

pub(crate) fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match write(socket, data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

pub(crate) fn poll_write_vectored(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    data: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_write_vectored(data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

/// FIN. A peer that is gone already is no error: there is nobody left to tell.
pub(crate) fn shutdown_write(socket: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}

/// Makes the close of the socket, once its last owner drops it, an RST.
pub(crate) fn set_abortive(socket: &TcpStream) {
    // A failure means that the socket is gone, and with it the peer's need to know.
    let _ = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
}

/// Ready at the socket's error event: a peer's RST, seen without reading.
pub async fn error_event(socket: Arc<TcpStream>) {
    // An error of the wait itself means that the reactor is gone: then nothing more will happen here.
    while !socket.ready(Interest::ERROR).await.is_ok_and(|ready| ready.is_error()) {
        tokio::task::yield_now().await;
    }
}

/// The reading half of a plain TCP socket.
pub struct TcpSource {
    socket: Arc<TcpStream>,
    /// Boxed, as few connections have some, and each pays for the room.
    first: Option<Box<Bytes>>,
    ended: bool,
}

impl TcpSource {
    /// Reads `first` before the socket.
    pub fn new(socket: Arc<TcpStream>, first: Bytes) -> Self {
        let first = (!first.is_empty()).then(|| Box::new(first));
        Self { socket, first, ended: false }
    }
}

impl ByteSource for TcpSource {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        let max = max.max(1);
        if let Some(first) = &mut self.first {
            let chunk = first.split_to(first.len().min(max));
            if first.is_empty() {
                self.first = None;
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            let socket = &*self.socket;
            let result = if max <= SCRATCH_READ {
                crate::scratch::with(max, |buffer| {
                    read(socket, buffer).map(|n| Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default()))
                })
            } else {
                let mut buffer = crate::scratch::take(max);
                let result = socket.try_read_buf(&mut bytes::BufMut::limit(&mut buffer, max));
                match result {
                    Ok(_) => Ok(crate::scratch::chunk(buffer)),
                    Err(error) => {
                        crate::scratch::keep(buffer);
                        Err(error)
                    }
                }
            };
            match result {
                Ok(bytes) if bytes.is_empty() => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn stop(&mut self, _code: ErrorCode) {
        // TCP cannot tell its peer; unread bytes make the kernel send an RST when the socket closes.
        self.ended = true;
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        (self.first.is_none() && !self.ended).then_some(&*self.socket)
    }
}

/// The writing half of a plain TCP socket. Dropped before its end was sent, it makes the close an RST.
pub struct TcpSink {
    socket: Arc<TcpStream>,
    ended: bool,
    /// Waits for the socket's error event; made only when somebody asks (see [`ByteSink::poll_stopped`]).
    error: Option<Box<ErrorEvent>>,
}

/// Boxed once more where it is kept: a thin pointer, as few sockets ever need it.
type ErrorEvent = Pin<Box<dyn Future<Output = ()> + Send>>;

impl TcpSink {
    /// A half that has sent nothing yet.
    pub fn new(socket: Arc<TcpStream>) -> Self {
        Self { socket, ended: false, error: None }
    }
}

impl ByteSink for TcpSink {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        while data.has_remaining() {
            let n = ready!(poll_write(&self.socket, cx, data))?;
            data.advance(n);
        }
        if end && !self.ended {
            self.ended = true;
            shutdown_write(&self.socket)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let socket = &self.socket;
        let error = self.error.get_or_insert_with(|| Box::new(Box::pin(error_event(socket.clone()))));
        ready!(error.as_mut().as_mut().poll(cx));
        self.error = None;
        Poll::Ready(match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => error.into(),
            Ok(None) => StreamError::Reset(ErrorCode::Cancel),
        })
    }

    fn reset(&mut self, _code: ErrorCode) {
        self.ended = true;
        set_abortive(&self.socket);
    }

    fn end_at_close(&mut self) -> bool {
        // A close with nothing left to read sends what is queued, then a FIN.
        self.ended = true;
        true
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        (!self.ended).then_some(&*self.socket)
    }
}

impl Drop for TcpSink {
    fn drop(&mut self) {
        if !self.ended {
            set_abortive(&self.socket);
        }
    }
}
