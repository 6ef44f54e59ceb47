//! When a request is tried again (`envoy.config.route.v3.RetryPolicy`, and the `x-envoy-*` fields that override it).

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use adit_http::{RequestHead, ResponseHead};
use adit_match::{ConfigError, HeaderMatcher};
use http::{HeaderMap, HeaderName, StatusCode};
use pb::retry_policy::retry_host_predicate::ConfigType;

use crate::reset::ResetReason;
use crate::table::matching::take;

/// Conditions of `retry_on`, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RetryOn(u32);

const CONDITIONS: [(&str, u32); 14] = [
    ("5xx", 1),
    ("gateway-error", 1 << 1),
    ("reset", 1 << 2),
    ("reset-before-request", 1 << 3),
    ("connect-failure", 1 << 4),
    ("refused-stream", 1 << 5),
    ("retriable-4xx", 1 << 6),
    ("retriable-status-codes", 1 << 7),
    ("retriable-headers", 1 << 8),
    ("cancelled", 1 << 9),
    ("deadline-exceeded", 1 << 10),
    ("internal", 1 << 11),
    ("resource-exhausted", 1 << 12),
    ("unavailable", 1 << 13),
];

impl RetryOn {
    /// The conditions of a comma-separated list, and the first item that is none.
    fn parse(list: &str) -> (Self, Option<&str>) {
        let mut bits = 0;
        let mut unknown = None;
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match CONDITIONS.iter().find(|(name, _)| *name == item) {
                Some((_, bit)) => bits |= bit,
                None => unknown = unknown.or(Some(item)),
            }
        }
        (Self(bits), unknown)
    }

    fn has(self, name: &str) -> bool {
        CONDITIONS.iter().any(|(known, bit)| *known == name && self.0 & bit != 0)
    }
}

/// A route's retry policy.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    on: RetryOn,
    retries: u32,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) per_try_idle_timeout: Option<Duration>,
    status_codes: Vec<u16>,
    headers: Vec<HeaderMatcher>,
    request_headers: Vec<HeaderMatcher>,
    base: Duration,
    max: Duration,
    /// Hosts that were tried are avoided.
    pub(crate) previous_hosts: bool,
    /// How often to choose again.
    pub(crate) reselect: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            on: RetryOn::default(),
            retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            status_codes: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
            previous_hosts: false,
            reselect: 1,
        }
    }
}

/// Of `host_selection_retry_max_attempts`: where every host was tried before, this many choices are made in one turn.
const MOST_CHOICES: i64 = 1024;

impl RetryPolicy {
    pub(crate) fn from_proto(message: &pb::RetryPolicy, at: &str, errors: &mut Vec<ConfigError>) -> Self {
        let (on, unknown) = RetryOn::parse(&message.retry_on);
        if let Some(item) = unknown {
            errors.push(ConfigError::new(
                format!("{at}.retry_on"),
                format!("'{item}' is not a condition that is supported"),
            ));
        }
        if message.retry_priority.is_some() {
            errors.push(ConfigError::unsupported(format!("{at}.retry_priority")));
        }
        if message.rate_limited_retry_back_off.is_some() {
            errors.push(ConfigError::unsupported(format!("{at}.rate_limited_retry_back_off")));
        }
        let (base, max) = back_off(message, at, errors);
        let headers = HeaderMatcher::list(&message.retriable_headers, &format!("{at}.retriable_headers"));
        let request =
            HeaderMatcher::list(&message.retriable_request_headers, &format!("{at}.retriable_request_headers"));
        Self {
            on,
            retries: message.num_retries.unwrap_or(1),
            per_try_timeout: nonzero(message.per_try_timeout.as_ref()),
            per_try_idle_timeout: nonzero(message.per_try_idle_timeout.as_ref()),
            status_codes: message.retriable_status_codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect(),
            headers: take(headers, errors).unwrap_or_default(),
            request_headers: take(request, errors).unwrap_or_default(),
            base,
            max,
            previous_hosts: host_predicates(message, at, errors),
            reselect: u32::try_from(message.host_selection_retry_max_attempts.clamp(1, MOST_CHOICES)).unwrap_or(1),
        }
    }
}

fn nonzero(value: Option<&prost_types::Duration>) -> Option<Duration> {
    value.map(adit_config::duration).filter(|value| !value.is_zero())
}

fn back_off(message: &pb::RetryPolicy, at: &str, errors: &mut Vec<ConfigError>) -> (Duration, Duration) {
    let default = RetryPolicy::default();
    let Some(policy) = &message.retry_back_off else { return (default.base, default.max) };
    let Some(base) = nonzero(policy.base_interval.as_ref()) else {
        errors.push(ConfigError::missing(format!("{at}.retry_back_off.base_interval")));
        return (default.base, default.max);
    };
    let max = nonzero(policy.max_interval.as_ref()).unwrap_or(base * 10);
    if max < base {
        errors.push(ConfigError::new(
            format!("{at}.retry_back_off"),
            "retry_policy.max_interval must greater than or equal to the base_interval",
        ));
    }
    (base.max(Duration::from_millis(1)), max.max(base))
}

fn host_predicates(message: &pb::RetryPolicy, at: &str, errors: &mut Vec<ConfigError>) -> bool {
    for (index, predicate) in message.retry_host_predicate.iter().enumerate() {
        let known = match &predicate.config_type {
            Some(ConfigType::TypedConfig(any)) => adit_config::is::<PreviousHostsPredicate>(any),
            None => predicate.name == "envoy.retry_host_predicates.previous_hosts",
        };
        if !known {
            errors.push(ConfigError::unsupported(format!("{at}.retry_host_predicate[{index}]")));
        }
    }
    !message.retry_host_predicate.is_empty()
}

const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
const HEDGE: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");
const ALT_STAT_NAME: HeaderName = HeaderName::from_static("x-envoy-upstream-alt-stat-name");
const RQ_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
pub(crate) const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const PER_TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

/// Whether an attempt is to be followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// No policy asks for it.
    No,
    /// A policy asks for it, and the allowed retries are used up (flag URX).
    LimitExceeded,
    /// After this long.
    After(Duration),
}

/// The retries of one request.
#[derive(Debug)]
pub(crate) struct RetryState {
    policy: Option<Arc<RetryPolicy>>,
    used: u32,
}

/// The timeouts of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// From the request's end to the response's end; `None` for off.
    pub(crate) response: Option<Duration>,
    pub(crate) per_try: Option<Duration>,
    pub(crate) per_try_idle: Option<Duration>,
}

/// Whether a request brings fields of those that ask for retries or timeouts. One look at the names that are there costs less
/// than looking each of these up.
pub(crate) fn asks(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-envoy-"))
}

impl RetryState {
    /// From the route's policy and the request's own fields, which are taken off where it `asks` at all (see [`asks`]).
    pub(crate) fn new(policy: Option<&Arc<RetryPolicy>>, head: &mut RequestHead, asks: bool) -> Self {
        if let Some(policy) = policy
            && !policy.request_headers.is_empty()
            && !policy.request_headers.iter().any(|matcher| matcher.matches(head))
        {
            remove_overrides(&mut head.headers);
            return Self { policy: None, used: 0 };
        }
        if !asks {
            let policy = policy.filter(|policy| policy.on != RetryOn::default()).cloned();
            return Self { policy, used: 0 };
        }
        let own = own_policy(policy.map(|policy| &**policy), &head.headers).map(Arc::new);
        if own.is_some() || head.headers.contains_key(&HEDGE) || head.headers.contains_key(&ALT_STAT_NAME) {
            remove_overrides(&mut head.headers);
        }
        let policy = own.or_else(|| policy.cloned()).filter(|policy| policy.on != RetryOn::default());
        Self { policy, used: 0 }
    }

    /// Whether another attempt can follow at all, so that the body is worth keeping.
    pub(crate) fn possible(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| self.used < policy.retries)
    }

    /// Whether an attempt was retried already.
    pub(crate) fn retried(&self) -> bool {
        self.used > 0
    }

    /// After a final response head.
    pub(crate) fn after_head(&mut self, head: &ResponseHead) -> Decision {
        let Some(policy) = &self.policy else { return Decision::No };
        if policy.wants_head(head) { self.decide() } else { Decision::No }
    }

    /// After a failure before the response's head.
    pub(crate) fn after_reset(&mut self, reason: ResetReason, request_sent: bool) -> Decision {
        let Some(policy) = &self.policy else { return Decision::No };
        if policy.wants_reset(reason, request_sent) { self.decide() } else { Decision::No }
    }

    /// After `per_try_timeout`: as after a reset, and 504 for the conditions on status codes.
    pub(crate) fn after_try_timeout(&mut self) -> Decision {
        let Some(policy) = &self.policy else { return Decision::No };
        let on = policy.on;
        let listed = on.has("retriable-status-codes") && policy.status_codes.contains(&504);
        let wanted = on.has("5xx") || on.has("gateway-error") || on.has("reset") || listed;
        if wanted { self.decide() } else { Decision::No }
    }

    fn decide(&mut self) -> Decision {
        let Some(policy) = &self.policy else { return Decision::No };
        if self.used >= policy.retries {
            return Decision::LimitExceeded;
        }
        let ceiling = policy.base.saturating_mul(1 << self.used.min(20)).min(policy.max);
        self.used += 1;
        let ceiling = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX).max(1);
        Decision::After(Duration::from_micros(fastrand::u64(..ceiling)))
    }
}

impl RetryPolicy {
    fn wants_head(&self, head: &ResponseHead) -> bool {
        let status = head.status;
        let on = self.on;
        let gateway = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        (on.has("5xx") && status.is_server_error())
            || (on.has("gateway-error") && gateway.contains(&status))
            || (on.has("retriable-4xx") && status == StatusCode::CONFLICT)
            || (on.has("retriable-status-codes") && self.status_codes.contains(&status.as_u16()))
            || (on.has("retriable-headers") && self.headers.iter().any(|matcher| matcher.matches_response(head)))
            || self.wants_grpc(&head.headers)
    }

    fn wants_grpc(&self, headers: &HeaderMap) -> bool {
        let Some(code) = headers.get("grpc-status") else { return false };
        let name = match code.as_bytes() {
            b"1" => "cancelled",
            b"4" => "deadline-exceeded",
            b"8" => "resource-exhausted",
            b"13" => "internal",
            b"14" => "unavailable",
            _ => return false,
        };
        self.on.has(name)
    }

    fn wants_reset(&self, reason: ResetReason, request_sent: bool) -> bool {
        let on = self.on;
        if reason == ResetReason::Overflow {
            return false;
        }
        on.has("reset")
            || on.has("5xx")
            || on.has("gateway-error")
            || (on.has("reset-before-request") && !request_sent)
            || (on.has("refused-stream") && reason == ResetReason::RemoteRefused)
            || (on.has("connect-failure") && reason.is_connect_failure())
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The policy with the request's overrides; `None` when it brings none.
fn own_policy(policy: Option<&RetryPolicy>, headers: &HeaderMap) -> Option<RetryPolicy> {
    let names = [RETRY_ON, RETRY_GRPC_ON, MAX_RETRIES, STATUS_CODES, HEADER_NAMES];
    if !names.iter().any(|name| headers.contains_key(name)) {
        return None;
    }
    let mut own = policy.cloned().unwrap_or_default();
    for name in [&RETRY_ON, &RETRY_GRPC_ON] {
        own.on.0 |= RetryOn::parse(text(headers, name)).0.0;
    }
    if own.on != RetryOn::default()
        && let Some(max) = number(headers, &MAX_RETRIES)
    {
        own.retries = u32::try_from(max).unwrap_or(u32::MAX);
    }
    own.status_codes.extend(text(headers, &STATUS_CODES).split(',').filter_map(|code| code.trim().parse::<u16>().ok()));
    for name in text(headers, &HEADER_NAMES).split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let message = pb::HeaderMatcher { name: name.to_owned(), ..Default::default() };
        own.headers.extend(HeaderMatcher::from_proto(&message, ""));
    }
    Some(own)
}

fn remove_overrides(headers: &mut HeaderMap) {
    for name in [&RETRY_ON, &RETRY_GRPC_ON, &MAX_RETRIES, &STATUS_CODES, &HEADER_NAMES, &HEDGE, &ALT_STAT_NAME] {
        headers.remove(name);
    }
}

/// The timeouts of a request: the route's, unless the request brings its own, which is taken off; `respect_expected` lets
/// what the last hop announced win.
pub(crate) fn timeouts(
    route: Option<Duration>,
    policy: Option<&RetryPolicy>,
    headers: &mut HeaderMap,
    asks: bool,
    respect_expected: bool,
) -> Timeouts {
    let mut response = route;
    let mut per_try = policy.and_then(|policy| policy.per_try_timeout);
    if asks {
        if let Some(own) = number(headers, &RQ_TIMEOUT) {
            response = (own > 0).then(|| Duration::from_millis(own));
            headers.remove(&RQ_TIMEOUT);
        }
        if respect_expected && let Some(expected) = number(headers, &EXPECTED_TIMEOUT) {
            response = (expected > 0).then(|| Duration::from_millis(expected));
        }
        if let Some(own) = number(headers, &PER_TRY_TIMEOUT) {
            per_try = (own > 0).then(|| Duration::from_millis(own));
            headers.remove(&PER_TRY_TIMEOUT);
        }
    }
    // A try that may last longer than everything together is no limit.
    if response.is_some_and(|response| per_try.is_some_and(|per_try| per_try >= response)) {
        per_try = None;
    }
    Timeouts { response, per_try, per_try_idle: policy.and_then(|policy| policy.per_try_idle_timeout) }
}
