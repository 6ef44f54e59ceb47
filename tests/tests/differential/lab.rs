//! The same configuration in adit and in Envoy, the same bytes to both, and what is seen of either.

#![allow(dead_code, reason = "not every table of cases needs every word")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use adit_tests::{Proxy, free_port};

use crate::deliberate::{BYTES_ASIDE, DELIBERATE};
use crate::origin::{Origin, Reply};

/// What a client does, in order.
#[derive(Clone)]
pub enum Do {
    Send(Vec<u8>),
    /// Waits for one more complete head.
    Head,
    Pause(u64),
    Fin,
    Rst,
}

pub fn send(text: impl AsRef<[u8]>) -> Do {
    Do::Send(text.as_ref().to_vec())
}

/// A part of what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What the client received.
    Answer,
    /// How the client's connection ended.
    End,
    /// What the origin received.
    Origin,
    /// Lines of the access log.
    Log,
    /// The byte counts of those lines.
    Bytes,
    /// How far counters and gauges moved.
    Stats,
}

/// One case: what is sent, what the origin says, and where the two may differ.
#[derive(Clone)]
pub struct Case {
    name: String,
    client: Vec<Do>,
    script: Vec<Reply>,
    differs: Vec<Part>,
    why: &'static str,
    expect: Option<&'static str>,
    quiet: u64,
    ignored: Vec<&'static str>,
}

/// An answer of the origin.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Case {
    /// Sends these bytes; the origin answers 200.
    pub fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self::steps(name, vec![send(bytes)])
    }

    pub fn steps(name: impl Into<String>, client: Vec<Do>) -> Self {
        Self {
            name: name.into(),
            client,
            script: vec![Reply::Answer(OK)],
            differs: Vec::new(),
            why: "",
            expect: None,
            quiet: 250,
            ignored: Vec::new(),
        }
    }

    /// A GET of a path.
    pub fn get(path: &str) -> Self {
        Self::new(path, format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n\r\n"))
    }

    /// A GET with more fields, each ending in CRLF.
    pub fn with(name: impl Into<String>, path: &str, fields: &str) -> Self {
        Self::new(name, format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n{fields}\r\n"))
    }

    /// Whether this is its name, or the end of it.
    fn is(&self, name: &str) -> bool {
        self.name == name || self.name.ends_with(&format!(" {name}"))
    }

    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub fn origin(mut self, reply: Reply) -> Self {
        self.script = vec![reply];
        self
    }

    pub fn script(mut self, script: Vec<Reply>) -> Self {
        self.script = script;
        self
    }

    /// These parts differ, deliberately. They must: a case that has become the same is an error too.
    pub fn differs(mut self, parts: &[Part], why: &'static str) -> Self {
        self.differs = parts.to_vec();
        self.why = why;
        self
    }

    /// adit's answer contains this.
    pub fn expect(mut self, text: &'static str) -> Self {
        self.expect = Some(text);
        self
    }

    /// Lines of stats that contain one of these are not compared.
    pub fn ignore(mut self, names: &[&'static str]) -> Self {
        self.ignored.extend(names);
        self
    }

    /// How long nothing comes before the connection is taken to stay open.
    pub fn quiet(mut self, millis: u64) -> Self {
        self.quiet = millis;
        self
    }
}

/// One proxy with its origin.
pub struct Side {
    pub name: &'static str,
    pub proxy: Proxy,
    pub origin: Origin,
    pub port: u16,
    dead: u16,
    lines: usize,
}

#[derive(Debug, Default, Clone)]
struct Seen(BTreeMap<Part, String>);

impl Side {
    fn start(name: &'static str, yaml: &str) -> Self {
        let (origin, port, dead) = (Origin::start(), free_port(), free_port());
        let yaml = yaml
            .replace("@PORT@", &port.to_string())
            .replace("@ORIGIN@", &origin.port.to_string())
            .replace("@DEAD@", &dead.to_string());
        let args = ["--file-flush-interval-msec", "20", "--concurrency", "1"];
        let proxy = if name == "adit" { Proxy::adit_with(&yaml, &args) } else { Proxy::envoy_with(&yaml, &args[..2]) };
        Self { name, proxy, origin, port, dead, lines: 0 }
    }

    /// Plays a case; `patience` is how many times as long as usual it is waited for what may come late.
    fn run(&mut self, case: &Case, patience: u32) -> Seen {
        self.origin.play(case.script.clone());
        self.lines = self.log_lines().len();
        let before = self.stats(&case.ignored);
        let open = self.open();
        let (answer, end) = client(self.port, case, u64::from(patience) * case.quiet);
        self.settle(open, patience);
        let after = self.stats(&case.ignored);
        let mut moved = String::new();
        for (name, value) in &after {
            let delta = value - before.get(name).copied().unwrap_or(0);
            if delta != 0 {
                let _ = writeln!(moved, "{name} {delta:+}");
            }
        }
        let lines = self.log_lines();
        let of = |kind: &str| {
            let found = lines.iter().skip(self.lines).filter_map(|line| line.strip_prefix(kind));
            found.map(|line| self.mask(line).replace('|', "\n") + "\n").collect::<String>()
        };
        let received: String = self.origin.received().iter().map(|text| self.mask(&sorted_head(text)) + "\n").collect();
        let head = matches!(case.client.first(), Some(Do::Send(bytes)) if bytes.starts_with(b"HEAD "));
        let connect = matches!(case.client.first(), Some(Do::Send(bytes)) if bytes.starts_with(b"CONNECT "));
        Seen(BTreeMap::from([
            (Part::Answer, self.mask(&answers(&answer, head, connect))),
            (Part::End, end.to_owned()),
            (Part::Origin, received),
            (Part::Log, of("AL|")),
            (Part::Bytes, of("BL|")),
            (Part::Stats, moved),
        ]))
    }

    fn log_lines(&self) -> Vec<String> {
        self.proxy.log().lines().map(str::to_owned).collect()
    }

    /// Waits until nothing moves.
    fn settle(&self, open: u64, patience: u32) {
        let end = Instant::now() + Duration::from_secs(3) * patience;
        let mut last = (self.log_lines().len(), self.origin.received());
        let mut calm = 0;
        while calm < 4 * patience && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(30));
            let now = (self.log_lines().len(), self.origin.received());
            calm = if now == last { calm + 1 } else { 0 };
            last = now;
        }
        // The connection of the case is over, unless somebody waits for somebody.
        let end = Instant::now() + Duration::from_millis(500) * patience;
        while self.open() > open && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Connections of clients.
    fn open(&self) -> u64 {
        self.proxy.stat("http.h.downstream_cx_active")
    }

    fn stats(&self, ignored: &[&str]) -> BTreeMap<String, i64> {
        let text =
            self.proxy.admin("/stats?filter=^(http%5C.h%5C.|cluster%5C.(c|dead|none)%5C.|http1%5C.|listener%5C.)");
        text.lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let name = self.mask(name);
                let skip = [
                    "_bytes_",
                    "update_",
                    "worker_",
                    "membership",
                    "listener.admin",
                    "remaining",
                    // Our FIN leaves at once, so that clients close in time.
                    "delayed_close_timeout",
                    // Of clusters without hosts; and of answers with `connection: close`: not counted.
                    "lb_healthy_panic",
                    "close_notify",
                ];
                if skip.iter().chain(ignored).any(|part| name.contains(part)) {
                    return None;
                }
                Some((name, value.parse().ok()?))
            })
            .collect()
    }

    /// What the admin interface answers, without what is different in every run.
    pub fn masked_admin(&self, path: &str) -> String {
        self.mask(&self.proxy.admin(path))
    }

    /// What is different in every run becomes the same.
    fn mask(&self, text: &str) -> String {
        text.replace(&self.port.to_string(), "PORT")
            .replace(&self.origin.port.to_string(), "ORIGIN")
            .replace(&self.dead.to_string(), "DEAD")
    }
}

fn client(port: u16, case: &Case, quiet: u64) -> (Vec<u8>, &'static str) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let _ = socket.set_nodelay(true);
    let mut got = Vec::new();
    let mut heads = 0;
    for step in &case.client {
        match step {
            Do::Send(bytes) => {
                // A proxy may have closed already: that is seen below.
                let _ = socket.write_all(bytes);
            }
            Do::Pause(millis) => std::thread::sleep(Duration::from_millis(*millis)),
            Do::Fin => {
                let _ = socket.shutdown(Shutdown::Write);
            }
            Do::Rst => {
                let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                return (got, "left");
            }
            Do::Head => {
                heads += 1;
                let end = Instant::now() + Duration::from_secs(10);
                while count(&got, b"\r\n\r\n") < heads && Instant::now() < end {
                    if let Some(end) = read(&mut socket, &mut got, 10_000) {
                        return (got, end);
                    }
                }
            }
        }
    }
    loop {
        let before = got.len();
        if let Some(end) = read(&mut socket, &mut got, quiet) {
            return (got, end);
        }
        if got.len() == before {
            return (got, "open");
        }
    }
}

fn count(data: &[u8], what: &[u8]) -> usize {
    data.windows(what.len()).filter(|window| *window == what).count()
}

/// Reads once; the end, if that is what came.
fn read(socket: &mut TcpStream, got: &mut Vec<u8>, millis: u64) -> Option<&'static str> {
    socket.set_read_timeout(Some(Duration::from_millis(millis))).expect("a timeout");
    let mut block = [0; 65536];
    match socket.read(&mut block) {
        Ok(0) => Some("FIN"),
        Ok(n) => {
            got.extend_from_slice(&block[..n]);
            None
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some("RST"),
    }
}

/// A head with its fields in order of their names, without what changes with the time; then the rest as it is.
fn sorted_head(text: &str) -> String {
    let Some((head, rest)) = text.split_once("\r\n\r\n") else { return text.to_owned() };
    let mut lines = head.split("\r\n");
    let mut out = lines.next().unwrap_or_default().to_owned() + "\n";
    let mut fields: Vec<String> = Vec::new();
    for line in lines.filter_map(field) {
        // One list in several fields is the same list in one (RFC 9110 section 5.3).
        let name = line.split(':').next().unwrap_or_default();
        let listed = ["x-forwarded-for", "connection", "via"].contains(&name);
        match fields.iter_mut().find(|known| listed && known.split(':').next() == Some(name)) {
            Some(known) => {
                known.push(',');
                known.push_str(line.split_once(": ").map_or("", |(_, value)| value));
            }
            None => fields.push(line),
        }
    }
    // The order of fields of one name is kept.
    fields.sort_by_key(|line| line.split(':').next().unwrap_or_default().to_owned());
    for line in fields {
        out.push_str(&line);
        out.push('\n');
    }
    out + "\n" + rest
}

fn field(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    match name.to_ascii_lowercase().as_str() {
        "date" => None,
        // For a client on loopback Envoy names an address of the machine.
        "x-forwarded-for" => {
            let (before, last) = value.rsplit_once(',').unwrap_or(("", value.trim()));
            let sent = ["1.2.3.4", "5.6.7.8", "12", "10.0.0.1", "nonsense", "::1", "1.2.3.4:80"];
            let last = if sent.iter().any(|end| last.ends_with(end)) { last } else { "<peer>" };
            Some(format!(
                "{name}: {}",
                if before.is_empty() { last.to_owned() } else { format!("{},{last}", before.trim()) }
            ))
        }
        "x-request-id" if value.trim().len() == 36 => Some(format!("{name}: <uuid>")),
        "x-envoy-upstream-service-time" => Some(format!("{name}: <ms>")),
        // Less than the whole when an attempt went before; of a long one, perhaps by less than a millisecond.
        "x-envoy-expected-rq-timeout-ms" if value.trim().parse().is_ok_and(|millis: u64| millis > 14_000) => {
            let whole = value.trim().parse::<u64>().unwrap_or_default().next_multiple_of(1000);
            Some(format!("{name}: {whole}"))
        }
        "x-envoy-expected-rq-timeout-ms"
            if value.trim().parse().is_ok_and(|millis: u64| !millis.is_multiple_of(50)) =>
        {
            Some(format!("{name}: <less>"))
        }
        _ => Some(line.to_owned()),
    }
}

/// All answers in what a client received, bodies without their framing.
fn answers(data: &[u8], head: bool, connect: bool) -> String {
    let mut out = String::new();
    let mut rest = String::from_utf8_lossy(data).into_owned();
    while rest.starts_with("HTTP/1.") {
        let Some((text, after)) = rest.split_once("\r\n\r\n") else { break };
        out.push_str(&sorted_head(&format!("{text}\r\n\r\n")));
        let lower = text.to_ascii_lowercase();
        let status: u16 = text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        let tunnel = status == 101 || connect && (200..300).contains(&status);
        let length = lower.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if tunnel {
            return out + "|" + after;
        }
        rest = if head || status < 200 || status == 204 || status == 304 {
            after.to_owned()
        } else if lower.contains("transfer-encoding: chunked") {
            let (body, after) = unchunk(after);
            out.push_str(&body);
            after
        } else if let Some(length) = length {
            let (body, after) = after.split_at_checked(length).unwrap_or((after, ""));
            out.push_str(body);
            after.to_owned()
        } else {
            out.push_str(after);
            String::new()
        };
        out.push('\n');
    }
    out + &rest
}

fn unchunk(text: &str) -> (String, String) {
    let (mut body, mut rest) = (String::new(), text);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 {
            let Some((trailers, after)) = after.split_once("\r\n") else { break };
            if trailers.is_empty() {
                return (body + "[last chunk]", after.to_owned());
            }
            let mut tail = after;
            body.push_str(&format!("[trailer {trailers}]"));
            while let Some((line, after)) = tail.split_once("\r\n") {
                tail = after;
                if line.is_empty() {
                    break;
                }
                body.push_str(&format!("[trailer {line}]"));
            }
            return (body + "[last chunk]", tail.to_owned());
        }
        let Some((chunk, after)) = after.split_at_checked(size) else { break };
        body.push_str(chunk);
        rest = after.strip_prefix("\r\n").unwrap_or(after);
    }
    (body + "[unfinished]", rest.to_owned())
}

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
        let known =
            |entry: &&crate::deliberate::Entry| entry.test == self.test && entry.cases.iter().any(|name| case.is(name));
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

/// A configuration: one listener with a connection manager `h`, clusters `c` (the origin), `dead` (nobody listens) and
/// `none` (no host).
pub struct Yaml {
    pub hosts: String,
    pub filters: String,
    pub hcm: String,
    pub clusters: String,
    pub cluster: String,
    pub route_config: String,
    pub log_more: String,
}

impl Yaml {
    /// With these routes for every host.
    pub fn routes(routes: &str) -> Self {
        Self::hosts(&format!("- name: all\n  domains: ['*']\n  routes:\n{}", indent(routes, 2)))
    }

    /// With these virtual hosts.
    pub fn hosts(hosts: &str) -> Self {
        Self {
            hosts: hosts.to_owned(),
            filters: String::new(),
            hcm: "delayed_close_timeout: 0.1s\n".to_owned(),
            clusters: String::new(),
            cluster: String::new(),
            route_config: String::new(),
            log_more: String::new(),
        }
    }

    /// More fields of the connection manager.
    pub fn hcm(mut self, more: &str) -> Self {
        self.hcm.push_str(more);
        self
    }

    /// Filters in front of the router.
    pub fn filters(mut self, more: &str) -> Self {
        self.filters.push_str(more);
        self
    }

    /// More clusters.
    pub fn clusters(mut self, more: &str) -> Self {
        self.clusters.push_str(more);
        self
    }

    /// More fields of the cluster `c`.
    pub fn cluster(mut self, more: &str) -> Self {
        self.cluster.push_str(more);
        self
    }

    /// More fields of the route configuration.
    pub fn route_config(mut self, more: &str) -> Self {
        self.route_config.push_str(more);
        self
    }

    /// More operators in the log line.
    pub fn log(mut self, more: &str) -> Self {
        self.log_more.push_str(more);
        self
    }

    pub fn text(&self) -> String {
        const TYPE: &str = "\"@type\": type.googleapis.com/";
        let log = format!(
            "AL|{}{}\\n",
            LOG.iter().map(|(key, value)| format!("{key}={value}|")).collect::<String>(),
            self.log_more
        );
        let bytes = "BL|d=%DOWNSTREAM_WIRE_BYTES_RECEIVED%/%DOWNSTREAM_WIRE_BYTES_SENT% \
             dh=%DOWNSTREAM_HEADER_BYTES_RECEIVED%/%DOWNSTREAM_HEADER_BYTES_SENT% \
             u=%UPSTREAM_WIRE_BYTES_RECEIVED%/%UPSTREAM_WIRE_BYTES_SENT% \
             uh=%UPSTREAM_HEADER_BYTES_RECEIVED%/%UPSTREAM_HEADER_BYTES_SENT%\\n";
        let mut text = format!(
            "static_resources:\n  listeners:\n  - name: l\n    address: {{ socket_address: {{ address: 127.0.0.1, \
             port_value: @PORT@ }} }}\n    filter_chains:\n    - filters:\n      - name: http\n        typed_config:\n          \
             {TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
             stat_prefix: h\n          access_log:\n"
        );
        for format in [log.as_str(), bytes] {
            let _ = writeln!(
                text,
                "          - name: log\n            typed_config:\n              {TYPE}envoy.extensions.access_loggers.\
                 stream.v3.StdoutAccessLog\n              log_format: {{ text_format_source: {{ inline_string: \"{format}\" }} }}"
            );
        }
        text.push_str("          route_config:\n            name: routes\n");
        text.push_str(&indent(&self.route_config, 12));
        text.push_str("            virtual_hosts:\n");
        text.push_str(&indent(&self.hosts, 12));
        text.push_str("          http_filters:\n");
        text.push_str(&indent(&self.filters, 10));
        let _ = writeln!(
            text,
            "          - name: router\n            typed_config:\n              {TYPE}envoy.extensions.filters.http.router.v3.Router"
        );
        text.push_str(&indent(&self.hcm, 10));
        text.push_str("  clusters:\n");
        text.push_str(&cluster("c", "@ORIGIN@", &self.cluster));
        text.push_str(&cluster("dead", "@DEAD@", ""));
        text.push_str("  - name: none\n    connect_timeout: 1s\n    load_assignment: { cluster_name: none }\n");
        text.push_str(&indent(&self.clusters, 2));
        text
    }

    pub fn lab(&self) -> Lab {
        Lab::new(&self.text())
    }
}

/// What a log line holds.
const LOG: &[(&str, &str)] = &[
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)% %PATH%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("protocol", "%PROTOCOL%"),
    ("code", "%RESPONSE_CODE%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("flags", "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%"),
    ("received", "%BYTES_RECEIVED%"),
    ("sent", "%BYTES_SENT%"),
    ("host", "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS%"),
    ("cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream protocol", "%UPSTREAM_PROTOCOL%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("route", "%ROUTE_NAME%"),
    ("termination", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream failure", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("type", "%ACCESS_LOG_TYPE%"),
    ("remote", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("local", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("local close", "%DOWNSTREAM_LOCAL_CLOSE_REASON% %UPSTREAM_LOCAL_CLOSE_REASON%"),
    ("downstream close type", "%DOWNSTREAM_DETECTED_CLOSE_TYPE%"),
    ("upstream close type", "%UPSTREAM_DETECTED_CLOSE_TYPE%"),
    ("listener", "%LISTENER_NAME% %FILTER_CHAIN_NAME%"),
];

/// A static cluster of one loopback port.
pub fn cluster(name: &str, port: &str, more: &str) -> String {
    format!(
        "  - name: {name}\n    connect_timeout: 1s\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      \
         - lb_endpoints:\n        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n{}",
        indent(more, 4)
    )
}

/// A filter of a type.
pub fn filter(name: &str, message: &str, fields: &str) -> String {
    format!(
        "- name: {name}\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.http.{message}\n{}",
        indent(fields, 4)
    )
}

pub fn indent(text: &str, spaces: usize) -> String {
    text.lines().map(|line| format!("{:spaces$}{line}\n", "")).collect()
}
