//! The PROXY protocol preamble of a terminated CONNECT (`connect_config.proxy_protocol_config`).

use std::net::SocketAddr;

use adit_config::proto::envoy::config::core::v3::ProxyProtocolConfig;
use adit_config::proto::envoy::config::core::v3::proxy_protocol_config::Version;
use adit_io::ConnInfo;
use adit_match::ConfigError;
use bytes::Bytes;

/// Which version is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    V1,
    V2,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

impl ProxyProtocol {
    pub(crate) fn from_proto(message: &ProxyProtocolConfig, at: &str, errors: &mut Vec<ConfigError>) -> Option<Self> {
        if message.pass_through_tlvs.is_some() {
            errors.push(ConfigError::unsupported(format!("{at}.pass_through_tlvs")));
        }
        if !message.added_tlvs.is_empty() {
            errors.push(ConfigError::unsupported(format!("{at}.added_tlvs")));
        }
        match Version::try_from(message.version) {
            Ok(Version::V1) => Some(Self::V1),
            Ok(Version::V2) => Some(Self::V2),
            Err(_) => {
                errors.push(ConfigError::new(format!("{at}.version"), "not one of the enum"));
                None
            }
        }
    }

    /// The preamble with the downstream connection's addresses.
    pub(crate) fn preamble(self, conn: &ConnInfo) -> Bytes {
        let ends = conn.remote.socket().zip(conn.local.socket()).map(same_family);
        match self {
            Self::V1 => v1(ends),
            Self::V2 => v2(ends),
        }
    }
}

/// IPv4 where both are, IPv6 (mapped where need be) else.
fn same_family((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 @ SocketAddr::V6(_) => v6,
    };
    if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (mapped(from), mapped(to)) }
}

fn v1(ends: Option<(SocketAddr, SocketAddr)>) -> Bytes {
    match ends {
        Some((from, to)) => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into()
        }
        None => Bytes::from_static(b"PROXY UNKNOWN\r\n"),
    }
}

fn v2(ends: Option<(SocketAddr, SocketAddr)>) -> Bytes {
    let mut out = SIGNATURE.to_vec();
    match ends {
        Some((SocketAddr::V4(from), SocketAddr::V4(to))) => {
            out.extend([0x21, 0x11, 0, 12]);
            out.extend(from.ip().octets());
            out.extend(to.ip().octets());
            out.extend(from.port().to_be_bytes());
            out.extend(to.port().to_be_bytes());
        }
        Some((SocketAddr::V6(from), SocketAddr::V6(to))) => {
            out.extend([0x21, 0x21, 0, 36]);
            out.extend(from.ip().octets());
            out.extend(to.ip().octets());
            out.extend(from.port().to_be_bytes());
            out.extend(to.port().to_be_bytes());
        }
        // LOCAL: there are no addresses to tell.
        _ => out.extend([0x20, 0, 0, 0]),
    }
    out.into()
}
