//! The PROXY protocol's header, versions 1 and 2: a pure parser.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, "the specification" below.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// How a version 2 header begins.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const V2_FIXED: usize = 16;
/// How a version 1 header begins.
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// The longest version 1 header, CRLF included (section 2.1).
const V1_MAX: usize = 107;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Whom the sender speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// For itself, such as a health check: the connection's own addresses count.
    Local,
    /// For somebody else.
    Proxy,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader<'a> {
    /// Its version.
    pub version: Version,
    /// Whom the sender speaks for.
    pub command: Command,
    /// Source and destination; `None` where the sender does not know them (`UNKNOWN`, `AF_UNSPEC`).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Type, length, value: in order, as they came. Only version 2 has them.
    pub tlvs: Vec<Tlv<'a>>,
}

/// One additional fact of a version 2 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// How far a parse came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The bytes may become a header; `need` bytes in all, at least, before it is worth asking again.
    Incomplete {
        /// The version, once it is certain.
        version: Option<Version>,
        /// Always more than there are.
        need: usize,
    },
    /// The bytes do not begin with a header.
    Absent,
    /// A header of `len` bytes.
    Complete {
        /// The header.
        header: ProxyHeader<'a>,
        /// Its length; what follows is payload.
        len: usize,
    },
}

/// A header that begins well and goes on wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed PROXY protocol header: {reason}")]
pub struct HeaderError {
    /// The version.
    pub version: Version,
    /// What is wrong.
    pub reason: &'static str,
}

/// Parses the header at the front of `bytes`. Whatever part of a header is there, more bytes never change a decision.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Progress<'_>, HeaderError> {
    if let Some(need) = short_of(bytes, V2_SIGNATURE) {
        return Ok(Progress::Incomplete { version: None, need });
    }
    if let Some(need) = short_of(bytes, V1_SIGNATURE) {
        return Ok(Progress::Incomplete { version: None, need });
    }
    if bytes.starts_with(V2_SIGNATURE) {
        return v2(bytes).map_err(|reason| HeaderError { version: Version::V2, reason });
    }
    if bytes.starts_with(V1_SIGNATURE) {
        return v1(bytes).map_err(|reason| HeaderError { version: Version::V1, reason });
    }
    Ok(Progress::Absent)
}

/// The length of `signature`, if `bytes` are only a part of it.
fn short_of(bytes: &[u8], signature: &[u8]) -> Option<usize> {
    (bytes.len() < signature.len() && signature.starts_with(bytes)).then_some(signature.len())
}

/// Section 2.1.
fn v1(bytes: &[u8]) -> Result<Progress<'_>, &'static str> {
    let window = bytes.get(..bytes.len().min(V1_MAX)).unwrap_or_default();
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        if window.len() == V1_MAX {
            return Err("no CRLF within 107 bytes");
        }
        return Ok(Progress::Incomplete { version: Some(Version::V1), need: bytes.len() + 1 });
    };
    let line = window.get(V1_SIGNATURE.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| "not text")?;
    // The receiver ignores whatever follows UNKNOWN.
    let unknown = line == "UNKNOWN" || line.starts_with("UNKNOWN ");
    let addresses = if unknown { None } else { Some(v1_addresses(line)?) };
    let header = ProxyHeader { version: Version::V1, command: Command::Proxy, addresses, tlvs: Vec::new() };
    Ok(Progress::Complete { header, len: end + 2 })
}

fn v1_addresses(line: &str) -> Result<(SocketAddr, SocketAddr), &'static str> {
    let mut fields = line.split(' ');
    let mut next = || fields.next().ok_or("too few fields");
    let (family, source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?, next()?);
    if fields.next().is_some() {
        return Err("too many fields");
    }
    let (source, destination) = match family {
        "TCP4" => (ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?),
        "TCP6" => (ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?),
        _ => return Err("unsupported address family"),
    };
    Ok((SocketAddr::new(source, port(source_port)?), SocketAddr::new(destination, port(destination_port)?)))
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, &'static str> {
    text.parse::<T>().map(Into::into).map_err(|_| "malformed address")
}

/// Decimal digits without a sign or needless zeros.
fn port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err("malformed port");
    }
    text.parse().map_err(|_| "malformed port")
}

/// Section 2.2.
fn v2(bytes: &[u8]) -> Result<Progress<'_>, &'static str> {
    let version = Some(Version::V2);
    let Some((&[version_command, family_transport, high, low], _)) =
        bytes.get(V2_SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk)
    else {
        return Ok(Progress::Incomplete { version, need: V2_FIXED });
    };
    let command = match (version_command >> 4, version_command & 0xf) {
        (2, 0) => Command::Local,
        (2, 1) => Command::Proxy,
        (2, _) => return Err("unsupported command"),
        _ => return Err("unsupported version"),
    };
    let block = match (command, family_transport) {
        // What is in the block does not count.
        (Command::Local, _) | (Command::Proxy, 0x00) => 0,
        (Command::Proxy, 0x11) => 12,
        (Command::Proxy, 0x21) => 36,
        _ => return Err("unsupported address family or transport"),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < block {
        return Err("too short for its addresses");
    }
    let len = V2_FIXED + length;
    let Some(body) = bytes.get(V2_FIXED..len) else {
        return Ok(Progress::Incomplete { version, need: len });
    };
    let (block, rest) = body.split_at_checked(block).ok_or("too short for its addresses")?;
    let tlvs = if command == Command::Local { Vec::new() } else { tlvs(rest)? };
    let addresses = v2_addresses(block);
    Ok(Progress::Complete { header: ProxyHeader { version: Version::V2, command, addresses, tlvs }, len })
}

/// Both addresses, then both ports.
fn v2_addresses(block: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    fn pair<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
    where
        IpAddr: From<[u8; N]>,
    {
        let (source, rest) = block.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (destination_port, _) = rest.split_first_chunk::<2>()?;
        let address = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port));
        Some((address(source, source_port), address(destination, destination_port)))
    }
    match block.len() {
        12 => pair::<4>(block),
        36 => pair::<16>(block),
        _ => None,
    }
}

/// Section 2.2.1.
fn tlvs(mut rest: &[u8]) -> Result<Vec<Tlv<'_>>, &'static str> {
    let mut tlvs = Vec::new();
    while !rest.is_empty() {
        let (&[kind, high, low], after) = rest.split_first_chunk().ok_or("a TLV is cut short")?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = after.split_at_checked(length).ok_or("a TLV is cut short")?;
        tlvs.push(Tlv { kind, value });
        rest = after;
    }
    Ok(tlvs)
}

#[cfg(test)]
mod tests;
