#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::table::STATIC_NAMES;
use super::*;

/// RFC 7541 in its plainest form: the whole block at hand, every field kept, the Huffman code bit by bit.
#[derive(Default)]
struct Reference {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    max: usize,
}

type Decoded = Option<Vec<(Vec<u8>, Vec<u8>)>>;

static CODES: LazyLock<Vec<(u32, u8)>> = LazyLock::new(codes);
static SYMBOLS: LazyLock<HashMap<(u32, u8), usize>> =
    LazyLock::new(|| CODES.iter().enumerate().map(|(symbol, &code)| (code, symbol)).collect());

fn codes() -> Vec<(u32, u8)> {
    let mut order: Vec<usize> = (0..257).collect();
    order.sort_by_key(|&symbol| (huffman::LENGTHS[symbol], symbol));
    let (mut codes, mut next, mut last) = (vec![(0, 0); 257], 0u32, 5);
    for symbol in order {
        let len = huffman::LENGTHS[symbol];
        next <<= len - last;
        codes[symbol] = (next, len);
        (next, last) = (next + 1, len);
    }
    codes
}

fn huffman_decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut code, mut len) = (Vec::new(), 0u32, 0u8);
    for bit in text.iter().flat_map(|octet| (0..8).rev().map(move |bit| u32::from(octet >> bit & 1))) {
        (code, len) = (code << 1 | bit, len + 1);
        match SYMBOLS.get(&(code, len)) {
            Some(256) => return None,
            Some(&symbol) => {
                out.push(symbol as u8);
                (code, len) = (0, 0);
            }
            None => {}
        }
    }
    (len < 8 && code == (1 << len) - 1).then_some(out)
}

fn huffman_encode(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for &octet in text {
        let (code, len) = CODES[usize::from(octet)];
        bits.extend((0..len).rev().map(|bit| (code >> bit & 1) as u8));
    }
    bits.resize(bits.len().next_multiple_of(8), 1);
    bits.chunks(8).map(|octet| octet.iter().fold(0, |all, bit| all << 1 | bit)).collect()
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

impl Reference {
    fn new() -> Self {
        Self { entries: Vec::new(), max: 4096 }
    }

    fn shrink(&mut self, max: usize) {
        while self.entries.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() > max {
            self.entries.pop();
        }
    }

    fn get(&self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        // The values of the static table are of no interest but for `:status`.
        match index {
            0 => None,
            1..=61 => Some((STATIC_NAMES[index - 1].as_bytes().to_vec(), b"2".to_vec())),
            _ => self.entries.get(index - 62).cloned(),
        }
    }

    fn decode(&mut self, mut block: &[u8], limit: usize) -> Decoded {
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

fn facts(fields: &[(Vec<u8>, Vec<u8>)]) -> Fields {
    let mut all = Fields(0);
    for (name, value) in fields {
        let name = match Name::of(name) {
            Name::Status if value.first() == Some(&b'1') => Name::InterimStatus,
            name => name,
        };
        all.0 |= name.bit();
    }
    all
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
enum Piece {
    Indexed(usize),
    Literal { keep: bool, name: Result<usize, (Vec<u8>, bool)>, value: (Vec<u8>, bool) },
    Resize(usize),
    Octets(Vec<u8>),
}

fn encode(pieces: &[Piece]) -> Vec<u8> {
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
fn blocks() -> impl Strategy<Value = Vec<Vec<u8>>> {
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

fn validate(validator: &mut Validator, block: &[u8], step: usize) -> Result<Fields, Undecodable> {
    for piece in block.chunks(step) {
        validator.feed(piece)?;
    }
    validator.end()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_a_decoder(blocks in blocks(), step in 1usize..40, limit in prop_oneof![Just(4096usize), 0usize..6000]) {
        let (mut reference, mut validator) = (Reference::new(), Validator::default());
        if limit != 4096 {
            validator.acknowledged(limit as u32);
        }
        for block in blocks {
            let expected = reference.decode(&block, limit).map(|fields| facts(&fields)).ok_or(Undecodable);
            let found = validate(&mut validator, &block, step);
            prop_assert_eq!(found, expected, "{:x?}", block);
            if found.is_err() {
                break;
            }
            let sizes: Vec<_> = reference.entries.iter().map(|(name, value)| name.len() + value.len() + 32).collect();
            let kept: Vec<_> = validator.table.entries.iter().map(|entry| entry.size as usize).collect();
            prop_assert_eq!(&kept, &sizes);
            prop_assert_eq!(validator.table.size as usize, sizes.iter().sum::<usize>());
        }
    }

    #[test]
    fn any_octets_are_survived(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6)) {
        let (mut reference, mut validator) = (Reference::new(), Validator::default());
        for block in blocks {
            let expected = reference.decode(&block, 4096).map(|fields| facts(&fields)).ok_or(Undecodable);
            let found = validate(&mut validator, &block, 1);
            prop_assert_eq!(found, expected, "{:x?}", block);
            if found.is_err() {
                break;
            }
        }
    }

    #[test]
    fn huffman_strings_of_any_octets(text in proptest::collection::vec(any::<u8>(), 0..100)) {
        let code = huffman_encode(&text);
        let (mut walk, mut symbols) = (Walk::default(), Vec::new());
        walk.go(&code, |symbol| symbols.push(symbol)).unwrap();
        prop_assert!(walk.may_end());
        prop_assert_eq!(symbols, text);
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// As another implementation encodes them.
#[test]
fn the_huffman_code_of_all_octets_in_order() {
    let code = hex("\
        ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffffebfffffecfffff \
        edfffffeefffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7fffffebfffffed4fe3 \
        f9ffaffcabf1febfafefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7 \
        fffc3ff9ffe45fff4719242cb34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd \
        5ffffb3fffeb7fffdaffffb7ffff73fffeeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7f \
        ffb1ffff97fffd9ffffcdffff9fffffbffffdafffeeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fff \
        ff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1ff \
        febfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffdefffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff8 \
        7ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffff \
        cffffeaffffafffffddffffeffffff4fffff5fffffabffffa7ffffd7fffff9bffffecfffffb7fffff3fffffe8fffffd3fffffabfffff5fff \
        ffff7ffffecfffffdbfffffbbfffff7ffffff0fffffbbf");
    let octets: Vec<_> = (0..=255).collect();
    assert_eq!(huffman_encode(&octets), code);
    let (mut walk, mut symbols) = (Walk::default(), Vec::new());
    walk.go(&code, |symbol| symbols.push(symbol)).unwrap();
    assert!(walk.may_end());
    assert_eq!(symbols, octets);
}

/// RFC 7541 appendix C.4: the same requests with Huffman code.
#[test]
fn the_examples_of_rfc_7541() {
    let mut validator = Validator::default();
    for (block, size) in [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 57),
        ("8286 84be 5886 a8eb 1064 9cbf", 110),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", 164),
    ] {
        let fields = validate(&mut validator, &hex(block), 1).unwrap();
        assert!(fields.has_request_pseudo() && !fields.has_final_status());
        assert_eq!(validator.table.size, size);
    }
    // Appendix C.6, with a table of 256 octets: entries are evicted.
    let mut validator = Validator::default();
    validator.acknowledged(256);
    validator.feed(&[0x3f, 0xe1, 0x01]).unwrap();
    for (block, size) in [
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
             63c7 8f0b 97c8 e9ae 82ae 43d3",
            222,
        ),
        ("4883 640e ffc1 c0bf", 222),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 \
             b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            215,
        ),
    ] {
        let fields = validate(&mut validator, &hex(block), 3).unwrap();
        assert!(fields.has_final_status() && !fields.has_request_pseudo());
        assert_eq!(validator.table.size, size);
    }
}

#[test]
fn what_is_no_block() {
    for (what, block) in [
        ("index 0", &[0x80][..]),
        ("an index beyond the table", &[0xbe]),
        ("a name beyond the table", &[0x7e, 1, b'x']),
        ("an integer of six octets", &[0xff, 0x80, 0x80, 0x80, 0x80, 0]),
        ("a table above the limit", &[0x3f, 0xe2, 0x1f]),
        ("a new table size behind a field", &[0x82, 0x20]),
        ("half an integer", &[0xff, 0x80]),
        ("half a name", &[0, 3, b'x']),
        ("no value", &[0, 1, b'x']),
        ("a name of no octets", &[0, 0, 1, b'y']),
        ("a name of no octets, in Huffman code", &[0x40, 0x80, 1, b'y']),
        ("half a value", &[0, 1, b'x', 2, b'y']),
        ("padding of zeros", &[0, 1, b'x', 0x81, 0b0000_0000]),
        ("eight bits of padding", &[0, 1, b'x', 0x82, 0b0001_1111, 0xff]),
        ("only padding", &[0, 1, b'x', 0x81, 0xff]),
        ("EOS", &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
    ] {
        for step in [1, 2, 100] {
            assert_eq!(validate(&mut Validator::default(), block, step), Err(Undecodable), "{what}");
        }
    }
}

/// RFC 9113 section 4.3.1.
#[test]
fn a_table_that_became_too_large_must_shrink_first() {
    let field: &[u8] = &[0x40, 1, b'x', 1, b'y'];
    let mut validator = Validator::default();
    validate(&mut validator, field, 9).unwrap();
    // 34 octets are held: these fit, and nothing need be said.
    validator.acknowledged(34);
    validate(&mut validator, &[0xbe], 9).unwrap();
    validator.acknowledged(33);
    assert_eq!(validator.feed(&[0xbe]), Err(Undecodable));

    let mut validator = Validator::default();
    validate(&mut validator, field, 9).unwrap();
    validator.acknowledged(33);
    assert_eq!(validator.feed(&[0x20 | 30, 0xbe]), Err(Undecodable), "it is evicted");

    let mut validator = Validator::default();
    validate(&mut validator, field, 9).unwrap();
    validator.acknowledged(0);
    validate(&mut validator, &[0x20, 0x82], 9).unwrap();
    // Larger again, as far as the limit goes.
    assert_eq!(validator.feed(&[0x21]), Err(Undecodable));
}

#[test]
fn names_are_known_wherever_they_come_from() {
    let mut validator = Validator::default();
    let mut check = |pieces: &[Piece], expected: &[Name]| {
        let fields = validate(&mut validator, &encode(pieces), 2).unwrap();
        assert_eq!(fields.0, expected.iter().fold(0, |all, name| all | name.bit()), "{pieces:?}");
    };
    let literal = |name: &str, value: &str, huffman| Piece::Literal {
        keep: true,
        name: Err((name.into(), huffman)),
        value: (value.into(), huffman),
    };
    check(&[literal(":status", "103", true)], &[Name::InterimStatus]);
    check(&[Piece::Indexed(62)], &[Name::InterimStatus]);
    let borrowed = |value: &str| Piece::Literal { keep: true, name: Ok(62), value: (value.into(), false) };
    check(&[borrowed("200")], &[Name::Status]);
    check(&[Piece::Indexed(63), Piece::Indexed(62)], &[Name::InterimStatus, Name::Status]);
    check(&[literal(":protocol", "x", false)], &[Name::OfRequest]);
    check(&[literal(":authorities", "x", false), literal(":", "", true)], &[Name::UnknownPseudo]);
    check(&[literal("status", "1", true), literal("x", "", false)], &[Name::Regular]);
    check(&[Piece::Indexed(8), Piece::Indexed(15)], &[Name::Status, Name::Regular]);
    check(&[Piece::Indexed(1)], &[Name::OfRequest]);
}
