//! Where a head ends, before anything in it is believed.
//!
//! RFC 9112 section 2.2 lets a recipient take a lone LF for a line end; peers that disagree about it can be made to see
//! different messages, so here every line ends in CRLF and no CR stands elsewhere.

use memchr::memchr2_iter;

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
        let mut cr = None;
        for at in memchr2_iter(b'\r', b'\n', buf.get(line..).unwrap_or_default()) {
            let at = at + self.seen;
            if buf.get(at) == Some(&b'\r') {
                if cr.is_some() {
                    return Scan::BadLine;
                }
                cr = Some(at);
                continue;
            }
            if cr.take().is_none_or(|cr| cr + 1 != at) {
                return Scan::BadLine;
            }
            if at == line + 1 {
                return Scan::Complete(at + 1);
            }
            line = at + 1;
        }
        self.seen = line;
        match cr {
            Some(cr) if cr + 1 != buf.len() => Scan::BadLine,
            _ => Scan::Partial,
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
