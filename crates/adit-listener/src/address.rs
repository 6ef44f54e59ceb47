//! Where a listener listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_io::Address;
use pb::address::Address as Specifier;
use pb::socket_address::{PortSpecifier, Protocol};

/// An address to bind (`envoy.config.core.v3.Address`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindAddress {
    /// A TCP address; port 0 lets the kernel choose one, the same for every worker.
    Tcp {
        /// Where.
        socket: SocketAddr,
        /// Whether `::` takes IPv4 too (`ipv4_compat`).
        dual: bool,
    },
    /// A UDP address, likewise.
    Udp {
        /// Where.
        socket: SocketAddr,
        /// Whether `::` takes IPv4 too (`ipv4_compat`).
        dual: bool,
    },
    /// A Unix socket.
    Pipe {
        /// Its path; `@` at its front is an abstract one.
        path: Arc<str>,
        /// The file's mode; 0 leaves what the umask gives.
        mode: u32,
    },
}

impl BindAddress {
    /// From its message, at `path`.
    pub fn from_proto(message: &pb::Address, path: &Path) -> Result<Self, Diagnostic> {
        match &message.address {
            Some(Specifier::SocketAddress(socket)) => ip(socket, &path.field("socket_address")),
            Some(Specifier::Pipe(pipe)) => Ok(Self::Pipe { path: pipe.path.as_str().into(), mode: pipe.mode }),
            Some(Specifier::EnvoyInternalAddress(_)) => {
                Err(Diagnostic::error(path, "use internal_listener field instead of address for internal listeners"))
            }
            None => Err(Diagnostic::error(path, "address is necessary")),
        }
    }

    /// As connections see it before it is bound.
    pub fn address(&self) -> Address {
        match self {
            Self::Tcp { socket, .. } | Self::Udp { socket, .. } => Address::Ip(*socket),
            Self::Pipe { path, .. } => Address::Pipe(path.clone()),
        }
    }
}

fn ip(message: &pb::SocketAddress, path: &Path) -> Result<BindAddress, Diagnostic> {
    let ip: IpAddr = message
        .address
        .parse()
        .map_err(|_| Diagnostic::error(path.field("address"), format!("malformed IP address: {}", message.address)))?;
    let port = match message.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port)
            .map_err(|_| Diagnostic::error(path.field("port_value"), format!("{port} is not a port")))?,
        _ => return Err(Diagnostic::error(path, "port_value is necessary")),
    };
    if message.ipv4_compat && !ip.is_ipv6() {
        return Err(Diagnostic::error(path.field("ipv4_compat"), "only an IPv6 address can take IPv4 too"));
    }
    let (socket, dual) = (SocketAddr::new(ip, port), message.ipv4_compat);
    Ok(match message.protocol() {
        Protocol::Tcp => BindAddress::Tcp { socket, dual },
        Protocol::Udp => BindAddress::Udp { socket, dual },
    })
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { socket, .. } | Self::Udp { socket, .. } => write!(f, "{socket}"),
            Self::Pipe { path, .. } => f.write_str(path),
        }
    }
}
