//! Transport sockets, from their messages.

mod http_11_proxy;
mod internal_upstream;
mod proxy_tunnel;
mod quic_upstream;
mod tls;

use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_config::proto::envoy::config::core::v3::transport_socket::ConfigType;
use adit_config::proto::envoy::extensions::transport_sockets::http_11_proxy::v3::Http11ProxyUpstreamTransport;
use adit_config::proto::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use adit_config::proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use adit_config::{Diagnostic, Path, is, type_name, unpack};
use adit_listener::TransportAcceptor;
use adit_stats::Scope;
use adit_tls::TlsEnv;
use adit_upstream::TransportBuilder;
use adit_upstream::transport::{BuiltTransport, TransportSite};
use prost_types::Any;

fn unknown(any: &Any, path: &Path) -> Vec<Diagnostic> {
    vec![Diagnostic::error(path, format!("extension {} is not implemented by adit", type_name(any)))]
}

/// The transport socket of a filter chain; `None` for the raw one. `scope` is the listener's.
pub(crate) fn downstream(
    message: &TransportSocket,
    env: &TlsEnv,
    scope: &Scope,
    path: &Path,
) -> Result<Option<Arc<dyn TransportAcceptor>>, Vec<Diagnostic>> {
    let path = path.field("typed_config");
    let Some(ConfigType::TypedConfig(any)) = &message.config_type else {
        return Err(vec![Diagnostic::error(&path, "typed_config is required")]);
    };
    if is::<RawBuffer>(any) {
        return Ok(None);
    }
    tls::downstream(any, env, scope, &path).unwrap_or_else(|| Err(unknown(any, &path))).map(Some)
}

/// The transport sockets of clusters.
pub(crate) struct Upstream(pub(crate) TlsEnv);

impl TransportBuilder for Upstream {
    fn build(
        &self,
        any: &Any,
        path: &Path,
        site: &TransportSite<'_>,
        inner: &dyn Fn(Option<&TransportSocket>, &Path) -> BuiltTransport,
    ) -> Option<BuiltTransport> {
        if let Ok(message) = unpack::<InternalUpstreamTransport>(any) {
            return Some(internal_upstream::InternalUpstream::build(&message, path, site.scope, inner));
        }
        if let Ok(message) = unpack::<Http11ProxyUpstreamTransport>(any) {
            return Some(http_11_proxy::Http11Proxy::build(&message, path, site, inner));
        }
        quic_upstream::upstream(any, &self.0, site.scope, path)
            .or_else(|| tls::upstream(any, &self.0, site.scope, path))
    }
}
