//! Counters, gauges, histograms and text readouts under Envoy's names (Floor F0: pure `std`).
//!
//! What it is: one [`Store`] per process holds every metric. A [`Scope`] is a prefix plus the tags that the
//! Prometheus form turns into labels; metrics are made from scopes and are cheap handles that any thread may use.
//! The readouts of the admin interface (`/stats` as text and JSON, `/stats/prometheus`) are rendered here.
//!
//! What it deliberately does not know: sockets, clocks, configuration messages, regular expressions. Filters and
//! matchers are closures, and whoever owns a timer calls [`Store::latch_histograms`].
//!
//! Read first: [`Store`], [`Scope`], [`Counter`].
//!
//! # How a counter is stored
//!
//! Workers must not fight for a cache line, and thousands of counters must stay small. So the slots of many counters
//! lie side by side in a *chunk*, and a chunk holds one such row per shard: a shard for the main thread and one for
//! each worker. A counter costs 8 bytes per shard plus its name; a worker touches only lines of its own row. A thread
//! says which row it writes with [`enter_worker`]. One thread alone writes a worker's row, so that counting there is a plain
//! addition; a thread that says nothing writes the main row, with locked additions. Reading sums the rows.

mod buckets;
mod codes;
mod histogram;
mod metric;
mod render;
mod scope;
mod slots;
mod store;
pub mod tag;

pub use buckets::{PROMETHEUS_BOUNDS, QUANTILES};
pub use codes::{ResponseClasses, ResponseCodes};
pub use histogram::Histogram;
pub use metric::{Counter, Gauge, GaugeHold, TextReadout};
pub use render::{HistogramBuckets, MetricType, Query};
pub use scope::Scope;
pub use slots::enter_worker;
pub use store::{Reject, Store, StoreOptions};

#[cfg(test)]
mod tests;
