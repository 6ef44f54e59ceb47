//! The static table by its names, and the dynamic table by the sizes of its entries (RFC 7541 section 2.3).

use std::collections::VecDeque;

use super::MAX_TABLE_SIZE;

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

    /// All of them, in the order of their numbers.
    const ALL: [Self; 5] = [Self::Regular, Self::OfRequest, Self::Status, Self::InterimStatus, Self::UnknownPseudo];

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

const _: () = {
    let mut number = 0;
    while number < Name::ALL.len() {
        assert!(Name::ALL[number] as usize == number);
        number += 1;
    }
};

/// The entries of the static table; its values are of no interest.
const STATIC: [Entry; STATIC_NAMES.len()] = {
    let (mut entries, mut at) = ([Entry { size: 0, name: 0 }; STATIC_NAMES.len()], 0);
    while at < entries.len() {
        let name = match at {
            0..7 => Name::OfRequest,
            7..14 => Name::Status,
            _ => Name::Regular,
        };
        entries[at] = Entry::new(name, STATIC_NAMES[at].len() as u32, 0);
        at += 1;
    }
    entries
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) size: u32,
    /// The length of the name, and behind it in the low bits the name's number: another entry may borrow it.
    name: u32,
}

const NAME_BITS: u32 = 3;
const NAME_MASK: u32 = (1 << NAME_BITS) - 1;

impl Entry {
    const fn new(name: Name, name_len: u32, size: u32) -> Self {
        let name_len = if name_len > MAX_TABLE_SIZE { MAX_TABLE_SIZE } else { name_len };
        Self { size, name: name_len << NAME_BITS | name as u32 }
    }

    /// `Name::bit` of the field.
    pub(super) fn bit(self) -> u8 {
        1 << (self.name & NAME_MASK)
    }

    /// The name, for another value, and its length.
    pub(super) fn name(self) -> (Name, u32) {
        let name = match Name::ALL.get((self.name & NAME_MASK) as usize) {
            Some(Name::InterimStatus) => Name::Status,
            Some(&name) => name,
            None => Name::Regular,
        };
        (name, self.name >> NAME_BITS)
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

    /// The entry of this index (RFC 7541 section 2.3.3).
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<Entry> {
        let at = (index as usize).checked_sub(1)?;
        match STATIC.get(at) {
            Some(&entry) => Some(entry),
            None => self.entries.get(at - STATIC.len()).copied(),
        }
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
