//! Whether header blocks can be decompressed (RFC 7541), found without decompressing them.
//!
//! The `h2` crate answers PROTOCOL_ERROR where RFC 9113 section 4.3 has COMPRESSION_ERROR, and drops pseudo-header fields
//! that are out of place. The validator walks the same octets ahead of it: it keeps the sizes of what is in the dynamic
//! table, never the fields, and knows pseudo-header fields by their names.

mod huffman;
mod table;

use huffman::Walk;
use table::{Name, Table};

/// The dynamic table before anybody asks for another size (RFC 9113 section 6.5.2).
const DEFAULT_TABLE_SIZE: u32 = 4096;
/// The largest table that can be asked for: what an integer of five octets holds (the `h2` crate reads no longer ones).
pub(crate) const MAX_TABLE_SIZE: u32 = (1 << 28) - 1;
/// Octets of text that are looked at: the longest pseudo-header field name.
const LOOKED_AT: usize = 10;
/// An integer goes on for at most four octets behind its prefix.
const LAST_SHIFT: u8 = 21;

/// A header block that RFC 7541 gives no meaning: the connection ends with COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// Which fields a header block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields(u8);

impl Fields {
    fn has(self, name: Name) -> bool {
        self.0 & name.bit() != 0
    }

    /// Any field whose name begins with a colon.
    pub fn has_pseudo(self) -> bool {
        self.0 & !Name::Regular.bit() != 0
    }

    /// A pseudo-header field of requests, `:protocol` included.
    pub fn has_request_pseudo(self) -> bool {
        self.has(Name::OfRequest)
    }

    /// A `:status` that begins with 1.
    pub fn has_interim_status(self) -> bool {
        self.has(Name::InterimStatus)
    }

    /// Any other `:status`.
    pub fn has_final_status(self) -> bool {
        self.has(Name::Status)
    }
}

/// What an integer says.
#[derive(Debug, Clone, Copy)]
enum Integer {
    Field,
    Name { keep: bool },
    Resize,
    Length { huffman: bool },
}

/// Where the walk stands.
#[derive(Debug, Clone, Copy)]
enum At {
    Representation,
    Integer { of: Integer, value: u32, shift: u8 },
    Length,
    Text { left: u32, walk: Option<Walk> },
}

/// The string at hand: its length once decoded, and how it begins.
#[derive(Debug, Default)]
struct Text {
    len: u32,
    head: [u8; LOOKED_AT],
}

impl Text {
    #[inline]
    fn push(&mut self, octet: u8) {
        if let Some(slot) = self.head.get_mut(self.len as usize) {
            *slot = octet;
        }
        self.len += 1;
    }

    fn extend(&mut self, octets: &[u8]) {
        let looked_at = octets.len().min(LOOKED_AT.saturating_sub(self.len as usize));
        for &octet in octets.iter().take(looked_at) {
            self.push(octet);
        }
        self.len += (octets.len() - looked_at) as u32;
    }

    fn head(&self) -> &[u8] {
        self.head.get(..self.len as usize).unwrap_or(&self.head)
    }
}

/// Follows the header blocks of one direction of a connection, in whatever pieces they come.
///
/// Accepts what the `h2` crate can decompress and RFC 7541 allows. What is wrong with names and values is not looked for,
/// but for a name of no octets: the crate takes it for a field cut short, and loses its place in a block that goes on.
#[derive(Debug)]
pub struct Validator {
    table: Table,
    /// The largest table the peer may choose now.
    limit: u32,
    /// The peer took note of a limit below what its table holds, and must begin its next block with an update (RFC 9113
    /// section 4.3.1).
    must_resize: bool,
    at: At,
    fields: Fields,
    keep: bool,
    /// The name of the literal at hand, once known, and its length.
    name: Option<(Name, u32)>,
    text: Text,
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE_SIZE),
            limit: DEFAULT_TABLE_SIZE,
            must_resize: false,
            at: At::Representation,
            fields: Fields(0),
            keep: false,
            name: None,
            text: Text::default(),
        }
    }
}

impl Validator {
    /// The peer acknowledged a SETTINGS frame with this SETTINGS_HEADER_TABLE_SIZE, in bytes.
    pub fn acknowledged(&mut self, size: u32) {
        self.limit = size;
        self.must_resize = self.table.size > size;
    }

    /// The next octets of a block. After an error the validator is of no use any more.
    pub fn feed(&mut self, mut octets: &[u8]) -> Result<(), Undecodable> {
        while let Some((&octet, rest)) = octets.split_first() {
            match self.at {
                At::Representation => {
                    octets = rest;
                    // Most fields are one octet: an index of seven bits.
                    match self.table.get(u32::from(octet & 0x7f)) {
                        Some(entry) if (0x80..0xff).contains(&octet) && !self.must_resize => {
                            self.fields.0 |= entry.bit();
                        }
                        _ => self.begin(octet)?,
                    }
                }
                At::Integer { of, value, shift } => {
                    octets = rest;
                    let value = value + (u32::from(octet & 0x7f) << shift);
                    if octet & 0x80 == 0 {
                        self.number(of, value)?;
                    } else if shift == LAST_SHIFT {
                        return Err(Undecodable);
                    } else {
                        self.at = At::Integer { of, value, shift: shift + 7 };
                    }
                }
                At::Length => {
                    octets = rest;
                    self.prefix(octet, 0x7f, Integer::Length { huffman: octet & 0x80 != 0 })?;
                }
                At::Text { left, walk } => {
                    let (now, later) = octets.split_at(octets.len().min(left as usize));
                    octets = later;
                    self.text(now, left - now.len() as u32, walk)?;
                }
            }
        }
        Ok(())
    }

    /// The end of a block, and what it held.
    pub fn end(&mut self) -> Result<Fields, Undecodable> {
        match self.at {
            At::Representation => Ok(std::mem::take(&mut self.fields)),
            _ => Err(Undecodable),
        }
    }

    /// The first octet of a representation (RFC 7541 section 6).
    fn begin(&mut self, octet: u8) -> Result<(), Undecodable> {
        let (mask, of) = match octet {
            0x80.. => (0x7f, Integer::Field),
            0x40.. => (0x3f, Integer::Name { keep: true }),
            0x20.. if self.fields == Fields(0) => return self.prefix(octet, 0x1f, Integer::Resize),
            // Only at the beginning of a block (section 4.2).
            0x20.. => return Err(Undecodable),
            _ => (0x0f, Integer::Name { keep: false }),
        };
        if self.must_resize {
            return Err(Undecodable);
        }
        self.prefix(octet, mask, of)
    }

    fn prefix(&mut self, octet: u8, mask: u8, of: Integer) -> Result<(), Undecodable> {
        let value = u32::from(octet & mask);
        if value < u32::from(mask) {
            return self.number(of, value);
        }
        self.at = At::Integer { of, value, shift: 0 };
        Ok(())
    }

    fn number(&mut self, of: Integer, value: u32) -> Result<(), Undecodable> {
        self.at = match of {
            Integer::Field => {
                self.fields.0 |= self.table.get(value).ok_or(Undecodable)?.bit();
                At::Representation
            }
            Integer::Name { keep } => {
                self.keep = keep;
                self.text.len = 0;
                self.name = match value {
                    0 => None,
                    index => Some(self.table.get(index).ok_or(Undecodable)?.name()),
                };
                At::Length
            }
            Integer::Resize if value > self.limit => return Err(Undecodable),
            Integer::Resize => {
                self.must_resize = false;
                self.table.resize(value);
                At::Representation
            }
            Integer::Length { .. } if value == 0 => return self.text_ended(),
            Integer::Length { huffman } => At::Text { left: value, walk: huffman.then(Walk::default) },
        };
        Ok(())
    }

    fn text(&mut self, octets: &[u8], left: u32, walk: Option<Walk>) -> Result<(), Undecodable> {
        let walk = match walk {
            Some(mut walk) => {
                let text = &mut self.text;
                walk.go(octets, |symbol| text.push(symbol))?;
                Some(walk)
            }
            None => {
                self.text.extend(octets);
                None
            }
        };
        if left > 0 {
            self.at = At::Text { left, walk };
            return Ok(());
        }
        if walk.is_some_and(|walk| !walk.may_end()) {
            return Err(Undecodable);
        }
        self.text_ended()
    }

    fn text_ended(&mut self) -> Result<(), Undecodable> {
        let Some((mut name, name_len)) = self.name else {
            if self.text.len == 0 {
                return Err(Undecodable);
            }
            self.name = Some((Name::of(self.text.head()), self.text.len));
            self.text.len = 0;
            self.at = At::Length;
            return Ok(());
        };
        if name == Name::Status && self.text.head().first() == Some(&b'1') {
            name = Name::InterimStatus;
        }
        self.fields.0 |= name.bit();
        if self.keep {
            self.table.insert(name, name_len, self.text.len);
        }
        self.at = At::Representation;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
