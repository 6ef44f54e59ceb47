//! `/stats/prometheus`: the Prometheus text exposition format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::Query;
use crate::buckets::PROMETHEUS_BOUNDS;
use crate::store::Entry;
use crate::{Histogram, Store};

pub(super) fn render(store: &Store, query: &Query<'_>) -> String {
    let fixed = store.fixed_tags();
    let mut out = String::new();
    // Writing to a String cannot fail.
    family(&mut out, "counter", fixed, store.select_counters(query), |out, name, labels, metric| {
        let _ = writeln!(out, "{name}{{{labels}}} {}", metric.value());
    });
    family(&mut out, "gauge", fixed, store.select_gauges(query), |out, name, labels, metric| {
        let _ = writeln!(out, "{name}{{{labels}}} {}", metric.value());
    });
    if query.text_readouts {
        family(&mut out, "gauge", fixed, store.select_text_readouts(query), |out, name, labels, metric| {
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = writeln!(out, "{name}{{{labels}{comma}text_value=\"{}\"}} 1", label_value(&metric.value()));
        });
    }
    family(&mut out, "histogram", fixed, store.select_histograms(query), histogram);
    out
}

/// Writes the groups of one type. Metrics are grouped by the name they end up with, so a name never appears in two
/// groups, which the format forbids.
fn family<M>(
    out: &mut String,
    kind: &str,
    fixed: &[(String, String)],
    metrics: Vec<(Arc<str>, Entry<M>)>,
    write: impl Fn(&mut String, &str, &str, &M),
) {
    let mut groups: BTreeMap<String, Vec<Entry<M>>> = BTreeMap::new();
    for (name, entry) in metrics {
        groups.entry(metric_name(&entry.extracted(&name))).or_default().push(entry);
    }
    for (name, group) in groups {
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for entry in group {
            write(out, &name, &labels(entry.tags().chain(fixed)), &entry.metric);
        }
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, metric: &Histogram) {
    let cumulative = metric.merged().cumulative;
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, count) in PROMETHEUS_BOUNDS.iter().zip(cumulative.below_bounds()) {
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", cumulative.count);
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", cumulative.sum);
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", cumulative.count);
}

fn labels<'a>(tags: impl Iterator<Item = &'a (String, String)>) -> String {
    let labels = tags.map(|(name, value)| format!("{}=\"{}\"", sanitize(name), label_value(value)));
    labels.collect::<Vec<_>>().join(",")
}

/// `envoy_` and the name with everything but letters, digits and `_` replaced.
pub(crate) fn metric_name(extracted: &str) -> String {
    format!("envoy_{}", sanitize(extracted))
}

fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn label_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
