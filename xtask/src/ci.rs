//! `cargo xtask ci`: what must hold before anything lands.

use anyhow::Result;

use crate::run::{self, cargo, exists, run_with};

pub fn run() -> Result<()> {
    let mut flaky = Vec::new();
    let result = steps(&mut flaky);
    crate::flaky::report(&flaky);
    result
}

fn steps(flaky: &mut Vec<String>) -> Result<()> {
    let cargo = cargo();
    crate::e2e::apt_install(if exists("make") { &[] } else { &["make"] })?;
    run_cargo(&cargo, &["fmt", "--all", "--check"])?;
    crate::tidy::run()?;
    deny(&cargo)?;
    run_cargo(
        &cargo,
        &["clippy", "--workspace", "--all-targets", "--all-features", "--quiet", "--", "-D", "warnings"],
    )?;
    run_with(
        &cargo,
        &["doc", "--workspace", "--no-deps", "--quiet", "--exclude", "adit-config"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    // Those of adit-tests need the binary, which `cargo test` does not build; `e2e` below runs them all.
    crate::flaky::test(&["--workspace", "--exclude", "adit-tests", "--quiet"], &[], flaky)?;
    crate::protos::run(&["--check".to_owned()])?;
    crate::configs::run()?;
    crate::e2e::run_again(flaky)
}

fn run_cargo(cargo: &str, args: &[&str]) -> Result<()> {
    run::run(cargo, args)
}

/// Bans, licences and sources; the advisory database is not needed for these.
fn deny(cargo: &str) -> Result<()> {
    if !exists("cargo-deny") {
        run::run(cargo, &["install", "--locked", "--quiet", "cargo-deny", "--version", "^0.20", "--debug"])?;
    }
    run::run("cargo-deny", &["--all-features", "check", "bans", "licenses", "sources"])
}
