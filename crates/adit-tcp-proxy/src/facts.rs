//! Facts of connections, kept small while they are relayed: those of a plain TCP connection or of an internal one need a
//! third of a [`ConnInfo`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use adit_filter::upstream::Host;
use adit_io::{Address, ConnInfo, RefusalSlot};

/// Facts of the client's connection.
pub(crate) enum ClientFacts {
    /// Plain TCP of which nothing is known but the addresses.
    Tcp { id: u64, local: SocketAddr, remote: SocketAddr },
    /// The accepting end of an internal connection of which nothing else is known.
    Internal { id: u64, local: Address, hops: u8, refusal: RefusalSlot },
    /// Anything else.
    Full(Arc<ConnInfo>),
}

impl ClientFacts {
    pub(crate) fn new(conn: &Arc<ConnInfo>) -> Self {
        if !is_plain(conn) {
            return Self::Full(conn.clone());
        }
        match (&conn.local, &conn.remote, &conn.refusal) {
            (Address::Ip(local), Address::Ip(remote), None) if conn.internal_hops == 0 => {
                Self::Tcp { id: conn.id, local: *local, remote: *remote }
            }
            (local @ Address::Internal { .. }, remote, Some(refusal)) if is_internal_client(remote) => {
                let (local, refusal) = (local.clone(), refusal.clone());
                Self::Internal { id: conn.id, local, hops: conn.internal_hops, refusal }
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
            Self::Internal { id, local, hops, refusal } => {
                let mut conn = ConnInfo::new(*id, local.clone(), Address::internal_client());
                conn.start = start;
                conn.internal_hops = *hops;
                conn.refusal = Some(refusal.clone());
                Arc::new(conn)
            }
            Self::Full(conn) => conn.clone(),
        }
    }

    /// Of an internal connection.
    pub(crate) fn refusal(&self) -> Option<&RefusalSlot> {
        match self {
            Self::Tcp { .. } => None,
            Self::Internal { refusal, .. } => Some(refusal),
            Self::Full(conn) => conn.refusal.as_ref(),
        }
    }
}

/// Facts of our connection to the host.
pub(crate) enum UpstreamFacts {
    /// Plain TCP to the host's own address: the rest follows from the host.
    Tcp { id: u64, local: SocketAddr },
    /// The connecting end of an internal connection: the rest follows from the host.
    Internal { id: u64, hops: u8, refusal: RefusalSlot },
    /// Anything else.
    Full(Arc<ConnInfo>),
}

impl UpstreamFacts {
    pub(crate) fn new(conn: Arc<ConnInfo>, host: &dyn Host) -> Self {
        if !is_plain(&conn) || conn.remote != host.info().address {
            return Self::Full(conn);
        }
        match (&conn.local, &conn.refusal) {
            (Address::Ip(local), None) if conn.internal_hops == 0 => Self::Tcp { id: conn.id, local: *local },
            (local, Some(refusal)) if is_internal_client(local) => {
                Self::Internal { id: conn.id, hops: conn.internal_hops, refusal: refusal.clone() }
            }
            _ => Self::Full(conn),
        }
    }

    /// All of them but when the connection began, which no log asks.
    pub(crate) fn full(&self, host: &dyn Host) -> Arc<ConnInfo> {
        match self {
            Self::Tcp { id, local } => Arc::new(ConnInfo::new(*id, Address::Ip(*local), host.info().address.clone())),
            Self::Internal { id, hops, refusal } => {
                let mut conn = ConnInfo::new(*id, Address::internal_client(), host.info().address.clone());
                conn.internal_hops = *hops;
                conn.refusal = Some(refusal.clone());
                Arc::new(conn)
            }
            Self::Full(conn) => conn.clone(),
        }
    }

    /// Of an internal connection.
    pub(crate) fn refusal(&self) -> Option<&RefusalSlot> {
        match self {
            Self::Tcp { .. } => None,
            Self::Internal { refusal, .. } => Some(refusal),
            Self::Full(conn) => conn.refusal.as_ref(),
        }
    }
}

fn is_internal_client(address: &Address) -> bool {
    matches!(address, Address::Internal { listener, endpoint_id }
        if endpoint_id.is_empty() && **listener == *Address::INTERNAL_CLIENT)
}

/// Whether the addresses, the id, the start and what an internal connection has are all that is known. Whoever adds a fact
/// is asked for it here.
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
        internal_hops: _,
        refusal: _,
    } = conn;
    direct_remote.is_none()
        && server_name.is_none()
        && offered_alpn.is_empty()
        && *transport == "raw_buffer"
        && tls.is_none()
}
