//! `cargo xtask protos [--check]`: regenerates adit-config's message types, or tells whether they are up to date.
//!
//! The generator is a workspace of its own (xtask/protos), so that xtask stays quick to build.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs the generator with the arguments that follow `protos`.
///
/// # Errors
/// If the generator cannot be run, or says that a file differs.
pub fn run(args: &[String]) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("protos/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--")
        .args(args)
        .status()
        .context("the generator of the message types")?;
    if !status.success() {
        bail!("the generator of the message types failed");
    }
    Ok(())
}
