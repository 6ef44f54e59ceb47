//! A stream of a pooled connection: promised, opened, and counted while it lives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_codec::OutgoingStream;
use adit_filter::upstream::{self, Priority};
use adit_http::{ErrorCode, RequestHead, StreamError};
use http::Version;
use tokio::time::Instant;

use super::conn::{Conn, ConnLife, ConnWaker, Ready};
use crate::alternate::Learning;
use crate::cluster::{Core, lock};
use crate::host::HostState;
use crate::worker::WorkerCluster;

/// A stream that a connection takes. Dropped unopened, the connection is offered to others. As small as it can be: a tunnel
/// holds one.
pub(crate) struct Lease {
    life: Arc<ConnLife>,
    /// Until it was opened, and on where it has the connection to itself.
    waker: Option<Arc<ConnWaker>>,
    priority: Priority,
    /// It was promised, and not opened yet.
    promised: bool,
    /// An exchange has the connection of HTTP/1 to itself.
    holds: bool,
    counted_out: bool,
}

impl Lease {
    /// For a stream that was promised and has its place under `max_requests` ([`Lease::take_place`]).
    pub fn new(life: Arc<ConnLife>, waker: Arc<ConnWaker>, priority: Priority, holds: bool) -> Self {
        if holds {
            waker.hold();
        }
        Self { life, waker: Some(waker), priority, promised: true, holds, counted_out: false }
    }

    /// Takes a place under `max_requests`; false counts the overflow.
    pub fn take_place(core: &Core, host: &HostState, priority: Priority) -> bool {
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

    fn count_out(&mut self, now: Instant) {
        self.counted_out = true;
        let core = &self.life.core;
        if self.promised
            && let Some(waker) = &self.waker
        {
            waker.kicks().give_back(waker.id());
        }
        core.breaker(self.priority).requests.put();
        core.stats.traffic.upstream_rq_active.dec();
        self.life.host.stats.rq_active.fetch_sub(1, Relaxed);
        self.life.touch(now);
        if self.holds
            && let Some(waker) = &self.waker
        {
            waker.release();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.counted_out {
            self.count_out(Instant::now());
        }
    }
}

impl upstream::Lease for Lease {
    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        let gone = StreamError::Local(ErrorCode::Refused);
        let Some(waker) = self.waker.as_ref().filter(|_| std::mem::take(&mut self.promised)) else { return Err(gone) };
        let id = waker.id();
        let cluster = waker.kicks().cluster().ok_or(gone)?;
        if !self.holds {
            self.waker = None;
        }
        let mut state = lock(&cluster.state);
        // Closed by its peer since it was granted.
        let conn = state.pools.conn(id).ok_or(StreamError::Truncated)?;
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
        let origin = cluster.core.plan.http.alternate.as_ref().and_then(|_| origin(conn));
        cluster.after_open(&mut state, id);
        match origin {
            None => opened,
            Some((host, port)) => opened.map(|OutgoingStream { send, response, meter }| {
                let plan = cluster.core.plan.clone();
                OutgoingStream { send, response: Box::new(Learning { inner: response, plan, host, port }), meter }
            }),
        }
    }

    fn over(mut self: Box<Self>, now: Instant) {
        self.count_out(now);
    }
}

impl WorkerCluster {
    /// A promised stream will not be opened: others may have the connection.
    pub(super) fn give_back(&self, id: super::ConnId) {
        let mut state = lock(&self.state);
        if let Some(conn) = state.pools.conn(id) {
            conn.reserved = conn.reserved.saturating_sub(1);
            conn.left = conn.left.map(|left| left + 1);
            self.offer(&mut state, id);
        }
    }
}

/// Whose `alt-svc` is believed: that of a connection by TLS which asked for a name.
fn origin(conn: &Conn) -> Option<(Box<str>, u16)> {
    conn.info.tls.as_ref()?;
    Some((conn.info.server_name.clone()?, conn.life.host.address().socket()?.port()))
}
