//! Bodies, and the pump that moves one from where it comes to where it goes.

use std::task::{Context, Poll, ready};

use adit_codec::{RecvStream, SendStream};
use adit_filter::StreamInfo;
use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use http::HeaderMap;

use crate::mirror::Tap;

/// Bytes asked of a source at once.
const CHUNK: usize = 64 * 1024;

/// Where a body comes from.
pub(crate) trait Body {
    /// The next bytes; `None` at the end.
    fn poll_data(&mut self, cx: &mut Context<'_>, info: &mut StreamInfo) -> Poll<Option<Result<Bytes, StreamError>>>;

    /// The trailers, after the end of the bytes.
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>>;

    /// Whether neither bytes nor trailers are left.
    fn is_end(&self) -> bool;
}

/// A request's body: what the client sends, kept within a limit for another attempt and copied to mirrors.
pub(crate) struct RequestBody {
    recv: Option<Box<dyn RecvStream>>,
    /// Copied: chunks of a byte each, kept as they came, would hold many times the limit.
    kept: Vec<u8>,
    limit: usize,
    /// What was read so far is all in `kept`.
    whole: bool,
    /// Bytes of `kept` that this attempt was given.
    replayed: usize,
    /// The client's end was seen.
    complete: bool,
    trailers: Option<Box<HeaderMap>>,
    pub(crate) taps: Vec<Tap>,
}

impl RequestBody {
    /// A body that keeps at most `limit` bytes for another attempt.
    pub(crate) fn new(recv: Option<Box<dyn RecvStream>>, limit: usize) -> Self {
        let complete = recv.as_ref().is_none_or(|recv| recv.is_end());
        Self { recv, kept: Vec::new(), limit, whole: true, replayed: 0, complete, trailers: None, taps: Vec::new() }
    }

    /// Whether the client's end was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether another attempt can be given the whole body.
    pub(crate) fn can_replay(&self) -> bool {
        self.whole
    }

    /// Begins from the start for another attempt.
    pub(crate) fn rewind(&mut self) {
        self.replayed = 0;
    }

    /// No attempt will follow: lets go of what was kept once it was sent.
    pub(crate) fn forget(&mut self) {
        self.limit = 0;
    }

    /// Takes in what has come of it while nobody read it, as far as it can be kept for another attempt: the answer to a request
    /// that was received whole need not close its connection.
    pub(crate) fn poll_arrived(&mut self, cx: &mut Context<'_>, info: &mut StreamInfo) {
        self.replayed = self.kept.len();
        let mut left = if self.limit == 0 { CHUNK } else { self.limit.saturating_sub(self.kept.len()) };
        while left > 0 && !self.complete {
            match self.poll_next(cx, left.min(CHUNK), info) {
                Poll::Ready(Some(Ok(chunk))) => left = left.saturating_sub(chunk.len()),
                Poll::Ready(None) if matches!(self.poll_trailers(cx), Poll::Ready(Ok(_))) => {}
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
    }

    /// What comes next, at most so many bytes of it.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        info: &mut StreamInfo,
    ) -> Poll<Option<Result<Bytes, StreamError>>> {
        let Some(recv) = self.recv.as_mut().filter(|_| !self.complete) else { return Poll::Ready(None) };
        match ready!(recv.poll_chunk(cx, max)) {
            Some(Ok(chunk)) => {
                let end = recv.is_end();
                info.bytes_received += chunk.len() as u64;
                self.keep(&chunk);
                if end {
                    self.taps.iter_mut().for_each(|tap| tap.end(None));
                    self.finish(info);
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                info.timing.request_received.get_or_insert_with(|| info.started.elapsed());
                Poll::Ready(None)
            }
        }
    }

    fn keep(&mut self, chunk: &Bytes) {
        for tap in &mut self.taps {
            tap.data(chunk);
        }
        if !self.whole {
            return;
        }
        if self.kept.len() + chunk.len() > self.limit {
            self.whole = false;
            self.kept = Vec::new();
            self.replayed = 0;
            return;
        }
        self.kept.extend_from_slice(chunk);
        self.replayed = self.kept.len();
    }

    fn finish(&mut self, info: &mut StreamInfo) {
        self.complete = true;
        info.timing.request_received.get_or_insert_with(|| info.started.elapsed());
    }

    /// Tells the client that nothing more will be read: its answer is complete.
    pub(crate) fn stop(&mut self) {
        if let Some(recv) = &mut self.recv
            && !self.complete
        {
            recv.stop(ErrorCode::NoError);
        }
    }
}

impl Body for RequestBody {
    fn poll_data(&mut self, cx: &mut Context<'_>, info: &mut StreamInfo) -> Poll<Option<Result<Bytes, StreamError>>> {
        if let Some(chunk) = self.kept.get(self.replayed..).and_then(|left| left.chunks(CHUNK).next()) {
            self.replayed += chunk.len();
            return Poll::Ready(Some(Ok(Bytes::copy_from_slice(chunk))));
        }
        self.poll_next(cx, CHUNK, info)
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        if let Some(recv) = self.recv.as_mut().filter(|_| !self.complete) {
            self.trailers = ready!(recv.poll_trailers(cx))?.map(Box::new);
            self.complete = true;
            self.taps.iter_mut().for_each(|tap| tap.end(self.trailers.as_deref()));
        }
        Poll::Ready(Ok(self.trailers.as_deref().cloned()))
    }

    fn is_end(&self) -> bool {
        self.complete && self.trailers.is_none() && self.replayed >= self.kept.len()
    }
}

/// A response's body.
pub(crate) struct ResponseBody(pub(crate) Box<dyn RecvStream>);

impl Body for ResponseBody {
    fn poll_data(&mut self, cx: &mut Context<'_>, _info: &mut StreamInfo) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll_chunk(cx, CHUNK)
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.0.poll_trailers(cx)
    }

    fn is_end(&self) -> bool {
        self.0.is_end()
    }
}

/// Which side of a pump failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PumpError {
    Source(StreamError),
    Sink(StreamError),
}

/// Moves a body to a sink, trailers and end included. Holds one chunk; reads the next when the last went onward.
pub(crate) struct Pump {
    pub(crate) sink: Box<dyn SendStream>,
    data: Bytes,
    phase: Phase,
    /// Bytes that the sink was given.
    pub(crate) moved: u64,
    /// The sink takes nothing now.
    pub(crate) stalled: bool,
    /// The sink has bytes that were not flushed.
    dirty: bool,
}

enum Phase {
    Reading,
    /// With the end after it, or not.
    Sending(bool),
    Ending,
    Trailers(Box<HeaderMap>),
    Flushing,
    Done,
}

impl Pump {
    /// A pump; `done` when the head already said that there is no body.
    pub(crate) fn new(sink: Box<dyn SendStream>, done: bool) -> Self {
        let phase = if done { Phase::Flushing } else { Phase::Reading };
        Self { sink, data: Bytes::new(), phase, moved: 0, stalled: false, dirty: false }
    }

    /// The source has given all that it had.
    pub(crate) fn is_dry(&self) -> bool {
        matches!(self.phase, Phase::Sending(true) | Phase::Trailers(_) | Phase::Flushing | Phase::Done)
    }

    /// Ready once everything, the end included, has left.
    pub(crate) fn poll<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut B,
        info: &mut StreamInfo,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            match &mut self.phase {
                Phase::Reading => match body.poll_data(cx, info) {
                    Poll::Ready(Some(Ok(chunk))) => {
                        self.data = chunk;
                        self.phase = Phase::Sending(body.is_end());
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(PumpError::Source(error))),
                    Poll::Ready(None) => self.phase = Phase::Ending,
                    Poll::Pending => return self.poll_idle(cx),
                },
                Phase::Sending(end) => {
                    let before = self.data.len();
                    let sent = self.sink.poll_send(cx, &mut self.data, *end);
                    self.moved += (before - self.data.len()) as u64;
                    self.dirty = true;
                    self.stalled = sent.is_pending();
                    ready!(sent).map_err(PumpError::Sink)?;
                    self.phase = if *end { Phase::Flushing } else { Phase::Reading };
                }
                Phase::Ending => match ready!(body.poll_trailers(cx)).map_err(PumpError::Source)? {
                    Some(trailers) => self.phase = Phase::Trailers(Box::new(trailers)),
                    None => self.phase = Phase::Sending(true),
                },
                Phase::Trailers(trailers) => {
                    ready!(self.sink.poll_send_trailers(cx, trailers)).map_err(PumpError::Sink)?;
                    self.phase = Phase::Flushing;
                }
                Phase::Flushing => {
                    ready!(self.sink.poll_flush(cx)).map_err(PumpError::Sink)?;
                    self.phase = Phase::Done;
                }
                Phase::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Nothing to send: what was taken leaves, and a peer that reads no more is noticed.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if self.dirty
            && let Poll::Ready(flushed) = self.sink.poll_flush(cx)
        {
            flushed.map_err(PumpError::Sink)?;
            self.dirty = false;
        }
        match self.sink.poll_stopped(cx) {
            Poll::Ready(error) => Poll::Ready(Err(PumpError::Sink(error))),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adit_io::{Address, ByteSource, ConnInfo};

    use super::*;

    /// A body of so many bytes, one at a time.
    struct Drip(usize);

    impl ByteSource for Drip {
        fn poll_chunk(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
            self.0 = self.0.saturating_sub(1);
            Poll::Ready((self.0 > 0).then_some(Ok(Bytes::from_static(b"x"))))
        }

        fn stop(&mut self, _: ErrorCode) {}
    }

    impl RecvStream for Drip {
        fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
            Poll::Ready(Ok(None))
        }

        fn is_end(&self) -> bool {
            self.0 <= 1
        }
    }

    #[test]
    fn what_is_kept_for_another_attempt_is_its_bytes_and_not_its_chunks() {
        let address = Address::Pipe("p".into());
        let mut info = StreamInfo::new(Arc::new(ConnInfo::new(1, address.clone(), address)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut body = RequestBody::new(Some(Box::new(Drip(CHUNK + 1))), CHUNK);
        let mut sizes = |body: &mut RequestBody| {
            let mut sizes = Vec::new();
            while let Poll::Ready(Some(Ok(chunk))) = body.poll_data(&mut cx, &mut info) {
                sizes.push(chunk.len());
            }
            sizes
        };
        assert_eq!(sizes(&mut body), vec![1; CHUNK]);
        assert!(body.can_replay());
        body.rewind();
        assert!(!body.is_end());
        assert_eq!(sizes(&mut body), [CHUNK]);
        assert!(body.is_end());
    }
}
