//! Our decoder and that of the `h2` crate read the same fields from the same blocks, whoever encoded them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use adit_h2::hpack::{Decoder, Encoder, Field, Pseudo};
use bytes::BytesMut;
use common::raw::*;
use common::*;
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

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
        .map(|_| {
            let pieces: Vec<_> = (0..rng.usize(0..8)).map(|_| representation(rng, &mut entries)).collect();
            let updates = pieces.iter().take_while(|piece| piece[0] & 0xe0 == 0x20).count();
            // A GET of http://w/: it is a request that the crate gives out.
            let (first, rest) = pieces.split_at(updates);
            [first.concat(), b"\x82\x86\x84\x01\x01w".to_vec(), rest.concat()].concat()
        })
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

/// The requests' fields that the `h2` crate gives out, by their streams' numbers.
type Requests = Vec<(u32, HeaderMap)>;

/// What the `h2` crate gives out, if it reads all of the frames.
async fn crate_reads(frames: &[u8], acknowledged: Acknowledged) -> Option<Requests> {
    let (dialled, accepted) = sockets().await;
    let server = tokio::spawn(async move {
        let (mut builder, mut requests) = (h2::server::Builder::new(), Requests::new());
        if let Some((size, _)) = acknowledged {
            builder.header_table_size(size);
        }
        let Ok(mut connection) = builder.handshake::<_, bytes::Bytes>(accepted).await else { return requests };
        while let Some(Ok((request, respond))) = connection.accept().await {
            requests.push((respond.stream_id().into(), request.into_parts().0.headers));
        }
        requests
    });
    let mut raw = Raw::client(dialled).await;
    raw.expect(SETTINGS).await;
    raw.send(&[frames, &frame(PING, 0, 0, &[7; 8])].concat()).await;
    loop {
        match raw.next().await {
            Some(frame) if frame.kind == PING => break,
            Some(frame) if frame.kind == GOAWAY => return None,
            Some(_) => {}
            None => return None,
        }
    }
    drop(raw);
    Some(soon("the crate's end", server).await.unwrap())
}

/// The regular fields of each block; `None` if one cannot be read.
fn we_read(blocks: &[Vec<u8>], acknowledged: Acknowledged) -> Option<Vec<HeaderMap>> {
    let mut decoder = Decoder::default();
    let read = |(at, block): (usize, &Vec<u8>)| {
        match acknowledged {
            Some((size, ahead_of)) if ahead_of == at => decoder.acknowledged(size),
            _ => {}
        }
        let mut fields = HeaderMap::new();
        decoder
            .decode(block, &mut |field, _| {
                if let Field::Regular(name, value) = field {
                    fields.append(name, value);
                }
            })
            .ok()?;
        Some(fields)
    };
    blocks.iter().enumerate().map(read).collect()
}

/// How often both gave out a request; they agree each time.
fn compare(ours: &[HeaderMap], theirs: Requests, seed: u64) -> usize {
    let times = theirs.len();
    for (stream, fields) in theirs {
        assert_eq!(ours[(stream / 2) as usize], fields, "seed {seed}, stream {stream}");
    }
    times
}

#[tokio::test]
async fn on_blocks_whose_names_and_values_are_good() {
    let (mut seen, mut requests) = ([0; 2], 0);
    for seed in 0..1500 {
        let rng = &mut Rng::with_seed(seed);
        let blocks = blocks(rng, false);
        let ours = we_read(&blocks, None);
        seen[usize::from(ours.is_some())] += 1;
        let theirs = crate_reads(&frames(rng, &blocks, None, false), None).await;
        assert_eq!(ours.is_some(), theirs.is_some(), "seed {seed}: {blocks:x?}");
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            requests += compare(&ours, theirs, seed);
        }
    }
    assert!(seen.iter().all(|&times| times > 100) && requests > 500, "{seen:?}, {requests}");
}

/// The crate may refuse a damaged name or value besides.
#[tokio::test]
async fn on_damaged_blocks() {
    let (mut seen, mut requests) = ([0; 2], 0);
    for seed in 0..2500 {
        let rng = &mut Rng::with_seed(seed);
        let blocks = blocks(rng, true);
        let theirs = crate_reads(&frames(rng, &blocks, None, false), None).await;
        seen[usize::from(theirs.is_some())] += 1;
        if let Some(theirs) = theirs {
            let Some(ours) = we_read(&blocks, None) else { panic!("seed {seed}: {blocks:x?}") };
            requests += compare(&ours, theirs, seed);
        }
    }
    assert!(seen.iter().all(|&times| times > 100) && requests > 500, "{seen:?}, {requests}");
}

/// The crate takes a new table size in the middle of a block, where CONTINUATION begins, and a field of no name; and it asks
/// for no update from a peer whose table became too large.
#[tokio::test]
async fn on_blocks_in_pieces_and_another_table_size() {
    let (mut seen, mut requests) = ([0; 2], 0);
    for seed in 0..2000 {
        let rng = &mut Rng::with_seed(seed);
        let blocks = blocks(rng, false);
        let size = *rng.choice(&[0, 40, 100, 300, 4096, 4097, 8192]).unwrap();
        let acknowledged = rng.bool().then(|| (size, rng.usize(0..blocks.len())));
        let cut = rng.bool();
        let ours = we_read(&blocks, acknowledged);
        let theirs = crate_reads(&frames(rng, &blocks, acknowledged, cut), acknowledged).await;
        seen[usize::from(ours.is_some())] += 1;
        let may_differ = cut || acknowledged.is_some_and(|(size, _)| size < 4096);
        let agree = ours.is_some() == theirs.is_some() || (theirs.is_some() && may_differ);
        assert!(agree, "seed {seed}, {acknowledged:?}, {cut}: {blocks:x?}");
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            requests += compare(&ours, theirs, seed);
        }
    }
    assert!(seen.iter().all(|&times| times > 100) && requests > 500, "{seen:?}, {requests}");
}

/// Names and values that come again, and some that do not.
fn fields(rng: &mut Rng) -> HeaderMap {
    const NAMES: &[&str] = &[
        "accept",
        "authorization",
        "cookie",
        "date",
        "etag",
        "server",
        "set-cookie",
        "user-agent",
        "x-a",
        "x-b",
        "x-request-id",
    ];
    let mut fields = HeaderMap::new();
    for _ in 0..rng.usize(0..10) {
        let name = HeaderName::from_static(NAMES[rng.usize(0..NAMES.len())]);
        let value = match rng.u8(0..6) {
            0 => (0..rng.usize(0..300)).map(|_| char::from(rng.u8(32..127))).collect(),
            1 => rng.u64(..).to_string(),
            _ => format!("value {}", rng.u8(0..5)),
        };
        let mut value = HeaderValue::try_from(value).unwrap();
        value.set_sensitive(rng.u8(0..10) == 0);
        fields.append(name, value);
    }
    fields
}

#[tokio::test]
async fn on_what_we_encode() {
    for seed in 0..300 {
        let rng = &mut Rng::with_seed(seed);
        // The size is acknowledged ahead of the first block.
        let size = *rng.choice(&[0, 100, 1000, 4096, 65536]).unwrap();
        let mut encoder = Encoder::default();
        encoder.set_max_table_size(size);
        let sent: Vec<_> = (0..rng.usize(1..30)).map(|_| fields(rng)).collect();
        let mut bytes = frame(SETTINGS, ACK, 0, &[]);
        for (stream, fields) in (1..).step_by(2).zip(&sent) {
            let mut block = BytesMut::new();
            encoder.begin(&mut block);
            for (name, value) in [(Pseudo::Method, "GET"), (Pseudo::Scheme, "http"), (Pseudo::Path, "/a/b")] {
                encoder.pseudo(name, value.as_bytes(), &mut block);
            }
            encoder.pseudo(Pseudo::Authority, format!("www{}.example", rng.u8(0..4)).as_bytes(), &mut block);
            for (name, value) in fields {
                encoder.field(name, value, &mut block);
            }
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
        }
        let read = crate_reads(&bytes, Some((size, 0))).await.expect("blocks");
        assert_eq!(compare(&sent, read, seed), sent.len());
    }
}

/// The regular fields of the requests that the `h2` crate sends, and those that we read.
#[tokio::test]
async fn on_what_the_crate_encodes() {
    for seed in 0..300 {
        let rng = &mut Rng::with_seed(seed);
        let sent: Vec<_> = (0..rng.usize(1..30)).map(|_| fields(rng)).collect();
        let (dialled, accepted) = sockets().await;
        let requests = sent.clone();
        let client = tokio::spawn(async move {
            let (mut sender, connection) = h2::client::handshake(dialled).await.unwrap();
            let (connection, mut answers) = (tokio::spawn(connection), Vec::new());
            for fields in requests {
                let mut request = Request::get("http://www.example/a/b").version(Version::HTTP_2).body(()).unwrap();
                *request.headers_mut() = fields;
                sender = sender.ready().await.unwrap();
                answers.push(sender.send_request(request, true).unwrap());
            }
            let _ = connection.await;
        });
        let mut raw = Raw::server(accepted, &[]).await;
        let mut blocks = Vec::new();
        while blocks.len() < sent.len() {
            blocks.push(raw.expect(HEADERS).await.payload);
        }
        client.abort();
        assert_eq!(we_read(&blocks, None).unwrap(), sent, "seed {seed}");
    }
}
