//! Whether header blocks can be decompressed (RFC 7541), found without decompressing them.
//!
//! The `h2` crate answers PROTOCOL_ERROR where RFC 9113 section 4.3 has COMPRESSION_ERROR, and drops pseudo-header fields
//! that are out of place. The validator walks the same octets ahead of it: it keeps the sizes of what is in the dynamic
//! table, never the fields, and knows pseudo-header fields by their names.

mod huffman;

use std::collections::VecDeque;

use huffman::Walk;

/// The dynamic table before anybody asks for another size (RFC 9113 section 6.5.2).
const DEFAULT_TABLE_SIZE: u32 = 4096;
/// The largest table that can be asked for: what an integer of five octets holds (the `h2` crate reads no longer ones).
pub(crate) const MAX_TABLE_SIZE: u32 = (1 << 28) - 1;
/// What an entry counts beyond its name and value (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: u32 = 32;
/// Octets of text that are looked at: the longest pseudo-header field name.
const HEAD_LEN: usize = 10;
/// An integer goes on for at most four octets behind its prefix.
const LAST_SHIFT: u8 = 21;

/// RFC 7541 appendix A, names only.
const STATIC_NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// A header block that RFC 7541 gives no meaning: the connection ends with COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// A field by its name; a `:status` also by whether its value begins as an interim one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Name {
    Regular,
    /// `:method`, `:scheme`, `:authority`, `:path` and `:protocol` (RFC 9113 section 8.3.1, RFC 8441).
    OfRequest,
    /// `:status` (RFC 9113 section 8.3.2).
    Status,
    InterimStatus,
    UnknownPseudo,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" | b":scheme" | b":authority" | b":path" | b":protocol" => Self::OfRequest,
            b":status" => Self::Status,
            [b':', ..] => Self::UnknownPseudo,
            _ => Self::Regular,
        }
    }

    /// That of the static table's entry, counted from 1.
    fn of_static(index: u32) -> Self {
        match index {
            1..=7 => Self::OfRequest,
            8..=14 => Self::Status,
            _ => Self::Regular,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

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

#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u32,
    /// The length of the name, and behind it in the low bits what it names: another entry may borrow it.
    name: u32,
}

const NAME_BITS: u32 = 3;

impl Entry {
    fn new(name: Name, name_len: u32, size: u32) -> Self {
        Self { size, name: name_len.min(MAX_TABLE_SIZE) << NAME_BITS | u32::from(name as u8) }
    }

    fn name(self) -> Name {
        match self.name & ((1 << NAME_BITS) - 1) {
            1 => Name::OfRequest,
            2 => Name::Status,
            3 => Name::InterimStatus,
            4 => Name::UnknownPseudo,
            _ => Name::Regular,
        }
    }
}

/// The dynamic table (RFC 7541 section 2.3.2), sizes only.
#[derive(Debug)]
struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: u32,
    max: u32,
}

impl Table {
    /// The field of this index.
    fn field(&self, index: u32) -> Result<Name, Undecodable> {
        match (index as usize).checked_sub(STATIC_NAMES.len() + 1) {
            Some(at) => self.entries.get(at).map(|entry| entry.name()).ok_or(Undecodable),
            None if index == 0 => Err(Undecodable),
            None => Ok(Name::of_static(index)),
        }
    }

    /// The name of this index, and its length.
    fn name(&self, index: u32) -> Result<(Name, u32), Undecodable> {
        let name = match self.field(index)? {
            Name::InterimStatus => Name::Status,
            name => name,
        };
        let at = index.saturating_sub(1) as usize;
        let len = match STATIC_NAMES.get(at) {
            Some(name) => name.len() as u32,
            None => self.entries.get(at - STATIC_NAMES.len()).map_or(0, |entry| entry.name >> NAME_BITS),
        };
        Ok((name, len))
    }

    fn insert(&mut self, entry: Entry) {
        self.evict(self.max.saturating_sub(entry.size));
        if entry.size <= self.max {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// Until it is no larger than this (RFC 7541 sections 4.3 and 4.4).
    fn evict(&mut self, max: u32) {
        while self.size > max {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.size;
        }
    }

    fn resize(&mut self, max: u32) {
        self.max = max;
        self.evict(max);
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
    head: [u8; HEAD_LEN],
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
        let looked_at = octets.len().min(HEAD_LEN.saturating_sub(self.len as usize));
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
/// Accepts what the `h2` crate can decompress and RFC 7541 allows. What is wrong with names and values is not looked for.
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
            table: Table { entries: VecDeque::new(), size: 0, max: DEFAULT_TABLE_SIZE },
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
                    self.begin(octet)?;
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
                self.fields.0 |= self.table.field(value)?.bit();
                At::Representation
            }
            Integer::Name { keep } => {
                self.keep = keep;
                self.text.len = 0;
                self.name = if value == 0 { None } else { Some(self.table.name(value)?) };
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
            let size = ENTRY_OVERHEAD.saturating_add(name_len).saturating_add(self.text.len);
            self.table.insert(Entry::new(name, name_len, size));
        }
        self.at = At::Representation;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
