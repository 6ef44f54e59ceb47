//! Splicing by who reads and writes an [`Io`] itself: a codec that leaves payloads in the kernel.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;

use crate::{Io, Spliced, tcp};

impl Io {
    /// The next bytes, at most `max`, left in the kernel. `None` where they are to be read: this is not plain TCP, fewer than
    /// `least` are there, or there is no pipe to be had.
    pub fn read_spliced(&mut self, least: usize, max: usize) -> Option<Spliced> {
        let socket = self.tcp_socket().filter(|_| self.ahead().is_empty())?;
        Spliced::read(socket, least, max)
    }

    /// Sends from the front of `data`; how many bytes. Fails on all but plain TCP.
    pub fn poll_write_spliced(&mut self, cx: &mut Context<'_>, data: &mut Spliced) -> Poll<io::Result<usize>> {
        let Some(socket) = self.tcp_socket() else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match data.write(socket) {
                Err(error) if is_passing(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Sends bytes behind which spliced ones follow at once: over plain TCP they wait for these (`MSG_MORE`).
    pub fn poll_write_more(&mut self, cx: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(socket) = self.tcp_socket() else {
            return tokio::io::AsyncWrite::poll_write_vectored(std::pin::Pin::new(self), cx, data);
        };
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let result = socket.try_io(Interest::WRITABLE, || {
                let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
                tcp::retry(|| rustix::net::sendmsg(socket, data, &mut SendAncillaryBuffer::default(), flags))
            });
            match result {
                Err(error) if is_passing(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

/// Whether it is to be tried again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
