//! The readouts of the admin interface.

mod json;
mod prometheus;
mod text;

use std::sync::Arc;

use crate::Store;
use crate::store::{Entry, Family, Registry};

/// What a readout shows; the default is everything.
#[derive(Clone, Copy, Default)]
pub struct Query<'a> {
    /// Only metrics for whose name in `/stats` this says true (`filter`).
    pub filter: Option<&'a dyn Fn(&str) -> bool>,
    /// Only metrics that were ever updated (`usedonly`).
    pub used_only: bool,
    /// Only metrics of this type (`type`).
    pub metric_type: MetricType,
    /// How the text and JSON forms show histograms (`histogram_buckets`).
    pub histogram_buckets: HistogramBuckets,
    /// Whether the Prometheus form shows text readouts, as gauges of value 1 (`text_readouts`).
    pub text_readouts: bool,
}

/// The parameter `type` of `/stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricType {
    /// No restriction.
    #[default]
    All,
    /// Counters only.
    Counters,
    /// Gauges only.
    Gauges,
    /// Histograms only.
    Histograms,
    /// Text readouts only.
    TextReadouts,
}

/// The parameter `histogram_buckets` of `/stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistogramBuckets {
    /// Quantiles (`summary`).
    #[default]
    Summary,
    /// Counts at or below each bound.
    Cumulative,
    /// Counts between two bounds.
    Disjoint,
}

impl MetricType {
    /// Reads Envoy's word for it.
    pub fn parse(text: &str) -> Option<Self> {
        [
            ("All", Self::All),
            ("Counters", Self::Counters),
            ("Gauges", Self::Gauges),
            ("Histograms", Self::Histograms),
            ("TextReadouts", Self::TextReadouts),
        ]
        .into_iter()
        .find_map(|(word, value)| word.eq_ignore_ascii_case(text).then_some(value))
    }
}

impl HistogramBuckets {
    /// Reads Envoy's word for it; `detailed` is not offered.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "summary" => Some(Self::Summary),
            "cumulative" => Some(Self::Cumulative),
            "disjoint" => Some(Self::Disjoint),
            _ => None,
        }
    }
}

impl Query<'_> {
    fn shows(&self, metric_type: MetricType) -> bool {
        self.metric_type == MetricType::All || self.metric_type == metric_type
    }
}

impl Store {
    /// `/stats`: `name: value` lines sorted by name; text readouts first, counters and gauges mixed, histograms last.
    pub fn render_text(&self, query: &Query<'_>) -> String {
        text::render(self, query)
    }

    /// `/stats?format=json`.
    pub fn render_json(&self, query: &Query<'_>) -> String {
        json::render(self, query)
    }

    /// `/stats/prometheus`: the text exposition format, one group per name, no HELP lines.
    pub fn render_prometheus(&self, query: &Query<'_>) -> String {
        prometheus::render(self, query)
    }

    /// The metrics of one type that `query` shows, in the order of their names. The registry is locked only while
    /// handles are copied.
    fn select<M: Clone>(
        &self,
        query: &Query<'_>,
        metric_type: MetricType,
        family: impl FnOnce(&Registry) -> &Family<M>,
        used: impl Fn(&M) -> bool,
    ) -> Vec<(Arc<str>, Entry<M>)> {
        if !query.shows(metric_type) {
            return Vec::new();
        }
        let mut all: Vec<_> =
            family(&self.lock()).iter().map(|(name, entry)| (Arc::clone(name), entry.clone())).collect();
        all.retain(|(name, entry)| {
            query.filter.is_none_or(|filter| filter(name)) && (!query.used_only || used(&entry.metric))
        });
        all
    }

    fn select_counters(&self, query: &Query<'_>) -> Vec<(Arc<str>, Entry<crate::Counter>)> {
        self.select(query, MetricType::Counters, |registry| &registry.counters, crate::Counter::used)
    }

    fn select_gauges(&self, query: &Query<'_>) -> Vec<(Arc<str>, Entry<crate::Gauge>)> {
        self.select(query, MetricType::Gauges, |registry| &registry.gauges, crate::Gauge::used)
    }

    fn select_histograms(&self, query: &Query<'_>) -> Vec<(Arc<str>, Entry<crate::Histogram>)> {
        self.select(query, MetricType::Histograms, |registry| &registry.histograms, crate::Histogram::used)
    }

    fn select_text_readouts(&self, query: &Query<'_>) -> Vec<(Arc<str>, Entry<crate::TextReadout>)> {
        self.select(query, MetricType::TextReadouts, |registry| &registry.text_readouts, crate::TextReadout::used)
    }

    /// Counters and gauges in one list sorted by name.
    fn numbers(&self, query: &Query<'_>) -> Vec<(Arc<str>, u64)> {
        let counters = self.select_counters(query).into_iter().map(|(name, entry)| (name, entry.metric.value()));
        let gauges = self.select_gauges(query).into_iter().map(|(name, entry)| (name, entry.metric.value()));
        let mut all: Vec<_> = counters.chain(gauges).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
