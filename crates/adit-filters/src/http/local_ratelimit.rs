//! `envoy.filters.http.local_ratelimit`: a token bucket for all workers of the process.

use std::sync::Arc;

use adit_access_log::HeaderAdder;
use adit_config::proto::envoy::extensions::filters::http::local_ratelimit::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, LocalReply, LogContext, ResponseFlag, Verdict};
use adit_match::{ConfigError, Fraction};
use adit_stats::Counter;
use http::{HeaderMap, StatusCode};

use super::{RouteConfig, settings};
use crate::Env;
use crate::bucket::TokenBucket;
use crate::unpack::refuse;

struct Limit {
    bucket: Option<TokenBucket>,
    enabled: Fraction,
    enforced: Fraction,
    status: StatusCode,
    response_headers: HeaderAdder,
    request_headers: HeaderAdder,
    stats: Stats,
}

struct Stats {
    /// There is no shadow mode.
    _shadow: Counter,
    enabled: Counter,
    enforced: Counter,
    ok: Counter,
    rate_limited: Counter,
}

pub(super) struct Factory(Arc<Limit>);

impl Factory {
    pub fn new(message: &pb::LocalRateLimit, env: &Env<'_>, path: &str) -> Result<Self, ConfigError> {
        limit(message, env, path).map(|limit| Self(Arc::new(limit)))
    }
}

pub(super) fn route(message: &pb::LocalRateLimit, env: &Env<'_>, path: &str) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(limit(message, env, path)?))
}

fn limit(message: &pb::LocalRateLimit, env: &Env<'_>, path: &str) -> Result<Limit, ConfigError> {
    refuse(
        path,
        &[
            (!message.descriptors.is_empty(), "descriptors"),
            (message.stage != 0, "stage"),
            (message.local_rate_limit_per_downstream_connection, "local_rate_limit_per_downstream_connection"),
            (message.local_cluster_rate_limit.is_some(), "local_cluster_rate_limit"),
            (message.enable_x_ratelimit_headers != 0, "enable_x_ratelimit_headers"),
            (message.vh_rate_limits != 0, "vh_rate_limits"),
            (message.always_consume_default_token_bucket.is_some(), "always_consume_default_token_bucket"),
            (message.rate_limited_as_resource_exhausted, "rate_limited_as_resource_exhausted"),
            (!message.rate_limits.is_empty(), "rate_limits"),
            (message.max_dynamic_descriptors.is_some(), "max_dynamic_descriptors"),
            (message.enable_retry_after_header, "enable_retry_after_header"),
        ],
    )?;
    let bucket = message.token_bucket.as_ref();
    let bucket = bucket.map(|bucket| TokenBucket::from_proto(bucket, &format!("{path}.token_bucket"))).transpose()?;
    // A status below 400 would not be a refusal: Envoy answers 429 then.
    let status = message.status.as_ref().and_then(|status| u16::try_from(status.code).ok()).filter(|code| *code >= 400);
    let adder = |list: &[_], field: &str| HeaderAdder::from_proto(list, &format!("{path}.{field}"), &[], "");
    let scope = env.root.http_local_rate_limit(&message.stat_prefix);
    Ok(Limit {
        bucket,
        enabled: message.filter_enabled.as_ref().map_or_else(Fraction::never, Fraction::from_runtime),
        enforced: message.filter_enforced.as_ref().map_or_else(Fraction::never, Fraction::from_runtime),
        status: status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::TOO_MANY_REQUESTS),
        response_headers: adder(&message.response_headers_to_add, "response_headers_to_add")?,
        request_headers: adder(
            &message.request_headers_to_add_when_not_enforced,
            "request_headers_to_add_when_not_enforced",
        )?,
        stats: Stats {
            _shadow: scope.counter("shadow_mode"),
            enabled: scope.counter("enabled"),
            enforced: scope.counter("enforced"),
            ok: scope.counter("ok"),
            rate_limited: scope.counter("rate_limited"),
        },
    })
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        Some(Box::new(Filter(settings(&self.0, per_route))))
    }
}

struct Filter(Arc<Limit>);

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _: bool) -> Verdict {
        let limit = &self.0;
        let Some(bucket) = &limit.bucket else { return Verdict::Continue };
        if !limit.enabled.sampled(&stream.worker.runtime, fastrand::u64(..)) {
            return Verdict::Continue;
        }
        limit.stats.enabled.inc();
        if bucket.take() {
            limit.stats.ok.inc();
            return Verdict::Continue;
        }
        limit.stats.rate_limited.inc();
        if !limit.enforced.sampled(&stream.worker.runtime, fastrand::u64(..)) {
            limit.request_headers.apply_request(&mut stream.request, &stream.info);
            return Verdict::Continue;
        }
        limit.stats.enforced.inc();
        let mut headers = HeaderMap::new();
        let context = LogContext { request: Some(&stream.request), ..LogContext::new(&stream.info) };
        limit.response_headers.apply(&mut headers, &context);
        let mut reply = LocalReply::new(limit.status, "local_rate_limited").body("local_rate_limited");
        reply.headers = headers;
        Verdict::Reply(reply.flag(ResponseFlag::RateLimited))
    }
}
