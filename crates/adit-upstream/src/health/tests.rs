#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::testing::{hosts, shared};

const GOOD: Outcome = Outcome::Healthy { degraded: false };
const LESS: Outcome = Outcome::Healthy { degraded: true };

#[test]
fn checks_do_not_overrule_each_other() {
    let check = |name| {
        format!(
            "{{ name: {name}, timeout: 1s, interval: 1s, healthy_threshold: 3, unhealthy_threshold: 1, tcp_health_check: {{}} }}"
        )
    };
    let cluster = shared(&format!("health_checks: [{}, {}], {}", check("one"), check("two"), hosts([(1, "")])));
    let host = cluster.hosts()[0].clone();
    let plan = cluster.plan().clone();
    let mut records = [Record::new(0), Record::new(1)];
    let mut take = |index: usize, outcome| {
        records[index].take(&cluster, &host, &plan.health_checks[index], outcome);
        host.health()
    };
    // The first answer of each decides alone, whichever comes first.
    assert_eq!(take(0, GOOD), Health::Unhealthy);
    assert_eq!(take(1, GOOD), Health::Healthy);
    // One that finds nothing wrong leaves what the other found.
    assert_eq!(take(0, LESS), Health::Degraded);
    assert_eq!(take(1, GOOD), Health::Degraded);
    assert_eq!(take(1, LESS), Health::Degraded);
    assert_eq!(take(0, GOOD), Health::Degraded);
    assert_eq!(take(1, GOOD), Health::Healthy);
}
