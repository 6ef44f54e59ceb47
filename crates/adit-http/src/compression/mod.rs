//! What HPACK and QPACK share: prefixed integers (RFC 7541 section 5.1) and the Huffman code (section 5.2, appendix B).

pub mod huffman;
pub mod integer;

use std::ops::DerefMut;

use bytes::BufMut;

/// What is written to: a `Vec` of octets or a `BytesMut`.
pub trait Output: BufMut + DerefMut<Target = [u8]> {}

impl<T: BufMut + DerefMut<Target = [u8]>> Output for T {}

/// Appends a string literal (RFC 7541 section 5.2), in Huffman code where that is shorter.
///
/// `mask` is that of the length's prefix; the bit above it says whether the string is in Huffman code, and `flags` stands
/// above both.
pub fn put_string(flags: u8, mask: u8, text: &[u8], out: &mut impl Output) {
    // No two symbols take less than two octets.
    let coded = if text.len() < 3 { text.len() } else { huffman::encoded_len(text) };
    let at = out.len();
    if coded >= text.len() {
        integer::put(flags, mask, text.len() as u64, out);
        out.put_slice(text);
    } else if coded < usize::from(mask) {
        out.put_bytes(flags | (mask + 1) | coded as u8, coded + 1);
        huffman::encode(text, out.get_mut(at + 1..).unwrap_or_default());
    } else {
        integer::put(flags | (mask + 1), mask, coded as u64, out);
        let at = out.len();
        out.put_bytes(0, coded);
        huffman::encode(text, out.get_mut(at..).unwrap_or_default());
    }
}
