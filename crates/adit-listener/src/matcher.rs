//! Which filter chain a connection gets (`envoy.config.listener.v3.FilterChainMatch`).

use std::net::{IpAddr, Ipv4Addr};

use adit_config::proto::envoy::config::core::v3::CidrRange as CidrMessage;
use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_io::{Address, ConnInfo};
use adit_match::CidrRange;
use pb::filter_chain_match::ConnectionSourceType;

/// What the address of a connection without an IP address is taken for, as in Envoy.
const NO_IP: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// The criteria of one chain. An empty criterion matches everything, less specifically than a set one.
#[derive(Debug, Clone, Default)]
pub struct ChainMatch {
    /// `destination_port`
    pub destination_port: Option<u16>,
    /// `prefix_ranges`: our address.
    pub prefix_ranges: Vec<CidrRange>,
    /// `server_names`, lower case: exact, or `*.` and a suffix.
    pub server_names: Vec<Box<str>>,
    /// `transport_protocol`; empty for any.
    pub transport_protocol: Box<str>,
    /// `application_protocols`
    pub application_protocols: Vec<Box<str>>,
    /// `direct_source_prefix_ranges`: the peer of the socket itself.
    pub direct_source_prefix_ranges: Vec<CidrRange>,
    /// `source_type`
    pub source_type: SourceType,
    /// `source_prefix_ranges`: the peer, as the PROXY protocol told it if it did.
    pub source_prefix_ranges: Vec<CidrRange>,
    /// `source_ports`
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SourceType {
    /// From anywhere.
    #[default]
    Any,
    /// From this host: loopback, the same address, or a Unix socket.
    Local,
    /// From elsewhere.
    External,
}

/// What a connection is matched by.
#[derive(Debug, Clone, Copy)]
pub struct MatchInput<'a> {
    /// Our end.
    pub local: &'a Address,
    /// The peer.
    pub remote: &'a Address,
    /// The peer of the socket itself.
    pub direct_remote: &'a Address,
    /// The name asked for in TLS; empty for none.
    pub server_name: &'a str,
    /// `raw_buffer`, `tls` or `quic`.
    pub transport: &'a str,
    /// The protocols offered.
    pub alpn: &'a [Box<str>],
}

impl<'a> From<&'a ConnInfo> for MatchInput<'a> {
    fn from(info: &'a ConnInfo) -> Self {
        Self {
            local: &info.local,
            remote: &info.remote,
            direct_remote: info.direct_remote(),
            server_name: info.server_name.as_deref().unwrap_or_default(),
            transport: info.transport,
            alpn: &info.offered_alpn,
        }
    }
}

impl MatchInput<'_> {
    fn is_local(&self) -> bool {
        match (self.remote, self.local.ip()) {
            (Address::Pipe(_), _) => true,
            (Address::Ip(remote), local) => remote.ip().to_canonical().is_loopback() || local == Some(remote.ip()),
            (Address::Internal { .. }, _) => false,
        }
    }
}

impl ChainMatch {
    /// From its message, at `path`.
    pub fn from_proto(message: &pb::FilterChainMatch, path: &Path) -> Result<Self, Diagnostic> {
        let port = |port: u32, path: Path| {
            u16::try_from(port).map_err(|_| Diagnostic::error(path, format!("{port} is not a port")))
        };
        let ports = message.source_ports.iter().enumerate();
        Ok(Self {
            destination_port: message
                .destination_port
                .map(|value| port(value, path.field("destination_port")))
                .transpose()?,
            prefix_ranges: ranges(&message.prefix_ranges, &path.field("prefix_ranges"))?,
            server_names: server_names(&message.server_names, &path.field("server_names"))?,
            transport_protocol: message.transport_protocol.as_str().into(),
            application_protocols: message.application_protocols.iter().map(|name| name.as_str().into()).collect(),
            direct_source_prefix_ranges: ranges(
                &message.direct_source_prefix_ranges,
                &path.field("direct_source_prefix_ranges"),
            )?,
            source_type: match message.source_type() {
                ConnectionSourceType::Any => SourceType::Any,
                ConnectionSourceType::SameIpOrLoopback => SourceType::Local,
                ConnectionSourceType::External => SourceType::External,
            },
            source_prefix_ranges: ranges(&message.source_prefix_ranges, &path.field("source_prefix_ranges"))?,
            source_ports: ports
                .map(|(index, value)| port(*value, path.item("source_ports", index)))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn ranges(messages: &[CidrMessage], path: &Path) -> Result<Vec<CidrRange>, Diagnostic> {
    let each = messages.iter().enumerate();
    each.map(|(index, range)| {
        let path = path.index(index);
        CidrRange::from_proto(range, path.as_str()).map_err(|error| Diagnostic::error(error.path, error.message))
    })
    .collect()
}

fn server_names(names: &[String], path: &Path) -> Result<Vec<Box<str>>, Diagnostic> {
    let each = names.iter().enumerate();
    each.map(|(index, name)| {
        if name.strip_prefix("*.").unwrap_or(name).contains('*') {
            let message = "partial wildcards are not supported in \"server_names\"";
            return Err(Diagnostic::error(path.index(index), message));
        }
        Ok(name.to_ascii_lowercase().into())
    })
    .collect()
}

/// Finds the chain of a connection among a listener's chains.
///
/// The criteria are looked at in Envoy's order; each keeps only the chains that match it most specifically, and a chain that
/// was left behind never comes back, even if all that were kept fail a later criterion.
#[derive(Debug, Default)]
pub struct FilterChainMatcher {
    chains: Vec<ChainMatch>,
    /// Each chain matches everything, so the first one always wins.
    trivial: bool,
}

impl FilterChainMatcher {
    /// Over these chains; what is found is an index into them.
    pub fn new(chains: Vec<ChainMatch>) -> Self {
        let trivial = chains.iter().all(ChainMatch::is_empty);
        Self { chains, trivial }
    }

    /// The index of the chain that matches; `None` when none does.
    pub fn find(&self, input: &MatchInput<'_>) -> Option<usize> {
        if self.trivial {
            return (!self.chains.is_empty()).then_some(0);
        }
        let mut left: Vec<usize> = (0..self.chains.len()).collect();
        for criterion in CRITERIA {
            self.keep_best(&mut left, |chain| criterion(chain, input));
            if left.is_empty() {
                return None;
            }
        }
        left.first().copied()
    }

    /// Keeps the chains whose score is the best; those without one do not match.
    fn keep_best(&self, left: &mut Vec<usize>, score: impl Fn(&ChainMatch) -> Option<u32>) {
        let score = |index: &usize| self.chains.get(*index).and_then(&score);
        let best = left.iter().filter_map(score).max();
        left.retain(|index| best.is_some() && score(index) == best);
    }
}

impl ChainMatch {
    fn is_empty(&self) -> bool {
        self.destination_port.is_none()
            && self.prefix_ranges.is_empty()
            && self.server_names.is_empty()
            && self.transport_protocol.is_empty()
            && self.application_protocols.is_empty()
            && self.direct_source_prefix_ranges.is_empty()
            && self.source_type == SourceType::Any
            && self.source_prefix_ranges.is_empty()
            && self.source_ports.is_empty()
    }
}

/// How specifically a chain matches one criterion, 0 for "any"; `None` when it does not.
type Criterion = fn(&ChainMatch, &MatchInput<'_>) -> Option<u32>;

/// In Envoy's order.
const CRITERIA: [Criterion; 9] = [
    |chain, input| match chain.destination_port {
        None => Some(0),
        wanted => (wanted == input.local.port()).then_some(1),
    },
    |chain, input| longest(&chain.prefix_ranges, input.local),
    |chain, input| server_name(&chain.server_names, input.server_name),
    |chain, input| match &*chain.transport_protocol {
        "" => Some(0),
        wanted => (wanted == input.transport).then_some(1),
    },
    |chain, input| application_protocol(&chain.application_protocols, input.alpn),
    |chain, input| longest(&chain.direct_source_prefix_ranges, input.direct_remote),
    |chain, input| match chain.source_type {
        SourceType::Any => Some(0),
        SourceType::Local => input.is_local().then_some(1),
        SourceType::External => (!input.is_local()).then_some(1),
    },
    |chain, input| longest(&chain.source_prefix_ranges, input.remote),
    |chain, input| match &*chain.source_ports {
        [] => Some(0),
        wanted => wanted.contains(&input.remote.port()?).then_some(1),
    },
];

/// The length of the longest range that holds the address. No range at all counts as one of length 0.
fn longest(ranges: &[CidrRange], address: &Address) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    let ip = address.ip().unwrap_or(NO_IP);
    let holding = ranges.iter().filter(|range| range.contains(ip));
    holding.map(|range| u32::from(range.prefix_len())).max()
}

/// An exact name beats every wildcard, a longer wildcard beats a shorter one.
fn server_name(names: &[Box<str>], asked: &str) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    let score = |name: &str| match name.strip_prefix('*') {
        Some(suffix) => {
            let label = asked.len().checked_sub(suffix.len())?;
            let tail = asked.get(label..)?;
            (label > 0 && tail.eq_ignore_ascii_case(suffix)).then(|| suffix.len().min(usize::from(u16::MAX)) as u32)
        }
        None => name.eq_ignore_ascii_case(asked).then_some(u32::MAX),
    };
    if asked.is_empty() { None } else { names.iter().filter_map(|name| score(name)).max() }
}

/// The protocol that the peer offered first beats those behind it.
fn application_protocol(wanted: &[Box<str>], offered: &[Box<str>]) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    let first = offered.iter().position(|protocol| wanted.contains(protocol))?;
    Some(u32::MAX - u32::try_from(first).unwrap_or(u32::MAX - 1))
}

#[cfg(test)]
mod tests;
