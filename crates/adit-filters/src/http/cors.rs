//! `envoy.filters.http.cors`: answers preflights and marks answers; what a route says is all of its configuration.

use std::sync::Arc;

use adit_config::proto::envoy::extensions::filters::http::cors::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, LocalReply, StreamInfo, Verdict};
use adit_http::ResponseHead;
use adit_match::{ConfigError, Fraction, StringMatcher};
use adit_stats::Counter;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::RouteConfig;
use crate::Env;

static PRIVATE_NETWORK_ASKED: HeaderName = HeaderName::from_static("access-control-request-private-network");
static PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

struct Policy {
    origins: Vec<StringMatcher>,
    /// An origin `*` is listed.
    any_origin: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    forward_strangers: bool,
    enabled: Fraction,
    shadow: Fraction,
}

pub(super) fn route(message: &pb::CorsPolicy, path: &str) -> Result<RouteConfig, ConfigError> {
    let value = |text: &str, field: &str| match text {
        "" => Ok(None),
        text => HeaderValue::from_str(text)
            .map(Some)
            .map_err(|_| ConfigError::new(format!("{path}.{field}"), "cannot be sent in a header")),
    };
    let origins =
        StringMatcher::list(&message.allow_origin_string_match, &format!("{path}.allow_origin_string_match"))?;
    Ok(Arc::new(Policy {
        any_origin: origins.iter().any(|origin| origin.matches("*")),
        origins,
        methods: value(&message.allow_methods, "allow_methods")?,
        headers: value(&message.allow_headers, "allow_headers")?,
        expose: value(&message.expose_headers, "expose_headers")?,
        max_age: value(&message.max_age, "max_age")?,
        credentials: message.allow_credentials.unwrap_or(false),
        private_network: message.allow_private_network_access.unwrap_or(false),
        forward_strangers: message.forward_not_matching_preflights.unwrap_or(true),
        enabled: message.filter_enabled.as_ref().map_or_else(Fraction::always, Fraction::from_runtime),
        shadow: message.shadow_enabled.as_ref().map_or_else(Fraction::never, Fraction::from_runtime),
    }))
}

pub(super) struct Factory {
    valid: Counter,
    invalid: Counter,
}

impl Factory {
    pub fn new(env: &Env<'_>) -> Self {
        let scope = env.http.scope("cors");
        Self { valid: scope.counter("origin_valid"), invalid: scope.counter("origin_invalid") }
    }
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        let policy = per_route?.clone().downcast().ok()?;
        Some(Box::new(Filter { policy, origin: None, valid: self.valid.clone(), invalid: self.invalid.clone() }))
    }
}

struct Filter {
    policy: Arc<Policy>,
    /// The origin that is let in.
    origin: Option<HeaderValue>,
    valid: Counter,
    invalid: Counter,
}

impl Filter {
    fn preflight_answer(&self, stream: &HttpStream, origin: &HeaderValue) -> LocalReply {
        let policy = &self.policy;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &policy.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers),
            (header::ACCESS_CONTROL_MAX_AGE, &policy.max_age),
        ];
        for (name, value) in fields {
            headers.extend(value.clone().map(|value| (name, value)));
        }
        let truth = HeaderValue::from_static("true");
        if policy.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, truth.clone());
        }
        let asked = stream.request.headers.get(&PRIVATE_NETWORK_ASKED) == Some(&truth);
        if policy.private_network && asked {
            headers.insert(PRIVATE_NETWORK.clone(), truth);
        }
        LocalReply { headers, ..LocalReply::new(StatusCode::OK, "cors_response") }
    }
}

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _: bool) -> Verdict {
        let policy = self.policy.clone();
        let Some(origin) = stream.request.headers.get(header::ORIGIN).cloned() else { return Verdict::Continue };
        let runtime = &stream.worker.runtime;
        let enabled = policy.enabled.sampled(runtime, fastrand::u64(..));
        if !enabled && !policy.shadow.sampled(runtime, fastrand::u64(..)) {
            return Verdict::Continue;
        }
        let allowed = policy.any_origin || policy.origins.iter().any(|one| one.matches(origin.as_bytes()));
        let counter = if allowed { &self.valid } else { &self.invalid };
        counter.inc();
        if !enabled {
            return Verdict::Continue;
        }
        let asks_method = stream.request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let preflight = stream.request.method == Method::OPTIONS && asks_method.is_some_and(|value| !value.is_empty());
        if !allowed {
            let refuse = preflight && !policy.forward_strangers;
            return if refuse {
                Verdict::Reply(LocalReply::new(StatusCode::OK, "cors_response"))
            } else {
                Verdict::Continue
            };
        }
        if preflight {
            let answer = self.preflight_answer(stream, &origin);
            self.origin = Some(origin);
            return Verdict::Reply(answer);
        }
        self.origin = Some(origin);
        Verdict::Continue
    }

    fn on_response(&mut self, head: &mut ResponseHead, _: &mut StreamInfo) {
        let Some(origin) = self.origin.take() else { return };
        head.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.policy.credentials {
            head.headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.policy.expose {
            head.headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}
