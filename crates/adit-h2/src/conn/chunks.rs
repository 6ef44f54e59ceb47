//! Bytes that wait, for their reader or for the socket: one pool of nodes for all queues of a connection, so that an empty
//! queue takes eight octets and a stream that moves bytes allocates none for it.

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
    data: Bytes,
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

    pub(crate) fn push(&mut self, queue: &mut Queue, data: Bytes) {
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
            && last.data.len() + octets.len() <= GROWS_TO
        {
            match std::mem::take(&mut last.data).try_into_mut() {
                Ok(mut data) => {
                    data.extend_from_slice(octets);
                    last.data = data.freeze();
                    return;
                }
                Err(data) => last.data = data,
            }
        }
        self.push(queue, Bytes::copy_from_slice(octets));
    }

    pub(crate) fn front(&mut self, queue: Queue) -> Option<&mut Bytes> {
        self.node(queue.first).map(|node| &mut node.data)
    }

    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Bytes> {
        let (at, free) = (queue.first, self.free);
        let node = self.node(at)?;
        let data = std::mem::take(&mut node.data);
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

    #[test]
    fn queues_share_their_nodes_and_keep_their_order() {
        let mut chunks = Chunks::default();
        let (mut a, mut b) = (Queue::default(), Queue::default());
        for text in ["1", "2", "3"] {
            chunks.push(&mut a, Bytes::from_static(text.as_bytes()));
            chunks.push(&mut b, Bytes::from(text.repeat(2)));
        }
        assert_eq!(chunks.pop(&mut a).as_deref(), Some(&b"1"[..]));
        chunks.push(&mut b, Bytes::from_static(b"4"));
        assert_eq!(chunks.nodes.len(), 6);
        assert_eq!(chunks.clear(&mut b), 7);
        assert!(b.is_empty() && !a.is_empty());
        assert_eq!(chunks.front(a).map(|front| front.split_off(0)).as_deref(), Some(&b"2"[..]));
        chunks.pop(&mut a);
        assert_eq!(chunks.pop(&mut a).as_deref(), Some(&b"3"[..]));
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
            chunks.push(&mut queue, Bytes::from_static(b"y"));
        }
        assert_eq!(chunks.clear(&mut queue), 100);
        assert_eq!(chunks.nodes.capacity(), 0);
    }
}
