//! `envoy.filters.http.fault`: delays, aborts and slow answers for tests.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit_config::proto::envoy::extensions::filters::common::fault::v3 as common;
use adit_config::proto::envoy::extensions::filters::http::fault::v3 as pb;
use adit_filter::{HttpFilter, HttpFilterFactory, HttpStream, LocalReply, ResponseFlag, Verdict};
use adit_match::{ConfigError, Fraction, HeaderMatcher};
use adit_stats::{Counter, Gauge};
use common::fault_delay::FaultDelaySecifier as DelayBy;
use common::fault_rate_limit::LimitType as RateBy;
use http::StatusCode;
use pb::fault_abort::ErrorType;

use super::{RouteConfig, settings};
use crate::Env;
use crate::unpack::refuse;

const DELAY_HEADER: &str = "x-envoy-fault-delay-request";
const DELAY_PERCENT_HEADER: &str = "x-envoy-fault-delay-request-percentage";
const RATE_HEADER: &str = "x-envoy-fault-throughput-response";
const RATE_PERCENT_HEADER: &str = "x-envoy-fault-throughput-response-percentage";
const ABORT_HEADER: &str = "x-envoy-fault-abort-request";
const ABORT_PERCENT_HEADER: &str = "x-envoy-fault-abort-request-percentage";

struct Faults {
    delay: Option<Delay>,
    abort: Option<Abort>,
    rate: Option<Rate>,
    headers: Vec<HeaderMatcher>,
    nodes: Vec<String>,
    max_active: Option<u32>,
    max_active_key: Box<str>,
}

struct Delay {
    /// `None` when the request says it.
    fixed: Option<Duration>,
    percent: Fraction,
    duration_key: Box<str>,
}

struct Abort {
    /// `None` when the request says it.
    status: Option<u16>,
    percent: Fraction,
    status_key: Box<str>,
    body: Box<str>,
}

struct Rate {
    /// KiB a second; `None` when the request says it.
    fixed: Option<NonZeroU32>,
    percent: Fraction,
}

struct Stats {
    slowed: Counter,
    delays: Counter,
    aborts: Counter,
    overflow: Counter,
    active_gauge: Gauge,
    /// A limit rests on this number, which the gauge is not for.
    active: AtomicU64,
}

pub(super) struct Factory {
    own: Arc<Faults>,
    stats: Arc<Stats>,
}

impl Factory {
    pub fn new(message: &pb::HttpFault, env: &Env<'_>, path: &str) -> Result<Self, ConfigError> {
        let scope = env.http.scope("fault");
        let stats = Stats {
            slowed: scope.counter("response_rl_injected"),
            delays: scope.counter("delays_injected"),
            aborts: scope.counter("aborts_injected"),
            overflow: scope.counter("faults_overflow"),
            active_gauge: scope.gauge("active_faults"),
            active: AtomicU64::new(0),
        };
        Ok(Self { own: Arc::new(faults(message, path)?), stats: Arc::new(stats) })
    }
}

pub(super) fn route(message: &pb::HttpFault, path: &str) -> Result<RouteConfig, ConfigError> {
    Ok(Arc::new(faults(message, path)?))
}

fn faults(message: &pb::HttpFault, path: &str) -> Result<Faults, ConfigError> {
    refuse(
        path,
        &[
            (!message.abort_grpc_status_runtime.is_empty(), "abort_grpc_status_runtime"),
            (!message.upstream_cluster.is_empty(), "upstream_cluster"),
            (message.filter_metadata.is_some(), "filter_metadata"),
        ],
    )?;
    Ok(Faults {
        delay: message.delay.as_ref().map(|it| delay(it, message, &format!("{path}.delay"))).transpose()?,
        abort: message.abort.as_ref().map(|it| abort(it, message, &format!("{path}.abort"))).transpose()?,
        rate: message
            .response_rate_limit
            .as_ref()
            .map(|it| rate(it, message, &format!("{path}.response_rate_limit")))
            .transpose()?,
        headers: HeaderMatcher::list(&message.headers, &format!("{path}.headers"))?,
        nodes: message.downstream_nodes.clone(),
        max_active: message.max_active_faults,
        max_active_key: key(&message.max_active_faults_runtime, "fault.http.max_active_faults"),
    })
}

fn key(configured: &str, default: &str) -> Box<str> {
    if configured.is_empty() { default.into() } else { configured.into() }
}

fn delay(message: &common::FaultDelay, all: &pb::HttpFault, path: &str) -> Result<Delay, ConfigError> {
    let fixed = match &message.fault_delay_secifier {
        Some(DelayBy::FixedDelay(duration)) => Some(adit_config::duration(duration)),
        Some(DelayBy::HeaderDelay(_)) => None,
        None => return Err(ConfigError::new(path, "fixed_delay or header_delay is required")),
    };
    let percent = message.percentage.as_ref().map_or_else(Fraction::never, Fraction::from_percent);
    Ok(Delay {
        fixed,
        percent: percent.key(&key(&all.delay_percent_runtime, "fault.http.delay.fixed_delay_percent")),
        duration_key: key(&all.delay_duration_runtime, "fault.http.delay.fixed_duration_ms"),
    })
}

fn rate(message: &common::FaultRateLimit, all: &pb::HttpFault, path: &str) -> Result<Rate, ConfigError> {
    let fixed = match &message.limit_type {
        Some(RateBy::FixedLimit(limit)) => {
            // Beyond the number's range it is no limit that anybody would notice.
            let kbps = NonZeroU32::new(u32::try_from(limit.limit_kbps).unwrap_or(u32::MAX));
            Some(kbps.ok_or_else(|| ConfigError::new(format!("{path}.fixed_limit.limit_kbps"), "must be at least 1"))?)
        }
        Some(RateBy::HeaderLimit(_)) => None,
        None => return Err(ConfigError::new(path, "fixed_limit or header_limit is required")),
    };
    let percent = message.percentage.as_ref().map_or_else(Fraction::never, Fraction::from_percent);
    let key = key(&all.response_rate_limit_percent_runtime, "fault.http.rate_limit.response_percent");
    Ok(Rate { fixed, percent: percent.key(&key) })
}

fn abort(message: &pb::FaultAbort, all: &pb::HttpFault, path: &str) -> Result<Abort, ConfigError> {
    let status = match &message.error_type {
        Some(ErrorType::HttpStatus(status)) => {
            let status = u16::try_from(*status).ok().filter(|status| (200..600).contains(status));
            let bad = || ConfigError::new(format!("{path}.http_status"), "must be from 200 to 599");
            Some(status.ok_or_else(bad)?)
        }
        Some(ErrorType::HeaderAbort(_)) => None,
        Some(ErrorType::GrpcStatus(_)) => return Err(ConfigError::unsupported(format!("{path}.grpc_status"))),
        None => return Err(ConfigError::new(path, "http_status or header_abort is required")),
    };
    let percent = message.percentage.as_ref().map_or_else(Fraction::never, Fraction::from_percent);
    let body = if message.response_body.is_empty() { "fault filter abort" } else { &message.response_body };
    Ok(Abort {
        status,
        percent: percent.key(&key(&all.abort_percent_runtime, "fault.http.abort.abort_percent")),
        status_key: key(&all.abort_http_status_runtime, "fault.http.abort.http_status"),
        body: body.into(),
    })
}

impl HttpFilterFactory for Factory {
    fn create(&self, per_route: Option<&RouteConfig>) -> Option<Box<dyn HttpFilter>> {
        let faults = settings(&self.own, per_route);
        let any = faults.delay.is_some() || faults.abort.is_some() || faults.rate.is_some();
        any.then(|| Box::new(Filter { faults, stats: self.stats.clone(), active: None }) as Box<dyn HttpFilter>)
    }
}

struct Filter {
    faults: Arc<Faults>,
    stats: Arc<Stats>,
    active: Option<Active>,
}

/// One stream that has a fault.
struct Active(Arc<Stats>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.active_gauge.dec();
    }
}

impl Filter {
    fn applies(&self, stream: &HttpStream) -> bool {
        let node = stream.request.field("x-envoy-downstream-service-node");
        let from_node =
            || node.as_ref().is_some_and(|node| self.faults.nodes.iter().any(|one| one.as_bytes() == &**node));
        (self.faults.nodes.is_empty() || from_node())
            && self.faults.headers.iter().all(|one| one.matches(&stream.request))
    }

    /// Counts this stream as one with a fault, unless there are too many.
    fn activate(&mut self, stream: &HttpStream) -> bool {
        if self.active.is_some() {
            return true;
        }
        let default = self.faults.max_active.map_or(f64::INFINITY, f64::from);
        let max = stream.worker.runtime.number(&self.faults.max_active_key, default);
        let before = self.stats.active.fetch_add(1, Ordering::Relaxed);
        self.stats.active_gauge.inc();
        let active = Active(self.stats.clone());
        if before as f64 >= max {
            self.stats.overflow.inc();
            return false;
        }
        self.active = Some(active);
        true
    }

    fn rate(&self, stream: &HttpStream) -> Option<NonZeroU32> {
        let rate = self.faults.rate.as_ref()?;
        let (limit, percent) = match rate.fixed {
            Some(fixed) => (fixed, rate.percent.clone()),
            None => {
                let asked = number(stream, RATE_HEADER)?;
                let limit = NonZeroU32::new(u32::try_from(asked).unwrap_or(u32::MAX))?;
                (limit, capped(&rate.percent, stream, RATE_PERCENT_HEADER))
            }
        };
        percent.sampled(&stream.worker.runtime, fastrand::u64(..)).then_some(limit)
    }

    fn delay(&self, stream: &HttpStream) -> Option<Duration> {
        let delay = self.faults.delay.as_ref()?;
        let (duration, percent) = match delay.fixed {
            Some(fixed) => (fixed, delay.percent.clone()),
            None => {
                let asked = number(stream, DELAY_HEADER)?;
                (Duration::from_millis(asked), capped(&delay.percent, stream, DELAY_PERCENT_HEADER))
            }
        };
        let runtime = &stream.worker.runtime;
        if !percent.sampled(runtime, fastrand::u64(..)) {
            return None;
        }
        let ms = runtime.number(&delay.duration_key, duration.as_secs_f64() * 1_000.0);
        Duration::try_from_secs_f64(ms / 1_000.0).ok().filter(|duration| !duration.is_zero())
    }

    fn abort(&mut self, stream: &HttpStream) -> Option<LocalReply> {
        let abort = self.faults.abort.as_ref()?;
        let (status, percent) = match abort.status {
            Some(status) => (status, abort.percent.clone()),
            None => {
                let asked = u16::try_from(number(stream, ABORT_HEADER)?).ok()?;
                (asked, capped(&abort.percent, stream, ABORT_PERCENT_HEADER))
            }
        };
        let runtime = &stream.worker.runtime;
        if !percent.sampled(runtime, fastrand::u64(..)) {
            return None;
        }
        let status = runtime.number(&abort.status_key, f64::from(status)) as u16;
        let status = StatusCode::from_u16(status).ok().filter(|status| (200..600).contains(&status.as_u16()))?;
        let body = abort.body.to_string();
        if !self.activate(stream) {
            return None;
        }
        self.stats.aborts.inc();
        Some(LocalReply::new(status, "fault_filter_abort").body(body).flag(ResponseFlag::FaultInjected))
    }
}

/// A number that a request carries.
fn number(stream: &HttpStream, name: &str) -> Option<u64> {
    std::str::from_utf8(&stream.request.field(name)?).ok()?.trim().parse().ok()
}

/// The percentage that a request asks for, at most the configured one.
fn capped(percent: &Fraction, stream: &HttpStream, name: &str) -> Fraction {
    let asked = number(stream, name).and_then(|asked| u32::try_from(asked).ok());
    Fraction { numerator: asked.map_or(percent.numerator, |asked| asked.min(percent.numerator)), ..percent.clone() }
}

impl HttpFilter for Filter {
    fn on_request(&mut self, stream: &mut HttpStream, _: bool) -> Verdict {
        if !self.applies(stream) {
            return Verdict::Continue;
        }
        if let Some(limit) = self.rate(stream)
            && self.activate(stream)
        {
            self.stats.slowed.inc();
            stream.response_limit = Some(limit);
        }
        if let Some(delay) = self.delay(stream)
            && self.activate(stream)
        {
            self.stats.delays.inc();
            stream.info.flags.set(ResponseFlag::DelayInjected);
            return Verdict::Delay(delay);
        }
        self.abort(stream).map_or(Verdict::Continue, Verdict::Reply)
    }

    fn after_delay(&mut self, stream: &mut HttpStream) -> Verdict {
        if let Some(reply) = self.abort(stream) {
            return Verdict::Reply(reply);
        }
        // A delay that is over is no active fault, where no other can follow.
        if self.faults.rate.is_none() {
            self.active = None;
        }
        Verdict::Continue
    }
}
