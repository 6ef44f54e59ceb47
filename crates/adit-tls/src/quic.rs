//! TLS for QUIC, whose handshake is in the QUIC library's hands: it takes a configuration and keeps it.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::Acceptor;

impl Acceptor {
    /// A configuration for QUIC. It asks for the certificates anew at each handshake, so that reloaded files count; what
    /// else is configured stays as it was when this was called.
    pub fn quic_config(self: &Arc<Self>) -> ServerConfig {
        let mut config = ServerConfig::clone(&self.current().with_alpn);
        config.cert_resolver = Arc::new(Live(self.clone()));
        config
    }
}

/// Chooses among the certificates as they are now.
struct Live(Arc<Acceptor>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current().with_alpn.cert_resolver.resolve(hello)
    }
}
