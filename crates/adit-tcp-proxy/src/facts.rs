//! Facts of connections, kept small while they are relayed: those of a plain connection over IPv4 need a tenth of a
//! [`ConnInfo`], those of one over IPv6 or of an internal one a third, in a box.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::SystemTime;

use adit_filter::upstream::Host;
use adit_io::{Address, ConnInfo, RefusalSlot};

/// Facts of the client's connection.
pub(crate) enum ClientFacts {
    /// Plain TCP over IPv4 of which nothing is known but the addresses.
    Tcp4 { id: u64, local: SocketAddrV4, remote: SocketAddrV4 },
    /// The same with any addresses.
    Tcp(Box<Ends>),
    /// The accepting end of an internal connection of which nothing else is known.
    Internal(Box<InternalEnd>),
    /// Anything else.
    Full(Arc<ConnInfo>),
}

/// A connection and its two addresses.
pub(crate) struct Ends {
    id: u64,
    local: SocketAddr,
    remote: SocketAddr,
}

/// The accepting end of an internal connection.
pub(crate) struct InternalEnd {
    id: u64,
    local: Address,
    hops: u8,
    refusal: RefusalSlot,
}

impl ClientFacts {
    pub(crate) fn new(conn: &Arc<ConnInfo>) -> Self {
        if !is_plain(conn) {
            return Self::Full(conn.clone());
        }
        match (&conn.local, &conn.remote, &conn.refusal) {
            (Address::Ip(local), Address::Ip(remote), None) if conn.internal_hops == 0 => match (*local, *remote) {
                (SocketAddr::V4(local), SocketAddr::V4(remote)) => Self::Tcp4 { id: conn.id, local, remote },
                (local, remote) => Self::Tcp(Box::new(Ends { id: conn.id, local, remote })),
            },
            (local @ Address::Internal { .. }, remote, Some(refusal)) if is_internal_client(remote) => {
                let (local, refusal) = (local.clone(), refusal.clone());
                Self::Internal(Box::new(InternalEnd { id: conn.id, local, hops: conn.internal_hops, refusal }))
            }
            _ => Self::Full(conn.clone()),
        }
    }

    /// All of them, of a connection that began at `start`.
    pub(crate) fn full(&self, start: SystemTime) -> Arc<ConnInfo> {
        let tcp = |id, local: SocketAddr, remote: SocketAddr| {
            Arc::new(ConnInfo::started(start, id, local.into(), remote.into()))
        };
        match self {
            Self::Tcp4 { id, local, remote } => tcp(*id, (*local).into(), (*remote).into()),
            Self::Tcp(ends) => tcp(ends.id, ends.local, ends.remote),
            Self::Internal(end) => Arc::new(ConnInfo {
                internal_hops: end.hops,
                refusal: Some(end.refusal.clone()),
                ..ConnInfo::started(start, end.id, end.local.clone(), Address::internal_client())
            }),
            Self::Full(conn) => conn.clone(),
        }
    }
}

/// Facts of our connection to the host.
pub(crate) enum UpstreamFacts {
    /// Plain TCP over IPv4 to the host's own address: the rest follows from the host.
    Tcp4 { id: u64, local: SocketAddrV4 },
    /// The same with any address.
    Tcp(Box<(u64, SocketAddr)>),
    /// The connecting end of an internal connection: the rest follows from the host.
    Internal { id: u64 },
    /// Anything else.
    Full(Arc<ConnInfo>),
}

impl UpstreamFacts {
    pub(crate) fn new(conn: Arc<ConnInfo>, host: &dyn Host) -> Self {
        if !is_plain(&conn) || conn.remote != host.info().address {
            return Self::Full(conn);
        }
        match (&conn.local, &conn.refusal) {
            (Address::Ip(SocketAddr::V4(local)), None) if conn.internal_hops == 0 => {
                Self::Tcp4 { id: conn.id, local: *local }
            }
            (Address::Ip(local), None) if conn.internal_hops == 0 => Self::Tcp(Box::new((conn.id, *local))),
            (local, Some(_)) if is_internal_client(local) => Self::Internal { id: conn.id },
            _ => Self::Full(conn),
        }
    }

    /// The connection's id, our end of it and the far one, and all of its facts where there are more.
    pub(crate) fn ends(&self, host: &dyn Host) -> (u64, Address, Address, Option<Arc<ConnInfo>>) {
        let remote = || host.info().address.clone();
        match self {
            Self::Tcp4 { id, local } => (*id, SocketAddr::V4(*local).into(), remote(), None),
            Self::Tcp(end) => (end.0, end.1.into(), remote(), None),
            Self::Internal { id } => (*id, Address::internal_client(), remote(), None),
            Self::Full(conn) => (conn.id, conn.local.clone(), conn.remote.clone(), Some(conn.clone())),
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
