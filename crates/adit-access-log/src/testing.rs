//! A stream with everything in it, for the tests of this crate.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_filter::upstream::{Host, HostInfo, Report};
use adit_filter::{ResponseFlag, StreamInfo};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{Address, ConnInfo, FilterValue, Metadata, Sharing, TlsInfo, Value};
use http::{HeaderValue, Method, StatusCode, Version};

struct FakeHost(HostInfo);

impl Host for FakeHost {
    fn info(&self) -> &HostInfo {
        &self.0
    }

    fn report(&self, _: Report) {}
}

pub(crate) fn address(text: &str) -> Address {
    text.parse::<SocketAddr>().unwrap().into()
}

fn metadata(namespace: &str, fields: &[(&str, Value)]) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.merge(namespace, fields.iter().map(|(key, value)| ((*key).into(), value.clone())));
    metadata
}

pub(crate) fn bare() -> StreamInfo {
    let mut info = StreamInfo::new(Arc::new(ConnInfo::new(7, address("127.0.0.1:8080"), address("10.0.0.9:5"))));
    info.start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_460_751_610_310);
    info
}

pub(crate) fn full() -> StreamInfo {
    let mut info = bare();
    let conn = Arc::make_mut(&mut info.conn);
    conn.direct_remote = Some(Box::new(address("192.168.0.1:6")));
    conn.server_name = Some("sni.example".into());
    conn.tls = Some(Arc::new(TlsInfo { version: "TLSv1.3", cipher: "AES".into(), ..TlsInfo::default() }));
    info.protocol = Some(Version::HTTP_2);
    info.response_code = 503;
    info.details = Some("a b{c}".into());
    info.termination_details = Some("gone".into());
    info.flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
    info.flags.set(ResponseFlag::UpstreamConnectionFailure);
    (info.bytes_received, info.bytes_sent) = (154, 226);
    info.timing.request_received = Some(Duration::from_millis(5));
    info.timing.upstream_first_sent = Some(Duration::from_micros(2_500));
    info.timing.upstream_first_received = Some(Duration::from_millis(30));
    info.timing.downstream_last_sent = Some(Duration::from_millis(90));
    info.timing.end = Some(Duration::from_millis(100));
    info.route_name = Some("route".into());
    info.stream_id = Some("11111111-2222".into());
    info.local_close_reason = Some("why".into());
    info.downstream_close_type = Some("Normal");
    info.state.set("text", FilterValue::Text("va\"l".into()), Sharing::None);
    info.state.set("number", FilterValue::Number(5), Sharing::None);
    let headers = [(":status".into(), "407".into()), ("a".into(), "b".into())];
    info.state.set("headers", FilterValue::Headers(headers.into()), Sharing::None);
    let inner = Value::Struct([("b".into(), Value::String("deep".into())), ("n".into(), Value::Number(3.0))].into());
    info.metadata = metadata("ns", &[("a", inner), ("flag", Value::Bool(true))]);
    let host = FakeHost(HostInfo {
        address: address("10.0.35.28:80"),
        hostname: "up.example:80".into(),
        cluster: "c".into(),
        metadata: metadata("h", &[("k", Value::String("hv".into()))]),
    });
    let meter = adit_codec::Meter::default();
    meter.sent(7, 6);
    meter.received(5, 3);
    info.meter = Some(Arc::new(meter));
    let upstream = info.upstream_mut();
    upstream.host = Some(Arc::new(host));
    upstream.cluster = Some("c".into());
    upstream.cluster_metadata = metadata("c", &[("k", Value::Number(1.5))]);
    upstream.local = Some(address("[::1]:4000"));
    upstream.remote = Some(address("10.0.35.28:80"));
    upstream.connection_id = 9;
    upstream.protocol = Some(Version::HTTP_11);
    upstream.attempts = 2;
    (upstream.bytes_sent, upstream.bytes_received) = (154, 226);
    for (sent, received) in [((10, 8), (4, 3)), ((20, 12), (10, 6))] {
        let meter = std::sync::Arc::new(adit_codec::Meter::default());
        meter.sent(sent.0, sent.1);
        meter.received(received.0, received.1);
        // What an attempt cost before this one counts too.
        upstream.measure(Some(meter));
    }
    upstream.transport_failure = Some("refused".into());
    upstream.pool_ready = Some(Duration::from_millis(2));
    info
}

pub(crate) fn request() -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::POST);
    head.path = Some("/api/v1?user=joe&x".parse().unwrap());
    head.authority = Some("locations".parse().unwrap());
    head.headers.insert("user-agent", HeaderValue::from_static("nsq2http"));
    head.headers.insert("x-forwarded-for", HeaderValue::from_static("10.0.35.28"));
    head
}

/// A CONNECT: it has no path.
pub(crate) fn connect() -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Connect("a.example:443".parse().unwrap()), Method::CONNECT);
    head.authority = Some("a.example:443".parse().unwrap());
    head
}

pub(crate) fn response() -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::SERVICE_UNAVAILABLE);
    head.headers.insert("x-envoy-upstream-service-time", HeaderValue::from_static("100"));
    head
}
