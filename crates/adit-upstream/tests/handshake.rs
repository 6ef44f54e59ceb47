//! When a host is told of a connection: at once, or with its first bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;

use support::{Wish, acquire, cluster, soon, world};

/// Tries, as the kernel's timer may tell the host before a busy machine has looked.
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

/// Whether a host was not told in one of the tries.
async fn once_untold(mut told: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..TRIES {
        if !told().await {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_host_that_may_speak_first_is_told_at_once() {
    assert!(told_of_tcp(false, "").await);
}

#[tokio::test]
async fn with_bytes_at_hand_it_is_told_by_them() {
    assert!(once_untold(async || told_of_tcp(true, "").await).await);
}

#[tokio::test]
async fn socket_options_choose_otherwise() {
    let quick = "upstream_bind_config: { socket_options: [{ level: 6, name: 12, int_value: 1 }] }";
    assert!(told_of_tcp(true, quick).await);
}

#[tokio::test]
async fn over_http_there_is_a_request_at_hand() {
    let http = async || {
        let (listener, port) = listener();
        let world = world(&cluster("a", &[port], ""));
        let _upstream = soon(acquire(&world.cluster("a"))).await.ok().unwrap();
        told(&listener)
    };
    assert!(once_untold(http).await);
}
