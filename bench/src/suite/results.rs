//! What was measured: samples, medians, ratios.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::spec::{Cell, LoadResult};
use crate::suite::plan::{Proxy, Scenario};
use crate::suite::proxies::Place;

/// A run that is further from the median than this part of it is repeated.
const STRAY: f64 = 0.15;
/// Below this part of a core the proxy was not the limit.
const SATURATED: f64 = 0.9;

/// Everything that the reports are made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The machine and the versions, by name.
    pub machine: BTreeMap<String, String>,
    /// One for each run.
    pub samples: Vec<Sample>,
    /// What could not be measured, and why: `scenario/cell/proxy`.
    pub failures: BTreeMap<String, String>,
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The scenario's name.
    pub scenario: String,
    /// The cell.
    pub cell: Cell,
    /// The proxy's name.
    pub proxy: String,
    /// Runs of one number are a pair.
    pub run: usize,
    /// In the cell's unit.
    pub rate: f64,
    /// In the cell's unit.
    pub cost: f64,
    /// The proxy had less than 90 % of its core: something else was the limit.
    pub proxy_idle: bool,
    /// Others used the machine, after all repetitions.
    pub disturbed: bool,
    /// How much: above 1 is too much.
    pub disturbance: f64,
    /// Seconds since 1970.
    pub at: u64,
    /// What the generator said.
    pub raw: LoadResult,
}

impl Sample {
    /// Derives rate and cost.
    pub fn new(scenario: &Scenario, cell: Cell, proxy: Proxy, run: usize, raw: LoadResult, disturbed: bool) -> Self {
        let amount = if cell.is_bulk() { raw.bytes as f64 / 1e9 } else { raw.ops as f64 };
        let per = if cell.is_bulk() { 1.0 } else { 1e4 };
        let cost = if cell == Cell::Idle { raw.kib_per_tunnel } else { raw.proxy_cpu / amount * per };
        let saturating = !matches!(cell, Cell::Idle | Cell::EndAll | Cell::EchoPaced | Cell::EchoMany);
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            scenario: scenario.name.to_owned(),
            cell,
            proxy: proxy.name().to_owned(),
            run,
            rate: amount / raw.secs,
            cost,
            proxy_idle: saturating && proxy != Proxy::Direct && raw.proxy_cpu < SATURATED * raw.secs,
            disturbed,
            disturbance: 0.0,
            at,
            raw,
        }
    }

    /// For the log of a run.
    pub fn line(&self) -> String {
        let raw = &self.raw;
        format!(
            "{:<12} {:<15} {:>9} {:<9} {:>7} {:<10} p50 {:>6} p99 {:>7} p99.9 {:>7} µs  core {:>3.0} % gen {:>3.0} %{}{}{}",
            self.cell.name(),
            self.proxy,
            number(self.rate),
            self.cell.rate_unit(),
            number(self.cost),
            self.cell.cost_unit(),
            number(raw.p50),
            number(raw.p99),
            number(raw.p999),
            100.0 * raw.proxy_cpu / raw.secs,
            100.0 * raw.busiest_thread_cpu / raw.secs,
            if self.proxy_idle { "  not saturated" } else { "" },
            if self.disturbed { "  disturbed" } else { "" },
            raw.error.as_ref().map(|error| format!("  {} errors: {error}", raw.errors)).unwrap_or_default(),
        )
    }
}

/// The medians of a cell's runs.
#[derive(Debug, Clone)]
pub struct Medians {
    /// See [`Sample::rate`].
    pub rate: f64,
    /// See [`Sample::cost`].
    pub cost: f64,
    /// Microseconds.
    pub p50: f64,
    /// Microseconds.
    pub p99: f64,
    /// Microseconds.
    pub p999: f64,
    /// In most runs the proxy was not the limit.
    pub proxy_idle: bool,
    /// Some run was disturbed.
    pub disturbed: bool,
    /// KiB of each hop.
    pub kib_each: Vec<f64>,
}

impl Results {
    /// Reads what `write` has written.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)?;
        serde_json::from_str(&text).with_context(|| format!("{} is not of this version; remove it", path.display()))
    }

    /// Writes everything as JSON, a line for each run, so that two versions can be compared.
    pub fn write(&self, path: &Path) -> Result<()> {
        let runs: Vec<String> = self.samples.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let text = format!(
            "{{\"machine\": {},\n\"failures\": {},\n\"samples\": [\n{}\n]}}\n",
            serde_json::to_string_pretty(&self.machine)?,
            serde_json::to_string_pretty(&self.failures)?,
            runs.join(",\n")
        );
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Drops what a new measurement will replace.
    pub fn forget(&mut self, scenario: &Scenario, cell: Cell, proxies: &[Proxy]) {
        let goes = |sample: &Sample| {
            sample.scenario == scenario.name
                && sample.cell == cell
                && proxies.iter().any(|proxy| proxy.name() == sample.proxy)
        };
        self.samples.retain(|sample| !goes(sample));
        for proxy in proxies {
            self.failures.remove(&key(scenario, cell, *proxy));
        }
    }

    /// Notes a failure.
    pub fn failed(&mut self, scenario: &Scenario, cell: Cell, proxy: Proxy, why: &str) {
        self.failures.insert(key(scenario, cell, proxy), why.to_owned());
    }

    /// Why there is no result.
    pub fn failure(&self, scenario: &Scenario, cell: Cell, proxy: Proxy) -> Option<&str> {
        self.failures.get(&key(scenario, cell, proxy)).map(String::as_str)
    }

    /// Adds a run, in the place of one of the same number.
    pub fn add(&mut self, sample: Sample) {
        self.samples.retain(|other| {
            (&other.scenario, other.cell, &other.proxy, other.run)
                != (&sample.scenario, sample.cell, &sample.proxy, sample.run)
        });
        self.samples.push(sample);
    }

    fn of(&self, scenario: &Scenario, cell: Cell, proxy: Proxy) -> Vec<&Sample> {
        let is =
            |sample: &&Sample| sample.scenario == scenario.name && sample.cell == cell && sample.proxy == proxy.name();
        self.samples.iter().filter(is).collect()
    }

    /// Costs by run.
    pub fn costs(&self, scenario: &Scenario, cell: Cell, proxy: Proxy) -> Vec<(usize, f64)> {
        self.of(scenario, cell, proxy).iter().map(|sample| (sample.run, sample.cost)).collect()
    }

    /// The medians of a cell.
    pub fn medians(&self, scenario: &Scenario, cell: Cell, proxy: Proxy) -> Option<Medians> {
        let samples = self.of(scenario, cell, proxy);
        let of = |value: fn(&Sample) -> f64| median(samples.iter().map(|sample| value(sample)).collect());
        Some(Medians {
            rate: of(|sample| sample.rate)?,
            cost: of(|sample| sample.cost)?,
            p50: of(|sample| sample.raw.p50)?,
            p99: of(|sample| sample.raw.p99)?,
            p999: of(|sample| sample.raw.p999)?,
            proxy_idle: samples.iter().filter(|sample| sample.proxy_idle).count() * 2 > samples.len(),
            disturbed: samples.iter().any(|sample| sample.disturbed),
            kib_each: samples.last().map(|sample| sample.raw.kib_each.clone()).unwrap_or_default(),
        })
    }

    /// Ours to a peer's cost: the median of the ratios of pairs.
    pub fn ratio(&self, scenario: &Scenario, cell: Cell, peer: Proxy) -> Option<f64> {
        let ours = self.costs(scenario, cell, Proxy::Adit);
        let theirs: BTreeMap<usize, f64> = self.costs(scenario, cell, peer).into_iter().collect();
        // A cost of nothing is one of which there were too few to measure.
        let pair = |(run, cost): &(usize, f64)| Some(cost / theirs.get(run).filter(|cost| **cost > 0.0)?);
        median(ours.iter().filter_map(pair).collect())
    }

    /// The peer whose median cost is the lowest.
    pub fn best_peer(&self, scenario: &Scenario, cell: Cell) -> Option<(Proxy, Medians)> {
        let all = scenario.peers.iter().filter_map(|peer| Some((*peer, self.medians(scenario, cell, *peer)?)));
        all.filter(|(_, medians)| medians.cost > 0.0).min_by(|one, other| one.1.cost.total_cmp(&other.1.cost))
    }
}

fn key(scenario: &Scenario, cell: Cell, proxy: Proxy) -> String {
    format!("{}/{}/{}", scenario.name, cell.name(), proxy.name())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values.get(middle - 1)? + upper) / 2.0)
}

/// Whether a run strays; of fewer than three none can be said to.
pub fn deviates(cost: f64, all: &[(usize, f64)]) -> bool {
    let Some(middle) = median(all.iter().map(|(_, cost)| *cost).collect()) else { return false };
    all.len() >= 3 && (cost - middle).abs() > STRAY * middle
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What the results depend on.
pub fn machine(place: &Place) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpuinfo = read("/proc/cpuinfo");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = cores.max(cpuinfo.lines().filter(|line| line.starts_with("processor")).count());
    let model = field(&cpuinfo, "model name").unwrap_or_default();
    all.insert("processor".to_owned(), format!("{cores} × {model}"));
    all.insert("memory".to_owned(), field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default());
    all.insert("kernel".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned());
    let control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    all.insert("congestion control".to_owned(), control.trim().to_owned());
    let adit = place.adit.display().to_string();
    let envoy = place.envoy.display().to_string();
    let programs: &[(&str, &str, &[&str])] = &[
        ("adit", &adit, &["--version"]),
        ("envoy", &envoy, &["--version"]),
        ("haproxy", "haproxy", &["-v"]),
        ("nginx", "nginx", &["-v"]),
        ("nghttpx", "nghttpx", &["--version"]),
        ("wrk", "wrk", &["-v"]),
        ("h2load", "h2load", &["--version"]),
        ("rustc", "rustc", &["--version"]),
        ("commit", "git", &["rev-parse", "--short", "HEAD"]),
        ("date", "date", &["-u", "+%F"]),
    ];
    for (name, program, args) in programs {
        let Ok(out) = Command::new(program).args(*args).output() else { continue };
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        if let Some(line) = text.lines().find(|line| !line.trim().is_empty()) {
            // wrk tells of its author too, and all of their own paths.
            let line = line.replace(&envoy, "").replace(&adit, "").replace("Copyright (C) 2012 Will Glozer", "");
            all.insert((*name).to_owned(), line.trim().trim_start_matches("version:").trim().to_owned());
        }
    }
    all
}
