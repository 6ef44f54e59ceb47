#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn decode(pieces: &[&[u8]]) -> Result<Vec<Bytes>, CapsuleError> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(datagram) = decoder.next(&mut input)? {
            found.push(datagram);
        }
        assert!(input.is_empty());
    }
    decoder.end()?;
    Ok(found)
}

fn capsule(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, kind);
    put_varint(&mut out, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

#[test]
fn the_examples_of_rfc_9000_appendix_a_1() {
    for (bytes, value) in [
        (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
        (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
        (&[0x7b, 0xbd], 15_293),
        (&[0x25], 37),
    ] {
        assert_eq!(varint(bytes), Some((value, bytes.len())));
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, bytes);
        assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
    }
    assert_eq!(varint(&[0x40, 0x25]), Some((37, 2)));
}

#[test]
fn datagrams_come_out_at_every_cut_and_the_rest_is_skipped() {
    let mut stream = capsule(0x17, b"unknown");
    let mut datagram = BytesMut::new();
    put_udp(&mut datagram, b"payload");
    stream.extend_from_slice(&datagram);
    stream.extend(capsule(0x3fff_ffff, &[7; 300]));
    put_udp(&mut datagram, b"");
    stream.extend_from_slice(&datagram);
    for cut in 0..=stream.len() {
        let (a, b) = stream.split_at(cut);
        let found = decode(&[a, b]).unwrap();
        assert_eq!(found, ["\0payload", "\0payload", "\0"]);
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(decode(&bytes).unwrap().len(), 3);
}

#[test]
fn a_whole_datagram_is_not_copied() {
    let mut stream = BytesMut::new();
    put_udp(&mut stream, b"payload");
    let mut stream = stream.freeze();
    let at = stream.as_ptr() as usize;
    let datagram = Decoder::default().next(&mut stream).unwrap().unwrap();
    assert_eq!(datagram.as_ptr() as usize, at + 2);
}

#[test]
fn lengths_are_bounded() {
    let huge = |kind: u8| {
        let mut stream = vec![kind];
        put_varint(&mut stream, (1 << 62) - 1);
        stream
    };
    assert_eq!(decode(&[&huge(0)]), Err(CapsuleError::TooLong));
    // An unknown one of any length is skipped for as long as it lasts.
    assert_eq!(decode(&[&huge(1), &[0; 5000]]), Err(CapsuleError::Truncated));
    assert_eq!(decode(&[&capsule(0, &vec![0; MAX_DATAGRAM])]).unwrap().len(), 1);
    assert_eq!(decode(&[&capsule(0, &vec![0; MAX_DATAGRAM + 1])]), Err(CapsuleError::TooLong));
}

#[test]
fn a_stream_ends_between_capsules_only() {
    let stream = capsule(0, b"\0abc");
    for cut in 1..stream.len() {
        assert_eq!(decode(&[&stream[..cut]]), Err(CapsuleError::Truncated));
    }
    assert_eq!(decode(&[]), Ok(vec![]));
}

#[test]
fn only_context_0_carries_udp() {
    let of = |bytes: &'static [u8]| udp_payload(Bytes::from_static(bytes));
    assert_eq!(of(b"\0abc"), Ok(Some("abc".into())));
    assert_eq!(of(b"\0"), Ok(Some("".into())));
    // Not the shortest form, but 0 all the same.
    assert_eq!(of(b"\x40\0abc"), Ok(Some("abc".into())));
    assert_eq!(of(b"\x02abc"), Ok(None));
    assert_eq!(of(b""), Err(CapsuleError::NoContext));
    assert_eq!(of(b"\x40"), Err(CapsuleError::NoContext));
    let long = |size: usize| udp_payload(Bytes::from(vec![0; 1 + size]));
    assert!(long(MAX_UDP_PAYLOAD).unwrap().is_some());
    assert_eq!(long(MAX_UDP_PAYLOAD + 1), Err(CapsuleError::TooLong));
}

proptest! {
    #[test]
    fn varints_come_back(value in 0u64..1 << 62) {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        prop_assert_eq!(varint(&out), Some((value, out.len())));
    }

    #[test]
    fn any_bytes_cut_anywhere_mean_the_same(
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..9, any::<u8>()], 0..300),
        size in 1usize..40,
    ) {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(decode(&pieces), decode(&[&bytes]));
    }

    #[test]
    fn udp_comes_back(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..20), size in 1usize..99) {
        let mut stream = BytesMut::new();
        for payload in &payloads {
            put_udp(&mut stream, payload);
        }
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        let found = decode(&pieces).unwrap().into_iter().map(|one| udp_payload(one).unwrap().unwrap().to_vec());
        prop_assert_eq!(found.collect::<Vec<_>>(), payloads);
    }
}
