//! `envoy.filters.network.connection_limit`: at most so many connections at once, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit_config::proto::envoy::extensions::filters::network::connection_limit::v3 as pb;
use adit_filter::{BoxFuture, Connection, NetworkFilter, NetworkVerdict};
use adit_match::ConfigError;
use adit_stats::{Counter, Gauge};

use crate::Env;

pub(super) struct Filter {
    max: u64,
    delay: Duration,
    /// The runtime key that turns it off, and its default.
    enabled: (Box<str>, bool),
    limited: Counter,
    count: Arc<Count>,
}

struct Count {
    /// The limit rests on this number, which the gauge is not for.
    active: AtomicU64,
    gauge: Gauge,
}

impl Filter {
    pub fn new(message: &pb::ConnectionLimit, env: &Env<'_>, path: &str) -> Result<Self, ConfigError> {
        let max = message.max_connections.filter(|max| *max > 0);
        let scope = env.root.connection_limit(&message.stat_prefix);
        let enabled = message.runtime_enabled.as_ref();
        Ok(Self {
            max: max.ok_or_else(|| ConfigError::new(format!("{path}.max_connections"), "must be at least 1"))?,
            delay: message.delay.as_ref().map(adit_config::duration).unwrap_or_default(),
            enabled: enabled.map_or_else(
                || ("".into(), true),
                |flag| (flag.runtime_key.as_str().into(), flag.default_value.unwrap_or(true)),
            ),
            limited: scope.counter("limited_connections"),
            count: Arc::new(Count { active: AtomicU64::new(0), gauge: scope.gauge("active_connections") }),
        })
    }
}

/// One connection that counts.
struct Guard(Arc<Count>);

impl Guard {
    fn take(count: &Arc<Count>, max: u64) -> Option<Self> {
        let one_more = |active: u64| (active < max).then(|| active + 1);
        count.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        count.gauge.inc();
        Some(Self(count.clone()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

impl NetworkFilter for Filter {
    fn on_connection<'a>(&'a self, connection: &'a mut Connection) -> BoxFuture<'a, NetworkVerdict> {
        let (key, default) = &self.enabled;
        let verdict = if !connection.worker.runtime.flag(key, *default) {
            NetworkVerdict::Continue
        } else if let Some(guard) = Guard::take(&self.count, self.max) {
            connection.guards.push(Box::new(guard));
            NetworkVerdict::Continue
        } else {
            self.limited.inc();
            // Envoy's filter gives no details.
            NetworkVerdict::Close { delay: self.delay, details: String::new(), flag: None }
        };
        Box::pin(std::future::ready(verdict))
    }
}
