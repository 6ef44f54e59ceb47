//! Connection pools of one cluster on one worker.
//!
//! TCP connections are not pooled, only counted and queued. HTTP connections are: a codec's own waker (see
//! [`adit_codec::ClientConn::poll_ready`]) tells when an idle one was closed or a busy one is free, and one task for the
//! cluster, not one for each connection, acts on it. An exchange that has a connection of HTTP/1 to itself takes it back
//! itself when it ends (see [`Kicks::settle`]).

mod conn;
mod driver;
mod http;
mod stream;
mod tcp;

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

pub(crate) use conn::{Conn, ConnId};
pub(crate) use driver::Kicks;
use http::HttpPool;
use tcp::TcpPool;
pub(crate) use tcp::TcpTicket;

use crate::host::{HealthFlag, HostState};
use crate::worker::Pools;

/// Every pool of one cluster on one worker, and every pooled connection.
pub(crate) struct PoolSet {
    pub hosts: Pools,
    pub conns: Slab<Conn>,
    /// The task that acts on wakers and timers is running.
    pub running: bool,
    /// The last serial number given to a connection, a pool or a waiter.
    pub serial: u64,
}

/// The pools of one host.
pub(crate) struct HostPools {
    pub host: Arc<HostState>,
    /// By priority.
    pub tcp: [TcpPool; 2],
    pub http: Vec<HttpPool>,
}

impl PoolSet {
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The pools of a host, made if there are none.
    pub fn of(&mut self, host: &Arc<HostState>) -> &mut HostPools {
        self.hosts.entry(host.id).or_insert_with(|| HostPools {
            host: host.clone(),
            tcp: Default::default(),
            http: Vec::new(),
        })
    }

    /// Closes what idles at hosts that are gone, and forgets pools that are done.
    pub fn prune(&mut self) {
        let Self { hosts, conns, .. } = self;
        let gone: Vec<usize> = conns
            .iter()
            .filter(|(_, conn)| conn.host_gone() && conn.is_idle() && !conn.fresh)
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            let Some(conn) = conns.try_remove(index) else { continue };
            let id = ConnId { index, serial: conn.serial };
            let pools = hosts.get_mut(&conn.life.host.id);
            if let Some(pool) = pools.and_then(|pools| pools.http.iter_mut().find(|pool| pool.id == conn.pool)) {
                pool.forget(id);
            }
        }
        hosts.retain(|_, pools| !(pools.host.has(HealthFlag::PendingRemoval) && pools.is_done()));
    }
}

impl HostPools {
    fn is_done(&self) -> bool {
        self.tcp.iter().all(TcpPool::is_done) && self.http.iter().all(HttpPool::is_done)
    }
}

/// The earlier of two moments of which either may be missing.
fn earlier(a: Option<tokio::time::Instant>, b: Option<tokio::time::Instant>) -> Option<tokio::time::Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Timers are looked at no more often than this.
const GRAIN: Duration = Duration::from_millis(10);
