//! GOAWAY, keep-alive, stalls and what they cost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_codec::ServerConn;
use adit_h2::{ClientConfig, KeepaliveOptions, ServerConfig};
use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use common::raw::*;
use common::*;

fn keepalive(interval: u64, timeout: u64) -> KeepaliveOptions {
    KeepaliveOptions {
        interval: Some(Duration::from_millis(interval)),
        timeout: Duration::from_millis(timeout),
        jitter_percent: 0.0,
        connection_idle_interval: None,
    }
}

#[tokio::test]
async fn a_live_tunnel_outlives_goaway() {
    let (dialled, accepted) = sockets().await;
    let mut conn = adit_h2::server(io(accepted), Arc::new(ServerConfig::default()));
    let (drain, mut drained) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut asked = false;
        loop {
            let next = poll_fn(|cx| {
                if !asked && std::pin::Pin::new(&mut drained).poll(cx).is_ready() {
                    asked = true;
                    conn.drain();
                }
                conn.poll_accept(cx)
            });
            match next.await {
                Some(Ok(stream)) => tokio::spawn(echo(stream)),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            };
        }
    });
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
    drain.send(()).unwrap();
    let over = soon("goaway", async {
        loop {
            match poll_fn(|cx| client.conn.poll_ready(cx)).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => return error,
            }
        }
    });
    assert_eq!(over.await, StreamError::Stopped(ErrorCode::NoError));
    assert!(!client.driver.is_finished());
    for _ in 0..3 {
        send(&mut *stream.send, "alive", false).await.unwrap();
    }
    send(&mut *stream.send, "", true).await.unwrap();
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"alivealivealive");
    drop(stream.send);
    assert_eq!(soon("driver", client.driver).await.unwrap(), Ok(()));
    assert!(soon("server", server).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_stream_the_goaway_left_unprocessed_may_be_tried_again() {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut raw = Raw::server(accepted, &[]).await;
    let mut first = client.open(get("/"), true).await.unwrap();
    let mut second = client.open(get("/"), true).await.unwrap();
    raw.expect(HEADERS).await;
    raw.expect(HEADERS).await;
    raw.send(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await;
    raw.send(&headers(1, &[(":status", "200")], true)).await;
    assert_eq!(head(&mut second).await.err(), Some(StreamError::Reset(ErrorCode::Refused)));
    assert_eq!(head(&mut first).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_aborted_connection_says_why() {
    let (dialled, accepted) = sockets().await;
    let mut conn = adit_h2::server(io(accepted), Arc::new(ServerConfig::default()));
    let mut raw = Raw::client(dialled).await;
    raw.send(&headers(1, GET, false)).await;
    let stream = soon("stream", poll_fn(|cx| conn.poll_accept(cx))).await.unwrap().unwrap();
    assert_eq!(conn.live_streams(), 1);
    conn.abort(ErrorCode::EnhanceYourCalm);
    assert!(soon("end", poll_fn(|cx| conn.poll_accept(cx))).await.is_none());
    assert_eq!(raw.expect(GOAWAY).await.code(), 11);
    let mut recv = stream.recv;
    assert_eq!(chunk(&mut *recv).await, Some(Err(StreamError::Local(ErrorCode::EnhanceYourCalm))));
}

#[tokio::test]
async fn keepalive_notices_a_dead_server() {
    let stats = Arc::new(Stats::default());
    let (dialled, accepted) = sockets().await;
    let mut cfg = ClientConfig { stats: Some(stats.clone()), ..ClientConfig::default() };
    cfg.http2.keepalive = Some(keepalive(1000, 500));
    let mut client = ClientSide::new(dialled, cfg);
    let mut raw = Raw::server(accepted, &[]).await;
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    raw.expect(PING).await;
    assert_eq!(head(&mut stream).await.err(), Some(StreamError::Truncated));
    assert_eq!(soon("driver", client.driver).await.unwrap(), Err(StreamError::TimedOut));
    stats.expect("keepalive_timeout", 1).await;
}

#[tokio::test]
async fn keepalive_notices_a_dead_client() {
    let (dialled, accepted) = sockets().await;
    let mut cfg = ServerConfig::default();
    cfg.http2.keepalive = Some(keepalive(1000, 500));
    let served = serve(accepted, cfg, echo);
    let mut raw = Raw::client(dialled).await;
    raw.send(&headers(1, GET, false)).await;
    raw.expect(PING).await;
    let error = soon("server", served).await.unwrap().unwrap_err();
    assert_eq!((error.error, error.details), (StreamError::TimedOut, "http2_ping_timeout"));
}

#[tokio::test]
async fn keepalive_leaves_a_live_connection_alone() {
    let (dialled, accepted) = sockets().await;
    let mut server = ServerConfig::default();
    server.http2.keepalive = Some(keepalive(20, 1500));
    serve(accepted, server, echo);
    let mut cfg = ClientConfig::default();
    cfg.http2.keepalive = Some(keepalive(20, 1500));
    let mut client = ClientSide::new(dialled, cfg);
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    head(&mut stream).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    send(&mut *stream.send, "alive", true).await.unwrap();
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"alive");
}

#[tokio::test]
async fn a_stream_on_an_idle_connection_sends_a_ping_ahead() {
    let (dialled, accepted) = sockets().await;
    let mut cfg = ClientConfig::default();
    cfg.http2.keepalive = Some(KeepaliveOptions {
        interval: None,
        connection_idle_interval: Some(Duration::from_millis(50)),
        ..keepalive(0, 100)
    });
    let mut client = ClientSide::new(dialled, cfg);
    let mut raw = Raw::server(accepted, &[]).await;
    soon("ready", poll_fn(|cx| client.conn.poll_ready(cx))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(80)).await;
    let _stream = client.open(get("/"), true).await.unwrap();
    raw.expect(PING).await;
    assert_eq!(soon("driver", client.driver).await.unwrap(), Err(StreamError::TimedOut));
}

#[tokio::test]
async fn a_server_that_never_sends_settings_is_given_up() {
    let (dialled, accepted) = sockets().await;
    let cfg = ClientConfig { settings_timeout: Duration::from_millis(50), ..ClientConfig::default() };
    let mut client = ClientSide::new(dialled, cfg);
    assert_eq!(client.open(get("/"), true).await.err(), Some(StreamError::TimedOut));
    drop(accepted);
}

#[tokio::test]
async fn an_idle_connection_closed_by_its_peer_wakes_who_waits() {
    let (dialled, accepted) = sockets().await;
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let raw = Raw::server(accepted, &[(3, 0)]).await;
    let waiting = tokio::spawn(async move { poll_fn(|cx| client.conn.poll_ready(cx)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(raw);
    assert!(soon("closed", waiting).await.unwrap().is_err());
}

/// Twenty receivers that stop reading hold their windows and no more; a neighbour on the connection goes on.
#[tokio::test]
async fn stalled_streams_hold_one_window_each_and_stop_no_neighbour() {
    let (dialled, accepted) = sockets().await;
    serve(accepted, ServerConfig::default(), |stream| async move {
        if stream.head.path_only() == "/stall" {
            let _sink = stream.responder.respond(status(200), false);
            tokio::time::sleep(Duration::from_secs(60)).await;
        } else {
            echo(stream).await;
        }
    });
    let mut client = ClientSide::new(dialled, ClientConfig::default());
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = client.open(get("/stall"), false).await.unwrap();
        let mut taken = 0;
        let mut data = Bytes::from(vec![0; 64 << 20]);
        let whole = data.len();
        while tokio::time::timeout(Duration::from_millis(50), poll_fn(|cx| stream.send.poll_send(cx, &mut data, false)))
            .await
            .is_ok()
        {}
        taken += whole - data.len();
        assert!(taken <= (1 << 20) + (256 << 10), "{taken}");
        stalled.push(stream);
    }
    let started = Instant::now();
    let mut stream = client.open(get("/echo"), false).await.unwrap();
    let (mut sink, whole) = (stream.send, vec![7u8; 4 << 20]);
    let sent = Bytes::from(whole.clone());
    let writer = tokio::spawn(async move { send(&mut *sink, sent, true).await.map(|()| sink) });
    assert_eq!(soon("head", poll_fn(|cx| stream.response.poll_head(cx))).await.unwrap().status, 200);
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), whole);
    writer.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// A peer with open windows that stops reading its socket: senders wait instead of queueing, small chunks included.
#[tokio::test]
async fn a_full_socket_stops_senders_of_small_chunks() {
    let (dialled, accepted) = sockets().await;
    socket2::SockRef::from(&accepted).set_send_buffer_size(16 << 10).unwrap();
    socket2::SockRef::from(&dialled).set_recv_buffer_size(16 << 10).unwrap();
    let stats = Arc::new(Stats::default());
    let counted = stats.clone();
    let cfg = ServerConfig { stats: Some(stats), ..ServerConfig::default() };
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    serve(accepted, cfg, move |stream| {
        let counter = counter.clone();
        async move {
            let mut sink = stream.responder.respond(status(200), false).unwrap();
            let mut one = Bytes::from_static(b"1");
            while poll_fn(|cx| sink.poll_send(cx, &mut one, false)).await.is_ok() {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                one = Bytes::from_static(b"1");
                tokio::task::yield_now().await;
            }
        }
    });
    let mut raw = Raw::client_with(dialled, &[(4, 0x7fff_ffff)]).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes())).await;
    raw.send(&headers(1, GET, true)).await;
    let mut stopped_at = 0;
    soon("the sender stops", async {
        let mut looks = 0;
        while looks < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
            looks = if sent > 0 && sent == stopped_at { looks + 1 } else { 0 };
            stopped_at = sent;
        }
    })
    .await;
    assert!(counted.get("pending_send_bytes") < 10_000);
    // Reading again sets it going.
    for _ in 0..stopped_at + 1000 {
        raw.expect(DATA).await;
    }
}

#[tokio::test]
async fn a_reset_reaches_a_sender_blocked_by_a_full_socket_or_window() {
    let (dialled, accepted) = sockets().await;
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    serve(accepted, ServerConfig::default(), move |stream| {
        let told = told.lock().unwrap().take().unwrap();
        async move {
            let mut sink = stream.responder.respond(status(200), false).unwrap();
            let mut data = Bytes::from(vec![0; 32 << 20]);
            told.send(poll_fn(|cx| sink.poll_send(cx, &mut data, false)).await).unwrap();
        }
    });
    let mut raw = Raw::client_with(dialled, &[(4, 10)]).await;
    raw.send(&headers(1, GET, true)).await;
    raw.expect(DATA).await;
    raw.send(&frame(RST_STREAM, 0, 1, &10u32.to_be_bytes())).await;
    assert_eq!(soon("sender", heard).await.unwrap(), Err(StreamError::Reset(ErrorCode::Connect)));
}

#[tokio::test]
async fn the_end_rides_on_the_last_data_frame_and_no_empty_frame_goes_before() {
    let (dialled, accepted) = sockets().await;
    serve(accepted, ServerConfig::default(), |stream| async move {
        let mut sink = stream.responder.respond(status(200), false).unwrap();
        send(&mut *sink, "", false).await.unwrap();
        send(&mut *sink, "a", false).await.unwrap();
        send(&mut *sink, "", false).await.unwrap();
        send(&mut *sink, "b", true).await.unwrap();
    });
    let mut raw = Raw::client(dialled).await;
    raw.send(&headers(1, GET, true)).await;
    let (first, second) = (raw.expect(DATA).await, raw.expect(DATA).await);
    assert_eq!((&*first.payload, first.ends(), &*second.payload, second.ends()), (&b"a"[..], false, &b"b"[..], true));
}

#[tokio::test]
async fn frames_are_as_large_as_the_peer_allows() {
    let (dialled, accepted) = sockets().await;
    serve(accepted, ServerConfig::default(), |stream| async move {
        let mut sink = stream.responder.respond(status(200), false).unwrap();
        send(&mut *sink, vec![0; 200 << 10], true).await.unwrap();
    });
    let mut raw = Raw::client_with(dialled, &[(4, 1 << 20), (5, 256 << 10)]).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &(1u32 << 20).to_be_bytes())).await;
    raw.send(&headers(1, GET, true)).await;
    assert_eq!(raw.expect(DATA).await.payload.len(), 200 << 10);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test]
async fn sending_does_not_wake_who_waits_for_a_reset_and_the_reset_does() {
    let (dialled, accepted) = sockets().await;
    let (gave, mut given) = tokio::sync::mpsc::channel(1);
    serve(accepted, ServerConfig::default(), move |stream| {
        let gave = gave.clone();
        async move {
            let sink = stream.responder.respond(status(200), false).unwrap();
            gave.send((sink, stream.recv)).await.unwrap();
        }
    });
    let mut raw = Raw::client_with(dialled, &[(4, 2)]).await;
    raw.send(&headers(1, GET, false)).await;
    let (mut sink, _recv) = soon("the stream", given.recv()).await.unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.clone().into();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(sink.poll_stopped(&mut cx).is_pending());
    for _ in 0..2 {
        assert!(sink.poll_send(&mut cx, &mut Bytes::from_static(b"1"), false).is_ready());
        raw.expect(DATA).await;
    }
    assert_eq!(wakes.count(), 0);
    // The window is shut: room is waited for.
    let mut three = Bytes::from_static(b"3");
    assert!(sink.poll_send(&mut cx, &mut three, false).is_pending());
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &8u32.to_be_bytes())).await;
    soon("room", async {
        while wakes.count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(sink.poll_send(&mut cx, &mut three, false).is_ready());
    raw.expect(DATA).await;
    assert_eq!(wakes.count(), 1);
    raw.send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
    soon("the reset", async {
        while wakes.count() == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(sink.poll_stopped(&mut cx), std::task::Poll::Ready(StreamError::Reset(ErrorCode::Cancel)));
}
