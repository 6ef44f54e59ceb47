//! Tests that fail and then pass. A test that depends on timing is a defect, but it is not a defect of whatever is about
//! to land: what fails is run once more, alone; what fails twice fails, what passes then is named as flaky.

use std::io::{PipeReader, Read, Write};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::cargo;

/// How long output is awaited once cargo is gone: a process that a test left behind may hold the other end for ever.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A test target that failed.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    /// As cargo names it: `-p adit-h1 --test client`.
    target: String,
    /// The tests of it that failed by name; none where it died before it could say so.
    tests: Vec<String>,
}

/// Runs `cargo test` with `args`, and again what failed. The tests that passed only then are put into `flaky`.
pub fn test(args: &[&str], env: &[(&str, &str)], flaky: &mut Vec<String>) -> Result<()> {
    let mut all = vec!["test", "--no-fail-fast"];
    all.extend(args);
    let (passed, output) = tee(&all, env)?;
    if passed {
        return Ok(());
    }
    let failed = failed(&output);
    if failed.is_empty() {
        bail!("cargo {} failed, and no test did", all.join(" "));
    }
    let mut again = Vec::new();
    for target in &failed {
        println!("\nonce more: {}", target.names().join("\n           "));
        let command = target.command(args);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let (passed, output) = tee(&command, env)?;
        if passed && ran(&output) >= target.tests.len() {
            flaky.extend(target.names());
        } else {
            again.extend(target.names());
        }
    }
    if !again.is_empty() {
        bail!("tests failed, and failed again (or others of the same target did):\n  {}", again.join("\n  "));
    }
    Ok(())
}

/// Says loudly what is to be mended.
pub fn report(flaky: &[String]) {
    if flaky.is_empty() {
        return;
    }
    println!("\n{:=<100}", "== FLAKY: these failed once and passed alone. Each is a defect to be mended. ");
    for name in flaky {
        println!("flaky: {name}");
    }
    println!("{:=<100}", "");
}

impl Failed {
    /// `<target> <test>` for each test, or the target alone.
    fn names(&self) -> Vec<String> {
        if self.tests.is_empty() {
            return vec![self.target.clone()];
        }
        self.tests.iter().map(|test| format!("{} {test}", self.target)).collect()
    }

    /// Arguments of cargo that run it again. The packages stay those of `args`: with another choice cargo would unify
    /// features differently, and build much of the tree anew.
    fn command(&self, args: &[&str]) -> Vec<String> {
        let mut words = self.target.split(' ').peekable();
        words.next_if_eq(&"-p").and_then(|_| words.next());
        let mut command = vec!["test"];
        command.extend(args);
        command.extend(words);
        // The name of a documentation test is no filter.
        if !self.tests.is_empty() && !command.contains(&"--doc") {
            command.extend(["--", "--exact"]);
            command.extend(self.tests.iter().map(String::as_str));
        }
        command.into_iter().map(str::to_owned).collect()
    }
}

/// The targets that failed, from what cargo and the tests printed (both into the same pipe, thus in order).
fn failed(output: &str) -> Vec<Failed> {
    let mut all = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut listing = false;
    for line in output.lines() {
        if let Some(target) = failed_target(line) {
            all.push(Failed { target: target.to_owned(), tests: std::mem::take(&mut names) });
        } else if line == "failures:" {
            // First what each printed, then the list; what they printed may look like one.
            listing = true;
            names.clear();
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| listing) {
            names.push(name.to_owned());
        } else if !line.is_empty() {
            listing = false;
            if line.starts_with("test result: ok") {
                names.clear();
            }
        }
    }
    all
}

/// What cargo says of a target once it is done.
fn failed_target(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix("error: ")?.split_once("failed, to rerun pass `")?;
    rest.strip_suffix('`')
}

/// How many tests passed.
fn ran(output: &str) -> usize {
    let passed = |line: &str| line.strip_prefix("test result: ok. ")?.split_once(" passed;")?.0.parse::<usize>().ok();
    output.lines().filter_map(passed).sum()
}

/// Runs cargo, its output passed through and kept: whether it succeeded, and all it printed.
fn tee(args: &[&str], env: &[(&str, &str)]) -> Result<(bool, String)> {
    let cargo = cargo();
    println!("$ {cargo} {}", args.join(" "));
    let start = Instant::now();
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(&cargo);
    command.args(args).envs(env.iter().copied()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {cargo}"))?;
    // It holds the writing ends too.
    drop(command);
    let (kept, pieces) = mpsc::channel();
    thread::spawn(move || pass_through(reader, &kept));
    let status = child.wait()?;
    let deadline = Instant::now() + LAST_WORDS;
    let mut output = Vec::new();
    loop {
        match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => output.extend(piece),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("  (a process that a test started is still there)");
                break;
            }
        }
    }
    println!("  ({:.1} s)", start.elapsed().as_secs_f64());
    Ok((status.success(), String::from_utf8_lossy(&output).into_owned()))
}

fn pass_through(mut from: PipeReader, kept: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..n).unwrap_or_default();
        // A terminal that is gone does not end the run.
        let _ = std::io::stdout().write_all(piece).and_then(|()| std::io::stdout().flush());
        if kept.send(piece.to_vec()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
