//! The kernel's accounting of processes, threads and cores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Ticks per second of `/proc/<pid>/stat`; fixed on Linux for every architecture that matters here.
const TICKS: f64 = 100.0;

/// The process with all that descend from it.
pub fn tree(roots: &[u32]) -> Vec<u32> {
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
            parents.entry(parent).or_default().push(pid);
        }
    }
    let mut all = BTreeSet::new();
    let mut next: Vec<u32> = roots.to_vec();
    while let Some(pid) = next.pop() {
        if all.insert(pid) {
            next.extend(parents.get(&pid).into_iter().flatten());
        }
    }
    all.into_iter().collect()
}

/// The fields of `/proc/<pid>/stat` behind the command's name: 0 is the state, 1 the parent.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// CPU-seconds (user and system) of the processes and their descendants.
pub fn cpu(roots: &[u32]) -> f64 {
    tree(roots).into_iter().map(own_cpu).sum()
}

fn own_cpu(pid: u32) -> f64 {
    let Some(fields) = stat(pid) else { return 0.0 };
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// CPU-seconds of this process's children that have ended.
fn ended_children() -> f64 {
    let Some(fields) = stat(std::process::id()) else { return 0.0 };
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / TICKS
}

/// Resident KiB of a process and its descendants.
pub fn rss(root: u32) -> f64 {
    tree(&[root])
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|text| {
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        })
        .sum()
}

/// CPU-seconds of each of this process's threads.
pub fn threads() -> BTreeMap<u32, f64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) {
            let nanos = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
            all.insert(tid, nanos / 1e9);
        }
    }
    all
}

/// Busy CPU-seconds of the machine, and of one core: all but idle and waiting for a disk.
pub fn busy(core: Option<usize>) -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of = |name: &str| {
        let Some(line) = text.lines().find(|line| line.split(' ').next() == Some(name)) else { return 0.0 };
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        let all: f64 = ticks.iter().sum();
        (all - ticks.get(3).unwrap_or(&0.0) - ticks.get(4).unwrap_or(&0.0)) / TICKS
    };
    (of("cpu"), core.map_or(0.0, |core| of(&format!("cpu{core}"))))
}

/// One moment's counts, to be subtracted.
#[derive(Debug, Clone)]
pub struct Moment {
    at: std::time::Instant,
    proxy: f64,
    threads: BTreeMap<u32, f64>,
    children: f64,
    busy: f64,
    core: f64,
}

/// What was used between two moments, in seconds.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Wall-clock time.
    pub secs: f64,
    /// The proxy's processes.
    pub proxy: f64,
    /// The generator's busiest thread.
    pub busiest: f64,
    /// The generator.
    pub generator: f64,
    /// Neither, on the machine.
    pub foreign: f64,
    /// Neither, on the proxy's core.
    pub foreign_core: f64,
}

impl Moment {
    /// Takes the counts of now.
    pub fn now(proxy: &[u32], core: Option<usize>) -> Self {
        let (busy, on_core) = busy(core);
        Self {
            at: std::time::Instant::now(),
            proxy: cpu(proxy),
            threads: threads(),
            children: ended_children(),
            busy,
            core: on_core,
        }
    }

    /// What was used from `self` to `later`.
    pub fn until(&self, later: &Moment) -> Used {
        let each = later.threads.iter().map(|(tid, used)| used - self.threads.get(tid).unwrap_or(&0.0));
        let children = later.children - self.children;
        let busiest = each.clone().fold(children, f64::max);
        let generator = each.sum::<f64>() + children;
        let proxy = later.proxy - self.proxy;
        Used {
            secs: later.at.duration_since(self.at).as_secs_f64(),
            proxy,
            busiest,
            generator,
            foreign: (later.busy - self.busy - proxy - generator).max(0.0),
            foreign_core: (later.core - self.core - proxy).max(0.0),
        }
    }
}
