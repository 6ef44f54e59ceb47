//! Finds the frame headers and header blocks in a stream of bytes, in whatever pieces it comes (RFC 9113 section 4.1).

mod made;

pub(crate) use made::{depends_on_itself, goaway, join};

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

const ACK_OR_END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;
/// The deprecated priority in a HEADERS frame (RFC 9113 section 6.2), and all of a PRIORITY frame.
const PRIORITY_LEN: u8 = 5;
const HEAD_LEN: usize = 9;
/// The largest identifier of a stream; the bit above is none of it (RFC 9113 section 4.1).
const MAX_STREAM: u32 = 0x7fff_ffff;
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
    /// Octets of the connection ahead of it.
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    flags: u8,
    out_of_place: bool,
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

    /// Whether no CONTINUATION follows HEADERS or CONTINUATION.
    pub(crate) fn is_end_headers(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    fn is_padded(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & PADDED != 0
    }

    /// The field that says how much padding there is, and the padding.
    fn padding(self) -> u32 {
        if self.is_padded() { 1 + u32::from(self.peek[0]) } else { 0 }
    }

    fn priority(self) -> u8 {
        if self.kind == HEADERS && self.flags & PRIORITISED != 0 { PRIORITY_LEN } else { 0 }
    }

    /// Whether the frame carries nothing but padding.
    pub(crate) fn is_empty(self) -> bool {
        self.len <= self.padding()
    }

    /// More padding than the frame has room for (RFC 9113 sections 6.1 and 6.2).
    pub(crate) fn has_too_much_padding(self) -> bool {
        self.len < self.padding() + u32::from(self.priority())
    }

    /// A header block's frames follow each other with nothing in between (RFC 9113 section 6.10), and no peer of ours may
    /// push (section 8.4).
    pub(crate) fn is_out_of_place(self) -> bool {
        self.out_of_place
    }

    /// Whether a frame of fixed size has it; if not, that is an error of the connection (RFC 9113 sections 6.3 to 6.9;
    /// of the stream at least for PRIORITY).
    pub(crate) fn has_valid_size(self) -> bool {
        match self.kind {
            SETTINGS if self.is_ack() => self.len == 0,
            SETTINGS => self.len.is_multiple_of(6),
            PING => self.len == 8,
            RST_STREAM | WINDOW_UPDATE => self.len == 4,
            PRIORITY => self.len == u32::from(PRIORITY_LEN),
            GOAWAY => self.len >= 8,
            DATA | HEADERS => self.len >= u32::from(self.priority()) + u32::from(self.is_padded()),
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
    fn take_setting(&mut self, at: u8, octet: u8) {
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

/// Is told what passes.
pub(crate) trait Watcher {
    /// A frame, once.
    fn frame(&mut self, head: FrameHead);

    /// The next octets of a header block, without padding and priority.
    fn fragment(&mut self, _octets: &[u8]) {}

    /// The priority in a HEADERS frame makes its stream depend on itself.
    fn depends_on_itself(&mut self) {}

    /// A header block is over.
    fn block_ended(&mut self) {}
}

impl<F: FnMut(FrameHead)> Watcher for F {
    fn frame(&mut self, head: FrameHead) {
        self(head);
    }
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub(crate) struct FrameScanner {
    /// Octets seen.
    seen: u64,
    head: [u8; HEAD_LEN],
    have: u8,
    /// Payload still to come of the frame at hand.
    left: u32,
    /// A frame whose first payload bytes are still looked for.
    peeking: Option<(FrameHead, u8)>,
    block: InBlock,
    /// The stream of the header block that is open.
    block_stream: u32,
    /// Priority still to come in the HEADERS frame at hand, the stream it names, and the padding at its end.
    priority: u8,
    dependency: u32,
    padding: u32,
}

/// Where the last frame stands in a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InBlock {
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
            seen: 0,
            head: [0; HEAD_LEN],
            have: 0,
            left: if preface { PREFACE_LEN } else { 0 },
            peeking: None,
            block: InBlock::Outside,
            block_stream: 0,
            priority: 0,
            dependency: 0,
            padding: 0,
        }
    }

    /// Whether the last octet ended a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// Octets seen so far.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Where the frame began that may be a HEADERS frame and was not told of yet.
    pub(crate) fn open_head(&self) -> Option<u64> {
        match self.peeking {
            Some((head, _)) if head.kind == HEADERS => Some(head.at),
            _ if self.have > 0 => Some(self.seen - u64::from(self.have)),
            _ => None,
        }
    }

    /// How much of the frame at hand is still to come.
    pub(crate) fn left(&self) -> usize {
        self.left as usize
    }

    /// Whether a header block has begun and is not over.
    pub(crate) fn in_header_block(&self) -> bool {
        match self.block {
            InBlock::Outside => false,
            InBlock::Open => true,
            InBlock::Last => self.left > 0,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], watcher: &mut impl Watcher) {
        let end = self.seen + bytes.len() as u64;
        while !bytes.is_empty() {
            if self.peeking.is_some() {
                bytes = self.peek(bytes, watcher);
            } else if self.left > 0 {
                let (now, later) = bytes.split_at(bytes.len().min(self.left as usize));
                if self.block != InBlock::Outside {
                    self.fragment(now, watcher);
                }
                self.left -= now.len() as u32;
                bytes = later;
            } else if let (0, Some((head, later))) = (self.have, bytes.split_first_chunk()) {
                bytes = later;
                let head = self.begin(head, end - bytes.len() as u64);
                self.peek_or(head, 0, watcher);
            } else {
                let at = usize::from(self.have);
                let (now, later) = bytes.split_at(bytes.len().min(HEAD_LEN - at));
                if let Some(slot) = self.head.get_mut(at..at + now.len()) {
                    slot.copy_from_slice(now);
                }
                bytes = later;
                self.have += now.len() as u8;
                if usize::from(self.have) == HEAD_LEN {
                    self.have = 0;
                    let head = self.head;
                    let head = self.begin(&head, end - bytes.len() as u64);
                    self.peek_or(head, 0, watcher);
                }
            }
            if self.block == InBlock::Last && self.left == 0 && self.peeking.is_none() {
                self.block = InBlock::Outside;
                watcher.block_ended();
            }
        }
        self.seen = end;
    }

    /// Takes the next of the payload bytes that are looked for.
    fn peek<'a>(&mut self, bytes: &'a [u8], watcher: &mut impl Watcher) -> &'a [u8] {
        let (Some((&first, rest)), Some((mut head, at))) = (bytes.split_first(), self.peeking.take()) else {
            return bytes;
        };
        if head.kind == SETTINGS {
            head.take_setting(at, first);
        } else if let Some(slot) = head.peek.get_mut(usize::from(at)) {
            *slot = first;
        }
        self.left = self.left.saturating_sub(1);
        self.peek_or(head, at + 1, watcher);
        rest
    }

    /// The frame whose head ended `end` octets into the connection.
    fn begin(&mut self, head: &[u8; HEAD_LEN], end: u64) -> FrameHead {
        let at = end - HEAD_LEN as u64;
        let [a, b, c, kind, flags, id @ ..] = *head;
        let stream = u32::from_be_bytes(id) & MAX_STREAM;
        let out_of_place = match self.block {
            InBlock::Open => kind != CONTINUATION || stream != self.block_stream,
            _ => matches!(kind, CONTINUATION | PUSH_PROMISE),
        };
        let len = u32::from_be_bytes([0, a, b, c]);
        self.left = len;
        self.block = match kind {
            HEADERS | CONTINUATION if flags & END_HEADERS != 0 => InBlock::Last,
            HEADERS | CONTINUATION => InBlock::Open,
            _ => InBlock::Outside,
        };
        (self.block_stream, self.priority, self.padding) = (stream, 0, 0);
        FrameHead { at, len, kind, stream, flags, out_of_place, peek: [0; 4], oversized_window: false }
    }

    /// Hands on what of a HEADERS or CONTINUATION frame's payload is neither priority nor padding.
    fn fragment(&mut self, payload: &[u8], watcher: &mut impl Watcher) {
        let (priority, rest) = payload.split_at(payload.len().min(usize::from(self.priority)));
        for &octet in priority {
            self.priority -= 1;
            // The weight comes last.
            if self.priority > 0 {
                self.dependency = self.dependency << 8 | u32::from(octet);
            } else if self.dependency & MAX_STREAM == self.block_stream {
                watcher.depends_on_itself();
            }
        }
        let left = (self.left as usize - priority.len()).saturating_sub(self.padding as usize);
        let payload = rest;
        watcher.fragment(payload.get(..left).unwrap_or(payload));
    }

    fn peek_or(&mut self, head: FrameHead, at: u8, watcher: &mut impl Watcher) {
        if usize::from(at) < head.wanted() {
            self.peeking = Some((head, at));
        } else {
            self.priority = head.priority();
            self.padding = head.padding().saturating_sub(1);
            watcher.frame(head);
        }
    }
}

#[cfg(test)]
mod tests;
