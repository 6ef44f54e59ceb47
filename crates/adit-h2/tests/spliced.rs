//! DATA that stays in the kernel between two sockets (splice(2)): it crosses unchanged, and nothing else changes by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use adit_codec::{IncomingStream, RecvStream, SendStream};
use adit_h2::ClientConfig;
use adit_http::{ErrorCode, StreamError};
use adit_io::{ByteSink, ByteSource, Chunk, RelayOptions, Side, Spliced, relay};
use adit_testkit::{Check, End, Payload, Peer, tcp_pair, within};
use bytes::Bytes;
use common::raw::*;
use common::*;

const BULK: usize = 24 << 20;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
const SETTINGS_MAX_FRAME_SIZE: u16 = 5;

/// Octets that went in the kernel: given to sinks, taken from sources.
#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    taken: AtomicUsize,
}

struct CountedSource(Box<dyn RecvStream>, Arc<Counts>);

impl ByteSource for CountedSource {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll_chunk(cx, max)
    }

    fn take_spliced(&mut self) -> Option<Spliced> {
        let taken = self.0.take_spliced()?;
        self.1.taken.fetch_add(taken.len(), Ordering::Relaxed);
        Some(taken)
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.stop(code);
    }
}

struct CountedSink(Box<dyn SendStream>, Arc<Counts>);

impl ByteSink for CountedSink {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        self.0.poll_send(cx, data, end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.0.poll_flush(cx)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.poll_stopped(cx)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.0.reset(code);
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, StreamError>> {
        self.0.poll_splice(cx)
    }

    fn send_spliced(&mut self, data: Spliced) -> Result<(), StreamError> {
        self.1.sent.fetch_add(data.len(), Ordering::Relaxed);
        self.0.send_spliced(data)
    }
}

fn side(recv: Box<dyn RecvStream>, send: Box<dyn SendStream>, counts: &Arc<Counts>) -> Side {
    Side::new(Box::new(CountedSource(recv, counts.clone())), Box::new(CountedSink(send, counts.clone())))
}

/// Two proxies with one HTTP/2 connection between them.
struct Hops {
    client: ClientSide,
    /// Where the second one's tunnels come out.
    far: tokio::sync::mpsc::UnboundedReceiver<Peer>,
    counts: Arc<Counts>,
}

impl Hops {
    async fn new() -> Self {
        let counts = Arc::new(Counts::default());
        let (sender, far) = tokio::sync::mpsc::unbounded_channel();
        let counts_there = counts.clone();
        let handler = move |stream: IncomingStream| {
            let (sender, counts) = (sender.clone(), counts_there.clone());
            async move {
                let (near, far) = tcp_pair().await;
                sender.send(Peer::new(far)).unwrap();
                let send = stream.responder.respond(status(200), false).unwrap();
                relay(side(stream.recv, send, &counts), io(near).into(), RelayOptions::default()).await;
            }
        };
        Self { client: pair(allow_connect(), handler).await, far, counts }
    }

    /// A tunnel through both: its ends.
    async fn tunnel(&mut self) -> (Peer, Peer) {
        let mut stream = self.client.open(connect("a:1"), false).await.unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 200);
        let (down, near) = tcp_pair().await;
        let side = side(stream.response.into_recv(), stream.send, &self.counts);
        tokio::spawn(relay(io(near).into(), side, RelayOptions::default()));
        (Peer::new(down), within(self.far.recv()).await.unwrap())
    }
}

async fn send_all(peer: &mut Peer, seed: u64) {
    let mut payload = Payload::new(seed);
    while payload.position() < BULK as u64 {
        peer.send(payload.take(1 << 20)).await;
    }
    peer.half_close().await;
}

#[tokio::test]
async fn bulk_crosses_two_hops_in_the_kernel() {
    let mut hops = Hops::new().await;
    let (mut down, mut up) = hops.tunnel().await;
    for seed in [1, 2] {
        let before = (hops.counts.sent.load(Ordering::Relaxed), hops.counts.taken.load(Ordering::Relaxed));
        let ((), got) = tokio::join!(send_all(&mut down, seed), within(up.check_to_end(seed)));
        assert_eq!(got, (BULK as u64, End::Fin));
        // Until there was bulk for a while, and where a reader is behind, octets are copied.
        assert!(hops.counts.sent.load(Ordering::Relaxed) - before.0 > BULK / 8);
        assert!(hops.counts.taken.load(Ordering::Relaxed) - before.1 > BULK / 8);
        // The other way.
        std::mem::swap(&mut down, &mut up);
    }
}

#[tokio::test]
async fn tunnels_of_all_kinds_share_a_connection() {
    let mut hops = Hops::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..6 {
        let (mut down, mut up) = hops.tunnel().await;
        tasks.spawn(async move {
            let ((mut down_reads, mut down_writes), (mut up_reads, mut up_writes)) = (down.split(), up.split());
            let to_up = async {
                down_writes.send_in_pieces(seed, BULK as u64 / 4).await;
                down_writes.half_close().await;
            };
            let to_down = async {
                let mut payload = Payload::new(seed + 100);
                for turn in 0..64 {
                    up_writes.send(payload.take(if turn % 8 == 0 { 1 << 20 } else { 1 + 977 * turn })).await;
                }
                up_writes.half_close().await;
                payload.position()
            };
            let ((), sent, got_up, got_down) =
                tokio::join!(to_up, to_down, up_reads.check_to_end(seed), down_reads.check_to_end(seed + 100));
            assert_eq!(got_up, (BULK as u64 / 4, End::Fin));
            assert_eq!(got_down, (sent, End::Fin));
        });
    }
    while let Some(result) = within(tasks.join_next()).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_reset_ends_what_waits_and_leaves_the_connection_whole() {
    let mut hops = Hops::new().await;
    for who in 0..2 {
        let (mut down, mut up) = hops.tunnel().await;
        let sent = down.send_until_blocked(&mut Payload::new(3), Duration::from_millis(150)).await;
        assert!(sent > 1 << 20);
        // Either the one that is not read any more goes, or the one that does not read.
        if who == 0 {
            down.rst();
            up.expect_rst().await;
        } else {
            up.rst();
            down.expect_rst().await;
        }
    }
    let (mut down, mut up) = hops.tunnel().await;
    let ((), got) = tokio::join!(send_all(&mut down, 4), within(up.check_to_end(4)));
    assert_eq!(got, (BULK as u64, End::Fin));
}

#[tokio::test]
async fn who_stops_asking_for_octets_in_the_kernel_reads_the_same_ones() {
    let (result, wait) = tokio::sync::oneshot::channel();
    let result = std::sync::Mutex::new(Some(result));
    let handler = move |mut stream: IncomingStream| {
        let result = result.lock().unwrap().take().unwrap();
        async move {
            let _send = stream.responder.respond(status(200), false).unwrap();
            let (mut check, mut spliced) = (Check::new(5), 0);
            for turn in 0.. {
                // Every other chunk as it comes, and else in memory.
                let next = poll_fn(|cx| {
                    let taken = if turn % 2 == 0 { stream.recv.take_spliced() } else { None };
                    match taken {
                        Some(taken) => Poll::Ready(Some(Ok(Chunk::Spliced(taken)))),
                        None => stream.recv.poll_chunk(cx, 1).map_ok(Chunk::Bytes),
                    }
                });
                let Some(chunk) = within(next).await else { break };
                let chunk = chunk.unwrap();
                spliced += if let Chunk::Spliced(taken) = &chunk { taken.len() } else { 0 };
                assert!(!chunk.is_empty());
                check.eat(&chunk.into_bytes().unwrap());
            }
            result.send((check.position(), spliced)).unwrap();
        }
    };
    let mut client = pair(allow_connect(), handler).await;
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
    let (down, near) = tcp_pair().await;
    let up = Side::new(stream.response.into_recv(), stream.send);
    tokio::spawn(relay(io(near).into(), up, RelayOptions::default()));
    send_all(&mut Peer::new(down), 5).await;
    let (len, spliced) = within(wait).await.unwrap();
    assert_eq!(len, BULK as u64);
    assert!(spliced > 0 && spliced < BULK, "{spliced}");
}

/// A tunnel to a peer that writes frames by hand. The connection's task runs only within [`run`].
struct Tunnel {
    driver: Pin<Box<dyn Future<Output = Result<(), StreamError>> + Send>>,
    send: Box<dyn SendStream>,
    recv: Box<dyn RecvStream>,
    raw: Raw,
}

impl Tunnel {
    async fn new(settings: &[(u16, u32)]) -> Self {
        let (dialled, accepted) = sockets().await;
        let parts = adit_h2::client(io(dialled), Arc::new(ClientConfig::default()));
        let (mut conn, mut driver) = (parts.conn, parts.driver.unwrap());
        let opening = async {
            let mut raw = Raw::server(accepted, settings).await;
            poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
            // Behind the answer the settings are in force.
            raw.send(&frame(PING, 0, 0, &[0; 8])).await;
            raw.expect(PING).await;
            let mut stream = conn.open(&connect("a:1"), false).unwrap();
            raw.expect(HEADERS).await;
            raw.send(&headers(1, &[(":status", "200")], false)).await;
            assert_eq!(head(&mut stream).await.unwrap().status, 200);
            (raw, stream)
        };
        let (raw, stream) = run(&mut driver, opening).await;
        Self { driver, send: stream.send, recv: stream.response.into_recv(), raw }
    }
}

async fn run<T>(
    driver: &mut (impl Future<Output = Result<(), StreamError>> + Unpin),
    what: impl Future<Output = T>,
) -> T {
    let mut what = std::pin::pin!(what);
    tokio::select! {
        biased;
        done = &mut what => return done,
        _ = driver => {}
    }
    within(what).await
}

/// A payload, in the kernel.
async fn in_kernel(payload: Bytes) -> Spliced {
    let (mut from, to) = sockets().await;
    let len = payload.len();
    tokio::io::AsyncWriteExt::write_all(&mut from, &payload).await.unwrap();
    let mut to = io(to);
    loop {
        if let Some(spliced) = to.read_spliced(len, len) {
            assert_eq!(spliced.len(), len);
            return spliced;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_window_that_is_taken_back_cuts_what_waits_in_the_kernel() {
    let Tunnel { mut driver, mut send, mut raw, .. } = Tunnel::new(&[(SETTINGS_MAX_FRAME_SIZE, 1 << 20)]).await;
    let payload = Payload::all(6, 60_000);
    let spliced = in_kernel(payload.clone()).await;
    let room = poll_fn(|cx| Poll::Ready(send.poll_splice(cx))).await;
    assert!(matches!(room, Poll::Ready(Ok(Some(room))) if room >= 60_000), "{room:?}");
    send.send_spliced(spliced).unwrap();
    // Before the connection's task sends it, it reads of the smaller window.
    let mut less = SETTINGS_INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    less.extend(20_000_u32.to_be_bytes());
    raw.send(&frame(SETTINGS, 0, 0, &less)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let sent = async {
        let first = raw.expect(DATA).await;
        raw.send(&frame(WINDOW_UPDATE, 0, 1, &40_000_u32.to_be_bytes())).await;
        [first, raw.expect(DATA).await]
    };
    let sent = run(&mut driver, sent).await;
    assert_eq!(sent.each_ref().map(|frame| frame.payload.len()), [20_000, 40_000]);
    assert!(sent.map(|frame| frame.payload).concat() == payload);
}

/// Says nothing, takes all.
struct Quiet;

impl ByteSource for Quiet {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Pending
    }

    fn stop(&mut self, _: ErrorCode) {}
}

impl ByteSink for Quiet {
    fn poll_send(&mut self, _: &mut Context<'_>, data: &mut Bytes, _: bool) -> Poll<Result<(), StreamError>> {
        data.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, _: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Pending
    }

    fn reset(&mut self, _: ErrorCode) {}
}

/// Gives a payload, then the end.
struct Once(Option<Bytes>);

impl ByteSource for Once {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Ready(self.0.take().map(Ok))
    }

    fn stop(&mut self, _: ErrorCode) {}
}

/// The octets of the next DATA frames, so many in all.
async fn data(raw: &mut Raw, wanted: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < wanted {
        all.extend(raw.expect(DATA).await.payload);
    }
    all
}

#[tokio::test]
async fn what_comes_in_the_kernel_keeps_to_the_windows_of_where_it_goes() {
    let counts = Arc::new(Counts::default());
    let from = Tunnel::new(&[]).await;
    let settings = [(SETTINGS_MAX_FRAME_SIZE, 1 << 20), (SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)];
    let to = Tunnel::new(&settings).await;
    tokio::spawn(from.driver);
    tokio::spawn(to.driver);
    let (mut near, mut far) = (from.raw, to.raw);
    tokio::spawn(relay(side(from.recv, from.send, &counts), side(to.recv, to.send, &counts), RelayOptions::default()));
    // The relay asks for octets in the kernel as it is first polled.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let payload = Payload::all(8, 1 << 20);
    let sending = payload.clone();
    let sender = tokio::spawn(async move {
        for part in sending.chunks(200_000) {
            near.send(&frame(DATA, 0, 1, part)).await;
        }
        near
    });
    // The connection's window is 65,535 octets, whatever a stream's is.
    let mut got = data(&mut far, 65_535).await;
    far.send(&frame(PING, 0, 0, &[1; 8])).await;
    let behind = loop {
        match far.next().await.unwrap() {
            Frame { kind: PING, .. } => break got.len(),
            frame if frame.kind == DATA => got.extend(frame.payload),
            _ => {}
        }
    };
    assert_eq!(behind, 65_535);
    while got.len() < payload.len() {
        let more = (payload.len() - got.len()).min(100_000);
        far.send(&frame(WINDOW_UPDATE, 0, 0, &(more as u32).to_be_bytes())).await;
        let part = data(&mut far, more).await;
        assert_eq!(part.len(), more);
        got.extend(part);
    }
    assert!(got == payload);
    assert!(counts.sent.load(Ordering::Relaxed) > 0);
    drop(within(sender).await);
}

#[tokio::test]
async fn an_end_needs_no_window() {
    const WINDOW: usize = 40_000;
    let settings = [(SETTINGS_MAX_FRAME_SIZE, 1 << 20), (SETTINGS_INITIAL_WINDOW_SIZE, WINDOW as u32)];
    // From memory.
    let Tunnel { driver, send, recv: _recv, mut raw } = Tunnel::new(&settings).await;
    tokio::spawn(driver);
    let down = Side::new(Box::new(Once(Some(Payload::all(9, WINDOW)))), Box::new(Quiet));
    tokio::spawn(relay(down, Side::new(Box::new(Quiet), send), RelayOptions::default()));
    // The end may come with the octets.
    let mut got = 0;
    loop {
        let frame = raw.expect(DATA).await;
        got += frame.payload.len();
        if frame.ends() {
            break;
        }
    }
    assert_eq!(got, WINDOW);
    // From a socket that is spliced after some bulk.
    let Tunnel { driver, send, recv: _recv, mut raw } = Tunnel::new(&settings).await;
    tokio::spawn(driver);
    let counts = Arc::new(Counts::default());
    let (down, near) = tcp_pair().await;
    let mut down = Peer::new(down);
    let sink = Box::new(CountedSink(send, counts.clone()));
    tokio::spawn(relay(io(near).into(), Side::new(Box::new(Quiet), sink), RelayOptions::default()));
    let mut payload = Payload::new(9);
    for turn in 0..20 {
        // Each time all of the window is used up.
        for stream in [0, 1] {
            if turn > 0 {
                raw.send(&frame(WINDOW_UPDATE, 0, stream, &(WINDOW as u32).to_be_bytes())).await;
            }
        }
        down.send(payload.take(WINDOW)).await;
        assert_eq!(data(&mut raw, WINDOW).await.len(), WINDOW);
    }
    assert!(counts.sent.load(Ordering::Relaxed) > 0);
    down.half_close().await;
    assert!(raw.expect(DATA).await.ends());
}

#[tokio::test]
async fn small_frames_and_small_windows_are_sent_from_memory() {
    for settings in [(SETTINGS_MAX_FRAME_SIZE, 16_384), (SETTINGS_INITIAL_WINDOW_SIZE, 16_384)] {
        let mut tunnel = Tunnel::new(&[(SETTINGS_MAX_FRAME_SIZE, 1 << 20), settings]).await;
        let room = poll_fn(|cx| tunnel.send.poll_splice(cx)).await;
        assert_eq!(room, Ok(None), "{settings:?}");
    }
}

#[tokio::test]
async fn a_connection_cut_within_a_frame_is_no_end() {
    let Tunnel { mut driver, send: _send, mut recv, mut raw } = Tunnel::new(&[]).await;
    assert!(recv.take_spliced().is_none());
    let payload = Payload::all(7, 200_000);
    let mut octets = frame(DATA, END_STREAM, 1, &payload);
    octets.truncate(150_000);
    raw.send(&octets).await;
    drop(raw);
    let reading = async {
        let mut check = Check::new(7);
        loop {
            let chunk = match recv.take_spliced() {
                Some(taken) => Ok(taken.into_bytes().unwrap()),
                None => chunk(&mut *recv).await.expect("no end"),
            };
            match chunk {
                Ok(chunk) => check.eat(&chunk),
                Err(error) => return (check.position(), error),
            }
        }
    };
    let got = run(&mut driver, reading).await;
    assert_eq!(got, (150_000 - 9, StreamError::Truncated));
}
