//! A listener's configuration, read once (`envoy.config.listener.v3.Listener`).

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use adit_config::proto::envoy::config::listener::v3 as pb;

use adit_config::{Diagnostic, Path};
use adit_filter::{AccessLog, ListenerFilter, ListenerInfo, QuicFilter, UdpListenerFilter};
use adit_runtime::DrainType;
use adit_socket::SocketOptions;
use adit_stats::Scope;
use pb::listener::ListenerSpecifier;
use pb::listener::connection_balance_config::BalanceType;
use prost_types::Any;

use crate::chain::{FilterChainPlan, NetworkChain};
use crate::filters::{self, FilterEntry};
use crate::keepalive::keepalive;
use crate::matcher::{ChainMatch, FilterChainMatcher, MatchInput};
use crate::socket::SocketPlan;
use crate::stats::ListenerStats;
use crate::udp::UdpPlan;
use crate::{BindAddress, TransportAcceptor};

/// `per_connection_buffer_limit_bytes` where it is absent.
const DEFAULT_BUFFER_LIMIT: u32 = 1 << 20;
/// `listener_filters_timeout` where it is absent.
const DEFAULT_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// `transport_socket_connect_timeout` where it is absent. Envoy waits for ever.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes what a listener is built from and does not know itself. Errors carry the full path.
pub trait Factories {
    /// The network filters of a chain, the last one terminal. `scope` is the listener's.
    fn network_chain(
        &self,
        filters: &[pb::Filter],
        listener: &Arc<ListenerInfo>,
        scope: &Scope,
        path: &Path,
    ) -> Result<NetworkChain, Vec<Diagnostic>>;

    /// A transport socket; `None` for the raw one.
    fn transport_socket(
        &self,
        message: &TransportSocket,
        scope: &Scope,
        path: &Path,
    ) -> Result<Option<Arc<dyn TransportAcceptor>>, Vec<Diagnostic>>;

    /// A listener filter that is not one of this crate's own (the TLS inspector); `None` if there is none of this type.
    fn listener_filter(
        &self,
        config: &Any,
        scope: &Scope,
        path: &Path,
    ) -> Option<Result<Arc<dyn ListenerFilter>, Vec<Diagnostic>>>;

    /// The filter of a UDP listener; `None` if there is none of this type.
    fn udp_filter(&self, config: &Any, path: &Path) -> Option<Result<Arc<dyn UdpListenerFilter>, Vec<Diagnostic>>> {
        let _ = (config, path);
        None
    }

    /// What serves the UDP sockets of a QUIC listener. Errors carry the full path.
    fn quic_filter(
        &self,
        message: &pb::Listener,
        listener: &Arc<ListenerInfo>,
        scope: &Scope,
        path: &Path,
    ) -> Result<Arc<dyn QuicFilter>, Vec<Diagnostic>> {
        let _ = (message, listener, scope);
        Err(vec![Diagnostic::error(path.field("udp_listener_config"), "quic_options is not implemented here")])
    }

    /// Access logs.
    fn access_logs(
        &self,
        messages: &[AccessLogMessage],
        path: &Path,
    ) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>>;

    /// The scope without a prefix.
    fn stats(&self) -> &Scope;
}

/// A listener as configured. Shared by its workers and all its connections.
pub struct ListenerPlan {
    pub(crate) info: Arc<ListenerInfo>,
    pub(crate) scope: Scope,
    pub(crate) stats: ListenerStats,
    pub(crate) sockets: Vec<SocketPlan>,
    /// What takes the datagrams, if the sockets are UDP sockets.
    pub(crate) udp: Option<UdpPlan>,
    pub(crate) quic: Option<Arc<dyn QuicFilter>>,
    pub(crate) listener_filters: Vec<FilterEntry>,
    /// `None` for off.
    pub(crate) listener_filters_timeout: Option<Duration>,
    pub(crate) continue_on_timeout: bool,
    pub(crate) access_logs: Vec<Arc<dyn AccessLog>>,
    pub(crate) drain_type: DrainType,
    pub(crate) ignore_global_limit: bool,
    pub(crate) transparent: bool,
    pub(crate) accepts_per_event: Option<u32>,
    /// Only TCP: the workers of a Unix-socket listener share one queue anyway.
    pub(crate) exact_balance: bool,
    internal: bool,
    matcher: FilterChainMatcher,
    chains: Vec<FilterChainPlan>,
    default_chain: Option<FilterChainPlan>,
}

impl ListenerPlan {
    /// From its message, at `path`. A listener without a name gets its first address as one.
    pub fn from_proto(
        message: &pb::Listener,
        factories: &dyn Factories,
        path: &Path,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        unsupported(message, path, &mut problems);
        let internal = matches!(message.listener_specifier, Some(ListenerSpecifier::InternalListener(_)));
        let sockets =
            if internal { Vec::new() } else { keep(&mut problems, sockets(message, path)).unwrap_or_default() };
        let takes_datagrams = sockets.iter().any(|socket| matches!(socket.address, BindAddress::Udp { .. }));
        if takes_datagrams && !sockets.iter().all(|socket| matches!(socket.address, BindAddress::Udp { .. })) {
            let text = "the addresses of a listener are all TCP or all UDP";
            problems.push(Diagnostic::error(path.field("additional_addresses"), text));
        }
        if !takes_datagrams && message.filter_chains.is_empty() && message.default_filter_chain.is_none() {
            problems.push(Diagnostic::error(path.field("filter_chains"), "no filter chains specified"));
        }
        let info = listener_info(message, internal, &sockets);
        let scope = factories.stats().listener(&info.stats_address);
        let context = ChainContext { factories, info: &info, scope: &scope };
        let chains = keep(
            &mut problems,
            context.chains(if is_quic(message) { &[] } else { &message.filter_chains }, &path.field("filter_chains")),
        );
        let default_chain = message.default_filter_chain.as_ref();
        let default_chain = default_chain
            .and_then(|chain| keep(&mut problems, context.chain(chain, &path.field("default_filter_chain"))));
        let streams = if takes_datagrams { &[][..] } else { &message.listener_filters[..] };
        let filters = keep(&mut problems, filters::list(streams, factories, &scope, &path.field("listener_filters")));
        let is_quic = is_quic(message);
        let udp = (takes_datagrams && !is_quic).then(|| UdpPlan::from_proto(message, factories, &info, &scope, path));
        let udp = keep(&mut problems, udp.transpose());
        let quic = (takes_datagrams && is_quic).then(|| factories.quic_filter(message, &info, &scope, path));
        let quic = keep(&mut problems, quic.transpose());
        let access_logs = keep(&mut problems, factories.access_logs(&message.access_log, &path.field("access_log")));
        let matcher = keep(&mut problems, matcher(&message.filter_chains, &path.field("filter_chains")));
        let (Some(chains), Some(listener_filters), Some(access_logs), Some(matcher), Some(udp), Some(quic), true) =
            (chains, filters, access_logs, matcher, udp, quic, problems.is_empty())
        else {
            return Err(problems);
        };
        let sockets_are_tcp = sockets.iter().all(|socket| matches!(socket.address, BindAddress::Tcp { .. }));
        Ok(Arc::new(Self {
            stats: ListenerStats::new(&scope),
            scope,
            sockets,
            udp,
            quic,
            listener_filters,
            listener_filters_timeout: filters_timeout(message),
            continue_on_timeout: message.continue_on_listener_filters_timeout,
            access_logs,
            drain_type: match message.drain_type() {
                pb::listener::DrainType::Default => DrainType::Default,
                pb::listener::DrainType::ModifyOnly => DrainType::ModifyOnly,
            },
            ignore_global_limit: message.ignore_global_conn_limit,
            transparent: message.transparent.unwrap_or(false),
            accepts_per_event: message.max_connections_to_accept_per_socket_event,
            exact_balance: exact_balance(message) && sockets_are_tcp,
            internal,
            matcher,
            chains,
            default_chain,
            info,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.info.name
    }

    /// What its connections know of it.
    pub fn info(&self) -> &Arc<ListenerInfo> {
        &self.info
    }

    /// Its scope, `listener.<address>.`
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether it is an internal listener (`internal_listener`).
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// The addresses as configured.
    pub fn addresses(&self) -> impl Iterator<Item = &BindAddress> {
        self.sockets.iter().map(|socket| &socket.address)
    }

    /// The chain for a connection: the one that matches, or the default one.
    pub fn find_chain(&self, input: &MatchInput<'_>) -> Option<&FilterChainPlan> {
        let matched = self.matcher.find(input).and_then(|index| self.chains.get(index));
        matched.or(self.default_chain.as_ref())
    }
}

/// What was made; what is wrong with it goes with the other problems.
fn keep<T>(problems: &mut Vec<Diagnostic>, made: Result<T, Vec<Diagnostic>>) -> Option<T> {
    made.map_err(|found| problems.extend(found)).ok()
}

fn exact_balance(message: &pb::Listener) -> bool {
    let config = message.connection_balance_config.as_ref();
    config.is_some_and(|config| matches!(config.balance_type, Some(BalanceType::ExactBalance(_))))
}

fn filters_timeout(message: &pb::Listener) -> Option<Duration> {
    let timeout = message.listener_filters_timeout.as_ref().map_or(DEFAULT_FILTERS_TIMEOUT, adit_config::duration);
    (!timeout.is_zero()).then_some(timeout)
}

/// Fields that change what a listener does and are not implemented. The loader refuses them too; this holds for
/// messages that came another way.
fn unsupported(message: &pb::Listener, path: &Path, problems: &mut Vec<Diagnostic>) {
    let udp = message.udp_listener_config.as_ref();
    let fields = [
        (
            "udp_listener_config.udp_packet_packet_writer_config",
            udp.is_some_and(|config| config.udp_packet_packet_writer_config.is_some()),
        ),
        ("filter_chain_matcher", message.filter_chain_matcher.is_some()),
        ("api_listener", message.api_listener.is_some()),
        ("use_original_dst", message.use_original_dst == Some(true)),
        ("tcp_fast_open_queue_length", message.tcp_fast_open_queue_length.is_some()),
        ("enable_mptcp", message.enable_mptcp),
        (
            "per_connection_buffer_high_watermark_timeout",
            message.per_connection_buffer_high_watermark_timeout.is_some(),
        ),
    ];
    let internal = message.listener_specifier.is_some();
    let balance = message.connection_balance_config.is_some() && !exact_balance(message);
    let balance = ("connection_balance_config", balance);
    let unbound = ("bind_to_port", message.bind_to_port == Some(false) && !internal);
    for (field, set) in fields.into_iter().chain([balance, unbound]) {
        if set {
            problems.push(Diagnostic::error(path.field(field), format!("{field} is not supported")));
        }
    }
}

fn listener_info(message: &pb::Listener, internal: bool, sockets: &[SocketPlan]) -> Arc<ListenerInfo> {
    let address = sockets.first().map_or_else(String::new, |socket| socket.address.to_string());
    let name: Arc<str> = if message.name.is_empty() { address.as_str().into() } else { message.name.as_str().into() };
    let stats_address = if !message.stat_prefix.is_empty() {
        message.stat_prefix.clone()
    } else if internal {
        format!("envoy_internal_{name}")
    } else {
        address.replace(':', "_")
    };
    Arc::new(ListenerInfo {
        name,
        stats_address: stats_address.into(),
        buffer_limit: message.per_connection_buffer_limit_bytes.unwrap_or(DEFAULT_BUFFER_LIMIT) as usize,
        direction: match message.traffic_direction() {
            TrafficDirection::Unspecified => "UNSPECIFIED",
            TrafficDirection::Inbound => "INBOUND",
            TrafficDirection::Outbound => "OUTBOUND",
        },
        kind: match sockets.first().map(|socket| &socket.address) {
            _ if internal => "internal",
            Some(BindAddress::Udp { .. }) => "udp",
            _ => "tcp",
        },
        logs: !message.access_log.is_empty(),
    })
}

fn sockets(message: &pb::Listener, path: &Path) -> Result<Vec<SocketPlan>, Vec<Diagnostic>> {
    let one = |problem: Diagnostic| vec![problem];
    let address_path = path.field("address");
    let Some(address) = &message.address else {
        return Err(vec![Diagnostic::error(path, "address is necessary")]);
    };
    let options = SocketOptions::from_proto(&message.socket_options, &path.field("socket_options"))?;
    let first = SocketPlan {
        address: BindAddress::from_proto(address, &address_path).map_err(one)?,
        reuse_port: message.enable_reuse_port.unwrap_or(true),
        freebind: message.freebind,
        transparent: message.transparent,
        backlog: message.tcp_backlog_size,
        keepalive: message.tcp_keepalive.as_ref().map(keepalive),
        options,
    };
    let mut sockets = vec![first.clone()];
    for (index, additional) in message.additional_addresses.iter().enumerate() {
        let path = path.item("additional_addresses", index);
        let Some(address) = &additional.address else {
            return Err(vec![Diagnostic::error(path.field("address"), "value is required")]);
        };
        let mut socket = first.clone();
        socket.address = BindAddress::from_proto(address, &path.field("address")).map_err(one)?;
        if let Some(own) = &additional.socket_options {
            let path = path.field("socket_options").field("socket_options");
            socket.options = SocketOptions::from_proto(&own.socket_options, &path)?;
        }
        if let Some(own) = &additional.tcp_keepalive {
            socket.keepalive = Some(keepalive(own));
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Whether the filter chains belong to QUIC: the QUIC filter builds them.
fn is_quic(message: &pb::Listener) -> bool {
    message.udp_listener_config.as_ref().is_some_and(|config| config.quic_options.is_some())
}

fn matcher(chains: &[pb::FilterChain], path: &Path) -> Result<FilterChainMatcher, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut matches = Vec::with_capacity(chains.len());
    for (index, chain) in chains.iter().enumerate() {
        match &chain.filter_chain_match {
            None => matches.push(ChainMatch::default()),
            Some(message) => match ChainMatch::from_proto(message, &path.index(index).field("filter_chain_match")) {
                Ok(one) => matches.push(one),
                Err(problem) => problems.push(problem),
            },
        }
    }
    if problems.is_empty() { Ok(FilterChainMatcher::new(matches)) } else { Err(problems) }
}

/// What chains are made with.
struct ChainContext<'a> {
    factories: &'a dyn Factories,
    info: &'a Arc<ListenerInfo>,
    scope: &'a Scope,
}

impl ChainContext<'_> {
    fn chains(&self, messages: &[pb::FilterChain], path: &Path) -> Result<Vec<FilterChainPlan>, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut chains = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            match self.chain(message, &path.index(index)) {
                Ok(chain) => chains.push(chain),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(chains) } else { Err(problems) }
    }

    fn chain(&self, message: &pb::FilterChain, path: &Path) -> Result<FilterChainPlan, Vec<Diagnostic>> {
        let transport = match &message.transport_socket {
            Some(socket) => self.factories.transport_socket(socket, self.scope, &path.field("transport_socket")),
            None => Ok(None),
        };
        let chain = if message.filters.is_empty() {
            Ok(NetworkChain::empty())
        } else {
            self.factories.network_chain(&message.filters, self.info, self.scope, &path.field("filters"))
        };
        let configured = message.transport_socket_connect_timeout.as_ref().map(adit_config::duration);
        match (transport, chain) {
            (Ok(transport), Ok(chain)) => Ok(FilterChainPlan {
                name: (!message.name.is_empty()).then(|| message.name.as_str().into()),
                transport,
                connect_timeout: configured.filter(|time| !time.is_zero()).unwrap_or(DEFAULT_CONNECT_TIMEOUT),
                chain,
            }),
            (transport, chain) => {
                let found = [transport.err(), chain.err()];
                Err(found.into_iter().flatten().flatten().collect())
            }
        }
    }
}
