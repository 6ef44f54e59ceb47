//! A stream whose datagrams travel beside it, as one whose datagrams are capsules on it: for tunnels that are passed on to
//! where there is no such thing, or where it has another connection's limits (RFC 9297 section 3.5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use adit_http::capsule::{DATAGRAM, MAX_DATAGRAM, put_varint, varint};
use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSink, ByteSource};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;

use crate::{Datagrams, RecvStream, SendStream};

/// The longest type and length of a capsule.
const MAX_HEADER: usize = 16;

type Shared = Arc<Mutex<Box<dyn Datagrams>>>;

/// The two halves of an accepted CONNECT-UDP with every datagram as a capsule, in both directions. Halves without
/// datagrams beside them stay as they are; capsules of other types pass as they are.
pub fn bridge(mut recv: Box<dyn RecvStream>, send: Box<dyn SendStream>) -> (Box<dyn RecvStream>, Box<dyn SendStream>) {
    let Some(datagrams) = recv.datagrams() else { return (recv, send) };
    let shared = Arc::new(Mutex::new(datagrams));
    let recv = BridgedRecv { inner: recv, datagrams: Some(shared.clone()), place: Place::default() };
    let send = BridgedSend {
        inner: send,
        datagrams: shared,
        place: Place::default(),
        held: BytesMut::new(),
        raw: Bytes::new(),
    };
    (Box::new(recv), Box::new(send))
}

fn lock(shared: &Shared) -> MutexGuard<'_, Box<dyn Datagrams>> {
    // A poisoned lock still guards whole datagrams.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where in a stream of capsules a byte is.
#[derive(Debug)]
enum Place {
    /// Behind so many bytes of a type and a length.
    Header([u8; MAX_HEADER], usize),
    /// Before so many bytes of a payload.
    Payload(u64),
}

impl Default for Place {
    fn default() -> Self {
        Self::Header([0; MAX_HEADER], 0)
    }
}

impl Place {
    fn is_boundary(&self) -> bool {
        matches!(self, Self::Header(_, 0))
    }

    /// Takes one byte of a type and a length; what they are, once they are whole.
    fn header(held: &mut [u8; MAX_HEADER], len: &mut usize, byte: u8) -> Option<(u64, u64)> {
        *held.get_mut(*len)? = byte;
        *len += 1;
        let bytes = held.get(..*len)?;
        let (kind, first) = varint(bytes)?;
        let (length, _) = varint(bytes.get(first..)?)?;
        Some((kind, length))
    }

    fn payload(length: u64) -> Self {
        if length == 0 { Self::default() } else { Self::Payload(length) }
    }

    /// Moves past bytes.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self {
                Self::Header(held, len) => {
                    if let Some((_, length)) = Self::header(held, len, bytes.get_u8()) {
                        *self = Self::payload(length);
                    }
                }
                Self::Payload(left) => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.advance(passed);
                    *self = Self::payload(*left - passed as u64);
                }
            }
        }
    }
}

struct BridgedRecv {
    inner: Box<dyn RecvStream>,
    /// `None` once there come no more.
    datagrams: Option<Shared>,
    place: Place,
}

impl ByteSource for BridgedRecv {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.place.is_boundary()
            && let Some(shared) = &self.datagrams
        {
            let received = lock(shared).poll_recv(cx);
            match received {
                Poll::Ready(Some(payload)) => {
                    let mut capsule = BytesMut::with_capacity(payload.len() + 9);
                    put_varint(&mut capsule, DATAGRAM);
                    put_varint(&mut capsule, payload.len() as u64);
                    capsule.put(payload);
                    return Poll::Ready(Some(Ok(capsule.freeze())));
                }
                Poll::Ready(None) => self.datagrams = None,
                Poll::Pending => {}
            }
        }
        let chunk = ready!(self.inner.poll_chunk(cx, max));
        if let Some(Ok(chunk)) = &chunk {
            self.place.pass(chunk);
        }
        Poll::Ready(chunk)
    }

    fn stop(&mut self, code: ErrorCode) {
        self.inner.stop(code);
    }

    fn truncated(&self) -> bool {
        self.inner.truncated()
    }
}

impl RecvStream for BridgedRecv {
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.inner.poll_trailers(cx)
    }

    fn is_end(&self) -> bool {
        self.inner.is_end()
    }
}

struct BridgedSend {
    inner: Box<dyn SendStream>,
    datagrams: Shared,
    place: Place,
    /// A DATAGRAM capsule that is not whole, from its type on; nothing within any other one.
    held: BytesMut,
    /// Bytes that go on as they are.
    raw: Bytes,
}

impl BridgedSend {
    /// Takes bytes off `data`, until some are to go on as they are or there are none left.
    fn take(&mut self, data: &mut Bytes) {
        while !data.is_empty() && self.raw.is_empty() {
            match &mut self.place {
                Place::Header(head, len) => {
                    let Some((kind, length)) = Place::header(head, len, data.get_u8()) else { continue };
                    let head = head.get(..*len).unwrap_or_default();
                    if kind == DATAGRAM && length <= MAX_DATAGRAM as u64 {
                        self.held.extend_from_slice(head);
                    } else {
                        self.raw = Bytes::copy_from_slice(head);
                    }
                    self.place = Place::payload(length);
                }
                Place::Payload(left) => {
                    let taken = data.split_to(usize::try_from(*left).unwrap_or(usize::MAX).min(data.len()));
                    self.place = Place::payload(*left - taken.len() as u64);
                    if self.held.is_empty() {
                        self.raw = taken;
                    } else {
                        self.held.extend_from_slice(&taken);
                    }
                }
            }
            if self.place.is_boundary() && !self.held.is_empty() {
                self.send_held();
            }
        }
    }

    /// Sends a whole DATAGRAM capsule beside the stream; one that does not fit there goes on as it is.
    fn send_held(&mut self) {
        let capsule = std::mem::take(&mut self.held).freeze();
        let header = varint(&capsule).and_then(|(_, kind)| Some(kind + varint(capsule.get(kind..)?)?.1));
        let payload = header.and_then(|header| capsule.get(header..)).unwrap_or_default();
        let mut datagrams = lock(&self.datagrams);
        let fits = datagrams.max_size().is_some_and(|max| payload.len() <= max);
        if !(fits && datagrams.send(&[payload]).is_ok()) {
            drop(datagrams);
            self.raw = capsule;
        }
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if !self.raw.is_empty() {
            ready!(self.inner.poll_send(cx, &mut self.raw, false))?;
            self.raw = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl ByteSink for BridgedSend {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        loop {
            ready!(self.poll_raw(cx))?;
            if !data.is_empty() {
                self.take(data);
            } else if !end {
                return Poll::Ready(Ok(()));
            } else if let Place::Header(head, len @ 1..) = &self.place {
                // A capsule cut short arrives cut short.
                self.raw = Bytes::copy_from_slice(head.get(..*len).unwrap_or_default());
                self.place = Place::default();
            } else if !self.held.is_empty() {
                self.raw = std::mem::take(&mut self.held).freeze();
            } else {
                return self.inner.poll_send(cx, &mut Bytes::new(), true);
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_raw(cx))?;
        self.inner.poll_flush(cx)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.inner.poll_stopped(cx)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.inner.reset(code);
    }
}

impl SendStream for BridgedSend {
    fn poll_send_trailers(&mut self, cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_raw(cx))?;
        self.inner.poll_send_trailers(cx, trailers)
    }
}
