//! QUIC endpoints: one per worker on each side, and the connections they give.

mod client;
mod options;
mod server;
mod steer;

pub use client::{ClientEndpoint, ClientSetup, ConnectFailure, Connecting};
pub use options::{OptionsError, QuicOptions};
pub use server::{Admission, Handshake, HandshakeFailure, ServerEndpoint, ServerSetup};
pub use steer::Steering;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use adit_http::ErrorCode;
use adit_io::TlsInfo;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;

use crate::error;

/// One QUIC connection, either side. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct QuicConnection(pub(crate) quinn::Connection);

impl QuicConnection {
    /// The peer's address now; it changes when the peer migrates.
    pub fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Our address that the peer sends to, where the system tells it (a socket bound to a wildcard address has many).
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.0.local_ip()
    }

    /// The server name that the client asked for.
    pub fn server_name(&self) -> Option<Box<str>> {
        Some(self.handshake_data()?.server_name?.into())
    }

    /// What the TLS handshake settled. quinn does not tell the cipher, nor whether the session was resumed.
    pub fn tls_info(&self) -> TlsInfo {
        let alpn = self.handshake_data().and_then(|data| data.protocol);
        let chain = self.0.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let peer_certificates: Vec<_> = chain.iter().flat_map(|chain| chain.iter()).map(|der| der.to_vec()).collect();
        TlsInfo {
            version: "TLSv1.3",
            alpn: alpn.and_then(|alpn| String::from_utf8(alpn).ok()).map(Into::into),
            peer_validated: !peer_certificates.is_empty(),
            peer_certificates,
            ..TlsInfo::default()
        }
    }

    /// The round-trip time as it is estimated now.
    pub fn rtt(&self) -> Duration {
        self.0.rtt()
    }

    /// Closes the connection at once, with everything on it.
    pub fn close(&self, code: ErrorCode) {
        self.0.close(error::wire(code), b"");
    }

    fn handshake_data(&self) -> Option<HandshakeData> {
        self.0.handshake_data()?.downcast().ok().map(|data| *data)
    }
}

#[cfg(test)]
mod tests;
