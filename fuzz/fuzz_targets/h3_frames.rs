//! Any bytes, cut anywhere, make the same HTTP/3 frames or the same refusal; nothing panics.
#![no_main]

use adit_h3::frame::{Frame, FrameDecoder, FrameError, Role};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// The frames, pieces of DATA joined, and whether the stream may end.
fn cut(role: Role, wire: &[u8], size: usize) -> Result<(Vec<(u64, Vec<u8>)>, bool), FrameError> {
    let mut decoder = FrameDecoder::new(role, 4096);
    let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
    for piece in wire.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(frame) = decoder.next(&mut piece)? {
            match (frame, frames.last_mut()) {
                (Frame::Data(data), Some((0, last))) => last.extend_from_slice(&data),
                (Frame::Data(data), _) => frames.push((0, data.to_vec())),
                (Frame::Block(kind, block), _) => frames.push((kind, block.to_vec())),
            }
        }
        assert!(piece.is_empty());
    }
    Ok((frames, decoder.at_boundary()))
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (control, size, wire) = input;
    let role = if control { Role::Control } else { Role::Request };
    assert_eq!(cut(role, wire, usize::from(size) + 1), cut(role, wire, wire.len().max(1)));
});
