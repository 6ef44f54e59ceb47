//! The TCP proxy.

use super::Whole;
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, UpstreamConnectMode};
use crate::{Path, duration};

pub(super) fn check(whole: &mut Whole, proxy: &TcpProxy, path: &Path) {
    clusters(whole, proxy, path);
    if let Some(tunnel) = &proxy.tunneling_config
        && !tunnel.post_path.is_empty()
        && !tunnel.use_post
    {
        let here = path.field("tunneling_config").field("post_path");
        whole.error(&here, "Can't set a post path when POST method isn't used");
    }
    if let Some(options) = &proxy.backoff_options
        && let (Some(base), Some(max)) = (&options.base_interval, &options.max_interval)
        && duration(max) < duration(base)
    {
        let here = path.field("backoff_options").field("max_interval");
        whole.error(&here, "max_backoff_interval must be greater or equal to base_backoff_interval");
    }
    if proxy.upstream_connect_mode != UpstreamConnectMode::Immediate as i32 && proxy.max_early_data_bytes.is_none() {
        let message = "max_early_data_bytes must be set when upstream_connect_mode is not IMMEDIATE";
        whole.error(&path.field("upstream_connect_mode"), message);
    }
}

/// Envoy lets a TCP proxy name a cluster that may come later.
fn clusters(whole: &mut Whole, proxy: &TcpProxy, path: &Path) {
    let mut named = Vec::new();
    match &proxy.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => named.push((path.field("cluster"), name)),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let here = path.field("weighted_clusters");
            named.extend(
                weighted
                    .clusters
                    .iter()
                    .enumerate()
                    .map(|(index, cluster)| (here.item("clusters", index).field("name"), &cluster.name)),
            );
        }
        None => {}
    }
    for (here, name) in named {
        if !whole.clusters.contains(name) {
            whole.warning(&here, format!("there is no cluster '{name}': connections will be closed"));
        }
    }
}
