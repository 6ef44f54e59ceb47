//! Any octets, cut anywhere, are answered or end an HTTP/2 connection, at either side; nothing panics or hangs.
#![no_main]

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use adit_codec::{IncomingStream, ServerConn};
use adit_h2::{ClientConfig, ServerConfig};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{Address, ByteSink, ByteSource, ConnInfo, Io, Stream, Transport, transport_halves};
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives its pieces one after the other, then the end; takes everything.
struct Script(VecDeque<Vec<u8>>);

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let n = piece.len().min(into.remaining());
            into.put_slice(&piece[..n]);
            piece.drain(..n);
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Script {
    fn abort(&mut self) {}

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        transport_halves(*self)
    }
}

fn io(first: &[u8], input: &[u8], size: usize) -> Io {
    let mut pieces = VecDeque::from([first.to_vec()]);
    pieces.extend(input.chunks(size).map(<[u8]>::to_vec));
    pieces.retain(|piece| !piece.is_empty());
    let nowhere = Address::Ip(([127, 0, 0, 1], 1).into());
    Io::new(Stream::Other(Box::new(Script(pieces))), Arc::new(ConnInfo::new(1, nowhere.clone(), nowhere)))
}

fn echo(stream: IncomingStream, cx: &mut Context<'_>) {
    let IncomingStream { head, mut recv, responder, .. } = stream;
    let accepted = if matches!(head.kind, RequestKind::Upgrade(_)) { 101 } else { 200 };
    let answer = ResponseHead::new(StatusCode::from_u16(accepted).unwrap());
    let Ok(mut send) = responder.respond(answer, false) else { return };
    while let Poll::Ready(Some(Ok(mut chunk))) = recv.poll_chunk(cx, 1 << 16) {
        if !matches!(send.poll_send(cx, &mut chunk, false), Poll::Ready(Ok(()))) {
            return;
        }
    }
    let _ = recv.poll_trailers(cx);
}

fn server(input: &[u8], size: usize, cx: &mut Context<'_>) {
    let mut cfg = ServerConfig::default();
    cfg.http2.allow_connect = true;
    let first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut server = adit_h2::server(io(first, input, size), Arc::new(cfg));
    loop {
        match server.poll_accept(cx) {
            Poll::Ready(Some(Ok(stream))) => echo(stream, cx),
            Poll::Ready(_) => return,
            Poll::Pending => {}
        }
    }
}

fn client(input: &[u8], size: usize, cx: &mut Context<'_>) {
    let parts = adit_h2::client(io(b"\0\0\0\x04\0\0\0\0\0", input, size), Arc::new(ClientConfig::default()));
    let (mut conn, mut driver) = (parts.conn, parts.driver.unwrap());
    let mut streams = Vec::new();
    while driver.as_mut().poll(cx).is_pending() {
        if streams.len() < 3 && conn.poll_ready(cx).is_ready() {
            let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
            head.authority = Some(http::uri::Authority::from_static("a"));
            streams.extend(conn.open(&head, streams.len() % 2 == 0).ok());
        }
        for stream in &mut streams {
            let _ = stream.response.poll_head(cx);
        }
    }
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_server, size, input) = input;
    let size = usize::from(size) + 1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut cx = Context::from_waker(Waker::noop());
    if is_server { server(input, size, &mut cx) } else { client(input, size, &mut cx) }
});
