//! Results as Markdown tables.

use std::fmt::Write as _;

use crate::spec::Cell;
use crate::suite::plan::{Proxy, SCENARIOS, Scenario};
use crate::suite::results::{Results, number};

/// The goals: ratios to the best peer.
pub fn goals(results: &Results) -> String {
    let mut text = String::from(
        "| scenario | bulk, 1 up | echo | new, client ends | new, origin ends | idle | requests |\n|---|---|---|---|---|---|---|\n",
    );
    let cells = [Cell::BulkUp1, Cell::Echo, Cell::NewClient, Cell::NewServer, Cell::Idle, Cell::Requests];
    for scenario in SCENARIOS {
        let row: Vec<String> = cells.iter().map(|cell| goal(results, scenario, *cell)).collect();
        let _ = writeln!(text, "| {} | {} |", scenario.title, row.join(" | "));
    }
    text
}

fn goal(results: &Results, scenario: &Scenario, cell: Cell) -> String {
    if !scenario.cells().contains(&cell) {
        return String::new();
    }
    if let Some(why) = results.failure(scenario, cell, Proxy::Adit) {
        return if why.starts_with("cannot start") { "cannot start".to_owned() } else { "fails".to_owned() };
    }
    let Some((peer, _)) = results.best_peer(scenario, cell) else { return "–".to_owned() };
    let Some(ratio) = results.ratio(scenario, cell, peer) else { return "–".to_owned() };
    let Some(goal) = scenario.goal(cell) else { return format!("{ratio:.2} of {}", peer.name()) };
    let mark = if ratio <= goal { "✓" } else { "✗" };
    format!("{mark} {ratio:.2} of {}, goal {goal}", peer.name())
}

/// All cells of a scenario.
pub fn scenario(scenario: &Scenario, results: &Results) -> String {
    let mut text = String::from(
        "| cell | proxy | rate | cost | adit / it | p50 µs | p99 µs | p99.9 µs | |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for cell in scenario.cells() {
        for proxy in Proxy::ALL {
            row(&mut text, results, scenario, *cell, *proxy);
        }
    }
    text
}

fn row(text: &mut String, results: &Results, scenario: &Scenario, cell: Cell, proxy: Proxy) {
    let Some(medians) = results.medians(scenario, cell, proxy) else {
        if let Some(why) = results.failure(scenario, cell, proxy) {
            let why = why.replace('|', "/");
            let _ = writeln!(text, "| {} | {} | {why} | | | | | | |", cell.name(), proxy.name());
        }
        return;
    };
    let cost =
        if proxy == Proxy::Direct { String::new() } else { format!("{} {}", number(medians.cost), cell.cost_unit()) };
    let cost = if cell == Cell::Idle && medians.kib_each.len() > 1 {
        let each: Vec<String> = medians.kib_each.iter().map(|kib| number(*kib)).collect();
        format!("{} = {} KiB/tunnel", number(medians.cost), each.join(" + "))
    } else {
        cost
    };
    let ratio = if proxy.is_peer() { results.ratio(scenario, cell, proxy) } else { None };
    let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    let rate =
        if cell == Cell::Idle { String::new() } else { format!("{} {}", number(medians.rate), cell.rate_unit()) };
    let latency = |micros: f64| if cell.is_bulk() || micros == 0.0 { String::new() } else { number(micros) };
    let mut notes = Vec::new();
    if medians.proxy_idle {
        notes.push("not saturated");
    }
    if medians.disturbed {
        notes.push("disturbed");
    }
    let _ = writeln!(
        text,
        "| {} | {} | {rate} | {cost} | {ratio} | {} | {} | {} | {} |",
        cell.name(),
        proxy.name(),
        latency(medians.p50),
        latency(medians.p99),
        latency(medians.p999),
        notes.join(", ")
    );
}

/// One cell over all scenarios: costs of every proxy.
pub fn costs(cell: Cell, results: &Results) -> String {
    let proxies: Vec<Proxy> = Proxy::ALL.iter().copied().filter(|proxy| *proxy != Proxy::Direct).collect();
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name()).collect();
    let mut text = format!("| {} | {} |\n|---|{}\n", cell.cost_unit(), names.join(" | "), "---|".repeat(names.len()));
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.cells().contains(&cell)) {
        let of = |proxy: &Proxy| {
            results.medians(scenario, cell, *proxy).map(|medians| number(medians.cost)).unwrap_or_default()
        };
        let row: Vec<String> = proxies.iter().map(of).collect();
        let _ = writeln!(text, "| {} | {} |", scenario.title, row.join(" | "));
    }
    text
}
