//! A codec without a wire: streams beside each other over bounded queues. It proves that the traits can be implemented by
//! a protocol that multiplexes, and serves as the other end in tests of what stands above codecs.

mod exchange;
mod stream;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use adit_http::{ErrorCode, RequestHead, StreamError};

use super::{Abilities, Harness, Pair};
use crate::{Capabilities, ClientConn, ClientParts, ConnError, IncomingStream, OutgoingStream, ServerConn};
use exchange::Exchange;

/// Streams that may live at once.
const MAX_STREAMS: usize = 100;
/// Bytes that one direction of a stream holds.
const WINDOW: usize = 64 << 10;

/// Makes pairs of this codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory;

impl Harness for Memory {
    fn abilities(&self) -> Abilities {
        Abilities {
            trailers: true,
            parallel: true,
            codes: true,
            stops: true,
            survives_refusal: true,
            survives_reset: true,
            in_flight: 2 * WINDOW,
        }
    }

    fn pair(&self) -> std::pin::Pin<Box<dyn Future<Output = Pair> + Send + '_>> {
        Box::pin(async { pair() })
    }
}

/// Two ends, connected.
pub fn pair() -> Pair {
    let link = Arc::new(Mutex::new(Link::default()));
    let server = Box::new(MemoryServer(link.clone()));
    let client = ClientParts { conn: Box::new(MemoryClient(link)), driver: None };
    Pair { server, client }
}

pub(super) type SharedLink = Arc<Mutex<Link>>;

/// What both ends of a connection know.
#[derive(Default)]
pub(super) struct Link {
    arrivals: VecDeque<IncomingStream>,
    streams: Vec<Weak<Mutex<Exchange>>>,
    pub(super) live: usize,
    draining: bool,
    closed: bool,
    pub(super) wakers: Wakers,
}

/// Everybody who waits for a change, each once.
#[derive(Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|known| known.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    pub(super) fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resets every stream that lives. The link must not be locked: a stream tells it that it is over.
fn reset_all(link: &Mutex<Link>, code: ErrorCode) {
    let streams = std::mem::take(&mut lock(link).streams);
    for exchange in streams.iter().filter_map(Weak::upgrade) {
        lock(&exchange).reset(code);
    }
}

struct MemoryServer(SharedLink);

impl ServerConn for MemoryServer {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>> {
        let mut link = lock(&self.0);
        if let Some(stream) = link.arrivals.pop_front() {
            return Poll::Ready(Some(Ok(stream)));
        }
        if (link.closed || link.draining) && link.live == 0 {
            return Poll::Ready(None);
        }
        link.wakers.wait(cx);
        Poll::Pending
    }

    fn drain(&mut self) {
        let mut link = lock(&self.0);
        link.draining = true;
        link.wakers.wake();
    }

    fn abort(&mut self, code: ErrorCode) {
        lock(&self.0).closed = true;
        reset_all(&self.0, code);
        let mut link = lock(&self.0);
        let arrivals = std::mem::take(&mut link.arrivals);
        link.wakers.wake();
        drop(link);
        drop(arrivals);
    }

    fn live_streams(&self) -> usize {
        lock(&self.0).live
    }
}

impl Drop for MemoryServer {
    fn drop(&mut self) {
        self.abort(ErrorCode::Cancel);
    }
}

struct MemoryClient(SharedLink);

impl ClientConn for MemoryClient {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Capabilities, StreamError>> {
        let mut link = lock(&self.0);
        if link.closed || link.draining {
            return Poll::Ready(Err(StreamError::Local(ErrorCode::NoError)));
        }
        link.wakers.wait(cx);
        let open = MAX_STREAMS - link.live.min(MAX_STREAMS);
        if open == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(Capabilities { open, extended_connect: true, version: http::Version::HTTP_2 }))
    }

    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        let mut link = lock(&self.0);
        if link.closed || link.draining || link.live >= MAX_STREAMS {
            return Err(StreamError::Local(ErrorCode::Refused));
        }
        let exchange = Arc::new(Mutex::new(Exchange::new(self.0.clone(), WINDOW)));
        link.live += 1;
        link.streams.retain(|stream| stream.strong_count() > 0);
        link.streams.push(Arc::downgrade(&exchange));
        let (outgoing, incoming) = stream::ends(&exchange, head.clone(), end);
        link.arrivals.push_back(incoming);
        link.wakers.wake();
        Ok(outgoing)
    }

    fn live_streams(&self) -> usize {
        lock(&self.0).live
    }

    fn drain(&mut self) {
        let mut link = lock(&self.0);
        link.draining = true;
        link.wakers.wake();
    }
}

impl Drop for MemoryClient {
    fn drop(&mut self) {
        let mut link = lock(&self.0);
        link.closed = true;
        link.wakers.wake();
    }
}
