//! Connections being made: how many, for whom, and what comes of them.

use std::sync::Arc;

use adit_filter::upstream::FailureKind;
use adit_io::{ConnInfo, Io};
use http::Version;
use tokio::time::Instant;

use super::alternative::alternative;
use crate::cluster::lock;
use crate::codec;
use crate::connect::{Failed, Joined, Purpose, counted, establish};
use crate::host::HostState;
use crate::pool::ConnId;
use crate::pool::conn::{Conn, ConnLife, Gone};
use crate::quic;
use crate::transport::TransportContext;
use crate::worker::{State, WorkerCluster};

/// A new connection, its facts and the version it speaks.
type Made = (adit_codec::ClientParts, Arc<ConnInfo>, Version);

/// All that a connect needs of the stream that caused it.
pub(super) struct Ask {
    pub(super) host: Arc<HostState>,
    pub(super) ctx: Option<Box<TransportContext>>,
    pub(super) downstream: Option<Arc<ConnInfo>>,
}

impl WorkerCluster {
    /// Makes connections until those in the making can carry all who wait.
    pub(super) fn connect_more(&self, state: &mut State, host: u64, pool: u64) {
        self.connect_for(state, host, pool, None);
    }

    /// The same where nobody may wait, on behalf of `spare`: the ratio of `preconnect_policy` counts alone then.
    pub(super) fn connect_for(&self, state: &mut State, host: u64, pool: u64, spare: Option<&Arc<Ask>>) {
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
        let mut joined = None;
        let result = match wanted {
            // In a box: it is rare, and larger than all else.
            Some(Version::HTTP_3) => Box::pin(self.connect_http3(&ask)).await,
            _ => {
                let purpose = Purpose::new(&self.core, ask.downstream.as_ref(), true);
                let io = establish(&self.core, host, &*self.deps.internal, ask.ctx.as_deref(), purpose).await;
                io.and_then(|io| {
                    joined = Joined::of(&io, purpose);
                    self.with_codec(io, wanted)
                })
            }
        };
        self.made(&ask, pool, result, life);
        if let Some(joined) = joined {
            joined.undo().await;
        }
    }

    /// Takes a new connection into its pool, or tells who waits why there is none.
    fn made(&self, ask: &Ask, pool: u64, result: Result<Made, Failed>, life: Arc<ConnLife>) {
        let host = &ask.host;
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
                stats.count_failed(&failed);
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
        life.touch(Instant::now());
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
    pub(super) fn failed(&self, state: &mut State, host: &HostState, pool: u64, failed: &Failed) {
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
}
