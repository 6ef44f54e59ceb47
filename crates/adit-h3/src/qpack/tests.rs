#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decoded(block: &[u8], max: usize) -> Result<Fields, Error<()>> {
    let mut fields = Vec::new();
    decode(block, max, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
        Ok(())
    })?;
    Ok(fields)
}

fn encoded(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    start(&mut out);
    for (name, value) in fields {
        encode(name, value, &mut out);
    }
    out
}

fn size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

#[test]
fn the_example_of_the_rfc() {
    // RFC 9204, appendix B.1.
    let block = b"\0\0\x51\x0b/index.html";
    assert_eq!(decoded(block, 100).unwrap(), [(b":path".to_vec(), b"/index.html".to_vec())]);
}

#[test]
fn static_entries_take_a_byte_or_two() {
    for (name, value) in STATIC {
        let fields = vec![(name.into(), value.into())];
        let block = encoded(&fields);
        assert!(block.len() <= 4, "{name}: {value}");
        assert_eq!(decoded(&block, 200).unwrap(), fields);
    }
    assert_eq!(encoded(&vec![(b":method".to_vec(), b"GET".to_vec())]), [0, 0, 0xd1]);
}

#[test]
fn the_limit_is_exact() {
    let fields = vec![(b"a".to_vec(), vec![b'0'; 100]), (b":path".to_vec(), b"/".to_vec())];
    let block = encoded(&fields);
    assert_eq!(decoded(&block, size(&fields)).unwrap(), fields);
    for less in 1..size(&fields) {
        assert_eq!(decoded(&block, size(&fields) - less), Err(Error::TooLarge), "{less}");
    }
}

#[test]
fn broken_blocks_are_errors() {
    for (block, why) in [
        (&b""[..], "no prefix"),
        (b"\0", "half a prefix"),
        (b"\x01\0", "a required insert count"),
        (b"\0\0\x80", "a dynamic entry"),
        (b"\0\0\x10", "a post-base entry"),
        (b"\0\0\0\0", "a post-base name"),
        (b"\0\0\x40\0", "a dynamic name"),
        (b"\0\0\xff\x24", "static entry 99"),
        (b"\0\0\x51\x0b/index", "a short string"),
        (b"\0\0\x51", "no string"),
        (b"\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "an endless integer"),
        (b"\0\0\x51\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a length of 2^63"),
        (b"\0\0\x51\x81\xff", "padding of a whole byte"),
        (b"\0\0\x21", "a name that is not there"),
    ] {
        assert_eq!(decoded(block, 1000), Err(Error::Block), "{why}");
    }
}

/// 24 576 static references in 24.6 KB: more than 800 KB of fields.
#[test]
fn a_bomb_of_references_stops_at_the_limit() {
    let mut block = vec![0, 0];
    block.extend_from_slice(&[0xd1; 24_576]);
    let mut seen = 0;
    let read = decode(&block, 60 << 10, |_, _| {
        seen += 1;
        Ok::<(), ()>(())
    });
    assert_eq!((read, seen < 2000), (Err(Error::TooLarge), true));
}

proptest! {
    #[test]
    fn anything_is_survived(block in proptest::collection::vec(any::<u8>(), 0..500), max in 0usize..3000) {
        if let Ok(fields) = decoded(&block, max) {
            prop_assert!(size(&fields) <= max);
        }
    }

    #[test]
    fn fields_go_and_come(fields in proptest::collection::vec(
        (proptest::collection::vec(any::<u8>(), 1..40), proptest::collection::vec(any::<u8>(), 0..200)), 0..20)) {
        prop_assert_eq!(decoded(&encoded(&fields), size(&fields)).unwrap(), fields);
    }
}
