//! What a connection's owner and its streams tell each other.
//!
//! All of it is touched on one worker, so the atomics are uncontended and relaxed; they exist so that the types are Send.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use adit_codec::Meter;
use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use quinn::{ConnectionError, VarInt};

use crate::error::{self, Fatal};
use crate::hub::Hub;
use crate::{CodecStats, Counter, Gauge};

/// The peer's SETTINGS that matter here (RFC 9114 section 7.2.4, RFC 9220, RFC 9297).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    pub(crate) max_field_section_size: u64,
    pub(crate) extended_connect: bool,
    pub(crate) datagrams: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self { max_field_section_size: u64::MAX, extended_connect: false, datagrams: false }
    }
}

/// One connection's notes.
pub(crate) struct Shared {
    pub(crate) conn: quinn::Connection,
    pub(crate) hub: Option<Arc<Hub>>,
    stats: Option<Arc<dyn CodecStats>>,
    live: AtomicUsize,
    /// Set once, when the peer's SETTINGS came.
    pub(crate) peer: OnceLock<PeerSettings>,
    /// The first stream that the peer's GOAWAY disowns.
    goaway: AtomicU64,
    fatal: Mutex<Option<Fatal>>,
    /// Whoever drives the connection.
    owner: Mutex<Option<Waker>>,
    /// Whoever waits to open a stream.
    ready: Mutex<Option<Waker>>,
    leaving: Mutex<Leaving>,
    /// Heads that flow control keeps back while nobody asks for their streams.
    stuck: Mutex<Vec<Arc<Stuck>>>,
    /// Something stuck or leaving has bytes that the owner must push.
    push: AtomicBool,
}

/// Directions that ended and were let go before the peer had all of them.
#[derive(Default)]
struct Leaving {
    streams: Vec<Departure>,
    /// Look for those that are done once there are so many.
    sweep_at: usize,
}

pub(crate) struct Departure {
    pub(crate) stream: quinn::SendStream,
    /// What flow control kept back.
    pub(crate) rest: Bytes,
    /// The stream ends behind it.
    pub(crate) end: bool,
}

/// A sending stream that the connection's owner pushes: a head leaves although its stream is not polled.
pub(crate) struct Stuck(Mutex<StuckState>);

struct StuckState {
    /// Taken back by its half.
    departure: Option<Departure>,
    waker: Option<Waker>,
}

impl Stuck {
    pub(crate) fn new(departure: Departure) -> Arc<Self> {
        Arc::new(Self(Mutex::new(StuckState { departure: Some(departure), waker: None })))
    }

    /// The stream, once what stood ahead has left.
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Departure>> {
        let mut state = lock(&self.0);
        if state.departure.as_ref().is_some_and(|departure| !departure.rest.is_empty()) {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(state.departure.take())
    }

    /// The stream as it is.
    pub(crate) fn take(&self) -> Option<Departure> {
        lock(&self.0).departure.take()
    }

    /// Whether there is still something to push.
    fn poll_push(&self, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.0);
        let Some(departure) = &mut state.departure else { return false };
        if departure.poll_rest(cx).is_pending() {
            return true;
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        false
    }
}

/// Departures are looked through no sooner than at this number.
const SWEEP: usize = 16;

impl Shared {
    pub(crate) fn new(conn: quinn::Connection, stats: Option<Arc<dyn CodecStats>>, hub: Option<Arc<Hub>>) -> Arc<Self> {
        let shared = Self {
            conn,
            hub,
            stats,
            live: AtomicUsize::new(0),
            peer: OnceLock::new(),
            goaway: AtomicU64::new(u64::MAX),
            fatal: Mutex::default(),
            owner: Mutex::default(),
            ready: Mutex::default(),
            leaving: Mutex::default(),
            stuck: Mutex::default(),
            push: AtomicBool::new(false),
        };
        shared.count(Counter::QuicVersionRfcV1);
        Arc::new(shared)
    }

    pub(crate) fn count(&self, counter: Counter) {
        if let Some(stats) = &self.stats {
            stats.count(counter);
        }
    }

    fn gauge(&self, gauge: Gauge, delta: i64) {
        if let Some(stats) = &self.stats {
            stats.gauge(gauge, delta);
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    pub(crate) fn peer(&self) -> PeerSettings {
        self.peer.get().copied().unwrap_or_default()
    }

    pub(crate) fn goaway(&self) -> Option<u64> {
        Some(self.goaway.load(Relaxed)).filter(|id| *id != u64::MAX)
    }

    pub(crate) fn set_goaway(&self, id: u64) {
        self.goaway.store(id, Relaxed);
    }

    /// Ends the connection: the peer broke it.
    pub(crate) fn fail(&self, fatal: Fatal) {
        if self.conn.close_reason().is_none() {
            lock(&self.fatal).get_or_insert(fatal);
            self.conn.close(VarInt::from_u32(fatal.0), fatal.1.as_bytes());
        }
    }

    /// Ends the connection, unless it ended: quinn would forget why.
    pub(crate) fn close(&self, code: VarInt) {
        if self.conn.close_reason().is_none() {
            self.conn.close(code, b"");
        }
    }

    pub(crate) fn fatal(&self) -> Option<Fatal> {
        *lock(&self.fatal)
    }

    /// Why a half failed whose connection was lost.
    pub(crate) fn lost(&self, cause: &ConnectionError, stream: quinn::StreamId) -> StreamError {
        if self.fatal().is_some() {
            return StreamError::Protocol(error::CODEC);
        }
        // Streams that a GOAWAY disowned were not processed (RFC 9114 section 5.2).
        if self.goaway().is_some_and(|id| u64::from(stream) >= id) {
            return StreamError::Reset(ErrorCode::Refused);
        }
        error::lost(cause)
    }

    pub(crate) fn set_owner(&self, cx: &Context<'_>) {
        set_waker(&self.owner, cx);
    }

    pub(crate) fn set_ready(&self, cx: &Context<'_>) {
        set_waker(&self.ready, cx);
    }

    pub(crate) fn wake_owner(&self) {
        wake(&self.owner);
    }

    pub(crate) fn wake_ready(&self) {
        wake(&self.ready);
    }

    /// Keeps an ended direction until its peer has all of it: the connection is not closed before.
    pub(crate) fn depart(&self, departure: Departure) {
        let blocked = !departure.rest.is_empty();
        let mut leaving = lock(&self.leaving);
        leaving.streams.push(departure);
        if leaving.streams.len() >= leaving.sweep_at.max(SWEEP) {
            leaving.streams.retain_mut(|departure| !departure.is_done());
            leaving.sweep_at = leaving.streams.len() * 2;
        }
        drop(leaving);
        if blocked {
            self.push.store(true, Relaxed);
            self.wake_owner();
        }
    }

    /// The owner is to push this.
    pub(crate) fn stick(&self, stuck: Arc<Stuck>) {
        lock(&self.stuck).push(stuck);
        self.push.store(true, Relaxed);
        self.wake_owner();
    }

    /// Sends what flow control kept back.
    pub(crate) fn push_blocked(&self, cx: &mut Context<'_>) {
        if !self.push.load(Relaxed) {
            return;
        }
        let mut stuck = lock(&self.stuck);
        stuck.retain(|stuck| stuck.poll_push(cx));
        let mut blocked = !stuck.is_empty();
        drop(stuck);
        for departure in &mut lock(&self.leaving).streams {
            blocked |= departure.poll_rest(cx).is_pending();
        }
        self.push.store(blocked, Relaxed);
    }

    /// Whether the owner still has something to push.
    pub(crate) fn is_pushing(&self) -> bool {
        self.push.load(Relaxed)
    }

    /// Every direction that ended and of which the peer may not have everything.
    pub(crate) fn take_departures(&self) -> Vec<quinn::SendStream> {
        let mut leaving = lock(&self.leaving);
        std::mem::take(&mut leaving.streams).into_iter().map(|departure| departure.stream).collect()
    }
}

impl Departure {
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.rest.is_empty() {
            let mut bufs = [std::mem::take(&mut self.rest)];
            let polled = pin!(self.stream.write_chunks(&mut bufs)).poll(cx);
            match polled {
                Poll::Ready(Ok(_)) => [self.rest] = bufs,
                // Whoever polls the stream next is told why.
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    [self.rest] = bufs;
                    return Poll::Pending;
                }
            }
            if self.rest.is_empty() && self.end {
                let _ = self.stream.finish();
            }
        }
        Poll::Ready(())
    }

    fn is_done(&mut self) -> bool {
        self.rest.is_empty() && pin!(self.stream.stopped()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_waker(place: &Mutex<Option<Waker>>, cx: &Context<'_>) {
    let mut place = lock(place);
    match &mut *place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(place: &Mutex<Option<Waker>>) {
    let waker = lock(place).take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

const ABANDONED: u8 = 1;
const REFUSED: u8 = 2;

/// One live stream: both its halves hold it, and it is counted until the last lets go.
pub(crate) struct StreamGuard {
    pub(crate) shared: Arc<Shared>,
    flags: AtomicU8,
    /// That of the receiving half; `None` where nobody reads it.
    meter: Option<Arc<Meter>>,
}

impl StreamGuard {
    pub(crate) fn new(shared: Arc<Shared>, meter: Option<Arc<Meter>>) -> Arc<Self> {
        shared.live.fetch_add(1, Relaxed);
        shared.gauge(Gauge::StreamsActive, 1);
        Arc::new(Self { shared, flags: AtomicU8::new(0), meter })
    }

    /// More is sent beside the payload, `fields` of it with header fields.
    pub(crate) fn note_sent(&self, bytes: usize, fields: usize) {
        if let Some(meter) = &self.meter {
            meter.sent(bytes, fields);
        }
    }

    /// The response was given up before its head came, or was malformed: the sending half resets itself.
    pub(crate) fn abandon(&self) {
        self.flags.fetch_or(ABANDONED, Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.flags.load(Relaxed) & ABANDONED != 0
    }

    /// The peer refused the tunnel: there is no request body that could be cut short.
    pub(crate) fn set_refused(&self) {
        self.flags.fetch_or(REFUSED, Relaxed);
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.flags.load(Relaxed) & REFUSED != 0
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.shared.gauge(Gauge::StreamsActive, -1);
        if self.shared.live.fetch_sub(1, Relaxed) == 1 {
            self.shared.wake_owner();
        }
        self.shared.wake_ready();
    }
}
