//! What the admin interface and signals do to the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use adit_access_log::Sinks;
use adit_admin::{Control, DrainRequest, State};
use adit_filter::RuntimeValues;
use adit_listener::Listener;
use adit_runtime::{Begin, Drain, DrainReason};
use tokio::sync::Notify;

use crate::logging::LogControl;
use crate::options::{DrainStrategy, LogLevel, Options};

/// The process's own state, and the levers on it.
pub(crate) struct ServerControl {
    drain: Drain,
    drain_time: std::time::Duration,
    drain_strategy: adit_runtime::DrainStrategy,
    listeners: Mutex<Vec<Arc<Listener>>>,
    clusters_ready: AtomicBool,
    listening: AtomicBool,
    draining: AtomicBool,
    quit: Notify,
    sinks: Sinks,
    log: LogControl,
    runtime: RuntimeValues,
    admin_layer: bool,
}

impl ServerControl {
    pub(crate) fn new(
        options: &Options,
        drain: Drain,
        sinks: Sinks,
        log: LogControl,
        runtime: RuntimeValues,
        admin_layer: bool,
    ) -> Self {
        Self {
            drain,
            drain_time: options.drain_time,
            drain_strategy: match options.drain_strategy {
                DrainStrategy::Gradual => adit_runtime::DrainStrategy::Gradual,
                DrainStrategy::Immediate => adit_runtime::DrainStrategy::Immediate,
            },
            listeners: Mutex::default(),
            clusters_ready: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            quit: Notify::new(),
            sinks,
            log,
            runtime,
            admin_layer,
        }
    }

    pub(crate) fn runtime(&self) -> &RuntimeValues {
        &self.runtime
    }

    pub(crate) fn listeners(&self) -> Vec<Arc<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_listeners(&self, listeners: Vec<Arc<Listener>>) {
        *self.listeners.lock().unwrap_or_else(PoisonError::into_inner) = listeners;
    }

    /// Every DNS cluster has had its first answer.
    pub(crate) fn set_clusters_ready(&self) {
        self.clusters_ready.store(true, Ordering::Release);
    }

    /// Every listener accepts on every worker.
    pub(crate) fn set_listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    pub(crate) fn server_state(&self) -> State {
        if !self.clusters_ready.load(Ordering::Acquire) {
            State::PreInitializing
        } else if !self.listening.load(Ordering::Acquire) {
            State::Initializing
        } else if self.drain.is_health_failed() || self.draining.load(Ordering::Acquire) {
            State::Draining
        } else {
            State::Live
        }
    }

    /// Ready when everything must end.
    pub(crate) fn closing(&self) -> adit_runtime::Closing {
        self.drain.closing()
    }

    /// Ready when the process is asked to end.
    pub(crate) async fn quit_requested(&self) {
        self.quit.notified().await;
    }

    pub(crate) fn reopen(&self) {
        self.sinks.reopen();
        if let Err(error) = self.log.reopen() {
            tracing::error!(%error, "the log file cannot be opened anew");
        }
    }
}

impl Control for ServerControl {
    fn state(&self) -> State {
        self.server_state()
    }

    fn set_health_failed(&self, failed: bool) {
        self.drain.set_health_failed(failed);
    }

    fn drain(&self, request: DrainRequest) {
        let chosen: Vec<Arc<Listener>> = self
            .listeners()
            .into_iter()
            .filter(|listener| !request.inbound_only || listener.plan().info().direction == "INBOUND")
            .collect();
        let begin = Begin {
            reason: DrainReason::Admin,
            now: Instant::now(),
            drain_time: self.drain_time,
            strategy: self.drain_strategy,
        };
        for listener in &chosen {
            listener.begin_drain(begin);
        }
        if !request.graceful {
            chosen.iter().for_each(|listener| listener.stop_accepting());
            return;
        }
        if !request.skip_exit {
            let drain_time = self.drain_time;
            // Bounded by the drain time; ends with the main runtime.
            tokio::spawn(async move {
                tokio::time::sleep(drain_time).await;
                chosen.iter().for_each(|listener| listener.stop_accepting());
            });
        }
    }

    fn quit(&self) {
        self.quit.notify_one();
    }

    fn reopen_logs(&self) {
        self.reopen();
    }

    fn logging(&self, change: Option<(Option<&str>, &str)>) -> Result<Vec<(String, String)>, String> {
        if let Some((component, level)) = change {
            let parsed = LogLevel::parse(level).ok_or_else(|| format!("error: unknown logger level {level}"))?;
            match component {
                None => self.log.set_all(parsed),
                Some(name) if self.log.set(name, parsed) => {}
                Some(name) => return Err(format!("error: unknown logger name {name}")),
            }
        }
        Ok(self.log.levels().into_iter().map(|(name, level)| (name.to_owned(), level.as_str().to_owned())).collect())
    }

    fn modify_runtime(&self, changes: &[(String, String)]) -> Result<(), String> {
        if !self.admin_layer {
            return Err("No admin layer specified".to_owned());
        }
        for (key, value) in changes {
            self.runtime.set(key, value);
        }
        Ok(())
    }
}
