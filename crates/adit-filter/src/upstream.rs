//! What routers and proxies ask of clusters. Implemented by adit-upstream; faked in tests.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_codec::OutgoingStream;
use adit_http::{RequestHead, StreamError};
use adit_io::{Address, ConnInfo, FilterState, Io, Metadata, Refusal};
use http::{StatusCode, Version};
use tokio::time::Instant;

use crate::{BoxFuture, ResponseFlag, ResponseFlags, Soon};

/// The clusters as one worker sees them.
pub trait Clusters: Send + Sync {
    /// A cluster by name.
    fn get(&self, name: &str) -> Option<Arc<dyn Cluster>>;
}

/// One cluster, with one worker's pools.
pub trait Cluster: Send + Sync {
    /// What the configuration says about it.
    fn settings(&self) -> &ClusterSettings;

    /// Chooses a host and connects: TCP, TLS or internal, as its transport socket says. Bounded by `connect_timeout` and
    /// the circuit breakers; dropping the future gives up.
    fn tcp<'a>(&'a self, need: &'a Need<'a>) -> BoxFuture<'a, Result<TcpUpstream, ConnectFailure>>;

    /// Whether `max_connections` is reached, which is counted as an overflow: [`Cluster::tcp`] would wait for a place, which
    /// may be as long as a tunnel lives.
    fn tcp_overflows(&self, priority: Priority) -> bool {
        let _ = priority;
        false
    }

    /// Chooses a host and gets a connection of its HTTP pool that can open a stream now. Bounded likewise; waiting in the
    /// pool's queue is bounded by `max_pending_requests` and has no timeout but the caller's. A connection that is at hand is
    /// given at once.
    fn http<'a>(&'a self, need: &Need<'_>) -> Soon<'a, Result<HttpUpstream, ConnectFailure>>;

    /// Chooses a host that is reached by UDP, whatever protocol its address names, and makes a socket to it, in the context
    /// of the worker's runtime. Bounded by the circuit breaker for connections.
    fn udp(&self, need: &Need<'_>) -> Result<UdpUpstream, ConnectFailure> {
        let _ = need;
        Err(ConnectFailure {
            kind: FailureKind::Local,
            reason: Cow::Borrowed("the cluster is not reached by UDP"),
            host: None,
            refusal: None,
        })
    }

    /// The names that TLS to this cluster takes from a request; `None` where it takes none.
    fn tls_names(&self, request: &RequestHead) -> Option<Box<TlsNames>> {
        let _ = request;
        None
    }

    /// Asks the retry circuit breaker (`max_retries`, `retry_budget`). `None` counts `upstream_rq_retry_overflow`.
    fn retry_permit(&self, priority: Priority) -> Option<Box<dyn Send>>;

    /// Counts what became of a request, without a host (see [`Host::report`] for those with one).
    fn report(&self, report: Report);
}

/// What a cluster's configuration says to those who use it.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The name.
    pub name: Arc<str>,
    /// `upstream_config` is a TCP connection pool: a CONNECT routed here is terminated.
    pub terminates_connect: bool,
    /// The upstream protocol as configured: `None` when it depends on ALPN or the downstream.
    pub version: Option<Version>,
    /// Whether the transport socket encrypts (`:scheme` of POST tunnels).
    pub secure: bool,
    /// `per_connection_buffer_limit_bytes`, 1 MiB by default.
    pub buffer_limit: usize,
    /// `common_http_protocol_options.max_stream_duration` of the upstream.
    pub max_stream_duration: Option<Duration>,
    /// `metadata` of the cluster (`%CLUSTER_METADATA%`).
    pub metadata: Metadata,
    /// Where requests name their hosts themselves (a `dynamic_forward_proxy` cluster): who finds their addresses.
    pub resolver: Option<Arc<dyn Resolver>>,
}

/// Finds the addresses of names that requests bring along.
pub trait Resolver: Send + Sync + std::fmt::Debug {
    /// The address of a host, which may be one already, in square brackets or not. Bounded in time.
    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, Result<SocketAddr, Unresolved>>;
}

/// Why a name has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// It has none, or nobody who knows it answered in time.
    Failed,
    /// Too many names are known (`max_hosts`).
    CacheOverflow,
    /// Too many names are asked for at once (`max_pending_requests`).
    PendingOverflow,
}

/// The names that TLS takes from a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsNames {
    /// The server name to ask by (`auto_sni`).
    pub server_name: Option<Box<str>>,
    /// The name that the certificate must be for (`auto_san_validation`).
    pub certificate: Option<Box<str>>,
}

/// What a caller needs of a host and a connection.
#[derive(Clone, Copy)]
pub struct Need<'a> {
    /// The circuit breaker's priority.
    pub priority: Priority,
    /// A hash for ring hash and maglev.
    pub hash: Option<u64>,
    /// Subset selection (`metadata_match`, namespace `envoy.lb`).
    pub metadata_match: Option<&'a Metadata>,
    /// Addresses tried before, which `previous_hosts` avoids.
    pub tried: &'a [Address],
    /// How often to choose again when a host was tried before (`host_selection_retry_max_attempts`).
    pub reselect: u32,
    /// The request's head, for ORIGINAL_DST by header, automatic SNI and the like.
    pub request: Option<&'a RequestHead>,
    /// The names that TLS took from the request before an attempt changed it ([`Cluster::tls_names`]); `None` takes them from
    /// `request`.
    pub tls_names: Option<&'a TlsNames>,
    /// The downstream connection.
    pub downstream: Option<&'a Arc<ConnInfo>>,
    /// Filter state of the stream or connection: what is passed to an internal listener, and part of the pool's key.
    pub state: &'a FilterState,
    /// Dynamic metadata of the stream or connection.
    pub metadata: &'a Metadata,
    /// An upgrade is to be sent: an HTTP/2 or HTTP/3 connection must allow extended CONNECT (a connection whose peer
    /// does not is a failure of kind [`FailureKind::Protocol`]).
    pub extended_connect: bool,
    /// A socket address that overrides the choice (an original destination).
    pub address: Option<SocketAddr>,
    /// Whether to wait, where a new HTTP connection is needed and `max_connections` allows none, until another stream ends;
    /// otherwise that is a failure of kind [`FailureKind::Overflow`]. For tunnels, which end when their clients please.
    pub wait: bool,
    /// Whether bytes are at hand that go to the upstream as soon as it is connected. Asked of TCP connections only: HTTP has its
    /// request.
    pub speaks_first: bool,
}

/// `envoy.config.core.v3.RoutingPriority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// DEFAULT.
    #[default]
    Default,
    /// HIGH.
    High,
}

/// A host of a cluster.
pub trait Host: Send + Sync {
    /// What the configuration or DNS says about it.
    fn info(&self) -> &HostInfo;

    /// Counts what became of a request or connection: cluster and host stats, outlier detection.
    fn report(&self, report: Report);
}

/// Facts of a host.
#[derive(Debug, Clone)]
pub struct HostInfo {
    /// Where it is dialled (`%UPSTREAM_HOST%`).
    pub address: Address,
    /// `%UPSTREAM_HOST_NAME%`: the configured or resolved name; empty for none.
    pub hostname: Arc<str>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// `metadata` of the endpoint (`%UPSTREAM_METADATA%`).
    pub metadata: Metadata,
}

/// What became of a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A final response head: `upstream_rq_<code>`, `upstream_rq_<n>xx`, `upstream_rq_time`, outlier detection.
    Response {
        /// The status.
        status: StatusCode,
        /// From the request's last byte to the response's head.
        time: Duration,
        /// The downstream is internal (`internal.` variants) or external.
        internal: bool,
    },
    /// An interim answer, or the status of the one that we make in place of the upstream's: counted by status alone.
    Charged {
        /// The status.
        status: StatusCode,
        /// As above.
        internal: bool,
    },
    /// A final response head that is followed by another attempt: `retry.upstream_rq_<code>`.
    Retried {
        /// The status.
        status: StatusCode,
    },
    /// The answer took longer than the route allows (`upstream_rq_timeout`).
    Timeout,
    /// One attempt took longer than `per_try_timeout`.
    PerTryTimeout,
    /// One attempt was idle for longer than `per_try_idle_timeout`.
    PerTryIdleTimeout,
    /// `upstream_rq_max_duration_reached`.
    MaxDuration,
    /// The upstream reset the stream (`upstream_rq_rx_reset`).
    ReceivedReset,
    /// We reset the stream (`upstream_rq_tx_reset`).
    SentReset,
    /// The upstream's answer broke the protocol (`upstream_cx_protocol_error`).
    ProtocolError,
    /// `upstream_rq_retry`.
    Retry,
    /// `upstream_rq_retry_success`.
    RetrySuccess,
    /// `upstream_rq_retry_limit_exceeded`.
    RetryLimitExceeded,
    /// A TCP tunnel or proxied connection gave up (`upstream_cx_connect_attempts_exceeded`).
    ConnectAttemptsExceeded,
    /// Body bytes moved, either way, counted while the stream lives (`upstream_cx_{tx,rx}_bytes_total` of TCP).
    Bytes {
        /// To the upstream.
        sent: u64,
        /// From the upstream.
        received: u64,
    },
    /// Reading from the upstream paused or resumed because downstream does not keep up.
    FlowControl {
        /// Paused, not resumed.
        paused: bool,
    },
}

/// A connected upstream.
pub struct TcpUpstream {
    /// The bytes. Its info carries our local address and the connection's id.
    pub io: Io,
    /// The host.
    pub host: Arc<dyn Host>,
    /// Held while the connection lives: circuit breakers, gauges.
    pub guard: Box<dyn Send>,
}

/// A host that is reached by UDP.
pub struct UdpUpstream {
    /// The host.
    pub host: Arc<dyn Host>,
    /// Where to send.
    pub address: SocketAddr,
    /// A socket that is connected to it, made as the cluster's `upstream_bind_config` has it; or why there is none.
    pub socket: std::io::Result<tokio::net::UdpSocket>,
    /// Held while the session lives: circuit breakers, gauges.
    pub guard: Box<dyn Send>,
}

/// A connection that can open a stream now.
pub struct HttpUpstream {
    /// The place on it. Held while the stream lives.
    pub lease: Box<dyn Lease>,
    /// The host.
    pub host: Arc<dyn Host>,
    /// The version spoken.
    pub version: Version,
    /// The upstream connection's facts.
    pub conn: Arc<ConnInfo>,
}

/// The place of one stream on a connection that is ready for it: circuit breakers, gauges. Dropped, the stream is over.
pub trait Lease: Send {
    /// Opens the stream, once; with `end` the request has no body. The head stays with the caller, for another attempt and for
    /// logs.
    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError>;

    /// The stream is over, at this moment, for who has looked at the clock already.
    fn over(self: Box<Self>, now: Instant) {
        let _ = now;
    }
}

/// Why there is no upstream connection.
pub struct ConnectFailure {
    /// Which of Envoy's cases it is.
    pub kind: FailureKind,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; never sent to a client.
    pub reason: Cow<'static, str>,
    /// The host that was tried, where one was chosen.
    pub host: Option<Arc<dyn Host>>,
    /// A refusal that an internal listener's own upstream gave, to be passed on: a status (403 of a far proxy).
    pub refusal: Option<StatusCode>,
}

impl ConnectFailure {
    /// What a refusal by an internal listener means to who connected to it: the case that its flags tell, the status where it
    /// is one of a refusal.
    pub fn of_refusal(refusal: &Refusal, host: Option<Arc<dyn Host>>) -> Self {
        let flags = ResponseFlags::from_bits(refusal.flags);
        let kind = if refusal.looped {
            FailureKind::Loop
        } else if flags.has(ResponseFlag::NoHealthyUpstream) {
            FailureKind::NoHealthyHost
        } else if flags.has(ResponseFlag::UpstreamOverflow) {
            FailureKind::Overflow
        } else {
            FailureKind::Remote
        };
        let status = refusal.status.and_then(|status| StatusCode::from_u16(status).ok()).map(|status| {
            if status.is_client_error() || status.is_server_error() { status } else { StatusCode::BAD_GATEWAY }
        });
        Self { kind, reason: refusal.details.to_string().into(), host, refusal: status }
    }
}

/// Envoy's cases of a failed connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Refused or reset by the host (`remote connection failure`).
    Remote,
    /// Failed on our side (`local connection failure`).
    Local,
    /// Took longer than `connect_timeout` (`connection timeout`).
    Timeout,
    /// A circuit breaker refused (`overflow`).
    Overflow,
    /// No healthy host.
    NoHealthyHost,
    /// The host cannot do what is asked: no extended CONNECT, no common protocol.
    Protocol,
    /// The hop limit of internal listeners was reached.
    Loop,
}

impl FailureKind {
    /// The response flag.
    pub fn flag(self) -> ResponseFlag {
        match self {
            Self::Remote | Self::Local | Self::Timeout | Self::Loop => ResponseFlag::UpstreamConnectionFailure,
            Self::Overflow => ResponseFlag::UpstreamOverflow,
            Self::NoHealthyHost => ResponseFlag::NoHealthyUpstream,
            Self::Protocol => ResponseFlag::UpstreamProtocolError,
        }
    }

    /// Envoy's words for the reset reason, as bodies and details have them.
    pub fn reset_reason(self) -> &'static str {
        match self {
            Self::Remote | Self::Loop => "remote connection failure",
            Self::Local => "local connection failure",
            Self::Timeout => "connection timeout",
            Self::Overflow => "overflow",
            Self::NoHealthyHost => "no healthy upstream",
            Self::Protocol => "protocol error",
        }
    }
}
