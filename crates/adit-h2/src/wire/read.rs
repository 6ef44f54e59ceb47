//! Octets to frames, in whatever pieces they come (RFC 9113 section 4.1).

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use adit_io::{Chunk, Io, Spliced};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::AsyncReadExt;

use super::READ_AHEAD;
use crate::conn::chunks::LEAST_SPLICE;
use crate::conn::{Core, Target};
use crate::error::code;
use crate::frame::{self, Fault, HEAD_LEN, Head, PREFACE};

/// A payload that fills less than this part of its buffer is copied: what is held is what was announced.
const LEAST_FILL: usize = 4;

/// What is left of a payload waits to be whole if it is no larger: that wakes its reader once.
const WHOLE: u32 = 1 << 10;

/// What the next octets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client's preface.
    Preface,
    /// A frame's head.
    Head,
    /// A payload that is needed whole, or of padded DATA its first octet.
    Whole(Head),
    /// The rest of a DATA frame.
    Data(Data),
    /// Octets that mean nothing.
    Skip(u32),
}

/// What is to come of a DATA frame: octets, then padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data {
    target: Option<Target>,
    left: u32,
    padding: u32,
    ends: bool,
}

/// Follows the peer's direction.
#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
}

impl Reader {
    pub(crate) fn new(is_server: bool) -> Self {
        Self { state: if is_server { State::Preface } else { State::Head } }
    }

    pub(crate) fn is_between_frames(&self) -> bool {
        self.state == State::Head
    }

    pub(crate) fn in_preface(&self) -> bool {
        self.state == State::Preface
    }

    /// Whether a header block's frame is under way.
    pub(crate) fn in_headers(&self) -> bool {
        matches!(self.state, State::Whole(head) if matches!(head.kind, frame::HEADERS | frame::CONTINUATION))
    }

    /// How much of the frame at hand is to come, or was read and waits for the rest.
    pub(crate) fn left(&self) -> usize {
        match self.state {
            State::Preface | State::Head => 0,
            State::Whole(head) if head.kind == frame::DATA => 0,
            State::Whole(head) => head.len as usize,
            State::Data(data) => (data.left + data.padding) as usize,
            State::Skip(left) => left as usize,
        }
    }

    /// Where the rest of a payload goes that is worth to be left in the kernel, and how much that is.
    pub(crate) fn bulk(&self) -> Option<(Target, usize)> {
        match self.state {
            State::Data(Data { target: Some(target), left, .. }) if left as usize >= LEAST_SPLICE => {
                Some((target, left as usize))
            }
            _ => None,
        }
    }

    /// Takes the next octets of that payload.
    pub(crate) fn take_spliced(&mut self, core: &mut Core, octets: Spliced) {
        if let State::Data(Data { target: Some(target), left, .. }) = &mut self.state {
            *left = left.saturating_sub(octets.len() as u32);
            core.data(*target, Chunk::Spliced(octets));
        }
    }

    /// Takes the frames in `buffer`, and counts them down in `frames`; what is left in it needs more octets.
    pub(crate) fn parse(&mut self, core: &mut Core, buffer: &mut BytesMut, frames: &mut u32) -> Result<(), Fault> {
        let size = buffer.capacity();
        loop {
            match self.state {
                State::Preface => {
                    let Some(preface) = buffer.get(..PREFACE.len().min(buffer.len())) else { return Ok(()) };
                    if !PREFACE.starts_with(preface) {
                        return Err(Fault(code::PROTOCOL_ERROR));
                    }
                    if preface.len() < PREFACE.len() {
                        return Ok(());
                    }
                    buffer.advance(PREFACE.len());
                    self.state = State::Head;
                }
                State::Head => {
                    if *frames == 0 {
                        return Ok(());
                    }
                    let Some(head) = Head::read(buffer) else { return Ok(()) };
                    core.begins(head)?;
                    buffer.advance(HEAD_LEN);
                    *frames = frames.saturating_sub(1);
                    self.state = begin(core, head)?;
                }
                State::Whole(head) if head.kind == frame::DATA => {
                    let Some(&padding) = buffer.first() else { return Ok(()) };
                    buffer.advance(1);
                    self.state = begin_data(core, head, u32::from(padding) + 1)?;
                }
                State::Whole(head) => {
                    let Some(payload) = buffer.get(..head.len as usize) else { return Ok(()) };
                    core.frame(head, payload)?;
                    if head.kind == frame::SETTINGS {
                        *frames = frames.saturating_sub(core.cost_of_settings());
                    }
                    buffer.advance(head.len as usize);
                    self.state = State::Head;
                }
                State::Data(data) => {
                    self.state = data.take(core, buffer, size);
                    if self.state != State::Head {
                        return Ok(());
                    }
                }
                State::Skip(left) => {
                    let left = left - skip(buffer, left);
                    self.state = if left > 0 { State::Skip(left) } else { State::Head };
                    if left > 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// What follows a frame's head.
fn begin(core: &mut Core, head: Head) -> Result<State, Fault> {
    match head.kind {
        frame::DATA if head.is_padded() => Ok(State::Whole(head)),
        frame::DATA => begin_data(core, head, 0),
        frame::HEADERS..=frame::CONTINUATION => Ok(State::Whole(head)),
        // RFC 9113 section 4.1.
        _ => Ok(State::Skip(head.len)),
    }
}

/// `padding` with the octet that says how much, which was taken.
fn begin_data(core: &mut Core, head: Head, padding: u32) -> Result<State, Fault> {
    let target = core.data_begins(head, padding)?;
    let (left, padding) = (head.len.saturating_sub(padding), padding.saturating_sub(1));
    Ok(State::Data(Data { target, left, padding, ends: head.ends_stream() }))
}

impl Data {
    /// Takes what there is of it in `buffer`, whose memory is of this size: the state behind that.
    fn take(mut self, core: &mut Core, buffer: &mut BytesMut, size: usize) -> State {
        let n = (self.left as usize).min(buffer.len());
        if n < self.left as usize && self.left <= WHOLE {
            return State::Data(self);
        }
        if n > 0 {
            take_data(core, self.target, buffer, n, size);
            self.left -= n as u32;
        }
        if self.left == 0 {
            self.padding -= skip(buffer, self.padding);
        }
        if self.left > 0 || self.padding > 0 {
            return State::Data(self);
        }
        if let Some(target) = self.target.filter(|_| self.ends) {
            core.data_ends_stream(target);
        }
        State::Head
    }
}

/// Drops octets, at most `n`; how many that were.
fn skip(buffer: &mut BytesMut, n: u32) -> u32 {
    let n = (n as usize).min(buffer.len());
    buffer.advance(n);
    n as u32
}

/// The next `n` octets of DATA.
fn take_data(core: &mut Core, target: Option<Target>, buffer: &mut BytesMut, n: usize, size: usize) {
    let Some(target) = target else { return buffer.advance(n) };
    if n >= READ_AHEAD / LEAST_FILL && n >= size / LEAST_FILL {
        core.data(target, Chunk::Bytes(buffer.split_to(n).freeze()));
    } else {
        core.small_data(target, buffer.get(..n).unwrap_or_default());
        buffer.advance(n);
    }
}

/// Reads once, at most `max` octets, into memory that is not cleared for it. Gives the number of octets, none at the end.
pub(crate) fn fill(io: &mut Io, cx: &mut Context<'_>, buffer: &mut BytesMut, max: usize) -> Poll<io::Result<usize>> {
    buffer.reserve(max);
    let mut part = BufMut::limit(buffer, max);
    pin!(io.read_buf(&mut part)).poll(cx)
}

/// Read buffers of the thread, so that waiting holds none.
pub(crate) mod scratch {
    use std::cell::Cell;

    use bytes::BytesMut;

    use super::LEAST_FILL;
    use crate::wire::READ_AHEAD;

    thread_local! {
        static KEPT: Cell<BytesMut> = Cell::new(BytesMut::new());
    }

    /// An empty buffer with this much room, made of an empty one if that can be.
    pub(crate) fn take_for(buffer: BytesMut, room: usize) -> BytesMut {
        let mut buffer = if buffer.capacity() == 0 { KEPT.try_with(Cell::take).unwrap_or_default() } else { buffer };
        buffer.clear();
        // Nobody else's octets are moved or overwritten: what was split off keeps the memory.
        if !buffer.try_reclaim(room) || buffer.capacity() > LEAST_FILL * room {
            buffer = BytesMut::with_capacity(room);
        }
        buffer
    }

    /// What is left in a buffer, which goes back to the thread.
    pub(crate) fn put(buffer: BytesMut) -> BytesMut {
        if buffer.len() > READ_AHEAD {
            return buffer;
        }
        let rest = if buffer.is_empty() { BytesMut::new() } else { BytesMut::from(&buffer[..]) };
        if buffer.capacity() == 0 {
            return rest;
        }
        // At the end of a thread there is nobody to keep it for.
        let _ = KEPT.try_with(|kept| kept.set(buffer));
        rest
    }
}
