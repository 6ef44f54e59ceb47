//! The serving side of a connection.

mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use adit_codec::{ConnError, IncomingStream, Meter, RecvStream, ServerConn};
use adit_http::{ErrorCode, ResponseHead, Scheme, StreamError};
use adit_io::Io;
use bytes::{Buf, BytesMut};
use tokio::time::Sleep;

use crate::config::ServerConfig;
use crate::decode::{Body, Decoder, Limits};
use crate::encode::{self, Answering};
use crate::io::{self, Reader, Watch, WriteHalf};
use crate::recv::{NoBody, Recv};
use crate::refuse::Refusal;
use crate::request::{self, Request};
use crate::scan::{Extent, Scan, Scanner};
use crate::slot::{Shared, Side, Slot};
use stream::ServerStream;

/// Input read and thrown away behind a closing answer, in bytes at most.
const MAX_LINGER: usize = 1 << 20;
/// How long a closing answer may take to leave where `delayed_close_timeout` is off.
const MAX_CLOSING: Duration = Duration::from_secs(60);

/// What a connection does now.
///
/// ```text
/// Head -- a head was taken --> Live -- both directions done, may be kept --> Head
///   |                            |---- not to be kept ----------------------> Closing
///   |-- refused, peer gone ------+------------------------------------------> Closing -- FIN sent --> Lingering --> Over
///   any -- reset, lost ----------------------------------------------------------------------------------------> Over
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Live,
    Closing { linger: bool },
    Lingering,
    Over,
}

/// The serving side of one HTTP/1.1 connection: requests one after the other, in the order they came.
///
/// After a closing answer it sends a FIN and reads on for `delayed_close_timeout`, so that the answer is not lost to an
/// RST; only then it reports its end, or the error that the answer was for.
pub struct Server {
    cfg: Arc<ServerConfig>,
    slot: Arc<Slot>,
    /// Until the connection is over: to reset it, and to watch it.
    handle: Option<WriteHalf>,
    reader: Option<Reader>,
    /// Whom the socket wakes when there is something to read; nobody else reads from it while the reader is here.
    waits: Option<Waker>,
    scheme: Scheme,
    phase: Phase,
    /// An empty line in front of the head was skipped (RFC 9112 section 2.2).
    skipped_line: bool,
    drained: bool,
    scanner: Scanner,
    lingered: usize,
    /// Of `request_headers_timeout`, then of `delayed_close_timeout`.
    timer: Option<Pin<Box<Sleep>>>,
    /// Sees a reset where it cannot be read, because input is waiting in front of it.
    watch: Option<Watch>,
    verdict: Option<Box<ConnError>>,
    owner: Option<Arc<dyn Owner>>,
}

/// Who has a connection served: words the answers that the codec gives by itself, and hears what it does unasked.
pub trait Owner: Send + Sync {
    /// The answer to a head that is not taken: its own head, `content-length` included, and its body. Asked once, when it
    /// is sent. `details` is Envoy's response-code detail; `meter` knows what was received and, with [`answer_size`], what is
    /// sent.
    fn refuse(
        &self,
        status: http::StatusCode,
        details: &'static str,
        meter: Arc<Meter>,
    ) -> (ResponseHead, bytes::Bytes);

    /// Something happened.
    fn event(&self, event: Event);
}

/// The size of what [`Owner::refuse`] gives, without its body, as it is sent, and of the fields in it.
pub fn answer_size(head: &ResponseHead, body: &bytes::Bytes) -> (usize, usize) {
    let mut out = Vec::new();
    encode::worded(&mut out, head, body, crate::HeaderCase::Lower);
    out.truncate(out.len().saturating_sub(body.len()));
    encode::measure(&out)
}

/// What a codec does unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A 100 was sent, because the client waited for it.
    Continued,
    /// The peer left in the middle of a head, of which it sent so many bytes.
    LeftInHead(usize),
    /// This side ends the connection: an answer was the last one, or a head was refused.
    Closing,
    /// The peer did not close within `delayed_close_timeout`.
    CloseTimedOut,
}

impl Server {
    pub(crate) fn new(io: Io, cfg: Arc<ServerConfig>, owner: Option<Arc<dyn Owner>>) -> Self {
        let scheme = if io.info.tls.is_some() { Scheme::Https } else { Scheme::Http };
        let (reader, writer) = io::split(io);
        let handle = Some(writer.handle());
        let slot = Slot::new(None, writer);
        slot.lock().driven_last = owner.is_some();
        Self {
            cfg,
            slot: Arc::new(slot),
            handle,
            reader: Some(reader),
            waits: None,
            scheme,
            phase: Phase::Head,
            skipped_line: false,
            drained: false,
            scanner: Scanner::default(),
            lingered: 0,
            timer: None,
            watch: None,
            verdict: None,
            owner,
        }
    }

    fn tell(&self, event: Event) {
        if let Some(owner) = &self.owner {
            owner.event(event);
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingStream>> {
        loop {
            let Some(reader) = &mut self.reader else {
                self.phase = Phase::Over;
                return Poll::Ready(None);
            };
            if !self.skipped_line && reader.buf.starts_with(b"\r\n") {
                self.skipped_line = true;
                reader.buf.advance(2);
            }
            match find_head(&mut self.scanner, &reader.buf, self.cfg.max_head_bytes) {
                Ok(Some(Extent { length, lines })) => {
                    let head = reader.take(length);
                    match request::parse(&head, lines, &self.cfg, self.scheme) {
                        Ok(request) => return Poll::Ready(Some(self.start(request, length))),
                        Err(refusal) => {
                            let fields = request::refused_fields(&head, &refusal, self.cfg.max_headers);
                            let received = length + reader.buf.len();
                            return self.refuse(refusal, received, fields);
                        }
                    }
                }
                Ok(None) => {}
                Err(refusal) => {
                    let received = reader.buf.len();
                    return self.refuse(refusal, received, 0);
                }
            }
            let empty = reader.buf.is_empty();
            if empty {
                reader.buf = BytesMut::new();
                if self.drained {
                    self.tell(Event::Closing);
                    self.phase = Phase::Closing { linger: false };
                    return Poll::Ready(None);
                }
            }
            match reader.poll_fill_or_wait(cx, &mut self.waits) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return self.lost_in_head(empty, StreamError::Truncated),
                Poll::Ready(Err(error)) => return self.lost_in_head(empty, error),
                Poll::Pending => {
                    if !empty && self.poll_head_timer(cx).is_ready() {
                        let received = self.reader.as_ref().map_or(0, |reader| reader.buf.len());
                        return self.refuse(Refusal::HEAD_TIMEOUT, received, 0);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_head_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.cfg.request_headers_timeout else { return Poll::Pending };
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx)
    }

    /// Answers a head that is not taken; nothing behind it is looked at.
    fn refuse(&mut self, refusal: Refusal, received: usize, fields: usize) -> Poll<Option<IncomingStream>> {
        let answer = self.owner.as_ref().map(|owner| {
            let meter = Arc::new(Meter::default());
            meter.received(received + self.skipped(), fields);
            owner.refuse(refusal.status, refusal.details, meter)
        });
        self.tell(Event::Closing);
        if let Some(writer) = &mut self.slot.lock().writer {
            match answer {
                Some((head, body)) => encode::worded(writer.room(), &head, &body, self.cfg.header_case),
                None => encode::refusal(writer.room(), refusal.status, self.cfg.header_case),
            }
        }
        self.timer = None;
        self.verdict = Some(Box::new(ConnError {
            error: refusal.error(),
            answered: Some(refusal.status),
            details: refusal.details,
        }));
        self.phase = Phase::Closing { linger: true };
        Poll::Ready(None)
    }

    /// The peer is gone. Between two messages that is how connections end.
    fn lost_in_head(&mut self, between: bool, error: StreamError) -> Poll<Option<IncomingStream>> {
        self.timer = None;
        if !between {
            let received = self.reader.as_ref().map_or(0, |reader| reader.buf.len());
            self.tell(Event::LeftInHead(received + self.skipped()));
            self.verdict = Some(Box::new(ConnError { error, answered: None, details: "downstream_remote_disconnect" }));
        }
        let ended = self.reader.as_ref().is_some_and(|reader| reader.eof);
        self.phase = if ended { Phase::Closing { linger: false } } else { Phase::Over };
        Poll::Ready(None)
    }

    /// Bytes of the empty line that was skipped in front of the head.
    fn skipped(&self) -> usize {
        if self.skipped_line { 2 } else { 0 }
    }

    fn start(&mut self, request: Request, length: usize) -> IncomingStream {
        let Request { head, body, keep_alive, expect_continue, fields } = request;
        let meter = Arc::new(Meter::default());
        meter.received(length + self.skipped(), fields);
        self.phase = Phase::Live;
        self.scanner = Scanner::default();
        self.timer = None;
        self.skipped_line = false;
        let reader = if body == Body::Empty { None } else { self.reader.take() };
        if reader.is_some() {
            self.waits = None;
        }
        let mut shared = self.slot.lock();
        shared.send = Side::Open;
        shared.recv = if reader.is_some() { Side::Open } else { Side::Done };
        shared.last = !keep_alive || self.drained;
        shared.watched = reader.is_none();
        if expect_continue
            && body == Body::Raw
            && let Some(writer) = &mut shared.writer
        {
            writer.room().extend_from_slice(crate::CONTINUE);
            meter.sent(crate::CONTINUE.len(), 0);
            shared.continued = true;
        }
        drop(shared);
        let recv: Box<dyn RecvStream> = match reader {
            None => Box::new(NoBody),
            Some(reader) => {
                let limits = Limits {
                    max_bytes: self.cfg.max_head_bytes,
                    max_fields: self.cfg.max_headers,
                    keep: self.cfg.enable_trailers,
                };
                let decoder = Decoder::new(body, limits);
                let mut recv = Recv::new(reader, decoder, body == Body::Raw, self.slot.clone(), meter.clone());
                recv.expect_continue = expect_continue && body != Body::Raw;
                Box::new(recv)
            }
        };
        let to = Answering::to(&head, keep_alive);
        let responder = Box::new(ServerStream::new(self.slot.clone(), &self.cfg, to, meter.clone()));
        IncomingStream { head, recv, responder, meter: Some(meter) }
    }

    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.slot.lock();
        Shared::wait(&mut shared.conn, cx.waker());
        if shared.aborted.is_some() || shared.send == Side::Cut {
            self.phase = Phase::Over;
            return Poll::Ready(());
        }
        if self.reader.is_none() {
            self.reader = shared.reader.take();
        }
        let unanswered = shared.send == Side::Open;
        let ends_tunnel = shared.tunnel && !unanswered;
        let flushed = match &mut shared.writer {
            Some(writer) if ends_tunnel => writer.poll_end(cx),
            Some(writer) => writer.poll_flush(cx),
            None => Poll::Ready(Ok(())),
        };
        match flushed {
            Poll::Ready(Ok(())) if ends_tunnel => shared.writer = None,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) if unanswered => shared.set_lost(error),
            Poll::Ready(Err(_)) => {
                self.phase = Phase::Over;
                return Poll::Ready(());
            }
            Poll::Pending => {}
        }
        if flushed.is_ready() && !unanswered && shared.recv != Side::Open {
            self.phase = match (shared.tunnel, shared.last || shared.recv == Side::Cut) {
                (true, _) => Phase::Over,
                (false, true) => Phase::Closing { linger: true },
                (false, false) => Phase::Head,
            };
            shared.lost = None;
            shared.canceller = None;
            let continued = std::mem::take(&mut shared.continued);
            drop(shared);
            self.watch = None;
            if continued {
                self.tell(Event::Continued);
            }
            if matches!(self.phase, Phase::Closing { .. }) {
                self.tell(Event::Closing);
            }
            return Poll::Ready(());
        }
        if unanswered && shared.writer.is_some() && self.reader.is_some() {
            shared.watched = true;
            drop(shared);
            if let Poll::Ready(error) = self.poll_lost(cx) {
                self.slot.lock().set_lost(error);
            }
        }
        Poll::Pending
    }

    /// While a request waits for its answer: ready when the peer has reset the connection. One read of pipelined input is
    /// taken; a FIN is a half-close, and no reason to stop.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let Some(reader) = &mut self.reader else { return Poll::Pending };
        if reader.buf.is_empty() && !reader.eof {
            match ready!(reader.poll_fill_or_wait(cx, &mut self.waits)) {
                Ok(_) => {}
                Err(error) => {
                    reader.eof = true;
                    return Poll::Ready(error);
                }
            }
        }
        let Some(WriteHalf::Tcp(socket)) = &self.handle else { return Poll::Pending };
        ready!(self.watch.get_or_insert_with(|| Watch::new(socket)).poll(cx));
        self.watch = None;
        Poll::Ready(StreamError::Reset(ErrorCode::Cancel))
    }

    /// Sends what is queued and a FIN.
    fn poll_closing(&mut self, cx: &mut Context<'_>, linger: bool) -> Poll<()> {
        let mut shared = self.slot.lock();
        if self.reader.is_none() {
            self.reader = shared.reader.take();
        }
        let sent = match shared.writer.as_mut().map(|writer| writer.poll_end(cx)) {
            Some(Poll::Ready(result)) => result.is_ok(),
            // A peer that does not take the answer is not waited for any longer than one that does not close.
            Some(Poll::Pending) => {
                let timeout = Some(self.cfg.delayed_close_timeout).filter(|timeout| !timeout.is_zero());
                let timeout = timeout.unwrap_or(MAX_CLOSING);
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                ready!(timer.as_mut().poll(cx));
                false
            }
            None => false,
        };
        self.timer = None;
        let open = self.reader.as_ref().is_some_and(|reader| !reader.eof);
        let timeout = self.cfg.delayed_close_timeout;
        self.phase = if sent && open && linger && !timeout.is_zero() {
            self.timer = Some(Box::pin(tokio::time::sleep(timeout)));
            Phase::Lingering
        } else {
            Phase::Over
        };
        Poll::Ready(())
    }

    /// Reads and throws away until the peer's FIN, or until it has been enough.
    fn poll_lingering(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut over = self.timer.as_mut().is_none_or(|timer| timer.as_mut().poll(cx).is_ready());
        if over {
            self.tell(Event::CloseTimedOut);
        }
        while !over {
            let Some(reader) = &mut self.reader else { break };
            reader.buf = BytesMut::new();
            over = !matches!(ready!(reader.poll_fill_or_wait(cx, &mut self.waits)), Ok(true));
            self.lingered += reader.buf.len();
            over |= self.lingered > MAX_LINGER;
        }
        self.phase = Phase::Over;
        Poll::Ready(())
    }
}

impl ServerConn for Server {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<IncomingStream, ConnError>>> {
        loop {
            match self.phase {
                Phase::Head => {
                    if let Some(stream) = ready!(self.poll_head(cx)) {
                        return Poll::Ready(Some(Ok(stream)));
                    }
                }
                Phase::Live => ready!(self.poll_live(cx)),
                Phase::Closing { linger } => ready!(self.poll_closing(cx, linger)),
                Phase::Lingering => ready!(self.poll_lingering(cx)),
                Phase::Over => {
                    self.reader = None;
                    self.timer = None;
                    self.watch = None;
                    self.handle = None;
                    let mut shared = self.slot.lock();
                    shared.writer = None;
                    shared.reader = None;
                    drop(shared);
                    return Poll::Ready(self.verdict.take().map(|verdict| Err(*verdict)));
                }
            }
        }
    }

    fn drain(&mut self) {
        self.drained = true;
        if let Some(waits) = &self.waits {
            waits.wake_by_ref();
        }
        self.slot.update(|shared| shared.last = true);
    }

    fn abort(&mut self, code: ErrorCode) {
        if self.phase == Phase::Over {
            return;
        }
        let mut shared = self.slot.lock();
        shared.aborted.get_or_insert(StreamError::Local(code));
        shared.send = Side::Cut;
        shared.last = true;
        if let Some(handle) = &self.handle {
            handle.reset(code);
        }
        if let Some(writer) = &mut shared.writer {
            writer.clear();
        }
        let wakers = shared.take_wakers();
        drop(shared);
        wakers.into_iter().flatten().chain(self.waits.take()).for_each(Waker::wake);
        self.phase = Phase::Over;
    }

    fn live_streams(&self) -> usize {
        usize::from(self.phase == Phase::Live)
    }
}

/// Looks for a complete head at the front of `buf`. What cannot become one is refused as early as that is seen.
pub(crate) fn find_head(scanner: &mut Scanner, buf: &[u8], max: usize) -> Result<Option<Extent>, Refusal> {
    let Some(first) = buf.first() else { return Ok(None) };
    match scanner.scan(buf) {
        Scan::Complete(extent) if extent.length <= max => Ok(Some(extent)),
        Scan::BadLine => Err(Refusal::CODEC),
        Scan::Partial if buf.len() <= max => {
            // A TLS record, say: no message starts so.
            if first.is_ascii_graphic() || *first == b'\r' { Ok(None) } else { Err(Refusal::CODEC) }
        }
        _ => Err(Refusal::HEAD_TOO_LARGE),
    }
}
