//! The answer to come.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{Meter, PendingResponse, RecvStream};
use adit_http::{ErrorCode, ResponseHead, StreamError};
use adit_io::ByteSource;
use bytes::Bytes;
use http::HeaderMap;

use crate::config::ClientConfig;
use crate::decode::{Body, Decoder, Limits};
use crate::io::{Reader, SCRATCH, WriteHalf};
use crate::recv::{NoBody, Recv};
use crate::response::{self, Asked, Response};
use crate::scan::{Extent, Scanner};
use crate::server::find_head;
use crate::slot::{Side, Slot};

pub(super) struct Pending {
    /// The body to come; its reader reads the heads in front of it, and is gone once there is known to be no body.
    recv: Recv,
    cfg: ClientConfig,
    asked: Asked,
    scanner: Scanner,
    interim: u16,
    /// What delimits the body, once the final head is there.
    body: Option<Body>,
    /// The owner has the final head and reads the body.
    in_body: bool,
    /// The request's head has left, or its body's sender sees to it.
    flushed: bool,
    /// The request has no body and left at once.
    sent: bool,
    error: Option<StreamError>,
    /// Resets a connection that is not plain TCP, if nobody waits for the answer any more.
    handle: Option<WriteHalf>,
}

impl Pending {
    pub(super) fn new(
        reader: Reader,
        handle: Option<WriteHalf>,
        slot: Arc<Slot>,
        cfg: ClientConfig,
        asked: Asked,
        meter: Arc<Meter>,
        sent: bool,
    ) -> Self {
        let recv = Recv::new(reader, Decoder::new(Body::Empty, limits(&cfg)), false, slot, meter);
        Self {
            recv,
            cfg,
            asked,
            scanner: Scanner::default(),
            interim: 0,
            body: None,
            in_body: false,
            flushed: sent,
            sent,
            error: None,
            handle,
        }
    }

    /// Sends the request's head, where its body's sender has not done so. A failure to write is not the answer's end: a
    /// server may have answered and closed before it read everything.
    fn send_head(&mut self, cx: &mut Context<'_>) {
        if self.flushed {
            return;
        }
        let mut shared = self.recv.slot.lock();
        match shared.writer.as_mut().map(|writer| writer.poll_flush(cx)) {
            Some(Poll::Pending) => {}
            Some(Poll::Ready(Err(error))) => {
                shared.last = true;
                shared.lose(error);
                shared.writer = None;
                self.flushed = true;
            }
            Some(Poll::Ready(Ok(()))) => self.flushed = true,
            None => {}
        }
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, StreamError>> {
        loop {
            let Some(reader) = &mut self.recv.reader else { return Poll::Ready(Err(StreamError::Truncated)) };
            let found = find_head(&mut self.scanner, &reader.buf, self.cfg.max_head_bytes);
            let found = found.map_err(|refusal| {
                self.recv.meter.received(reader.buf.len(), 0);
                refusal.error()
            })?;
            if let Some(Extent { length, lines }) = found {
                let head = reader.take(length);
                self.scanner = Scanner::default();
                let response = response::parse(&head, lines, &self.cfg, &self.asked).map_err(|refusal| {
                    let fields = response::refused_fields(&head, &refusal, self.cfg.max_headers);
                    self.recv.meter.received(length + reader.buf.len(), fields);
                    refusal.error()
                })?;
                self.recv.meter.received(length, response.fields);
                return Poll::Ready(Ok(response));
            }
            let filled = ready!(reader.poll_fill(cx, SCRATCH));
            if filled != Ok(true) {
                self.recv.meter.received(reader.buf.len(), 0);
                // Half a head is no answer, as Envoy's parser has it, however the connection ended.
                let error = if reader.buf.is_empty() {
                    filled.err().unwrap_or(StreamError::Truncated)
                } else {
                    StreamError::Protocol("http1.codec_error")
                };
                return Poll::Ready(Err(error));
            }
        }
    }

    fn accept(&mut self, response: Response) -> Result<ResponseHead, StreamError> {
        if response.interim {
            self.interim += 1;
            if self.interim > self.cfg.max_interim {
                return Err(StreamError::TooLarge("http1.codec_error"));
            }
            return Ok(response.head);
        }
        self.body = Some(response.body);
        let returned = if response.body == Body::Empty { self.recv.reader.take() } else { None };
        if self.sent && response.keep_alive && returned.is_none() {
            // Nothing that the connection has to know.
            return Ok(response.head);
        }
        self.recv.slot.update(|shared| {
            let sending =
                shared.send != Side::Done || shared.writer.as_ref().is_none_or(|writer| !writer.out.is_empty());
            shared.last |= !response.keep_alive || sending;
            if let Some(reader) = returned {
                shared.recv = Side::Done;
                shared.reader = Some(reader);
            }
        });
        Ok(response.head)
    }

    /// Ends the connection: nobody waits for the answer any more.
    fn abandon(&mut self, code: ErrorCode) {
        let Some(reader) = self.recv.reader.take() else { return };
        let mut shared = self.recv.slot.lock();
        shared.recv = Side::Cut;
        shared.last = true;
        shared.aborted.get_or_insert(StreamError::Local(code));
        let socket = reader.socket().map(|socket| WriteHalf::Tcp(socket.clone()));
        if let Some(handle) = socket.as_ref().or(self.handle.as_ref()) {
            handle.reset(code);
        }
        if let Some(writer) = &mut shared.writer {
            writer.clear();
        }
        let wakers = shared.take_wakers();
        drop(shared);
        drop(reader);
        wakers.into_iter().flatten().for_each(std::task::Waker::wake);
    }
}

impl PendingResponse for Pending {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        if let Some(error) = self.error {
            return Poll::Ready(Err(error));
        }
        self.send_head(cx);
        let result = ready!(self.poll_response(cx)).and_then(|response| self.accept(response));
        if let Err(error) = result {
            let mut shared = self.recv.slot.lock();
            let error = shared.aborted.unwrap_or(error);
            if shared.aborted.is_none() && !matches!(error, StreamError::Protocol(_) | StreamError::TooLarge(_)) {
                shared.lost = Some(error);
            }
            drop(shared);
            self.error = Some(error);
            self.abandon(error.code());
            return Poll::Ready(Err(error));
        }
        Poll::Ready(result)
    }

    fn into_recv(mut self: Box<Self>) -> Box<dyn RecvStream> {
        let (Some(body), Some(reader)) = (self.body, self.recv.reader.take()) else { return Box::new(NoBody) };
        let decoder = Decoder::new(body, limits(&self.cfg));
        if body == Body::Raw {
            // A tunnel may live for long: with what it needs and no more.
            return Box::new(Recv::new(reader, decoder, true, self.recv.slot.clone(), self.recv.meter.clone()));
        }
        self.in_body = true;
        (self.recv.reader, self.recv.decoder) = (Some(reader), decoder);
        self
    }
}

/// The body of an answer, in what has waited for its head.
impl ByteSource for Pending {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.recv.poll_chunk(cx, max)
    }

    fn stop(&mut self, code: ErrorCode) {
        self.recv.stop(code);
    }
}

impl RecvStream for Pending {
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.recv.poll_trailers(cx)
    }

    fn is_end(&self) -> bool {
        self.recv.is_end()
    }
}

fn limits(cfg: &ClientConfig) -> Limits {
    Limits { max_bytes: cfg.max_head_bytes, max_fields: cfg.max_headers, keep: cfg.enable_trailers }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.in_body {
            self.abandon(ErrorCode::Cancel);
        }
    }
}
