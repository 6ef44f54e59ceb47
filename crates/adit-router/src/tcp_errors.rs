//! Failures of the TCP connection behind a CONNECT, as its client is told of them: CONNECT_ERROR (RFC 9113 section 8.5,
//! RFC 9114 section 4.4).

use std::task::{Context, Poll};

use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSink, ByteSource, Sink, Source, Spliced};
use bytes::Bytes;
use tokio::net::TcpStream;

fn connect(error: StreamError) -> StreamError {
    match error {
        // The peer merely needs no more; nothing failed.
        StreamError::Stopped(ErrorCode::NoError) => error,
        StreamError::Stopped(_) => StreamError::Stopped(ErrorCode::Connect),
        _ => StreamError::Reset(ErrorCode::Connect),
    }
}

pub(crate) struct ConnectSource(pub(crate) Source);

impl ByteSource for ConnectSource {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll_chunk(cx, max).map(|chunk| chunk.map(|chunk| chunk.map_err(connect)))
    }

    fn take_spliced(&mut self) -> Option<Spliced> {
        self.0.take_spliced()
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.stop(code);
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        self.0.as_tcp()
    }
}

pub(crate) struct ConnectSink(pub(crate) Sink);

impl ByteSink for ConnectSink {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        self.0.poll_send(cx, data, end).map_err(connect)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.0.poll_flush(cx).map_err(connect)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.poll_stopped(cx).map(connect)
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        self.0.poll_splice(cx).map_err(connect)
    }

    fn send_spliced(&mut self, data: Spliced) -> Result<(), StreamError> {
        self.0.send_spliced(data).map_err(connect)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.0.reset(code);
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        self.0.as_tcp()
    }
}
