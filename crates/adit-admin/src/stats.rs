//! `/stats` and `/stats/prometheus`.

use adit_stats::{HistogramBuckets, MetricType, Query as StatsQuery, Store};
use http::StatusCode;

use crate::handlers::Answer;
use crate::query::Query;

const PROMETHEUS_TYPE: &str = "text/plain; version=0.0.4";

pub(crate) fn answer(store: &Store, query: &Query, prometheus: bool) -> Answer {
    let regex = match query.get("filter").map(regex::Regex::new).transpose() {
        Ok(regex) => regex,
        Err(error) => return Answer::text(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {error}\n")),
    };
    let invert = query.has("invert_filter");
    let matches = regex.map(|regex| move |name: &str| regex.is_match(name) != invert);
    let metric_type = match query.get("type") {
        None => MetricType::All,
        Some(text) => match MetricType::parse(text) {
            Some(metric_type) => metric_type,
            None => return Answer::text(StatusCode::BAD_REQUEST, "invalid &type= parameter\n"),
        },
    };
    let histogram_buckets = match query.get("histogram_buckets") {
        None => HistogramBuckets::Summary,
        Some(text) => match HistogramBuckets::parse(text) {
            Some(buckets) => buckets,
            None => {
                return Answer::text(
                    StatusCode::BAD_REQUEST,
                    "usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n",
                );
            }
        },
    };
    let stats = StatsQuery {
        filter: matches.as_ref().map(|matches| matches as &dyn Fn(&str) -> bool),
        used_only: query.has("usedonly"),
        metric_type,
        histogram_buckets,
        text_readouts: query.has("text_readouts"),
    };
    match query.get("format") {
        _ if prometheus => Answer::typed(PROMETHEUS_TYPE, store.render_prometheus(&stats)),
        Some("prometheus") => Answer::typed(PROMETHEUS_TYPE, store.render_prometheus(&stats)),
        Some("json") => Answer::typed("application/json", store.render_json(&stats)),
        Some("html" | "active-html") => {
            Answer::typed("text/html; charset=UTF-8", crate::html::preformatted("stats", &store.render_text(&stats)))
        }
        None | Some("text" | "") => Answer::text(StatusCode::OK, store.render_text(&stats)),
        Some(_) => {
            Answer::text(StatusCode::BAD_REQUEST, "usage: /stats?format=(html|active-html|json|prometheus|text)\n")
        }
    }
}
