//! When a host is told of a connection: at once, or with its first bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use support::{Wish, acquire, cluster, exchange, soon, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Tries, as the kernel's timer may be ahead of a busy machine, and its softirq behind.
const TRIES: usize = 20;

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Whether a connection waits to be accepted.
fn told(listener: &TcpListener) -> bool {
    match listener.accept() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

async fn told_of_tcp(speaks_first: bool, more: &str) -> bool {
    let (listener, port) = listener();
    let world = world(&cluster("a", &[port], more));
    let wish = Wish { speaks_first, ..Wish::default() };
    let _upstream = soon(world.cluster("a").tcp(&wish.need())).await.ok().unwrap();
    told(&listener)
}

/// Whether a host was told in one of the tries, or was not.
async fn once(wanted: bool, mut told: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..TRIES {
        if told().await == wanted {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_host_that_may_speak_first_is_told_at_once() {
    assert!(once(true, async || told_of_tcp(false, "").await).await);
}

#[tokio::test]
async fn with_bytes_at_hand_it_is_told_by_them() {
    assert!(once(false, async || told_of_tcp(true, "").await).await);
}

#[tokio::test]
async fn sockets_with_options_are_left_as_they_are() {
    let tos = "upstream_bind_config: { socket_options: [{ level: 0, name: 1, int_value: 8 }] }";
    assert!(once(true, async || told_of_tcp(true, tos).await).await);
}

#[tokio::test]
async fn over_http_there_is_a_request_at_hand() {
    let http = async || {
        let (listener, port) = listener();
        let world = world(&cluster("a", &[port], ""));
        let _upstream = soon(acquire(&world.cluster("a"))).await.ok().unwrap();
        told(&listener)
    };
    assert!(once(false, http).await);
}

/// Answers one connection in two small writes, of which Nagle's algorithm holds the second back until the first is acknowledged.
async fn two_writes(listener: TcpListener, one: &'static str, two: &'static str) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let _ = peer.read(&mut [0; 4096]).await.unwrap();
    peer.write_all(one.as_bytes()).await.unwrap();
    peer.write_all(two.as_bytes()).await.unwrap();
    let _ = peer.read(&mut [0]).await;
}

/// The least of the tries: a delayed ACK would come 40 ms late each time.
async fn best(mut answered: impl AsyncFnMut() -> Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        best = best.min(answered().await);
    }
    best
}

const NO_WAIT: Duration = Duration::from_millis(30);

#[tokio::test]
async fn an_answer_in_two_writes_is_not_held_up() {
    let tcp = async || {
        let (listener, port) = listener();
        let host = tokio::spawn(two_writes(listener, "one", "two"));
        let world = world(&cluster("a", &[port], ""));
        let wish = Wish { speaks_first: true, ..Wish::default() };
        let mut upstream = soon(world.cluster("a").tcp(&wish.need())).await.ok().unwrap();
        let start = Instant::now();
        upstream.io.write_all(b"hello").await.unwrap();
        soon(upstream.io.read_exact(&mut [0; 6])).await.unwrap();
        host.abort();
        start.elapsed()
    };
    let best_tcp = best(tcp).await;
    assert!(best_tcp < NO_WAIT, "{best_tcp:?}");
    let http = async || {
        let (listener, port) = listener();
        let host = tokio::spawn(two_writes(listener, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", "two"));
        let world = world(&cluster("a", &[port], ""));
        let upstream = soon(acquire(&world.cluster("a"))).await.ok().unwrap();
        let start = Instant::now();
        assert_eq!(soon(exchange(upstream, "/")).await.1, b"two");
        host.abort();
        start.elapsed()
    };
    let best_http = best(http).await;
    assert!(best_http < NO_WAIT, "{best_http:?}");
}
