//! Maglev, with Envoy's permutations: xxHash64 of the address, seeds 0 and 1.

use xxhash_rust::xxh64::xxh64;

use super::{HostList, hash_key};

pub(crate) struct Maglev(Vec<u32>);

struct Entry {
    offset: u64,
    skip: u64,
    weight: f64,
    target: f64,
    next: u64,
}

impl Maglev {
    #[expect(clippy::cast_possible_truncation, reason = "the table is at most 5,000,011 long, the hosts fit u32")]
    pub fn new(list: &HostList, size: u64, by_hostname: bool) -> Self {
        let max = (0..list.hosts.len()).map(|index| list.weight(index)).fold(0.0, f64::max);
        let mut entries: Vec<Entry> = list
            .hosts
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let key = hash_key(host, by_hostname);
                Entry {
                    offset: xxh64(key.as_bytes(), 0) % size,
                    skip: xxh64(key.as_bytes(), 1) % (size - 1).max(1) + 1,
                    weight: list.weight(index),
                    target: 0.0,
                    next: 0,
                }
            })
            .collect();
        let mut table = vec![u32::MAX; size as usize];
        let mut filled = 0;
        let mut round = 1_u64;
        while filled < size {
            for (index, entry) in entries.iter_mut().enumerate() {
                // A host that weighs half of the heaviest takes a place every second round.
                if round as f64 * entry.weight < entry.target {
                    continue;
                }
                entry.target += max;
                if entry.claim(&mut table, index as u32, size) {
                    filled += 1;
                }
                if filled == size {
                    break;
                }
            }
            round += 1;
        }
        Self(table)
    }

    /// The host of a hash.
    pub fn find(&self, hash: u64) -> usize {
        let at = hash % self.0.len().max(1) as u64;
        usize::try_from(at).ok().and_then(|at| self.0.get(at)).map_or(0, |index| *index as usize)
    }
}

impl Entry {
    /// Takes the next free place of this host's permutation.
    fn claim(&mut self, table: &mut [u32], index: u32, size: u64) -> bool {
        while self.next < size {
            let place = (self.offset + self.skip * self.next) % size;
            self.next += 1;
            if let Some(cell) = usize::try_from(place).ok().and_then(|place| table.get_mut(place))
                && *cell == u32::MAX
            {
                *cell = index;
                return true;
            }
        }
        false
    }
}
