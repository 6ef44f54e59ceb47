//! What a tunnel costs: CPU seconds per GiB of TCP to h3 to TCP, and memory of idle connections and tunnels.
//!
//! `cargo run --release -p adit-h3 --example h3_tunnel_cost`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use adit_codec::{ClientParts, ServerConn};
use adit_h3::endpoint::{Admission, ClientEndpoint, ClientSetup, QuicOptions, ServerEndpoint, ServerSetup};
use adit_h3::{ClientConfig, ServerConfig};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{Address, ByteSink, ByteSource, ConnInfo, Io};
use http::{Method, StatusCode};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};

const GIB: u64 = 1 << 30;

struct Tls {
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
}

fn tls() -> Tls {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Tls {
        server: server.unwrap().with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap(),
        client: client.unwrap().with_root_certificates(roots).with_no_client_auth(),
    }
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(4 << 20).unwrap();
    options.set_send_buffer_size(4 << 20).unwrap();
    socket
}

fn server_endpoint(tls: &Tls) -> ServerEndpoint {
    let setup = ServerSetup::new(&tls.server, &options(), Admission::default(), 1).unwrap();
    ServerEndpoint::bind(udp(), &setup, 0).unwrap()
}

fn options() -> QuicOptions {
    QuicOptions::default()
}

async fn connect(tls: &Tls, at: SocketAddr) -> ClientParts {
    let setup = ClientSetup::new(&tls.client, &options()).unwrap();
    let endpoint = ClientEndpoint::bind(udp()).unwrap();
    connect_from(&endpoint, &setup, at).await
}

async fn connect_from(endpoint: &ClientEndpoint, setup: &ClientSetup, at: SocketAddr) -> ClientParts {
    let conn = endpoint.connect(setup, at, "localhost").unwrap().await.unwrap();
    let cfg = ClientConfig::default();
    adit_h3::client(conn, Arc::new(cfg))
}

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
    let mut chunks = 0;
    loop {
        match poll_fn(|cx| source.poll_chunk(cx, max)).await {
            Some(Ok(mut bytes)) => {
                chunks += 1;
                poll_fn(|cx| sink.poll_send(cx, &mut bytes, false)).await.unwrap();
            }
            Some(Err(error)) => panic!("{error}"),
            None => {
                poll_fn(|cx| sink.poll_send(cx, &mut bytes::Bytes::new(), true)).await.unwrap();
                return chunks;
            }
        }
    }
}

fn target() -> RequestHead {
    RequestHead::new(RequestKind::Connect("a:1".parse().unwrap()), Method::CONNECT)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn bulk(tls: &Tls, tunnels: u64, chunk: usize) {
    let sink = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink_at = sink.local_addr().unwrap();
    let (tell, told) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::scope(|scope| {
        let decap = scope.spawn(move || {
            runtime().block_on(async {
                let mut endpoint = server_endpoint(tls);
                tell.send(endpoint.local_addr().unwrap()).unwrap();
                let handshake = poll_fn(|cx| endpoint.poll_accept(cx)).await.unwrap();
                let mut conn = adit_h3::server(handshake.await.unwrap(), Arc::new(ServerConfig::default()));
                let before = cpu();
                while let Some(stream) = poll_fn(|cx| conn.poll_accept(cx)).await {
                    let Ok(mut stream) = stream else { break };
                    tokio::spawn(async move {
                        let (_source, mut out) = io(TcpStream::connect(sink_at).await.unwrap()).into_halves();
                        let mut back = stream.responder.respond(ResponseHead::new(StatusCode::OK), false).unwrap();
                        let chunks = pump(&mut *stream.recv, &mut *out, chunk).await;
                        if tunnels == 1 {
                            println!("  {chunks} chunks of {} KiB", (GIB / 1024) / chunks.max(1));
                        }
                        poll_fn(|cx| back.poll_send(cx, &mut bytes::Bytes::new(), true)).await.unwrap();
                    });
                }
                cpu() - before
            })
        });
        let sinks = scope.spawn(move || {
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
        let at = told.recv().unwrap();
        let started = std::time::Instant::now();
        let encap = encap(tls, at, tunnels, chunk);
        sinks.join().unwrap();
        println!(
            "{tunnels:3} tunnels, chunks of {:3} KiB: encap {encap:.3}, decap {:.3} CPU-s/GiB, {:.2} s",
            chunk >> 10,
            decap.join().unwrap(),
            started.elapsed().as_secs_f64(),
        );
    });
}

fn encap(tls: &Tls, at: SocketAddr, tunnels: u64, chunk: usize) -> f64 {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let from = listener.local_addr().unwrap();
        for _ in 0..tunnels {
            std::thread::spawn(move || {
                let mut socket = std::net::TcpStream::connect(from).unwrap();
                let data = vec![0; 1 << 20];
                for _ in 0..(GIB / tunnels) >> 20 {
                    socket.write_all(&data).unwrap();
                }
            });
        }
        let parts = connect(tls, at).await;
        let mut conn = parts.conn;
        let driver = tokio::spawn(parts.driver.unwrap());
        let before = cpu();
        let mut tasks = Vec::new();
        for _ in 0..tunnels {
            let (mut source, _out) = io(listener.accept().await.unwrap().0).into_halves();
            poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
            let mut stream = conn.open(&target(), false).unwrap();
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
    })
}

/// Both sides in one process.
fn idle(tls: &Tls) {
    runtime().block_on(async {
        let mut endpoint = server_endpoint(tls);
        let at = endpoint.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(handshake) = poll_fn(|cx| endpoint.poll_accept(cx)).await {
                tokio::spawn(async move {
                    let mut conn = adit_h3::server(handshake.await.unwrap(), Arc::new(ServerConfig::default()));
                    while let Some(Ok(mut stream)) = poll_fn(|cx| conn.poll_accept(cx)).await {
                        tokio::spawn(async move {
                            let mut back = stream.responder.respond(ResponseHead::new(StatusCode::OK), false).unwrap();
                            // As a relay waits: for bytes, and for the peer's word that it reads no more.
                            poll_fn(|cx| {
                                let _ = back.poll_stopped(cx);
                                stream.recv.poll_chunk(cx, 1)
                            })
                            .await
                        });
                    }
                });
            }
        });
        let setup = ClientSetup::new(&tls.client, &options()).unwrap();
        let from = ClientEndpoint::bind(udp()).unwrap();
        let mut conns = Vec::new();
        let mut mark = rss_kib();
        for round in 0..2 {
            for _ in 0..100 {
                let parts = connect_from(&from, &setup, at).await;
                let mut conn = parts.conn;
                tokio::spawn(parts.driver.unwrap());
                poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
                conns.push(conn);
            }
            let now = rss_kib();
            println!("round {round}: an idle connection, both sides: {:.1} KiB", (now - mark) / 100.0);
            mark = now;
        }
        let mut streams = Vec::new();
        for round in 0..2 {
            for _ in 0..40 {
                for conn in &mut conns[..100] {
                    poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
                    let mut stream = conn.open(&target(), false).unwrap();
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
    let tls = tls();
    if std::env::args().len() == 1 {
        idle(&tls);
    }
    // Another argument than none: this case alone, for a profiler.
    let only = std::env::args().nth(1).and_then(|arg| arg.parse::<usize>().ok());
    for (i, (tunnels, chunk)) in [(1, 16), (1, 64), (1, 256), (16, 64), (16, 256)].into_iter().enumerate() {
        if only.is_none_or(|only| only == i) {
            bulk(&tls, tunnels, chunk << 10);
        }
    }
}
