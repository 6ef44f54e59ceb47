//! `health_checks` and `outlier_detection`.

use std::ops::Range;
use std::time::Duration;

use adit_config::proto::envoy::config::cluster::v3 as pb;
use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::{Path, duration};
use http::{HeaderName, HeaderValue, Method};

use super::Problems;

/// One health check.
#[derive(Debug, Clone)]
pub struct HealthCheckPlan {
    /// `name`, which its metrics carry; empty for none.
    pub name: Box<str>,
    /// `timeout` of one attempt.
    pub timeout: Duration,
    /// `interval` between attempts, where nothing below says otherwise.
    pub interval: Duration,
    /// `initial_jitter`.
    pub initial_jitter: Duration,
    /// `interval_jitter`.
    pub jitter: Duration,
    /// `interval_jitter_percent`.
    pub jitter_percent: u32,
    /// `unhealthy_threshold`.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`.
    pub healthy_threshold: u32,
    /// `alt_port`.
    pub alt_port: Option<u16>,
    /// `reuse_connection`, true by default.
    pub reuse_connection: bool,
    /// `no_traffic_interval`, 60 s by default: while the cluster has never had a connection.
    pub no_traffic: Duration,
    /// `no_traffic_healthy_interval`: the same, once a host is healthy.
    pub no_traffic_healthy: Duration,
    /// `unhealthy_interval`: while a host is unhealthy.
    pub unhealthy: Duration,
    /// `unhealthy_edge_interval`: right after a host became unhealthy.
    pub unhealthy_edge: Duration,
    /// `healthy_edge_interval`: right after a host became healthy.
    pub healthy_edge: Duration,
    /// How to check.
    pub check: HealthCheckType,
}

/// How a host is checked.
#[derive(Debug, Clone)]
pub enum HealthCheckType {
    /// `tcp_health_check`.
    Tcp(TcpCheck),
    /// `http_health_check`.
    Http(Box<HttpCheck>),
}

/// `tcp_health_check`.
#[derive(Debug, Clone, Default)]
pub struct TcpCheck {
    /// `send`; nothing: a connection is proof enough.
    pub send: Vec<u8>,
    /// `receive`: found in this order, not necessarily next to each other.
    pub receive: Vec<Vec<u8>>,
}

/// `http_health_check`.
#[derive(Debug, Clone)]
pub struct HttpCheck {
    /// `host`; the endpoint's `health_check_config.hostname` comes first, and the cluster's name last.
    pub host: String,
    /// `path`.
    pub path: String,
    /// `method`, GET by default.
    pub method: Method,
    /// `expected_statuses`, 200 by default.
    pub expected: Vec<Range<i64>>,
    /// `retriable_statuses`: they count towards `unhealthy_threshold` instead of failing at once.
    pub retriable: Vec<Range<i64>>,
    /// `request_headers_to_add`.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// `request_headers_to_remove`.
    pub remove: Vec<HeaderName>,
    /// `codec_client_type: HTTP2`.
    pub http2: bool,
}

/// `outlier_detection`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierPlan {
    /// `consecutive_5xx`, 5.
    pub consecutive_5xx: u32,
    /// `consecutive_gateway_failure`, 5.
    pub consecutive_gateway: u32,
    /// `consecutive_local_origin_failure`, 5.
    pub consecutive_local: u32,
    /// `enforcing_consecutive_5xx` in per cent, 100.
    pub enforcing_5xx: u32,
    /// `enforcing_consecutive_gateway_failure` in per cent, 0.
    pub enforcing_gateway: u32,
    /// `enforcing_consecutive_local_origin_failure` in per cent, 100.
    pub enforcing_local: u32,
    /// `split_external_local_origin_errors`.
    pub split: bool,
    /// `interval`, 10 s: when ejections are looked at.
    pub interval: Duration,
    /// `base_ejection_time`, 30 s: times the number of ejections so far.
    pub base_ejection: Duration,
    /// `max_ejection_time`, 300 s or the base if that is longer.
    pub max_ejection: Duration,
    /// `max_ejection_time_jitter`.
    pub jitter: Duration,
    /// `max_ejection_percent`, 10.
    pub max_percent: u32,
    /// `always_eject_one_host`: one host may go whatever the percentage.
    pub always_one: bool,
    /// `successful_active_health_check_uneject_host`, true.
    pub uneject_on_check: bool,
    /// By shares of failures.
    pub rates: RatePlan,
}

/// `success_rate_*` and `failure_percentage_*` of `outlier_detection`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatePlan {
    /// `success_rate_minimum_hosts`, 5.
    pub success_hosts: usize,
    /// `success_rate_request_volume` in an interval, 100.
    pub success_volume: u64,
    /// `success_rate_stdev_factor`, in standard deviations, 1.9.
    pub deviations: f64,
    /// `enforcing_success_rate` in per cent, 100.
    pub enforcing_success: u32,
    /// `enforcing_local_origin_success_rate` in per cent, 100.
    pub enforcing_local_success: u32,
    /// `failure_percentage_minimum_hosts`, 5.
    pub failure_hosts: usize,
    /// `failure_percentage_request_volume` in an interval, 50.
    pub failure_volume: u64,
    /// `failure_percentage_threshold`, 85.
    pub failure_threshold: f64,
    /// `enforcing_failure_percentage` in per cent, 0.
    pub enforcing_failure: u32,
    /// `enforcing_failure_percentage_local_origin` in per cent, 0.
    pub enforcing_local_failure: u32,
}

pub(super) fn health_checks(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> Vec<HealthCheckPlan> {
    let checks = message.health_checks.iter().enumerate();
    checks.filter_map(|(index, check)| health_check(check, &path.item("health_checks", index), problems)).collect()
}

fn health_check(message: &core::HealthCheck, path: &Path, problems: &mut Problems) -> Option<HealthCheckPlan> {
    use core::health_check::HealthChecker;
    let check = match &message.health_checker {
        Some(HealthChecker::TcpHealthCheck(tcp)) => {
            HealthCheckType::Tcp(tcp_check(tcp, &path.field("tcp_health_check"), problems))
        }
        Some(HealthChecker::HttpHealthCheck(http)) => {
            HealthCheckType::Http(Box::new(http_check(http, &path.field("http_health_check"), problems)?))
        }
        Some(HealthChecker::GrpcHealthCheck(_)) => {
            problems.unsupported(&path.field("grpc_health_check"));
            return None;
        }
        Some(HealthChecker::CustomHealthCheck(_)) => {
            problems.unsupported(&path.field("custom_health_check"));
            return None;
        }
        None => {
            problems.error(&path.field("health_checker"), "value is required");
            return None;
        }
    };
    let unsupported = [
        (message.tls_options.is_some(), "tls_options"),
        (message.transport_socket_match_criteria.is_some(), "transport_socket_match_criteria"),
        (!message.event_logger.is_empty(), "event_logger"),
        (message.event_service.is_some(), "event_service"),
    ];
    for (set, field) in unsupported {
        if set {
            problems.unsupported(&path.field(field));
        }
    }
    let or = |value: &Option<prost_types::Duration>, default: Duration| value.as_ref().map_or(default, duration);
    let interval = or(&message.interval, Duration::from_secs(5));
    let no_traffic = or(&message.no_traffic_interval, Duration::from_secs(60));
    let unhealthy = or(&message.unhealthy_interval, interval);
    Some(HealthCheckPlan {
        name: message.name.as_str().into(),
        timeout: or(&message.timeout, Duration::from_secs(5)),
        interval,
        initial_jitter: or(&message.initial_jitter, Duration::ZERO),
        jitter: or(&message.interval_jitter, Duration::ZERO),
        jitter_percent: message.interval_jitter_percent,
        unhealthy_threshold: message.unhealthy_threshold.unwrap_or(1).max(1),
        healthy_threshold: message.healthy_threshold.unwrap_or(1).max(1),
        alt_port: message.alt_port.and_then(|port| u16::try_from(port).ok()),
        reuse_connection: message.reuse_connection.unwrap_or(true),
        no_traffic,
        no_traffic_healthy: or(&message.no_traffic_healthy_interval, no_traffic),
        unhealthy,
        unhealthy_edge: or(&message.unhealthy_edge_interval, unhealthy),
        healthy_edge: or(&message.healthy_edge_interval, interval),
        check,
    })
}

fn tcp_check(message: &core::health_check::TcpHealthCheck, path: &Path, problems: &mut Problems) -> TcpCheck {
    if message.proxy_protocol_config.is_some() {
        problems.unsupported(&path.field("proxy_protocol_config"));
    }
    let send = message.send.as_ref().map(|send| payload(send, &path.field("send"), problems)).unwrap_or_default();
    let receive = message.receive.iter().enumerate();
    let receive = receive.map(|(index, part)| payload(part, &path.item("receive", index), problems)).collect();
    TcpCheck { send, receive }
}

/// Hexadecimal text, or octets.
fn payload(message: &core::health_check::Payload, path: &Path, problems: &mut Problems) -> Vec<u8> {
    use core::health_check::payload::Payload;
    match &message.payload {
        Some(Payload::Binary(bytes)) => bytes.clone(),
        Some(Payload::Text(text)) => unhex(text).unwrap_or_else(|| {
            problems.error(&path.field("text"), "must be hexadecimal digits, two for each octet");
            Vec::new()
        }),
        None => Vec::new(),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

fn http_check(
    message: &core::health_check::HttpHealthCheck,
    path: &Path,
    problems: &mut Problems,
) -> Option<HttpCheck> {
    let unsupported = [
        (message.send.is_some(), "send"),
        (!message.receive.is_empty(), "receive"),
        (message.response_buffer_size.is_some(), "response_buffer_size"),
        (message.codec_client_type > 1, "codec_client_type"),
        (message.use_alpn_protocol, "use_alpn_protocol"),
        (message.service_name_matcher.is_some(), "service_name_matcher"),
    ];
    for (set, field) in unsupported {
        if set {
            problems.unsupported(&path.field(field));
        }
    }
    let method = match core::RequestMethod::try_from(message.method) {
        Ok(core::RequestMethod::MethodUnspecified) | Err(_) => Method::GET,
        Ok(method) => method.as_str_name().parse().unwrap_or(Method::GET),
    };
    let mut add = Vec::new();
    for (index, option) in message.request_headers_to_add.iter().enumerate() {
        let header = option.header.clone().unwrap_or_default();
        match (HeaderName::try_from(&header.key), HeaderValue::try_from(&header.value)) {
            (Ok(name), Ok(value)) => add.push((name, value)),
            _ => problems.error(&path.item("request_headers_to_add", index), "is not a valid header"),
        }
    }
    if message.path.is_empty() || message.path.parse::<http::uri::PathAndQuery>().is_err() {
        problems.error(&path.field("path"), "is not a valid path");
        return None;
    }
    Some(HttpCheck {
        host: message.host.clone(),
        path: message.path.clone(),
        method,
        expected: ranges(&message.expected_statuses, &path.field("expected_statuses"), problems),
        retriable: ranges(&message.retriable_statuses, &path.field("retriable_statuses"), problems),
        add,
        remove: message.request_headers_to_remove.iter().filter_map(|name| name.parse().ok()).collect(),
        http2: message.codec_client_type == 1,
    })
}

fn ranges(
    ranges: &[adit_config::proto::envoy::r#type::v3::Int64Range],
    path: &Path,
    problems: &mut Problems,
) -> Vec<Range<i64>> {
    for (index, range) in ranges.iter().enumerate() {
        if range.start < 100 || range.end > 600 || range.start >= range.end {
            problems.error(&path.index(index), "must be a range of statuses from 100 to 600, its end excluded");
        }
    }
    ranges.iter().map(|range| range.start..range.end).collect()
}

fn rates(outlier: &pb::OutlierDetection) -> RatePlan {
    RatePlan {
        success_hosts: outlier.success_rate_minimum_hosts.unwrap_or(5) as usize,
        success_volume: outlier.success_rate_request_volume.unwrap_or(100).into(),
        deviations: f64::from(outlier.success_rate_stdev_factor.unwrap_or(1900)) / 1000.0,
        enforcing_success: outlier.enforcing_success_rate.unwrap_or(100),
        enforcing_local_success: outlier.enforcing_local_origin_success_rate.unwrap_or(100),
        failure_hosts: outlier.failure_percentage_minimum_hosts.unwrap_or(5) as usize,
        failure_volume: outlier.failure_percentage_request_volume.unwrap_or(50).into(),
        failure_threshold: f64::from(outlier.failure_percentage_threshold.unwrap_or(85)),
        enforcing_failure: outlier.enforcing_failure_percentage.unwrap_or(0),
        enforcing_local_failure: outlier.enforcing_failure_percentage_local_origin.unwrap_or(0),
    }
}

pub(super) fn outlier(message: &pb::Cluster, path: &Path, problems: &mut Problems) -> Option<OutlierPlan> {
    let outlier = message.outlier_detection.as_ref()?;
    let path = path.field("outlier_detection");
    let unsupported = [
        (!outlier.monitors.is_empty(), "monitors"),
        (outlier.detect_degraded_hosts == Some(true), "detect_degraded_hosts"),
    ];
    for (set, field) in unsupported {
        if set {
            problems.unsupported(&path.field(field));
        }
    }
    let or =
        |value: &Option<prost_types::Duration>, seconds| value.as_ref().map_or(Duration::from_secs(seconds), duration);
    let base_ejection = or(&outlier.base_ejection_time, 30);
    Some(OutlierPlan {
        consecutive_5xx: outlier.consecutive_5xx.unwrap_or(5),
        consecutive_gateway: outlier.consecutive_gateway_failure.unwrap_or(5),
        consecutive_local: outlier.consecutive_local_origin_failure.unwrap_or(5),
        enforcing_5xx: outlier.enforcing_consecutive_5xx.unwrap_or(100),
        enforcing_gateway: outlier.enforcing_consecutive_gateway_failure.unwrap_or(0),
        enforcing_local: outlier.enforcing_consecutive_local_origin_failure.unwrap_or(100),
        split: outlier.split_external_local_origin_errors,
        interval: or(&outlier.interval, 10),
        base_ejection,
        max_ejection: outlier.max_ejection_time.as_ref().map_or(Duration::from_secs(300), duration).max(base_ejection),
        jitter: or(&outlier.max_ejection_time_jitter, 0),
        max_percent: outlier.max_ejection_percent.unwrap_or(10),
        always_one: outlier.always_eject_one_host.unwrap_or(false),
        uneject_on_check: outlier.successful_active_health_check_uneject_host.unwrap_or(true),
        rates: rates(outlier),
    })
}
