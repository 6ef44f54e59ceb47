//! Frames as octets: heads, payloads of fixed form, and what is written (RFC 9113 sections 4 and 6).

use bytes::{BufMut, BytesMut};

use crate::error::code;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

/// Of SETTINGS and PING.
pub(crate) const ACK: u8 = 0x1;
/// Of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 0x1;
/// Of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;

/// Octets of a frame's head.
pub(crate) const HEAD_LEN: usize = 9;
/// Octets of whole frames.
pub(crate) const RST_STREAM_LEN: usize = HEAD_LEN + 4;
pub(crate) const WINDOW_UPDATE_LEN: usize = HEAD_LEN + 4;
/// The deprecated priority in a HEADERS frame (RFC 9113 section 6.2), and all of a PRIORITY frame.
const PRIORITY_LEN: u32 = 5;
/// The largest identifier of a stream, and the largest window; the bit above is none of it (RFC 9113 section 4.1).
pub(crate) const MAX_31: u32 = 0x7fff_ffff;
/// What a peer takes before its SETTINGS say otherwise (RFC 9113 section 6.5.2).
pub(crate) const DEFAULT_FRAME_SIZE: u32 = 16 << 10;
/// The largest SETTINGS_MAX_FRAME_SIZE.
const MAX_FRAME_SIZE: u32 = (1 << 24) - 1;
/// Every window before SETTINGS and WINDOW_UPDATE (RFC 9113 section 6.9.2).
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;
/// The client's preface ahead of the first frame (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const SETTINGS_HEADER_TABLE_SIZE: u16 = 0x1;
pub(crate) const SETTINGS_ENABLE_PUSH: u16 = 0x2;
pub(crate) const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub(crate) const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 0x4;
pub(crate) const SETTINGS_MAX_FRAME_SIZE: u16 = 0x5;
pub(crate) const SETTINGS_MAX_HEADER_LIST_SIZE: u16 = 0x6;
pub(crate) const SETTINGS_ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// A connection error (RFC 9113 section 5.4.1) with its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) u32);

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    /// The first octets of a frame; `None` if there are too few.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, id @ ..] = *octets.first_chunk::<HEAD_LEN>()?;
        let stream = u32::from_be_bytes(id) & MAX_31;
        Some(Self { len: u32::from_be_bytes([0, a, b, c]), kind, flags, stream })
    }

    /// As it goes on the wire.
    pub(crate) fn octets(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_LEN] {
        let [_, a, b, c] = (len as u32).to_be_bytes();
        let [d, e, f, g] = stream.to_be_bytes();
        [a, b, c, kind, flags, d, e, f, g]
    }

    pub(crate) fn is_ack(self) -> bool {
        self.flags & ACK != 0
    }

    pub(crate) fn ends_stream(self) -> bool {
        self.flags & END_STREAM != 0
    }

    pub(crate) fn ends_headers(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// Whether the first octet of the payload says how much padding is at its end.
    pub(crate) fn is_padded(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & PADDED != 0
    }

    fn is_prioritised(self) -> bool {
        self.kind == HEADERS && self.flags & PRIORITISED != 0
    }

    /// Whether a frame of this size may be here at all, as far as its head tells. Frames of a fixed size that have another are
    /// errors of the connection (RFC 9113 sections 6.3 to 6.9; of the stream at least for PRIORITY), and nobody may push to us
    /// (section 8.4).
    pub(crate) fn check(self, max_size: u32) -> Result<(), Fault> {
        let priority = if self.is_prioritised() { PRIORITY_LEN } else { 0 };
        let (size, of_connection) = match self.kind {
            DATA | HEADERS => (self.len >= u32::from(self.is_padded()) + priority, Some(false)),
            PRIORITY => (self.len == PRIORITY_LEN, Some(false)),
            RST_STREAM => (self.len == 4, Some(false)),
            SETTINGS if self.is_ack() => (self.len == 0, Some(true)),
            SETTINGS => (self.len.is_multiple_of(6), Some(true)),
            PUSH_PROMISE => return Err(Fault(code::PROTOCOL_ERROR)),
            PING => (self.len == 8, Some(true)),
            GOAWAY => (self.len >= 8, Some(true)),
            WINDOW_UPDATE => (self.len == 4, None),
            CONTINUATION => (true, Some(false)),
            _ => (true, None),
        };
        if !size || self.len > max_size {
            return Err(Fault(code::FRAME_SIZE_ERROR));
        }
        match of_connection {
            Some(of_connection) if of_connection != (self.stream == 0) => Err(Fault(code::PROTOCOL_ERROR)),
            _ => Ok(()),
        }
    }

    /// What of a HEADERS or CONTINUATION frame's payload is neither padding nor priority. A stream that depends on itself costs
    /// the connection, as any priority beyond the rules did (RFC 7540 section 5.3.1).
    pub(crate) fn fragment(self, payload: &[u8]) -> Result<&[u8], Fault> {
        let protocol = Fault(code::PROTOCOL_ERROR);
        let (padding, mut rest) = match payload.split_first() {
            Some((&padding, rest)) if self.is_padded() => (usize::from(padding), rest),
            _ => (0, payload),
        };
        if self.is_prioritised() {
            let (priority, behind) = rest.split_at_checked(PRIORITY_LEN as usize).ok_or(protocol)?;
            rest = behind;
            if word(priority) & MAX_31 == self.stream {
                return Err(protocol);
            }
        }
        let len = rest.len().checked_sub(padding).ok_or(protocol)?;
        Ok(rest.get(..len).unwrap_or(rest))
    }
}

/// The first four octets as a number.
pub(crate) fn word(octets: &[u8]) -> u32 {
    octets.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}

/// A peer's SETTINGS, of each the last value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) header_table_size: Option<u32>,
    pub(crate) max_concurrent_streams: Option<u32>,
    pub(crate) initial_window_size: Option<u32>,
    pub(crate) max_frame_size: Option<u32>,
    pub(crate) enable_connect_protocol: Option<bool>,
}

impl Settings {
    /// The payload of a SETTINGS frame (RFC 9113 section 6.5.1).
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Fault> {
        let mut settings = Self::default();
        for entry in payload.chunks_exact(6) {
            let (Some((id, value)), protocol) = (entry.split_first_chunk(), Fault(code::PROTOCOL_ERROR)) else {
                continue;
            };
            let value = word(value);
            match u16::from_be_bytes(*id) {
                SETTINGS_HEADER_TABLE_SIZE => settings.header_table_size = Some(value),
                SETTINGS_ENABLE_PUSH if value > 1 => return Err(protocol),
                SETTINGS_MAX_CONCURRENT_STREAMS => settings.max_concurrent_streams = Some(value),
                SETTINGS_INITIAL_WINDOW_SIZE if value > MAX_31 => return Err(Fault(code::FLOW_CONTROL_ERROR)),
                SETTINGS_INITIAL_WINDOW_SIZE => settings.initial_window_size = Some(value),
                SETTINGS_MAX_FRAME_SIZE if !(DEFAULT_FRAME_SIZE..=MAX_FRAME_SIZE).contains(&value) => {
                    return Err(protocol);
                }
                SETTINGS_MAX_FRAME_SIZE => settings.max_frame_size = Some(value),
                SETTINGS_ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(protocol),
                SETTINGS_ENABLE_CONNECT_PROTOCOL => settings.enable_connect_protocol = Some(value == 1),
                _ => {}
            }
        }
        Ok(settings)
    }
}

/// Our SETTINGS.
pub(crate) fn settings(entries: &[(u16, u32)], out: &mut BytesMut) {
    out.put_slice(&Head::octets(entries.len() * 6, SETTINGS, 0, 0));
    for &(id, value) in entries {
        out.put_u16(id);
        out.put_u32(value);
    }
}

/// The acknowledgement of the peer's SETTINGS.
pub(crate) fn settings_ack(out: &mut BytesMut) {
    out.put_slice(&Head::octets(0, SETTINGS, ACK, 0));
}

pub(crate) fn ping(flags: u8, payload: [u8; 8], out: &mut BytesMut) {
    out.put_slice(&Head::octets(8, PING, flags, 0));
    out.put_slice(&payload);
}

pub(crate) fn window_update(stream: u32, increment: u32, out: &mut BytesMut) {
    out.put_slice(&Head::octets(4, WINDOW_UPDATE, 0, stream));
    out.put_u32(increment);
}

pub(crate) fn rst_stream(stream: u32, code: u32, out: &mut BytesMut) {
    out.put_slice(&Head::octets(4, RST_STREAM, 0, stream));
    out.put_u32(code);
}

pub(crate) fn goaway(last_stream: u32, code: u32, out: &mut BytesMut) {
    out.put_slice(&Head::octets(8, GOAWAY, 0, 0));
    out.put_u32(last_stream);
    out.put_u32(code);
}

/// Gives the header block behind `at` in `out` its frames: a HEADERS frame, and CONTINUATION where that is too small. Room for
/// the first frame's head was left at `at`.
pub(crate) fn frame_block(at: usize, stream: u32, flags: u8, max_size: u32, out: &mut BytesMut) {
    let (len, max) = (out.len().saturating_sub(at + HEAD_LEN), max_size as usize);
    let rest = (len > max).then(|| out.split_off(at + HEAD_LEN + max));
    let whole = if rest.is_none() { END_HEADERS } else { 0 };
    if let Some(place) = out.get_mut(at..at + HEAD_LEN) {
        place.copy_from_slice(&Head::octets(len.min(max), HEADERS, flags | whole, stream));
    }
    let Some(rest) = rest else { return };
    let mut pieces = rest.chunks(max).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        out.put_slice(&Head::octets(piece.len(), CONTINUATION, flags, stream));
        out.put_slice(piece);
    }
}

#[cfg(test)]
mod tests;
