//! Transport sockets: what runs between the network and the codec. TLS and others plug in here.

use std::fmt;
use std::sync::Arc;

use adit_config::proto::envoy::config::cluster::v3::Cluster;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::extensions::transport_sockets as pb;
use adit_config::{Diagnostic, Path, unpack};
use adit_filter::BoxFuture;
use adit_filter::upstream::{Clusters, FailureKind, Host};
use adit_h3::endpoint::{ClientSetup, QuicOptions};
use adit_io::{Address, ConnInfo, FilterState, FilterValue, Io, Metadata, TlsInfo};
use adit_stats::Scope;
use http::StatusCode;

use crate::proxy_protocol::ProxyProtocol;

/// Makes the transport socket of upstream connections; one for each configured `transport_socket`.
pub trait TransportSocketFactory: Send + Sync {
    /// Does the handshake over a connected stream. The caller bounds it by `connect_timeout`; dropped, it gives up.
    /// The result's `info` says what was settled ([`adit_io::TlsInfo::alpn`] chooses the HTTP version).
    fn connect<'a>(&'a self, io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>>;

    /// Whether it encrypts.
    fn secure(&self) -> bool;

    /// Whether a connected stream is used as it is: [`TransportSocketFactory::connect`] is never called.
    fn is_raw(&self) -> bool {
        false
    }

    /// QUIC's side of it (`QuicUpstreamTransport`), by which HTTP/3 is dialled. [`TransportSocketFactory::connect`] serves
    /// what is not HTTP/3.
    fn quic(&self) -> Option<&dyn QuicTransport> {
        None
    }

    /// Makes the whole connection where it is a stream of another cluster's (`http_11_proxy` with a cluster): then nothing is
    /// dialled, and [`TransportSocketFactory::connect`] is not called. Bounded like that.
    fn through<'a>(&'a self, ctx: &'a TransportContext) -> Option<BoxFuture<'a, Result<Io, TransportError>>> {
        let _ = ctx;
        None
    }

    /// Where to dial instead of the host: a proxy in between (`http_11_proxy`).
    fn dial_address(&self, ctx: &TransportContext) -> Option<Address> {
        let _ = ctx;
        None
    }

    /// What an internal listener is given with the connection (`internal_upstream`).
    fn passes_on(&self, ctx: &TransportContext) -> (FilterState, Metadata) {
        let _ = ctx;
        (FilterState::default(), Metadata::default())
    }

    /// What of the context goes into the connection, so that it may be shared only by streams for which this is equal;
    /// `None` when nothing does.
    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        let _ = ctx;
        None
    }
}

/// What QUIC, which does its own handshake, needs of a transport socket.
pub trait QuicTransport: Send + Sync {
    /// The server name that is asked for; `None` asks for none.
    fn server_name<'a>(&'a self, ctx: &'a TransportContext) -> Option<&'a str>;

    /// How to shake hands on a connection of which `info` is known.
    fn setup(
        &self,
        ctx: &TransportContext,
        info: &ConnInfo,
        options: &QuicOptions,
    ) -> Result<ClientSetup, TransportError>;

    /// A handshake is done: counts it, and adds to `tls` what only the configuration knows.
    fn done(&self, ctx: &TransportContext, tls: &mut TlsInfo);

    /// A handshake failed with these words: counts it; `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    fn failed(&self, reason: &str) -> String;
}

/// What a transport socket may use of the host and of whoever asked for the connection. Cheap to clone.
#[derive(Clone)]
pub struct TransportContext {
    /// The host.
    pub host: Arc<dyn Host>,
    /// The cluster's metadata (`internal_upstream` passes it on).
    pub cluster_metadata: Metadata,
    /// All clusters of the worker; `None` off the workers (health checks).
    pub clusters: Option<Arc<dyn Clusters>>,
    /// The downstream connection.
    pub downstream: Option<Arc<ConnInfo>>,
    /// Filter state of the stream or connection.
    pub state: FilterState,
    /// Dynamic metadata of the stream or connection.
    pub metadata: Metadata,
    /// The server name that filter state `envoy.network.upstream_server_name` names, or that `auto_sni` derived from the request.
    pub auto_sni: Option<Box<str>>,
    /// `auto_san_validation`: the certificate must be for `verify_name`.
    pub auto_san_validation: bool,
    /// The host of the request, whatever filter state says; `None` where there is no request, and the server name stands for it.
    pub verify_name: Option<Box<str>>,
    /// What to offer in ALPN unless the socket's own configuration lists protocols.
    pub alpn: &'static [&'static str],
}

/// Why a handshake failed.
#[derive(Debug, Clone)]
pub struct TransportError {
    /// Which of Envoy's cases it is.
    pub kind: FailureKind,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub reason: String,
    /// What a proxy in between answered instead of opening the way.
    pub refusal: Option<StatusCode>,
}

impl TransportError {
    /// The peer's fault.
    pub fn remote(reason: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Remote, reason: reason.to_string(), refusal: None }
    }

    /// Our own fault.
    pub fn local(reason: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Local, reason: reason.to_string(), refusal: None }
    }
}

/// Where a transport socket is configured.
pub struct TransportSite<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// `cluster.<name>.`
    pub scope: &'a Scope,
    /// The cluster, for options that stand beside the socket.
    pub cluster_message: &'a Cluster,
}

/// Builds the transport sockets that this crate does not know.
pub trait TransportBuilder: Send + Sync {
    /// The socket of this configuration; `None` when the type is unknown.
    fn build(
        &self,
        any: &prost_types::Any,
        path: &Path,
        site: &TransportSite<'_>,
        inner: &dyn Fn(Option<&core::TransportSocket>, &Path) -> BuiltTransport,
    ) -> Option<BuiltTransport>;
}

/// A built transport socket, or what is wrong with its configuration.
pub type BuiltTransport = Result<Arc<dyn TransportSocketFactory>, Vec<Diagnostic>>;

/// A builder that knows nothing beyond this crate's own sockets.
pub struct NoTransports;

impl TransportBuilder for NoTransports {
    fn build(
        &self,
        _any: &prost_types::Any,
        _path: &Path,
        _site: &TransportSite<'_>,
        _inner: &dyn Fn(Option<&core::TransportSocket>, &Path) -> BuiltTransport,
    ) -> Option<BuiltTransport> {
        None
    }
}

/// Builds a transport socket; none is `raw_buffer`.
pub(crate) fn build(
    socket: Option<&core::TransportSocket>,
    path: &Path,
    site: &TransportSite<'_>,
    builder: &dyn TransportBuilder,
) -> BuiltTransport {
    let Some(socket) = socket else { return Ok(Arc::new(RawBuffer)) };
    let path = path.field("typed_config");
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        if matches!(socket.name.as_str(), "envoy.transport_sockets.raw_buffer" | "raw_buffer") {
            return Ok(Arc::new(RawBuffer));
        }
        return Err(vec![Diagnostic::error(&path, "value is required")]);
    };
    let inner = |socket: Option<&core::TransportSocket>, path: &Path| build(socket, path, site, builder);
    if adit_config::is::<pb::raw_buffer::v3::RawBuffer>(any) {
        return Ok(Arc::new(RawBuffer));
    }
    if let Ok(message) = unpack::<pb::proxy_protocol::v3::ProxyProtocolUpstreamTransport>(any) {
        return ProxyProtocol::build(&message, &path, &inner);
    }
    builder.build(any, &path, site, &inner).unwrap_or_else(|| {
        let message = format!("transport socket {} is not supported", adit_config::type_name(any));
        Err(vec![Diagnostic::error(&path, message)])
    })
}

/// `raw_buffer`: nothing between the network and the codec.
pub struct RawBuffer;

impl TransportSocketFactory for RawBuffer {
    fn connect<'a>(&'a self, io: Io, _ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        Box::pin(async move { Ok(io) })
    }

    fn secure(&self) -> bool {
        false
    }

    fn is_raw(&self) -> bool {
        true
    }
}

/// The objects that travel to the next internal hop, as a pool's key: equal for equal state, and never equal for two
/// objects of which equality cannot be told.
pub fn shared_state_key(state: &FilterState) -> Option<Box<[u8]>> {
    let shared = state.shared_with_upstream();
    if shared.is_empty() {
        return None;
    }
    let mut key = Vec::new();
    let mut put = |bytes: &[u8]| {
        key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        key.extend_from_slice(bytes);
    };
    for (name, object) in shared.iter() {
        put(name.as_bytes());
        let sharing = object.sharing as u8;
        match &object.value {
            FilterValue::Text(text) => {
                put(&[sharing, 0]);
                put(text.as_bytes());
            }
            FilterValue::Bool(value) => put(&[sharing, 1, u8::from(*value)]),
            FilterValue::Number(value) => {
                put(&[sharing, 2]);
                put(&value.to_le_bytes());
            }
            FilterValue::Address(address) => {
                // A pipe may be named like anything.
                put(&[sharing, 3, u8::from(address.ip().is_some()), u8::from(matches!(address, Address::Pipe(_)))]);
                put(address.to_string().as_bytes());
            }
            FilterValue::Headers(headers) => {
                put(&[sharing, 4]);
                put(&(headers.len() as u64).to_le_bytes());
                for (name, value) in headers.iter() {
                    put(name.as_bytes());
                    put(value.as_bytes());
                }
            }
            // Never equal, not even to itself: an address may be used again by another object.
            FilterValue::Any(_) => {
                put(&[sharing, 5]);
                put(&ConnInfo::next_id().to_le_bytes());
            }
        }
    }
    Some(key.into())
}
