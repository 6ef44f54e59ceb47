//! QPACK (RFC 9204) with the static table and literals only.
//!
//! We advertise a dynamic table of capacity 0 and use none of the peer's, so no block ever waits for another stream and no
//! state is kept between blocks: there is nothing for a bomb to fill. A reference to the dynamic table is an error of the
//! connection.

mod huffman;
mod table;

#[cfg(test)]
mod tests;

use table::{STATIC, with_name};

/// Why a block was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// The block is broken or uses the dynamic table: QPACK_DECOMPRESSION_FAILED.
    Block,
    /// The names and values, with 32 bytes for each field, exceed the limit (RFC 9114 section 4.2.2).
    TooLarge,
    /// Whoever took the fields wants no more.
    Sink(E),
}

/// Reads a field section, giving each field line to `sink` in order.
///
/// `max` bounds the section's size as RFC 9114 section 4.2.2 counts it. Nothing is allocated beyond two buffers of at
/// most `max` bytes.
pub fn decode<E>(
    block: &[u8],
    max: usize,
    mut sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Error<E>> {
    let mut at = Cursor(block);
    // Required Insert Count 0 means that no dynamic entry is referenced; Base is then without meaning.
    if at.integer(8)?.1 != 0 {
        return Err(Error::Block);
    }
    at.integer(7)?;
    let (mut name_buffer, mut value_buffer) = (Vec::new(), Vec::new());
    let mut left = max;
    while let Some(first) = at.0.first().copied() {
        let (name, value): (&[u8], &[u8]) = if first & 0x80 != 0 {
            let (name, value) = at.static_entry(6, 0x40)?;
            (name.as_bytes(), value.as_bytes())
        } else if first & 0x40 != 0 {
            let (name, _) = at.static_entry(4, 0x10)?;
            (name.as_bytes(), at.string(7, &mut value_buffer, left)?)
        } else if first & 0x20 != 0 {
            (at.string(3, &mut name_buffer, left)?, at.string(7, &mut value_buffer, left)?)
        } else {
            // Post-base indices name dynamic entries.
            return Err(Error::Block);
        };
        left = left.checked_sub(name.len() + value.len() + 32).ok_or(Error::TooLarge)?;
        sink(name, value).map_err(Error::Sink)?;
    }
    Ok(())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte<E>(&mut self) -> Result<u8, Error<E>> {
        let (first, rest) = self.0.split_first().ok_or(Error::Block)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A prefixed integer (RFC 7541 section 5.1) and its whole first byte; at most 62 bits.
    fn integer<E>(&mut self, prefix: u32) -> Result<(u8, u64), Error<E>> {
        let first = self.byte()?;
        let mask = (1u64 << prefix) - 1;
        let mut value = u64::from(first) & mask;
        if value < mask {
            return Ok((first, value));
        }
        for shift in (0..=56).step_by(7) {
            let byte = self.byte()?;
            value = value.checked_add(u64::from(byte & 0x7f) << shift).ok_or(Error::Block)?;
            if byte & 0x80 == 0 {
                return if value <= crate::varint::MAX { Ok((first, value)) } else { Err(Error::Block) };
            }
        }
        Err(Error::Block)
    }

    /// An entry of the static table; `static_bit` of the first byte says that it is of that table.
    fn static_entry<E>(&mut self, prefix: u32, static_bit: u8) -> Result<(&'static str, &'static str), Error<E>> {
        let (first, index) = self.integer(prefix)?;
        if first & static_bit == 0 {
            return Err(Error::Block);
        }
        let entry = usize::try_from(index).ok().and_then(|index| STATIC.get(index));
        entry.copied().ok_or(Error::Block)
    }

    /// A string whose Huffman bit stands before a length of `prefix` bits; at most `max` bytes.
    fn string<'b, E>(&mut self, prefix: u32, buffer: &'b mut Vec<u8>, max: usize) -> Result<&'b [u8], Error<E>>
    where
        'a: 'b,
    {
        let (first, length) = self.integer(prefix)?;
        let length = usize::try_from(length).map_err(|_| Error::Block)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Error::Block)?;
        self.0 = rest;
        if first & (1 << prefix) == 0 {
            return if length > max { Err(Error::TooLarge) } else { Ok(text) };
        }
        buffer.clear();
        match huffman::decode(text, buffer, max) {
            Ok(()) => Ok(buffer),
            Err(_) if buffer.len() >= max => Err(Error::TooLarge),
            Err(_) => Err(Error::Block),
        }
    }
}

/// Starts a field section: no dynamic entry is needed.
pub fn start(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends one field line. `name` is in lower case.
pub fn encode(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let indices = with_name(name);
    let exact = indices
        .iter()
        .find(|index| STATIC.get(usize::from(**index)).is_some_and(|(_, known)| known.as_bytes() == value));
    match (exact, indices.first()) {
        (Some(index), _) => integer(0xc0, 6, u64::from(*index), out),
        (None, Some(index)) => {
            // A value that must not be compressed with others' stays a literal for every hop (RFC 9204 section 7.1.3).
            let never = if sensitive(name) { 0x20 } else { 0 };
            integer(0x50 | never, 4, u64::from(*index), out);
            string(0, 7, value, out);
        }
        (None, None) => {
            let never = if sensitive(name) { 0x10 } else { 0 };
            string(0x20 | never, 3, name, out);
            string(0, 7, value, out);
        }
    }
}

fn sensitive(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie")
}

fn integer(flags: u8, prefix: u32, value: u64, out: &mut Vec<u8>) {
    let mask = (1u64 << prefix) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// In Huffman code where that is shorter.
fn string(flags: u8, prefix: u32, text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        integer(flags | (1 << prefix), prefix, coded as u64, out);
        huffman::encode(text, out);
    } else {
        integer(flags, prefix, text.len() as u64, out);
        out.extend_from_slice(text);
    }
}
