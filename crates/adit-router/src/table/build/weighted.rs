//! `WeightedCluster`: clusters of which a request gets one.

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_io::Metadata;
use adit_match::ConfigError;
use http::HeaderName;
use pb::weighted_cluster::RandomValueSpecifier;
use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier as WeightedHostRewrite;

use super::forward::metadata;
use super::{Builder, Level};
use crate::table::Weighted;
use crate::table::matching::take;
use crate::table::rewrite::{HostRewrite, weighted};
use crate::table::route::ClusterName;

/// What is the same for all, and the clusters.
pub(super) type WeightedParts = (Weighted, Vec<WeightedCluster>);

/// `ClusterWeight`.
pub(super) struct WeightedCluster {
    pub(super) cluster: ClusterName,
    pub(super) name: Box<str>,
    pub(super) weight: u32,
    pub(super) metadata_match: Option<Metadata>,
    pub(super) host_rewrite: Option<HostRewrite>,
    pub(super) level: Level,
}

impl Builder<'_> {
    #[expect(deprecated, reason = "`total_weight` is checked where old files have it")]
    pub(super) fn weighted(&mut self, message: &pb::WeightedCluster, at: &str) -> Option<WeightedParts> {
        let mut clusters = Vec::new();
        for (index, cluster) in message.clusters.iter().enumerate() {
            clusters.extend(self.weighted_cluster(cluster, &format!("{at}.clusters[{index}]")));
        }
        let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        if total == 0 || total > u64::from(u32::MAX) {
            self.errors.push(ConfigError::new(
                at,
                "Sum of weights in the weighted_cluster must be greater than 0 and fit 32 bits",
            ));
        }
        if message.total_weight.is_some_and(|expected| u64::from(expected) != total) {
            let text = format!("Sum of weights in the weighted_cluster must equal total_weight, and is {total}");
            self.errors.push(ConfigError::new(format!("{at}.total_weight"), text));
        }
        let header = match &message.random_value_specifier {
            Some(RandomValueSpecifier::HeaderName(name)) => {
                let bad = |_| ConfigError::new(format!("{at}.header_name"), "not a header name");
                Some(take(HeaderName::from_bytes(name.as_bytes()).map_err(bad), &mut self.errors)?)
            }
            _ => None,
        };
        let settings = Weighted {
            entries: Vec::new(),
            header,
            use_hash_policy: matches!(message.random_value_specifier, Some(RandomValueSpecifier::UseHashPolicy(true))),
            runtime_key_prefix: message.runtime_key_prefix.as_str().into(),
        };
        Some((settings, clusters))
    }

    fn weighted_cluster(&mut self, cluster: &pb::weighted_cluster::ClusterWeight, at: &str) -> Option<WeightedCluster> {
        let name = match (cluster.name.is_empty(), cluster.cluster_header.is_empty()) {
            (false, true) => self.cluster(&cluster.name, &format!("{at}.name")),
            (true, false) => self.cluster_header(&cluster.cluster_header, &format!("{at}.cluster_header"))?,
            _ => {
                self.errors.push(ConfigError::new(at, "exactly one of name and cluster_header must be set"));
                return None;
            }
        };
        let host_rewrite = cluster
            .host_rewrite_specifier
            .as_ref()
            .map(|WeightedHostRewrite::HostRewriteLiteral(text)| weighted(text, &format!("{at}.host_rewrite_literal")));
        Some(WeightedCluster {
            cluster: name,
            name: cluster.name.as_str().into(),
            weight: cluster.weight.unwrap_or(0),
            metadata_match: cluster.metadata_match.as_ref().map(metadata),
            host_rewrite: take(host_rewrite.transpose(), &mut self.errors)?,
            level: self.level(
                (&cluster.request_headers_to_add, &cluster.request_headers_to_remove),
                (&cluster.response_headers_to_add, &cluster.response_headers_to_remove),
                &cluster.typed_per_filter_config,
                &|field| format!("{at}.{field}"),
            ),
        })
    }
}
