//! One pooled connection: its codec, its waker, and what is counted while it or a stream of it lives.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, Release, SeqCst},
};
use std::task::{Context, Poll, Wake, Waker};

use adit_codec::{Capabilities, ClientConn, OutgoingStream};
use adit_filter::upstream::Priority;
use adit_http::{ErrorCode, RequestHead, StreamError};
use adit_io::ConnInfo;
use http::Version;
use tokio::time::Instant;

use super::Kicks;
use crate::cluster::Core;
use crate::host::{HealthFlag, HostState};

/// Names a connection for as long as it is pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnId {
    pub index: usize,
    pub serial: u64,
}

/// A pooled connection.
pub(crate) struct Conn {
    pub serial: u64,
    pub conn: Box<dyn ClientConn>,
    pub info: Arc<ConnInfo>,
    pub version: Version,
    pub life: Arc<ConnLife>,
    /// The pool it belongs to.
    pub pool: u64,
    /// Streams that were promised and not opened yet.
    pub reserved: usize,
    /// Streams at once, by our own configuration.
    pub max_streams: usize,
    /// Streams that may still be opened (`max_requests_per_connection`).
    pub left: Option<u64>,
    /// It could take no stream yet: the peer's SETTINGS are due.
    pub fresh: bool,
    /// Its first stream finds out whether it works, as in Envoy: over HTTP/1 a peer that closes at once ends that stream and is
    /// no failure to connect. An internal listener may refuse, which is one.
    pub untried: bool,
    /// It stands in its pool's list of those that can take a stream.
    pub listed: bool,
    /// What an idle connection of HTTP/1 said when it was asked last, until its waker is called or it is used: nothing else
    /// changes it, so it need not be asked again before its next stream.
    idle: Option<Capabilities>,
    waker: Waker,
    pub queued: Arc<ConnWaker>,
}

/// What can be done with a connection now.
pub(crate) enum Ready {
    /// This many streams may be opened.
    Room(usize, Capabilities),
    /// None now; its waker tells when.
    Busy,
    /// None ever.
    Gone(Gone),
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gone {
    /// The peer ended it.
    pub by_peer: bool,
    /// A request on it was not over.
    pub active: bool,
    /// The peer sent what no stream asked for.
    pub broken: bool,
}

impl Gone {
    fn of(error: &StreamError, version: Version) -> Self {
        let gone = Self::default();
        match error {
            StreamError::Local(code) => Self { active: *code != ErrorCode::NoError, ..gone },
            StreamError::Stopped(_) => Self { by_peer: true, ..gone },
            // Of HTTP/1: one in the middle of an exchange ends with that. It is we who close.
            StreamError::Protocol(_) if version < Version::HTTP_2 => Self { broken: true, ..gone },
            _ => Self { by_peer: true, active: true, ..gone },
        }
    }
}

/// What a codec's waker does: it leaves the connection's name for the cluster's task.
pub(crate) struct ConnWaker {
    id: ConnId,
    kicks: Arc<Kicks>,
    queued: AtomicBool,
    /// The one stream of a connection of HTTP/1 lives: it takes the connection back to its pool when it ends, unless
    /// somebody waits for one. The task need not run for each request.
    held: AtomicBool,
    /// It was called then, and is counted for that.
    counted: AtomicBool,
}

impl ConnWaker {
    /// The connection's name.
    pub fn id(&self) -> ConnId {
        self.id
    }

    pub fn kicks(&self) -> &Kicks {
        &self.kicks
    }

    /// It was called, and nobody has looked at the connection since.
    pub fn is_called(&self) -> bool {
        self.queued.load(SeqCst)
    }

    /// A stream has the connection to itself.
    pub fn hold(&self) {
        // A wake that does not see it yet is only acted on sooner.
        self.held.store(true, Release);
    }

    /// It has ended: takes the connection back where its waker was called meanwhile.
    pub fn release(&self) {
        // Of this and a wake on another thread, one sees what the other wrote.
        self.held.store(false, SeqCst);
        self.uncount();
        if self.queued.load(SeqCst) {
            self.kicks.settle(self.id);
        }
    }

    /// Somebody looks at the connection.
    fn acknowledge(&self) {
        self.queued.store(false, Relaxed);
        self.uncount();
    }

    fn count(&self) {
        if !self.counted.swap(true, SeqCst) {
            self.kicks.begin_call();
        }
    }

    fn uncount(&self) {
        if self.counted.load(Relaxed) && self.counted.swap(false, SeqCst) {
            self.kicks.end_call();
        }
    }
}

impl Wake for ConnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, SeqCst) {
            return;
        }
        if !self.held.load(SeqCst) || self.kicks.are_awaited() {
            self.kicks.woken(self.id);
        } else {
            self.count();
        }
    }
}

impl Conn {
    #[expect(clippy::too_many_arguments, reason = "each is one fact of the connection")]
    pub fn new(
        id: ConnId,
        conn: Box<dyn ClientConn>,
        info: Arc<ConnInfo>,
        version: Version,
        life: Arc<ConnLife>,
        pool: u64,
        kicks: &Arc<Kicks>,
        limits: (usize, Option<u64>),
    ) -> Self {
        let queued = Arc::new(ConnWaker {
            id,
            kicks: kicks.clone(),
            queued: AtomicBool::new(false),
            held: AtomicBool::new(false),
            counted: AtomicBool::new(false),
        });
        Self {
            serial: id.serial,
            conn,
            untried: version < Version::HTTP_2 && info.refusal.is_none(),
            info,
            version,
            life,
            pool,
            reserved: 0,
            max_streams: limits.0,
            left: limits.1,
            fresh: true,
            listed: false,
            idle: None,
            waker: queued.clone().into(),
            queued,
        }
    }

    /// The cluster's task has seen that the waker was called.
    pub fn acknowledge(&mut self) {
        self.idle = None;
        self.queued.acknowledge();
    }

    /// Opens a stream that was promised.
    pub fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        self.idle = None;
        self.conn.open(head, end)
    }

    /// Asks the codec; leaves the waker with it.
    pub fn ready(&mut self) -> Ready {
        let idle = self.idle.filter(|_| !self.queued.queued.load(Relaxed));
        let asked = match idle {
            Some(capabilities) => Poll::Ready(Ok(capabilities)),
            None if self.untried => {
                Poll::Ready(Ok(Capabilities { open: 1, extended_connect: true, version: self.version }))
            }
            None => self.conn.poll_ready(&mut Context::from_waker(&self.waker)),
        };
        match asked {
            Poll::Pending => Ready::Busy,
            Poll::Ready(Err(error)) => Ready::Gone(Gone::of(&error, self.version)),
            Poll::Ready(Ok(capabilities)) => {
                self.idle = Some(capabilities).filter(|_| self.version < Version::HTTP_2 && !self.untried);
                let ours = self.max_streams.saturating_sub(self.conn.live_streams());
                let left = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
                let room = capabilities.open.min(ours).saturating_sub(self.reserved).min(left);
                if room == 0 { Ready::Busy } else { Ready::Room(room, capabilities) }
            }
        }
    }

    /// No stream lives or was promised.
    pub fn is_idle(&self) -> bool {
        self.reserved == 0 && self.conn.live_streams() == 0
    }

    pub fn host_gone(&self) -> bool {
        self.life.host.has(HealthFlag::PendingRemoval)
    }
}

/// What is counted while a connection, its driver or a stream of it lives.
pub(crate) struct ConnLife {
    pub core: Arc<Core>,
    pub host: Arc<HostState>,
    priority: Priority,
    kicks: Arc<Kicks>,
    pub born: Instant,
    /// Milliseconds after `born` when its last stream ended.
    last: AtomicU64,
    streams: AtomicU64,
}

impl ConnLife {
    /// Counts a new connection; its place under `max_connections` was taken by the caller.
    pub fn new(core: &Arc<Core>, host: &Arc<HostState>, priority: Priority, kicks: &Arc<Kicks>) -> Arc<Self> {
        let stats = &core.stats.traffic;
        stats.upstream_cx_total.inc();
        stats.upstream_cx_active.inc();
        host.stats.cx_total.fetch_add(1, Relaxed);
        host.stats.cx_active.fetch_add(1, Relaxed);
        Arc::new(Self {
            core: core.clone(),
            host: host.clone(),
            priority,
            kicks: kicks.clone(),
            born: Instant::now(),
            last: AtomicU64::new(0),
            streams: AtomicU64::new(0),
        })
    }

    /// A stream ended, or the connection became ready for its first.
    pub fn touch(&self, now: Instant) {
        self.last.store(crate::stats::millis(now.saturating_duration_since(self.born)), Relaxed);
    }

    /// When its last stream ended.
    pub fn last(&self) -> Instant {
        self.born + std::time::Duration::from_millis(self.last.load(Relaxed))
    }

    /// One more stream; for who has locked the pools, so that nobody else counts.
    pub fn stream(&self) {
        self.streams.store(self.streams.load(Relaxed) + 1, Relaxed);
    }
}

impl Drop for ConnLife {
    fn drop(&mut self) {
        let stats = &self.core.stats.traffic;
        stats.upstream_cx_active.dec();
        stats.upstream_cx_destroy.inc();
        stats.upstream_cx_length_ms.record(crate::stats::millis(self.born.elapsed()));
        stats.upstream_rq_per_cx.record(self.streams.load(Relaxed));
        self.host.stats.cx_active.fetch_sub(1, Relaxed);
        self.host.unplace(self.priority);
        // Somebody may have waited for its place. Not done here: a lock may be held.
        self.kicks.freed();
    }
}
