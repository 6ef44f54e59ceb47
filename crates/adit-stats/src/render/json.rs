//! `/stats?format=json`.

use std::fmt::Write as _;

use super::{HistogramBuckets, Query};
use crate::Store;
use crate::buckets::{PROMETHEUS_BOUNDS, QUANTILES};
use crate::histogram::Merged;

pub(super) fn render(store: &Store, query: &Query<'_>) -> String {
    let mut items = Vec::new();
    for (name, entry) in store.select_text_readouts(query) {
        items.push(format!("{{\"name\":{},\"value\":{}}}", quote(&name), quote(&entry.metric.value())));
    }
    for (name, value) in store.numbers(query) {
        items.push(format!("{{\"name\":{},\"value\":{value}}}", quote(&name)));
    }
    let histograms: Vec<_> =
        store.select_histograms(query).into_iter().map(|(name, entry)| (name, entry.metric.merged())).collect();
    if !histograms.is_empty() {
        let list = histograms.iter().map(|(name, merged)| histogram(name, merged, query.histogram_buckets));
        let list = join(list);
        items.push(match query.histogram_buckets {
            HistogramBuckets::Summary => format!(
                "{{\"histograms\":{{\"supported_quantiles\":[{}],\"computed_quantiles\":[{list}]}}}}",
                join(QUANTILES.iter().map(f64::to_string))
            ),
            HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => format!("{{\"histograms\":[{list}]}}"),
        });
    }
    format!("{{\"stats\":[{}]}}", items.join(","))
}

fn histogram(name: &str, merged: &Merged, form: HistogramBuckets) -> String {
    let (interval, cumulative) = (&merged.interval, &merged.cumulative);
    let (key, list) = match form {
        HistogramBuckets::Summary => ("values", quantiles(interval.quantiles(), cumulative.quantiles())),
        HistogramBuckets::Cumulative => ("buckets", buckets(interval.below_bounds(), cumulative.below_bounds())),
        HistogramBuckets::Disjoint => ("buckets", buckets(interval.disjoint(), cumulative.disjoint())),
    };
    format!("{{\"name\":{},\"{key}\":[{list}]}}", quote(name))
}

fn quantiles<const N: usize>(interval: [f64; N], cumulative: [f64; N]) -> String {
    let number = |value: f64| {
        if value.is_nan() { "null".to_owned() } else { value.to_string() }
    };
    join(
        interval
            .into_iter()
            .zip(cumulative)
            .map(|(i, c)| format!("{{\"interval\":{},\"cumulative\":{}}}", number(i), number(c))),
    )
}

fn buckets<const N: usize>(interval: [u64; N], cumulative: [u64; N]) -> String {
    join(
        PROMETHEUS_BOUNDS
            .iter()
            .zip(interval.into_iter().zip(cumulative))
            .map(|(bound, (i, c))| format!("{{\"upper_bound\":{bound},\"interval\":{i},\"cumulative\":{c}}}")),
    )
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

/// A JSON string (RFC 8259 section 7).
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
