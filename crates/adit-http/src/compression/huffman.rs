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

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

struct Code {
    /// The code of each byte and its bits.
    codes: [(u32, u32); 256],
    /// The bytes in the order of their codes.
    symbols: [u8; 256],
    /// The first code of each length, and where its bytes start in `symbols`.
    first: [(u32, u16); LONGEST + 2],
}

static CODE: Code = CODES;
const CODES: Code = build();

/// Bits that are looked at together: enough for two of the most frequent bytes.
const LOOK: u32 = 11;

/// What the next `LOOK` bits begin with: none, one or two whole codes.
#[derive(Clone, Copy)]
struct Step {
    bytes: [u8; 2],
    /// Bits of all of its codes; 0 if the first one is longer than `LOOK`.
    bits: u8,
    /// Bits of the first code, and above them how many codes there are.
    first: u8,
}

const FIRST_BITS: u8 = 0xf;
const COUNT_SHIFT: u8 = 4;

static STEPS: [Step; 1 << LOOK] = build_steps();

const fn build() -> Code {
    let mut code = Code { codes: [(0, 0); 256], symbols: [0; 256], first: [(0, 0); LONGEST + 2] };
    let (mut next, mut filled, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = (next, filled as u16);
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = (next, length as u32);
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

const fn build_steps() -> [Step; 1 << LOOK] {
    let mut single = [(0u8, 0u32); 1 << LOOK];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, bits) = CODES.codes[symbol];
        if bits <= LOOK {
            let from = (code as usize) << (LOOK - bits);
            let mut at = from;
            while at < from + (1 << (LOOK - bits)) {
                single[at] = (symbol as u8, bits);
                at += 1;
            }
        }
        symbol += 1;
    }
    let mut steps = [Step { bytes: [0; 2], bits: 0, first: 0 }; 1 << LOOK];
    let mut at = 0;
    while at < 1 << LOOK {
        let (byte, bits) = single[at];
        if bits > 0 {
            let (second, more) = single[at << bits & ((1 << LOOK) - 1)];
            steps[at] = if more > 0 && bits + more <= LOOK {
                Step { bytes: [byte, second], bits: (bits + more) as u8, first: bits as u8 | 2 << COUNT_SHIFT }
            } else {
                Step { bytes: [byte, 0], bits: bits as u8, first: bits as u8 | 1 << COUNT_SHIFT }
            };
        }
        at += 1;
    }
    steps
}

/// Why a string is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// It is none: the end-of-string symbol, or padding that is too long or not all ones.
    Invalid,
    /// It says more than there is room for.
    TooLong,
}

/// Bytes that `coded` bytes can say at most.
pub const fn max_decoded_len(coded: usize) -> usize {
    coded.saturating_mul(8) / SHORTEST
}

/// Writes what `input` says to the front of `out`; how many bytes that is.
pub fn decode(mut input: &[u8], out: &mut [u8]) -> Result<usize, Undecodable> {
    // The highest `bits` of the window are the next ones; what is below them are bits of `input` or zeros.
    let (mut window, mut bits, mut at) = (0u64, 0u32, 0usize);
    loop {
        if let Some(octets) = input.first_chunk() {
            window |= u64::from_be_bytes(*octets) >> bits;
            input = input.get((63 - bits as usize) >> 3..).unwrap_or_default();
            bits |= 56;
        } else {
            while bits <= 56
                && let Some((&octet, rest)) = input.split_first()
            {
                window |= u64::from(octet) << (56 - bits);
                bits += 8;
                input = rest;
            }
        }
        if bits < LOOK {
            return end(window, bits, out, at);
        }
        while bits >= LOOK {
            let Some(step) = STEPS.get((window >> (64 - LOOK)) as usize) else { return Err(Undecodable::Invalid) };
            if step.bits == 0 {
                if bits < LONGEST as u32 && !input.is_empty() {
                    break;
                }
                let (symbol, taken) = long(window, bits).ok_or(Undecodable::Invalid)?;
                *out.get_mut(at).ok_or(Undecodable::TooLong)? = symbol;
                (window, bits, at) = (window << taken, bits - taken, at + 1);
            } else if let Some(room) = out.get_mut(at..at + 2) {
                room.copy_from_slice(&step.bytes);
                at += usize::from(step.first >> COUNT_SHIFT);
                (window, bits) = (window << step.bits, bits - u32::from(step.bits));
            } else {
                *out.get_mut(at).ok_or(Undecodable::TooLong)? = step.bytes[0];
                let taken = step.first & FIRST_BITS;
                (window, bits, at) = (window << taken, bits - u32::from(taken), at + 1);
            }
        }
    }
}

/// The byte whose code, longer than `LOOK`, is at the front of the window.
fn long(window: u64, bits: u32) -> Option<(u8, u32)> {
    (LOOK + 1..=bits.min(LONGEST as u32)).find_map(|length| {
        let code = (window >> (64 - length)) as u32;
        let (first, at) = *CODE.first.get(length as usize)?;
        let (_, end) = *CODE.first.get(length as usize + 1)?;
        let index = usize::from(at).checked_add(code.checked_sub(first)? as usize)?;
        if index >= usize::from(end) {
            return None;
        }
        Some((*CODE.symbols.get(index)?, length))
    })
}

/// The last bits, fewer than `LOOK`: whole codes, then fewer than eight ones (RFC 7541 section 5.2).
fn end(mut window: u64, mut bits: u32, out: &mut [u8], mut at: usize) -> Result<usize, Undecodable> {
    loop {
        // Ones alone are no code of these lengths.
        let filled = window | u64::MAX >> bits;
        match STEPS.get((filled >> (64 - LOOK)) as usize) {
            Some(step) if step.bits > 0 && u32::from(step.first & FIRST_BITS) <= bits => {
                *out.get_mut(at).ok_or(Undecodable::TooLong)? = step.bytes[0];
                let taken = u32::from(step.first & FIRST_BITS);
                (window, bits, at) = (window << taken, bits - taken, at + 1);
            }
            _ if bits < 8 && filled == u64::MAX => return Ok(at),
            _ => return Err(Undecodable::Invalid),
        }
    }
}

fn code(byte: u8) -> (u32, u32) {
    CODE.codes.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Bytes that `input` takes in this code.
pub fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input.iter().map(|byte| usize::from(LENGTHS.get(usize::from(*byte)).copied().unwrap_or(0))).sum();
    bits.div_ceil(8)
}

/// Writes `input` in this code to `out`, which has room for just that.
pub fn encode(input: &[u8], mut out: &mut [u8]) {
    // The lowest `held` bits of the window are not written yet; those above them are.
    let (mut window, mut held) = (0u64, 0u32);
    for byte in input {
        let (code, length) = code(*byte);
        window = window << length | u64::from(code);
        held += length;
        if held >= 32 {
            let Some((word, rest)) = out.split_first_chunk_mut() else { return };
            held -= 32;
            *word = ((window >> held) as u32).to_be_bytes();
            out = rest;
        }
    }
    let padding = held.next_multiple_of(8) - held;
    window = window << padding | ((1 << padding) - 1);
    let octets = window.to_be_bytes();
    for (place, octet) in out.iter_mut().rev().zip(octets.iter().rev()) {
        *place = *octet;
    }
}

#[cfg(test)]
mod tests;
