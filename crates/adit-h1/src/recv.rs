//! The receiving half of a stream, for both sides.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{Meter, RecvStream};
use adit_http::{ErrorCode, StreamError};
use adit_io::ByteSource;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::decode::{Decoder, Step};
use crate::io::{Reader, SCRATCH};
use crate::slot::{Side, Slot};

/// A message without a body.
pub(crate) struct NoBody;

impl ByteSource for NoBody {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Ready(None)
    }

    fn stop(&mut self, _code: ErrorCode) {}
}

impl RecvStream for NoBody {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Ok(None))
    }

    fn is_end(&self) -> bool {
        true
    }
}

/// A body that is being received, or a tunnel's direction from the peer. Owns the reader until its end.
pub(crate) struct Recv {
    pub(crate) reader: Option<Reader>,
    pub(crate) decoder: Decoder,
    pub(crate) slot: Arc<Slot>,
    error: Option<StreamError>,
    /// Bytes are a tunnel's.
    raw: bool,
    /// Counts its framing.
    pub(crate) meter: Arc<Meter>,
    /// Bytes of it wait in the socket.
    spoke: bool,
    /// The sender waits for a 100 before it sends its body.
    pub(crate) expect_continue: bool,
}

impl Recv {
    pub(crate) fn new(reader: Reader, decoder: Decoder, raw: bool, slot: Arc<Slot>, meter: Arc<Meter>) -> Self {
        Self { reader: Some(reader), decoder, slot, error: None, raw, meter, spoke: false, expect_continue: false }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        let max = max.max(1);
        let Some(reader) = &mut self.reader else { return Poll::Ready(Ok(None)) };
        let (raw, slot) = (self.raw, &self.slot);
        // A body that only the end of its connection delimits is whole only if that end was one (RFC 9112 section 9.8):
        // a reset that the other half ran into reads as one here, as the kernel tells of it once.
        let end_of_input = |decoder: &mut Decoder, reader: &Reader| {
            let open = !raw && decoder.direct() == Some(u64::MAX);
            let cut = open && (reader.truncated() || slot.lock().lost.is_some());
            if cut { Err(StreamError::Truncated) } else { decoder.end_of_input() }
        };
        loop {
            let before = reader.buf.len();
            let step = self.decoder.step(&mut reader.buf, max).and_then(|step| {
                if let Step::Data(_) = step {
                    self.decoder.settle(&mut reader.buf)?;
                }
                Ok(step)
            });
            // What breaks the rules was received to the last byte.
            let step = step.inspect_err(|_| self.meter.received(before, 0))?;
            let payload = if let Step::Data(data) = &step { data.len() } else { 0 };
            match before - reader.buf.len() - payload {
                0 => {}
                framing => self.meter.received(framing, self.decoder.take_trailer_fields()),
            }
            match step {
                Step::End => return Poll::Ready(Ok(None)),
                Step::Data(data) => return Poll::Ready(Ok(Some(data))),
                Step::More => {}
            }
            reader.buf = if reader.buf.is_empty() { BytesMut::new() } else { std::mem::take(&mut reader.buf) };
            if let (true, Some(direct)) = (reader.buf.is_empty(), self.decoder.direct()) {
                let most = max.min(usize::try_from(direct).unwrap_or(usize::MAX));
                match ready!(reader.poll_direct(cx, most))? {
                    Some(data) => {
                        self.decoder.passed(data.len());
                        return Poll::Ready(Ok(Some(data)));
                    }
                    None => end_of_input(&mut self.decoder, reader)?,
                }
            } else if !ready!(reader.poll_fill(cx, max.max(SCRATCH)))? {
                end_of_input(&mut self.decoder, reader)?;
            }
        }
    }

    /// Gives the reader back once the body is over.
    fn finish(&mut self, cx: &Context<'_>) {
        if !self.decoder.is_done() {
            return;
        }
        if let Some(reader) = self.reader.take() {
            self.slot.update_in(cx, |shared| {
                shared.recv = Side::Done;
                shared.reader = Some(reader);
            });
        }
    }

    fn cut(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.slot.update(|shared| {
                shared.recv = Side::Cut;
                shared.last = true;
                shared.reader = Some(reader);
            });
        }
    }

    /// Sends the 100 that the sender waits for, unless the final answer was faster (RFC 9110 section 10.1.1).
    fn send_continue(&mut self, cx: &mut Context<'_>) {
        self.expect_continue = false;
        self.slot.update(|shared| {
            if shared.send == Side::Open
                && let Some(writer) = &mut shared.writer
            {
                writer.room().extend_from_slice(crate::CONTINUE);
                self.meter.sent(crate::CONTINUE.len(), 0);
                shared.continued = true;
                // What does not go now, or fails, is the connection's to see.
                let _ = writer.poll_drain(cx);
            }
        });
    }
}

impl ByteSource for Recv {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        if let Some(error) = self.error {
            return Poll::Ready(Some(Err(error)));
        }
        if self.expect_continue {
            self.send_continue(cx);
        }
        let result = match self.poll_body(cx, max) {
            Poll::Ready(result) => result,
            Poll::Pending if self.reader.as_ref().is_some_and(|reader| reader.socket().is_some()) => {
                return Poll::Pending;
            }
            Poll::Pending => Err(ready!(self.slot.park(0, cx))),
        };
        match &result {
            Ok(_) => self.finish(cx),
            Err(error) => {
                let error = self.slot.lock().aborted.unwrap_or(*error);
                self.error = Some(error);
                self.cut();
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(result.transpose())
    }

    fn stop(&mut self, code: ErrorCode) {
        if self.reader.is_some() {
            self.error = Some(StreamError::Local(code));
            self.cut();
        }
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        let reader = self.reader.as_ref()?;
        let idle = self.raw && reader.buf.is_empty() && !reader.eof;
        reader.socket().filter(|_| idle).map(|socket| &**socket)
    }
}

impl RecvStream for Recv {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        match self.error {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(self.decoder.take_trailers())),
        }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(reader) = self.reader.as_mut().filter(|reader| self.raw && !self.spoke && reader.buf.is_empty())
        else {
            return Poll::Pending;
        };
        let more = match reader.socket() {
            // What it sent stays in the socket.
            Some(socket) => {
                let mut byte = [0];
                ready!(socket.poll_peek(cx, &mut ReadBuf::new(&mut byte))).is_ok_and(|peeked| peeked > 0)
            }
            None => ready!(reader.poll_fill(cx, SCRATCH)).unwrap_or(false),
        };
        self.spoke = more;
        if more { Poll::Pending } else { Poll::Ready(()) }
    }

    fn is_end(&self) -> bool {
        self.error.is_none() && self.decoder.is_done() && !self.decoder.has_trailers()
    }

    fn detach(&mut self) -> Option<adit_io::Source> {
        if !self.raw || self.error.is_some() {
            return None;
        }
        let reader = self.reader.take_if(|reader| !reader.eof)?;
        self.slot.update(|shared| shared.recv = Side::Done);
        Some(reader.into_source())
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        self.cut();
    }
}
