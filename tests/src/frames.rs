//! A peer that writes whatever HTTP/2 frames it is told to (RFC 9113 section 4), with HPACK literals only (RFC 7541).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::peer::Peer;

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

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload.get(at..at + 4).map_or(u32::MAX, |code| u32::from_be_bytes(code.try_into().expect("four bytes")))
    }

    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status of a response's HEADERS, which both `h2` and adit write first. Dynamic table entries are not followed:
    /// say SETTINGS_HEADER_TABLE_SIZE 0.
    pub fn status(&self) -> Option<u16> {
        let mut block = &self.payload[..];
        // Dynamic table size updates.
        while let Some((first, rest)) = block.split_first()
            && first & 0xe0 == 0x20
        {
            block = rest;
        }
        let (first, rest) = block.split_first()?;
        if first & 0x80 != 0 {
            return [200, 204, 206, 304, 400, 404, 500].get(usize::from(first & 0x7f).checked_sub(8)?).copied();
        }
        let (length, value) = rest.split_first()?;
        let value = value.get(..usize::from(length & 0x7f))?;
        if length & 0x80 == 0 {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
        huffman_digits(value).parse().ok()
    }
}

/// Digits only: 0 to 2 have five bits, 3 to 9 six (RFC 7541 appendix B).
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut text) = (0, String::new());
    let number = |range: &[u8]| range.iter().fold(0u8, |sum, bit| sum << 1 | bit);
    while let Some(five) = bits.get(at..at + 5) {
        if number(five) <= 2 {
            text.push(char::from(b'0' + number(five)));
            at += 5;
            continue;
        }
        let Some(six) = bits.get(at..at + 6).map(number).filter(|six| (0x19..=0x1f).contains(six)) else { break };
        text.push(char::from(b'3' + six - 0x19));
        at += 6;
    }
    text
}

/// One frame's bytes.
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

/// A header block of literals without indexing, bytes as given.
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

pub fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block(fields))
}

pub fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, if end { END_STREAM } else { 0 }, stream, payload)
}

pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        entries.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// The pseudo-header fields of a GET.
pub fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
}

/// Those of a CONNECT.
pub const CONNECT: &[(&str, &str)] = &[(":method", "CONNECT"), (":authority", "h.example:443")];

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    /// The connection ended.
    Closed,
}

/// One side of an HTTP/2 connection, in frames. Answers SETTINGS; nothing else by itself.
pub struct H2 {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

impl H2 {
    /// A client that has sent its preface, and SETTINGS that turn the dynamic table off.
    pub fn connect(port: u16) -> Self {
        Self::connect_with(port, &[])
    }

    /// The same with more settings.
    pub fn connect_with(port: u16, entries: &[(u16, u32)]) -> Self {
        let socket = Peer::connect(port).0;
        let mut client = Self { socket, buffer: Vec::new() };
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(settings(&[&[(1, 0)], entries].concat()));
        client
    }

    /// A server: reads the client's preface, sends SETTINGS.
    pub fn accept(socket: TcpStream, entries: &[(u16, u32)]) -> Self {
        let mut server = Self::accept_silent(socket);
        server.send(settings(&[&[(1, 0)], entries].concat()));
        server
    }

    /// A server that reads the client's preface and says nothing.
    pub fn accept_silent(socket: TcpStream) -> Self {
        let mut peer = Peer::from(socket);
        peer.expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self { socket: peer.0, buffer: Vec::new() }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends as far as the peer lets us: one that has had enough closes, or reads no more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).is_ok()
    }

    /// The next frame; `None` at the end of the connection, however it ends.
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "it waits and panics")]
    pub fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE).unwrap_or_else(|()| panic!("no frame comes"))
    }

    /// The next frame; an error when none comes in time.
    #[allow(clippy::result_unit_err, reason = "there is nothing to say but that time is over")]
    pub fn next_within(&mut self, time: Duration) -> Result<Option<Frame>, ()> {
        let end = Instant::now() + time;
        loop {
            if let Some(frame) = self.take() {
                if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                    let _ = self.socket.write_all(&crate::frames::frame(SETTINGS, ACK, 0, &[]));
                }
                return Ok(Some(frame));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(());
            }
            self.socket.set_read_timeout(Some(left)).expect("a timeout");
            let mut piece = [0; 65536];
            match self.socket.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(n) => self.buffer.extend(&piece[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(()),
                Err(_) => return Ok(None),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..9].try_into().expect("four bytes")) & 0x7fff_ffff,
            payload: self.buffer.get(9..9 + len)?.to_vec(),
        };
        self.buffer.drain(..9 + len);
        Some(frame)
    }

    /// The next frame of this kind on this stream, others skipped.
    #[track_caller]
    pub fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            match self.next() {
                Some(frame)
                    if frame.kind == kind
                        && frame.stream == stream
                        && !(kind == SETTINGS && frame.flags & ACK != 0) =>
                {
                    return frame;
                }
                Some(frame) if frame.kind == GOAWAY && kind != GOAWAY => panic!("GOAWAY {}", frame.code()),
                Some(_) => {}
                None => panic!("the connection ended before a frame of type {kind}"),
            }
        }
    }

    /// The final answer to a stream, or what came in its stead.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            match self.next() {
                None => return Outcome::Closed,
                Some(frame) if frame.kind == RST_STREAM && frame.stream == stream => {
                    return Outcome::Reset(frame.code());
                }
                Some(frame) if frame.kind == HEADERS && frame.stream == stream => match frame.status() {
                    Some(status) if status < 200 => {}
                    Some(status) => return Outcome::Status(status),
                    None => panic!("no status: {frame:?}"),
                },
                Some(frame) if frame.kind == GOAWAY => return Outcome::GoAway(frame.code()),
                Some(_) => {}
            }
        }
    }

    /// Waits for the end of the connection: the code of the GOAWAY before it, if one came.
    #[track_caller]
    pub fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY && frame.code() != 0 {
                code = Some(frame.code());
            }
        }
        code
    }
}
