//! The TLS transport socket, both sides: adit-tls behind the seams of listeners and clusters.

use std::sync::Arc;

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3::{DownstreamTlsContext, UpstreamTlsContext};
use adit_config::{Diagnostic, Path, is, unpack};
use adit_filter::BoxFuture;
use adit_filter::upstream::FailureKind;
use adit_io::Io;
use adit_listener::{TransportAcceptor, TransportError as AcceptError};
use adit_stats::Scope;
use adit_tls::{Acceptor, ConnectOptions, Connector, TlsEnv};
use adit_upstream::transport::BuiltTransport;
use adit_upstream::{TransportContext, TransportError, TransportSocketFactory};
use prost_types::Any;

/// The protocols to offer in ALPN, where a filter set them.
const PROTOCOLS_KEY: &str = "envoy.network.application_protocols";

/// The socket of a filter chain whose `typed_config` is `any`, at `path`; `None` if it is no `DownstreamTlsContext`.
/// `scope` is the listener's.
pub(crate) fn downstream(
    any: &Any,
    env: &TlsEnv,
    scope: &Scope,
    path: &Path,
) -> Option<Result<Arc<dyn TransportAcceptor>, Vec<Diagnostic>>> {
    if !is::<DownstreamTlsContext>(any) {
        return None;
    }
    let build = || -> Result<Arc<dyn TransportAcceptor>, Vec<Diagnostic>> {
        let message = unpack(any).map_err(|error| vec![Diagnostic::error(path, error.to_string())])?;
        Ok(Arc::new(Downstream(Acceptor::from_proto(&message, env, scope, path)?)))
    };
    Some(build())
}

/// The socket of a cluster whose `typed_config` is `any`, at `path`; `None` if it is no `UpstreamTlsContext`. `scope` is
/// the cluster's.
pub(crate) fn upstream(any: &Any, env: &TlsEnv, scope: &Scope, path: &Path) -> Option<BuiltTransport> {
    if !is::<UpstreamTlsContext>(any) {
        return None;
    }
    let build = || -> BuiltTransport {
        let message = unpack(any).map_err(|error| vec![Diagnostic::error(path, error.to_string())])?;
        Ok(Arc::new(Upstream(Connector::from_proto(&message, env, scope, path)?)))
    };
    Some(build())
}

struct Downstream(Arc<Acceptor>);

impl TransportAcceptor for Downstream {
    fn accept(&self, io: Io) -> BoxFuture<'_, Result<Io, AcceptError>> {
        Box::pin(async move { self.0.accept(io).await.map_err(|error| AcceptError::new(error.reason)) })
    }
}

pub(super) struct Upstream(pub(super) Arc<Connector>);

pub(super) fn options(ctx: &TransportContext) -> ConnectOptions<'_> {
    ConnectOptions {
        sni: ctx.auto_sni.as_deref(),
        host_name: &ctx.host.info().hostname,
        auto_san: ctx.auto_san_validation,
        verify_name: ctx.verify_name.as_deref(),
        alpn: ctx.alpn,
        alpn_overrides: false,
    }
}

/// The protocols that filter state has us offer, separated by commas.
fn protocols(ctx: &TransportContext) -> Option<&str> {
    ctx.state.text(PROTOCOLS_KEY).filter(|text| !text.is_empty())
}

impl TransportSocketFactory for Upstream {
    fn connect<'a>(&'a self, io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        Box::pin(async move {
            let chosen: Vec<&str> = protocols(ctx).into_iter().flat_map(|text| text.split(',')).collect();
            let mut options = options(ctx);
            if !chosen.is_empty() {
                (options.alpn, options.alpn_overrides) = (&chosen, true);
            }
            let connected = self.0.connect(io, options).await;
            connected.map_err(|error| TransportError { kind: FailureKind::Remote, reason: error.reason, refusal: None })
        })
    }

    fn secure(&self) -> bool {
        true
    }

    /// A connection is for one server name, and what was asked of its certificate was asked for all who use it.
    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        let (name, verify_name, protocols) = (ctx.auto_sni.as_deref(), ctx.verify_name.as_deref(), protocols(ctx));
        if name.is_none() && verify_name.is_none() && protocols.is_none() {
            return None;
        }
        // An empty name is another than none.
        let mut key = vec![u8::from(ctx.auto_san_validation) | u8::from(verify_name.is_some()) << 1];
        for part in [protocols, verify_name, name] {
            let part = part.unwrap_or_default();
            key.extend_from_slice(&(part.len() as u64).to_le_bytes());
            key.extend_from_slice(part.as_bytes());
        }
        Some(key.into())
    }
}

#[cfg(test)]
mod tests;
