//! What one measurement is asked to do, and what it found.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How the client opens a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A TCP connection is the tunnel.
    Tcp,
    /// `CONNECT` over HTTP/1.1.
    H1Connect,
    /// `Upgrade: websocket` over HTTP/1.1, then raw bytes.
    H1Upgrade,
    /// `CONNECT` over HTTP/2 with prior knowledge.
    H2Connect,
    /// Extended CONNECT (`:protocol: websocket`) over HTTP/2 with prior knowledge.
    H2Extended,
    /// Requests by wrk.
    Wrk,
    /// Requests by h2load.
    H2load,
}

/// What stands behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginKind {
    /// Raw TCP.
    Tcp,
    /// Answers an HTTP/1.1 upgrade with 101, then raw bytes.
    Upgrade,
    /// Answers HTTP/1.1 requests.
    H1,
    /// Answers HTTP/2 requests with prior knowledge.
    H2,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// One tunnel, bytes towards the origin.
    #[serde(rename = "bulk-up-1")]
    BulkUp1,
    /// One tunnel, bytes towards the client.
    #[serde(rename = "bulk-down-1")]
    BulkDown1,
    /// Sixteen tunnels, bytes towards the origin.
    #[serde(rename = "bulk-up-16")]
    BulkUp16,
    /// Sixteen tunnels, bytes towards the client.
    #[serde(rename = "bulk-down-16")]
    BulkDown16,
    /// 64 bytes there and back on each of 64 tunnels, as fast as they come.
    Echo,
    /// The same at a fixed 10,000 messages per second in all: latency at equal load.
    EchoPaced,
    /// The same load spread over as many tunnels as are idle in the idle cell.
    EchoMany,
    /// New tunnels, one echo each, ended by the client.
    NewClient,
    /// New tunnels, one echo each, ended by the origin.
    NewServer,
    /// Idle tunnels: memory.
    Idle,
    /// Idle tunnels that the origin ends all at once: how long until the client has seen every end.
    EndAll,
    /// GET requests.
    Requests,
}

impl Cell {
    /// The cells of a tunnel scenario.
    pub const TUNNEL: &'static [Cell] = &[
        Cell::BulkUp1,
        Cell::BulkDown1,
        Cell::BulkUp16,
        Cell::BulkDown16,
        Cell::Echo,
        Cell::EchoPaced,
        Cell::EchoMany,
        Cell::NewClient,
        Cell::NewServer,
        Cell::Idle,
        Cell::EndAll,
    ];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Cell::BulkUp1 => "bulk-up-1",
            Cell::BulkDown1 => "bulk-down-1",
            Cell::BulkUp16 => "bulk-up-16",
            Cell::BulkDown16 => "bulk-down-16",
            Cell::Echo => "echo",
            Cell::EchoPaced => "echo-paced",
            Cell::EchoMany => "echo-many",
            Cell::NewClient => "new-client",
            Cell::NewServer => "new-server",
            Cell::Idle => "idle",
            Cell::EndAll => "end-all",
            Cell::Requests => "requests",
        }
    }

    /// The unit of its rate.
    pub fn rate_unit(self) -> &'static str {
        match self {
            Cell::BulkUp1 | Cell::BulkDown1 | Cell::BulkUp16 | Cell::BulkDown16 => "GB/s",
            Cell::Echo | Cell::EchoPaced | Cell::EchoMany => "msg/s",
            Cell::NewClient | Cell::NewServer => "tunnels/s",
            Cell::Idle => "tunnels",
            Cell::EndAll => "tunnels/s",
            Cell::Requests => "req/s",
        }
    }

    /// The unit of its cost.
    pub fn cost_unit(self) -> &'static str {
        if self.is_bulk() {
            "CPU-s/GB"
        } else if self == Cell::Idle {
            "KiB/tunnel"
        } else {
            "CPU-s/10k"
        }
    }

    /// Whether bytes are what counts.
    pub fn is_bulk(self) -> bool {
        matches!(self, Cell::BulkUp1 | Cell::BulkDown1 | Cell::BulkUp16 | Cell::BulkDown16)
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadSpec {
    /// How tunnels are opened.
    pub transport: Transport,
    /// Where the client connects: the proxy, or the origin itself for a direct run.
    pub connect: SocketAddr,
    /// Where the origin listens.
    pub origin: SocketAddr,
    /// What the origin speaks.
    pub origin_kind: OriginKind,
    /// What is measured.
    pub cell: Cell,
    /// The window that counts, in seconds.
    pub secs: f64,
    /// Seconds before it.
    pub warm: f64,
    /// The proxy's processes; their descendants count too.
    pub pids: Vec<u32>,
    /// The core that they are pinned to, to notice others on it.
    pub core: Option<usize>,
    /// Tunnels of the idle cells.
    pub idle: usize,
}

/// What one measurement found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoadResult {
    /// Length of the window, seconds.
    pub secs: f64,
    /// Messages, tunnels or requests in the window.
    pub ops: u64,
    /// Bytes received in the window.
    pub bytes: u64,
    /// Failures, warm-up included.
    pub errors: u64,
    /// One of them.
    pub error: Option<String>,
    /// CPU-seconds of the proxy's processes in the window.
    pub proxy_cpu: f64,
    /// CPU-seconds of the generator's busiest thread in the window.
    pub busiest_thread_cpu: f64,
    /// CPU-seconds of the generator, origin included.
    pub generator_cpu: f64,
    /// CPU-seconds of the whole machine that belong to neither.
    pub foreign_cpu: f64,
    /// The part of these on the proxy's core.
    pub foreign_core_cpu: f64,
    /// Latencies in microseconds.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub p999: f64,
    /// Resident KiB of the proxy's processes for each idle tunnel, of both hops where there are two.
    pub kib_per_tunnel: f64,
    /// The same for each process in the order of `pids`.
    pub kib_each: Vec<f64>,
}
