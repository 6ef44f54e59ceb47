//! `http2.*` and `http3.*`: what the codecs count, made on first use.

use std::sync::OnceLock;

use adit_stats::{Counter, Gauge, Scope};

macro_rules! codec_stats {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $codec:ident) => {
        $(#[$doc])*
        pub struct $name {
            scope: Scope,
            made: OnceLock<(Vec<Counter>, Vec<Gauge>)>,
        }

        impl $name {
            /// Counts at the codec's own name below `parent`.
            pub fn new(parent: &Scope) -> Self {
                Self { scope: parent.scope($prefix), made: OnceLock::new() }
            }

            fn made(&self) -> &(Vec<Counter>, Vec<Gauge>) {
                self.made.get_or_init(|| {
                    let counters = $codec::Counter::ALL.iter().map(|counter| self.scope.counter(counter.name()));
                    let gauges = $codec::Gauge::ALL.iter().map(|gauge| self.scope.gauge(gauge.name()));
                    (counters.collect(), gauges.collect())
                })
            }
        }

        impl $codec::CodecStats for $name {
            fn count(&self, counter: $codec::Counter) {
                if let Some(found) = self.made().0.get(counter as usize) {
                    found.inc();
                }
            }

            fn gauge(&self, gauge: $codec::Gauge, delta: i64) {
                match self.made().1.get(gauge as usize) {
                    Some(found) if delta >= 0 => found.add(delta.unsigned_abs()),
                    Some(found) => found.sub(delta.unsigned_abs()),
                    None => {}
                }
            }
        }
    };
}

codec_stats!(
    /// What the HTTP/2 codecs count below one scope: the root for downstream, a cluster's for upstream.
    Http2Stats,
    "http2",
    adit_h2
);
codec_stats!(
    /// What the HTTP/3 codecs count, likewise.
    Http3Stats,
    "http3",
    adit_h3
);
