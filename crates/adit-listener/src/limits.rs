//! How many connections may be open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use adit_filter::RuntimeValues;

/// The runtime key of the limit for all listeners together; the older of its two forms.
const GLOBAL_KEY: &str = "overload.global_downstream_max_connections";

/// The connections of all listeners together, and how many there may be: the resource monitor
/// `downstream_connections` (`max_active_downstream_connections`), or runtime `overload.global_downstream_max_connections`.
///
/// Listeners with `ignore_global_conn_limit` neither count nor are limited.
#[derive(Default)]
pub struct GlobalLimit {
    active: AtomicU64,
    max: Option<u64>,
    runtime: RuntimeValues,
}

impl GlobalLimit {
    /// `max` is the monitor's number; without it the runtime's value counts, if there is one.
    pub fn new(max: Option<u64>, runtime: RuntimeValues) -> Arc<Self> {
        Arc::new(Self { active: AtomicU64::new(0), max, runtime })
    }

    /// Connections open now.
    pub fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    pub(crate) fn admit(&self) -> bool {
        take(&self.active, self.max.unwrap_or_else(|| limit(&self.runtime, GLOBAL_KEY)))
    }

    pub(crate) fn release(&self) {
        self.active.fetch_sub(1, Relaxed);
    }
}

/// The connections of one listener on all workers.
pub(crate) struct ListenerLimit {
    active: AtomicU64,
    key: Box<str>,
}

impl ListenerLimit {
    /// Limited by runtime `envoy.resource_limits.listener.<name>.connection_limit`.
    pub(crate) fn new(listener: &str) -> Self {
        let key = format!("envoy.resource_limits.listener.{listener}.connection_limit");
        Self { active: AtomicU64::new(0), key: key.into() }
    }

    pub(crate) fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    pub(crate) fn admit(&self, runtime: &RuntimeValues) -> bool {
        take(&self.active, limit(runtime, &self.key))
    }

    pub(crate) fn release(&self) {
        self.active.fetch_sub(1, Relaxed);
    }
}

fn limit(runtime: &RuntimeValues, key: &str) -> u64 {
    runtime.get(key).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// Counts one more unless that were more than `max`. A failed try never makes another one fail.
fn take(active: &AtomicU64, max: u64) -> bool {
    active.fetch_update(Relaxed, Relaxed, |now| (now < max).then_some(now + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_sets_the_limits() {
        let runtime = RuntimeValues::default();
        let limit = ListenerLimit::new("l");
        assert!(limit.admit(&runtime));
        runtime.set("envoy.resource_limits.listener.l.connection_limit", "2");
        assert!(limit.admit(&runtime));
        assert!(!limit.admit(&runtime));
        limit.release();
        assert!(limit.admit(&runtime));
        assert_eq!(limit.active(), 2);
    }

    #[test]
    fn the_monitor_comes_before_the_runtime() {
        let runtime = RuntimeValues::default();
        runtime.set(GLOBAL_KEY, "5");
        let global = GlobalLimit::new(Some(1), runtime.clone());
        assert!(global.admit());
        assert!(!global.admit());
        global.release();
        assert_eq!(global.active(), 0);
        let global = GlobalLimit::new(None, runtime);
        assert_eq!((0..9).filter(|_| global.admit()).count(), 5);
    }
}
