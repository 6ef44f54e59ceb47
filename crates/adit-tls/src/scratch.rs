//! One buffer of the thread for ciphertext on its way, so that no connection holds one while it waits.

use std::cell::Cell;

/// Room for 256 KiB of plaintext in records, what is added to it (RFC 8446 section 5.2), and a record that was held.
pub(crate) const SIZE: usize = 280 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with a buffer of at least `least` bytes, and of [`SIZE`] as a rule, whose content is arbitrary. Called again
/// from within `f` (TLS inside TLS), it makes a new one.
pub(crate) fn with<T>(least: usize, f: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    let size = least.max(SIZE);
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    let result = f(&mut buffer);
    if buffer.len() == SIZE {
        BUFFER.set(buffer);
    }
    result
}
