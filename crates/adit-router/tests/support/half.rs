//! One direction of a stream, in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use adit_codec::{RecvStream, SendStream};
use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSink, ByteSource};
use bytes::Bytes;
use http::HeaderMap;

/// One direction of a stream in memory; both ends hold it.
#[derive(Clone, Default)]
pub struct Half(Arc<Mutex<HalfState>>);

#[derive(Default)]
struct HalfState {
    queue: VecDeque<Bytes>,
    end: Option<Result<Option<HeaderMap>, StreamError>>,
    stopped: Option<ErrorCode>,
    reset: Option<ErrorCode>,
    /// The writer takes no more than this many bytes in the queue.
    room: Option<usize>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    total: usize,
}

impl Half {
    pub fn of(text: &str) -> Self {
        let half = Self::default();
        half.push(text);
        half.finish();
        half
    }

    pub fn empty() -> Self {
        let half = Self::default();
        half.finish();
        half
    }

    pub fn push(&self, text: impl AsRef<[u8]>) {
        let mut state = self.0.lock().unwrap();
        if !text.as_ref().is_empty() {
            state.queue.push_back(Bytes::copy_from_slice(text.as_ref()));
        }
        state.wake();
    }

    pub fn finish(&self) {
        self.end(Ok(None));
    }

    pub fn end(&self, end: Result<Option<HeaderMap>, StreamError>) {
        let mut state = self.0.lock().unwrap();
        state.end = Some(end);
        state.wake();
    }

    /// Everything written and not read, as text.
    pub fn text(&self) -> String {
        let state = self.0.lock().unwrap();
        String::from_utf8(state.queue.iter().flatten().copied().collect()).unwrap()
    }

    pub fn ended(&self) -> bool {
        matches!(self.0.lock().unwrap().end, Some(Ok(_)))
    }

    /// Waits for the clean end.
    pub fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if matches!(state.end, Some(Ok(_))) {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn trailers(&self) -> Option<HeaderMap> {
        self.0.lock().unwrap().end.clone()?.ok()?
    }

    pub fn reset_code(&self) -> Option<ErrorCode> {
        self.0.lock().unwrap().reset
    }

    pub fn stop_code(&self) -> Option<ErrorCode> {
        self.0.lock().unwrap().stopped
    }

    pub fn limit(&self, room: usize) {
        self.0.lock().unwrap().room = Some(room);
    }

    pub fn total(&self) -> usize {
        self.0.lock().unwrap().total
    }
}

impl HalfState {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

pub struct Reader(pub Half);

impl ByteSource for Reader {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        let mut state = self.0.0.lock().unwrap();
        if let Some(chunk) = state.queue.pop_front() {
            if let Some(waker) = state.writer.take() {
                waker.wake();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &state.end {
            Some(Ok(_)) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(*error))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn stop(&mut self, code: ErrorCode) {
        let mut state = self.0.0.lock().unwrap();
        state.stopped.get_or_insert(code);
        state.wake();
    }
}

impl RecvStream for Reader {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(self.0.0.lock().unwrap().end.clone().unwrap_or(Ok(None)))
    }

    fn is_end(&self) -> bool {
        let state = self.0.0.lock().unwrap();
        state.queue.is_empty() && matches!(state.end, Some(Ok(None)))
    }
}

pub struct Writer(pub Half);

impl ByteSink for Writer {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        let mut state = self.0.0.lock().unwrap();
        if let Some(code) = state.stopped {
            return Poll::Ready(Err(StreamError::Stopped(code)));
        }
        let used: usize = state.queue.iter().map(Bytes::len).sum();
        let room = state.room.map_or(usize::MAX, |room| room.saturating_sub(used));
        let taken = data.split_to(room.min(data.len()));
        state.total += taken.len();
        if !taken.is_empty() {
            state.queue.push_back(taken);
            state.reader.take().into_iter().for_each(Waker::wake);
        }
        if !data.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if end {
            state.end = Some(Ok(None));
            state.reader.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.0.0.lock().unwrap();
        match state.stopped {
            Some(code) => Poll::Ready(StreamError::Stopped(code)),
            None => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn reset(&mut self, code: ErrorCode) {
        let mut state = self.0.0.lock().unwrap();
        state.reset.get_or_insert(code);
        state.end.get_or_insert(Err(StreamError::Reset(code)));
        state.wake();
    }
}

impl SendStream for Writer {
    fn poll_send_trailers(&mut self, _cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.0.end(Ok(Some(trailers.clone())));
        Poll::Ready(Ok(()))
    }
}

/// A half dropped unfinished is a reset.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.0.0.lock().unwrap().end.is_none() {
            self.reset(ErrorCode::Cancel);
        }
    }
}
