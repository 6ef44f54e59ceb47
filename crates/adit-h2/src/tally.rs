//! Judges the frames of a connection as they pass: Envoy's limits on floods, and the errors of RFC 9113 that the `h2` crate
//! answers with another one or not at all.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use h2::Reason;

use crate::frames::{self, FrameHead, Watcher};
use crate::held::Change;
use crate::shared::Shared;
use crate::streams::{Block, Closed, Streams};
use crate::walk::Validator;
use crate::{Counter, Http2Options};

/// Answers owed to a peer that does not read: the h2 crate reads no further while one cannot leave, so more than a single
/// read holds are never seen, and `max_outbound_control_frames` beyond this changes nothing.
const MAX_OWED: u32 = 256;
/// A DATA frame sent counts once for each of these towards the WINDOW_UPDATE frames it may cause.
const WINDOW_UNIT: u32 = 16 << 10;
/// Streams followed beyond `max_concurrent_streams`: those that are reset and whose RST_STREAM waits to leave.
const SPARE_STREAMS: usize = 128;

/// Counts frames both ways and condemns a connection that breaks a limit (Envoy's `ProtocolConstraints`).
pub(crate) struct Tally {
    shared: Arc<Shared>,
    pub(crate) is_server: bool,
    /// Frames received since they were last asked for.
    frames: u32,
    table_size: u32,
    blocks: Validator,
    streams: Streams,
    /// The header block under way, if it may not pass as it is.
    block: Option<Block>,
    /// The block under way was given on before it was known: it can only cost the connection.
    given_on: bool,
    changes: Vec<Change>,
    strict_messages: bool,
    preface_came: bool,
    empty_in_a_row: u32,
    max_empty: u32,
    streams_seen: u64,
    priorities: u64,
    max_priorities: u64,
    window_updates: u64,
    max_window_updates: u64,
    data_units_sent: u64,
    /// PING and SETTINGS read less those answered.
    owed: u32,
    max_owed: u32,
    resets: Bucket,
}

impl Tally {
    pub(crate) fn new(shared: Arc<Shared>, options: &Http2Options, is_server: bool) -> Self {
        Self {
            shared,
            is_server,
            frames: 0,
            table_size: options.table_size(),
            blocks: Validator::default(),
            streams: Streams::new(options.max_concurrent_streams as usize + SPARE_STREAMS, is_server),
            block: None,
            given_on: false,
            changes: Vec::new(),
            strict_messages: options.stream_error_on_invalid_http_message == Some(false),
            preface_came: false,
            empty_in_a_row: 0,
            max_empty: options.max_consecutive_inbound_frames_with_empty_payload,
            streams_seen: 0,
            priorities: 0,
            max_priorities: options.max_inbound_priority_frames_per_stream.into(),
            window_updates: 0,
            max_window_updates: options.max_inbound_window_update_frames_per_data_frame_sent.into(),
            data_units_sent: 0,
            owed: 0,
            max_owed: options.max_outbound_control_frames.min(MAX_OWED),
            resets: Bucket::new(options.stream_reset_burst, options.stream_reset_rate),
        }
    }

    fn received(&mut self, head: FrameHead) {
        self.frames += 1;
        if !self.preface_came {
            self.preface_came = true;
            // The preface of either side ends with SETTINGS (RFC 9113 section 3.4); the h2 crate does not insist.
            if head.kind != frames::SETTINGS || head.is_ack() {
                self.shared.condemn(Reason::PROTOCOL_ERROR);
            }
        }
        if !head.has_valid_size() {
            self.shared.condemn(Reason::FRAME_SIZE_ERROR);
        } else if head.has_oversized_window() && !head.is_ack() {
            self.shared.condemn(Reason::FLOW_CONTROL_ERROR);
        } else if head.is_out_of_place() || head.has_too_much_padding() {
            self.shared.condemn(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            frames::DATA => {
                if self.streams.data(head).is_err() {
                    self.shared.condemn(Reason::STREAM_CLOSED);
                }
                self.check_empty(head);
            }
            frames::CONTINUATION => self.check_empty(head),
            frames::HEADERS => {
                // A client counts the streams it opened by the answers it sees: the same order of magnitude.
                self.streams_seen += 1;
                self.given_on = false;
                match self.streams.headers(head) {
                    Ok(block) => self.block = block,
                    Err(Closed) => self.shared.condemn(Reason::STREAM_CLOSED),
                }
                self.check_empty(head);
            }
            frames::PRIORITY => {
                self.priorities += 1;
                if self.priorities > self.max_priorities * (1 + self.streams_seen) {
                    self.flood(Counter::InboundPriorityFramesFlood);
                }
            }
            frames::WINDOW_UPDATE => {
                self.window_updates += 1;
                let allowed = 5 + 2 * (self.streams_seen + self.max_window_updates * self.data_units_sent);
                if self.window_updates > allowed {
                    self.flood(Counter::InboundWindowUpdateFramesFlood);
                }
            }
            // Ours is sent once, with the connection's preface.
            frames::SETTINGS if head.is_ack() => self.blocks.acknowledged(self.table_size),
            frames::PING | frames::SETTINGS if !head.is_ack() => self.owed = self.owed.saturating_add(1),
            frames::RST_STREAM => {
                self.shared.count(Counter::RxReset);
                self.streams.reset_by_peer(head.stream);
                if head.error_code() == u32::from(Reason::REFUSED_STREAM) {
                    self.shared.count(Counter::StreamRefusedErrors);
                }
                self.spend_reset();
            }
            frames::GOAWAY => self.shared.goaway.store(true, Relaxed),
            _ => {}
        }
    }

    pub(crate) fn sent(&mut self, head: FrameHead) {
        self.streams.sent(head);
        match head.kind {
            frames::DATA => {
                self.data_units_sent += u64::from(head.len.div_ceil(WINDOW_UNIT));
                self.shared.note_sent(u64::from(head.len));
            }
            frames::PING | frames::SETTINGS if head.is_ack() => {
                self.owed = self.owed.saturating_sub(1);
                if head.kind == frames::SETTINGS {
                    self.shared.settings_in_force.store(true, Relaxed);
                }
            }
            frames::RST_STREAM => {
                self.shared.count(Counter::TxReset);
                let code = head.error_code();
                if self.shared.is_fault_of_the_peer(code) {
                    if code == u32::from(Reason::PROTOCOL_ERROR) {
                        self.shared.count(Counter::RxMessagingError);
                        if self.strict_messages {
                            self.shared.condemn(Reason::PROTOCOL_ERROR);
                        }
                    }
                    self.spend_reset();
                }
            }
            frames::GOAWAY => self.shared.count(Counter::GoawaySent),
            _ => {}
        }
    }

    /// The connection is polled anew.
    pub(crate) fn begin_poll(&mut self) {
        self.streams.begin_poll();
    }

    /// Frames received since this was last asked.
    pub(crate) fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Where the header block under way began, if it may not pass as it is.
    pub(crate) fn open_block(&self) -> Option<u64> {
        self.block.filter(|_| !self.given_on).map(|block| block.at)
    }

    /// The block under way goes on to the `h2` crate before its end.
    pub(crate) fn give_on(&mut self) {
        self.given_on = true;
    }

    /// What is to be done about the blocks that are over.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn check_empty(&mut self, head: FrameHead) {
        if head.is_empty() && !head.is_end_stream() {
            self.empty_in_a_row += 1;
            if self.empty_in_a_row > self.max_empty {
                self.flood(Counter::InboundEmptyFramesFlood);
            }
        } else {
            self.empty_in_a_row = 0;
        }
    }

    /// The peer asks and does not read the answers.
    pub(crate) fn check_owed(&mut self) {
        if self.owed > self.max_owed {
            self.flood(Counter::OutboundControlFlood);
        }
    }

    /// Rapid reset (CVE-2023-44487) and resets that the peer provokes (CVE-2025-8671); an upstream server may reset as it
    /// likes.
    fn spend_reset(&mut self) {
        if self.is_server && !self.resets.take(Instant::now()) {
            self.flood(Counter::ResetFlood);
        }
    }

    fn flood(&self, counter: Counter) {
        if self.shared.condemned().is_none() {
            self.shared.count(counter);
            self.shared.condemn(Reason::ENHANCE_YOUR_CALM);
        }
    }
}

impl Watcher for Tally {
    fn frame(&mut self, head: FrameHead) {
        self.received(head);
    }

    fn fragment(&mut self, octets: &[u8]) {
        if self.shared.condemned().is_none() && self.blocks.feed(octets).is_err() {
            self.shared.condemn(Reason::COMPRESSION_ERROR);
        }
    }

    /// The `h2` crate resets the stream and decompresses nothing: its dynamic table would no longer be the peer's.
    fn depends_on_itself(&mut self) {
        self.shared.condemn(Reason::PROTOCOL_ERROR);
    }

    fn block_ended(&mut self) {
        let block = self.block.take();
        if self.shared.condemned().is_some() {
            return;
        }
        let Ok(fields) = self.blocks.end() else {
            return self.shared.condemn(Reason::COMPRESSION_ERROR);
        };
        let Some(block) = block else { return };
        let malformed = self.streams.is_malformed(block, fields);
        if self.given_on {
            if malformed {
                self.shared.condemn(Reason::PROTOCOL_ERROR);
            }
        } else if malformed || block.in_pieces {
            let reset = malformed.then_some(block.stream);
            self.changes.push(Change { at: block.at, reset, join: block.in_pieces });
        }
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
