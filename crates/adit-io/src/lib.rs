//! A connected byte stream, and how to relay two.
//!
//! Deliberately unknown here: HTTP messages, filters, configuration, who the peer is. Bytes, half-closes and resets go
//! in and come out; [`relay`] moves them between two endpoints exactly.
//!
//! Read first: [`Io`], [`ByteSource`] with [`ByteSink`], [`relay`].
//!
//! Floor F1.

mod address;
#[cfg(feature = "conformance")]
pub mod conformance;
mod halves;
mod info;
mod moment;
mod refusal;
mod relay;
mod scratch;
mod side;
mod splice;
mod state;
mod stream;
mod tcp;
mod unix;

pub use address::Address;
pub use halves::transport_halves;
pub use info::{ConnInfo, TlsInfo};
pub use refusal::{Refusal, RefusalSlot};
pub use relay::{
    Cause, Chunk, DEFAULT_BUFFER_LIMIT, Direction, DirectionEnd, DirectionSummary, LINGER, Peer, Relay, RelayFuture,
    RelayObserver, RelayOptions, Spliced, Summary, TimeoutAction, relay,
};
pub use side::{Side, SideMut, Sink, Source};
pub use state::{FilterObject, FilterState, FilterValue, Metadata, Sharing, Value};
pub use stream::{Io, Prefixed, Stream, Transport};
pub use tcp::{TcpSink, TcpSource, error_event};
pub use unix::UnixTransport;

use std::task::{Context, Poll};

use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use tokio::net::TcpStream;

/// The reading half of a byte stream.
///
/// Dropped before it gave its end or an error, it is a stop: the peer must be able to notice (STOP_SENDING, RST_STREAM,
/// and for TCP nothing until the socket closes).
pub trait ByteSource: Send {
    /// The next bytes: never empty, at most about `max` where the source chooses the size (a framed source may give
    /// more). `None` is the clean end, given again at each later call. An error is final.
    ///
    /// Bytes handed out have been accounted for: a framed source gives their flow-control window back once the caller
    /// asks for the next chunk, so ask only when the last one went onward.
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>>;

    /// Tells the peer that nothing more will be read, with this code where the protocol carries one.
    fn stop(&mut self, code: ErrorCode);

    /// After the end: whether it may be a cut, as the connection below ended without what announces an end in the layer
    /// above (TLS without close_notify). A tunnel passes it on as an end, as Envoy does; a body that only its connection's
    /// end delimits is [`StreamError::Truncated`].
    fn truncated(&self) -> bool {
        false
    }

    /// The next bytes, if they lie in the kernel. By asking the caller says that it has a use for such bytes: a source that is
    /// never asked gives all of them by [`ByteSource::poll_chunk`].
    fn take_spliced(&mut self) -> Option<Spliced> {
        None
    }

    /// The socket itself, if this source is a plain TCP stream and holds no byte in user space.
    fn as_tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// The writing half of a byte stream.
///
/// Dropped before its end was sent, it is a reset towards the peer.
pub trait ByteSink: Send {
    /// Takes bytes from the front of `data`, and with `end` ends this direction after the last of them.
    ///
    /// `Ready(Ok)`: `data` is empty now and the end, if asked for, is recorded. `Pending`: a prefix may have been taken;
    /// call again with what is left. After an error or an end nothing more may be sent. An empty `data` without `end`
    /// does nothing.
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>>;

    /// Ready once everything taken has left this process, or sits where the kernel or the connection's own task will
    /// send it without being asked again.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>>;

    /// Ready when the peer reads no more, although nothing was sent just now. May stay pending for ever.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError>;

    /// Ends this direction without an end: RST, RST_STREAM, RESET_STREAM with this code.
    fn reset(&mut self, code: ErrorCode);

    /// Lets the close of the connection be this direction's end, where that is one: false where an end must be sent. Only for
    /// who drops both halves next, and has read the other one to its end.
    fn end_at_close(&mut self) -> bool {
        false
    }

    /// How many bytes that lie in the kernel may be given to [`ByteSink::send_spliced`]; `None` when they may not, now or ever,
    /// so that [`ByteSink::poll_send`] is to be used. Pending while there is no room.
    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        let _ = cx;
        Poll::Ready(Ok(None))
    }

    /// Takes all of these bytes; only right after [`ByteSink::poll_splice`] gave a number, and at most as many.
    fn send_spliced(&mut self, data: Spliced) -> Result<(), StreamError> {
        drop(data);
        Err(StreamError::Local(ErrorCode::Internal))
    }

    /// The socket itself, if this sink is a plain TCP stream and holds no byte in user space.
    fn as_tcp(&self) -> Option<&TcpStream> {
        None
    }
}
