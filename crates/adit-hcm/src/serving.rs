//! A connection from its first byte to its end: its phases, and its account.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use adit_filter::{BoxFuture, Connection, StreamInfo};
use adit_stats::GaugeHold;
use tokio::time::Instant;

use crate::Hcm;
use crate::conn::{ConnShared, Served, serve_streams};
use crate::tunnel::Tunnel;

/// Serves a connection of bytes to its end.
pub(crate) fn serve(hcm: Arc<Hcm>, connection: Connection) -> BoxFuture<'static, Option<Box<StreamInfo>>> {
    let info = connection.stream_info();
    let started = Instant::from_std(info.started);
    let origin = info.into();
    let Connection { io, listener, worker, guards, .. } = connection;
    let shared = Arc::new(ConnShared::new(&hcm, worker, io.info.clone(), listener.buffer_limit, origin));
    let opening = {
        let (hcm, shared) = (hcm.clone(), shared.clone());
        Box::pin(async move { hcm.open_codec(io, &shared).await })
    };
    let account = CxAccount::open(hcm, shared.clone(), started);
    let phase = Phase::Streams(Box::pin(serve_streams(opening, shared, started)));
    Box::pin(Serving { phase, logs: listener.logs, account: Some(account), guards })
}

/// A connection of bytes. It lives as long as the connection: what only a phase needs is in a box that goes with the phase.
struct Serving {
    phase: Phase,
    /// The listener logs it.
    logs: bool,
    /// Gone once it is over.
    account: Option<CxAccount>,
    /// Who waits for the connection's place to be free finds it counted out.
    guards: Vec<Box<dyn Send>>,
}

enum Phase {
    Streams(BoxFuture<'static, Served>),
    /// Its last stream became a tunnel, and has the connection to itself.
    Tunnel {
        tunnel: Pin<Box<Tunnel>>,
        /// In the count of the codec's version.
        _active: GaugeHold,
    },
    Over,
}

impl Serving {
    /// Ready once nothing is left of the connection but its account: with why it got no codec, where it got none.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        loop {
            match &mut self.phase {
                Phase::Streams(streams) => match ready!(streams.as_mut().poll(cx)) {
                    Served::Over(error) => return Poll::Ready(error),
                    Served::Tunnel(tunnel, active) => {
                        self.phase = Phase::Tunnel { tunnel, _active: active };
                        if let Some(account) = self.account.as_mut().filter(|_| !self.logs) {
                            account.forget();
                        }
                    }
                },
                Phase::Tunnel { tunnel, .. } => {
                    let ends = ready!(tunnel.as_mut().poll(cx));
                    if let Some(account) = &mut self.account {
                        account.ends = account.ends.or(ends);
                    }
                    return Poll::Ready(None);
                }
                Phase::Over => return Poll::Ready(None),
            }
        }
    }
}

impl Future for Serving {
    type Output = Option<Box<StreamInfo>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error = ready!(self.poll_over(cx));
        self.phase = Phase::Over;
        let account = self.account.take();
        let shared = account.as_ref().and_then(|account| account.shared.as_ref()).filter(|_| self.logs);
        let info = shared.map(|shared| {
            let termination_details = error.map(Into::into);
            Box::new(StreamInfo { termination_details, ..shared.connection_info() })
        });
        drop(account);
        self.guards.clear();
        Poll::Ready(info)
    }
}

/// Counts a connection from its first byte to its end; dropped with the connection's future, however that ends.
pub(crate) struct CxAccount {
    hcm: Arc<Hcm>,
    /// `None` once nothing more is to be known from it.
    shared: Option<Arc<ConnShared>>,
    ends: Ends,
    tls: bool,
    started: Instant,
}

impl CxAccount {
    pub(crate) fn open(hcm: Arc<Hcm>, shared: Arc<ConnShared>, started: Instant) -> Self {
        let stats = &hcm.stats.http;
        let tls = shared.info.tls.is_some();
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        if tls {
            stats.downstream_cx_ssl_total.inc();
            stats.downstream_cx_ssl_active.inc();
        }
        Self { hcm, shared: Some(shared), ends: Ends::default(), tls, started }
    }

    /// Gives up what streams share, where there will be no more.
    fn forget(&mut self) {
        self.ends = self.ends();
        self.shared = None;
    }

    fn ends(&self) -> Ends {
        self.shared.as_ref().map_or(self.ends, |shared| shared.ends.get().or(self.ends))
    }
}

impl Drop for CxAccount {
    fn drop(&mut self) {
        let stats = &self.hcm.stats.http;
        let ends = self.ends();
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        let (all, with_request) = if ends.local {
            (&stats.downstream_cx_destroy_local, &stats.downstream_cx_destroy_local_active_rq)
        } else {
            (&stats.downstream_cx_destroy_remote, &stats.downstream_cx_destroy_remote_active_rq)
        };
        all.inc();
        if ends.active {
            with_request.inc();
            stats.downstream_cx_destroy_active_rq.inc();
        }
        if self.tls {
            stats.downstream_cx_ssl_active.dec();
        }
        let length = self.started.elapsed().as_millis();
        stats.downstream_cx_length_ms.record(u64::try_from(length).unwrap_or(u64::MAX));
    }
}

/// What is known of how a connection ends, for its account.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    /// This side ended it.
    pub(crate) local: bool,
    /// A request was not over.
    pub(crate) active: bool,
}

impl Ends {
    pub(crate) const LOCAL: Self = Self { local: true, active: false };
    pub(crate) const ACTIVE: Self = Self { local: false, active: true };

    fn or(self, other: Self) -> Self {
        Self { local: self.local | other.local, active: self.active | other.active }
    }
}

/// The same, as streams on any thread add to it.
#[derive(Default)]
pub(crate) struct NotedEnds {
    local: AtomicBool,
    active: AtomicBool,
}

impl NotedEnds {
    pub(crate) fn note(&self, ends: Ends) {
        if ends.local {
            self.local.store(true, Ordering::Relaxed);
        }
        if ends.active {
            self.active.store(true, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Ends {
        Ends { local: self.local.load(Ordering::Relaxed), active: self.active.load(Ordering::Relaxed) }
    }
}
