//! `QuicUpstreamTransport`: adit-tls behind the QUIC seam of clusters. What is not HTTP/3 goes by TLS over TCP, as in Envoy.

use std::sync::Arc;

use adit_config::proto::envoy::extensions::transport_sockets::quic::v3::QuicUpstreamTransport;
use adit_config::{Diagnostic, Path, is, unpack};
use adit_filter::BoxFuture;
use adit_h3::endpoint::{ClientSetup, QuicOptions};
use adit_io::{Address, ConnInfo, Io, TlsInfo};
use adit_stats::Scope;
use adit_tls::{ConnectOptions, Connector, TlsEnv};
use adit_upstream::transport::BuiltTransport;
use adit_upstream::{QuicTransport, TransportContext, TransportError, TransportSocketFactory};
use prost_types::Any;

use super::tls;

/// The socket of a cluster whose `typed_config` is `any`, at `path`; `None` if it is no `QuicUpstreamTransport`. `scope` is
/// the cluster's.
pub(crate) fn upstream(any: &Any, env: &TlsEnv, scope: &Scope, path: &Path) -> Option<BuiltTransport> {
    is::<QuicUpstreamTransport>(any).then(|| build(any, env, scope, path))
}

fn build(any: &Any, env: &TlsEnv, scope: &Scope, path: &Path) -> BuiltTransport {
    let message: QuicUpstreamTransport =
        unpack(any).map_err(|error| vec![Diagnostic::error(path, error.to_string())])?;
    let path = path.field("upstream_tls_context");
    let Some(context) = &message.upstream_tls_context else {
        return Err(vec![Diagnostic::error(path, "value is required")]);
    };
    let connector = Connector::from_proto(context, env, scope, &path)?;
    let quic = Quic { tls: tls::Upstream(connector.clone()), connector };
    // What can be known of a handshake before there is one.
    let nobody = ConnInfo::new(0, Address::Pipe("".into()), Address::Pipe("".into()));
    match quic.setup_with(&ConnectOptions::default(), &nobody, &QuicOptions::default()) {
        Ok(_) => Ok(Arc::new(quic)),
        Err(error) => Err(vec![Diagnostic::error(path, error.reason)]),
    }
}

struct Quic {
    connector: Arc<Connector>,
    tls: tls::Upstream,
}

impl Quic {
    fn setup_with(
        &self,
        tls: &ConnectOptions<'_>,
        info: &ConnInfo,
        options: &QuicOptions,
    ) -> Result<ClientSetup, TransportError> {
        let config = self.connector.quic_config(tls, info).map_err(|error| TransportError::local(error.reason))?;
        ClientSetup::new(&config, options).map_err(TransportError::local)
    }
}

impl TransportSocketFactory for Quic {
    fn connect<'a>(&'a self, io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        self.tls.connect(io, ctx)
    }

    fn secure(&self) -> bool {
        true
    }

    fn quic(&self) -> Option<&dyn QuicTransport> {
        Some(self)
    }

    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        self.tls.pool_key(ctx)
    }
}

impl QuicTransport for Quic {
    fn server_name<'a>(&'a self, ctx: &'a TransportContext) -> Option<&'a str> {
        self.connector.server_name(&tls::options(ctx))
    }

    fn setup(
        &self,
        ctx: &TransportContext,
        info: &ConnInfo,
        options: &QuicOptions,
    ) -> Result<ClientSetup, TransportError> {
        self.setup_with(&tls::options(ctx), info, options)
    }

    fn done(&self, ctx: &TransportContext, tls: &mut TlsInfo) {
        self.connector.quic_done(&tls::options(ctx), tls);
    }

    fn failed(&self, reason: &str) -> String {
        self.connector.quic_failed(reason).reason
    }
}
