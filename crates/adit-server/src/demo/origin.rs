//! A small origin: it greets over HTTP, and over a WebSocket greets and then echoes.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use adit_codec::{IncomingStream, SendStream, ServerConn};
use adit_http::{RequestKind, ResponseHead, StreamError, websocket};
use adit_io::{Address, ConnInfo, Io};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use tokio::net::TcpListener;

/// Frames larger than this end a WebSocket (RFC 6455 section 7.4.1, 1009).
const MAX_FRAME: usize = 64 << 10;

/// Serves connections until the listener fails; `spawn` owns them.
pub(crate) async fn serve(listener: TcpListener, spawn: adit_runtime::Spawner) -> io::Result<()> {
    loop {
        let (socket, remote) = listener.accept().await?;
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr()?;
        let info = ConnInfo::new(ConnInfo::next_id(), Address::Ip(local), Address::Ip(remote));
        let io = Io::tcp(socket, Arc::new(info));
        drop(spawn.spawn(async move { connection(io).await }));
    }
}

async fn connection(io: Io) {
    let mut conn = adit_h1::server(io, Arc::default());
    while let Some(Ok(incoming)) = poll_fn(|cx| conn.poll_accept(cx)).await {
        // A client that fails ends its own exchange only.
        let _ = exchange(incoming).await;
    }
}

async fn exchange(incoming: IncomingStream) -> Result<(), StreamError> {
    if matches!(&incoming.head.kind, RequestKind::Upgrade(token) if token.is_websocket()) {
        return echo(incoming).await;
    }
    let path = incoming.head.path_only();
    let text = format!("Hello from the origin: {} {path}\n", incoming.head.method);
    let mut head = ResponseHead::new(StatusCode::OK);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    let mut recv = incoming.recv;
    while let Some(chunk) = poll_fn(|cx| recv.poll_chunk(cx, 16 << 10)).await {
        chunk?;
    }
    let mut send = incoming.responder.respond(head, false)?;
    transmit(&mut *send, Bytes::from(text), true).await
}

async fn transmit(send: &mut dyn SendStream, mut data: Bytes, end: bool) -> Result<(), StreamError> {
    poll_fn(|cx| send.poll_send(cx, &mut data, end)).await?;
    poll_fn(|cx| send.poll_flush(cx)).await
}

async fn echo(incoming: IncomingStream) -> Result<(), StreamError> {
    let key = incoming.head.headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&websocket::accept_for(&key.unwrap_or_default())) {
        head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let mut send = incoming.responder.respond(head, false)?;
    transmit(&mut *send, frame(0x1, b"Hello from the origin, over a WebSocket\n"), false).await?;
    let mut recv = incoming.recv;
    let mut seen = BytesMut::new();
    while let Some(chunk) = poll_fn(|cx| recv.poll_chunk(cx, 16 << 10)).await {
        seen.extend_from_slice(&chunk?);
        loop {
            match take_frame(&mut seen) {
                Taken::More => break,
                Taken::Frame(0x8, payload) => return transmit(&mut *send, frame(0x8, &payload), true).await,
                Taken::Frame(0x9, payload) => transmit(&mut *send, frame(0xa, &payload), false).await?,
                Taken::Frame(0xa, _) => {}
                Taken::Frame(opcode, payload) => transmit(&mut *send, frame(opcode, &payload), false).await?,
                Taken::Refused => return transmit(&mut *send, frame(0x8, &1009u16.to_be_bytes()), true).await,
            }
        }
    }
    transmit(&mut *send, frame(0x8, &[]), true).await
}

enum Taken {
    More,
    Frame(u8, Vec<u8>),
    Refused,
}

/// Takes one masked frame off the front (RFC 6455 section 5.2).
fn take_frame(seen: &mut BytesMut) -> Taken {
    let mut view = &seen[..];
    if view.len() < 2 {
        return Taken::More;
    }
    let opcode = view.get_u8() & 0x0f;
    let second = view.get_u8();
    if second & 0x80 == 0 {
        return Taken::Refused;
    }
    let length = match second & 0x7f {
        126 if view.len() < 2 => return Taken::More,
        126 => usize::from(view.get_u16()),
        127 => return Taken::Refused,
        small => usize::from(small),
    };
    if length > MAX_FRAME {
        return Taken::Refused;
    }
    if view.len() < 4 + length {
        return Taken::More;
    }
    let mask = view.get_u32().to_be_bytes();
    let payload: Vec<u8> = view.iter().take(length).zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let used = seen.len() - view.len() + length;
    seen.advance(used);
    Taken::Frame(opcode, payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 4);
    out.push(0x80 | opcode);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(length),
        _ => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_frames_come_apart_at_every_split() {
        let whole = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
        for split in 0..whole.len() {
            let mut seen = BytesMut::from(&whole[..split]);
            assert!(matches!(take_frame(&mut seen), Taken::More), "{split}");
            seen.extend_from_slice(&whole[split..]);
            assert!(matches!(take_frame(&mut seen), Taken::Frame(1, payload) if payload == b"hi"));
            assert!(seen.is_empty());
        }
    }

    #[test]
    fn unmasked_and_huge_frames_are_refused() {
        assert!(matches!(take_frame(&mut BytesMut::from(&[0x81, 0x02, 1, 2][..])), Taken::Refused));
        assert!(matches!(take_frame(&mut BytesMut::from(&[0x81, 0xff, 0, 0][..])), Taken::Refused));
    }
}
