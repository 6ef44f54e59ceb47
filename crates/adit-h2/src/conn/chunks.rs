//! Bytes that wait, for their reader or for the socket: one pool of nodes for all queues of a connection, so that an empty
//! queue takes eight octets and a stream that moves bytes allocates none for it.

use adit_io::Chunk;
use bytes::Bytes;

const NONE: u32 = u32::MAX;
/// Nodes beyond this many are given back once none is used.
const KEPT: usize = 8;
/// A chunk grows up to this size by what comes behind it, so that what waits costs little more than its bytes.
const GROWS_TO: usize = 16 << 10;

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
}

impl Default for Chunks {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: NONE, used: 0 }
    }
}

impl Chunks {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)
    }

    pub(crate) fn push(&mut self, queue: &mut Queue, data: Chunk) {
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

    pub(crate) fn front(&mut self, queue: Queue) -> Option<&mut Chunk> {
        self.node(queue.first).map(|node| &mut node.data)
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
        if self.used == 0 && self.nodes.capacity() > KEPT {
            *self = Self::default();
        }
        Some(data)
    }

    /// Whether more than `n` chunks wait.
    pub(crate) fn is_longer(&mut self, queue: Queue, n: usize) -> bool {
        let mut at = queue.first;
        for _ in 0..n {
            let Some(node) = self.node(at) else { return false };
            at = node.next;
        }
        at != NONE
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
        assert!(chunks.is_longer(b, 3) && !chunks.is_longer(b, 4) && !chunks.is_longer(Queue::default(), 0));
        assert_eq!(chunks.clear(&mut b), 7);
        assert!(b.is_empty() && !a.is_empty());
        assert_eq!(chunks.front(a).map(|front| front.len()), Some(1));
        assert_eq!(octets(chunks.pop(&mut a)).as_deref(), Some(&b"2"[..]));
        assert_eq!(octets(chunks.pop(&mut a)).as_deref(), Some(&b"3"[..]));
        assert!(chunks.pop(&mut a).is_none() && a.is_empty());
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
