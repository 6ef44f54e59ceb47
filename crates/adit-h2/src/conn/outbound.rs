//! What leaves: header blocks and resets at once, DATA in turns, as much as both windows and the socket take (RFC 9113 sections
//! 5.1, 5.2 and 6.9).

use adit_http::ErrorCode;
use adit_io::Chunk;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Core;
use super::segments::{Segments, put_spare, take_spare};
use super::stream::Flags;
use crate::error::{Cause, code};
use crate::frame::{self, DATA, END_STREAM, Fault, HEAD_LEN, Head};
use crate::hpack::{Encoder, Pseudo};
use crate::{Counter, Gauge};

/// Octets that are given to the socket at once, about: beyond them, streams take turns again first.
const BATCH: usize = 128 << 10;
/// With more octets of heads and control frames that wait for the socket, no request is handed on.
const MAX_BEHIND: usize = 64 << 10;

/// Writes one header block.
pub(crate) struct Block<'a> {
    encoder: &'a mut Encoder,
    out: &'a mut BytesMut,
}

impl Block<'_> {
    pub(crate) fn status(&mut self, status: StatusCode) {
        self.encoder.pseudo(Pseudo::Status, status.as_str().as_bytes(), self.out);
    }

    pub(crate) fn pseudo(&mut self, name: Pseudo, value: &[u8]) {
        self.encoder.pseudo(name, value, self.out);
    }

    pub(crate) fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.encoder.field(name, value, self.out);
    }

    pub(crate) fn fields(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            self.field(name, value);
        }
    }
}

impl Core {
    /// The frames that leave next.
    pub(super) fn control(&mut self) -> &mut BytesMut {
        if self.control.capacity() == 0 {
            self.control = take_spare();
        }
        &mut self.control
    }

    /// Whether the peer leaves so many answers unread that nothing more is read from it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.blocked && !self.flood.may_refuse()
    }

    /// Whether the peer leaves so much unread that none of its requests is looked at.
    pub(super) fn is_behind(&self) -> bool {
        self.blocked && self.control.len() > MAX_BEHIND
    }

    /// A HEADERS frame, and CONTINUATION where the peer takes no larger one: what that costs, as Envoy counts it, with no
    /// more than one frame's head.
    pub(super) fn write_block(&mut self, id: u32, flags: u8, write: impl FnOnce(&mut Block<'_>)) -> usize {
        let at = self.control().len();
        self.control.put_bytes(0, HEAD_LEN);
        self.encoder.begin(&mut self.control);
        write(&mut Block { encoder: &mut self.encoder, out: &mut self.control });
        let cost = self.control.len().saturating_sub(at);
        frame::frame_block(at, id, flags, self.peer.max_frame, &mut self.control);
        cost
    }

    /// What leaves next goes to `out`, a batch at most.
    pub(crate) fn assemble(&mut self, out: &mut Segments) {
        if out.is_empty() {
            self.flood.left();
        }
        self.take_control(out);
        while out.len() < BATCH {
            let Some(key) = self.ready.pop_front() else { break };
            self.next_data(key, out);
        }
        self.take_control(out);
    }

    fn take_control(&mut self, out: &mut Segments) {
        if !self.control.is_empty() && out.len() < BATCH {
            self.flood.leaves();
            out.take(&mut self.control);
        }
    }

    /// One DATA frame of a stream whose turn it is, and what follows its last one.
    fn next_data(&mut self, key: u32, out: &mut Segments) {
        let max_frame = self.peer.max_frame;
        let Some(stream) = self.streams.get(key) else { return };
        stream.clear(Flags::READY);
        if stream.any(Flags::OVER.and(Flags::END_SENT)) {
            return self.settle(key);
        }
        // Below zero the window was taken back: so much of what waits has to wait for longer.
        let allowed = (i64::from(stream.queued) + i64::from(stream.send_window.min(0))).max(0) as u32;
        let mut len = 0;
        let mut payload = Chunk::EMPTY;
        if let Some(front) = self.chunks.front(stream.outbound) {
            len = (front.len() as u32).min(max_frame).min(allowed);
            if len == 0 {
                return;
            }
            let whole = front.len() as u32;
            payload = match self.chunks.split_to(&mut stream.outbound, len as usize) {
                Ok(payload) => payload,
                Err(_) => return self.lost(key, whole),
            };
        }
        stream.queued -= len;
        let empty = stream.outbound.is_empty();
        let ended = empty && stream.is(Flags::WE_ENDED);
        let trailers = if ended { stream.peek_extra().and_then(|extra| extra.send_trailers.take()) } else { None };
        if stream.queued <= self.limits.max_send_buffer / 2 {
            stream.wake_room();
        }
        let id = stream.id;
        let last = ended && trailers.is_none();
        if len > 0 || last {
            let head = Head::octets(len as usize, DATA, if last { END_STREAM } else { 0 }, id);
            out.frame(head, payload);
            self.note_left(len);
        }
        if let Some(trailers) = trailers {
            let cost = self.write_block(id, END_STREAM, |block| block.fields(&trailers));
            self.note_block(key, cost);
        }
        if ended {
            self.end_sent(key);
        } else if !empty {
            self.make_ready(key);
        }
    }

    /// Octets that waited cannot be had from the kernel.
    fn lost(&mut self, key: u32, octets: u32) {
        self.queued = self.queued.saturating_sub(octets.into());
        self.send_window += i64::from(octets);
        self.send_reset(key, ErrorCode::Internal);
    }

    /// A header block was sent.
    pub(super) fn note_block(&mut self, key: u32, cost: usize) {
        if let Some(stream) = self.streams.get(key) {
            stream.note_sent(cost, cost);
        }
    }

    /// DATA is on its way to the socket.
    fn note_left(&mut self, len: u32) {
        self.queued = self.queued.saturating_sub(len.into());
        self.leaving += u64::from(len);
        self.flood.sent_data(len as usize);
    }

    /// DATA that goes with the control frames.
    pub(super) fn write_data(&mut self, id: u32, flags: u8, payload: &[u8]) {
        let out = self.control();
        out.extend_from_slice(&Head::octets(payload.len(), DATA, flags, id));
        out.extend_from_slice(payload);
        self.leaving += payload.len() as u64;
        self.flood.sent_data(payload.len());
    }

    pub(super) fn end_sent(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.set(Flags::WE_ENDED.and(Flags::END_SENT));
        stream.tidy_extra();
        if stream.is(Flags::RESET_BEHIND_END) && !stream.is_closed() {
            self.reset(key, code::NO_ERROR, Cause::Asked(code::NO_ERROR));
        }
        self.settle(key);
    }

    /// It has DATA to send, or an end.
    pub(super) fn make_ready(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        if !stream.is(Flags::READY) {
            stream.set(Flags::READY);
            self.ready.push_back(key);
        }
    }

    /// The peer opened a stream's window.
    pub(super) fn window_opened(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.send_window > 0 {
            stream.wake_room();
        }
        if !stream.outbound.is_empty() {
            self.make_ready(key);
        }
    }

    /// The connection's window opened: each in the line may try.
    pub(super) fn serve_line(&mut self) {
        if self.send_window > 0 {
            for at in 0..self.line.len() {
                if let Some(stream) = self.line.get(at).copied().and_then(|key| self.streams.get(key)) {
                    stream.wake_room();
                }
            }
        }
    }

    /// RST_STREAM; the stream is over for this cause.
    pub(super) fn reset(&mut self, key: u32, code: u32, cause: Cause) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.is_closed() {
            stream.cause.get_or_insert(cause);
            return;
        }
        let id = stream.id;
        stream.set(Flags::WE_RESET);
        frame::rst_stream(id, code, self.control());
        self.stats.count(Counter::TxReset);
        self.close_stream(key, cause);
        self.wake_driver();
    }

    /// Somebody above resets it.
    pub(crate) fn send_reset(&mut self, key: u32, code: ErrorCode) {
        self.reset(key, code.to_h2(), Cause::Asked(code.to_h2()));
    }

    /// RST_STREAM for a fault of the peer, who may not provoke too many.
    pub(super) fn stream_fault(&mut self, key: u32, code: u32) -> Result<(), Fault> {
        self.note_fault(code)?;
        self.flood.refuse();
        self.reset(key, code, Cause::Fault(code));
        Ok(())
    }

    /// The same for a stream without a record.
    pub(super) fn reset_unknown(&mut self, id: u32, code: u32) -> Result<(), Fault> {
        self.note_fault(code)?;
        self.flood.refuse();
        frame::rst_stream(id, code, self.control());
        self.stats.count(Counter::TxReset);
        self.streams.remember_reset(id);
        Ok(())
    }

    fn note_fault(&mut self, code: u32) -> Result<(), Fault> {
        if code == code::PROTOCOL_ERROR {
            self.stats.count(Counter::RxMessagingError);
            if self.limits.strict_messages {
                return Err(Fault(code));
            }
        }
        self.flood.reset(&self.stats)
    }

    /// It is over without both ends: what waited to be sent is dropped, what came may still be read.
    pub(super) fn close_stream(&mut self, key: u32, cause: Cause) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.is_closed() {
            return;
        }
        if cause == Cause::Unprocessed {
            stream.set(Flags::WE_RESET);
        }
        stream.set(Flags::OVER);
        stream.cause = Some(cause);
        let dropped = self.chunks.clear(&mut stream.outbound);
        stream.queued = 0;
        if let Some(extra) = stream.peek_extra() {
            extra.send_trailers = None;
        }
        stream.wake_all();
        self.queued = self.queued.saturating_sub(dropped as u64);
        self.send_window += dropped as i64;
        self.leave_lists(key);
        if dropped > 0 {
            self.serve_line();
        }
        self.settle(key);
    }

    /// The socket took less than it was given: nobody queues more until all is out.
    pub(crate) fn set_blocked(&mut self) -> Result<(), Fault> {
        self.blocked = true;
        self.flood.check_owed(&self.stats)
    }

    /// The socket took all that there was.
    pub(crate) fn all_left(&mut self) {
        self.blocked = false;
        self.queued_frames = 0;
        self.leaving = 0;
        self.flood.left();
        if self.control.is_empty() && self.control.capacity() > 0 {
            put_spare(std::mem::take(&mut self.control));
        }
        self.wake_senders();
    }

    pub(super) fn wake_senders(&mut self) {
        if self.socket_waiters.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.socket_waiters) {
            if let Some(stream) = self.streams.get(key) {
                stream.clear(Flags::WAITS_SOCKET);
                stream.wake_room();
            }
        }
    }

    /// The gauge is told once for each poll of the connection.
    pub(crate) fn tell_pending(&mut self) {
        let pending = self.queued + self.leaving;
        self.stats.gauge(Gauge::PendingSendBytes, pending.wrapping_sub(self.told) as i64);
        self.told = pending;
    }
}
