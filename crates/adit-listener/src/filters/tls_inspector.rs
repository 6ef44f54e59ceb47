//! Finds out whether a connection speaks TLS, and what it asks for (`envoy.filters.listener.tls_inspector`).

use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::listener::tls_inspector::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_filter::{BoxFuture, ListenerFilter, ListenerFilterVerdict};
use adit_io::Io;
use adit_stats::{Counter, Histogram, Scope};
use adit_tls::{ClientHello, Inspect, inspect_client_hello};

/// `max_client_hello_size` where it is absent, and the most it may be: 16 KiB.
const MAX_HELLO: usize = 16 << 10;
/// The least that `initial_read_buffer_size` may ask for, as in Envoy.
const LEAST_BUFFER: u32 = 256;

/// Reads ahead for a ClientHello, and leaves its server name and application protocols for `filter_chain_match`.
pub struct TlsInspector {
    max_hello: usize,
    /// How much the first read asks for.
    initial: usize,
    close_on_errors: bool,
    client_hello_too_large: Counter,
    tls_found: Counter,
    tls_not_found: Counter,
    alpn_found: Counter,
    alpn_not_found: Counter,
    sni_found: Counter,
    sni_not_found: Counter,
    bytes_processed: Histogram,
}

impl TlsInspector {
    /// From its message; counts at `tls_inspector.` below `scope`.
    pub fn from_proto(message: &pb::TlsInspector, scope: &Scope, path: &Path) -> Result<Self, Diagnostic> {
        for (field, set) in [
            ("enable_ja3_fingerprinting", message.enable_ja3_fingerprinting == Some(true)),
            ("enable_ja4_fingerprinting", message.enable_ja4_fingerprinting == Some(true)),
        ] {
            if set {
                return Err(Diagnostic::error(path.field(field), "not supported"));
            }
        }
        let max_hello = message.max_client_hello_size.map_or(MAX_HELLO, |size| size as usize).clamp(1, MAX_HELLO);
        let initial = message.initial_read_buffer_size.map_or(max_hello, |size| size.max(LEAST_BUFFER) as usize);
        let scope = scope.scope("tls_inspector");
        Ok(Self {
            max_hello,
            initial: initial.min(max_hello),
            close_on_errors: message.close_connection_on_client_hello_parsing_errors,
            client_hello_too_large: scope.counter("client_hello_too_large"),
            tls_found: scope.counter("tls_found"),
            tls_not_found: scope.counter("tls_not_found"),
            alpn_found: scope.counter("alpn_found"),
            alpn_not_found: scope.counter("alpn_not_found"),
            sni_found: scope.counter("sni_found"),
            sni_not_found: scope.counter("sni_not_found"),
            bytes_processed: scope.histogram("bytes_processed"),
        })
    }

    async fn look(&self, io: &mut Io) -> ListenerFilterVerdict {
        let mut seen = 0;
        let mut most = self.initial;
        loop {
            let Ok(ahead) = io.fill(seen + 1, most).await else { return ListenerFilterVerdict::RemoteClose };
            match inspect_client_hello(ahead) {
                Inspect::NeedMore if ahead.len() >= self.max_hello => {
                    self.client_hello_too_large.inc();
                    return ListenerFilterVerdict::Error;
                }
                Inspect::NeedMore if ahead.len() > seen => {
                    seen = ahead.len();
                    most = if seen < most { most } else { (most * 2).min(self.max_hello) };
                }
                Inspect::NeedMore => return ListenerFilterVerdict::RemoteClose,
                Inspect::Hello(hello) => {
                    self.bytes_processed.record(ahead.len() as u64);
                    self.found(io, hello);
                    return ListenerFilterVerdict::Continue;
                }
                Inspect::NotTls | Inspect::Malformed => {
                    self.bytes_processed.record(ahead.len() as u64);
                    self.tls_not_found.inc();
                    let close = self.close_on_errors;
                    return if close { ListenerFilterVerdict::Error } else { ListenerFilterVerdict::Continue };
                }
            }
        }
    }

    fn found(&self, io: &mut Io, hello: ClientHello) {
        self.tls_found.inc();
        if hello.server_name.is_some() {
            self.sni_found.inc()
        } else {
            self.sni_not_found.inc()
        }
        if hello.alpn.is_empty() {
            self.alpn_not_found.inc()
        } else {
            self.alpn_found.inc()
        }
        let info = Arc::make_mut(&mut io.info);
        info.transport = "tls";
        info.server_name = hello.server_name;
        info.offered_alpn = hello.alpn;
    }
}

impl ListenerFilter for TlsInspector {
    fn accept<'a>(&'a self, io: &'a mut Io) -> BoxFuture<'a, ListenerFilterVerdict> {
        Box::pin(self.look(io))
    }
}

#[cfg(test)]
mod tests;
