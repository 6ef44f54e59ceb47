//! An attacked server, and its neighbour.

use std::time::{Duration, Instant};

use adit_h2::ServerConfig;
use tokio::task::JoinHandle;

use super::raw::*;
use super::*;

pub type Served = JoinHandle<Result<(), adit_codec::ConnError>>;

/// A raw client of a server that echoes.
pub async fn attack_with(cfg: ServerConfig) -> (Raw, Served) {
    let (dialled, accepted) = sockets().await;
    let served = serve(accepted, cfg, echo);
    (Raw::client(dialled).await, served)
}

pub async fn attack() -> (Raw, Served) {
    attack_with(allow_connect()).await
}

/// A connection beside the attacked one is served, and soon.
pub async fn neighbour_is_served() {
    let mut client = pair(ServerConfig::default(), echo).await;
    let started = Instant::now();
    let mut stream = client.open(get("/"), true).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
    assert!(started.elapsed() < Duration::from_secs(10), "a flood starves other connections");
}

/// The rest of the attacked connection still works.
pub async fn still_serves(raw: &mut Raw, stream: u32) {
    raw.send(&headers(stream, GET, true)).await;
    assert_eq!(raw.outcome(stream).await, "headers");
}

/// Sends until the peer closes; gives the GOAWAY code, if one arrived before the connection died.
pub async fn flood(mut raw: Raw, piece: Vec<u8>, times: usize) -> String {
    for _ in 0..times {
        if !raw.try_send(&piece).await {
            break;
        }
    }
    loop {
        match raw.next().await {
            None => return "closed".into(),
            Some(frame) if frame.kind == GOAWAY => return format!("goaway:{}", frame.code()),
            Some(_) => {}
        }
    }
}

/// Sends until the server has had enough, and reads nothing.
pub async fn flood_until_end(mut raw: Raw, mut served: Served, piece: &[u8]) -> Result<(), adit_codec::ConnError> {
    let end = async {
        loop {
            tokio::select! {
                end = &mut served => return end.unwrap(),
                // Its write may fail before the server has said why.
                _ = raw.socket_write(piece) => tokio::task::yield_now().await,
            }
        }
    };
    soon("server", end).await
}

pub fn is_calm_or_closed(outcome: &str) {
    assert!(outcome == "goaway:11" || outcome == "closed", "{outcome}");
}
