//! `load_assignment`: the endpoints of a cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use adit_config::Path;
use adit_config::proto::envoy::config::cluster::v3::cluster::DiscoveryType;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::endpoint::v3 as pb;
use adit_io::{Address, Metadata};

use super::Problems;
use super::options::metadata;

/// One configured endpoint.
#[derive(Debug, Clone)]
pub struct EndpointPlan {
    /// Where it is.
    pub address: EndpointAddress,
    /// `hostname`, or the name that is resolved.
    pub hostname: Arc<str>,
    /// `additional_addresses`.
    pub additional: Vec<Address>,
    /// `load_balancing_weight`, 1 by default.
    pub weight: u32,
    /// `priority`.
    pub priority: u32,
    /// The locality.
    pub locality: Arc<Locality>,
    /// `health_status`.
    pub health: ConfigHealth,
    /// `metadata`.
    pub metadata: Metadata,
    /// `health_check_config`.
    pub health_target: HealthTarget,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An address that needs no lookup.
    Fixed(Address),
    /// A name to resolve.
    Name {
        /// The name.
        host: Box<str>,
        /// The port.
        port: u16,
    },
}

/// `envoy.config.core.v3.Locality`, with the weight it has in this cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locality {
    /// `region`.
    pub region: Box<str>,
    /// `zone`.
    pub zone: Box<str>,
    /// `sub_zone`.
    pub sub_zone: Box<str>,
    /// `load_balancing_weight`; 0 where there is none.
    pub weight: u32,
}

/// What `health_status` makes of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigHealth {
    /// UNKNOWN or HEALTHY.
    Healthy,
    /// UNHEALTHY, DRAINING or TIMEOUT.
    Unhealthy,
    /// DEGRADED.
    Degraded,
}

/// `health_check_config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthTarget {
    /// `address`: checked instead of the host's own.
    pub address: Option<Address>,
    /// `port_value`: checked instead of the host's own.
    pub port: Option<u16>,
    /// `hostname`: the Host field of HTTP checks.
    pub hostname: Box<str>,
    /// `disable_active_health_check`.
    pub disabled: bool,
}

impl EndpointPlan {
    /// An endpoint at an address, with every default.
    pub fn at(address: Address) -> Self {
        Self {
            address: EndpointAddress::Fixed(address),
            hostname: "".into(),
            additional: Vec::new(),
            weight: 1,
            priority: 0,
            locality: Arc::default(),
            health: ConfigHealth::Healthy,
            metadata: Metadata::default(),
            health_target: HealthTarget::default(),
        }
    }
}

/// Every endpoint of an assignment; names only where the discovery type resolves them.
pub(super) fn endpoints(
    assignment: &pb::ClusterLoadAssignment,
    discovery: DiscoveryType,
    path: &Path,
    problems: &mut Problems,
) -> Vec<EndpointPlan> {
    let mut endpoints = Vec::new();
    for (index, group) in assignment.endpoints.iter().enumerate() {
        let path = path.item("endpoints", index);
        if group.priority > 128 {
            problems.error(&path.field("priority"), "must be at most 128");
            continue;
        }
        if group.lb_config.is_some() {
            problems.unsupported(&path.field("lb_config"));
        }
        let locality = group.locality.clone().unwrap_or_default();
        let locality = Arc::new(Locality {
            region: locality.region.into(),
            zone: locality.zone.into(),
            sub_zone: locality.sub_zone.into(),
            weight: group.load_balancing_weight.unwrap_or(0),
        });
        for (index, endpoint) in group.lb_endpoints.iter().enumerate() {
            let path = path.item("lb_endpoints", index);
            if let Some(mut plan) = lb_endpoint(endpoint, discovery, &path, problems) {
                plan.priority = group.priority;
                plan.locality = locality.clone();
                endpoints.push(plan);
            }
        }
    }
    endpoints
}

fn lb_endpoint(
    message: &pb::LbEndpoint,
    discovery: DiscoveryType,
    path: &Path,
    problems: &mut Problems,
) -> Option<EndpointPlan> {
    let Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &message.host_identifier else {
        problems.error(&path.field("endpoint"), "value is required");
        return None;
    };
    let path_of_endpoint = path.field("endpoint");
    let address = endpoint_address(endpoint.address.as_ref(), discovery, &path_of_endpoint.field("address"), problems)?;
    let name = match &address {
        EndpointAddress::Name { host, .. } if endpoint.hostname.is_empty() => &**host,
        _ => endpoint.hostname.as_str(),
    };
    let additional = endpoint.additional_addresses.iter().enumerate().filter_map(|(index, additional)| {
        let path = path_of_endpoint.item("additional_addresses", index).field("address");
        match endpoint_address(additional.address.as_ref(), DiscoveryType::Static, &path, problems)? {
            EndpointAddress::Fixed(address) => Some(address),
            EndpointAddress::Name { .. } => None,
        }
    });
    let additional = additional.collect();
    let path_of_check = path_of_endpoint.field("health_check_config");
    let check = endpoint.health_check_config.clone().unwrap_or_default();
    let check_address = check.address.as_ref().and_then(|address| {
        match endpoint_address(Some(address), DiscoveryType::Static, &path_of_check.field("address"), problems)? {
            EndpointAddress::Fixed(address) => Some(address),
            EndpointAddress::Name { .. } => None,
        }
    });
    use core::HealthStatus;
    Some(EndpointPlan {
        hostname: name.into(),
        address,
        additional,
        weight: message.load_balancing_weight.unwrap_or(1).max(1),
        priority: 0,
        locality: Arc::default(),
        health: match HealthStatus::try_from(message.health_status) {
            Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout) => ConfigHealth::Unhealthy,
            Ok(HealthStatus::Degraded) => ConfigHealth::Degraded,
            _ => ConfigHealth::Healthy,
        },
        metadata: message.metadata.as_ref().map(metadata).unwrap_or_default(),
        health_target: HealthTarget {
            address: check_address,
            port: u16::try_from(check.port_value).ok().filter(|port| *port != 0),
            hostname: check.hostname.into(),
            disabled: check.disable_active_health_check,
        },
    })
}

fn endpoint_address(
    message: Option<&core::Address>,
    discovery: DiscoveryType,
    path: &Path,
    problems: &mut Problems,
) -> Option<EndpointAddress> {
    use core::address::Address as Kind;
    let Some(kind) = message.and_then(|message| message.address.as_ref()) else {
        problems.error(path, "value is required");
        return None;
    };
    match kind {
        Kind::SocketAddress(socket) => socket_address(socket, discovery, &path.field("socket_address"), problems),
        Kind::Pipe(pipe) => Some(EndpointAddress::Fixed(Address::Pipe(pipe.path.as_str().into()))),
        Kind::EnvoyInternalAddress(internal) => {
            use core::envoy_internal_address::AddressNameSpecifier::ServerListenerName;
            let Some(ServerListenerName(listener)) = &internal.address_name_specifier else {
                problems
                    .error(&path.field("envoy_internal_address").field("server_listener_name"), "value is required");
                return None;
            };
            let (listener, endpoint_id) = (listener.as_str().into(), internal.endpoint_id.as_str().into());
            Some(EndpointAddress::Fixed(Address::Internal { listener, endpoint_id }))
        }
    }
}

fn socket_address(
    socket: &core::SocketAddress,
    discovery: DiscoveryType,
    path: &Path,
    problems: &mut Problems,
) -> Option<EndpointAddress> {
    if !socket.resolver_name.is_empty() {
        problems.unsupported(&path.field("resolver_name"));
    }
    let port = match &socket.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => u16::try_from(*port).ok(),
        Some(core::socket_address::PortSpecifier::NamedPort(_)) => {
            problems.unsupported(&path.field("named_port"));
            return None;
        }
        None => None,
    };
    let Some(port) = port else {
        problems.error(&path.field("port_value"), "value is required");
        return None;
    };
    match socket.address.parse::<IpAddr>() {
        Ok(ip) => Some(EndpointAddress::Fixed(Address::Ip(SocketAddr::new(ip, port)))),
        Err(_) if matches!(discovery, DiscoveryType::StrictDns | DiscoveryType::LogicalDns) => {
            Some(EndpointAddress::Name { host: socket.address.as_str().into(), port })
        }
        Err(_) => {
            let message = format!(
                "malformed IP address: {}. Consider setting the cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'",
                socket.address
            );
            problems.error(&path.field("address"), message);
            None
        }
    }
}
