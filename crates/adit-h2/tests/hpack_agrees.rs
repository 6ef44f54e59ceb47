//! The validator of header blocks and the `h2` crate agree on what can be decompressed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use adit_h2::hpack::Validator;
use common::raw::*;
use common::*;
use fastrand::Rng;

/// Strings with and without Huffman code, all of them good names and good values. One of no octets is no name.
const TEXTS: &[&[u8]] = &[
    b"\x01x",
    b"\x0acustom-key",
    b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    b"\x86\xa8\xeb\x10\x64\x9c\xbf",
    b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f",
    b"\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
    b"\x81\xf3",
];

/// A representation (RFC 7541 section 6) whose name and value are good, if its index is.
fn representation(rng: &mut Rng, entries: &mut u8) -> Vec<u8> {
    let text = |rng: &mut Rng| match rng.u8(0..8) {
        0 => [&[0x7f, 16][..], &[b'y'; 127 + 16]].concat(),
        1 if rng.u8(0..8) == 0 => vec![[0, 0x80][rng.usize(0..2)]],
        _ => rng.choice(TEXTS).unwrap().to_vec(),
    };
    // Names of fields that may have any value; and beyond the static table.
    let index = match rng.u8(0..20) {
        0 => 62 + rng.u8(0..70),
        1..=6 if *entries > 0 => 62 + rng.u8(0..*entries),
        _ => rng.u8(15..62),
    };
    // The crate resets the stream for `transfer-encoding`, and then wants no CONTINUATION.
    let index = if index == 57 { 58 } else { index };
    let mut out = Vec::new();
    match rng.u8(0..12) {
        0..=3 if index < 127 => out.push(0x80 | index),
        0..=3 => out.extend([0xff, index - 127]),
        4 => out.extend(
            [[0x20 | rng.u8(0..31)].as_slice(), b"\x3f\xe1\x1f", b"\x3f\xe2\x1f", b"\x3f\x21"][rng.usize(0..4)],
        ),
        5..=8 => {
            *entries = entries.saturating_add(1).min(60);
            let known = rng.bool();
            out.extend(if !known {
                vec![0x40]
            } else if index < 63 {
                vec![0x40 | index]
            } else {
                vec![0x7f, index - 63]
            });
            if !known {
                out.extend(text(rng));
            }
            out.extend(text(rng));
        }
        _ => {
            out.push(if rng.bool() { 0x00 } else { 0x10 });
            out.extend(text(rng));
            out.extend(text(rng));
        }
    }
    out
}

fn blocks(rng: &mut Rng, damaged: bool) -> Vec<Vec<u8>> {
    let mut entries = 0;
    let mut blocks: Vec<Vec<u8>> = (0..rng.usize(1..6))
        .map(|_| (0..rng.usize(0..8)).flat_map(|_| representation(rng, &mut entries)).collect())
        .collect();
    if damaged {
        let block = rng.usize(0..blocks.len());
        let block = &mut blocks[block];
        for _ in 0..rng.usize(1..3) {
            let at = rng.usize(0..=block.len());
            match rng.u8(0..3) {
                0 if at < block.len() => block[at] = rng.u8(..),
                1 => block.truncate(at),
                _ => block.insert(at, rng.u8(..)),
            }
        }
    }
    blocks
}

/// The table size that is announced, and ahead of which block it is acknowledged.
type Acknowledged = Option<(u32, usize)>;

/// A HEADERS frame for each block, with up to two CONTINUATION frames if `cut`.
fn frames(rng: &mut Rng, blocks: &[Vec<u8>], acknowledged: Acknowledged, cut: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, (block, stream)) in blocks.iter().zip((1..).step_by(2)).enumerate() {
        if acknowledged.is_some_and(|(_, ahead_of)| ahead_of == at) {
            bytes.extend(frame(SETTINGS, ACK, 0, &[]));
        }
        let mut rest = &block[..];
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        for _ in 0..if cut { rng.u8(0..3) } else { 0 } {
            let (piece, behind) = rest.split_at(rng.usize(0..=rest.len()));
            bytes.extend(frame(kind, flags, stream, piece));
            (kind, flags, rest) = (CONTINUATION, 0, behind);
        }
        bytes.extend(frame(kind, flags | END_HEADERS, stream, rest));
    }
    bytes
}

/// Whether the `h2` crate, nothing in front of it, reads all of the frames.
async fn crate_accepts(frames: &[u8], acknowledged: Acknowledged) -> bool {
    let (dialled, accepted) = sockets().await;
    tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        if let Some((size, _)) = acknowledged {
            builder.header_table_size(size);
        }
        let Ok(mut connection) = builder.handshake::<_, bytes::Bytes>(accepted).await else { return };
        while let Some(Ok(_)) = connection.accept().await {}
    });
    let mut raw = Raw::client(dialled).await;
    raw.expect(SETTINGS).await;
    raw.send(&[frames, &frame(PING, 0, 0, &[7; 8])].concat()).await;
    loop {
        match raw.next().await {
            Some(frame) if frame.kind == PING => return true,
            Some(frame) if frame.kind == GOAWAY => return false,
            Some(_) => {}
            None => return false,
        }
    }
}

fn validator_accepts(blocks: &[Vec<u8>], acknowledged: Acknowledged) -> bool {
    let mut validator = Validator::default();
    blocks.iter().enumerate().all(|(at, block)| {
        match acknowledged {
            Some((size, ahead_of)) if ahead_of == at => validator.acknowledged(size),
            _ => {}
        }
        validator.feed(block).is_ok() && validator.end().is_ok()
    })
}

#[tokio::test]
async fn on_blocks_whose_names_and_values_are_good() {
    let mut seen = [0; 2];
    for seed in 0..1500 {
        let rng = &mut Rng::with_seed(seed);
        let blocks = blocks(rng, false);
        let accepts = validator_accepts(&blocks, None);
        seen[usize::from(accepts)] += 1;
        let frames = frames(rng, &blocks, None, false);
        assert_eq!(accepts, crate_accepts(&frames, None).await, "seed {seed}: {blocks:x?}");
    }
    assert!(seen.iter().all(|&times| times > 100), "{seen:?}");
}

/// The crate may refuse a damaged name or value besides.
#[tokio::test]
async fn on_damaged_blocks() {
    let mut seen = [0; 2];
    for seed in 0..2500 {
        let rng = &mut Rng::with_seed(seed);
        let blocks = blocks(rng, true);
        let accepts = crate_accepts(&frames(rng, &blocks, None, false), None).await;
        seen[usize::from(accepts)] += 1;
        assert!(!accepts || validator_accepts(&blocks, None), "seed {seed}: {blocks:x?}");
    }
    assert!(seen.iter().all(|&times| times > 100), "{seen:?}");
}

/// The crate takes a new table size in the middle of a block, where CONTINUATION begins, and a field of no name; and it asks
/// for no update from a peer whose table became too large.
#[tokio::test]
async fn on_blocks_in_pieces_and_another_table_size() {
    let mut seen = [0; 2];
    for seed in 0..2000 {
        let rng = &mut Rng::with_seed(seed);
        let blocks = blocks(rng, false);
        let size = *rng.choice(&[0, 40, 100, 300, 4096, 4097, 8192]).unwrap();
        let acknowledged = rng.bool().then(|| (size, rng.usize(0..blocks.len())));
        let cut = rng.bool();
        let accepts = validator_accepts(&blocks, acknowledged);
        let of_crate = crate_accepts(&frames(rng, &blocks, acknowledged, cut), acknowledged).await;
        seen[usize::from(accepts)] += 1;
        let may_differ = cut || acknowledged.is_some_and(|(size, _)| size < 4096);
        assert!(accepts == of_crate || (of_crate && may_differ), "seed {seed}, {acknowledged:?}, {cut}: {blocks:x?}");
    }
    assert!(seen.iter().all(|&times| times > 100), "{seen:?}");
}
