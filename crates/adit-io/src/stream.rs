//! [`Io`]: a connected byte stream with what is known of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tcp::{TcpSink, TcpSource};
use crate::{ByteSink, ByteSource, ConnInfo, FilterState, Metadata, Side, Sink, Source};

/// A byte stream that is not plain TCP: TLS, an internal pair, a Unix socket, a tunnel.
///
/// `poll_shutdown` is the half-close. Dropped without it, the stream is aborted where the transport can tell.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Ends both directions at once, so that the peer sees a reset and not an end.
    fn abort(&mut self);

    /// The two halves for relaying. A transport that moves [`Bytes`] natively gives its own; others give
    /// `transport_halves`.
    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>);

    /// Puts bytes that were read from it back in front; gives them back if it cannot.
    fn unread(&mut self, bytes: Bytes) -> Option<Bytes> {
        Some(bytes)
    }

    /// Ready when the peer is known to have reset or closed the stream, without reading from it. May stay pending for ever.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }

    /// Whether what was read ended below this transport and not in it: TLS without a close_notify.
    fn truncated(&self) -> bool {
        false
    }
}

/// What an [`Io`] runs over.
pub enum Stream {
    /// A plain TCP socket, shareable between a reading and a writing half without a lock.
    Tcp(Arc<TcpStream>),
    /// Anything else.
    Other(Box<dyn Transport>),
}

/// A connected byte stream, the bytes already read from it, and what is known of it.
pub struct Io {
    stream: Stream,
    read_ahead: Bytes,
    /// Facts about the connection.
    pub info: Arc<ConnInfo>,
    /// Filter state with the lifespan of the connection.
    pub state: FilterState,
    /// Dynamic metadata of the connection.
    pub metadata: Metadata,
}

impl Io {
    /// A stream of which nothing was read yet.
    pub fn new(stream: Stream, info: Arc<ConnInfo>) -> Self {
        Self { stream, read_ahead: Bytes::new(), info, state: FilterState::default(), metadata: Metadata::default() }
    }

    /// A plain TCP stream. The socket should have `TCP_NODELAY` set.
    pub fn tcp(socket: TcpStream, info: Arc<ConnInfo>) -> Self {
        Self::new(Stream::Tcp(Arc::new(socket)), info)
    }

    /// Puts bytes back in front of what will be read next.
    pub fn unread(&mut self, bytes: Bytes) {
        if self.read_ahead.is_empty() {
            self.read_ahead = bytes;
        } else if !bytes.is_empty() {
            self.read_ahead = Bytes::from([&bytes[..], &self.read_ahead[..]].concat());
        }
    }

    /// Whether bytes wait to be read: ahead or, of plain TCP, in the kernel.
    pub fn has_unread(&self) -> bool {
        // The kernel itself is asked: the reactor may not have been told yet.
        let waits = |socket: &Arc<TcpStream>| rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0);
        !self.read_ahead.is_empty() || self.tcp_socket().is_some_and(waits)
    }

    /// The bytes read ahead, which will be read next.
    pub fn ahead(&self) -> &[u8] {
        &self.read_ahead
    }

    /// Takes `n` of the bytes read ahead (all, if there are fewer) out of the stream.
    pub fn take_ahead(&mut self, n: usize) -> Bytes {
        self.read_ahead.split_to(n.min(self.read_ahead.len()))
    }

    /// Reads ahead without consuming until at least `min` bytes are there (see [`Io::poll_fill`]), and shows them.
    pub async fn fill(&mut self, min: usize, max: usize) -> io::Result<&[u8]> {
        std::future::poll_fn(|cx| self.poll_fill(cx, min, max)).await?;
        Ok(&self.read_ahead)
    }

    /// Reads ahead without consuming: how many bytes are there, once they are at least `min`, or fewer at the end of the
    /// stream. Never more than `max` are read ahead, and `min` counts as `max` at most. Holds no buffer while it waits.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, min: usize, max: usize) -> Poll<io::Result<usize>> {
        while self.read_ahead.len() < min.min(max) {
            let room = max - self.read_ahead.len();
            let Self { stream, read_ahead, .. } = self;
            let read = std::task::ready!(crate::scratch::with(room, |buffer| {
                let mut buffer = ReadBuf::new(buffer);
                let result = match stream {
                    Stream::Tcp(socket) => crate::tcp::poll_read(socket, cx, &mut buffer),
                    Stream::Other(transport) => Pin::new(&mut **transport).poll_read(cx, &mut buffer),
                };
                result.map_ok(|()| {
                    let new = buffer.filled();
                    if read_ahead.is_empty() {
                        *read_ahead = Bytes::copy_from_slice(new);
                    } else if !new.is_empty() {
                        *read_ahead = [&read_ahead[..], new].concat().into();
                    }
                    new.len()
                })
            }))?;
            if read == 0 {
                break;
            }
        }
        Poll::Ready(Ok(self.read_ahead.len()))
    }

    /// Ready when the peer is known to have reset or closed the stream, without reading from it (see
    /// [`Transport::poll_closed`]). For plain TCP always pending: the socket's error event tells.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Stream::Tcp(_) => Poll::Pending,
            Stream::Other(transport) => transport.poll_closed(cx),
        }
    }

    /// Ready once the accepting end of an internal connection takes it, or has said that it will say nothing about that; false
    /// when it does not take it (see [`RefusalSlot`](crate::RefusalSlot) for why). At once for all else.
    pub fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(slot) = self.info.refusal.clone() else { return Poll::Ready(true) };
        if slot.poll_decided(cx).is_ready() {
            return Poll::Ready(slot.get().is_none());
        }
        self.poll_closed(cx).map(|()| false)
    }

    /// The socket, if this is plain TCP (bytes read ahead may still be held).
    pub fn tcp_socket(&self) -> Option<&Arc<TcpStream>> {
        match &self.stream {
            Stream::Tcp(socket) => Some(socket),
            Stream::Other(_) => None,
        }
    }

    /// The stream and the bytes read ahead of it, without the facts.
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.read_ahead)
    }

    /// The two halves, for codecs that own each direction on its own.
    pub fn into_halves(self) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        let Side { source, sink } = self.into_side();
        (source.into(), sink.into())
    }

    /// The two halves, for relaying.
    pub fn into_side(self) -> Side {
        match self.stream {
            Stream::Tcp(socket) => Side {
                source: Source::Tcp(TcpSource::new(socket.clone(), self.read_ahead)),
                sink: Sink::Tcp(TcpSink::new(socket)),
            },
            Stream::Other(mut transport) => {
                let ahead = Some(self.read_ahead).filter(|ahead| !ahead.is_empty());
                let ahead = ahead.and_then(|ahead| transport.unread(ahead));
                let (source, sink) = transport.into_halves();
                match ahead {
                    Some(first) => Side::new(Box::new(Prefixed::new(first, source)), sink),
                    None => Side::new(source, sink),
                }
            }
        }
    }

    /// Ends both directions so that the peer sees a reset.
    pub fn abort(self) {
        match self.stream {
            Stream::Tcp(socket) => crate::tcp::set_abortive(&socket),
            Stream::Other(mut transport) => transport.abort(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() {
            let n = self.read_ahead.len().min(buf.remaining());
            buf.put_slice(&self.read_ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(socket) => crate::tcp::poll_read(socket, cx, buf),
            Stream::Other(transport) => Pin::new(&mut **transport).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(socket) => crate::tcp::poll_write(socket, cx, data),
            Stream::Other(transport) => Pin::new(&mut **transport).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(socket) => crate::tcp::poll_write_vectored(socket, cx, data),
            Stream::Other(transport) => Pin::new(&mut **transport).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(_) => true,
            Stream::Other(transport) => transport.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(_) => Poll::Ready(Ok(())),
            Stream::Other(transport) => Pin::new(&mut **transport).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(socket) => Poll::Ready(crate::tcp::shutdown_write(socket)),
            Stream::Other(transport) => Pin::new(&mut **transport).poll_shutdown(cx),
        }
    }
}

/// A source with bytes in front of it.
pub struct Prefixed {
    first: Bytes,
    source: Box<dyn ByteSource>,
}

impl Prefixed {
    /// `first` in front of `source`.
    pub fn new(first: Bytes, source: Box<dyn ByteSource>) -> Self {
        Self { first, source }
    }
}

impl ByteSource for Prefixed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, adit_http::StreamError>>> {
        if self.first.has_remaining() {
            let n = self.first.len().min(max.max(1));
            return Poll::Ready(Some(Ok(self.first.split_to(n))));
        }
        self.source.poll_chunk(cx, max)
    }

    fn take_spliced(&mut self) -> Option<crate::Spliced> {
        if self.first.is_empty() { self.source.take_spliced() } else { None }
    }

    fn stop(&mut self, code: adit_http::ErrorCode) {
        self.first = Bytes::new();
        self.source.stop(code);
    }

    fn truncated(&self) -> bool {
        self.source.truncated()
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        if self.first.is_empty() { self.source.as_tcp() } else { None }
    }
}
