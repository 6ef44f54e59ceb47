//! The receiving half.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use adit_codec::{Datagrams, RecvStream};
use adit_http::{ErrorCode, StreamError};
use adit_io::ByteSource;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use quinn::VarInt;

use crate::Counter;
use crate::config::Limits;
use crate::error::{self, Fatal, code};
use crate::fields::{self, Refusal};
use crate::frame::Frame;
use crate::inbound::{Inbound, Stop};
use crate::shared::StreamGuard;

/// A piece below this is joined with what stands behind it.
const SMALL: usize = 8 << 10;

/// The DATA of one stream, then its trailers.
pub(crate) struct H3Recv {
    inbound: Inbound,
    guard: Arc<StreamGuard>,
    limits: Limits,
    /// Bytes of the body that were announced and did not come yet.
    left: Option<u64>,
    /// What came behind the bytes that were given out.
    behind: Option<Box<Result<Frame, Stop>>>,
    trailers: Option<Box<HeaderMap>>,
    state: State,
    /// A tunnel knows nothing but DATA.
    tunnel: bool,
    /// The code of a half that is dropped unfinished.
    abandon: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The trailers came, the end did not.
    Trailers,
    Ended,
    Failed(StreamError),
}

/// What is known of a message when its head has been read.
pub(crate) struct Body {
    /// The announced length.
    pub(crate) length: Option<u64>,
    pub(crate) limits: Limits,
    pub(crate) tunnel: bool,
    /// The code of a half that is dropped unfinished.
    pub(crate) abandon: u32,
}

impl H3Recv {
    pub(crate) fn new(inbound: Inbound, guard: Arc<StreamGuard>, body: &Body) -> Self {
        Self {
            inbound,
            guard,
            limits: body.limits,
            left: body.length,
            behind: None,
            trailers: None,
            state: State::Open,
            tunnel: body.tunnel,
            abandon: body.abandon,
        }
    }

    /// Looks whether the end came with the head, as it mostly does; so an announced length without a body is seen before
    /// the message is passed on.
    pub(crate) fn look_for_end(&mut self) -> Result<(), StreamError> {
        if let Poll::Ready(frame) = self.inbound.poll_frame(&mut Context::from_waker(Waker::noop())) {
            match frame {
                Err(Stop::End) => return self.end(),
                other => self.behind = Some(Box::new(other)),
            }
        }
        Ok(())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Stop>> {
        match self.behind.take() {
            Some(frame) => Poll::Ready(*frame),
            None => self.inbound.poll_frame(cx),
        }
    }

    fn end(&mut self) -> Result<(), StreamError> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(self.malformed());
        }
        self.state = State::Ended;
        Ok(())
    }

    fn fail(&mut self, error: StreamError) -> StreamError {
        self.state = State::Failed(error);
        error
    }

    /// The message broke RFC 9114 section 4: both directions of the stream end.
    fn malformed(&mut self) -> StreamError {
        self.guard.shared.count(Counter::RxMessagingError);
        let _ = self.inbound.stream.stop(VarInt::from_u32(code::MESSAGE_ERROR));
        self.fail(StreamError::Protocol(error::MESSAGING))
    }

    fn fatal(&mut self, fatal: Fatal) -> StreamError {
        self.guard.shared.fail(fatal);
        self.fail(StreamError::Protocol(error::CODEC))
    }

    /// What stopped the frames, when it was not the end.
    fn stopped(&mut self, stop: Stop) -> StreamError {
        let error = match stop {
            Stop::Fatal(fatal) => return self.fatal(fatal),
            Stop::Reset(code) => {
                self.guard.shared.count(Counter::RxReset);
                StreamError::Reset(error::from_wire(code))
            }
            Stop::Lost(cause) => self.guard.shared.lost(&cause, self.inbound.stream.id()),
            Stop::Closed | Stop::End => StreamError::Local(ErrorCode::Cancel),
            Stop::TooLarge => return self.too_large(),
        };
        self.fail(error)
    }

    fn too_large(&mut self) -> StreamError {
        self.guard.shared.count(Counter::HeaderOverflow);
        let _ = self.inbound.stream.stop(VarInt::from_u32(code::EXCESSIVE_LOAD));
        self.fail(StreamError::TooLarge("http3.too_many_trailers"))
    }

    fn data(&mut self, piece: Bytes, max: usize) -> Result<Bytes, StreamError> {
        let data = if piece.len() < SMALL.min(max) { self.join(piece, max) } else { piece };
        if let Some(left) = &mut self.left {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Err(self.malformed()),
            }
        }
        Ok(data)
    }

    /// Puts small pieces together, as many as were read already.
    fn join(&mut self, first: Bytes, max: usize) -> Bytes {
        let mut joined: Option<BytesMut> = None;
        loop {
            let length = joined.as_ref().map_or(first.len(), BytesMut::len);
            match self.inbound.buffered() {
                Ok(Some(Frame::Data(piece))) if length + piece.len() <= max => {
                    let buffer = joined.get_or_insert_with(|| {
                        let mut buffer = BytesMut::with_capacity(max.min(SMALL * 4));
                        buffer.extend_from_slice(&first);
                        buffer
                    });
                    buffer.extend_from_slice(&piece);
                }
                Ok(None) => break,
                Ok(Some(frame)) => {
                    self.behind = Some(Box::new(Ok(frame)));
                    break;
                }
                Err(stop) => {
                    self.behind = Some(Box::new(Err(stop)));
                    break;
                }
            }
        }
        joined.map_or(first, BytesMut::freeze)
    }

    fn take_trailers(&mut self, block: &[u8]) -> Result<(), StreamError> {
        if self.tunnel {
            return Err(self.fatal(Fatal(code::FRAME_UNEXPECTED, "HEADERS in a tunnel")));
        }
        if self.left.is_some_and(|left| left > 0) {
            return Err(self.malformed());
        }
        self.guard.shared.count(Counter::Trailers);
        match fields::trailers(block, self.limits) {
            Ok(trailers) => {
                self.trailers = Some(Box::new(trailers));
                self.state = State::Trailers;
                Ok(())
            }
            Err(Refusal::Malformed) => Err(self.malformed()),
            Err(Refusal::TooLarge) => Err(self.too_large()),
            Err(Refusal::Qpack) => Err(self.fatal(Fatal(code::QPACK_DECOMPRESSION_FAILED, "bad trailers"))),
        }
    }

    /// After the trailers nothing comes but the end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(match ready!(self.poll_frame(cx)) {
            Err(Stop::End) => self.end(),
            Err(stop) => Err(self.stopped(stop)),
            Ok(_) => Err(self.fatal(Fatal(code::FRAME_UNEXPECTED, "frame behind trailers"))),
        })
    }
}

impl ByteSource for H3Recv {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        match self.state {
            State::Open => {}
            State::Trailers | State::Ended => return Poll::Ready(None),
            State::Failed(error) => return Poll::Ready(Some(Err(error))),
        }
        let result = match ready!(self.poll_frame(cx)) {
            Ok(Frame::Data(piece)) => Some(self.data(piece, max)),
            Ok(Frame::Block(_, block)) => self.take_trailers(&block).err().map(Err),
            Err(Stop::End) => self.end().err().map(Err),
            Err(stop) => Some(Err(self.stopped(stop))),
        };
        Poll::Ready(result)
    }

    fn stop(&mut self, code: ErrorCode) {
        if !matches!(self.state, State::Ended | State::Failed(_)) {
            let _ = self.inbound.stream.stop(error::wire(code));
            self.fail(StreamError::Local(code));
        }
    }
}

impl RecvStream for H3Recv {
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        if self.state == State::Trailers {
            ready!(self.poll_end(cx))?;
        }
        Poll::Ready(match self.state {
            State::Failed(error) => Err(error),
            State::Open | State::Trailers => Err(StreamError::Local(ErrorCode::Internal)),
            State::Ended => Ok(self.trailers.take().map(|trailers| *trailers)),
        })
    }

    fn is_end(&self) -> bool {
        self.state == State::Ended && self.trailers.is_none()
    }

    fn datagrams(&mut self) -> Option<Box<dyn Datagrams>> {
        let shared = &self.guard.shared;
        let hub = shared.hub.as_ref()?;
        Some(Box::new(hub.open(self.inbound.stream.id(), shared.clone())))
    }
}

/// A half asked for out of order.
pub(crate) struct Misused;

impl ByteSource for Misused {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Ready(Some(Err(StreamError::Local(ErrorCode::Internal))))
    }

    fn stop(&mut self, _code: ErrorCode) {}
}

impl RecvStream for Misused {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Err(StreamError::Local(ErrorCode::Internal)))
    }

    fn is_end(&self) -> bool {
        false
    }
}

impl Drop for H3Recv {
    fn drop(&mut self) {
        if matches!(self.state, State::Open | State::Trailers) {
            let _ = self.inbound.stream.stop(VarInt::from_u32(self.abandon));
        }
    }
}
