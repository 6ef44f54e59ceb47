//! `http_11_proxy`: through an HTTP/1.1 proxy, which is asked in the clear before the inner socket shakes hands.
//!
//! # Which proxy
//! The first of: filter state `envoy.network.transport_socket.http_11_proxy.info` (`TARGET,PROXY_IP:PORT`), the endpoint's
//! metadata `envoy.http11_proxy_transport_socket.proxy_address` (typed: `envoy.config.core.v3.Address`; untyped: the field
//! `address`), `default_proxy_address`. Without any the socket is its inner one.
//!
//! # What it is told
//! `CONNECT <host>:<port>` of the endpoint: by its host name where it has one, by its address otherwise; filter state brings
//! a target of its own. Where the
//! endpoint's or else the cluster's metadata `adit.http_11_proxy` has a field `proxy_authorization`, that is sent as
//! `Proxy-Authorization`; Envoy has nothing of the kind.
//!
//! # Through a cluster
//! With the field `cluster` beside it the CONNECT is a stream of that cluster's, in the version that it speaks: HTTP/2 or
//! HTTP/3, over TLS or not, many tunnels on one connection. The cluster's own hosts are the proxies; one of type
//! `ORIGINAL_DST` takes the address that is chosen above. Any 2xx opens the tunnel.
//!
//! # What it may answer
//! Over HTTP/1.1: `200` without a body, in a head of at most 2000 octets, as in Envoy. What follows the head is the tunnel's.

use std::net::SocketAddr;
use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::extensions::transport_sockets::http_11_proxy::v3::Http11ProxyUpstreamTransport;
use adit_config::{Diagnostic, Path};
use adit_filter::BoxFuture;
use adit_io::{Address, FilterState, FilterValue, Io, Metadata, Value};
use adit_upstream::transport::{BuiltTransport, TransportSite, shared_state_key};
use adit_upstream::{TransportContext, TransportError, TransportSocketFactory};
use http::StatusCode;
use tokio::io::AsyncWriteExt;

use super::proxy_tunnel::{self, Refused, Target};

const STATE_KEY: &str = "envoy.network.transport_socket.http_11_proxy.info";
const METADATA_KEY: &str = "envoy.http11_proxy_transport_socket.proxy_address";
const OPTIONS_KEY: &str = "adit.http_11_proxy";
const AUTHORIZATION: &str = "proxy_authorization";
const CLUSTER: &str = "cluster";
/// The longest head of an answer that is read, in octets.
const MAX_HEAD: usize = 2000;

/// Asks a proxy for a way to the host, then hands over to the inner socket.
pub(crate) struct Http11Proxy {
    default: Option<SocketAddr>,
    inner: Arc<dyn TransportSocketFactory>,
}

impl Http11Proxy {
    /// From its message at `path`; `inner` builds the inner socket.
    pub(crate) fn build(
        message: &Http11ProxyUpstreamTransport,
        path: &Path,
        site: &TransportSite<'_>,
        inner: &dyn Fn(Option<&core::TransportSocket>, &Path) -> BuiltTransport,
    ) -> BuiltTransport {
        let mut problems = cluster_problems(site, path);
        let at = path.field("default_proxy_address");
        let default = message.default_proxy_address.as_ref().and_then(|address| {
            let address = socket(address);
            if address.is_none() {
                problems.push(Diagnostic::error(&at, "must be an IP address with a port"));
            }
            address
        });
        match inner(message.transport_socket.as_ref(), &path.field("transport_socket")) {
            Ok(inner) if problems.is_empty() => Ok(Arc::new(Self { default, inner })),
            Ok(_) => Err(problems),
            Err(found) => {
                problems.extend(found);
                Err(problems)
            }
        }
    }

    fn proxy(&self, ctx: &TransportContext) -> Option<SocketAddr> {
        let state = from_state(ctx).map(|(_, proxy)| proxy);
        let metadata = || match ctx.host.info().metadata.get(METADATA_KEY)? {
            Value::String(text) => text.parse().ok(),
            fields => text_of(fields, "address")?.parse().ok(),
        };
        state.or_else(metadata).or(self.default)
    }
}

/// What a cluster that leads to the proxy cannot do.
fn cluster_problems(site: &TransportSite<'_>, path: &Path) -> Vec<Diagnostic> {
    let of_cluster = site.cluster_message.metadata.as_ref();
    let endpoints = site.cluster_message.load_assignment.iter().flat_map(|all| &all.endpoints);
    let of_hosts = endpoints.flat_map(|locality| &locality.lb_endpoints).filter_map(|host| host.metadata.as_ref());
    let named: Vec<&str> = of_cluster
        .into_iter()
        .chain(of_hosts)
        .filter_map(|metadata| match &metadata.filter_metadata.get(OPTIONS_KEY)?.fields.get(CLUSTER)?.kind {
            Some(prost_types::value::Kind::StringValue(name)) => Some(&**name),
            _ => None,
        })
        .collect();
    let mut problems = Vec::new();
    if named.contains(&site.cluster) {
        problems.push(Diagnostic::error(path, format!("metadata {OPTIONS_KEY}: a cluster cannot lead to itself")));
    }
    if !named.is_empty() && !site.cluster_message.health_checks.is_empty() {
        let message = format!("metadata {OPTIONS_KEY}: hosts behind a cluster's proxy cannot have health checks");
        problems.push(Diagnostic::error(path, message));
    }
    problems
}

/// The target and the proxy that filter state names.
fn from_state(ctx: &TransportContext) -> Option<(&str, SocketAddr)> {
    let FilterValue::Text(text) = &ctx.state.get(STATE_KEY)?.value else { return None };
    let (target, proxy) = text.split_once(',')?;
    Some((target.trim_ascii(), proxy.trim_ascii().parse().ok()?))
}

fn socket(address: &core::Address) -> Option<SocketAddr> {
    let Some(core::address::Address::SocketAddress(address)) = &address.address else { return None };
    let Some(core::socket_address::PortSpecifier::PortValue(port)) = address.port_specifier else { return None };
    Some(SocketAddr::new(address.address.parse().ok()?, u16::try_from(port).ok()?))
}

fn text_of<'a>(fields: &'a Value, name: &str) -> Option<&'a str> {
    match fields.walk([name])? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn authorization(ctx: &TransportContext) -> Option<&str> {
    option(ctx, AUTHORIZATION)
}

/// A text of the endpoint's, or else of the cluster's, metadata `adit.http_11_proxy`.
fn option<'a>(ctx: &'a TransportContext, name: &str) -> Option<&'a str> {
    let host = ctx.host.info().metadata.get(OPTIONS_KEY).and_then(|fields| text_of(fields, name));
    host.or_else(|| ctx.cluster_metadata.get(OPTIONS_KEY).and_then(|fields| text_of(fields, name)))
}

/// The same request on a stream of a cluster's (RFC 9113 section 8.5, RFC 9114 section 4.4).
async fn over_cluster(name: &str, proxy: Option<SocketAddr>, ctx: &TransportContext) -> Result<Io, TransportError> {
    let unsendable = || TransportError::local("the host or the authorization cannot be sent to a proxy");
    let target = Target {
        authority: authority(ctx).parse().map_err(|_| unsendable())?,
        authorization: authorization(ctx).map(http::HeaderValue::from_str).transpose().map_err(|_| unsendable())?,
        proxy,
    };
    let cluster = ctx.clusters.as_ref().and_then(|clusters| clusters.get(name));
    let cluster = cluster.ok_or_else(|| TransportError::local(format_args!("there is no cluster {name}")))?;
    proxy_tunnel::open(&*cluster, &target, ctx).await.map_err(|error| match error {
        Refused::Status(status) => refused("it refused", Some(status)),
        Refused::Failed(error) => error,
    })
}

/// The target that filter state names; else the authority of the host: its name with the port of its address, or its address.
fn authority(ctx: &TransportContext) -> String {
    if let Some((target, _)) = from_state(ctx) {
        return target.to_owned();
    }
    let info = ctx.host.info();
    let address = info.address.to_string();
    let name = &*info.hostname;
    if name.is_empty() {
        return address;
    }
    let has_port = name
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    match info.address.socket() {
        Some(socket) if !has_port => format!("{name}:{}", socket.port()),
        _ => name.to_owned(),
    }
}

fn request(authority: &str, authorization: Option<&str>) -> Result<Vec<u8>, TransportError> {
    let plain = |text: &str| text.bytes().all(|byte| (b' '..0x7f).contains(&byte) || byte == b'\t');
    if authority.bytes().any(|byte| !byte.is_ascii_graphic()) || authorization.is_some_and(|value| !plain(value)) {
        return Err(TransportError::local("the host or the authorization cannot be sent to a proxy"));
    }
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(value) = authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(value);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    Ok(request.into_bytes())
}

/// Reads the head of the answer off the front of the stream.
async fn answer(io: &mut Io) -> Result<(), TransportError> {
    let mut seen = 0;
    let length = loop {
        let ahead = io.fill(seen + 1, MAX_HEAD).await.map_err(TransportError::remote)?;
        if let Some(length) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
            break length + 4;
        }
        if ahead.len() <= seen {
            let reason = if seen >= MAX_HEAD { "its answer is too long" } else { "it closed the connection" };
            return Err(refused(reason, None));
        }
        seen = ahead.len();
    };
    judge(&io.take_ahead(length))
}

/// The status is in the reason only: what a proxy thinks of us is no answer to our client.
fn refused(reason: &str, status: Option<StatusCode>) -> TransportError {
    match status {
        Some(status) => {
            TransportError::remote(format_args!("the HTTP proxy opened no tunnel ({}): {reason}", status.as_u16()))
        }
        None => TransportError::remote(format_args!("the HTTP proxy opened no tunnel: {reason}")),
    }
}

/// Whether a whole head opens the tunnel.
fn judge(head: &[u8]) -> Result<(), TransportError> {
    let malformed = || refused("its answer is malformed", None);
    let head = std::str::from_utf8(head).map_err(|_| malformed())?;
    let mut lines = head.strip_suffix("\r\n\r\n").ok_or_else(malformed)?.split("\r\n");
    let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
    let (version, status) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || status.len() != 3 {
        return Err(malformed());
    }
    let status = StatusCode::from_bytes(status.as_bytes()).map_err(|_| malformed())?;
    if status != StatusCode::OK {
        return Err(refused(&format!("it answered {}", status.as_u16()), Some(status)));
    }
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) || line.contains(['\r', '\n', '\0']) {
            return Err(malformed());
        }
        let body = name.eq_ignore_ascii_case("transfer-encoding")
            || (name.eq_ignore_ascii_case("content-length") && value.trim() != "0");
        if body {
            return Err(refused("its answer has a body", Some(status)));
        }
    }
    Ok(())
}

impl TransportSocketFactory for Http11Proxy {
    fn connect<'a>(&'a self, mut io: Io, ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        Box::pin(async move {
            if option(ctx, CLUSTER).is_some() {
                // Only where another socket is around this one, or no worker runs it.
                return Err(TransportError::local("a proxy that is reached through a cluster cannot be dialled"));
            }
            if self.proxy(ctx).is_some() {
                let request = request(&authority(ctx), authorization(ctx))?;
                io.write_all(&request).await.map_err(TransportError::remote)?;
                io.flush().await.map_err(TransportError::remote)?;
                answer(&mut io).await?;
            }
            if self.inner.is_raw() { Ok(io) } else { self.inner.connect(io, ctx).await }
        })
    }

    fn secure(&self) -> bool {
        self.inner.secure()
    }

    fn through<'a>(&'a self, ctx: &'a TransportContext) -> Option<BoxFuture<'a, Result<Io, TransportError>>> {
        let cluster = option(ctx, CLUSTER)?;
        Some(Box::pin(async move {
            let io = over_cluster(cluster, self.proxy(ctx), ctx).await?;
            if self.inner.is_raw() { Ok(io) } else { self.inner.connect(io, ctx).await }
        }))
    }

    fn dial_address(&self, ctx: &TransportContext) -> Option<Address> {
        self.proxy(ctx).map(Address::Ip).or_else(|| self.inner.dial_address(ctx))
    }

    fn passes_on(&self, ctx: &TransportContext) -> (FilterState, Metadata) {
        self.inner.passes_on(ctx)
    }

    /// Filter state may choose another proxy for the same host, and may be passed on by the cluster of the proxy.
    fn pool_key(&self, ctx: &TransportContext) -> Option<Box<[u8]>> {
        let inner = self.inner.pool_key(ctx);
        let state = option(ctx, CLUSTER).and_then(|_| shared_state_key(&ctx.state));
        let target = from_state(ctx).map_or("", |(target, _)| target);
        let proxy = self.proxy(ctx);
        if state.is_none() && proxy.is_none() {
            return inner;
        }
        let state = state.unwrap_or_default();
        let proxy = proxy.map_or_else(String::new, |proxy| proxy.to_string());
        let mut key = format!("{proxy} {} {target} {} ", target.len(), state.len()).into_bytes();
        key.extend_from_slice(&state);
        key.extend_from_slice(&inner.unwrap_or_default());
        Some(key.into())
    }
}

#[cfg(test)]
mod tests;
