//! The serving side where peers misbehave, stop reading, or speak HTTP/1.0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::time::{Duration, Instant};

use adit_codec::{ClientConn, ServerConn};
use adit_h1::{ClientConfig, ServerConfig};
use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use common::*;
use http::Method;
use tokio::io::AsyncWriteExt;

fn reset_on_drop(peer: &tokio::net::TcpStream) {
    #[allow(deprecated)]
    peer.set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_a_408_and_an_idle_connection_is_not() {
    let cfg = ServerConfig { request_headers_timeout: Some(Duration::from_millis(50)), ..ServerConfig::default() };
    let (mut peer, conn) = server(cfg).await;
    let conn = drive(conn);
    tokio::time::sleep(Duration::from_millis(100)).await;
    put(&mut peer, "GET / HT").await;
    let answer = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(rest(&mut peer).await.unwrap(), answer);
    drop(peer);
    let error = soon(conn).await.unwrap().unwrap();
    assert_eq!((error.error, error.details), (StreamError::TimedOut, "request_header_timeout"));
}

#[tokio::test]
async fn a_peer_that_does_not_close_is_waited_for_only_so_long() {
    let cfg = ServerConfig { delayed_close_timeout: Duration::from_millis(50), ..ServerConfig::default() };
    let (mut peer, conn) = server(cfg).await;
    let started = Instant::now();
    let conn = drive(conn);
    put(&mut peer, "nonsense\r\n\r\n").await;
    assert!(rest(&mut peer).await.unwrap().starts_with("HTTP/1.1 400"));
    assert!(soon(conn).await.unwrap().is_some());
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_middle_of_a_head_is_an_error_without_an_answer() {
    let (mut peer, conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET / HT").await;
    peer.shutdown().await.unwrap();
    let error = soon(drive(conn)).await.unwrap().unwrap();
    assert_eq!((error.error, error.answered), (StreamError::Truncated, None));
    assert_eq!(rest(&mut peer).await.unwrap(), "");
}

#[tokio::test]
async fn a_reset_is_seen_behind_pipelined_requests_and_unread_bodies() {
    for request in [
        "GET / HTTP/1.1\r\nhost: h\r\n\r\nGET /2 HTTP/1.1\r\nhost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nbody",
        "CONNECT h:1 HTTP/1.1\r\n\r\nearly",
    ] {
        let (mut peer, mut conn) = server(ServerConfig::default()).await;
        put(&mut peer, request).await;
        let mut stream = accept(&mut conn).await.unwrap().unwrap();
        let _conn = tokio::spawn(async move { poll_fn(|cx| conn.poll_accept(cx)).await.is_none() });
        let waited =
            tokio::time::timeout(Duration::from_millis(30), poll_fn(|cx| stream.responder.poll_cancelled(cx))).await;
        assert!(waited.is_err());
        reset_on_drop(&peer);
        drop(peer);
        soon(poll_fn(|cx| stream.responder.poll_cancelled(cx))).await;
    }
}

#[tokio::test]
async fn a_body_cut_short_is_truncated_and_the_connection_over() {
    for request in ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let (mut peer, mut conn) = server(ServerConfig::default()).await;
        put(&mut peer, format!("POST / HTTP/1.1\r\nhost: h\r\n{request}")).await;
        let mut stream = accept(&mut conn).await.unwrap().unwrap();
        assert_eq!(chunk(&mut stream.recv).await.unwrap().unwrap(), "hello");
        peer.shutdown().await.unwrap();
        assert_eq!(chunk(&mut stream.recv).await, Some(Err(StreamError::Truncated)));
        assert_eq!(chunk(&mut stream.recv).await, Some(Err(StreamError::Truncated)));
        stream.responder.respond(response(400, &[]), true).unwrap();
        let conn = drive(conn);
        assert_eq!(
            rest(&mut peer).await.unwrap(),
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(soon(conn).await.unwrap(), None);
    }
}

#[tokio::test]
async fn u27_a_body_that_breaks_the_rules_is_an_error_that_can_be_answered() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0x5\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    let error = all(&mut stream.recv).await.unwrap_err();
    assert_eq!(error, StreamError::Protocol("http1.codec_error"));
    drop(stream.recv);
    stream.responder.respond(response(400, &[]), true).unwrap();
    let conn = drive(conn);
    assert!(rest(&mut peer).await.unwrap().contains("connection: close"));
    drop(peer);
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn a_length_that_was_announced_is_kept_or_the_connection_reset() {
    for (body, end) in [(&b"hell"[..], true), (b"hello!", false)] {
        let (mut peer, mut conn) = server(ServerConfig::default()).await;
        put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let stream = accept(&mut conn).await.unwrap().unwrap();
        let mut sink = stream.responder.respond(response(200, &[("content-length", "5")]), false).unwrap();
        assert_eq!(send(&mut sink, body, end).await, Err(StreamError::Local(ErrorCode::Internal)));
        assert!(rest(&mut peer).await.is_err());
        assert!(accept(&mut conn).await.is_none());
    }
}

#[tokio::test]
async fn an_answer_to_head_sends_no_byte_of_its_body() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "HEAD / HTTP/1.1\r\nhost: h\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[("content-length", "5")]), false).unwrap();
    send(&mut sink, b"hello", true).await.unwrap();
    expect(&mut peer, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    stream.responder.respond(response(204, &[]), true).unwrap();
    expect(&mut peer, "HTTP/1.1 204 No Content\r\n\r\n").await;
}

#[tokio::test]
async fn http_1_0_where_it_is_accepted() {
    let cfg = ServerConfig { accept_http_10: true, ..ServerConfig::default() };
    let (mut peer, mut conn) = server(cfg.clone()).await;
    put(&mut peer, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    // An interim answer means nothing to it.
    stream.responder.inform(response(103, &[])).unwrap();
    stream.responder.respond(response(200, &[]), true).unwrap();
    expect(&mut peer, "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, b"until ", false).await.unwrap();
    send(&mut sink, b"close", true).await.unwrap();
    let conn = drive(conn);
    assert_eq!(rest(&mut peer).await.unwrap(), "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nuntil close");
    drop(peer);
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn an_interim_flood_is_bounded_by_the_client_that_does_not_read() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    let mut queued = 0;
    let error = loop {
        match stream.responder.inform(response(103, &[("link", "</style.css>; rel=preload; as=style")])) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        assert!(queued < 1_000_000);
    };
    assert_eq!(error, StreamError::TooLarge("http1.response_flood"));
}

#[tokio::test]
async fn u26_a_tunnel_that_expects_a_100_gets_it_at_once() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "CONNECT h:1 HTTP/1.1\r\nexpect: 100-continue\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    assert!(poll_fn(|cx| std::task::Poll::Ready(conn.poll_accept(cx))).await.is_pending());
    expect(&mut peer, "HTTP/1.1 100 Continue\r\n\r\n").await;
    let _sink = stream.responder.respond(response(200, &[]), false).unwrap();
    expect(&mut peer, "HTTP/1.1 200 OK\r\n\r\n").await;
}

#[tokio::test]
async fn a_tunnel_that_is_accepted_with_its_end_is_half_closed() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "CONNECT h:1 HTTP/1.1\r\n\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    stream.responder.respond(response(200, &[]), true).unwrap();
    let conn = drive(conn);
    assert_eq!(rest(&mut peer).await.unwrap(), "HTTP/1.1 200 OK\r\n\r\n");
    put(&mut peer, "up").await;
    drop(peer);
    assert_eq!(all(&mut stream.recv).await.unwrap(), b"up");
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn drain_adds_no_close_to_an_accepted_upgrade() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    conn.drain();
    let _sink = stream.responder.respond(response(101, &[("upgrade", "x")]), false).unwrap();
    expect(&mut peer, "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    assert_eq!(conn.live_streams(), 1);
}

#[tokio::test]
async fn u9_a_second_101_is_payload() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, upgrade("foo"), false).await;
    let switch = "HTTP/1.1 101 X\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n";
    put(&mut peer, format!("{switch}{switch}")).await;
    assert_eq!(head(&mut stream).await.unwrap().status, 101);
    peer.shutdown().await.unwrap();
    assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), switch.as_bytes());
}

#[tokio::test]
async fn a_server_that_says_close_is_not_asked_again() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, request(Method::GET, "/"), true).await;
    put(&mut peer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    head(&mut stream).await.unwrap();
    assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), b"ok");
    assert!(poll_fn(|cx| conn.poll_ready(cx)).await.is_err());
}

#[tokio::test]
async fn a_peer_that_does_not_read_stops_the_sender_and_is_seen_when_it_resets() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[]), false).unwrap();
    let mut data = Bytes::from(vec![0; 64 << 20]);
    let stuck =
        tokio::time::timeout(Duration::from_millis(200), poll_fn(|cx| sink.poll_send(cx, &mut data, true))).await;
    assert!(stuck.is_err() && !data.is_empty());
    reset_on_drop(&peer);
    drop(peer);
    soon(poll_fn(|cx| sink.poll_stopped(cx))).await;
    assert!(accept(&mut conn).await.is_none());
}

#[tokio::test]
async fn a_tunnel_that_breaks_behind_its_end_is_reset() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let conn = drive(conn);
    let mut sink = stream.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, b"last", true).await.unwrap();
    let got = rest(&mut peer).await.unwrap();
    assert!(got.ends_with("\r\n\r\nlast"), "{got}");
    sink.reset(ErrorCode::Cancel);
    // Behind the end that it has read, the kernel calls a reset a broken pipe.
    soon(peer.ready(tokio::io::Interest::ERROR)).await.unwrap();
    assert_eq!(peer.take_error().unwrap().unwrap().kind(), std::io::ErrorKind::BrokenPipe);
    drop((stream.recv, sink));
    soon(conn).await.unwrap();
}

/// Whether the client has left: soon, or not for a moment.
async fn left(recv: &mut Box<dyn adit_codec::RecvStream>, expected: bool) {
    let left = poll_fn(|cx| recv.poll_left(cx));
    if expected {
        soon(left).await;
    } else {
        assert!(tokio::time::timeout(Duration::from_millis(30), left).await.is_err());
    }
}

#[tokio::test]
async fn a_tunnels_client_that_ends_without_a_byte_has_left_and_one_that_spoke_has_half_closed() {
    use tokio::io::AsyncReadExt;
    let head = "CONNECT h:1 HTTP/1.1\r\n\r\n";
    for early in ["", "payload"] {
        // In the head's own read, and behind it.
        for apart in [false, true] {
            let (mut peer, mut conn) = server(ServerConfig::default()).await;
            put(&mut peer, if apart { head.to_owned() } else { format!("{head}{early}") }).await;
            let mut stream = accept(&mut conn).await.unwrap().unwrap();
            left(&mut stream.recv, false).await;
            if apart {
                put(&mut peer, early).await;
            }
            peer.shutdown().await.unwrap();
            left(&mut stream.recv, early.is_empty()).await;
            // Nothing was taken.
            assert_eq!(all(&mut stream.recv).await.unwrap(), early.as_bytes());
        }
    }
    for early in ["", "payload"] {
        let (ours, mut theirs) = common::duplex::pair(1 << 10);
        let mut conn = adit_h1::server(ours, std::sync::Arc::new(ServerConfig::default()));
        theirs.write_all(format!("{head}{early}").as_bytes()).await.unwrap();
        let mut stream = accept(&mut conn).await.unwrap().unwrap();
        theirs.shutdown().await.unwrap();
        left(&mut stream.recv, early.is_empty()).await;
        drop((stream, conn));
        let _ = theirs.read_to_end(&mut Vec::new()).await;
    }
    // The end of another request's body says nothing.
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    peer.shutdown().await.unwrap();
    left(&mut stream.recv, false).await;
}
