//! Payloads whose every byte tells its position.

use bytes::Bytes;

/// A stream of bytes that depend on their position and a seed: a lost, doubled or swapped byte shows.
#[derive(Debug, Clone)]
pub struct Payload {
    seed: u64,
    at: u64,
}

impl Payload {
    /// From position 0.
    pub fn new(seed: u64) -> Self {
        Self { seed, at: 0 }
    }

    /// How many bytes were given out.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes.into()
    }

    /// The next bytes, as many as there is room.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = byte_at(self.seed, self.at);
            self.at += 1;
        }
    }

    /// All `len` bytes from position 0.
    pub fn all(seed: u64, len: usize) -> Bytes {
        Self::new(seed).take(len)
    }
}

/// Compares what arrives with what a [`Payload`] of the same seed gives.
#[derive(Debug, Clone)]
pub struct Check(Payload);

impl Check {
    /// From position 0.
    pub fn new(seed: u64) -> Self {
        Self(Payload::new(seed))
    }

    /// How many bytes were compared.
    pub fn position(&self) -> u64 {
        self.0.at
    }

    /// Panics at the first byte that is not the expected one.
    pub fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let expected = byte_at(self.0.seed, self.0.at);
            assert_eq!(*byte, expected, "at position {}", self.0.at);
            self.0.at += 1;
        }
    }
}

fn byte_at(seed: u64, at: u64) -> u8 {
    // One word of a mixed counter per eight bytes.
    let mut word = (at >> 3).wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word >> ((at & 7) * 8)) as u8
}
