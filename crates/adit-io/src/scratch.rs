//! One read buffer for each thread, so that waiting for bytes holds none.

use std::cell::RefCell;

/// Its size: 64 KiB.
pub(crate) const SIZE: usize = 64 << 10;

/// What a reader gets that was called from within another one.
const NESTED: usize = 8 << 10;

thread_local! {
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
