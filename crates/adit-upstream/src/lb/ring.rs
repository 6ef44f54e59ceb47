//! Ring hash (Ketama), with Envoy's ring: xxHash64 of `<address>_<i>`, sized by the smallest weight.

use xxhash_rust::xxh64::xxh64;

use super::{HostList, hash_key};

pub(crate) struct Ring(Vec<(u64, u32)>);

impl Ring {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are bounded by max")]
    pub fn new(list: &HostList, min: u64, max: u64, by_hostname: bool) -> Self {
        let count = list.hosts.len();
        let sum: f64 = (0..count).map(|index| list.weight(index)).sum();
        let share = |index: usize| list.weight(index) / sum;
        let least = (0..count).map(share).fold(1.0_f64, f64::min);
        // Every host gets a whole number of places if that fits into the largest ring.
        let scale = ((least * min as f64).ceil() / least).min(max as f64);
        let mut ring = Vec::with_capacity(scale.ceil() as usize);
        let (mut placed, mut target) = (0.0, 0.0);
        for (index, host) in list.hosts.iter().enumerate() {
            let mut key = hash_key(host, by_hostname);
            key.push('_');
            let stem = key.len();
            target += scale * share(index);
            let mut place = 0_u64;
            while placed < target {
                key.truncate(stem);
                key.push_str(&place.to_string());
                ring.push((xxh64(key.as_bytes(), 0), index as u32));
                place += 1;
                placed += 1.0;
            }
        }
        ring.sort_unstable();
        Self(ring)
    }

    /// The host of the first place at or after `hash`.
    pub fn find(&self, hash: u64) -> usize {
        let at = self.0.partition_point(|(place, _)| *place < hash);
        self.0.get(at).or(self.0.first()).map_or(0, |(_, index)| *index as usize)
    }
}
