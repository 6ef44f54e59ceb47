//! HTTP datagrams (RFC 9297 section 2.1) as bytes.

use bytes::{Buf, Bytes};

use crate::varint;

/// A QUIC DATAGRAM frame that is not an HTTP datagram: the connection ends with H3_DATAGRAM_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The request stream that a DATAGRAM frame belongs to, and its payload.
pub fn decode(mut frame: Bytes) -> Result<(u64, Bytes), Malformed> {
    let (quarter, size) = varint::decode(&frame).ok_or(Malformed)?;
    // Above this there is no stream with four times the id.
    if quarter > varint::MAX >> 2 {
        return Err(Malformed);
    }
    frame.advance(size);
    Ok((quarter << 2, frame))
}

/// The DATAGRAM frame of a request stream's payload, given in parts.
pub fn encode(stream: u64, payload: &[&[u8]]) -> Bytes {
    let size: usize = payload.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(8 + size);
    varint::encode(stream >> 2, &mut frame);
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_payload_finds_its_stream() {
        for stream in [0, 4, 252, 256, 65_536, varint::MAX - 3] {
            let frame = encode(stream, &[&[0], b"payload"]);
            assert_eq!(decode(frame).unwrap(), (stream, Bytes::from_static(b"\0payload")));
        }
        assert_eq!(decode(encode(8, &[])).unwrap(), (8, Bytes::new()));
    }

    #[test]
    fn frames_that_name_no_stream_are_malformed() {
        assert_eq!(decode(Bytes::new()), Err(Malformed));
        assert_eq!(decode(Bytes::from_static(&[0x40])), Err(Malformed));
        assert_eq!(decode(Bytes::from_static(&[0xff; 8])), Err(Malformed));
    }
}
