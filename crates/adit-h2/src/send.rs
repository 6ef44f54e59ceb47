//! The sending half: window taken only for bytes in hand, and nothing queued for a socket that is full.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use adit_codec::SendStream;
use adit_http::{ErrorCode, StreamError, hop_by_hop};
use adit_io::ByteSink;
use bytes::Bytes;
use http::HeaderMap;

use crate::error;
use crate::shared::{SenderPlace, StreamGuard};

/// The DATA of one stream, then its end or trailers.
pub(crate) struct H2Send {
    stream: h2::SendStream<Bytes>,
    guard: Arc<StreamGuard>,
    place: SenderPlace,
    state: State,
    /// A byte of this direction was queued.
    begun: bool,
    /// Somebody waits in `poll_stopped`.
    watched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed(StreamError),
}

impl H2Send {
    pub(crate) fn new(stream: h2::SendStream<Bytes>, guard: Arc<StreamGuard>, ended: bool) -> Self {
        let state = if ended { State::Ended } else { State::Open };
        Self { stream, guard, place: SenderPlace::default(), state, begun: false, watched: false }
    }

    /// Why the stream takes no more: asked when the `h2` crate refused without saying why.
    fn why_closed(&mut self, cx: &mut Context<'_>) -> StreamError {
        let error = match self.poll_reset(cx) {
            Poll::Ready(error) => error,
            Poll::Pending => StreamError::Truncated,
        };
        self.state = State::Failed(error);
        error
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Ready(match ready!(self.stream.poll_reset(cx)) {
            // A peer that has all it wanted: only this direction ends (RFC 9113 section 8.1).
            Ok(h2::Reason::NO_ERROR) => StreamError::Stopped(ErrorCode::NoError),
            Ok(reason) => StreamError::Reset(error::code(reason)),
            Err(cause) => error::stream(&cause),
        })
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, StreamError>> {
        if !self.guard.shared.may_queue(cx, &mut self.place) {
            // The waker now stands with the socket; leave it with the stream too, for an RST_STREAM.
            return match self.stream.poll_reset(cx) {
                Poll::Ready(_) => Poll::Ready(Err(self.why_closed(cx))),
                Poll::Pending => Poll::Pending,
            };
        }
        if self.watched && self.mute().is_ready() {
            return Poll::Ready(Err(self.why_closed(cx)));
        }
        self.stream.reserve_capacity(want);
        let room = self.stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(self.stream.poll_capacity(cx)) {
            Some(Ok(room)) if room > 0 => Poll::Ready(Ok(room)),
            Some(Ok(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Err(_)) | None => Poll::Ready(Err(self.why_closed(cx))),
        }
    }

    /// The `h2` crate keeps one waker for this half and wakes it also for room that it gives at once: without this each message
    /// would have its task polled once more, for nothing. Ready if the stream was reset.
    fn mute(&mut self) -> Poll<()> {
        self.stream.poll_reset(&mut Context::from_waker(Waker::noop())).map(|_| ())
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        while !data.is_empty() {
            let room = ready!(self.poll_room(cx, data.len()))?;
            let chunk = data.split_to(room.min(data.len()));
            let last = end && data.is_empty();
            self.push(cx, chunk, last)?;
        }
        if end && self.state == State::Open {
            self.push(cx, Bytes::new(), true)?;
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, cx: &mut Context<'_>, data: Bytes, end: bool) -> Result<(), StreamError> {
        let len = data.len();
        if self.stream.send_data(data, end).is_err() {
            return Err(self.why_closed(cx));
        }
        self.guard.shared.note_queued(len);
        self.begun |= len > 0;
        if end {
            self.state = State::Ended;
        }
        Ok(())
    }

    fn reset_if_abandoned(&mut self) {
        if self.guard.is_abandoned() && !matches!(self.state, State::Failed(_)) {
            self.reset(self.guard.shared.abandon);
        }
    }

    fn check_open(&mut self) -> Result<(), StreamError> {
        self.reset_if_abandoned();
        match self.state {
            State::Open => Ok(()),
            State::Ended => Err(StreamError::Local(ErrorCode::NoError)),
            State::Failed(error) => Err(error),
        }
    }
}

impl ByteSink for H2Send {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        if data.is_empty() && (!end || self.state == State::Ended) {
            return Poll::Ready(match self.state {
                State::Failed(error) => Err(error),
                State::Open | State::Ended => Ok(()),
            });
        }
        self.check_open()?;
        let queued = self.poll_queue(cx, data, end);
        if self.watched && !matches!(queued, Poll::Ready(Err(_))) && self.stream.poll_reset(cx).is_ready() {
            // Told by the next call.
            cx.waker().wake_by_ref();
        }
        queued
    }

    /// The connection's own task sends what is queued.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(match self.state {
            State::Failed(error) => Err(error),
            State::Open | State::Ended => Ok(()),
        })
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.reset_if_abandoned();
        if let State::Failed(error) = self.state {
            return Poll::Ready(error);
        }
        self.watched = true;
        let error = ready!(self.poll_reset(cx));
        self.state = State::Failed(error);
        Poll::Ready(error)
    }

    fn reset(&mut self, code: ErrorCode) {
        if !matches!(self.state, State::Failed(_)) {
            self.guard.shared.note_asked_reset(code);
            self.stream.send_reset(error::reason(code));
            self.state = State::Failed(StreamError::Local(code));
        }
    }
}

impl SendStream for H2Send {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.check_open()?;
        if trailers.is_empty() {
            return Poll::Ready(self.push(cx, Bytes::new(), true));
        }
        let mut trailers = trailers.clone();
        hop_by_hop::strip(&mut trailers, false);
        trailers.remove(http::header::TE);
        if self.stream.send_trailers(trailers).is_err() {
            return Poll::Ready(Err(self.why_closed(cx)));
        }
        self.state = State::Ended;
        Poll::Ready(Ok(()))
    }
}

impl Drop for H2Send {
    fn drop(&mut self) {
        if self.state != State::Open {
            return;
        }
        if self.guard.is_refused() && !self.begun {
            // The client of a refused tunnel lets go of its direction and still reads why: a reset would take that away,
            // and an end says nothing that is not so, since a CONNECT has no body (RFC 9110 section 9.3.6).
            let _ = self.stream.send_data(Bytes::new(), true);
        } else {
            let code = self.guard.stop_code().unwrap_or(self.guard.shared.abandon);
            self.reset(code);
        }
    }
}
