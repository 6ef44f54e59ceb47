//! What a connection's owner, its streams and the watcher on its bytes tell each other.
//!
//! All of it is touched on one worker, so the atomics are uncontended and relaxed; they exist so that the types are Send.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use adit_http::ErrorCode;
use h2::Reason;

use crate::config::FieldRules;
use crate::{CodecStats, Counter, Gauge, Http2Options};

/// Frames read in one poll of a connection before it yields to its neighbours.
const FRAMES_PER_POLL: u32 = 512;
/// Bytes read in one poll of a connection before it yields to its neighbours.
const BYTES_PER_POLL: usize = 1 << 20;

const NOT_CONDEMNED: u32 = u32::MAX;

#[derive(Default)]
struct Waiters {
    /// Grows each time the waiters were woken, so that a sender knows whether its place still holds its waker.
    round: u32,
    wakers: Vec<Waker>,
}

/// One connection's notes.
pub(crate) struct Shared {
    stats: Option<Arc<dyn CodecStats>>,
    pub(crate) rules: FieldRules,
    /// The code of a sending half that is dropped unfinished.
    pub(crate) abandon: ErrorCode,
    live: AtomicUsize,
    frames_left: AtomicU32,
    bytes_left: AtomicUsize,
    /// The socket took less than we had: nothing more is queued until all of it is out.
    blocked: AtomicBool,
    /// DATA frames queued since the connection last flushed.
    queued: AtomicU32,
    max_queued: u32,
    /// Bytes of DATA queued and not seen leaving yet, and how many of them the gauge knows of: it is told once for each poll
    /// of the connection.
    pending: AtomicU64,
    told: AtomicU64,
    waiters: Mutex<Waiters>,
    /// Who waits for a stream to end, so that another may be opened, and for the connection's end.
    ready: Mutex<Option<Waker>>,
    /// Bytes ever read, for the keep-alive.
    pub(crate) bytes_read: AtomicU64,
    /// We acknowledged the peer's first SETTINGS: they are in force.
    pub(crate) settings_in_force: AtomicBool,
    /// The peer sent GOAWAY.
    pub(crate) goaway: AtomicBool,
    /// The peer began a header block and did not end it.
    pub(crate) in_header_block: AtomicBool,
    /// A PING is wanted ahead of a stream.
    pub(crate) ping_wanted: AtomicBool,
    /// RST_STREAM frames with the code of an error that somebody above asked for: no fault of the peer.
    asked_errors: AtomicU32,
    condemned: AtomicU32,
}

impl Shared {
    pub(crate) fn new(stats: Option<Arc<dyn CodecStats>>, options: &Http2Options, abandon: ErrorCode) -> Arc<Self> {
        Arc::new(Self {
            stats,
            rules: options.field_rules(),
            abandon,
            live: AtomicUsize::new(0),
            frames_left: AtomicU32::new(FRAMES_PER_POLL),
            bytes_left: AtomicUsize::new(BYTES_PER_POLL),
            blocked: AtomicBool::new(false),
            queued: AtomicU32::new(0),
            max_queued: options.max_outbound_frames,
            pending: AtomicU64::new(0),
            told: AtomicU64::new(0),
            waiters: Mutex::default(),
            ready: Mutex::default(),
            bytes_read: AtomicU64::new(0),
            settings_in_force: AtomicBool::new(false),
            goaway: AtomicBool::new(false),
            in_header_block: AtomicBool::new(false),
            ping_wanted: AtomicBool::new(false),
            asked_errors: AtomicU32::new(0),
            condemned: AtomicU32::new(NOT_CONDEMNED),
        })
    }

    pub(crate) fn count(&self, counter: Counter) {
        if let Some(stats) = &self.stats {
            stats.count(counter);
        }
    }

    pub(crate) fn gauge(&self, gauge: Gauge, delta: i64) {
        if let Some(stats) = &self.stats
            && delta != 0
        {
            stats.gauge(gauge, delta);
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    pub(crate) fn set_ready(&self, cx: &Context<'_>) {
        match &mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    pub(crate) fn wake_ready(&self) {
        let waker = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Before the connection is polled: a new allowance of work.
    pub(crate) fn begin_poll(&self) {
        self.frames_left.store(FRAMES_PER_POLL, Relaxed);
        self.bytes_left.store(BYTES_PER_POLL, Relaxed);
    }

    /// After the connection was polled: senders that waited for the socket go on if it took everything.
    pub(crate) fn end_poll(&self) {
        if !self.blocked.load(Relaxed) {
            self.queued.store(0, Relaxed);
            // What is left was dropped with its stream.
            self.pending.store(0, Relaxed);
            self.wake_senders();
        }
        self.tell_pending();
    }

    fn tell_pending(&self) {
        let pending = self.pending.load(Relaxed);
        self.gauge(Gauge::PendingSendBytes, pending.wrapping_sub(self.told.load(Relaxed)) as i64);
        self.told.store(pending, Relaxed);
    }

    pub(crate) fn may_read(&self) -> bool {
        self.frames_left.load(Relaxed) > 0 && self.bytes_left.load(Relaxed) > 0
    }

    /// Whether nothing was read in this poll yet.
    pub(crate) fn read_nothing(&self) -> bool {
        self.bytes_left.load(Relaxed) == BYTES_PER_POLL
    }

    pub(crate) fn note_read(&self, bytes: usize, frames: u32) {
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
        self.bytes_left.store(self.bytes_left.load(Relaxed).saturating_sub(bytes), Relaxed);
        self.frames_left.store(self.frames_left.load(Relaxed).saturating_sub(frames), Relaxed);
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    /// Whether a sender may queue a DATA frame now; if not, it is woken once the socket took what is queued.
    pub(crate) fn may_queue(&self, cx: &Context<'_>, place: &mut SenderPlace) -> bool {
        if !self.blocked.load(Relaxed) && self.queued.load(Relaxed) < self.max_queued {
            return true;
        }
        let Ok(mut waiters) = self.waiters.lock() else { return true };
        let known = (place.round == waiters.round).then_some(place.index as usize);
        match known.and_then(|index| waiters.wakers.get_mut(index)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                *place = SenderPlace { round: waiters.round, index: waiters.wakers.len() as u32 };
                waiters.wakers.push(cx.waker().clone());
            }
        }
        false
    }

    pub(crate) fn note_queued(&self, bytes: usize) {
        self.queued.store(self.queued.load(Relaxed).saturating_add(1), Relaxed);
        self.pending.store(self.pending.load(Relaxed) + bytes as u64, Relaxed);
    }

    pub(crate) fn note_sent(&self, bytes: u64) {
        self.pending.store(self.pending.load(Relaxed).saturating_sub(bytes), Relaxed);
    }

    fn wake_senders(&self) {
        let Ok(mut waiters) = self.waiters.lock() else { return };
        if waiters.wakers.is_empty() {
            return;
        }
        waiters.round = waiters.round.wrapping_add(1);
        let wakers = std::mem::take(&mut waiters.wakers);
        drop(waiters);
        for waker in wakers {
            waker.wake();
        }
    }

    /// The connection is gone: nobody waits for its socket any more.
    pub(crate) fn release_senders(&self) {
        self.blocked.store(false, Relaxed);
        self.queued.store(0, Relaxed);
        self.pending.store(0, Relaxed);
        self.tell_pending();
        self.wake_senders();
    }

    /// Somebody above resets a stream with this code.
    pub(crate) fn note_asked_reset(&self, code: ErrorCode) {
        if is_error_of_the_peer(code.to_h2()) {
            self.asked_errors.store(self.asked_errors.load(Relaxed).saturating_add(1), Relaxed);
        }
    }

    /// Whether an RST_STREAM that leaves with `code` tells the peer of its own fault.
    pub(crate) fn is_fault_of_the_peer(&self, code: u32) -> bool {
        if !is_error_of_the_peer(code) {
            return false;
        }
        let asked = self.asked_errors.load(Relaxed);
        self.asked_errors.store(asked.saturating_sub(1), Relaxed);
        asked == 0
    }

    /// The connection must end with this code.
    pub(crate) fn condemn(&self, reason: Reason) {
        if self.condemned.load(Relaxed) == NOT_CONDEMNED {
            self.condemned.store(reason.into(), Relaxed);
        }
    }

    pub(crate) fn condemned(&self) -> Option<Reason> {
        let code = self.condemned.load(Relaxed);
        (code != NOT_CONDEMNED).then(|| Reason::from(code))
    }
}

/// Codes the `h2` crate answers a peer's mistakes with.
fn is_error_of_the_peer(code: u32) -> bool {
    matches!(
        Reason::from(code),
        Reason::PROTOCOL_ERROR
            | Reason::FLOW_CONTROL_ERROR
            | Reason::STREAM_CLOSED
            | Reason::FRAME_SIZE_ERROR
            | Reason::REFUSED_STREAM
    )
}

/// Where a sender stands among those that wait for the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderPlace {
    round: u32,
    index: u32,
}

impl Default for SenderPlace {
    fn default() -> Self {
        Self { round: 0, index: u32::MAX }
    }
}

const NO_CODE: u32 = u32::MAX;

/// One live stream: both its halves hold it, and it is counted until the last lets go.
pub(crate) struct StreamGuard {
    pub(crate) shared: Arc<Shared>,
    /// The code with which the receiving half was stopped: it says how to reset the sending half if that is abandoned.
    stop: AtomicU32,
    /// The response was given up before its head came: the sending half must reset the stream.
    abandoned: AtomicBool,
    /// The peer refused the tunnel: there is no request body that could be cut short.
    refused: AtomicBool,
}

impl StreamGuard {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        shared.live.fetch_add(1, Relaxed);
        shared.gauge(Gauge::StreamsActive, 1);
        Arc::new(Self {
            shared,
            stop: AtomicU32::new(NO_CODE),
            abandoned: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        })
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }

    pub(crate) fn set_refused(&self) {
        self.refused.store(true, Relaxed);
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    pub(crate) fn set_stop(&self, code: ErrorCode) {
        self.stop.store(code.to_h2(), Relaxed);
    }

    pub(crate) fn stop_code(&self) -> Option<ErrorCode> {
        let code = self.stop.load(Relaxed);
        (code != NO_CODE).then(|| ErrorCode::from_h2(code))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.shared.live.fetch_sub(1, Relaxed);
        self.shared.gauge(Gauge::StreamsActive, -1);
        self.shared.wake_ready();
    }
}
