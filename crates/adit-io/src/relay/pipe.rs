//! Pipes for splice(2): few, large, shared by the tunnels of a thread one after the other.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_http::StreamError;
use bytes::Bytes;
use rustix::pipe::PipeFlags;

/// What a pipe should hold: splicing costs least with 1 MiB.
const CAPACITY: usize = 1 << 20;

/// A pipe that holds less is not worth its calls.
const MIN_CAPACITY: usize = 64 << 10;

/// Idle pipes kept by a thread.
const KEPT: usize = 16;

/// Pipes of the process at most, each pinned by a tunnel whose reader has stopped; the others copy.
const MOST: usize = 512;

/// Attempts that are skipped after the kernel refused a pipe.
const PAUSE: u32 = 1024;

static LIVE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { idle: Vec::new(), pause: 0 }) };
}

struct Pool {
    #[expect(clippy::vec_box, reason = "they live in lanes, where a pointer is what an idle tunnel pays")]
    idle: Vec<Box<Pipe>>,
    pause: u32,
}

/// Bytes that lie in the kernel, on their way from one relay to another of the same process: what came from a socket by
/// splice(2) goes to a socket by splice(2), although something like an internal listener stands between. Dropped, they are
/// gone.
pub struct Spliced(pub(super) Box<Pipe>);

impl Spliced {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The bytes in memory, for who has no use for them in the kernel.
    pub fn into_bytes(self) -> Result<Bytes, StreamError> {
        let mut pipe = self.0;
        let bytes = pipe.empty_into_memory()?;
        pipe.give_back();
        Ok(bytes)
    }
}

impl fmt::Debug for Spliced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spliced").field(&self.len()).finish()
    }
}

/// A pipe, and how much is in it.
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    pub(super) capacity: usize,
    pub(super) len: usize,
}

impl Pipe {
    /// An empty pipe, if one can be had.
    pub(super) fn take() -> Option<Box<Self>> {
        POOL.with_borrow_mut(|pool| {
            if let Some(pipe) = pool.idle.pop() {
                return Some(pipe);
            }
            if pool.pause > 0 {
                pool.pause -= 1;
                return None;
            }
            let pipe = Self::open();
            if pipe.is_none() {
                pool.pause = PAUSE;
            }
            pipe
        })
    }

    /// Gives an empty pipe back. One with bytes in it is closed.
    pub(super) fn give_back(self: Box<Self>) {
        if self.len == 0 {
            POOL.with_borrow_mut(|pool| {
                if pool.idle.len() < KEPT {
                    pool.idle.push(self);
                }
            });
        }
    }

    fn open() -> Option<Box<Self>> {
        if LIVE.fetch_add(1, Ordering::Relaxed) >= MOST {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Ok((reader, writer)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // Counted off again when dropped, from here on.
        let mut pipe = Box::new(Self { reader, writer, capacity: 0, len: 0 });
        // Refused beyond pipe-user-pages-soft, where the kernel makes new pipes tiny too.
        pipe.capacity = rustix::pipe::fcntl_setpipe_size(&pipe.writer, CAPACITY)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&pipe.writer))
            .unwrap_or(0);
        (pipe.capacity >= MIN_CAPACITY).then_some(pipe)
    }

    /// Reads it empty.
    pub(super) fn empty_into_memory(&mut self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::read(&self.reader, bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(filled);
        self.len = 0;
        Ok(bytes.into())
    }

    #[cfg(test)]
    pub(super) fn live() -> usize {
        LIVE.load(Ordering::Relaxed)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
