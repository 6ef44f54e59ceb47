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
        let (mut line, mut lines) = (self.seen, self.lines);
        while let Some(at) = line_break(buf, line) {
            match (buf.get(at), buf.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) if at == line => {
                    return Scan::Complete(Extent { length: at + 2, lines });
                }
                (Some(b'\r'), Some(b'\n')) => (line, lines) = (at + 2, lines + 1),
                (Some(b'\r'), None) => break,
                _ => return Scan::BadLine,
            }
        }
        (self.seen, self.lines) = (line, lines);
        Scan::Partial
    }
}

/// Where the next CR or LF stands.
pub(crate) fn line_break(buf: &[u8], from: usize) -> Option<usize> {
    // Whatever is below 0x0e, a tab too, is then looked at.
    position(buf, from, |word| word.wrapping_sub(each(0x0e)) & !word, |byte| matches!(byte, b'\r' | b'\n'))
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
/// longer. `marks` sets the highest bit of each byte that may be one, and of those that are in any case.
fn position(buf: &[u8], from: usize, marks: impl Fn(u64) -> u64, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = buf.get(from..)?.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let mut marked = marks(u64::from_le_bytes(*word)) & each(0x80);
        while marked != 0 {
            let at = marked.trailing_zeros() as usize / 8;
            if is_wanted(*word.get(at)?) {
                return Some(from + n * 8 + at);
            }
            marked &= marked - 1;
        }
    }
    let at = rest.iter().position(|byte| is_wanted(*byte))?;
    Some(from + words.len() * 8 + at)
}

/// This byte, eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
