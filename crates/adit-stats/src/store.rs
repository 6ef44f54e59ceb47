//! The registry of all metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scope::{Scope, ScopeData, join, sanitize};
use crate::slots::{Chunk, SLOTS, Slot};
use crate::{Counter, Gauge, Histogram, TextReadout};

/// Decides by its name in `/stats` whether a metric is left out (`stats_config.stats_matcher`).
pub type Reject = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// How a [`Store`] is made.
#[derive(Default)]
pub struct StoreOptions {
    /// Number of worker threads: one shard each, and one for all other threads.
    pub workers: usize,
    /// Metrics that are never made (`stats_matcher`: `reject_all` is a closure that says true).
    pub reject: Option<Reject>,
    /// Labels on every metric (`stats_config.stats_tags` with `fixed_value`).
    pub fixed_tags: Vec<(String, String)>,
}

/// All metrics of a process. A clone is a handle to the same store.
///
/// One lock guards the registry. It is taken to make a metric and to render, never to update one.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    shards: usize,
    reject: Option<Reject>,
    fixed_tags: Vec<(String, String)>,
    registry: Mutex<Registry>,
}

#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) counters: Family<Counter>,
    pub(crate) gauges: Family<Gauge>,
    pub(crate) histograms: Family<Histogram>,
    pub(crate) text_readouts: Family<TextReadout>,
    /// The chunk that is being filled, and its next free slot.
    open: Option<(Arc<Chunk>, usize)>,
}

pub(crate) type Family<M> = BTreeMap<Arc<str>, Entry<M>>;

#[derive(Clone)]
pub(crate) struct Entry<M> {
    pub(crate) metric: M,
    pub(crate) scope: Arc<ScopeData>,
    own: Option<Arc<Own>>,
}

/// The tags that a metric's own name holds.
pub(crate) struct Own {
    extracted: String,
    tags: Vec<(String, String)>,
}

impl Own {
    pub(crate) fn new(extracted: &str, tags: &[(&str, &str)]) -> Arc<Self> {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Arc::new(Self { extracted: extracted.to_owned(), tags })
    }
}

impl Store {
    /// A store for `workers` worker threads that accepts every metric.
    pub fn new(workers: usize) -> Self {
        Self::with_options(StoreOptions { workers, ..StoreOptions::default() })
    }

    /// A store with a matcher or fixed tags.
    pub fn with_options(options: StoreOptions) -> Self {
        Self(Arc::new(Inner {
            shards: options.workers.saturating_add(1),
            reject: options.reject,
            fixed_tags: options.fixed_tags,
            registry: Mutex::default(),
        }))
    }

    /// The scope without a prefix.
    pub fn root(&self) -> Scope {
        Scope::root(self.clone())
    }

    /// A scope with `prefix` and no tags (`server`, `listener_manager`).
    pub fn scope(&self, prefix: &str) -> Scope {
        self.root().scope(prefix)
    }

    /// The value of the counter with this name in `/stats`.
    pub fn counter_value(&self, name: &str) -> Option<u64> {
        self.lock().counters.get(name).map(|entry| entry.metric.value())
    }

    /// The value of the gauge with this name in `/stats`.
    pub fn gauge_value(&self, name: &str) -> Option<u64> {
        self.lock().gauges.get(name).map(|entry| entry.metric.value())
    }

    /// Sets every counter to 0 (`/reset_counters`); gauges and histograms stay.
    pub fn reset_counters(&self) {
        for entry in self.lock().counters.values() {
            entry.metric.reset();
        }
    }

    /// Closes the interval of every histogram and adds it to the cumulative part. Call it every
    /// `stats_flush_interval`.
    pub fn latch_histograms(&self) {
        let histograms: Vec<_> = self.lock().histograms.values().map(|entry| entry.metric.clone()).collect();
        for histogram in histograms {
            histogram.latch();
        }
    }

    /// Forgets every metric whose name is `prefix` or begins with `prefix` and a dot. Handles that live on may be
    /// used and show nowhere; their memory goes with the last handle of their chunk.
    pub fn remove_prefix(&self, prefix: &str) {
        let prefix = sanitize(prefix);
        let keep = |name: &str| {
            let rest = name.strip_prefix(&*prefix);
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut registry = self.lock();
        registry.counters.retain(|name, _| keep(name));
        registry.gauges.retain(|name, _| keep(name));
        registry.histograms.retain(|name, _| keep(name));
        registry.text_readouts.retain(|name, _| keep(name));
    }

    pub(crate) fn counter(&self, scope: &Arc<ScopeData>, name: &str, own: Option<Arc<Own>>) -> Counter {
        let make = |registry: &mut Registry| Counter(Some(registry.slot(self.0.shards)));
        self.get_or_make(scope, name, own, |registry| &mut registry.counters, make)
    }

    pub(crate) fn gauge(&self, scope: &Arc<ScopeData>, name: &str, own: Option<Arc<Own>>) -> Gauge {
        let make = |registry: &mut Registry| Gauge(Some(registry.slot(self.0.shards)));
        self.get_or_make(scope, name, own, |registry| &mut registry.gauges, make)
    }

    pub(crate) fn histogram(&self, scope: &Arc<ScopeData>, name: &str) -> Histogram {
        let make = |_: &mut Registry| Histogram::new(self.0.shards);
        self.get_or_make(scope, name, None, |registry| &mut registry.histograms, make)
    }

    pub(crate) fn text_readout(&self, scope: &Arc<ScopeData>, name: &str) -> TextReadout {
        let make = |_: &mut Registry| TextReadout(Some(Arc::default()));
        self.get_or_make(scope, name, None, |registry| &mut registry.text_readouts, make)
    }

    /// The labels that every metric carries.
    pub(crate) fn fixed_tags(&self) -> &[(String, String)] {
        &self.0.fixed_tags
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_or_make<M: Clone + Default>(
        &self,
        scope: &Arc<ScopeData>,
        name: &str,
        own: Option<Arc<Own>>,
        family: impl Fn(&mut Registry) -> &mut Family<M>,
        make: impl FnOnce(&mut Registry) -> M,
    ) -> M {
        let full = join(&scope.full, &sanitize(name));
        if self.0.reject.as_ref().is_some_and(|reject| reject(&full)) {
            return M::default();
        }
        let mut registry = self.lock();
        if let Some(entry) = family(&mut registry).get(full.as_str()) {
            return entry.metric.clone();
        }
        let metric = make(&mut registry);
        let entry = Entry { metric: metric.clone(), scope: Arc::clone(scope), own };
        family(&mut registry).insert(full.into(), entry);
        metric
    }
}

impl Registry {
    fn slot(&mut self, shards: usize) -> Slot {
        let (chunk, next) = match self.open.take() {
            Some((chunk, next)) if next < SLOTS => (chunk, next),
            _ => (Chunk::new(shards), 0),
        };
        let slot = chunk.slot(next);
        self.open = Some((chunk, next + 1));
        slot
    }
}

impl<M> Entry<M> {
    /// The tag-extracted name of the metric that is called `full` in `/stats`.
    pub(crate) fn extracted(&self, full: &str) -> String {
        let own = match &self.own {
            Some(own) => &own.extracted,
            None => full.strip_prefix(&self.scope.full).unwrap_or(full).trim_start_matches('.'),
        };
        join(&self.scope.extracted, own)
    }

    /// The labels: those of the metric's own name, then those of its scopes from the inside out.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &(String, String)> {
        self.own.iter().flat_map(|own| &own.tags).chain(&self.scope.tags)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("shards", &self.0.shards).finish_non_exhaustive()
    }
}
