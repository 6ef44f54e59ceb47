//! The configuration, read once.

mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::session::http_capsule::v3::FilterConfig as HttpCapsule;
use adit_config::proto::envoy::extensions::filters::udp::udp_proxy::v3 as pb;
use adit_config::proto::xds::r#type::matcher::v3::matcher::on_match::OnMatch;
use adit_config::{Diagnostic, Path, duration, is, type_name, unpack};
use adit_filter::AccessLog;
use adit_stats::Scope;
use pb::udp_proxy_config::hash_policy::PolicySpecifier;
use pb::udp_proxy_config::session_filter::ConfigType;
use pb::udp_proxy_config::{RouteSpecifier, SessionFilter};
use xxhash_rust::xxh64::xxh64;

pub(crate) use tunnel::{BufferLimits, TunnelPlan};

use crate::stats::{ClusterUdpStats, UdpProxyStats};

/// `idle_timeout` where it is absent.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// `upstream_socket_config.max_rx_datagram_size` where it is absent.
const DEFAULT_MAX_DATAGRAM: u64 = 1500;

/// What a UDP proxy is built from and does not know itself.
pub trait Factories {
    /// Access logs. Errors carry the full path.
    fn access_logs(
        &self,
        messages: &[AccessLogMessage],
        path: &Path,
    ) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>>;

    /// The scope without a prefix.
    fn stats(&self) -> &Scope;
}

/// The UDP proxy as configured: a [`UdpListenerFilter`](adit_filter::UdpListenerFilter).
pub struct UdpProxy {
    pub(crate) stats: UdpProxyStats,
    pub(crate) cluster: Arc<str>,
    pub(crate) cluster_stats: ClusterUdpStats,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_datagram: usize,
    pub(crate) logs: Vec<Arc<dyn AccessLog>>,
    pub(crate) proxy_logs: Vec<Arc<dyn AccessLog>>,
    pub(crate) log_on_connected: bool,
    pub(crate) log_interval: Option<Duration>,
    pub(crate) tunnel: Option<TunnelPlan>,
    hash: Option<HashPolicy>,
}

enum HashPolicy {
    SourceIp,
    /// The same for every client.
    Key(u64),
}

impl UdpProxy {
    /// From its message, at `path`.
    pub fn from_proto(
        message: &pb::UdpProxyConfig,
        factories: &dyn Factories,
        path: &Path,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let mut problems = unsupported(message, path);
        let cluster = cluster(message, path).map_err(|problem| problems.push(problem)).ok();
        let hash = hash(message, path).map_err(|problem| problems.push(problem)).ok();
        let tunnel = message.tunneling_config.as_ref();
        let tunnel = tunnel
            .map(|tunnel| TunnelPlan::from_proto(tunnel, &path.field("tunneling_config")))
            .transpose()
            .map_err(|problem| problems.push(problem))
            .ok();
        if let Err(problem) = session_filters(&message.session_filters, message.tunneling_config.is_some(), path) {
            problems.push(problem);
        }
        let mut logs = |messages: &[AccessLogMessage], field: &str| {
            let found = factories.access_logs(messages, &path.field(field));
            found.map_err(|found| problems.extend(found)).ok()
        };
        let proxy_logs = logs(&message.proxy_access_log, "proxy_access_log");
        let logs = logs(&message.access_log, "access_log");
        let (Some(cluster), Some(hash), Some(tunnel), Some(logs), Some(proxy_logs), true) =
            (cluster, hash, tunnel, logs, proxy_logs, problems.is_empty())
        else {
            return Err(problems);
        };
        let options = message.access_log_options.unwrap_or_default();
        let max = message.upstream_socket_config.and_then(|config| config.max_rx_datagram_size);
        Ok(Arc::new(Self {
            stats: UdpProxyStats::new(factories.stats(), &message.stat_prefix),
            cluster_stats: ClusterUdpStats::new(factories.stats(), &cluster),
            cluster,
            idle_timeout: message.idle_timeout.as_ref().map_or(DEFAULT_IDLE_TIMEOUT, duration),
            max_datagram: usize::try_from(max.unwrap_or(DEFAULT_MAX_DATAGRAM)).unwrap_or(usize::MAX),
            logs,
            proxy_logs,
            log_on_connected: options.flush_access_log_on_tunnel_connected,
            log_interval: options.access_log_flush_interval.as_ref().map(duration).filter(|time| !time.is_zero()),
            tunnel,
            hash,
        }))
    }

    /// Its stats.
    pub fn stats(&self) -> &UdpProxyStats {
        &self.stats
    }

    pub(crate) fn hash(&self, peer: SocketAddr) -> Option<u64> {
        match self.hash.as_ref()? {
            HashPolicy::SourceIp => Some(xxh64(peer.ip().to_string().as_bytes(), 0)),
            HashPolicy::Key(hash) => Some(*hash),
        }
    }
}

/// Fields that are not implemented. The loader refuses them too; this holds for messages that came another way.
fn unsupported(message: &pb::UdpProxyConfig, path: &Path) -> Vec<Diagnostic> {
    let formatters = message.tunneling_config.as_ref().is_some_and(|tunnel| !tunnel.formatters.is_empty());
    let fields = [
        ("use_original_src_ip", message.use_original_src_ip),
        ("use_per_packet_load_balancing", message.use_per_packet_load_balancing),
        ("tunneling_config.formatters", formatters),
    ];
    let set = fields.into_iter().filter(|(_, set)| *set);
    set.map(|(field, _)| Diagnostic::error(path.field(field), format!("{field} is not supported"))).collect()
}

/// The cluster of the matcher's only action.
fn cluster(message: &pb::UdpProxyConfig, path: &Path) -> Result<Arc<str>, Diagnostic> {
    let matcher = match &message.route_specifier {
        Some(RouteSpecifier::Matcher(matcher)) => matcher,
        // The loader has made the matcher of it; this holds for messages that came another way.
        #[expect(deprecated, reason = "old files use it")]
        Some(RouteSpecifier::Cluster(name)) => return Ok(name.as_str().into()),
        None => return Err(Diagnostic::error(path, "route_specifier is required: one of cluster, matcher")),
    };
    let path = path.field("matcher");
    if matcher.matcher_type.is_some() {
        return Err(Diagnostic::error(path, "only on_no_match is supported"));
    }
    let path = path.field("on_no_match");
    let action = matcher.on_no_match.as_ref().and_then(|matched| match &matched.on_match {
        Some(OnMatch::Action(action)) => action.typed_config.as_ref(),
        _ => None,
    });
    let Some(action) = action else {
        return Err(Diagnostic::error(path.field("action"), "value is required"));
    };
    let path = path.field("action").field("typed_config");
    let route: pb::Route = unpack(action).map_err(|error| Diagnostic::error(&path, error.to_string()))?;
    if route.cluster.is_empty() {
        return Err(Diagnostic::error(path.field("cluster"), "value is required"));
    }
    Ok(route.cluster.as_str().into())
}

fn hash(message: &pb::UdpProxyConfig, path: &Path) -> Result<Option<HashPolicy>, Diagnostic> {
    let Some(policy) = message.hash_policies.first() else { return Ok(None) };
    match &policy.policy_specifier {
        Some(PolicySpecifier::SourceIp(_)) => Ok(Some(HashPolicy::SourceIp)),
        Some(PolicySpecifier::Key(key)) => Ok(Some(HashPolicy::Key(xxh64(key.as_bytes(), 0)))),
        None => Err(Diagnostic::error(path.item("hash_policies", 0), "a policy is required")),
    }
}

/// Exactly `http_capsule` in a tunnel, which would else carry bytes that nobody can tell apart; nothing without one.
fn session_filters(filters: &[SessionFilter], tunnels: bool, path: &Path) -> Result<(), Diagnostic> {
    for (index, filter) in filters.iter().enumerate() {
        let at = path.item("session_filters", index).field("typed_config");
        match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) if is::<HttpCapsule>(any) && tunnels => {}
            Some(ConfigType::TypedConfig(any)) if is::<HttpCapsule>(any) => {
                return Err(Diagnostic::error(at, "http_capsule needs a tunneling_config"));
            }
            Some(ConfigType::TypedConfig(any)) => {
                let text = format!("session filter {} is not supported", type_name(any));
                return Err(Diagnostic::error(at, text));
            }
            _ => return Err(Diagnostic::error(at, "typed_config is required")),
        }
    }
    match (tunnels, filters.len()) {
        (true, 0) => {
            let text = "a tunnel needs the session filter http_capsule";
            Err(Diagnostic::error(path.field("session_filters"), text))
        }
        (_, 0 | 1) => Ok(()),
        _ => Err(Diagnostic::error(path.field("session_filters"), "http_capsule may stand here once")),
    }
}
