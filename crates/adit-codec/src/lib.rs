//! What each HTTP version implements: the seam between codecs and everything above them.
//!
//! Deliberately unknown here: frames, sockets, routes, filters. A codec turns a connection into streams of the
//! version-free model of `adit-http`; whoever holds a stream never asks which version carries it.
//!
//! Read first: [`ServerConn`] and [`IncomingStream`]; [`ClientConn`] and [`OutgoingStream`].
//!
//! Accepted means: a 101 for an upgrade (codecs of HTTP/2 and HTTP/3 translate exactly a 200 to an extended CONNECT into
//! it), any 2xx for a plain CONNECT. After acceptance the same two halves *are* the tunnel; an HTTP/1 half may then answer
//! `as_tcp()`.
//!
//! Floor F1, above adit-io.

#[cfg(feature = "conformance")]
pub mod conformance;
mod meter;
pub mod udp;

use std::sync::Arc;
use std::task::{Context, Poll};

use adit_http::{ErrorCode, RequestHead, ResponseHead, StreamError};
use adit_io::{ByteSink, ByteSource, Side, Sink, Source};
use bytes::Bytes;
use http::HeaderMap;

pub use meter::Meter;

/// The receiving half of a stream: the body of a message, then its trailers; or the bytes of a tunnel.
pub trait RecvStream: ByteSource {
    /// The trailers, once the bytes have ended cleanly; `None` when there are none. Asked only after
    /// [`ByteSource::poll_chunk`] gave `None`.
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>>;

    /// Whether the message is known to have neither bytes nor trailers left.
    fn is_end(&self) -> bool;

    /// Ready when the sender of a tunnel's bytes ended, or broke off, before it sent one. Takes nothing, and is asked only
    /// before the first [`ByteSource::poll_chunk`]. Pending for ever where the end of a stream says nothing of its
    /// connection: there it is a half-close.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }

    /// The datagrams of this stream, where the connection carries them beside it (HTTP/3, RFC 9297 section 2); `None`
    /// elsewhere, where capsules on the stream are all there is. Asked at most once; what has arrived already is kept.
    fn datagrams(&mut self) -> Option<Box<dyn Datagrams>> {
        None
    }

    /// The connection's own half, where an accepted tunnel has the connection to itself and the codec nothing left to do
    /// (HTTP/1). What was asked is empty then, and to be dropped. Asked after [`SendStream::detach`], before any payload was
    /// read.
    fn detach(&mut self) -> Option<Source> {
        None
    }
}

/// The datagrams of one stream: unreliable, unordered, each whole. A payload is that of RFC 9297 section 2, so for
/// CONNECT-UDP it starts with a context id.
///
/// The peer chooses for each payload between a datagram and a DATAGRAM capsule on the stream: a receiver listens to both.
pub trait Datagrams: Send {
    /// The next payload; `None` once the connection is gone. Those for which there was no room are lost.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Sends the parts of `payload`, joined. Never waits: what congestion leaves no room for is lost.
    fn send(&mut self, payload: &[&[u8]]) -> Result<(), DatagramError>;

    /// The largest payload that can be sent now; `None` while the peer takes none (its SETTINGS may still be under way).
    /// What does not fit goes in a capsule.
    fn max_size(&self) -> Option<usize>;
}

/// Why a payload was not sent as a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramError {
    /// The peer takes no datagrams, or not yet.
    Unsupported,
    /// Larger than [`Datagrams::max_size`].
    TooLarge,
    /// The connection is gone.
    Lost,
}

/// The sending half of a stream.
pub trait SendStream: ByteSink {
    /// Sends trailers and ends the direction. On HTTP/1 only where the message is chunked and trailers are enabled;
    /// elsewhere they are dropped and the direction ends.
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>>;

    /// As [`RecvStream::detach`]; `None` also as long as the head waits to leave.
    fn detach(&mut self, cx: &mut Context<'_>) -> Option<Sink> {
        let _ = cx;
        None
    }
}

/// The halves of an accepted tunnel as bytes, without the codec wherever it has nothing left to do. Never waits. A server
/// connection whose one stream was taken from it so is over.
pub async fn tunnel_side(recv: Box<dyn RecvStream>, mut send: Box<dyn SendStream>) -> Side {
    let detached = std::future::poll_fn(|cx| Poll::Ready(send.detach(cx))).await;
    side(recv, send, detached)
}

/// [`tunnel_side`], for who has a context at hand.
pub fn tunnel_side_in(cx: &mut Context<'_>, recv: Box<dyn RecvStream>, mut send: Box<dyn SendStream>) -> Side {
    let detached = send.detach(cx);
    side(recv, send, detached)
}

fn side(mut recv: Box<dyn RecvStream>, send: Box<dyn SendStream>, detached: Option<Sink>) -> Side {
    match detached {
        Some(sink) => Side { source: recv.detach().unwrap_or_else(|| Source::Other(recv)), sink },
        None => Side::new(recv, send),
    }
}

/// A request that a server connection received.
pub struct IncomingStream {
    /// Its head, in canonical form.
    pub head: RequestHead,
    /// Its body, or the client's direction of the tunnel. Bytes behind the head of an upgrade or a CONNECT come out here
    /// at once; it is the caller who holds them back until the upstream accepted.
    pub recv: Box<dyn RecvStream>,
    /// How to answer it.
    pub responder: Box<dyn Responder>,
    /// What it costs beside its payload, where the codec tells.
    pub meter: Option<Arc<Meter>>,
}

/// The answer to one request. Dropped without an answer, the stream is reset (an HTTP/1 connection is closed).
pub trait Responder: Send {
    /// Sends an interim response (1xx but 101).
    fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError>;

    /// Sends the final response head (or a 101); with `end` there is no body. The head is queued; its bytes leave when
    /// the returned half is next polled or the connection is driven.
    ///
    /// A head that [accepts](ResponseHead::accepts) the request turns both halves into the tunnel. Any other answer to an
    /// upgrade or a CONNECT on HTTP/1 closes the connection after it.
    fn respond(self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError>;

    /// Ready when the client gave up on this stream before it was answered.
    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError>;

    /// Resets the stream without an answer.
    fn reset(self: Box<Self>, code: ErrorCode);
}

/// A request that was opened on a client connection.
pub struct OutgoingStream {
    /// The request's body. For an upgrade or a CONNECT nothing may be sent before the peer accepted, except where an
    /// adapter is documented to allow it.
    pub send: Box<dyn SendStream>,
    /// The answer.
    pub response: Box<dyn PendingResponse>,
    /// What it costs beside its payload, where the codec tells.
    pub meter: Option<Arc<Meter>>,
}

/// The answer to come. Dropped before the final head, the stream is reset.
pub trait PendingResponse: Send {
    /// Interim heads (1xx but 101), then exactly one final head (a 101 is final).
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>>;

    /// The response's body, or the tunnel's direction from the peer. Called once, after the final head.
    fn into_recv(self: Box<Self>) -> Box<dyn RecvStream>;
}

/// The serving side of one connection.
pub trait ServerConn: Send {
    /// The next request; `None` once the connection is over and every stream of it is done. Must be polled for as long
    /// as any stream of the connection lives: it drives them all. An error is final for the connection; where the
    /// protocol has an answer to it (a 400, a GOAWAY), it has been sent already.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>>;

    /// Takes no new streams (GOAWAY, or `connection: close` on HTTP/1) and lets live ones finish.
    fn drain(&mut self);

    /// Ends the connection now, sending what the protocol has for it, resetting live streams.
    fn abort(&mut self, code: ErrorCode);

    /// When the connection was last seen without a live stream or has none now: how many streams are live.
    fn live_streams(&self) -> usize;
}

/// Why a connection ended other than by its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnError {
    /// What went wrong.
    pub error: StreamError,
    /// The status that the codec itself answered with, where it did (an HTTP/1 codec answers bad heads).
    pub answered: Option<http::StatusCode>,
    /// Envoy's response-code detail for the access log, such as `http1.codec_error`.
    pub details: &'static str,
}

/// The requesting side of one connection.
pub trait ClientConn: Send {
    /// Ready when a stream may be opened now; an error when none ever will be again (the connection is over, draining
    /// or broken). Pending keeps the waker, and wakes it when either changes: also when an idle connection is closed by
    /// its peer.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Capabilities, StreamError>>;

    /// Opens a stream; only after [`ClientConn::poll_ready`] said so, while its waker was not called since. With `end` the
    /// request has no body, and may be on its way when this returns.
    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError>;

    /// How many streams are open.
    fn live_streams(&self) -> usize;

    /// Opens nothing any more; live streams finish.
    fn drain(&mut self);
}

/// A client connection and, where the protocol multiplexes, the future that drives it and ends with it.
pub struct ClientParts {
    /// Opens streams.
    pub conn: Box<dyn ClientConn>,
    /// To be polled by its owner until it ends; `None` when streams drive the connection themselves.
    pub driver: Option<Driver>,
}

/// Drives a multiplexed client connection.
pub type Driver = std::pin::Pin<Box<dyn Future<Output = Result<(), StreamError>> + Send>>;

/// What a client connection can do right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Streams that may be opened beside those that live, now: 1 or 0 for HTTP/1.
    pub open: usize,
    /// The peer allows extended CONNECT (SETTINGS_ENABLE_CONNECT_PROTOCOL); always true for HTTP/1, where an upgrade needs
    /// no leave.
    pub extended_connect: bool,
    /// The version spoken.
    pub version: http::Version,
}
