//! What becomes of a connection whose turn has come: it has room, it is in use, or it is over.

use adit_filter::upstream::FailureKind;

use super::alternative::alternative;
use crate::connect::{Failed, refused};
use crate::pool::conn::{Gone, Ready};
use crate::pool::{ConnId, PoolSet};
use crate::worker::{State, WorkerCluster};

impl WorkerCluster {
    /// A codec's waker was called: the connection is free, or over.
    pub(in crate::pool) fn woken(&self, state: &mut State, id: ConnId) {
        if let Some(conn) = state.pools.conn(id) {
            conn.acknowledge();
            self.offer(state, id);
        }
    }

    /// A connection may have room: it goes to who waits, else into the list.
    pub(in crate::pool) fn offer(&self, state: &mut State, id: ConnId) {
        let PoolSet { hosts, conns, .. } = &mut state.pools;
        let Some(conn) = conns.get_mut(id.index).filter(|conn| conn.serial == id.serial) else { return };
        match conn.ready() {
            Ready::Gone(gone) => self.found_gone(state, id, gone),
            Ready::Busy => {}
            Ready::Room(..) => {
                let listed = std::mem::replace(&mut conn.listed, true);
                let pools = hosts.get_mut(&conn.life.host.id);
                let queue = pools.and_then(|pools| pools.http.iter_mut().find(|queue| queue.id == conn.pool));
                let queue = queue.map(|queue| {
                    if !listed {
                        queue.ready.push(id);
                    }
                    !queue.waiters.is_empty()
                });
                if conn.fresh {
                    self.works(state, id);
                } else if queue == Some(true) {
                    let (host, pool) = (conn.life.host.clone(), conn.pool);
                    self.serve(state, &host, pool);
                }
                self.remove_if_unwanted(state, id);
            }
        }
    }

    /// A connection is over.
    fn found_gone(&self, state: &mut State, id: ConnId, gone: Gone) {
        let Some(conn) = state.pools.conn(id) else { return };
        let (host, pool, fresh, refusal) = (conn.life.host.clone(), conn.pool, conn.fresh, conn.info.refusal.clone());
        self.remove(state, id.index, gone);
        if !fresh {
            return self.connect_more(state, host.id, pool);
        }
        // It never worked: another try would end likewise.
        if !gone.broken {
            self.core.stats.traffic.upstream_cx_protocol_error.inc();
        }
        let why = refusal.as_ref().and_then(refused).map_or_else(
            || Failed::new(FailureKind::Remote, "connection closed before its first stream"),
            Failed::from,
        );
        self.failed(state, &host, pool, &why);
    }

    /// A new connection has room for the first time.
    fn works(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        conn.fresh = false;
        let (host, pool) = (conn.life.host.clone(), conn.pool);
        if let Some(queue) = state.pools.pool(host.id, pool) {
            queue.connecting = queue.connecting.saturating_sub(1);
            queue.connected += 1;
            if let Some((alternate, name, port)) = alternative(&self.core, &host, &queue.key) {
                alternate.works(name, port);
            }
        }
        self.serve(state, &host, pool);
        self.watch_untried(state, id);
    }

    /// Nobody is to find a connection to a host that is gone.
    fn remove_if_unwanted(&self, state: &mut State, id: ConnId) {
        if state.pools.conn(id).is_some_and(|conn| conn.host_gone() && conn.is_idle()) {
            self.remove(state, id.index, Gone::default());
        }
    }

    /// Nobody may be there to try a new connection: the codec watches it from here on.
    fn watch_untried(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        let untried = std::mem::take(&mut conn.untried);
        if untried
            && conn.is_idle()
            && let Ready::Gone(gone) = conn.ready()
        {
            self.remove(state, id.index, gone);
        }
    }

    /// After a stream was opened: registers the waker, and retires a connection that had its last stream.
    pub(in crate::pool) fn after_open(&self, state: &mut State, id: ConnId) {
        let Some(conn) = state.pools.conn(id) else { return };
        if conn.left == Some(0) && conn.reserved == 0 {
            self.core.stats.traffic.upstream_cx_max_requests.inc();
            self.retire(state, id.index);
        } else if !conn.listed {
            self.offer(state, id);
        }
    }

    /// Lets a connection take no further stream; those that live finish without the pool.
    pub(in crate::pool) fn retire(&self, state: &mut State, index: usize) {
        if let Some(conn) = state.pools.conns.get_mut(index) {
            conn.conn.drain();
            self.drop_counted(state, index, Gone::default());
        }
    }

    /// Forgets a connection that is over, and counts its streams as cut.
    pub(in crate::pool) fn remove(&self, state: &mut State, index: usize, gone: Gone) {
        let live = state.pools.conns.get(index).is_some_and(|conn| conn.conn.live_streams() != 0);
        self.drop_counted(state, index, Gone { active: gone.active || live, ..gone });
    }

    fn drop_counted(&self, state: &mut State, index: usize, gone: Gone) {
        let Some(conn) = state.pools.conns.try_remove(index) else { return };
        let id = ConnId { index, serial: conn.serial };
        let stats = &self.core.stats.traffic;
        if gone.broken {
            stats.upstream_cx_protocol_error.inc();
        }
        let (all, with_request) = if gone.by_peer {
            (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq)
        } else {
            (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq)
        };
        all.inc();
        if gone.active {
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
