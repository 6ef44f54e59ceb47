#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use proptest::prelude::*;

fn decoded(input: &[u8]) -> Result<Vec<u8>, Undecodable> {
    let mut out = vec![0; max_decoded_len(input.len())];
    let len = decode(input, &mut out)?;
    out.truncate(len);
    Ok(out)
}

fn encoded(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; encoded_len(text)];
    encode(text, &mut out);
    out
}

/// Each byte by its code and the code's bits.
static SYMBOLS: LazyLock<HashMap<(u32, u32), u8>> =
    LazyLock::new(|| (0..=255).map(|byte| (code(byte), byte)).collect());

/// Bit by bit.
fn plainly(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut code, mut bits) = (Vec::new(), 0u32, 0);
    for bit in input.iter().flat_map(|octet| (0..8).rev().map(move |bit| u32::from(octet >> bit & 1))) {
        (code, bits) = (code << 1 | bit, bits + 1);
        if let Some(symbol) = SYMBOLS.get(&(code, bits)) {
            out.push(*symbol);
            (code, bits) = (0, 0);
        } else if bits == 30 {
            return None;
        }
    }
    (bits < 8 && code == (1 << bits) - 1).then_some(out)
}

#[test]
fn the_examples_of_the_rfc() {
    let wire = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    assert_eq!(decoded(&wire).unwrap(), b"www.example.com");
    assert_eq!(encoded(b"www.example.com"), wire);
    let date = [
        0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
        0xa6, 0x2d, 0x1b, 0xff,
    ];
    assert_eq!(decoded(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// As another implementation encodes them.
#[test]
fn all_octets_in_order() {
    let wire = hex("\
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
    assert_eq!(encoded(&octets), wire);
    assert_eq!(decoded(&wire).unwrap(), octets);
}

#[test]
fn every_byte_goes_and_comes() {
    let all: Vec<u8> = (0..=255).collect();
    for from in 0..256 {
        assert_eq!(decoded(&encoded(&all[from..])).unwrap(), &all[from..]);
        assert_eq!(decoded(&encoded(&all[from..from + 1])).unwrap(), &all[from..from + 1]);
    }
}

#[test]
fn bad_strings_are_refused() {
    // Padding of eight ones, padding of zeros, the end-of-string symbol.
    assert_eq!(decoded(&[0xff]), Err(Undecodable::Invalid));
    assert_eq!(decoded(&[0x18]), Err(Undecodable::Invalid));
    assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Undecodable::Invalid));
    assert_eq!(decoded(&[0x1f]).unwrap(), b"a");
    assert_eq!(decoded(&[]).unwrap(), b"");
    assert_eq!(decode(&[0x1c, 0x64], &mut [0]), Err(Undecodable::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_octets_are_read_as_bit_by_bit(input in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert_eq!(decoded(&input).ok(), plainly(&input));
    }

    /// Random octets soon hold a code that is none; damaged ones seldom do.
    #[test]
    fn damaged_strings_are_read_as_bit_by_bit(text in "[ -~]{0,60}\\PC{0,3}", at: prop::sample::Index, octet: u8, cut in 0usize..3) {
        let mut input = encoded(text.as_bytes());
        prop_assert_eq!(decoded(&input).unwrap(), text.as_bytes());
        if !input.is_empty() {
            let at = at.index(input.len());
            input[at] = octet;
            input.truncate(input.len() - cut.min(input.len()));
        }
        prop_assert_eq!(decoded(&input).ok(), plainly(&input));
    }

    #[test]
    fn any_text_goes_and_comes(text in proptest::collection::vec(any::<u8>(), 0..100), room in 0usize..110) {
        let wire = encoded(&text);
        let mut out = vec![0; room];
        let expected = if room < text.len() { Err(Undecodable::TooLong) } else { Ok(text.len()) };
        prop_assert_eq!(decode(&wire, &mut out), expected);
        let len = room.min(text.len());
        prop_assert_eq!(&out[..len], &text[..len]);
    }
}
