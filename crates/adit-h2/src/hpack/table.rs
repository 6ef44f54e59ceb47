//! The static table by its names, and the dynamic table by the sizes of its entries (RFC 7541 section 2.3).

use std::collections::VecDeque;

use super::{MAX_TABLE_SIZE, Undecodable};

/// What an entry counts beyond its name and value (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: u32 = 32;

/// RFC 7541 appendix A, names only.
pub(super) const STATIC_NAMES: [&str; 61] = [
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

/// A field by its name; a `:status` also by whether its value begins as an interim one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Name {
    Regular,
    /// `:method`, `:scheme`, `:authority`, `:path` and `:protocol` (RFC 9113 section 8.3.1, RFC 8441).
    OfRequest,
    /// `:status` (RFC 9113 section 8.3.2).
    Status,
    InterimStatus,
    UnknownPseudo,
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b":method" | b":scheme" | b":authority" | b":path" | b":protocol" => Self::OfRequest,
            b":status" => Self::Status,
            [b':', ..] => Self::UnknownPseudo,
            _ => Self::Regular,
        }
    }

    /// That of the static table's entry, counted from 1.
    const fn of_static(index: u32) -> Self {
        match index {
            1..=7 => Self::OfRequest,
            8..=14 => Self::Status,
            _ => Self::Regular,
        }
    }

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// `Name::bit` of each index of the static table; there is no index 0.
const STATIC_BITS: [u8; STATIC_NAMES.len() + 1] = {
    let (mut bits, mut index) = ([0; STATIC_NAMES.len() + 1], 1);
    while index < bits.len() {
        bits[index] = Name::of_static(index as u32).bit();
        index += 1;
    }
    bits
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) size: u32,
    /// The length of the name, and behind it in the low bits what it names: another entry may borrow it.
    name: u32,
}

const NAME_BITS: u32 = 3;
const NAME_MASK: u32 = (1 << NAME_BITS) - 1;

impl Entry {
    fn new(name: Name, name_len: u32, size: u32) -> Self {
        Self { size, name: name_len.min(MAX_TABLE_SIZE) << NAME_BITS | u32::from(name as u8) }
    }

    fn name(self) -> Name {
        match self.name & NAME_MASK {
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
pub(super) struct Table {
    /// The newest first.
    pub(super) entries: VecDeque<Entry>,
    pub(super) size: u32,
    max: u32,
}

impl Table {
    pub(super) fn new(max: u32) -> Self {
        Self { entries: VecDeque::new(), size: 0, max }
    }

    /// `Name::bit` of the field of this index; 0 if there is none.
    #[inline]
    pub(super) fn bit(&self, index: u32) -> u8 {
        match STATIC_BITS.get(index as usize) {
            Some(&bit) => bit,
            None => {
                self.entries.get(index as usize - STATIC_BITS.len()).map_or(0, |entry| 1 << (entry.name & NAME_MASK))
            }
        }
    }

    /// The name of this index, and its length.
    pub(super) fn name(&self, index: u32) -> Result<(Name, u32), Undecodable> {
        let at = (index as usize).checked_sub(1).ok_or(Undecodable)?;
        let (name, len) = match STATIC_NAMES.get(at) {
            Some(name) => (Name::of_static(index), name.len() as u32),
            None => {
                let entry = self.entries.get(at - STATIC_NAMES.len()).ok_or(Undecodable)?;
                (entry.name(), entry.name >> NAME_BITS)
            }
        };
        let name = if name == Name::InterimStatus { Name::Status } else { name };
        Ok((name, len))
    }

    /// A new entry (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, name: Name, name_len: u32, value_len: u32) {
        let size = ENTRY_OVERHEAD.saturating_add(name_len).saturating_add(value_len);
        let entry = Entry::new(name, name_len, size);
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

    pub(super) fn resize(&mut self, max: u32) {
        self.max = max;
        self.evict(max);
    }
}
