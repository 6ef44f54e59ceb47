//! Endpoints: who is let in, what moves with a client, what ends by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use adit_codec::ServerConn;
use adit_codec::conformance::peers;
use adit_h3::endpoint::{
    Admission, ClientEndpoint, HandshakeFailure, QuicConnection, QuicOptions, ServerEndpoint, ServerSetup,
};
use adit_h3::{ClientConfig, ServerConfig};
use adit_http::StreamError;
use common::raw::{GET, WAIT, outcome, request};
use common::{Link, client_setup, client_tls, link, link_with, server_tls, socket};
use http::Method;
use quinn::crypto::rustls::QuicClientConfig;

fn setup(admission: Admission, workers: u8) -> ServerSetup {
    ServerSetup::new(&server_tls(), &QuicOptions::default(), admission, workers).unwrap()
}

fn shared_port(at: SocketAddr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.into()
}

/// Answers every request with 200.
fn answer_all(mut endpoint: ServerEndpoint) {
    tokio::spawn(async move {
        while let Some(handshake) = poll_fn(|cx| endpoint.poll_accept(cx)).await {
            tokio::spawn(async move {
                let Ok(conn) = handshake.await else { return };
                let mut conn = adit_h3::server(conn, Arc::new(ServerConfig::default()));
                while let Some(Ok(incoming)) = poll_fn(|cx| conn.poll_accept(cx)).await {
                    drop(incoming.responder.respond(peers::response(200, &[]), true));
                }
            });
        }
    });
}

fn raw_endpoint() -> quinn::Endpoint {
    let mut tls = client_tls();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

async fn ask(conn: &quinn::Connection) {
    let (mut send, mut recv) = conn.open_bi().await.unwrap();
    send.write_all(&request(&GET)).await.unwrap();
    send.finish().unwrap();
    assert_eq!(outcome(&mut recv).await.unwrap(), request(&[(":status", "200")]));
}

/// A client that gets a new address lands on any worker's socket; its connection lives on.
#[tokio::test]
async fn a_migrated_client_finds_its_worker() {
    const WORKERS: u8 = 4;
    let setup = setup(Admission::default(), WORKERS);
    let first = shared_port("127.0.0.1:0".parse().unwrap());
    let at = first.local_addr().unwrap();
    answer_all(ServerEndpoint::bind(first, &setup, 0).unwrap());
    for worker in 1..WORKERS {
        answer_all(ServerEndpoint::bind(shared_port(at), &setup, worker).unwrap());
    }
    let endpoint = raw_endpoint();
    let conn = endpoint.connect(at, "localhost").unwrap().await.unwrap();
    ask(&conn).await;
    for _ in 0..12 {
        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        tokio::time::timeout(WAIT, ask(&conn)).await.expect("the connection went on");
    }
}

#[tokio::test]
async fn under_load_clients_show_their_address_first() {
    let admission = Admission { retry_from: 0, ..Admission::default() };
    let endpoint = ServerEndpoint::bind(socket(), &setup(admission, 1), 0).unwrap();
    let at = endpoint.local_addr().unwrap();
    answer_all(endpoint);
    let client = raw_endpoint();
    let conn = client.connect(at, "localhost").unwrap().await.unwrap();
    // A Retry costs a round trip of two more packets.
    assert!(conn.stats().udp_tx.datagrams >= 2);
    ask(&conn).await;
}

#[tokio::test]
async fn beyond_the_limit_clients_are_refused() {
    let admission = Admission { max_handshakes: 0, ..Admission::default() };
    let endpoint = ServerEndpoint::bind(socket(), &setup(admission, 1), 0).unwrap();
    let at = endpoint.local_addr().unwrap();
    answer_all(endpoint);
    let client = ClientEndpoint::bind(socket()).unwrap();
    let error = client.connect(&client_setup(), at, "localhost").unwrap().await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long() {
    let admission = Admission { handshake_timeout: Duration::from_millis(50), ..Admission::default() };
    let mut endpoint = ServerEndpoint::bind(socket(), &setup(admission, 1), 0).unwrap();
    let at = endpoint.local_addr().unwrap();
    // A relay that lets only the client's packets through.
    let between = tokio::net::UdpSocket::from_std(socket()).unwrap();
    let via = between.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (n, from) = between.recv_from(&mut buffer).await.unwrap();
            if from != at {
                between.send_to(&buffer[..n], at).await.unwrap();
            }
        }
    });
    let client = raw_endpoint();
    let _connecting = client.connect(via, "localhost").unwrap();
    let handshake = poll_fn(|cx| endpoint.poll_accept(cx)).await.unwrap();
    assert_eq!(handshake.remote(), via);
    assert_eq!(handshake.await.unwrap_err(), HandshakeFailure::TimedOut);
}

#[tokio::test]
async fn what_a_handshake_tells() {
    let Link { server, client, server_endpoint, client_endpoint } = link().await;
    assert_eq!(server.server_name().as_deref(), Some("localhost"));
    assert_eq!(client.remote(), server_endpoint.local_addr().unwrap());
    assert_eq!(server.remote(), client_endpoint.local_addr().unwrap());
    let (of_server, of_client) = (server.tls_info(), client.tls_info());
    assert_eq!((of_server.version, of_server.alpn.as_deref()), ("TLSv1.3", Some("h3")));
    assert!(of_server.peer_certificates.is_empty() && !of_server.peer_validated);
    assert!(of_client.peer_validated && of_client.peer_certificates.len() == 1);
}

#[tokio::test]
async fn no_endpoint_there() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = ClientEndpoint::bind(socket()).unwrap();
    let connecting = client.connect(&client_setup(), nobody.local_addr().unwrap(), "localhost").unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), connecting).await.is_err());
    assert!(client.connect(&client_setup(), "127.0.0.1:0".parse().unwrap(), "localhost").is_err());
}

async fn tunnel_parts(link: (QuicConnection, QuicConnection)) -> (adit_h3::Server, adit_codec::ClientParts) {
    let server = adit_h3::server(link.0, Arc::new(ServerConfig::default()));
    (server, adit_h3::client(link.1, Arc::new(ClientConfig::default())))
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let options = QuicOptions { idle_timeout: Duration::from_millis(1500), ..QuicOptions::default() };
    let link = link_with(&options).await;
    let (mut server, parts) = tunnel_parts((link.server, link.client)).await;
    let driver = tokio::spawn(parts.driver.unwrap());
    let mut client = parts.conn;
    let ended = tokio::time::timeout(WAIT, poll_fn(|cx| server.poll_accept(cx))).await.unwrap();
    assert!(ended.is_none());
    assert_eq!(driver.await.unwrap(), Ok(()));
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap_err();
}

#[tokio::test]
async fn an_idle_tunnel_is_kept_alive() {
    let options = QuicOptions {
        idle_timeout: Duration::from_secs(5),
        keepalive: Some(Duration::from_millis(500)),
        ..QuicOptions::default()
    };
    let link = link_with(&options).await;
    let (mut server, parts) = tunnel_parts((link.server, link.client)).await;
    tokio::spawn(parts.driver.unwrap());
    let waited = tokio::time::timeout(Duration::from_secs(7), poll_fn(|cx| server.poll_accept(cx))).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn a_live_stream_of_a_lost_connection_is_no_end() {
    let options = QuicOptions { idle_timeout: Duration::from_millis(1500), ..QuicOptions::default() };
    let link = link_with(&options).await;
    let (mut server, parts) = tunnel_parts((link.server, link.client)).await;
    let driver = tokio::spawn(parts.driver.unwrap());
    let mut client = parts.conn;
    let opening = tokio::spawn(async move {
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        client.open(&peers::request(Method::POST, "/"), false).unwrap()
    });
    let mut incoming = poll_fn(|cx| server.poll_accept(cx)).await.unwrap().unwrap();
    let mut outgoing = opening.await.unwrap();
    let error = poll_fn(|cx| server.poll_accept(cx)).await.unwrap().err().unwrap();
    assert_eq!(error.error, StreamError::TimedOut);
    assert_eq!(peers::failure(&mut incoming.recv).await, StreamError::TimedOut);
    assert_eq!(peers::head(&mut outgoing).await.unwrap_err(), StreamError::TimedOut);
    assert_eq!(driver.await.unwrap(), Err(StreamError::TimedOut));
}

/// What was sent before the end of a drained connection arrives whole, however slow its reader.
#[tokio::test]
async fn a_drained_connection_delivers_what_was_sent() {
    const SIZE: usize = 900 << 10;
    let link = link().await;
    let (mut server, parts) = tunnel_parts((link.server, link.client)).await;
    tokio::spawn(parts.driver.unwrap());
    let mut client = parts.conn;
    let opening = tokio::spawn(async move {
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        client.open(&peers::request(Method::GET, "/"), true).unwrap()
    });
    let incoming = poll_fn(|cx| server.poll_accept(cx)).await.unwrap().unwrap();
    let mut outgoing = opening.await.unwrap();
    let mut sink = incoming.responder.respond(peers::response(200, &[]), false).unwrap();
    server.drain();
    let served = tokio::spawn(async move { poll_fn(|cx| server.poll_accept(cx)).await.is_none() });
    peers::send(&mut sink, peers::pattern(0, SIZE), true).await.unwrap();
    drop((sink, incoming.recv));
    peers::head(&mut outgoing).await.unwrap();
    drop(outgoing.send);
    tokio::time::sleep(Duration::from_millis(300)).await;
    peers::check_pour(outgoing.response.into_recv(), SIZE).await.unwrap();
    assert!(tokio::time::timeout(WAIT, served).await.unwrap().unwrap());
}
