//! Binding sockets: everything that can fail does so before anything runs.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use adit_socket::{SocketKind, SocketOptions, When, spare_loopback};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::BindAddress;

/// The backlog where `tcp_backlog_size` is absent: the kernel cuts it to `net.core.somaxconn`.
const DEFAULT_BACKLOG: i32 = 65_535;

/// How the sockets of one address are made.
#[derive(Debug, Clone)]
pub(crate) struct SocketPlan {
    pub(crate) address: BindAddress,
    pub(crate) reuse_port: bool,
    pub(crate) freebind: Option<bool>,
    pub(crate) transparent: Option<bool>,
    pub(crate) backlog: Option<u32>,
    pub(crate) keepalive: Option<TcpKeepalive>,
    pub(crate) options: SocketOptions,
}

/// The sockets of one address, one for each worker.
#[derive(Debug)]
pub(crate) struct BoundAddress {
    /// With the port that the kernel chose.
    pub(crate) address: BindAddress,
    sockets: Mutex<Vec<Option<Socket>>>,
}

impl BoundAddress {
    fn new(address: BindAddress, sockets: Vec<Socket>) -> Self {
        Self { address, sockets: Mutex::new(sockets.into_iter().map(Some).collect()) }
    }

    /// The socket of a worker; once.
    pub(crate) fn take(&self, worker: usize) -> Option<Socket> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).get_mut(worker)?.take()
    }

    /// Closes what nobody took.
    pub(crate) fn close(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The listener.
    pub listener: Arc<str>,
    /// The address.
    pub address: String,
    /// What failed.
    pub operation: &'static str,
    /// How.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listener, address, operation, error } = self;
        write!(f, "listener '{listener}': cannot {operation} '{address}': {error}")
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl SocketPlan {
    /// Whether the address could be had without sharing it: the kernel lets any process of the same user share one that
    /// is bound with SO_REUSEPORT, so that two by mistake would each get half of the connections.
    pub(crate) fn probe(&self, listener: &Arc<str>) -> Result<(), BindError> {
        let alone = Self { reuse_port: false, ..self.clone() };
        let bound = match &self.address {
            BindAddress::Tcp { socket, dual } => alone.tcp(*socket, *dual),
            BindAddress::Udp { socket, dual } => alone.udp(*socket, *dual),
            BindAddress::Pipe { .. } => return Ok(()),
        };
        bound.map(drop).map_err(self.failed(listener, "bind"))
    }

    fn failed(&self, listener: &Arc<str>, operation: &'static str) -> impl FnOnce(io::Error) -> BindError {
        let (listener, address) = (listener.clone(), self.address.to_string());
        move |error| BindError { listener, address, operation, error }
    }

    /// Binds a socket for each of `workers`. Nothing is accepted before [`listen`].
    pub(crate) fn bind(&self, listener: &Arc<str>, workers: usize) -> Result<BoundAddress, BindError> {
        let fail = |operation| self.failed(listener, operation);
        let workers = workers.max(1);
        match &self.address {
            BindAddress::Tcp { socket, dual } => {
                let first = self.tcp(*socket, *dual).map_err(fail("bind"))?;
                let bound = first.local_addr().map_err(fail("bind"))?.as_socket().unwrap_or(*socket);
                let mut sockets = vec![first];
                while sockets.len() < workers {
                    let next = match sockets.first() {
                        Some(first) if !self.reuse_port => first.try_clone(),
                        _ => self.tcp(bound, *dual),
                    };
                    sockets.push(next.map_err(fail("bind"))?);
                }
                Ok(BoundAddress::new(BindAddress::Tcp { socket: bound, dual: *dual }, sockets))
            }
            BindAddress::Udp { socket, dual } => {
                let first = self.udp(*socket, *dual).map_err(fail("bind"))?;
                let bound = first.local_addr().map_err(fail("bind"))?.as_socket().unwrap_or(*socket);
                let mut sockets = vec![first];
                // Without SO_REUSEPORT the datagrams of one client could come out on any worker: one has them all.
                while self.reuse_port && sockets.len() < workers {
                    sockets.push(self.udp(bound, *dual).map_err(fail("bind"))?);
                }
                Ok(BoundAddress::new(BindAddress::Udp { socket: bound, dual: *dual }, sockets))
            }
            BindAddress::Pipe { path, mode } => {
                let first = pipe(path, *mode).map_err(fail("bind"))?;
                let mut sockets = Vec::with_capacity(workers);
                for _ in 1..workers {
                    sockets.push(first.try_clone().map_err(fail("share"))?);
                }
                sockets.push(first);
                Ok(BoundAddress::new(self.address.clone(), sockets))
            }
        }
    }

    fn tcp(&self, address: SocketAddr, dual: bool) -> io::Result<Socket> {
        let (v6, kind) = (address.is_ipv6(), SocketKind::stream(&address));
        let socket = Socket::new(if v6 { Domain::IPV6 } else { Domain::IPV4 }, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // A port in TIME_WAIT is free: a restart works at once.
        socket.set_reuse_address(true)?;
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if v6 {
            socket.set_only_v6(!dual)?;
        }
        socket.set_tcp_nodelay(true)?;
        // What is accepted has what its listener has.
        spare_loopback(&socket, address.ip());
        if let Some(on) = self.freebind {
            if v6 { socket.set_freebind_v6(on)? } else { socket.set_freebind_v4(on)? }
        }
        if let Some(on) = self.transparent {
            if v6 { socket.set_ip_transparent_v6(on)? } else { socket.set_ip_transparent_v4(on)? }
        }
        if let Some(keepalive) = &self.keepalive {
            socket.set_tcp_keepalive(keepalive)?;
        }
        self.options.set(When::BeforeBind, kind, &socket)?;
        socket.bind(&address.into())?;
        self.options.set(When::Bound, kind, &socket)?;
        Ok(socket)
    }

    fn udp(&self, address: SocketAddr, dual: bool) -> io::Result<Socket> {
        let (v6, kind) = (address.is_ipv6(), SocketKind::datagram(&address));
        let socket = Socket::new(if v6 { Domain::IPV6 } else { Domain::IPV4 }, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if v6 {
            socket.set_only_v6(!dual)?;
        }
        if let Some(on) = self.freebind {
            if v6 { socket.set_freebind_v6(on)? } else { socket.set_freebind_v4(on)? }
        }
        if let Some(on) = self.transparent {
            if v6 { socket.set_ip_transparent_v6(on)? } else { socket.set_ip_transparent_v4(on)? }
        }
        self.options.set(When::BeforeBind, kind, &socket)?;
        socket.bind(&address.into())?;
        self.options.set(When::Bound, kind, &socket)?;
        Ok(socket)
    }

    fn listening(&self, socket: &Socket) -> io::Result<()> {
        let kind = match &self.address {
            BindAddress::Tcp { socket, .. } => SocketKind::stream(socket),
            BindAddress::Udp { socket, .. } => SocketKind::datagram(socket),
            BindAddress::Pipe { .. } => SocketKind::UNIX,
        };
        self.options.set(When::Listening, kind, socket)
    }

    /// Lets a bound socket take connections.
    pub(crate) fn listen(&self, listener: &Arc<str>, socket: &Socket) -> Result<(), BindError> {
        let backlog = self.backlog.map_or(DEFAULT_BACKLOG, |size| i32::try_from(size).unwrap_or(i32::MAX));
        let listening = socket.listen(backlog).and_then(|()| self.listening(socket));
        listening.map_err(self.failed(listener, "listen on"))
    }
}

fn pipe(path: &str, mode: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let abstract_name = path.strip_prefix('@').map(|name| format!("\0{name}"));
    let file = FilePath::new(path);
    if abstract_name.is_none() {
        remove_stale(file)?;
    }
    socket.bind(&SockAddr::unix(abstract_name.as_deref().unwrap_or(path))?)?;
    if abstract_name.is_none() && mode != 0 {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(socket)
}

/// Removes a socket file that nobody listens on any more, such as one that a killed process left. Anything else at the path
/// stays, and makes the bind fail.
fn remove_stale(path: &FilePath) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}
