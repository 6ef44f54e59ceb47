//! One proxy with its origin: what a case does to it, and what is seen of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use adit_tests::{Proxy, free_port};

use crate::case::{Case, Do, Part};
use crate::messages::{answers, sorted_head};
use crate::origin::Origin;

/// One proxy with its origin.
pub struct Side {
    pub proxy: Proxy,
    pub origin: Origin,
    pub port: u16,
    dead: u16,
    lines: usize,
}

#[derive(Debug, Default, Clone)]
pub struct Seen(pub BTreeMap<Part, String>);

impl Side {
    pub fn start(name: &'static str, yaml: &str) -> Self {
        let (origin, port, dead) = (Origin::start(), free_port(), free_port());
        let yaml = yaml
            .replace("@PORT@", &port.to_string())
            .replace("@ORIGIN@", &origin.port.to_string())
            .replace("@DEAD@", &dead.to_string());
        let args = ["--file-flush-interval-msec", "20", "--concurrency", "1"];
        let proxy = if name == "adit" { Proxy::adit_with(&yaml, &args) } else { Proxy::envoy_with(&yaml, &args[..2]) };
        Self { proxy, origin, port, dead, lines: 0 }
    }

    /// Plays a case; `patience` is how many times as long as usual it is waited for what may come late.
    pub fn run(&mut self, case: &Case, patience: u32) -> Seen {
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
