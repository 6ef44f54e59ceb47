//! The `h3` crate at the other end: another hand's framing, QPACK and control streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;

use adit_codec::conformance::peers;
use adit_h3::ClientConfig;
use bytes::{Buf, Bytes};
use common::allow_connect;
use common::raw::{RawClient, WAIT};
use http::{Method, Request, Response};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.expect("in time")
}

#[tokio::test]
async fn the_h3_client_asks_us() {
    let mut raw = RawClient::new(allow_connect()).await;
    let quic = h3_quinn::Connection::new(raw.conn.clone());
    let (mut driver, mut sender) = h3::client::new(quic).await.unwrap();
    tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    for round in 0..3 {
        let body = vec![round; 300_000];
        let request =
            Request::post("https://localhost/path?query").header("x-long", "a".repeat(3000)).body(()).unwrap();
        let mut stream = sender.send_request(request).await.unwrap();
        let sent = body.clone();
        let server = async {
            let mut incoming = raw.requests.recv().await.unwrap();
            assert_eq!((incoming.head.method, incoming.head.path.unwrap().as_str()), (Method::POST, "/path?query"));
            assert_eq!(incoming.head.headers.get("x-long").unwrap().len(), 3000);
            let got = peers::all(&mut incoming.recv).await.unwrap();
            assert_eq!(peers::trailers(&mut incoming.recv).await.unwrap().unwrap().get("sum").unwrap(), "1");
            let mut sink = incoming.responder.respond(peers::response(201, &[("y", "z")]), false).unwrap();
            peers::send(&mut sink, got, false).await.unwrap();
            let trailers = peers::headers(&[("end", "2")]);
            poll_fn(|cx| sink.poll_send_trailers(cx, &trailers)).await.unwrap();
            peers::flush(&mut sink).await.unwrap();
            sink
        };
        let client = async {
            stream.send_data(Bytes::from(sent)).await.unwrap();
            stream.send_trailers(peers::headers(&[("sum", "1")])).await.unwrap();
            stream.finish().await.unwrap();
            let response = stream.recv_response().await.unwrap();
            assert_eq!((response.status().as_u16(), response.headers().get("y").unwrap().as_bytes()), (201, &b"z"[..]));
            let mut got = Vec::new();
            while let Some(mut piece) = stream.recv_data().await.unwrap() {
                got.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
            assert_eq!(got, body);
            assert_eq!(stream.recv_trailers().await.unwrap().unwrap().get("end").unwrap(), "2");
        };
        within(async { tokio::join!(server, client) }).await;
    }
}

#[tokio::test]
async fn we_ask_the_h3_server() {
    let mut tls = common::server_tls();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let at = endpoint.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let quic = h3_quinn::Connection::new(endpoint.accept().await.unwrap().await.unwrap());
        let mut conn: h3::server::Connection<_, Bytes> = h3::server::builder().build(quic).await.unwrap();
        let mut requests = 0;
        while let Ok(Some(resolver)) = conn.accept().await {
            requests += 1;
            tokio::spawn(async move {
                let (request, mut stream) = resolver.resolve_request().await.unwrap();
                let mut body = Vec::new();
                while let Some(mut piece) = stream.recv_data().await.unwrap() {
                    body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
                }
                let answer = Response::builder().header("path", request.uri().path()).body(()).unwrap();
                stream.send_response(answer).await.unwrap();
                stream.send_data(Bytes::from(body)).await.unwrap();
                stream.finish().await.unwrap();
            });
        }
        requests
    });
    let client = adit_h3::endpoint::ClientEndpoint::bind(common::socket()).unwrap();
    let conn = client.connect(&common::client_setup(), at, "localhost").unwrap().await.unwrap();
    let parts = adit_h3::client(conn, Arc::new(ClientConfig::default()));
    let driver = tokio::spawn(parts.driver.unwrap());
    let mut client = parts.conn;
    for _ in 0..3 {
        within(poll_fn(|cx| client.poll_ready(cx))).await.unwrap();
        let mut outgoing = client.open(&peers::request(Method::POST, "/echo"), false).unwrap();
        let send = tokio::spawn(peers::pour(outgoing.send, 1 << 20));
        let head = within(poll_fn(|cx| outgoing.response.poll_head(cx))).await.unwrap();
        assert_eq!((head.status.as_u16(), head.headers.get("path").unwrap().as_bytes()), (200, &b"/echo"[..]));
        peers::check_pour(outgoing.response.into_recv(), 1 << 20).await.unwrap();
        send.await.unwrap().unwrap();
    }
    drop(client);
    assert_eq!(within(driver).await.unwrap(), Ok(()));
    assert_eq!(within(server).await.unwrap(), 3);
}
