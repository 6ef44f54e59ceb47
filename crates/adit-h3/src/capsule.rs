//! Capsules (RFC 9297 section 3) on a stream of any HTTP version, in whatever pieces they come.

use bytes::{Buf, Bytes};

use crate::varint;

/// The DATAGRAM capsule.
pub const DATAGRAM: u64 = 0;

/// What stops the reading of capsules: the tunnel is reset (RFC 9297 section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapsuleError {
    /// A DATAGRAM capsule longer than any payload may be.
    TooLong,
}

/// Cuts DATAGRAM capsules from a stream's bytes; skips capsules of other types, however long, without keeping them.
///
/// Holds at most one payload, of at most the limit it was made with; nothing between two capsules.
#[derive(Debug)]
pub struct CapsuleDecoder {
    max: usize,
    state: State,
    left: u64,
    partial: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Skip,
    Datagram,
}

impl CapsuleDecoder {
    /// At the start of a stream. `max` bounds a payload in bytes; for CONNECT-UDP
    /// [`MAX_UDP_PAYLOAD`](crate::datagram::MAX_UDP_PAYLOAD) and 8 for the context.
    pub fn new(max: usize) -> Self {
        Self { max, state: State::Header, left: 0, partial: Vec::new() }
    }

    /// Whether the stream may end here; otherwise a capsule is cut short (RFC 9297 section 3.3).
    pub fn at_boundary(&self) -> bool {
        self.state == State::Header && self.partial.is_empty()
    }

    /// The payload of the next DATAGRAM capsule, taken from the front of `input`; `None` once all of `input` is taken.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, CapsuleError> {
        loop {
            match self.state {
                State::Header => {
                    let Some((kind, length)) = self.header(input) else { return Ok(None) };
                    self.left = length;
                    self.state = match kind {
                        DATAGRAM if length > self.max as u64 => return Err(CapsuleError::TooLong),
                        DATAGRAM => State::Datagram,
                        _ => State::Skip,
                    };
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
                State::Datagram => {
                    let n = self.available(input);
                    if self.partial.is_empty() && n as u64 == self.left {
                        self.state = State::Header;
                        return Ok(Some(input.split_to(n)));
                    }
                    self.partial.extend_from_slice(&input.split_to(n));
                    self.left -= n as u64;
                    if self.left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                    return Ok(Some(std::mem::take(&mut self.partial).into()));
                }
            }
        }
    }

    fn available(&self, input: &Bytes) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len())
    }

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
}

/// The header of a DATAGRAM capsule whose payload has `length` bytes: the payload follows it on the stream as it is.
pub fn datagram_header(length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(9);
    varint::encode(DATAGRAM, &mut header);
    varint::encode(length as u64, &mut header);
    header
}

/// A whole DATAGRAM capsule of the parts of `payload`, joined.
pub fn encode_datagram(payload: &[&[u8]]) -> Bytes {
    let size: usize = payload.iter().map(|part| part.len()).sum();
    let mut capsule = Vec::with_capacity(9 + size);
    varint::encode(DATAGRAM, &mut capsule);
    varint::encode(size as u64, &mut capsule);
    for part in payload {
        capsule.extend_from_slice(part);
    }
    capsule.into()
}

#[cfg(test)]
mod tests;
