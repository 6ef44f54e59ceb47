//! UDP tunnels over the in-memory codec, with datagrams beside the stream and without.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit_codec::conformance::memory::Memory;
use adit_codec::conformance::peers::{Peers, Tunnel};
use adit_codec::udp::{DatagramPort, UdpCause, UdpRelayOptions, UdpTunnel, bridge, relay_udp};
use adit_codec::{DatagramError, Datagrams, RecvStream, SendStream};
use adit_http::{ErrorCode, StreamError};
use adit_io::ByteSource;
use bytes::Bytes;
use http::HeaderMap;

async fn tunnel() -> (Peers, Tunnel) {
    let mut peers = Peers::new(&Memory).await;
    let tunnel = peers.tunnel().await;
    (peers, tunnel)
}

async fn send(sink: &mut dyn SendStream, bytes: &[u8], end: bool) {
    let mut bytes = Bytes::copy_from_slice(bytes);
    poll_fn(|cx| sink.poll_send(cx, &mut bytes, end)).await.unwrap();
}

async fn read(source: &mut dyn RecvStream, size: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < size {
        all.extend_from_slice(&poll_fn(|cx| source.poll_chunk(cx, 1 << 16)).await.unwrap().unwrap());
    }
    all
}

async fn recv(tunnel: &mut UdpTunnel) -> Option<Result<Bytes, StreamError>> {
    poll_fn(|cx| tunnel.poll_recv(cx)).await
}

#[tokio::test]
async fn payloads_cross_both_ways_and_the_end_is_one() {
    let (_peers, Tunnel { client_send, client_recv, server_send, server_recv, .. }) = tunnel().await;
    let mut client = UdpTunnel::new(client_recv, client_send, 1 << 16);
    let mut server = UdpTunnel::new(server_recv, server_send, 1 << 16);
    for payload in [&b"one"[..], b"", &[7; 9000]] {
        assert!(client.push(payload));
        poll_fn(|cx| client.poll_flush(cx)).await.unwrap();
        let got = recv(&mut server).await.unwrap().unwrap();
        assert_eq!(got, payload);
        assert!(server.push(&got));
        poll_fn(|cx| server.poll_flush(cx)).await.unwrap();
        assert_eq!(recv(&mut client).await.unwrap().unwrap(), payload);
    }
    poll_fn(|cx| client.poll_end(cx)).await.unwrap();
    assert_eq!(recv(&mut server).await, None);
    assert_eq!(recv(&mut server).await, None);
}

#[tokio::test]
async fn what_waits_for_a_peer_that_does_not_read_is_bounded() {
    let (_peers, Tunnel { client_send, client_recv, server_send: _s, server_recv: _r, .. }) = tunnel().await;
    let mut client = UdpTunnel::new(client_recv, client_send, 10_000);
    let mut taken = 0;
    while client.push(&[7; 1000]) {
        taken += 1;
        assert!(taken < 1000, "no end to it");
        let _ = client.poll_flush(&mut Context::from_waker(Waker::noop()));
    }
    assert!(!client.has_room());
    // The codec's own window, and ours.
    assert!((64..90).contains(&taken), "{taken}");
}

#[tokio::test]
async fn malformed_capsules_and_cut_ones_are_errors() {
    for (bytes, end, error) in [
        (&b"\0\0"[..], false, StreamError::Protocol("capsule.no_context_id")),
        (b"\0\x80\x01\0\x10", false, StreamError::TooLarge("capsule.datagram_too_long")),
        (b"\0\x04\0ab", true, StreamError::Protocol("capsule.truncated")),
    ] {
        let (_peers, Tunnel { mut client_send, client_recv: _c, server_send, server_recv, .. }) = tunnel().await;
        let mut server = UdpTunnel::new(server_recv, server_send, 1 << 16);
        send(&mut *client_send, bytes, end).await;
        assert_eq!(recv(&mut server).await, Some(Err(error)));
    }
}

/// A port that answers each payload with itself, until it is told to fail.
#[derive(Default)]
struct Echo {
    queue: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
    fails: bool,
}

impl DatagramPort for Echo {
    fn poll_send(&mut self, _cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<()>> {
        if self.fails {
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        self.queue.push_back(payload.to_vec());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(&[u8])) -> Poll<io::Result<()>> {
        match self.queue.pop_front() {
            Some(payload) => {
                take(&payload);
                Poll::Ready(Ok(()))
            }
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

async fn relayed(
    options: UdpRelayOptions,
    port: Echo,
    play: impl AsyncFnOnce(&mut Box<dyn SendStream>, &mut Box<dyn RecvStream>),
) -> (UdpCause, Option<Result<Bytes, StreamError>>) {
    let (_peers, Tunnel { mut client_send, mut client_recv, server_send, server_recv, .. }) = tunnel().await;
    let server = tokio::spawn(async move {
        let mut port = port;
        let mut tunnel = UdpTunnel::new(server_recv, server_send, 1 << 16);
        relay_udp(&mut tunnel, &mut port, options).await
    });
    play(&mut client_send, &mut client_recv).await;
    let end = poll_fn(|cx| client_recv.poll_chunk(cx, 1 << 16)).await;
    (server.await.unwrap(), end)
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_as_it_should() {
    let echoes = async |send_half: &mut Box<dyn SendStream>, recv_half: &mut Box<dyn RecvStream>| {
        for _ in 0..200 {
            send(&mut **send_half, b"\0\x04\0one", false).await;
        }
        assert_eq!(read(&mut **recv_half, 1200).await, b"\0\x04\0one".repeat(200));
    };
    let (cause, end) = relayed(UdpRelayOptions::default(), Echo::default(), async |tx, rx| {
        echoes(tx, rx).await;
        send(&mut **tx, b"", true).await;
    })
    .await;
    assert!(matches!(cause, UdpCause::Ended) && end.is_none(), "{cause:?} {end:?}");

    let idle = UdpRelayOptions { idle_timeout: Some(Duration::from_secs(60)), ..UdpRelayOptions::default() };
    let (cause, end) = relayed(idle, Echo::default(), async |tx, rx| {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            echoes(tx, rx).await;
        }
    })
    .await;
    assert!(matches!(cause, UdpCause::IdleTimeout), "{cause:?}");
    assert_eq!(end, Some(Err(StreamError::Reset(ErrorCode::Cancel))));

    let max = UdpRelayOptions { max_duration: Some(Duration::from_secs(1)), ..UdpRelayOptions::default() };
    let (cause, end) = relayed(max, Echo::default(), echoes).await;
    assert!(matches!(cause, UdpCause::MaxDuration), "{cause:?}");
    assert!(matches!(end, Some(Err(_))));

    let closing = UdpRelayOptions {
        closing: Some(Box::pin(tokio::time::sleep(Duration::from_secs(1)))),
        ..UdpRelayOptions::default()
    };
    let (cause, end) = relayed(closing, Echo::default(), echoes).await;
    assert!(matches!(cause, UdpCause::Closing) && end.is_none(), "{cause:?} {end:?}");

    let fails = Echo { fails: true, ..Echo::default() };
    let (cause, end) =
        relayed(UdpRelayOptions::default(), fails, async |tx, _| send(&mut **tx, b"\0\x01\0", false).await).await;
    assert!(matches!(cause, UdpCause::Port(_)), "{cause:?}");
    assert_eq!(end, Some(Err(StreamError::Reset(ErrorCode::Connect))));

    let (cause, end) =
        relayed(UdpRelayOptions::default(), Echo::default(), async |tx, _| send(&mut **tx, b"\0\0", false).await).await;
    assert!(matches!(cause, UdpCause::Stream(StreamError::Protocol(_))), "{cause:?}");
    assert_eq!(end, Some(Err(StreamError::Reset(ErrorCode::Protocol))));
}

/// Datagrams beside a stream: those that arrived, and those that were sent.
#[derive(Clone, Default)]
struct Beside(Arc<Mutex<Lists>>);

type Lists = (VecDeque<Bytes>, Vec<Vec<u8>>);

impl Datagrams for Beside {
    fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.lock().unwrap().0.pop_front().map_or(Poll::Pending, |one| Poll::Ready(Some(one)))
    }

    fn send(&mut self, payload: &[&[u8]]) -> Result<(), DatagramError> {
        self.0.lock().unwrap().1.push(payload.concat());
        Ok(())
    }

    fn max_size(&self) -> Option<usize> {
        Some(10)
    }
}

struct WithDatagrams(Box<dyn RecvStream>, Beside);

impl ByteSource for WithDatagrams {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll_chunk(cx, max)
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.stop(code);
    }
}

impl RecvStream for WithDatagrams {
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        self.0.poll_trailers(cx)
    }

    fn is_end(&self) -> bool {
        self.0.is_end()
    }

    fn datagrams(&mut self) -> Option<Box<dyn Datagrams>> {
        Some(Box::new(self.1.clone()))
    }
}

#[tokio::test]
async fn datagrams_beside_the_stream_are_used_where_they_fit() {
    let (_peers, Tunnel { mut client_send, mut client_recv, server_send, server_recv, .. }) = tunnel().await;
    let beside = Beside::default();
    beside.0.lock().unwrap().0.extend([Bytes::from_static(b"\0fast"), Bytes::from_static(b"\x02other")]);
    let mut server = UdpTunnel::new(Box::new(WithDatagrams(server_recv, beside.clone())), server_send, 1 << 16);
    send(&mut *client_send, b"\0\x05\0slow", false).await;
    assert_eq!(recv(&mut server).await, Some(Ok("fast".into())));
    assert_eq!(recv(&mut server).await, Some(Ok("slow".into())));
    assert!(server.push(b"123456789"));
    assert!(server.push(b"1234567890"));
    poll_fn(|cx| server.poll_flush(cx)).await.unwrap();
    assert_eq!(beside.0.lock().unwrap().1, [b"\x00123456789"]);
    assert_eq!(read(&mut *client_recv, 13).await, b"\0\x0b\x001234567890");
}

#[tokio::test]
async fn a_bridge_turns_datagrams_into_capsules_and_back_at_every_cut() {
    let stream = b"\x17\x03xyz\0\x04\0abc\0\x0b\0longerthan\x17\0\0\0\0\x01\0";
    for cut in 0..=stream.len() {
        let (_peers, Tunnel { mut client_send, mut client_recv, server_send, server_recv, .. }) = tunnel().await;
        let beside = Beside::default();
        let (mut recv, mut send_half) = bridge(Box::new(WithDatagrams(server_recv, beside.clone())), server_send);
        send(&mut *send_half, &stream[..cut], false).await;
        send(&mut *send_half, &stream[cut..], true).await;
        // What fits travels beside the stream: two UDP payloads and a datagram without a context.
        assert_eq!(beside.0.lock().unwrap().1, [&b"\0abc"[..], b"", b"\0"], "{cut}");
        let passed = b"\x17\x03xyz\0\x0b\0longerthan\x17\0";
        assert_eq!(read(&mut *client_recv, passed.len()).await, passed, "{cut}");
        assert_eq!(poll_fn(|cx| client_recv.poll_chunk(cx, 99)).await, None);

        // The other way, a datagram may stand between capsules only.
        send(&mut *client_send, &stream[..cut], false).await;
        let mut got = if cut > 0 { read(&mut *recv, cut).await } else { Vec::new() };
        beside.0.lock().unwrap().0.push_back(Bytes::from_static(b"\0new"));
        send(&mut *client_send, &stream[cut..], true).await;
        while let Some(chunk) = poll_fn(|cx| recv.poll_chunk(cx, 99)).await {
            got.extend_from_slice(&chunk.unwrap());
        }
        let mut decoder = adit_http::capsule::Decoder::default();
        let mut input = Bytes::from(got);
        let mut found = Vec::new();
        while let Some(datagram) = decoder.next(&mut input).unwrap() {
            found.push(datagram.to_vec());
        }
        decoder.end().unwrap();
        assert_eq!(found.iter().filter(|one| *one == b"\0new").count(), 1, "{cut}");
        found.retain(|one| one != b"\0new");
        assert_eq!(found, [&b"\0abc"[..], b"\0longerthan", b"", b"\0"], "{cut}");
    }
}

#[tokio::test]
async fn a_capsule_cut_short_stays_cut_short() {
    for cut in [&b"\0\x04\0a"[..], b"\0", b"\x17\x40"] {
        let (_peers, Tunnel { client_send: _c, mut client_recv, server_send, server_recv, .. }) = tunnel().await;
        let (_recv, mut send_half) = bridge(Box::new(WithDatagrams(server_recv, Beside::default())), server_send);
        send(&mut *send_half, cut, true).await;
        assert_eq!(read(&mut *client_recv, cut.len()).await, cut);
        assert_eq!(poll_fn(|cx| client_recv.poll_chunk(cx, 99)).await, None);
    }
}
