//! HTTP connections to one host that streams may share: those that are equal in all that goes into a connection.
//!
//! A stream gets one that is at hand ([`WorkerCluster::acquire`]) or waits ([`waiting`]) for one that is being made
//! ([`making`]) or becomes free ([`turns`]).

mod alternative;
mod making;
mod turns;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use adit_filter::Soon;
use adit_filter::upstream::{ConnectFailure, FailureKind, HttpUpstream, Need, Priority};
use adit_io::{Address, ConnInfo};
use http::Version;

use super::conn::{Conn, ConnLife, ConnWaker, Ready};
use super::stream::Lease;
use super::tcp::Pending;
use super::{ConnId, PoolSet};
use crate::cluster::lock;
use crate::codec;
use crate::connect::Failed;
use crate::host::HostState;
use crate::plan::HttpOptions;
use crate::transport::TransportContext;
use crate::worker::{State, WorkerCluster, failure};
use making::Ask;
use waiting::Waiter;

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

/// What a connection is made with, and which pool it is for.
type MadeWith = (Option<Box<TransportContext>>, Key);

/// What a caller needs of the stream itself.
#[derive(Clone, Copy)]
struct Terms {
    priority: Priority,
    extended_connect: bool,
    wait: bool,
    /// An exchange, whose connection of HTTP/1 serves another when it is over: a tunnel's does not.
    exchange: bool,
}

impl Terms {
    fn of(need: &Need<'_>) -> Self {
        Self {
            priority: need.priority,
            extended_connect: need.extended_connect,
            wait: need.wait,
            exchange: need.request.is_some_and(|request| !request.kind.is_tunnel()),
        }
    }
}

/// What is kept of a caller's need while it waits.
#[derive(Clone)]
struct Wish {
    terms: Terms,
    downstream: Option<Arc<ConnInfo>>,
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
        let mut state = lock(&self.state);
        let host = match self.pick_of(&mut state, need) {
            Ok(host) => host,
            Err(failure) => return Soon::Now(Some(Err(failure))),
        };
        let version = codec::wanted(&self.core.plan.http, need.request.map(|request| request.version));
        let made_with = self.key(&host, need, version, None);
        let terms = Terms::of(need);
        let wish = || Wish { terms, downstream: need.downstream.cloned() };
        if let Some(http3) = self.http3(&host, need) {
            let wish = wish();
            return Soon::Later(Box::pin(async move {
                if let Some(settled) = Box::pin(self.acquire_http3(&host, wish.clone(), http3)).await {
                    return settled;
                }
                self.acquire_from(host, wish, made_with).await
            }));
        }
        let granted = self.grant(&mut state, &host, need.downstream, made_with);
        drop(state);
        match granted {
            Ok(granted) => Soon::Now(Some(self.granted(host, terms, granted))),
            Err(missing) => Soon::Later(Box::pin(self.await_grant(host, wish(), missing))),
        }
    }

    /// A stream on a connection of this pool to this host.
    async fn acquire_from(
        &self,
        host: Arc<HostState>,
        wish: Wish,
        made_with: MadeWith,
    ) -> Result<HttpUpstream, ConnectFailure> {
        let granted = self.grant(&mut lock(&self.state), &host, wish.downstream.as_ref(), made_with);
        match granted {
            Ok(granted) => self.granted(host, wish.terms, granted),
            Err(missing) => self.await_grant(host, wish, missing).await,
        }
    }

    /// A stream on a connection that is at hand; the error says which pool has none.
    fn grant(
        &self,
        state: &mut State,
        host: &Arc<HostState>,
        downstream: Option<&Arc<ConnInfo>>,
        (ctx, key): MadeWith,
    ) -> Result<Grant, Missing> {
        self.ensure_driver(state);
        let pool = state.pools.pool_of(host, key);
        let mut granted = self.take_ready(state, host, pool);
        if granted.is_none() {
            // The last exchange may have ended in this very turn of the runtime.
            for id in self.called_while_held(state).into_iter().chain(self.kicks.take_woken()) {
                self.woken(state, id);
            }
            granted = self.take_ready(state, host, pool);
        }
        let Some(granted) = granted else { return Err(Missing { pool, ctx }) };
        if self.core.plan.preconnect_ratio > 1.0 {
            // What was taken may have been the spare.
            let ask = Ask { host: host.clone(), ctx, downstream: downstream.cloned() };
            self.connect_for(state, host.id, pool, Some(&Arc::new(ask)));
        }
        Ok(granted)
    }

    /// The connections whose streams hold them though they have their answers: mostly none, as a stream lets go in the same turn.
    /// Once somebody waits, the task is told of them.
    fn called_while_held(&self, state: &State) -> Vec<ConnId> {
        if !self.kicks.are_called_while_held() {
            return Vec::new();
        }
        let woken = state.pools.conns.iter().filter(|(_, conn)| conn.queued.is_called());
        woken.map(|(_, conn)| conn.queued.id()).collect()
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
        let Wish { terms, downstream } = wish;
        if !terms.wait && self.is_full(&host, pool, terms.priority) {
            return Err(fail(Failed::new(FailureKind::Overflow, "")));
        }
        let pending = Pending::take(&self.core, &host, terms.priority).map_err(fail)?;
        let ask = Ask { host: host.clone(), ctx, downstream };
        let grant = self.wait(&host, pool, ask, terms.wait).await.map_err(fail)?;
        drop(pending);
        self.granted(host, terms, grant)
    }

    /// What the caller gets for a grant.
    fn granted(&self, host: Arc<HostState>, terms: Terms, grant: Grant) -> Result<HttpUpstream, ConnectFailure> {
        let fail = |failed: Failed| failure(&failed, Some(&host));
        let refusal = if terms.extended_connect && !grant.extended_connect {
            Some(Failed::new(FailureKind::Protocol, "extended CONNECT is not enabled by the peer"))
        } else if !Lease::take_place(&self.core, &host, terms.priority) {
            Some(Failed::new(FailureKind::Overflow, ""))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.give_back(grant.id);
            return Err(fail(refusal));
        }
        let holds = terms.exchange && grant.version < Version::HTTP_2;
        Ok(HttpUpstream {
            version: grant.version,
            conn: grant.info,
            lease: Box::new(Lease::new(grant.life, grant.waker, terms.priority, holds)),
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
            let PoolSet { hosts, conns, .. } = &mut state.pools;
            let queue = hosts.get_mut(&host.id)?.http.iter_mut().find(|candidate| candidate.id == pool)?;
            let id = *queue.ready.last()?;
            let Some(conn) = conns.get_mut(id.index).filter(|conn| conn.serial == id.serial) else {
                queue.ready.pop();
                continue;
            };
            match conn.ready() {
                Ready::Room(room, capabilities) => {
                    conn.reserved += 1;
                    conn.untried = false;
                    conn.left = conn.left.map(|left| left.saturating_sub(1));
                    conn.listed = room > 1;
                    if !conn.listed {
                        queue.ready.pop();
                    }
                    return Some(Grant {
                        id,
                        info: conn.info.clone(),
                        version: conn.version,
                        life: conn.life.clone(),
                        waker: conn.queued.clone(),
                        extended_connect: capabilities.extended_connect,
                    });
                }
                Ready::Busy => {
                    conn.listed = false;
                    queue.ready.pop();
                }
                Ready::Gone(gone) => self.remove(state, id.index, gone),
            }
        }
    }
}
