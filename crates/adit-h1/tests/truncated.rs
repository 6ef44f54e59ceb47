//! Over a transport whose end may be a cut (TLS without close_notify).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::ClientConn;
use adit_h1::{Client, ClientConfig};
use adit_http::StreamError;
use adit_io::{Address, ByteSink, ByteSource, ConnInfo, Io, Stream, Transport, transport_halves};
use common::*;
use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// A pipe whose end is always a cut.
struct Cut(DuplexStream);

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Transport for Cut {
    fn abort(&mut self) {}

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        transport_halves(*self)
    }

    fn truncated(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_body_delimited_by_the_end_is_cut_and_a_counted_one_and_a_tunnel_are_not() {
    for (method, answer, expected) in [
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\nabc", Err(StreamError::Truncated)),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", Ok(b"abc".to_vec())),
        (Method::CONNECT, "HTTP/1.1 200 OK\r\n\r\nabc", Ok(b"abc".to_vec())),
    ] {
        let (near, mut far) = tokio::io::duplex(4096);
        let address = Address::Pipe("p".into());
        let io = Io::new(Stream::Other(Box::new(Cut(near))), Arc::new(ConnInfo::new(1, address.clone(), address)));
        let mut conn: Client = adit_h1::client(io, Arc::new(ClientConfig::default()));
        let target = if method == Method::CONNECT { connect("a.test:443") } else { request(method, "/") };
        let mut stream = open(&mut conn, target, true).await;
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        head(&mut stream).await.unwrap();
        assert_eq!(all(&mut stream.response.into_recv()).await, expected, "{answer}");
    }
}

/// A reset that the sending half has seen first reads as an end afterwards: the kernel reports it once.
#[tokio::test]
async fn a_reset_that_the_request_ran_into_is_no_end_of_the_answer() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    let mut stream = open(&mut conn, request(Method::POST, "/"), false).await;
    send(&mut stream.send, b"hello", false).await.unwrap();
    put(&mut peer, "HTTP/1.1 200 OK\r\n\r\nabc").await;
    head(&mut stream).await.unwrap();
    let mut recv = stream.response.into_recv();
    assert_eq!(chunk(&mut recv).await.unwrap().unwrap(), "abc");
    peer.set_zero_linger().unwrap();
    drop(peer);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(send(&mut stream.send, b"more", false).await.is_err());
    assert!(chunk(&mut recv).await.is_some_and(|chunk| chunk.is_err()), "a cut answer that looks complete");
}

/// The same of a request without a body, which leaves as it is opened.
#[tokio::test]
async fn a_reset_that_a_request_without_a_body_ran_into_is_none_either() {
    let (peer, mut conn) = client(ClientConfig::default()).await;
    ready(&mut conn).await;
    // Nothing is awaited from here on, so that the write is the first to know.
    peer.try_write(b"HTTP/1.1 200 OK\r\n\r\nabc").unwrap();
    peer.set_zero_linger().unwrap();
    drop(peer);
    let mut stream = conn.open(&request(Method::GET, "/"), true).unwrap();
    head(&mut stream).await.unwrap();
    let mut recv = stream.response.into_recv();
    assert_eq!(chunk(&mut recv).await.unwrap().unwrap(), "abc");
    assert!(chunk(&mut recv).await.is_some_and(|chunk| chunk.is_err()), "a cut answer that looks complete");
}

/// Nobody has to wait for the answer.
#[tokio::test]
async fn a_request_without_a_body_leaves_as_it_is_opened() {
    let (mut peer, mut conn) = client(ClientConfig::default()).await;
    ready(&mut conn).await;
    let _stream = conn.open(&request(Method::GET, "/"), true).unwrap();
    let mut bytes = [0; 16];
    assert_eq!(peer.read_exact(&mut bytes).await.unwrap(), 16);
    assert_eq!(&bytes, b"GET / HTTP/1.1\r\n");
}
