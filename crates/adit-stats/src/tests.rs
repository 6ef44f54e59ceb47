#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use crate::{
    Gauge, HistogramBuckets, MetricType, Query, ResponseClasses, ResponseCodes, Store, StoreOptions, enter_worker,
};

fn all() -> Query<'static> {
    Query::default()
}

#[test]
fn names_and_labels() {
    let store = Store::new(2);
    let root = store.root();
    store.scope("server").gauge("live").set(1);
    store.scope("server").worker(0).counter("watchdog_miss").inc();
    root.http("term").counter("downstream_cx_upgrades_total").add(2);
    root.tcp("tidle").counter("downstream_cx_total").inc();
    root.udp("u").counter("downstream_sess_total");
    let cluster = root.cluster("cA");
    cluster.counter("upstream_cx_total").inc();
    cluster.scope("internal_upstream").counter("no_metadata");
    cluster.scope("http2").counter("tx_reset");
    cluster.scope("circuit_breakers").scope("default").gauge("cx_open");
    ResponseCodes::new(&cluster, "upstream_rq").inc(200);
    ResponseCodes::new(&cluster.scope("external"), "upstream_rq").inc(503);
    let listener = root.listener("127.0.0.1_11111");
    listener.counter("downstream_cx_total").inc();
    listener.worker(1).gauge("downstream_cx_active").inc();
    root.listener("envoy_internal_encap").counter("downstream_cx_total").inc();
    root.listener("[::1]_10000").counter("downstream_cx_total").inc();
    ResponseClasses::new(&listener.http("term"), "downstream_rq").inc(204);
    root.vhost("v").vcluster("c").counter("upstream_rq_retry");
    root.connection_limit("cl").counter("limited_connections");
    root.http_local_rate_limit("rl").counter("enabled");

    let text = store.render_text(&all());
    assert_eq!(
        text,
        "\
cluster.cA.circuit_breakers.default.cx_open: 0
cluster.cA.external.upstream_rq_503: 1
cluster.cA.external.upstream_rq_5xx: 1
cluster.cA.http2.tx_reset: 0
cluster.cA.internal_upstream.no_metadata: 0
cluster.cA.upstream_cx_total: 1
cluster.cA.upstream_rq_200: 1
cluster.cA.upstream_rq_2xx: 1
connection_limit.cl.limited_connections: 0
http.term.downstream_cx_upgrades_total: 2
listener.127.0.0.1_11111.downstream_cx_total: 1
listener.127.0.0.1_11111.http.term.downstream_rq_1xx: 0
listener.127.0.0.1_11111.http.term.downstream_rq_2xx: 1
listener.127.0.0.1_11111.http.term.downstream_rq_3xx: 0
listener.127.0.0.1_11111.http.term.downstream_rq_4xx: 0
listener.127.0.0.1_11111.http.term.downstream_rq_5xx: 0
listener.127.0.0.1_11111.worker_1.downstream_cx_active: 1
listener.[__1]_10000.downstream_cx_total: 1
listener.envoy_internal_encap.downstream_cx_total: 1
rl.http_local_rate_limit.enabled: 0
server.live: 1
server.worker_0.watchdog_miss: 1
tcp.tidle.downstream_cx_total: 1
udp.u.downstream_sess_total: 0
vhost.v.vcluster.c.upstream_rq_retry: 0
"
    );
    assert_eq!(
        store.render_prometheus(&all()),
        r#"# TYPE envoy_cluster_external_upstream_rq counter
envoy_cluster_external_upstream_rq{envoy_response_code="503",envoy_cluster_name="cA"} 1
# TYPE envoy_cluster_external_upstream_rq_xx counter
envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="cA"} 1
# TYPE envoy_cluster_http2_tx_reset counter
envoy_cluster_http2_tx_reset{envoy_cluster_name="cA"} 0
# TYPE envoy_cluster_internal_upstream_no_metadata counter
envoy_cluster_internal_upstream_no_metadata{envoy_cluster_name="cA"} 0
# TYPE envoy_cluster_upstream_cx_total counter
envoy_cluster_upstream_cx_total{envoy_cluster_name="cA"} 1
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="cA"} 1
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="cA"} 1
# TYPE envoy_connection_limit_limited_connections counter
envoy_connection_limit_limited_connections{envoy_connection_limit_prefix="cl"} 0
# TYPE envoy_http_downstream_cx_upgrades_total counter
envoy_http_downstream_cx_upgrades_total{envoy_http_conn_manager_prefix="term"} 2
# TYPE envoy_http_local_rate_limit_enabled counter
envoy_http_local_rate_limit_enabled{envoy_local_http_ratelimit_prefix="rl"} 0
# TYPE envoy_listener_downstream_cx_total counter
envoy_listener_downstream_cx_total{envoy_listener_address="127.0.0.1_11111"} 1
envoy_listener_downstream_cx_total{envoy_listener_address="[__1]_10000"} 1
envoy_listener_downstream_cx_total{envoy_listener_address="envoy_internal_encap"} 1
# TYPE envoy_listener_http_downstream_rq_xx counter
envoy_listener_http_downstream_rq_xx{envoy_response_code_class="1",envoy_http_conn_manager_prefix="term",envoy_listener_address="127.0.0.1_11111"} 0
envoy_listener_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="term",envoy_listener_address="127.0.0.1_11111"} 1
envoy_listener_http_downstream_rq_xx{envoy_response_code_class="3",envoy_http_conn_manager_prefix="term",envoy_listener_address="127.0.0.1_11111"} 0
envoy_listener_http_downstream_rq_xx{envoy_response_code_class="4",envoy_http_conn_manager_prefix="term",envoy_listener_address="127.0.0.1_11111"} 0
envoy_listener_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="term",envoy_listener_address="127.0.0.1_11111"} 0
# TYPE envoy_server_worker_watchdog_miss counter
envoy_server_worker_watchdog_miss{envoy_worker_id="0"} 1
# TYPE envoy_tcp_downstream_cx_total counter
envoy_tcp_downstream_cx_total{envoy_tcp_prefix="tidle"} 1
# TYPE envoy_udp_downstream_sess_total counter
envoy_udp_downstream_sess_total{envoy_udp_prefix="u"} 0
# TYPE envoy_vhost_vcluster_upstream_rq_retry counter
envoy_vhost_vcluster_upstream_rq_retry{envoy_virtual_cluster="c",envoy_virtual_host="v"} 0
# TYPE envoy_cluster_circuit_breakers_default_cx_open gauge
envoy_cluster_circuit_breakers_default_cx_open{envoy_cluster_name="cA"} 0
# TYPE envoy_listener_worker_downstream_cx_active gauge
envoy_listener_worker_downstream_cx_active{envoy_worker_id="1",envoy_listener_address="127.0.0.1_11111"} 1
# TYPE envoy_server_live gauge
envoy_server_live{} 1
"#
    );
}

#[test]
fn names_with_dots_and_quotes_keep_their_label() {
    let store = Store::new(1);
    store.root().cluster("a.b\"c\\d\ne").counter("upstream_cx_total");
    store.root().cluster("outbound|80||x.svc").counter("upstream-cx.total");
    store.root().cluster("::1").gauge("x");
    let text = store.render_prometheus(&all());
    assert!(text.contains(r#"envoy_cluster_upstream_cx_total{envoy_cluster_name="a.b\"c\\d_e"} 0"#), "{text}");
    assert!(text.contains(r#"envoy_cluster_upstream_cx_total{envoy_cluster_name="outbound|80||x.svc"} 0"#), "{text}");
    assert_eq!(text.matches("# TYPE envoy_cluster_upstream_cx_total ").count(), 1, "one group per name:\n{text}");
    assert!(store.render_text(&all()).contains("cluster.__1.x: 0\n"));
}

#[test]
fn the_same_name_is_the_same_metric() {
    let store = Store::new(1);
    store.root().cluster("a").counter("x").inc();
    store.scope("cluster.a").counter("x").inc();
    assert_eq!(store.counter_value("cluster.a.x"), Some(2));
    store.root().cluster("a").gauge("g").add(5);
    store.root().cluster("a").gauge("g").sub(2);
    assert_eq!((store.gauge_value("cluster.a.g"), store.gauge_value("cluster.a.x")), (Some(3), None));
    store.scope("server").text_readout("v").set("1");
    assert_eq!(&*store.scope("server").text_readout("v").value(), "1");
}

#[test]
fn used_only_filter_and_type() {
    let store = Store::new(1);
    let scope = store.scope("s");
    let (counter, gauge) = (scope.counter("counted"), scope.gauge("went_to_zero"));
    scope.counter("never");
    scope.gauge("never_gauge");
    scope.histogram("never_h");
    let (text, histogram) = (scope.text_readout("text"), scope.histogram("h"));
    scope.text_readout("never_text");
    counter.inc();
    gauge.inc();
    gauge.dec();
    text.set("say \"hi\"");
    histogram.record(1);
    store.latch_histograms();
    let used = Query { used_only: true, ..all() };
    let shown = store.render_text(&used);
    assert!(shown.starts_with("s.text: \"say \"hi\"\"\ns.counted: 1\ns.went_to_zero: 0\ns.h: P0("), "{shown}");
    assert_eq!(shown.lines().count(), 4);
    assert!(!store.render_prometheus(&used).contains("never"));

    store.reset_counters();
    assert_eq!(counter.value(), 0);
    assert!(store.render_text(&used).contains("s.counted: 0"), "used before the reset");

    let filter = |name: &str| name.contains("went") || name.contains("never_h");
    let query = Query { filter: Some(&filter), ..all() };
    assert_eq!(store.render_text(&query), "s.went_to_zero: 0\ns.never_h: No recorded values\n");
    let query = Query { metric_type: MetricType::parse("gauges").unwrap(), ..all() };
    assert_eq!(store.render_text(&query), "s.never_gauge: 0\ns.went_to_zero: 0\n");
    assert_eq!(MetricType::parse("x"), None);
    let query = Query { text_readouts: true, metric_type: MetricType::TextReadouts, used_only: true, ..all() };
    assert_eq!(
        store.render_prometheus(&query),
        "# TYPE envoy_s_text gauge\nenvoy_s_text{text_value=\"say \\\"hi\\\"\"} 1\n"
    );
}

#[test]
fn a_matcher_keeps_metrics_from_being_made() {
    let reject = Box::new(|name: &str| name.ends_with("_total"));
    let fixed_tags = vec![("region".to_owned(), "r1".to_owned())];
    let store = Store::with_options(StoreOptions { workers: 1, reject: Some(reject), fixed_tags });
    let cluster = store.root().cluster("c");
    let rejected = cluster.counter("upstream_cx_total");
    rejected.inc();
    assert_eq!((rejected.value(), rejected.used()), (0, false));
    cluster.counter("upstream_cx_overflow");
    assert_eq!(store.render_text(&all()), "cluster.c.upstream_cx_overflow: 0\n");
    assert!(store.render_prometheus(&all()).contains("{envoy_cluster_name=\"c\",region=\"r1\"} 0"));

    let nothing = Store::with_options(StoreOptions { reject: Some(Box::new(|_| true)), ..StoreOptions::default() });
    let scope = nothing.scope("a");
    scope.gauge("g").set(7);
    scope.histogram("h").record(7);
    scope.text_readout("t").set("x");
    nothing.latch_histograms();
    assert_eq!(nothing.render_text(&all()), "");
    assert_eq!(nothing.render_json(&all()), r#"{"stats":[]}"#);
}

#[test]
fn a_removed_prefix_is_gone_and_its_handles_still_work() {
    let store = Store::new(1);
    let kept = store.scope("cluster.ab").counter("x");
    let removed = store.scope("cluster.a").counter("x");
    store.scope("cluster.a").histogram("h");
    store.remove_prefix("cluster.a.");
    removed.inc();
    kept.inc();
    assert_eq!(store.render_text(&all()), "cluster.ab.x: 1\n");
    let again = store.scope("cluster.a").counter("x");
    assert_eq!((again.value(), removed.value()), (0, 1));
}

#[test]
fn json_has_envoys_shape() {
    let store = Store::new(1);
    let scope = store.scope("s");
    scope.text_readout("t").set("a\"b\n");
    scope.counter("c").add(3);
    assert_eq!(
        store.render_json(&all()),
        r#"{"stats":[{"name":"s.t","value":"a\"b\u000a"},{"name":"s.c","value":3}]}"#
    );
    let query = Query { metric_type: MetricType::Histograms, ..all() };
    scope.histogram("h").record(1);
    store.latch_histograms();
    store.latch_histograms();
    let json = store.render_json(&query);
    let start = concat!(
        r#"{"stats":[{"histograms":{"supported_quantiles":[0,25,50,75,90,95,99,99.5,99.9,100],"#,
        r#""computed_quantiles":[{"name":"s.h","values":[{"interval":null,"cumulative":1},{"interval":null,"cumulative":1.025},"#
    );
    assert!(json.starts_with(start), "{json}");
    assert!(json.ends_with(r#"{"interval":null,"cumulative":1.1}]}]}}]}"#), "{json}");
    let json = store.render_json(&Query { histogram_buckets: HistogramBuckets::Disjoint, ..query });
    assert!(
        json.starts_with(
            r#"{"stats":[{"histograms":[{"name":"s.h","buckets":[{"upper_bound":0.5,"interval":0,"cumulative":0},{"upper_bound":1,"interval":0,"cumulative":0},{"upper_bound":5,"interval":0,"cumulative":1},{"upper_bound":10,"interval":0,"cumulative":0}"#
        ),
        "{json}"
    );
}

#[test]
fn histograms_as_text_and_prometheus() {
    let store = Store::new(1);
    let histogram = store.root().cluster("c").histogram("upstream_rq_time");
    assert_eq!(store.render_text(&all()), "cluster.c.upstream_rq_time: No recorded values\n");
    histogram.record(1);
    assert_eq!(store.render_text(&all()), "cluster.c.upstream_rq_time: No recorded values\n", "not latched yet");
    store.latch_histograms();
    let single = "P0(1,1) P25(1.025,1.025) P50(1.05,1.05) P75(1.075,1.075) P90(1.09,1.09) P95(1.095,1.095) \
                  P99(1.099,1.099) P99.5(1.0995,1.0995) P99.9(1.0999,1.0999) P100(1.1,1.1)";
    assert_eq!(store.render_text(&all()), format!("cluster.c.upstream_rq_time: {single}\n"));
    histogram.record(0);
    histogram.record(700);
    histogram.record(5_000_000);
    store.latch_histograms();
    store.latch_histograms();
    let text = store.render_text(&all());
    assert!(text.starts_with("cluster.c.upstream_rq_time: P0(nan,0) P25(nan,0) P50(nan,1.1) "), "{text}");
    let query = Query { histogram_buckets: HistogramBuckets::Cumulative, ..all() };
    let text = store.render_text(&query);
    assert!(text.contains(": B0.5(0,1) B1(0,1) B5(0,2) "), "{text}");
    assert!(text.ends_with("B600000(0,3) B1.8e+06(0,3) B3.6e+06(0,3)\n"), "{text}");
    let text = store.render_prometheus(&all());
    assert!(
        text.starts_with(
            "# TYPE envoy_cluster_upstream_rq_time histogram\n\
             envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"0.5\"} 1\n\
             envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"1\"} 1\n\
             envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"5\"} 2\n"
        ),
        "{text}"
    );
    assert!(
        text.ends_with(
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"3600000\"} 3\n\
             envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"+Inf\"} 4\n\
             envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"c\"} 5000701\n\
             envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"c\"} 4\n"
        ),
        "{text}"
    );
}

#[test]
fn a_gauge_that_is_set_forgets_what_was_added_elsewhere() {
    let store = Store::new(2);
    let gauge = store.scope("s").gauge("g");
    let other = gauge.clone();
    thread::spawn(move || {
        enter_worker(1);
        other.add(10);
    })
    .join()
    .unwrap();
    gauge.set(3);
    assert_eq!(gauge.value(), 3);
    gauge.sub(5);
    assert_eq!(gauge.value(), 0, "never negative");
    gauge.set(0);
    let held = [gauge.hold(), gauge.hold()];
    assert_eq!(gauge.value(), 2);
    drop(held);
    assert_eq!(gauge.value(), 0);
    assert_eq!(Gauge::default().value(), 0);
}

#[test]
fn response_codes_outside_the_range_are_not_counted() {
    let store = Store::new(1);
    let codes = ResponseCodes::new(&store.scope("c"), "rq");
    let classes = ResponseClasses::new(&store.scope("h"), "rq");
    for status in [0, 99, 600, u16::MAX] {
        codes.inc(status);
        classes.inc(status);
    }
    for status in [100, 101, 199, 599] {
        codes.inc(status);
        classes.inc(status);
    }
    assert_eq!(
        store.render_text(&Query { used_only: true, ..all() }),
        "c.rq_100: 1\nc.rq_101: 1\nc.rq_199: 1\nc.rq_1xx: 3\nc.rq_599: 1\nc.rq_5xx: 1\nh.rq_1xx: 3\nh.rq_5xx: 1\n"
    );
    assert_eq!(classes.class(1).unwrap().value(), 3);
    assert!(classes.class(0).is_none() && classes.class(6).is_none());
}

#[test]
fn many_counters_stay_small_and_apart() {
    let store = Store::new(1);
    let counters: Vec<_> = (0..1000).map(|i| store.scope("s").counter(&format!("c{i}"))).collect();
    for (i, counter) in counters.iter().enumerate() {
        counter.add(i as u64);
    }
    assert!(counters.iter().enumerate().all(|(i, counter)| counter.value() == i as u64));
    assert!(size_of::<crate::Counter>() <= 16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn concurrent_updates_sum_up(
        shards in 0usize..4,
        threads in prop::collection::vec((0usize..6, 1u64..400, 0u64..1_000_000), 1..5),
    ) {
        let store = Store::new(shards);
        let (counter, gauge) = (store.scope("s").counter("c"), store.scope("s").gauge("g"));
        let histogram = store.scope("s").histogram("h");
        let work = Arc::new(threads);
        thread::scope(|scope| {
            for (worker, times, sample) in work.iter().copied() {
                let (counter, gauge, histogram) = (&counter, &gauge, &histogram);
                scope.spawn(move || {
                    enter_worker(worker);
                    for _ in 0..times {
                        counter.inc();
                        gauge.add(3);
                        histogram.record(sample);
                        gauge.sub(2);
                    }
                });
            }
            store.latch_histograms();
            let _ = store.render_text(&all());
        });
        store.latch_histograms();
        let total: u64 = work.iter().map(|(_, times, _)| times).sum();
        prop_assert_eq!(counter.value(), total);
        prop_assert_eq!(gauge.value(), total);
        prop_assert_eq!(histogram.count(), total);
        prop_assert_eq!(histogram.sum(), work.iter().map(|(_, times, sample)| times * sample).sum::<u64>());
    }

    #[test]
    fn prometheus_names_are_always_valid(name in "\\PC{0,12}", cluster in "\\PC{0,12}") {
        let store = Store::new(1);
        store.root().cluster(&cluster).counter(&name);
        for line in store.render_prometheus(&all()).lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_once('{').unwrap();
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
            prop_assert!(name.starts_with("envoy_cluster"));
            let whole = rest.ends_with("\"} 0");
            prop_assert!(whole, "{}", rest);
        }
    }
}
