//! Peers on real sockets that do what a script says.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::{Check, Payload};

/// How long a peer waits for anything before the test fails: 30 s. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a stream ended for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Fin,
    /// RST.
    Rst,
}

/// A raw TCP peer. Each wait is bounded by [`PATIENCE`].
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Over a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream }
    }

    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(within(TcpStream::connect(address)).await.expect("connect"))
    }

    /// Accepts one connection.
    pub async fn accept(listener: &TcpListener) -> Self {
        Self::new(within(listener.accept()).await.expect("accept").0)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket itself, for a test that goes on by hand.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends all of `bytes`.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.expect("send");
    }

    /// Sends as much as goes, until nothing moves for `quiet`; how much that was.
    pub async fn send_until_blocked(&mut self, payload: &mut Payload, quiet: Duration) -> u64 {
        // One look after `quiet` would show nothing where the machine stood still meanwhile.
        const LOOKS: u32 = 5;
        let mut blocked = 0;
        let mut sent = 0;
        let mut chunk = payload.take(64 << 10);
        loop {
            match tokio::time::timeout(quiet / LOOKS, self.stream.write(&chunk)).await {
                Ok(written) => {
                    blocked = 0;
                    let written = written.expect("send");
                    sent += written as u64;
                    chunk = chunk.slice(written..);
                    if chunk.is_empty() {
                        chunk = payload.take(64 << 10);
                    }
                }
                Err(_) if blocked + 1 == LOOKS => return sent,
                Err(_) => blocked += 1,
            }
        }
    }

    /// Receives exactly `bytes`.
    pub async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let got = self.receive(bytes.len()).await;
        assert!(got == bytes, "expected {:?}, got {:?}", Text(bytes), Text(&got));
    }

    /// Receives exactly `len` bytes.
    pub async fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut got = vec![0; len];
        within(self.stream.read_exact(&mut got)).await.expect("receive");
        got
    }

    /// Receives up to and including `end`, such as the blank line behind a head.
    pub async fn receive_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        while !got.ends_with(end) {
            match within(self.stream.read_u8()).await {
                Ok(byte) => got.push(byte),
                Err(error) => panic!("{error} after {:?}", Text(&got)),
            }
        }
        got
    }

    /// Receives whatever comes first; empty at the end.
    pub async fn receive_some(&mut self) -> io::Result<Vec<u8>> {
        let mut got = vec![0; 64 << 10];
        let n = within(self.stream.read(&mut got)).await?;
        got.truncate(n);
        Ok(got)
    }

    /// Receives everything to the end, and how that came.
    pub async fn receive_to_end(&mut self) -> (Vec<u8>, End) {
        let mut got = Vec::new();
        loop {
            match self.receive_some().await {
                Ok(bytes) if bytes.is_empty() => return (got, End::Fin),
                Ok(bytes) => got.extend(bytes),
                Err(error) if is_reset(&error) => return (got, End::Rst),
                Err(error) => panic!("{error} after {} bytes", got.len()),
            }
        }
    }

    /// Compares everything up to the end with the payload of `seed`: how many bytes, and how they ended.
    pub async fn check_to_end(&mut self, seed: u64) -> (u64, End) {
        check_to_end(&mut self.stream, seed).await
    }

    /// Expects the end of the stream, without another byte.
    pub async fn expect_fin(&mut self) {
        let (got, end) = self.receive_to_end().await;
        assert!(got.is_empty() && end == End::Fin, "expected FIN, got {end:?} after {:?}", Text(&got));
    }

    /// Expects a reset; bytes before it do not matter.
    pub async fn expect_rst(&mut self) {
        let (got, end) = self.receive_to_end().await;
        assert!(end == End::Rst, "expected RST, got {end:?} after {:?}", Text(&got));
    }

    /// Expects that nothing comes for `time`.
    pub async fn expect_silence(&mut self, time: Duration) {
        let mut buffer = [0; 64];
        if let Ok(result) = tokio::time::timeout(time, self.stream.read(&mut buffer)).await {
            panic!("expected nothing, got {result:?}");
        }
    }

    /// Sends a FIN; the other direction stays open.
    pub async fn half_close(&mut self) {
        within(self.stream.shutdown()).await.expect("shutdown");
    }

    /// Expects that a reset came, or comes once something is sent: for a direction that had ended before it.
    pub async fn expect_broken(&mut self) {
        let broken = async {
            while self.stream.write_all(b"?").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within(broken).await;
    }

    /// The two directions, for a test that uses both at once.
    pub fn split(&mut self) -> (PeerReader<'_>, PeerWriter<'_>) {
        let (reader, writer) = self.stream.split();
        (PeerReader(reader), PeerWriter(writer))
    }

    /// The same peer on the runtime of the caller: a socket belongs to the reactor that it was made on.
    pub fn rehome(self) -> Self {
        let stream = self.stream.into_std().expect("socket");
        Self { stream: TcpStream::from_std(stream).expect("socket") }
    }

    /// Closes so that the other side sees an RST.
    pub fn rst(self) {
        self.stream.set_zero_linger().expect("linger");
    }
}

/// The receiving direction of a [`Peer`].
#[derive(Debug)]
pub struct PeerReader<'a>(ReadHalf<'a>);

impl PeerReader<'_> {
    /// As [`Peer::check_to_end`].
    pub async fn check_to_end(&mut self, seed: u64) -> (u64, End) {
        check_to_end(&mut self.0, seed).await
    }
}

/// The sending direction of a [`Peer`].
#[derive(Debug)]
pub struct PeerWriter<'a>(WriteHalf<'a>);

impl PeerWriter<'_> {
    /// Sends all of `bytes`.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.0.write_all(bytes.as_ref())).await.expect("send");
    }

    /// Sends `len` bytes of the payload of `seed` in pieces of very different sizes, then a FIN.
    pub async fn send_in_pieces(&mut self, seed: u64, len: u64) {
        let mut payload = Payload::new(seed);
        let mut sizes = Payload::new(!seed);
        while payload.position() < len {
            let mut draw = [0; 4];
            sizes.fill(&mut draw);
            let size = u64::from(u32::from_le_bytes(draw) >> (12 + draw[0] % 20)).max(1);
            let piece = payload.take(size.min(len - payload.position()) as usize);
            self.send(&piece).await;
        }
        self.half_close().await;
    }

    /// Sends a FIN.
    pub async fn half_close(&mut self) {
        within(self.0.shutdown()).await.expect("shutdown");
    }
}

async fn check_to_end(stream: &mut (impl AsyncRead + Unpin), seed: u64) -> (u64, End) {
    let mut check = Check::new(seed);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match within(stream.read(&mut buffer)).await {
            Ok(0) => return (check.position(), End::Fin),
            Ok(n) => check.eat(&buffer[..n]),
            Err(error) if is_reset(&error) => return (check.position(), End::Rst),
            Err(error) => panic!("{error} after {} bytes", check.position()),
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

/// Two connected sockets on loopback: the connecting and the accepted end.
pub async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (connected, accepted) = (connected.expect("connect"), accepted.expect("accept").0);
    for stream in [&connected, &accepted] {
        stream.set_nodelay(true).expect("nodelay");
    }
    (connected, accepted)
}

/// A port of loopback that nobody had a moment ago. Bind port 0 wherever that is possible instead.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

/// Waits for `future` for [`PATIENCE`], then fails the test.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing happened in {PATIENCE:?}"),
    }
}

/// Waits until `condition` holds, for [`PATIENCE`], then fails the test with `what`.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until `read` gives `wanted`, for [`PATIENCE`], then fails the test with `name`, what was read last and `wanted`.
///
/// For whatever another thread or task keeps: that a peer saw an answer, a FIN or a reset does not mean that the one who
/// sent it has counted it.
pub async fn expect_value<T: PartialEq + std::fmt::Debug>(name: &str, wanted: T, mut read: impl FnMut() -> T) {
    let start = tokio::time::Instant::now();
    loop {
        let last = read();
        if last == wanted {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{name} is {last:?}, not {wanted:?}, after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Bytes as text where they are text, cut after a few hundred.
struct Text<'a>(&'a [u8]);

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.0[..self.0.len().min(400)];
        write!(f, "\"{}\" ({} bytes)", shown.escape_ascii(), self.0.len())
    }
}
