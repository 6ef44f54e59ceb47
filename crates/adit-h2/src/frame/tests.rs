#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn head(len: u32, kind: u8, flags: u8, stream: u32) -> Head {
    Head::read(&Head::octets(len as usize, kind, flags, stream)).unwrap()
}

#[test]
fn frames_have_their_sizes_and_places() {
    const ANY: u32 = 1 << 20;
    let (size, place) = (Err(Fault(code::FRAME_SIZE_ERROR)), Err(Fault(code::PROTOCOL_ERROR)));
    let cases = [
        (DATA, 0, 0, 1, Ok(())),
        (DATA, PADDED, 0, 1, size),
        (DATA, 0, 0, 0, place),
        (HEADERS, PADDED | PRIORITISED, 5, 1, size),
        (HEADERS, PADDED | PRIORITISED, 6, 1, Ok(())),
        (HEADERS, 0, 0, 0, place),
        (PRIORITY, 0, 5, 1, Ok(())),
        (PRIORITY, 0, 4, 1, size),
        (PRIORITY, 0, 5, 0, place),
        (RST_STREAM, 0, 4, 1, Ok(())),
        (RST_STREAM, 0, 3, 1, size),
        (RST_STREAM, 0, 4, 0, place),
        (SETTINGS, 0, 12, 0, Ok(())),
        (SETTINGS, 0, 5, 0, size),
        (SETTINGS, 0, 6, 1, place),
        (SETTINGS, ACK, 0, 0, Ok(())),
        (SETTINGS, ACK, 6, 0, size),
        (PUSH_PROMISE, 0, 4, 1, place),
        (PING, 0, 8, 0, Ok(())),
        (PING, 0, 7, 0, size),
        (PING, 0, 8, 1, place),
        (GOAWAY, 0, 8, 0, Ok(())),
        (GOAWAY, 0, 7, 0, size),
        (GOAWAY, 0, 8, 1, place),
        (WINDOW_UPDATE, 0, 4, 0, Ok(())),
        (WINDOW_UPDATE, 0, 4, 1, Ok(())),
        (WINDOW_UPDATE, 0, 5, 1, size),
        (CONTINUATION, 0, 0, 1, Ok(())),
        (CONTINUATION, 0, 0, 0, place),
        (0x16, 0, 9, 0, Ok(())),
        (0x16, 0, 9, 1, Ok(())),
    ];
    for (kind, flags, len, stream, expected) in cases {
        assert_eq!(head(len, kind, flags, stream).check(ANY), expected, "type {kind}, {len} octets on {stream}");
    }
    assert_eq!(head(101, DATA, 0, 1).check(100), size);
    assert_eq!(head(101, 0x16, 0, 1).check(100), size);
}

#[test]
fn fragments_are_without_padding_and_priority() {
    let of =
        |flags, payload: &[u8]| head(payload.len() as u32, HEADERS, flags, 3).fragment(payload).map(<[u8]>::to_vec);
    assert_eq!(of(0, b"ab"), Ok(b"ab".to_vec()));
    assert_eq!(of(PADDED, b"\x02ab\0\0"), Ok(b"ab".to_vec()));
    assert_eq!(of(PADDED | PRIORITISED, b"\x01\0\0\0\x01\x10ab\0"), Ok(b"ab".to_vec()));
    assert_eq!(of(PADDED, b"\x05ab\0\0"), Err(Fault(code::PROTOCOL_ERROR)));
    assert_eq!(of(PRIORITISED, b"\x80\0\0\x03\x10ab"), Err(Fault(code::PROTOCOL_ERROR)), "on itself");
}

#[test]
fn of_settings_the_last_value_counts() {
    let mut out = BytesMut::new();
    settings(&[(1, 7), (3, 100), (4, 5), (4, 6), (5, 16_384), (8, 1), (99, 1)], &mut out);
    let read = Settings::read(&out[HEAD_LEN..]).unwrap();
    assert_eq!((read.header_table_size, read.max_concurrent_streams), (Some(7), Some(100)));
    assert_eq!((read.initial_window_size, read.max_frame_size), (Some(6), Some(16_384)));
    assert_eq!(read.enable_connect_protocol, Some(true));
    for (entry, code) in [((2, 2), 1), ((4, 1 << 31), 3), ((5, 16_383), 1), ((5, 1 << 24), 1), ((8, 2), 1)] {
        out.clear();
        settings(&[entry], &mut out);
        assert_eq!(Settings::read(&out[HEAD_LEN..]), Err(Fault(code)), "{entry:?}");
    }
}

#[test]
fn long_blocks_are_cut() {
    for (len, pieces) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (35, 4)] {
        let mut out = BytesMut::from(&b"ahead"[..]);
        out.extend_from_slice(&[0; HEAD_LEN]);
        out.extend((0..len).map(|octet: u8| octet));
        frame_block(5, 7, END_STREAM, 10, &mut out);
        let mut rest = &out[5..];
        let (mut seen, mut block) = (0, Vec::new());
        while let Some(head) = Head::read(rest) {
            let (payload, behind) = rest[HEAD_LEN..].split_at(head.len as usize);
            assert_eq!((head.kind, head.stream), (if seen == 0 { HEADERS } else { CONTINUATION }, 7));
            assert_eq!(head.ends_stream(), seen == 0);
            assert_eq!(head.ends_headers(), behind.is_empty());
            assert!(head.len <= 10);
            block.extend_from_slice(payload);
            (rest, seen) = (behind, seen + 1);
        }
        assert_eq!((seen, block.len()), (pieces, len as usize));
    }
}

proptest! {
    #[test]
    fn heads_are_read_as_they_were_written(len in 0usize..1 << 24, kind: u8, flags: u8, stream in 0u32..1 << 31) {
        let octets = Head::octets(len, kind, flags, stream);
        let head = Head::read(&octets).unwrap();
        prop_assert_eq!((head.len as usize, head.kind, head.flags, head.stream), (len, kind, flags, stream));
        prop_assert!(Head::read(&octets[..8]).is_none());
    }

    #[test]
    fn fragments_of_anything(octets: Vec<u8>, flags: u8, stream in 1u32..1 << 31) {
        let head = head(octets.len() as u32, HEADERS, flags, stream);
        if head.check(1 << 20).is_ok() && let Ok(fragment) = head.fragment(&octets) {
            prop_assert!(fragment.len() <= octets.len());
        }
    }

    #[test]
    fn settings_of_anything(octets: Vec<u8>) {
        let _ = Settings::read(&octets);
    }
}
