//! A peer that says whatever bytes it is told to, straight on quinn.
#![allow(dead_code)]

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use adit_codec::{ClientParts, ConnError, IncomingStream, ServerConn};
use adit_h3::endpoint::{Admission, ClientEndpoint, ClientSetup, QuicOptions, ServerEndpoint, ServerSetup};
use adit_h3::{ClientConfig, ServerConfig, frame, qpack, varint};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{client_tls, server_tls, socket};

pub const WAIT: Duration = Duration::from_secs(30);

/// A raw client and what the server under test made of it.
pub struct RawClient {
    pub conn: quinn::Connection,
    pub requests: mpsc::Receiver<IncomingStream>,
    pub served: JoinHandle<Option<ConnError>>,
    pub endpoint: quinn::Endpoint,
    keep: Vec<SendStream>,
}

pub async fn serve(mut conn: adit_h3::Server, streams: mpsc::Sender<IncomingStream>) -> Option<ConnError> {
    loop {
        match poll_fn(|cx| conn.poll_accept(cx)).await {
            None => return None,
            Some(Err(error)) => return Some(error),
            Some(Ok(stream)) => drop(streams.try_send(stream)),
        }
    }
}

impl RawClient {
    pub async fn new(cfg: ServerConfig) -> Self {
        Self::with(cfg, quinn::TransportConfig::default()).await
    }

    pub async fn with(cfg: ServerConfig, transport: quinn::TransportConfig) -> Self {
        let options = QuicOptions::default();
        let setup = ServerSetup::new(&server_tls(), &options, Admission::default(), 1).unwrap();
        let mut server = ServerEndpoint::bind(socket(), &setup, 0).unwrap();
        let at = server.local_addr().unwrap();
        let (streams, requests) = mpsc::channel(64);
        let served = tokio::spawn(async move {
            let handshake = poll_fn(|cx| server.poll_accept(cx)).await.unwrap();
            let conn = adit_h3::server(handshake.await.unwrap(), Arc::new(cfg));
            serve(conn, streams).await
        });
        let mut tls = client_tls();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let conn = endpoint.connect_with(config, at, "localhost").unwrap().await.unwrap();
        Self { conn, requests, served, endpoint, keep: Vec::new() }
    }

    /// With a proper control stream.
    pub async fn polite(cfg: ServerConfig) -> Self {
        let mut client = Self::new(cfg).await;
        client.uni(&[&[0][..], &frame(frame::SETTINGS, &[])].concat()).await;
        client
    }

    /// A unidirectional stream that stays open.
    pub async fn uni(&mut self, bytes: &[u8]) {
        let mut stream = self.conn.open_uni().await.unwrap();
        let _ = stream.write_all(bytes).await;
        self.keep.push(stream);
    }

    /// A request stream with these bytes, and the end if asked for.
    pub async fn bi(&self, bytes: &[u8], end: bool) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.conn.open_bi().await.unwrap();
        let _ = send.write_all(bytes).await;
        if end {
            send.finish().unwrap();
        }
        (send, recv)
    }

    /// The code with which the server closes the connection.
    pub async fn closed(&self) -> u64 {
        close_code(&self.conn).await
    }

    /// Nothing happened to the connection: a request on it is seen.
    pub async fn still_works(&mut self) {
        let (_send, _recv) = self.bi(&request(&GET), true).await;
        let request = tokio::time::timeout(WAIT, self.requests.recv()).await.expect("a request arrives");
        assert_eq!(request.expect("a request").head.path_only(), "/");
    }
}

pub async fn close_code(conn: &quinn::Connection) -> u64 {
    match tokio::time::timeout(WAIT, conn.closed()).await.expect("the connection is closed") {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// A raw server and the client under test.
pub struct RawServer {
    pub conn: quinn::Connection,
    pub client: ClientParts,
    keep: Vec<SendStream>,
    endpoint: quinn::Endpoint,
}

impl RawServer {
    pub async fn new() -> Self {
        Self::with(quinn::TransportConfig::default()).await
    }

    pub async fn with(transport: quinn::TransportConfig) -> Self {
        let mut tls = server_tls();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let client = ClientEndpoint::bind(socket()).unwrap();
        let setup = ClientSetup::new(&client_tls(), &QuicOptions::default()).unwrap();
        let connecting = client.connect(&setup, endpoint.local_addr().unwrap(), "localhost").unwrap();
        let connecting = tokio::spawn(connecting);
        let conn = endpoint.accept().await.unwrap().await.unwrap();
        let mut client = adit_h3::client(connecting.await.unwrap().unwrap(), Arc::new(ClientConfig::default()));
        tokio::spawn(client.driver.take().unwrap());
        Self { conn, client, keep: Vec::new(), endpoint }
    }

    /// With a proper control stream that says so much.
    pub async fn polite(settings: &[(u64, u64)]) -> Self {
        let mut server = Self::new().await;
        let mut payload = Vec::new();
        for (id, value) in settings {
            varint::encode(*id, &mut payload);
            varint::encode(*value, &mut payload);
        }
        server.uni(&[&[0][..], &frame(frame::SETTINGS, &payload)].concat()).await;
        server
    }

    pub async fn uni(&mut self, bytes: &[u8]) {
        let mut stream = self.conn.open_uni().await.unwrap();
        let _ = stream.write_all(bytes).await;
        self.keep.push(stream);
    }

    /// More on a stream that was opened before.
    pub async fn more(&mut self, index: usize, bytes: &[u8]) {
        self.keep[index].write_all(bytes).await.unwrap();
    }
}

pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/")];
pub const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "example.com:443")];

pub fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(kind, payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    qpack::start(&mut out);
    for (name, value) in fields {
        qpack::encode(name.as_bytes(), value.as_bytes(), &mut out);
    }
    out
}

/// A HEADERS frame.
pub fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(frame::HEADERS, &block(fields))
}

/// Everything up to the end, or the code of the reset.
pub async fn outcome(recv: &mut RecvStream) -> Result<Vec<u8>, u64> {
    let mut bytes = Vec::new();
    loop {
        let read = tokio::time::timeout(WAIT, recv.read_chunk(1 << 16, true)).await.expect("the stream goes on");
        match read {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Ok(None) => return Ok(bytes),
            Err(quinn::ReadError::Reset(code)) => return Err(code.into_inner()),
            Err(other) => panic!("{other}"),
        }
    }
}

/// The code with which the peer stopped a stream.
pub async fn stopped(send: &SendStream) -> u64 {
    let stopped = tokio::time::timeout(WAIT, send.stopped()).await.expect("the stream is stopped");
    stopped.unwrap().expect("a stop").into_inner()
}
