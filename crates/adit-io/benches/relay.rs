//! What the relay costs: CPU-seconds of its own thread, which is what a proxy pays for.
//!
//! `cargo bench -p adit-io`: bulk in each lane with 1 and 16 tunnels (CPU-seconds per GiB), echo of 64 bytes on 64
//! tunnels (per 10,000 messages), new tunnels (per 10,000), memory of 2,000 idle ones (KiB of RSS each).
//! An argument runs only the rows whose name contains it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_http::{ErrorCode, StreamError};
use adit_io::{Address, ByteSource, ConnInfo, Io, RelayOptions, Side, Source, relay};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

const GIB: u64 = 1 << 30;

#[derive(Clone, Copy)]
enum Lane {
    Splice,
    Copy,
    Chunks,
}

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let rows: [(&str, &dyn Fn() -> f64); 9] = [
        ("bulk splice, 1 tunnel, CPU-s/GiB", &|| bulk(Lane::Splice, 1)),
        ("bulk splice, 16 tunnels, CPU-s/GiB", &|| bulk(Lane::Splice, 16)),
        ("bulk copy 64 KiB, 1 tunnel, CPU-s/GiB", &|| bulk(Lane::Copy, 1)),
        ("bulk copy 64 KiB, 16 tunnels, CPU-s/GiB", &|| bulk(Lane::Copy, 16)),
        ("bulk chunks, 1 tunnel, CPU-s/GiB", &|| bulk(Lane::Chunks, 1)),
        ("bulk chunks, 16 tunnels, CPU-s/GiB", &|| bulk(Lane::Chunks, 16)),
        ("echo 64 B, 64 tunnels, CPU-s/10,000", &echo),
        ("new tunnels, CPU-s/10,000", &new_tunnels),
        ("idle tunnels, KiB of RSS each", &idle),
    ];
    for (name, run) in rows.iter().filter(|(name, _)| name.contains(&wanted)) {
        let mut results: Vec<f64> = (0..3).map(|_| run()).collect();
        results.sort_by(f64::total_cmp);
        println!("{name:45} {:8.3}  (of 3: {:.3} to {:.3})", results[1], results[0], results[2]);
    }
}

/// A thread that relays whatever connects to it to `upstream`.
struct Proxy {
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<f64>,
}

impl Proxy {
    fn start(lane: Lane, upstream: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let start = cpu_time();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut tick = tokio::time::interval(Duration::from_millis(50));
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let (down, _) = accepted.unwrap();
                            tokio::spawn(tunnel(lane, down, upstream));
                        }
                        _ = tick.tick() => if stopped.load(Ordering::Relaxed) { break },
                    }
                }
            });
            cpu_time() - start
        });
        Self { address, stop, thread }
    }

    fn finish(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn tunnel(lane: Lane, down: tokio::net::TcpStream, upstream: std::net::SocketAddr) {
    let up = tokio::net::TcpStream::connect(upstream).await.unwrap();
    let buffer_limit = if matches!(lane, Lane::Copy) { (64 << 10) - 1 } else { 1 << 20 };
    let options =
        RelayOptions { idle_timeout: Some(Duration::from_secs(3600)), buffer_limit, ..RelayOptions::default() };
    let (down, up) = (side(lane, down), side(lane, up));
    relay(down, up, options).await;
}

fn side(lane: Lane, socket: tokio::net::TcpStream) -> Side {
    socket.set_nodelay(true).unwrap();
    let address: Address = socket.local_addr().unwrap().into();
    let mut side = Side::from(Io::tcp(socket, Arc::new(ConnInfo::new(1, address.clone(), address))));
    if matches!(lane, Lane::Chunks) {
        side.source = Source::Other(Box::new(Hidden(side.source.into())));
    }
    side
}

/// A source that does not show its socket.
struct Hidden(Box<dyn ByteSource>);

impl ByteSource for Hidden {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll_chunk(cx, max)
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.stop(code);
    }
}

fn bulk(lane: Lane, tunnels: usize) -> f64 {
    let total = 4 * GIB;
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(lane, sink.local_addr().unwrap());
    let each = total / tunnels as u64;
    let readers = std::thread::spawn(move || {
        let readers: Vec<_> = (0..tunnels)
            .map(|_| {
                let (mut socket, _) = sink.accept().unwrap();
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 256 << 10];
                    let mut got = 0;
                    while let Ok(n) = socket.read(&mut buffer) {
                        if n == 0 {
                            break;
                        }
                        got += n as u64;
                    }
                    got
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    let writers: Vec<_> = (0..tunnels)
        .map(|_| {
            let address = proxy.address;
            std::thread::spawn(move || {
                let mut socket = TcpStream::connect(address).unwrap();
                let buffer = vec![0; 256 << 10];
                for _ in 0..each / buffer.len() as u64 {
                    socket.write_all(&buffer).unwrap();
                }
                socket.shutdown(Shutdown::Write).unwrap();
                let _ = socket.read(&mut [0; 1]);
            })
        })
        .collect();
    let got = readers.join().unwrap();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(got, total);
    proxy.finish() / (total as f64 / GIB as f64)
}

/// Echoes whatever comes, in one thread for all connections; stops with its last one.
fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let (mut reader, mut writer) = socket.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
    });
    address
}

fn echo() -> f64 {
    const TUNNELS: usize = 64;
    const MESSAGES: usize = 200_000;
    let proxy = Proxy::start(Lane::Splice, echo_server());
    let address = proxy.address;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let clients: Vec<_> = (0..TUNNELS)
            .map(|_| {
                tokio::spawn(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
                    socket.set_nodelay(true).unwrap();
                    let mut message = [7; 64];
                    for _ in 0..MESSAGES / TUNNELS {
                        socket.write_all(&message).await.unwrap();
                        socket.read_exact(&mut message).await.unwrap();
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    });
    proxy.finish() / (MESSAGES as f64 / 10_000.0)
}

fn new_tunnels() -> f64 {
    const TUNNELS: usize = 20_000;
    let proxy = Proxy::start(Lane::Splice, echo_server());
    for _ in 0..TUNNELS {
        let mut socket = TcpStream::connect(proxy.address).unwrap();
        socket.write_all(b"x").unwrap();
        socket.read_exact(&mut [0; 1]).unwrap();
        // An RST leaves no port in TIME_WAIT.
        reset_on_close(&socket);
    }
    proxy.finish() / (TUNNELS as f64 / 10_000.0)
}

fn reset_on_close(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The growth of this process, in which peers are bare descriptors.
fn idle() -> f64 {
    const TUNNELS: usize = 2_000;
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(Lane::Splice, sink.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = sink.accept() {
            if sender.send(socket).is_err() {
                break;
            }
        }
    });
    let mut open = Vec::with_capacity(2 * TUNNELS + 4);
    let connect = |open: &mut Vec<TcpStream>| {
        let mut down = TcpStream::connect(proxy.address).unwrap();
        let mut up = receiver.recv().unwrap();
        down.write_all(b"x").unwrap();
        up.read_exact(&mut [0; 1]).unwrap();
        open.push(down);
        open.push(up);
    };
    connect(&mut open);
    let before = rss_kib();
    for _ in 0..TUNNELS {
        connect(&mut open);
    }
    let grown = rss_kib() - before;
    drop(open);
    std::thread::sleep(Duration::from_millis(200));
    proxy.finish();
    grown / TUNNELS as f64
}

fn rss_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
