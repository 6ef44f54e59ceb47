//! Header blocks to fields.

use std::collections::VecDeque;

use adit_http::compression::{huffman, integer};
use http::HeaderValue;

use super::fields::{Entry, Field, Name, STATIC};
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, STATIC_LEN, Undecodable};

/// Octets that an integer may have behind its prefix.
const INTEGER_OCTETS: u32 = 4;
/// Longer strings in Huffman code than this many octets (once decoded) are decoded on the heap.
const SCRATCH: usize = 256;

/// Reads the header blocks of one direction of a connection.
///
/// An entry of its table holds its field as it is given out: to give it out again copies nothing.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The largest table the peer may choose now.
    limit: u32,
    /// The peer took note of a limit below what its table holds, and must begin its next block with an update (RFC 9113
    /// section 4.3.1).
    must_resize: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        let table = Table { entries: VecDeque::new(), size: 0, max: DEFAULT_TABLE_SIZE };
        Self { table, limit: DEFAULT_TABLE_SIZE, must_resize: false }
    }
}

impl Decoder {
    /// The peer acknowledged a SETTINGS frame with this SETTINGS_HEADER_TABLE_SIZE, in octets.
    pub fn acknowledged(&mut self, size: u32) {
        self.limit = size;
        self.must_resize = self.table.size > size;
    }

    /// Reads a whole block, with a call of `sink` for each field in order: the field, and the octets of its name and value.
    ///
    /// After an error the decoder is of no use any more.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl FnMut(Field, usize)) -> Result<(), Undecodable> {
        let mut input = block;
        self.resize(&mut input)?;
        let mut scratch = Scratch { near: [0; SCRATCH], far: Vec::new() };
        while let Some(&first) = input.first() {
            if first & 0x80 != 0 {
                let index = match (first & 0x7f, input.get(1..)) {
                    // Most fields are one octet.
                    (index @ 0..0x7f, Some(rest)) => {
                        input = rest;
                        usize::from(index)
                    }
                    _ => number(&mut input, 0x7f)?,
                };
                let entry = self.table.get(index)?;
                sink(entry.field(), entry.octets() as usize);
            } else {
                self.literal(first, &mut input, &mut scratch, sink)?;
            }
        }
        Ok(())
    }

    /// New table sizes, which stand only at the beginning of a block (RFC 7541 section 4.2).
    fn resize(&mut self, input: &mut &[u8]) -> Result<(), Undecodable> {
        while let Some(0x20..0x40) = input.first() {
            let size = u32::try_from(number(input, 0x1f)?).map_err(|_| Undecodable)?;
            if size > self.limit {
                return Err(Undecodable);
            }
            self.must_resize = false;
            self.table.resize(size);
        }
        if self.must_resize && !input.is_empty() { Err(Undecodable) } else { Ok(()) }
    }

    fn literal(
        &mut self,
        first: u8,
        input: &mut &[u8],
        scratch: &mut Scratch,
        sink: &mut impl FnMut(Field, usize),
    ) -> Result<(), Undecodable> {
        let mask = match first {
            0x40.. => 0x3f,
            0x20.. => return Err(Undecodable),
            _ => 0x0f,
        };
        let (name, name_len) = match number(input, mask)? {
            0 => match scratch.text(input)? {
                // The crate that this is checked against takes it for a field cut short.
                [] => return Err(Undecodable),
                name => (Name::from_bytes(name), name.len() as u32),
            },
            index => {
                let entry = self.table.get(index)?;
                (entry.name.clone(), entry.name_len)
            }
        };
        let text = scratch.text(input)?;
        let value_len = text.len() as u32;
        let mut value = HeaderValue::from_bytes(text).ok();
        let octets = name_len.saturating_add(value_len) as usize;
        if first >= 0x40 {
            let entry = Entry { name, value, name_len, value_len };
            sink(entry.field(), octets);
            self.table.insert(entry);
            return Ok(());
        }
        // Whoever passes it on must not index it either (RFC 7541 section 6.2.3).
        if let (0x10.., Some(value)) = (first, &mut value) {
            value.set_sensitive(true);
        }
        sink(name.with(value), octets);
        Ok(())
    }
}

#[inline]
fn number(input: &mut &[u8], mask: u8) -> Result<usize, Undecodable> {
    let value = integer::take(input, mask, INTEGER_OCTETS).ok_or(Undecodable)?;
    usize::try_from(value).map_err(|_| Undecodable)
}

/// Where strings in Huffman code are decoded.
struct Scratch {
    near: [u8; SCRATCH],
    far: Vec<u8>,
}

impl Scratch {
    /// A string literal (RFC 7541 section 5.2).
    fn text<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<&'s [u8], Undecodable> {
        let coded = input.first().is_some_and(|first| first & 0x80 != 0);
        let len = number(input, 0x7f)?;
        let (text, rest) = input.split_at_checked(len).ok_or(Undecodable)?;
        *input = rest;
        if !coded {
            return Ok(text);
        }
        let most = huffman::max_decoded_len(len);
        let room = if most <= SCRATCH {
            &mut self.near[..]
        } else {
            self.far.resize(most, 0);
            &mut self.far[..]
        };
        let len = huffman::decode(text, room).map_err(|_| Undecodable)?;
        room.get(..len).ok_or(Undecodable)
    }
}

/// The dynamic table (RFC 7541 section 2.3.2).
#[derive(Debug)]
struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: u32,
    max: u32,
}

impl Table {
    /// The entry of this index (RFC 7541 section 2.3.3).
    #[inline]
    fn get(&self, index: usize) -> Result<&Entry, Undecodable> {
        let at = index.checked_sub(1).ok_or(Undecodable)?;
        let entry = match STATIC.get(at) {
            None => self.entries.get(at - STATIC_LEN),
            known => known,
        };
        entry.ok_or(Undecodable)
    }

    /// A new entry (RFC 7541 section 4.4).
    fn insert(&mut self, entry: Entry) {
        let size = entry.octets().saturating_add(ENTRY_OVERHEAD);
        self.evict(self.max.saturating_sub(size));
        if size <= self.max {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    /// Until it is no larger than this (RFC 7541 sections 4.3 and 4.4).
    fn evict(&mut self, max: u32) {
        while self.size > max {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.octets() + ENTRY_OVERHEAD;
        }
    }

    fn resize(&mut self, max: u32) {
        let shrinks = max < self.max;
        self.max = max;
        self.evict(max);
        if shrinks {
            self.entries.shrink_to_fit();
        }
    }
}

#[cfg(test)]
impl Decoder {
    /// The sizes of the entries, the newest first.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let sizes: Vec<_> = self.table.entries.iter().map(|entry| (entry.octets() + ENTRY_OVERHEAD) as usize).collect();
        assert_eq!(self.table.size as usize, sizes.iter().sum::<usize>());
        sizes
    }
}
