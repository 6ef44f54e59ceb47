//! The bytes of one receiving stream, cut into frames.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::Meter;
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
    /// Counts what comes beside the payload of DATA: as Envoy does, of a HEADERS frame as fields no more than the field section.
    pub(crate) meter: Option<Arc<Meter>>,
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
    /// A stream that is one message's is measured.
    pub(crate) fn new(stream: quinn::RecvStream, role: Role, max_headers: u32) -> Self {
        let meter = (role == Role::Request).then(Arc::default);
        Self { stream, decoder: FrameDecoder::new(role, max_headers), input: Bytes::new(), meter }
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
        let before = self.input.len();
        let frame = self.decoder.next(&mut self.input);
        let taken = before - self.input.len();
        if taken > 0
            && let Some(meter) = &self.meter
        {
            match &frame {
                Ok(Some(Frame::Data(data))) if data.len() == taken => {}
                Ok(Some(Frame::Data(data))) => meter.received(taken - data.len(), 0),
                Ok(Some(Frame::Block(_, block))) => meter.received(taken, block.len()),
                Ok(None) | Err(_) => meter.received(taken, 0),
            }
        }
        Ok(frame?)
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
