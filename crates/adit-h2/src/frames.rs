//! Finds the frame headers in a stream of bytes, in whatever pieces it comes (RFC 9113 section 4.1).

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

const ACK_OR_END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const HEAD_LEN: usize = 9;
/// SETTINGS frames up to this size are looked into, in octets: forty entries.
const MAX_SETTINGS: u32 = 240;
/// An entry of SETTINGS: an identifier and a value.
const ENTRY_LEN: u8 = 6;
const SETTINGS_INITIAL_WINDOW_SIZE: u8 = 0x4;
/// The client's preface ahead of the first frame (RFC 9113 section 3.4).
const PREFACE_LEN: u32 = 24;

/// A frame's header, and the first bytes of its payload where they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    flags: u8,
    peek: [u8; 4],
    oversized_window: bool,
}

impl FrameHead {
    /// ACK of SETTINGS and PING.
    pub(crate) fn is_ack(self) -> bool {
        self.flags & ACK_OR_END_STREAM != 0
    }

    /// END_STREAM of DATA and HEADERS.
    pub(crate) fn is_end_stream(self) -> bool {
        self.flags & ACK_OR_END_STREAM != 0
    }

    fn is_padded(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & PADDED != 0
    }

    /// Whether the frame carries nothing but padding.
    pub(crate) fn is_empty(self) -> bool {
        let padding = if self.is_padded() { 1 + u32::from(self.peek[0]) } else { 0 };
        self.len <= padding
    }

    /// Whether a frame of fixed size has it; if not, that is an error of the connection (RFC 9113 sections 6.3 to 6.9;
    /// of the stream at least for PRIORITY).
    pub(crate) fn has_valid_size(self) -> bool {
        match self.kind {
            SETTINGS if self.is_ack() => self.len == 0,
            SETTINGS => self.len.is_multiple_of(6),
            PING => self.len == 8,
            RST_STREAM | WINDOW_UPDATE => self.len == 4,
            PRIORITY => self.len == 5,
            GOAWAY => self.len >= 8,
            _ => true,
        }
    }

    /// A SETTINGS whose SETTINGS_INITIAL_WINDOW_SIZE is beyond 2^31-1 (RFC 9113 section 6.5.2).
    pub(crate) fn has_oversized_window(self) -> bool {
        self.kind == SETTINGS && self.oversized_window
    }

    /// The code of an RST_STREAM.
    pub(crate) fn error_code(self) -> u32 {
        u32::from_be_bytes(self.peek)
    }

    /// Takes octet `at` of a SETTINGS: the identifier is kept until the value's first octet comes, which holds its top bit.
    fn settle(&mut self, at: u8, octet: u8) {
        let [high, low, ..] = &mut self.peek;
        match at % ENTRY_LEN {
            0 => *high = octet,
            1 => *low = octet,
            2 => {
                let window = *high == 0 && *low == SETTINGS_INITIAL_WINDOW_SIZE;
                self.oversized_window |= window && octet & 0x80 != 0;
            }
            _ => {}
        }
    }

    fn wanted(self) -> usize {
        let wanted = match self.kind {
            RST_STREAM => 4,
            // All of it, entry by entry; longer ones than anybody sends are left to the h2 crate.
            SETTINGS if self.len <= MAX_SETTINGS => self.len as usize,
            _ if self.is_padded() => 1,
            _ => 0,
        };
        wanted.min(self.len as usize)
    }
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub(crate) struct FrameScanner {
    head: [u8; HEAD_LEN],
    have: u8,
    /// Payload still to come of the frame at hand.
    left: u32,
    /// A frame whose first payload bytes are still looked for.
    peeking: Option<(FrameHead, u8)>,
    block: Block,
}

/// Where the last frame stands in a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Outside,
    /// CONTINUATION must follow.
    Open,
    /// It is the last one's frame.
    Last,
}

impl FrameScanner {
    /// `preface`: the client's preface comes first.
    pub(crate) fn new(preface: bool) -> Self {
        Self {
            head: [0; HEAD_LEN],
            have: 0,
            left: if preface { PREFACE_LEN } else { 0 },
            peeking: None,
            block: Block::Outside,
        }
    }

    /// How much of the frame at hand is still to come.
    pub(crate) fn left(&self) -> usize {
        self.left as usize
    }

    /// Whether a header block has begun and is not over.
    pub(crate) fn in_header_block(&self) -> bool {
        match self.block {
            Block::Outside => false,
            Block::Open => true,
            Block::Last => self.left > 0,
        }
    }

    /// Takes the next bytes and calls `found` once for each frame.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(FrameHead)) {
        while let Some((&first, rest)) = bytes.split_first() {
            if let Some((mut head, at)) = self.peeking.take() {
                if head.kind == SETTINGS {
                    head.settle(at, first);
                } else if let Some(slot) = head.peek.get_mut(usize::from(at)) {
                    *slot = first;
                }
                self.left = self.left.saturating_sub(1);
                bytes = rest;
                self.peek_or(head, at + 1, &mut found);
            } else if self.left > 0 {
                let skip = bytes.len().min(self.left as usize);
                self.left -= skip as u32;
                bytes = bytes.get(skip..).unwrap_or_default();
            } else {
                let want = HEAD_LEN - usize::from(self.have);
                let take = want.min(bytes.len());
                let (now, later) = bytes.split_at(take);
                if let Some(slot) = self.head.get_mut(usize::from(self.have)..usize::from(self.have) + take) {
                    slot.copy_from_slice(now);
                }
                bytes = later;
                self.have += take as u8;
                if usize::from(self.have) == HEAD_LEN {
                    self.have = 0;
                    let [a, b, c, kind, flags, ..] = self.head;
                    let head = FrameHead {
                        len: u32::from_be_bytes([0, a, b, c]),
                        kind,
                        flags,
                        peek: [0; 4],
                        oversized_window: false,
                    };
                    self.left = head.len;
                    self.block = match kind {
                        HEADERS | CONTINUATION if flags & END_HEADERS != 0 => Block::Last,
                        HEADERS | CONTINUATION => Block::Open,
                        _ => Block::Outside,
                    };
                    self.peek_or(head, 0, &mut found);
                }
            }
        }
    }

    fn peek_or(&mut self, head: FrameHead, at: u8, found: &mut impl FnMut(FrameHead)) {
        if usize::from(at) < head.wanted() {
            self.peeking = Some((head, at));
        } else {
            found(head);
        }
    }
}

#[cfg(test)]
mod tests {
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
                scanner.feed(piece, |head| match head.kind {
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
            scanner.feed(&[*byte], |_| ());
        }
        assert!(!scanner.in_header_block());
    }
}
