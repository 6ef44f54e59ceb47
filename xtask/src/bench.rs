//! `cargo xtask bench`: builds the binary and the bench for release, installs the peers that are missing, and measures.
//!
//! What is measured, and how, is in `bench/` and in `docs/benchmarks.md`.

use std::path::Path;

use anyhow::{Context, Result};

use crate::e2e;
use crate::run::{self, cargo, exists};

/// Programs that the bench runs, with the package that brings each.
const PROGRAMS: &[(&str, &str)] = &[("taskset", "util-linux"), ("wrk", "wrk"), ("h2load", "nghttp2-client")];

/// Peers from packages: name, program or file, packages.
const PEERS: &[(&str, &str, &[&str])] = &[
    ("haproxy", "haproxy", &["haproxy"]),
    ("nginx", "nginx", &["nginx-light", "libnginx-mod-stream"]),
    ("nghttpx", "nghttpx", &["nghttp2-proxy"]),
];

/// Runs with the arguments that follow `bench`; those that it does not know go to the bench itself.
pub fn run(args: &[String]) -> Result<()> {
    let list = ["--package", "adit", "--package", "adit-bench"];
    run::run(&cargo(), &[&["build", "--quiet", "--release"], &list[..]].concat())?;
    let against = value(args, "--against").unwrap_or_default();
    let asked = |name: &str| against.split(',').any(|one| one.split('-').next() == Some(name));
    let only_report = args.iter().any(|arg| matches!(arg.as_str(), "--report-only" | "--help"));
    if !only_report {
        install(asked)?;
    }
    let envoy = if asked("envoy") && !only_report { envoy()? } else { "envoy".to_owned() };
    let folder = e2e::target().join("release");
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (adit, bench) = (path("adit"), path("adit-bench"));
    let work = e2e::target().join("bench").to_string_lossy().into_owned();
    let mut all = vec!["suite", "--adit", &adit, "--envoy", &envoy, "--folder", &work, "--docs", "docs"];
    all.extend(args.iter().map(String::as_str));
    run::run(&bench, &all)
}

/// The value of an option, in either way of writing it.
fn value(args: &[String], name: &str) -> Option<String> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == name {
            return args.next().cloned();
        }
        if let Some(value) = arg.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}

fn install(asked: impl Fn(&str) -> bool) -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    for (name, program, packages) in PEERS {
        if asked(name) && !exists(program) {
            missing.extend(*packages);
        }
    }
    e2e::apt_install(&missing).context("cannot install the programs that the bench runs")
}

/// The same Envoy that the end-to-end tests run.
fn envoy() -> Result<String> {
    let venv = match std::env::var_os("ADIT_E2E_VENV") {
        Some(venv) => venv.into(),
        None => e2e::python()?,
    };
    Ok(Path::new(&venv).join("bin").join("envoy").to_string_lossy().into_owned())
}
