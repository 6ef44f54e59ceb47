//! The order of runs, and what makes one be repeated.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::spec::{Cell, LoadResult, LoadSpec};
use crate::suite::Options;
use crate::suite::plan::{Proxy, Scenario};
use crate::suite::proxies::{Place, Ports, Running, pinned, start};
use crate::suite::results::{Results, Sample, deviates};

/// Others' CPU on the proxy's core, of the window, above which a run is disturbed.
const FOREIGN_ON_CORE: f64 = 0.05;
/// The same for the machine, in cores.
const FOREIGN: f64 = 0.5;

struct Contender {
    proxy: Proxy,
    running: Option<Running>,
    failed: Option<String>,
}

impl Contender {
    /// A start in each scenario, and before each look at memory.
    fn start(&mut self, scenario: &Scenario, place: &Place) {
        if self.proxy == Proxy::Direct {
            return;
        }
        self.running = None;
        match start(self.proxy, scenario, place) {
            Ok(running) => self.running = Some(running),
            Err(error) => self.failed = Some(format!("cannot start: {error:#}")),
        }
    }
}

/// Measures the cells of a scenario.
pub fn scenario(scenario: &Scenario, options: &Options, place: &Place, results: &mut Results) -> Result<()> {
    println!("\n== {}", scenario.title);
    let mut contenders: Vec<Contender> =
        options.proxies(scenario).into_iter().map(|proxy| Contender { proxy, running: None, failed: None }).collect();
    for contender in &mut contenders {
        contender.start(scenario, place);
    }
    for cell in scenario.cells().iter().copied().filter(|cell| options.wants(*cell)) {
        results.forget(scenario, cell, &contenders.iter().map(|contender| contender.proxy).collect::<Vec<_>>());
        for run in 0..runs(cell, options) {
            // There and back: none is always first.
            let mut order: Vec<usize> = (0..contenders.len()).collect();
            if run % 2 == 1 {
                order.reverse();
            }
            for index in order {
                if let Some(contender) = contenders.get_mut(index) {
                    one(contender, scenario, cell, run, options, place, results);
                }
            }
        }
        again(&mut contenders, scenario, cell, options, place, results);
    }
    Ok(())
}

fn runs(cell: Cell, options: &Options) -> usize {
    // Memory does not scatter.
    if cell == Cell::Idle { options.runs().min(2) } else { options.runs() }
}

/// Runs that stray from their median are measured once more.
fn again(
    contenders: &mut [Contender],
    scenario: &Scenario,
    cell: Cell,
    options: &Options,
    place: &Place,
    results: &mut Results,
) {
    for contender in contenders {
        let costs: Vec<(usize, f64)> = results.costs(scenario, cell, contender.proxy);
        for (run, cost) in &costs {
            if deviates(*cost, &costs) {
                println!("  {} {} run {run} strays, once more", cell.name(), contender.proxy.name());
                one(contender, scenario, cell, *run, options, place, results);
            }
        }
    }
}

fn one(
    contender: &mut Contender,
    scenario: &Scenario,
    cell: Cell,
    run: usize,
    options: &Options,
    place: &Place,
    results: &mut Results,
) {
    if matches!(cell, Cell::Idle | Cell::EndAll) && contender.failed.is_none() {
        contender.start(scenario, place);
    }
    let proxy = contender.proxy;
    if let Some(failed) = &contender.failed {
        if run == 0 {
            println!("  {:<12} {:<15} {failed}", cell.name(), proxy.name());
        }
        results.failed(scenario, cell, proxy, failed);
        return;
    }
    if proxy == Proxy::Direct && cell == Cell::Idle {
        return;
    }
    let pids = contender.running.as_ref().map(Running::pids).unwrap_or_default();
    let mut best: Option<Sample> = None;
    for attempt in 0..=options.repeats {
        let done = load(scenario, cell, proxy, pids.clone(), options, place);
        let result = match done {
            Ok(result) => result,
            Err(error) if attempt == options.repeats => {
                println!("  {:<12} {:<15} {error:#}", cell.name(), proxy.name());
                results.failed(scenario, cell, proxy, &format!("{error:#}"));
                return;
            }
            Err(_) => {
                contender.start(scenario, place);
                std::thread::sleep(Duration::from_millis(500));
                continue;
            }
        };
        let disturbance = disturbance(cell, &result);
        let sample = Sample::new(scenario, cell, proxy, run, result, disturbance > 1.0);
        let better = best.as_ref().is_none_or(|best| best.disturbance > disturbance);
        if better {
            best = Some(Sample { disturbance, ..sample });
        }
        if disturbance <= 1.0 {
            break;
        }
    }
    if let Some(best) = best {
        println!("  {}", best.line());
        results.add(best);
    }
}

/// Above 1: others had too much of the machine.
fn disturbance(cell: Cell, result: &LoadResult) -> f64 {
    if matches!(cell, Cell::Idle | Cell::EndAll) || result.secs <= 0.0 {
        return 0.0;
    }
    (result.foreign_core_cpu / result.secs / FOREIGN_ON_CORE).max(result.foreign_cpu / result.secs / FOREIGN)
}

fn load(
    scenario: &Scenario,
    cell: Cell,
    proxy: Proxy,
    pids: Vec<u32>,
    options: &Options,
    place: &Place,
) -> Result<LoadResult> {
    let ports = Ports::of(proxy);
    let spec = LoadSpec {
        transport: scenario.transport,
        connect: ports.connect(proxy),
        origin: SocketOf(ports.origin).into(),
        origin_kind: scenario.origin,
        cell,
        secs: if options.quick { 1.5 } else { 4.0 },
        warm: if options.quick { 0.5 } else { 1.0 },
        pids,
        core: Some(place.core),
        idle: options.idle,
    };
    let limit = Duration::from_secs_f64(spec.secs + spec.warm + 90.0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).max(place.core + 1);
    let others: Vec<String> = (0..cores).filter(|core| *core != place.core).map(|core| core.to_string()).collect();
    let others = if others.is_empty() { place.core.to_string() } else { others.join(",") };
    let mut child = pinned(&others)
        .arg(std::env::current_exe()?)
        .arg("load")
        .arg(serde_json::to_string(&spec)?)
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run the generator")?;
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            bail!("no result within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    child.stdout.take().context("no output")?.read_to_string(&mut text)?;
    if !status.success() {
        let mut error = String::new();
        child.stderr.take().context("no output")?.read_to_string(&mut error)?;
        bail!("{}", error.trim().replace('\n', " ").chars().take(300).collect::<String>());
    }
    serde_json::from_str(&text).context("the generator's result")
}

struct SocketOf(u16);

impl From<SocketOf> for std::net::SocketAddr {
    fn from(port: SocketOf) -> Self {
        ([127, 0, 0, 1], port.0).into()
    }
}
