//! The dynamic table of an encoder: what its peer's decoder holds, found by name.

use std::collections::VecDeque;

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
    name_len: usize,
    hash: u32,
}

impl<'a> Key<'a> {
    /// A name of the static table, `name_len` octets long.
    pub(super) fn of_static(index: u8, name_len: usize) -> Self {
        Self { index, name: "", name_len, hash: u32::from(index) }
    }

    pub(super) fn named(name: &'a str) -> Self {
        Self { index: 0, name, name_len: name.len(), hash: hash(name.as_bytes()) }
    }

    pub(super) fn name_len(&self) -> usize {
        self.name_len
    }

    fn chain(&self) -> usize {
        self.hash as usize % CHAINS
    }
}

/// Never that of a static name, which is its index.
fn hash(name: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = name.len() as u64;
    let (words, rest) = name.as_chunks();
    for word in words {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    for octet in rest {
        hash = (hash.rotate_left(5) ^ u64::from(*octet)).wrapping_mul(FACTOR);
    }
    (hash >> 32) as u32 | 1 << 31
}

/// What a look-up found; indices as on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    pub(super) field: Option<u32>,
    /// An entry of this name, if only this table knows the name.
    pub(super) name: Option<u32>,
    /// There are enough entries of this name.
    pub(super) often: bool,
}

#[derive(Debug)]
struct Entry {
    /// The name, if only this table knows it, and the value.
    text: Box<[u8]>,
    /// Of the name.
    hash: u32,
    /// Octets of the name in `text`.
    name_len: u16,
    size: u16,
    /// The number of the entry before it in its chain.
    before: u16,
}

impl Entry {
    fn has_name(&self, key: &Key<'_>) -> bool {
        self.hash == key.hash
            && usize::from(self.name_len) == key.name.len()
            && self.text.starts_with(key.name.as_bytes())
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

    /// The entries of this chain, the newest first, with their places.
    fn chain(&self, key: &Key<'_>) -> impl Iterator<Item = (usize, &Entry)> {
        let mut number = self.chains.get(key.chain()).copied();
        let mut least = 0;
        std::iter::from_fn(move || {
            let at = usize::from(self.newest.wrapping_sub(number?));
            let entry = self.entries.get(at).filter(|_| at >= least)?;
            (number, least) = (Some(entry.before), at + 1);
            Some((at, entry))
        })
        .take(LOOKED_AT)
    }

    /// The field, else its name.
    pub(super) fn find(&self, key: Key<'_>, value: &[u8]) -> Found {
        let (mut found, mut alike) = (Found::default(), 0);
        let len = key.name.len() + value.len();
        for (at, entry) in self.chain(&key) {
            if entry.hash != key.hash {
                continue;
            }
            if entry.text.len() == len && entry.text.ends_with(value) && entry.has_name(&key) {
                return Found { field: Some(index(at)), ..found };
            }
            if key.index == 0 && entry.has_name(&key) {
                found.name.get_or_insert(index(at));
                alike += 1;
            }
        }
        found.often = alike >= OFTEN || alike > 0 && CHANGING.contains(&key.name);
        found
    }

    pub(super) fn find_name(&self, key: Key<'_>) -> Found {
        let name = self.chain(&key).find(|(_, entry)| entry.has_name(&key)).map(|(at, _)| index(at));
        Found { name, ..Found::default() }
    }

    /// A new entry that counts `size`, no more than the table holds.
    pub(super) fn insert(&mut self, key: Key<'_>, value: &[u8], size: u16) {
        self.evict(self.max.saturating_sub(u32::from(size)));
        if self.chains.is_empty() {
            self.chains = vec![0; CHAINS];
        }
        let Some(chain) = self.chains.get_mut(key.chain()) else { return };
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
