//! The accept loop of one socket on one worker.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_io::{Address, ConnInfo, Io, Stream, UnixTransport};
use adit_runtime::Closing;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::Instant;

use crate::connection::{ConnectionTask, Open};
use crate::{BindAddress, WorkerListener};

/// Connections taken in one turn where `max_connections_to_accept_per_socket_event` is absent: then other tasks get theirs.
const ACCEPTS_PER_TURN: u32 = 64;
/// The pause after the process ran out of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often running out is logged.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// A listening socket, and what is known of its connections beforehand.
pub(crate) struct Acceptor {
    socket: Socket,
    /// Our end of each connection, where that cannot vary.
    local: Option<Address>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// In the context of the worker's runtime.
    pub(crate) fn new(address: &BindAddress, socket: OwnedFd) -> io::Result<Self> {
        match address {
            BindAddress::Tcp { socket: bound, .. } => Ok(Self {
                socket: Socket::Tcp(TcpListener::from_std(socket.into())?),
                local: (!bound.ip().is_unspecified()).then_some(Address::Ip(*bound)),
            }),
            BindAddress::Udp { .. } => Err(io::ErrorKind::Unsupported.into()),
            BindAddress::Pipe { .. } => Ok(Self {
                socket: Socket::Unix(UnixListener::from_std(socket.into())?),
                local: Some(address.address()),
            }),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>, transparent: bool) -> Poll<io::Result<Io>> {
        match &self.socket {
            Socket::Tcp(listener) => listener.poll_accept(cx).map_ok(|(socket, remote)| {
                let local = match &self.local {
                    Some(local) if !transparent => local.clone(),
                    _ => local_address(&socket, remote),
                };
                let info = ConnInfo::new(ConnInfo::next_id(), local, Address::Ip(canonical(remote)));
                Io::tcp(socket, Arc::new(info))
            }),
            Socket::Unix(listener) => listener.poll_accept(cx).map_ok(|(socket, remote)| {
                let local = self.local.clone().unwrap_or_else(|| Address::Pipe("".into()));
                // A client's socket rarely has a name; then Envoy shows the listener's.
                let remote = unix_address(&remote).unwrap_or_else(|| local.clone());
                let info = ConnInfo::new(ConnInfo::next_id(), local, remote);
                Io::new(Stream::Other(Box::new(UnixTransport::new(socket))), Arc::new(info))
            }),
        }
    }
}

/// An IPv4 address that a dual-stack socket shows as an IPv6 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn local_address(socket: &TcpStream, remote: SocketAddr) -> Address {
    // A socket that is gone already has no address; whoever reads from it will see why.
    let unspecified = SocketAddr::new(if remote.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    Address::Ip(socket.local_addr().map_or(unspecified, canonical))
}

fn unix_address(remote: &tokio::net::unix::SocketAddr) -> Option<Address> {
    Some(Address::Pipe(remote.as_pathname()?.to_string_lossy().as_ref().into()))
}

/// Accepts until `stop`, or until the worker closes.
pub(crate) async fn run(listener: Arc<WorkerListener>, acceptor: Acceptor, stop: Closing) {
    let closing = listener.spawner.drain().closing();
    let mut stop = pin!(async move {
        tokio::select! {
            () = stop => {}
            () = closing => {}
        }
    });
    let mut pause = Pause::default();
    loop {
        let turn = tokio::select! {
            biased;
            () = &mut stop => return,
            turn = turn(&listener, &acceptor) => turn,
        };
        match turn {
            Turn::Over => tokio::task::yield_now().await,
            Turn::Dry => {}
            Turn::Failed(error) if is_transient(&error) => {}
            Turn::Failed(error) => {
                pause.log(&listener, &error);
                tokio::select! {
                    biased;
                    () = &mut stop => return,
                    () = tokio::time::sleep(BACK_OFF) => {}
                }
            }
        }
    }
}

/// How a turn ended.
enum Turn {
    /// There were as many connections as may be taken at once: others get their turn.
    Over,
    /// Those that were there are taken.
    Dry,
    Failed(io::Error),
}

/// Waits for connections and takes those that are there, up to a limit.
async fn turn(listener: &Arc<WorkerListener>, acceptor: &Acceptor) -> Turn {
    let transparent = listener.plan.transparent;
    let limit = listener.plan.accepts_per_event.unwrap_or(ACCEPTS_PER_TURN);
    let mut accepted = 0;
    let turn = poll_fn(|cx| {
        while accepted < limit {
            match acceptor.poll_accept(cx, transparent) {
                Poll::Ready(Ok(io)) => {
                    accepted += 1;
                    place(listener, io);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Turn::Failed(error)),
                Poll::Pending if accepted == 0 => return Poll::Pending,
                // Pending also where the task has used up its turn, and is woken at once then.
                Poll::Pending => return Poll::Ready(Turn::Dry),
            }
        }
        Poll::Ready(Turn::Over)
    })
    .await;
    if accepted > 0 {
        listener.plan.stats.connections_accepted_per_socket_event.record(u64::from(accepted));
    }
    turn
}

/// Starts the task of a connection, on this worker unless the load is to be balanced.
fn place(listener: &Arc<WorkerListener>, io: Io) {
    let target = if listener.plan.exact_balance { listener.least_loaded() } else { None };
    let Some(target) = target else {
        if let Some(task) = ConnectionTask::admit(listener, io) {
            drop(listener.spawner.spawn(task));
        }
        return;
    };
    // Counted at once, so that the next connection of this turn sees it.
    let Some(open) = Open::admit(&target) else { return };
    let info = io.info.clone();
    let (stream, _) = io.into_parts();
    let Stream::Tcp(socket) = stream else { return };
    // Nobody else holds a socket that was just accepted.
    let Some(socket) = Arc::into_inner(socket).and_then(|socket| socket.into_std().ok()) else { return };
    drop(target.spawner.spawn(async move {
        match TcpStream::from_std(socket) {
            Ok(socket) => ConnectionTask::new(open, Io::tcp(socket, info)).await,
            Err(error) => tracing::warn!(%error, "a connection cannot be moved to another worker"),
        }
    }));
}

/// Errors of the connection that was to be accepted, not of the socket: the next one may be good (accept(2)).
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut, WouldBlock,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
            | WouldBlock
    )
}

/// Keeps a lack of descriptors from flooding the log.
#[derive(Default)]
struct Pause {
    logged: Option<Instant>,
}

impl Pause {
    fn log(&mut self, listener: &WorkerListener, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_none_or(|at| now.duration_since(at) >= LOG_EVERY) {
            self.logged = Some(now);
            tracing::error!(listener = &**listener.plan.name(), %error, "cannot accept connections");
        }
    }
}
