//! The operators that read one fact and take no argument.

use std::time::Duration;

use adit_filter::{LogContext, UpstreamInfo};
use adit_io::Address;
use http::Version;

use super::Val;

type Read = for<'a> fn(&LogContext<'a>) -> Val<'a>;

/// The reader of an operator.
pub(super) fn find(name: &str) -> Option<Read> {
    [STREAM, DOWNSTREAM, UPSTREAM].into_iter().flatten().find(|(operator, _)| *operator == name).map(|(_, read)| *read)
}

const STREAM: &[(&str, Read)] = &[
    ("PROTOCOL", |c| version(c.info.protocol)),
    ("RESPONSE_CODE", |c| Val::Int(u64::from(c.info.response_code))),
    ("RESPONSE_FLAGS", |c| Val::Flags(c.info.flags)),
    ("RESPONSE_FLAGS_LONG", |c| Val::Owned(c.info.flags.to_long())),
    ("CONNECTION_TERMINATION_DETAILS", |c| Val::text(c.info.termination_details.as_deref())),
    ("BYTES_RECEIVED", |c| Val::Int(c.info.bytes_received)),
    ("BYTES_SENT", |c| Val::Int(c.info.bytes_sent)),
    ("DURATION", |c| Val::Int(whole_ms(c.info.timing.end.unwrap_or_else(|| c.info.elapsed())))),
    ("REQUEST_DURATION", |c| ms(c.info.timing.request_received)),
    ("REQUEST_TX_DURATION", |c| ms(c.info.timing.upstream_last_sent)),
    ("RESPONSE_DURATION", |c| ms(c.info.timing.upstream_first_received)),
    ("RESPONSE_TX_DURATION", |c| {
        let timing = &c.info.timing;
        ms(timing
            .downstream_last_sent
            .zip(timing.upstream_first_received)
            .and_then(|(end, start)| end.checked_sub(start)))
    }),
    // The moment of the last acknowledgement is not known to a socket.
    ("ROUNDTRIP_DURATION", |_| Val::Missing),
    ("CONNECTION_ID", |c| Val::Int(c.info.conn.id)),
    ("STREAM_ID", |c| Val::text(c.info.stream_id.as_deref())),
    ("REQUESTED_SERVER_NAME", |c| Val::text(c.info.conn.server_name.as_deref())),
    ("ROUTE_NAME", |c| Val::text(c.info.route_name.as_deref())),
    // There are no virtual clusters, and no tracing.
    ("VIRTUAL_CLUSTER_NAME", |_| Val::Missing),
    ("TRACE_ID", |_| Val::Missing),
    ("SPAN_ID", |_| Val::Missing),
    ("FILTER_CHAIN_NAME", |c| Val::text(c.info.filter_chain_name.as_deref())),
    ("LISTENER_NAME", |c| Val::text(c.info.listener_name.as_deref())),
    ("ACCESS_LOG_TYPE", |c| Val::Str(c.kind.as_str())),
    ("UNIQUE_ID", |_| Val::Owned(unique_id())),
];

const DOWNSTREAM: &[(&str, Read)] = &[
    ("DOWNSTREAM_REMOTE_ADDRESS", |c| Val::Address(&c.info.conn.remote)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |c| Val::host(Some(&c.info.conn.remote))),
    ("DOWNSTREAM_REMOTE_PORT", |c| Val::port(Some(&c.info.conn.remote))),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", |c| Val::Address(c.info.conn.direct_remote())),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", |c| Val::host(Some(c.info.conn.direct_remote()))),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", |c| Val::port(Some(c.info.conn.direct_remote()))),
    ("DOWNSTREAM_LOCAL_ADDRESS", |c| Val::Address(&c.info.conn.local)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |c| Val::host(Some(&c.info.conn.local))),
    ("DOWNSTREAM_LOCAL_PORT", |c| Val::port(Some(&c.info.conn.local))),
    ("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", |c| endpoint_id(&c.info.conn.local)),
    ("DOWNSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", |c| endpoint_id(&c.info.conn.remote)),
    ("DOWNSTREAM_LOCAL_CLOSE_REASON", |c| Val::text(c.info.local_close_reason.as_deref())),
    ("DOWNSTREAM_DETECTED_CLOSE_TYPE", |c| Val::text(c.info.downstream_close_type)),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", |c| super::names::word(c.info.downstream_transport_failure.as_deref())),
    ("DOWNSTREAM_WIRE_BYTES_RECEIVED", |c| Val::Int(c.info.bytes_received + c.info.overhead_received().0)),
    ("DOWNSTREAM_WIRE_BYTES_SENT", |c| Val::Int(c.info.bytes_sent + c.info.overhead_sent().0)),
    ("DOWNSTREAM_HEADER_BYTES_RECEIVED", |c| Val::Int(c.info.overhead_received().1)),
    ("DOWNSTREAM_HEADER_BYTES_SENT", |c| Val::Int(c.info.overhead_sent().1)),
    ("DOWNSTREAM_TLS_SESSION_ID", |_| Val::Missing),
];

const UPSTREAM: &[(&str, Read)] = &[
    ("UPSTREAM_HOST", |c| Val::address(upstream(c).and_then(|up| up.host.as_ref()).map(|host| &host.info().address))),
    ("UPSTREAM_HOST_NAME", |c| host_name(c)),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", |c| match host_name(c) {
        Val::Str(name) => Val::text(
            name.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(Some(name), |(host, _)| Some(host)),
        ),
        Val::Address(address) => Val::host(Some(address)),
        other => other,
    }),
    ("UPSTREAM_CLUSTER", |c| Val::text(upstream(c).and_then(|up| up.cluster.as_deref()))),
    ("UPSTREAM_CLUSTER_RAW", |c| Val::text(upstream(c).and_then(|up| up.cluster.as_deref()))),
    ("UPSTREAM_LOCAL_ADDRESS", |c| Val::address(local(c))),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |c| Val::host(local(c))),
    ("UPSTREAM_LOCAL_PORT", |c| Val::port(local(c))),
    ("UPSTREAM_REMOTE_ADDRESS", |c| Val::address(remote(c))),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |c| Val::host(remote(c))),
    ("UPSTREAM_REMOTE_PORT", |c| Val::port(remote(c))),
    ("UPSTREAM_CONNECTION_ID", |c| Val::number(upstream(c).map(|up| up.connection_id).filter(|id| *id != 0))),
    ("UPSTREAM_PROTOCOL", |c| version(upstream(c).and_then(|up| up.protocol))),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", |c| Val::Int(upstream(c).map_or(0, |up| u64::from(up.attempts)))),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", |c| {
        super::names::word(upstream(c).and_then(|up| up.transport_failure.as_deref()))
    }),
    ("UPSTREAM_LOCAL_CLOSE_REASON", |c| Val::text(upstream(c).and_then(|up| up.local_close_reason.as_deref()))),
    ("UPSTREAM_DETECTED_CLOSE_TYPE", |c| Val::text(upstream(c).and_then(|up| up.close_type))),
    ("UPSTREAM_CONNECTION_POOL_READY_DURATION", |c| ms(upstream(c).and_then(|up| up.pool_ready))),
    ("UPSTREAM_WIRE_BYTES_SENT", |c| Val::Int(upstream(c).map_or(0, |up| up.bytes_sent + up.overhead_sent().0))),
    ("UPSTREAM_WIRE_BYTES_RECEIVED", |c| {
        Val::Int(upstream(c).map_or(0, |up| up.bytes_received + up.overhead_received().0))
    }),
    ("UPSTREAM_HEADER_BYTES_SENT", |c| Val::Int(upstream(c).map_or(0, |up| up.overhead_sent().1))),
    ("UPSTREAM_HEADER_BYTES_RECEIVED", |c| Val::Int(upstream(c).map_or(0, |up| up.overhead_received().1))),
    ("UPSTREAM_TLS_SESSION_ID", |_| Val::Missing),
];

fn upstream<'a>(context: &LogContext<'a>) -> Option<&'a UpstreamInfo> {
    context.info.upstream.as_deref()
}

fn local<'a>(context: &LogContext<'a>) -> Option<&'a Address> {
    upstream(context)?.local.as_ref()
}

fn remote<'a>(context: &LogContext<'a>) -> Option<&'a Address> {
    upstream(context)?.remote.as_ref()
}

/// The configured or resolved name; the address where there is none.
fn host_name<'a>(context: &LogContext<'a>) -> Val<'a> {
    let Some(host) = upstream(context).and_then(|up| up.host.as_ref()) else { return Val::Missing };
    let info = host.info();
    if info.hostname.is_empty() { Val::Address(&info.address) } else { Val::Str(&info.hostname) }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn endpoint_id(address: &Address) -> Val<'_> {
    match address {
        Address::Internal { endpoint_id, .. } => Val::text(Some(endpoint_id)),
        Address::Ip(_) | Address::Pipe(_) => Val::Missing,
    }
}

fn version(version: Option<Version>) -> Val<'static> {
    Val::text(version.map(|version| match version {
        Version::HTTP_09 | Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }))
}

fn ms(duration: Option<Duration>) -> Val<'static> {
    Val::number(duration.map(whole_ms))
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A random UUID (RFC 9562, version 4).
fn unique_id() -> String {
    let random = fastrand::u128(..);
    let (a, b) = ((random >> 96) as u32, (random >> 80) as u16);
    let (c, d) = ((random >> 64) as u16 & 0x0fff | 0x4000, (random >> 48) as u16 & 0x3fff | 0x8000);
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", random & 0xffff_ffff_ffff)
}
