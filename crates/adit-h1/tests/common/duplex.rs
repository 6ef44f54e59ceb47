//! A transport in memory: two bounded pipes, a half-close each, and resets that are seen as such.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use adit_io::{Address, ByteSink, ByteSource, ConnInfo, Io, Stream, Transport, transport_halves};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: bool,
    reset: bool,
    wakers: Vec<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

struct End {
    input: Arc<Mutex<Pipe>>,
    output: Arc<Mutex<Pipe>>,
    capacity: usize,
}

/// Two ends; each direction holds `capacity` bytes.
pub fn pair(capacity: usize) -> (Io, Io) {
    let (a, b) = (Arc::new(Mutex::new(Pipe::default())), Arc::new(Mutex::new(Pipe::default())));
    let io = |input: &Arc<Mutex<Pipe>>, output: &Arc<Mutex<Pipe>>| {
        let end = End { input: input.clone(), output: output.clone(), capacity };
        let info = ConnInfo::new(1, Address::internal_client(), Address::internal_client());
        Io::new(Stream::Other(Box::new(end)), Arc::new(info))
    };
    (io(&a, &b), io(&b, &a))
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.input.lock().unwrap();
        if pipe.reset {
            return Poll::Ready(Err(reset()));
        }
        if pipe.bytes.is_empty() && !pipe.ended {
            pipe.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let n = buf.remaining().min(pipe.bytes.len());
        let bytes: Vec<u8> = pipe.bytes.drain(..n).collect();
        buf.put_slice(&bytes);
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.output.lock().unwrap();
        if pipe.reset {
            return Poll::Ready(Err(reset()));
        }
        let n = data.len().min(self.capacity - pipe.bytes.len());
        if n == 0 && !data.is_empty() {
            pipe.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes.extend(data[..n].iter());
        pipe.wake();
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.output.lock().unwrap();
        pipe.ended = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Transport for End {
    fn abort(&mut self) {
        for pipe in [&self.input, &self.output] {
            let mut pipe = pipe.lock().unwrap();
            pipe.reset = true;
            pipe.wake();
        }
    }

    fn into_halves(self: Box<Self>) -> (Box<dyn ByteSource>, Box<dyn ByteSink>) {
        transport_halves(*self)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // As a socket: what the peer writes from here on fails; what it was sent stays readable if it was ended.
        let mut input = self.input.lock().unwrap();
        input.reset = true;
        input.wake();
        drop(input);
        let mut output = self.output.lock().unwrap();
        output.reset |= !output.ended;
        output.wake();
    }
}
