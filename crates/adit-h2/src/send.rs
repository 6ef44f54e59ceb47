//! The sending half of a stream: window taken only for bytes in hand, and nothing queued for a socket that is full.

use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::SendStream;
use adit_http::{ErrorCode, ResponseHead, StreamError, hop_by_hop};
use adit_io::{ByteSink, Spliced};
use bytes::Bytes;
use http::HeaderMap;

use crate::conn::Link;

/// The DATA of one stream, then its end or trailers. All that is known of it stands with the connection.
pub(crate) struct H2Send {
    link: Arc<Link>,
    key: u32,
}

impl H2Send {
    /// The half that the connection counts as held.
    pub(crate) fn new(link: Arc<Link>, key: u32) -> Self {
        Self { link, key }
    }

    pub(crate) fn respond(&self, head: &ResponseHead, end: bool) -> Result<(), StreamError> {
        self.link.lock().respond(self.key, head.status, &head.headers, end)
    }

    /// Ready when the client gave its request up.
    pub(crate) fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<StreamError> {
        self.link.lock().poll_cancelled(self.key, cx)
    }

    pub(crate) fn reset_now(&self, code: ErrorCode) {
        self.link.lock().send_reset(self.key, code);
    }
}

impl ByteSink for H2Send {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        self.link.lock().poll_send(self.key, cx, data, end)
    }

    /// The connection's own task sends what is queued.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(self.link.lock().check_sent(self.key))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.link.lock().poll_stopped(self.key, cx)
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        self.link.lock().poll_splice(self.key, cx)
    }

    fn send_spliced(&mut self, data: Spliced) -> Result<(), StreamError> {
        self.link.lock().send_spliced(self.key, data)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.reset_now(code);
    }
}

impl SendStream for H2Send {
    fn poll_send_trailers(&mut self, _cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        let mut trailers = trailers.clone();
        hop_by_hop::strip(&mut trailers, false);
        trailers.remove(http::header::TE);
        Poll::Ready(self.link.lock().send_trailers(self.key, trailers))
    }
}

impl Drop for H2Send {
    fn drop(&mut self) {
        self.link.lock().drop_send(self.key, self.link.abandon);
    }
}
