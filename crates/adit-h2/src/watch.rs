//! The connection's bytes as they pass between the socket and the `h2` crate.
//!
//! The crate reads until the socket is dry, counts few frames, and tells nobody that the socket is full. Here one poll
//! gets a bounded share, Envoy's flood limits are kept, and senders learn when to wait.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;

use adit_io::Io;
use bytes::BufMut;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::frames::{self, FrameHead, FrameScanner};
use crate::shared::Shared;
use crate::{Counter, Http2Options};

/// Beyond the frame at hand, this much is read at once: what follows may be a flood of small frames.
const READ_AHEAD: usize = 32 << 10;
/// Answers owed to a peer that does not read: the h2 crate reads no further while one cannot leave, so more than a single
/// read holds are never seen, and `max_outbound_control_frames` beyond this changes nothing.
const MAX_OWED: u32 = 256;
/// A DATA frame sent counts once for each of these towards the WINDOW_UPDATE frames it may cause.
const WINDOW_UNIT: u32 = 16 << 10;

/// The transport given to the `h2` crate.
pub(crate) struct Watched {
    io: Io,
    shared: Arc<Shared>,
    inbound: FrameScanner,
    outbound: FrameScanner,
    tally: Tally,
}

impl Watched {
    pub(crate) fn new(io: Io, shared: Arc<Shared>, options: &Http2Options, is_server: bool) -> Self {
        Self {
            io,
            inbound: FrameScanner::new(is_server),
            outbound: FrameScanner::new(!is_server),
            tally: Tally::new(shared.clone(), options, is_server),
            shared,
        }
    }

    fn wrote(&mut self, slices: &[io::IoSlice<'_>], result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(n)) => {
                self.shared.set_blocked(false);
                let (tally, mut left) = (&mut self.tally, *n);
                for slice in slices {
                    let bytes = slice.get(..left.min(slice.len())).unwrap_or_default();
                    left -= bytes.len();
                    self.outbound.feed(bytes, |head| tally.sent(head));
                }
            }
            Poll::Ready(Err(_)) => self.shared.set_blocked(false),
            Poll::Pending => {
                self.shared.set_blocked(true);
                self.tally.check_owed();
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.release_senders();
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.shared.condemned().is_some() {
            return if me.tally.is_server {
                Poll::Pending
            } else {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "flood")))
            };
        }
        if !me.shared.may_read() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = me.inbound.left() + READ_AHEAD;
        let before = buf.filled().len();
        if buf.remaining() <= room {
            std::task::ready!(Pin::new(&mut me.io).poll_read(cx, buf))?;
        } else {
            let mut part = BufMut::limit(&mut *buf, room);
            std::task::ready!(pin!(me.io.read_buf(&mut part)).poll(cx))?;
        }
        let bytes = buf.filled().get(before..).unwrap_or_default();
        let (tally, mut frames, n) = (&mut me.tally, 0u32, bytes.len());
        me.inbound.feed(bytes, |head| {
            frames += 1;
            tally.received(head);
        });
        me.shared.note_read(n, frames);
        me.shared.in_header_block.store(me.inbound.in_header_block(), Relaxed);
        if matches!(me.shared.condemned(), Some(Reason::FRAME_SIZE_ERROR | Reason::FLOW_CONTROL_ERROR)) {
            // The h2 crate, shown the frame, would call it a PROTOCOL_ERROR.
            buf.set_filled(before);
            if !me.tally.is_server {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a frame that breaks the connection",
                )));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, data);
        self.wrote(&[io::IoSlice::new(data)], &result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.wrote(data, &result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.shared.set_blocked(result.is_pending());
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Counts frames both ways and condemns a connection that breaks a limit (Envoy's `ProtocolConstraints`).
struct Tally {
    shared: Arc<Shared>,
    is_server: bool,
    strict_messages: bool,
    settled: bool,
    empty_in_a_row: u32,
    max_empty: u32,
    streams: u64,
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
    fn new(shared: Arc<Shared>, options: &Http2Options, is_server: bool) -> Self {
        Self {
            shared,
            is_server,
            strict_messages: options.stream_error_on_invalid_http_message == Some(false),
            settled: false,
            empty_in_a_row: 0,
            max_empty: options.max_consecutive_inbound_frames_with_empty_payload,
            streams: 0,
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
        if !self.settled {
            self.settled = true;
            // The preface of either side ends with SETTINGS (RFC 9113 section 3.4); the h2 crate does not insist.
            if head.kind != frames::SETTINGS || head.is_ack() {
                self.shared.condemn(Reason::PROTOCOL_ERROR);
            }
        }
        if !head.has_valid_size() {
            self.shared.condemn(Reason::FRAME_SIZE_ERROR);
        } else if head.has_oversized_window() && !head.is_ack() {
            self.shared.condemn(Reason::FLOW_CONTROL_ERROR);
        }
        match head.kind {
            frames::DATA | frames::CONTINUATION => self.check_empty(head),
            frames::HEADERS => {
                // A client counts the streams it opened by the answers it sees: the same order of magnitude.
                self.streams += 1;
                self.check_empty(head);
            }
            frames::PRIORITY => {
                self.priorities += 1;
                if self.priorities > self.max_priorities * (1 + self.streams) {
                    self.flood(Counter::InboundPriorityFramesFlood);
                }
            }
            frames::WINDOW_UPDATE => {
                self.window_updates += 1;
                let allowed = 5 + 2 * (self.streams + self.max_window_updates * self.data_units_sent);
                if self.window_updates > allowed {
                    self.flood(Counter::InboundWindowUpdateFramesFlood);
                }
            }
            frames::PING | frames::SETTINGS if !head.is_ack() => self.owed = self.owed.saturating_add(1),
            frames::RST_STREAM => {
                self.shared.count(Counter::RxReset);
                if head.error_code() == u32::from(Reason::REFUSED_STREAM) {
                    self.shared.count(Counter::StreamRefusedErrors);
                }
                self.spend_reset();
            }
            frames::GOAWAY => self.shared.goaway.store(true, Relaxed),
            _ => {}
        }
    }

    fn sent(&mut self, head: FrameHead) {
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
    fn check_owed(&mut self) {
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
