//! A promised stream and what is counted while one lives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_codec::OutgoingStream;
use adit_filter::upstream::{Opener, Priority};
use adit_http::{ErrorCode, RequestHead, StreamError};
use http::Version;

use super::ConnId;
use super::conn::{Conn, ConnLife, ConnWaker, Ready};
use crate::alternate::Learning;
use crate::cluster::{Core, lock};
use crate::host::HostState;
use crate::worker::WorkerCluster;

/// A stream that a connection will take. Dropped unopened, the connection is offered to others.
pub(crate) struct Reservation {
    pub cluster: Arc<WorkerCluster>,
    pub id: ConnId,
    pub armed: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.armed {
            let mut state = lock(&self.cluster.state);
            if let Some(conn) = state.pools.conn(self.id) {
                conn.reserved = conn.reserved.saturating_sub(1);
                conn.left = conn.left.map(|left| left + 1);
                self.cluster.offer(&mut state, self.id);
            }
        }
    }
}

impl Opener for Reservation {
    fn open(mut self: Box<Self>, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        self.armed = false;
        let mut state = lock(&self.cluster.state);
        let gone = StreamError::Local(ErrorCode::Refused);
        // Closed by its peer since it was granted.
        let conn = state.pools.conn(self.id).ok_or(StreamError::Truncated)?;
        conn.reserved = conn.reserved.saturating_sub(1);
        // A multiplexed connection may have changed since it was asked; one of HTTP/1 is all ours since then, and the
        // caller learns of its end from the stream. HTTP/3 must be asked for each stream, HTTP/2 only if it refuses.
        let gone_since = conn.version == Version::HTTP_3 && matches!(conn.ready(), Ready::Gone(_));
        let mut opened = if gone_since { Err(gone) } else { conn.open(head, end) };
        if opened.is_err() && conn.version == Version::HTTP_2 && matches!(conn.ready(), Ready::Gone(_)) {
            opened = Err(gone);
        }
        if opened.is_ok() {
            conn.life.stream();
        }
        let origin = self.cluster.core.plan.http.alternate.as_ref().and_then(|_| origin(conn));
        self.cluster.after_open(&mut state, self.id);
        match origin {
            None => opened,
            Some((host, port)) => opened.map(|OutgoingStream { send, response, meter }| {
                let plan = self.cluster.core.plan.clone();
                OutgoingStream { send, response: Box::new(Learning { inner: response, plan, host, port }), meter }
            }),
        }
    }
}

/// Whose `alt-svc` is believed: that of a connection by TLS which asked for a name.
fn origin(conn: &Conn) -> Option<(Box<str>, u16)> {
    conn.info.tls.as_ref()?;
    Some((conn.info.server_name.clone()?, conn.life.host.address().socket()?.port()))
}

/// Held while a stream lives.
pub(crate) struct StreamGuard {
    pub life: Arc<ConnLife>,
    pub priority: Priority,
    /// Of a connection of HTTP/1 that an exchange has to itself.
    pub holds: Option<Arc<ConnWaker>>,
}

impl StreamGuard {
    /// Takes a place under `max_requests`; `None` counts the overflow.
    pub fn take(core: &Core, host: &HostState, priority: Priority) -> bool {
        if !core.breaker(priority).requests.try_take() {
            core.stats.traffic.upstream_rq_active_overflow.inc();
            return false;
        }
        core.stats.traffic.upstream_rq_total.inc();
        core.stats.traffic.upstream_rq_active.inc();
        host.stats.rq_total.fetch_add(1, Relaxed);
        host.stats.rq_active.fetch_add(1, Relaxed);
        true
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let core = &self.life.core;
        core.breaker(self.priority).requests.put();
        core.stats.traffic.upstream_rq_active.dec();
        self.life.host.stats.rq_active.fetch_sub(1, Relaxed);
        self.life.touch();
        if let Some(waker) = &self.holds {
            waker.release();
        }
    }
}
