//! The cell of requests: wrk for HTTP/1.1, h2load for HTTP/2.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::load::{account, histogram, latencies};
use crate::proc::Moment;
use crate::spec::{LoadResult, LoadSpec, Transport};

/// Makes wrk print what we read: requests, failures, and latencies in microseconds.
const SCRIPT: &str = "done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT %d %d %d %d %d %d\\n', summary.requests, e.status,
    e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
";

/// Runs the client for the warm-up and once more for the window. What it spends on its start counts as little as the
/// window is long.
pub fn run(spec: &LoadSpec) -> Result<LoadResult> {
    let folder = std::env::temp_dir().join(format!("adit-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let done = measure(spec, &folder);
    std::fs::remove_dir_all(&folder)?;
    done
}

fn measure(spec: &LoadSpec, folder: &std::path::Path) -> Result<LoadResult> {
    let seconds = |secs: f64| format!("{}", secs.ceil().max(1.0));
    let url = format!("http://{}/", spec.connect);
    let script = folder.join("result.lua");
    std::fs::write(&script, SCRIPT)?;
    let log = folder.join("h2load.log");
    let command = |secs: f64| {
        let mut command;
        if spec.transport == Transport::Wrk {
            command = Command::new("wrk");
            command.args(["-t1", "-c64", "-d", &seconds(secs), "-s"]).arg(&script).arg(&url);
        } else {
            command = Command::new("h2load");
            command.args(["-t1", "-c8", "-m16", "-D", &seconds(secs)]).arg(format!("--log-file={}", log.display()));
            command.arg(&url);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    command(spec.warm).output().context("cannot run the client")?;
    let _ = std::fs::remove_file(&log);
    let from = Moment::now(&spec.pids, spec.core);
    let out = command(spec.secs).output()?;
    let to = Moment::now(&spec.pids, spec.core);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut result = if spec.transport == Transport::Wrk {
        of_wrk(&text)?
    } else {
        of_h2load(&text, &std::fs::read_to_string(&log)?)?
    };
    account(&mut result, &from.until(&to));
    if result.ops == 0 {
        bail!("no request succeeded: {} {}", text.trim(), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(result)
}

fn of_wrk(text: &str) -> Result<LoadResult> {
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT ")).context("wrk has printed no result")?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [ops, statuses, errors, p50, p99, p999] = numbers[..] else { bail!("wrk has printed {line}") };
    // Answers of a wrong status count as requests too. Reads fail at wrk's own end, one for each connection.
    let errors = (statuses + errors) as u64;
    Ok(LoadResult { ops: (ops - statuses).max(0.0) as u64, errors, p50, p99, p999, ..LoadResult::default() })
}

fn of_h2load(text: &str, log: &str) -> Result<LoadResult> {
    let line = text.lines().find(|line| line.starts_with("status codes:")).context("h2load has printed no result")?;
    let ops = line.split_whitespace().nth(2).and_then(|number| number.parse().ok()).context("h2load's status codes")?;
    let mut histogram = histogram()?;
    let mut errors = 0;
    for line in log.lines() {
        let mut fields = line.split_whitespace().skip(1);
        let status = fields.next();
        if status != Some("200") {
            errors += 1;
        } else if let Some(micros) = fields.next().and_then(|number| number.parse::<u64>().ok()) {
            histogram.saturating_record(micros * 1000);
        }
    }
    let mut result = LoadResult { ops, errors, ..LoadResult::default() };
    latencies(&mut result, &histogram);
    Ok(result)
}
