//! The connection's bytes as they pass between the socket and the `h2` crate.
//!
//! The crate reads until the socket is dry, counts few frames, and tells nobody that the socket is full. Here one poll
//! gets a bounded share, Envoy's flood limits are kept, and senders learn when to wait.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use adit_io::Io;
use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::frames::{FrameHead, FrameScanner};
use crate::held::Held;
use crate::shared::Shared;
use crate::tally::Tally;
use crate::{Counter, Http2Options, frames};

/// Beyond the frame at hand, this much is read at once: what follows may be a flood of small frames.
const READ_AHEAD: usize = 32 << 10;
/// A header block that comes in pieces is kept from the `h2` crate up to this size, in bytes.
const MAX_HELD: u64 = 64 << 10;
/// Read at once behind bytes that wait: as much as the `h2` crate's buffer has room for.
const HELD_READ: usize = 8 << 10;
/// What fails the connection of a client that is condemned.
pub(crate) const CONDEMNED: &str = "condemned";

fn condemned() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, CONDEMNED)
}

/// The transport given to the `h2` crate.
pub(crate) struct Watched {
    io: Io,
    shared: Arc<Shared>,
    inbound: FrameScanner,
    outbound: FrameScanner,
    tally: Tally,
    /// Read, and not given to the `h2` crate yet.
    held: Option<Box<Held>>,
    said_goaway: bool,
    max_frame_size: u32,
}

impl Watched {
    pub(crate) fn new(io: Io, shared: Arc<Shared>, options: &Http2Options, is_server: bool) -> Self {
        Self {
            io,
            inbound: FrameScanner::new(is_server),
            outbound: FrameScanner::new(!is_server),
            tally: Tally::new(shared.clone(), options, is_server),
            held: None,
            said_goaway: false,
            max_frame_size: options.frame_size(),
            shared,
        }
    }

    fn wrote(&mut self, slices: &[io::IoSlice<'_>], result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(n)) => {
                self.shared.set_blocked(false);
                let (tally, mut left) = (&mut self.tally, *n);
                for slice in slices {
                    let bytes = slice.get(..left.min(slice.len())).unwrap_or_default();
                    left -= bytes.len();
                    self.outbound.feed(bytes, &mut |head: FrameHead| tally.sent(head));
                }
            }
            Poll::Ready(Err(_)) => self.shared.set_blocked(false),
            Poll::Pending => {
                self.shared.set_blocked(true);
                self.tally.check_owed();
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.release_senders();
    }
}

impl Watched {
    /// Reads what may be read at once into `into`, at most `max`; gives the number of bytes, none at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>, into: &mut impl BufMut, max: usize) -> Poll<io::Result<usize>> {
        let mut part = BufMut::limit(into, max);
        pin!(self.io.read_buf(&mut part)).poll(cx)
    }

    /// Looks at what was read. Whether it is fit for the `h2` crate.
    fn inspect(&mut self, bytes: &[u8]) -> bool {
        if self.shared.read_nothing() {
            self.tally.begin_poll();
        }
        self.inbound.feed(bytes, &mut self.tally);
        self.shared.note_read(bytes.len(), self.tally.take_frames());
        self.shared.in_header_block.store(self.inbound.in_header_block(), Relaxed);
        // The h2 crate, shown the frame, would answer with another error, or none.
        self.shared.condemned().is_none()
    }

    /// From where on bytes must wait for more. A header block that is too long does not.
    fn waits_from(&mut self) -> Option<u64> {
        if self.tally.open_block().is_some_and(|at| self.inbound.seen() - at > MAX_HELD) {
            self.tally.give_on();
        }
        self.tally.open_block().or(self.inbound.open_head())
    }

    /// A condemned connection is read no further: the server's owner ends it, the client's ends with this error.
    fn poll_condemned(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tally.is_server {
            return Poll::Pending;
        }
        self.say_goaway(cx);
        Poll::Ready(Err(condemned()))
    }

    /// The `h2` crate gives a client no way to end its connection with a code (RFC 9113 section 5.4.1). Sent if the socket
    /// takes it now; no stream of the peer's was processed, as none may be opened.
    fn say_goaway(&mut self, cx: &mut Context<'_>) {
        let Some(reason) = self.shared.condemned().filter(|_| !self.tally.is_server && !self.said_goaway) else {
            return;
        };
        if self.outbound.is_between_frames() {
            self.said_goaway = true;
            let frame = frames::goaway(reason.into());
            if let Poll::Ready(Ok(_)) = Pin::new(&mut self.io).poll_write(cx, &frame) {
                self.shared.count(Counter::GoawaySent);
                // Whether it left or not, the connection is over.
                let _ = Pin::new(&mut self.io).poll_flush(cx);
            }
        }
    }

    /// After a read of `buf` from `before` on: keeps back what must wait, and changes what must not pass as it is.
    fn hold_back(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let (open, changes) = (self.waits_from(), self.tally.take_changes());
        let Some(cut) = changes.first().map(|change| change.at).or(open) else { return };
        let filled = buf.filled().len();
        let start = self.inbound.seen() - (filled - before) as u64;
        let cut = before + cut.saturating_sub(start) as usize;
        let mut held = Held::new(self.inbound.seen() - (filled - cut) as u64);
        held.bytes.extend_from_slice(buf.filled().get(cut..).unwrap_or_default());
        buf.set_filled(cut);
        held.advance(&changes, open, self.max_frame_size as usize);
        self.held = Some(Box::new(held));
    }

    /// Goes on where bytes are held: gives those that need wait no longer.
    fn poll_held(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(mut held) = self.held.take() else { return Poll::Ready(Ok(())) };
            if held.release(buf) {
                self.held = Some(held).filter(|held| !held.bytes.is_empty());
                return Poll::Ready(Ok(()));
            }
            let had = held.bytes.len();
            held.bytes.reserve(HELD_READ);
            let read = match self.poll_allowed(cx) {
                Poll::Ready(()) => self.poll_more(cx, &mut held.bytes, HELD_READ),
                Poll::Pending => Poll::Pending,
            };
            let fit = match read {
                Poll::Ready(Ok(n)) if n > 0 => self.inspect(held.bytes.get(had..).unwrap_or_default()),
                // The end: the h2 crate finds the block cut short.
                Poll::Ready(Ok(_)) => {
                    held.advance(&[], None, 0);
                    true
                }
                other => {
                    // Waiting may be long.
                    held.bytes.shrink_to(had);
                    self.held = Some(held);
                    return other.map_ok(|_| ());
                }
            };
            if !fit {
                cx.waker().wake_by_ref();
                return self.poll_condemned(cx);
            }
            if had < held.bytes.len() {
                let open = self.waits_from();
                held.advance(&self.tally.take_changes(), open, self.max_frame_size as usize);
            }
            self.held = Some(held);
        }
    }

    /// A client that is condemned by what it writes waits for no room: the `h2` crate would read no error meanwhile.
    fn or_condemned<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_pending() && !self.tally.is_server && self.shared.condemned().is_some() {
            return Poll::Ready(Err(condemned()));
        }
        result
    }

    fn poll_allowed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.shared.may_read() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.shared.condemned().is_some() {
            return me.poll_condemned(cx);
        }
        if me.held.is_some() {
            return me.poll_held(cx, buf);
        }
        ready!(me.poll_allowed(cx));
        let before = buf.filled().len();
        let room = me.inbound.left() + READ_AHEAD;
        if buf.remaining() <= room {
            ready!(Pin::new(&mut me.io).poll_read(cx, buf))?;
        } else {
            ready!(me.poll_more(cx, buf, room))?;
        }
        if !me.inspect(buf.filled().get(before..).unwrap_or_default()) {
            buf.set_filled(before);
            cx.waker().wake_by_ref();
            return me.poll_condemned(cx);
        }
        me.hold_back(buf, before);
        if me.held.is_some() && buf.filled().len() == before {
            // Nothing is no end.
            return me.poll_held(cx, buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, data);
        self.wrote(&[io::IoSlice::new(data)], &result);
        self.say_goaway(cx);
        self.or_condemned(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.wrote(data, &result);
        self.say_goaway(cx);
        self.or_condemned(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.shared.set_blocked(result.is_pending());
        self.or_condemned(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
