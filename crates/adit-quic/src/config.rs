//! A listener's message becomes a [`QuicListener`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::config::core::v3::transport_socket::ConfigType;
use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use adit_config::proto::envoy::extensions::transport_sockets::quic::v3::QuicDownstreamTransport;
use adit_config::{Diagnostic, Path, unpack};
use adit_filter::AccessLog;
use adit_h3::endpoint::{Admission, QuicOptions};
use adit_hcm::Hcm;
use adit_stats::Scope;
use adit_tls::{Acceptor, TlsEnv};

use crate::QuicListener;
use crate::stats::QuicStats;

/// Makes what a QUIC listener is built from and does not know itself. Errors carry the full path.
pub trait Factories {
    /// The connection manager of a QUIC listener.
    fn connection_manager(
        &self,
        message: &HttpConnectionManager,
        scope: &Scope,
        path: &Path,
    ) -> Result<Arc<Hcm>, Vec<Diagnostic>>;

    /// Access logs.
    fn access_logs(
        &self,
        messages: &[AccessLogMessage],
        path: &Path,
    ) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>>;

    /// Secrets and the watch over certificate files.
    fn tls(&self) -> &TlsEnv;

    /// How many workers there are.
    fn workers(&self) -> usize;
}

type Found<T> = Result<T, Vec<Diagnostic>>;

fn refuse<T>(path: &Path, text: impl Into<String>) -> Found<T> {
    Err(vec![Diagnostic::error(path, text.into())])
}

impl QuicListener {
    /// From the listener's message, at `path`; counts below `scope`, the listener's.
    pub fn from_proto(
        message: &pb::Listener,
        factories: &dyn Factories,
        scope: &Scope,
        path: &Path,
    ) -> Found<Arc<Self>> {
        let (chain, at) = match (message.filter_chains.as_slice(), &message.default_filter_chain) {
            ([chain], None) => (chain, path.item("filter_chains", 0)),
            ([], Some(chain)) => (chain, path.field("default_filter_chain")),
            _ => return refuse(&path.field("filter_chains"), "a QUIC listener needs exactly one filter chain in adit"),
        };
        if chain.filter_chain_match.as_ref().is_some_and(|matches| *matches != pb::FilterChainMatch::default()) {
            let text = "matching filter chains of a QUIC listener is not implemented by adit";
            return refuse(&at.field("filter_chain_match"), text);
        }
        if !message.listener_filters.is_empty() {
            return refuse(&path.field("listener_filters"), "a QUIC listener has no listener filters in adit");
        }
        let workers = u8::try_from(factories.workers())
            .or_else(|_| refuse(path, "a QUIC listener serves at most 255 workers"))?;
        let tls = transport(chain, factories, scope, &at)?;
        let hcm = connection_manager(chain, factories, scope, &at)?;
        if hcm.http3().is_none() {
            return refuse(&at.field("filters"), "Non-HTTP/3 codec configured on QUIC listener.");
        }
        let udp = message.udp_listener_config.clone().unwrap_or_default();
        let socket = udp.downstream_socket_config.unwrap_or_default();
        let socket_at = path.field("udp_listener_config").field("downstream_socket_config");
        if socket.max_rx_datagram_size.is_some() {
            return refuse(&socket_at.field("max_rx_datagram_size"), "not implemented by adit for QUIC listeners");
        }
        if socket.prefer_gro == Some(false) {
            return refuse(
                &socket_at.field("prefer_gro"),
                "a QUIC listener receives coalesced datagrams wherever the system can",
            );
        }
        let options = udp.quic_options.unwrap_or_default();
        let (options, admission) = quic_options(&options, &path.field("udp_listener_config").field("quic_options"))?;
        Ok(Arc::new(Self {
            chain_name: (!chain.name.is_empty()).then(|| chain.name.as_str().into()),
            tls,
            hcm,
            options,
            admission,
            access_logs: factories.access_logs(&message.access_log, &path.field("access_log"))?,
            stats: QuicStats::new(scope),
            workers,
            setup: OnceLock::new(),
        }))
    }
}

fn transport(chain: &pb::FilterChain, factories: &dyn Factories, scope: &Scope, at: &Path) -> Found<Arc<Acceptor>> {
    let at = at.field("transport_socket").field("typed_config");
    let Some(ConfigType::TypedConfig(any)) =
        chain.transport_socket.as_ref().and_then(|socket| socket.config_type.as_ref())
    else {
        return refuse(
            &at,
            "wrong transport socket config type specified for quic transport socket: QuicDownstreamTransport is required",
        );
    };
    let message: QuicDownstreamTransport = unpack(any).or_else(|error| refuse(&at, error.to_string()))?;
    let Some(context) = &message.downstream_tls_context else {
        return refuse(&at.field("downstream_tls_context"), "value is required");
    };
    Acceptor::from_proto(context, factories.tls(), scope, &at.field("downstream_tls_context"))
}

fn connection_manager(chain: &pb::FilterChain, factories: &dyn Factories, scope: &Scope, at: &Path) -> Found<Arc<Hcm>> {
    use pb::filter::ConfigType;
    let [filter] = chain.filters.as_slice() else {
        return refuse(&at.field("filters"), "a QUIC listener has one filter in adit: the HTTP connection manager");
    };
    let at = at.item("filters", 0).field("typed_config");
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return refuse(&at, "typed_config is required");
    };
    let message: HttpConnectionManager = unpack(any).or_else(|error| refuse(&at, error.to_string()))?;
    factories.connection_manager(&message, scope, &at)
}

fn quic_options(message: &pb::QuicProtocolOptions, path: &Path) -> Found<(QuicOptions, Admission)> {
    let mut options = message.quic_protocol_options.as_ref().map(QuicOptions::from).unwrap_or_default();
    if let Some(idle) = &message.idle_timeout {
        options.idle_timeout = adit_config::duration(idle);
    }
    let mut admission = Admission::default();
    if let Some(timeout) = &message.crypto_handshake_timeout {
        admission.handshake_timeout = adit_config::duration(timeout).max(Duration::from_millis(1));
    }
    if message.reject_new_connections {
        return refuse(&path.field("reject_new_connections"), "true is not implemented by adit");
    }
    Ok((options, admission))
}
