//! What is known of one stream (RFC 9113 section 5.1).
//!
//! ```text
//!            peer's half                     our half
//!   open ---------------- END_STREAM      open -- taken from above: WE_ENDED -- left: END_SENT
//!   (HEAD_CAME: a client knows the final head)
//!   both ended, or OVER (reset by either side, or its connection ended): closed
//! ```
//!
//! A record lives until it is closed, what it had to send is sent, and both halves above let go of it.

use std::sync::Arc;
use std::task::Waker;

use adit_codec::Meter;
use adit_http::ErrorCode;
use http::{HeaderMap, StatusCode};

use super::chunks::Queue;
use crate::error::Cause;

/// Facts about a stream, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal,)*) => {
        impl Flags {
            $($(#[$doc])* pub(crate) const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    /// The final head of the peer's message came: another block is trailers.
    HEAD_CAME = 0,
    /// END_STREAM came.
    PEER_ENDED = 1,
    /// The end of our half was taken from above.
    WE_ENDED = 2,
    /// It left, as far as the socket is concerned.
    END_SENT = 3,
    /// Closed without both ends.
    OVER = 4,
    /// By an RST_STREAM of ours: what crosses it is ignored.
    WE_RESET = 5,
    /// Somebody holds the receiving half, or a promise of it.
    HOLD_RECV = 6,
    /// Somebody holds the sending half, or a promise of it.
    HOLD_SEND = 7,
    /// Nobody wants what the peer still sends.
    DEAF = 8,
    /// In the list of streams with something to send.
    READY = 9,
    /// In the line for room in the connection's window.
    IN_LINE = 10,
    /// In the list of those that wait for the socket.
    WAITS_SOCKET = 11,
    /// The sending half waits for room.
    WAITS_ROOM = 12,
    /// The receiving half waits for anything.
    WAITS_RECV = 13,
    /// The answer has no content (RFC 9110 section 6.4.1), whatever length it announces.
    NO_CONTENT = 14,
    /// An octet of our half was taken.
    BEGUN = 15,
    /// The peer refused the tunnel: there is no request content that could be cut short.
    REFUSED = 16,
    /// RST_STREAM with NO_ERROR follows the end of our half.
    RESET_BEHIND_END = 17,
    /// It counts as open for the limits on concurrent streams.
    COUNTED = 18,
    /// Its request waits to be accepted.
    WAITS_ACCEPT = 19,
    /// Somebody waits for the peer to stop our half.
    WATCHED = 20,
    /// Its request is a CONNECT, so that a 2xx has no length.
    TUNNEL = 21,
    /// Who reads it has a use for octets that lie in the kernel.
    TAKES_SPLICED = 22,
}

impl Flags {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// No `content-length` binds the peer's half.
pub(crate) const ANY_LENGTH: u64 = u64::MAX;

/// A head that a client was answered with.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) fit: Fit,
}

/// Whether a head keeps to the limits of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fit {
    #[default]
    Good,
    /// More fields, or a larger one.
    TooLarge,
}

/// What few streams have at a time.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Heads that came and were not asked for, the final one last.
    pub(crate) heads: std::collections::VecDeque<AnswerHead>,
    /// Trailers that came.
    pub(crate) trailers: Option<(HeaderMap, Fit)>,
    /// Trailers to be sent behind what waits.
    pub(crate) send_trailers: Option<HeaderMap>,
    /// The code with which the receiving half was stopped: it says how to reset the sending half if that is abandoned.
    pub(crate) stop: Option<ErrorCode>,
}

/// One stream of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    flags: Flags,
    /// Octets of DATA we may still send, less those that wait: below zero where the peer took some of them back.
    pub(crate) send_window: i32,
    /// Octets of DATA the peer may still send.
    pub(crate) recv_window: i32,
    /// Octets that went onward and were not given back to the peer.
    pub(crate) unannounced: u32,
    /// Octets handed out: they went onward when the next are asked for.
    pub(crate) lent: u32,
    /// Octets that wait for the socket.
    pub(crate) queued: u32,
    pub(crate) cause: Option<Cause>,
    pub(crate) inbound: Queue,
    pub(crate) outbound: Queue,
    /// Octets of the peer's half that its `content-length` still announces.
    pub(crate) length: u64,
    pub(crate) recv_waker: Option<Waker>,
    pub(crate) send_waker: Option<Waker>,
    extra: Option<Box<Extra>>,
    pub(crate) meter: Option<Arc<Meter>>,
}

impl Stream {
    pub(crate) fn new(id: u32, flags: Flags, send_window: u32, recv_window: u32) -> Self {
        Self {
            id,
            flags,
            send_window: send_window as i32,
            recv_window: recv_window as i32,
            unannounced: 0,
            lent: 0,
            queued: 0,
            cause: None,
            inbound: Queue::default(),
            outbound: Queue::default(),
            length: ANY_LENGTH,
            recv_waker: None,
            send_waker: None,
            extra: None,
            meter: None,
        }
    }

    /// Whether all of these are so.
    pub(crate) fn is(&self, flags: Flags) -> bool {
        self.flags.0 & flags.0 == flags.0
    }

    /// Whether any of these is so.
    pub(crate) fn any(&self, flags: Flags) -> bool {
        self.flags.0 & flags.0 != 0
    }

    pub(crate) fn set(&mut self, flags: Flags) {
        self.flags.0 |= flags.0;
    }

    pub(crate) fn clear(&mut self, flags: Flags) {
        self.flags.0 &= !flags.0;
    }

    /// Whether both sides are done with it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is(Flags::OVER) || self.is(Flags::PEER_ENDED.and(Flags::END_SENT))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.any(Flags::HOLD_RECV.and(Flags::HOLD_SEND))
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn peek_extra(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    /// The room is given back once there is nothing in it.
    pub(crate) fn tidy_extra(&mut self) {
        let empty = |extra: &mut Box<Extra>| {
            extra.heads.is_empty() && extra.trailers.is_none() && extra.send_trailers.is_none() && extra.stop.is_none()
        };
        self.extra.take_if(empty);
    }

    /// The meter, while somebody else holds it to read it; then it is let go.
    fn watched_meter(&mut self) -> Option<&Meter> {
        self.meter.take_if(|meter| Arc::strong_count(meter) == 1);
        self.meter.as_deref()
    }

    /// More came: `fields` of it with header fields.
    pub(crate) fn note_received(&mut self, octets: usize, fields: usize) {
        if let Some(meter) = self.watched_meter() {
            meter.received(octets, fields);
        }
    }

    /// More was sent, or was taken to be sent.
    pub(crate) fn note_sent(&mut self, octets: usize, fields: usize) {
        if let Some(meter) = self.watched_meter() {
            meter.sent(octets, fields);
        }
    }

    /// Whoever waits for something of the peer.
    pub(crate) fn wake_recv(&mut self) {
        if self.is(Flags::WAITS_RECV) {
            self.clear(Flags::WAITS_RECV);
            if let Some(waker) = &self.recv_waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Whoever waits for room.
    pub(crate) fn wake_room(&mut self) {
        if self.is(Flags::WAITS_ROOM) {
            self.clear(Flags::WAITS_ROOM);
            if let Some(waker) = &self.send_waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Both halves: the stream is over.
    pub(crate) fn wake_all(&mut self) {
        self.wake_recv();
        self.clear(Flags::WAITS_ROOM);
        if let Some(waker) = &self.send_waker {
            waker.wake_by_ref();
        }
    }
}
