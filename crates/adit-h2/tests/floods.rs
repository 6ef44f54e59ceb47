//! More of everything than a peer may send: it costs the attacker its connection, and a second one is served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use adit_h2::{ClientConfig, Http2Options, ServerConfig};
use common::attack::*;
use common::raw::*;
use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn hpack_bomb() {
    let (mut raw, _served) = attack().await;
    // One entry of 4000 bytes in the dynamic table, named ten thousand times with one byte each.
    let mut bytes = block(GET);
    bytes.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bytes.extend(vec![b'v'; 127 + 33 + 30 * 128]);
    bytes.extend(vec![0xbe; 10_000]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bytes)).await;
    let outcome = raw.outcome(1).await;
    assert!(outcome.starts_with("goaway:") || outcome == "closed", "{outcome}");
    neighbour_is_served().await;
}

#[tokio::test]
async fn continuation_flood() {
    let (mut raw, _served) = attack().await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(GET))).await;
    let field = block(&[("x", "y")]);
    let outcome = flood(raw, frame(CONTINUATION, 0, 1, &field), 200_000).await;
    assert!(outcome.starts_with("goaway:") || outcome == "closed", "{outcome}");
    neighbour_is_served().await;
}

#[tokio::test]
async fn empty_continuation_flood() {
    let (mut raw, _served) = attack().await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(GET))).await;
    is_calm_or_closed(&flood(raw, frame(CONTINUATION, 0, 1, &[]), 1000).await);
    neighbour_is_served().await;
}

#[tokio::test]
async fn rapid_reset() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (mut raw, served) = attack_with(cfg).await;
    for stream in (1..100_000).step_by(2) {
        let mut bytes = headers(stream, GET, false);
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        if !raw.try_send(&bytes).await {
            break;
        }
    }
    is_calm_or_closed(&flood(raw, Vec::new(), 0).await);
    assert!(soon("server", served).await.unwrap().is_err());
    assert!(stats.get("rx_reset") < 5000, "{}", stats.get("rx_reset"));
    stats.expect("streams_active", 0).await;
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_few_cancelled_requests_cost_nothing() {
    let (mut raw, _served) = attack().await;
    let mut bytes = Vec::new();
    for stream in (1..100).step_by(2) {
        bytes.extend(headers(stream, GET, false));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    raw.send(&bytes).await;
    still_serves(&mut raw, 101).await;
}

/// CVE-2025-8671: the client provokes the server's resets.
#[tokio::test]
async fn made_you_reset() {
    for provocation in ["zero window update", "window overflow", "malformed", "content-length"] {
        let stats = Arc::new(Stats::default());
        let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
        let (mut raw, served) = attack_with(cfg).await;
        for stream in (1..20_000).step_by(2) {
            let mut bytes = headers(stream, GET, false);
            match provocation {
                "zero window update" => bytes.extend(frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes())),
                "window overflow" => bytes.extend(frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes())),
                "malformed" => bytes = headers(stream, &GET[..2], false),
                _ => {
                    let mut fields = GET.to_vec();
                    fields.push(("content-length", "1"));
                    bytes = headers(stream, &fields, false);
                    bytes.extend(frame(DATA, END_STREAM, stream, b"xx"));
                }
            }
            if !raw.try_send(&bytes).await {
                break;
            }
        }
        let outcome = flood(raw, Vec::new(), 0).await;
        assert!(outcome.starts_with("goaway:") || outcome == "closed", "{provocation}: {outcome}");
        assert!(soon("server", served).await.unwrap().is_err(), "{provocation}");
        assert!(stats.get("tx_reset") <= 3000, "{provocation}: {}", stats.get("tx_reset"));
        neighbour_is_served().await;
    }
}

#[tokio::test]
async fn ping_flood_without_reading() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (dialled, accepted) = sockets().await;
    socket2::SockRef::from(&accepted).set_send_buffer_size(4096).unwrap();
    let served = serve(accepted, cfg, echo);
    let raw = Raw::client(dialled).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    let neighbour = tokio::spawn(neighbour_is_served());
    assert!(flood_until_end(raw, served, &pings).await.is_err());
    stats.expect("outbound_control_flood", 1).await;
    neighbour.await.unwrap();
}

/// A client that asks and does not read is read no further, and again once it reads: nothing it asked is lost.
#[tokio::test]
async fn requests_without_reading_wait_for_their_reader() {
    const REQUESTS: u32 = 20_000;
    let (dialled, accepted) = sockets().await;
    for socket in [&dialled, &accepted] {
        let socket = socket2::SockRef::from(socket);
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.set_send_buffer_size(16 << 10).unwrap();
    }
    let http2 = Http2Options { stream_reset_burst: u64::from(REQUESTS), ..Http2Options::default() };
    let _served = serve(accepted, ServerConfig { http2, ..ServerConfig::default() }, echo);
    let raw = Raw::client(dialled).await;
    let (mut read, mut write) = raw.socket.into_split();
    let requests: Vec<u8> = (0..REQUESTS).flat_map(|i| headers(2 * i + 1, GET, true)).collect();
    let writer = tokio::spawn(async move {
        write.write_all(&requests).await.unwrap();
        write
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!writer.is_finished(), "all is taken of a client that reads nothing");
    let (mut answered, mut bytes) = (std::collections::HashSet::new(), Vec::new());
    while answered.len() < REQUESTS as usize {
        let mut piece = [0; 16 << 10];
        let n = tokio::time::timeout(PATIENCE, read.read(&mut piece)).await.expect("answers come").unwrap();
        assert!(n > 0, "the connection ended behind {} answers", answered.len());
        bytes.extend_from_slice(&piece[..n]);
        let mut rest = &bytes[..];
        while let Some((head, behind)) = rest.split_first_chunk::<9>() {
            let len = usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(behind) = behind.get(len..) else { break };
            if matches!(head[3], HEADERS | RST_STREAM) {
                answered.insert(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
            rest = behind;
        }
        bytes = rest.to_vec();
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn settings_flood_without_reading() {
    let (dialled, accepted) = sockets().await;
    socket2::SockRef::from(&accepted).set_send_buffer_size(4096).unwrap();
    let served = serve(accepted, ServerConfig::default(), echo);
    let raw = Raw::client(dialled).await;
    let settings = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 9, 0, 1, 0, 0, 16, 0]).repeat(10_000);
    assert!(flood_until_end(raw, served, &settings).await.is_err());
    neighbour_is_served().await;
}

#[tokio::test]
async fn a_ping_flood_that_reads_starves_nobody() {
    let (raw, served) = attack().await;
    let (mut reader, mut writer) = raw.socket.into_split();
    let drain = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(5000);
    let flooder = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for _ in 0..40 {
            writer.write_all(&pings).await.unwrap();
        }
        writer
    });
    neighbour_is_served().await;
    let writer = soon("flooder", flooder).await.unwrap();
    assert!(!served.is_finished());
    drop(writer);
    let _ = soon("drain", drain).await;
}

#[tokio::test]
async fn empty_data_flood() {
    // Empty, and nothing but padding.
    for piece in [frame(DATA, 0, 1, &[]), frame(DATA, PADDED, 1, &[3, 0, 0, 0])] {
        let stats = Arc::new(Stats::default());
        let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
        let (mut raw, _served) = attack_with(cfg).await;
        raw.send(&headers(1, GET, false)).await;
        is_calm_or_closed(&flood(raw, piece, 1000).await);
        stats.expect("inbound_empty_frames_flood", 1).await;
    }
    neighbour_is_served().await;
}

#[tokio::test]
async fn tiny_data_within_the_window_is_served() {
    let (mut raw, _served) = attack().await;
    raw.send(&headers(1, &[(":method", "CONNECT"), (":authority", "a:1")], false)).await;
    raw.send(&frame(DATA, 0, 1, b"x").repeat(20_000)).await;
    let mut seen = 0;
    while seen < 20_000 {
        seen += raw.expect(DATA).await.payload.len();
    }
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())).await;
    still_serves(&mut raw, 3).await;
}

#[tokio::test]
async fn priority_flood() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (raw, _served) = attack_with(cfg).await;
    is_calm_or_closed(&flood(raw, frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), 10_000).await);
    stats.expect("inbound_priority_frames_flood", 1).await;
    neighbour_is_served().await;
}

#[tokio::test]
async fn window_update_flood() {
    let stats = Arc::new(Stats::default());
    let cfg = ServerConfig { stats: Some(stats.clone()), ..ServerConfig::default() };
    let (raw, _served) = attack_with(cfg).await;
    is_calm_or_closed(&flood(raw, frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()), 10_000).await);
    stats.expect("inbound_window_update_frames_flood", 1).await;
    neighbour_is_served().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let mut cfg = ServerConfig::default();
    cfg.http2.max_concurrent_streams = 3;
    let (mut raw, _served) = attack_with(cfg).await;
    let tunnel = [(":method", "CONNECT"), (":authority", "a:1")];
    for stream in [1, 3, 5] {
        raw.send(&headers(stream, &tunnel, false)).await;
        assert_eq!(raw.outcome(stream).await, "headers");
    }
    raw.send(&headers(7, &tunnel, false)).await;
    assert_eq!(raw.outcome(7).await, "rst:7");
    raw.send(&frame(DATA, 0, 1, b"x")).await;
    assert_eq!(raw.expect(DATA).await.payload, b"x");
}

#[tokio::test]
async fn a_server_that_floods_our_client_loses_its_connection() {
    for (name, piece) in [
        ("priority", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
    ] {
        let (dialled, accepted) = sockets().await;
        let client = ClientSide::new(dialled, ClientConfig::default());
        let mut raw = Raw::server(accepted, &[]).await;
        for _ in 0..1000 {
            if !raw.try_send(&piece).await {
                break;
            }
        }
        assert!(soon("driver", client.driver).await.unwrap().is_err(), "{name}");
    }
}

#[tokio::test]
async fn c6_a_server_of_endless_interim_responses_is_given_up() {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut raw = Raw::server(accepted, &[]).await;
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    let request = raw.expect(HEADERS).await;
    raw.send(&headers(request.stream, &[(":status", "103")], false).repeat(200)).await;
    let mut interim = 0;
    while head(&mut stream).await.is_ok() {
        interim += 1;
    }
    assert!(interim <= 100);
}
