//! Variable-length integers of QUIC (RFC 9000 section 16).

/// The largest value.
pub const MAX: u64 = (1 << 62) - 1;

/// The value at the front of `bytes` and how many bytes it took; `None` when more are needed.
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let size = 1 << (first >> 6);
    let rest = bytes.get(1..size)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| (value << 8) | u64::from(*byte));
    Some((value, size))
}

/// How many bytes a value takes.
pub fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends a value; one above [`MAX`] is cut to it, which no caller has.
pub fn encode(value: u64, out: &mut Vec<u8>) {
    let value = value.min(MAX);
    let size = len(value);
    let tag = (size.trailing_zeros() as u64) << (size * 8 - 2);
    let bytes = (value | tag).to_be_bytes();
    out.extend_from_slice(bytes.get(8 - size..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15293),
            (&[0x25], 37),
        ] {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out, bytes);
            for short in 0..bytes.len() {
                assert_eq!(decode(&bytes[..short]), None);
            }
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)));
    }

    #[test]
    fn every_size_goes_and_comes() {
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, MAX] {
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!((decode(&out), len(value)), (Some((value, out.len())), out.len()));
        }
    }
}
