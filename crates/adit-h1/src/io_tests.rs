#![allow(clippy::unwrap_used)]
use std::future::poll_fn;
use std::time::Duration;

use adit_io::ConnInfo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::coop;

use super::*;

async fn pair() -> (TcpStream, Reader) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let address = adit_io::Address::Ip(listener.local_addr().unwrap());
    let info = ConnInfo::new(1, address.clone(), address);
    (peer, split(Io::tcp(socket, Arc::new(info))).0)
}

async fn fill(reader: &mut Reader, waits: &mut Option<Waker>) -> bool {
    let filled = poll_fn(|cx| reader.poll_fill_or_wait(cx, waits));
    tokio::time::timeout(Duration::from_secs(20), filled).await.unwrap().unwrap()
}

#[tokio::test]
async fn who_waits_is_told_of_input_however_often_it_asks() {
    let (mut peer, mut reader) = pair().await;
    let mut waits = None;
    for _ in 0..3 {
        for _ in 0..3 {
            let pending = poll_fn(|cx| Poll::Ready(reader.poll_fill_or_wait(cx, &mut waits).is_pending())).await;
            assert!(pending && waits.is_some());
        }
        peer.write_all(b"x").await.unwrap();
        assert!(fill(&mut reader, &mut waits).await);
        assert_eq!((&reader.buf[..], waits.is_none()), (&b"x"[..], true));
        reader.buf.clear();
    }
    drop(peer);
    assert!(!fill(&mut reader, &mut waits).await);
}

#[tokio::test]
async fn another_task_that_waits_is_told() {
    let (mut peer, mut reader) = pair().await;
    let mut waits = None;
    let noop = &mut Context::from_waker(Waker::noop());
    assert!(reader.poll_fill_or_wait(noop, &mut waits).is_pending());
    let task = tokio::spawn(async move { fill(&mut reader, &mut waits).await });
    tokio::task::yield_now().await;
    peer.write_all(b"x").await.unwrap();
    assert!(task.await.unwrap());
}

#[tokio::test]
async fn a_task_that_had_its_turn_is_told_all_the_same() {
    let (mut peer, mut reader) = pair().await;
    let mut waits = None;
    let spent = poll_fn(|cx| {
        while let Poll::Ready(turn) = coop::poll_proceed(cx) {
            turn.made_progress();
        }
        Poll::Ready(reader.poll_fill_or_wait(cx, &mut waits).is_pending())
    });
    assert!(spent.await && waits.is_none());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.write_all(b"x").await.unwrap();
        peer
    });
    assert!(fill(&mut reader, &mut waits).await);
}
