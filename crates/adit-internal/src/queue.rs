//! One direction of a pair.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use adit_http::{ErrorCode, StreamError};
use adit_io::{Chunk, Spliced};
use bytes::Bytes;

/// What a chunk counts for at least, so that many tiny ones are bounded too.
const LEAST_CHARGE: usize = 64;

/// How much one direction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    high: u32,
}

impl Limits {
    /// The marks for Envoy's `buffer_size_kb`: the high one is this many KiB, the low one half of that. `None` outside
    /// 1 to 8192.
    pub fn from_kb(kb: u32) -> Option<Self> {
        (1..=8192).contains(&kb).then_some(Self { high: kb * 1024 })
    }

    /// Above this many bytes a writer waits.
    pub fn high(self) -> usize {
        self.high as usize
    }

    /// At this many bytes a waiting writer is woken.
    pub fn low(self) -> usize {
        self.high() / 2
    }
}

impl Default for Limits {
    /// 1 MiB.
    fn default() -> Self {
        Self { high: 1 << 20 }
    }
}

/// How the writer left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Ended,
    Reset(ErrorCode),
}

/// A bounded queue of chunks with one reader and one writer. Wakers are called outside the lock.
#[derive(Debug)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The oldest chunk: most queues never hold a second one. Empty only when the queue is.
    front: Chunk,
    /// Boxed, as an idle queue pays for the room.
    #[expect(clippy::box_collection, reason = "most queues have none")]
    rest: Option<Box<VecDeque<Chunk>>>,
    charged: usize,
    limits: Limits,
    end: End,
    stopped: Option<ErrorCode>,
    /// The high mark was reached, and the low one not yet again.
    blocked: bool,
    /// The reader has a use for bytes that lie in the kernel.
    splices: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Mutex::new(State {
            front: Chunk::EMPTY,
            rest: None,
            charged: 0,
            limits,
            end: End::Open,
            stopped: None,
            blocked: false,
            splices: false,
            reader: None,
            writer: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from the front of `data` what the high mark allows; pending while some is left.
    pub(crate) fn poll_push(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<(), StreamError>> {
        self.poll_add(cx, |room| {
            let chunk = data.split_to(room.min(data.len()));
            (chunk, data.is_empty())
        })
    }

    /// Copies one chunk from `data`, as much as the high mark allows, at least a byte.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, StreamError>> {
        let mut written = 0;
        let result = self.poll_add(cx, |room| {
            let part = data.get(..room.min(data.len())).unwrap_or_default();
            written = part.len();
            (Bytes::copy_from_slice(part), true)
        });
        result.map_ok(|()| written)
    }

    /// Adds chunks until `next` says that there are no more. It is told how many bytes there is room for, never 0.
    fn poll_add(
        &self,
        cx: &mut Context<'_>,
        mut next: impl FnMut(usize) -> (Bytes, bool),
    ) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        if let Some(error) = state.refuses() {
            return Poll::Ready(Err(error));
        }
        let result = loop {
            let Some(room) = state.room() else {
                park(&mut state.writer, cx);
                break Poll::Pending;
            };
            let (chunk, last) = next(room);
            state.add(Chunk::Bytes(chunk));
            if last {
                break Poll::Ready(Ok(()));
            }
        };
        let reader = if state.front.is_empty() { None } else { state.reader.take() };
        drop(state);
        wake(reader);
        result
    }

    /// How much may be added by [`Queue::push_spliced`]; `None` when the reader has no use for that.
    pub(crate) fn poll_splice(&self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        let mut state = self.lock();
        if let Some(error) = state.refuses() {
            return Poll::Ready(Err(error));
        }
        if !state.splices {
            return Poll::Ready(Ok(None));
        }
        match state.room() {
            Some(room) => Poll::Ready(Ok(Some(room))),
            None => {
                park(&mut state.writer, cx);
                Poll::Pending
            }
        }
    }

    /// Adds bytes that lie in the kernel.
    pub(crate) fn push_spliced(&self, data: Spliced) -> Result<(), StreamError> {
        let mut state = self.lock();
        if let Some(error) = state.refuses() {
            return Err(error);
        }
        state.add(Chunk::Spliced(data));
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(())
    }

    /// The oldest bytes, if they lie in the kernel.
    pub(crate) fn take_spliced(&self) -> Option<Spliced> {
        let mut state = self.lock();
        state.splices = true;
        if !matches!(state.front, Chunk::Spliced(_)) {
            return None;
        }
        let (chunk, writer) = state.take();
        drop(state);
        wake(writer);
        match chunk {
            Chunk::Spliced(spliced) => Some(spliced),
            Chunk::Bytes(_) => None,
        }
    }

    /// The oldest chunk, whole; the end or the reset behind the last one.
    pub(crate) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        let mut state = self.lock();
        if state.front.is_empty() {
            return state.poll_over(cx);
        }
        let (chunk, writer) = state.take();
        drop(state);
        wake(writer);
        Poll::Ready(Some(chunk.into_bytes()))
    }

    /// Copies into `buffer` until it is full or the queue empty; 0 bytes are the end.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        if state.front.is_empty() {
            return state.poll_over(cx).map(|over| over.map_or(Ok(()), |result| result.map(|_| ())));
        }
        while buffer.remaining() > 0 && !state.front.is_empty() {
            let before = charge(state.front.len());
            let mut front = match state.next().into_bytes() {
                Ok(front) => front,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let n = buffer.remaining().min(front.len());
            buffer.put_slice(&front.split_to(n));
            state.charged = state.charged.saturating_sub(before) + charge(front.len());
            if !front.is_empty() {
                let next = std::mem::replace(&mut state.front, Chunk::Bytes(front));
                if !next.is_empty() {
                    state.rest.get_or_insert_default().push_front(next);
                }
            }
        }
        let writer = state.writer_to_wake();
        drop(state);
        wake(writer);
        Poll::Ready(Ok(()))
    }

    /// Puts bytes back in front. They count against the marks again, which they may exceed.
    pub(crate) fn unread(&self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.charged += charge(data.len());
        let next = std::mem::replace(&mut state.front, Chunk::Bytes(data));
        if !next.is_empty() {
            state.rest.get_or_insert_default().push_front(next);
        }
    }

    /// Nothing comes any more: an end.
    pub(crate) fn end(&self) -> Result<(), StreamError> {
        let mut state = self.lock();
        match state.end {
            End::Ended => return Ok(()),
            End::Reset(code) => return Err(StreamError::Local(code)),
            End::Open => {}
        }
        if let Some(code) = state.stopped {
            return Err(StreamError::Stopped(code));
        }
        state.end = End::Ended;
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(())
    }

    /// Nothing comes any more: a reset, unless the end was given before.
    pub(crate) fn reset(&self, code: ErrorCode) {
        let mut state = self.lock();
        if state.end != End::Open {
            return;
        }
        state.end = End::Reset(code);
        state.blocked = false;
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        wake(reader);
        drop(writer);
    }

    /// Nothing is read any more: what is queued is dropped, and the writer learns it.
    pub(crate) fn stop(&self, code: ErrorCode) {
        let mut state = self.lock();
        if state.stopped.is_some() {
            return;
        }
        state.stopped = Some(code);
        let chunks = (std::mem::replace(&mut state.front, Chunk::EMPTY), std::mem::take(&mut state.rest));
        state.charged = 0;
        state.blocked = false;
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        wake(writer);
        drop((chunks, reader));
    }

    /// Ready when nothing is read any more.
    pub(crate) fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<ErrorCode> {
        let mut state = self.lock();
        match state.stopped {
            Some(code) => Poll::Ready(code),
            None => {
                park(&mut state.writer, cx);
                Poll::Pending
            }
        }
    }

    /// Ready when the writer has reset, whatever is still queued.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if matches!(state.end, End::Reset(_)) {
            return Poll::Ready(());
        }
        park(&mut state.reader, cx);
        Poll::Pending
    }

    /// Bytes that count against the marks.
    #[cfg(test)]
    pub(crate) fn charged(&self) -> usize {
        self.lock().charged
    }
}

impl State {
    /// Why the writer may not write.
    fn refuses(&self) -> Option<StreamError> {
        match (self.stopped, self.end) {
            (Some(code), _) => Some(StreamError::Stopped(code)),
            (None, End::Ended) => Some(StreamError::Local(ErrorCode::StreamClosed)),
            (None, End::Reset(code)) => Some(StreamError::Local(code)),
            (None, End::Open) => None,
        }
    }

    /// How much may be added; `None` once the high mark was reached, until the low one is.
    fn room(&mut self) -> Option<usize> {
        let room = self.limits.high().saturating_sub(self.charged);
        self.blocked = if self.blocked { self.charged > self.limits.low() } else { room == 0 };
        (!self.blocked).then_some(room)
    }

    /// The oldest chunk, counted off, and who is to be told.
    fn take(&mut self) -> (Chunk, Option<Waker>) {
        let chunk = self.next();
        self.charged = self.charged.saturating_sub(charge(chunk.len()));
        (chunk, self.writer_to_wake())
    }

    fn add(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        self.charged += charge(chunk.len());
        if self.front.is_empty() {
            self.front = chunk;
        } else {
            self.rest.get_or_insert_default().push_back(chunk);
        }
    }

    fn next(&mut self) -> Chunk {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front()).unwrap_or(Chunk::EMPTY);
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            // An idle queue holds no memory.
            self.rest = None;
        }
        std::mem::replace(&mut self.front, next)
    }

    /// What an empty queue says to its reader.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        match self.end {
            End::Ended => Poll::Ready(None),
            End::Reset(code) => Poll::Ready(Some(Err(StreamError::Reset(code)))),
            End::Open => {
                park(&mut self.reader, cx);
                Poll::Pending
            }
        }
    }

    /// The writer, once the low mark is reached from above.
    fn writer_to_wake(&mut self) -> Option<Waker> {
        if self.blocked && self.charged <= self.limits.low() {
            self.blocked = false;
            return self.writer.take();
        }
        None
    }
}

fn charge(len: usize) -> usize {
    if len == 0 { 0 } else { len.max(LEAST_CHARGE) }
}

fn park(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
