//! Bytes that were read and must wait for the end of a header block, or for frames to be put in ahead of them.

use tokio::io::ReadBuf;

use crate::frames::depends_on_itself;
use crate::streams::Block;

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

    /// Puts the reset of each stream ahead of its malformed block; from `open` on, all goes on waiting.
    pub(crate) fn settle(&mut self, malformed: &[Block], open: Option<u64>) {
        let place = |at: u64| self.free + at.saturating_sub(self.at) as usize;
        let waits = open.map(place);
        let places: Vec<_> = malformed.iter().map(|block| (place(block.at), block.stream)).collect();
        let mut put_in = 0;
        for (place, stream) in places.into_iter().rev() {
            let reset = depends_on_itself(stream);
            put_in += reset.len();
            let place = place.min(self.bytes.len());
            self.bytes.splice(place..place, reset);
        }
        self.free = waits.map_or(self.bytes.len(), |place| (place + put_in).min(self.bytes.len()));
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
