//! Bytes, ends and resets through TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use adit_http::StreamError;
use adit_io::{ByteSink, ByteSource, Io};
use bytes::Bytes;
use rig::{Ca, Rig, common, downstream, exercise, upstream};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

async fn connected() -> (Io, Io) {
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
    let connector = rig.connector(&upstream(common(&[], None)));
    // The server's tickets are read: a socket closed over unread bytes would reset.
    exercise(&connector, &acceptor, Default::default()).await
}

async fn read(source: &mut dyn ByteSource) -> Option<Result<Bytes, StreamError>> {
    poll_fn(|cx| source.poll_chunk(cx, 64 << 10)).await
}

async fn send(sink: &mut dyn ByteSink, data: &'static [u8], end: bool) {
    let mut data = Bytes::from_static(data);
    poll_fn(|cx| sink.poll_send(cx, &mut data, end)).await.unwrap();
    poll_fn(|cx| sink.poll_flush(cx)).await.unwrap();
}

#[tokio::test]
async fn either_side_may_end_first_and_still_be_written_to() {
    for client_first in [true, false] {
        let (client, server) = connected().await;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"last words").await.unwrap();
        first.shutdown().await.unwrap();
        let mut got = Vec::new();
        second.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last words");
        second.write_all(&[7; 100_000]).await.unwrap();
        second.shutdown().await.unwrap();
        let mut got = Vec::new();
        first.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [7; 100_000]);
    }
}

#[tokio::test]
async fn halves_end_in_either_order() {
    let (client, server) = connected().await;
    let ((mut cr, mut cw), (mut sr, mut sw)) = (client.into_halves(), server.into_halves());
    send(&mut *cw, b"a", true).await;
    assert_eq!(read(&mut *sr).await, Some(Ok(Bytes::from_static(b"a"))));
    assert_eq!(read(&mut *sr).await, None);
    assert!(!sr.truncated());
    send(&mut *sw, b"b", false).await;
    assert_eq!(read(&mut *cr).await, Some(Ok(Bytes::from_static(b"b"))));
    send(&mut *sw, b"c", true).await;
    assert_eq!(read(&mut *cr).await, Some(Ok(Bytes::from_static(b"c"))));
    assert_eq!(read(&mut *cr).await, None);
}

#[tokio::test]
async fn an_end_without_close_notify_is_a_cut_for_readers_and_an_end_for_tunnels() {
    let (client, mut server) = connected().await;
    drop(client);
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);

    let (client, server) = connected().await;
    let (mut source, _sink) = server.into_halves();
    drop(client);
    assert_eq!(read(&mut *source).await, None);
    assert!(source.truncated());
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let (client, server) = connected().await;
    let (mut source, _sink) = server.into_halves();
    client.abort();
    assert!(matches!(read(&mut *source).await, Some(Err(StreamError::Reset(_)))));

    // A sink dropped before its end resets too.
    let (client, mut server) = connected().await;
    let (_source, sink) = client.into_halves();
    drop((sink, _source));
    assert_eq!(server.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_is_noticed_without_reading() {
    let (client, server) = connected().await;
    let (_source, mut sink) = server.into_halves();
    client.abort();
    tokio::time::timeout(std::time::Duration::from_secs(30), poll_fn(|cx| sink.poll_stopped(cx))).await.unwrap();
}

#[tokio::test]
async fn every_byte_arrives_in_order() {
    const TOTAL: usize = 64 << 20;
    let (client, server) = connected().await;
    let (mut source, _keep) = server.into_halves();
    let (_other, mut sink) = client.into_halves();
    let pattern: Bytes =
        (0..1_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into();
    let expected = pattern.clone();
    let writer = async move {
        let mut sent = 0;
        let mut sizes = [1, 100, 16 << 10, 65_537, 300_000].into_iter().cycle();
        while sent < TOTAL {
            let start = sent % pattern.len();
            let n = sizes.next().unwrap().min(pattern.len() - start).min(TOTAL - sent);
            let mut chunk = pattern.slice(start..start + n);
            poll_fn(|cx| sink.poll_send(cx, &mut chunk, false)).await.unwrap();
            sent += n;
        }
        poll_fn(|cx| sink.poll_send(cx, &mut Bytes::new(), true)).await.unwrap();
    };
    let reader = async move {
        let mut got = 0;
        let mut sizes = [1, 4096, 256 << 10, 20_000].into_iter().cycle();
        loop {
            let max = sizes.next().unwrap();
            let Some(chunk) = poll_fn(|cx| source.poll_chunk(cx, max)).await else { break };
            let mut chunk = chunk.unwrap();
            while !chunk.is_empty() {
                let start = got % expected.len();
                let part = chunk.split_to(chunk.len().min(expected.len() - start));
                assert_eq!(part, expected.slice(start..start + part.len()));
                got += part.len();
            }
        }
        got
    };
    let ((), got) = tokio::join!(writer, reader);
    assert_eq!(got, TOTAL);
}

#[tokio::test]
async fn vectored_writes_are_joined() {
    let (mut client, mut server) = connected().await;
    let part = |len: usize| (0..len).map(|n| (n % 251) as u8).collect::<Vec<_>>();
    let frames = |count, len| (0..2 * count).map(|n| part(if n % 2 == 0 { 9 } else { len })).collect::<Vec<_>>();
    for (parts, taken) in [
        (vec![part(2), part(0), part(3), part(10), part(6)], 21),
        (vec![part(2), part(40_000), part(6)], 40_008),
        // Frames as most peers allow them, all of them in one write.
        (frames(8, 16 << 10), 8 * (9 + (16 << 10))),
        (frames(20, 16 << 10), 256 << 10),
        // A large piece fills the record under way, and is the last of its write.
        (frames(2, 100_000), 100_009),
        (frames(1, 400_000), 256 << 10),
        (vec![part(400_000), part(6)], 256 << 10),
    ] {
        // One that the socket takes whole, so that the next may be large.
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        let slices: Vec<_> = parts.iter().map(|part| std::io::IoSlice::new(part)).collect();
        let n = client.write_vectored(&slices).await.unwrap();
        assert_eq!(n, taken);
        client.flush().await.unwrap();
        let mut got = vec![0; n];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, parts.concat()[..n]);
    }
}

#[tokio::test]
async fn less_is_held_for_a_socket_that_takes_little() {
    let (mut client, mut server) = connected().await;
    let data = vec![7; 1 << 20];
    let mut write = |cx: &mut Context<'_>| Pin::new(&mut client).poll_write(cx, &data);
    let mut total = 0;
    while let Poll::Ready(n) = poll_fn(|cx| Poll::Ready(write(cx))).await {
        assert_eq!(n.unwrap(), 256 << 10);
        total += 256 << 10;
    }
    let mut read = vec![0; total - (256 << 10)];
    server.read_exact(&mut read).await.unwrap();
    let next = poll_fn(write).await.unwrap();
    assert_eq!(next, 64 << 10);
}

#[tokio::test]
async fn bytes_read_ahead_are_part_of_the_handshake() {
    let rig = Rig::default();
    let cert = Ca::new("ca").issue(&["a.test"]);
    let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
    let connector = rig.connector(&upstream(common(&[], None)));
    let (client, mut server) = rig::tcp().await;
    let accept = async {
        server.fill(20, 100).await.unwrap();
        acceptor.accept(server).await.unwrap()
    };
    let (client, mut server) = tokio::join!(connector.connect(client, Default::default()), accept);
    let mut client = client.unwrap();
    client.write_all(b"x").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
}
