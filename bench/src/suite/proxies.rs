//! Running the proxies, each pinned to the proxy's core.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::suite::envoy::{self, Certificates};
use crate::suite::others;
use crate::suite::plan::{Between, Proxy, Role, Scenario};

/// Longest wait for a proxy to listen.
const START: Duration = Duration::from_secs(15);

/// The ports of one proxy.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Where the client connects.
    pub listen: u16,
    /// Where the second of two hops listens.
    pub between: u16,
    /// Where the origin listens.
    pub origin: u16,
}

impl Ports {
    /// Each proxy's own. Below the range of ephemeral ports, so that no connection of ours takes one.
    pub fn of(proxy: Proxy) -> Self {
        let base = 19_000 + 10 * (proxy as u16);
        Self { listen: base, between: base + 1, origin: 19_900 }
    }

    /// Where the client connects.
    pub fn connect(&self, proxy: Proxy) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], if proxy == Proxy::Direct { self.origin } else { self.listen }))
    }
}

/// What all runs share.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where configurations and logs go.
    pub folder: PathBuf,
    /// adit's binary.
    pub adit: PathBuf,
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// The core of the proxies.
    pub core: usize,
    /// For TLS and QUIC.
    pub certificates: Certificates,
}

/// A running proxy, one process group for each hop. Ended when dropped.
#[derive(Debug)]
pub struct Running {
    children: Vec<Child>,
}

impl Running {
    /// The processes, without their descendants.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Ok(pid) = i32::try_from(child.id())
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                // Gone already is as good.
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}

/// Starts a proxy for a scenario and waits until it listens.
///
/// # Errors
/// If it cannot be run or ends at once; the end of its log is in the error.
pub fn start(proxy: Proxy, scenario: &Scenario, place: &Place) -> Result<Running> {
    let ports = Ports::of(proxy);
    let mut running = Running { children: Vec::new() };
    // The second hop first, so that the first finds it.
    for hop in (0..scenario.hops()).rev() {
        let folder = place.folder.join(scenario.name).join(format!("{}-{hop}", proxy.name()));
        std::fs::create_dir_all(&folder)?;
        let mut command = command(proxy, scenario, hop, &ports, place, &folder)?;
        let log = folder.join("log");
        let file = File::create(&log)?;
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot run {}", proxy.name()))?;
        running.children.insert(0, child);
        let port = if hop == 0 { ports.listen } else { ports.between };
        let quic = hop == 1 && scenario.role == Role::TwoHops(Between::H3Connect);
        let first = running.children.first_mut().context("no process")?;
        wait(first, (!quic).then_some(port)).with_context(|| tail(&log))?;
    }
    Ok(running)
}

/// A command line to be continued by a program that is pinned to these cores.
pub fn pinned(cores: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]);
    command
}

fn wait(child: &mut Child, port: Option<u16>) -> Result<()> {
    let until = Instant::now() + START;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            bail!("ended at once: {status}");
        }
        std::thread::sleep(Duration::from_millis(100));
        match port {
            Some(port) if TcpStream::connect(("127.0.0.1", port)).is_ok() => return Ok(()),
            // UDP does not tell.
            None if until - Instant::now() < START - Duration::from_secs(2) => return Ok(()),
            _ => {}
        }
    }
    bail!("does not listen")
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(1)..).unwrap_or_default().join(" | ");
    tail.chars().take(400).collect()
}

fn command(
    proxy: Proxy,
    scenario: &Scenario,
    hop: usize,
    ports: &Ports,
    place: &Place,
    folder: &Path,
) -> Result<Command> {
    let mut command = pinned(&place.core.to_string());
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        anyhow::Ok(path)
    };
    match proxy {
        Proxy::Adit | Proxy::Envoy => {
            let json = envoy::bootstrap(scenario.role, hop, ports, &place.certificates);
            let path = write("config.json", &serde_json::to_string_pretty(&json)?)?;
            command.arg(if proxy == Proxy::Adit { &place.adit } else { &place.envoy });
            command.arg("-c").arg(path).args(["--concurrency", "1", "-l", "error", "--disable-hot-restart"]);
        }
        Proxy::Haproxy | Proxy::HaproxySplice => {
            let text = others::haproxy(scenario, hop, ports, proxy == Proxy::HaproxySplice);
            command.args(["haproxy", "-db", "-f"]).arg(write("haproxy.cfg", &text)?);
        }
        Proxy::Nginx => {
            let text = others::nginx(scenario, hop, ports, folder);
            command.args(["nginx", "-e", "stderr", "-c"]).arg(write("nginx.conf", &text)?);
        }
        Proxy::Nghttpx => {
            let path = write("nghttpx.conf", &others::nghttpx(scenario, hop, ports))?;
            command.arg("nghttpx").arg(format!("--conf={}", path.display()));
        }
        Proxy::Direct => bail!("nothing to run"),
    }
    Ok(command)
}
