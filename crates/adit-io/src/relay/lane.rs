//! One direction of a relay.

use std::future::Future;
use std::task::{Context, Poll, ready};

use adit_http::StreamError;
use bytes::Bytes;

use super::pipe::Pipe;
use super::plain::{self, Mode};
use super::{DirectionEnd, DirectionSummary};
use crate::{ByteSink, ByteSource, scratch};

/// Bytes moved in one poll before other tasks get their turn, but for the read in hand: a fraction of a millisecond of
/// work. One large chunk at a time also leaves it in the core's cache for the task that reads it behind an internal hop.
const TURN: usize = 128 * 1024;

/// Sizes asked from a source; one step up for each chunk that filled the last, one down for each that was far below.
const READ_SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// Which end of a lane failed.
#[derive(Debug)]
pub(super) enum Failure {
    Source(StreamError),
    Sink(StreamError),
}

/// Why a lane is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wait {
    /// The source has nothing.
    #[default]
    Source,
    /// The sink takes nothing.
    Sink,
    /// Its turn is over.
    Turn,
}

/// ```text
/// Open -- source ended, or asked to close --> Ending -- sink took the end --> Flushing -- flushed --> Done
/// any -- failed ------------------------------------------------------------------------------------> Done
/// ```
#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Open,
    Ending,
    Flushing,
    Done,
}

/// What becomes of the sink once the source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum AtEnd {
    /// The end is passed on.
    #[default]
    Pass,
    /// It is given the end although the source had not ended.
    Close,
    /// What looks like an end is none.
    Withhold,
}

/// Small: an idle tunnel has two.
#[derive(Default)]
pub(super) struct Lane {
    /// Bytes that the sink took.
    pub(super) bytes: u64,
    /// Read but not taken yet. Nothing more is read before it is empty. Boxed, as an idle lane pays for the room.
    stash: Option<Box<Bytes>>,
    /// As `stash`, inside the kernel; given back as soon as it is empty.
    pub(super) pipe: Option<Box<Pipe>>,
    /// How it ended, if not as it should. Boxed likewise.
    failure: Option<Box<DirectionEnd>>,
    pub(super) mode: Mode,
    state: State,
    pub(super) wait: Wait,
    read_size: u8,
    active: bool,
    unflushed: bool,
    at_end: AtEnd,
}

impl Lane {
    /// Moves bytes until either end is pending or the turn is over. Ready once the direction is over. `last` says that the
    /// other direction has ended as it should.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn ByteSource,
        sink: &mut dyn ByteSink,
        limit: usize,
        last: bool,
    ) -> Poll<Result<(), Failure>> {
        loop {
            match self.state {
                State::Open => {
                    let mut held = self.stash.take().map_or_else(Bytes::new, |held| *held);
                    let result = self.poll_open(cx, source, sink, limit, &mut held);
                    if !held.is_empty() {
                        self.stash = Some(Box::new(held));
                    }
                    ready!(result)?;
                    if self.at_end == AtEnd::Withhold {
                        self.finish(DirectionEnd::Reset(StreamError::Reset(adit_http::ErrorCode::Cancel)));
                    } else {
                        self.state = State::Ending;
                    }
                }
                State::Ending if last && sink.end_at_close() => {
                    self.finish(self.end());
                }
                State::Ending => {
                    self.wait = Wait::Sink;
                    ready!(sink.poll_send(cx, &mut Bytes::new(), true)).map_err(Failure::Sink)?;
                    self.state = State::Flushing;
                }
                State::Flushing => {
                    self.wait = Wait::Sink;
                    ready!(sink.poll_flush(cx)).map_err(Failure::Sink)?;
                    self.finish(self.end());
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Ready once the source ended and nothing is held.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn ByteSource,
        sink: &mut dyn ByteSink,
        limit: usize,
        held: &mut Bytes,
    ) -> Poll<Result<(), Failure>> {
        let start = self.bytes;
        loop {
            ready!(self.poll_deliver(cx, sink, held))?;
            if self.at_end == AtEnd::Close {
                return Poll::Ready(Ok(()));
            }
            if self.bytes - start >= TURN as u64 {
                self.wait = Wait::Turn;
                yield_turn(cx);
                return Poll::Pending;
            }
            self.wait = Wait::Source;
            let more = match (source.as_tcp(), sink.as_tcp()) {
                (Some(from), Some(to)) => Some(ready!(plain::poll_move(self, cx, from, to, limit, held))?),
                (Some(from), None) if matches!(self.mode, Mode::Splice(_)) => {
                    ready!(plain::poll_pass(self, cx, from, sink, limit))?
                }
                (Some(_), None) => None,
                (None, _) => self.take_spliced(cx, source, sink)?,
            };
            let more = match more {
                Some(more) => more,
                None => ready!(self.poll_read(cx, source, sink, limit, held))?,
            };
            self.active = true;
            if !more {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes the next bytes in hand as they lie in the kernel; `None` when they are to be read.
    fn take_spliced(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn ByteSource,
        sink: &mut dyn ByteSink,
    ) -> Result<Option<bool>, Failure> {
        // Without room there may still be an end.
        let wanted =
            sink.as_tcp().is_some() || !matches!(sink.poll_splice(cx).map_err(Failure::Sink)?, Poll::Ready(None));
        if wanted {
            self.pipe = source.take_spliced().map(|spliced| spliced.0);
        }
        Ok(self.pipe.is_some().then_some(true))
    }

    /// Reads the next chunk; `false` at the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn ByteSource,
        sink: &mut dyn ByteSink,
        limit: usize,
        held: &mut Bytes,
    ) -> Poll<Result<bool, Failure>> {
        let size = READ_SIZES.get(usize::from(self.read_size)).copied().unwrap_or(READ_SIZES[0]);
        self.wait = Wait::Source;
        match source.poll_chunk(cx, size.min(limit)) {
            Poll::Ready(Some(Ok(chunk))) => {
                if chunk.len() >= size {
                    self.read_size = (self.read_size + 1).min(READ_SIZES.len() as u8 - 1);
                } else if chunk.len() < size / 8 {
                    self.read_size = self.read_size.saturating_sub(1);
                }
                if source.as_tcp().is_some() {
                    plain::count_read(self, chunk.len(), limit);
                }
                *held = chunk;
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Failure::Source(error))),
            Poll::Ready(None) => Poll::Ready(Ok(false)),
            Poll::Pending => {
                if self.unflushed && sink.poll_flush(cx).map_err(Failure::Sink)?.is_ready() {
                    self.unflushed = false;
                }
                Poll::Pending
            }
        }
    }

    /// Ready once nothing is held.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn ByteSink,
        held: &mut Bytes,
    ) -> Poll<Result<(), Failure>> {
        self.wait = Wait::Sink;
        if self.pipe.is_some() {
            ready!(plain::poll_drain(self, cx, sink, held))?;
        }
        if !held.is_empty() {
            let before = held.len();
            let result = sink.poll_send(cx, held, false);
            self.moved(before - held.len());
            // Also behind a pending one, which may have taken the bytes and hold them.
            self.unflushed = true;
            ready!(result).map_err(Failure::Sink)?;
            // An emptied view still owns its buffer, which an idle lane must not.
            let sent = std::mem::take(held);
            if before >= READ_SIZES[2] / 2 {
                scratch::recycle(sent);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The sink took `n` bytes.
    pub(super) fn moved(&mut self, n: usize) {
        if n > 0 {
            self.bytes += n as u64;
            self.active = true;
        }
    }

    /// Whether a byte moved since the last call.
    pub(super) fn take_active(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }

    /// The source is not read, because the sink takes nothing.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.state, State::Open) && self.wait == Wait::Sink
    }

    /// Nothing more will be read from the source.
    pub(super) fn is_source_over(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The source gave its end.
    pub(super) fn is_ended(&self) -> bool {
        self.is_done() && self.failure.is_none()
    }

    pub(super) fn wait(&self) -> Wait {
        self.wait
    }

    /// Reads no more; ends the sink after what is held.
    pub(super) fn close(&mut self) {
        if matches!(self.state, State::Open) {
            self.at_end = AtEnd::Close;
        }
    }

    /// From now on what looks like an end is none.
    pub(super) fn withhold_end(&mut self) {
        self.at_end = AtEnd::Withhold;
    }

    /// How the direction ends when the sink has taken its end.
    fn end(&self) -> DirectionEnd {
        if self.at_end == AtEnd::Close { DirectionEnd::Closed } else { DirectionEnd::End }
    }

    pub(super) fn finish(&mut self, end: DirectionEnd) {
        self.state = State::Done;
        self.failure = (end != DirectionEnd::End).then(|| Box::new(end));
        self.stash = None;
        self.pipe = None;
    }

    pub(super) fn summary(&self) -> DirectionSummary {
        let end = match (&self.failure, self.state) {
            (Some(failure), _) => **failure,
            (None, State::Done) => DirectionEnd::End,
            (None, _) => DirectionEnd::Cut,
        };
        DirectionSummary { bytes: self.bytes, end }
    }
}

/// Lets every other task and the reactor have a turn before this task is polled again.
fn yield_turn(cx: &mut Context<'_>) {
    let mut turn = std::pin::pin!(tokio::task::yield_now());
    // Its first poll defers the waker until the reactor was polled, which waking it here would not.
    let _ = turn.as_mut().poll(cx);
}
