//! `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::cluster::v3 as pb;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options as options,
};
use adit_config::{Path, duration, unpack};
use adit_h3::endpoint::QuicOptions;
use adit_http::MAX_FIELDS;
use http::Version;

use super::Problems;
use crate::alternate::AlternateProtocols;

const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TCP_KEY: &str = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions";

/// How a cluster speaks HTTP.
#[derive(Clone)]
pub struct HttpOptions {
    /// Which version.
    pub protocol: HttpProtocol,
    /// HTTP/1.1 codec.
    pub h1: Arc<adit_h1::ClientConfig>,
    /// HTTP/2 codec.
    pub h2: Arc<adit_h2::ClientConfig>,
    /// HTTP/3, where it is configured.
    pub h3: Option<Arc<Http3>>,
    /// `auto_config` with HTTP/3: which origins speak it.
    pub(crate) alternate: Option<Arc<AlternateProtocols>>,
    /// `idle_timeout` of a pooled connection: 1 h by default, `None` when 0.
    pub idle_timeout: Option<Duration>,
    /// `max_connection_duration`: after it a connection takes no new stream.
    pub max_connection_duration: Option<Duration>,
    /// `max_requests_per_connection`; `None` is no limit.
    pub max_requests: Option<u64>,
    /// `max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// `auto_sni`: the server name is the request's authority, or this field's value.
    pub auto_sni: Option<Box<str>>,
    /// `auto_san_validation`: the certificate must be for the request's authority, or this field's value.
    pub auto_san_validation: Option<Box<str>>,
}

/// How a cluster speaks HTTP/3.
#[derive(Clone)]
pub struct Http3 {
    /// The codec.
    pub codec: Arc<adit_h3::ClientConfig>,
    /// The connections below it.
    pub quic: QuicOptions,
}

impl std::fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Which HTTP version an upstream connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpProtocol {
    /// `explicit_http_config`, or nothing: HTTP/1.1.
    Explicit(Version),
    /// `use_downstream_protocol_config`: that of the request.
    Downstream,
    /// `auto_config`: by ALPN, HTTP/1.1 when none was chosen; HTTP/3 where the origin is known to speak it.
    Auto,
}

impl HttpOptions {
    /// Whether nothing but HTTP/1 is ever spoken.
    pub(crate) fn is_http1(&self) -> bool {
        matches!(self.protocol, HttpProtocol::Explicit(version) if version < Version::HTTP_2)
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            protocol: HttpProtocol::Explicit(Version::HTTP_11),
            h1: Arc::default(),
            h2: Arc::default(),
            h3: None,
            alternate: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests: None,
            max_stream_duration: None,
            auto_sni: None,
            auto_san_validation: None,
        }
    }
}

impl HttpOptions {
    /// Streams at once on one connection of this version, as we limit them ourselves (`max_concurrent_streams`: 1024 for
    /// HTTP/2, 100 for HTTP/3). A version that is not known yet may multiplex.
    pub fn max_streams(&self, version: Option<Version>) -> usize {
        let streams = match (version, &self.h3) {
            (Some(Version::HTTP_3), Some(http3)) => http3.codec.max_concurrent_streams,
            (Some(Version::HTTP_2) | None, _) => self.h2.http2.max_concurrent_streams,
            _ => 1,
        };
        usize::try_from(streams).unwrap_or(usize::MAX).max(1)
    }
}

/// What codecs need of their cluster.
pub(super) struct Site<'a> {
    pub scope: &'a adit_stats::Scope,
    pub connect_timeout: Duration,
}

pub(super) fn http_options(
    message: &pb::Cluster,
    path: &Path,
    site: &Site<'_>,
    problems: &mut Problems,
) -> HttpOptions {
    let mut plan = HttpOptions::default();
    let path = path.field("typed_extension_protocol_options");
    for (key, any) in &message.typed_extension_protocol_options {
        let path = path.key(key);
        match key.as_str() {
            KEY => match unpack::<HttpProtocolOptions>(any) {
                Ok(message) => lower(&message, &path, site, &mut plan, problems),
                Err(error) => problems.error(&path, error.to_string()),
            },
            // A connection of ours to a TCP upstream is never idle in a pool.
            TCP_KEY => {}
            _ => problems.error(&path, "unknown protocol options"),
        }
    }
    plan
}

fn lower(message: &HttpProtocolOptions, path: &Path, site: &Site<'_>, plan: &mut HttpOptions, problems: &mut Problems) {
    use options::UpstreamProtocolOptions as Choice;
    let unsupported = [
        (!message.http_filters.is_empty(), "http_filters"),
        (message.header_validation_config.is_some(), "header_validation_config"),
        (message.outlier_detection.is_some(), "outlier_detection"),
        (!message.request_mirror_policies.is_empty(), "request_mirror_policies"),
        (!message.hash_policy.is_empty(), "hash_policy"),
        (message.retry_policy.is_some(), "retry_policy"),
    ];
    for (set, field) in unsupported {
        if set {
            problems.unsupported(&path.field(field));
        }
    }
    let common = message.common_http_protocol_options.unwrap_or_default();
    common_options(&common, plan);
    if let Some(upstream) = &message.upstream_http_protocol_options {
        let header = match upstream.override_auto_sni_header.as_str() {
            "" => ":authority",
            header => header,
        };
        let header = || header.to_ascii_lowercase().into();
        plan.auto_sni = upstream.auto_sni.then(header);
        plan.auto_san_validation = upstream.auto_san_validation.then(header);
    }
    let (h1, h2, h3) = match &message.upstream_protocol_options {
        None => {
            problems.error(&path.field("upstream_protocol_options"), "value is required");
            return;
        }
        Some(Choice::ExplicitHttpConfig(explicit)) => {
            use options::explicit_http_config::ProtocolConfig as Config;
            match &explicit.protocol_config {
                Some(Config::Http2ProtocolOptions(h2)) => {
                    plan.protocol = HttpProtocol::Explicit(Version::HTTP_2);
                    (None, Some(h2.clone()), None)
                }
                Some(Config::HttpProtocolOptions(h1)) => (Some(h1.clone()), None, None),
                Some(Config::Http3ProtocolOptions(h3)) => {
                    plan.protocol = HttpProtocol::Explicit(Version::HTTP_3);
                    (None, None, Some(h3.clone()))
                }
                None => {
                    problems.error(&path.field("explicit_http_config"), "value is required");
                    return;
                }
            }
        }
        Some(Choice::UseDownstreamProtocolConfig(config)) => {
            plan.protocol = HttpProtocol::Downstream;
            let h2 = config.http2_protocol_options.clone().unwrap_or_default();
            (config.http_protocol_options.clone(), Some(h2), config.http3_protocol_options.clone())
        }
        Some(Choice::AutoConfig(config)) => {
            plan.protocol = HttpProtocol::Auto;
            plan.alternate = alternate(config, &path.field("auto_config"), problems);
            let h2 = config.http2_protocol_options.clone().unwrap_or_default();
            (config.http_protocol_options.clone(), Some(h2), config.http3_protocol_options.clone())
        }
    };
    plan.h3 = h3.map(|h3| Arc::new(h3_options(&h3, &common, site)));
    let h1 = h1.unwrap_or_default();
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    if let Some(HeaderFormat::StatefulFormatter(_)) =
        h1.header_key_format.as_ref().and_then(|format| format.header_format.as_ref())
    {
        problems.unsupported(&path.field("http_protocol_options.header_key_format.stateful_formatter"));
    }
    plan.h1 = Arc::new(h1_config(&h1, &common));
    plan.h2 = Arc::new(h2_config(&h2.unwrap_or_default(), &common, site));
}

fn common_options(common: &core::HttpProtocolOptions, plan: &mut HttpOptions) {
    let positive = |value: &prost_types::Duration| Some(duration(value)).filter(|value| !value.is_zero());
    if let Some(idle) = &common.idle_timeout {
        plan.idle_timeout = positive(idle);
    }
    plan.max_connection_duration = common.max_connection_duration.as_ref().and_then(positive);
    plan.max_stream_duration = common.max_stream_duration.as_ref().and_then(positive);
    plan.max_requests = common.max_requests_per_connection.filter(|max| *max != 0).map(u64::from);
}

/// `alternate_protocols_cache_options`, which HTTP/3 needs.
fn alternate(
    config: &options::AutoHttpConfig,
    path: &Path,
    problems: &mut Problems,
) -> Option<Arc<AlternateProtocols>> {
    let path_of_cache = path.field("alternate_protocols_cache_options");
    let Some(cache) = &config.alternate_protocols_cache_options else {
        if config.http3_protocol_options.is_some() {
            let text = "alternate protocols cache must be configured when HTTP/3 is enabled with auto_config";
            problems.error(path, text);
        }
        return None;
    };
    if cache.key_value_store_config.is_some() {
        problems.unsupported(&path_of_cache.field("key_value_store_config"));
    }
    if !cache.canonical_suffixes.is_empty() {
        problems.unsupported(&path_of_cache.field("canonical_suffixes"));
    }
    config.http3_protocol_options.as_ref()?;
    let max = cache.max_entries.map_or(1024, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let entries = cache.prepopulated_entries.iter();
    let entries = entries.filter_map(|entry| Some((entry.hostname.clone(), u16::try_from(entry.port).ok()?)));
    Some(Arc::new(AlternateProtocols::new(max, entries)))
}

/// Envoy's clients probe a silent connection after so long where the configuration names no interval.
const KEEPALIVE: Duration = Duration::from_secs(15);

fn h3_options(h3: &core::Http3ProtocolOptions, common: &core::HttpProtocolOptions, site: &Site<'_>) -> Http3 {
    let mut http3 = adit_h3::Http3Options::from(h3);
    if let Some(kilobytes) = common.max_response_headers_kb {
        http3.max_header_list_size = kilobytes.saturating_mul(1024);
    }
    if let Some(count) = max_headers(common) {
        http3.max_headers_count = count;
    }
    let message = h3.quic_protocol_options.clone().unwrap_or_default();
    let mut quic = QuicOptions::from(&message);
    if message.connection_keepalive.is_none() {
        quic.keepalive = Some(KEEPALIVE);
    }
    quic.datagrams = http3.datagrams;
    let codec = adit_h3::ClientConfig {
        http3,
        max_concurrent_streams: quic.max_concurrent_streams,
        settings_timeout: site.connect_timeout,
        stats: Some(Arc::new(crate::codec_stats::Http3Stats::new(site.scope))),
        ..adit_h3::ClientConfig::default()
    };
    Http3 { codec: Arc::new(codec), quic }
}

fn h2_config(
    h2: &core::Http2ProtocolOptions,
    common: &core::HttpProtocolOptions,
    site: &Site<'_>,
) -> adit_h2::ClientConfig {
    let mut http2 = adit_h2::Http2Options::from(h2);
    if let Some(kilobytes) = common.max_response_headers_kb {
        http2.max_header_list_size = kilobytes.saturating_mul(1024);
    }
    if let Some(count) = max_headers(common) {
        http2.max_headers_count = count;
    }
    adit_h2::ClientConfig {
        http2,
        settings_timeout: site.connect_timeout,
        stats: Some(Arc::new(crate::codec_stats::Http2Stats::new(site.scope))),
    }
}

fn h1_config(h1: &core::Http1ProtocolOptions, common: &core::HttpProtocolOptions) -> adit_h1::ClientConfig {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let mut config = adit_h1::ClientConfig {
        enable_trailers: h1.enable_trailers,
        allow_chunked_length: h1.allow_chunked_length,
        send_fully_qualified_url: h1.send_fully_qualified_url,
        ..adit_h1::ClientConfig::default()
    };
    if let Some(HeaderFormat::ProperCaseWords(_)) =
        h1.header_key_format.as_ref().and_then(|format| format.header_format.as_ref())
    {
        config.header_case = adit_h1::HeaderCase::ProperWords;
    }
    let whole = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    if let Some(kilobytes) = common.max_response_headers_kb {
        config.max_head_bytes = whole(kilobytes).saturating_mul(1024);
    }
    if let Some(count) = max_headers(common) {
        config.max_headers = count;
    }
    config
}

fn max_headers(common: &core::HttpProtocolOptions) -> Option<usize> {
    common.max_headers_count.map(|count| usize::try_from(count).unwrap_or(usize::MAX).min(MAX_FIELDS))
}
