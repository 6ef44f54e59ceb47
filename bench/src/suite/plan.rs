//! The scenarios, who takes part in each, and the goals.

use crate::spec::{Cell, OriginKind, Transport};

/// A proxy that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proxy {
    /// Ours.
    Adit,
    /// Envoy with the same configuration.
    Envoy,
    /// HAProxy.
    Haproxy,
    /// HAProxy with `option splice-auto`.
    HaproxySplice,
    /// nginx, with its stream module for TCP.
    Nginx,
    /// nghttpx.
    Nghttpx,
    /// None: the client meets the origin.
    Direct,
}

impl Proxy {
    /// All that take part, ours first.
    pub const ALL: &'static [Proxy] =
        &[Proxy::Adit, Proxy::Envoy, Proxy::Haproxy, Proxy::HaproxySplice, Proxy::Nginx, Proxy::Nghttpx, Proxy::Direct];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Proxy::Adit => "adit",
            Proxy::Envoy => "envoy",
            Proxy::Haproxy => "haproxy",
            Proxy::HaproxySplice => "haproxy-splice",
            Proxy::Nginx => "nginx",
            Proxy::Nghttpx => "nghttpx",
            Proxy::Direct => "direct",
        }
    }

    /// Whether it is somebody else's.
    pub fn is_peer(self) -> bool {
        !matches!(self, Proxy::Adit | Proxy::Direct)
    }
}

/// What is between two hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// `CONNECT` over HTTP/1.1.
    H1Connect,
    /// `CONNECT` over HTTP/2.
    H2Connect,
    /// `POST` over HTTP/2.
    H2Post,
    /// `CONNECT` over HTTP/2 in TLS.
    H2Tls,
    /// `CONNECT` over HTTP/3.
    H3Connect,
}

/// What the proxies do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// TCP to TCP.
    Tcp,
    /// An upgrade from HTTP/1.1 or HTTP/2 to HTTP/1.1.
    Upgrade,
    /// A CONNECT is ended here.
    Terminate,
    /// TCP in CONNECT (or POST) from one to the next.
    TwoHops(Between),
    /// An upgrade over HTTP/2 between two.
    UpgradeTwoHops,
    /// TCP through an internal listener.
    Internal,
    /// Requests in a CONNECT from one to the next, through internal listeners at both.
    RequestsInConnect,
    /// Requests: which HTTP version the upstream speaks.
    Requests {
        /// HTTP/2, else HTTP/1.1.
        h2_upstream: bool,
    },
}

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What the proxies do.
    pub role: Role,
    /// How the client opens its tunnels.
    pub transport: Transport,
    /// What stands behind.
    pub origin: OriginKind,
    /// Who can do it besides adit.
    pub peers: &'static [Proxy],
    /// Goals, as ratios to the best peer: bulk (one tunnel, up), echo, new (both ways), idle; of requests the first.
    pub goals: [Option<f64>; 4],
}

impl Scenario {
    /// The cells that it has.
    pub fn cells(&self) -> &'static [Cell] {
        match self.transport {
            Transport::Wrk | Transport::H2load => &[Cell::Requests],
            _ => Cell::TUNNEL,
        }
    }

    /// Processes in a row.
    pub fn hops(&self) -> usize {
        match self.role {
            Role::TwoHops(_) | Role::UpgradeTwoHops | Role::RequestsInConnect => 2,
            _ => 1,
        }
    }

    /// Whether the client can meet the origin without a proxy: they speak the same.
    pub fn has_direct(&self) -> bool {
        matches!(
            (self.transport, self.origin),
            (Transport::Tcp, OriginKind::Tcp)
                | (Transport::H1Upgrade, OriginKind::Upgrade)
                | (Transport::Wrk, OriginKind::H1)
                | (Transport::H2load, OriginKind::H2)
        )
    }

    /// The goal of a cell.
    pub fn goal(&self, cell: Cell) -> Option<f64> {
        match cell {
            Cell::BulkUp1 | Cell::Requests => self.goals[0],
            Cell::Echo => self.goals[1],
            Cell::NewClient | Cell::NewServer => self.goals[2],
            Cell::Idle => self.goals[3],
            _ => None,
        }
    }
}

const ENVOY: &[Proxy] = &[Proxy::Envoy];
const TCP: &[Proxy] = &[Proxy::Envoy, Proxy::Haproxy, Proxy::HaproxySplice, Proxy::Nginx];
const UPGRADE: &[Proxy] = &[Proxy::Envoy, Proxy::Haproxy, Proxy::HaproxySplice, Proxy::Nginx, Proxy::Nghttpx];
const H2: &[Proxy] = &[Proxy::Envoy, Proxy::Haproxy, Proxy::Nghttpx];
const ALL: &[Proxy] = &[Proxy::Envoy, Proxy::Haproxy, Proxy::Nginx, Proxy::Nghttpx];

/// One line of the table below.
const fn scenario(
    name: &'static str,
    title: &'static str,
    role: Role,
    transport: Transport,
    origin: OriginKind,
    peers: &'static [Proxy],
    goals: [Option<f64>; 4],
) -> Scenario {
    Scenario { name, title, role, transport, origin, peers, goals }
}

const fn goals(bulk: f64, echo: f64, new: f64, idle: f64) -> [Option<f64>; 4] {
    [Some(bulk), Some(echo), Some(new), Some(idle)]
}

const NO_GOALS: [Option<f64>; 4] = [None; 4];
const AS_BEST: [Option<f64>; 4] = [Some(1.0), None, None, None];

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    scenario("tcp", "TCP", Role::Tcp, Transport::Tcp, OriginKind::Tcp, TCP, goals(0.6, 0.95, 0.9, 0.5)),
    scenario(
        "ws-h1-h1",
        "WebSocket h1 → h1",
        Role::Upgrade,
        Transport::H1Upgrade,
        OriginKind::Upgrade,
        UPGRADE,
        goals(0.6, 0.95, 0.9, 0.5),
    ),
    scenario(
        "connect-h1",
        "CONNECT over h1, terminated",
        Role::Terminate,
        Transport::H1Connect,
        OriginKind::Tcp,
        ENVOY,
        goals(0.6, 0.65, 0.6, 0.06),
    ),
    scenario(
        "connect-h2",
        "CONNECT over h2, terminated",
        Role::Terminate,
        Transport::H2Connect,
        OriginKind::Tcp,
        ENVOY,
        NO_GOALS,
    ),
    scenario("ws-h2-h1", "WebSocket h2 → h1", Role::Upgrade, Transport::H2Extended, OriginKind::Upgrade, H2, NO_GOALS),
    scenario(
        "hops-h1-connect",
        "TCP → h1 CONNECT → TCP",
        Role::TwoHops(Between::H1Connect),
        Transport::Tcp,
        OriginKind::Tcp,
        ENVOY,
        goals(0.6, 0.55, 0.5, 0.08),
    ),
    scenario(
        "hops-h2-connect",
        "TCP → h2 CONNECT → TCP",
        Role::TwoHops(Between::H2Connect),
        Transport::Tcp,
        OriginKind::Tcp,
        ENVOY,
        goals(0.6, 0.75, 0.6, 0.12),
    ),
    scenario(
        "hops-h2-post",
        "TCP → h2 POST → TCP",
        Role::TwoHops(Between::H2Post),
        Transport::Tcp,
        OriginKind::Tcp,
        ENVOY,
        goals(0.6, 0.75, 0.6, 0.12),
    ),
    scenario(
        "hops-h2-tls",
        "TCP → h2 CONNECT in TLS → TCP",
        Role::TwoHops(Between::H2Tls),
        Transport::Tcp,
        OriginKind::Tcp,
        ENVOY,
        goals(0.7, 0.8, 0.65, 0.12),
    ),
    scenario(
        "hops-h3-connect",
        "TCP → h3 CONNECT → TCP",
        Role::TwoHops(Between::H3Connect),
        Transport::Tcp,
        OriginKind::Tcp,
        ENVOY,
        [Some(0.25), Some(0.6), Some(0.6), None],
    ),
    scenario(
        "ws-h1-h2-h1",
        "WebSocket h1 → h2 → h1",
        Role::UpgradeTwoHops,
        Transport::H1Upgrade,
        OriginKind::Upgrade,
        H2,
        goals(0.6, 0.95, 0.9, 0.5),
    ),
    scenario(
        "internal",
        "TCP → internal → TCP",
        Role::Internal,
        Transport::Tcp,
        OriginKind::Tcp,
        ENVOY,
        [None, None, None, Some(0.1)],
    ),
    scenario(
        "get-in-connect",
        "GET in CONNECT, internal listeners",
        Role::RequestsInConnect,
        Transport::Wrk,
        OriginKind::H1,
        ENVOY,
        [Some(0.6), None, None, None],
    ),
    scenario(
        "requests-h1-h1",
        "GET h1 → h1",
        Role::Requests { h2_upstream: false },
        Transport::Wrk,
        OriginKind::H1,
        ALL,
        AS_BEST,
    ),
    scenario(
        "requests-h2-h1",
        "GET h2 → h1",
        Role::Requests { h2_upstream: false },
        Transport::H2load,
        OriginKind::H1,
        ALL,
        AS_BEST,
    ),
    scenario(
        "requests-h2-h2",
        "GET h2 → h2",
        Role::Requests { h2_upstream: true },
        Transport::H2load,
        OriginKind::H2,
        H2,
        AS_BEST,
    ),
];
