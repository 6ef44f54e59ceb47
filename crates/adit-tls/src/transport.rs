//! TLS over a byte stream: [`TlsTransport`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adit_io::{ByteSink, ByteSource, Io, Transport, transport_halves};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::scratch;
use crate::session::{Action, Driven, Session};

/// Plaintext encrypted by one write: sixteen full records.
const WRITE_SIZE: usize = 256 << 10;
/// What as many records and a key update add to their plaintext is below.
const WRITE_OVERHEAD: usize = 1 << 10;
/// The same while the stream below does not take writes whole: what it does not take is held.
const SLOW_WRITE_SIZE: usize = 64 << 10;
/// Pieces of a vectored write from this size on are not joined with what is before them.
const LARGE: usize = 64 << 10;
/// The plaintext of a full record (RFC 8446 section 5.1).
const RECORD: usize = 16 << 10;
/// The least that one read asks for: a full record (RFC 8446 section 5.2: 2^14 + 256 and its header).
const READ_LEAST: usize = (16 << 10) + 261;
/// The most that one read asks for.
const READ_MOST: usize = 256 << 10;

/// An established TLS session over a stream, as a [`Transport`].
///
/// # Ends
/// `poll_shutdown` sends close_notify and then ends the stream below; reading goes on (RFC 8446 section 6.1). The peer's
/// close_notify is the end. An end of the stream below without it is told apart by who reads: `AsyncRead` gives
/// `UnexpectedEof`, as a message may have been cut; the halves for relaying give an end, as Envoy does for tunnels, and
/// [`Transport::truncated`] tells those whom it concerns. A reset below is a reset.
///
/// # Memory
/// While idle it holds no buffer at all: records are decrypted and encrypted in a buffer of the thread. What does stay is
/// part of a record, plaintext of at most one read that the reader had no room for, and ciphertext of at most one write
/// that the stream below did not take.
pub struct TlsTransport {
    /// `None` after an abort.
    io: Option<Io>,
    session: Box<Session>,
    /// Ciphertext that is not yet a whole record.
    incoming: Vec<u8>,
    /// Plaintext that found no room.
    plain: Bytes,
    /// Ciphertext that the stream below did not take.
    outgoing: Vec<u8>,
    /// How much of `outgoing` it took.
    sent: usize,
    end: Option<ReadEnd>,
    closing: bool,
    failed: bool,
    /// An end without close_notify is given as an end.
    lenient: bool,
    /// The last write was not taken whole.
    slow: bool,
    reset: Option<ResetEvent>,
}

/// Ready when the socket below has an error; boxed twice so that it costs one word where nobody asks.
type ResetEvent = Box<Pin<Box<dyn Future<Output = ()> + Send>>>;

#[derive(Clone, Copy)]
enum ReadEnd {
    Closed,
    Truncated,
    Failed(io::ErrorKind),
}

impl TlsTransport {
    pub(crate) fn new(io: Io, session: Session) -> Self {
        Self {
            io: Some(io),
            session: Box::new(session),
            incoming: Vec::new(),
            plain: Bytes::new(),
            outgoing: Vec::new(),
            sent: 0,
            end: None,
            closing: false,
            failed: false,
            lenient: false,
            slow: false,
            reset: None,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Shakes hands. Once done, the last flight has been given to the stream below.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.act(&mut Action::None)?;
        loop {
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
            match self.end {
                None => {}
                Some(ReadEnd::Failed(kind)) => return Poll::Ready(Err(kind.into())),
                Some(_) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// After a failed handshake: the alert, as far as it can be sent without waiting, and the end.
    pub(crate) fn give_up(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_send(cx);
        if let Some(io) = &mut self.io {
            let _ = Pin::new(io).poll_shutdown(cx);
        }
    }

    /// Ready once nothing waits: nothing is encrypted before, so that what is held stays below one write. How much that may
    /// be.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.failed || self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_send(cx))?;
        Poll::Ready(Ok(if self.slow { SLOW_WRITE_SIZE } else { WRITE_SIZE }))
    }

    fn drive(&mut self, incoming: &mut [u8], into: &mut ReadBuf<'_>, action: &mut Action<'_>) -> io::Result<Driven> {
        let mut over = Vec::new();
        let mut plain = |bytes: &[u8]| {
            let fits = if over.is_empty() { bytes.len().min(into.remaining()) } else { 0 };
            let (now, later) = bytes.split_at(fits);
            into.put_slice(now);
            over.extend_from_slice(later);
        };
        let queued = self.outgoing.len();
        let driven = self.session.drive(incoming, &mut plain, &mut self.outgoing, action);
        if self.closing {
            // Nothing follows a close_notify (RFC 8446 section 6.1), alerts and answers to key updates included.
            self.outgoing.truncate(queued);
        }
        if !over.is_empty() {
            self.plain = if self.plain.is_empty() { over.into() } else { [&self.plain[..], &over].concat().into() };
        }
        if driven.peer_closed {
            self.end = Some(ReadEnd::Closed);
        }
        match driven.error {
            None => Ok(driven),
            Some(error) => {
                // What the peer says in an alert is a refusal of the stream, not an end.
                let kind = match error {
                    rustls::Error::AlertReceived(_) => io::ErrorKind::ConnectionReset,
                    _ => io::ErrorKind::InvalidData,
                };
                self.failed = true;
                self.end = Some(ReadEnd::Failed(kind));
                Err(io::Error::new(kind, error))
            }
        }
    }

    /// One read from the stream below, and what follows from it. Ready without plaintext and without an end means that
    /// it was none, or not enough: call again.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut io) = self.io.take() else { return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())) };
        let held = self.incoming.len();
        let want = (into.remaining() + READ_LEAST / 16).clamp(READ_LEAST, READ_MOST);
        let result: Poll<io::Result<()>> = scratch::with(held + want, |buffer| {
            let (front, back) = buffer.split_at_mut(held);
            let mut space = ReadBuf::new(back.get_mut(..want).unwrap_or_default());
            ready!(Pin::new(&mut io).poll_read(cx, &mut space))?;
            let new = space.filled().len();
            if new == 0 {
                self.end = Some(ReadEnd::Truncated);
                self.incoming = Vec::new();
                return Poll::Ready(Ok(()));
            }
            front.copy_from_slice(&self.incoming);
            self.incoming = Vec::new();
            let all = buffer.get_mut(..held + new).unwrap_or_default();
            let used = self.drive(all, into, &mut Action::None)?.used;
            if self.end.is_none() {
                self.incoming = all.get(used..).unwrap_or_default().to_vec();
            }
            Poll::Ready(Ok(()))
        });
        self.io = Some(io);
        if let Poll::Ready(Err(error)) = &result {
            self.end.get_or_insert(ReadEnd::Failed(error.kind()));
        }
        result
    }

    /// Sends what was encrypted and not yet taken.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Pin::new(io).poll_flush(cx)
    }

    /// Encrypts `data`, together at most [`WRITE_SIZE`], and sends what the stream below takes of it: how much it was.
    fn send(&mut self, cx: &mut Context<'_>, data: [&[u8]; 2]) -> io::Result<usize> {
        let size: usize = data.iter().map(|part| part.len()).sum();
        if size == 0 {
            return Ok(0);
        }
        scratch::with(size + WRITE_OVERHEAD, |buffer| {
            let mut action = Action::Encrypt { plain: data, out: buffer };
            self.act(&mut action)?;
            let Action::Encrypted(written) = action else { return Err(io::ErrorKind::BrokenPipe.into()) };
            self.pass_on(cx, buffer.get(..written).unwrap_or_default())?;
            Ok(size)
        })
    }

    /// Has the session do something; what it holds of ciphertext goes along, as it may refer to it.
    fn act(&mut self, action: &mut Action<'_>) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.incoming);
        let driven = self.drive(&mut held, &mut ReadBuf::new(&mut []), action)?;
        if driven.used > 0 {
            held.drain(..driven.used.min(held.len()));
        }
        self.incoming = held;
        Ok(())
    }

    fn pass_on(&mut self, cx: &mut Context<'_>, cipher: &[u8]) -> io::Result<()> {
        let mut rest = cipher;
        if self.outgoing.is_empty() {
            let Some(io) = &mut self.io else { return Err(io::ErrorKind::BrokenPipe.into()) };
            while !rest.is_empty() {
                match Pin::new(&mut *io).poll_write(cx, rest) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(n)) => rest = rest.get(n..).unwrap_or_default(),
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => break,
                }
            }
        }
        self.slow = !rest.is_empty();
        self.outgoing.extend_from_slice(rest);
        Ok(())
    }
}

impl AsyncRead for TlsTransport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        loop {
            if !self.plain.is_empty() {
                let n = self.plain.len().min(buf.remaining());
                buf.put_slice(self.plain.get(..n).unwrap_or_default());
                self.plain.advance(n);
                if self.plain.is_empty() {
                    self.plain = Bytes::new();
                }
            }
            if buf.filled().len() > start || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match self.end {
                None => {}
                Some(ReadEnd::Closed) => return Poll::Ready(Ok(())),
                Some(ReadEnd::Truncated) if self.lenient => return Poll::Ready(Ok(())),
                Some(ReadEnd::Truncated) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(ReadEnd::Failed(kind)) => return Poll::Ready(Err(kind.into())),
            }
            let result = self.poll_receive(cx, buf);
            if !self.outgoing.is_empty() {
                // An answer to a key update, or an alert. If it has to wait, the next write or flush sends it.
                let _ = self.poll_send(cx);
            }
            match result {
                Poll::Ready(Err(_)) if buf.filled().len() > start => {}
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for TlsTransport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let most = ready!(self.poll_writable(cx))?;
        Poll::Ready(self.send(cx, [data.get(..most).unwrap_or(data), &[]]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = data {
            return self.poll_write(cx, one);
        }
        let most = ready!(self.poll_writable(cx))?;
        // Of a large one no more is joined than fills a record.
        let joins = |slice: &io::IoSlice<'_>| if slice.len() < LARGE { slice.len() } else { RECORD };
        let mut joined = Vec::with_capacity(data.iter().map(joins).sum::<usize>().min(most));
        let mut large = &[][..];
        for slice in data {
            let room = most.saturating_sub(joined.len());
            let fill = joined.len().next_multiple_of(RECORD) - joined.len();
            if slice.len() >= LARGE && fill <= room {
                let (front, rest) = slice.split_at(fill);
                joined.extend_from_slice(front);
                large = rest.get(..room - fill).unwrap_or(rest);
                break;
            }
            joined.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        Poll::Ready(self.send(cx, [&joined, large]))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing && !self.failed {
            self.act(&mut Action::Close)?;
        }
        self.closing = true;
        ready!(self.poll_send(cx))?;
        match &mut self.io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Transport for TlsTransport {
    fn abort(&mut self) {
        self.failed = true;
        self.outgoing = Vec::new();
        self.end.get_or_insert(ReadEnd::Failed(io::ErrorKind::ConnectionAborted));
        if let Some(io) = self.io.take() {
            io.abort();
        }
    }

    fn into_halves(mut self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        self.lenient = true;
        transport_halves(*self)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(io) = &mut self.io else { return Poll::Ready(()) };
        let Some(socket) = io.tcp_socket() else { return io.poll_closed(cx) };
        let event = self.reset.get_or_insert_with(|| Box::new(Box::pin(adit_io::error_event(socket.clone()))));
        event.as_mut().as_mut().poll(cx)
    }

    fn truncated(&self) -> bool {
        matches!(self.end, Some(ReadEnd::Truncated))
    }
}
