//! Opening tunnels as a client, over each transport.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::spec::Transport;

/// Longest wait for a tunnel to open.
const PATIENCE: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection of ours.
const STREAMS: usize = 100;

/// An open tunnel.
pub enum Tunnel {
    /// A TCP connection, all behind whose HTTP exchange is payload.
    Tcp(TcpStream),
    /// A stream.
    H2(SendStream<Bytes>, RecvStream),
}

/// Opens tunnels to one address.
pub struct Dialer {
    transport: Transport,
    to: SocketAddr,
    connections: Vec<SendRequest<Bytes>>,
    next: AtomicUsize,
}

impl Dialer {
    /// Readies what `tunnels` tunnels at once need: HTTP/2 connections are opened now.
    pub async fn new(transport: Transport, to: SocketAddr, tunnels: usize) -> Result<Self> {
        let mut connections = Vec::new();
        if matches!(transport, Transport::H2Connect | Transport::H2Extended) {
            for _ in 0..tunnels.div_ceil(STREAMS) {
                connections.push(h2_connect(to, transport).await?);
            }
        }
        Ok(Self { transport, to, connections, next: AtomicUsize::new(0) })
    }

    /// Opens one.
    pub async fn open(&self) -> Result<Tunnel> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, self.open_number(number)).await.context("opening a tunnel took too long")?
    }

    async fn open_number(&self, number: usize) -> Result<Tunnel> {
        match self.transport {
            Transport::Tcp => Ok(Tunnel::Tcp(connect(self.to, number).await?)),
            Transport::H1Connect => {
                let head = b"CONNECT origin.test:80 HTTP/1.1\r\nHost: origin.test:80\r\n\r\n";
                Ok(Tunnel::Tcp(self.h1(number, head, 200).await?))
            }
            Transport::H1Upgrade => {
                let head = b"GET /chat HTTP/1.1\r\nHost: origin.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
                Ok(Tunnel::Tcp(self.h1(number, head, 101).await?))
            }
            Transport::H2Connect | Transport::H2Extended => self.h2(number).await,
            Transport::Wrk | Transport::H2load => bail!("requests are not tunnels"),
        }
    }

    async fn h1(&self, number: usize, head: &[u8], expected: u16) -> Result<TcpStream> {
        let mut stream = connect(self.to, number).await?;
        stream.write_all(head).await?;
        let mut answer = [0_u8; 2048];
        let mut filled = 0;
        // The origin says nothing unasked, so nothing can stand behind the head but in a source's cells, where bytes
        // are only counted.
        while !answer.get(..filled).is_some_and(|read| read.windows(4).any(|four| four == b"\r\n\r\n")) {
            let room = answer.get_mut(filled..).context("the answer's head is too long")?;
            let read = stream.read(room).await?;
            if read == 0 {
                bail!("closed before the answer");
            }
            filled += read;
        }
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
        if status != Some(expected) {
            bail!("answered {status:?}, not {expected}");
        }
        Ok(stream)
    }

    async fn h2(&self, number: usize) -> Result<Tunnel> {
        let connection = self.connections.get(number % self.connections.len().max(1)).context("no connection")?;
        let mut connection = connection.clone().ready().await?;
        let request = http::Request::builder();
        let request = if self.transport == Transport::H2Connect {
            request.method("CONNECT").uri("origin.test:80").body(())?
        } else {
            let mut request = request.method("CONNECT").uri("http://origin.test/chat").body(())?;
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            request.headers_mut().insert("sec-websocket-version", http::HeaderValue::from_static("13"));
            request
        };
        let (response, send) = connection.send_request(request, false)?;
        let response = response.await?;
        if response.status() != 200 {
            bail!("answered {}", response.status());
        }
        Ok(Tunnel::H2(send, response.into_body()))
    }
}

async fn h2_connect(to: SocketAddr, transport: Transport) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(256 << 10)
        .max_send_buffer_size(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await?;
    tokio::spawn(async move {
        // Its streams tell of its end.
        let _ = connection.await;
    });
    let mut send = send.ready().await?;
    for _ in 0..200 {
        if transport != Transport::H2Extended || send.is_extended_connect_protocol_enabled() {
            return Ok(send);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        send = send.ready().await?;
    }
    bail!("extended CONNECT is not offered")
}

/// Connects from one of several loopback addresses, so that many short connections do not use up the ports of one.
async fn connect(to: SocketAddr, number: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    if to.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let last = u8::try_from(number % 16).unwrap_or(0) + 2;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    }
    Ok(socket.connect(to).await?)
}

impl Tunnel {
    /// Sends bytes whole.
    pub async fn send(&mut self, data: Bytes) -> Result<()> {
        match self {
            Tunnel::Tcp(stream) => Ok(stream.write_all(&data).await?),
            Tunnel::H2(send, _) => h2_send(send, data).await,
        }
    }

    /// Receives exactly as many bytes as the buffer holds.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self {
            Tunnel::Tcp(stream) => {
                stream.read_exact(buffer).await?;
            }
            Tunnel::H2(_, recv) => {
                let mut filled = 0;
                while filled < buffer.len() {
                    let data = recv.data().await.context("ended early")??;
                    recv.flow_control().release_capacity(data.len())?;
                    let room = buffer.get_mut(filled..filled + data.len()).context("more than was sent")?;
                    room.copy_from_slice(&data);
                    filled += data.len();
                }
            }
        }
        Ok(())
    }

    /// Ends the way there.
    pub async fn end(&mut self) -> Result<()> {
        match self {
            Tunnel::Tcp(stream) => Ok(stream.shutdown().await?),
            Tunnel::H2(send, _) => Ok(send.send_data(Bytes::new(), true)?),
        }
    }

    /// Waits for the end of the way back.
    pub async fn ended(&mut self) -> Result<()> {
        match self {
            Tunnel::Tcp(stream) => {
                let mut one = [0_u8; 1];
                if stream.read(&mut one).await? != 0 {
                    bail!("bytes in place of an end");
                }
            }
            Tunnel::H2(_, recv) => {
                while let Some(data) = recv.data().await {
                    if !data?.is_empty() {
                        bail!("bytes in place of an end");
                    }
                }
            }
        }
        Ok(())
    }
}

/// Sends as the windows allow.
pub async fn h2_send(send: &mut SendStream<Bytes>, mut data: Bytes) -> Result<()> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.context("the stream is gone")??;
        let part = data.split_to(room.min(data.len()));
        send.send_data(part, false)?;
    }
    Ok(())
}
