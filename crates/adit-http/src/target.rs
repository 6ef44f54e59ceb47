//! The target of a CONNECT: `host:port` (RFC 9110 section 9.3.6), parsed strictly.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::uri::Authority;

/// A CONNECT target that may be dialled: a host and a port from 1 to 65535.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTarget {
    /// A registered name or the text of an IP address, without brackets.
    pub host: Box<str>,
    /// 1 to 65535.
    pub port: u16,
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither a name nor an address.
    #[error("the host of the target is not valid")]
    Host,
    /// No port where one is needed.
    #[error("the target has no port")]
    NoPort,
    /// Not a decimal number from 1 to 65535.
    #[error("the port of the target is not a number from 1 to 65535")]
    Port,
}

impl ConnectTarget {
    /// Parses an HTTP/1.1 request target: the port is mandatory.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        Self::parse_with_default(text, None)
    }

    /// Parses a target; one without a port takes `default_port` (HTTP/2 and HTTP/3 clients may leave it out).
    pub fn parse_with_default(text: &str, default_port: Option<u16>) -> Result<Self, TargetError> {
        let (host, port) = split(text, default_port)?;
        Ok(Self { host: host.into(), port })
    }

    /// Whether [`ConnectTarget::parse`] would take it.
    pub fn check(text: &str) -> Result<(), TargetError> {
        split(text, None).map(|_| ())
    }

    /// The address to dial, if the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> Option<Authority> {
        self.to_string().parse().ok()
    }
}

impl std::fmt::Display for ConnectTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Host, without brackets, and port of a target.
fn split(text: &str, default_port: Option<u16>) -> Result<(&str, u16), TargetError> {
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(TargetError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| TargetError::Host)?;
        (host, rest)
    } else {
        let end = text.bytes().position(|byte| byte == b':').unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        check_name(host)?;
        (host, rest)
    };
    let port = match (rest.strip_prefix(':'), default_port) {
        (Some(port), _) => parse_port(port)?,
        (None, Some(port)) if rest.is_empty() => port,
        (None, _) if rest.is_empty() => return Err(TargetError::NoPort),
        (None, _) => return Err(TargetError::Host),
    };
    Ok((host, port))
}

/// The target in the path of a CONNECT-UDP by Envoy's fixed template,
/// `/.well-known/masque/udp/{target_host}/{target_port}/` (RFC 9298 section 2), percent-decoded.
pub fn connect_udp_target(path: &str) -> Result<ConnectTarget, TargetError> {
    let rest = path.strip_prefix("/.well-known/masque/udp/").ok_or(TargetError::Host)?;
    let rest = rest.strip_suffix('/').ok_or(TargetError::Host)?;
    let (host, port) = rest.split_once('/').ok_or(TargetError::Host)?;
    udp_target(host, port)
}

/// A target from the two variables of a CONNECT-UDP template, both percent-encoded; an IPv6 address has no brackets and no
/// zone.
pub fn udp_target(host: &str, port: &str) -> Result<ConnectTarget, TargetError> {
    let host = percent_decode(host).ok_or(TargetError::Host)?;
    if port.is_empty() {
        return Err(TargetError::NoPort);
    }
    let port = parse_port(&percent_decode(port).ok_or(TargetError::Port)?)?;
    if host.parse::<Ipv6Addr>().is_err() {
        check_name(&host)?;
    }
    Ok(ConnectTarget { host: host.into(), port })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// A decimal port from 1 to 65535: digits only, at most five.
pub fn parse_port(text: &str) -> Result<u16, TargetError> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(TargetError::Port),
    }
}

/// A registered name as it may stand in a target: letters, digits, `-`, `_` and dots, no empty label but a last one,
/// labels of at most 63 bytes, 253 in all; a name whose last label is a number must be a plain dotted IPv4 address, so
/// that `0x7f.1`, `2130706433` and the like never reach a resolver that reads them as addresses.
fn check_name(host: &str) -> Result<(), TargetError> {
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if host.is_empty() || !plain || host.len() > 254 {
        return Err(TargetError::Host);
    }
    let name = host.as_bytes();
    let name = name.strip_suffix(b".").unwrap_or(name);
    let mut last: &[u8] = b"";
    for label in name.split(|byte| *byte == b'.') {
        if label.is_empty() || label.len() > 63 {
            return Err(TargetError::Host);
        }
        last = label;
    }
    let numeric = last.iter().all(u8::is_ascii_digit)
        || last
            .strip_prefix(b"0x")
            .or(last.strip_prefix(b"0X"))
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if name.len() > 253 || (numeric && host.parse::<std::net::Ipv4Addr>().is_err()) {
        return Err(TargetError::Host);
    }
    Ok(())
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
