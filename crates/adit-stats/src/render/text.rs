//! `/stats` as text.

use std::fmt::Write as _;

use super::{HistogramBuckets, Query};
use crate::Store;
use crate::buckets::{PROMETHEUS_BOUNDS, QUANTILES};
use crate::histogram::Merged;

pub(super) fn render(store: &Store, query: &Query<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (name, entry) in store.select_text_readouts(query) {
        let _ = writeln!(out, "{name}: \"{}\"", entry.metric.value());
    }
    for (name, value) in store.numbers(query) {
        let _ = writeln!(out, "{name}: {value}");
    }
    for (name, entry) in store.select_histograms(query) {
        let _ = writeln!(out, "{name}: {}", histogram(&entry.metric.merged(), query.histogram_buckets));
    }
    out
}

fn histogram(merged: &Merged, form: HistogramBuckets) -> String {
    if merged.cumulative.count == 0 {
        return "No recorded values".to_owned();
    }
    let (interval, cumulative) = (&merged.interval, &merged.cumulative);
    match form {
        HistogramBuckets::Summary => {
            let values = interval.quantiles().map(number).into_iter().zip(cumulative.quantiles().map(number));
            pairs('P', &QUANTILES, values)
        }
        HistogramBuckets::Cumulative => {
            pairs('B', &PROMETHEUS_BOUNDS, interval.below_bounds().into_iter().zip(cumulative.below_bounds()))
        }
        HistogramBuckets::Disjoint => {
            pairs('B', &PROMETHEUS_BOUNDS, interval.disjoint().into_iter().zip(cumulative.disjoint()))
        }
    }
}

fn pairs<T: std::fmt::Display>(letter: char, keys: &[f64], values: impl Iterator<Item = (T, T)>) -> String {
    let parts = keys
        .iter()
        .zip(values)
        .map(|(key, (interval, cumulative))| format!("{letter}{}({interval},{cumulative})", general(*key)));
    parts.collect::<Vec<_>>().join(" ")
}

/// C's `%g` for the bounds, which are all its callers have: six digits, from a million on with an exponent.
fn general(value: f64) -> String {
    if value >= 1e6 {
        let exponent = value.log10().floor();
        format!("{}e+{exponent:02}", value / 10f64.powf(exponent))
    } else {
        value.to_string()
    }
}

fn number(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { value.to_string() }
}
