//! Listeners: names, addresses, internal listeners, filter chains.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::filters::{self, Chain};
use super::{Whole, http, tcp};
use crate::Path;
use crate::proto::envoy::config::core::v3::address::Address as Specifier;
use crate::proto::envoy::config::core::v3::socket_address::PortSpecifier;
use crate::proto::envoy::config::core::v3::{Address, CidrRange};
use crate::proto::envoy::config::listener::v3::filter::ConfigType;
use crate::proto::envoy::config::listener::v3::listener::ListenerSpecifier;
use crate::proto::envoy::config::listener::v3::listener::connection_balance_config::BalanceType;
use crate::proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

pub(super) fn check(whole: &mut Whole, listeners: &[Listener], path: &Path) {
    let mut names = HashSet::new();
    let mut addresses: HashMap<String, String> = HashMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        let here = path.item("listeners", index);
        // A listener without a name gets one of its own.
        if !listener.name.is_empty() && !names.insert(listener.name.as_str()) {
            let message = format!("error adding listener: duplicate listener name '{}'", listener.name);
            whole.error(&here.field("name"), message);
        }
        if matches!(listener.listener_specifier, Some(ListenerSpecifier::InternalListener(_))) {
            internal(whole, listener, &here);
        } else {
            bound(whole, listener, &here, &mut addresses);
        }
        chains(whole, listener, &here);
    }
}

fn refused(listener: &Listener, why: &str) -> String {
    format!("error adding listener named '{}': {why}", listener.name)
}

/// The rules of a listener that has a socket.
fn bound(whole: &mut Whole, listener: &Listener, path: &Path, taken: &mut HashMap<String, String>) {
    let Some(address) = &listener.address else {
        if listener.api_listener.is_none() {
            whole.error(path, refused(listener, "address is necessary"));
        }
        return;
    };
    let first = (path.field("address"), Some(address));
    let more = listener.additional_addresses.iter().enumerate().map(|(index, additional)| {
        (path.item("additional_addresses", index).field("address"), additional.address.as_ref())
    });
    for (here, address) in std::iter::once(first).chain(more) {
        let Some(address) = address else { continue };
        if matches!(address.address, Some(Specifier::EnvoyInternalAddress(_))) {
            let why = "use internal_listener field instead of address for internal listeners";
            whole.error(&here, refused(listener, why));
        }
        let Some((key, text)) = bind_key(address) else { continue };
        if let Some(other) = taken.insert(key, listener.name.clone()) {
            let message = format!(
                "error adding listener: '{}' has duplicate address '{text}' as existing listener '{other}'",
                listener.name
            );
            whole.error(&here, message);
        }
    }
}

/// What two listeners may not share, and how it reads. Port 0 is another port for each, and protocols do not collide.
fn bind_key(address: &Address) -> Option<(String, String)> {
    match address.address.as_ref()? {
        Specifier::SocketAddress(socket) => {
            let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
            if port == 0 {
                return None;
            }
            let host = socket.address.parse::<IpAddr>().map_or_else(|_| socket.address.clone(), |ip| ip.to_string());
            let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            Some((format!("{}/{text}", socket.protocol), text))
        }
        Specifier::Pipe(pipe) => Some((format!("pipe/{}", pipe.path), pipe.path.clone())),
        Specifier::EnvoyInternalAddress(_) => None,
    }
}

fn internal(whole: &mut Whole, listener: &Listener, path: &Path) {
    let here = path.field("internal_listener");
    if listener.address.is_some() || !listener.additional_addresses.is_empty() {
        let why = "address should not be used when an internal listener config is provided";
        whole.error(&path.field("address"), refused(listener, why));
    }
    if !whole.internal_enabled {
        whole.error(&here, refused(listener, "InternalListener bootstrap extension is mandatory"));
    }
    let exact = listener
        .connection_balance_config
        .as_ref()
        .is_some_and(|config| matches!(config.balance_type, Some(BalanceType::ExactBalance(_))));
    let tcp_only = [
        ("enable_reuse_port", listener.enable_reuse_port.is_some()),
        ("freebind", listener.freebind.is_some()),
        ("transparent", listener.transparent.is_some()),
        ("tcp_backlog_size", listener.tcp_backlog_size.is_some()),
        ("tcp_fast_open_queue_length", listener.tcp_fast_open_queue_length.is_some()),
        ("enable_mptcp", listener.enable_mptcp),
        ("connection_balance_config", exact),
    ];
    for (field, set) in tcp_only {
        if set {
            whole.error(&path.field(field), refused(listener, "has unsupported tcp listener feature"));
        }
    }
    if !listener.socket_options.is_empty() {
        whole.error(&path.field("socket_options"), refused(listener, "does not support socket option"));
    }
}

fn chains(whole: &mut Whole, listener: &Listener, path: &Path) {
    for (index, chain) in listener.filter_chains.iter().enumerate() {
        filter_chain(whole, chain, &path.item("filter_chains", index));
    }
    if let Some(chain) = &listener.default_filter_chain {
        filter_chain(whole, chain, &path.field("default_filter_chain"));
    }
    if listener.filter_chain_matcher.is_none() {
        matches(whole, listener, path);
    }
}

fn filter_chain(whole: &mut Whole, chain: &FilterChain, path: &Path) {
    let path = path.field("filters");
    let all: Vec<_> = chain
        .filters
        .iter()
        .map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) => (filter.name.as_str(), Some(config)),
            _ => (filter.name.as_str(), None),
        })
        .collect();
    filters::order(whole, Chain::Network, &all, &path);
    for (index, (_, config)) in all.iter().enumerate() {
        let Some(config) = config else { continue };
        let here = path.index(index).field("typed_config");
        if let Ok(manager) = crate::unpack(config) {
            http::check(whole, &manager, &here);
        } else if let Ok(proxy) = crate::unpack(config) {
            tcp::check(whole, &proxy, &here);
        }
    }
}

/// Two chains that some connection would match equally well.
fn matches(whole: &mut Whole, listener: &Listener, path: &Path) {
    let empty = FilterChainMatch::default();
    let mut seen: Vec<(Vec<HashSet<String>>, &str)> = Vec::new();
    for (index, chain) in listener.filter_chains.iter().enumerate() {
        let sets = dimensions(chain.filter_chain_match.as_ref().unwrap_or(&empty));
        if let Some((_, other)) = seen.iter().find(|(others, _)| overlap(&sets, others)) {
            let message = format!(
                "error adding listener '{}': filter chain '{}' has the same matching rules defined as '{other}'",
                listener.name, chain.name
            );
            whole.error(&path.item("filter_chains", index), message);
        }
        seen.push((sets, &chain.name));
    }
}

/// The values of each criterion; a criterion that is not given has the one value "".
fn dimensions(rules: &FilterChainMatch) -> Vec<HashSet<String>> {
    let ranges = |ranges: &[CidrRange]| -> HashSet<String> {
        let text = |range: &CidrRange| format!("{}/{}", range.address_prefix, range.prefix_len.unwrap_or(0));
        ranges.iter().map(text).collect()
    };
    let one = |value: String| HashSet::from([value]);
    let mut all = vec![
        one(rules.destination_port.map_or_else(String::new, |port| port.to_string())),
        ranges(&rules.prefix_ranges),
        rules.server_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        one(rules.transport_protocol.clone()),
        rules.application_protocols.iter().cloned().collect(),
        ranges(&rules.direct_source_prefix_ranges),
        one(rules.source_type.to_string()),
        ranges(&rules.source_prefix_ranges),
        rules.source_ports.iter().map(u32::to_string).collect(),
    ];
    for set in &mut all {
        if set.is_empty() {
            set.insert(String::new());
        }
    }
    all
}

fn overlap(a: &[HashSet<String>], b: &[HashSet<String>]) -> bool {
    a.iter().zip(b).all(|(a, b)| !a.is_disjoint(b))
}
