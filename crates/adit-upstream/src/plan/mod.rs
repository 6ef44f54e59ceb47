//! What the configuration says about a cluster, checked and lowered from Envoy's messages.

mod endpoints;
mod forward;
mod health;
mod http;
mod lb;
mod lower;
mod options;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_config::{Diagnostic, Path};
use adit_filter::upstream::{ClusterSettings, HostInfo};
use adit_io::{Address, Metadata, Value};
use adit_stats::{Counter, Scope};

use crate::breaker::Thresholds;
use crate::connect::DialOptions;
use crate::host::HostFacts;
use crate::transport::{TransportBuilder, TransportSocketFactory};

pub use endpoints::{ConfigHealth, EndpointAddress, EndpointPlan, HealthTarget, Locality};
pub use health::{HealthCheckPlan, HealthCheckType, HttpCheck, OutlierPlan, RatePlan, TcpCheck};
pub use http::{Http3, HttpOptions, HttpProtocol};
pub use lb::{LbPlan, LbPolicy};

/// What lowering a cluster needs beside its message.
pub struct PlanEnv<'a> {
    /// The root scope; the cluster's metrics are made below it.
    pub scope: &'a Scope,
    /// Builds transport sockets other than `raw_buffer` and `proxy_protocol`.
    pub transports: &'a dyn TransportBuilder,
    /// `cluster_manager.upstream_bind_config`, for clusters without their own, and where it stands.
    pub bind: Option<(&'a adit_config::proto::envoy::config::core::v3::BindConfig, &'a Path)>,
}

/// One cluster's configuration, shared by every worker.
pub struct ClusterPlan {
    /// What routers and proxies ask.
    pub settings: ClusterSettings,
    /// `alt_stat_name`, or the name: `/clusters`' `observability_name`.
    pub observability_name: Arc<str>,
    /// Where its metrics are.
    pub scope: Scope,
    /// Where its hosts come from.
    pub discovery: Discovery,
    /// How one is chosen.
    pub lb: LbPlan,
    /// `connect_timeout`, 5 s by default: TCP and the transport socket's handshake together.
    pub connect_timeout: Duration,
    /// Circuit breakers: DEFAULT, then HIGH.
    pub breakers: [Thresholds; 2],
    /// How sockets are made.
    pub dial: DialOptions,
    /// The transport sockets: those of `transport_socket_matches`, then `transport_socket`.
    pub transports: Vec<TransportChoice>,
    /// HTTP upstream options.
    pub http: HttpOptions,
    /// `preconnect_policy.per_upstream_preconnect_ratio`, 1 by default.
    pub preconnect_ratio: f64,
    /// Health checks.
    pub health_checks: Vec<HealthCheckPlan>,
    /// Outlier detection.
    pub outlier: Option<OutlierPlan>,
    /// `wait_for_warm_on_init`, true by default: `/ready` waits for the first answer of DNS.
    pub wait_for_warm: bool,
}

/// A transport socket and which hosts use it.
pub struct TransportChoice {
    /// `name` of the match; empty for the cluster's own.
    pub name: Box<str>,
    /// What the endpoint's metadata `envoy.transport_socket_match` must hold.
    pub criteria: BTreeMap<Box<str>, Value>,
    /// The socket.
    pub factory: Arc<dyn TransportSocketFactory>,
}

/// Where hosts come from.
#[derive(Debug, Clone)]
pub enum Discovery {
    /// `STATIC`: addresses only.
    Static(Vec<EndpointPlan>),
    /// `STRICT_DNS`: every address of every name is a host.
    StrictDns(Vec<EndpointPlan>, DnsPlan),
    /// `LOGICAL_DNS`: one host, dialled at the first address of its name.
    LogicalDns(Box<EndpointPlan>, DnsPlan),
    /// `ORIGINAL_DST`: the destination that a request or connection brings with it.
    OriginalDst(OriginalDstPlan),
}

/// How names are resolved.
#[derive(Debug, Clone, Copy)]
pub struct DnsPlan {
    /// `dns_lookup_family`.
    pub family: DnsFamily,
    /// `dns_refresh_rate`, 5 s by default.
    pub refresh: Duration,
    /// `dns_failure_refresh_rate`: base and maximum of the back-off.
    pub failure: Option<(Duration, Duration)>,
    /// `dns_jitter`: added to each refresh, evenly spread.
    pub jitter: Duration,
}

/// `DnsLookupFamily`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6, else IPv4.
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// `OriginalDstLbConfig`.
#[derive(Debug, Clone, Default)]
pub struct OriginalDstPlan {
    /// `use_http_header` with `http_header_name`, lower case.
    pub header: Option<Box<str>>,
    /// `upstream_port_override`.
    pub port: Option<u16>,
    /// `metadata_key`: namespace and path.
    pub metadata: Option<(Box<str>, Vec<Box<str>>)>,
    /// `cleanup_interval`, 5 s by default.
    pub cleanup: Duration,
    /// Only the address that a filter found (`dynamic_forward_proxy`), nothing that the request or the connection says.
    pub resolved: bool,
    /// `max_hosts` of `dynamic_forward_proxy`; `None` is no limit.
    pub limit: Option<HostLimit>,
}

/// How many hosts clients may make up.
#[derive(Debug, Clone)]
pub struct HostLimit {
    /// Hosts at once.
    pub max: usize,
    /// Counts those refused.
    pub overflow: Counter,
}

impl ClusterPlan {
    /// Lowers a cluster's message, whose place in the configuration is `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it or not supported.
    pub fn from_proto(
        message: &adit_config::proto::envoy::config::cluster::v3::Cluster,
        path: &Path,
        env: &PlanEnv<'_>,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        lower::cluster(message, path, env).map(Arc::new)
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// The hosts whose addresses need no lookup; none for DNS and original destinations.
    pub(crate) fn fixed_hosts(&self) -> Vec<HostFacts> {
        match &self.discovery {
            Discovery::Static(endpoints) => endpoints.iter().filter_map(|endpoint| self.fixed_host(endpoint)).collect(),
            _ => Vec::new(),
        }
    }

    fn fixed_host(&self, endpoint: &EndpointPlan) -> Option<HostFacts> {
        match &endpoint.address {
            EndpointAddress::Fixed(address) => Some(self.host(endpoint, address.clone())),
            EndpointAddress::Name { .. } => None,
        }
    }

    /// A host of an endpoint at an address.
    pub(crate) fn host(&self, endpoint: &EndpointPlan, address: Address) -> HostFacts {
        HostFacts {
            info: HostInfo {
                address,
                hostname: endpoint.hostname.clone(),
                cluster: self.settings.name.clone(),
                metadata: endpoint.metadata.clone(),
            },
            additional: endpoint.additional.clone(),
            weight: endpoint.weight,
            priority: endpoint.priority,
            locality: endpoint.locality.clone(),
            health: endpoint.health,
            health_target: endpoint.health_target.clone(),
            transport: self.transport_of(&endpoint.metadata),
        }
    }

    /// A host at an original destination.
    pub(crate) fn original_host(&self, address: SocketAddr) -> HostFacts {
        let endpoint = EndpointPlan::at(Address::Ip(address));
        self.host(&endpoint, Address::Ip(address))
    }

    /// The transport socket that an endpoint's metadata chooses.
    fn transport_of(&self, metadata: &Metadata) -> usize {
        let wanted = metadata.get("envoy.transport_socket_match");
        let matches = |choice: &TransportChoice| {
            choice.criteria.iter().all(|(key, value)| match wanted {
                Some(Value::Struct(fields)) => fields.get(key) == Some(value),
                _ => false,
            })
        };
        self.transports.iter().position(matches).unwrap_or_default()
    }

    /// The transport socket of a host.
    pub(crate) fn transport(&self, index: usize) -> Option<&Arc<dyn TransportSocketFactory>> {
        self.transports.get(index).map(|choice| &choice.factory)
    }

    /// Whether `/ready` waits for the first answer of DNS.
    pub fn resolves(&self) -> bool {
        self.wait_for_warm && matches!(self.discovery, Discovery::StrictDns(..) | Discovery::LogicalDns(..))
    }
}

/// Collects what is wrong.
pub(crate) struct Problems(Vec<Diagnostic>);

impl Problems {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn error(&mut self, path: &Path, message: impl Into<String>) {
        self.0.push(Diagnostic::error(path, message));
    }

    pub fn unsupported(&mut self, path: &Path) {
        self.error(path, "is not supported");
    }

    /// Takes a result apart: an error is kept, and nothing given.
    pub fn take<T>(&mut self, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
        result.map_err(|problems| self.0.extend(problems)).ok()
    }

    pub fn finish<T>(self, value: T) -> Result<T, Vec<Diagnostic>> {
        if self.0.iter().any(Diagnostic::is_error) { Err(self.0) } else { Ok(value) }
    }

    pub fn fail(self) -> Vec<Diagnostic> {
        self.0
    }
}

#[cfg(test)]
mod tests;
