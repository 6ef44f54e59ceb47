//! `cargo xtask tidy`: what the tree must be like. Edges between crates by `xtask/floors.txt`, sizes, and absences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A file of this many lines must be split; generated code and tables excepted by name.
const MAX_LINES: usize = 800;

/// Files that are long because they are tables, generated or data.
const LONG: &[&str] = &["crates/adit-config/src/gen/"];

struct Rule {
    floor: u8,
    allowed: BTreeSet<String>,
}

pub fn run() -> Result<()> {
    let mut problems = Vec::new();
    let rules = floors()?;
    edges(&rules, &mut problems)?;
    files(&mut problems)?;
    if problems.is_empty() {
        println!("tidy: {} crates, nothing to object to", rules.len());
        return Ok(());
    }
    for problem in &problems {
        println!("tidy: {problem}");
    }
    bail!("tidy: {} problems", problems.len())
}

/// Reads lines of `crate floor: dependency ...`; `#` starts a comment.
fn floors() -> Result<BTreeMap<String, Rule>> {
    let text = std::fs::read_to_string("xtask/floors.txt").context("xtask/floors.txt")?;
    let mut rules = BTreeMap::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|line| !line.is_empty()) {
        let (head, dependencies) = line.split_once(':').with_context(|| format!("floors.txt: no colon: {line}"))?;
        let mut words = head.split_whitespace();
        let name = words.next().with_context(|| format!("floors.txt: no crate: {line}"))?;
        let floor = words.next().and_then(|floor| floor.strip_prefix('F')).and_then(|floor| floor.parse().ok());
        let floor = floor.with_context(|| format!("floors.txt: no floor: {line}"))?;
        let allowed = dependencies.split_whitespace().map(str::to_owned).collect();
        rules.insert(name.to_owned(), Rule { floor, allowed });
    }
    Ok(rules)
}

fn edges(rules: &BTreeMap<String, Rule>, problems: &mut Vec<String>) -> Result<()> {
    let text = crate::run::output(&crate::run::cargo(), &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let empty = Vec::new();
    for package in metadata["packages"].as_array().unwrap_or(&empty) {
        let name = package["name"].as_str().unwrap_or("");
        if matches!(name, "xtask" | "adit-tests" | "adit-bench" | "adit-testkit") {
            continue;
        }
        let Some(rule) = rules.get(name) else {
            problems.push(format!("{name} has no line in xtask/floors.txt"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            if dependency["kind"].as_str().is_some() {
                continue;
            }
            edge(name, rule, dependency["name"].as_str().unwrap_or(""), rules, problems);
        }
    }
    Ok(())
}

fn edge(name: &str, rule: &Rule, to: &str, rules: &BTreeMap<String, Rule>, problems: &mut Vec<String>) {
    if !rule.allowed.contains(to) {
        problems.push(format!("{name} depends on {to}, which its line in xtask/floors.txt does not allow"));
    }
    if let Some(other) = rules.get(to)
        && other.floor > rule.floor
    {
        problems.push(format!("{name} (F{}) depends on {to}, which is above it (F{})", rule.floor, other.floor));
    }
}

fn files(problems: &mut Vec<String>) -> Result<()> {
    let list = crate::run::output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    for file in list.lines() {
        let path = Path::new(file);
        let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { continue };
        let long = LONG.iter().any(|prefix| file.starts_with(prefix));
        if extension != "rs" || long || !path.exists() {
            continue;
        }
        let text = std::fs::read_to_string(path).with_context(|| file.to_owned())?;
        source(file, &text, problems);
        if file.starts_with("crates/")
            && file.ends_with("/src/lib.rs")
            && !text.contains("Floor F")
            && !file.contains("testkit")
        {
            problems.push(format!("{file}: does not name its floor (\"Floor F..\")"));
        }
    }
    for needed in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "deny.toml",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/life-of-a-byte.md",
        "docs/lexicon.md",
        "docs/limits.md",
        "docs/differences.md",
        ".ci/run",
    ] {
        if !PathBuf::from(needed).exists() {
            problems.push(format!("{needed} is missing"));
        }
    }
    Ok(())
}

fn source(file: &str, text: &str, problems: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{file}: {lines} lines; {MAX_LINES} is the limit"));
    }
    if file == "xtask/src/tidy.rs" {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        for word in ["#[ignore", "todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX:"] {
            if line.contains(word) {
                problems.push(format!("{file}:{}: {word}", index + 1));
            }
        }
        if line.contains("unsafe {") && !text.contains("#![allow(unsafe_code") && !text.contains("expect(unsafe_code") {
            problems.push(format!("{file}:{}: unsafe", index + 1));
        }
    }
}
