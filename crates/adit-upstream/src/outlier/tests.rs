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

#[test]
fn what_is_not_enforced_is_only_detected() {
    let cluster = cluster("consecutive_gateway_failure: 1, consecutive_5xx: 100, max_ejection_percent: 100");
    answer(&cluster.hosts()[0], 503);
    assert_eq!(ejected(&cluster), 0);
    let stats = cluster.core().outlier_stats.as_ref().unwrap();
    assert_eq!(stats.ejections_detected_consecutive_gateway_failure.value(), 1);
}
