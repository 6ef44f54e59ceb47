//! Any header blocks, cut anywhere, are judged as in one piece; nothing panics.
#![no_main]

use adit_h2::hpack::{Fields, Undecodable, Validator};
use libfuzzer_sys::fuzz_target;

/// The fields of each block until one cannot be read.
fn judge(blocks: &[&[u8]], limit: Option<u16>, size: usize) -> Vec<Result<Fields, Undecodable>> {
    let (mut validator, mut all) = (Validator::default(), Vec::new());
    for (at, block) in blocks.iter().enumerate() {
        if let (1, Some(limit)) = (at, limit) {
            validator.acknowledged(limit.into());
        }
        let fed = block.chunks(size).try_for_each(|piece| validator.feed(piece));
        let judged = fed.and_then(|()| validator.end());
        all.push(judged);
        if judged.is_err() {
            break;
        }
    }
    all
}

fuzz_target!(|input: (Option<u16>, u8, Vec<&[u8]>)| {
    let (limit, size, blocks) = input;
    assert_eq!(judge(&blocks, limit, usize::from(size) + 1), judge(&blocks, limit, usize::MAX));
});
