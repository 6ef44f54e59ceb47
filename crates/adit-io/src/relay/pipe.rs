//! Pipes for splice(2): few, large, shared by the tunnels of a thread one after the other; and bytes that lie in one.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_http::StreamError;
use bytes::Bytes;
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe should hold: splicing costs least with 1 MiB.
const CAPACITY: usize = 1 << 20;

/// A pipe that holds less is not worth its calls.
const MIN_CAPACITY: usize = 64 << 10;

/// Idle pipes kept by a thread.
const KEPT: usize = 16;

/// Pipes of the process at most, pinned by tunnels whose readers have stopped; the others copy.
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

/// Bytes that lie in the kernel, on their way through this process: what came from a socket by splice(2) goes to a socket by
/// splice(2), although something like an internal listener or the framing of HTTP/2 stands between. Dropped, they are gone.
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

    /// Lets go of what is empty, so that others can use its pipe.
    pub fn recycle(self) {
        self.0.give_back();
    }

    /// At most `max` bytes of a socket, if at least `least` of them are there. `None` too where there is no pipe to be had or the
    /// socket fails: then a read tells.
    pub(crate) fn read(from: &TcpStream, least: usize, max: usize) -> Option<Self> {
        if rustix::io::ioctl_fionread(from).ok()? < least as u64 {
            return None;
        }
        let mut pipe = Pipe::take()?;
        match pipe.read_from(from, max) {
            Ok(1..) => Some(Self(pipe)),
            _ => {
                pipe.give_back();
                None
            }
        }
    }

    /// Moves from its front to a socket; how many bytes. `WouldBlock` when the socket takes none.
    pub(crate) fn write(&mut self, to: &TcpStream) -> io::Result<usize> {
        self.0.write_to(to)
    }
}

/// Bytes, wherever they lie.
#[derive(Debug)]
pub enum Chunk {
    /// In memory.
    Bytes(Bytes),
    /// In the kernel.
    Spliced(Spliced),
}

impl Chunk {
    /// No bytes.
    pub const EMPTY: Self = Self::Bytes(Bytes::new());

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Spliced(spliced) => spliced.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in memory.
    pub fn into_bytes(self) -> Result<Bytes, StreamError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Spliced(spliced) => spliced.into_bytes(),
        }
    }
}

/// Whether a socket cannot be spliced from.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
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

    /// Splices once from a socket into the pipe, which is empty: so that `WouldBlock` can only mean that the socket is.
    pub(super) fn read_from(&mut self, from: &TcpStream, limit: usize) -> io::Result<usize> {
        let size = self.capacity.min(limit);
        self.len = from.try_io(Interest::READABLE, || {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            Ok(rustix::pipe::splice(from, None, &self.writer, None, size, flags)?)
        })?;
        Ok(self.len)
    }

    /// Splices once from the pipe to a socket.
    pub(super) fn write_to(&mut self, to: &TcpStream) -> io::Result<usize> {
        let written = to.try_io(Interest::WRITABLE, || {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            Ok(rustix::pipe::splice(&self.reader, None, to, None, self.len, flags)?)
        })?;
        self.len = self.len.saturating_sub(written);
        Ok(written)
    }

    /// Moves `n` bytes from its front to a pipe of their own. `None` where that cannot be: it is as it was then.
    pub(super) fn split_to(&mut self, n: usize) -> Option<Box<Self>> {
        let mut front = Self::take()?;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match rustix::pipe::splice(&self.reader, None, &front.writer, None, n.min(self.len), flags) {
            Ok(moved @ 1..) => {
                self.len = self.len.saturating_sub(moved);
                front.len = moved;
                Some(front)
            }
            _ => {
                front.give_back();
                None
            }
        }
    }

    /// Reads it empty.
    pub(super) fn empty_into_memory(&mut self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::read(&self.reader, bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
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
