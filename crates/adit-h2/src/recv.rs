//! The receiving half: a window given back only for what went onward.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::RecvStream;
use adit_http::{ErrorCode, StreamError};
use adit_io::ByteSource;
use bytes::Bytes;
use http::HeaderMap;

use crate::head::{Refusal, check_fields};
use crate::shared::StreamGuard;
use crate::{Counter, error};

/// The DATA of one stream, then its trailers.
///
/// Dropped or stopped early, what still comes is thrown away and the window stays shut; the RST_STREAM that says so
/// leaves when the sending half is done too (RFC 9113 section 8.1), since HTTP/2 cannot end one direction alone.
pub(crate) struct H2Recv {
    stream: Option<h2::RecvStream>,
    guard: Arc<StreamGuard>,
    /// Bytes handed out whose window the peer has not got back.
    owed: usize,
    ended: bool,
    failed: Option<StreamError>,
}

impl H2Recv {
    pub(crate) fn new(stream: h2::RecvStream, guard: Arc<StreamGuard>) -> Self {
        Self { stream: Some(stream), guard, owed: 0, ended: false, failed: None }
    }

    /// A half asked for out of order.
    pub(crate) fn misused(guard: Arc<StreamGuard>) -> Self {
        let failed = Some(StreamError::Local(ErrorCode::Internal));
        Self { stream: None, guard, owed: 0, ended: false, failed }
    }

    fn fail(&mut self, error: StreamError) -> StreamError {
        self.stream = None;
        *self.failed.insert(error)
    }
}

impl ByteSource for H2Recv {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        loop {
            if let Some(error) = self.failed {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(stream) = self.stream.as_mut().filter(|_| !self.ended) else {
                return Poll::Ready(None);
            };
            if self.owed > 0 {
                // Fails only if more is released than was received.
                let _ = stream.flow_control().release_capacity(std::mem::take(&mut self.owed));
            }
            match ready!(stream.poll_data(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.owed = chunk.len();
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Err(cause)) => {
                    let error = self.fail(error::stream(&cause));
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.ended = true,
            }
        }
    }

    fn stop(&mut self, code: ErrorCode) {
        if !self.ended && self.failed.is_none() {
            self.guard.set_stop(code);
            self.fail(StreamError::Local(code));
        }
    }
}

impl RecvStream for H2Recv {
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Err(error));
        }
        let Some(stream) = self.stream.as_mut() else { return Poll::Ready(Ok(None)) };
        let result = ready!(stream.poll_trailers(cx));
        self.stream = None;
        Poll::Ready(match result {
            Ok(None) => Ok(None),
            Ok(Some(trailers)) => {
                self.guard.shared.count(Counter::Trailers);
                match check_fields(&trailers, self.guard.shared.rules) {
                    Ok(_) => Ok(Some(trailers)),
                    Err(Refusal::Malformed) => Err(self.fail(StreamError::Protocol(error::MESSAGING))),
                    Err(Refusal::TooLarge) => {
                        self.guard.shared.count(Counter::HeaderOverflow);
                        Err(self.fail(StreamError::TooLarge("http2.too_many_trailers")))
                    }
                }
            }
            Err(cause) => Err(self.fail(error::stream(&cause))),
        })
    }

    fn is_end(&self) -> bool {
        match &self.stream {
            Some(stream) => stream.is_end_stream(),
            None => self.failed.is_none(),
        }
    }
}

/// A half whose message ended with its head: holds nothing of the stream, and takes no memory.
pub(crate) struct Ended;

impl ByteSource for Ended {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Ready(None)
    }

    fn stop(&mut self, _: ErrorCode) {}
}

impl RecvStream for Ended {
    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Ok(None))
    }

    fn is_end(&self) -> bool {
        true
    }
}
