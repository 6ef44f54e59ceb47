//! The two header values of a WebSocket handshake that a hop may have to make up (RFC 6455 section 4).

/// The value of `sec-websocket-accept` for a `sec-websocket-key`.
pub fn accept_for(key: &[u8]) -> String {
    let mut sha = Sha1::new();
    sha.update(key);
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(&sha.finish())
}

/// The value of `sec-websocket-key` for sixteen random bytes.
pub fn key_from(nonce: [u8; 16]) -> String {
    base64(&nonce)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for i in 0..4 {
            if i <= group.len() {
                let index = (word >> (18 - 6 * i)) & 63;
                out.push(ALPHABET.get(index as usize).map_or('=', |byte| char::from(*byte)));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// SHA-1 (FIPS 180-4): RFC 6455 asks for it as a checksum, not for security.
struct Sha1 {
    state: [u32; 5],
    message: Vec<u8>,
}

impl Sha1 {
    fn new() -> Self {
        Self {
            state: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0],
            message: Vec::with_capacity(128),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
    }

    fn finish(mut self) -> [u8; 20] {
        let bits = (self.message.len() as u64) * 8;
        self.message.push(0x80);
        while self.message.len() % 64 != 56 {
            self.message.push(0);
        }
        self.message.extend_from_slice(&bits.to_be_bytes());
        let message = std::mem::take(&mut self.message);
        for block in message.chunks_exact(64) {
            self.block(block);
        }
        let mut out = [0u8; 20];
        for (slot, byte) in out.iter_mut().zip(self.state.iter().flat_map(|word| word.to_be_bytes())) {
            *slot = byte;
        }
        out
    }

    #[expect(clippy::many_single_char_names, reason = "the names of FIPS 180-4 section 6.1.2")]
    fn block(&mut self, block: &[u8]) {
        let mut w: Vec<u32> = block
            .chunks_exact(4)
            .map(|four| four.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)))
            .collect();
        for t in 16..80usize {
            let back = |n: usize| w.get(t - n).copied().unwrap_or(0);
            let word = (back(3) ^ back(8) ^ back(14) ^ back(16)).rotate_left(1);
            w.push(word);
        }
        let [mut a, mut b, mut c, mut d, mut e] = self.state;
        for (t, word) in w.iter().enumerate() {
            let (f, k) = match t {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (slot, word) in self.state.iter_mut().zip([a, b, c, d, e]) {
            *slot = slot.wrapping_add(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_section_1_3() {
        assert_eq!(accept_for(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        assert_eq!(key_from(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
    }

    #[test]
    fn base64_pads() {
        assert_eq!((base64(b"f"), base64(b"fo"), base64(b"foo")), ("Zg==".into(), "Zm8=".into(), "Zm9v".into()));
    }
}
