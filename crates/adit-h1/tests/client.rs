//! The requesting side on real sockets, with a raw peer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;

use adit_codec::{ClientConn, OutgoingStream};
use adit_h1::{Client, ClientConfig};
use adit_http::{ErrorCode, ResponseHead, StreamError};
use common::*;
use http::{Method, StatusCode};

/// The final answer to a request and its whole body; interim heads are counted.
async fn answer(stream: &mut OutgoingStream) -> Result<(ResponseHead, usize), StreamError> {
    let mut interim = 0;
    loop {
        let got = head(stream).await?;
        if got.status.is_informational() && got.status != StatusCode::SWITCHING_PROTOCOLS {
            interim += 1;
            continue;
        }
        return Ok((got, interim));
    }
}

async fn ready_error(conn: &mut Client) -> StreamError {
    soon(async {
        loop {
            match poll_fn(|cx| conn.poll_ready(cx)).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_follow_each_other() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    for _ in 0..3 {
        let mut stream = open(&mut conn, request(Method::GET, "/a?b"), true).await;
        let peer = async {
            expect(&mut peer, "GET /a?b HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
            put(&mut peer, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").await;
            put(&mut peer, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
        };
        let (got, ()) = tokio::join!(answer(&mut stream), peer);
        let (got, interim) = got.unwrap();
        assert_eq!((got.status.as_u16(), interim), (200, 1));
        assert!(got.headers.is_empty());
        assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), b"abc");
    }
}

#[tokio::test]
async fn a_body_goes_out_with_its_length_or_chunked() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    for chunked in [false, true] {
        let mut head = request(Method::POST, "/");
        if !chunked {
            head.headers = map(&[("content-length", "5")]);
        }
        let mut stream = open(&mut conn, head, false).await;
        send(&mut stream.send, b"hello", true).await.unwrap();
        expect(
            &mut peer,
            if chunked {
                "POST / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            } else {
                "POST / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 5\r\n\r\nhello"
            },
        )
        .await;
        put(&mut peer, "HTTP/1.1 204 No Content\r\n\r\n").await;
        answer(&mut stream).await.unwrap();
        assert!(stream.response.into_recv().is_end());
    }
}

#[tokio::test]
async fn an_early_answer_is_delivered_and_the_connection_not_used_again() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, request(Method::POST, "/"), false).await;
    send(&mut stream.send, b"hello", false).await.unwrap();
    put(&mut peer, "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await;
    let (got, _) = answer(&mut stream).await.unwrap();
    assert_eq!(got.status.as_u16(), 413);
    drop(stream.send);
    assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), b"no");
    assert!(matches!(ready_error(&mut conn).await, StreamError::Local(_)));
    drop(conn);
    // The upload was cut: its end must not look like one.
    assert!(rest(&mut peer).await.is_err());
}

#[tokio::test]
async fn an_answer_of_a_server_that_closed_its_reading_end_is_still_read() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, request(Method::POST, "/"), false).await;
    send(&mut stream.send, b"hello", false).await.unwrap();
    expect(&mut peer, "POST / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    put(&mut peer, "HTTP/1.1 200 OK\r\n\r\nuntil close").await;
    drop(peer);
    answer(&mut stream).await.unwrap();
    assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), b"until close");
}

#[tokio::test]
async fn tunnels_are_raw_after_acceptance() {
    for (head, wire, accept) in [
        (
            upgrade("foo"),
            "GET /up HTTP/1.1\r\nhost: example.com\r\nupgrade: foo\r\nconnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 X\r\nupgrade: Foo\r\nconnection: keep-alive, upgrade\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            connect("h:443"),
            "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\n\r\n",
            "HTTP/1.1 204 Connected\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
    ] {
        let (mut peer, mut conn) = client(ClientConfig::default()).await;
        let mut stream = open(&mut conn, head, false).await;
        let server = async {
            expect(&mut peer, wire).await;
            put(&mut peer, "HTTP/1.1 103 Early Hints\r\n\r\n").await;
            put(&mut peer, format!("{accept}ahead")).await;
        };
        let (got, ()) = tokio::join!(answer(&mut stream), server);
        assert!(!got.unwrap().0.headers.contains_key("content-length"));
        let mut recv = stream.response.into_recv();
        assert!(recv.as_tcp().is_none(), "bytes were read ahead");
        assert_eq!(chunk(&mut recv).await.unwrap().unwrap(), "ahead");
        assert!(recv.as_tcp().is_some() && stream.send.as_tcp().is_some());
        drop(conn);
        send(&mut stream.send, b"up", true).await.unwrap();
        assert_eq!(rest(&mut peer).await.unwrap(), "up");
        put(&mut peer, "down").await;
        drop(peer);
        assert_eq!(all(&mut recv).await.unwrap(), b"down");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_trusted_are_errors() {
    let too_many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(101);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(61 << 10));
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    for (name, head, answered) in [
        ("u4", request(Method::GET, "/"), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("u6", request(Method::GET, "/"), "HTTP/1.1 101 X\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n"),
        ("u6 connect", connect("h:1"), "HTTP/1.1 101 X\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n"),
        ("u7", upgrade("foo"), "HTTP/1.1 101 X\r\nupgrade: bar\r\nconnection: upgrade\r\n\r\n"),
        ("u7 none", upgrade("foo"), "HTTP/1.1 101 X\r\nconnection: upgrade\r\n\r\n"),
        ("u8", upgrade("foo"), "HTTP/1.1 101 X\r\nupgrade: foo\r\n\r\n"),
        ("u27 te", request(Method::GET, "/"), "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"),
        ("u27 lf", request(Method::GET, "/"), "HTTP/1.1 200 OK\ncontent-length: 0\n\n"),
        ("u27 length", request(Method::GET, "/"), "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n"),
        ("c6", connect("h:1"), &too_many),
        ("status 99", request(Method::GET, "/"), "HTTP/1.1 099 X\r\n\r\n"),
        ("status 600", request(Method::GET, "/"), "HTTP/1.1 600 X\r\n\r\n"),
        ("status 20", request(Method::GET, "/"), "HTTP/1.1 20 X\r\n\r\n"),
        ("status 2000", request(Method::GET, "/"), "HTTP/1.1 2000 X\r\n\r\n"),
        ("version", request(Method::GET, "/"), "HTTP/2.0 200 OK\r\n\r\n"),
        ("large", request(Method::GET, "/"), &long),
        ("fields", request(Method::GET, "/"), &fields),
        ("cut", request(Method::GET, "/"), "HTTP/1.1 200 OK\r\n"),
    ] {
        let (mut peer, mut conn) = client(ClientConfig::default()).await;
        let mut stream = open(&mut conn, head, true).await;
        put(&mut peer, answered).await;
        if name == "cut" {
            tokio::io::AsyncWriteExt::shutdown(&mut peer).await.unwrap();
        }
        let error = answer(&mut stream).await.unwrap_err();
        let expected = match name {
            "c6" | "large" | "fields" => matches!(error, StreamError::TooLarge(_)),
            // Half a head: as Envoy, a broken answer and not a missing one.
            "cut" => error == StreamError::Protocol("http1.codec_error"),
            _ => matches!(error, StreamError::Protocol(_)),
        };
        assert!(expected, "{name}: {error:?}");
        assert!(poll_fn(|cx| conn.poll_ready(cx)).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn half_a_head_is_a_broken_answer_behind_a_reset_too() {
    for (sent, expected) in
        [("HTTP/1.1 200 O", StreamError::Protocol("http1.codec_error")), ("", StreamError::Reset(ErrorCode::Cancel))]
    {
        let (mut peer, mut conn) = client(ClientConfig::default()).await;
        let mut stream = open(&mut conn, request(Method::GET, "/"), true).await;
        let cut = async {
            let _ = tokio::io::AsyncReadExt::read(&mut peer, &mut [0; 1024]).await.unwrap();
            put(&mut peer, sent).await;
            peer.set_zero_linger().unwrap();
            drop(peer);
        };
        let (answer, ()) = tokio::join!(answer(&mut stream), cut);
        assert_eq!(answer.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn truncation_is_never_an_end() {
    for (head, end) in [
        ("content-length: 5", StreamError::Truncated),
        ("transfer-encoding: chunked", StreamError::Truncated),
        ("x: until-close", StreamError::Reset(ErrorCode::Cancel)),
    ] {
        let (mut peer, mut conn) = client(ClientConfig::default()).await;
        let mut stream = open(&mut conn, request(Method::GET, "/"), true).await;
        put(&mut peer, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\n")).await;
        answer(&mut stream).await.unwrap();
        let mut recv = stream.response.into_recv();
        if end == StreamError::Truncated {
            tokio::io::AsyncWriteExt::shutdown(&mut peer).await.unwrap();
        } else {
            assert!(chunk(&mut recv).await.unwrap().is_ok());
            #[allow(deprecated)]
            peer.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(peer);
        }
        assert_eq!(all(&mut recv).await.unwrap_err(), end, "{head}");
    }
}

#[tokio::test]
async fn bytes_behind_a_complete_answer_spoil_the_connection() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, request(Method::GET, "/"), true).await;
    put(&mut peer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n").await;
    answer(&mut stream).await.unwrap();
    assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), b"ok");
    assert_eq!(ready_error(&mut conn).await, StreamError::Protocol("http1.codec_error"));
}

#[tokio::test]
async fn c4_u1_a_refused_tunnel_is_never_used_again() {
    for head in [connect("h:1"), upgrade("websocket")] {
        let (mut peer, mut conn) = client(ClientConfig::default()).await;
        let mut stream = open(&mut conn, head, false).await;
        put(&mut peer, "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno").await;
        assert_eq!(answer(&mut stream).await.unwrap().0.status.as_u16(), 407);
        assert_eq!(all(&mut stream.response.into_recv()).await.unwrap(), b"no");
        assert!(matches!(ready_error(&mut conn).await, StreamError::Local(_)));
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_closes_is_noticed() {
    let (peer, mut conn) = client(ClientConfig::default()).await;
    soon(poll_fn(|cx| conn.poll_ready(cx))).await.unwrap();
    drop(peer);
    assert_eq!(ready_error(&mut conn).await, StreamError::Stopped(ErrorCode::NoError));
}

/// A connection with socket buffers so small that a large head does not fit.
async fn narrow() -> (tokio::net::TcpStream, Client) {
    let acceptor = tokio::net::TcpSocket::new_v4().unwrap();
    acceptor.set_recv_buffer_size(4096).unwrap();
    acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let acceptor = acceptor.listen(1).unwrap();
    let ours = tokio::net::TcpSocket::new_v4().unwrap();
    ours.set_send_buffer_size(4096).unwrap();
    let (ours, peer) = tokio::join!(ours.connect(acceptor.local_addr().unwrap()), acceptor.accept());
    (peer.unwrap().0, adit_h1::client(io(ours.unwrap()), Arc::new(ClientConfig::default())))
}

#[tokio::test]
async fn an_upgrade_that_is_accepted_before_its_head_was_read_does_not_lose_the_rest_of_the_head() {
    let (mut peer, mut conn) = narrow().await;
    let mut request = upgrade("foo");
    request.headers.insert("x-long", http::HeaderValue::from_str(&"h".repeat(512 << 10)).unwrap());
    let mut stream = open(&mut conn, request, false).await;
    put(&mut peer, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n").await;
    assert_eq!(head(&mut stream).await.unwrap().status, 101);
    assert!(stream.send.as_tcp().is_none(), "the head has not left yet");
    let reading = tokio::spawn(async move { rest(&mut peer).await.unwrap() });
    // As a relay does that has nothing to send.
    for _ in 0..6000 {
        let _ = poll_fn(|cx| std::task::Poll::Ready(stream.send.poll_stopped(cx))).await;
        if stream.send.as_tcp().is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let socket = stream.send.as_tcp().expect("the head has left");
    assert_eq!(socket.try_write(b"payload").unwrap(), 7);
    send(&mut stream.send, b"", true).await.unwrap();
    let received = soon(reading).await.unwrap();
    let (head, payload) = received.split_once("\r\n\r\n").unwrap();
    assert_eq!((head.matches('h').count() > 512 << 10, payload), (true, "payload"));
}
