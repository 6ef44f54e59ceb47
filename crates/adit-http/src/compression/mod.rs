//! What HPACK and QPACK share: prefixed integers (RFC 7541 section 5.1) and the Huffman code (section 5.2, appendix B).

pub mod huffman;
pub mod integer;

use bytes::BufMut;

/// Appends a string literal (RFC 7541 section 5.2), in Huffman code where that is shorter.
///
/// `mask` is that of the length's prefix; the bit above it says whether the string is in Huffman code, and `flags` stands
/// above both.
pub fn put_string(flags: u8, mask: u8, text: &[u8], out: &mut impl BufMut) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        integer::put(flags | (mask + 1), mask, coded as u64, out);
        huffman::encode(text, out);
    } else {
        integer::put(flags, mask, text.len() as u64, out);
        out.put_slice(text);
    }
}
