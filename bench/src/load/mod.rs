//! One measurement: a client, an origin, and the kernel's accounting of what stands between them.

mod requests;
mod tunnels;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};

use crate::origin::{self, Shared};
use crate::proc::Used;
use crate::spec::{LoadResult, LoadSpec, OriginKind, Transport};

/// Latencies in nanoseconds, from a microsecond to a minute.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(100, 60_000_000_000, 3)?)
}

/// Runs one measurement.
///
/// # Errors
/// If the origin cannot listen, or nothing comes through at all.
pub fn run(spec: &LoadSpec) -> Result<LoadResult> {
    let shared = Arc::new(Shared::default());
    // HTTP/2 at the origin costs as much as in the proxy: one thread would be the limit.
    let threads = if spec.origin_kind == OriginKind::H2 { 2 } else { 1 };
    for number in 0..threads {
        let listener = origin::listen(spec.origin)?;
        let (kind, cell, shared) = (spec.origin_kind, spec.cell, Arc::clone(&shared));
        std::thread::Builder::new().name(format!("origin-{number}")).spawn(move || {
            let done = runtime().and_then(|runtime| runtime.block_on(origin::serve(listener, kind, cell, shared)));
            if let Err(error) = done {
                eprintln!("origin: {error:#}");
            }
        })?;
    }
    std::thread::sleep(Duration::from_millis(20));
    let mut result = match spec.transport {
        Transport::Wrk | Transport::H2load => requests::run(spec)?,
        _ => tunnels::run(spec, &shared)?,
    };
    result.errors += shared.errors.load(Ordering::Relaxed);
    Ok(result)
}

/// A runtime of one thread, as the proxies have.
pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("a runtime")
}

/// Fills in what the accounting says.
pub(crate) fn account(result: &mut LoadResult, used: &Used) {
    result.secs = used.secs;
    result.proxy_cpu = used.proxy;
    result.busiest_thread_cpu = used.busiest;
    result.generator_cpu = used.generator;
    result.foreign_cpu = used.foreign;
    result.foreign_core_cpu = used.foreign_core;
}

/// Fills in latencies, of nanoseconds.
pub(crate) fn latencies(result: &mut LoadResult, histogram: &Histogram<u64>) {
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    result.p50 = micros(0.5);
    result.p99 = micros(0.99);
    result.p999 = micros(0.999);
}
