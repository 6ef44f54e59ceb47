//! Frames to octets: all that is ready leaves in as few writes as the transport allows.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::Wire;
use crate::error::End;

/// Pieces in one write.
const SLICES: usize = 32;

impl Wire {
    /// Writes until nothing is left, or the transport takes no more.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.blocked = false;
        loop {
            let mut core = self.link.lock();
            core.assemble(&mut self.out);
            if self.out.is_empty() {
                if !self.unflushed {
                    core.all_left();
                    return Poll::Ready(());
                }
                break;
            }
            drop(core);
            match self.write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.failed(error),
                Poll::Pending => return self.blocked(),
            }
        }
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.link.lock().all_left();
                Poll::Ready(())
            }
            Poll::Ready(Err(error)) => self.failed(error),
            Poll::Pending => self.blocked(),
        }
    }

    /// Writes once.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unflushed = true;
        if let Some(payload) = self.out.front_spliced() {
            let written = ready!(self.io.poll_write_spliced(cx, payload))?;
            self.out.advance_spliced(some(written)?);
            return Poll::Ready(Ok(()));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (used, more) = self.out.slices(&mut slices);
        let written = match slices.get(..used) {
            Some(all) if more => ready!(self.io.poll_write_more(cx, all))?,
            Some([one]) => ready!(Pin::new(&mut self.io).poll_write(cx, one))?,
            Some(all) => ready!(Pin::new(&mut self.io).poll_write_vectored(cx, all))?,
            None => 0,
        };
        self.out.advance(some(written)?);
        Poll::Ready(Ok(()))
    }

    fn blocked(&mut self) -> Poll<()> {
        self.blocked = true;
        let mut core = self.link.lock();
        if let Err(fault) = core.set_blocked() {
            core.fault(fault);
        }
        Poll::Pending
    }

    /// Nobody reads what we write: what there is to read is lost with it.
    fn failed(&mut self, error: io::Error) -> Poll<()> {
        self.link.lock().lose(End::Lost(error.into()));
        Poll::Ready(())
    }
}

/// A transport that takes nothing takes nothing ever.
fn some(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}
