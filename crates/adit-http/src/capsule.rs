//! The capsule protocol (RFC 9297 section 3), as far as HTTP datagrams and CONNECT-UDP (RFC 9298 section 5) need it.
//!
//! A stream of capsules is cut anywhere. Everything but DATAGRAM capsules is skipped, whatever its length, and never held.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The type of a DATAGRAM capsule.
pub const DATAGRAM: u64 = 0x00;

/// The largest payload of a UDP datagram (RFC 9298 section 5).
pub const MAX_UDP_PAYLOAD: usize = 65_527;

/// The largest payload of a DATAGRAM capsule that is taken: a UDP payload behind the longest context id.
pub const MAX_DATAGRAM: usize = MAX_UDP_PAYLOAD + 8;

/// The longest type and length.
const MAX_HEADER: usize = 16;

/// Why a stream of capsules makes no sense: it is to be reset (RFC 9297 section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// A DATAGRAM capsule longer than [`MAX_DATAGRAM`], or a UDP payload longer than [`MAX_UDP_PAYLOAD`].
    #[error("a datagram is too long")]
    TooLong,
    /// A datagram without a whole context id.
    #[error("a datagram has no context id")]
    NoContext,
    /// The stream ended within a capsule.
    #[error("the stream ended within a capsule")]
    Truncated,
}

/// Takes DATAGRAM capsules out of a stream.
///
/// ```text
/// Header --type 0--> Datagram --whole--> Header
///    +---any other--> Skipping --over--> Header
/// ```
#[derive(Debug, Default)]
pub struct Decoder(State);

#[derive(Debug)]
enum State {
    /// So many bytes of a type and a length.
    Header([u8; MAX_HEADER], usize),
    /// Bytes that are missing, and those that came.
    Datagram(usize, BytesMut),
    /// Bytes to skip.
    Skipping(u64),
}

impl Default for State {
    fn default() -> Self {
        Self::Header([0; MAX_HEADER], 0)
    }
}

impl Decoder {
    /// Takes bytes off the front of `input` up to the end of the next DATAGRAM capsule, and gives that capsule's payload.
    /// `None`: all of `input` was taken, and more is needed.
    ///
    /// # Errors
    /// [`CapsuleError::TooLong`]. The decoder must not be used again.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, CapsuleError> {
        loop {
            match &mut self.0 {
                State::Header(held, len) => {
                    let Some((kind, length)) = header(held, len, input) else { return Ok(None) };
                    self.0 = match kind {
                        DATAGRAM => match usize::try_from(length) {
                            Ok(length) if length <= MAX_DATAGRAM => State::Datagram(length, BytesMut::new()),
                            _ => return Err(CapsuleError::TooLong),
                        },
                        _ => State::Skipping(length),
                    };
                }
                State::Datagram(missing, held) if input.len() >= *missing => {
                    let rest = input.split_to(*missing);
                    let whole = if held.is_empty() {
                        rest
                    } else {
                        held.extend_from_slice(&rest);
                        std::mem::take(held).freeze()
                    };
                    self.0 = State::default();
                    return Ok(Some(whole));
                }
                State::Datagram(missing, held) => {
                    *missing -= input.len();
                    held.extend_from_slice(input);
                    input.clear();
                    return Ok(None);
                }
                State::Skipping(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    input.advance(skipped);
                    *left -= skipped as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.0 = State::default();
                }
            }
        }
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// [`CapsuleError::Truncated`] within a capsule.
    pub fn end(&self) -> Result<(), CapsuleError> {
        match self.0 {
            State::Header(_, 0) => Ok(()),
            _ => Err(CapsuleError::Truncated),
        }
    }
}

/// Takes bytes until there are a type and a length.
fn header(held: &mut [u8; MAX_HEADER], len: &mut usize, input: &mut Bytes) -> Option<(u64, u64)> {
    loop {
        let bytes = held.get(..*len).unwrap_or_default();
        if let Some((kind, first)) = varint(bytes)
            && let Some((length, _)) = varint(bytes.get(first..).unwrap_or_default())
        {
            return Some((kind, length));
        }
        if input.is_empty() {
            return None;
        }
        // Two varints fit, so a place is always left for a byte that is needed.
        *held.get_mut(*len)? = input.get_u8();
        *len += 1;
    }
}

/// The variable-length integer at the front of `bytes` and its length (RFC 9000 section 16); `None` when it is not whole.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1usize << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, len))
}

/// Appends a variable-length integer in its shortest form. A value of 2^62 and more has none and becomes 2^62 - 1.
pub fn put_varint(out: &mut impl BufMut, value: u64) {
    match value {
        0..0x40 => out.put_uint(value, 1),
        0x40..0x4000 => out.put_uint(value | 0x4000, 2),
        0x4000..0x4000_0000 => out.put_uint(value | 0x8000_0000, 4),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// The UDP payload in the payload of an HTTP datagram: what stands behind the context id 0. `None` for another context,
/// which nobody has registered here: it is to be dropped.
///
/// # Errors
/// Without a whole context id, or with a payload that no UDP datagram can have.
pub fn udp_payload(mut datagram: Bytes) -> Result<Option<Bytes>, CapsuleError> {
    let (context, len) = varint(&datagram).ok_or(CapsuleError::NoContext)?;
    if context != 0 {
        return Ok(None);
    }
    datagram.advance(len);
    if datagram.len() > MAX_UDP_PAYLOAD { Err(CapsuleError::TooLong) } else { Ok(Some(datagram)) }
}

/// Appends a DATAGRAM capsule with a UDP payload.
pub fn put_udp(out: &mut BytesMut, payload: &[u8]) {
    out.reserve(payload.len() + 6);
    out.put_u8(0);
    put_varint(out, payload.len() as u64 + 1);
    out.put_u8(0);
    out.put_slice(payload);
}

#[cfg(test)]
#[path = "capsule_tests.rs"]
mod tests;
