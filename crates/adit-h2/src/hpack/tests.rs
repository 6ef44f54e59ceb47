#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use bytes::BytesMut;
use http::header::{self, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

mod examples;
mod plain;

use plain::{Fields, Piece, Plain, blocks, encode};

type Decoded = Vec<(Field, usize)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Decoded, Undecodable> {
    let mut fields = Vec::new();
    decoder.decode(block, &mut |field, octets| fields.push((field, octets)))?;
    Ok(fields)
}

/// What the decoder should make of it.
fn judged((name, value): &(Vec<u8>, Vec<u8>)) -> (Field, usize) {
    let octets = name.len() + value.len();
    let pseudo = match &name[..] {
        b":method" => Some(Pseudo::Method),
        b":scheme" => Some(Pseudo::Scheme),
        b":authority" => Some(Pseudo::Authority),
        b":path" => Some(Pseudo::Path),
        b":protocol" => Some(Pseudo::Protocol),
        b":status" => Some(Pseudo::Status),
        _ => None,
    };
    let upper = name.iter().any(u8::is_ascii_uppercase);
    let field = match (pseudo, HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        (Some(name), _, Ok(value)) => Field::Pseudo(name, value),
        (None, Ok(name), Ok(value)) if !upper => Field::Regular(name, value),
        _ => Field::Malformed,
    };
    (field, octets)
}

fn judge(fields: Fields) -> Decoded {
    fields.iter().map(judged).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn the_decoder_agrees_with_a_plain_one(blocks in blocks(), limit in prop_oneof![Just(4096usize), 0usize..6000]) {
        let (mut plain, mut decoder) = (Plain::new(), Decoder::default());
        if limit != 4096 {
            decoder.acknowledged(limit as u32);
        }
        for block in blocks {
            let expected = plain.decode(&block, limit).map(judge).ok_or(Undecodable);
            let found = decode(&mut decoder, &block);
            prop_assert_eq!(&found, &expected, "{:x?}", block);
            if found.is_err() {
                break;
            }
            prop_assert_eq!(decoder.sizes(), plain.sizes());
        }
    }

    #[test]
    fn any_octets_are_survived(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..6)) {
        let (mut plain, mut decoder) = (Plain::new(), Decoder::default());
        for block in blocks {
            let expected = plain.decode(&block, 4096).map(judge).ok_or(Undecodable);
            let found = decode(&mut decoder, &block);
            prop_assert_eq!(&found, &expected, "{:x?}", block);
            if found.is_err() {
                break;
            }
        }
    }
}

/// A step of an encoder's life.
#[derive(Debug, Clone)]
enum Step {
    Resize(u32),
    Block(Vec<(String, Vec<u8>, bool)>),
}

const NAMES: [&str; 22] = [
    ":method",
    ":scheme",
    ":authority",
    ":path",
    ":protocol",
    ":status",
    "accept",
    "accept-encoding",
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "server",
    "set-cookie",
    "user-agent",
    "x-request-id",
    "traceparent",
    "x-a",
    "x-b",
    "x-forwarded-for",
    "origin",
];

fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![4 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => "[a-z0-9-]{1,40}"];
    let known =
        proptest::sample::select(vec!["GET", "POST", "http", "/", "200", "404", "gzip, deflate", "a", "b", "", "x=y"]);
    let value = prop_oneof![
        4 => known.prop_map(|value| value.as_bytes().to_vec()),
        2 => "[ -~]{0,60}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>().prop_map(|octet| if octet < 32 || octet == 127 { b'~' } else { octet }), 0..300),
        1 => (2900usize..4200).prop_map(|len| vec![b'~'; len]),
    ];
    let field = (name, value, proptest::bool::weighted(0.1));
    let size = prop_oneof![Just(0), 0u32..300, 3000u32..5000, Just(u32::MAX)];
    prop_oneof![
        1 => size.prop_map(Step::Resize),
        4 => proptest::collection::vec(field, 0..12).prop_map(Step::Block),
    ]
}

fn write(encoder: &mut Encoder, fields: &[(String, Vec<u8>, bool)]) -> BytesMut {
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    for (name, value, sensitive) in fields {
        let mut value = HeaderValue::from_bytes(value).unwrap();
        value.set_sensitive(*sensitive);
        match judged(&(name.clone().into_bytes(), vec![])).0 {
            Field::Pseudo(name, _) => encoder.pseudo(name, value.as_bytes(), &mut out),
            Field::Regular(name, _) => encoder.field(&name, &value, &mut out),
            Field::Malformed => panic!("{name}"),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_encoded_is_decoded(steps in proptest::collection::vec(step(), 1..30)) {
        let (mut plain, mut decoder, mut encoder) = (Plain::new(), Decoder::default(), Encoder::default());
        let mut limit = 4096;
        for step in steps {
            match step {
                Step::Resize(size) => {
                    limit = size;
                    encoder.set_max_table_size(size);
                    decoder.acknowledged(size);
                }
                Step::Block(fields) => {
                    let block = write(&mut encoder, &fields);
                    let fields: Fields = fields.into_iter().map(|(name, value, _)| (name.into_bytes(), value)).collect();
                    prop_assert_eq!(plain.decode(&block, limit as usize), Some(fields.clone()));
                    prop_assert_eq!(decode(&mut decoder, &block), Ok(judge(fields)));
                    prop_assert_eq!(encoder.sizes(), plain.sizes());
                    prop_assert_eq!(encoder.sizes(), decoder.sizes());
                    prop_assert!(encoder.sizes().iter().sum::<usize>() <= limit.min(4096) as usize);
                }
            }
        }
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
        assert_eq!(decode(&mut Decoder::default(), block), Err(Undecodable), "{what}");
    }
}

/// RFC 9113 section 4.3.1.
#[test]
fn a_table_that_became_too_large_must_shrink_first() {
    let filled = || {
        let mut decoder = Decoder::default();
        decode(&mut decoder, &[0x40, 1, b'x', 1, b'y']).unwrap();
        decoder
    };
    let mut decoder = filled();
    // 34 octets are held: these fit, and nothing need be said.
    decoder.acknowledged(34);
    decode(&mut decoder, &[0xbe]).unwrap();
    decoder.acknowledged(33);
    decode(&mut decoder, &[]).unwrap();
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(Undecodable));

    let mut decoder = filled();
    decoder.acknowledged(33);
    assert_eq!(decode(&mut decoder, &[0x20 | 30, 0xbe]), Err(Undecodable), "it is evicted");

    let mut decoder = filled();
    decoder.acknowledged(0);
    decode(&mut decoder, &[0x20, 0x82]).unwrap();
    // Larger again, as far as the limit goes.
    assert_eq!(decode(&mut decoder, &[0x21]), Err(Undecodable));
}

#[test]
fn malformed_fields_keep_their_places() {
    let mut decoder = Decoder::default();
    let literal = |name: &str, value: &str, huffman| Piece::Literal {
        keep: true,
        name: Err((name.into(), huffman)),
        value: (value.into(), huffman),
    };
    let borrowed = |index, value: &str| Piece::Literal { keep: false, name: Ok(index), value: (value.into(), false) };
    let good = Field::Regular(HeaderName::from_static("x-name"), HeaderValue::from_static("good"));
    let block = encode(&[
        literal("X-Name", "1", false),
        literal("x-name", "b\nd", true),
        literal(":unknown", "x", true),
        literal("a b", "x", false),
        literal("x\u{e9}", "x", true),
        Piece::Indexed(66),
        Piece::Indexed(65),
        // The value was bad, the name is good.
        borrowed(65, "good"),
        borrowed(66, "good"),
        borrowed(64, "good"),
    ]);
    let found = decode(&mut decoder, &block).unwrap();
    let malformed = |octets| (Field::Malformed, octets);
    let expected = [7, 9, 9, 4, 4, 7, 9].map(malformed).into_iter().chain([(good, 10), malformed(10), malformed(12)]);
    assert_eq!(found, expected.collect::<Vec<_>>());
}

fn sensitive(field: &Field) -> bool {
    match field {
        Field::Pseudo(_, value) | Field::Regular(_, value) => value.is_sensitive(),
        Field::Malformed => false,
    }
}

/// RFC 7541 section 6.2.3: whoever passes such a field on uses the same representation.
#[test]
fn never_indexed_stays_so() {
    let (mut decoder, mut encoder) = (Decoder::default(), Encoder::default());
    let found =
        decode(&mut decoder, &[0x10, 1, b'x', 1, b'y', 0x00, 1, b'x', 1, b'y', 0x40, 1, b'x', 1, b'y', 0xbe]).unwrap();
    assert_eq!(found.iter().map(|(field, _)| sensitive(field)).collect::<Vec<_>>(), [true, false, false, false]);
    for (name, value, never) in [
        (header::AUTHORIZATION, "Basic x", true),
        (header::PROXY_AUTHORIZATION, "Basic x", true),
        (header::COOKIE, "a=b", true),
        (header::COOKIE, "session=0123456789abcdef", false),
        (header::SERVER, "x", false),
    ] {
        for _ in 0..2 {
            let block = write(&mut encoder, &[(name.to_string(), value.into(), false)]);
            assert_eq!(block[0] & 0xf0 == 0x10, never, "{name}");
            assert_eq!(sensitive(&decode(&mut decoder, &block).unwrap()[0].0), never, "{name}");
        }
    }
    let block = write(&mut encoder, &[("x".into(), "y".into(), true)]);
    assert_eq!(&block[..], [0x10, 1, b'x', 1, b'y']);
}

/// Octets of a block with this field, sent again and again.
fn lengths(name: &str, values: &[&str]) -> Vec<usize> {
    let mut encoder = Encoder::default();
    let field = |value: &&str| vec![(name.to_owned(), value.as_bytes().to_vec(), false)];
    values.iter().map(|value| write(&mut encoder, &field(value)).len()).collect()
}

#[test]
fn what_is_indexed() {
    assert_eq!(lengths("server", &["envoy", "envoy", "adit", "envoy", "adit"]), [6, 1, 5, 1, 1]);
    assert_eq!(lengths("accept-encoding", &["gzip, deflate"]), [1]);
    assert_eq!(lengths("x-name", &["1", "1"]), [9, 1]);
    assert_eq!(lengths(":authority", &["a.example", "a.example"]), [9, 1]);
    assert_eq!(lengths(":path", &["/", "/index.html", "/a", "/a"]), [1, 1, 4, 4]);
    assert_eq!(lengths(":method", &["GET", "POST", "PUT", "PUT"]), [1, 1, 5, 1]);
    assert_eq!(lengths(":status", &["200", "500", "101", "101"]), [1, 1, 4, 1]);
    assert_eq!(lengths(":protocol", &["x", "x"]), [11, 1]);
    // Another value each time: only the name is learnt.
    assert_eq!(lengths("content-length", &["10", "10"]), [5, 5]);
    assert_eq!(lengths("x-request-id", &["0a", "0b", "0c", "0a"]), [14, 5, 5, 1]);
    let values: Vec<_> = (b'a'..=b'z').map(|letter| String::from(letter as char)).collect();
    let values: Vec<_> = values.iter().map(String::as_str).chain(["a", "h", "i", "z"]).collect();
    let lengths = lengths("x-count", &values);
    assert_eq!(lengths[1..8], [3; 7]);
    // Eight entries of a name are enough.
    assert_eq!(lengths[8..], [[4; 18].as_slice(), &[1, 1, 4, 4]].concat());
}

#[test]
fn a_field_larger_than_most_of_the_table_is_not_indexed() {
    let large = "x".repeat(3072 - 32 - 6);
    assert_eq!(lengths("server", &[&large, &large])[1], 1);
    let larger = large + "x";
    let lengths = lengths("server", &[&larger, &larger]);
    assert_eq!(lengths[0], lengths[1]);
}

#[test]
fn the_peer_learns_of_table_sizes() {
    let mut encoder = Encoder::default();
    let mut begin = |sizes: &[u32]| {
        sizes.iter().for_each(|size| encoder.set_max_table_size(*size));
        let mut out = BytesMut::new();
        encoder.begin(&mut out);
        Vec::<u8>::from(out)
    };
    // Ours is 4,096 octets at most, and that is what it begins with.
    assert!(begin(&[65536]).is_empty());
    assert!(begin(&[4096]).is_empty());
    assert_eq!(begin(&[30]), [0x20 | 30]);
    assert!(begin(&[]).is_empty());
    assert_eq!(begin(&[10, 20]), [0x20 | 10, 0x20 | 20]);
    assert_eq!(begin(&[0, 20]), [0x20, 0x20 | 20]);
    assert_eq!(begin(&[65536]), [0x3f, 0xe1, 0x1f]);
    assert_eq!(begin(&[0]), [0x20]);
}

/// Numbers of entries repeat after 65,536.
#[test]
fn an_encoder_lives_long() {
    let (mut decoder, mut encoder) = (Decoder::default(), Encoder::default());
    for turn in 0..150_000u32 {
        let name = ["date", "server", "user-agent", "accept"][turn as usize % 4].to_owned();
        let fields = [(name.clone(), format!("{}", turn % 977).into_bytes(), false), (name, b"x".to_vec(), false)];
        let block = write(&mut encoder, &fields);
        let expected = fields.map(|(name, value, _)| judged(&(name.into_bytes(), value)));
        assert_eq!(decode(&mut decoder, &block).unwrap(), expected, "{turn}");
    }
    assert_eq!(encoder.sizes(), decoder.sizes());
}
