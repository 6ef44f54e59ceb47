//! A tunnel that goes on without its codec.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::task::Poll;

use adit_codec::{ClientConn, RecvStream, SendStream, tunnel_side};
use adit_h1::{ClientConfig, ServerConfig};
use adit_http::StreamError;
use adit_io::{ByteSink, ByteSource, Side};
use bytes::Bytes;
use common::*;

const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";

async fn read(source: &mut Box<dyn ByteSource>) -> Option<Result<Bytes, StreamError>> {
    soon(poll_fn(|cx| source.poll_chunk(cx, 1 << 10))).await
}

async fn write(sink: &mut Box<dyn ByteSink>, data: &'static str, end: bool) {
    let mut data = Bytes::from_static(data.as_bytes());
    soon(poll_fn(|cx| sink.poll_send(cx, &mut data, end))).await.unwrap();
}

async fn tunnel_halves(
    recv: Box<dyn RecvStream>,
    send: Box<dyn SendStream>,
) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
    let Side { source, sink } = tunnel_side(recv, send).await;
    (source.into(), sink.into())
}

#[tokio::test]
async fn a_server_connection_is_over_and_its_tunnel_goes_on() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, &format!("{UPGRADE}early")).await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let sink = stream.responder.respond(response(101, &[("upgrade", "foo")]), false).unwrap();
    let (mut source, mut sink) = tunnel_halves(stream.recv, sink).await;
    assert!(accept(&mut conn).await.is_none());
    drop(conn);
    expect(&mut peer, "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n").await;
    assert_eq!(read(&mut source).await.unwrap().unwrap(), "early");
    assert!(source.as_tcp().is_some() && sink.as_tcp().is_some());
    put(&mut peer, "up").await;
    assert_eq!(read(&mut source).await.unwrap().unwrap(), "up");
    write(&mut sink, "down", true).await;
    assert_eq!(rest(&mut peer).await.unwrap(), "down");
    put(&mut peer, "more").await;
    assert_eq!(read(&mut source).await.unwrap().unwrap(), "more");
    drop(peer);
    assert!(read(&mut source).await.is_none());
}

#[tokio::test]
async fn a_detached_tunnel_that_is_dropped_is_a_reset() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, UPGRADE).await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let sink = stream.responder.respond(response(101, &[("upgrade", "foo")]), false).unwrap();
    let halves = tunnel_halves(stream.recv, sink).await;
    assert!(accept(&mut conn).await.is_none());
    expect(&mut peer, "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n").await;
    drop(halves);
    assert!(rest(&mut peer).await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_no_tunnel_keeps_its_codec() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, UPGRADE).await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[("content-length", "2")]), false).unwrap();
    assert!(poll_fn(|cx| Poll::Ready(sink.detach(cx).is_none())).await);
    send(&mut sink, b"no", true).await.unwrap();
    drop(stream.recv);
    let conn = drive(conn);
    let answer = rest(&mut peer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nno"), "{answer}");
    drop(peer);
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn a_client_connection_is_not_used_again_and_its_tunnel_goes_on() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, upgrade("foo"), false).await;
    let answer = async {
        expect(&mut peer, "GET /up HTTP/1.1\r\nhost: example.com\r\nupgrade: foo\r\nconnection: Upgrade\r\n\r\n").await;
        put(&mut peer, "HTTP/1.1 101 X\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\nfirst").await;
    };
    let (head, ()) = tokio::join!(head(&mut stream), answer);
    assert_eq!(head.unwrap().status, 101);
    let (mut source, mut sink) = tunnel_halves(stream.response.into_recv(), stream.send).await;
    assert!(soon(poll_fn(|cx| conn.poll_ready(cx))).await.is_err());
    drop(conn);
    assert_eq!(read(&mut source).await.unwrap().unwrap(), "first");
    write(&mut sink, "to the server", true).await;
    assert_eq!(rest(&mut peer).await.unwrap(), "to the server");
    drop(peer);
    assert!(read(&mut source).await.is_none());
}

/// Over a transport that is no plain socket: TLS, an internal connection.
#[tokio::test]
async fn what_lies_over_a_transport_is_detached_with_the_bytes_read_early() {
    let (client, server) = common::duplex::pair(64 << 10);
    let mut asking = adit_h1::client(client, std::sync::Arc::new(ClientConfig::default()));
    let mut serving = adit_h1::server(server, std::sync::Arc::new(ServerConfig::default()));
    let mut asked = open(&mut asking, upgrade("foo"), false).await;
    let (stream, ()) = tokio::join!(accept(&mut serving), async {
        assert!(poll_fn(|cx| Poll::Ready(asked.response.poll_head(cx).is_pending())).await);
    });
    let stream = stream.unwrap().unwrap();
    let sink = stream.responder.respond(response(101, &[("upgrade", "foo")]), false).unwrap();
    let (mut up, mut down) = tunnel_halves(stream.recv, sink).await;
    assert!(accept(&mut serving).await.is_none());
    drop(serving);
    // The head is on its way already: these are behind it, and read with it.
    write(&mut down, "first", false).await;
    assert_eq!(head(&mut asked).await.unwrap().status, 101);
    let (mut source, mut sink) = tunnel_halves(asked.response.into_recv(), asked.send).await;
    drop(asking);
    assert_eq!(read(&mut source).await.unwrap().unwrap(), "first");
    write(&mut sink, "to the server", true).await;
    assert_eq!(read(&mut up).await.unwrap().unwrap(), "to the server");
    assert!(read(&mut up).await.is_none());
    write(&mut down, "last", true).await;
    assert_eq!(read(&mut source).await.unwrap().unwrap(), "last");
    assert!(read(&mut source).await.is_none());
}

#[tokio::test]
async fn a_head_that_cannot_leave_keeps_its_codec_until_it_has() {
    let (client, server) = common::duplex::pair(16);
    let mut serving = adit_h1::server(server, std::sync::Arc::new(ServerConfig::default()));
    let (mut source, mut sink) = client.into_halves();
    let (stream, ()) = tokio::join!(accept(&mut serving), write(&mut sink, UPGRADE, false));
    let stream = stream.unwrap().unwrap();
    let send = stream.responder.respond(response(101, &[("upgrade", "foo")]), false).unwrap();
    let (mut up, mut down) = tunnel_halves(stream.recv, send).await;
    // The tunnel goes on through the codec.
    let serving = drive(serving);
    let mut got = Vec::new();
    let (_, ()) = tokio::join!(write(&mut down, "payload", true), async {
        while let Some(chunk) = read(&mut source).await {
            got.extend_from_slice(&chunk.unwrap());
        }
    });
    let expected = "HTTP/1.1 101 Switching Protocols\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\npayload";
    assert_eq!(String::from_utf8(got).unwrap(), expected);
    let (_, ()) = tokio::join!(write(&mut sink, "answer", true), async {
        assert_eq!(read(&mut up).await.unwrap().unwrap(), "answer");
    });
    assert!(read(&mut up).await.is_none());
    assert_eq!(soon(serving).await.unwrap(), None);
}
