//! Addresses of connections, as Envoy prints them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One end of a connection (`envoy.config.core.v3.Address`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket's path; an abstract one starts with `@`. Empty for an unnamed peer.
    Pipe(Arc<str>),
    /// An internal listener, printed `envoy://<listener>/<endpoint_id>`.
    Internal {
        /// `server_listener_name`, or `internal_client_address` for the connecting end.
        listener: Arc<str>,
        /// `endpoint_id`; may be empty.
        endpoint_id: Arc<str>,
    },
}

impl Address {
    /// The listener's name in the connecting end's address of an internal connection.
    pub const INTERNAL_CLIENT: &'static str = "internal_client_address";

    /// The connecting end of an internal connection: `envoy://internal_client_address/`.
    pub fn internal_client() -> Self {
        Self::Internal { listener: Self::INTERNAL_CLIENT.into(), endpoint_id: "".into() }
    }

    /// The IP address, if this is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|socket| socket.ip())
    }

    /// The port, if this is an IP address.
    pub fn port(&self) -> Option<u16> {
        self.socket().map(|socket| socket.port())
    }

    /// The socket address, if this is one.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(socket) => Some(*socket),
            _ => None,
        }
    }

    /// Without the port: what `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%` prints.
    pub fn without_port(&self) -> String {
        self.ip().map_or_else(|| self.to_string(), |ip| ip.to_string())
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self::Ip(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(socket) => write!(f, "{socket}"),
            Self::Pipe(path) => f.write_str(path),
            Self::Internal { listener, endpoint_id } => write!(f, "envoy://{listener}/{endpoint_id}"),
        }
    }
}
