//! Prefixed integers of RFC 7541 section 5.1.
//!
//! `mask` is the largest number that the prefix holds: 0x7f for one of seven bits.

use bytes::BufMut;

/// Octets behind the prefix that an integer may have here: 63 bits and the prefix fit into 64 bits.
const MOST: u32 = 9;

/// Takes an integer off the front of `input`, where it goes on for at most `more` octets (no more than 9) behind its prefix.
///
/// `None` if it is longer or cut short; `input` is then of no use.
#[inline]
pub fn take(input: &mut &[u8], mask: u8, more: u32) -> Option<u64> {
    let (&first, rest) = input.split_first()?;
    *input = rest;
    let value = first & mask;
    if value < mask { Some(u64::from(value)) } else { longer(input, mask, more) }
}

fn longer(input: &mut &[u8], mask: u8, more: u32) -> Option<u64> {
    let mut value = u64::from(mask);
    for group in 0..more.min(MOST) {
        let (&octet, rest) = input.split_first()?;
        *input = rest;
        value += u64::from(octet & 0x7f) << (7 * group);
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends an integer, with `flags` in the bits above its prefix.
#[inline]
pub fn put(flags: u8, mask: u8, value: u64, out: &mut impl BufMut) {
    match value.checked_sub(u64::from(mask)) {
        None => out.put_slice(&[flags | value as u8]),
        Some(left @ 0..0x80) => out.put_slice(&[flags | mask, left as u8]),
        Some(left) => {
            out.put_u8(flags | mask);
            put_groups(left, out);
        }
    }
}

fn put_groups(mut left: u64, out: &mut impl BufMut) {
    while left >= 0x80 {
        out.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn written(mask: u8, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put(0, mask, value, &mut out);
        out
    }

    /// RFC 7541 appendix C.1.
    #[test]
    fn the_examples_of_the_rfc() {
        for (mask, value, wire) in [(0x1f, 10, &[10][..]), (0x1f, 1337, &[31, 154, 10]), (0xff, 42, &[42])] {
            assert_eq!(written(mask, value), wire);
            assert_eq!(take(&mut &*wire, mask, 4), Some(value));
        }
    }

    #[test]
    fn an_integer_is_bounded() {
        assert_eq!(take(&mut &[0x7f, 0xff, 0xff, 0xff, 0x7f][..], 0x7f, 4), Some(0x7f + (1 << 28) - 1));
        assert_eq!(take(&mut &[0x7f, 0x80, 0x80, 0x80, 0x80, 0][..], 0x7f, 4), None);
        assert_eq!(take(&mut &[0xff; 100][..], 0xff, u32::MAX), None);
        let mut most = [0xff; 10];
        most[9] = 0x7f;
        assert_eq!(take(&mut &most[..], 0xff, u32::MAX), Some(0xff + (1 << 63) - 1));
        for cut in [&[][..], &[0x7f], &[0x7f, 0x80]] {
            assert_eq!(take(&mut &*cut, 0x7f, 4), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(bits in 1u32..9, value in 0u64..1 << 62, shift in 0u32..62, behind: Vec<u8>) {
            let (mask, value) = ((1u16 << bits).wrapping_sub(1) as u8, value >> shift);
            let wire = [written(mask, value), behind.clone()].concat();
            let mut input = &wire[..];
            prop_assert_eq!(take(&mut input, mask, 9), Some(value));
            prop_assert_eq!(input, &behind[..]);
        }
    }
}
