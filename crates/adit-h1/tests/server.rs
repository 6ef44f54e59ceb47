//! The serving side on real sockets, with a raw peer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use adit_codec::{Meter, ServerConn};
use adit_h1::{Event, Owner, ServerConfig};
use adit_http::{ErrorCode, RequestKind, ResponseHead, StreamError};
use common::*;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

#[tokio::test]
async fn requests_are_served_in_order_on_one_connection() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabcGET /c HTTP/1.1\r\nhost: h\r\n\r\n").await;
    for (path, body) in [("/a", ""), ("/b", "abc"), ("/c", "")] {
        let mut stream = accept(&mut conn).await.unwrap().unwrap();
        assert_eq!(stream.head.path_only(), path);
        assert_eq!(stream.head.authority.as_ref().unwrap(), "h");
        assert!(!stream.head.headers.contains_key("host"));
        assert_eq!(all(&mut stream.recv).await.unwrap(), body.as_bytes());
        let mut sink = stream.responder.respond(response(200, &[("content-length", "2")]), false).unwrap();
        send(&mut sink, b"ok", true).await.unwrap();
        expect(&mut peer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(conn.live_streams(), 1);
    }
    drop(peer);
    assert!(accept(&mut conn).await.is_none());
}

#[tokio::test]
async fn an_answer_without_a_length_is_chunked() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET /a HTTP/1.1\r\nHost: h\r\nconnection: close\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[("x", "y")]), false).unwrap();
    send(&mut sink, b"hello", false).await.unwrap();
    send(&mut sink, &[b'x'; 26], true).await.unwrap();
    let conn = drive(conn);
    let expected = format!(
        "HTTP/1.1 200 OK\r\nx: y\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1a\r\n{}\r\n0\r\n\r\n",
        "x".repeat(26)
    );
    assert_eq!(rest(&mut peer).await.unwrap(), expected);
    drop(peer);
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn a_head_that_is_refused_is_answered_and_the_connection_closed() {
    for (text, status, details) in [
        ("GET / HTTP/1.1\nhost: h\n\n", "400 Bad Request", "http1.codec_error"),
        (
            "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "400 Bad Request",
            "http1.content_length_and_chunked_not_allowed",
        ),
        (
            "GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\n",
            "501 Not Implemented",
            "http1.invalid_transfer_encoding",
        ),
        ("GET / HTTP/1.0\r\n\r\n", "426 Upgrade Required", "low_version"),
        ("\x16\x03\x01", "400 Bad Request", "http1.codec_error"),
    ] {
        let (mut peer, conn) = server(ServerConfig::default()).await;
        let conn = drive(conn);
        put(&mut peer, text).await;
        // Bytes in flight behind the head do not destroy the answer.
        put(&mut peer, vec![b'x'; 100_000]).await;
        assert_eq!(
            rest(&mut peer).await.unwrap(),
            format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        );
        drop(peer);
        let error = soon(conn).await.unwrap().unwrap();
        assert_eq!(error.details, details);
        assert_eq!(error.answered.unwrap().as_str(), &status[..3]);
    }
}

#[tokio::test]
async fn an_accepted_upgrade_becomes_a_tunnel() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET /up HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        .await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    assert!(matches!(&stream.head.kind, RequestKind::Upgrade(token) if token.is_websocket()));
    let conn = drive(conn);
    assert_eq!(chunk(&mut stream.recv).await.unwrap().unwrap(), "early");
    let mut sink =
        stream.responder.respond(response(101, &[("upgrade", "websocket"), ("content-length", "0")]), false).unwrap();
    expect(&mut peer, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n").await;
    assert!(stream.recv.as_tcp().is_some());
    assert!(sink.as_tcp().is_some());
    send(&mut sink, b"down", false).await.unwrap();
    expect(&mut peer, "down").await;
    put(&mut peer, "up").await;
    assert_eq!(chunk(&mut stream.recv).await.unwrap().unwrap(), "up");
    send(&mut sink, b"last", true).await.unwrap();
    assert_eq!(rest(&mut peer).await.unwrap(), "last");
    put(&mut peer, "more").await;
    drop(peer);
    assert_eq!(all(&mut stream.recv).await.unwrap(), b"more");
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn u1_c3_a_refused_tunnel_is_closed_and_its_payload_never_read_as_a_request() {
    for head in [
        "CONNECT h:1 HTTP/1.1\r\nhost: other\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let (mut peer, mut conn) = server(ServerConfig::default()).await;
        put(&mut peer, format!("{head}GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n")).await;
        let stream = accept(&mut conn).await.unwrap().unwrap();
        drop(stream.recv);
        stream.responder.respond(response(403, &[]), true).unwrap();
        let conn = drive(conn);
        assert_eq!(
            rest(&mut peer).await.unwrap(),
            "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        drop(peer);
        assert_eq!(soon(conn).await.unwrap(), None);
    }
}

#[tokio::test]
async fn expect_is_answered_when_the_body_is_wanted() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    assert!(!stream.head.headers.contains_key("expect"));
    let body = tokio::spawn(async move { all(&mut stream.recv).await });
    expect(&mut peer, "HTTP/1.1 100 Continue\r\n\r\n").await;
    put(&mut peer, "ok").await;
    assert_eq!(soon(body).await.unwrap().unwrap(), b"ok");
    stream.responder.respond(response(204, &[]), true).unwrap();
    expect(&mut peer, "HTTP/1.1 204 No Content\r\n\r\n").await;
}

#[tokio::test]
async fn an_unfinished_answer_is_a_reset() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, b"part", false).await.unwrap();
    expect(&mut peer, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    drop(sink);
    assert!(rest(&mut peer).await.is_err());
    assert!(accept(&mut conn).await.is_none());
}

#[tokio::test]
async fn a_half_close_waits_for_its_answer_and_a_reset_cancels() {
    for reset in [false, true] {
        let (mut peer, mut conn) = server(ServerConfig::default()).await;
        put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let mut stream = accept(&mut conn).await.unwrap().unwrap();
        let conn = drive(conn);
        if reset {
            #[allow(deprecated)]
            peer.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(peer);
            let error = soon(poll_fn(|cx| stream.responder.poll_cancelled(cx))).await;
            assert_eq!(error, StreamError::Reset(ErrorCode::Cancel));
            drop(stream);
        } else {
            tokio::io::AsyncWriteExt::shutdown(&mut peer).await.unwrap();
            let wait = poll_fn(|cx| stream.responder.poll_cancelled(cx));
            tokio::time::timeout(std::time::Duration::from_millis(50), wait).await.unwrap_err();
            stream.responder.respond(response(200, &[]), true).unwrap();
            assert_eq!(rest(&mut peer).await.unwrap(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
        assert_eq!(soon(conn).await.unwrap(), None);
    }
}

#[tokio::test]
async fn drain_ends_an_idle_connection_and_closes_a_live_one_after_its_answer() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    conn.drain();
    assert!(accept(&mut conn).await.is_none());
    assert_eq!(rest(&mut peer).await.unwrap(), "");

    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let stream = accept(&mut conn).await.unwrap().unwrap();
    conn.drain();
    stream.responder.respond(response(200, &[]), true).unwrap();
    let conn = drive(conn);
    assert_eq!(rest(&mut peer).await.unwrap(), "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    drop(peer);
    assert_eq!(soon(conn).await.unwrap(), None);
}

#[tokio::test]
async fn abort_resets_what_lives() {
    let (mut peer, mut conn) = server(ServerConfig::default()).await;
    put(&mut peer, "CONNECT h:1 HTTP/1.1\r\n\r\n").await;
    let mut stream = accept(&mut conn).await.unwrap().unwrap();
    let mut sink = stream.responder.respond(response(200, &[]), false).unwrap();
    expect(&mut peer, "HTTP/1.1 200 OK\r\n\r\n").await;
    conn.abort(ErrorCode::Cancel);
    assert!(rest(&mut peer).await.is_err());
    assert_eq!(chunk(&mut stream.recv).await, Some(Err(StreamError::Local(ErrorCode::Cancel))));
    assert!(send(&mut sink, b"x", false).await.is_err());
    assert!(accept(&mut conn).await.is_none());
}

struct Silent;

impl Owner for Silent {
    fn refuse(&self, status: http::StatusCode, _: &'static str, _: Arc<Meter>) -> (ResponseHead, bytes::Bytes) {
        (response(status.as_u16(), &[("content-length", "0")]), bytes::Bytes::new())
    }

    fn event(&self, _: Event) {}
}

/// An answer whose last part the peer reads before it sends the next request.
async fn answer(stream: adit_codec::IncomingStream) {
    let mut sink = stream.responder.respond(response(200, &[("content-length", "2")]), false).unwrap();
    tokio::task::yield_now().await;
    send(&mut sink, b"ok", true).await.unwrap();
}

/// Of somebody who owns it, a connection is polled behind its stream, or is woken where another task has the stream.
#[tokio::test]
async fn an_owned_connection_goes_on_behind_its_streams() {
    let (mut peer, ours) = pair().await;
    let mut conn = adit_h1::server_for(io(ours), Arc::new(ServerConfig::default()), Arc::new(Silent));
    for own_task in [false, true, false, true] {
        put(&mut peer, "GET / HTTP/1.1\r\nhost: h\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let first = accept(&mut conn).await.unwrap().unwrap();
        let second = if own_task {
            let done = tokio::spawn(answer(first));
            let second = accept(&mut conn).await;
            done.await.unwrap();
            second
        } else {
            let mut answering = pin!(answer(first));
            let mut answered = false;
            soon(poll_fn(|cx| {
                answered = answered || answering.as_mut().poll(cx).is_ready();
                match conn.poll_accept(cx) {
                    Poll::Ready(next) if answered => Poll::Ready(next),
                    Poll::Ready(_) => panic!("a request before the answer"),
                    Poll::Pending => Poll::Pending,
                }
            }))
            .await
        };
        expect(&mut peer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        answer(second.unwrap().unwrap()).await;
        expect(&mut peer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
}
