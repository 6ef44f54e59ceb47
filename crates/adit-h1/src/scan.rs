//! Where a head ends, before anything in it is believed.
//!
//! RFC 9112 section 2.2 lets a recipient take a lone LF for a line end; peers that disagree about it can be made to see
//! different messages, so here every line ends in CRLF and no CR stands elsewhere.

/// What a look at the buffer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The head is complete: this many bytes, its empty line included.
    Complete(usize),
    /// More bytes are needed.
    Partial,
    /// A CR or an LF on its own.
    BadLine,
}

/// Looks for the end of a head, over calls: bytes already seen are not looked at again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scanner {
    /// Bytes seen, up to a line end.
    seen: usize,
}

impl Scanner {
    /// `buf` starts with the head, and only grows between calls that gave [`Scan::Partial`].
    pub(crate) fn scan(&mut self, buf: &[u8]) -> Scan {
        let mut line = self.seen;
        while let Some(at) = line_break(buf, line) {
            match (buf.get(at), buf.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) if at == line => return Scan::Complete(at + 2),
                (Some(b'\r'), Some(b'\n')) => line = at + 2,
                (Some(b'\r'), None) => break,
                _ => return Scan::BadLine,
            }
        }
        self.seen = line;
        Scan::Partial
    }
}

/// Where the next CR or LF stands. Lines are short: blocks of this size beat a search with a set-up of its own.
fn line_break(buf: &[u8], from: usize) -> Option<usize> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let rest = buf.get(from..)?;
    let (blocks, _) = rest.as_chunks::<16>();
    // Without an early end inside a block, so that it is looked at in one piece.
    let clean =
        blocks.iter().take_while(|block| !block.iter().fold(false, |any, byte| any | is_break(byte))).count() * 16;
    let at = rest.get(clean..)?.iter().position(is_break)?;
    Some(from + clean + at)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
