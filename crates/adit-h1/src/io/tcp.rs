//! Plain TCP: system calls with readiness, and nothing else.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, Shutdown, recv, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads once, by what is given. A short read means that the socket is drained (it is watched edge-triggered), so the next
/// call waits instead of asking the kernel again.
pub(super) fn poll_once(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    capacity: usize,
    mut read: impl FnMut() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let mut got = None;
        let result = socket.try_io(Interest::READABLE, || {
            let n = read()?;
            got = Some(n);
            if n > 0 && n < capacity { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (got, result) {
            (Some(n), _) => return Poll::Ready(Ok(n)),
            (None, Err(error)) if !is_again(&error) => return Poll::Ready(Err(error)),
            (None, _) => {}
        }
    }
}

pub(super) fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether the socket has told of something to read that was not read yet. Asks neither the kernel nor to be woken.
pub(super) fn is_readable(socket: &TcpStream) -> bool {
    socket.try_io(Interest::READABLE, || Ok(())).is_ok()
}

/// One system call.
pub(super) fn read(socket: &TcpStream, buf: &mut [u8]) -> rustix::io::Result<usize> {
    Ok(recv(socket, buf, RecvFlags::empty())?.0)
}

/// Reads into the spare capacity of `block`.
pub(super) fn poll_read_spare(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    block: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let capacity = block.capacity() - block.len();
    poll_once(socket, cx, capacity, || Ok(recv(socket, rustix::buffer::spare_capacity(block), RecvFlags::empty())?.0))
}

pub(super) fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let result = match pieces {
            [one] => socket.try_write(one),
            many => socket.try_write_vectored(many),
        };
        match result {
            Err(error) if is_again(&error) => {}
            result => return Poll::Ready(result),
        }
    }
}

/// FIN. A peer that is gone already is no error: there is nobody left to tell.
pub(super) fn shutdown_write(socket: &TcpStream) -> io::Result<()> {
    match rustix::net::shutdown(socket, Shutdown::Write) {
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the close of the socket, once its last owner drops it, an RST.
pub(super) fn set_abortive(socket: &TcpStream) {
    // A failure means that the socket is gone, and with it the peer's need to know.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// RST at once, although others may still own the socket: they see it fail.
pub(super) fn reset_now(socket: &TcpStream) {
    set_abortive(socket);
    // Dissolving the association aborts the connection (connect(2)); where it is not possible, the close will.
    let _ = rustix::net::connect_unspec(socket);
}

/// Waits for the socket's error event: a peer's RST, seen without reading. Made only when somebody asks.
pub(crate) struct Watch(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Watch {
    pub(crate) fn new(socket: &Arc<TcpStream>) -> Self {
        Self(Box::pin(adit_io::error_event(socket.clone())))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
