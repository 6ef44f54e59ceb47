//! Moves the octets of a connection between its transport and its state.
//!
//! One poll reads a bounded share and then writes all that is ready at once; an idle connection holds no buffer.

mod read;
mod write;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_http::StreamError;
use adit_io::Io;
use bytes::BytesMut;
use tokio::io::AsyncWrite;

use crate::conn::chunks::LEAST_SPLICE;
use crate::conn::{Core, Link, Segments};
use crate::error::End;
use crate::frame::HEAD_LEN;
pub(crate) use read::Reader;
use read::{fill, scratch};

/// Frames read in one poll of a connection before it yields to its neighbours.
const FRAMES_PER_POLL: u32 = 512;
/// Octets read in one poll of a connection before it yields to its neighbours, and to who reads them while they are in the
/// core's cache.
const OCTETS_PER_POLL: usize = 256 << 10;
/// Beyond the frame at hand, this much is read at once: what follows may be a flood of small frames.
const READ_AHEAD: usize = 32 << 10;

/// A transport and what is under way on it.
pub(crate) struct Wire {
    io: Io,
    pub(crate) link: Arc<Link>,
    reader: Reader,
    /// Read, and no whole unit yet.
    rest: BytesMut,
    out: Segments,
    /// The next read asks for no more, unless that is little: a read that fills much of its buffer is handed on without a
    /// copy.
    read_size: usize,
    /// More of the DATA at hand may be left in the kernel: once, no more is read behind it than the next frame's head.
    head_only: bool,
    /// `rest` may hold whole frames: the share of a poll was used up.
    unparsed: bool,
    /// Reading stopped for a peer that does not read.
    held: bool,
    /// The transport took less than it was given.
    blocked: bool,
    /// It was given something since it was last flushed.
    unflushed: bool,
    /// Octets ever read, for the keep-alive.
    pub(crate) octets_read: u64,
}

impl Wire {
    pub(crate) fn new(io: Io, link: Arc<Link>, is_server: bool) -> Self {
        link.lock().splices = io.tcp_socket().is_some();
        Self {
            io,
            link,
            reader: Reader::new(is_server),
            rest: BytesMut::new(),
            out: Segments::default(),
            read_size: 0,
            head_only: false,
            unparsed: false,
            held: false,
            blocked: false,
            unflushed: false,
            octets_read: 0,
        }
    }

    /// Whether the peer began a header block and did not end it.
    pub(crate) fn in_header_block(&self) -> bool {
        self.reader.in_headers() || self.link.lock().in_block()
    }

    /// Moves what can be moved. Ready with its end once the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut core = self.link.lock();
        core.set_driver(cx);
        let over = core.end.is_some();
        drop(core);
        if !over {
            self.read(cx);
        }
        let flushed = self.flush(cx);
        if flushed.is_ready() && std::mem::take(&mut self.held) {
            // The transport was not asked for more, so that it calls nobody.
            cx.waker().wake_by_ref();
        }
        let mut core = self.link.lock();
        core.close_if_done();
        core.tell_pending();
        let end = core.end;
        drop(core);
        end.map_or(Poll::Pending, |end| self.poll_end(cx, end, flushed.is_pending()))
    }

    /// The last words leave, then the connection is shut. A peer that cost itself its connection is not waited for.
    fn poll_end(&mut self, cx: &mut Context<'_>, end: End, blocked: bool) -> Poll<End> {
        let patient = !matches!(end, End::Fault(_) | End::Lost(_));
        if !blocked || patient {
            let flushed = self.flush(cx);
            if patient {
                ready!(flushed);
            }
        }
        if !matches!(end, End::Lost(_)) {
            let shut = Pin::new(&mut self.io).poll_shutdown(cx);
            if patient {
                // A failure leaves nobody to tell.
                let _ = ready!(shut);
            }
        }
        self.link.lock().tell_pending();
        Poll::Ready(end)
    }

    /// Reads until the transport has no more, or the share is used up.
    fn read(&mut self, cx: &mut Context<'_>) {
        let (mut frames, mut octets) = (FRAMES_PER_POLL, OCTETS_PER_POLL);
        let mut buffer = std::mem::take(&mut self.rest);
        loop {
            if frames == 0 || octets == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            // It is heard again once it reads what there is to say.
            if self.blocked && self.link.lock().is_stuck() {
                self.held = true;
                break;
            }
            if !self.unparsed {
                match self.more(cx, &mut buffer) {
                    Some(n) => octets = octets.saturating_sub(n),
                    None => break,
                }
            }
            let mut core = self.link.lock();
            if let Err(fault) = self.reader.parse(&mut core, &mut buffer, &mut frames) {
                core.fault(fault);
            }
            self.unparsed = frames == 0;
            if core.end.is_some() {
                break;
            }
        }
        self.rest = scratch::put(buffer);
    }

    /// Reads once behind what is in `buffer`: so many octets came. `None` if the transport has no more just now, or never.
    fn more(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Option<usize> {
        if buffer.is_empty()
            && let Some(n) = self.splice()
        {
            return Some(n);
        }
        let ahead = if self.head_only { HEAD_LEN } else { READ_AHEAD };
        let want = (self.reader.left() + ahead).min(self.read_size.max(READ_AHEAD));
        if buffer.is_empty() {
            *buffer = scratch::take_for(std::mem::take(buffer), want.max(READ_AHEAD));
        }
        match fill(&mut self.io, cx, buffer, want) {
            Poll::Pending => None,
            Poll::Ready(Err(error)) => {
                self.lose(error);
                None
            }
            Poll::Ready(Ok(0)) => {
                self.ended(buffer.is_empty());
                None
            }
            Poll::Ready(Ok(n)) => {
                self.octets_read += n as u64;
                self.head_only = false;
                // What came as asked may be the end of a frame, and says nothing of the next one.
                self.read_size = if n < want { 2 * n } else { self.read_size.max(2 * n) };
                Some(n)
            }
        }
    }

    /// Leaves the next octets of a payload in the kernel: so many. `None` where they are to be read, since there are few, or who
    /// reads them has no use for them there.
    fn splice(&mut self) -> Option<usize> {
        let (target, left) = self.reader.bulk()?;
        let mut core = self.link.lock();
        self.head_only = core.takes_spliced(target);
        if !self.head_only || !core.may_splice() {
            return None;
        }
        let octets = self.io.read_spliced(LEAST_SPLICE, left)?;
        let n = octets.len();
        self.octets_read += n as u64;
        self.reader.take_spliced(&mut core, octets);
        Some(n)
    }

    /// The peer sends no more.
    fn ended(&mut self, buffer_empty: bool) {
        let cut = !buffer_empty || !self.reader.is_between_frames();
        let mut core = self.link.lock();
        let end = core.peer_end();
        core.lose(if cut && !self.reader.in_preface() { End::Lost(StreamError::Truncated) } else { end });
    }

    fn lose(&mut self, error: io::Error) {
        let mut core = self.link.lock();
        // TLS without a close_notify.
        let unclean = core.is_server && error.kind() == io::ErrorKind::UnexpectedEof && self.out.is_empty();
        let end = if unclean { End::Closed } else { End::Lost(error.into()) };
        core.lose(end);
    }
}

impl Drop for Wire {
    /// Nobody drives the connection any more.
    fn drop(&mut self) {
        let mut core = self.link.lock();
        core.lose(End::Closed);
        core.forget_driver();
    }
}

impl Core {
    /// What the connection's end is if the peer closes it now.
    fn peer_end(&self) -> End {
        self.goaway_code().map_or(End::Closed, End::Peer)
    }
}
