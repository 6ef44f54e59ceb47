//! What a tunnel costs: CPU seconds per GiB of TCP to h2 to TCP, and memory of idle connections and tunnels.
//!
//! `cargo run --release -p adit-h2 --example h2_tunnel_cost`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use adit_h2::{ClientConfig, ServerConfig};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{Address, ByteSink, ByteSource, ConnInfo, Io};
use http::{Method, StatusCode};
use tokio::net::{TcpListener, TcpStream};

const GIB: u64 = 1 << 30;

fn io(socket: TcpStream) -> Io {
    socket.set_nodelay(true).unwrap();
    let (local, remote) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    Io::tcp(socket, Arc::new(ConnInfo::new(1, Address::Ip(local), Address::Ip(remote))))
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn rss_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn pump(source: &mut (impl ByteSource + ?Sized), sink: &mut (impl ByteSink + ?Sized), max: usize) -> u64 {
    let mut total = 0;
    loop {
        match poll_fn(|cx| source.poll_chunk(cx, max)).await {
            Some(Ok(mut bytes)) => {
                total += bytes.len() as u64;
                poll_fn(|cx| sink.poll_send(cx, &mut bytes, false)).await.unwrap();
            }
            Some(Err(error)) => panic!("{error}"),
            None => {
                poll_fn(|cx| sink.poll_send(cx, &mut bytes::Bytes::new(), true)).await.unwrap();
                return total;
            }
        }
    }
}

fn connect() -> RequestHead {
    RequestHead::new(RequestKind::Connect("a:1".parse().unwrap()), Method::CONNECT)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn bulk(tunnels: u64, chunk: usize, frame: u32) {
    let sink = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink_at = sink.local_addr().unwrap();
    let (tell, told) = std::sync::mpsc::channel::<SocketAddr>();
    let decap = std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let mut cfg = ServerConfig::default();
            cfg.http2.max_frame_size = frame;
            let mut conn = adit_h2::server(io(listener.accept().await.unwrap().0), Arc::new(cfg));
            use adit_codec::ServerConn;
            let before = cpu();
            while let Some(stream) = poll_fn(|cx| conn.poll_accept(cx)).await {
                let Ok(mut stream) = stream else { break };
                tokio::spawn(async move {
                    let (_source, mut out) = io(TcpStream::connect(sink_at).await.unwrap()).into_halves();
                    let mut back = stream.responder.respond(ResponseHead::new(StatusCode::OK), false).unwrap();
                    pump(&mut *stream.recv, &mut *out, chunk).await;
                    poll_fn(|cx| back.poll_send(cx, &mut bytes::Bytes::new(), true)).await.unwrap();
                });
            }
            cpu() - before
        })
    });
    let sinks = std::thread::spawn(move || {
        let readers: Vec<_> = (0..tunnels)
            .map(|_| {
                let mut socket = sink.accept().unwrap().0;
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 20];
                    while socket.read(&mut buffer).unwrap() > 0 {}
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
    });
    let h2_at = told.recv().unwrap();
    let started = std::time::Instant::now();
    let encap = runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        for _ in 0..tunnels {
            std::thread::spawn(move || {
                let mut socket = std::net::TcpStream::connect(at).unwrap();
                let data = vec![0; 1 << 20];
                for _ in 0..(GIB / tunnels) >> 20 {
                    socket.write_all(&data).unwrap();
                }
            });
        }
        let parts = adit_h2::client(io(TcpStream::connect(h2_at).await.unwrap()), Arc::new(ClientConfig::default()));
        let mut conn = parts.conn;
        let driver = tokio::spawn(parts.driver.unwrap());
        let before = cpu();
        let mut tasks = Vec::new();
        for _ in 0..tunnels {
            let (mut source, _out) = io(listener.accept().await.unwrap().0).into_halves();
            poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
            let mut stream = conn.open(&connect(), false).unwrap();
            tasks.push(tokio::spawn(async move {
                poll_fn(|cx| stream.response.poll_head(cx)).await.unwrap();
                pump(&mut *source, &mut *stream.send, chunk).await;
                let mut recv = stream.response.into_recv();
                while poll_fn(|cx| recv.poll_chunk(cx, chunk)).await.is_some() {}
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        drop(conn);
        driver.await.unwrap().unwrap();
        cpu() - before
    });
    sinks.join().unwrap();
    println!(
        "{tunnels:3} tunnels, chunks of {:3} KiB, frames of {:4} KiB: encap {encap:.3}, decap {:.3} CPU-s/GiB, {:.2} s",
        chunk >> 10,
        frame >> 10,
        decap.join().unwrap(),
        started.elapsed().as_secs_f64(),
    );
}

/// Both sides in one process.
fn idle() {
    runtime().block_on(async {
        use adit_codec::ServerConn;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let mut conn =
                    adit_h2::server(io(listener.accept().await.unwrap().0), Arc::new(ServerConfig::default()));
                tokio::spawn(async move {
                    while let Some(Ok(mut stream)) = poll_fn(|cx| conn.poll_accept(cx)).await {
                        tokio::spawn(async move {
                            let _back = stream.responder.respond(ResponseHead::new(StatusCode::OK), false).unwrap();
                            poll_fn(|cx| stream.recv.poll_chunk(cx, 1)).await
                        });
                    }
                });
            }
        });
        let cfg = Arc::new(ClientConfig::default());
        let mut conns = Vec::new();
        let mut mark = rss_kib();
        for round in 0..2 {
            for _ in 0..200 {
                let parts = adit_h2::client(io(TcpStream::connect(at).await.unwrap()), cfg.clone());
                let mut conn = parts.conn;
                tokio::spawn(parts.driver.unwrap());
                poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
                conns.push(conn);
            }
            let now = rss_kib();
            println!("round {round}: an idle connection, both sides: {:.1} KiB", (now - mark) / 200.0);
            mark = now;
        }
        let mut streams = Vec::new();
        for round in 0..2 {
            for _ in 0..20 {
                for conn in &mut conns[..200] {
                    poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
                    let mut stream = conn.open(&connect(), false).unwrap();
                    poll_fn(|cx| stream.response.poll_head(cx)).await.unwrap();
                    streams.push((stream.send, stream.response.into_recv()));
                }
            }
            let now = rss_kib();
            println!("round {round}: an idle tunnel, both sides and its server task: {:.2} KiB", (now - mark) / 4000.0);
            mark = now;
        }
    });
}

fn main() {
    if std::env::args().len() == 1 {
        idle();
    }
    // Another argument than none: this case alone, for a profiler.
    let cases = [(1, 16, 16), (1, 64, 256), (1, 256, 256), (16, 256, 256), (1, 256, 1024), (1, 1024, 1024)];
    let only = std::env::args().nth(1).and_then(|arg| arg.parse::<usize>().ok());
    for (i, (tunnels, chunk, frame)) in cases.into_iter().enumerate() {
        if only.is_none_or(|only| only == i) {
            bulk(tunnels, chunk << 10, frame << 10);
        }
    }
}
