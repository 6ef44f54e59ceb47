//! `docs/benchmarks.md`: the part between its markers is ours.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::spec::Cell;
use crate::suite::plan::SCENARIOS;
use crate::suite::plot;
use crate::suite::results::Results;
use crate::suite::tables;

const BEGIN: &str = "<!-- results: begin (written by `cargo xtask bench`) -->";
const END: &str = "<!-- results: end -->";

/// Writes the section, the JSON and the plot.
pub fn write(docs: &Path, results: &Results) -> Result<()> {
    results.write(&docs.join("benchmarks.json"))?;
    std::fs::write(docs.join("benchmarks.svg"), plot::svg(results))?;
    let path = docs.join("benchmarks.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).context("benchmarks.md has no marker of the results' beginning")?;
    let (_, after) = rest.split_once(END).context("benchmarks.md has no marker of the results' end")?;
    std::fs::write(&path, format!("{before}{BEGIN}\n\n{}\n{END}{after}", section(results)))?;
    println!("written: {}, benchmarks.json, benchmarks.svg", path.display());
    Ok(())
}

fn section(results: &Results) -> String {
    let mut text = String::from("### Machine and versions\n\n| | |\n|---|---|\n");
    for (name, value) in &results.machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push_str("\n### Goals\n\nadit's cost as a ratio to the best peer's in the same run, the median of pairs. Below 1, adit is cheaper.\n\n");
    text.push_str(&tables::goals(results));
    text.push_str("\n![Cost of each proxy](benchmarks.svg)\n");
    let cells = [
        Cell::BulkUp1,
        Cell::BulkDown1,
        Cell::BulkUp16,
        Cell::BulkDown16,
        Cell::Echo,
        Cell::NewClient,
        Cell::NewServer,
        Cell::Idle,
        Cell::Requests,
    ];
    for cell in cells {
        let _ = write!(text, "\n### {}\n\n{}", cell.name(), tables::costs(cell, results));
    }
    text.push_str("\n### Everything\n");
    for scenario in SCENARIOS {
        let _ = write!(
            text,
            "\n<details><summary>{} (<code>{}</code>)</summary>\n\n{}\n</details>\n",
            scenario.title,
            scenario.name,
            tables::scenario(scenario, results)
        );
    }
    text
}
