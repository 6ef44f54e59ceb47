//! RFC 7541 in its plainest form, to compare with.

use std::collections::HashMap;
use std::sync::LazyLock;

use adit_http::compression::huffman;
use proptest::prelude::*;

use super::super::fields::STATIC;

pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Every field kept, the Huffman code bit by bit.
#[derive(Default)]
pub(super) struct Plain {
    pub(super) entries: Fields,
    max: usize,
}

/// Each octet by its code and the code's bits: eight of it take as many octets as one takes bits.
static SYMBOLS: LazyLock<HashMap<(u32, usize), u8>> = LazyLock::new(|| {
    let code = |octet| {
        let eight = huffman_encode(&[octet; 8]);
        let code = bits_of(&eight).take(eight.len()).fold(0, |code, bit| code << 1 | bit);
        (code, eight.len())
    };
    (0..=255).map(|octet| (code(octet), octet)).collect()
});

fn bits_of(text: &[u8]) -> impl Iterator<Item = u32> {
    text.iter().flat_map(|octet| (0..8).rev().map(move |bit| u32::from(octet >> bit & 1)))
}

fn huffman_decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut code, mut len) = (Vec::new(), 0u32, 0);
    for bit in bits_of(text) {
        (code, len) = (code << 1 | bit, len + 1);
        if let Some(octet) = SYMBOLS.get(&(code, len)) {
            out.push(*octet);
            (code, len) = (0, 0);
        } else if len == 30 {
            return None;
        }
    }
    (len < 8 && code == (1 << len) - 1).then_some(out)
}

pub(super) fn huffman_encode(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; huffman::encoded_len(text)];
    huffman::encode(text, &mut out);
    out
}

fn take_int(block: &mut &[u8], mask: u8) -> Option<usize> {
    let (&first, rest) = block.split_first()?;
    *block = rest;
    let mut value = usize::from(first & mask);
    if value < usize::from(mask) {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let (&octet, rest) = block.split_first()?;
        *block = rest;
        value += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_text(block: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = block.first()? & 0x80 != 0;
    let len = take_int(block, 0x7f)?;
    let text = block.get(..len)?;
    *block = &block[len..];
    if huffman { huffman_decode(text) } else { Some(text.to_vec()) }
}

impl Plain {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), max: 4096 }
    }

    pub(super) fn sizes(&self) -> Vec<usize> {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + 32).collect()
    }

    fn shrink(&mut self, max: usize) {
        while self.sizes().iter().sum::<usize>() > max {
            self.entries.pop();
        }
    }

    fn get(&self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let at = index.checked_sub(1)?;
        let Some(known) = STATIC.get(at) else { return self.entries.get(at - STATIC.len()).cloned() };
        let value = known.value.as_ref()?.as_bytes().to_vec();
        let name = match known.field() {
            super::Field::Pseudo(name, _) => name.as_str().as_bytes().to_vec(),
            super::Field::Regular(name, _) => name.as_str().as_bytes().to_vec(),
            super::Field::Malformed => return None,
        };
        Some((name, value))
    }

    /// The fields of a block; `None` if it is none.
    pub(super) fn decode(&mut self, mut block: &[u8], limit: usize) -> Option<Fields> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            let keep = first & 0xc0 == 0x40;
            if first & 0x80 != 0 {
                fields.push(self.get(take_int(&mut block, 0x7f)?)?);
                continue;
            } else if first & 0xe0 == 0x20 {
                let max = take_int(&mut block, 0x1f)?;
                if !fields.is_empty() || max > limit {
                    return None;
                }
                self.max = max;
                self.shrink(max);
                continue;
            }
            let name = match take_int(&mut block, if keep { 0x3f } else { 0x0f })? {
                0 => take_text(&mut block).filter(|name| !name.is_empty())?,
                index => self.get(index)?.0,
            };
            let value = take_text(&mut block)?;
            if keep {
                let size = name.len() + value.len() + 32;
                self.shrink(self.max.saturating_sub(size));
                if size <= self.max {
                    self.entries.insert(0, (name.clone(), value.clone()));
                }
            }
            fields.push((name, value));
        }
        Some(fields)
    }
}

fn put_int(out: &mut Vec<u8>, first: u8, mask: u8, mut value: usize) {
    if value < usize::from(mask) {
        return out.push(first | value as u8);
    }
    out.push(first | mask);
    value -= usize::from(mask);
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

fn put_text(out: &mut Vec<u8>, text: &[u8], huffman: bool) {
    let (flag, text) = if huffman { (0x80, huffman_encode(text)) } else { (0, text.to_vec()) };
    put_int(out, flag, 0x7f, text.len());
    out.extend(text);
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Indexed(usize),
    Literal { keep: bool, name: Result<usize, (Vec<u8>, bool)>, value: (Vec<u8>, bool) },
    Resize(usize),
    Octets(Vec<u8>),
}

pub(super) fn encode(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Indexed(index) => put_int(&mut out, 0x80, 0x7f, *index),
            Piece::Resize(size) => put_int(&mut out, 0x20, 0x1f, *size),
            Piece::Octets(octets) => out.extend(octets),
            Piece::Literal { keep, name, value } => {
                let (flag, mask) = if *keep { (0x40, 0x3f) } else { (0, 0x0f) };
                match name {
                    Ok(index) => put_int(&mut out, flag, mask, *index),
                    Err((name, huffman)) => {
                        out.push(flag);
                        put_text(&mut out, name, *huffman);
                    }
                }
                put_text(&mut out, &value.0, value.1);
            }
        }
    }
    out
}

fn text() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let known = proptest::sample::select(vec![
        ":method",
        ":status",
        ":path",
        ":scheme",
        ":authority",
        "Upper",
        "custom-name",
        "cookie",
        "bad\nvalue",
        ":protocol",
        ":statuses",
        ":",
        "x",
        "100",
        "200",
        "",
    ]);
    let any_text = proptest::collection::vec(any::<u8>(), 0..60);
    let ascii = proptest::collection::vec(32u8..127, 0..200);
    (prop_oneof![known.prop_map(|text| text.as_bytes().to_vec()), any_text, ascii], any::<bool>())
}

fn piece() -> impl Strategy<Value = Piece> {
    let index = prop_oneof![1usize..62, 62usize..70, Just(0), 62usize..400];
    let name = prop_oneof![index.clone().prop_map(Ok), text().prop_map(Err)];
    prop_oneof![
        4 => index.prop_map(Piece::Indexed),
        8 => (any::<bool>(), name, text()).prop_map(|(keep, name, value)| Piece::Literal { keep, name, value }),
        1 => prop_oneof![0usize..300, Just(4096), Just(4097)].prop_map(Piece::Resize),
    ]
}

/// Blocks as a good encoder makes them for the most part, then some octets changed, put in or cut off.
pub(super) fn blocks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let octets = proptest::collection::vec(any::<u8>(), 0..6).prop_map(Piece::Octets);
    let block = (
        proptest::option::weighted(0.2, (0usize..5000).prop_map(Piece::Resize)),
        proptest::collection::vec(piece(), 0..12),
        proptest::option::weighted(0.1, octets),
    );
    let change = proptest::option::weighted(0.3, (any::<proptest::sample::Index>(), any::<u8>(), 0u8..3));
    let block = (block, change).prop_map(|((resize, fields, octets), change)| {
        let pieces: Vec<_> = resize.into_iter().chain(fields).chain(octets).collect();
        let mut block = encode(&pieces);
        if let Some((at, octet, how)) = change
            && !block.is_empty()
        {
            let at = at.index(block.len());
            match how {
                0 => block[at] = octet,
                1 => block.insert(at, octet),
                _ => block.truncate(at),
            }
        }
        block
    });
    proptest::collection::vec(block, 1..8)
}
