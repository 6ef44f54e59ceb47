//! `cargo xtask configs`: every file in `configs/` is one that the binary accepts.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{self, cargo};

pub fn run() -> Result<()> {
    run_build()?;
    let mut files = Vec::new();
    collect(Path::new("configs"), &mut files)?;
    files.sort();
    let binary = crate::e2e::binary();
    let mut failed = 0;
    for file in &files {
        let folder = file.parent().unwrap_or(Path::new("."));
        let name = file.file_name().unwrap_or_default();
        // Relative names in a file (certificates) are meant from its own folder.
        let out = Command::new(&binary).current_dir(folder).args(["--mode", "validate", "-c"]).arg(name).output();
        let out = out.with_context(|| format!("cannot run {}", binary.display()))?;
        if !out.status.success() {
            failed += 1;
            println!("{}: refused\n{}", file.display(), String::from_utf8_lossy(&out.stderr));
        }
    }
    if failed > 0 {
        bail!("{failed} of {} files in configs/ are refused", files.len());
    }
    println!("configs: {} files are accepted", files.len());
    Ok(())
}

fn run_build() -> Result<()> {
    run::run(&cargo(), &["build", "--quiet", "--package", "adit"])
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "json") {
            files.push(path);
        }
    }
    Ok(())
}
