//! The client while there is no upstream: whether it is still there, and the bytes it sends early.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_io::Io;
use adit_stats::Counter;
use tokio::io::{AsyncWriteExt, ReadBuf};

/// Read from a client that cannot be looked at without reading, where no early data is configured.
const LOOK: usize = 4 << 10;
/// How long the close of a refused connection may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// A client that waits.
pub(crate) struct Client {
    io: Io,
    /// Bytes that may be held; 0 to hold none where that is possible.
    limit: usize,
    /// An end with nothing before it means that the client left.
    end_is_leaving: bool,
    watch: Watch,
    /// Whether it has sent anything.
    sent: bool,
    /// Ready at the socket's error event.
    error: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// ```text
/// Quiet -- bytes --> (Reading until the limit) --> Enough
///   +--- end ------> Ended, or left
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// Nothing came yet.
    Quiet,
    /// Bytes came, and more may be held.
    Reading,
    /// Only its loss is of interest.
    Enough,
}

/// How a client left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// With an end, and nothing sent.
    Ended,
    /// With a reset.
    Reset,
}

impl Client {
    pub(crate) fn new(io: Io, early_data: Option<usize>, end_is_leaving: bool) -> Self {
        let error = io.tcp_socket().map(|socket| {
            let event = adit_io::error_event(socket.clone());
            Box::pin(event) as Pin<Box<dyn Future<Output = ()> + Send>>
        });
        let sent = !io.ahead().is_empty();
        let limit = early_data.unwrap_or(0);
        let watch = match sent {
            false => Watch::Quiet,
            true if io.ahead().len() < limit => Watch::Reading,
            true => Watch::Enough,
        };
        Self { io, limit, end_is_leaving, watch, sent, error }
    }

    /// Looks at the client no more than is needed from here on.
    pub(crate) fn look_away(&mut self) {
        if self.limit == 0 && !self.end_is_leaving && self.io.tcp_socket().is_some() {
            // Nothing is held and an end says nothing: neither is worth a wake and a look at the socket. Whether bytes wait
            // there is asked when it matters (`has_spoken`).
            self.watch = Watch::Enough;
        }
    }

    /// Ready when the client sent something, or left.
    pub(crate) fn poll_first_bytes(&mut self, cx: &mut Context<'_>, early_reads: &Counter) -> Poll<Result<(), Left>> {
        match self.poll_left(cx, early_reads) {
            Poll::Ready(left) => Poll::Ready(Err(left)),
            Poll::Pending if self.sent => Poll::Ready(Ok(())),
            // An end with nothing before it: nothing will ever come.
            Poll::Pending if self.watch == Watch::Enough => Poll::Ready(Err(Left::Ended)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when the client left. Holds early data as it comes, and counts the reads of it.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>, early_reads: &Counter) -> Poll<Left> {
        if let Some(error) = &mut self.error
            && error.as_mut().poll(cx).is_ready()
        {
            self.error = None;
            return Poll::Ready(Left::Reset);
        }
        if self.io.poll_closed(cx).is_ready() && self.watch == Watch::Enough {
            return Poll::Ready(Left::Reset);
        }
        while self.watch != Watch::Enough {
            let before = self.io.ahead().len();
            match self.poll_look(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Left::Reset),
                Poll::Ready(Ok(false)) => {
                    self.watch = Watch::Enough;
                    if !self.sent && self.end_is_leaving {
                        return Poll::Ready(Left::Ended);
                    }
                }
                Poll::Ready(Ok(true)) => {
                    self.sent = true;
                    let held = self.io.ahead().len();
                    if held > before && self.limit > 0 {
                        early_reads.inc();
                    }
                    self.watch = if held < self.limit { Watch::Reading } else { Watch::Enough };
                }
            }
        }
        Poll::Pending
    }

    /// Whether there are more bytes, or the end.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        if self.limit == 0
            && let Some(socket) = self.io.tcp_socket()
        {
            let mut byte = [0];
            return socket.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map_ok(|peeked| peeked > 0);
        }
        let held = self.io.ahead().len();
        let max = if self.limit == 0 { LOOK } else { self.limit };
        self.io.poll_fill(cx, held + 1, max).map_ok(|now| now > held)
    }

    /// The connection, with what was held of it.
    pub(crate) fn into_io(self) -> Io {
        self.io
    }

    /// Whether it has sent anything, as far as can be told without reading: of a plain socket that is what waits there now.
    pub(crate) fn has_spoken(&self) -> bool {
        self.sent || self.io.has_unread()
    }

    /// Closes the connection so that the client sees a reset if it has sent bytes that go nowhere, and else an end.
    pub(crate) async fn close(mut self) {
        // A client of ours that learns of the refusal by its slot waits for nothing but the reset.
        if self.has_spoken() || self.io.info.refusal.is_some() {
            self.io.abort();
            return;
        }
        // Unread bytes make the kernel send a reset behind the end. Past the grace it is a reset too.
        let _ = tokio::time::timeout(CLOSE_GRACE, self.io.shutdown()).await;
    }
}
