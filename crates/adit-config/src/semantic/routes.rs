//! Route configurations: clusters that must exist, domains, upgrades of routes.

use std::collections::HashSet;

use super::Whole;
use crate::Path;
use crate::proto::envoy::config::route::v3::route::Action;
use crate::proto::envoy::config::route::v3::route_action::{ClusterSpecifier, RequestMirrorPolicy, UpgradeConfig};
use crate::proto::envoy::config::route::v3::{RouteAction, RouteConfiguration, VirtualHost};

pub(super) fn check(whole: &mut Whole, config: &RouteConfiguration, path: &Path) {
    // A static route configuration is checked unless it says otherwise.
    let clusters = config.validate_clusters.unwrap_or(true);
    if clusters {
        mirrors(whole, &config.request_mirror_policies, path);
    }
    let (mut domains, mut names) = (HashSet::new(), HashSet::new());
    for (index, host) in config.virtual_hosts.iter().enumerate() {
        let here = path.item("virtual_hosts", index);
        if !names.insert(host.name.as_str()) {
            let message = format!("Only unique names for virtual hosts are permitted. Duplicate of '{}'", host.name);
            whole.error(&here.field("name"), message);
        }
        unique_domains(whole, host, &config.name, &mut domains, &here);
        if clusters {
            mirrors(whole, &host.request_mirror_policies, &here);
        }
        for (index, route) in host.routes.iter().enumerate() {
            if let Some(Action::Route(action)) = &route.action {
                let here = here.item("routes", index).field("route");
                if clusters {
                    targets(whole, action, &here);
                    mirrors(whole, &action.request_mirror_policies, &here);
                }
                upgrades(whole, &action.upgrade_configs, &here);
            }
        }
    }
}

fn unique_domains(whole: &mut Whole, host: &VirtualHost, config: &str, seen: &mut HashSet<String>, path: &Path) {
    for (index, domain) in host.domains.iter().enumerate() {
        if seen.insert(domain.to_ascii_lowercase()) {
            continue;
        }
        let message = if domain == "*" {
            format!("Only a single wildcard domain is permitted in route {config}")
        } else {
            format!(
                "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {config}"
            )
        };
        whole.error(&path.item("domains", index), message);
    }
}

fn targets(whole: &mut Whole, action: &RouteAction, path: &Path) {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if !whole.clusters.contains(name) => {
            whole.error(&path.field("cluster"), format!("route: unknown cluster '{name}'"));
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let here = path.field("weighted_clusters");
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                if !cluster.name.is_empty() && !whole.clusters.contains(&cluster.name) {
                    let message = format!("route: unknown weighted cluster '{}'", cluster.name);
                    whole.error(&here.item("clusters", index).field("name"), message);
                }
                if cluster.weight.is_none() {
                    whole.error(&here.item("clusters", index), "Field 'weight' is missing");
                }
            }
        }
        _ => {}
    }
}

fn mirrors(whole: &mut Whole, policies: &[RequestMirrorPolicy], path: &Path) {
    for (index, policy) in policies.iter().enumerate() {
        if !policy.cluster.is_empty() && !whole.clusters.contains(&policy.cluster) {
            let message = format!("route: unknown shadow cluster '{}'", policy.cluster);
            whole.error(&path.item("request_mirror_policies", index).field("cluster"), message);
        }
    }
}

fn upgrades(whole: &mut Whole, upgrades: &[UpgradeConfig], path: &Path) {
    let mut seen = HashSet::new();
    for (index, upgrade) in upgrades.iter().enumerate() {
        let here = path.item("upgrade_configs", index);
        let kind = upgrade.upgrade_type.to_ascii_lowercase();
        if upgrade.connect_config.is_some() && kind != "connect" && kind != "connect-udp" {
            let message = format!("Non-CONNECT upgrade type {} has ConnectConfig", upgrade.upgrade_type);
            whole.error(&here.field("connect_config"), message);
        }
        if !seen.insert(kind) {
            whole.error(&here.field("upgrade_type"), format!("Duplicate upgrade {}", upgrade.upgrade_type));
        }
    }
}
