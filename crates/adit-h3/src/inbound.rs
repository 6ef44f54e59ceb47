//! The bytes of one receiving stream, cut into frames.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use quinn::{ConnectionError, ReadError, VarInt};

use crate::error::{Fatal, code};
use crate::frame::{Frame, FrameDecoder, FrameError, Role};

/// Pieces taken from quinn at once: each is the payload of one packet.
const PIECES: usize = 32;

/// A receiving stream and where in its frames it stands.
pub(crate) struct Inbound {
    pub(crate) stream: quinn::RecvStream,
    decoder: FrameDecoder,
    input: Bytes,
}

/// Why no frame comes any more.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The stream ended between two frames.
    End,
    /// The peer reset the stream.
    Reset(VarInt),
    /// The connection is gone.
    Lost(ConnectionError),
    /// The stream was stopped here.
    Closed,
    /// The connection must end.
    Fatal(Fatal),
    /// A HEADERS frame above the limit.
    TooLarge,
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Unexpected(_) => Self::Fatal(Fatal(code::FRAME_UNEXPECTED, "unexpected frame")),
            FrameError::Flood => Self::Fatal(Fatal(code::EXCESSIVE_LOAD, "too many frames without a meaning")),
            FrameError::TooLarge(_) => Self::TooLarge,
        }
    }
}

impl Inbound {
    pub(crate) fn new(stream: quinn::RecvStream, role: Role, max_headers: u32) -> Self {
        Self { stream, decoder: FrameDecoder::new(role, max_headers), input: Bytes::new() }
    }

    /// The next frame, or piece of a DATA frame.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Stop>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Poll::Ready(Ok(frame));
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// The next frame of what was read already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, Stop> {
        Ok(self.decoder.next(&mut self.input)?)
    }

    /// Reads what is there, which was empty before: one piece as it is, several put together, since each would cost its
    /// reader more than the copy does.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let mut pieces: [Bytes; PIECES] = [const { Bytes::new() }; PIECES];
        let read = ready!(pin!(self.stream.read_chunks(&mut pieces)).poll(cx));
        let count = match read {
            Ok(Some(count)) => count,
            Ok(None) if self.decoder.at_boundary() => return Poll::Ready(Err(Stop::End)),
            Ok(None) => return Poll::Ready(Err(Stop::Fatal(Fatal(code::FRAME_ERROR, "frame cut short")))),
            Err(ReadError::Reset(code)) => return Poll::Ready(Err(Stop::Reset(code))),
            Err(ReadError::ConnectionLost(cause)) => return Poll::Ready(Err(Stop::Lost(cause))),
            Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                return Poll::Ready(Err(Stop::Closed));
            }
        };
        let pieces = pieces.get_mut(..count).unwrap_or_default();
        self.input = match pieces {
            [] => Bytes::new(),
            [one] => std::mem::take(one),
            several => {
                let mut joined = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
                for piece in several {
                    joined.extend_from_slice(piece);
                }
                joined.freeze()
            }
        };
        Poll::Ready(Ok(()))
    }
}
