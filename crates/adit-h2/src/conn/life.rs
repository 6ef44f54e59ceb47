//! The life of a connection and of its streams: who holds them, how they end, and what follows from that (RFC 9113 sections 5.1,
//! 5.4 and 6.8).

use std::collections::VecDeque;

use adit_http::StreamError;

use super::stream::Flags;
use super::{Arrived, Core, Drain, PING_DRAIN};
use crate::error::{Cause, End, code};
use crate::frame::{self, Fault, MAX_31};
use crate::{Counter, Gauge};

/// Room for this many requests stays made.
const KEPT_PLACES: usize = 16;

impl Core {
    /// Nothing is opened any more; the connection ends once its streams are done.
    pub(crate) fn close(&mut self, error: StreamError) {
        self.over.get_or_insert(error);
        self.wake_driver();
        self.wake_opener();
    }

    /// Takes no new streams: the peer is told at once, and of the last one once it had time to hear that.
    pub(crate) fn drain(&mut self) {
        if self.drain == Drain::No && self.end.is_none() {
            self.drain = Drain::Told;
            self.say_goaway(MAX_31, code::NO_ERROR);
            frame::ping(0, PING_DRAIN, self.control());
            self.wake_driver();
        }
    }

    pub(super) fn say_goaway(&mut self, last: u32, code: u32) {
        if self.said != Some((last, code)) {
            self.said = Some((last, code));
            frame::goaway(last, code, self.control());
            self.stats.count(Counter::GoawaySent);
        }
    }

    /// The last stream of the peer's that was processed: a client's peer has none.
    fn last_processed(&self) -> u32 {
        if self.is_server { self.streams.last } else { 0 }
    }

    /// The connection is to end; streams that live are told.
    pub(crate) fn finish(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        match end {
            End::Closed | End::Peer(_) => self.say_goaway(self.last_processed(), code::NO_ERROR),
            End::Fault(code) | End::Asked(code) => self.say_goaway(self.last_processed(), code),
            End::Lost(_) => {}
        }
        self.fail_all(end.cause());
        self.wake_driver();
    }

    /// The transport ended or failed: there is nobody to say anything to.
    pub(crate) fn lose(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
            self.fail_all(end.cause());
        }
    }

    /// The code of the peer's GOAWAY, where that is an error.
    pub(crate) fn goaway_code(&self) -> Option<u32> {
        self.goaway.map(|(_, code)| code).filter(|&code| code != code::NO_ERROR)
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.finish(End::Fault(fault.0));
    }

    /// Ends every stream that is not closed; nobody waits for the socket any more.
    pub(crate) fn fail_all(&mut self, cause: Cause) {
        for key in self.streams.keys() {
            self.close_stream(key, cause);
        }
        self.blocked = false;
        self.queued_frames = 0;
        // What is on its way to the socket may never get there.
        self.leaving = 0;
        self.tell_pending();
        self.wake_senders();
        self.wake_opener();
    }

    /// The connection has no stream that is not closed, and is to end in that case: then it ends.
    pub(crate) fn close_if_done(&mut self) {
        let (open, live) = (self.streams.open, self.live);
        let wanted = self.goaway.is_some() || matches!(self.drain, Drain::Last(_));
        let unused = !self.is_server && self.over.is_some() && live == 0;
        if self.end.is_none() && open == 0 && (wanted || unused) {
            let end = self.goaway_code().map_or(End::Closed, End::Peer);
            self.finish(end);
        }
    }

    /// Somebody above holds a stream now.
    pub(super) fn count_live(&mut self) {
        self.live += 1;
        self.stats.gauge(Gauge::StreamsActive, 1);
    }

    /// The next request.
    pub(crate) fn accept(&mut self) -> Option<Arrived> {
        if self.end.is_some() || self.is_behind() {
            return None;
        }
        let arrived = self.accept.pop_front()?;
        if self.accept.is_empty() && self.accept.capacity() > KEPT_PLACES {
            self.accept = VecDeque::new();
        }
        if let Some(stream) = self.streams.get(arrived.key) {
            stream.clear(Flags::WAITS_ACCEPT);
            stream.set(if arrived.ended { Flags::HOLD_SEND } else { Flags::HOLD_SEND.and(Flags::HOLD_RECV) });
            if stream.is(Flags::OVER) {
                self.accept_resets = self.accept_resets.saturating_sub(1);
            }
        }
        self.count_live();
        Some(arrived)
    }

    /// Lets go of a half, or of the promise of one.
    pub(crate) fn release(&mut self, key: u32, half: Flags) {
        let Some(stream) = self.streams.get(key) else { return };
        stream.clear(half);
        if half == Flags::HOLD_RECV {
            stream.recv_waker = None;
        } else {
            stream.send_waker = None;
        }
        if stream.is_held() {
            return;
        }
        self.live = self.live.saturating_sub(1);
        self.stats.gauge(Gauge::StreamsActive, -1);
        self.let_go(key);
        self.wake_opener();
        // It may have been what a connection that is to end waited for.
        if self.over.is_some() || self.goaway.is_some() || self.drain != Drain::No {
            self.wake_driver();
        }
    }

    /// Nobody above holds the stream any more: one that is not closed is reset (RFC 9113 section 8.1).
    fn let_go(&mut self, key: u32) {
        self.ignore_rest(key);
        let Some(stream) = self.streams.get(key) else { return };
        if !stream.is_closed() && !stream.is(Flags::PEER_ENDED) {
            if self.is_server && stream.is(Flags::WE_ENDED) {
                stream.set(Flags::RESET_BEHIND_END);
                if stream.is(Flags::END_SENT) {
                    self.reset(key, code::NO_ERROR, Cause::Asked(code::NO_ERROR));
                }
            } else {
                self.reset(key, code::CANCEL, Cause::Asked(code::CANCEL));
            }
        }
        self.settle(key);
    }

    /// What follows from a change of state: a closed stream counts no more, and is forgotten once nobody holds it.
    pub(super) fn settle(&mut self, key: u32) {
        let freed = self.streams.uncount(key) && !self.is_server;
        let Some(stream) = self.streams.get(key) else { return };
        // One that is held takes its place still.
        let freed = freed && !stream.is_held();
        let waits = Flags::WAITS_ACCEPT.and(Flags::READY);
        if stream.is_closed() && !stream.is_held() && !stream.any(waits) {
            self.leave_lists(key);
            self.streams.remove(key);
        }
        if freed {
            self.wake_opener();
        }
    }

    pub(super) fn leave_lists(&mut self, key: u32) {
        let Some(stream) = self.streams.get(key) else { return };
        let (line, socket) = (stream.is(Flags::IN_LINE), stream.is(Flags::WAITS_SOCKET));
        stream.clear(Flags::IN_LINE.and(Flags::WAITS_SOCKET));
        if line {
            self.line.retain(|&other| other != key);
            // It may have been called, and was the one to call the next.
            self.next_in_line();
        }
        if socket {
            self.socket_waiters.retain(|&other| other != key);
        }
    }
}
