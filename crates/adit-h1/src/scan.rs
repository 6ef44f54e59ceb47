//! Where a head ends, before anything in it is believed.
//!
//! RFC 9112 section 2.2 lets a recipient take a lone LF for a line end; peers that disagree about it can be made to see
//! different messages, so here every line ends in CRLF and no CR stands elsewhere.

/// What a look at the buffer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The head is complete.
    Complete(Extent),
    /// More bytes are needed.
    Partial,
    /// A CR or an LF on its own.
    BadLine,
}

/// A complete head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Its bytes, the empty line at its end included.
    pub(crate) length: usize,
    /// Its lines, without that one.
    pub(crate) lines: usize,
}

/// Looks for the end of a head, over calls: bytes already seen are not looked at again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scanner {
    /// Bytes seen, up to a line end.
    seen: usize,
    /// Lines in them.
    lines: usize,
}

impl Scanner {
    /// `buf` starts with the head, and only grows between calls that gave [`Scan::Partial`].
    pub(crate) fn scan(&mut self, buf: &[u8]) -> Scan {
        let mut at = self.seen;
        let (words, rest) = buf.get(at..).unwrap_or_default().as_chunks();
        for word in words {
            let word = u64::from_le_bytes(*word);
            let mut marked = below_0e(word) & each(0x80);
            while marked != 0 {
                let bit = marked.trailing_zeros() & !7;
                if let Some(found) = self.look((word >> bit) as u8, at + bit as usize / 8, buf) {
                    return found;
                }
                marked &= marked - 1;
            }
            at += 8;
        }
        rest.iter().zip(at..).find_map(|(byte, at)| self.look(*byte, at, buf)).unwrap_or(Scan::Partial)
    }

    /// Looks at the byte that stands there.
    #[inline]
    fn look(&mut self, byte: u8, at: usize, buf: &[u8]) -> Option<Scan> {
        match (byte, buf.get(at + 1)) {
            // That of a line end.
            (b'\n', _) if at + 1 == self.seen => None,
            (b'\r', Some(b'\n')) if at == self.seen => {
                Some(Scan::Complete(Extent { length: at + 2, lines: self.lines }))
            }
            (b'\r', Some(b'\n')) => {
                (self.seen, self.lines) = (at + 2, self.lines + 1);
                None
            }
            (b'\n', _) | (b'\r', Some(_)) => Some(Scan::BadLine),
            _ => None,
        }
    }
}

/// Where the next CR or LF stands.
pub(crate) fn line_break(buf: &[u8], from: usize) -> Option<usize> {
    position(buf, from, below_0e, |byte| matches!(byte, b'\r' | b'\n'))
}

/// Where this byte stands next.
pub(crate) fn find(buf: &[u8], from: usize, wanted: u8) -> Option<usize> {
    let zero_where_equal = |word: u64| {
        let word = word ^ each(wanted);
        word.wrapping_sub(each(1)) & !word
    };
    position(buf, from, zero_where_equal, |byte| byte == wanted)
}

/// Where the next byte stands that is wanted, eight at a time: lines are short, and a search with a set-up of its own takes
/// longer. `marks` sets the highest bit of the first byte of a word that may be one, and of none in front of it.
#[inline]
fn position(buf: &[u8], mut at: usize, marks: impl Fn(u64) -> u64, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    while let Some(word) = buf.get(at..).and_then(<[u8]>::first_chunk) {
        let marked = marks(u64::from_le_bytes(*word)) & each(0x80);
        if marked == 0 {
            at += word.len();
            continue;
        }
        at += marked.trailing_zeros() as usize / 8;
        if buf.get(at).is_some_and(|byte| is_wanted(*byte)) {
            return Some(at);
        }
        at += 1;
    }
    buf.get(at..)?.iter().position(|byte| is_wanted(*byte)).map(|place| at + place)
}

/// Sets the highest bit of each byte that is a CR, an LF or another below 0x0e, and perhaps of some behind the first of them.
const fn below_0e(word: u64) -> u64 {
    word.wrapping_sub(each(0x0e)) & !word
}

/// This byte, eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
