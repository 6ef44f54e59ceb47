//! `http2.*`: what the HTTP/2 codecs count, made on first use.

use std::sync::OnceLock;

use adit_h2::{CodecStats, Counter, Gauge};
use adit_stats::Scope;

/// The codecs' stats below one scope: the root for downstream, a cluster's for upstream.
pub(crate) struct Http2Stats {
    scope: Scope,
    made: OnceLock<(Vec<adit_stats::Counter>, Vec<adit_stats::Gauge>)>,
}

impl Http2Stats {
    pub(crate) fn new(parent: &Scope) -> Self {
        Self { scope: parent.scope("http2"), made: OnceLock::new() }
    }

    fn made(&self) -> &(Vec<adit_stats::Counter>, Vec<adit_stats::Gauge>) {
        self.made.get_or_init(|| {
            (
                Counter::ALL.iter().map(|counter| self.scope.counter(counter.name())).collect(),
                Gauge::ALL.iter().map(|gauge| self.scope.gauge(gauge.name())).collect(),
            )
        })
    }
}

impl CodecStats for Http2Stats {
    fn count(&self, counter: Counter) {
        if let Some(found) = self.made().0.get(counter as usize) {
            found.inc();
        }
    }

    fn gauge(&self, gauge: Gauge, delta: i64) {
        if let Some(found) = self.made().1.get(gauge as usize) {
            if delta >= 0 {
                found.add(delta.unsigned_abs());
            } else {
                found.sub(delta.unsigned_abs());
            }
        }
    }
}
