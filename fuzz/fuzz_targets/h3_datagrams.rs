//! Any DATAGRAM frame names a stream or is malformed; what was read goes and comes again.
#![no_main]

use adit_h3::datagram::{decode, encode};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    if let Ok((stream, payload)) = decode(Bytes::copy_from_slice(frame)) {
        assert_eq!(stream % 4, 0);
        let (front, back) = payload.split_at(payload.len() / 2);
        assert_eq!(decode(encode(stream, &[front, back])), Ok((stream, payload.clone())));
    }
});
