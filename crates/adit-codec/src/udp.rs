//! UDP over a stream (RFC 9298): payloads in DATAGRAM capsules, or in datagrams beside the stream where there are any.

mod bridge;
mod relay;

use std::task::{Context, Poll, ready};

use adit_http::capsule::{self, CapsuleError, Decoder};
use adit_http::{ErrorCode, StreamError};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

pub use bridge::bridge;
pub use relay::{DatagramPort, UdpCause, UdpRelayOptions, relay_udp};

use crate::{Datagrams, RecvStream, SendStream};

/// Bytes asked of a stream at once.
const READ: usize = 64 << 10;
/// Capsules that may wait for the stream where no limit is lower.
const MAX_WAITING: usize = 64 << 10;

/// Both halves of an accepted CONNECT-UDP, as UDP payloads.
pub struct UdpTunnel {
    recv: Box<dyn RecvStream>,
    send: Box<dyn SendStream>,
    /// Datagrams beside the stream.
    beside: Option<Box<dyn Datagrams>>,
    decoder: Decoder,
    /// Bytes of the stream that were not looked at.
    input: Bytes,
    /// Capsules that wait, and those on their way.
    waiting: BytesMut,
    sending: Bytes,
    limit: usize,
    over: bool,
}

impl UdpTunnel {
    /// From the halves. `limit` bounds the bytes that wait for the peer; one payload always fits.
    pub fn new(mut recv: Box<dyn RecvStream>, send: Box<dyn SendStream>, limit: usize) -> Self {
        Self {
            beside: recv.datagrams(),
            recv,
            send,
            decoder: Decoder::default(),
            input: Bytes::new(),
            waiting: BytesMut::new(),
            sending: Bytes::new(),
            limit: limit.clamp(1, MAX_WAITING),
            over: false,
        }
    }

    /// The next UDP payload, which may be empty; `None` once the peer ended the stream. Capsules of other types and
    /// datagrams of other contexts are dropped; what makes no sense is an error.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        while let Some(beside) = &mut self.beside {
            match beside.poll_recv(cx) {
                Poll::Ready(Some(datagram)) => match capsule::udp_payload(datagram) {
                    Ok(Some(payload)) => return Poll::Ready(Some(Ok(payload))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(malformed(error)))),
                },
                // The stream itself will say what became of the connection.
                Poll::Ready(None) => self.beside = None,
                Poll::Pending => break,
            }
        }
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            while !self.input.is_empty() {
                match self.decoder.next(&mut self.input).and_then(|found| found.map(capsule::udp_payload).transpose()) {
                    Ok(Some(Some(payload))) => return Poll::Ready(Some(Ok(payload))),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Some(Err(malformed(error)))),
                }
            }
            // A slice of the last chunk would keep all of it.
            self.input = Bytes::new();
            match ready!(self.recv.poll_chunk(cx, READ)) {
                Some(Ok(chunk)) => self.input = chunk,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.over = true;
                    return Poll::Ready(self.decoder.end().err().map(|error| Err(malformed(error))));
                }
            }
        }
    }

    /// Whether a payload would be taken.
    pub fn has_room(&self) -> bool {
        self.waiting.len() + self.sending.len() < self.limit
    }

    /// Takes a payload to be sent, if there is room for it: as a datagram where that works, else as a capsule.
    pub fn push(&mut self, payload: &[u8]) -> bool {
        if let Some(beside) = &mut self.beside
            && beside.max_size().is_some_and(|max| payload.len() < max)
            && beside.send(&[&[0], payload]).is_ok()
        {
            return true;
        }
        let room = self.has_room();
        if room {
            capsule::put_udp(&mut self.waiting, payload);
        }
        room
    }

    /// Ready once everything taken is on its way.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        loop {
            if self.sending.is_empty() {
                if self.waiting.is_empty() {
                    // Nothing is held while nothing moves.
                    self.waiting = BytesMut::new();
                    return self.send.poll_flush(cx);
                }
                self.sending = std::mem::take(&mut self.waiting).freeze();
            }
            ready!(self.send.poll_send(cx, &mut self.sending, false))?;
            self.sending = Bytes::new();
        }
    }

    /// Sends what waits, and the end behind it.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_flush(cx))?;
        ready!(self.send.poll_send(cx, &mut Bytes::new(), true))?;
        self.send.poll_flush(cx)
    }

    /// Ready when the peer takes nothing any more.
    pub fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.send.poll_stopped(cx)
    }

    /// The trailers behind the end of the stream.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.recv.poll_trailers(cx)
    }

    /// Ends both directions without an end.
    pub fn reset(&mut self, code: ErrorCode) {
        self.send.reset(code);
        self.recv.stop(code);
    }
}

fn malformed(error: CapsuleError) -> StreamError {
    match error {
        CapsuleError::TooLong => StreamError::TooLarge("capsule.datagram_too_long"),
        CapsuleError::NoContext => StreamError::Protocol("capsule.no_context_id"),
        CapsuleError::Truncated => StreamError::Protocol("capsule.truncated"),
    }
}
