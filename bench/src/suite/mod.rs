//! Runs proxies in alternation, measures each, and writes the reports.

mod envoy;
mod measure;
mod others;
mod plan;
mod plot;
mod proxies;
mod report;
mod results;
mod tables;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::spec::Cell;
use crate::suite::envoy::Certificates;
use crate::suite::plan::{Proxy, SCENARIOS, Scenario};
use crate::suite::proxies::Place;
use crate::suite::results::Results;

/// What to measure, and where things are.
#[derive(Debug, Args)]
pub struct Options {
    /// adit's binary
    #[arg(long)]
    adit: PathBuf,
    /// Envoy's binary
    #[arg(long, default_value = "envoy")]
    envoy: PathBuf,
    /// Peers: envoy, haproxy (with and without splicing), nginx, nghttpx
    #[arg(long, value_delimiter = ',')]
    against: Vec<String>,
    /// Scenarios by name, or by the beginning of their names; all by default
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Cells by name, or by the beginning of their names; all by default
    #[arg(long, value_delimiter = ',')]
    cell: Vec<String>,
    /// Runs of each cell; their median is reported
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Shorter windows and fewer runs: to try, not to quote
    #[arg(long)]
    quick: bool,
    /// The core of the proxies; the generator has the others
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// How often a run is repeated that others have disturbed, or that has failed
    #[arg(long, default_value_t = 2)]
    repeats: usize,
    /// Tunnels of the idle cells
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Where configurations and logs of the proxies go
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Where benchmarks.md, benchmarks.json and benchmarks.svg are; nothing is written without it
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Only writes the reports anew from benchmarks.json
    #[arg(long)]
    report_only: bool,
}

/// Whether `name` is asked for: all are if none is, one that is named `whole`, else those that begin so.
fn names(asked: &[String], name: &str, whole: impl Fn(&str) -> bool) -> bool {
    asked.is_empty() || asked.iter().any(|one| name == one || (!whole(one) && name.starts_with(one.as_str())))
}

impl Options {
    fn scenarios(&self) -> Vec<&'static Scenario> {
        let whole = |one: &str| SCENARIOS.iter().any(|scenario| scenario.name == one);
        SCENARIOS.iter().filter(|scenario| names(&self.scenario, scenario.name, whole)).collect()
    }

    fn wants(&self, cell: Cell) -> bool {
        let whole = |one: &str| SCENARIOS.iter().flat_map(Scenario::cells).any(|cell| cell.name() == one);
        names(&self.cell, cell.name(), whole)
    }

    fn proxies(&self, scenario: &Scenario) -> Vec<Proxy> {
        let asked = |proxy: Proxy| {
            let name = proxy.name().split('-').next().unwrap_or_default();
            self.against.iter().any(|one| one == name || one == proxy.name())
        };
        let takes_part = |proxy: Proxy| match proxy {
            Proxy::Adit => true,
            Proxy::Direct => scenario.has_direct(),
            _ => scenario.peers.contains(&proxy) && asked(proxy),
        };
        Proxy::ALL.iter().copied().filter(|proxy| takes_part(*proxy)).collect()
    }

    fn runs(&self) -> usize {
        if self.quick { self.runs.min(3) } else { self.runs.max(1) }
    }
}

/// Measures what is asked for.
///
/// # Errors
/// If the machine lacks what a run needs, or a report cannot be written. That a proxy cannot start or fails in a
/// scenario is a result, not an error.
pub fn run(options: &Options) -> Result<()> {
    let file = options.docs.as_ref().map(|docs| docs.join("benchmarks.json"));
    let mut results = match &file {
        Some(file) if file.exists() => Results::read(file)?,
        _ => Results::default(),
    };
    if !options.report_only {
        let place = place(options)?;
        results.machine = results::machine(&place);
        for scenario in options.scenarios() {
            measure::scenario(scenario, options, &place, &mut results)?;
            println!("\n{}", tables::scenario(scenario, &results));
            if let Some(file) = &file {
                results.write(file)?;
            }
        }
    }
    println!("{}", tables::goals(&results));
    if let Some(docs) = &options.docs {
        report::write(docs, &results)?;
    }
    Ok(())
}

fn place(options: &Options) -> Result<Place> {
    raise_limit();
    let folder = std::path::absolute(&options.folder)?;
    std::fs::create_dir_all(&folder)?;
    let made = rcgen::generate_simple_self_signed(vec!["origin.test".to_owned()]).context("a certificate")?;
    let chain = folder.join("cert.pem");
    let key = folder.join("key.pem");
    std::fs::write(&chain, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    Ok(Place {
        folder,
        adit: options.adit.clone(),
        envoy: options.envoy.clone(),
        core: options.core,
        certificates: Certificates { chain: chain.display().to_string(), key: key.display().to_string() },
    })
}

/// The idle cells need many descriptors, in the proxies too: they inherit ours.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If it stays low the idle cells fail and say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
