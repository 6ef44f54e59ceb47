//! The sending half: chunks go to quinn as they are, and quinn takes what flow control has room for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use adit_codec::SendStream;
use adit_http::{ErrorCode, StreamError};
use adit_io::ByteSink;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use quinn::{StoppedError, VarInt, WriteError};

use crate::shared::{Departure, Shared, StreamGuard, Stuck};
use crate::{Counter, error, frame, head};

/// Heads that wait for flow control, in bytes: beyond it a responder may not inform any more.
const MAX_HEADS: usize = 128 << 10;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// The DATA of one stream, then its end or trailers.
pub(crate) struct H3Send {
    /// `None` while it is stuck.
    stream: Option<quinn::SendStream>,
    /// The stream while the connection's owner pushes its head.
    stuck: Option<Arc<Stuck>>,
    guard: Arc<StreamGuard>,
    /// Bytes that go before any other: heads, the header of a DATA frame.
    ahead: Bytes,
    /// Bytes of the DATA frame whose header went before.
    frame_left: u64,
    stopped: Option<Stopped>,
    /// The code of a half that is dropped unfinished.
    abandon: ErrorCode,
    state: State,
    /// A byte of this direction was sent.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Ends as soon as what stands ahead has left.
    Ending,
    Ended,
    Failed(StreamError),
}

impl H3Send {
    pub(crate) fn new(stream: quinn::SendStream, guard: Arc<StreamGuard>, abandon: ErrorCode) -> Self {
        Self {
            stream: Some(stream),
            stuck: None,
            guard,
            ahead: Bytes::new(),
            frame_left: 0,
            stopped: None,
            abandon,
            state: State::Open,
            begun: false,
        }
    }

    /// Queues a head, and with `end` ends the direction behind it.
    pub(crate) fn send_head(&mut self, head: Bytes, end: bool) -> Result<(), StreamError> {
        self.check_open()?;
        self.take_back();
        if self.ahead.len() + head.len() > MAX_HEADS {
            return Err(StreamError::TooLarge("http3.too_many_heads"));
        }
        self.guard.note_sent(head.len(), head.len());
        self.ahead = if self.ahead.is_empty() { head } else { [&self.ahead[..], &head[..]].concat().into() };
        if end {
            self.state = State::Ending;
        }
        match self.poll_ahead(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.stick();
                Ok(())
            }
        }
    }

    /// Lets the connection's owner send what stands ahead: nobody may ask for this stream until that was answered.
    fn stick(&mut self) {
        if let Some(stream) = self.stream.take() {
            let departure =
                Departure { stream, rest: std::mem::take(&mut self.ahead), end: self.state == State::Ending };
            let stuck = Stuck::new(departure);
            self.guard.shared.stick(stuck.clone());
            self.stuck = Some(stuck);
        }
    }

    /// Ready when the stream is this half's again.
    fn poll_unstuck(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some(stuck) = &self.stuck {
            let departure = ready!(stuck.poll_take(cx));
            self.stuck = None;
            self.stream = departure.map(|departure| departure.stream);
        }
        Poll::Ready(())
    }

    /// Takes the stream from the connection's owner as it is.
    fn take_back(&mut self) {
        if let Some(departure) = self.stuck.take().and_then(|stuck| stuck.take()) {
            self.ahead = departure.rest;
            self.stream = Some(departure.stream);
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.guard.shared
    }

    fn fail(&mut self, error: StreamError) -> StreamError {
        self.state = State::Failed(error);
        self.ahead = Bytes::new();
        error
    }

    fn write_failed(&mut self, cause: WriteError) -> StreamError {
        match cause {
            WriteError::Stopped(code) => self.peer_stopped(code),
            WriteError::ConnectionLost(cause) => self.lost(&cause),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => self.fail(StreamError::Local(ErrorCode::Cancel)),
        }
    }

    fn lost(&mut self, cause: &quinn::ConnectionError) -> StreamError {
        let error = match &self.stream {
            Some(stream) => self.guard.shared.lost(cause, stream.id()),
            None => error::lost(cause),
        };
        self.fail(error)
    }

    /// STOP_SENDING is answered by RESET_STREAM with its code (RFC 9000 section 3.5).
    fn peer_stopped(&mut self, code: VarInt) -> StreamError {
        self.guard.shared.count(Counter::RxReset);
        if let Some(stream) = &mut self.stream {
            let _ = stream.reset(code);
        }
        self.fail(StreamError::Stopped(error::from_wire(code)))
    }

    /// Writes what stands ahead, then the front of `data`; how much of `data` went.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &Bytes) -> Poll<Result<usize, StreamError>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(StreamError::Local(ErrorCode::Cancel))) };
        let ahead = std::mem::take(&mut self.ahead);
        let before = ahead.len();
        let mut bufs = [ahead, data.clone()];
        let polled = pin!(stream.write_chunks(&mut bufs)).poll(cx);
        [self.ahead, _] = bufs;
        match ready!(polled) {
            Ok(written) => Poll::Ready(Ok(written.bytes.saturating_sub(before - self.ahead.len()))),
            Err(cause) => Poll::Ready(Err(self.write_failed(cause))),
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while !self.ahead.is_empty() {
            ready!(self.poll_write(cx, &Bytes::new()))?;
        }
        if self.state == State::Ending {
            self.finish();
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        if let Some(stream) = &mut self.stream {
            // Fails only on a stream that was reset, and then the end is none.
            let _ = stream.finish();
        }
        self.state = State::Ended;
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<(), StreamError>> {
        while !data.is_empty() {
            if self.frame_left == 0 {
                let mut header = Vec::with_capacity(9);
                frame::header(frame::DATA, data.len() as u64, &mut header);
                self.guard.note_sent(header.len(), 0);
                self.ahead =
                    if self.ahead.is_empty() { header.into() } else { [&self.ahead[..], &header[..]].concat().into() };
                self.frame_left = data.len() as u64;
            }
            let piece = data.slice(..data.len().min(usize::try_from(self.frame_left).unwrap_or(usize::MAX)));
            let sent = ready!(self.poll_write(cx, &piece))?;
            data.advance(sent);
            self.frame_left -= sent as u64;
            self.begun |= sent > 0;
        }
        Poll::Ready(Ok(()))
    }

    fn reset_if_abandoned(&mut self) {
        if self.guard.is_abandoned() && !matches!(self.state, State::Failed(_)) {
            self.reset(self.abandon);
        }
    }

    fn check_open(&mut self) -> Result<(), StreamError> {
        self.reset_if_abandoned();
        match self.state {
            State::Open => Ok(()),
            State::Ending | State::Ended => Err(StreamError::Local(ErrorCode::NoError)),
            State::Failed(error) => Err(error),
        }
    }

    pub(crate) fn reset_with(&mut self, code: VarInt) {
        self.take_back();
        if let Some(stream) = &mut self.stream
            && stream.reset(code).is_ok()
        {
            self.guard.shared.count(Counter::TxReset);
        }
    }
}

impl ByteSink for H3Send {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        if data.is_empty() && (!end || matches!(self.state, State::Ending | State::Ended)) {
            return Poll::Ready(match self.state {
                State::Failed(error) => Err(error),
                State::Open | State::Ending | State::Ended => Ok(()),
            });
        }
        self.check_open()?;
        ready!(self.poll_unstuck(cx));
        ready!(self.poll_data(cx, data))?;
        if end {
            if self.frame_left > 0 {
                // Whoever took back bytes that were announced may not end with fewer.
                self.reset(ErrorCode::Internal);
                return Poll::Ready(Err(StreamError::Local(ErrorCode::Internal)));
            }
            self.state = State::Ending;
            if let Poll::Ready(result) = self.poll_ahead(cx) {
                return Poll::Ready(result);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let State::Failed(error) = self.state {
            return Poll::Ready(Err(error));
        }
        ready!(self.poll_unstuck(cx));
        self.poll_ahead(cx)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.reset_if_abandoned();
        if let State::Failed(error) = self.state {
            return Poll::Ready(error);
        }
        ready!(self.poll_unstuck(cx));
        let Some(stream) = &self.stream else { return Poll::Pending };
        let stopped = self.stopped.get_or_insert_with(|| Box::pin(stream.stopped()));
        let result = ready!(stopped.as_mut().poll(cx));
        self.stopped = None;
        match result {
            Ok(Some(code)) => Poll::Ready(self.peer_stopped(code)),
            // The peer has everything up to the end.
            Ok(None) => Poll::Pending,
            Err(StoppedError::ConnectionLost(cause)) => Poll::Ready(self.lost(&cause)),
            Err(StoppedError::ZeroRttRejected) => Poll::Ready(self.fail(StreamError::Local(ErrorCode::Cancel))),
        }
    }

    fn reset(&mut self, code: ErrorCode) {
        if !matches!(self.state, State::Failed(_)) {
            self.reset_with(error::wire(code));
            self.fail(StreamError::Local(code));
        }
    }
}

impl SendStream for H3Send {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.check_open()?;
        ready!(self.poll_unstuck(cx));
        ready!(self.poll_ahead(cx))?;
        if !trailers.is_empty() {
            self.ahead = head::trailers_block(trailers, self.guard.shared.peer().max_field_section_size)?;
            self.guard.note_sent(self.ahead.len(), self.ahead.len());
        }
        self.state = State::Ending;
        match self.poll_ahead(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                self.stick();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Drop for H3Send {
    fn drop(&mut self) {
        self.take_back();
        let Some(mut stream) = self.stream.take() else { return };
        self.stopped = None;
        match self.state {
            State::Failed(_) => {}
            State::Ended | State::Ending => {
                let rest = std::mem::take(&mut self.ahead);
                self.guard.shared.depart(Departure { stream, rest, end: true });
            }
            // The client of a refused tunnel lets go of its direction: an end says nothing that is not so, since a
            // CONNECT has no body (RFC 9110 section 9.3.6).
            State::Open if self.guard.is_refused() && !self.begun => drop(stream),
            State::Open => {
                self.guard.shared.count(Counter::TxReset);
                let _ = stream.reset(error::wire(self.abandon));
            }
        }
    }
}
