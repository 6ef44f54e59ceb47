//! Listener filters, and when each is left out.

mod http_inspector;
mod original_dst;
mod predicate;
mod proxy_header;
mod proxy_protocol;
mod tls_inspector;

use std::sync::Arc;

use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::proto::envoy::extensions::filters::listener::http_inspector::v3 as http_pb;
use adit_config::proto::envoy::extensions::filters::listener::original_dst::v3 as original_dst_pb;
use adit_config::proto::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy_pb;
use adit_config::proto::envoy::extensions::filters::listener::tls_inspector::v3 as tls_pb;
use adit_config::{Diagnostic, Path, is, unpack};
use adit_filter::ListenerFilter;
use adit_stats::Scope;
use pb::listener_filter::ConfigType;

pub use http_inspector::{HttpInspector, HttpKind, inspect_http};
pub use original_dst::OriginalDst;
pub use proxy_header::{Command, HeaderError, Progress, ProxyHeader, Tlv, Version, parse_proxy_header};
pub use proxy_protocol::ProxyProtocol;
pub use tls_inspector::TlsInspector;

pub(crate) use predicate::Predicate;

use crate::Factories;

/// A listener filter as configured.
pub(crate) struct FilterEntry {
    pub(crate) filter: Arc<dyn ListenerFilter>,
    /// `filter_disabled`
    pub(crate) disabled: Option<Predicate>,
}

/// From a list at `path`.
pub(crate) fn list(
    messages: &[pb::ListenerFilter],
    factories: &dyn Factories,
    scope: &Scope,
    path: &Path,
) -> Result<Vec<FilterEntry>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut entries = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        match entry(message, factories, scope, &path.index(index)) {
            Ok(entry) => entries.push(entry),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

fn entry(
    message: &pb::ListenerFilter,
    factories: &dyn Factories,
    scope: &Scope,
    path: &Path,
) -> Result<FilterEntry, Vec<Diagnostic>> {
    let one = |problem: Diagnostic| vec![problem];
    let disabled = match &message.filter_disabled {
        Some(predicate) => Some(Predicate::from_proto(predicate, &path.field("filter_disabled")).map_err(one)?),
        None => None,
    };
    let Some(ConfigType::TypedConfig(config)) = &message.config_type else {
        return Err(vec![Diagnostic::error(path.field("typed_config"), "value is required")]);
    };
    let path = path.field("typed_config");
    let damaged = |error: adit_config::UnpackError| vec![Diagnostic::error(&path, error.to_string())];
    let root = factories.stats();
    let filter: Arc<dyn ListenerFilter> = if is::<http_pb::HttpInspector>(config) {
        Arc::new(HttpInspector::new(root))
    } else if is::<original_dst_pb::OriginalDst>(config) {
        Arc::new(OriginalDst)
    } else if is::<proxy_pb::ProxyProtocol>(config) {
        let message: proxy_pb::ProxyProtocol = unpack(config).map_err(damaged)?;
        Arc::new(ProxyProtocol::from_proto(&message, root, &path).map_err(one)?)
    } else if is::<tls_pb::TlsInspector>(config) {
        let message: tls_pb::TlsInspector = unpack(config).map_err(damaged)?;
        Arc::new(TlsInspector::from_proto(&message, root, &path).map_err(one)?)
    } else {
        match factories.listener_filter(config, scope, &path) {
            Some(filter) => filter?,
            None => {
                let name = adit_config::type_name(config);
                return Err(vec![Diagnostic::error(&path, format!("listener filter {name} is not supported"))]);
            }
        }
    };
    Ok(FilterEntry { filter, disabled })
}
