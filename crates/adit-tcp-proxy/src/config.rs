//! The configuration, read once.

use std::sync::Arc;
use std::time::Duration;

use adit_access_log::{Format, HeaderAdder};
use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use adit_config::proto::envoy::r#type::v3::HashPolicy as HashPolicyMessage;
use adit_config::proto::envoy::r#type::v3::hash_policy::PolicySpecifier;
use adit_config::{Diagnostic, Path, duration};
use adit_filter::{AccessLog, StreamInfo};
use adit_io::FilterValue;
use adit_match::ConfigError;
use adit_stats::Scope;
use http::uri::PathAndQuery;
use pb::UpstreamConnectMode;
use pb::tcp_proxy::{ClusterSpecifier, TunnelingConfig};
use xxhash_rust::xxh64::xxh64;

use crate::TcpProxyStats;

/// `idle_timeout` where it is absent.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// `backoff_options.max_interval` where it is absent, in `base_interval`s.
const DEFAULT_MAX_BACKOFF: u32 = 10;
/// The cluster of one connection, set by a filter before this one.
const CLUSTER_KEY: &str = "envoy.tcp_proxy.cluster";
/// The idle timeout of one connection, in milliseconds; 0 turns it off.
const IDLE_KEY: &str = "envoy.tcp_proxy.per_connection_idle_timeout_ms";
/// Whether one connection goes to its cluster plainly although tunnels are configured.
const DISABLE_TUNNELING_KEY: &str = "envoy.tcp_proxy.disable_tunneling";
/// Whether bytes of one connection are taken before its upstream stands.
const RECEIVE_EARLY_KEY: &str = "envoy.tcp_proxy.receive_before_connect";
/// How much, where only that filter state asks for it: `per_connection_buffer_limit_bytes` is for the relay.
const DEFAULT_EARLY_DATA: usize = 64 << 10;

/// What a TCP proxy is built from and does not know itself.
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

/// The TCP proxy as configured: a [`NetworkTerminal`](adit_filter::NetworkTerminal).
pub struct TcpProxy {
    pub(crate) stats: TcpProxyStats,
    pub(crate) logs: Logs,
    pub(crate) tunnel: Option<TunnelPlan>,
    pub(crate) max_connect_attempts: u32,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) check_drain_close: bool,
    pub(crate) wait_for_data: bool,
    clusters: Clusters,
    hash: Option<HashPolicy>,
    idle_timeout: Option<Duration>,
    max_duration: Option<Duration>,
    /// In percent of `max_duration`.
    jitter: f64,
    max_early_data: Option<usize>,
}

/// When and where lines are written.
pub(crate) struct Logs {
    pub(crate) logs: Vec<Arc<dyn AccessLog>>,
    pub(crate) on_start: bool,
    pub(crate) on_connected: bool,
    pub(crate) interval: Option<Duration>,
}

enum Clusters {
    One(Arc<str>),
    /// Names with the sum of the weights up to and including each.
    Weighted(Vec<(Arc<str>, u64)>),
}

enum HashPolicy {
    SourceIp,
    FilterState(Box<str>),
}

/// `backoff_options`: full jitter, as Envoy's.
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The pause before attempt `attempt`, which counts from 2, below twice the base for the first.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(2).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.max);
        ceiling.mul_f64(fastrand::f64())
    }
}

/// `tunneling_config`
pub(crate) struct TunnelPlan {
    pub(crate) hostname: Format,
    /// `use_post`, and where to.
    pub(crate) post: Option<PathAndQuery>,
    pub(crate) headers: HeaderAdder,
    pub(crate) propagate_headers: bool,
    pub(crate) propagate_trailers: bool,
}

impl TcpProxy {
    /// From its message, at `path`.
    pub fn from_proto(
        message: &pb::TcpProxy,
        factories: &dyn Factories,
        path: &Path,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let mut problems = unsupported(message, path);
        let clusters = clusters(message, path).map_err(|problem| problems.push(problem)).ok();
        let hash = hash(&message.hash_policy, path).map_err(|problem| problems.push(problem)).ok();
        let backoff = backoff(message, path).map_err(|problem| problems.push(problem)).ok();
        let tunnel = message.tunneling_config.as_ref();
        let tunnel = tunnel
            .map(|tunnel| TunnelPlan::from_proto(tunnel, &path.field("tunneling_config")))
            .transpose()
            .map_err(|problem| problems.push(problem))
            .ok();
        let logs = logs(message, factories, path).map_err(|found| problems.extend(found)).ok();
        let (Some(clusters), Some(hash), Some(backoff), Some(tunnel), Some(logs), true) =
            (clusters, hash, backoff, tunnel, logs, problems.is_empty())
        else {
            return Err(problems);
        };
        let idle_timeout = message.idle_timeout.as_ref().map_or(DEFAULT_IDLE_TIMEOUT, duration);
        let jitter = message.max_downstream_connection_duration_jitter_percentage;
        Ok(Arc::new(Self {
            stats: TcpProxyStats::new(factories.stats(), &message.stat_prefix, tunnel.is_some()),
            logs,
            tunnel,
            max_connect_attempts: message.max_connect_attempts.unwrap_or(1).max(1),
            backoff,
            check_drain_close: message.check_drain_close.unwrap_or(false),
            // A TLS handshake is over before any network filter sees the connection.
            wait_for_data: message.upstream_connect_mode() == UpstreamConnectMode::OnDownstreamData,
            clusters,
            hash,
            idle_timeout: (!idle_timeout.is_zero()).then_some(idle_timeout),
            max_duration: message.max_downstream_connection_duration.as_ref().map(duration),
            jitter: jitter.map_or(0.0, |percent| percent.value),
            max_early_data: message.max_early_data_bytes.map(|bytes| bytes as usize),
        }))
    }

    /// Its stats.
    pub fn stats(&self) -> &TcpProxyStats {
        &self.stats
    }

    /// The cluster of one attempt.
    pub(crate) fn cluster(&self, info: &StreamInfo) -> Arc<str> {
        if let Some(name) = info.state.text(CLUSTER_KEY) {
            return name.into();
        }
        match &self.clusters {
            Clusters::One(name) => name.clone(),
            Clusters::Weighted(weighted) => {
                let total = weighted.last().map_or(1, |(_, sum)| *sum);
                let roll = fastrand::u64(..total.max(1));
                let chosen = weighted.iter().find(|(_, sum)| roll < *sum).or(weighted.last());
                chosen.map_or_else(|| "".into(), |(name, _)| name.clone())
            }
        }
    }

    pub(crate) fn hash(&self, info: &StreamInfo) -> Option<u64> {
        let text = match self.hash.as_ref()? {
            HashPolicy::SourceIp => info.conn.remote.ip()?.to_string(),
            HashPolicy::FilterState(key) => info.state.get(key)?.value.to_plain()?,
        };
        Some(xxh64(text.as_bytes(), 0))
    }

    pub(crate) fn idle_timeout(&self, info: &StreamInfo) -> Option<Duration> {
        let own = match info.state.get(IDLE_KEY).map(|object| &object.value) {
            Some(FilterValue::Number(milliseconds)) => Some(*milliseconds),
            Some(FilterValue::Text(text)) => text.parse().ok(),
            _ => None,
        };
        match own {
            Some(0) => None,
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
            None => self.idle_timeout,
        }
    }

    /// `max_downstream_connection_duration`, with its jitter.
    pub(crate) fn max_duration(&self) -> Option<Duration> {
        self.max_duration.map(|max| max.mul_f64(1.0 + self.jitter.clamp(0.0, 100.0) / 100.0 * fastrand::f64()))
    }

    /// How a connection is tunnelled; `None` for plainly.
    pub(crate) fn tunnel_for(&self, info: &StreamInfo) -> Option<&TunnelPlan> {
        self.tunnel.as_ref().filter(|_| !flag(info, DISABLE_TUNNELING_KEY))
    }

    /// How many bytes may be taken from the client before there is an upstream; `None` for none.
    pub(crate) fn early_data(&self, info: &StreamInfo) -> Option<usize> {
        self.max_early_data.or_else(|| flag(info, RECEIVE_EARLY_KEY).then_some(DEFAULT_EARLY_DATA))
    }
}

fn flag(info: &StreamInfo, key: &str) -> bool {
    match info.state.get(key).map(|object| &object.value) {
        Some(FilterValue::Bool(value)) => *value,
        Some(FilterValue::Text(text)) => &**text == "true",
        _ => false,
    }
}

/// Fields that are not implemented. The loader refuses them too; this holds for messages that came another way.
fn unsupported(message: &pb::TcpProxy, path: &Path) -> Vec<Diagnostic> {
    let weighted = matches!(
        &message.cluster_specifier,
        Some(ClusterSpecifier::WeightedClusters(weighted))
            if weighted.clusters.iter().any(|cluster| cluster.metadata_match.is_some())
    );
    let tunnel = message.tunneling_config.clone().unwrap_or_default();
    let fields = [
        ("on_demand", message.on_demand.is_some()),
        ("metadata_match", message.metadata_match.is_some() || weighted),
        ("downstream_idle_timeout", message.downstream_idle_timeout.is_some()),
        ("upstream_idle_timeout", message.upstream_idle_timeout.is_some()),
        ("proxy_protocol_tlvs", !message.proxy_protocol_tlvs.is_empty()),
        ("tunneling_config.request_id_extension", tunnel.request_id_extension.is_some()),
        ("tunneling_config.request_id_header", !tunnel.request_id_header.is_empty()),
        ("tunneling_config.request_id_metadata_key", !tunnel.request_id_metadata_key.is_empty()),
        ("tunneling_config.formatters", !tunnel.formatters.is_empty()),
    ];
    let set = fields.into_iter().filter(|(_, set)| *set);
    set.map(|(field, _)| Diagnostic::error(path.field(field), format!("{field} is not supported"))).collect()
}

fn clusters(message: &pb::TcpProxy, path: &Path) -> Result<Clusters, Diagnostic> {
    match &message.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok(Clusters::One(name.as_str().into())),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let mut sum = 0;
            let each = weighted.clusters.iter().map(|cluster| {
                sum += u64::from(cluster.weight);
                (cluster.name.as_str().into(), sum)
            });
            let each: Vec<_> = each.collect();
            if sum == 0 {
                return Err(Diagnostic::error(path.field("weighted_clusters"), "the weights add up to 0"));
            }
            Ok(Clusters::Weighted(each))
        }
        None => Err(Diagnostic::error(path, "cluster or weighted_clusters is required")),
    }
}

fn hash(policies: &[HashPolicyMessage], path: &Path) -> Result<Option<HashPolicy>, Diagnostic> {
    let Some(policy) = policies.first() else { return Ok(None) };
    let path = path.item("hash_policy", 0);
    match &policy.policy_specifier {
        Some(PolicySpecifier::SourceIp(_)) => Ok(Some(HashPolicy::SourceIp)),
        Some(PolicySpecifier::FilterState(state)) => Ok(Some(HashPolicy::FilterState(state.key.as_str().into()))),
        None => Err(Diagnostic::error(path, "a policy is required")),
    }
}

fn backoff(message: &pb::TcpProxy, path: &Path) -> Result<Option<Backoff>, Diagnostic> {
    let Some(options) = &message.backoff_options else { return Ok(None) };
    let path = path.field("backoff_options");
    let Some(base) = options.base_interval.as_ref().map(duration) else {
        return Err(Diagnostic::error(path.field("base_interval"), "value is required"));
    };
    let default = base.saturating_mul(DEFAULT_MAX_BACKOFF);
    let max = options.max_interval.as_ref().map_or(default, duration);
    if max < base {
        let message = "max_backoff_interval must be greater or equal to base_backoff_interval";
        return Err(Diagnostic::error(path.field("max_interval"), message));
    }
    Ok(Some(Backoff { base, max }))
}

#[expect(deprecated, reason = "old files use the flat fields")]
fn logs(message: &pb::TcpProxy, factories: &dyn Factories, path: &Path) -> Result<Logs, Vec<Diagnostic>> {
    let options = message.access_log_options.unwrap_or_default();
    let interval = options.access_log_flush_interval.or(message.access_log_flush_interval);
    Ok(Logs {
        logs: factories.access_logs(&message.access_log, &path.field("access_log"))?,
        on_start: options.flush_access_log_on_start,
        on_connected: options.flush_access_log_on_connected || message.flush_access_log_on_connected,
        interval: interval.as_ref().map(duration).filter(|interval| !interval.is_zero()),
    })
}

impl TunnelPlan {
    fn from_proto(message: &TunnelingConfig, path: &Path) -> Result<Self, Diagnostic> {
        let at = |field: &str| path.field(field);
        let post = match (message.use_post, message.post_path.as_str()) {
            (false, "") => None,
            (false, _) => {
                return Err(Diagnostic::error(at("post_path"), "Can't set a post path when POST method isn't used"));
            }
            (true, "") => Some(PathAndQuery::from_static("/")),
            (true, path) => Some(
                PathAndQuery::try_from(path)
                    .map_err(|error| Diagnostic::error(at("post_path"), format!("'{path}' is not a path: {error}")))?,
            ),
        };
        let headers = HeaderAdder::from_proto(&message.headers_to_add, at("headers_to_add").as_str(), &[], "");
        Ok(Self {
            hostname: Format::parse(&message.hostname).map_err(|error| Diagnostic::error(at("hostname"), error))?,
            post,
            headers: headers.map_err(|ConfigError { path, message }| Diagnostic::error(path, message))?,
            propagate_headers: message.propagate_response_headers,
            propagate_trailers: message.propagate_response_trailers,
        })
    }
}

#[cfg(test)]
mod tests;
