//! The plot: cost of each proxy, a column for each kind of cell, a group of bars for each scenario.

use std::fmt::Write as _;

use crate::spec::Cell;
use crate::suite::plan::{Proxy, SCENARIOS, Scenario};
use crate::suite::results::{Results, number};

const LEFT: f64 = 220.0;
const COLUMN: f64 = 250.0;
const BAR: f64 = 10.0;
const TOP: f64 = 70.0;

fn colour(proxy: Proxy) -> &'static str {
    match proxy {
        Proxy::Adit => "#d1495b",
        Proxy::Envoy => "#8d6cab",
        Proxy::Haproxy => "#30638e",
        Proxy::HaproxySplice => "#6fa8dc",
        Proxy::Nginx => "#3c8d5a",
        Proxy::Nghttpx => "#b8a13a",
        Proxy::Direct => "#999999",
    }
}

/// One cell of the grid: bars, each as long as its cost is of the dearest one's.
fn bars(svg: &mut String, results: &Results, scenario: &Scenario, cell: Cell, x: f64, y: f64) {
    let costs: Vec<(Proxy, f64)> = Proxy::ALL
        .iter()
        .filter(|proxy| **proxy != Proxy::Direct)
        .filter_map(|proxy| Some((*proxy, results.medians(scenario, cell, *proxy)?.cost)))
        .collect();
    let most = costs.iter().map(|(_, cost)| *cost).fold(f64::MIN_POSITIVE, f64::max);
    for (index, (proxy, cost)) in costs.iter().enumerate() {
        let y = y + index as f64 * BAR;
        let width = (COLUMN - 80.0) * cost.max(0.0) / most;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{}</text>",
            BAR - 2.0,
            colour(*proxy),
            x + width + 4.0,
            y + BAR - 2.5,
            number(*cost)
        );
    }
}

/// The whole plot.
pub fn svg(results: &Results) -> String {
    let columns = [
        (Cell::BulkUp1, "bulk up, one tunnel: CPU-s per GB"),
        (Cell::Echo, "echo (or GET): CPU-s per 10,000"),
        (Cell::NewClient, "new tunnels: CPU-s per 10,000"),
        (Cell::Idle, "idle tunnel: KiB"),
    ];
    let column_of = |scenario: &Scenario, cell: Cell| {
        if cell == Cell::Echo && scenario.cells().contains(&Cell::Requests) { Cell::Requests } else { cell }
    };
    let mut body = String::new();
    let mut y = TOP;
    for scenario in SCENARIOS {
        let measured = |cell: Cell| {
            Proxy::ALL
                .iter()
                .filter(|proxy| results.medians(scenario, column_of(scenario, cell), **proxy).is_some())
                .count()
        };
        let most = columns.iter().map(|(cell, _)| measured(*cell)).max().unwrap_or(0);
        if most == 0 {
            continue;
        }
        let _ = writeln!(body, "<text x=\"8\" y=\"{:.1}\" font-size=\"12\">{}</text>", y + 10.0, scenario.title);
        for (index, (cell, _)) in columns.iter().enumerate() {
            bars(&mut body, results, scenario, column_of(scenario, *cell), LEFT + index as f64 * COLUMN, y);
        }
        y += (most as f64 * BAR).max(14.0) + 10.0;
    }
    let width = LEFT + 4.0 * COLUMN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y:.0}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, proxy) in Proxy::ALL.iter().filter(|proxy| **proxy != Proxy::Direct).enumerate() {
        let x = 8.0 + index as f64 * 130.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"22\" font-size=\"12\">{}</text>",
            colour(*proxy),
            x + 16.0,
            proxy.name()
        );
    }
    for (index, (_, title)) in columns.iter().enumerate() {
        let x = LEFT + index as f64 * COLUMN;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"52\" font-size=\"12\" font-weight=\"bold\">{title}</text>");
    }
    svg + &body + "</svg>\n"
}
