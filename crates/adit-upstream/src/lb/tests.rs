#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::*;
use crate::SharedCluster;
use crate::host::HealthFlag;
use crate::testing::{hosts, shared};

fn port(choice: &Choice) -> u16 {
    choice.host.address().port().unwrap()
}

/// How often each port was chosen.
fn spread(cluster: &SharedCluster, times: usize, hash: impl Fn(usize) -> Option<u64>) -> BTreeMap<u16, usize> {
    let (set, mut state) = (cluster.set(), LbState::default());
    let mut counts = BTreeMap::new();
    for turn in 0..times {
        let choice = state.choose(&cluster.plan().lb, &set, hash(turn)).unwrap();
        *counts.entry(port(&choice)).or_default() += 1;
    }
    counts
}

fn fail(cluster: &SharedCluster, ports: &[u16]) {
    for host in cluster.hosts() {
        let down = ports.contains(&host.address().port().unwrap());
        host.set_flag(HealthFlag::FailedActiveHealthCheck, down);
    }
    cluster.rebuild();
}

fn even(ports: std::ops::RangeInclusive<u16>) -> String {
    hosts(ports.map(|port| (port, "")))
}

/// A splitmix step: well spread hashes, the same in every run.
fn hash(turn: usize) -> Option<u64> {
    let mut x = (turn as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(x ^ (x >> 31))
}

#[test]
fn round_robin_takes_turns() {
    let cluster = shared(&even(1..=4));
    assert_eq!(spread(&cluster, 400, |_| None).into_values().collect::<Vec<_>>(), [100; 4]);
}

#[test]
fn round_robin_by_weight_is_smooth() {
    let weighted = hosts([(1, ", load_balancing_weight: 3"), (2, ", load_balancing_weight: 1")]);
    let cluster = shared(&weighted);
    let counts = spread(&cluster, 400, |_| None);
    assert!(counts[&1].abs_diff(300) <= 1, "{counts:?}");
    let (set, mut state) = (cluster.set(), LbState::default());
    let turns: Vec<u16> = (0..40).map(|_| port(&state.choose(&cluster.plan().lb, &set, None).unwrap())).collect();
    // Never more than three of the heavy one in a row: no bursts.
    assert!(turns.windows(5).all(|window| window.contains(&2)), "{turns:?}");
}

#[test]
fn random_is_even() {
    let cluster = shared(&format!("lb_policy: RANDOM, {}", even(1..=4)));
    let counts = spread(&cluster, 8000, |_| None);
    assert!(counts.values().all(|count| (1700..2300).contains(count)), "{counts:?}");
}

#[test]
fn least_request_avoids_the_busy() {
    let cluster = shared(&format!("lb_policy: LEAST_REQUEST, {}", even(1..=3)));
    cluster.hosts()[0].stats.rq_active.store(10, std::sync::atomic::Ordering::Relaxed);
    let counts = spread(&cluster, 9000, |_| None);
    // Chosen only when it is drawn twice: one in nine.
    assert!((800..1200).contains(&counts[&1]), "{counts:?}");
    let text = hosts([(1, ", load_balancing_weight: 4"), (2, ", load_balancing_weight: 1")]);
    let cluster = shared(&format!("lb_policy: LEAST_REQUEST, {text}"));
    let counts = spread(&cluster, 1000, |_| None);
    assert!(counts[&1].abs_diff(800) <= 5, "{counts:?}");
    cluster.hosts()[0].stats.rq_active.store(3, std::sync::atomic::Ordering::Relaxed);
    let counts = spread(&cluster, 1000, |_| None);
    assert!(counts[&1].abs_diff(500) <= 5, "{counts:?}");
}

fn placed(cluster: &SharedCluster) -> Vec<u16> {
    let (set, mut state) = (cluster.set(), LbState::default());
    (0..10_000).map(|turn| port(&state.choose(&cluster.plan().lb, &set, hash(turn)).unwrap())).collect()
}

#[test]
fn consistent_hashing_is_deterministic_even_and_moves_little() {
    for policy in ["lb_policy: RING_HASH", "lb_policy: MAGLEV"] {
        let ten = placed(&shared(&format!("{policy}, {}", even(1..=10))));
        assert_eq!(ten, placed(&shared(&format!("{policy}, {}", even(1..=10)))), "{policy}");
        let mut counts = BTreeMap::<u16, usize>::new();
        ten.iter().for_each(|port| *counts.entry(*port).or_default() += 1);
        assert!(counts.len() == 10 && counts.values().all(|count| (500..1600).contains(count)), "{policy} {counts:?}");
        // Without the tenth host, its share moves, and little more: Maglev fills its table anew, and a ring of nine
        // gives each host some more places.
        let nine = placed(&shared(&format!("{policy}, {}", even(1..=9))));
        let moved = ten.iter().zip(&nine).filter(|(a, b)| **a != 10 && a != b).count();
        assert!(moved <= 900, "{policy}: {moved} moved");
    }
}

#[test]
fn consistent_hashing_goes_by_weight() {
    for policy in ["lb_policy: RING_HASH", "lb_policy: MAGLEV"] {
        let text = hosts([(1, ", load_balancing_weight: 3"), (2, ", load_balancing_weight: 1")]);
        let cluster = shared(&format!("{policy}, {text}"));
        let counts = spread(&cluster, 20_000, hash);
        assert!((13_500..16_500).contains(&counts[&1]), "{policy} {counts:?}");
    }
}

#[test]
fn unhealthy_hosts_get_nothing_until_the_panic() {
    let cluster = shared(&even(1..=4));
    fail(&cluster, &[1, 2]);
    assert_eq!(spread(&cluster, 100, |_| None).into_keys().collect::<Vec<_>>(), [3, 4]);
    // Below half: everybody, and it is said.
    fail(&cluster, &[1, 2, 3]);
    assert_eq!(spread(&cluster, 100, |_| None).len(), 4);
    assert!(LbState::default().choose(&cluster.plan().lb, &cluster.set(), None).unwrap().panic);
    fail(&cluster, &[]);
    assert!(!LbState::default().choose(&cluster.plan().lb, &cluster.set(), None).unwrap().panic);
}

#[test]
fn without_panic_nobody_is_good_enough() {
    let text = format!("common_lb_config: {{ healthy_panic_threshold: {{ value: 0 }} }}, {}", even(1..=2));
    let cluster = shared(&text);
    fail(&cluster, &[1, 2]);
    assert!(LbState::default().choose(&cluster.plan().lb, &cluster.set(), None).is_none());
    fail(&cluster, &[1]);
    assert_eq!(spread(&cluster, 10, |_| None).into_keys().collect::<Vec<_>>(), [2]);
}

/// Ports 1 to 4 at priority 0, 11 to 14 at priority 1.
fn two_priorities() -> std::sync::Arc<SharedCluster> {
    let group = |ports: std::ops::RangeInclusive<u16>, priority: u32| {
        let endpoints: Vec<String> = ports
            .map(|port| {
                format!(
                    "{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}"
                )
            })
            .collect();
        format!("{{ priority: {priority}, lb_endpoints: [{}] }}", endpoints.join(", "))
    };
    let groups = format!("{}, {}", group(1..=4, 0), group(11..=14, 1));
    shared(&format!("load_assignment: {{ cluster_name: a, endpoints: [{groups}] }}"))
}

#[test]
fn priorities_spill_over_by_overprovisioning() {
    let cluster = two_priorities();
    let low = |counts: &BTreeMap<u16, usize>| counts.range(11..).map(|(_, count)| count).sum::<usize>();
    assert_eq!(low(&spread(&cluster, 1000, |_| None)), 0);
    // Three of four healthy at 140 %: still all of it.
    fail(&cluster, &[1]);
    assert_eq!(low(&spread(&cluster, 1000, |_| None)), 0);
    // Two of four: 70 % stay.
    fail(&cluster, &[1, 2]);
    let spilled = low(&spread(&cluster, 10_000, |_| None));
    assert!((2700..3300).contains(&spilled), "{spilled}");
    fail(&cluster, &[1, 2, 3, 4]);
    assert_eq!(low(&spread(&cluster, 1000, |_| None)), 1000);
    // All down: both panic, by the number of hosts.
    fail(&cluster, &[1, 2, 3, 4, 11, 12, 13, 14]);
    assert_eq!(spread(&cluster, 4000, |_| None).len(), 8);
}

#[test]
fn degraded_hosts_come_second() {
    let text = hosts([(1, ""), (2, ", health_status: DEGRADED"), (3, ", health_status: DRAINING"), (4, "")]);
    let cluster = shared(&text);
    let counts = spread(&cluster, 10_000, |_| None);
    // 2 of 4 healthy: 70 parts; 1 of 4 degraded: 30 of its 35 parts.
    assert!(!counts.contains_key(&3) && (2500..3500).contains(&counts[&2]), "{counts:?}");
}

#[test]
fn an_empty_cluster_has_no_host() {
    let cluster = shared("type: STATIC");
    assert!(LbState::default().choose(&cluster.plan().lb, &cluster.set(), None).is_none());
}

#[test]
fn localities_share_by_their_own_weight() {
    let group = |port: u16, count: u16, weight: u32| {
        let endpoints: Vec<String> = (port..port + count)
            .map(|port| {
                format!(
                    "{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}"
                )
            })
            .collect();
        format!(
            "{{ locality: {{ zone: z{port} }}, load_balancing_weight: {weight}, lb_endpoints: [{}] }}",
            endpoints.join(", ")
        )
    };
    let cluster = shared(&format!(
        "common_lb_config: {{ locality_weighted_lb_config: {{}} }}, load_assignment: {{ cluster_name: a, endpoints: [{}, {}] }}",
        group(1, 1, 3),
        group(11, 3, 1)
    ));
    let counts = spread(&cluster, 400, |_| None);
    assert!(counts[&1].abs_diff(300) <= 2, "{counts:?}");
}
