//! Clusters: names, and endpoints that are internal listeners.

use std::collections::{HashMap, HashSet};

use prost_types::value::Kind;

use super::Whole;
use crate::Path;
use crate::proto::envoy::config::cluster::v3::{Cluster, cluster::LbConfig};
use crate::proto::envoy::config::core::v3::Metadata;
use crate::proto::envoy::config::core::v3::address::Address;
use crate::proto::envoy::config::core::v3::envoy_internal_address::AddressNameSpecifier;
use crate::proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use crate::proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};

/// Metadata of a cluster or host that says through which cluster its proxy is reached.
const PROXY_KEY: &str = "adit.http_11_proxy";

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
    circles(whole, clusters, path);
}

/// Clusters that lead to each other through `http_11_proxy`: their connections would wait for each other and dial nothing. (One
/// that leads to itself is refused where the transport socket is made.)
fn circles(whole: &mut Whole, clusters: &[Cluster], path: &Path) {
    let leads: HashMap<&str, (usize, Vec<&str>)> = clusters
        .iter()
        .enumerate()
        .map(|(index, cluster)| (&*cluster.name, (index, leads_to(cluster))))
        .filter(|(_, (_, names))| !names.is_empty())
        .collect();
    // Depth first; a name on the way is `false`, one that is done with `true`.
    let mut seen: HashMap<&str, bool> = HashMap::new();
    for start in clusters.iter().map(|cluster| &*cluster.name) {
        if seen.contains_key(start) || !leads.contains_key(start) {
            continue;
        }
        seen.insert(start, false);
        let mut way = vec![(start, 0)];
        while let Some((name, next)) = way.last_mut() {
            let name = *name;
            let Some((index, names)) = leads.get(name) else { break };
            let Some(to) = names.get(*next).copied() else {
                seen.insert(name, true);
                way.pop();
                continue;
            };
            *next += 1;
            match seen.get(to) {
                None if leads.contains_key(to) => {
                    seen.insert(to, false);
                    way.push((to, 0));
                }
                Some(false) if to != name => {
                    let circle = way.iter().map(|(name, _)| *name).skip_while(|name| *name != to);
                    let circle = circle.chain([to]).collect::<Vec<_>>().join("' -> '");
                    let here = path.item("clusters", *index);
                    whole.error(&here, format!("metadata {PROXY_KEY}: clusters lead in a circle: '{circle}'"));
                }
                _ => {}
            }
        }
    }
}

/// The clusters through which a cluster or one of its hosts is reached.
fn leads_to(cluster: &Cluster) -> Vec<&str> {
    let endpoints = cluster.load_assignment.iter().flat_map(|all| &all.endpoints);
    let of_hosts = endpoints.flat_map(|locality| &locality.lb_endpoints).map(|host| host.metadata.as_ref());
    std::iter::once(cluster.metadata.as_ref()).chain(of_hosts).filter_map(proxy_name).collect()
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
fn proxy_name(metadata: Option<&Metadata>) -> Option<&str> {
    match &metadata?.filter_metadata.get(PROXY_KEY)?.fields.get("cluster")?.kind {
        Some(Kind::StringValue(name)) => Some(name),
        _ => None,
    }
}

fn proxy_cluster(whole: &mut Whole, metadata: Option<&Metadata>, path: &Path) {
    let Some(name) = proxy_name(metadata) else { return };
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
