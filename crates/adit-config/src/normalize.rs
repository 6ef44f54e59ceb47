//! Deprecated forms to the ones that replaced them, so that readers know only one form of each.
//!
//! A form of which the old and the new are both set keeps the new, as in Envoy.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use crate::proto::envoy::config::accesslog::v3::{AccessLog, access_log};
use crate::proto::envoy::config::bootstrap::v3::Admin;
use crate::proto::envoy::config::cluster::v3::{Cluster, cluster::ClusterProtocolSelection};
use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{
    ConfigSource, DataSource, HeaderValueOption, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
    PathConfigSource, SubstitutionFormatString, config_source, data_source, substitution_format_string,
};
use crate::proto::envoy::config::listener::v3::Listener;
use crate::proto::envoy::config::route::v3::{HeaderMatcher, Route, VirtualHost, header_matcher};
use crate::proto::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use crate::proto::envoy::extensions::filters::udp::udp_proxy::v3::{
    Route as UdpRoute, UdpProxyConfig, udp_proxy_config,
};
use crate::proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use crate::proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SubjectAltNameMatcher,
};
use crate::proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use crate::proto::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config,
};
use crate::proto::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use crate::proto::xds::core::v3::TypedExtensionConfig;
use crate::proto::xds::r#type::matcher::v3::{Matcher, matcher};
use crate::unpack::pack;
use crate::walk;

/// The key under which a cluster's HTTP options stand.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The message with every deprecated form in it, at any depth and within `Any`, replaced.
pub(crate) fn message(mut message: DynamicMessage) -> DynamicMessage {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        if let Some(inner) = walk::unpack(&message) {
            let bytes = self::message(inner).encode_to_vec();
            let _ = message.try_set_field_by_name("value", Value::Bytes(bytes.into()));
        }
        return message;
    }
    for (_, value) in message.fields_mut() {
        below(value);
    }
    rewrite(&mut message);
    message
}

fn below(value: &mut Value) {
    match value {
        Value::Message(inner) => {
            let taken = std::mem::replace(inner, DynamicMessage::new(inner.descriptor()));
            *inner = message(taken);
        }
        Value::List(items) => items.iter_mut().for_each(below),
        Value::Map(entries) => entries.values_mut().for_each(below),
        _ => {}
    }
}

fn rewrite(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    match descriptor.full_name().strip_prefix("envoy.").unwrap_or_default() {
        "config.bootstrap.v3.Admin" => typed(message, &["access_log_path"], admin),
        "config.listener.v3.Listener" => typed(message, &["reuse_port"], listener),
        "config.cluster.v3.Cluster" => typed(
            message,
            &[
                "http_protocol_options",
                "http2_protocol_options",
                "common_http_protocol_options",
                "upstream_http_protocol_options",
                "max_requests_per_connection",
                "protocol_selection",
            ],
            cluster,
        ),
        "config.core.v3.ConfigSource" => typed(message, &["path"], config_source),
        "config.core.v3.HeaderValueOption" => typed(message, &["append"], header_value_option),
        "config.core.v3.Http2ProtocolOptions" => {
            typed(message, &["stream_error_on_invalid_http_messaging"], http2_options);
        }
        "config.core.v3.SubstitutionFormatString" => typed(message, &["text_format"], format_string),
        "config.route.v3.HeaderMatcher" => typed(
            message,
            &["exact_match", "prefix_match", "suffix_match", "contains_match", "safe_regex_match"],
            header_matcher,
        ),
        "config.route.v3.VirtualHost" => typed(message, &["per_request_buffer_limit_bytes"], virtual_host),
        "config.route.v3.Route" => typed(message, &["per_request_buffer_limit_bytes"], route),
        "type.matcher.v3.RegexMatcher" => {
            typed(message, &["google_re2"], |matcher: &mut RegexMatcher| matcher.engine_type = None);
        }
        "extensions.access_loggers.file.v3.FileAccessLog" => {
            typed(message, &["format", "json_format", "typed_json_format"], file_access_log);
        }
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => {
            typed(message, &["access_log_flush_interval", "flush_access_log_on_new_request"], connection_manager);
        }
        "extensions.filters.network.tcp_proxy.v3.TcpProxy" => {
            typed(message, &["access_log_flush_interval", "flush_access_log_on_connected"], tcp_proxy);
        }
        "extensions.filters.udp.udp_proxy.v3.UdpProxyConfig" => typed(message, &["cluster"], udp_proxy),
        "extensions.transport_sockets.tls.v3.CertificateValidationContext" => {
            typed(message, &["match_subject_alt_names"], validation_context);
        }
        _ => {}
    }
}

/// Applies `change` to the message as a `T`, if any of the `fields` is set.
fn typed<T: Name + Default>(message: &mut DynamicMessage, fields: &[&str], change: impl Fn(&mut T)) {
    if !fields.iter().any(|field| message.has_field_by_name(field)) {
        return;
    }
    if let Ok(mut value) = message.transcode_to::<T>() {
        change(&mut value);
        let mut changed = DynamicMessage::new(message.descriptor());
        if changed.transcode_from(&value).is_ok() {
            *message = changed;
        }
    }
}

#[allow(deprecated)]
fn admin(admin: &mut Admin) {
    let log = FileAccessLog { path: std::mem::take(&mut admin.access_log_path), access_log_format: None };
    admin.access_log.push(AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter: None,
        config_type: Some(access_log::ConfigType::TypedConfig(pack(&log))),
    });
}

#[allow(deprecated)]
fn listener(listener: &mut Listener) {
    listener.enable_reuse_port.get_or_insert(listener.reuse_port);
    listener.reuse_port = false;
}

/// The HTTP options that once stood in the cluster itself, to the extension that holds them now.
#[allow(deprecated)]
fn cluster(cluster: &mut Cluster) {
    let http1 = cluster.http_protocol_options.take();
    let http2 = cluster.http2_protocol_options.take();
    let mut common = cluster.common_http_protocol_options.take();
    let upstream = cluster.upstream_http_protocol_options.take();
    let selection = std::mem::take(&mut cluster.protocol_selection);
    if let Some(most) = cluster.max_requests_per_connection.take() {
        common.get_or_insert_with(CommonOptions::default).max_requests_per_connection.get_or_insert(most);
    }
    let choice = if selection == ClusterProtocolSelection::UseDownstreamProtocol as i32 {
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: http1,
            http2_protocol_options: http2,
            http3_protocol_options: None,
        })
    } else {
        let config = match http2 {
            Some(http2) => explicit_http_config::ProtocolConfig::Http2ProtocolOptions(http2),
            None => explicit_http_config::ProtocolConfig::HttpProtocolOptions(http1.unwrap_or_default()),
        };
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
    };
    cluster.typed_extension_protocol_options.entry(HTTP_OPTIONS.to_owned()).or_insert_with(|| {
        pack(&HttpProtocolOptions {
            common_http_protocol_options: common,
            upstream_http_protocol_options: upstream,
            upstream_protocol_options: Some(choice),
            ..HttpProtocolOptions::default()
        })
    });
}

#[allow(deprecated)]
fn config_source(source: &mut ConfigSource) {
    use config_source::ConfigSourceSpecifier as Specifier;
    if let Some(Specifier::Path(path)) = &mut source.config_source_specifier {
        let path = std::mem::take(path);
        let modern = PathConfigSource { path, ..PathConfigSource::default() };
        source.config_source_specifier = Some(Specifier::PathConfigSource(modern));
    }
}

#[allow(deprecated)]
fn header_value_option(option: &mut HeaderValueOption) {
    option.append_action = match option.append.take() {
        Some(false) => HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        _ => HeaderAppendAction::AppendIfExistsOrAdd as i32,
    };
}

#[allow(deprecated)]
fn http2_options(options: &mut Http2ProtocolOptions) {
    let old = std::mem::take(&mut options.stream_error_on_invalid_http_messaging);
    options.override_stream_error_on_invalid_http_message.get_or_insert(old);
}

fn inline(text: &mut String) -> DataSource {
    let specifier = data_source::Specifier::InlineString(std::mem::take(text));
    DataSource { specifier: Some(specifier), ..DataSource::default() }
}

#[allow(deprecated)]
fn format_string(format: &mut SubstitutionFormatString) {
    use substitution_format_string::Format;
    if let Some(Format::TextFormat(text)) = &mut format.format {
        format.format = Some(Format::TextFormatSource(inline(text)));
    }
}

#[allow(deprecated)]
fn header_matcher(matcher: &mut HeaderMatcher) {
    use header_matcher::HeaderMatchSpecifier as Old;
    let pattern = match matcher.header_match_specifier.take() {
        Some(Old::ExactMatch(text)) => MatchPattern::Exact(text),
        Some(Old::PrefixMatch(text)) => MatchPattern::Prefix(text),
        Some(Old::SuffixMatch(text)) => MatchPattern::Suffix(text),
        Some(Old::ContainsMatch(text)) => MatchPattern::Contains(text),
        Some(Old::SafeRegexMatch(regex)) => MatchPattern::SafeRegex(regex),
        other => {
            matcher.header_match_specifier = other;
            return;
        }
    };
    let matched = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    matcher.header_match_specifier = Some(Old::StringMatch(matched));
}

#[allow(deprecated)]
fn virtual_host(host: &mut VirtualHost) {
    if let Some(limit) = host.per_request_buffer_limit_bytes.take() {
        host.request_body_buffer_limit.get_or_insert(u64::from(limit));
    }
}

#[allow(deprecated)]
fn route(route: &mut Route) {
    if let Some(limit) = route.per_request_buffer_limit_bytes.take() {
        route.request_body_buffer_limit.get_or_insert(u64::from(limit));
    }
}

#[allow(deprecated)]
fn file_access_log(log: &mut FileAccessLog) {
    use file_access_log::AccessLogFormat as Old;
    use substitution_format_string::Format;
    let format = match log.access_log_format.take() {
        Some(Old::Format(mut text)) => Format::TextFormatSource(inline(&mut text)),
        Some(Old::JsonFormat(json) | Old::TypedJsonFormat(json)) => Format::JsonFormat(json),
        other => {
            log.access_log_format = other;
            return;
        }
    };
    let modern = SubstitutionFormatString { format: Some(format), ..SubstitutionFormatString::default() };
    log.access_log_format = Some(Old::LogFormat(modern));
}

#[allow(deprecated)]
fn connection_manager(manager: &mut HttpConnectionManager) {
    let options = manager.access_log_options.get_or_insert_default();
    if let Some(interval) = manager.access_log_flush_interval.take() {
        options.access_log_flush_interval.get_or_insert(interval);
    }
    options.flush_access_log_on_new_request |= std::mem::take(&mut manager.flush_access_log_on_new_request);
}

#[allow(deprecated)]
fn tcp_proxy(proxy: &mut TcpProxy) {
    let options = proxy.access_log_options.get_or_insert_default();
    if let Some(interval) = proxy.access_log_flush_interval.take() {
        options.access_log_flush_interval.get_or_insert(interval);
    }
    options.flush_access_log_on_connected |= std::mem::take(&mut proxy.flush_access_log_on_connected);
}

#[allow(deprecated)]
fn udp_proxy(proxy: &mut UdpProxyConfig) {
    use udp_proxy_config::RouteSpecifier;
    let Some(RouteSpecifier::Cluster(cluster)) = &mut proxy.route_specifier else { return };
    let route = UdpRoute { cluster: std::mem::take(cluster) };
    let action = TypedExtensionConfig { name: "route".to_owned(), typed_config: Some(pack(&route)) };
    let on_no_match =
        matcher::OnMatch { on_match: Some(matcher::on_match::OnMatch::Action(action)), ..Default::default() };
    let matcher = Matcher { on_no_match: Some(Box::new(on_no_match)), matcher_type: None };
    proxy.route_specifier = Some(RouteSpecifier::Matcher(matcher));
}

/// The old list is compared with the names of every kind.
#[allow(deprecated)]
fn validation_context(context: &mut CertificateValidationContext) {
    for matcher in std::mem::take(&mut context.match_subject_alt_names) {
        for san_type in [SanType::Dns, SanType::Uri, SanType::Email, SanType::IpAddress] {
            context.match_typed_subject_alt_names.push(SubjectAltNameMatcher {
                san_type: san_type as i32,
                matcher: Some(matcher.clone()),
                ..SubjectAltNameMatcher::default()
            });
        }
    }
}
