//! What is known of a connection, for filters, formats and logs.

use std::sync::Arc;
use std::time::SystemTime;

use crate::{Address, RefusalSlot};

/// Facts about one connection. Filled by who accepts or dials it; read by everyone after.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// `%CONNECTION_ID%`: unique in this process, from 1.
    pub id: u64,
    /// Our end (`%DOWNSTREAM_LOCAL_ADDRESS%`); the original destination where a listener filter restored it.
    pub local: Address,
    /// The peer (`%DOWNSTREAM_REMOTE_ADDRESS%`), as the PROXY protocol told it if it did.
    pub remote: Address,
    /// The peer of the socket itself (`%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%`); `None` when the same as `remote`.
    pub direct_remote: Option<Box<Address>>,
    /// When the connection was accepted or dialled.
    pub start: SystemTime,
    /// Server name asked for in TLS (`%REQUESTED_SERVER_NAME%`), by handshake or by the TLS inspector.
    pub server_name: Option<Box<str>>,
    /// Application protocols offered, by the TLS or the HTTP inspector.
    pub offered_alpn: Vec<Box<str>>,
    /// `raw_buffer`, `tls` or `quic`: what a listener filter found, or the transport socket is.
    pub transport: &'static str,
    /// The finished TLS handshake.
    pub tls: Option<Arc<TlsInfo>>,
    /// How many internal listeners this connection's bytes have crossed (the loop guard).
    pub internal_hops: u8,
    /// On both ends of an internal connection: whether the accepting end took it, and why not.
    pub refusal: Option<RefusalSlot>,
}

impl ConnInfo {
    /// Facts of a plain connection that begins now.
    pub fn new(id: u64, local: Address, remote: Address) -> Self {
        Self::started(SystemTime::now(), id, local, remote)
    }

    /// Facts of a plain connection that began then.
    pub fn started(start: SystemTime, id: u64, local: Address, remote: Address) -> Self {
        Self {
            id,
            local,
            remote,
            direct_remote: None,
            start,
            server_name: None,
            offered_alpn: Vec::new(),
            transport: "raw_buffer",
            tls: None,
            internal_hops: 0,
            refusal: None,
        }
    }

    /// The peer of the socket itself.
    pub fn direct_remote(&self) -> &Address {
        self.direct_remote.as_deref().unwrap_or(&self.remote)
    }

    /// The next `%CONNECTION_ID%`.
    pub fn next_id() -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a TLS handshake settled.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite under OpenSSL's name, as Envoy prints it.
    pub cipher: Box<str>,
    /// The protocol that ALPN chose.
    pub alpn: Option<Box<str>>,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// The peer's certificates in DER, leaf first.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The peer's certificates were verified.
    pub peer_validated: bool,
    /// Our own leaf certificate in DER.
    pub local_certificate: Option<Vec<u8>>,
}
