//! `server.*`, `listener_manager.*` and `cluster_manager.*`: what the process counts of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_admin::State;
use adit_stats::{Gauge, Store};
use adit_tls::CertificateStore;

use crate::control::ServerControl;

/// Gauges that are set rather than counted.
pub(crate) struct ServerStats {
    started: Instant,
    live: Gauge,
    state: Gauge,
    uptime: Gauge,
    memory_allocated: Gauge,
    memory_heap_size: Gauge,
    memory_physical_size: Gauge,
    total_connections: Gauge,
    listeners_active: Gauge,
    workers_started: Gauge,
    days_until_first_cert_expiring: Gauge,
    certificates: CertificateStore,
}

impl ServerStats {
    pub(crate) fn new(store: &Store, workers: usize, certificates: CertificateStore) -> Self {
        let server = store.root().scope("server");
        server.gauge("concurrency").set(workers as u64);
        server.gauge("hot_restart_epoch").set(0);
        server.gauge("parent_connections").set(0);
        for name in [
            "static_unknown_fields",
            "dynamic_unknown_fields",
            "wip_protos",
            "envoy_bug_failures",
            "debug_assertion_failures",
        ] {
            server.counter(name);
        }
        let manager = store.root().scope("listener_manager");
        Self {
            started: Instant::now(),
            live: server.gauge("live"),
            state: server.gauge("state"),
            uptime: server.gauge("uptime"),
            memory_allocated: server.gauge("memory_allocated"),
            memory_heap_size: server.gauge("memory_heap_size"),
            memory_physical_size: server.gauge("memory_physical_size"),
            total_connections: server.gauge("total_connections"),
            listeners_active: manager.gauge("total_listeners_active"),
            workers_started: manager.gauge("workers_started"),
            days_until_first_cert_expiring: server.gauge("days_until_first_cert_expiring"),
            certificates,
        }
    }

    /// Sets the gauges and latches the histograms every `interval`, until the process ends.
    pub(crate) async fn run(self: Arc<Self>, control: Arc<ServerControl>, store: Store, interval: Duration) {
        let closing = control.closing();
        tokio::pin!(closing);
        loop {
            self.set(&control);
            store.latch_histograms();
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = &mut closing => return,
            }
        }
    }

    /// Sets the gauges to the moment.
    pub(crate) fn set(&self, control: &ServerControl) {
        let state = control.server_state();
        self.live.set(u64::from(state == State::Live));
        self.state.set(match state {
            State::Live => 0,
            State::Draining => 1,
            State::PreInitializing => 2,
            State::Initializing => 3,
        });
        self.uptime.set(self.started.elapsed().as_secs());
        let resident = crate::memory::resident();
        self.memory_allocated.set(resident);
        self.memory_heap_size.set(resident);
        self.memory_physical_size.set(resident);
        let listeners = control.listeners();
        self.total_connections.set(listeners.iter().map(|listener| listener.connections()).sum());
        self.listeners_active.set(listeners.iter().filter(|listener| !listener.is_stopped()).count() as u64);
        // Without a certificate Envoy shows the largest number there is.
        let days = self.certificates.days_until_first_expiring().unwrap_or(u64::from(u32::MAX));
        self.days_until_first_cert_expiring.set(days);
        let accepting = matches!(state, State::Live | State::Draining);
        self.workers_started.set(u64::from(accepting));
    }
}
