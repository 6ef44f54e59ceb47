//! Dialling: TCP, Unix sockets and internal listeners, then the transport socket, all within `connect_timeout`.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use adit_filter::BoxFuture;
use adit_filter::upstream::{ConnectFailure, FailureKind};
use adit_internal::{ConnectError, InternalListeners, Passed};
use adit_io::{Address, ConnInfo, FilterState, Io, Metadata, RefusalSlot, Stream, UnixTransport};
use adit_socket::{SocketKind, SocketOptions, When, ack_at_once, join_ack, spare_loopback};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::cluster::Core;
use crate::host::HostState;
use crate::outlier::LocalOrigin;
use crate::stats::TrafficStats;
use crate::transport::{TransportContext, TransportError, TransportSocketFactory};

/// How sockets are made (`upstream_bind_config`, `upstream_connection_options`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialOptions {
    /// `source_address`.
    pub source: Option<SocketAddr>,
    /// `freebind`.
    pub freebind: bool,
    /// `tcp_keepalive`.
    pub keepalive: Option<Keepalive>,
    /// `socket_options`.
    pub options: SocketOptions,
}

impl DialOptions {
    /// The address to send from to this remote.
    pub(crate) fn source_for(&self, remote: SocketAddr) -> Option<SocketAddr> {
        self.source.filter(|source| source.is_ipv4() == remote.is_ipv4())
    }
}

/// Why there is no socket to dial with.
#[derive(Debug)]
pub(crate) enum Unready {
    /// The system gives none.
    Socket(io::Error),
    /// An option cannot be set.
    Option(io::Error),
    /// `source_address` cannot be bound.
    Bind(SocketAddr, io::Error),
}

impl Unready {
    /// Counts it. Which option it was goes to the log alone, as in Envoy: no detail of a request shows it.
    pub(crate) fn count(self, core: &Core) -> TransportError {
        match self {
            Self::Socket(error) => TransportError::local(format_args!("immediate connect error: {}", text(&error))),
            Self::Option(error) => {
                core.warn_of_option(&error);
                TransportError::local("")
            }
            Self::Bind(source, error) => {
                core.stats.traffic.bind_errors.inc();
                TransportError::local(format_args!("failed to bind to {source}: {}", text(&error)))
            }
        }
    }
}

impl From<Unready> for io::Error {
    fn from(unready: Unready) -> Self {
        match unready {
            Unready::Socket(error) | Unready::Option(error) | Unready::Bind(_, error) => error,
        }
    }
}

/// `envoy.config.core.v3.TcpKeepalive`; what is absent is the system's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// `keepalive_probes`.
    pub probes: Option<u32>,
    /// `keepalive_time`.
    pub time: Option<Duration>,
    /// `keepalive_interval`.
    pub interval: Option<Duration>,
}

impl Keepalive {
    fn settings(&self) -> TcpKeepalive {
        let mut settings = TcpKeepalive::new();
        if let Some(time) = self.time {
            settings = settings.with_time(time);
        }
        if let Some(interval) = self.interval {
            settings = settings.with_interval(interval);
        }
        if let Some(probes) = self.probes {
            settings = settings.with_retries(probes);
        }
        settings
    }
}

/// Connects to internal listeners of this worker.
pub trait InternalConnector: Send + Sync {
    /// Connects; a listener that does not exist, or the hop limit, is an error.
    fn connect<'a>(&'a self, dial: InternalDial<'a>) -> BoxFuture<'a, Result<Io, TransportError>>;
}

/// What an internal listener is given with a connection.
pub struct InternalDial<'a> {
    /// `server_listener_name`.
    pub listener: &'a str,
    /// `endpoint_id`.
    pub endpoint_id: &'a Arc<str>,
    /// Filter state for the inner connection, as the transport socket passes it on.
    pub state: FilterState,
    /// Metadata for the inner connection.
    pub metadata: Metadata,
    /// Internal listeners crossed so far.
    pub hops: u8,
    /// The downstream connection.
    pub downstream: Option<&'a Arc<ConnInfo>>,
}

/// A process without internal listeners.
pub struct NoInternalListeners;

impl InternalConnector for NoInternalListeners {
    fn connect<'a>(&'a self, dial: InternalDial<'a>) -> BoxFuture<'a, Result<Io, TransportError>> {
        let error = TransportError::local(format_args!("no internal listener named {}", dial.listener));
        Box::pin(async move { Err(error) })
    }
}

impl InternalConnector for InternalListeners {
    fn connect<'a>(&'a self, dial: InternalDial<'a>) -> BoxFuture<'a, Result<Io, TransportError>> {
        let passed = Passed { hops: dial.hops, state: dial.state, metadata: dial.metadata };
        let connected = self.connect(dial.listener, dial.endpoint_id, passed).map_err(|error| {
            let kind = match error {
                ConnectError::TooManyHops { .. } => FailureKind::Loop,
                ConnectError::NotFound(_) | ConnectError::Refused(_) => FailureKind::Remote,
            };
            TransportError { kind, reason: error.to_string(), refusal: None }
        });
        Box::pin(async move { connected })
    }
}

/// Why there is no connection, in a form that can be given to several waiting streams.
#[derive(Debug, Clone)]
pub(crate) struct Failed(pub Arc<TransportError>);

impl Failed {
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self(Arc::new(TransportError { kind, reason: reason.into(), refusal: None }))
    }
}

impl TrafficStats {
    /// Counts the end of a connection that was never made: by its host, or by us where we waited no longer or could not try.
    pub(crate) fn count_failed(&self, failed: &Failed) {
        match failed.0.kind {
            FailureKind::Timeout | FailureKind::Local => self.upstream_cx_destroy_local.inc(),
            _ => self.upstream_cx_destroy_remote.inc(),
        }
    }
}

impl From<TransportError> for Failed {
    fn from(error: TransportError) -> Self {
        Self(Arc::new(error))
    }
}

/// Connects to a host, transport socket included, and counts how that went.
pub(crate) async fn establish(
    core: &Core,
    host: &HostState,
    internal: &dyn InternalConnector,
    ctx: Option<&TransportContext>,
    purpose: Purpose<'_>,
) -> Result<Io, Failed> {
    // By reference: what is moved into an `async fn` has a place of its own in its future beside that where it is polled.
    let connecting = std::pin::pin!(connect(core, host, internal, ctx, purpose));
    counted(core, host, connecting).await
}

/// Bounds a connect by `connect_timeout`, and counts how it went.
pub(crate) async fn counted<T>(
    core: &Core,
    host: &HostState,
    connect: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, Failed> {
    let start = tokio::time::Instant::now();
    let result = tokio::time::timeout(core.plan.connect_timeout, connect).await;
    let stats = &core.stats.traffic;
    let failed = match result {
        Ok(Ok(connected)) => {
            stats.upstream_cx_connect_ms.record(crate::stats::millis(start.elapsed()));
            core.outlier_local(host, LocalOrigin::Connected);
            return Ok(connected);
        }
        Ok(Err(error)) => Failed::from(error),
        Err(_) => {
            stats.upstream_cx_connect_timeout.inc();
            Failed::new(FailureKind::Timeout, "")
        }
    };
    stats.upstream_cx_connect_fail.inc();
    host.stats.cx_connect_fail.fetch_add(1, Relaxed);
    if let Some(how) = of_the_host(failed.0.kind) {
        core.outlier_local(host, how);
    }
    Err(failed)
}

/// What a failure says of the host to outlier detection; nothing, where it lies with us or with the cluster of a proxy.
fn of_the_host(kind: FailureKind) -> Option<LocalOrigin> {
    match kind {
        FailureKind::Timeout => Some(LocalOrigin::Timeout),
        FailureKind::Remote | FailureKind::Protocol => Some(LocalOrigin::ConnectFailed),
        FailureKind::Local | FailureKind::Loop | FailureKind::Overflow | FailureKind::NoHealthyHost => None,
    }
}

/// What a connection is for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    /// The downstream connection, which internal listeners are told of.
    pub downstream: Option<&'a Arc<ConnInfo>>,
    /// Whether we send something as soon as it is made.
    speaks_first: bool,
}

impl<'a> Purpose<'a> {
    /// Sockets with options of their own are left as these make them.
    pub fn new(core: &Core, downstream: Option<&'a Arc<ConnInfo>>, speaks_first: bool) -> Self {
        Self { downstream, speaks_first: speaks_first && core.plan.dial.options.is_empty() }
    }
}

/// A connection whose last ACK of the handshake waits for our first bytes. Keeps nothing alive.
pub(crate) struct Joined(Weak<TcpStream>);

impl Joined {
    /// `None` where there is nothing to be undone.
    pub fn of(io: &Io, purpose: Purpose<'_>) -> Option<Self> {
        let socket = io.tcp_socket().filter(|_| purpose.speaks_first)?;
        Some(Self(Arc::downgrade(socket)))
    }

    /// From the worker's next turn on, by which the first bytes are sent, what comes is acknowledged as on any connection.
    pub async fn undo(self) {
        tokio::task::yield_now().await;
        if let Some(socket) = self.0.upgrade() {
            ack_at_once(&SockRef::from(&*socket));
        }
    }
}

async fn connect(
    core: &Core,
    host: &HostState,
    internal: &dyn InternalConnector,
    ctx: Option<&TransportContext>,
    purpose: Purpose<'_>,
) -> Result<Io, TransportError> {
    match (ctx, host.address()) {
        (None, Address::Ip(remote)) if host.facts.additional.is_empty() => {
            tcp(*remote, core, purpose.speaks_first).await
        }
        // Many times larger, and there is more to do than to make a box for it.
        _ => Box::pin(connect_through(core, host, internal, ctx, purpose)).await,
    }
}

/// By the transport socket, if there is one to do something, or to any of several addresses.
async fn connect_through(
    core: &Core,
    host: &HostState,
    internal: &dyn InternalConnector,
    ctx: Option<&TransportContext>,
    purpose: Purpose<'_>,
) -> Result<Io, TransportError> {
    let factory: Option<&Arc<dyn TransportSocketFactory>> = core.plan.transport(host.facts.transport);
    let (Some(factory), Some(ctx)) = (factory, ctx) else {
        return dial_any(core, host, host.address(), internal, None, purpose).await;
    };
    if let Some(through) = factory.through(ctx) {
        return through.await;
    }
    let proxy = factory.dial_address(ctx);
    let address = proxy.as_ref().unwrap_or(host.address());
    let io = dial_any(core, host, address, internal, Some((factory, ctx)), purpose).await?;
    let refusal = io.info.refusal.clone();
    factory.connect(io, ctx).await.map_err(|error| refusal.as_ref().and_then(refused).unwrap_or(error))
}

/// What an internal listener said that refused the connection.
pub(crate) fn refused(slot: &RefusalSlot) -> Option<TransportError> {
    let ConnectFailure { kind, reason, refusal, .. } = ConnectFailure::of_refusal(&slot.get()?, None);
    Some(TransportError { kind, reason: reason.into_owned(), refusal })
}

/// Connects to an address of a host for a health check: nothing is counted but a source that cannot be bound, and no internal
/// listener is reached.
pub(crate) async fn probe(
    core: &Core,
    host: &HostState,
    address: &Address,
    ctx: &TransportContext,
) -> Result<Io, TransportError> {
    let factory = core.plan.transport(host.facts.transport).filter(|factory| !factory.is_raw());
    let proxy = factory.and_then(|factory| factory.dial_address(ctx));
    let address = proxy.as_ref().unwrap_or(address);
    let io = dial(core, address, &NoInternalListeners, None, Purpose { downstream: None, speaks_first: false }).await?;
    match factory {
        Some(factory) => factory.connect(io, ctx).await,
        None => Ok(io),
    }
}

/// Dials the address; a host's further addresses follow one that failed.
async fn dial_any(
    core: &Core,
    host: &HostState,
    address: &Address,
    internal: &dyn InternalConnector,
    passing: Option<(&Arc<dyn TransportSocketFactory>, &TransportContext)>,
    purpose: Purpose<'_>,
) -> Result<Io, TransportError> {
    let mut result = dial(core, address, internal, passing, purpose).await;
    if result.is_err() && address == host.address() {
        for additional in &host.facts.additional {
            result = dial(core, additional, internal, passing, purpose).await;
            if result.is_ok() {
                break;
            }
        }
    }
    result
}

async fn dial(
    core: &Core,
    address: &Address,
    internal: &dyn InternalConnector,
    passing: Option<(&Arc<dyn TransportSocketFactory>, &TransportContext)>,
    purpose: Purpose<'_>,
) -> Result<Io, TransportError> {
    match address {
        Address::Ip(remote) => tcp(*remote, core, false).await,
        Address::Pipe(path) => pipe(path).await,
        Address::Internal { listener, endpoint_id } => {
            let (state, metadata) = passing.map(|(factory, ctx)| factory.passes_on(ctx)).unwrap_or_default();
            let dial = InternalDial {
                listener,
                endpoint_id,
                state,
                metadata,
                hops: purpose.downstream.map_or(0, |info| info.internal_hops),
                downstream: purpose.downstream,
            };
            internal.connect(dial).await
        }
    }
}

async fn tcp(remote: SocketAddr, core: &Core, speaks_first: bool) -> Result<Io, TransportError> {
    let socket = prepare(remote, &core.plan.dial, speaks_first).map_err(|unready| unready.count(core))?;
    let stream = socket.connect(remote).await.map_err(|error| {
        let reason = format!("delayed connect error: {}", text(&error));
        match error.kind() {
            // Our own lack of ports, buffers or permission.
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
                TransportError::local(reason)
            }
            _ => TransportError::remote(reason),
        }
    })?;
    // Refused only on a socket that is gone, which its first use will tell.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().map_err(|error| TransportError::remote(text(&error)))?;
    let info = ConnInfo::new(ConnInfo::next_id(), Address::Ip(local), Address::Ip(remote));
    Ok(Io::tcp(stream, Arc::new(info)))
}

fn prepare(remote: SocketAddr, options: &DialOptions, speaks_first: bool) -> Result<TcpSocket, Unready> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(Unready::Socket)?;
    spare_loopback(&SockRef::from(&socket), remote.ip());
    if speaks_first {
        join_ack(&SockRef::from(&socket));
    }
    if let Some(keepalive) = &options.keepalive {
        SockRef::from(&socket).set_tcp_keepalive(&keepalive.settings()).map_err(Unready::Option)?;
    }
    let source = options.source_for(remote);
    if source.is_some() && options.freebind {
        freebind(&SockRef::from(&socket), remote).map_err(Unready::Option)?;
    }
    if !options.options.is_empty() {
        // Of the later states none comes, as in Envoy.
        let set = options.options.set(When::BeforeBind, SocketKind::stream(&remote), &SockRef::from(&socket));
        set.map_err(Unready::Option)?;
    }
    if let Some(source) = source {
        let shared = if source.port() == 0 { Ok(()) } else { socket.set_reuseaddr(true) };
        shared.and_then(|()| socket.bind(source)).map_err(|error| Unready::Bind(source, error))?;
    }
    Ok(socket)
}

/// `freebind`, for addresses of this one's family.
pub(crate) fn freebind(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }
}

async fn pipe(path: &Arc<str>) -> Result<Io, TransportError> {
    let connected = match path.strip_prefix('@') {
        // tokio takes an abstract name by its leading NUL.
        Some(name) => UnixStream::connect(format!("\0{name}")).await,
        None => UnixStream::connect(&**path).await,
    };
    let stream =
        connected.map_err(|error| TransportError::remote(format_args!("delayed connect error: {}", text(&error))))?;
    let info = ConnInfo::new(ConnInfo::next_id(), Address::Pipe("".into()), Address::Pipe(path.clone()));
    Ok(Io::new(Stream::Other(Box::new(UnixTransport::new(stream))), Arc::new(info)))
}

/// The system's words without Rust's error number, as Envoy has them.
pub(crate) fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}
