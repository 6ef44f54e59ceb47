//! Read buffers of the thread, so that waiting for bytes holds none: one to read and copy from, and a few large blocks
//! that become chunks and come back once those were written.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// Its size: 64 KiB.
pub(crate) const SIZE: usize = 64 << 10;

/// What a reader gets that was called from within another one.
const NESTED: usize = 8 << 10;

/// The size of a block, the largest read: 256 KiB.
pub(crate) const BLOCK: usize = 256 << 10;

/// A chunk that fills less than this part of its buffer gets one of its own size: what is held is what is counted.
const LEAST_FILL: usize = 4;

/// Blocks kept by a thread: what a turn or two of bulk has on its way.
const KEPT: usize = 8;

thread_local! {
    static BLOCKS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Runs `f` with at most `limit` bytes of the thread's buffer, whose content is arbitrary.
pub(crate) fn with<T>(limit: usize, f: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            let size = buffer.len().min(limit);
            f(buffer.get_mut(..size).unwrap_or_default())
        }
        // A transport over a tunnel reads from a source that reads from a transport.
        Err(_) => f(&mut vec![0; NESTED.min(limit)]),
    })
}

/// An empty buffer of at least `size` bytes, from the thread's blocks where it is one.
pub(crate) fn take(size: usize) -> BytesMut {
    if size > BLOCK / 2 {
        let kept = BLOCKS.with_borrow_mut(Vec::pop);
        return kept.unwrap_or_else(|| BytesMut::with_capacity(size.max(BLOCK)));
    }
    BytesMut::with_capacity(size)
}

/// What was read into a buffer from [`take`], as a chunk.
pub(crate) fn chunk(buffer: BytesMut) -> Bytes {
    if buffer.len() >= buffer.capacity() / LEAST_FILL {
        return buffer.freeze();
    }
    let chunk = Bytes::copy_from_slice(&buffer);
    keep(buffer);
    chunk
}

/// Takes back what is left of a chunk that went onward, if it was a block and nobody else holds it.
pub(crate) fn recycle(chunk: Bytes) {
    if let Ok(buffer) = chunk.try_into_mut() {
        keep(buffer);
    }
}

/// Keeps a block.
pub(crate) fn keep(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(BLOCK) && buffer.capacity() <= 2 * BLOCK {
        BLOCKS.with_borrow_mut(|blocks| {
            if blocks.len() < KEPT {
                blocks.push(buffer);
            }
        });
    }
}
