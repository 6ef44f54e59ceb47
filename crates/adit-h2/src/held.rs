//! Bytes that were read and must wait for the end of a header block, or be changed ahead of the `h2` crate.

use tokio::io::ReadBuf;

use crate::frames::{depends_on_itself, join};

/// A whole header block that does not pass as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Octets of the connection ahead of its HEADERS frame.
    pub(crate) at: u64,
    /// Its message is malformed: this stream is reset ahead of it.
    pub(crate) reset: Option<u32>,
    /// It came with CONTINUATION: the `h2` crate, which loses its place in a malformed one, is given a single frame.
    pub(crate) join: bool,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    /// How many of them wait no longer.
    free: usize,
    /// Where the first one that waits stands among the octets of the connection.
    at: u64,
}

impl Held {
    pub(crate) fn new(at: u64) -> Self {
        Self { bytes: Vec::new(), free: 0, at }
    }

    /// Once all that waited no longer is gone: makes the changes, in the order of their places; from `open` on, all goes on
    /// waiting. No joined frame is larger than `max_frame_size`.
    pub(crate) fn advance(&mut self, changes: &[Change], open: Option<u64>, max_frame_size: usize) {
        let place = |at: u64| (at.saturating_sub(self.at) as usize).min(self.bytes.len());
        let mut waits = open.map_or(self.bytes.len(), place);
        if !changes.is_empty() {
            let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
            let mut out = Vec::with_capacity(self.bytes.len() + changes.len() * depends_on_itself(0).len());
            let mut done = 0;
            for change in changes {
                let at = place(change.at);
                out.extend_from_slice(part(done, at));
                done = at;
                if let Some(stream) = change.reset {
                    out.extend(depends_on_itself(stream));
                }
                if change.join {
                    done += join(part(at, waits), max_frame_size, &mut out).unwrap_or(0);
                }
            }
            out.extend_from_slice(part(done, waits));
            let free = out.len();
            out.extend_from_slice(part(waits, self.bytes.len()));
            (self.bytes, waits) = (out, free);
        }
        self.free = waits;
        self.at = open.unwrap_or(self.at);
    }

    /// Moves what waits no longer to `buf`, as much as it has room for. Whether there is any.
    pub(crate) fn release(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.free == 0 {
            return false;
        }
        let n = self.free.min(buf.remaining());
        buf.put_slice(self.bytes.get(..n).unwrap_or_default());
        self.bytes.drain(..n);
        self.free -= n;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn blocks_are_joined_and_streams_reset_in_their_places() {
        let data = frame(0, 0, 3, b"data");
        // END_STREAM, PADDED and a priority; CONTINUATION twice.
        let pieces =
            [frame(1, 0x29, 5, &[2, 0, 0, 0, 1, 9, b'a', b'b', 0, 0]), frame(9, 0, 5, &[]), frame(9, 4, 5, b"cd")]
                .concat();
        let joined = frame(1, 5, 5, b"abcd");
        let (single, open) = (frame(1, 5, 7, b"e"), frame(1, 0, 9, b"f"));
        let bytes = [&data[..], &pieces, &data, &single, &pieces, &open].concat();
        let at = |index: usize| {
            let lens = [data.len(), pieces.len(), data.len(), single.len(), pieces.len()];
            1000 + lens.iter().take(index).sum::<usize>() as u64
        };
        let changes = [
            Change { at: at(1), reset: Some(5), join: true },
            Change { at: at(3), reset: Some(7), join: false },
            Change { at: at(4), reset: None, join: true },
        ];
        let (five, seven) = (depends_on_itself(5), depends_on_itself(7));
        for (max, joined) in [(4, &joined), (3, &pieces)] {
            let mut held = Held::new(1000);
            held.bytes = bytes.clone();
            held.advance(&changes, Some(at(5)), max);
            let free = [&data[..], &five, joined, &data, &seven, &single, joined].concat();
            assert_eq!(held.bytes, [&free[..], &open].concat());
            let mut room = vec![0; 1000];
            let mut buf = ReadBuf::new(&mut room);
            assert!(held.release(&mut buf) && buf.filled() == free && held.bytes == open);
            // The rest of it comes.
            held.bytes.extend(frame(9, 4, 9, b"g"));
            held.advance(&[Change { at: at(5), reset: None, join: true }], None, max);
            assert_eq!(held.bytes, frame(1, 4, 9, b"fg"));
            assert!(held.release(&mut buf) && held.bytes.is_empty());
        }
    }
}
