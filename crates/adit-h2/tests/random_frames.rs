//! Random frames, mostly well formed, at either side: the connection may end, the process may not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use adit_h2::ClientConfig;
use common::raw::*;
use common::*;
use fastrand::Rng;

const FIELDS: &[(&str, &str)] = &[
    (":method", "GET"),
    (":method", "CONNECT"),
    (":scheme", "http"),
    (":authority", "a:1"),
    (":path", "/"),
    (":protocol", "websocket"),
    (":status", "200"),
    (":status", "103"),
    (":status", "101"),
    ("content-length", "3"),
    ("content-length", "0"),
    ("te", "trailers"),
    ("host", "b"),
    ("cookie", "a=b"),
    ("x", "\t"),
];

fn random_frame(rng: &mut Rng) -> Vec<u8> {
    let stream = match rng.u8(0..8) {
        0 => 0,
        1 => rng.u32(0..0x8000_0000),
        _ => rng.u32(1..12),
    };
    let (byte, word) = (rng.u8(..), rng.u32(..));
    let flags = rng.choice([0, 1, 4, 5, 5, 5, 8, 0x20, byte]).unwrap();
    let kind = rng.choice([0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, byte]).unwrap();
    let payload = match kind {
        HEADERS | CONTINUATION if rng.u8(0..4) > 0 => {
            let base: &[(&str, &str)] = match rng.u8(0..4) {
                0 => GET,
                1 => &[(":method", "CONNECT"), (":authority", "a:1")],
                2 => &[(":status", "200")],
                _ => &[],
            };
            let more: Vec<_> = (0..rng.usize(0..4)).map(|_| *rng.choice(FIELDS).unwrap()).collect();
            return frame(kind, rng.choice([4, 5, 0, 1]).unwrap(), stream, &block(&[base, &more].concat()));
        }
        RST_STREAM | WINDOW_UPDATE => rng.u32(..).to_be_bytes().to_vec(),
        PING => vec![rng.choice([0, 0x3b, 0x0b]).unwrap(); 8],
        SETTINGS => {
            let mut payload = vec![0, rng.u8(1..10)];
            payload.extend(rng.choice([0, 1, 16_384, 65_536, word]).unwrap().to_be_bytes());
            payload
        }
        GOAWAY => [rng.u32(0..20).to_be_bytes(), rng.u32(0..14).to_be_bytes()].concat(),
        _ => (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect(),
    };
    let payload = if rng.u8(0..20) == 0 { Vec::new() } else { payload };
    frame(kind, flags, stream, &payload)
}

fn random_frames(seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let count = rng.usize(1..60);
    (0..count).flat_map(|_| random_frame(&mut rng)).collect()
}

#[tokio::test]
async fn at_the_server() {
    for seed in 0..2000 {
        let (dialled, accepted) = sockets().await;
        let served = serve(accepted, allow_connect(), echo);
        let mut raw = Raw::client(dialled).await;
        raw.try_send(&random_frames(seed)).await;
        drop(raw);
        // An error is fine, a panic is not.
        let _ = soon("server", served).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[tokio::test]
async fn at_the_client() {
    for seed in 0..1000 {
        let (dialled, accepted) = sockets().await;
        let mut client = ClientSide::new(dialled, ClientConfig::default());
        let mut raw = Raw::server(accepted, &[(8, 1)]).await;
        let mut tasks = Vec::new();
        for request in [get("/"), connect("a:1"), upgrade("websocket")] {
            let Ok(mut stream) = client.open(request, false).await else { continue };
            tasks.push(tokio::spawn(async move {
                let _ = send(&mut *stream.send, "data", false).await;
                for _ in 0..10 {
                    match head(&mut stream).await {
                        Ok(head) if head.status.is_informational() && head.status != 101 => {}
                        Ok(_) => break,
                        Err(_) => return,
                    }
                }
                let mut recv = stream.response.into_recv();
                if body(&mut *recv).await.is_ok() {
                    let _ = trailers(&mut *recv).await;
                }
            }));
        }
        raw.try_send(&random_frames(seed)).await;
        drop(raw);
        for task in tasks {
            soon("stream", task).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        let _ = soon("driver", client.driver).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
