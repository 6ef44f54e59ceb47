//! Envoy's limits on floods (its `ProtocolConstraints`) and on resets: what breaks one costs the connection.

use std::sync::Arc;
use std::time::Instant;

use crate::error::code;
use crate::frame::Fault;
use crate::{CodecStats, Counter, Gauge, Http2Options};

/// A DATA frame sent counts once for each of these towards the WINDOW_UPDATE frames it may cause.
const WINDOW_UNIT: usize = 16 << 10;

/// Answers to what is wrong that a peer may leave unread; with more of them nothing is read from it.
const MAX_REFUSALS: u32 = 1000;

/// Counts, for Envoy's statistics.
pub(crate) struct Stats(pub(crate) Option<Arc<dyn CodecStats>>);

impl Stats {
    pub(crate) fn count(&self, counter: Counter) {
        if let Some(stats) = &self.0 {
            stats.count(counter);
        }
    }

    pub(crate) fn gauge(&self, gauge: Gauge, delta: i64) {
        if let Some(stats) = &self.0
            && delta != 0
        {
            stats.gauge(gauge, delta);
        }
    }

    fn flood(&self, counter: Counter) -> Fault {
        self.count(counter);
        Fault(code::ENHANCE_YOUR_CALM)
    }
}

/// Frames that were seen, and how many may be.
pub(crate) struct Flood {
    is_server: bool,
    empty_in_a_row: u32,
    max_empty: u32,
    /// A client counts the streams it opened by the answers it sees: the same order of magnitude.
    streams_seen: u64,
    priorities: u64,
    max_priorities: u64,
    window_updates: u64,
    max_window_updates: u64,
    data_units_sent: u64,
    /// Answers to PING and SETTINGS that wait, or are on their way to the socket.
    owed: Answers,
    max_owed: u32,
    /// Answers to what was wrong, likewise.
    refusals: Answers,
    resets: Bucket,
}

impl Flood {
    pub(crate) fn new(options: &Http2Options, is_server: bool) -> Self {
        Self {
            is_server,
            empty_in_a_row: 0,
            max_empty: options.max_consecutive_inbound_frames_with_empty_payload,
            streams_seen: 0,
            priorities: 0,
            max_priorities: options.max_inbound_priority_frames_per_stream.into(),
            window_updates: 0,
            max_window_updates: options.max_inbound_window_update_frames_per_data_frame_sent.into(),
            data_units_sent: 0,
            owed: Answers::default(),
            max_owed: options.max_outbound_control_frames,
            refusals: Answers::default(),
            resets: Bucket::new(options.stream_reset_burst, options.stream_reset_rate),
        }
    }

    /// HEADERS came.
    pub(crate) fn headers(&mut self) {
        self.streams_seen += 1;
    }

    /// DATA, HEADERS or CONTINUATION came, with nothing in it but padding or not.
    pub(crate) fn payload(&mut self, is_empty: bool, ends_stream: bool, stats: &Stats) -> Result<(), Fault> {
        if !is_empty || ends_stream {
            self.empty_in_a_row = 0;
            return Ok(());
        }
        self.empty_in_a_row = self.empty_in_a_row.saturating_add(1);
        if self.empty_in_a_row > self.max_empty { Err(stats.flood(Counter::InboundEmptyFramesFlood)) } else { Ok(()) }
    }

    pub(crate) fn priority(&mut self, stats: &Stats) -> Result<(), Fault> {
        self.priorities += 1;
        let allowed = self.max_priorities.saturating_mul(1 + self.streams_seen);
        if self.priorities > allowed { Err(stats.flood(Counter::InboundPriorityFramesFlood)) } else { Ok(()) }
    }

    pub(crate) fn window_update(&mut self, stats: &Stats) -> Result<(), Fault> {
        self.window_updates += 1;
        let caused = self.max_window_updates.saturating_mul(self.data_units_sent);
        let allowed = self.streams_seen.saturating_add(caused).saturating_mul(2).saturating_add(5);
        if self.window_updates > allowed { Err(stats.flood(Counter::InboundWindowUpdateFramesFlood)) } else { Ok(()) }
    }

    /// A DATA frame of ours.
    pub(crate) fn sent_data(&mut self, len: usize) {
        self.data_units_sent += len.div_ceil(WINDOW_UNIT) as u64;
    }

    /// A PING or SETTINGS is answered.
    pub(crate) fn owe(&mut self) {
        self.owed.waiting = self.owed.waiting.saturating_add(1);
    }

    /// Something else is answered that nobody above knows of.
    pub(crate) fn refuse(&mut self) {
        self.refusals.waiting = self.refusals.waiting.saturating_add(1);
    }

    /// What waited is on its way to the socket.
    pub(crate) fn leaves(&mut self) {
        self.owed.leave();
        self.refusals.leave();
    }

    /// What was on its way left.
    pub(crate) fn left(&mut self) {
        (self.owed.leaving, self.refusals.leaving) = (0, 0);
    }

    /// Whether more of the peer's faults may be answered before it reads the answers.
    pub(crate) fn may_refuse(&self) -> bool {
        self.refusals.count() < MAX_REFUSALS
    }

    /// Whether the peer asks and does not read the answers.
    pub(crate) fn check_owed(&self, stats: &Stats) -> Result<(), Fault> {
        if self.owed.count() > self.max_owed { Err(stats.flood(Counter::OutboundControlFlood)) } else { Ok(()) }
    }

    /// Rapid reset (CVE-2023-44487) and resets that the peer provokes (CVE-2025-8671); an upstream server may reset as it
    /// likes.
    pub(crate) fn reset(&mut self, stats: &Stats) -> Result<(), Fault> {
        if self.is_server && !self.resets.take(Instant::now()) {
            return Err(stats.flood(Counter::ResetFlood));
        }
        Ok(())
    }
}

/// Frames that answer others.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    waiting: u32,
    leaving: u32,
}

impl Answers {
    fn count(self) -> u32 {
        self.waiting.saturating_add(self.leaving)
    }

    fn leave(&mut self) {
        self.leaving = self.count();
        self.waiting = 0;
    }
}

/// A token bucket.
struct Bucket {
    tokens: u64,
    burst: u64,
    rate: u64,
    filled: Option<Instant>,
}

impl Bucket {
    fn new(burst: u64, rate: u64) -> Self {
        Self { tokens: burst, burst, rate, filled: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let earned = (now.saturating_duration_since(filled).as_secs_f64() * self.rate as f64) as u64;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.filled = Some(now);
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}
