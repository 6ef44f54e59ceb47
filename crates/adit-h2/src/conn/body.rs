//! DATA that comes, and the windows that are given back for what went onward (RFC 9113 sections 5.2 and 6.1).

use adit_io::Chunk;

use super::Core;
use super::frames::Absent;
use super::stream::{ANY_LENGTH, Flags};
use super::streams::Memory;
use crate::error::code;
use crate::frame::{self, Fault, HEAD_LEN, Head, WINDOW_UPDATE_LEN};

/// The part of a stream's window that is given back although more waits for its reader.
const LEAST_SHARE: u32 = 4;

/// Where the octets of a DATA frame go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    id: u32,
    key: u32,
}

impl Core {
    /// A DATA frame with this much padding, the octet that says so included. `None`: its octets go nowhere.
    pub(crate) fn data_begins(&mut self, head: Head, padding: u32) -> Result<Option<Target>, Fault> {
        let len = head.len.checked_sub(padding).ok_or(Fault(code::PROTOCOL_ERROR))?;
        self.flood.payload(len == 0, head.ends_stream(), &self.stats)?;
        if i64::from(head.len) > self.recv_window {
            return Err(Fault(code::FLOW_CONTROL_ERROR));
        }
        self.recv_window -= i64::from(head.len);
        let target = self.target(head, len)?;
        match target {
            Some(target) => {
                if let Some(stream) = self.streams.get(target.key) {
                    stream.unannounced += padding;
                    stream.note_received(HEAD_LEN + padding as usize, 0);
                }
                self.give_back(padding);
            }
            None => self.give_back(head.len),
        }
        Ok(target)
    }

    fn target(&mut self, head: Head, len: u32) -> Result<Option<Target>, Fault> {
        let id = head.stream;
        let Some(key) = self.streams.find(id) else {
            return match self.absent(id) {
                Absent::Idle => Err(Fault(code::PROTOCOL_ERROR)),
                Absent::Over(Memory::Ended) => Err(Fault(code::STREAM_CLOSED)),
                Absent::Over(Memory::PeerReset | Memory::Forgotten) => {
                    self.reset_unknown(id, code::STREAM_CLOSED).map(|()| None)
                }
                Absent::Over(Memory::WeReset) | Absent::BehindGoaway => Ok(None),
            };
        };
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        if stream.is(Flags::WE_RESET) {
            return Ok(None);
        }
        if stream.any(Flags::PEER_ENDED.and(Flags::OVER)) {
            return Err(Fault(code::STREAM_CLOSED));
        }
        if !stream.is(Flags::HEAD_CAME) {
            return Err(Fault(code::PROTOCOL_ERROR));
        }
        if i64::from(head.len) > i64::from(stream.recv_window) {
            return self.stream_fault(key, code::FLOW_CONTROL_ERROR).map(|()| None);
        }
        stream.recv_window -= head.len as i32;
        if stream.length != ANY_LENGTH {
            // RFC 9113 section 8.1.1.
            match stream.length.checked_sub(u64::from(len)) {
                Some(left) if left == 0 || !head.ends_stream() => stream.length = left,
                _ => return self.stream_fault(key, code::PROTOCOL_ERROR).map(|()| None),
            }
        }
        Ok(Some(Target { id, key }))
    }

    /// The next octets of a DATA frame, large enough to be handed on as they are.
    pub(crate) fn data(&mut self, target: Target, data: Chunk) {
        if !self.is_wanted(target) {
            return self.give_back(data.len() as u32);
        }
        if let Some(stream) = self.streams.get(target.key) {
            self.chunks.push(&mut stream.inbound, data);
            stream.wake_recv();
        }
    }

    /// The next octets of a DATA frame, to be copied.
    pub(crate) fn small_data(&mut self, target: Target, octets: &[u8]) {
        if !self.is_wanted(target) {
            return self.give_back(octets.len() as u32);
        }
        if let Some(stream) = self.streams.get(target.key) {
            self.chunks.append(&mut stream.inbound, octets);
            stream.wake_recv();
        }
    }

    /// Whether one more chunk may lie in the kernel.
    pub(crate) fn may_splice(&self) -> bool {
        self.chunks.may_splice()
    }

    /// Whether who reads its octets has a use for them in the kernel.
    pub(crate) fn takes_spliced(&mut self, target: Target) -> bool {
        self.is_wanted(target) && self.streams.get(target.key).is_some_and(|stream| stream.is(Flags::TAKES_SPLICED))
    }

    /// Whether somebody waits for its octets: the stream may have ended since the frame began.
    fn is_wanted(&mut self, target: Target) -> bool {
        let nowhere = Flags::DEAF.and(Flags::OVER);
        self.streams.get(target.key).is_some_and(|stream| stream.id == target.id && !stream.any(nowhere))
    }

    /// The frame with END_STREAM is over.
    pub(crate) fn data_ends_stream(&mut self, target: Target) {
        let Some(stream) = self.streams.get(target.key) else { return };
        if stream.id == target.id && !stream.is_closed() {
            stream.set(Flags::PEER_ENDED);
            stream.wake_recv();
            self.settle(target.key);
        }
    }

    /// What was lent to the receiving half went onward.
    pub(super) fn take_lent(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        let lent = std::mem::take(&mut stream.lent);
        if lent == 0 {
            return;
        }
        stream.unannounced += lent;
        // While more waits here a small part is kept: a peer without a window would fill it with a small frame, and the next.
        // Once nothing waits all is given back: before the peer acknowledged our SETTINGS its window may be smaller than a part.
        let worth = stream.unannounced >= self.limits.stream_window / LEAST_SHARE || stream.inbound.is_empty();
        let goes_on = !stream.any(Flags::PEER_ENDED.and(Flags::OVER));
        if goes_on && worth && is_due(stream.unannounced, stream.recv_window.into()) {
            let (id, increment) = (stream.id, std::mem::take(&mut stream.unannounced));
            stream.recv_window = stream.recv_window.saturating_add_unsigned(increment);
            stream.note_sent(WINDOW_UPDATE_LEN, 0);
            frame::window_update(id, increment, self.control());
            self.wake_driver();
        }
        self.give_back(lent);
    }

    /// Nobody wants what the peer still sends on this stream: its window stays shut.
    pub(super) fn ignore_rest(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.set(Flags::DEAF);
        let lent = std::mem::take(&mut stream.lent);
        let dropped = self.chunks.clear(&mut stream.inbound) as u32;
        if let Some(extra) = stream.peek_extra() {
            extra.heads.clear();
            extra.trailers = None;
            stream.tidy_extra();
        }
        self.give_back(lent + dropped);
    }

    /// Octets of the connection's window.
    fn give_back(&mut self, octets: u32) {
        self.unannounced += octets;
        if octets > 0 && is_due(self.unannounced, self.recv_window) {
            let increment = std::mem::take(&mut self.unannounced);
            self.recv_window += i64::from(increment);
            frame::window_update(0, increment, self.control());
            self.wake_driver();
        }
    }
}

/// Whether what may be given back is worth a frame: as much as half of what the peer has left.
fn is_due(unannounced: u32, window: i64) -> bool {
    unannounced > 0 && 2 * i64::from(unannounced) >= window
}
