//! Circuit breakers (`envoy.config.cluster.v3.CircuitBreakers`): limits per cluster and priority, for the whole process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use adit_filter::upstream::Priority;
use adit_stats::{Gauge, Scope};

/// Limits of one priority.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// `max_connections`.
    pub max_connections: u64,
    /// `per_host_thresholds`: `max_connections` of each host.
    pub max_connections_per_host: u64,
    /// `max_pending_requests`.
    pub max_pending_requests: u64,
    /// `max_requests`.
    pub max_requests: u64,
    /// `max_retries`, unless there is a budget.
    pub max_retries: u64,
    /// `retry_budget`.
    pub retry_budget: Option<RetryBudget>,
    /// `track_remaining`: the `remaining_*` gauges are kept.
    pub track_remaining: bool,
}

/// Retries as a share of the live requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent`, 20 by default.
    pub percent: f64,
    /// `min_retry_concurrency`, 3 by default.
    pub min_concurrency: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_host: u64::MAX,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            track_remaining: false,
        }
    }
}

/// One limited thing. The count is exact over all threads; the gauges follow it.
pub struct Resource {
    max: u64,
    used: AtomicU64,
    open: Gauge,
    remaining: Option<Gauge>,
}

impl Resource {
    fn new(max: u64, open: Gauge, remaining: Option<Gauge>) -> Self {
        if max == 0 {
            open.set(1);
        }
        if let Some(gauge) = &remaining {
            gauge.set(max);
        }
        Self { max, used: AtomicU64::new(0), open, remaining }
    }

    /// Takes one if the limit allows it.
    pub fn try_take(&self) -> bool {
        self.try_take_below(self.max)
    }

    /// Takes one if fewer than `max` are taken.
    fn try_take_below(&self, max: u64) -> bool {
        let taken = self.used.try_update(Relaxed, Relaxed, |used| (used < max).then_some(used + 1));
        taken.inspect(|before| self.took(*before)).is_ok()
    }

    /// Takes one, whatever the limit.
    pub fn take(&self) {
        self.took(self.used.fetch_add(1, Relaxed));
    }

    /// Gives one back.
    pub fn put(&self) {
        let before = self.used.fetch_sub(1, Relaxed);
        if before == self.max {
            self.open.set(0);
        }
        if let Some(gauge) = &self.remaining {
            gauge.set(self.max.saturating_sub(before.saturating_sub(1)));
        }
    }

    /// How many are taken.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The limit.
    pub fn max(&self) -> u64 {
        self.max
    }

    fn took(&self, before: u64) {
        if before + 1 == self.max {
            self.open.set(1);
        }
        if let Some(gauge) = &self.remaining {
            gauge.set(self.max.saturating_sub(before + 1));
        }
    }
}

/// The breakers of one priority.
pub struct Breaker {
    /// The configured limits.
    pub limits: Thresholds,
    /// `max_connections`.
    pub connections: Resource,
    /// `max_pending_requests`.
    pub pending: Resource,
    /// `max_requests`.
    pub requests: Resource,
    /// `max_retries` or `retry_budget`.
    pub retries: Resource,
}

impl Breaker {
    fn new(limits: Thresholds, scope: &Scope) -> Self {
        let resource = |max, open: &str, remaining: &str| {
            let left = limits.track_remaining.then(|| scope.gauge(remaining));
            Resource::new(max, scope.gauge(open), left)
        };
        // No limit of ours, but Envoy's gauge.
        let _ = scope.gauge("cx_pool_open");
        Self {
            limits,
            connections: resource(limits.max_connections, "cx_open", "remaining_cx"),
            pending: resource(limits.max_pending_requests, "rq_pending_open", "remaining_pending"),
            requests: resource(limits.max_requests, "rq_open", "remaining_rq"),
            retries: resource(limits.max_retries, "rq_retry_open", "remaining_retries"),
        }
    }

    /// Takes a retry if `max_retries` or the budget allows it.
    pub fn try_take_retry(&self) -> bool {
        let Some(budget) = self.limits.retry_budget else {
            return self.retries.try_take();
        };
        let live = self.requests.used() + self.pending.used();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count of requests")]
        let share = (live as f64 * budget.percent / 100.0) as u64;
        self.retries.try_take_below(share.max(budget.min_concurrency))
    }
}

/// The breakers of a cluster, by priority.
pub struct Breakers {
    default: Breaker,
    high: Breaker,
}

impl Breakers {
    /// Breakers with these limits: DEFAULT, then HIGH.
    pub fn new(limits: [Thresholds; 2], scope: &Scope) -> Self {
        let [default, high] = limits;
        let scope = scope.scope("circuit_breakers");
        Self { default: Breaker::new(default, &scope.scope("default")), high: Breaker::new(high, &scope.scope("high")) }
    }

    /// Those of a priority.
    pub fn of(&self, priority: Priority) -> &Breaker {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

#[cfg(test)]
mod tests;
