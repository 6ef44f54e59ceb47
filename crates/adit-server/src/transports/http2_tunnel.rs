//! A CONNECT over an HTTP/2 connection of its own, as a stream of bytes: what `http_11_proxy` runs over where the proxy is
//! spoken to in HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{ClientConn, ClientParts, Driver, RecvStream, SendStream};
use adit_http::{ErrorCode, RequestHead, RequestKind, StreamError};
use adit_io::{ByteSink, ByteSource, Io, Stream, Transport, transport_halves};
use bytes::{Buf, Bytes};
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one write takes, and that waits when HTTP/2's windows are full.
const MAX_WRITE: usize = 64 << 10;

/// Why there is no tunnel.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The proxy answered with this status.
    Status(StatusCode),
    /// The connection failed.
    Failed(StreamError),
}

/// Asks for a tunnel over `io`, on which nothing was said yet. The caller bounds the time by dropping the future.
pub(crate) async fn open(io: Io, authority: Authority, authorization: Option<HeaderValue>) -> Result<Io, Refused> {
    let info = io.info.clone();
    let ClientParts { mut conn, driver } = adit_h2::client(io, Arc::default());
    let mut driver = driver;
    let drive = |driver: &mut Option<Driver>, cx: &mut Context<'_>| {
        if let Some(running) = driver
            && running.as_mut().poll(cx).is_ready()
        {
            *driver = None;
        }
    };
    std::future::poll_fn(|cx| {
        drive(&mut driver, cx);
        conn.poll_ready(cx)
    })
    .await
    .map_err(Refused::Failed)?;
    let mut head = RequestHead::new(RequestKind::Connect(authority.clone()), Method::CONNECT);
    head.authority = Some(authority);
    head.version = Version::HTTP_2;
    if let Some(value) = authorization {
        head.headers.insert(header::PROXY_AUTHORIZATION, value);
    }
    let stream = conn.open(head, false).map_err(Refused::Failed)?;
    let (send, mut response) = (stream.send, stream.response);
    let status = loop {
        let head = std::future::poll_fn(|cx| {
            drive(&mut driver, cx);
            response.poll_head(cx)
        });
        let status = head.await.map_err(Refused::Failed)?.status;
        if !status.is_informational() {
            break status;
        }
    };
    if !status.is_success() {
        return Err(Refused::Status(status));
    }
    let tunnel =
        Tunnel { driver, _conn: conn, recv: response.into_recv(), send, read: Bytes::new(), unsent: Bytes::new() };
    Ok(Io::new(Stream::Other(Box::new(tunnel)), info))
}

/// The tunnel, and the connection that carries nothing else.
struct Tunnel {
    /// `None` once the connection is over.
    driver: Option<Driver>,
    _conn: Box<dyn ClientConn>,
    recv: Box<dyn RecvStream>,
    send: Box<dyn SendStream>,
    /// Received and not yet given out.
    read: Bytes,
    /// Taken and not yet sent.
    unsent: Bytes,
}

impl Tunnel {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>, end: bool) -> Poll<io::Result<()>> {
        let sent = self.send.poll_send(cx, &mut self.unsent, end);
        self.drive(cx);
        sent.map_err(to_io)
    }
}

fn to_io(error: StreamError) -> io::Error {
    let kind = match error {
        StreamError::Reset(_) | StreamError::Truncated | StreamError::Local(_) => io::ErrorKind::ConnectionReset,
        StreamError::Stopped(_) => io::ErrorKind::BrokenPipe,
        StreamError::TimedOut => io::ErrorKind::TimedOut,
        StreamError::Protocol(_) | StreamError::TooLarge(_) => io::ErrorKind::InvalidData,
        StreamError::Io(kind) => kind,
    };
    io::Error::new(kind, error)
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            self.drive(cx);
            match ready!(self.recv.poll_chunk(cx, buf.remaining().max(16 << 10))) {
                Some(Ok(chunk)) => self.read = chunk,
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.unsent.has_remaining() {
            ready!(self.poll_unsent(cx, false))?;
        }
        let n = data.len().min(MAX_WRITE);
        self.unsent = Bytes::copy_from_slice(data.get(..n).unwrap_or_default());
        match self.poll_unsent(cx, false) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What did not go now is sent before anything else is taken.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx, false))?;
        let flushed = self.send.poll_flush(cx).map_err(to_io);
        self.drive(cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx, true))?;
        let flushed = self.send.poll_flush(cx).map_err(to_io);
        self.drive(cx);
        flushed
    }
}

impl Transport for Tunnel {
    fn abort(&mut self) {
        self.send.reset(ErrorCode::Cancel);
        self.recv.stop(ErrorCode::Cancel);
    }

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        transport_halves(*self)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.drive(cx);
        self.send.poll_stopped(cx).map(|_| ())
    }
}
