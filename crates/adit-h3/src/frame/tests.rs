#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header(kind, payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

/// What comes of `wire` in pieces of `size`; DATA joined.
fn cut(role: Role, wire: &[u8], size: usize) -> Result<(Vec<Frame>, bool), FrameError> {
    let mut decoder = FrameDecoder::new(role, 1024);
    let mut frames: Vec<Frame> = Vec::new();
    for piece in wire.chunks(size.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(frame) = decoder.next(&mut input)? {
            match (frames.last_mut(), frame) {
                (Some(Frame::Data(last)), Frame::Data(more)) => *last = [&last[..], &more[..]].concat().into(),
                (_, frame) => frames.push(frame),
            }
        }
        assert!(input.is_empty());
    }
    Ok((frames, decoder.at_boundary()))
}

#[test]
fn frames_come_whole_however_they_are_cut() {
    let wire = [
        frame(0x21, b"grease"),
        frame(HEADERS, b"block"),
        frame(DATA, b""),
        frame(DATA, &[7; 300]),
        frame(0xf0700, &[0; 70]),
        frame(HEADERS, b""),
    ]
    .concat();
    let expected = vec![
        Frame::Block(HEADERS, "block".into()),
        Frame::Data(vec![7; 300].into()),
        Frame::Block(HEADERS, Bytes::new()),
    ];
    for size in 1..=wire.len() {
        assert_eq!(cut(Role::Request, &wire, size), Ok((expected.clone(), true)), "in pieces of {size}");
    }
    for end in 1..wire.len() {
        let (frames, _) = cut(Role::Request, &wire[..end], 1000).unwrap();
        assert!(frames.len() <= expected.len());
    }
    assert!(!cut(Role::Request, &wire[..3], 1000).unwrap().1);
}

#[test]
fn data_is_not_copied() {
    let wire = Bytes::from(frame(DATA, &[7; 300]));
    let mut input = wire.clone();
    let Some(Frame::Data(data)) = FrameDecoder::new(Role::Request, 0).next(&mut input).unwrap() else { panic!() };
    assert_eq!(data.as_ptr(), wire[3..].as_ptr());
}

#[test]
fn frames_have_their_places() {
    for kind in [CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID, 0x2, 0x6, 0x8, 0x9] {
        assert_eq!(cut(Role::Request, &frame(kind, b""), 9), Err(FrameError::Unexpected(kind)));
    }
    for kind in [DATA, HEADERS, PUSH_PROMISE, 0x2, 0x6, 0x8, 0x9] {
        assert_eq!(cut(Role::Control, &frame(kind, b""), 9), Err(FrameError::Unexpected(kind)));
    }
    let wire = [frame(SETTINGS, b""), frame(GOAWAY, &[0]), frame(0x40, b"x")].concat();
    assert_eq!(cut(Role::Control, &wire, 99).unwrap().0.len(), 2);
}

#[test]
fn a_long_block_is_refused_before_it_comes() {
    for (role, kind) in [(Role::Request, HEADERS), (Role::Control, SETTINGS)] {
        let mut wire = Vec::new();
        header(kind, varint::MAX, &mut wire);
        assert_eq!(cut(role, &wire, 99), Err(FrameError::TooLarge(kind)));
    }
}

#[test]
fn what_means_nothing_is_bounded() {
    let many: Vec<u8> = frame(0x21, b"").repeat(1001);
    assert_eq!(cut(Role::Request, &many, 999), Err(FrameError::Flood));
    assert_eq!(cut(Role::Request, &frame(DATA, b"").repeat(1001), 999), Err(FrameError::Flood));
    let mut long = Vec::new();
    header(0x21, (1 << 20) + 1, &mut long);
    assert_eq!(cut(Role::Request, &long, 999), Err(FrameError::Flood));
    let mixed = [frame(0x21, b"").repeat(900), frame(DATA, b"x")].concat().repeat(3);
    assert!(cut(Role::Request, &mixed, 999).is_ok());
}

proptest! {
    #[test]
    fn anything_is_survived(wire in proptest::collection::vec(any::<u8>(), 0..2000), size in 1usize..50, control: bool) {
        let role = if control { Role::Control } else { Role::Request };
        prop_assert_eq!(cut(role, &wire, size), cut(role, &wire, 5000));
    }
}
