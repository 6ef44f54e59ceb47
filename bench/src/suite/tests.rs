#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::envoy::{Certificates, bootstrap};
use super::others;
use super::plan::{Proxy, Role, SCENARIOS, Scenario};
use super::plot;
use super::proxies::Ports;
use super::results::{Results, Sample, deviates, number};
use super::tables;
use crate::spec::{Cell, LoadResult};

fn sample(scenario: &Scenario, cell: Cell, proxy: Proxy, run: usize, cpu: f64) -> Sample {
    let raw = LoadResult { secs: 1.0, ops: 10_000, bytes: 1_000_000_000, proxy_cpu: cpu, ..LoadResult::default() };
    Sample::new(scenario, cell, proxy, run, raw, false)
}

fn tcp() -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == "tcp").unwrap()
}

#[test]
fn a_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() {
    let mut results = Results::default();
    for (run, (ours, theirs)) in [(1.0, 2.0), (3.0, 1.0), (4.0, 5.0)].into_iter().enumerate() {
        results.add(sample(tcp(), Cell::Echo, Proxy::Adit, run, ours));
        results.add(sample(tcp(), Cell::Echo, Proxy::Nginx, run, theirs));
    }
    assert_eq!(results.ratio(tcp(), Cell::Echo, Proxy::Nginx), Some(0.8));
    let ours = results.medians(tcp(), Cell::Echo, Proxy::Adit).unwrap();
    assert!((ours.cost - 3.0).abs() < 1e-9);
}

#[test]
fn the_best_peer_is_the_cheapest_of_those_that_cost_something() {
    let mut results = Results::default();
    for (proxy, cpu) in [(Proxy::Envoy, 0.9), (Proxy::Haproxy, 0.5), (Proxy::Nginx, 0.0), (Proxy::Direct, 0.1)] {
        results.add(sample(tcp(), Cell::NewClient, proxy, 0, cpu));
    }
    assert_eq!(results.best_peer(tcp(), Cell::NewClient).unwrap().0, Proxy::Haproxy);
}

#[test]
fn a_repeated_run_takes_the_place_of_the_first() {
    let mut results = Results::default();
    results.add(sample(tcp(), Cell::Echo, Proxy::Adit, 0, 9.0));
    results.add(sample(tcp(), Cell::Echo, Proxy::Adit, 0, 1.0));
    assert_eq!(results.costs(tcp(), Cell::Echo, Proxy::Adit), [(0, 1.0)]);
}

#[test]
fn costs_are_per_gigabyte_or_per_ten_thousand() {
    assert_eq!(sample(tcp(), Cell::BulkUp1, Proxy::Adit, 0, 0.3).cost, 0.3);
    assert!((sample(tcp(), Cell::Echo, Proxy::Adit, 0, 0.3).cost - 0.3).abs() < 1e-9);
    assert!(sample(tcp(), Cell::Echo, Proxy::Adit, 0, 0.89).proxy_idle);
    assert!(!sample(tcp(), Cell::EchoPaced, Proxy::Adit, 0, 0.1).proxy_idle);
}

#[test]
fn only_a_run_far_from_the_median_of_at_least_three_strays() {
    assert!(!deviates(9.0, &[(0, 1.0), (1, 9.0)]));
    let three = [(0, 1.0), (1, 1.1), (2, 2.0)];
    assert!(deviates(2.0, &three) && !deviates(1.0, &three));
}

#[test]
fn numbers_have_three_digits() {
    let all: Vec<String> = [0.0, 0.12345, 1.2345, 12.345, 123.45].into_iter().map(number).collect();
    assert_eq!(all, ["0", "0.123", "1.23", "12.3", "123"]);
}

#[test]
fn every_scenario_has_a_configuration_for_each_hop() {
    let certificates = Certificates { chain: "cert.pem".to_owned(), key: "key.pem".to_owned() };
    for scenario in SCENARIOS {
        let ports = Ports::of(Proxy::Adit);
        for hop in 0..scenario.hops() {
            let json = bootstrap(scenario.role, hop, &ports, &certificates).to_string();
            let listens = if hop == 0 { ports.listen } else { ports.between };
            assert!(json.contains(&format!("\"port_value\":{listens}")), "{}: {json}", scenario.name);
        }
        let last = bootstrap(scenario.role, scenario.hops() - 1, &ports, &certificates).to_string();
        assert!(last.contains(&format!("\"port_value\":{}", ports.origin)), "{}", scenario.name);
    }
}

#[test]
fn peers_speak_what_a_scenario_asks() {
    let ports = Ports::of(Proxy::Haproxy);
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.peers.contains(&Proxy::Haproxy)) {
        let text = others::haproxy(scenario, 0, &ports, false);
        assert_eq!(text.contains("mode tcp"), scenario.role == Role::Tcp);
        let h2_up = matches!(scenario.role, Role::UpgradeTwoHops | Role::Requests { h2_upstream: true });
        let upstream = if scenario.hops() == 1 { ports.origin } else { ports.between };
        assert_eq!(text.contains(&format!("server one 127.0.0.1:{upstream} proto h2")), h2_up);
        let nginx = others::nginx(scenario, 0, &ports, Path::new("/tmp"));
        assert!(nginx.contains(&format!("listen 127.0.0.1:{}", ports.listen)));
        let nghttpx = others::nghttpx(scenario, 0, &ports);
        assert!(nghttpx.contains(&format!("frontend=127.0.0.1,{}", ports.listen)));
    }
}

#[test]
fn reports_name_what_failed_and_what_was_reached() {
    let mut results = Results::default();
    results.add(sample(tcp(), Cell::Echo, Proxy::Adit, 0, 0.1));
    results.add(sample(tcp(), Cell::Echo, Proxy::Nginx, 0, 0.2));
    results.failed(tcp(), Cell::Idle, Proxy::Adit, "cannot start: no | such field");
    let goals = tables::goals(&results);
    assert!(goals.contains("✓ 0.50 of nginx, goal 0.95") && goals.contains("cannot start"), "{goals}");
    let all = tables::scenario(tcp(), &results);
    assert!(all.contains("| idle | adit | cannot start: no / such field |"), "{all}");
    let svg = plot::svg(&results);
    assert!(svg.starts_with("<svg") && svg.contains(">TCP<") && svg.contains("0.100"), "{svg}");
}

#[test]
fn a_whole_name_is_that_alone_and_a_part_all_that_begin_so() {
    let whole = |one: &str| ["echo", "echo-paced", "idle"].contains(&one);
    let asked =
        |asked: &[&str], name| super::names(&asked.iter().map(ToString::to_string).collect::<Vec<_>>(), name, whole);
    assert!(asked(&["echo"], "echo") && !asked(&["echo"], "echo-paced"));
    assert!(asked(&["ec", "idle"], "echo") && asked(&["ec"], "echo-paced") && !asked(&["ec"], "idle"));
    assert!(asked(&[], "idle"));
}
