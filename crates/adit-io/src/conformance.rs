//! What every byte stream must do, as tests over [`Io`] and its halves alone.
//!
//! A crate with a transport implements [`Harness`] and calls [`suite!`](crate::byte_stream_suite) in a test file: one test for
//! each case. What a transport cannot carry is said in [`Abilities`], never by leaving a case out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{ByteSink, ByteSource, Io};

/// What a transport can carry.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// A reset can be told from an end (a Unix socket knows ends only).
    pub resets: bool,
    /// Codes of resets and stops arrive as they were sent; otherwise only that there was one.
    pub codes: bool,
    /// A source that stops is noticed by the other end's sink while the rest of the stream lives.
    pub stops: bool,
    /// Bytes sent before a reset arrive before it; otherwise it may overtake them.
    pub in_order: bool,
    /// Bytes that both ends and what lies between may hold together while nobody reads.
    pub in_flight: usize,
}

/// Makes streams to test.
pub trait Harness: Sync {
    /// What the transport can carry.
    fn abilities(&self) -> Abilities;

    /// Both ends of a fresh stream.
    fn pair(&self) -> Pin<Box<dyn Future<Output = (Io, Io)> + Send + '_>>;
}

/// Runs one case; a case that hangs fails.
pub async fn run(name: &str, case: impl Future<Output = ()>) {
    assert!(tokio::time::timeout(Duration::from_secs(60), case).await.is_ok(), "{name} did not end");
}

/// One test for each case of the suite, over the harness that the expression gives.
#[macro_export]
macro_rules! byte_stream_suite {
    ($harness:expr) => {
        $crate::byte_stream_suite!(@ $harness,
            bytes_arrive_intact_both_ways_at_once, one_byte_at_a_time, nothing_is_sent_for_nothing,
            an_end_leaves_the_other_direction_open, an_end_is_given_again, an_end_without_a_byte,
            what_was_sent_before_an_end_outlives_its_sender, a_sink_dropped_unfinished_is_a_reset,
            a_reset_carries_its_code, a_reset_spares_what_was_ended, an_abort_is_a_reset, a_stop_is_noticed,
            a_slow_reader_bounds_the_writer_and_loses_nothing, bytes_read_ahead_come_first,
            reading_and_writing_by_copies,
        );
    };
    (@ $harness:expr, $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let harness = $harness;
                $crate::conformance::run(stringify!($case), $crate::conformance::$case(&harness)).await;
            }
        )*
    };
}

type Source = Box<dyn ByteSource>;
type Sink = Box<dyn ByteSink>;

async fn send(sink: &mut Sink, data: impl Into<Bytes>, end: bool) -> Result<(), StreamError> {
    let mut data = data.into();
    poll_fn(|cx| sink.poll_send(cx, &mut data, end)).await?;
    assert!(data.is_empty(), "ready with something left");
    poll_fn(|cx| sink.poll_flush(cx)).await
}

async fn chunk(source: &mut Source) -> Option<Result<Bytes, StreamError>> {
    let chunk = poll_fn(|cx| source.poll_chunk(cx, 1 << 16)).await;
    assert!(!matches!(&chunk, Some(Ok(bytes)) if bytes.is_empty()), "an empty chunk");
    chunk
}

/// Everything up to the end, or what came before the error.
async fn rest(source: &mut Source) -> (Vec<u8>, Result<(), StreamError>) {
    let mut bytes = Vec::new();
    loop {
        match chunk(source).await {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            None => return (bytes, Ok(())),
            Some(Err(error)) => return (bytes, Err(error)),
        }
    }
}

fn pattern(at: usize, len: usize) -> Bytes {
    (at..at + len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[track_caller]
fn is_reset(error: StreamError, code: ErrorCode, abilities: Abilities) {
    if abilities.codes {
        assert_eq!(error, StreamError::Reset(code));
    } else {
        assert!(matches!(error, StreamError::Reset(_)), "{error:?}");
    }
}

/// A reset, or where none can be told from an end, that.
#[track_caller]
fn is_over(end: Result<(), StreamError>, code: ErrorCode, abilities: Abilities) {
    if abilities.resets {
        is_reset(end.unwrap_err(), code, abilities);
    } else {
        assert_eq!(end, Ok(()));
    }
}

/// 4 MiB each way in pieces of every size.
pub async fn bytes_arrive_intact_both_ways_at_once(harness: &dyn Harness) {
    const LEN: usize = 4 << 20;
    async fn pour(mut sink: Sink) {
        let (mut at, mut size) = (0, 1);
        while at < LEN {
            size = (size * 7 + 3) % 90_000 + 1;
            let len = size.min(LEN - at);
            send(&mut sink, pattern(at, len), at + len == LEN).await.unwrap();
            at += len;
        }
    }
    async fn drain(mut source: Source) {
        let (bytes, end) = rest(&mut source).await;
        assert!(bytes == pattern(0, LEN), "{} bytes, or others", bytes.len());
        end.unwrap();
    }
    let (near, far) = harness.pair().await;
    let ((near_source, near_sink), (far_source, far_sink)) = (near.into_halves(), far.into_halves());
    tokio::join!(pour(near_sink), pour(far_sink), drain(near_source), drain(far_source));
}

/// Small pieces, each awaited.
pub async fn one_byte_at_a_time(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    let ((_source, mut sink), (mut source, _sink)) = (near.into_halves(), far.into_halves());
    for at in 0..300 {
        send(&mut sink, pattern(at, 1), false).await.unwrap();
        assert_eq!(chunk(&mut source).await.unwrap().unwrap(), pattern(at, 1));
    }
    send(&mut sink, "", true).await.unwrap();
    assert!(chunk(&mut source).await.is_none());
}

/// An empty piece is no chunk and no end.
pub async fn nothing_is_sent_for_nothing(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    let ((_source, mut sink), (mut source, _sink)) = (near.into_halves(), far.into_halves());
    send(&mut sink, "", false).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(50), chunk(&mut source)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    send(&mut sink, "x", false).await.unwrap();
    assert_eq!(chunk(&mut source).await.unwrap().unwrap(), "x");
}

/// A half-close, in either order.
pub async fn an_end_leaves_the_other_direction_open(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    let ((mut near_source, mut near_sink), (mut far_source, mut far_sink)) = (near.into_halves(), far.into_halves());
    send(&mut near_sink, "question", true).await.unwrap();
    assert_eq!(rest(&mut far_source).await, (b"question".to_vec(), Ok(())));
    let sending = async {
        for at in 0..10 {
            send(&mut far_sink, pattern(at * 10_000, 10_000), at == 9).await.unwrap();
        }
    };
    let ((), (bytes, end)) = tokio::join!(sending, rest(&mut near_source));
    assert!(bytes == pattern(0, 100_000) && end.is_ok());
}

/// Who asks again hears the same.
pub async fn an_end_is_given_again(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    let ((_source, mut sink), (mut source, _sink)) = (near.into_halves(), far.into_halves());
    send(&mut sink, "x", true).await.unwrap();
    assert_eq!(rest(&mut source).await, (b"x".to_vec(), Ok(())));
    for _ in 0..3 {
        assert!(chunk(&mut source).await.is_none());
    }
}

/// An end is something to say.
pub async fn an_end_without_a_byte(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    let ((_source, mut sink), (mut source, _sink)) = (near.into_halves(), far.into_halves());
    send(&mut sink, "", true).await.unwrap();
    assert!(chunk(&mut source).await.is_none());
}

/// Bytes and end on their way are not lost with the end that sent them.
pub async fn what_was_sent_before_an_end_outlives_its_sender(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    let ((mut near_source, mut near_sink), (mut far_source, mut far_sink)) = (near.into_halves(), far.into_halves());
    send(&mut far_sink, "", true).await.unwrap();
    assert!(chunk(&mut near_source).await.is_none());
    send(&mut near_sink, pattern(0, 10_000), true).await.unwrap();
    drop((near_source, near_sink));
    let (bytes, end) = rest(&mut far_source).await;
    assert!(bytes == pattern(0, 10_000) && end.is_ok(), "{} bytes, {end:?}", bytes.len());
}

/// No end was given, so none is read.
pub async fn a_sink_dropped_unfinished_is_a_reset(harness: &dyn Harness) {
    let abilities = harness.abilities();
    let (near, far) = harness.pair().await;
    let ((near_source, mut sink), (mut source, _far_sink)) = (near.into_halves(), far.into_halves());
    send(&mut sink, "cut", false).await.unwrap();
    drop((sink, near_source));
    let (bytes, end) = rest(&mut source).await;
    assert!(if abilities.in_order { bytes == b"cut" } else { b"cut".starts_with(&bytes) }, "{bytes:?}");
    is_over(end, ErrorCode::Cancel, abilities);
}

/// With its code, where there are codes.
pub async fn a_reset_carries_its_code(harness: &dyn Harness) {
    let abilities = harness.abilities();
    for code in [ErrorCode::Internal, ErrorCode::Connect, ErrorCode::EnhanceYourCalm] {
        let (near, far) = harness.pair().await;
        let ((near_source, mut sink), (mut source, _far_sink)) = (near.into_halves(), far.into_halves());
        sink.reset(code);
        // A socket says it as it closes.
        drop((sink, near_source));
        let (bytes, end) = rest(&mut source).await;
        assert!(bytes.is_empty(), "{bytes:?}");
        is_over(end, code, abilities);
        // An error is final.
        assert!(!matches!(chunk(&mut source).await, Some(Ok(_))));
    }
}

/// What was ended is whole, whatever becomes of the other direction.
pub async fn a_reset_spares_what_was_ended(harness: &dyn Harness) {
    let abilities = harness.abilities();
    let (near, far) = harness.pair().await;
    let ((near_source, mut near_sink), (mut far_source, mut far_sink)) = (near.into_halves(), far.into_halves());
    send(&mut near_sink, "whole", true).await.unwrap();
    far_sink.reset(ErrorCode::Cancel);
    drop((near_source, near_sink));
    let (bytes, end) = rest(&mut far_source).await;
    match end {
        Err(error) if !abilities.in_order => {
            assert!(b"whole".starts_with(&bytes), "{bytes:?}");
            is_reset(error, ErrorCode::Cancel, abilities);
        }
        end => assert_eq!((bytes, end), (b"whole".to_vec(), Ok(()))),
    }
}

/// Both directions at once.
pub async fn an_abort_is_a_reset(harness: &dyn Harness) {
    let (near, far) = harness.pair().await;
    near.abort();
    let (mut source, mut sink) = far.into_halves();
    is_over(rest(&mut source).await.1, ErrorCode::Cancel, harness.abilities());
    let failed = async {
        while send(&mut sink, vec![0; 1000], false).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    failed.await;
}

/// A writer learns that nobody reads, while its own reading goes on.
pub async fn a_stop_is_noticed(harness: &dyn Harness) {
    let abilities = harness.abilities();
    let (near, far) = harness.pair().await;
    let ((mut near_source, mut near_sink), (mut far_source, mut far_sink)) = (near.into_halves(), far.into_halves());
    assert!(poll_fn(|cx| Poll::Ready(far_sink.poll_stopped(cx).is_pending())).await);
    near_source.stop(ErrorCode::EnhanceYourCalm);
    let stopped = poll_fn(|cx| far_sink.poll_stopped(cx));
    if abilities.stops {
        let error = stopped.await;
        assert!(matches!(error, StreamError::Stopped(_)), "{error:?}");
        if abilities.codes {
            assert_eq!(error, StreamError::Stopped(ErrorCode::EnhanceYourCalm));
        }
        assert_eq!(send(&mut far_sink, "x", false).await, Err(error));
    } else {
        let stopped = tokio::time::timeout(Duration::from_millis(50), stopped).await;
        assert!(stopped.is_err(), "{stopped:?}");
    }
    send(&mut near_sink, "goes on", true).await.unwrap();
    assert_eq!(rest(&mut far_source).await, (b"goes on".to_vec(), Ok(())));
}

/// A writer waits for its reader, and what it got rid of arrives.
pub async fn a_slow_reader_bounds_the_writer_and_loses_nothing(harness: &dyn Harness) {
    const PIECE: usize = 16 << 10;
    let most = harness.abilities().in_flight;
    let (near, far) = harness.pair().await;
    let ((_source, mut sink), (mut source, _sink)) = (near.into_halves(), far.into_halves());
    let mut sent = 0;
    let left = loop {
        let mut data = pattern(sent, PIECE);
        let stuck =
            tokio::time::timeout(Duration::from_millis(100), poll_fn(|cx| sink.poll_send(cx, &mut data, false)));
        let stuck = stuck.await;
        sent += PIECE - data.len();
        assert!(sent <= most, "{sent} bytes and nobody reads");
        match stuck {
            Ok(result) => result.unwrap(),
            Err(_) => break data,
        }
    };
    let total = sent + left.len();
    let ((), (bytes, end)) =
        tokio::join!(async { send(&mut sink, left, true).await.unwrap() }, async { rest(&mut source).await });
    assert!(bytes == pattern(0, total) && end.is_ok(), "{} bytes of {total}", bytes.len());
}

/// What a listener filter looked at is there for who reads next, by either way of reading.
pub async fn bytes_read_ahead_come_first(harness: &dyn Harness) {
    let (near, mut far) = harness.pair().await;
    let (_source, mut sink) = near.into_halves();
    send(&mut sink, "first second third", true).await.unwrap();
    assert!(far.fill(6, 12).await.unwrap().starts_with(b"first "));
    assert_eq!(far.take_ahead(6), "first ");
    far.unread(Bytes::from_static(b"again "));
    let mut six = [0; 6];
    far.read_exact(&mut six).await.unwrap();
    assert_eq!(&six, b"again ");
    let (mut source, _sink) = far.into_halves();
    assert_eq!(rest(&mut source).await, (b"second third".to_vec(), Ok(())));
}

/// As tokio's traits have it.
pub async fn reading_and_writing_by_copies(harness: &dyn Harness) {
    let (mut near, mut far) = harness.pair().await;
    let data = pattern(0, 1 << 20);
    let writing = async {
        near.write_all(&data).await.unwrap();
        near.flush().await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), result) = tokio::join!(writing, far.read_to_end(&mut got));
    result.unwrap();
    assert!(got == data);
    far.write_all(b"back").await.unwrap();
    far.shutdown().await.unwrap();
    got.clear();
    near.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"back");
}
