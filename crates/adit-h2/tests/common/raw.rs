//! A peer that writes whatever frames it is told to (RFC 9113 section 4), with HPACK literals only (RFC 7541).

use super::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

fn length(out: &mut Vec<u8>, mut n: usize) {
    if n < 127 {
        return out.push(n as u8);
    }
    out.push(127);
    n -= 127;
    while n >= 128 {
        out.push((n % 128) as u8 | 128);
        n /= 128;
    }
    out.push(n as u8);
}

/// Literals without indexing.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        length(&mut out, name.len());
        out.extend(name.as_bytes());
        length(&mut out, value.len());
        out.extend(value.as_bytes());
    }
    out
}

pub const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

pub fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block(fields))
}

pub struct Raw {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// A client that has sent its preface and an empty SETTINGS frame.
    pub async fn client(socket: TcpStream) -> Self {
        Self::client_with(socket, &[]).await
    }

    pub async fn client_with(mut socket: TcpStream, settings: &[(u16, u32)]) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut raw = Self { socket, buffer: Vec::new() };
        raw.send(&Self::settings(settings)).await;
        raw
    }

    /// A server: reads the preface, sends SETTINGS.
    pub async fn server(mut socket: TcpStream, settings: &[(u16, u32)]) -> Self {
        socket.set_nodelay(true).unwrap();
        let mut preface = [0; 24];
        socket.read_exact(&mut preface).await.unwrap();
        let mut raw = Self { socket, buffer: Vec::new() };
        raw.send(&Self::settings(settings)).await;
        raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
        raw
    }

    fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        frame(SETTINGS, 0, 0, &payload)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Sends as far as the peer lets us: a peer that has had enough closes.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        tokio::time::timeout(PATIENCE, self.socket.write_all(bytes)).await.is_ok_and(|result| result.is_ok())
    }

    /// The next frame; `None` at the end of the connection, however it ends.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.buffer.len() >= 9 {
                let len = u32::from_be_bytes([0, self.buffer[0], self.buffer[1], self.buffer[2]]) as usize;
                if self.buffer.len() >= 9 + len {
                    let frame = Frame {
                        kind: self.buffer[3],
                        flags: self.buffer[4],
                        stream: u32::from_be_bytes(self.buffer[5..9].try_into().unwrap()) & 0x7fff_ffff,
                        payload: self.buffer[9..9 + len].to_vec(),
                    };
                    self.buffer.drain(..9 + len);
                    return Some(frame);
                }
            }
            let mut piece = vec![0; 64 << 10];
            match tokio::time::timeout(PATIENCE, self.socket.read(&mut piece)).await {
                Ok(Ok(n)) if n > 0 => self.buffer.extend(&piece[..n]),
                Ok(_) => return None,
                Err(_) => panic!("no frame comes"),
            }
        }
    }

    /// The next frame of this kind, others skipped.
    pub async fn expect(&mut self, kind: u8) -> Frame {
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind && !(kind == SETTINGS && frame.flags & ACK != 0) => return frame,
                Some(frame) if frame.kind == GOAWAY && kind != GOAWAY => panic!("GOAWAY {}", frame.code()),
                Some(_) => {}
                None => panic!("the connection ended before a frame of type {kind}"),
            }
        }
    }

    pub async fn socket_write(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    pub async fn expect_goaway(&mut self, code: u32) {
        assert_eq!(self.expect(GOAWAY).await.code(), code);
    }

    /// The first of RST_STREAM for this stream, its response, or the end of the connection: `rst:1`, `:status`-less
    /// `headers`, `goaway:1`, `closed`.
    pub async fn outcome(&mut self, stream: u32) -> String {
        loop {
            match self.next().await {
                None => return "closed".into(),
                Some(frame) if frame.kind == RST_STREAM && frame.stream == stream => {
                    return format!("rst:{}", frame.code());
                }
                Some(frame) if frame.kind == HEADERS && frame.stream == stream => return "headers".into(),
                Some(frame) if frame.kind == GOAWAY => return format!("goaway:{}", frame.code()),
                Some(_) => {}
            }
        }
    }
}
