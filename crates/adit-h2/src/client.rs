//! The requesting side of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::{Capabilities, ClientConn, ClientParts, OutgoingStream, PendingResponse, RecvStream};
use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError};
use adit_io::Io;
use tokio::time::{Instant, Sleep};

use crate::conn::{Core, Link, MAX_INTERIM};
use crate::error::{End, MISUSED};
use crate::keepalive::{Keepalive, poll_dead};
use crate::recv::{Ended, H2Recv, Misused};
use crate::send::H2Send;
use crate::wire::Wire;
use crate::{ClientConfig, head};

/// Speaks HTTP/2 to the server behind `io`.
///
/// The driver makes the handshake and moves the bytes: nothing happens unless it is polled. The connection is ready once
/// the peer's SETTINGS are in force, so that its limits and its leave for extended CONNECT are known.
pub fn client(io: Io, cfg: Arc<ClientConfig>) -> ClientParts {
    let link = Link::new(Core::new(&cfg.http2, false, false, cfg.stats.clone()));
    let conn = Client { link: link.clone(), cfg: cfg.clone(), last_open: Instant::now() };
    let drive = Drive { wire: Wire::new(io, link, false), cfg, keepalive: None, patience: None, settled: false };
    ClientParts { conn: Box::new(conn), driver: Some(Box::pin(drive)) }
}

/// Moves the connection's bytes until it ends.
struct Drive {
    wire: Wire,
    cfg: Arc<ClientConfig>,
    keepalive: Option<Keepalive>,
    /// Until the peer's SETTINGS are in force.
    patience: Option<Pin<Box<Sleep>>>,
    settled: bool,
}

impl Drive {
    fn poll_settings(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.settled {
            return Poll::Pending;
        }
        if self.wire.link.lock().peer.came {
            self.settled = true;
            self.patience = None;
            return Poll::Pending;
        }
        let timeout = self.cfg.settings_timeout;
        self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx)
    }

    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(options) = self.cfg.http2.keepalive.filter(|_| self.settled) else { return Poll::Pending };
        self.keepalive.get_or_insert_with(|| Keepalive::new(options));
        poll_dead(&mut self.keepalive, cx, &mut self.wire.link.lock(), self.wire.octets_read)
    }

    fn end(&self, result: Result<(), StreamError>) -> Poll<Result<(), StreamError>> {
        let mut core = self.wire.link.lock();
        core.lose(End::Closed);
        core.close(result.err().unwrap_or(StreamError::Stopped(ErrorCode::NoError)));
        Poll::Ready(result)
    }
}

impl Future for Drive {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        if let Poll::Ready(end) = me.wire.poll(cx) {
            return me.end(end.result().map_err(|(error, _)| error));
        }
        if me.poll_settings(cx).is_ready() || me.poll_dead(cx).is_ready() {
            return me.end(Err(StreamError::TimedOut));
        }
        Poll::Pending
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let mut core = self.wire.link.lock();
        core.lose(End::Closed);
        core.close(StreamError::Truncated);
    }
}

/// Opens streams on a connection that its driver moves.
struct Client {
    link: Arc<Link>,
    cfg: Arc<ClientConfig>,
    last_open: Instant,
}

impl Client {
    /// A PING ahead of a stream on a connection that was idle (`connection_idle_interval`).
    fn ping_if_idle(&mut self) {
        let Some(limit) = self.cfg.http2.keepalive.and_then(|keepalive| keepalive.connection_idle_interval) else {
            return;
        };
        let now = Instant::now();
        let idle_for = now.saturating_duration_since(std::mem::replace(&mut self.last_open, now));
        let mut core = self.link.lock();
        if core.live() == 0 && idle_for >= limit {
            core.ping_wanted = true;
            core.wake_driver();
        }
    }
}

impl ClientConn for Client {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<Capabilities, StreamError>> {
        let mut core = self.link.lock();
        if let Some(error) = core.over {
            return Poll::Ready(Err(error));
        }
        core.set_opener(cx);
        if !core.peer.came {
            return Poll::Pending;
        }
        let allowed = core.peer.max_streams.min(self.cfg.http2.max_concurrent_streams as usize);
        let open = allowed.saturating_sub(core.busy());
        if open == 0 {
            return Poll::Pending;
        }
        let extended_connect = core.peer.extended_connect;
        Poll::Ready(Ok(Capabilities { open, extended_connect, version: http::Version::HTTP_2 }))
    }

    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        self.ping_if_idle();
        let mut core = self.link.lock();
        let key = core.open(head, end)?;
        let meter = core.meter(key);
        drop(core);
        let response =
            H2Pending { link: self.link.clone(), key, kind: head.kind.clone(), interim: 0, state: Answer::Awaited };
        let send = H2Send::new(self.link.clone(), key);
        Ok(OutgoingStream { send: Box::new(send), response: Box::new(response), meter })
    }

    fn live_streams(&self) -> usize {
        self.link.lock().live()
    }

    fn drain(&mut self) {
        self.link.lock().close(StreamError::Local(ErrorCode::NoError));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.link.lock().close(StreamError::Local(ErrorCode::NoError));
    }
}

/// A response to come: it holds the receiving half until it is asked for it.
struct H2Pending {
    link: Arc<Link>,
    key: u32,
    kind: RequestKind,
    interim: usize,
    state: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Awaited,
    /// The final head was given.
    Given,
    /// An error was given instead.
    Failed,
    /// The receiving half has another holder.
    HandedOn,
}

impl PendingResponse for H2Pending {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        if self.state != Answer::Awaited {
            return Poll::Ready(Err(MISUSED));
        }
        let mut core = self.link.lock();
        let answer = match ready!(core.poll_head(self.key, cx)) {
            Ok(answer) => answer,
            Err(error) => {
                self.state = Answer::Failed;
                return Poll::Ready(Err(error));
            }
        };
        if answer.status.is_informational() {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Poll::Ready(Err(StreamError::TooLarge("http2.too_many_interim_responses")));
            }
            return Poll::Ready(head::response(answer, &RequestKind::Plain));
        }
        let head = head::response(answer, &self.kind);
        match &head {
            Ok(head) => {
                self.state = Answer::Given;
                if self.kind.is_tunnel() && !head.accepts(&self.kind) {
                    core.set_refused(self.key);
                }
            }
            // What we do not pass on is given up.
            Err(_) => {
                self.state = Answer::Failed;
                core.send_reset(self.key, self.link.abandon);
            }
        }
        Poll::Ready(head)
    }

    fn into_recv(mut self: Box<Self>) -> Box<dyn RecvStream> {
        if self.state != Answer::Given {
            return Box::new(Misused);
        }
        if self.link.lock().is_read(self.key) {
            return Box::new(Ended);
        }
        self.state = Answer::HandedOn;
        Box::new(H2Recv::new(self.link.clone(), self.key))
    }
}

impl Drop for H2Pending {
    fn drop(&mut self) {
        match self.state {
            Answer::Awaited => self.link.lock().drop_pending(self.key),
            Answer::Given | Answer::Failed => self.link.lock().drop_recv(self.key),
            Answer::HandedOn => {}
        }
    }
}
