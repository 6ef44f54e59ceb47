#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adit_stats::Store;

use super::*;

fn breakers(limits: Thresholds) -> (Breakers, Store) {
    let store = Store::new(1);
    (Breakers::new([limits; 2], &store.root().cluster("a")), store)
}

#[test]
fn the_limit_is_exact_and_its_gauges_follow() {
    let (breakers, store) = breakers(Thresholds { max_connections: 2, track_remaining: true, ..Thresholds::default() });
    let gauge = |name: &str| store.gauge_value(&format!("cluster.a.circuit_breakers.default.{name}")).unwrap();
    let connections = &breakers.of(Priority::Default).connections;
    assert_eq!((gauge("cx_open"), gauge("remaining_cx")), (0, 2));
    assert!(connections.try_take() && connections.try_take() && !connections.try_take());
    assert_eq!((gauge("cx_open"), gauge("remaining_cx")), (1, 0));
    // One beyond the limit, for a pool that would starve.
    connections.take();
    connections.put();
    assert_eq!(gauge("cx_open"), 1);
    connections.put();
    assert_eq!((gauge("cx_open"), gauge("remaining_cx")), (0, 1));
    assert!(breakers.of(Priority::High).connections.try_take());
}

#[test]
fn a_limit_of_zero_is_open_from_the_start() {
    let (breakers, store) = breakers(Thresholds { max_requests: 0, ..Thresholds::default() });
    assert!(!breakers.of(Priority::Default).requests.try_take());
    assert_eq!(store.gauge_value("cluster.a.circuit_breakers.default.rq_open"), Some(1));
}

#[test]
fn a_budget_follows_the_live_requests() {
    let budget = RetryBudget { percent: 20.0, min_concurrency: 1 };
    let (breakers, _store) = breakers(Thresholds { retry_budget: Some(budget), ..Thresholds::default() });
    let breaker = breakers.of(Priority::Default);
    assert!(breaker.try_take_retry());
    assert!(!breaker.try_take_retry());
    for _ in 0..10 {
        assert!(breaker.requests.try_take());
    }
    assert!(breaker.try_take_retry());
    assert!(!breaker.try_take_retry());
}

#[test]
fn many_threads_never_pass_the_limit() {
    let (breakers, _store) = breakers(Thresholds { max_pending_requests: 10, ..Thresholds::default() });
    let pending = &breakers.of(Priority::Default).pending;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    if pending.try_take() {
                        assert!(pending.used() <= 10);
                        pending.put();
                    }
                }
            });
        }
    });
    assert_eq!(pending.used(), 0);
}
