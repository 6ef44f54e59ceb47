//! The seam for transport sockets on accepted connections.

use std::borrow::Cow;
use std::fmt;

use adit_filter::BoxFuture;
use adit_io::Io;

/// A downstream transport socket: a handshake that turns an accepted connection into one of plain bytes
/// (`FilterChain.transport_socket`). The raw one is the absence of an acceptor.
pub trait TransportAcceptor: Send + Sync {
    /// Shakes hands. The listener bounds the time (`transport_socket_connect_timeout`) by dropping the future.
    fn accept(&self, io: Io) -> BoxFuture<'_, Result<Io, TransportError>>;
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`
    pub reason: Cow<'static, str>,
}

impl TransportError {
    /// A failure with this reason.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TransportError {}
