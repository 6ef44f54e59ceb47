//! The answers that the router makes itself, with Envoy's status, text, details and flag for each.

use std::borrow::Cow;

use adit_filter::upstream::{ConnectFailure, FailureKind};
use adit_filter::{LocalReply, ResponseFlag};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::reset::ResetReason;

const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// Why an attempt failed before the upstream's answer.
pub(crate) enum Failure {
    /// The stream, or the connection under it.
    Reset { reason: ResetReason, detail: Cow<'static, str> },
    /// There is no host to connect to.
    NoHost { reason: Cow<'static, str> },
    /// A far proxy refused the connection with this status.
    Refused { status: StatusCode, reason: ResetReason, detail: Cow<'static, str> },
    /// `per_try_timeout`, or `per_try_idle_timeout`.
    TryTimeout { idle: bool },
}

impl Failure {
    pub(crate) fn of_connect(failure: &ConnectFailure) -> Self {
        match (ResetReason::of_connect(failure.kind), failure.refusal) {
            (None, _) => Self::NoHost { reason: failure.reason.clone() },
            (Some(reason), Some(status)) if failure.kind == FailureKind::Remote => {
                Self::Refused { status, reason, detail: failure.reason.clone() }
            }
            (Some(reason), _) => Self::Reset { reason, detail: failure.reason.clone() },
        }
    }

    /// The answer to the client; `retried` when other attempts failed before.
    pub(crate) fn reply(&self, retried: bool) -> LocalReply {
        match self {
            Self::Reset { reason, detail } => {
                let status = if *reason == ResetReason::ProtocolError {
                    StatusCode::BAD_GATEWAY
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                reset(status, *reason, detail, retried)
            }
            Self::Refused { status, reason, detail } => reset(*status, *reason, detail, retried),
            Self::NoHost { reason } => {
                let details: Cow<'static, str> =
                    if reason.starts_with("dns_") { reason.clone() } else { "no_healthy_upstream".into() };
                LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, details)
                    .body("no healthy upstream")
                    .flag(ResponseFlag::NoHealthyUpstream)
            }
            Self::TryTimeout { idle } => {
                let details = if *idle { "upstream_per_try_idle_timeout" } else { "upstream_per_try_timeout" };
                LocalReply::new(StatusCode::GATEWAY_TIMEOUT, details)
                    .body("upstream request timeout")
                    .flag(ResponseFlag::UpstreamRequestTimeout)
            }
        }
    }
}

fn reset(status: StatusCode, reason: ResetReason, detail: &str, retried: bool) -> LocalReply {
    let again = if retried { "retried and the latest " } else { "" };
    let text = reason.as_str();
    let body = format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {text}");
    let bar = if detail.is_empty() { "" } else { "|" };
    let details = format!("upstream_reset_before_response_started{{{text}{bar}{detail}}}").replace(' ', "_");
    let mut reply = LocalReply::new(status, details).body(body).flag(reason.flag());
    if reason == ResetReason::Overflow {
        reply.headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    reply
}

/// An upstream's answer that may not be passed on.
pub(crate) fn invalid_answer(retried: bool) -> LocalReply {
    reset(StatusCode::BAD_GATEWAY, ResetReason::ProtocolError, "", retried)
}

/// The route's `timeout` is over.
pub(crate) fn response_timeout() -> LocalReply {
    LocalReply::new(StatusCode::GATEWAY_TIMEOUT, "response_timeout")
        .body("upstream request timeout")
        .flag(ResponseFlag::UpstreamRequestTimeout)
}

/// Who was too slow: the client, as long as its request is not `complete`, else the upstream.
fn timeout_status(complete: bool) -> StatusCode {
    if complete { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT }
}

/// The stream was idle too long before its answer.
pub(crate) fn idle_timeout(complete: bool) -> LocalReply {
    LocalReply::new(timeout_status(complete), "stream_idle_timeout")
        .body("stream timeout")
        .flag(ResponseFlag::StreamIdleTimeout)
}

/// The cluster's `max_stream_duration` is over before the answer.
pub(crate) fn max_duration(complete: bool) -> LocalReply {
    LocalReply::new(timeout_status(complete), "upstream_max_stream_duration_reached")
        .body("upstream max stream duration reached")
        .flag(ResponseFlag::UpstreamMaxStreamDurationReached)
}

/// The route's cluster does not exist.
pub(crate) fn no_cluster(status: StatusCode) -> LocalReply {
    LocalReply::new(status, "cluster_not_found").flag(ResponseFlag::NoClusterFound)
}

/// No route matched.
pub(crate) fn no_route() -> LocalReply {
    LocalReply::new(StatusCode::NOT_FOUND, "route_not_found").flag(ResponseFlag::NoRouteFound)
}

/// What is in early data may be a replay, and a tunnel is never idempotent (RFC 8470 sections 4 and 5.1).
pub(crate) fn too_early() -> LocalReply {
    LocalReply::new(StatusCode::TOO_EARLY, "early_data_rejected")
}

/// Bytes came with a CONNECT that may have none before its answer (`reject_connect_request_early_data`).
pub(crate) fn early_connect_data() -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "early_connect_data")
}

/// A CONNECT-UDP whose stream has ended with its head: nothing can be tunnelled.
pub(crate) fn connect_udp_without_stream() -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "connect_udp_ended_with_its_head")
}
