#![allow(clippy::unwrap_used)]
use super::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags, 0, 0, 0, 1]);
    out.extend(payload);
    out
}

#[test]
fn finds_the_same_frames_however_the_bytes_are_cut() {
    let mut bytes = vec![b'P'; PREFACE_LEN as usize];
    bytes.extend(frame(SETTINGS, 0, &[0; 12]));
    bytes.extend(frame(DATA, PADDED, &[3, 0, 0, 0]));
    bytes.extend(frame(DATA, PADDED, &[2, 7, 0, 0]));
    bytes.extend(frame(DATA, 0, &[]));
    bytes.extend(frame(RST_STREAM, 0, &[0, 0, 1, 8]));
    bytes.extend(frame(PING, 1, &[9; 8]));
    bytes.extend(frame(SETTINGS, 0, &[0, 3, 0xff, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]));
    bytes.extend(frame(SETTINGS, 0, &[0, 1, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 0]));
    for step in 1..=bytes.len() {
        let mut scanner = FrameScanner::new(true);
        let (mut seen, mut oversized) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            scanner.feed(piece, &mut |head: FrameHead| match head.kind {
                SETTINGS => oversized.push(head.has_oversized_window()),
                _ => seen.push((head.kind, head.is_empty(), head.error_code(), head.is_ack())),
            });
        }
        assert_eq!(
            seen,
            [
                (DATA, true, 3 << 24, false),
                (DATA, false, 2 << 24, false),
                (DATA, true, 0, false),
                (RST_STREAM, false, 0x108, false),
                (PING, false, 0, true),
            ],
            "in steps of {step}"
        );
        assert!(!scanner.in_header_block());
        assert_eq!(oversized, [false, false, true], "in steps of {step}");
        assert_eq!(scanner.left(), 0);
    }
}

#[test]
fn a_header_block_is_open_until_its_last_byte() {
    let mut scanner = FrameScanner::new(false);
    let bytes = [
        frame(HEADERS, PADDED, &[1, 0x82, 0]),
        frame(CONTINUATION, 0, &[0x84]),
        frame(CONTINUATION, END_HEADERS, &[0x86, 0x87]),
        frame(DATA, 0, &[1]),
        frame(HEADERS, END_HEADERS, &[]),
    ]
    .concat();
    // Behind the first frame's head, up to the block's last byte.
    let open = HEAD_LEN..HEAD_LEN + 3 + HEAD_LEN + 1 + HEAD_LEN + 2;
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(scanner.in_header_block(), open.contains(&at), "before byte {at}");
        scanner.feed(&[*byte], &mut |_| ());
    }
    assert!(!scanner.in_header_block());
}
