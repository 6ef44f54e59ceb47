//! Unix-domain stream sockets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::{ByteSink, ByteSource, Transport, transport_halves};

/// A Unix-domain stream socket as a transport.
///
/// Such a socket has no reset of its own: a peer sees one only where bytes that it sent were never read, and an end
/// otherwise.
#[derive(Debug)]
pub struct UnixTransport(UnixStream);

impl UnixTransport {
    /// Over a connected socket.
    pub fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// The socket.
    pub fn socket(&self) -> &UnixStream {
        &self.0
    }
}

impl Transport for UnixTransport {
    fn abort(&mut self) {
        // Nothing stronger exists; a failure means that the peer is gone already.
        let _ = socket2::SockRef::from(&self.0).shutdown(std::net::Shutdown::Both);
    }

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        transport_halves(*self)
    }
}

impl AsyncRead for UnixTransport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixTransport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
