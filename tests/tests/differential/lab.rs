//! The same configuration in adit and in Envoy, the same bytes to both, and what is seen of either.

use std::fmt::Write as _;

use crate::case::{Case, Part};
use crate::deliberate::{BYTES_ASIDE, DELIBERATE, Entry};
use crate::side::Side;

/// Two proxies with one configuration.
pub struct Lab {
    test: String,
    pub adit: Side,
    pub envoy: Side,
    report: String,
    ignored: Vec<&'static str>,
}

impl Lab {
    pub fn new(yaml: &str) -> Self {
        let (adit, envoy) = std::thread::scope(|scope| {
            let envoy = scope.spawn(|| Side::start("envoy", yaml));
            let adit = Side::start("adit", yaml);
            (adit, envoy.join().expect("envoy"))
        });
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // While Envoy waits to close, these clients do; we have closed by then.
        let closers: &[&str] = &["downstream_cx_destroy_local", "downstream_cx_destroy_remote"];
        let ignored = if test.starts_with("upgrades::") { closers.to_vec() } else { Vec::new() };
        Self { test, adit, envoy, report: String::new(), ignored }
    }

    /// Stats with one of these in their names are not compared in any case.
    pub fn ignore(mut self, names: &[&'static str]) -> Self {
        self.ignored.extend(names);
        self
    }

    /// Runs a case on both and notes where they differ.
    pub fn case(&mut self, case: Case) {
        if let Ok(only) = std::env::var("CASE")
            && !case.name.contains(&only)
        {
            return;
        }
        let mut case = case;
        case.ignored.extend(&self.ignored);
        let known = |entry: &&Entry| entry.test == self.test && entry.cases.iter().any(|name| case.is(name));
        if let Some(entry) = DELIBERATE.iter().find(known) {
            case.differs.extend(entry.parts);
            case.why = entry.why;
            case.expect = (!entry.holds.is_empty()).then_some(entry.holds);
        }
        // What differs on purpose, or by a defect, differs every time; what came late on a machine with much to do does not.
        let mut report = String::new();
        for patience in [1, 4, 10] {
            report = self.compare(&case, patience);
            if report.is_empty() {
                return;
            }
            eprintln!("with a patience of {patience}: {report}");
        }
        self.report.push_str(&report);
    }

    /// Runs a case on both: where they differ.
    fn compare(&mut self, case: &Case, patience: u32) -> String {
        let mut report = String::new();
        let (adit, envoy) = std::thread::scope(|scope| {
            let envoy = scope.spawn(|| self.envoy.run(case, patience));
            (self.adit.run(case, patience), envoy.join().expect("envoy"))
        });
        if std::env::var_os("SHOW").is_some() {
            eprintln!("=== {}\n{:#?}", case.name, envoy.0);
        }
        if let Some(text) = case.expect
            && !adit.0[&Part::Answer].contains(text)
        {
            let _ = writeln!(report, "=== {}: no {text:?} in adit's answer:\n{}", case.name, adit.0[&Part::Answer]);
        }
        let aside = BYTES_ASIDE.iter().any(|(_, names)| names.iter().any(|name| case.is(name)));
        // What follows from another answer is not compared.
        let answered_otherwise = !case.differs.is_empty() && case.differs.iter().all(|part| *part < Part::Log);
        for (part, ours) in &adit.0 {
            if (answered_otherwise && !case.differs.contains(part)) || (aside && *part == Part::Bytes) {
                continue;
            }
            let theirs = &envoy.0[part];
            if std::env::var("PARTS").is_ok_and(|parts| !parts.contains(&format!("{part:?}"))) {
                continue;
            }
            let same = ours == theirs || tolerated(*part, ours, theirs);
            match (case.differs.contains(part), same) {
                (false, false) => {
                    let _ = writeln!(report, "=== {} {part:?}\n{}", case.name, difference(ours, theirs));
                }
                (true, true) => {
                    let _ = writeln!(report, "=== {} {part:?}: the same, though {:?}", case.name, case.why);
                }
                _ => {}
            }
        }
        report
    }

    pub fn cases(&mut self, cases: impl IntoIterator<Item = Case>) {
        for case in cases {
            self.case(case);
        }
    }

    /// Ends both and gives all that differed.
    pub fn report(self) -> String {
        self.report
    }

    /// Panics with all that differed.
    #[track_caller]
    pub fn done(self) {
        check(&self.report());
    }
}

/// What differs in many cases for one reason each (docs/differences.md).
fn tolerated(part: Part, ours: &str, theirs: &str) -> bool {
    match part {
        // We read on behind an answer that closes, so that it is not lost; Envoy's close then is an RST.
        Part::End => ours == "FIN" && theirs == "RST",
        // What we give up on, its upstream sees as given up.
        Part::Origin => ours.replace("[RST]", "[FIN]") == theirs,
        // How long the upstream took has as many digits as it has.
        Part::Bytes => lengths(ours).zip(lengths(theirs)).all(|(ours, theirs)| ours.abs_diff(theirs) <= 2),
        // Who ended a connection of a pool that had a stream on it is told by other means.
        Part::Stats => pooled(ours) == pooled(theirs),
        _ => false,
    }
}

/// The numbers of a `BL|` line.
fn lengths(line: &str) -> impl Iterator<Item = u64> + '_ {
    let numbers = line.split(|character: char| !character.is_ascii_digit()).filter(|text| !text.is_empty());
    // A line that lacks is not like one that is there.
    numbers.map(|text| text.parse().unwrap_or(u64::MAX)).chain(std::iter::once(u64::from(line.is_empty()) * 1000))
}

fn pooled(stats: &str) -> Vec<&str> {
    const TOLD: &[&str] = &[
        "upstream_cx_destroy",
        "upstream_cx_total",
        "upstream_cx_http1_total",
        "upstream_rq_pending_total",
        "upstream_cx_active",
        "upstream_cx_protocol_error",
    ];
    stats.lines().filter(|line| !TOLD.iter().any(|name| line.contains(name))).collect()
}

/// Panics with what differed, if anything did.
#[track_caller]
pub fn check(report: &str) {
    assert!(report.is_empty(), "\n{report}");
}

fn difference(ours: &str, theirs: &str) -> String {
    let mut out = String::new();
    let (a, b): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    for line in &a {
        if !b.contains(line) {
            let _ = writeln!(out, "  adit : {line}");
        }
    }
    for line in &b {
        if !a.contains(line) {
            let _ = writeln!(out, "  envoy: {line}");
        }
    }
    if out.is_empty() {
        let _ = writeln!(out, "  adit : {ours:?}\n  envoy: {theirs:?}");
    }
    out
}
