//! `HttpConnectionManager` becomes an [`Hcm`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use adit_access_log::{LocalReplyMapper, Sinks};
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::route::v3::RouteConfiguration;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_filter::{AccessLog, FilterChain, RouteTable};
use adit_http::{MAX_FIELDS, Scheme};
use adit_match::{CidrSet, StringMatcher};
use adit_stats::Scope;
use http::HeaderValue;
use pb::http_connection_manager as hcm;

use crate::Hcm;
use crate::path::{EscapedSlashes, PathOptions};
use crate::request::{RequestOptions, StripPort, Underscores};
use crate::response::ServerHeader;
use crate::stats::Stats;
use crate::upgrade::{UpgradeEntry, UpgradeTable};
use crate::xfcc::ClientCert;

/// Makes a thing of a message at a path, or says all that is wrong with it.
pub type Make<'a, M, T> = dyn Fn(&M, &Path) -> Result<T, Vec<Diagnostic>> + 'a;

/// What a connection manager needs of the crates beside it.
pub struct HcmContext<'a> {
    /// The store's root scope.
    pub stats: &'a Scope,
    /// The listener's scope (`listener.<address>.`).
    pub listener_stats: &'a Scope,
    /// Opens the access logs' files.
    pub sinks: &'a Sinks,
    /// Makes a route table.
    pub routes: &'a Make<'a, RouteConfiguration, Arc<dyn RouteTable>>,
    /// Makes a filter chain that ends in a terminal filter.
    pub chain: &'a Make<'a, [pb::HttpFilter], FilterChain>,
    /// `--service-cluster`, for `add_user_agent`.
    pub service_cluster: &'a str,
    /// The listener is one of QUIC: `codec_type: HTTP3` is right there, and nothing else is.
    pub quic: bool,
    /// Counts what the HTTP/3 codec sees.
    pub http3_stats: Arc<dyn adit_h3::CodecStats>,
    /// Counts what the HTTP/2 codec sees.
    pub http2_stats: Arc<dyn adit_h2::CodecStats>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodecType {
    Auto,
    Http1,
    Http2,
    Http3,
}

pub(crate) struct Config {
    pub(crate) codec: CodecType,
    pub(crate) http1: Arc<adit_h1::ServerConfig>,
    pub(crate) http2: Arc<adit_h2::ServerConfig>,
    pub(crate) http3: Arc<adit_h3::ServerConfig>,
    pub(crate) request: RequestOptions,
    pub(crate) server_name: HeaderValue,
    pub(crate) server_header: ServerHeader,
    pub(crate) always_set_request_id_in_response: bool,
    /// `stream_error_on_invalid_http_message`, or HTTP/1's own word on it.
    pub(crate) stream_error: bool,
    pub(crate) local_reply: LocalReplyMapper,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_connection_duration: Option<Jittered>,
    pub(crate) drain_timeout: Jittered,
    pub(crate) client_cert: ClientCert,
    pub(crate) max_stream_duration: Option<Duration>,
    pub(crate) max_requests_per_connection: u64,
    pub(crate) stream_idle_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) access_logs: Vec<Arc<dyn AccessLog>>,
    pub(crate) log_on_new_request: bool,
    pub(crate) log_on_tunnel: bool,
    pub(crate) log_interval: Option<Duration>,
}

impl Hcm {
    /// Makes a connection manager, or says all that is wrong with it.
    pub fn from_proto(
        message: &pb::HttpConnectionManager,
        context: &HcmContext<'_>,
        path: &Path,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let routes = match &message.route_specifier {
            Some(hcm::RouteSpecifier::RouteConfig(routes)) => (context.routes)(routes, &path.field("route_config")),
            _ => Err(vec![Diagnostic::error(
                path,
                "a route_config is required: rds and scoped_routes are not implemented by adit",
            )]),
        };
        let routes = keep(routes, &mut errors);
        let chain = keep((context.chain)(&message.http_filters, &path.field("http_filters")), &mut errors);
        let upgrades = upgrades(message, context, path, &mut errors);
        let config = config(message, context, path, &mut errors);
        match (routes, chain, config) {
            (Some(routes), Some(chain), Some(config)) if errors.is_empty() => Ok(Arc::new(Self {
                stats: Stats::new(context.stats, context.listener_stats, &message.stat_prefix),
                config,
                routes,
                chain: Arc::new(chain),
                upgrades,
            })),
            _ => Err(errors),
        }
    }
}

fn keep<T>(result: Result<T, Vec<Diagnostic>>, errors: &mut Vec<Diagnostic>) -> Option<T> {
    result.map_err(|found| errors.extend(found)).ok()
}

fn upgrades(
    message: &pb::HttpConnectionManager,
    context: &HcmContext<'_>,
    path: &Path,
    errors: &mut Vec<Diagnostic>,
) -> UpgradeTable {
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for (index, entry) in message.upgrade_configs.iter().enumerate() {
        let at = path.item("upgrade_configs", index);
        let upgrade_type = entry.upgrade_type.to_ascii_lowercase();
        if !seen.insert(upgrade_type.clone()) {
            let text = format!("Error: multiple upgrade configs with the same name: '{}'", entry.upgrade_type);
            errors.push(Diagnostic::error(&at, text));
        }
        let chain = if entry.filters.is_empty() {
            None
        } else {
            keep((context.chain)(&entry.filters, &at.field("filters")), errors).map(Arc::new)
        };
        entries.push(UpgradeEntry { upgrade_type: upgrade_type.into(), enabled: entry.enabled.unwrap_or(true), chain });
    }
    UpgradeTable(entries)
}

/// A time that is longer by up to a part of itself, so that connections do not end together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jittered {
    time: Duration,
    /// From 0 to 1.
    part: f64,
}

impl Jittered {
    fn new(time: Duration, percent: Option<&adit_config::proto::envoy::r#type::v3::Percent>) -> Self {
        Self { time, part: percent.map_or(0.0, |percent| (percent.value / 100.0).clamp(0.0, 1.0)) }
    }

    /// One choice of it.
    pub(crate) fn with_jitter(self) -> Duration {
        if self.part == 0.0 { self.time } else { self.time.mul_f64(1.0 + self.part * fastrand::f64()) }
    }
}

impl Config {
    /// How long a connection stays open once it drains.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout.with_jitter()
    }
}

/// A timeout that 0 turns off.
fn timeout(value: Option<&prost_types::Duration>, default: Option<Duration>) -> Option<Duration> {
    value.map_or(default, |value| Some(adit_config::duration(value))).filter(|timeout| !timeout.is_zero())
}

fn config(
    message: &pb::HttpConnectionManager,
    context: &HcmContext<'_>,
    path: &Path,
    errors: &mut Vec<Diagnostic>,
) -> Option<Config> {
    let common = message.common_http_protocol_options.unwrap_or_default();
    let logs = adit_access_log::build(&message.access_log, context.sinks, path.field("access_log").as_str());
    let access_logs = match logs {
        Ok(logs) => Some(logs),
        Err(found) => {
            errors.extend(found.into_iter().map(|error| Diagnostic::error(error.path, error.message)));
            None
        }
    };
    let local_reply = message.local_reply_config.as_ref().map(|local_reply| {
        LocalReplyMapper::from_proto(local_reply, context.sinks.runtime(), path.field("local_reply_config").as_str())
    });
    let local_reply = match local_reply.transpose() {
        Ok(mapper) => Some(mapper.unwrap_or_default()),
        Err(found) => {
            errors.extend(found.into_iter().map(|error| Diagnostic::error(error.path, error.message)));
            None
        }
    };
    let request = request_options(message, &common, context, path, errors);
    let http1 = http1(message, &common, path, errors);
    let http2 = http2(message, &common, context);
    let name = if message.server_name.is_empty() { "envoy" } else { &message.server_name };
    let server_name = header_value(name, &path.field("server_name"), errors);
    let codec = match message.codec_type() {
        hcm::CodecType::Auto => CodecType::Auto,
        hcm::CodecType::Http1 => CodecType::Http1,
        hcm::CodecType::Http2 => CodecType::Http2,
        hcm::CodecType::Http3 if context.quic => CodecType::Http3,
        hcm::CodecType::Http3 => {
            errors.push(Diagnostic::error(path.field("codec_type"), "HTTP/3 codec configured on non-QUIC listener."));
            return None;
        }
    };
    let log_options = message.access_log_options.unwrap_or_default();
    Some(Config {
        codec,
        http1: Arc::new(http1?),
        http2: Arc::new(http2),
        http3: Arc::new(http3(message, &common, context)),
        request: request?,
        server_name: server_name?,
        server_header: match message.server_header_transformation() {
            hcm::ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            hcm::ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            hcm::ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        },
        always_set_request_id_in_response: message.always_set_request_id_in_response,
        stream_error: message
            .http_protocol_options
            .as_ref()
            .and_then(|options| options.override_stream_error_on_invalid_http_message)
            .or(message.stream_error_on_invalid_http_message)
            .unwrap_or(false),
        local_reply: local_reply?,
        idle_timeout: timeout(common.idle_timeout.as_ref(), Some(Duration::from_secs(3600))),
        max_connection_duration: timeout(common.max_connection_duration.as_ref(), None)
            .map(|time| Jittered::new(time, common.max_connection_duration_jitter.as_ref())),
        client_cert: ClientCert::from_proto(message, path).map_err(|error| errors.push(error)).ok()?,
        drain_timeout: Jittered::new(
            message.drain_timeout.as_ref().map_or(Duration::from_secs(5), adit_config::duration),
            message.drain_timeout_jitter.as_ref(),
        ),
        max_stream_duration: timeout(common.max_stream_duration.as_ref(), None),
        max_requests_per_connection: common.max_requests_per_connection.unwrap_or(0).into(),
        stream_idle_timeout: timeout(message.stream_idle_timeout.as_ref(), Some(Duration::from_secs(300))),
        request_timeout: timeout(message.request_timeout.as_ref(), None),
        access_logs: access_logs?,
        log_on_new_request: log_options.flush_access_log_on_new_request,
        log_on_tunnel: log_options.flush_log_on_tunnel_successfully_established,
        log_interval: timeout(log_options.access_log_flush_interval.as_ref(), None),
    })
}

fn header_value(text: &str, path: &Path, errors: &mut Vec<Diagnostic>) -> Option<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| errors.push(Diagnostic::error(path, format!("not a valid header value: {text:?}"))))
        .ok()
}

fn request_options(
    message: &pb::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
    context: &HcmContext<'_>,
    path: &Path,
    errors: &mut Vec<Diagnostic>,
) -> Option<RequestOptions> {
    let internal = message.internal_address_config.clone().unwrap_or_default();
    let ranges_path = path.field("internal_address_config").field("cidr_ranges");
    let internal_addresses = CidrSet::from_proto(&internal.cidr_ranges, ranges_path.as_str())
        .map_err(|error| errors.push(Diagnostic::error(error.path, error.message)))
        .ok()?;
    let via = match message.via.as_str() {
        "" => None,
        text => Some(header_value(text, &path.field("via"), errors)?),
    };
    let agent = message.add_user_agent.unwrap_or(false).then_some(context.service_cluster);
    let user_agent = match agent {
        Some(text) => Some(header_value(text, &path.field("add_user_agent"), errors)?),
        None => None,
    };
    let strip_port = match message.strip_port_mode {
        Some(hcm::StripPortMode::StripAnyHostPort(true)) if message.strip_matching_host_port => {
            let text = "Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.";
            errors.push(Diagnostic::error(path.field("strip_any_host_port"), text));
            return None;
        }
        Some(hcm::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        _ if message.strip_matching_host_port => StripPort::Matching,
        _ => StripPort::No,
    };
    use core::http_protocol_options::HeadersWithUnderscoresAction as Action;
    Some(RequestOptions {
        use_remote_address: message.use_remote_address.unwrap_or(false),
        xff_num_trusted_hops: message.xff_num_trusted_hops as usize,
        skip_xff_append: message.skip_xff_append,
        internal_addresses,
        internal_unix_sockets: internal.unix_sockets,
        append_x_forwarded_port: message.append_x_forwarded_port,
        generate_request_id: message.generate_request_id.unwrap_or(true),
        preserve_external_request_id: message.preserve_external_request_id,
        via,
        user_agent,
        strip_port,
        strip_trailing_host_dot: message.strip_trailing_host_dot,
        underscores: match common.headers_with_underscores_action() {
            Action::Allow => Underscores::Allow,
            Action::RejectRequest => Underscores::Reject,
            Action::DropHeader => Underscores::Drop,
        },
        path: path_options(message),
        scheme_overwrite: scheme_overwrite(message, path, errors),
    })
}

fn path_options(message: &pb::HttpConnectionManager) -> PathOptions {
    use hcm::PathWithEscapedSlashesAction as Action;
    PathOptions {
        normalize: message.normalize_path.unwrap_or(false),
        merge_slashes: message.merge_slashes,
        escaped_slashes: match message.path_with_escaped_slashes_action() {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
            Action::RejectRequest => EscapedSlashes::Reject,
            Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    }
}

fn scheme_overwrite(message: &pb::HttpConnectionManager, path: &Path, errors: &mut Vec<Diagnostic>) -> Option<Scheme> {
    use core::scheme_header_transformation::Transformation;
    let transformation = message.scheme_header_transformation.as_ref()?.transformation.as_ref()?;
    match transformation {
        Transformation::SchemeToOverwrite(scheme) if scheme == "https" => Some(Scheme::Https),
        Transformation::SchemeToOverwrite(scheme) if scheme == "http" => Some(Scheme::Http),
        Transformation::SchemeToOverwrite(scheme) => {
            let at = path.field("scheme_header_transformation").field("scheme_to_overwrite");
            errors.push(Diagnostic::error(at, format!("not a scheme: {scheme:?}")));
            None
        }
    }
}

fn http1(
    message: &pb::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
    path: &Path,
    errors: &mut Vec<Diagnostic>,
) -> Option<adit_h1::ServerConfig> {
    let options = message.http_protocol_options.clone().unwrap_or_default();
    let at = path.field("http_protocol_options");
    let mut ignored = Vec::new();
    for (index, matcher) in options.ignore_http_11_upgrade.iter().enumerate() {
        match StringMatcher::from_proto(matcher, at.item("ignore_http_11_upgrade", index).as_str()) {
            Ok(matcher) => ignored.push(matcher),
            Err(error) => errors.push(Diagnostic::error(error.path, error.message)),
        }
    }
    let host = match options.default_host_for_http_10.as_str() {
        "" => None,
        text => match text.parse() {
            Ok(authority) => Some(authority),
            Err(_) => {
                errors.push(Diagnostic::error(at.field("default_host_for_http_10"), format!("not a host: {text:?}")));
                return None;
            }
        },
    };
    let defaults = adit_h1::ServerConfig::default();
    Some(adit_h1::ServerConfig {
        max_head_bytes: message.max_request_headers_kb.map_or(defaults.max_head_bytes, |kib| (kib as usize) << 10),
        max_headers: max_headers(common).unwrap_or(defaults.max_headers),
        accept_http_10: options.accept_http_10,
        default_host_for_http_10: host,
        allow_absolute_url: options.allow_absolute_url.unwrap_or(true),
        allow_custom_methods: options.allow_custom_methods,
        allow_chunked_length: options.allow_chunked_length,
        enable_trailers: options.enable_trailers,
        proxy_100_continue: message.proxy_100_continue,
        ignore_upgrade: (!ignored.is_empty())
            .then(|| adit_h1::TokenMatcher::new(move |token| ignored.iter().any(|matcher| matcher.matches(token)))),
        header_case: header_case(&options),
        delayed_close_timeout: message
            .delayed_close_timeout
            .as_ref()
            .map_or(defaults.delayed_close_timeout, adit_config::duration),
        request_headers_timeout: timeout(message.request_headers_timeout.as_ref(), None),
    })
}

fn max_headers(common: &core::HttpProtocolOptions) -> Option<usize> {
    common.max_headers_count.map(|count| (count as usize).min(MAX_FIELDS))
}

fn header_case(options: &core::Http1ProtocolOptions) -> adit_h1::HeaderCase {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    match options.header_key_format.as_ref().and_then(|format| format.header_format.as_ref()) {
        Some(HeaderFormat::ProperCaseWords(_)) => adit_h1::HeaderCase::ProperWords,
        _ => adit_h1::HeaderCase::Lower,
    }
}

fn http2(
    message: &pb::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
    context: &HcmContext<'_>,
) -> adit_h2::ServerConfig {
    let mut http2 = message.http2_protocol_options.as_ref().map(adit_h2::Http2Options::from).unwrap_or_default();
    if let Some(kib) = message.max_request_headers_kb {
        http2.max_header_list_size = kib << 10;
    }
    if let Some(count) = max_headers(common) {
        http2.max_headers_count = count;
    }
    if http2.stream_error_on_invalid_http_message.is_none() {
        http2.stream_error_on_invalid_http_message = message.stream_error_on_invalid_http_message;
    }
    let request_headers_timeout = timeout(message.request_headers_timeout.as_ref(), None);
    adit_h2::ServerConfig { http2, request_headers_timeout, stats: Some(context.http2_stats.clone()) }
}

fn http3(
    message: &pb::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
    context: &HcmContext<'_>,
) -> adit_h3::ServerConfig {
    let mut http3 = message.http3_protocol_options.as_ref().map(adit_h3::Http3Options::from).unwrap_or_default();
    if let Some(kib) = message.max_request_headers_kb {
        http3.max_header_list_size = kib << 10;
    }
    if let Some(count) = max_headers(common) {
        http3.max_headers_count = count;
    }
    if http3.stream_error_on_invalid_http_message.is_none() {
        http3.stream_error_on_invalid_http_message = message.stream_error_on_invalid_http_message;
    }
    adit_h3::ServerConfig { http3, stats: Some(context.http3_stats.clone()) }
}
