//! The unidirectional streams of a connection: SETTINGS and GOAWAY both ways, QPACK's streams, and what to refuse
//! (RFC 9114 sections 5.2, 6.2 and 7.2; RFC 9204 section 4).

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use quinn::{ConnectionError, ReadError, VarInt};

use crate::error::{Fatal, code};
use crate::frame::{self, Frame, Role};
use crate::inbound::{Inbound, Stop};
use crate::settings::{self, Settings};
use crate::shared::Shared;
use crate::varint;

/// Streams of types we do not know, in the life of a connection: greasing needs a few.
const MAX_UNKNOWN: u32 = 1000;
/// Frames or pieces taken from one stream in one poll before its neighbours have their turn.
const WORK: usize = 64;
/// Bytes read at once of what is thrown away.
const PIECE: usize = 4096;

mod stream_type {
    pub(super) const CONTROL: u64 = 0x0;
    pub(super) const PUSH: u64 = 0x1;
    pub(super) const ENCODER: u64 = 0x2;
    pub(super) const DECODER: u64 = 0x3;
}

type Open = Pin<Box<dyn Future<Output = Result<quinn::SendStream, ConnectionError>> + Send>>;
type Accept = Pin<Box<dyn Future<Output = Result<quinn::RecvStream, ConnectionError>> + Send>>;

/// The control plane of one connection.
pub(crate) struct Control {
    conn: quinn::Connection,
    is_server: bool,
    ours: Ours,
    /// What our control stream still has to say.
    out: Bytes,
    accept: Option<Accept>,
    /// Streams whose type has not come yet; as many as the transport lets the peer open.
    fresh: Vec<Fresh>,
    theirs: Option<Inbound>,
    encoder: Option<quinn::RecvStream>,
    decoder: Option<(quinn::RecvStream, QpackDecoderStream)>,
    unknown: u32,
    max_push_id: u64,
    last_goaway: Option<u64>,
}

/// Our control stream. Kept for the life of the connection: its end is an error.
enum Ours {
    Opening(Open),
    Open(quinn::SendStream),
}

struct Fresh {
    stream: quinn::RecvStream,
    prefix: Vec<u8>,
}

impl Control {
    pub(crate) fn new(conn: quinn::Connection, is_server: bool, settings: Settings) -> Self {
        let opening = {
            let conn = conn.clone();
            Box::pin(async move { conn.open_uni().await })
        };
        let mut out = Vec::with_capacity(32);
        varint::encode(stream_type::CONTROL, &mut out);
        settings::encode(settings, &mut out);
        Self {
            conn,
            is_server,
            ours: Ours::Opening(opening),
            out: out.into(),
            accept: None,
            fresh: Vec::new(),
            theirs: None,
            encoder: None,
            decoder: None,
            unknown: 0,
            max_push_id: 0,
            last_goaway: None,
        }
    }

    /// Says GOAWAY: streams from `id` on were not and will not be processed.
    pub(crate) fn goaway(&mut self, id: u64) {
        let mut out = self.out.to_vec();
        frame::header(frame::GOAWAY, varint::len(id) as u64, &mut out);
        varint::encode(id, &mut out);
        self.out = out.into();
    }

    /// Moves everything that can move. The end of the connection is not told here.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Result<(), Fatal> {
        self.poll_out(cx)?;
        self.poll_accept(cx);
        self.poll_fresh(cx)?;
        self.poll_theirs(cx, shared)?;
        self.poll_encoder(cx)?;
        self.poll_decoder(cx)
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Result<(), Fatal> {
        if let Ours::Opening(opening) = &mut self.ours {
            match opening.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => self.ours = Ours::Open(stream),
                Poll::Ready(Err(_)) => {
                    *opening = Box::pin(std::future::pending());
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
        }
        let Ours::Open(stream) = &mut self.ours else { return Ok(()) };
        while !self.out.is_empty() {
            let mut bufs = [std::mem::take(&mut self.out)];
            let polled = pin!(stream.write_chunks(&mut bufs)).poll(cx);
            [self.out] = bufs;
            match polled {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(quinn::WriteError::Stopped(_))) => {
                    return Err(Fatal(code::CLOSED_CRITICAL_STREAM, "control stream stopped"));
                }
                Poll::Ready(Err(_)) | Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        loop {
            let accept = self.accept.get_or_insert_with(|| {
                let conn = self.conn.clone();
                Box::pin(async move { conn.accept_uni().await })
            });
            match accept.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => {
                    self.accept = None;
                    self.fresh.push(Fresh { stream, prefix: Vec::new() });
                }
                // The end is told by whoever accepts requests; the future is not polled again.
                Poll::Ready(Err(_)) => {
                    self.accept = Some(Box::pin(std::future::pending()));
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Result<(), Fatal> {
        let mut index = 0;
        while let Some(fresh) = self.fresh.get_mut(index) {
            match fresh.poll_type(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(kind) => {
                    let fresh = self.fresh.swap_remove(index);
                    if let Some(kind) = kind {
                        self.assign(kind, fresh.stream)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn assign(&mut self, kind: u64, mut stream: quinn::RecvStream) -> Result<(), Fatal> {
        let twice = Err(Fatal(code::STREAM_CREATION_ERROR, "second stream of its kind"));
        match kind {
            stream_type::CONTROL if self.theirs.is_some() => return twice,
            stream_type::CONTROL => self.theirs = Some(Inbound::new(stream, Role::Control, 0)),
            stream_type::ENCODER if self.encoder.is_some() => return twice,
            stream_type::ENCODER => self.encoder = Some(stream),
            stream_type::DECODER if self.decoder.is_some() => return twice,
            stream_type::DECODER => self.decoder = Some((stream, QpackDecoderStream::default())),
            // Only a server may push, and only within what MAX_PUSH_ID allows: we never send it.
            stream_type::PUSH if self.is_server => {
                return Err(Fatal(code::STREAM_CREATION_ERROR, "push stream from a client"));
            }
            stream_type::PUSH => return Err(Fatal(code::ID_ERROR, "push without leave")),
            _ => {
                self.unknown += 1;
                if self.unknown > MAX_UNKNOWN {
                    return Err(Fatal(code::EXCESSIVE_LOAD, "too many streams of unknown types"));
                }
                let _ = stream.stop(VarInt::from_u32(code::STREAM_CREATION_ERROR));
            }
        }
        Ok(())
    }

    fn poll_theirs(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Result<(), Fatal> {
        for _ in 0..WORK {
            let Some(theirs) = &mut self.theirs else { return Ok(()) };
            match theirs.poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(Frame::Block(kind, payload))) => self.take_frame(kind, &payload, shared)?,
                Poll::Ready(Ok(Frame::Data(_))) => return Err(Fatal(code::FRAME_UNEXPECTED, "DATA on control stream")),
                Poll::Ready(Err(Stop::Fatal(fatal))) => return Err(fatal),
                Poll::Ready(Err(Stop::TooLarge)) => return Err(Fatal(code::EXCESSIVE_LOAD, "control frame too long")),
                Poll::Ready(Err(Stop::Lost(_))) => {
                    self.theirs = None;
                    return Ok(());
                }
                Poll::Ready(Err(Stop::End | Stop::Reset(_) | Stop::Closed)) => return Err(closed()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn take_frame(&mut self, kind: u64, payload: &[u8], shared: &Shared) -> Result<(), Fatal> {
        if kind == frame::SETTINGS {
            let settings = settings::decode(payload).map_err(|code| Fatal(code, "bad SETTINGS"))?;
            if shared.peer.set(settings).is_err() {
                return Err(Fatal(code::FRAME_UNEXPECTED, "second SETTINGS"));
            }
            shared.wake_ready();
            return Ok(());
        }
        if shared.peer.get().is_none() {
            return Err(Fatal(code::MISSING_SETTINGS, "control stream without SETTINGS"));
        }
        let id = match varint::decode(payload) {
            Some((id, size)) if size == payload.len() => id,
            _ => return Err(Fatal(code::FRAME_ERROR, "control frame of a wrong length")),
        };
        match kind {
            frame::GOAWAY => self.take_goaway(id, shared),
            frame::MAX_PUSH_ID if !self.is_server => Err(Fatal(code::FRAME_UNEXPECTED, "MAX_PUSH_ID from a server")),
            frame::MAX_PUSH_ID if id < self.max_push_id => Err(Fatal(code::ID_ERROR, "MAX_PUSH_ID went back")),
            frame::MAX_PUSH_ID => {
                self.max_push_id = id;
                Ok(())
            }
            // Nothing was ever pushed or promised.
            _ => Err(Fatal(code::ID_ERROR, "CANCEL_PUSH of nothing")),
        }
    }

    fn take_goaway(&mut self, id: u64, shared: &Shared) -> Result<(), Fatal> {
        if self.last_goaway.is_some_and(|last| id > last) || (!self.is_server && !id.is_multiple_of(4)) {
            return Err(Fatal(code::ID_ERROR, "bad id in GOAWAY"));
        }
        self.last_goaway = Some(id);
        // A client's GOAWAY is about pushes.
        if !self.is_server {
            shared.set_goaway(id);
            shared.wake_ready();
        }
        Ok(())
    }

    /// Our table has no capacity, so the only instruction is to set it to 0 (RFC 9204 sections 3.2.3 and 4.3.1).
    fn poll_encoder(&mut self, cx: &mut Context<'_>) -> Result<(), Fatal> {
        for _ in 0..WORK {
            let Some(stream) = &mut self.encoder else { return Ok(()) };
            match poll_piece(stream, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(bytes))) if bytes.iter().all(|byte| *byte == 0x20) => {}
                Poll::Ready(Some(Ok(_))) => {
                    return Err(Fatal(code::QPACK_ENCODER_STREAM_ERROR, "instruction for a table of no capacity"));
                }
                Poll::Ready(Some(Err(()))) => return Err(closed()),
                Poll::Ready(None) => self.encoder = None,
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_decoder(&mut self, cx: &mut Context<'_>) -> Result<(), Fatal> {
        for _ in 0..WORK {
            let Some((stream, state)) = &mut self.decoder else { return Ok(()) };
            match poll_piece(stream, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(bytes))) => {
                    if bytes.iter().any(|byte| !state.take(*byte)) {
                        return Err(Fatal(code::QPACK_DECODER_STREAM_ERROR, "acknowledgement of nothing"));
                    }
                }
                Poll::Ready(Some(Err(()))) => return Err(closed()),
                Poll::Ready(None) => self.decoder = None,
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

fn closed() -> Fatal {
    Fatal(code::CLOSED_CRITICAL_STREAM, "critical stream closed")
}

/// The next bytes of a stream; `Err` when it ended; `None` when the connection did.
fn poll_piece(stream: &mut quinn::RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
    let polled = pin!(stream.read_chunk(PIECE, true)).poll(cx);
    polled.map(|read| match read {
        Ok(Some(chunk)) => Some(Ok(chunk.bytes)),
        Err(ReadError::ConnectionLost(_)) => None,
        Ok(None) | Err(_) => Some(Err(())),
    })
}

impl Fresh {
    /// The type; `None` when the stream ended before it had one, which is allowed (RFC 9114 section 6.2).
    fn poll_type(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        loop {
            if let Some((kind, _)) = varint::decode(&self.prefix) {
                return Poll::Ready(Some(kind));
            }
            // Byte by byte: what follows the type belongs to the stream. At most eight.
            match std::task::ready!(pin!(self.stream.read_chunk(1, true)).poll(cx)) {
                Ok(Some(mut chunk)) if chunk.bytes.has_remaining() => self.prefix.push(chunk.bytes.get_u8()),
                _ => return Poll::Ready(None),
            }
        }
    }
}

/// Instructions of the peer's QPACK decoder (RFC 9204 section 4.4). We reference no dynamic entry, so only Stream
/// Cancellation means something: nothing.
#[derive(Debug, Default)]
struct QpackDecoderStream {
    in_integer: bool,
}

impl QpackDecoderStream {
    /// Whether the byte belongs to a Stream Cancellation.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_integer {
            self.in_integer = byte & 0x80 != 0;
            return true;
        }
        self.in_integer = byte & 0x3f == 0x3f;
        byte & 0xc0 == 0x40
    }
}
