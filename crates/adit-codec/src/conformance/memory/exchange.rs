//! What both ends of a stream know.

use std::collections::VecDeque;

use adit_http::{ErrorCode, ResponseHead, StreamError};
use bytes::Bytes;
use http::HeaderMap;

use super::{SharedLink, Wakers, lock};

/// The direction from the client.
pub(super) const UP: usize = 0;
/// The direction from the server.
pub(super) const DOWN: usize = 1;

/// One stream.
pub(super) struct Exchange {
    link: SharedLink,
    pub(super) pipes: [Pipe; 2],
    /// Heads of the answer on their way.
    pub(super) heads: VecDeque<ResponseHead>,
    pub(super) wakers: Wakers,
    counted: bool,
}

/// One direction of a stream.
pub(super) struct Pipe {
    queue: VecDeque<Bytes>,
    held: usize,
    window: usize,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
    pub(super) reset: Option<ErrorCode>,
    pub(super) stopped: Option<ErrorCode>,
}

impl Exchange {
    pub(super) fn new(link: SharedLink, window: usize) -> Self {
        let pipe = || Pipe {
            queue: VecDeque::new(),
            held: 0,
            window,
            trailers: None,
            ended: false,
            reset: None,
            stopped: None,
        };
        Self { link, pipes: [pipe(), pipe()], heads: VecDeque::new(), wakers: Wakers::default(), counted: true }
    }

    /// The other end is told; a stream whose both directions are over counts no more.
    pub(super) fn changed(&mut self) {
        self.wakers.wake();
        if self.counted && self.pipes.iter().all(Pipe::is_over) {
            self.counted = false;
            let mut link = lock(&self.link);
            link.live -= 1;
            link.wakers.wake();
        }
    }

    /// Both directions, with one code, unless they are over.
    pub(super) fn reset(&mut self, code: ErrorCode) {
        for pipe in &mut self.pipes {
            pipe.reset(code);
        }
        self.changed();
    }
}

impl Pipe {
    fn is_over(&self) -> bool {
        self.ended || self.reset.is_some() || self.stopped.is_some()
    }

    pub(super) fn reset(&mut self, code: ErrorCode) {
        if !self.ended && self.reset.is_none() {
            self.reset = Some(code);
            self.queue.clear();
            self.held = 0;
        }
    }

    pub(super) fn stop(&mut self, code: ErrorCode) {
        if !(self.ended && self.queue.is_empty()) && self.reset.is_none() && self.stopped.is_none() {
            self.stopped = Some(code);
            self.queue.clear();
            self.held = 0;
        }
    }

    /// Why nothing can be written any more.
    pub(super) fn write_error(&self) -> Option<StreamError> {
        self.stopped.map(StreamError::Stopped).or(self.reset.map(StreamError::Reset))
    }

    /// Takes what there is room for.
    pub(super) fn push(&mut self, data: &mut Bytes) {
        let n = data.len().min(self.window - self.held);
        if n > 0 {
            self.held += n;
            self.queue.push_back(data.split_to(n));
        }
    }

    pub(super) fn pop(&mut self, max: usize) -> Option<Bytes> {
        let first = self.queue.front_mut()?;
        let data = first.split_to(first.len().min(max.max(1)));
        if first.is_empty() {
            self.queue.pop_front();
        }
        self.held -= data.len();
        Some(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
