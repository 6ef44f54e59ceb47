//! Two peers with a relay between them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use adit_http::{ErrorCode, StreamError};
use adit_io::{
    Address, ByteSink, ByteSource, ConnInfo, Direction, Io, RelayObserver, RelayOptions, Side, Summary, Transport,
    relay, transport_halves,
};
use adit_testkit::{Peer, tcp_pair, within};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Which lane the relay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Socket to socket: copying, then splicing.
    Plain,
    /// Chunks from halves of a socket that do not show it.
    Chunks,
    /// Chunks from halves that share a transport.
    Shared,
}

pub const ALL: [Via; 3] = [Via::Plain, Via::Chunks, Via::Shared];

pub struct Rig {
    pub down: Peer,
    pub up: Peer,
    relay: JoinHandle<Summary>,
}

impl Rig {
    pub async fn new(via: Via, options: RelayOptions) -> Self {
        let (down, down_inner) = tcp_pair().await;
        let (up_inner, up) = tcp_pair().await;
        Self::over(via, options, (down, down_inner), (up_inner, up))
    }

    /// With small kernel buffers, so that a blocked reader shows soon.
    pub async fn small(via: Via, options: RelayOptions) -> Self {
        let (down, down_inner) = tcp_pair().await;
        let (up_inner, up) = tcp_pair().await;
        for socket in [&down, &down_inner, &up_inner, &up] {
            let socket = socket2::SockRef::from(socket);
            socket.set_send_buffer_size(64 << 10).unwrap();
            socket.set_recv_buffer_size(64 << 10).unwrap();
        }
        Self::over(via, options, (down, down_inner), (up_inner, up))
    }

    fn over(via: Via, options: RelayOptions, down: (TcpStream, TcpStream), up: (TcpStream, TcpStream)) -> Self {
        let relay = tokio::spawn(relay(side(via, down.1), side(via, up.0), options));
        Self { down: Peer::new(down.0), up: Peer::new(up.1), relay }
    }

    pub async fn summary(self) -> Summary {
        within(self.relay).await.unwrap()
    }

    pub fn split(self) -> (Peer, Peer, JoinHandle<Summary>) {
        (self.down, self.up, self.relay)
    }

    /// Moves `len` bytes from down to up, enough to make the plain lane splice.
    pub async fn warm_up(&mut self, len: usize) {
        let bytes = adit_testkit::Payload::all(1, len);
        let ((), got) = tokio::join!(self.down.send(&bytes), self.up.receive(len));
        assert!(got == bytes);
    }
}

pub fn side(via: Via, socket: TcpStream) -> Side {
    let address: Address = socket.local_addr().unwrap().into();
    let info = Arc::new(ConnInfo::new(ConnInfo::next_id(), address.clone(), address));
    match via {
        Via::Plain => Io::tcp(socket, info).into(),
        Via::Chunks => {
            let (source, sink) = Io::tcp(socket, info).into_halves();
            Side::new(Box::new(Hidden(source)), Box::new(Hidden(sink)))
        }
        Via::Shared => {
            let (source, sink) = transport_halves(Joint(socket));
            Side::new(source, sink)
        }
    }
}

/// A half that does not show its socket.
struct Hidden<T>(T);

impl ByteSource for Hidden<Box<dyn ByteSource>> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        self.0.poll_chunk(cx, max)
    }

    fn stop(&mut self, code: ErrorCode) {
        self.0.stop(code);
    }
}

impl ByteSink for Hidden<Box<dyn ByteSink>> {
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
}

/// A socket as a transport of one piece.
struct Joint(TcpStream);

impl Transport for Joint {
    fn abort(&mut self) {
        self.0.set_zero_linger().unwrap();
    }

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        transport_halves(*self)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Enough for tests: asks again soon.
        if self.0.take_error().unwrap().is_some() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            waker.wake();
        });
        Poll::Pending
    }
}

impl AsyncRead for Joint {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Joint {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Counts what a relay reports.
#[derive(Debug, Default)]
pub struct Counts {
    pub bytes: [AtomicU64; 2],
    pub paused: [AtomicU64; 2],
    pub resumed: [AtomicU64; 2],
}

impl RelayObserver for Counts {
    fn on_bytes(&self, direction: Direction, bytes: u64) {
        self.bytes[direction as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    fn on_paused(&self, direction: Direction) {
        self.paused[direction as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn on_resumed(&self, direction: Direction) {
        self.resumed[direction as usize].fetch_add(1, Ordering::Relaxed);
    }
}
