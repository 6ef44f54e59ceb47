//! HTTP/3 frames (RFC 9114 section 7) from the bytes of one stream, in whatever pieces they come.

use bytes::{Buf, Bytes};

use crate::varint;

/// DATA.
pub const DATA: u64 = 0x0;
/// HEADERS.
pub const HEADERS: u64 = 0x1;
/// CANCEL_PUSH.
pub const CANCEL_PUSH: u64 = 0x3;
/// SETTINGS.
pub const SETTINGS: u64 = 0x4;
/// PUSH_PROMISE.
pub const PUSH_PROMISE: u64 = 0x5;
/// GOAWAY.
pub const GOAWAY: u64 = 0x7;
/// MAX_PUSH_ID.
pub const MAX_PUSH_ID: u64 = 0xd;

/// Frames in a row that carry nothing we use: unknown types, and DATA without a byte.
const MAX_IDLE_FRAMES: u32 = 1000;
/// Bytes in a row of frames of unknown types.
const MAX_IDLE_BYTES: u64 = 1 << 20;
/// The payload of a frame of the control stream.
const MAX_CONTROL: u64 = 4096;

/// Which stream the frames are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A request stream: HEADERS and DATA.
    Request,
    /// The control stream: everything else.
    Control,
}

/// Something of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a DATA frame, never none; not all of the frame's.
    Data(Bytes),
    /// A whole frame of another type that is known on this stream.
    Block(u64, Bytes),
}

/// What ends the connection, or for [`FrameError::TooLarge`] perhaps only the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A known type that may not stand on this stream, or one reserved for HTTP/2: H3_FRAME_UNEXPECTED.
    Unexpected(u64),
    /// A frame above its limit: it was not read.
    TooLarge(u64),
    /// Too much that means nothing: H3_EXCESSIVE_LOAD.
    Flood,
}

/// Cuts frames from a stream's bytes. Holds at most one block, of at most the limit it was made with.
#[derive(Debug)]
pub struct FrameDecoder {
    role: Role,
    state: State,
    /// Bytes of the payload that are still to come.
    left: u64,
    max_headers: u32,
    idle_frames: u32,
    idle_bytes: u32,
    /// A header or a block of which a part has come.
    partial: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Data,
    Skip,
    Block(u64),
}

impl FrameDecoder {
    /// At the start of a stream's frames. `max_headers` bounds a HEADERS frame in bytes.
    pub fn new(role: Role, max_headers: u32) -> Self {
        let state = State::Header;
        Self { role, state, left: 0, max_headers, idle_frames: 0, idle_bytes: 0, partial: Vec::new() }
    }

    /// Whether the stream may end here: no frame is cut short.
    pub fn at_boundary(&self) -> bool {
        self.state == State::Header && self.partial.is_empty()
    }

    /// The next of the frames, taken from the front of `input`; `None` once all of `input` is taken.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.state {
                State::Header => {
                    let Some((kind, length)) = self.header(input) else { return Ok(None) };
                    self.enter(kind, length)?;
                }
                State::Data if self.left == 0 => self.state = State::Header,
                State::Data if input.is_empty() => return Ok(None),
                State::Data => {
                    let piece = input.split_to(self.available(input));
                    self.left -= piece.len() as u64;
                    (self.idle_frames, self.idle_bytes) = (0, 0);
                    return Ok(Some(Frame::Data(piece)));
                }
                State::Skip => {
                    let skipped = self.available(input);
                    input.advance(skipped);
                    self.left -= skipped as u64;
                    if self.left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::Block(kind) => {
                    let Some(block) = self.block(input) else { return Ok(None) };
                    self.state = State::Header;
                    return Ok(Some(Frame::Block(kind, block)));
                }
            }
        }
    }

    fn available(&self, input: &Bytes) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len())
    }

    /// Type and length, once both are there.
    fn header(&mut self, input: &mut Bytes) -> Option<(u64, u64)> {
        loop {
            let seen: &[u8] = if self.partial.is_empty() { input } else { &self.partial };
            let parsed = varint::decode(seen).and_then(|(kind, size)| {
                let (length, more) = varint::decode(seen.get(size..)?)?;
                Some((kind, length, size + more))
            });
            if let Some((kind, length, size)) = parsed {
                if self.partial.is_empty() {
                    input.advance(size);
                } else {
                    self.partial = Vec::new();
                }
                return Some((kind, length));
            }
            // At most 16 bytes gather, so one at a time is no loss.
            if !input.has_remaining() {
                return None;
            }
            self.partial.push(input.get_u8());
        }
    }

    fn enter(&mut self, kind: u64, length: u64) -> Result<(), FrameError> {
        self.left = length;
        let (request, control) = (self.role == Role::Request, self.role == Role::Control);
        self.state = match kind {
            DATA if request => {
                if length == 0 {
                    self.idle(0)?;
                }
                State::Data
            }
            HEADERS if request && length <= u64::from(self.max_headers) => State::Block(kind),
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH if control && length <= MAX_CONTROL => State::Block(kind),
            HEADERS if request => return Err(FrameError::TooLarge(kind)),
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH if control => return Err(FrameError::TooLarge(kind)),
            DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID => {
                return Err(FrameError::Unexpected(kind));
            }
            // PRIORITY, PING, WINDOW_UPDATE and CONTINUATION of HTTP/2 (RFC 9114 section 7.2.8).
            0x2 | 0x6 | 0x8 | 0x9 => return Err(FrameError::Unexpected(kind)),
            _ => {
                self.idle(length)?;
                State::Skip
            }
        };
        Ok(())
    }

    fn idle(&mut self, bytes: u64) -> Result<(), FrameError> {
        self.idle_frames += 1;
        let total = u64::from(self.idle_bytes).saturating_add(bytes);
        if self.idle_frames > MAX_IDLE_FRAMES || total > MAX_IDLE_BYTES {
            return Err(FrameError::Flood);
        }
        self.idle_bytes = total as u32;
        Ok(())
    }

    fn block(&mut self, input: &mut Bytes) -> Option<Bytes> {
        let n = self.available(input);
        if self.partial.is_empty() && n as u64 == self.left {
            self.left = 0;
            return Some(input.split_to(n));
        }
        self.partial.extend_from_slice(&input.split_to(n));
        self.left -= n as u64;
        (self.left == 0).then(|| Bytes::from(std::mem::take(&mut self.partial)))
    }
}

/// The header of a frame.
pub fn header(kind: u64, length: u64, out: &mut Vec<u8>) {
    varint::encode(kind, out);
    varint::encode(length, out);
}

#[cfg(test)]
mod tests;
