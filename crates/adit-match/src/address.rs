//! Address ranges (`envoy.config.core.v3.CidrRange`).

use std::net::IpAddr;

use adit_config::proto::envoy::config::core::v3 as pb;
use adit_config::proto::xds::core::v3 as xds;
use ipnet::{IpNet, Ipv4Net};

use crate::ConfigError;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CidrRange(IpNet);

impl CidrRange {
    /// From its message.
    pub fn from_proto(message: &pb::CidrRange, path: &str) -> Result<Self, ConfigError> {
        Self::new(&message.address_prefix, message.prefix_len.unwrap_or(0), path)
    }

    /// From the message of the same shape in xds.
    pub fn from_xds(message: &xds::CidrRange, path: &str) -> Result<Self, ConfigError> {
        Self::new(&message.address_prefix, message.prefix_len.unwrap_or(0), path)
    }

    fn new(prefix: &str, length: u32, path: &str) -> Result<Self, ConfigError> {
        let address: IpAddr = prefix.parse().map_err(|_| {
            ConfigError::new(format!("{path}.address_prefix"), format!("malformed IP address: {prefix}"))
        })?;
        let too_long = || ConfigError::new(format!("{path}.prefix_len"), format!("{length} is too long for {prefix}"));
        let length = u8::try_from(length).map_err(|_| too_long())?;
        IpNet::new(address, length).map(|net| Self(canonical(net.trunc()))).map_err(|_| too_long())
    }

    /// Whether the range holds `address`. An IPv4 address mapped into IPv6 is looked at as both.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address) || self.0.contains(&address.to_canonical())
    }

    /// How many leading bits are fixed; longer is more specific.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The range.
    pub fn net(&self) -> IpNet {
        self.0
    }
}

/// A range inside `::ffff:0:0/96` is the IPv4 range it stands for.
fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

/// Several ranges.
#[derive(Debug, Clone, Default)]
pub struct CidrSet(Vec<CidrRange>);

impl CidrSet {
    /// From a list; each at `path[index]`.
    pub fn from_proto(messages: &[pb::CidrRange], path: &str) -> Result<Self, ConfigError> {
        let each = messages.iter().enumerate();
        each.map(|(index, one)| CidrRange::from_proto(one, &format!("{path}[{index}]")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn from_xds(messages: &[xds::CidrRange], path: &str) -> Result<Self, ConfigError> {
        let each = messages.iter().enumerate();
        each.map(|(index, one)| CidrRange::from_xds(one, &format!("{path}[{index}]")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether one of them holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = &CidrRange> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn range(prefix: &str, length: u32) -> Result<CidrRange, ConfigError> {
        CidrRange::from_proto(&pb::CidrRange { address_prefix: prefix.into(), prefix_len: Some(length) }, "r")
    }

    #[test]
    fn ranges_hold_addresses_of_their_own_and_the_mapped_form() {
        for (prefix, length, address, expected) in [
            ("10.0.0.0", 8, "10.1.2.3", true),
            ("10.9.9.9", 8, "10.1.2.3", true),
            ("10.0.0.0", 8, "11.0.0.0", false),
            ("10.0.0.0", 8, "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0", 104, "10.0.0.1", true),
            ("::ffff:10.0.0.0", 104, "11.0.0.1", false),
            ("0.0.0.0", 0, "::1", false),
            ("::", 0, "::1", true),
            ("::", 0, "1.2.3.4", false),
            ("2001:db8::", 32, "2001:db8:1::", true),
        ] {
            assert_eq!(
                range(prefix, length).unwrap().contains(address.parse().unwrap()),
                expected,
                "{prefix} {address}"
            );
        }
    }

    #[test]
    fn bad_ranges_are_refused() {
        assert_eq!(range("ten", 8).unwrap_err().path, "r.address_prefix");
        assert_eq!(range("10.0.0.0", 33).unwrap_err().path, "r.prefix_len");
        assert_eq!(range("10.0.0.0", 300).unwrap_err().path, "r.prefix_len");
    }
}
