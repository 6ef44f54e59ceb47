//! The upstream `proxy_protocol` transport socket: a PROXY header in front of everything else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use adit_config::{Diagnostic, Path};
use adit_filter::BoxFuture;
use adit_io::{Address, ConnInfo, FilterState, Io, Metadata};
use tokio::io::AsyncWriteExt;

use crate::transport::{BuiltTransport, TransportContext, TransportError, TransportSocketFactory};

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Sends a PROXY header, then hands over to the inner socket.
pub struct ProxyProtocol {
    v2: bool,
    inner: Arc<dyn TransportSocketFactory>,
}

impl ProxyProtocol {
    pub(crate) fn build(
        message: &ProxyProtocolUpstreamTransport,
        path: &Path,
        inner: &dyn Fn(Option<&core::TransportSocket>, &Path) -> BuiltTransport,
    ) -> BuiltTransport {
        let mut problems = Vec::new();
        let config = message.config.clone().unwrap_or_default();
        let unsupported = [
            (config.pass_through_tlvs.is_some(), "config.pass_through_tlvs"),
            (!config.added_tlvs.is_empty(), "config.added_tlvs"),
            (message.allow_unspecified_address, "allow_unspecified_address"),
            (message.tlv_as_pool_key, "tlv_as_pool_key"),
        ];
        for (set, field) in unsupported {
            if set {
                problems.push(Diagnostic::error(path.field(field), "is not supported"));
            }
        }
        if message.transport_socket.is_none() {
            problems.push(Diagnostic::error(path.field("transport_socket"), "value is required"));
            return Err(problems);
        }
        let inner = inner(message.transport_socket.as_ref(), &path.field("transport_socket"))?;
        let v2 = config.version == core::proxy_protocol_config::Version::V2 as i32;
        if problems.is_empty() { Ok(Arc::new(Self { v2, inner })) } else { Err(problems) }
    }
}

impl TransportSocketFactory for ProxyProtocol {
    fn connect<'a>(&'a self, mut io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        Box::pin(async move {
            let header = header(self.v2, ctx.downstream.as_deref());
            io.write_all(&header).await.map_err(TransportError::remote)?;
            io.flush().await.map_err(TransportError::remote)?;
            if self.inner.is_raw() { Ok(io) } else { self.inner.connect(io, ctx).await }
        })
    }

    fn secure(&self) -> bool {
        self.inner.secure()
    }

    fn dial_address(&self, ctx: &TransportContext) -> Option<Address> {
        self.inner.dial_address(ctx)
    }

    fn passes_on(&self, ctx: &TransportContext) -> (FilterState, Metadata) {
        self.inner.passes_on(ctx)
    }

    /// A connection says whose it is, so nobody else may use it.
    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        let mut key = header(self.v2, ctx.downstream.as_deref());
        key.extend_from_slice(&self.inner.pool_key(ctx).unwrap_or_default());
        Some(key.into())
    }
}

/// The header that tells of this downstream connection; without addresses where there are none of one family.
pub fn header(v2: bool, downstream: Option<&ConnInfo>) -> Vec<u8> {
    let pair = downstream.and_then(|info| Some((info.remote.socket()?, info.local.socket()?)));
    let pair = pair.map(|(from, to)| (canonical(from), canonical(to))).filter(|(a, b)| a.is_ipv4() == b.is_ipv4());
    if v2 { second(pair) } else { first(pair) }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn first(pair: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((from, to)) = pair else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

fn second(pair: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    let Some((from, to)) = pair else {
        // LOCAL, unspecified, nothing follows.
        header.extend_from_slice(&[0x20, 0x00, 0, 0]);
        return header;
    };
    // PROXY over TCP/IPv4 or TCP/IPv6.
    header.extend_from_slice(&[0x21, if from.is_ipv4() { 0x11 } else { 0x21 }]);
    header.extend_from_slice(&[0, if from.is_ipv4() { 12 } else { 36 }]);
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
        }
    }
    header.extend_from_slice(&from.port().to_be_bytes());
    header.extend_from_slice(&to.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests;
