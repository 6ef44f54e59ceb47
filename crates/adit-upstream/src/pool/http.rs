//! HTTP connections to one host that streams may share: those that are equal in all that goes into a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use adit_filter::Soon;
use adit_filter::upstream::{Cluster, ConnectFailure, FailureKind, HttpUpstream, Need, Priority};
use adit_io::{Address, ConnInfo, Io};
use http::Version;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::conn::{Conn, ConnLife, ConnWaker, Gone, Ready};
use super::stream::{Reservation, StreamGuard};
use super::tcp::Pending;
use super::{ConnId, PoolSet};
use crate::alternate::AlternateProtocols;
use crate::cluster::{Core, lock};
use crate::codec;
use crate::connect::{Failed, Hops, counted, establish, refused};
use crate::host::HostState;
use crate::plan::HttpOptions;
use crate::quic;
use crate::transport::TransportContext;
use crate::worker::{State, WorkerCluster, failure};

/// What must be equal for two streams to share a connection, beside the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    priority: Priority,
    /// The version where it is known before the handshake.
    version: Option<Version>,
    /// Internal listeners crossed before this hop: the loop guard travels with the connection.
    hops: u8,
    auto_sni: Option<Box<str>>,
    /// What the transport socket puts into the connection.
    transport: Option<Box<[u8]>>,
    /// The name under which the origin is known to speak HTTP/3.
    alternative: Option<Box<str>>,
}

/// How long a client waits for HTTP/3 alone, where TCP would do as well (Envoy's head start).
const HEAD_START: Duration = Duration::from_millis(300);

/// A new connection, its facts and the version it speaks.
type Made = (adit_codec::ClientParts, Arc<ConnInfo>, Version);

/// One pool.
pub(crate) struct HttpPool {
    pub id: u64,
    key: Key,
    /// Connections that can take a stream; the last used is on top and taken first, so that surplus ones grow idle.
    pub ready: Vec<ConnId>,
    /// Connections being made.
    connecting: usize,
    /// Connections made.
    connected: usize,
    /// What ALPN chose last.
    learned: Option<Version>,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    serial: u64,
    sender: oneshot::Sender<Result<Grant, Failed>>,
    /// What a connection is made with on its behalf.
    ask: Arc<Ask>,
}

/// All that a connect needs of the stream that caused it.
struct Ask {
    host: Arc<HostState>,
    ctx: Option<Box<TransportContext>>,
    downstream: Option<Arc<ConnInfo>>,
}

/// What a connection is made with, and which pool it is for.
type MadeWith = (Option<Box<TransportContext>>, Key);

/// How HTTP/3 is spoken with an origin.
struct Http3 {
    name: Box<str>,
    port: u16,
    made_with: MadeWith,
}

/// What is kept of a caller's need while it waits.
#[derive(Clone)]
struct Wish {
    priority: Priority,
    downstream: Option<Arc<ConnInfo>>,
    extended_connect: bool,
    wait: bool,
    /// An exchange, whose connection of HTTP/1 serves another when it is over: a tunnel's does not.
    exchange: bool,
}

impl Wish {
    fn of(need: &Need<'_>) -> Self {
        Self {
            priority: need.priority,
            downstream: need.downstream.cloned(),
            extended_connect: need.extended_connect,
            wait: need.wait,
            exchange: need.request.is_some_and(|request| !request.kind.is_tunnel()),
        }
    }
}

/// A pool that has no connection ready, and what one is made with.
struct Missing {
    pool: u64,
    ctx: Option<Box<TransportContext>>,
}

/// A stream on a connection.
struct Grant {
    id: ConnId,
    info: Arc<ConnInfo>,
    version: Version,
    life: Arc<ConnLife>,
    waker: Arc<ConnWaker>,
    extended_connect: bool,
}

impl HttpPool {
    pub fn is_done(&self) -> bool {
        self.waiters.is_empty() && self.connecting == 0 && self.connected == 0
    }

    /// A connection that had worked is gone.
    pub fn forget(&mut self, id: ConnId) {
        self.connected = self.connected.saturating_sub(1);
        self.ready.retain(|ready| *ready != id);
    }

    /// Streams that one connection in the making will carry, as far as is known.
    fn width(&self, options: &HttpOptions) -> usize {
        options.max_streams(self.key.version.or(self.learned))
    }
}

impl PoolSet {
    pub fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index).filter(|conn| conn.serial == id.serial)
    }

    fn pool(&mut self, host: u64, pool: u64) -> Option<&mut HttpPool> {
        self.hosts.get_mut(&host)?.http.iter_mut().find(|candidate| candidate.id == pool)
    }

    /// The pool of a key, made if there is none.
    fn pool_of(&mut self, host: &Arc<HostState>, key: Key) -> u64 {
        let pools = self.of(host);
        if let Some(pool) = pools.http.iter().find(|pool| pool.key == key) {
            return pool.id;
        }
        // Pools that passed state made are many and short-lived.
        pools.http.retain(|pool| !(pool.is_done() && pool.key.transport.is_some()));
        let id = self.next_serial();
        self.of(host).http.push(HttpPool {
            id,
            key,
            ready: Vec::new(),
            connecting: 0,
            connected: 0,
            learned: None,
            waiters: VecDeque::new(),
        });
        id
    }
}

impl WorkerCluster {
    /// A stream on a pooled connection, waiting for one if none is free.
    pub(crate) fn acquire<'a>(&'a self, need: &Need<'_>) -> Soon<'a, Result<HttpUpstream, ConnectFailure>> {
        let host = match self.pick(need) {
            Ok(host) => host,
            Err(failure) => return Soon::Now(Some(Err(failure))),
        };
        let version = codec::wanted(&self.core.plan.http, need.request.map(|request| request.version));
        let made_with = self.key(&host, need, version, None);
        let wish = Wish::of(need);
        if let Some(http3) = self.http3(&host, need) {
            return Soon::Later(Box::pin(async move {
                if let Some(settled) = Box::pin(self.acquire_http3(&host, wish.clone(), http3)).await {
                    return settled;
                }
                self.acquire_from(host, wish, made_with).await
            }));
        }
        match self.grant(&host, &wish, made_with) {
            Ok(granted) => Soon::Now(Some(self.granted(host, &wish, granted))),
            Err(missing) => Soon::Later(Box::pin(self.await_grant(host, wish, missing))),
        }
    }

    /// How HTTP/3 is spoken with the origin, where it is known to.
    fn http3(&self, host: &Arc<HostState>, need: &Need<'_>) -> Option<Http3> {
        let alternate = self.core.plan.http.alternate.as_ref()?;
        let port = host.address().socket()?.port();
        let name: Box<str> = {
            let quic = self.core.plan.transport(host.facts.transport)?.quic()?;
            let ctx = self.context(host, need, &[])?;
            quic.server_name(&ctx)?.into()
        };
        if !alternate.usable(&name, port, Instant::now()) {
            return None;
        }
        let made_with = self.key(host, need, Some(Version::HTTP_3), Some(name.clone()));
        Some(Http3 { name, port, made_with })
    }

    /// A stream over HTTP/3; `None` when there was none within its head start: TCP is to be used.
    async fn acquire_http3(
        &self,
        host: &Arc<HostState>,
        wish: Wish,
        http3: Http3,
    ) -> Option<Result<HttpUpstream, ConnectFailure>> {
        let alternate = self.core.plan.http.alternate.as_ref()?;
        let Http3 { name, port, made_with } = http3;
        let trying = self.acquire_from(host.clone(), wish, made_with);
        match tokio::time::timeout(HEAD_START, trying).await {
            Ok(Err(failure))
                if matches!(failure.kind, FailureKind::Remote | FailureKind::Timeout | FailureKind::Local) =>
            {
                None
            }
            Ok(settled) => Some(settled),
            Err(_) => {
                // It may still come to stand, which clears this.
                alternate.slow(&name, port, Instant::now() + self.core.plan.connect_timeout);
                None
            }
        }
    }

    /// A stream on a connection of this pool to this host.
    async fn acquire_from(
        &self,
        host: Arc<HostState>,
        wish: Wish,
        made_with: MadeWith,
    ) -> Result<HttpUpstream, ConnectFailure> {
        match self.grant(&host, &wish, made_with) {
            Ok(granted) => self.granted(host, &wish, granted),
            Err(missing) => self.await_grant(host, wish, missing).await,
        }
    }

    /// A stream on a connection that is at hand; the error says which pool has none.
    fn grant(&self, host: &Arc<HostState>, wish: &Wish, (ctx, key): MadeWith) -> Result<Grant, Missing> {
        let mut state = lock(&self.state);
        self.ensure_driver(&mut state);
        let pool = state.pools.pool_of(host, key);
        let mut granted = self.take_ready(&mut state, host, pool);
        if granted.is_none() {
            // The last exchange may have ended in this very turn of the runtime.
            for id in self.kicks.take_woken() {
                self.woken(&mut state, id);
            }
            granted = self.take_ready(&mut state, host, pool);
        }
        let Some(granted) = granted else { return Err(Missing { pool, ctx }) };
        if self.core.plan.preconnect_ratio > 1.0 {
            // What was taken may have been the spare.
            let ask = Ask { host: host.clone(), ctx, downstream: wish.downstream.clone() };
            self.connect_for(&mut state, host.id, pool, Some(&Arc::new(ask)));
        }
        Ok(granted)
    }

    /// Waits for a connection of a pool that had none ready.
    async fn await_grant(
        &self,
        host: Arc<HostState>,
        wish: Wish,
        missing: Missing,
    ) -> Result<HttpUpstream, ConnectFailure> {
        let fail = |failed: Failed| failure(&failed, Some(&host));
        let Missing { pool, ctx } = missing;
        if !wish.wait && self.is_full(&host, pool, wish.priority) {
            return Err(fail(Failed::new(FailureKind::Overflow, "")));
        }
        let pending = Pending::take(&self.core, &host, wish.priority).map_err(fail)?;
        let ask = Ask { host: host.clone(), ctx, downstream: wish.downstream.clone() };
        let grant = self.wait(&host, pool, ask, wish.wait).await.map_err(fail)?;
        drop(pending);
        self.granted(host, &wish, grant)
    }

    /// What the caller gets for a grant.
    fn granted(&self, host: Arc<HostState>, wish: &Wish, grant: Grant) -> Result<HttpUpstream, ConnectFailure> {
        let fail = |failed: Failed| failure(&failed, Some(&host));
        let Some(cluster) = self.this.upgrade() else {
            return Err(fail(Failed::new(FailureKind::Local, "")));
        };
        let reservation = Reservation { cluster, id: grant.id, armed: true };
        if wish.extended_connect && !grant.extended_connect {
            return Err(fail(Failed::new(FailureKind::Protocol, "extended CONNECT is not enabled by the peer")));
        }
        if !StreamGuard::take(&self.core, &host, wish.priority) {
            return Err(fail(Failed::new(FailureKind::Overflow, "")));
        }
        let holds = (wish.exchange && grant.version < Version::HTTP_2).then(|| {
            grant.waker.hold();
            grant.waker
        });
        Ok(HttpUpstream {
            opener: Box::new(reservation),
            version: grant.version,
            conn: grant.info,
            guard: Box::new(StreamGuard { life: grant.life, priority: wish.priority, holds }),
            host,
        })
    }

    fn key(
        &self,
        host: &Arc<HostState>,
        need: &Need<'_>,
        version: Option<Version>,
        alternative: Option<Box<str>>,
    ) -> MadeWith {
        let ctx = self.context(host, need, codec::alpn(version));
        let factory = self.core.plan.transport(host.facts.transport);
        let transport = ctx.as_ref().zip(factory).and_then(|(ctx, factory)| factory.pool_key(ctx));
        let hops = match host.address() {
            Address::Internal { .. } => need.downstream.map_or(0, |info| info.internal_hops),
            _ => 0,
        };
        let auto_sni = ctx.as_ref().and_then(|ctx| ctx.auto_sni.clone());
        (ctx, Key { priority: need.priority, version, hops, auto_sni, transport, alternative })
    }

    /// A stream on a connection that is ready now. Connections found closed are forgotten on the way.
    fn take_ready(&self, state: &mut State, host: &HostState, pool: u64) -> Option<Grant> {
        loop {
            let id = *state.pools.pool(host.id, pool)?.ready.last()?;
            let Some(conn) = state.pools.conn(id) else {
                state.pools.pool(host.id, pool)?.ready.pop();
                continue;
            };
            match conn.ready() {
                Ready::Room(room, capabilities) => {
                    conn.reserved += 1;
                    conn.left = conn.left.map(|left| left.saturating_sub(1));
                    let full = room == 1;
                    conn.listed = !full;
                    let grant = Grant {
                        id,
                        info: conn.info.clone(),
                        version: conn.version,
                        life: conn.life.clone(),
                        waker: conn.queued.clone(),
                        extended_connect: capabilities.extended_connect,
                    };
                    if full {
                        state.pools.pool(host.id, pool)?.ready.pop();
                    }
                    return Some(grant);
                }
                Ready::Busy => {
                    conn.listed = false;
                    state.pools.pool(host.id, pool)?.ready.pop();
                }
                Ready::Gone(gone) => self.remove(state, id.index, gone),
            }
        }
    }

    /// Queues for a connection, having one made where there are too few.
    async fn wait(&self, host: &Arc<HostState>, pool: u64, ask: Ask, queues: bool) -> Result<Grant, Failed> {
        let (sender, receiver) = oneshot::channel();
        let serial = {
            let mut state = lock(&self.state);
            let serial = state.pools.next_serial();
            let Some(queue) = state.pools.pool(host.id, pool) else {
                return Err(Failed::new(FailureKind::Local, ""));
            };
            queue.waiters.push_back(Waiter { serial, sender, ask: Arc::new(ask) });
            self.connect_more(&mut state, host.id, pool);
            if !queues && !self.comes_to_last(&mut state, host.id, pool) {
                if let Some(queue) = state.pools.pool(host.id, pool) {
                    queue.waiters.pop_back();
                }
                return Err(Failed::new(FailureKind::Overflow, ""));
            }
            serial
        };
        self.kicks.begin_wait();
        let mut waiting = Waiting { cluster: self, host: host.id, pool, serial, receiver };
        match (&mut waiting.receiver).await {
            Ok(result) => result,
            Err(_) => Err(Failed::new(FailureKind::Local, "")),
        }
    }

    /// Whether a stream more would have to wait for another to end: the limit is reached, and no connection in the making
    /// has room. Counts that.
    fn is_full(&self, host: &HostState, pool: u64, priority: Priority) -> bool {
        let joins = {
            let mut state = lock(&self.state);
            let options = &self.core.plan.http;
            let pool = state.pools.pool(host.id, pool);
            pool.is_some_and(|queue| queue.connecting * queue.width(options) > queue.waiters.len())
        };
        !joins && self.tcp_overflows(priority)
    }

    /// Whether the connections in the making carry all who wait.
    fn comes_to_last(&self, state: &mut State, host: u64, pool: u64) -> bool {
        let options = &self.core.plan.http;
        state.pools.pool(host, pool).is_some_and(|queue| queue.connecting * queue.width(options) >= queue.waiters.len())
    }

    /// Makes connections until those in the making can carry all who wait.
    fn connect_more(&self, state: &mut State, host: u64, pool: u64) {
        self.connect_for(state, host, pool, None);
    }

    /// The same where nobody may wait, on behalf of `spare`: the ratio of `preconnect_policy` counts alone then.
    fn connect_for(&self, state: &mut State, host: u64, pool: u64, spare: Option<&Arc<Ask>>) {
        let plan = &self.core.plan;
        // Three at a time at most: enough to catch up, few enough not to burst.
        for _ in 0..3 {
            let Some(queue) = state.pools.pool(host, pool) else { return };
            let Some(ask) = queue.waiters.front().map(|waiter| &waiter.ask).or(spare).cloned() else { return };
            let width = queue.width(&plan.http);
            let streams = queue.waiters.len() + queue.connected.saturating_sub(queue.ready.len());
            let room =
                (queue.connecting + queue.ready.len()) * width + queue.connected.saturating_sub(queue.ready.len());
            let waiting_room = queue.connecting * width;
            #[expect(clippy::cast_precision_loss, reason = "numbers of streams are small")]
            let ahead = streams as f64 * plan.preconnect_ratio > room as f64;
            if waiting_room >= queue.waiters.len() && !(plan.preconnect_ratio > 1.0 && ahead) {
                return;
            }
            let priority = queue.key.priority;
            if !ask.host.try_place(priority) {
                self.core.stats.traffic.upstream_cx_overflow.inc();
                // A pool without a connection may always make one, or its streams would wait for nothing; one that
                // idles in another pool goes for it.
                if queue.connecting + queue.connected != 0 {
                    return;
                }
                self.evict(state, pool, ask.host.is_full(priority).then_some(host));
                ask.host.place(priority);
            }
            let Some(queue) = state.pools.pool(host, pool) else { return };
            queue.connecting += 1;
            let life = ConnLife::new(&self.core, &ask.host, queue.key.priority, &self.kicks);
            let version = queue.key.version;
            let Some(this) = self.this.upgrade() else { return };
            self.deps.spawn.spawn(Box::pin(this.connect_one(ask, pool, version, life)));
        }
    }

    /// Closes the connection of another pool that has idled longest; only one of `host`, where it is the host's own limit that
    /// leaves no place.
    fn evict(&self, state: &mut State, pool: u64, host: Option<u64>) {
        let idle = state.pools.conns.iter().filter(|(_, conn)| {
            let counts = host.is_none_or(|host| conn.life.host.id == host);
            counts && conn.pool != pool && !conn.fresh && conn.is_idle()
        });
        let oldest = idle.min_by_key(|(_, conn)| conn.life.last()).map(|(index, _)| index);
        if let Some(index) = oldest {
            self.remove(state, index, Gone::default());
        }
    }

    async fn connect_one(self: Arc<Self>, ask: Arc<Ask>, pool: u64, wanted: Option<Version>, life: Arc<ConnLife>) {
        let host = &ask.host;
        let result = match wanted {
            // In a box: it is rare, and larger than all else.
            Some(Version::HTTP_3) => Box::pin(self.connect_http3(&ask)).await,
            _ => {
                let hops = Hops { downstream: ask.downstream.as_ref() };
                let io = establish(&self.core, host, &*self.deps.internal, ask.ctx.as_deref(), hops).await;
                io.and_then(|io| self.with_codec(io, wanted))
            }
        };
        let mut state = lock(&self.state);
        match result {
            Ok((parts, info, version)) => {
                if let Some(driver) = parts.driver {
                    let life = life.clone();
                    self.deps.spawn.spawn(Box::pin(async move {
                        // How it ended is told to each stream, and to the pool by the codec's waker.
                        let _ = driver.await;
                        drop(life);
                    }));
                }
                self.connected(&mut state, host, pool, (parts.conn, info, version), life);
            }
            Err(failed) => {
                if let Some(queue) = state.pools.pool(host.id, pool) {
                    queue.connecting = queue.connecting.saturating_sub(1);
                }
                self.failed(&mut state, host, pool, &failed);
                drop(state);
                let stats = &self.core.stats.traffic;
                stats.upstream_cx_destroy_remote.inc();
                if self.core.plan.http.is_http1() {
                    stats.upstream_cx_http1_total.inc();
                }
                drop(life);
            }
        }
    }

    async fn connect_http3(&self, ask: &Ask) -> Result<Made, Failed> {
        let (Some(ctx), Some(http3)) = (&ask.ctx, &self.core.plan.http.h3) else {
            return Err(Failed::new(FailureKind::Local, "HTTP/3 is not configured"));
        };
        let dialling = quic::connect(&self.core, &ask.host, &self.quic, ctx);
        let (connection, info) = counted(&self.core, &ask.host, dialling).await?;
        Ok((adit_h3::client(connection, http3.codec.clone()), info, Version::HTTP_3))
    }

    fn with_codec(&self, io: Io, wanted: Option<Version>) -> Result<Made, Failed> {
        let version = codec::settled(wanted, &io);
        let info = io.info.clone();
        let made = self.deps.codecs.client(version, io, &self.core.plan.http);
        let parts = made.map_err(|error| Failed::new(FailureKind::Remote, error.to_string()))?;
        Ok((parts, info, version))
    }

    /// Takes a new connection into its pool.
    fn connected(
        &self,
        state: &mut State,
        host: &HostState,
        pool: u64,
        made: (Box<dyn adit_codec::ClientConn>, Arc<ConnInfo>, Version),
        life: Arc<ConnLife>,
    ) {
        let (conn, info, version) = made;
        let stats = &self.core.stats.traffic;
        match version {
            Version::HTTP_2 => stats.upstream_cx_http2_total.inc(),
            Version::HTTP_3 => stats.upstream_cx_http3_total.inc(),
            _ => stats.upstream_cx_http1_total.inc(),
        }
        life.touch();
        let serial = state.pools.next_serial();
        let Some(queue) = state.pools.pool(host.id, pool) else { return };
        queue.learned = Some(version);
        let http = &self.core.plan.http;
        let width = http.max_streams(Some(version));
        let entry = state.pools.conns.vacant_entry();
        let id = ConnId { index: entry.key(), serial };
        let limits = (width, http.max_requests);
        entry.insert(Conn::new(id, conn, info, version, life, pool, &self.kicks, limits));
        // Arms the timers of the sweep, too.
        self.kicks.freed();
        self.offer(state, id);
    }

    /// A connect failed: who waits is told the same, as the host must be in trouble.
    fn failed(&self, state: &mut State, host: &HostState, pool: u64, failed: &Failed) {
        let Some(queue) = state.pools.pool(host.id, pool) else { return };
        if let Some((alternate, name, port)) = alternative(&self.core, host, &queue.key) {
            alternate.failed(name, port, Instant::now());
        }
        for waiter in std::mem::take(&mut queue.waiters) {
            self.core.stats.traffic.upstream_rq_pending_failure_eject.inc();
            // A waiter that is gone needs no answer.
            let _ = waiter.sender.send(Err(failed.clone()));
        }
    }

    /// A codec's waker was called: the connection is free, or over.
    pub(super) fn woken(&self, state: &mut State, id: ConnId) {
        if let Some(conn) = state.pools.conn(id) {
            conn.acknowledge();
            self.offer(state, id);
        }
    }

    /// A connection may have room: it goes to who waits, else into the list.
    pub(super) fn offer(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        let (host, pool, listed) = (conn.life.host.clone(), conn.pool, conn.listed);
        let ready = conn.ready();
        match ready {
            Ready::Gone(gone) => {
                let (fresh, refusal) = (conn.fresh, conn.info.refusal.clone());
                self.remove(state, id.index, gone);
                if fresh {
                    // It never worked: another try would end likewise.
                    let stats = &self.core.stats.traffic;
                    stats.upstream_cx_protocol_error.inc();
                    let why = refusal.as_ref().and_then(refused).map_or_else(
                        || Failed::new(FailureKind::Remote, "connection closed before its first stream"),
                        Failed::from,
                    );
                    self.failed(state, &host, pool, &why);
                } else {
                    self.connect_more(state, host.id, pool);
                }
            }
            Ready::Busy => {}
            Ready::Room(..) => {
                let fresh = std::mem::replace(&mut conn.fresh, false);
                conn.listed = true;
                if let Some(queue) = state.pools.pool(host.id, pool) {
                    if fresh {
                        queue.connecting = queue.connecting.saturating_sub(1);
                        queue.connected += 1;
                        if let Some((alternate, name, port)) = alternative(&self.core, &host, &queue.key) {
                            alternate.works(name, port);
                        }
                    }
                    if !listed {
                        queue.ready.push(id);
                    }
                }
                self.serve(state, &host, pool);
                if state.pools.conn(id).is_some_and(|conn| conn.host_gone() && conn.is_idle()) {
                    self.remove(state, id.index, Gone::default());
                }
            }
        }
    }

    /// Gives ready connections to those who wait.
    fn serve(&self, state: &mut State, host: &HostState, pool: u64) {
        loop {
            let Some(queue) = state.pools.pool(host.id, pool) else { return };
            if queue.waiters.is_empty() {
                return;
            }
            let Some(grant) = self.take_ready(state, host, pool) else {
                return self.connect_more(state, host.id, pool);
            };
            let id = grant.id;
            let Some(waiter) = state.pools.pool(host.id, pool).and_then(|queue| queue.waiters.pop_front()) else {
                return;
            };
            if waiter.sender.send(Ok(grant)).is_err() {
                self.unreserve(state, id);
            }
        }
    }

    /// A promised stream is not wanted: the connection is put back without serving anybody.
    fn unreserve(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        conn.reserved = conn.reserved.saturating_sub(1);
        conn.left = conn.left.map(|left| left + 1);
        let (listed, host, pool) = (std::mem::replace(&mut conn.listed, true), conn.life.host.id, conn.pool);
        if !listed && let Some(queue) = state.pools.pool(host, pool) {
            queue.ready.push(id);
        }
    }

    /// A place under `max_connections` is free: pools with a queue may use it.
    pub(super) fn serve_all(&self, state: &mut State) {
        let waiting: Vec<(u64, u64)> = state
            .pools
            .hosts
            .iter()
            .flat_map(|(host, pools)| pools.http.iter().filter(|pool| !pool.waiters.is_empty()).map(|p| (*host, p.id)))
            .collect();
        for (host, pool) in waiting {
            self.connect_more(state, host, pool);
        }
    }

    /// After a stream was opened: registers the waker, and retires a connection that had its last stream.
    pub(super) fn after_open(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        if conn.left == Some(0) && conn.reserved == 0 {
            self.core.stats.traffic.upstream_cx_max_requests.inc();
            self.retire(state, id.index);
        } else if !conn.listed {
            self.offer(state, id);
        }
    }

    /// Lets a connection take no further stream; those that live finish without the pool.
    pub(super) fn retire(&self, state: &mut State, index: usize) {
        if let Some(conn) = state.pools.conns.get_mut(index) {
            conn.conn.drain();
            self.remove(state, index, Gone::default());
        }
    }

    pub(super) fn remove(&self, state: &mut State, index: usize, gone: Gone) {
        let Some(conn) = state.pools.conns.try_remove(index) else { return };
        let id = ConnId { index, serial: conn.serial };
        let stats = &self.core.stats.traffic;
        let active = gone.active || conn.conn.live_streams() != 0;
        let (all, with_request) = if gone.by_peer {
            (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq)
        } else {
            (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq)
        };
        all.inc();
        if active {
            with_request.inc();
            stats.upstream_cx_destroy_with_active_rq.inc();
        }
        if let Some(queue) = state.pools.pool(conn.life.host.id, conn.pool) {
            if conn.fresh {
                queue.connecting = queue.connecting.saturating_sub(1);
            } else {
                queue.forget(id);
            }
        }
    }
}

/// The cache that a pool of HTTP/3 reports to, and the origin.
fn alternative<'a>(core: &'a Core, host: &HostState, key: &'a Key) -> Option<(&'a AlternateProtocols, &'a str, u16)> {
    let name = key.alternative.as_deref()?;
    Some((core.plan.http.alternate.as_deref()?, name, host.address().socket()?.port()))
}

/// A place in the queue, left when dropped.
struct Waiting<'a> {
    cluster: &'a WorkerCluster,
    host: u64,
    pool: u64,
    serial: u64,
    receiver: oneshot::Receiver<Result<Grant, Failed>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cluster.kicks.end_wait();
        let mut state = lock(&self.cluster.state);
        if let Some(queue) = state.pools.pool(self.host, self.pool) {
            queue.waiters.retain(|waiter| waiter.serial != self.serial);
        }
        // Granted but never taken: an awaited receiver is empty by now.
        if let Ok(Ok(grant)) = self.receiver.try_recv() {
            self.cluster.core.stats.traffic.upstream_rq_cancelled.inc();
            self.cluster.unreserve(&mut state, grant.id);
            let id = grant.id;
            drop(grant);
            self.cluster.offer(&mut state, id);
        }
    }
}
