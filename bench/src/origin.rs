//! What stands behind the proxies: sinks, sources, echoes, and servers of small answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::spec::{Cell, OriginKind};

/// What is read or written at once when bytes are what counts.
pub const BLOCK: usize = 256 << 10;
/// A message of the echo cells.
pub const MESSAGE: usize = 64;
/// The body of answers to requests.
const BODY: &str = "Hello, world\n";

/// Counters that all parts of the generator share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Messages, tunnels or requests done.
    pub ops: AtomicU64,
    /// Bytes received.
    pub bytes: AtomicU64,
    /// Failures.
    pub errors: AtomicU64,
    /// Latencies count now.
    pub recording: AtomicBool,
    /// The idle tunnels end now.
    pub end_all: Notify,
}

/// What the origin does with a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Sink,
    Source,
    Echo,
    /// One message back, then the end.
    EchoOnce,
    /// One message back, and the end when all end.
    EchoUntilEndAll,
}

fn mode(cell: Cell) -> Mode {
    match cell {
        Cell::BulkUp1 | Cell::BulkUp16 => Mode::Sink,
        Cell::BulkDown1 | Cell::BulkDown16 => Mode::Source,
        Cell::NewServer => Mode::EchoOnce,
        Cell::EndAll => Mode::EchoUntilEndAll,
        Cell::Echo | Cell::EchoPaced | Cell::EchoMany | Cell::NewClient | Cell::Idle | Cell::Requests => Mode::Echo,
    }
}

/// Listens; several threads may listen on one address.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("the origin's address {address}"))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves connections until the runtime ends.
pub async fn serve(listener: std::net::TcpListener, kind: OriginKind, cell: Cell, shared: Arc<Shared>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A connection's failure shows at the client.
            let _ = match kind {
                OriginKind::Tcp => tunnel(stream, mode(cell), &shared).await,
                OriginKind::Upgrade => upgrade(stream, mode(cell), &shared).await,
                OriginKind::H1 => h1(stream).await,
                OriginKind::H2 => h2(stream).await,
            };
        });
    }
}

async fn upgrade(mut stream: TcpStream, mode: Mode, shared: &Shared) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // A proxy sends nothing behind the head before it has the answer, so what is read is the head.
        let mut block = [0_u8; 2048];
        let read = stream.read(&mut block).await?;
        anyhow::ensure!(read > 0 && head.len() < 16_384, "no head");
        head.extend_from_slice(block.get(..read).unwrap_or_default());
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(&head)
    );
    stream.write_all(answer.as_bytes()).await?;
    tunnel(stream, mode, shared).await
}

/// RFC 6455 section 4.2.2: what proves that the key was read. Some proxies make the key and check this.
fn accept(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let text = key.unwrap_or_default() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

async fn tunnel(mut stream: TcpStream, mode: Mode, shared: &Shared) -> Result<()> {
    match mode {
        Mode::Sink => {
            sink(&stream, shared).await?;
            stream.shutdown().await?;
        }
        Mode::Source => source(&mut stream).await?,
        Mode::Echo => {
            let mut buffer = [0_u8; 1024];
            loop {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    break;
                }
                stream.write_all(buffer.get(..read).unwrap_or_default()).await?;
            }
            stream.shutdown().await?;
        }
        Mode::EchoOnce | Mode::EchoUntilEndAll => {
            let mut buffer = [0_u8; MESSAGE];
            stream.read_exact(&mut buffer).await?;
            stream.write_all(&buffer).await?;
            if mode == Mode::EchoUntilEndAll {
                shared.end_all.notified().await;
            }
            stream.shutdown().await?;
            // Lets the other side end too, else what it sends meets a reset.
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
        }
    }
    Ok(())
}

/// Discards what comes, in the kernel (`MSG_TRUNC`), and counts it.
pub async fn sink(stream: &TcpStream, shared: &Shared) -> Result<()> {
    let mut block = vec![0_u8; 1 << 20];
    loop {
        stream.readable().await?;
        let read = stream.try_io(Interest::READABLE, || {
            let (read, _) = rustix::net::recv(stream, &mut block[..], rustix::net::RecvFlags::TRUNC)?;
            Ok(read)
        });
        match read {
            Ok(0) => return Ok(()),
            Ok(read) => {
                shared.bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends until the other side has enough.
pub async fn source(stream: &mut TcpStream) -> Result<()> {
    let block = vec![b'x'; BLOCK];
    loop {
        stream.write_all(&block).await?;
    }
}

/// Answers requests without a body.
async fn h1(mut stream: TcpStream) -> Result<()> {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    let mut buffer = vec![0_u8; 16 << 10];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).context("the head is too long")?).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let have = buffer.get(..filled).unwrap_or_default();
        if have.ends_with(b"\r\n\r\n") {
            let requests = have.windows(4).filter(|four| *four == b"\r\n\r\n").count();
            filled = 0;
            if requests == 1 {
                stream.write_all(answer.as_bytes()).await?;
            } else {
                stream.write_all(answer.repeat(requests).as_bytes()).await?;
            }
        }
    }
}

/// Answers requests on every stream.
async fn h2(stream: TcpStream) -> Result<()> {
    let mut connection = h2::server::Builder::new().max_concurrent_streams(1024).handshake::<_, Bytes>(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let response = http::Response::builder().header("content-type", "text/plain").body(())?;
        let mut body = respond.send_response(response, false)?;
        body.send_data(Bytes::from_static(BODY.as_bytes()), true)?;
    }
    Ok(())
}
