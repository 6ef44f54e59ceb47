//! What the halves of streams ask for.

use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::Meter;
use adit_http::{ErrorCode, RequestHead, RequestKind, StreamError};
use adit_io::{Chunk, Spliced};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::Core;
use super::chunks::LEAST_SPLICE;
use super::stream::{AnswerHead, Fit, Flags};
use crate::error::{Cause, MISUSED};
use crate::frame::{END_STREAM, HEAD_LEN, MAX_31};
use crate::head;

/// DATA up to this size goes with the control frames, if these are no more than [`MAX_CONTROL`].
const SMALL: usize = 1 << 10;
const MAX_CONTROL: usize = 32 << 10;
/// A turn in the line for the connection's window takes so much at least.
const LEAST_TURN: i64 = 1 << 10;

/// What a receiving half is given.
pub(crate) enum Received {
    Chunk(Bytes),
    /// The peer's half ended cleanly; trailers may follow.
    End,
}

impl Core {
    /// Opens a stream with a request.
    pub(crate) fn open(&mut self, request: &RequestHead, end: bool) -> Result<u32, StreamError> {
        if let Some(error) = self.over {
            return Err(error);
        }
        let tunnel = request.kind.is_tunnel();
        if matches!(request.kind, RequestKind::Upgrade(_)) {
            if !self.peer.extended_connect {
                return Err(StreamError::Protocol("http2.extended_connect_not_allowed"));
            }
            if request.authority.is_none() {
                return Err(StreamError::Protocol("http2.missing_authority"));
            }
        }
        let id = if self.streams.last == 0 { 1 } else { self.streams.last + 2 };
        if id > MAX_31 {
            // The identifiers are used up (RFC 9113 section 5.1.1).
            self.close(StreamError::Stopped(ErrorCode::NoError));
        }
        // A peer that took back some of its leave: another connection will do.
        if self.streams.open >= self.peer.max_streams || self.over.is_some() || self.end.is_some() {
            return Err(StreamError::Local(ErrorCode::Refused));
        }
        let ended = if end { Flags::WE_ENDED.and(Flags::END_SENT) } else { Flags::HOLD_SEND };
        let mut stream = self.new_stream(id, Flags::HOLD_SEND.and(Flags::HOLD_RECV).and(ended));
        if request.method == Method::HEAD {
            stream.set(Flags::NO_CONTENT);
        }
        if tunnel {
            stream.set(Flags::TUNNEL);
        }
        let key = self.streams.open(stream);
        self.count_live();
        let cost = self.write_block(id, if end { END_STREAM } else { 0 }, |block| head::write_request(request, block));
        if let Some(stream) = self.streams.get(key) {
            let meter = Meter::default();
            meter.sent(cost, cost);
            stream.meter = Some(Arc::new(meter));
        }
        self.wake_driver();
        Ok(key)
    }

    /// What a stream costs beside its payload, for whoever reads it.
    pub(crate) fn meter(&mut self, key: u32) -> Option<Arc<Meter>> {
        self.streams.get(key).and_then(|stream| stream.meter.clone())
    }

    /// An answer, final or interim.
    pub(crate) fn respond(
        &mut self,
        key: u32,
        status: StatusCode,
        headers: &HeaderMap,
        end: bool,
    ) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get(key) else { return Err(MISUSED) };
        if let Some(cause) = stream.cause {
            return Err(cause.error());
        }
        let id = stream.id;
        let cost = self.write_block(id, if end { END_STREAM } else { 0 }, |block| {
            block.status(status);
            block.fields(headers);
        });
        self.note_block(key, cost);
        if end {
            self.end_sent(key);
        }
        self.wake_driver();
        Ok(())
    }

    /// Ready with why our half may not go on.
    pub(crate) fn poll_stopped(&mut self, key: u32, cx: &Context<'_>) -> Poll<StreamError> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(MISUSED) };
        if let Some(cause) = stream.cause {
            return Poll::Ready(cause.stopped());
        }
        stream.set(Flags::WATCHED);
        keep(&mut stream.send_waker, cx);
        Poll::Pending
    }

    /// Ready when a request was given up before its answer.
    pub(crate) fn poll_cancelled(&mut self, key: u32, cx: &Context<'_>) -> Poll<StreamError> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(MISUSED) };
        if let Some(cause) = stream.cause {
            return Poll::Ready(cause.error());
        }
        keep(&mut stream.send_waker, cx);
        Poll::Pending
    }

    /// Whether our half was cut short.
    pub(crate) fn check_sent(&mut self, key: u32) -> Result<(), StreamError> {
        self.check_open(key, true)
    }

    /// Takes what there is room for; with `end` our half ends behind all of it.
    pub(crate) fn poll_send(
        &mut self,
        key: u32,
        cx: &Context<'_>,
        data: &mut Bytes,
        end: bool,
    ) -> Poll<Result<(), StreamError>> {
        self.check_open(key, data.is_empty())?;
        while !data.is_empty() {
            let room = std::task::ready!(self.poll_room(key, cx))?;
            let part = if data.len() <= room { std::mem::take(data) } else { data.split_to(room) };
            let last = end && data.is_empty();
            self.push(key, Chunk::Bytes(part), last);
        }
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(MISUSED)) };
        if stream.is(Flags::WATCHED) {
            keep(&mut stream.send_waker, cx);
        }
        if end && !stream.is(Flags::WE_ENDED) {
            self.end(key);
        }
        Poll::Ready(Ok(()))
    }

    /// How many octets that lie in the kernel may be sent at once: one frame. `None` where they are to be sent from memory.
    pub(crate) fn poll_splice(&mut self, key: u32, cx: &Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        self.check_open(key, false)?;
        let max_frame = self.peer.max_frame as usize;
        // A place in the line is for who has the octets in hand.
        let line = !self.line.is_empty() || self.send_window <= 0;
        if !self.splices || max_frame < LEAST_SPLICE || line || !self.chunks.may_splice() {
            return Poll::Ready(Ok(None));
        }
        let room = std::task::ready!(self.poll_room(key, cx))?.min(max_frame);
        Poll::Ready(Ok((room >= LEAST_SPLICE).then_some(room)))
    }

    /// Sends octets that lie in the kernel, at most as many as [`Core::poll_splice`] said.
    pub(crate) fn send_spliced(&mut self, key: u32, data: Spliced) -> Result<(), StreamError> {
        self.check_open(key, false)?;
        let Some(stream) = self.streams.get(key) else { return Err(MISUSED) };
        if data.len() as i64 > self.send_window.min(stream.send_window.into()) {
            return Err(MISUSED);
        }
        self.push(key, Chunk::Spliced(data), false);
        Ok(())
    }

    /// Whether our half takes octets or an end; one that ended takes nothing and the same end again.
    fn check_open(&mut self, key: u32, nothing: bool) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get(key) else { return Err(MISUSED) };
        match (stream.is(Flags::WE_ENDED), stream.cause) {
            (true, _) if nothing => Ok(()),
            (_, Some(cause)) => Err(cause.stopped()),
            (true, None) => Err(StreamError::Local(ErrorCode::NoError)),
            (false, None) => Ok(()),
        }
    }

    /// How much may be queued now.
    fn poll_room(&mut self, key: u32, cx: &Context<'_>) -> Poll<Result<usize, StreamError>> {
        let socket = self.blocked || self.queued_frames >= self.limits.max_queued;
        let (connection, others) = (self.send_window, !self.line.is_empty());
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(MISUSED)) };
        let in_line = stream.is(Flags::IN_LINE);
        let full = stream.send_window <= 0 || stream.queued >= self.limits.max_send_buffer;
        let turn = connection > 0 && (in_line || !others);
        if socket || full || !turn {
            stream.set(Flags::WAITS_ROOM);
            keep(&mut stream.send_waker, cx);
            if socket && !stream.is(Flags::WAITS_SOCKET) {
                stream.set(Flags::WAITS_SOCKET);
                self.socket_waiters.push(key);
            } else if !socket && !full && !in_line {
                stream.set(Flags::IN_LINE);
                self.line.push_back(key);
                self.next_in_line();
            }
            return Poll::Pending;
        }
        let room = i64::from(stream.send_window.unsigned_abs().min(self.limits.max_send_buffer - stream.queued));
        let share = if in_line { self.leave_line(key) } else { connection };
        Poll::Ready(Ok(room.min(share) as usize))
    }

    /// Its turn in the line for the connection's window has come: how much that is.
    fn leave_line(&mut self, key: u32) -> i64 {
        let turn = self.send_window / self.line.len().max(1) as i64;
        self.line.retain(|&other| other != key);
        if let Some(stream) = self.streams.get(key) {
            stream.clear(Flags::IN_LINE);
        }
        turn.max(LEAST_TURN).min(self.send_window)
    }

    /// While the connection's window is open, the first in the line is called that was not called yet and may go on itself.
    pub(super) fn next_in_line(&mut self) {
        if self.send_window <= 0 {
            return;
        }
        for at in 0..self.line.len() {
            if let Some(stream) = self.line.get(at).copied().and_then(|key| self.streams.get(key))
                && stream.is(Flags::WAITS_ROOM)
                && stream.send_window > 0
                && stream.queued < self.limits.max_send_buffer
            {
                return stream.wake_room();
            }
        }
    }

    fn push(&mut self, key: u32, data: Chunk, last: bool) {
        let len = data.len();
        self.send_window -= len as i64;
        self.queued_frames = self.queued_frames.saturating_add(1);
        // A client may still give up a request whose end did not leave: that is a reset and no end.
        let at_once = len <= SMALL && self.control.len() <= MAX_CONTROL && (self.is_server || !last);
        let max_frame = self.peer.max_frame as usize;
        let Some(stream) = self.streams.get(key) else { return };
        stream.send_window -= len as i32;
        stream.set(Flags::BEGUN);
        // Counted here, with the payload: who logs it may be done before it leaves.
        stream.note_sent(HEAD_LEN * len.div_ceil(max_frame), 0);
        let first = stream.outbound.is_empty() && !stream.is(Flags::READY);
        match data {
            Chunk::Bytes(data) if at_once && first => {
                let id = stream.id;
                self.write_data(id, if last { END_STREAM } else { 0 }, &data);
                if last {
                    self.end_sent(key);
                }
            }
            data => {
                if last {
                    stream.set(Flags::WE_ENDED);
                }
                stream.queued += len as u32;
                self.chunks.push(&mut stream.outbound, data);
                self.queued += len as u64;
                self.make_ready(key);
            }
        }
        if !self.line.is_empty() {
            self.next_in_line();
        }
        self.wake_driver();
    }

    /// Our half ends behind what waits.
    pub(crate) fn end(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.set(Flags::WE_ENDED);
        if stream.outbound.is_empty() {
            stream.note_sent(HEAD_LEN, 0);
        }
        if self.is_server && stream.outbound.is_empty() && !stream.is(Flags::READY) {
            let id = stream.id;
            self.write_data(id, END_STREAM, &[]);
            self.end_sent(key);
        } else {
            self.make_ready(key);
        }
        self.wake_driver();
    }

    /// Our half ends with trailers behind what waits.
    pub(crate) fn send_trailers(&mut self, key: u32, trailers: HeaderMap) -> Result<(), StreamError> {
        self.check_open(key, false)?;
        if trailers.is_empty() {
            self.end(key);
            return Ok(());
        }
        let Some(stream) = self.streams.get(key) else { return Err(MISUSED) };
        stream.set(Flags::WE_ENDED);
        if self.is_server && stream.outbound.is_empty() && !stream.is(Flags::READY) {
            let id = stream.id;
            let cost = self.write_block(id, END_STREAM, |block| block.fields(&trailers));
            self.note_block(key, cost);
            self.end_sent(key);
        } else {
            stream.extra().send_trailers = Some(trailers);
            self.make_ready(key);
        }
        self.wake_driver();
        Ok(())
    }

    /// The sending half is let go of: one that did not end is a reset, but where the peer refused a tunnel.
    pub(crate) fn drop_send(&mut self, key: u32, abandon: ErrorCode) {
        let Some(stream) = self.streams.get(key) else { return };
        if !stream.any(Flags::WE_ENDED.and(Flags::OVER)) {
            if stream.is(Flags::REFUSED) && !stream.is(Flags::BEGUN) {
                // The client of a refused tunnel lets go of its direction and still reads why: a reset would take that away,
                // and an end says nothing that is not so, since a CONNECT has no body (RFC 9110 section 9.3.6).
                self.end(key);
            } else {
                let stop = stream.peek_extra().and_then(|extra| extra.stop);
                self.send_reset(key, stop.unwrap_or(abandon));
            }
        }
        self.release(key, Flags::HOLD_SEND);
    }

    /// The next that a client is answered with.
    pub(crate) fn poll_head(&mut self, key: u32, cx: &Context<'_>) -> Poll<Result<AnswerHead, StreamError>> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(MISUSED)) };
        if let Some(head) = stream.peek_extra().and_then(|extra| extra.heads.pop_front()) {
            stream.tidy_extra();
            return Poll::Ready(Ok(head));
        }
        if let Some(cause) = stream.cause {
            return Poll::Ready(Err(cause.error()));
        }
        stream.set(Flags::WAITS_RECV);
        keep(&mut stream.recv_waker, cx);
        Poll::Pending
    }

    /// The next of the peer's half.
    pub(crate) fn poll_chunk(&mut self, key: u32, cx: &Context<'_>) -> Poll<Result<Received, StreamError>> {
        self.take_lent(key);
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(MISUSED)) };
        if let Some(chunk) = self.chunks.pop(&mut stream.inbound) {
            stream.lent = chunk.len() as u32;
            if matches!(chunk, Chunk::Spliced(_)) {
                // It has no use for such any more.
                stream.clear(Flags::TAKES_SPLICED);
            }
            return Poll::Ready(chunk.into_bytes().map(Received::Chunk));
        }
        if stream.is(Flags::PEER_ENDED) {
            return Poll::Ready(Ok(Received::End));
        }
        if let Some(cause) = stream.cause {
            return Poll::Ready(Err(cause.error()));
        }
        stream.set(Flags::WAITS_RECV);
        keep(&mut stream.recv_waker, cx);
        Poll::Pending
    }

    /// The next of the peer's half, if that lies in the kernel.
    pub(crate) fn take_spliced(&mut self, key: u32) -> Option<Spliced> {
        self.take_lent(key);
        let stream = self.streams.get(key)?;
        stream.set(Flags::TAKES_SPLICED);
        if !matches!(self.chunks.front(stream.inbound), Some(Chunk::Spliced(_))) {
            return None;
        }
        match self.chunks.pop(&mut stream.inbound) {
            Some(Chunk::Spliced(data)) => {
                stream.lent = data.len() as u32;
                Some(data)
            }
            _ => None,
        }
    }

    /// The trailers, once the content has ended.
    pub(crate) fn poll_trailers(
        &mut self,
        key: u32,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<(HeaderMap, Fit)>, StreamError>> {
        let Some(stream) = self.streams.get(key) else { return Poll::Ready(Err(MISUSED)) };
        if stream.inbound.is_empty() {
            if stream.is(Flags::PEER_ENDED) {
                let trailers = stream.peek_extra().and_then(|extra| extra.trailers.take());
                stream.tidy_extra();
                return Poll::Ready(Ok(trailers));
            }
            if let Some(cause) = stream.cause {
                return Poll::Ready(Err(cause.error()));
            }
        }
        stream.set(Flags::WAITS_RECV);
        keep(&mut stream.recv_waker, cx);
        Poll::Pending
    }

    /// Whether the peer's half ended and nothing of it is left.
    pub(crate) fn is_read(&mut self, key: u32) -> bool {
        self.streams.get(key).is_some_and(|stream| {
            stream.is(Flags::PEER_ENDED)
                && stream.inbound.is_empty()
                && stream.peek_extra().is_none_or(|extra| extra.trailers.is_none())
        })
    }

    /// The receiving half is stopped: the code says how to reset the sending half if that is abandoned.
    pub(crate) fn stop(&mut self, key: u32, code: ErrorCode) {
        self.ignore_rest(key);
        if let Some(stream) = self.streams.get(key)
            && !stream.any(Flags::WE_ENDED.and(Flags::OVER))
        {
            stream.extra().stop = Some(code);
        }
    }

    /// The receiving half is let go of.
    pub(crate) fn drop_recv(&mut self, key: u32) {
        self.ignore_rest(key);
        self.release(key, Flags::HOLD_RECV);
    }

    /// A promise of a response is let go of before it came.
    pub(crate) fn drop_pending(&mut self, key: u32) {
        if let Some(stream) = self.streams.get(key)
            && !stream.is(Flags::OVER)
        {
            self.reset(key, crate::error::code::CANCEL, Cause::Asked(crate::error::code::CANCEL));
        }
        self.drop_recv(key);
    }

    /// The peer refused a tunnel.
    pub(crate) fn set_refused(&mut self, key: u32) {
        if let Some(stream) = self.streams.get(key) {
            stream.set(Flags::REFUSED);
        }
    }
}

pub(super) fn keep(place: &mut Option<std::task::Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}
