//! What the connection manager does to a request's head before it is routed: who the client is, which host and path it
//! means, which fields it may not bring along (Envoy's order, docs/life-of-a-byte.md).

use std::net::IpAddr;
use std::sync::Arc;

use adit_filter::{LocalReply, ResponseFlag};
use adit_http::{ConnectTarget, RequestHead, RequestKind, Scheme};
use adit_io::{Address, ConnInfo};
use adit_match::CidrSet;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::path::{Normalized, PathOptions};

/// `headers_with_underscores_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Underscores {
    #[default]
    Allow,
    Reject,
    Drop,
}

/// `strip_port_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StripPort {
    #[default]
    No,
    Matching,
    Any,
}

/// How a request's head is prepared.
#[derive(Default)]
pub(crate) struct RequestOptions {
    pub(crate) use_remote_address: bool,
    pub(crate) xff_num_trusted_hops: usize,
    pub(crate) skip_xff_append: bool,
    pub(crate) internal_addresses: CidrSet,
    pub(crate) internal_unix_sockets: bool,
    pub(crate) append_x_forwarded_port: bool,
    pub(crate) generate_request_id: bool,
    pub(crate) preserve_external_request_id: bool,
    pub(crate) via: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) strip_port: StripPort,
    pub(crate) strip_trailing_host_dot: bool,
    pub(crate) underscores: Underscores,
    pub(crate) path: PathOptions,
    pub(crate) scheme_overwrite: Option<Scheme>,
}

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-downstream-service-cluster");
const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Fields that only internal clients may send (Envoy's `cleanInternalHeaders`).
const INTERNAL_ONLY: [&str; 14] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
];

/// Fields that no client of an edge may send.
const NOT_FROM_OUTSIDE: [&str; 4] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
];

/// Who the client is, as far as the request and the connection tell.
pub(crate) struct Client {
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`, where `x-forwarded-for` changes it.
    pub(crate) remote: Option<Address>,
    /// Whether the client is internal (`internal_address_config`).
    pub(crate) internal: bool,
    /// Its request has fields whose names begin with `x-`.
    pub(crate) extensions: bool,
}

/// Refuses what no route may see; otherwise makes the head canonical. Gives the number of fields that were dropped.
pub(crate) fn check(head: &mut RequestHead, conn: &ConnInfo, options: &RequestOptions) -> Result<u64, LocalReply> {
    if head.authority.is_none() {
        return Err(refuse("missing_host_header"));
    }
    if let RequestKind::Connect(target) = &head.kind
        && ConnectTarget::parse_with_default(target.as_str(), Some(443)).is_err()
    {
        // Over HTTP/2 and HTTP/3 a target may come without a port; a port that is there is one (RFC 9110 section 9.3.6).
        return Err(refuse("invalid_connect_target"));
    }
    let dropped = match options.underscores {
        Underscores::Allow => 0,
        action => check_underscores(head, action)?,
    };
    if let Some(scheme) = options.scheme_overwrite {
        head.scheme = scheme;
        head.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    }
    check_path(head, options)?;
    strip_host(head, conn, options);
    Ok(dropped)
}

fn refuse(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, details)
}

fn check_underscores(head: &mut RequestHead, action: Underscores) -> Result<u64, LocalReply> {
    let names: Vec<HeaderName> = head.headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if !names.is_empty() && action == Underscores::Reject {
        let reply = refuse("http1.unexpected_underscore").body("Bad Request");
        return Err(reply.flag(ResponseFlag::DownstreamProtocolError));
    }
    for name in &names {
        head.headers.remove(name);
    }
    Ok(names.len() as u64)
}

fn check_path(head: &mut RequestHead, options: &RequestOptions) -> Result<(), LocalReply> {
    let Some(path) = &head.path else {
        return match head.kind {
            RequestKind::Connect(_) => Ok(()),
            _ => Err(LocalReply::new(StatusCode::NOT_FOUND, "missing_path_rejected")),
        };
    };
    if !path.as_str().starts_with('/') {
        return Err(LocalReply::new(StatusCode::NOT_FOUND, "absolute_path_rejected"));
    }
    match crate::path::normalize(path, &options.path) {
        Normalized::Unchanged => {}
        Normalized::Path(path) => head.path = Some(path),
        Normalized::Refused => return Err(refuse("path_normalization_failed")),
        Normalized::Redirect(path) => {
            let reply = redirect(&path);
            head.path = Some(path);
            return Err(reply);
        }
    }
    Ok(())
}

fn redirect(path: &PathAndQuery) -> LocalReply {
    let mut reply = LocalReply::new(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed");
    if let Ok(value) = HeaderValue::from_str(path.as_str()) {
        reply.headers.insert(header::LOCATION, value);
    }
    reply
}

/// Takes the port or a trailing dot off the host for routing. A CONNECT's target keeps both in its kind.
fn strip_host(head: &mut RequestHead, conn: &ConnInfo, options: &RequestOptions) {
    if options.strip_port == StripPort::No && !options.strip_trailing_host_dot {
        return;
    }
    let Some(authority) = &head.authority else { return };
    let host = authority.host();
    let port = authority.port_u16();
    let strip_port = match options.strip_port {
        StripPort::No => false,
        StripPort::Matching => port.is_some() && port == conn.local.port(),
        StripPort::Any => port.is_some(),
    };
    let dotless = host.strip_suffix('.').filter(|host| options.strip_trailing_host_dot && !host.is_empty());
    if !strip_port && dotless.is_none() {
        return;
    }
    let host = dotless.unwrap_or(host);
    let text = match port.filter(|_| !strip_port) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    if let Ok(authority) = Authority::from_maybe_shared(bytes::Bytes::from(text)) {
        head.authority = Some(authority);
    }
}

/// An authority without the dot that `strip_trailing_host_dot` takes off, its port as it is.
pub(crate) fn without_dot(authority: Authority, options: &RequestOptions) -> Authority {
    let host = authority.host();
    let Some(bare) = host.strip_suffix('.').filter(|bare| options.strip_trailing_host_dot && !bare.is_empty()) else {
        return authority;
    };
    let text = match authority.port() {
        Some(port) => format!("{bare}:{}", port.as_str()),
        None => bare.to_owned(),
    };
    Authority::try_from(text).unwrap_or(authority)
}

/// Sets the fields by which upstreams know the client, and takes away those that it may not set.
pub(crate) fn prepare(
    head: &mut RequestHead,
    conn: &ConnInfo,
    options: &RequestOptions,
    id: impl FnOnce() -> Option<HeaderValue>,
) -> Client {
    // One look at the names that are there costs less than looking each of them up.
    let mut names = head.headers.keys().filter_map(|name| name.as_str().strip_prefix("x-")).peekable();
    let extensions = names.peek().is_some();
    let envoy = names.any(|name| name.starts_with("envoy-"));
    let client = identify(head, conn, options, extensions);
    let edge = options.use_remote_address && !client.internal;
    if envoy {
        remove_foreign(head, client.internal, edge);
    }
    tell_addresses(head, conn, options, &client, extensions);
    if client.internal {
        head.headers.insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    }
    if let Some(agent) = &options.user_agent {
        head.headers.insert(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, agent.clone());
        head.headers.entry(header::USER_AGENT).or_insert_with(|| agent.clone());
    }
    if options.generate_request_id {
        if extensions && edge && !options.preserve_external_request_id {
            head.headers.remove(X_REQUEST_ID);
        }
        if !(extensions && head.headers.contains_key(X_REQUEST_ID))
            && let Some(value) = id()
        {
            head.headers.insert(X_REQUEST_ID, value);
        }
    }
    if let Some(via) = options.via.as_ref().and_then(|via| via.to_str().ok()) {
        append(head, header::VIA, via, ", ");
    }
    client
}

/// Takes away what only others may set: at the `edge`, and of a client that is not internal.
fn remove_foreign(head: &mut RequestHead, internal: bool, edge: bool) {
    if !internal {
        head.headers.remove(X_ENVOY_INTERNAL);
        for name in INTERNAL_ONLY {
            head.headers.remove(name);
        }
    }
    if edge {
        for name in NOT_FROM_OUTSIDE {
            head.headers.remove(name);
        }
    }
}

/// Where the client is, and what it came by: `x-forwarded-for`, `-proto`, `-port`, `x-envoy-external-address`. Without
/// `extensions` the head has no such field yet.
fn tell_addresses(
    head: &mut RequestHead,
    conn: &ConnInfo,
    options: &RequestOptions,
    client: &Client,
    extensions: bool,
) {
    if options.use_remote_address {
        if !options.skip_xff_append
            && let Some(ip) = conn.remote.ip()
        {
            append(head, X_FORWARDED_FOR, &ip.to_string(), ",");
        }
        if !client.internal
            && let Some(ip) = client.remote.as_ref().or(Some(&conn.remote)).and_then(Address::ip)
        {
            set(head, X_ENVOY_EXTERNAL_ADDRESS, &ip.to_string());
        }
    }
    let trust_proto = !options.use_remote_address || options.xff_num_trusted_hops > 0;
    if !(trust_proto && extensions && head.headers.contains_key(X_FORWARDED_PROTO)) {
        const HTTP: HeaderValue = HeaderValue::from_static("http");
        const HTTPS: HeaderValue = HeaderValue::from_static("https");
        let proto = if conn.tls.is_some() || conn.transport == "quic" { HTTPS } else { HTTP };
        head.headers.insert(X_FORWARDED_PROTO, proto);
    }
    if options.append_x_forwarded_port
        && !head.headers.contains_key(X_FORWARDED_PORT)
        && let Some(port) = conn.local.port()
    {
        set(head, X_FORWARDED_PORT, &port.to_string());
    }
}

fn identify(head: &RequestHead, conn: &ConnInfo, options: &RequestOptions, extensions: bool) -> Client {
    let peer = conn.remote.ip();
    let hops = options.xff_num_trusted_hops;
    let field = if extensions { head.headers.get(X_FORWARDED_FOR) } else { None };
    let forwarded = || forwarded_address(head, if options.use_remote_address { hops.checked_sub(1)? } else { hops });
    let from_header = field.and_then(|_| forwarded());
    let pipe = matches!(conn.remote, Address::Pipe(_)) && options.internal_unix_sockets;
    let ip = from_header.or(peer);
    let single = field.is_none_or(|value| !value.as_bytes().contains(&b','));
    // Whose address is not the connection's is trusted only as far as one hop (Envoy's `allow_trusted_address_checks`).
    let told = if options.use_remote_address { field.is_none() } else { from_header.is_some() && single };
    let internal = told && (pipe || ip.is_some_and(|ip| options.internal_addresses.contains(ip)));
    let remote = from_header.map(|ip| Address::Ip(std::net::SocketAddr::new(ip, 0)));
    Client { remote, internal, extensions }
}

/// The address that stands `hops` places before the last in `x-forwarded-for`.
fn forwarded_address(head: &RequestHead, hops: usize) -> Option<IpAddr> {
    let mut values = head.headers.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>();
    values.reverse();
    let text = values
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.rsplit(','))
        .nth(hops)?
        .trim();
    text.trim_matches(['[', ']']).parse().ok()
}

/// Appends to a list; what stood in several fields before stands in one.
fn append(head: &mut RequestHead, name: HeaderName, value: &str, separator: &str) {
    let mut joined = Vec::new();
    for old in head.headers.get_all(&name).iter().filter(|old| !old.is_empty()) {
        joined.extend_from_slice(old.as_bytes());
        joined.extend_from_slice(separator.as_bytes());
    }
    joined.extend_from_slice(value.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        head.headers.insert(name, value);
    }
}

fn set(head: &mut RequestHead, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        head.headers.insert(name, value);
    }
}

/// A random UUID, version 4 (RFC 9562 section 5.4).
pub(crate) fn uuid() -> String {
    let random = fastrand::u128(..);
    let value = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{value:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// The facts of a connection as one of its requests sees them, where that differs.
pub(crate) fn with_remote(conn: &ConnInfo, client: &Client) -> Option<Arc<ConnInfo>> {
    match &client.remote {
        Some(remote) if *remote != conn.remote => {
            let mut changed = conn.clone();
            changed.direct_remote = Some(Box::new(conn.direct_remote().clone()));
            changed.remote = remote.clone();
            Some(Arc::new(changed))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
