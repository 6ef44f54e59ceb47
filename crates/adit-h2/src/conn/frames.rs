//! Frames that are whole, but for the contents of DATA and of header blocks (RFC 9113 section 6).

use adit_http::{ErrorCode, StreamError};

use super::stream::Flags;
use super::streams::Memory;
use super::{Core, Drain, PING_ALIVE, PING_DRAIN};
use crate::Counter;
use crate::error::{Cause, code};
use crate::frame::{self, ACK, DEFAULT_WINDOW, Fault, Head, MAX_31, RST_STREAM_LEN, Settings, word};

/// Requests that a client may reset before they were looked at.
const PENDING_RESETS: usize = 100;

/// Moving the windows of so many streams is as much work as an average frame.
const STREAMS_PER_FRAME: usize = 8;

const PROTOCOL: Fault = Fault(code::PROTOCOL_ERROR);

/// A frame's stream has no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// It was never opened.
    Idle,
    /// It began behind the last stream that our GOAWAY names, which is ignored (RFC 9113 section 6.8).
    BehindGoaway,
    /// It is over.
    Over(Memory),
}

impl Core {
    /// A frame's head was read: whether the frame may be here.
    pub(crate) fn begins(&mut self, head: Head) -> Result<(), Fault> {
        head.check(self.limits.max_frame)?;
        // The preface of either side ends with SETTINGS (RFC 9113 section 3.4).
        if !self.peer.came && (head.kind != frame::SETTINGS || head.is_ack()) {
            return Err(PROTOCOL);
        }
        // A header block's frames follow each other with nothing in between (RFC 9113 section 6.10).
        let in_place = match &self.block {
            Some(block) => head.kind == frame::CONTINUATION && block.stream == head.stream,
            None => head.kind != frame::CONTINUATION,
        };
        if in_place { self.check_block(head) } else { Err(PROTOCOL) }
    }

    /// A whole frame that is not DATA.
    pub(crate) fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        match head.kind {
            frame::HEADERS => self.headers(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            frame::PRIORITY => self.flood.priority(&self.stats),
            frame::RST_STREAM => self.reset_came(head.stream, word(payload)),
            frame::SETTINGS if head.is_ack() => self.settings_acknowledged(),
            frame::SETTINGS => self.settings(payload),
            frame::PING => self.ping(head, payload),
            frame::GOAWAY => self.goaway_came(payload),
            frame::WINDOW_UPDATE => self.window_update(head.stream, word(payload) & MAX_31),
            // RFC 9113 section 4.1.
            _ => Ok(()),
        }
    }

    /// Why a stream has no record.
    pub(super) fn absent(&mut self, id: u32) -> Absent {
        if let Drain::Last(last) = self.drain
            && id & 1 == 1
            && id > last
        {
            return Absent::BehindGoaway;
        }
        if id & 1 == 0 || id > self.streams.last {
            return Absent::Idle;
        }
        Absent::Over(self.streams.memory(id))
    }

    fn reset_came(&mut self, id: u32, code: u32) -> Result<(), Fault> {
        self.stats.count(Counter::RxReset);
        if code == code::REFUSED_STREAM {
            self.stats.count(Counter::StreamRefusedErrors);
        }
        self.flood.reset(&self.stats)?;
        let Some(key) = self.streams.find(id) else {
            return if self.absent(id) == Absent::Idle { Err(PROTOCOL) } else { Ok(()) };
        };
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if stream.is_closed() {
            return Ok(());
        }
        stream.note_received(RST_STREAM_LEN, 0);
        if stream.is(Flags::WAITS_ACCEPT) {
            self.accept_resets += 1;
            if self.accept_resets > PENDING_RESETS {
                return Err(Fault(code::ENHANCE_YOUR_CALM));
            }
        }
        self.close_stream(key, Cause::Peer(code));
        Ok(())
    }

    /// SETTINGS may move the windows of all streams: so many other frames they count for in the share of a poll.
    pub(crate) fn cost_of_settings(&self) -> u32 {
        (self.streams.open / STREAMS_PER_FRAME) as u32
    }

    /// Ours are in force: they were sent once, with the connection's preface.
    fn settings_acknowledged(&mut self) -> Result<(), Fault> {
        if !std::mem::take(&mut self.unacknowledged) {
            return Err(PROTOCOL);
        }
        self.decoder.acknowledged(self.limits.table_size);
        let change = self.limits.stream_window as i32 - DEFAULT_WINDOW as i32;
        for key in self.streams.keys() {
            if let Some(stream) = self.streams.get(key) {
                stream.recv_window = stream.recv_window.saturating_add(change);
            }
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let settings = Settings::read(payload)?;
        if let Some(size) = settings.header_table_size {
            self.encoder.set_max_table_size(size);
        }
        if let Some(max) = settings.max_concurrent_streams {
            self.peer.max_streams = max as usize;
        }
        if let Some(max) = settings.max_frame_size {
            self.peer.max_frame = max;
        }
        if let Some(enabled) = settings.enable_connect_protocol {
            self.peer.extended_connect = enabled;
        }
        if let Some(window) = settings.initial_window_size {
            let change = window as i32 - self.peer.initial_window as i32;
            self.peer.initial_window = window;
            self.move_windows(change)?;
        }
        self.peer.came = true;
        self.flood.owe();
        frame::settings_ack(self.control());
        self.wake_opener();
        Ok(())
    }

    /// The windows of all streams move with SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.9.2).
    fn move_windows(&mut self, change: i32) -> Result<(), Fault> {
        if change == 0 {
            return Ok(());
        }
        for key in self.streams.keys() {
            let Some(stream) = self.streams.get(key).filter(|stream| !stream.is_closed()) else { continue };
            // Below the lowest number it cannot come: no window was ever opened further than it may be taken back.
            let moved = stream.send_window.checked_add(change).ok_or(Fault(code::FLOW_CONTROL_ERROR))?;
            let whole = i64::from(moved) + i64::from(stream.queued);
            if whole > i64::from(MAX_31) {
                return Err(Fault(code::FLOW_CONTROL_ERROR));
            }
            stream.send_window = moved;
            self.window_opened(key);
        }
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let Some(&octets) = payload.first_chunk::<8>() else { return Err(Fault(code::FRAME_SIZE_ERROR)) };
        if !head.is_ack() {
            self.flood.owe();
            frame::ping(ACK, octets, self.control());
        } else if octets == PING_ALIVE {
            self.pong = true;
        } else if octets == PING_DRAIN && self.drain == Drain::Told {
            self.drain = Drain::Last(self.streams.last);
            self.say_goaway(self.streams.last, code::NO_ERROR);
        }
        Ok(())
    }

    /// Streams that it does not name may be tried again; nothing is opened any more.
    fn goaway_came(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (last, code) = payload.split_at_checked(4).unwrap_or_default();
        let (last, code) = (word(last) & MAX_31, word(code));
        if self.goaway.is_some_and(|(before, _)| last > before) {
            return Err(PROTOCOL);
        }
        self.goaway = Some((last, code));
        if !self.is_server {
            for key in self.streams.keys() {
                if self.streams.get(key).is_some_and(|stream| stream.id > last) {
                    self.close_stream(key, Cause::Unprocessed);
                }
            }
            self.close(StreamError::Stopped(ErrorCode::NoError));
        }
        Ok(())
    }

    fn window_update(&mut self, id: u32, increment: u32) -> Result<(), Fault> {
        self.flood.window_update(&self.stats)?;
        if id == 0 {
            let window = self.send_window + i64::from(increment);
            if increment == 0 {
                return Err(PROTOCOL);
            }
            if window + self.queued as i64 > i64::from(MAX_31) {
                return Err(Fault(code::FLOW_CONTROL_ERROR));
            }
            self.send_window = window;
            self.serve_line();
            return Ok(());
        }
        let Some(key) = self.streams.find(id) else {
            return if self.absent(id) == Absent::Idle { Err(PROTOCOL) } else { Ok(()) };
        };
        let Some(stream) = self.streams.get(key).filter(|stream| !stream.is_closed()) else { return Ok(()) };
        if increment == 0 {
            return self.stream_fault(key, code::PROTOCOL_ERROR);
        }
        let window = i64::from(stream.send_window) + i64::from(increment);
        if window + i64::from(stream.queued) > i64::from(MAX_31) {
            return self.stream_fault(key, code::FLOW_CONTROL_ERROR);
        }
        stream.send_window = window as i32;
        self.window_opened(key);
        Ok(())
    }
}
