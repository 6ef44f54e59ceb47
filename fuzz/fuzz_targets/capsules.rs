//! Any bytes, cut anywhere, make the same datagrams or the same refusal; nothing panics, and no more is held than a datagram.
#![no_main]

use adit_http::capsule::{CapsuleError, Decoder, udp_payload};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fn decode(input: &[u8], size: usize) -> Result<Vec<Option<Bytes>>, CapsuleError> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in input.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(datagram) = decoder.next(&mut piece)? {
            found.push(udp_payload(datagram)?);
        }
        assert!(piece.is_empty());
    }
    decoder.end()?;
    Ok(found)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    assert_eq!(decode(bytes, usize::from(size) + 1), decode(bytes, bytes.len().max(1)));
});
