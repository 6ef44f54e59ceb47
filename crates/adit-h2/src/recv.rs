//! The receiving half of a stream: a window given back only for what went onward.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::RecvStream;
use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSource, Spliced};
use bytes::Bytes;
use http::HeaderMap;

use crate::Counter;
use crate::conn::Link;
use crate::conn::send::Received;
use crate::conn::stream::Fit;
use crate::error::MISUSED;

/// The DATA of one stream, then its trailers. What came of it stands with the connection.
///
/// Dropped or stopped early, what still comes is thrown away and the window stays shut; the RST_STREAM that says so
/// leaves when the sending half is done too (RFC 9113 section 8.1), since HTTP/2 cannot end one direction alone.
pub(crate) struct H2Recv {
    link: Arc<Link>,
    key: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// All of it was read.
    Over,
    Failed(StreamError),
}

impl H2Recv {
    /// The half that the connection counts as held.
    pub(crate) fn new(link: Arc<Link>, key: u32) -> Self {
        Self { link, key, state: State::Open }
    }

    fn fail(&mut self, error: StreamError) -> StreamError {
        self.state = State::Failed(error);
        error
    }
}

impl ByteSource for H2Recv {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        match self.state {
            State::Open => {}
            State::Over => return Poll::Ready(None),
            State::Failed(error) => return Poll::Ready(Some(Err(error))),
        }
        let received = ready!(self.link.lock().poll_chunk(self.key, cx));
        Poll::Ready(match received {
            Ok(Received::Chunk(chunk)) => Some(Ok(chunk)),
            Ok(Received::End) => None,
            Err(error) => Some(Err(self.fail(error))),
        })
    }

    fn take_spliced(&mut self) -> Option<Spliced> {
        if self.state == State::Open { self.link.lock().take_spliced(self.key) } else { None }
    }

    fn stop(&mut self, code: ErrorCode) {
        let mut core = self.link.lock();
        if self.state == State::Open && !core.is_read(self.key) {
            core.stop(self.key, code);
            drop(core);
            self.fail(StreamError::Local(code));
        }
    }
}

impl RecvStream for H2Recv {
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        match self.state {
            State::Open => {}
            State::Over => return Poll::Ready(Ok(None)),
            State::Failed(error) => return Poll::Ready(Err(error)),
        }
        let mut core = self.link.lock();
        let result = ready!(core.poll_trailers(self.key, cx));
        let result = match result {
            Ok(Some((trailers, fit))) => {
                core.stats.count(Counter::Trailers);
                if fit == Fit::TooLarge {
                    core.stats.count(Counter::HeaderOverflow);
                    Err(StreamError::TooLarge("http2.too_many_trailers"))
                } else {
                    Ok(Some(trailers))
                }
            }
            other => other.map(|_| None),
        };
        drop(core);
        match result {
            Ok(_) => self.state = State::Over,
            Err(error) => self.state = State::Failed(error),
        }
        Poll::Ready(result)
    }

    fn is_end(&self) -> bool {
        match self.state {
            State::Open => self.link.lock().is_read(self.key),
            State::Over => true,
            State::Failed(_) => false,
        }
    }
}

impl Drop for H2Recv {
    fn drop(&mut self) {
        self.link.lock().drop_recv(self.key);
    }
}

/// A half asked for out of order.
pub(crate) struct Misused;

impl ByteSource for Misused {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Ready(Some(Err(MISUSED)))
    }

    fn stop(&mut self, _: ErrorCode) {}
}

impl RecvStream for Misused {
    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Err(MISUSED))
    }

    fn is_end(&self) -> bool {
        false
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
