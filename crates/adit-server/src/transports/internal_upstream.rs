//! `internal_upstream`: what an internal listener is told of the connection that comes to it.

use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_config::proto::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use adit_config::proto::envoy::r#type::metadata::v3::metadata_kind::Kind;
use adit_config::{Diagnostic, Path};
use adit_filter::BoxFuture;
use adit_io::{Address, FilterState, Io, Metadata};
use adit_stats::{Counter, Scope};
use adit_upstream::transport::{BuiltTransport, shared_state_key};
use adit_upstream::{TransportContext, TransportError, TransportSocketFactory};

/// Passes metadata and shared filter state to an internal listener, and hands over to the inner socket.
pub(crate) struct InternalUpstream {
    sources: Vec<Source>,
    no_metadata: Counter,
    inner: Arc<dyn TransportSocketFactory>,
}

/// One of `passthrough_metadata`.
struct Source {
    of: Owner,
    name: Box<str>,
}

enum Owner {
    Host,
    Cluster,
}

impl InternalUpstream {
    /// From its message at `path`; `scope` is the cluster's.
    pub(crate) fn build(
        message: &InternalUpstreamTransport,
        path: &Path,
        scope: &Scope,
        inner: &dyn Fn(Option<&TransportSocket>, &Path) -> BuiltTransport,
    ) -> BuiltTransport {
        let mut problems = Vec::new();
        let mut sources = Vec::new();
        for (index, source) in message.passthrough_metadata.iter().enumerate() {
            let at = path.item("passthrough_metadata", index).field("kind");
            let kind = source.kind.as_ref().and_then(|kind| kind.kind.as_ref());
            let of = match kind {
                Some(Kind::Host(_)) => Owner::Host,
                Some(Kind::Cluster(_)) => Owner::Cluster,
                Some(Kind::Request(_)) => {
                    problems.push(unsupported(&at, "request"));
                    continue;
                }
                Some(Kind::Route(_)) => {
                    problems.push(unsupported(&at, "route"));
                    continue;
                }
                None => {
                    problems.push(Diagnostic::error(&at, "value is required"));
                    continue;
                }
            };
            sources.push(Source { of, name: source.name.as_str().into() });
        }
        let at = path.field("transport_socket");
        let inner = match &message.transport_socket {
            Some(socket) => inner(Some(socket), &at).map_err(|found| problems.extend(found)).ok(),
            None => {
                problems.push(Diagnostic::error(&at, "value is required"));
                None
            }
        };
        match inner {
            Some(inner) if problems.is_empty() => {
                let no_metadata = scope.scope("internal_upstream").counter("no_metadata");
                Ok(Arc::new(Self { sources, no_metadata, inner }))
            }
            _ => Err(problems),
        }
    }
}

fn unsupported(path: &Path, kind: &str) -> Diagnostic {
    Diagnostic::error(path, format!("metadata type is not supported: {kind} {{}}"))
}

impl TransportSocketFactory for InternalUpstream {
    fn connect<'a>(&'a self, io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        if self.inner.is_raw() { Box::pin(std::future::ready(Ok(io))) } else { self.inner.connect(io, ctx) }
    }

    fn secure(&self) -> bool {
        self.inner.secure()
    }

    fn dial_address(&self, ctx: &TransportContext) -> Option<Address> {
        self.inner.dial_address(ctx)
    }

    fn passes_on(&self, ctx: &TransportContext) -> (FilterState, Metadata) {
        let (mut state, mut metadata) = self.inner.passes_on(ctx);
        for source in &self.sources {
            let found = match source.of {
                Owner::Host => &ctx.host.info().metadata,
                Owner::Cluster => &ctx.cluster_metadata,
            };
            match found.get(&source.name) {
                Some(value) => metadata.set(&source.name, value.clone()),
                None => self.no_metadata.inc(),
            }
        }
        if state.is_empty() {
            state = ctx.state.shared_with_upstream();
        }
        (state, metadata)
    }

    /// Host and cluster are those of the pool already; the state is the client's.
    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        match (shared_state_key(&ctx.state), self.inner.pool_key(ctx)) {
            (None, inner) => inner.map(|inner| [&[0][..], &inner].concat().into()),
            (Some(own), None) => Some([&[1][..], &own].concat().into()),
            (Some(own), Some(inner)) => {
                let length = (own.len() as u64).to_le_bytes();
                Some([&[2][..], &length, &own, &inner].concat().into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
