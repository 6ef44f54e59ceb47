//! Processes: adit, Envoy, curl, python.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{PATIENCE, free_port};

/// A running proxy, adit or Envoy, ended when dropped.
pub struct Proxy {
    child: Child,
    folder: PathBuf,
    /// The port of its admin interface.
    pub admin: u16,
}

/// Where cargo put the binary, or where `cargo xtask e2e` says it is.
pub fn adit_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ADIT_BINARY") {
        return path.into();
    }
    // tests run from <target>/<profile>/deps
    let me = std::env::current_exe().expect("the test's own path");
    let profile = me.parent().and_then(|deps| deps.parent()).expect("a target folder");
    let path = profile.join("adit");
    assert!(path.exists(), "build the binary first: cargo build -p adit");
    path
}

/// The Python environment that `cargo xtask e2e` made.
pub fn venv() -> PathBuf {
    std::env::var_os("ADIT_E2E_VENV").expect("run by `cargo xtask e2e`, which sets ADIT_E2E_VENV").into()
}

impl Proxy {
    /// Starts adit on a configuration without an `admin` section, and waits until it is ready.
    pub fn adit(yaml: &str) -> Self {
        Self::adit_with(yaml, &[])
    }

    /// The same with more arguments.
    pub fn adit_with(yaml: &str, args: &[&str]) -> Self {
        let mut all = vec!["--concurrency", "1"];
        if args.contains(&"--concurrency") {
            all.clear();
        }
        all.extend(args);
        Self::start(adit_binary(), yaml, &all)
    }

    /// Starts Envoy likewise.
    pub fn envoy(yaml: &str) -> Self {
        Self::envoy_with(yaml, &[])
    }

    /// The same with more arguments.
    pub fn envoy_with(yaml: &str, args: &[&str]) -> Self {
        let mut all = vec!["--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart", "-l", "warning"];
        all.extend(args);
        Self::start(venv().join("bin/envoy"), yaml, &all)
    }

    fn start(binary: PathBuf, yaml: &str, args: &[&str]) -> Self {
        let admin = free_port();
        let folder = temp_folder();
        let file = folder.join("config.yaml");
        let section =
            format!("admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}\n");
        std::fs::write(&file, section + yaml).expect("a configuration file");
        let log = std::fs::File::create(folder.join("log")).expect("a log file");
        let child = Command::new(&binary)
            .arg("-c")
            .arg(&file)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", binary.display()));
        let mut proxy = Self { child, folder, admin };
        let end = Instant::now() + PATIENCE;
        while proxy.ready() != Some(true) {
            let dead = proxy.child.try_wait().expect("a status").is_some();
            assert!(!dead && Instant::now() < end, "{} does not start:\n{}\n{yaml}", binary.display(), proxy.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        proxy
    }

    fn ready(&self) -> Option<bool> {
        Some(http(self.admin, "GET", "/ready")?.starts_with("HTTP/1.1 200"))
    }

    /// The body that the admin interface answers to a GET.
    pub fn admin(&self, path: &str) -> String {
        body(http(self.admin, "GET", path).expect("an admin answer"))
    }

    /// The body that the admin interface answers to a POST.
    pub fn admin_post(&self, path: &str) -> String {
        body(http(self.admin, "POST", path).expect("an admin answer"))
    }

    /// A counter's or gauge's value.
    pub fn stat(&self, name: &str) -> u64 {
        let filter = format!("/stats?filter=^{}$", name.replace('.', "\\."));
        let text = self.admin(&filter);
        let line = text.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no stat {name}: {text}"))
    }

    /// Waits until a counter or gauge has a value.
    #[track_caller]
    pub fn wait_stat(&self, name: &str, value: u64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.stat(name);
            if now == value {
                return;
            }
            assert!(Instant::now() < end, "{name} is {now}, not {value}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until its log contains this.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "no {text:?} in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// At its end adit cut no connection that did not end in time.
    #[track_caller]
    pub fn cut_nothing(&self) {
        assert!(!self.log().contains("did not end in time"), "{}", self.log());
    }

    /// Its own folder, for access logs and the like.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Sends a signal by its name: `TERM`, `USR1`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for its end and gives the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status.code();
            }
            assert!(Instant::now() < end, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of process {} ---\n{}", self.pid(), self.log());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One plain request on a connection of its own; the whole answer as text.
pub fn http(port: u16, method: &str, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn body(answer: String) -> String {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return answer };
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        out.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    out
}

fn temp_folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("adit-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Runs curl with a time limit.
pub fn curl(args: &[&str]) -> Output {
    Command::new("curl").args(["-sS", "--max-time", "60", "--noproxy", ""]).args(args).output().expect("curl")
}

/// Runs a Python script with the environment's interpreter; panics with its output when it fails.
#[track_caller]
pub fn python(script: &str, args: &[&str]) -> String {
    let mut child = Command::new(venv().join("bin/python"))
        .arg("-c")
        .arg(script)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python");
    // A browser may have to be read from a cold disk first, and its own waits are as long as ours.
    let end = Instant::now() + PATIENCE * 4;
    while child.try_wait().expect("a status").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let out = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "python failed:\n{text}\n{}", String::from_utf8_lossy(&out.stderr));
    text
}
