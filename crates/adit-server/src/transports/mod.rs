//! Transport sockets, from their messages.

mod internal_upstream;

use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_config::proto::envoy::config::core::v3::transport_socket::ConfigType;
use adit_config::proto::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use adit_config::proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use adit_config::{Diagnostic, Path, is, type_name, unpack};
use adit_filter::ListenerFilter;
use adit_listener::TransportAcceptor;
use adit_stats::Scope;
use adit_upstream::transport::{BuiltTransport, TransportSite};
use adit_upstream::TransportBuilder;
use prost_types::Any;

fn unknown(any: &Any, path: &Path) -> Vec<Diagnostic> {
    vec![Diagnostic::error(path, format!("extension {} is not implemented by adit", type_name(any)))]
}

/// The transport socket of a filter chain; `None` for the raw one.
pub(crate) fn downstream(
    message: &TransportSocket,
    _scope: &Scope,
    path: &Path,
) -> Result<Option<Arc<dyn TransportAcceptor>>, Vec<Diagnostic>> {
    let path = path.field("typed_config");
    let Some(ConfigType::TypedConfig(any)) = &message.config_type else {
        return Err(vec![Diagnostic::error(&path, "typed_config is required")]);
    };
    if is::<RawBuffer>(any) { Ok(None) } else { Err(unknown(any, &path)) }
}

/// A listener filter that adit-listener does not know.
pub(crate) fn listener_filter(
    _config: &Any,
    _scope: &Scope,
    _path: &Path,
) -> Option<Result<Arc<dyn ListenerFilter>, Vec<Diagnostic>>> {
    None
}

/// The transport sockets of clusters.
pub(crate) struct Upstream;

impl Upstream {
    pub(crate) fn new(_secrets: &[Secret]) -> Self {
        Self
    }
}

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
        None
    }
}
