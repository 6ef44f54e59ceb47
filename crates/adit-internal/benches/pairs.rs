//! A pair against `tokio::io::duplex` and a loopback TCP socket, in one run.
//!
//! All on one thread: bulk of 64 MiB in pieces of 64 KiB, round trips of 64 bytes, and opening and dropping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::task::Poll;

use adit_internal::{InternalStream, Limits, pair};
use adit_io::{ByteSink, ByteSource};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;

const PIECE: usize = 64 << 10;
const BULK: usize = 64 << 20;

criterion_group!(benches, bulk, round_trips, open);
criterion_main!(benches);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn duplex() -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
    tokio::io::duplex(1 << 20)
}

fn internal() -> (InternalStream, InternalStream) {
    pair(Limits::default())
}

fn bulk(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulk");
    group.throughput(Throughput::Bytes(BULK as u64)).sample_size(20);
    let runtime = runtime();
    group.bench_function(BenchmarkId::from_parameter("internal, chunks"), |b| {
        b.to_async(&runtime).iter(|| async { move_chunks(internal()).await });
    });
    group.bench_function(BenchmarkId::from_parameter("internal, copied"), |b| {
        b.to_async(&runtime).iter(|| async { move_bytes(internal()).await });
    });
    group.bench_function(BenchmarkId::from_parameter("duplex"), |b| {
        b.to_async(&runtime).iter(|| async { move_bytes(duplex()).await });
    });
    group.bench_function(BenchmarkId::from_parameter("loopback TCP"), |b| {
        b.to_async(&runtime).iter(|| async { move_bytes(adit_testkit::tcp_pair().await).await });
    });
    group.finish();
}

async fn move_chunks((near, far): (InternalStream, InternalStream)) {
    let (_near_source, mut sink) = near.split();
    let (mut source, _far_sink) = far.split();
    let piece = Bytes::from(vec![7; PIECE]);
    let writing = async {
        for _ in 0..BULK / PIECE {
            let mut piece = piece.clone();
            std::future::poll_fn(|cx| sink.poll_send(cx, &mut piece, false)).await.unwrap();
        }
        std::future::poll_fn(|cx| sink.poll_send(cx, &mut Bytes::new(), true)).await.unwrap();
    };
    let reading = async {
        let mut got = 0;
        while let Some(chunk) = std::future::poll_fn(|cx| source.poll_chunk(cx, PIECE)).await {
            got += black_box(chunk.unwrap()).len();
        }
        got
    };
    assert_eq!(tokio::join!(writing, reading).1, BULK);
}

async fn move_bytes<S: AsyncRead + AsyncWrite + Unpin>((near, far): (S, S)) {
    let (_near_reader, mut writer) = tokio::io::split(near);
    let (mut reader, _far_writer) = tokio::io::split(far);
    let piece = vec![7; PIECE];
    let writing = async {
        for _ in 0..BULK / PIECE {
            writer.write_all(&piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut buffer = vec![0; PIECE];
        let mut got = 0;
        loop {
            match reader.read(&mut buffer).await.unwrap() {
                0 => break got,
                n => got += n,
            }
        }
    };
    assert_eq!(tokio::join!(writing, reading).1, BULK);
}

fn round_trips(c: &mut Criterion) {
    let mut group = c.benchmark_group("round trip of 64 bytes");
    let runtime = runtime();
    group.bench_function(BenchmarkId::from_parameter("internal"), |b| {
        b.to_async(&runtime).iter_custom(|count| ping_pong(internal(), count));
    });
    group.bench_function(BenchmarkId::from_parameter("duplex"), |b| {
        b.to_async(&runtime).iter_custom(|count| ping_pong(duplex(), count));
    });
    group.bench_function(BenchmarkId::from_parameter("loopback TCP"), |b| {
        b.to_async(&runtime).iter_custom(|count| async move { ping_pong(adit_testkit::tcp_pair().await, count).await });
    });
    group.finish();
}

async fn ping_pong<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    (mut near, mut far): (S, S),
    count: u64,
) -> std::time::Duration {
    let echo = tokio::spawn(async move {
        let mut message = [0; 64];
        while far.read_exact(&mut message).await.is_ok() {
            far.write_all(&message).await.unwrap();
        }
    });
    let start = std::time::Instant::now();
    let mut message = [7; 64];
    for _ in 0..count {
        near.write_all(&message).await.unwrap();
        near.read_exact(&mut message).await.unwrap();
    }
    let elapsed = start.elapsed();
    near.shutdown().await.unwrap();
    echo.await.unwrap();
    elapsed
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open and drop");
    let runtime = runtime();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    group.bench_function(BenchmarkId::from_parameter("internal"), |b| {
        b.iter(|| {
            let (near, far) = internal();
            let ((mut source, _sink), _far) = (near.split(), far);
            assert!(matches!(source.poll_chunk(&mut cx, 1), Poll::Pending));
        });
    });
    group.bench_function(BenchmarkId::from_parameter("duplex"), |b| b.iter(|| black_box(duplex())));
    group.bench_function(BenchmarkId::from_parameter("loopback TCP"), |b| {
        b.to_async(&runtime).iter(|| async {
            let (near, far) = adit_testkit::tcp_pair().await;
            // No port stays in TIME_WAIT.
            near.set_zero_linger().unwrap();
            drop((near, far));
        });
    });
    group.finish();
}
