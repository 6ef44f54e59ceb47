//! Facts of connections, kept small while they are relayed: a plain TCP connection's need a third of a [`ConnInfo`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use adit_filter::upstream::Host;
use adit_io::{Address, ConnInfo, RefusalSlot};

/// Facts of the client's connection.
pub(crate) enum ClientFacts {
    /// Plain TCP of which nothing is known but the addresses.
    Tcp { id: u64, local: SocketAddr, remote: SocketAddr },
    /// Anything else.
    Full(Arc<ConnInfo>),
}

impl ClientFacts {
    pub(crate) fn new(conn: &Arc<ConnInfo>) -> Self {
        match (&conn.local, &conn.remote) {
            (Address::Ip(local), Address::Ip(remote)) if is_plain(conn) => {
                Self::Tcp { id: conn.id, local: *local, remote: *remote }
            }
            _ => Self::Full(conn.clone()),
        }
    }

    /// All of them, of a connection that began at `start`.
    pub(crate) fn full(&self, start: SystemTime) -> Arc<ConnInfo> {
        match self {
            Self::Tcp { id, local, remote } => {
                let mut conn = ConnInfo::new(*id, Address::Ip(*local), Address::Ip(*remote));
                conn.start = start;
                Arc::new(conn)
            }
            Self::Full(conn) => conn.clone(),
        }
    }

    /// Of an internal connection.
    pub(crate) fn refusal(&self) -> Option<&RefusalSlot> {
        match self {
            Self::Tcp { .. } => None,
            Self::Full(conn) => conn.refusal.as_ref(),
        }
    }
}

/// Facts of our connection to the host.
pub(crate) enum UpstreamFacts {
    /// Plain TCP to the host's own address: the rest follows from the host.
    Tcp { id: u64, local: SocketAddr },
    /// Anything else.
    Full(Arc<ConnInfo>),
}

impl UpstreamFacts {
    pub(crate) fn new(conn: Arc<ConnInfo>, host: &dyn Host) -> Self {
        match conn.local {
            Address::Ip(local) if is_plain(&conn) && conn.remote == host.info().address => {
                Self::Tcp { id: conn.id, local }
            }
            _ => Self::Full(conn),
        }
    }

    /// All of them but when the connection began, which no log asks.
    pub(crate) fn full(&self, host: &dyn Host) -> Arc<ConnInfo> {
        match self {
            Self::Tcp { id, local } => Arc::new(ConnInfo::new(*id, Address::Ip(*local), host.info().address.clone())),
            Self::Full(conn) => conn.clone(),
        }
    }

    /// Of an internal connection.
    pub(crate) fn refusal(&self) -> Option<&RefusalSlot> {
        match self {
            Self::Tcp { .. } => None,
            Self::Full(conn) => conn.refusal.as_ref(),
        }
    }
}

/// Whether the addresses, the id and the start are all that is known. Whoever adds a fact is asked for it here.
fn is_plain(conn: &ConnInfo) -> bool {
    let ConnInfo {
        id: _,
        local: _,
        remote: _,
        direct_remote,
        start: _,
        server_name,
        offered_alpn,
        transport,
        tls,
        internal_hops,
        refusal,
    } = conn;
    direct_remote.is_none()
        && server_name.is_none()
        && offered_alpn.is_empty()
        && *transport == "raw_buffer"
        && tls.is_none()
        && *internal_hops == 0
        && refusal.is_none()
}
