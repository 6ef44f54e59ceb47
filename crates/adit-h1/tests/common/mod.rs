//! A raw peer and a codec at the two ends of a loopback connection.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

pub mod duplex;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use adit_codec::{ClientConn, ConnError, IncomingStream, OutgoingStream, RecvStream, SendStream, ServerConn};
use adit_h1::{Client, ClientConfig, Server, ServerConfig};
use adit_http::{RequestHead, RequestKind, ResponseHead, StreamError, Token};
use adit_io::{Address, ConnInfo, Io};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (one, other) = (one.unwrap(), other.unwrap().0);
    one.set_nodelay(true).unwrap();
    other.set_nodelay(true).unwrap();
    (one, other)
}

pub fn io(socket: TcpStream) -> Io {
    let info =
        ConnInfo::new(1, Address::from(socket.local_addr().unwrap()), Address::from(socket.peer_addr().unwrap()));
    Io::tcp(socket, Arc::new(info))
}

/// Everything must be over within this time.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("timed out")
}

pub async fn server(cfg: ServerConfig) -> (TcpStream, Server) {
    let (peer, ours) = pair().await;
    (peer, adit_h1::server(io(ours), Arc::new(cfg)))
}

pub async fn client(cfg: ClientConfig) -> (TcpStream, Client) {
    let (peer, ours) = pair().await;
    (peer, adit_h1::client(io(ours), Arc::new(cfg)))
}

pub async fn accept(server: &mut Server) -> Option<Result<IncomingStream, ConnError>> {
    soon(poll_fn(|cx| server.poll_accept(cx))).await
}

/// Drives a server connection to its end in a task of its own.
pub fn drive(mut server: Server) -> JoinHandle<Option<ConnError>> {
    tokio::spawn(async move {
        match poll_fn(|cx| server.poll_accept(cx)).await {
            None => None,
            Some(Err(error)) => Some(error),
            Some(Ok(stream)) => panic!("unexpected request {:?}", stream.head),
        }
    })
}

pub fn response(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    head.headers = map(fields);
    head
}

pub fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, http::HeaderValue::from_static(value));
    }
    map
}

pub fn request(method: Method, path: &'static str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, method);
    head.authority = Some("example.com".parse().unwrap());
    head.path = Some(path.parse().unwrap());
    head
}

pub fn upgrade(token: &'static str) -> RequestHead {
    let mut head = request(Method::GET, "/up");
    head.kind = RequestKind::Upgrade(Token::new(token).unwrap());
    head.headers = map(&[("connection", "Upgrade")]);
    head.headers.insert("upgrade", token.parse().unwrap());
    head
}

pub fn connect(target: &'static str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Connect(target.parse().unwrap()), Method::CONNECT);
    head.authority = Some(target.parse().unwrap());
    head
}

pub async fn ready(client: &mut Client) {
    soon(poll_fn(|cx| client.poll_ready(cx))).await.unwrap();
}

pub async fn open(client: &mut Client, head: RequestHead, end: bool) -> OutgoingStream {
    ready(client).await;
    client.open(&head, end).unwrap()
}

pub async fn head(stream: &mut OutgoingStream) -> Result<ResponseHead, StreamError> {
    soon(poll_fn(|cx| stream.response.poll_head(cx))).await
}

pub async fn send(send: &mut Box<dyn SendStream>, data: &[u8], end: bool) -> Result<(), StreamError> {
    let mut data = Bytes::copy_from_slice(data);
    soon(poll_fn(|cx| send.poll_send(cx, &mut data, end))).await
}

pub async fn chunk(recv: &mut Box<dyn RecvStream>) -> Option<Result<Bytes, StreamError>> {
    soon(poll_fn(|cx| recv.poll_chunk(cx, 64 << 10))).await
}

/// Everything up to the end.
pub async fn all(recv: &mut Box<dyn RecvStream>) -> Result<Vec<u8>, StreamError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunk(recv).await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// Reads exactly what is expected.
pub async fn expect(peer: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    let mut n = 0;
    while n < got.len() {
        let read = soon(peer.read(&mut got[n..])).await.unwrap();
        assert!(read > 0, "ended after {:?}", String::from_utf8_lossy(&got[..n]));
        n += read;
        assert_eq!(String::from_utf8_lossy(&got[..n]), text[..n]);
    }
}

/// Reads up to the end; `Err` for a reset.
pub async fn rest(peer: &mut TcpStream) -> std::io::Result<String> {
    let mut got = Vec::new();
    soon(peer.read_to_end(&mut got)).await?;
    Ok(String::from_utf8_lossy(&got).into_owned())
}

pub async fn put(peer: &mut TcpStream, text: impl AsRef<[u8]>) {
    soon(peer.write_all(text.as_ref())).await.unwrap();
}
