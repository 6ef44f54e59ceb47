//! Bytes that wait, for their reader or for the socket: one pool of nodes for all queues of a connection, so that an empty
//! queue takes eight octets and a stream that moves bytes allocates none for it.

use adit_http::StreamError;
use adit_io::Chunk;
use bytes::Bytes;

const NONE: u32 = u32::MAX;
/// Nodes beyond this many are given back once none is used.
const KEPT: usize = 8;
/// A chunk grows up to this size by what comes behind it, so that what waits costs little more than its bytes.
const GROWS_TO: usize = 16 << 10;

/// Fewer octets than this are not left in the kernel, nor frames that may hold no more: copying them costs less.
pub(crate) const LEAST_SPLICE: usize = 32 << 10;
/// Chunks of one connection that lie in the kernel, where each takes a pipe: beyond them octets are copied.
const MAX_SPLICED: u32 = 32;

/// One queue of a [`Chunks`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    first: u32,
    last: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Queue {
    pub(crate) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

#[derive(Debug)]
struct Node {
    data: Chunk,
    next: u32,
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Chunks {
    nodes: Vec<Node>,
    free: u32,
    used: u32,
    /// Those that lie in the kernel.
    spliced: u32,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: NONE, used: 0, spliced: 0 }
    }
}

impl Chunks {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)
    }

    pub(crate) fn push(&mut self, queue: &mut Queue, data: Chunk) {
        self.spliced += u32::from(matches!(data, Chunk::Spliced(_)));
        let node = Node { data, next: NONE };
        let free = self.free;
        let at = match self.node(free) {
            Some(place) => {
                let next = place.next;
                *place = node;
                self.free = next;
                free
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.used += 1;
        match self.node(queue.last) {
            Some(last) => last.next = at,
            None => queue.first = at,
        }
        queue.last = at;
    }

    /// Adds octets, to the last chunk if it is small.
    pub(crate) fn append(&mut self, queue: &mut Queue, octets: &[u8]) {
        if let Some(last) = self.node(queue.last)
            && let Chunk::Bytes(data) = &mut last.data
            && data.len() + octets.len() <= GROWS_TO
        {
            match std::mem::take(data).try_into_mut() {
                Ok(mut longer) => {
                    longer.extend_from_slice(octets);
                    *data = longer.freeze();
                    return;
                }
                Err(same) => *data = same,
            }
        }
        self.push(queue, Chunk::Bytes(Bytes::copy_from_slice(octets)));
    }

    pub(crate) fn front(&self, queue: Queue) -> Option<&Chunk> {
        self.nodes.get(queue.first as usize).map(|node| &node.data)
    }

    /// The first `len` octets, which all lie in the first chunk. Part of one that lies in the kernel is read into memory: it was
    /// meant to be one frame, and the peer has changed its mind about windows or frames.
    pub(crate) fn split_to(&mut self, queue: &mut Queue, len: usize) -> Result<Chunk, StreamError> {
        if self.front(*queue).is_none_or(|front| front.len() <= len) {
            return Ok(self.pop(queue).unwrap_or(Chunk::EMPTY));
        }
        let Some(node) = self.node(queue.first) else { return Ok(Chunk::EMPTY) };
        let mut bytes = match std::mem::replace(&mut node.data, Chunk::EMPTY) {
            Chunk::Bytes(bytes) => bytes,
            Chunk::Spliced(spliced) => {
                self.spliced -= 1;
                spliced.into_bytes()?
            }
        };
        let front = bytes.split_to(len.min(bytes.len()));
        if let Some(node) = self.node(queue.first) {
            node.data = Chunk::Bytes(bytes);
        }
        Ok(Chunk::Bytes(front))
    }

    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Chunk> {
        let (at, free) = (queue.first, self.free);
        let node = self.node(at)?;
        let data = std::mem::replace(&mut node.data, Chunk::EMPTY);
        queue.first = std::mem::replace(&mut node.next, free);
        if queue.first == NONE {
            queue.last = NONE;
        }
        self.free = at;
        self.used -= 1;
        self.spliced -= u32::from(matches!(data, Chunk::Spliced(_)));
        if self.used == 0 && self.nodes.capacity() > KEPT {
            *self = Self::default();
        }
        Some(data)
    }

    /// Whether one more chunk may lie in the kernel.
    pub(crate) fn may_splice(&self) -> bool {
        self.spliced < MAX_SPLICED
    }

    /// Drops what waits; how many octets that were.
    pub(crate) fn clear(&mut self, queue: &mut Queue) -> usize {
        let mut dropped = 0;
        while let Some(data) = self.pop(queue) {
            dropped += data.len();
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(chunk: Option<Chunk>) -> Option<Bytes> {
        chunk.and_then(|chunk| chunk.into_bytes().ok())
    }

    #[test]
    fn queues_share_their_nodes_and_keep_their_order() {
        let mut chunks = Chunks::default();
        let (mut a, mut b) = (Queue::default(), Queue::default());
        for text in ["1", "2", "3"] {
            chunks.push(&mut a, Chunk::Bytes(Bytes::from_static(text.as_bytes())));
            chunks.push(&mut b, Chunk::Bytes(text.repeat(2).into()));
        }
        assert_eq!(octets(chunks.pop(&mut a)).as_deref(), Some(&b"1"[..]));
        chunks.push(&mut b, Chunk::Bytes(Bytes::from_static(b"4")));
        assert_eq!(chunks.nodes.len(), 6);
        assert_eq!(chunks.clear(&mut b), 7);
        assert!(b.is_empty() && !a.is_empty());
        assert_eq!(chunks.front(a).map(Chunk::len), Some(1));
        assert_eq!(octets(chunks.pop(&mut a)).as_deref(), Some(&b"2"[..]));
        assert_eq!(octets(chunks.pop(&mut a)).as_deref(), Some(&b"3"[..]));
        assert!(chunks.pop(&mut a).is_none() && a.is_empty());
    }

    #[test]
    fn a_chunk_leaves_in_parts() {
        let mut chunks = Chunks::default();
        let mut queue = Queue::default();
        chunks.push(&mut queue, Chunk::Bytes(Bytes::from_static(b"12345")));
        assert_eq!(octets(chunks.split_to(&mut queue, 2).ok()).as_deref(), Some(&b"12"[..]));
        assert_eq!(octets(chunks.split_to(&mut queue, 3).ok()).as_deref(), Some(&b"345"[..]));
        assert!(queue.is_empty() && chunks.used == 0);
        assert!(chunks.split_to(&mut queue, 1).is_ok_and(|nothing| nothing.is_empty()));
    }

    #[test]
    fn small_pieces_become_one_and_a_large_pool_is_given_back() {
        let mut chunks = Chunks::default();
        let mut queue = Queue::default();
        for _ in 0..20_000 {
            chunks.append(&mut queue, b"x");
        }
        assert_eq!(chunks.used, 2);
        assert_eq!(chunks.clear(&mut queue), 20_000);
        for _ in 0..100 {
            chunks.push(&mut queue, Chunk::Bytes(Bytes::from_static(b"y")));
        }
        assert_eq!(chunks.clear(&mut queue), 100);
        assert_eq!(chunks.nodes.capacity(), 0);
    }
}
