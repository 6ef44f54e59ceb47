//! QPACK (RFC 9204) with the static table and literals only.
//!
//! We advertise a dynamic table of capacity 0 and use none of the peer's, so no block ever waits for another stream and no
//! state is kept between blocks: there is nothing for a bomb to fill. A reference to the dynamic table is an error of the
//! connection.

mod table;

#[cfg(test)]
mod tests;

use adit_http::compression::{huffman, integer, put_string};
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
    if at.integer(0xff)?.1 != 0 {
        return Err(Error::Block);
    }
    at.integer(0x7f)?;
    let (mut name_buffer, mut value_buffer) = (Vec::new(), Vec::new());
    let mut left = max;
    while let Some(first) = at.0.first().copied() {
        let (name, value): (&[u8], &[u8]) = if first & 0x80 != 0 {
            let (name, value) = at.static_entry(0x3f)?;
            (name.as_bytes(), value.as_bytes())
        } else if first & 0x40 != 0 {
            let (name, _) = at.static_entry(0x0f)?;
            (name.as_bytes(), at.string(0x7f, &mut value_buffer, left)?)
        } else if first & 0x20 != 0 {
            (at.string(0x07, &mut name_buffer, left)?, at.string(0x7f, &mut value_buffer, left)?)
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
    /// A prefixed integer (RFC 7541 section 5.1) and its whole first byte; at most 62 bits.
    fn integer<E>(&mut self, mask: u8) -> Result<(u8, u64), Error<E>> {
        let first = *self.0.first().ok_or(Error::Block)?;
        let value = integer::take(&mut self.0, mask, 9).filter(|value| *value <= crate::varint::MAX);
        value.map(|value| (first, value)).ok_or(Error::Block)
    }

    /// An entry of the static table; the bit above `mask` says that it is of that table.
    fn static_entry<E>(&mut self, mask: u8) -> Result<(&'static str, &'static str), Error<E>> {
        let (first, index) = self.integer(mask)?;
        if first & (mask + 1) == 0 {
            return Err(Error::Block);
        }
        let entry = usize::try_from(index).ok().and_then(|index| STATIC.get(index));
        entry.copied().ok_or(Error::Block)
    }

    /// A string whose Huffman bit stands above the `mask` of its length; at most `max` bytes.
    fn string<'b, E>(&mut self, mask: u8, buffer: &'b mut Vec<u8>, max: usize) -> Result<&'b [u8], Error<E>>
    where
        'a: 'b,
    {
        let (first, length) = self.integer(mask)?;
        let length = usize::try_from(length).map_err(|_| Error::Block)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Error::Block)?;
        self.0 = rest;
        if first & (mask + 1) == 0 {
            return if length > max { Err(Error::TooLarge) } else { Ok(text) };
        }
        buffer.clear();
        buffer.resize(huffman::max_decoded_len(length).min(max), 0);
        match huffman::decode(text, buffer) {
            Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
            Err(huffman::Undecodable::TooLong) => Err(Error::TooLarge),
            Err(huffman::Undecodable::Invalid) => Err(Error::Block),
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
        (Some(index), _) => integer::put(0xc0, 0x3f, u64::from(*index), out),
        (None, Some(index)) => {
            // A value that must not be compressed with others' stays a literal for every hop (RFC 9204 section 7.1.3).
            let never = if sensitive(name) { 0x20 } else { 0 };
            integer::put(0x50 | never, 0x0f, u64::from(*index), out);
            put_string(0, 0x7f, value, out);
        }
        (None, None) => {
            let never = if sensitive(name) { 0x10 } else { 0 };
            put_string(0x20 | never, 0x07, name, out);
            put_string(0, 0x7f, value, out);
        }
    }
}

fn sensitive(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie")
}
