//! Loopback connections, a server that runs a handler for each stream, and a peer that writes raw frames.
#![allow(dead_code)]

pub mod attack;
pub mod raw;

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_codec::{ClientConn, ConnError, IncomingStream, OutgoingStream, RecvStream, SendStream, ServerConn};
use adit_h2::{ClientConfig, CodecStats, Counter, Gauge, ServerConfig};
use adit_http::{RequestHead, RequestKind, ResponseHead, StreamError, Token};
use adit_io::{Address, ByteSource, ConnInfo, Io};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} takes too long"),
    }
}

pub fn io(socket: TcpStream) -> Io {
    socket.set_nodelay(true).unwrap();
    let (local, remote) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    Io::tcp(socket, Arc::new(ConnInfo::new(1, Address::Ip(local), Address::Ip(remote))))
}

pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// Counts under Envoy's names.
#[derive(Default)]
pub struct Stats(Mutex<std::collections::HashMap<&'static str, i64>>);

impl Stats {
    pub fn get(&self, name: &str) -> i64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// Waits until that much is counted, which may be after the peer was told.
    pub async fn expect(&self, name: &str, wanted: i64) {
        let start = tokio::time::Instant::now();
        while self.get(name) != wanted {
            assert!(start.elapsed() < PATIENCE, "{name} is {}, not {wanted}", self.get(name));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl CodecStats for Stats {
    fn count(&self, counter: Counter) {
        *self.0.lock().unwrap().entry(counter.name()).or_default() += 1;
    }
    fn gauge(&self, gauge: Gauge, delta: i64) {
        *self.0.lock().unwrap().entry(gauge.name()).or_default() += delta;
    }
}

/// Serves one connection; ends with it.
pub fn serve<F, Fut>(socket: TcpStream, cfg: ServerConfig, handler: F) -> JoinHandle<Result<(), ConnError>>
where
    F: Fn(IncomingStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    serve_conn(adit_h2::server(io(socket), Arc::new(cfg)), handler)
}

pub fn serve_conn<F, Fut>(mut conn: adit_h2::Server, handler: F) -> JoinHandle<Result<(), ConnError>>
where
    F: Fn(IncomingStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(stream) = poll_fn(|cx| conn.poll_accept(cx)).await {
            tokio::spawn(handler(stream?));
        }
        Ok(())
    })
}

pub struct ClientSide {
    pub conn: Box<dyn ClientConn>,
    pub driver: JoinHandle<Result<(), StreamError>>,
}

impl ClientSide {
    pub fn new(socket: TcpStream, cfg: ClientConfig) -> Self {
        let parts = adit_h2::client(io(socket), Arc::new(cfg));
        Self { conn: parts.conn, driver: tokio::spawn(parts.driver.unwrap()) }
    }

    pub async fn open(&mut self, head: RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        soon("ready", poll_fn(|cx| self.conn.poll_ready(cx))).await?;
        self.conn.open(&head, end)
    }
}

/// A client and a server that speak to each other.
pub async fn pair<F, Fut>(server: ServerConfig, handler: F) -> ClientSide
where
    F: Fn(IncomingStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (dialled, accepted) = sockets().await;
    serve(accepted, server, handler);
    ClientSide::new(dialled, ClientConfig::default())
}

pub fn allow_connect() -> ServerConfig {
    let mut cfg = ServerConfig::default();
    cfg.http2.allow_connect = true;
    cfg
}

pub fn get(path: &str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.authority = Some("example.com".parse().unwrap());
    head.path = Some(path.parse().unwrap());
    head
}

pub fn connect(target: &str) -> RequestHead {
    let target: http::uri::Authority = target.parse().unwrap();
    let mut head = RequestHead::new(RequestKind::Connect(target.clone()), Method::CONNECT);
    head.authority = Some(target);
    head
}

pub fn upgrade(token: &str) -> RequestHead {
    let mut head = get("/chat");
    head.kind = RequestKind::Upgrade(Token::new(token).unwrap());
    head.headers.insert("upgrade", HeaderValue::from_str(token).unwrap());
    head.headers.insert("connection", HeaderValue::from_static("upgrade"));
    head
}

pub fn status(code: u16) -> ResponseHead {
    ResponseHead::new(StatusCode::from_u16(code).unwrap())
}

pub async fn head(stream: &mut OutgoingStream) -> Result<ResponseHead, StreamError> {
    soon("head", poll_fn(|cx| stream.response.poll_head(cx))).await
}

pub async fn send(sink: &mut dyn SendStream, data: impl Into<Bytes>, end: bool) -> Result<(), StreamError> {
    let mut data = data.into();
    soon("send", poll_fn(|cx| sink.poll_send(cx, &mut data, end))).await
}

pub async fn chunk(source: &mut dyn RecvStream) -> Option<Result<Bytes, StreamError>> {
    soon("chunk", poll_fn(|cx| source.poll_chunk(cx, 1 << 20))).await
}

/// Everything until the end.
pub async fn body(source: &mut dyn RecvStream) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(bytes) = chunk(source).await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

pub async fn trailers(source: &mut dyn RecvStream) -> Result<Option<HeaderMap>, StreamError> {
    soon("trailers", poll_fn(|cx| source.poll_trailers(cx))).await
}

/// Sends back what comes, then the end; a failure of one direction resets the other.
pub async fn echo_halves(mut recv: Box<dyn RecvStream>, mut sink: Box<dyn SendStream>) {
    loop {
        match poll_fn(|cx| ByteSource::poll_chunk(&mut *recv, cx, 1 << 20)).await {
            Some(Ok(mut bytes)) => {
                if poll_fn(|cx| sink.poll_send(cx, &mut bytes, false)).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => return sink.reset(error.code()),
            None => {
                let _ = poll_fn(|cx| sink.poll_send(cx, &mut Bytes::new(), true)).await;
                return;
            }
        }
    }
}

/// Accepts anything: 101 for an upgrade, 200 otherwise; then echoes.
pub async fn echo(stream: IncomingStream) {
    let accept = if matches!(stream.head.kind, RequestKind::Upgrade(_)) { 101 } else { 200 };
    let Ok(sink) = stream.responder.respond(status(accept), false) else { return };
    echo_halves(stream.recv, sink).await;
}
