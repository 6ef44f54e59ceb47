//! Clusters: names, and endpoints that are internal listeners.

use std::collections::HashSet;

use prost_types::value::Kind;

use super::Whole;
use crate::Path;
use crate::proto::envoy::config::cluster::v3::{Cluster, cluster::LbConfig};
use crate::proto::envoy::config::core::v3::Metadata;
use crate::proto::envoy::config::core::v3::address::Address;
use crate::proto::envoy::config::core::v3::envoy_internal_address::AddressNameSpecifier;
use crate::proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use crate::proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};

pub(super) fn check(whole: &mut Whole, clusters: &[Cluster], path: &Path) {
    let mut names = HashSet::new();
    for (index, cluster) in clusters.iter().enumerate() {
        let here = path.item("clusters", index);
        if !names.insert(cluster.name.as_str()) {
            whole.error(&here.field("name"), format!("cluster manager: duplicate cluster '{}'", cluster.name));
        }
        health_checks(whole, cluster, &here);
        if let Some(LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config
            && !config.use_http_header
            && !config.http_header_name.is_empty()
        {
            let why = "http_header_name is set and use_http_header is false";
            whole.error(&here.field("original_dst_lb_config").field("http_header_name"), why);
        }
        proxy_cluster(whole, cluster.metadata.as_ref(), &here);
        if let Some(assignment) = &cluster.load_assignment {
            endpoints(whole, assignment, &here.field("load_assignment"));
        }
    }
}

/// Several health checks are told apart by their names.
fn health_checks(whole: &mut Whole, cluster: &Cluster, path: &Path) {
    if cluster.health_checks.len() < 2 {
        return;
    }
    let mut names = HashSet::new();
    for (index, check) in cluster.health_checks.iter().enumerate() {
        let here = path.item("health_checks", index).field("name");
        if check.name.is_empty() {
            let why = "all health checks must have a name when multiple health checks are configured";
            whole.error(&here, format!("health check at index {index} is missing a name; {why}"));
        } else if !names.insert(check.name.as_str()) {
            let why = "all health check names must be unique within a cluster";
            whole.error(&here, format!("duplicate health check name '{}' at index {index}; {why}", check.name));
        }
    }
}

fn endpoints(whole: &mut Whole, assignment: &ClusterLoadAssignment, path: &Path) {
    for (index, locality) in assignment.endpoints.iter().enumerate() {
        let here = path.item("endpoints", index);
        for (index, endpoint) in locality.lb_endpoints.iter().enumerate() {
            let here = here.item("lb_endpoints", index);
            internal(whole, endpoint, &here);
            proxy_cluster(whole, endpoint.metadata.as_ref(), &here);
        }
    }
}

/// The cluster that leads to the proxy of `http_11_proxy`.
fn proxy_cluster(whole: &mut Whole, metadata: Option<&Metadata>, path: &Path) {
    let fields = metadata.and_then(|metadata| metadata.filter_metadata.get("adit.http_11_proxy"));
    let Some(Kind::StringValue(name)) =
        fields.and_then(|fields| fields.fields.get("cluster")).and_then(|value| value.kind.as_ref())
    else {
        return;
    };
    if !whole.clusters.contains(name) {
        whole.warning(&path.field("metadata"), format!("there is no cluster '{name}': connections will fail"));
    }
}

fn internal(whole: &mut Whole, endpoint: &LbEndpoint, path: &Path) {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return };
    let address = endpoint.address.as_ref().and_then(|address| address.address.as_ref());
    let Some(Address::EnvoyInternalAddress(address)) = address else { return };
    let here = path.field("endpoint").field("address").field("envoy_internal_address");
    if !whole.internal_enabled {
        let message = "internal listeners are not enabled: the InternalListener bootstrap extension is missing";
        whole.warning(&here, message);
    }
    let Some(AddressNameSpecifier::ServerListenerName(name)) = &address.address_name_specifier else { return };
    if !whole.internal_listeners.contains(name) {
        whole.warning(&here.field("server_listener_name"), format!("there is no internal listener '{name}'"));
    }
}
