#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use adit_filter::upstream::{Host, Report};
use http::StatusCode;

use super::*;
use crate::testing::{hosts, shared};

fn cluster(outlier: &str) -> std::sync::Arc<SharedCluster> {
    shared(&format!("outlier_detection: {{ {outlier} }}, {}", hosts((1..=4).map(|port| (port, "")))))
}

fn answer(host: &HostState, status: u16) {
    host.report(Report::Response {
        status: StatusCode::from_u16(status).unwrap(),
        time: Duration::ZERO,
        internal: false,
    });
}

fn ejected(cluster: &SharedCluster) -> usize {
    cluster.hosts().iter().filter(|host| host.has(HealthFlag::FailedOutlierCheck)).count()
}

#[tokio::test(start_paused = true)]
async fn errors_in_a_row_eject_for_longer_each_time() {
    let cluster = cluster("consecutive_5xx: 3, max_ejection_percent: 50, base_ejection_time: 30s, interval: 10s");
    let host = cluster.hosts()[0].clone();
    let task = tokio::spawn(run(cluster.clone()));
    for status in [500, 500, 200, 500, 500] {
        answer(&host, status);
    }
    assert_eq!(ejected(&cluster), 0);
    answer(&host, 500);
    assert_eq!(ejected(&cluster), 1);
    assert_eq!(cluster.set().levels[0].healthy.hosts.len(), 3);
    tokio::time::sleep(Duration::from_secs(28)).await;
    assert_eq!(ejected(&cluster), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(ejected(&cluster), 0);
    // The second time it is twice as long.
    (0..3).for_each(|_| answer(&host, 503));
    tokio::time::sleep(Duration::from_secs(55)).await;
    assert_eq!(ejected(&cluster), 1);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(ejected(&cluster), 0);
    let stats = cluster.core().outlier_stats.as_ref().unwrap();
    assert_eq!((stats.ejections_total.value(), stats.ejections_active.value()), (2, 0));
    task.abort();
}

#[test]
fn no_more_than_the_percentage() {
    let cluster = cluster("consecutive_5xx: 1, max_ejection_percent: 50");
    for host in cluster.hosts() {
        answer(&host, 500);
    }
    assert_eq!(ejected(&cluster), 2);
    assert_eq!(cluster.core().outlier_stats.as_ref().unwrap().ejections_overflow.value(), 2);
}

/// As measured on Envoy 1.40.
#[test]
fn the_share_counts_the_host_that_would_go() {
    for (options, gone, overflow, total) in [
        ("max_ejection_percent: 10", 0, 5, 0),
        ("max_ejection_percent: 20", 1, 4, 1),
        ("max_ejection_percent: 39", 1, 4, 1),
        ("max_ejection_percent: 40", 2, 3, 2),
        ("max_ejection_percent: 100", 5, 0, 5),
        ("max_ejection_percent: 10, always_eject_one_host: true", 1, 4, 1),
        ("max_ejection_percent: 20, enforcing_consecutive_5xx: 0", 0, 0, 5),
    ] {
        let cluster = of(5, &format!("consecutive_5xx: 2, {options}"));
        for host in cluster.hosts().iter().cycle().take(12) {
            answer(host, 500);
        }
        let stats = cluster.core().outlier_stats.as_ref().unwrap();
        let seen = [&stats.ejections_overflow, &stats.ejections_total].map(adit_stats::Counter::value);
        assert_eq!((ejected(&cluster), seen), (gone, [overflow, total]), "{options}");
        let detected = [&stats.ejections_detected_consecutive_5xx, &stats.ejections_consecutive_5xx];
        assert_eq!(detected.map(adit_stats::Counter::value), [5; 2], "{options}");
    }
}

#[test]
fn failures_of_our_own_side_count_as_gateway_errors_or_apart() {
    let joint = cluster("consecutive_5xx: 2, max_ejection_percent: 100");
    let host = joint.hosts()[0].clone();
    joint.core().outlier_local(&host, LocalOrigin::ConnectFailed);
    // A connection that stands does not forgive what the server did.
    joint.core().outlier_local(&host, LocalOrigin::Connected);
    joint.core().outlier_local(&host, LocalOrigin::Timeout);
    assert_eq!(ejected(&joint), 1);

    let split = cluster(
        "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, consecutive_5xx: 2, \
         max_ejection_percent: 100",
    );
    let host = split.hosts()[0].clone();
    split.core().outlier_local(&host, LocalOrigin::ConnectFailed);
    split.core().outlier_local(&host, LocalOrigin::Connected);
    split.core().outlier_local(&host, LocalOrigin::Reset);
    assert_eq!(ejected(&split), 0);
    split.core().outlier_local(&host, LocalOrigin::Reset);
    assert_eq!(ejected(&split), 1);
}

fn of(count: u16, outlier: &str) -> std::sync::Arc<SharedCluster> {
    shared(&format!("outlier_detection: {{ {outlier} }}, {}", hosts((1..=count).map(|port| (port, "")))))
}

/// So many answers, each tenth of `tenths` a 500.
fn answers(host: &HostState, tenths: u32) {
    for n in 0..100 {
        answer(host, if n % 10 < tenths { 500 } else { 200 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_more_than_the_others_is_ejected() {
    let cluster = of(5, "consecutive_5xx: 1000, max_ejection_percent: 50, interval: 10s");
    let task = tokio::spawn(run(cluster.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = cluster.hosts();
    // All fail alike: nobody stands out.
    all.iter().for_each(|host| answers(host, 5));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((ejected(&cluster), all[0].outlier.rate.last()), (0, 50.0));
    // One does, but too little was asked of it.
    all[1..].iter().for_each(|host| answers(host, 0));
    (0..50).for_each(|_| answer(&all[0], 500));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((ejected(&cluster), all[0].outlier.rate.last()), (0, 0.0));
    all[1..].iter().for_each(|host| answers(host, 0));
    answers(&all[0], 5);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(all[0].has(HealthFlag::FailedOutlierCheck));
    assert_eq!(ejected(&cluster), 1);
    let stats = cluster.core().outlier_stats.as_ref().unwrap();
    let counts =
        [&stats.ejections_detected_success_rate, &stats.ejections_enforced_success_rate, &stats.ejections_success_rate];
    assert_eq!(counts.map(adit_stats::Counter::value), [1; 3]);
    // The mean of 50, 100, 100, 100 and 100, and 1.9 times the deviation of 20 below it.
    let rates = crate::view::describe(&cluster).success_rates.unwrap();
    assert_eq!(rates.map(f64::round), [90.0, 52.0, -1.0, -1.0]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_host_beyond_a_percentage_is_ejected_where_that_is_enforced() {
    for (enforcing, expected) in [("", 0), ("enforcing_failure_percentage: 100, ", 1)] {
        let cluster = of(
            2,
            &format!(
                "{enforcing}consecutive_5xx: 1000, max_ejection_percent: 100, interval: 10s, failure_percentage_threshold: 60, \
                 failure_percentage_minimum_hosts: 2"
            ),
        );
        let task = tokio::spawn(run(cluster.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        answers(&cluster.hosts()[0], 6);
        answers(&cluster.hosts()[1], 5);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let stats = cluster.core().outlier_stats.as_ref().unwrap();
        assert_eq!((ejected(&cluster), stats.ejections_detected_failure_percentage.value()), (expected, 1));
        task.abort();
    }
}

#[test]
fn what_is_not_enforced_is_only_detected() {
    let cluster = cluster("consecutive_gateway_failure: 1, consecutive_5xx: 100, max_ejection_percent: 100");
    answer(&cluster.hosts()[0], 503);
    assert_eq!(ejected(&cluster), 0);
    let stats = cluster.core().outlier_stats.as_ref().unwrap();
    assert_eq!(stats.ejections_detected_consecutive_gateway_failure.value(), 1);
}

#[tokio::test]
async fn a_connect_that_failed_for_want_of_something_else_says_nothing_of_the_host() {
    use adit_filter::upstream::FailureKind;

    let cluster = cluster("consecutive_5xx: 1, max_ejection_percent: 100");
    let host = cluster.hosts()[0].clone();
    for (kind, expected) in [
        (FailureKind::Overflow, 0),
        (FailureKind::NoHealthyHost, 0),
        (FailureKind::Local, 0),
        (FailureKind::Loop, 0),
        (FailureKind::Remote, 1),
    ] {
        let error = crate::TransportError { kind, ..crate::TransportError::remote("") };
        let connect = std::future::ready(Err::<(), _>(error));
        assert!(crate::connect::counted(cluster.core(), &host, connect).await.is_err());
        assert_eq!(ejected(&cluster), expected, "{kind:?}");
    }
}
