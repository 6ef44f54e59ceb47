//! What the end-to-end tests share: the binary as a process, Envoy as a process, programs of others, raw peers.
//!
//! Everything is blocking and on loopback; every wait has an end. A test asks for ports by name in its YAML
//! (`{{port}}`-style placeholders are not used: format the text with [`free_port`]).

pub mod aioquic;
pub mod certs;
pub mod config;
pub mod frames;
pub mod origin;
pub mod peer;
pub mod process;

pub use process::{Proxy, curl, python, venv};

use std::net::{TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No wait in a test is longer. A test that passes waits for none of it: it is for machines with few cores and much to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A port on which nobody listens just now, by TCP nor UDP, and which no other test is given for as long as this process
/// lives, in whatever process.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    // Below the kernel's range of ephemeral ports (from 32768), so that no outgoing connection takes one meanwhile; each
    // process starts elsewhere.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 190) as u16 * 64;
    for _ in 0..20_000 {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if claim(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            return port;
        }
    }
    panic!("no free port");
}

/// Takes a port's name among all tests of this machine: an abstract socket, which ends with the process.
fn claim(port: u16) -> bool {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    static CLAIMS: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let name = SocketAddr::from_abstract_name(format!("adit-tests-port-{port}")).expect("a name");
    let Ok(claim) = UnixDatagram::bind_addr(&name) else { return false };
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    true
}

/// Whether anybody accepts connections on this port of IPv4, asked of the kernel: no connection is made.
pub fn listens(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let own = format!(":{port:04X}");
    // LISTEN is 0A.
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|fields| fields.get(1).is_some_and(|address| address.ends_with(&own)) && fields.get(3) == Some(&"0A"))
}

/// Raises the limit of file descriptors to its hard maximum, and gives it: many systems start a shell with 1024.
pub fn raise_fd_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be raised, the tests that need it say what they lack.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Asks until the answer is yes.
#[track_caller]
pub fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ask() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
