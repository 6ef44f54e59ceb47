//! The Huffman code of RFC 7541, appendix B, which is canonical: the lengths give the codes.

/// Bits of the code of each byte.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LONGEST: usize = 30;

struct Code {
    /// The code of each byte.
    codes: [u32; 256],
    /// The bytes in the order of their codes.
    symbols: [u8; 256],
    /// The first code of each length, and where its bytes start in `symbols`.
    first: [(u32, u16); LONGEST + 2],
}

const CODE: Code = build();

/// Bytes whose codes have at most eight bits: (byte, bits) by the next eight bits; 0 bits elsewhere.
const SHORT: [(u8, u8); 256] = build_short();

const fn build() -> Code {
    let mut code = Code { codes: [0; 256], symbols: [0; 256], first: [(0, 0); LONGEST + 2] };
    let (mut next, mut filled, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = (next, filled as u16);
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[filled] = symbol as u8;
                next += 1;
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code.first[LONGEST + 1] = (0, filled as u16);
    code
}

const fn build_short() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    let mut symbol = 0;
    while symbol < 256 {
        let bits = LENGTHS[symbol];
        if bits <= 8 {
            let from = (CODE.codes[symbol] as usize) << (8 - bits);
            let mut i = from;
            while i < from + (1 << (8 - bits)) {
                table[i] = (symbol as u8, bits);
                i += 1;
            }
        }
        symbol += 1;
    }
    table
}

/// Not a Huffman string: the end-of-string symbol, padding that is too long or not all ones, or more than `max` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// Appends what `input` says to `out`, which may grow to `max` bytes.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Invalid> {
    let (mut window, mut bits) = (0u64, 0usize);
    let mut input = input.iter();
    loop {
        while bits <= 32
            && let Some(byte) = input.next()
        {
            window = (window << 8) | u64::from(*byte);
            bits += 8;
        }
        let Some((symbol, taken)) = next(window, bits) else { break };
        if out.len() >= max {
            return Err(Invalid);
        }
        out.push(symbol);
        bits -= taken;
        window &= (1 << bits) - 1;
    }
    // Fewer than eight ones are left (RFC 7541 section 5.2).
    if bits < 8 && window == (1 << bits) - 1 { Ok(()) } else { Err(Invalid) }
}

/// The byte at the front of the lowest `bits` of `window`.
fn next(window: u64, bits: usize) -> Option<(u8, usize)> {
    // Eight bits, filled up with ones: padding names no byte of at most eight bits by itself.
    let peek = if bits >= 8 { window >> (bits - 8) } else { (window << (8 - bits)) | ((1 << (8 - bits)) - 1) };
    let (symbol, length) = SHORT.get(peek as usize & 0xff).copied()?;
    let length = usize::from(length);
    if length > 0 {
        return (length <= bits).then_some((symbol, length));
    }
    (9..=LONGEST.min(bits)).find_map(|length| {
        let code = (window >> (bits - length)) as u32;
        let (first, at) = *CODE.first.get(length)?;
        let (_, end) = *CODE.first.get(length + 1)?;
        let offset = code.checked_sub(first)?;
        let index = usize::from(at).checked_add(offset as usize)?;
        if index >= usize::from(end) {
            return None;
        }
        Some((*CODE.symbols.get(index)?, length))
    })
}

fn bits(byte: u8) -> usize {
    usize::from(LENGTHS.get(usize::from(byte)).copied().unwrap_or_default())
}

/// Bytes that `input` takes in this code.
pub(super) fn encoded_len(input: &[u8]) -> usize {
    input.iter().map(|byte| bits(*byte)).sum::<usize>().div_ceil(8)
}

/// Appends `input` in this code.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let (mut window, mut held) = (0u64, 0usize);
    for byte in input {
        let code = CODE.codes.get(usize::from(*byte)).copied().unwrap_or_default();
        let length = bits(*byte);
        window = (window << length) | u64::from(code);
        held += length;
        while held >= 8 {
            held -= 8;
            out.push((window >> held) as u8);
        }
        window &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(((window << (8 - held)) | ((1 << (8 - held)) - 1)) as u8);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut out = Vec::new();
        decode(input, &mut out, 1 << 16)?;
        Ok(out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let wire = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&wire).unwrap(), b"www.example.com");
        let mut out = Vec::new();
        encode(b"www.example.com", &mut out);
        assert_eq!(out, wire);
        assert_eq!(encoded_len(b"www.example.com"), wire.len());
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
            0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decoded(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
    }

    #[test]
    fn every_byte_goes_and_comes() {
        let all: Vec<u8> = (0..=255).collect();
        for from in 0..256 {
            let mut out = Vec::new();
            encode(&all[from..], &mut out);
            assert_eq!(out.len(), encoded_len(&all[from..]));
            assert_eq!(decoded(&out).unwrap(), &all[from..]);
            let mut one = Vec::new();
            encode(&all[from..from + 1], &mut one);
            assert_eq!(decoded(&one).unwrap(), &all[from..from + 1]);
        }
    }

    #[test]
    fn bad_strings_are_refused() {
        // Padding of eight ones, padding of zeros, the end-of-string symbol.
        assert!(decoded(&[0xff]).is_err());
        assert!(decoded(&[0x18]).is_err());
        assert!(decoded(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert_eq!(decoded(&[0x1f]).unwrap(), b"a");
        let mut out = Vec::new();
        assert!(decode(&[0x1c, 0x64], &mut out, 1).is_err());
    }
}
