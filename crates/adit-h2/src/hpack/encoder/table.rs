//! The dynamic table of an encoder: what its peer's decoder holds, found by name.

use std::collections::VecDeque;

use super::super::fields::STATIC;
use super::super::{DEFAULT_TABLE_SIZE, STATIC_LEN};

/// Chains of entries by their names.
const CHAINS: usize = 32;
/// Entries of a chain that are looked at: a look-up costs no more, however alike names are.
const LOOKED_AT: usize = 16;
/// A name that only this table knows gets no further entry once it has this many: its value changes all the time (a request
/// id), and it would drive out those that do not.
const OFTEN: usize = 8;
/// The same, for what changes with each message by its nature: the one entry is there for the name.
const CHANGING: [&str; 2] = ["x-request-id", "traceparent"];

/// A field's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    /// In the static table, or 0.
    pub(super) index: u8,
    /// The text, if the static table has no such name.
    pub(super) name: &'a str,
    hash: u32,
}

impl<'a> Key<'a> {
    /// A name of the static table.
    #[inline]
    pub(super) fn of_static(index: u8) -> Self {
        Self { index, name: "", hash: u32::from(index) }
    }

    #[inline]
    pub(super) fn named(name: &'a str) -> Self {
        Self { index: 0, name, hash: hash(name.as_bytes()) }
    }

    pub(super) fn name_len(&self) -> usize {
        match usize::from(self.index).checked_sub(1).and_then(|at| STATIC.get(at)) {
            Some(entry) => entry.name_len as usize,
            None => self.name.len(),
        }
    }
}

/// Never that of a static name, which is its index.
fn hash(name: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = name.len() as u64;
    for word in name.as_chunks().0 {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    // The rest, with some of what came before where there is that much.
    match name.last_chunk() {
        Some(word) => hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR),
        None => {
            for octet in name {
                hash = (hash.rotate_left(5) ^ u64::from(*octet)).wrapping_mul(FACTOR);
            }
        }
    }
    (hash >> 32) as u32 | 1 << 31
}

#[derive(Debug)]
struct Entry {
    /// The name, if only this table knows it, and the value.
    text: Box<[u8]>,
    /// Of the name.
    hash: u32,
    /// Octets of the name in `text`; none if the static table knows it.
    name_len: u16,
    size: u16,
    /// The number of the entry before it in its chain.
    before: u16,
}

impl Entry {
    /// Where the hashes agree: that of a static name says it all.
    fn has_name(&self, key: &Key<'_>) -> bool {
        usize::from(self.name_len) == key.name.len() && self.text.starts_with(key.name.as_bytes())
    }
}

/// Entries are numbered as they come, from 1 on; the newest has the number `newest`. Numbers repeat after 65,536, and what
/// was evicted stays in its chain: a look-up goes only from newer to older ones, ends at one that is gone, and trusts nothing
/// but the entry itself.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    /// The number of the newest entry of each chain; empty before the first entry.
    chains: Vec<u16>,
    newest: u16,
    size: u32,
    max: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), chains: Vec::new(), newest: 0, size: 0, max: DEFAULT_TABLE_SIZE }
    }
}

impl Table {
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// The first entry of the name's chain, the newest first, that `wanted` says is the one; and its place.
    #[inline]
    fn look(&self, key: &Key<'_>, mut wanted: impl FnMut(usize, &Entry) -> bool) -> Option<usize> {
        let mut at = self.place(*self.chains.get(key.hash as usize % CHAINS)?);
        for _ in 0..LOOKED_AT {
            let entry = self.entries.get(at)?;
            if entry.hash == key.hash && wanted(at, entry) {
                return Some(at);
            }
            let next = self.place(entry.before);
            if next <= at {
                return None;
            }
            at = next;
        }
        None
    }

    /// The place of the entry of this number.
    #[inline]
    fn place(&self, number: u16) -> usize {
        usize::from(self.newest.wrapping_sub(number))
    }

    /// The index of a field whose name has this static index, if it is the newest of its chain: as `find`, but for less.
    #[inline]
    pub(super) fn newest(&self, name: u8, value: &[u8]) -> Option<u32> {
        let at = self.place(*self.chains.get(usize::from(name) % CHAINS)?);
        let entry = self.entries.get(at)?;
        (entry.hash == u32::from(name) && *entry.text == *value).then(|| index(at))
    }

    /// The index of a field.
    pub(super) fn find(&self, key: &Key<'_>, value: &[u8]) -> Option<u32> {
        let whole = |entry: &Entry| entry.has_name(key) && entry.text.get(usize::from(entry.name_len)..) == Some(value);
        self.look(key, |_, entry| whole(entry)).map(index)
    }

    /// The index of an entry of this name, if only this table knows the name; and whether there are enough of them.
    pub(super) fn find_name(&self, key: &Key<'_>) -> (Option<u32>, bool) {
        if key.index > 0 {
            return (None, false);
        }
        let (mut newest, mut alike) = (None, 0);
        self.look(key, |at, entry| {
            if entry.has_name(key) {
                newest.get_or_insert(at);
                alike += 1;
            }
            false
        });
        (newest.map(index), alike >= OFTEN || alike > 0 && CHANGING.contains(&key.name))
    }

    /// A new entry that counts `size`, no more than the table holds.
    pub(super) fn insert(&mut self, key: &Key<'_>, value: &[u8], size: u16) {
        self.evict(self.max.saturating_sub(u32::from(size)));
        if self.chains.is_empty() {
            self.chains = vec![0; CHAINS];
        }
        let Some(chain) = self.chains.get_mut(key.hash as usize % CHAINS) else { return };
        self.newest = self.newest.wrapping_add(1);
        let before = std::mem::replace(chain, self.newest);
        let text = [key.name.as_bytes(), value].concat().into_boxed_slice();
        let name_len = key.name.len() as u16;
        self.entries.push_front(Entry { text, hash: key.hash, name_len, size, before });
        self.size += u32::from(size);
    }

    fn evict(&mut self, max: u32) {
        while self.size > max {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= u32::from(entry.size);
        }
    }

    pub(super) fn resize(&mut self, max: u32) {
        let shrinks = max < self.max;
        self.max = max;
        self.evict(max);
        if shrinks {
            self.entries.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(in crate::hpack) fn sizes(&self) -> Vec<usize> {
        assert_eq!(self.size, self.entries.iter().map(|entry| u32::from(entry.size)).sum::<u32>());
        self.entries.iter().map(|entry| usize::from(entry.size)).collect()
    }
}

fn index(at: usize) -> u32 {
    (STATIC_LEN + 1 + at) as u32
}
