//! A CONNECT on a stream of a cluster's, as a stream of bytes: what `http_11_proxy` runs over where a cluster leads to the
//! proxy. Whatever version that cluster speaks, its connections are shared as the cluster says.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{OutgoingStream, RecvStream, SendStream};
use adit_filter::upstream::{Cluster, ConnectFailure, FailureKind, Need, Priority};
use adit_http::{ErrorCode, RequestHead, RequestKind, StreamError};
use adit_io::{ByteSink, ByteSource, ConnInfo, FilterState, Io, Sharing, Stream, Transport, transport_halves};
use adit_upstream::{TransportContext, TransportError};
use bytes::{Buf, Bytes};
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one write takes, and that waits when the proxy's windows are full.
const MAX_WRITE: usize = 64 << 10;
/// How often a stream is opened anew when the connection that was to carry it went away before it could.
const ATTEMPTS: usize = 3;

/// What the proxy is asked for.
pub(crate) struct Target {
    /// The host.
    pub(crate) authority: Authority,
    /// `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
    /// The proxy, for a cluster that leaves the choice open (`ORIGINAL_DST`).
    pub(crate) proxy: Option<SocketAddr>,
}

/// Why there is no tunnel.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The proxy answered with this status.
    Status(StatusCode),
    /// There is no connection to it, or the stream failed.
    Failed(TransportError),
}

impl Target {
    fn head(&self) -> RequestHead {
        let mut head = RequestHead::new(RequestKind::Connect(self.authority.clone()), Method::CONNECT);
        head.authority = Some(self.authority.clone());
        if let Some(value) = &self.authorization {
            head.headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        head
    }
}

/// Asks for a tunnel. The caller bounds the time by dropping the future.
pub(crate) async fn open(cluster: &dyn Cluster, target: &Target, ctx: &TransportContext) -> Result<Io, Refused> {
    let head = target.head();
    let state = passed_on(&ctx.state);
    let need = Need {
        priority: Priority::Default,
        hash: None,
        metadata_match: None,
        tried: &[],
        reselect: 0,
        request: Some(&head),
        tls_names: None,
        downstream: ctx.downstream.as_ref(),
        state: &state,
        metadata: &ctx.metadata,
        extended_connect: false,
        address: target.proxy,
        wait: true,
        speaks_first: false,
    };
    let mut attempt = 1;
    loop {
        let mut upstream = cluster.http(&need).await.map_err(|failure| Refused::Failed(unreachable(&failure)))?;
        let answered = match upstream.lease.open(&head, false) {
            Ok(stream) => answer(stream).await,
            Err(error) => Err(error),
        };
        return match answered {
            // Nobody has acted on it (RFC 9113 section 8.7), or it was never sent.
            Err(StreamError::Local(ErrorCode::Refused) | StreamError::Reset(ErrorCode::Refused))
                if attempt < ATTEMPTS =>
            {
                attempt += 1;
                continue;
            }
            Err(error) => Err(Refused::Failed(TransportError::remote(error))),
            Ok((status, ..)) if !status.is_success() => Err(Refused::Status(status)),
            Ok((_, send, recv)) => {
                // What the hop to the proxy is encrypted with says nothing of the tunnel.
                let (local, remote) = (upstream.conn.local.clone(), upstream.conn.remote.clone());
                let info = ConnInfo::new(ConnInfo::next_id(), local, remote);
                let tunnel = Tunnel { recv, send, read: Bytes::new(), unsent: Bytes::new(), _guard: upstream.lease };
                Ok(Io::new(Stream::Other(Box::new(tunnel)), Arc::new(info)))
            }
        };
    }
}

/// The filter state that goes along to the proxy: what is shared with the upstream, which is what the pool's key has of it. The
/// rest (server name, ALPN, a proxy, an original destination) is said of the host that lies behind the proxy.
fn passed_on(state: &FilterState) -> FilterState {
    let mut passed = FilterState::default();
    for (name, object) in state.iter().filter(|(_, object)| object.sharing != Sharing::None) {
        passed.set(name, object.value.clone(), object.sharing);
    }
    passed
}

type Answered = (StatusCode, Box<dyn SendStream>, Box<dyn RecvStream>);

async fn answer(OutgoingStream { send, mut response, .. }: OutgoingStream) -> Result<Answered, StreamError> {
    loop {
        let head = std::future::poll_fn(|cx| response.poll_head(cx)).await?;
        if !head.status.is_informational() {
            return Ok((head.status, send, response.into_recv()));
        }
    }
}

/// What the cluster of the proxy lacks is no fault of the cluster whose host is asked for.
fn unreachable(failure: &ConnectFailure) -> TransportError {
    let words = if failure.reason.is_empty() { failure.kind.reset_reason() } else { &failure.reason };
    let mut error = TransportError::remote(format_args!("the HTTP proxy is not reached: {words}"));
    // That the proxy did not speak as agreed is a failed connect to who asks for the host.
    if failure.kind != FailureKind::Protocol {
        error.kind = failure.kind;
    }
    error
}

/// The tunnel: a stream of a connection that others share.
struct Tunnel {
    recv: Box<dyn RecvStream>,
    send: Box<dyn SendStream>,
    /// Received and not yet given out.
    read: Bytes,
    /// Taken and not yet sent.
    unsent: Bytes,
    /// Circuit breakers and gauges of the proxy's cluster.
    _guard: Box<dyn Send>,
}

impl Tunnel {
    fn poll_unsent(&mut self, cx: &mut Context<'_>, end: bool) -> Poll<io::Result<()>> {
        let sent = self.send.poll_send(cx, &mut self.unsent, end).map_err(to_io);
        if self.unsent.is_empty() {
            // Consumed from its front it would keep the allocation while the tunnel idles.
            self.unsent = Bytes::new();
        }
        sent
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
        self.send.poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx, true))?;
        self.send.poll_flush(cx).map_err(to_io)
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
        self.send.poll_stopped(cx).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
