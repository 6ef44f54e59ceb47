//! Frames on their way to the socket: heads and small payloads in one buffer, large payloads as they are.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;

use adit_io::{Chunk, Spliced};
use bytes::{Buf, BytesMut};

use crate::frame::HEAD_LEN;

/// A payload up to this size is copied behind its frame's head.
const SMALL: usize = 1 << 10;
/// A larger buffer is not kept.
const MAX_SPARE: usize = 64 << 10;
/// What control frames, heads and small payloads take at first.
const FIRST_ROOM: usize = 512;
thread_local! {
    /// A buffer for frames that some connection has no use for now.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// A buffer for frames: a connection that says nothing holds none.
pub(super) fn take_spare() -> BytesMut {
    let spare = SPARE.try_with(Cell::take).unwrap_or_default();
    if spare.capacity() > 0 { spare } else { BytesMut::with_capacity(FIRST_ROOM) }
}

pub(super) fn put_spare(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(FIRST_ROOM) && buffer.capacity() <= MAX_SPARE {
        // At the end of a thread there is nobody to keep it for.
        let _ = SPARE.try_with(|spare| spare.set(buffer));
    }
}

/// What is on its way to the socket.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    octets: BytesMut,
    /// Payloads, each with the place in `octets` that it stands ahead of. Their places count from the first octet ever.
    payloads: VecDeque<(usize, Chunk)>,
    /// Octets of `octets` that left.
    gone: usize,
    len: usize,
}

impl Segments {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets that did not leave.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Control frames and heads, which are left empty.
    pub(super) fn take(&mut self, control: &mut BytesMut) {
        self.len += control.len();
        if self.octets.is_empty() && self.payloads.is_empty() {
            self.gone = 0;
            std::mem::swap(&mut self.octets, control);
        } else {
            self.octets.extend_from_slice(control);
        }
        control.clear();
    }

    /// A frame with its payload.
    pub(super) fn frame(&mut self, head: [u8; HEAD_LEN], payload: Chunk) {
        self.len += head.len() + payload.len();
        if self.octets.capacity() == 0 {
            self.octets = take_spare();
        }
        self.octets.extend_from_slice(&head);
        match payload {
            Chunk::Bytes(octets) if octets.len() <= SMALL => self.octets.extend_from_slice(&octets),
            payload => self.payloads.push_back((self.gone + self.octets.len(), payload)),
        }
    }

    /// The payload that leaves next, if that lies in the kernel.
    pub(crate) fn front_spliced(&mut self) -> Option<&mut Spliced> {
        match self.payloads.front_mut() {
            Some((at, Chunk::Spliced(payload))) if *at == self.gone => Some(payload),
            _ => None,
        }
    }

    /// The octets in their order up to a payload in the kernel, as many pieces as there is room for. Gives how many that are,
    /// and whether such a payload follows.
    pub(crate) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> (usize, bool) {
        let (mut from, mut used) = (0, 0);
        let mut put = |octets: &'a [u8]| match out.get_mut(used) {
            Some(place) if !octets.is_empty() => {
                *place = IoSlice::new(octets);
                used += 1;
                true
            }
            place => place.is_some(),
        };
        for (at, payload) in &self.payloads {
            let to = at.saturating_sub(self.gone);
            let room = put(self.octets.get(from..to).unwrap_or_default());
            let Chunk::Bytes(payload) = payload else { return (used, room) };
            if !room || !put(payload) {
                return (used, false);
            }
            from = to;
        }
        put(self.octets.get(from..).unwrap_or_default());
        (used, false)
    }

    /// So many left.
    pub(crate) fn advance(&mut self, mut n: usize) {
        self.len = self.len.saturating_sub(n);
        while n > 0 {
            let first = self.payloads.front_mut();
            let ahead = first.as_ref().map_or(self.octets.len(), |(at, _)| at.saturating_sub(self.gone));
            let now = n.min(ahead);
            self.octets.advance(now);
            (self.gone, n) = (self.gone + now, n - now);
            let Some((_, Chunk::Bytes(payload))) = first.filter(|_| n > 0) else { break };
            let now = n.min(payload.len());
            payload.advance(now);
            n -= now;
            if payload.is_empty() {
                self.payloads.pop_front();
            }
        }
        self.tidy();
    }

    /// So many left of the payload in the kernel at the front.
    pub(crate) fn advance_spliced(&mut self, n: usize) {
        self.len = self.len.saturating_sub(n);
        if self.front_spliced().is_some_and(|payload| payload.is_empty())
            && let Some((_, Chunk::Spliced(payload))) = self.payloads.pop_front()
        {
            payload.recycle();
        }
        self.tidy();
    }

    /// The buffer goes back once nothing is left.
    fn tidy(&mut self) {
        if self.len == 0 {
            put_spare(std::mem::take(self).octets);
        }
    }
}
