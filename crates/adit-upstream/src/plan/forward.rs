//! `envoy.clusters.dynamic_forward_proxy`: hosts are what requests name.

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::cluster::v3::{self as pb, cluster};
use adit_config::proto::envoy::extensions::clusters::dynamic_forward_proxy::v3 as dfp;
use adit_config::proto::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use adit_config::{Path, duration, type_name, unpack};
use adit_filter::upstream::Resolver;
use adit_stats::Scope;

use super::{DnsFamily, HostLimit, OriginalDstPlan, Problems};
use crate::resolve::{CacheOptions, DnsCache};

/// A cluster of this type.
pub(super) struct Forward {
    cache: Arc<DnsCache>,
    cleanup: Duration,
    limit: HostLimit,
}

impl Forward {
    pub(super) fn plan(&self) -> OriginalDstPlan {
        let limit = Some(self.limit.clone());
        OriginalDstPlan { resolved: true, cleanup: self.cleanup, limit, ..OriginalDstPlan::default() }
    }

    pub(super) fn resolver(self) -> Arc<dyn Resolver> {
        self.cache
    }
}

/// The cluster's own kind of this; `None` where it is another, or wrong.
pub(super) fn forward(message: &pb::Cluster, path: &Path, scope: &Scope, problems: &mut Problems) -> Option<Forward> {
    let Some(cluster::ClusterDiscoveryType::ClusterType(custom)) = &message.cluster_discovery_type else { return None };
    let path = path.field("cluster_type").field("typed_config");
    let Some(any) = &custom.typed_config else {
        problems.error(&path, "value is required");
        return None;
    };
    if type_name(any) != "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig" {
        problems.unsupported(&path);
        return None;
    }
    let config: dfp::ClusterConfig = match unpack(any) {
        Ok(config) => config,
        Err(error) => {
            problems.error(&path, error.to_string());
            return None;
        }
    };
    if message.load_assignment.is_some() {
        problems.error(&path, "a dynamic_forward_proxy cluster has no load assignment");
    }
    let Some(dfp::cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache)) =
        config.cluster_implementation_specifier
    else {
        problems.error(&path.field("dns_cache_config"), "value is required");
        return None;
    };
    let options = options(&cache);
    // `host_ttl` is of names: a host is dropped as soon as nothing uses it, or clients could fill memory with ports.
    let cleanup = message.cleanup_interval.as_ref().map_or(Duration::from_secs(5), duration);
    let scope = scope.scope("dns_cache").scope(&cache.name);
    let limit = HostLimit { max: options.max_hosts, overflow: scope.counter("host_overflow") };
    Some(Forward { cache: Arc::new(DnsCache::new(options, &scope)), cleanup, limit })
}

fn options(cache: &DnsCacheConfig) -> CacheOptions {
    use adit_config::proto::envoy::config::cluster::v3::cluster::DnsLookupFamily as Family;
    let defaults = CacheOptions::default();
    let pending = cache.dns_cache_circuit_breaker.as_ref().and_then(|breaker| breaker.max_pending_requests);
    let count = |number: Option<u32>, default: usize| {
        number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    CacheOptions {
        family: match Family::try_from(cache.dns_lookup_family) {
            Ok(Family::V4Only) => DnsFamily::V4Only,
            Ok(Family::V6Only) => DnsFamily::V6Only,
            Ok(Family::V4Preferred) => DnsFamily::V4Preferred,
            Ok(Family::All) => DnsFamily::All,
            _ => DnsFamily::Auto,
        },
        refresh: cache.dns_refresh_rate.as_ref().map_or(defaults.refresh, duration),
        ttl: cache.host_ttl.as_ref().map_or(defaults.ttl, duration),
        timeout: cache.dns_query_timeout.as_ref().map_or(defaults.timeout, duration),
        max_hosts: count(cache.max_hosts, defaults.max_hosts),
        max_pending: count(pending, defaults.max_pending),
    }
}
