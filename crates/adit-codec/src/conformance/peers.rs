//! Both ends of a connection, driven in tasks of their own, and short names for what cases do with streams.

use std::future::poll_fn;
use std::task::Poll;

use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError, Token};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Harness, Pair};
use crate::{ClientConn, ConnError, IncomingStream, OutgoingStream, RecvStream, Responder, SendStream, ServerConn};

/// What the task that drives a server may be told.
#[derive(Debug)]
pub enum Control {
    /// [`ServerConn::drain`].
    Drain,
    /// [`ServerConn::abort`].
    Abort(ErrorCode),
}

/// Both ends of a connection.
pub struct Peers {
    /// Requests as they come.
    pub incoming: mpsc::Receiver<IncomingStream>,
    /// Tells the server.
    pub control: mpsc::Sender<Control>,
    /// How the server connection ended.
    pub served: JoinHandle<Option<ConnError>>,
    /// Opens streams.
    pub client: Box<dyn ClientConn>,
}

impl Peers {
    /// A fresh connection, both ends driven.
    pub async fn new(harness: &dyn Harness) -> Self {
        let Pair { server, client } = harness.pair().await;
        let (streams, incoming) = mpsc::channel(64);
        let (control, orders) = mpsc::channel(4);
        let served = tokio::spawn(serve(server, streams, orders));
        if let Some(driver) = client.driver {
            tokio::spawn(driver);
        }
        Self { incoming, control, served, client: client.conn }
    }

    /// Opens a stream as soon as that is possible.
    pub async fn open(&mut self, head: RequestHead, end: bool) -> OutgoingStream {
        poll_fn(|cx| self.client.poll_ready(cx)).await.expect("a stream can be opened");
        self.client.open(&head, end).expect("the stream opens")
    }

    /// Opens a stream and takes it at the other end.
    pub async fn exchange(&mut self, head: RequestHead, end: bool) -> (OutgoingStream, IncomingStream) {
        let mut outgoing = self.open(head, end).await;
        let incoming = self.arrival(&mut outgoing).await;
        (outgoing, incoming)
    }

    /// The next request; the client's stream is driven until it is there.
    pub async fn arrival(&mut self, outgoing: &mut OutgoingStream) -> IncomingStream {
        poll_fn(|cx| {
            if let Poll::Ready(incoming) = self.incoming.poll_recv(cx) {
                return Poll::Ready(incoming.expect("a request arrives"));
            }
            if let Poll::Ready(head) = outgoing.response.poll_head(cx) {
                panic!("answered before the request was seen: {head:?}");
            }
            Poll::Pending
        })
        .await
    }

    /// A tunnel: an upgrade that was accepted.
    pub async fn tunnel(&mut self) -> Tunnel {
        let (mut outgoing, incoming) = self.exchange(upgrade("test"), false).await;
        let answer = response(101, &[("connection", "upgrade"), ("upgrade", "test")]);
        let mut server_send = incoming.responder.respond(answer, false).expect("the answer is taken");
        flush(&mut server_send).await.expect("the answer leaves");
        assert_eq!(head(&mut outgoing).await.expect("an answer").status, StatusCode::SWITCHING_PROTOCOLS);
        Tunnel {
            client_send: outgoing.send,
            client_recv: outgoing.response.into_recv(),
            server_send,
            server_recv: incoming.recv,
        }
    }
}

/// The four halves of a tunnel.
pub struct Tunnel {
    /// From the client.
    pub client_send: Box<dyn SendStream>,
    /// To the client.
    pub client_recv: Box<dyn RecvStream>,
    /// From the server.
    pub server_send: Box<dyn SendStream>,
    /// To the server.
    pub server_recv: Box<dyn RecvStream>,
}

async fn serve(
    mut conn: Box<dyn ServerConn>,
    streams: mpsc::Sender<IncomingStream>,
    mut orders: mpsc::Receiver<Control>,
) -> Option<ConnError> {
    loop {
        let next = poll_fn(|cx| {
            while let Poll::Ready(Some(order)) = orders.poll_recv(cx) {
                match order {
                    Control::Drain => conn.drain(),
                    Control::Abort(code) => conn.abort(code),
                }
            }
            conn.poll_accept(cx)
        })
        .await;
        match next {
            None => return None,
            Some(Err(error)) => return Some(error),
            // A case that looks at no further request drops them.
            Some(Ok(stream)) => drop(streams.try_send(stream)),
        }
    }
}

/// A plain request.
pub fn request(method: Method, path: &'static str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, method);
    head.authority = Some("example.com".parse().unwrap());
    head.path = Some(path.parse().unwrap());
    head
}

/// An upgrade.
pub fn upgrade(token: &'static str) -> RequestHead {
    let mut head = request(Method::GET, "/upgrade");
    head.kind = RequestKind::Upgrade(Token::new(token).unwrap());
    head.headers.insert("connection", HeaderValue::from_static("upgrade"));
    head.headers.insert("upgrade", HeaderValue::from_static(token));
    head
}

/// A CONNECT.
pub fn connect(target: &'static str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Connect(target.parse().unwrap()), Method::CONNECT);
    head.authority = Some(target.parse().unwrap());
    head
}

/// A response head.
pub fn response(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    head.headers = headers(fields);
    head
}

/// A header map.
pub fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

/// The next head of the answer.
pub async fn head(stream: &mut OutgoingStream) -> Result<ResponseHead, StreamError> {
    poll_fn(|cx| stream.response.poll_head(cx)).await
}

/// Sends bytes, and the end if asked to.
pub async fn send(sink: &mut Box<dyn SendStream>, data: impl Into<Bytes>, end: bool) -> Result<(), StreamError> {
    let mut data = data.into();
    poll_fn(|cx| sink.poll_send(cx, &mut data, end)).await?;
    assert!(data.is_empty(), "taken but not empty");
    flush(sink).await
}

/// Sees what was sent leave.
pub async fn flush(sink: &mut Box<dyn SendStream>) -> Result<(), StreamError> {
    poll_fn(|cx| sink.poll_flush(cx)).await
}

/// The next bytes.
pub async fn chunk(recv: &mut Box<dyn RecvStream>) -> Option<Result<Bytes, StreamError>> {
    poll_fn(|cx| recv.poll_chunk(cx, 16 << 10)).await
}

/// Exactly this many bytes or more, up to the end.
pub async fn at_least(recv: &mut Box<dyn RecvStream>, n: usize) -> Result<Vec<u8>, StreamError> {
    let mut bytes = Vec::new();
    while bytes.len() < n {
        match chunk(recv).await {
            Some(chunk) => bytes.extend_from_slice(&chunk?),
            None => break,
        }
    }
    Ok(bytes)
}

/// Everything up to the end.
pub async fn all(recv: &mut Box<dyn RecvStream>) -> Result<Vec<u8>, StreamError> {
    at_least(recv, usize::MAX).await
}

/// The error with which the bytes stop; an end is none.
pub async fn failure(recv: &mut Box<dyn RecvStream>) -> StreamError {
    all(recv).await.expect_err("a reset, not an end")
}

/// The trailers.
pub async fn trailers(recv: &mut Box<dyn RecvStream>) -> Result<Option<HeaderMap>, StreamError> {
    poll_fn(|cx| recv.poll_trailers(cx)).await
}

/// When a request is cancelled.
pub async fn cancelled(responder: &mut Box<dyn Responder>) -> StreamError {
    poll_fn(|cx| responder.poll_cancelled(cx)).await
}

/// A byte for each position, without a short period.
pub fn pattern(from: usize, length: usize) -> Bytes {
    (from..from + length).map(pattern_at).collect::<Vec<_>>().into()
}

/// The byte of a position.
pub fn pattern_at(position: usize) -> u8 {
    u8::try_from((position ^ (position >> 8) ^ (position >> 16)) & 0xff).unwrap_or(0)
}

/// Sends `total` bytes of the pattern in pieces of changing sizes, then the end.
pub async fn pour(mut sink: Box<dyn SendStream>, total: usize) -> Result<Box<dyn SendStream>, StreamError> {
    let mut sent = 0;
    let mut size = 1;
    while sent < total {
        let n = size.min(total - sent);
        send(&mut sink, pattern(sent, n), false).await?;
        sent += n;
        size = if size > 200_000 { 1 } else { size * 3 + 1 };
    }
    send(&mut sink, Bytes::new(), true).await?;
    Ok(sink)
}

/// Reads the pattern to its end and checks each byte.
pub async fn check_pour(mut recv: Box<dyn RecvStream>, total: usize) -> Result<Box<dyn RecvStream>, StreamError> {
    let mut seen = 0;
    while let Some(bytes) = chunk(&mut recv).await {
        let bytes = bytes?;
        assert!(!bytes.is_empty(), "an empty chunk");
        for byte in &bytes {
            assert_eq!(*byte, pattern_at(seen), "at {seen}");
            seen += 1;
        }
    }
    assert_eq!(seen, total);
    Ok(recv)
}
