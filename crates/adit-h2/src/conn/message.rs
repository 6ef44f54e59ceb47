//! Header blocks: requests, responses and trailers that come (RFC 9113 sections 4.3 and 8).

use std::sync::Arc;

use adit_codec::Meter;
use http::StatusCode;

use super::frames::Absent;
use super::stream::{ANY_LENGTH, AnswerHead, Fit, Flags, Stream};
use super::streams::Memory;
use super::{Arrived, Core};
use crate::Counter;
use crate::error::code;
use crate::frame::{DEFAULT_WINDOW, END_STREAM, Fault, HEAD_LEN, Head};
use crate::head::{self, Refusal};
use crate::section::Section;

/// Frames of one header block.
const MAX_CONTINUATIONS: u32 = 128;
/// Interim responses to one request before its stream is given up.
pub(crate) const MAX_INTERIM: usize = 100;

/// A header block that CONTINUATION goes on with.
pub(crate) struct OpenBlock {
    pub(super) stream: u32,
    ends_stream: bool,
    frames: u32,
    octets: Vec<u8>,
    /// What it costs on the wire.
    cost: usize,
}

const CALM: Fault = Fault(code::ENHANCE_YOUR_CALM);

impl Core {
    /// Whether a header block is under way that CONTINUATION must go on with.
    pub(crate) fn in_block(&self) -> bool {
        self.block.is_some()
    }

    /// Before a frame's payload is waited for: no block becomes longer than it may, nor has it more pieces.
    pub(super) fn check_block(&self, head: Head) -> Result<(), Fault> {
        let before = match (&self.block, head.kind) {
            (Some(block), _) if block.frames >= MAX_CONTINUATIONS => return Err(CALM),
            (Some(block), _) => block.octets.len(),
            (None, crate::frame::HEADERS) => 0,
            (None, _) => return Ok(()),
        };
        // Beside it: padding, the octet that says so, and a priority.
        if before + head.len as usize > self.limits.max_block + 256 + 5 { Err(CALM) } else { Ok(()) }
    }

    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let fragment = head.fragment(payload)?;
        self.flood.headers();
        self.flood.payload(fragment.is_empty(), head.ends_stream(), &self.stats)?;
        let cost = HEAD_LEN + payload.len();
        if head.ends_headers() {
            return self.block(head.stream, head.ends_stream(), fragment, cost);
        }
        let (stream, ends_stream) = (head.stream, head.ends_stream());
        self.block = Some(Box::new(OpenBlock { stream, ends_stream, frames: 1, octets: fragment.to_vec(), cost }));
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        self.flood.payload(payload.is_empty(), head.ends_stream(), &self.stats)?;
        let Some(mut block) = self.block.take() else { return Err(Fault(code::PROTOCOL_ERROR)) };
        block.octets.extend_from_slice(payload);
        block.frames += 1;
        // As in Envoy, the heads of CONTINUATION frames do not count.
        block.cost += payload.len();
        if head.ends_headers() {
            return self.block(block.stream, block.ends_stream, &block.octets, block.cost);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole header block, and what it cost on the wire.
    fn block(&mut self, id: u32, ends: bool, octets: &[u8], cost: usize) -> Result<(), Fault> {
        let section = Section::read(&mut self.decoder, octets, self.limits.rules, self.limits.max_list)?;
        if let Some(key) = self.streams.find(id) {
            let Some(stream) = self.streams.get(key) else { return Ok(()) };
            stream.note_received(cost, cost);
            return match stream {
                stream if stream.is(Flags::WE_RESET) => Ok(()),
                stream if stream.any(Flags::PEER_ENDED.and(Flags::OVER)) => Err(Fault(code::STREAM_CLOSED)),
                stream if stream.is(Flags::HEAD_CAME) => self.trailers(key, ends, section),
                _ => self.answer(key, ends, section),
            };
        }
        match self.absent(id) {
            Absent::BehindGoaway | Absent::Over(Memory::WeReset) => Ok(()),
            Absent::Over(Memory::Ended | Memory::PeerReset) => Err(Fault(code::STREAM_CLOSED)),
            Absent::Over(Memory::Forgotten) if !self.is_server => self.reset_unknown(id, code::STREAM_CLOSED),
            Absent::Idle if self.is_server && id & 1 == 1 => self.request(id, ends, section, cost),
            Absent::Idle | Absent::Over(Memory::Forgotten) => Err(Fault(code::PROTOCOL_ERROR)),
        }
    }

    fn request(&mut self, id: u32, ends: bool, section: Section, cost: usize) -> Result<(), Fault> {
        self.streams.last = id;
        if self.streams.open >= self.limits.max_streams {
            return self.reset_unknown(id, code::REFUSED_STREAM);
        }
        let no_leave = section.protocol.is_some() && !self.limits.allow_connect;
        let length = section.length.unwrap_or(ANY_LENGTH);
        if section.malformed || section.status.is_some() || no_leave || (ends && !matches!(length, 0 | ANY_LENGTH)) {
            return self.reset_unknown(id, code::PROTOCOL_ERROR);
        }
        match head::request(section, self.secure) {
            Ok(head) => {
                let ended = if ends { Flags::PEER_ENDED } else { Flags::HEAD_CAME };
                let flags = Flags::HEAD_CAME.and(Flags::WAITS_ACCEPT).and(ended);
                let mut stream = self.new_stream(id, flags);
                stream.length = if head.kind.is_tunnel() { ANY_LENGTH } else { length };
                let meter = Arc::new(Meter::default());
                meter.received(cost, cost);
                stream.meter = Some(meter.clone());
                let key = self.streams.open(stream);
                self.accept.push_back(Arrived { key, head, ended: ends, meter });
                Ok(())
            }
            Err(Refusal::Malformed) => self.reset_unknown(id, code::PROTOCOL_ERROR),
            Err(Refusal::TooLarge) => {
                self.answer_too_large(id, ends);
                Ok(())
            }
        }
    }

    pub(super) fn new_stream(&self, id: u32, flags: Flags) -> Stream {
        let recv_window = if self.unacknowledged { DEFAULT_WINDOW } else { self.limits.stream_window };
        Stream::new(id, flags, self.peer.initial_window, recv_window)
    }

    fn answer_too_large(&mut self, id: u32, ended: bool) {
        self.stats.count(Counter::HeaderOverflow);
        self.flood.refuse();
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        self.write_block(id, END_STREAM, |block| block.status(status));
        if ended {
            self.streams.remember_end(id);
        } else {
            // RFC 9113 section 8.1.
            self.stats.count(Counter::TxReset);
            crate::frame::rst_stream(id, code::NO_ERROR, self.control());
            self.streams.remember_reset(id);
        }
    }

    fn answer(&mut self, key: u32, ends: bool, section: Section) -> Result<(), Fault> {
        let text = section.status.as_ref().map(http::HeaderValue::as_bytes);
        let status = match text.map(StatusCode::from_bytes) {
            Some(Ok(status)) => status,
            None if section.too_large => StatusCode::OK,
            _ => return self.stream_fault(key, code::PROTOCOL_ERROR),
        };
        let interim = status.is_informational();
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        if section.malformed || section.has_request_fields() || (interim && ends) {
            return self.stream_fault(key, code::PROTOCOL_ERROR);
        }
        if !interim {
            let length = match status {
                _ if stream.is(Flags::TUNNEL) && status.is_success() => None,
                _ if stream.is(Flags::NO_CONTENT) => Some(0),
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Some(0),
                _ if ends && section.length.is_some_and(|length| length > 0) => {
                    return self.stream_fault(key, code::PROTOCOL_ERROR);
                }
                _ => section.length,
            };
            stream.length = length.unwrap_or(ANY_LENGTH);
            stream.set(Flags::HEAD_CAME);
        }
        if ends {
            stream.set(Flags::PEER_ENDED);
        }
        let wanted = !stream.is(Flags::DEAF) && (!interim || stream.extra().heads.len() <= MAX_INTERIM);
        if wanted {
            let fit = if section.too_large { Fit::TooLarge } else { Fit::Good };
            stream.extra().heads.push_back(AnswerHead { status, headers: section.headers, fit });
            stream.wake_recv();
        }
        self.settle(key);
        Ok(())
    }

    fn trailers(&mut self, key: u32, ends: bool, section: Section) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let pseudo = section.has_request_fields() || section.status.is_some();
        if !ends || pseudo || section.malformed || !matches!(stream.length, 0 | ANY_LENGTH) {
            return self.stream_fault(key, code::PROTOCOL_ERROR);
        }
        stream.set(Flags::PEER_ENDED);
        if !stream.is(Flags::DEAF) {
            let fit = if section.too_large { Fit::TooLarge } else { Fit::Good };
            stream.extra().trailers = Some((section.headers, fit));
        }
        stream.wake_recv();
        self.settle(key);
        Ok(())
    }
}
