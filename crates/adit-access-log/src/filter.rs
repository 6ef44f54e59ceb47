//! Which streams are logged (`AccessLogFilter`).

use adit_config::proto::envoy::config::accesslog::v3 as pb;
use adit_filter::{AccessLogType, LogContext, ResponseFlag, RuntimeValues};
use adit_match::{Fraction, HeaderMatcher, MetadataMatcher};
use http::HeaderName;
use pb::access_log_filter::FilterSpecifier as Specifier;
use pb::comparison_filter::Op;

use crate::ConfigError;

/// `AccessLogFilter`.
pub struct LogFilter {
    test: Test,
    runtime: RuntimeValues,
}

enum Test {
    Status(Comparison),
    /// In milliseconds.
    Duration(Comparison),
    Always,
    Runtime {
        fraction: Fraction,
        independent: bool,
    },
    And(Vec<Test>),
    Or(Vec<Test>),
    Header(HeaderMatcher),
    /// Empty for any flag.
    Flags(Vec<ResponseFlag>),
    Metadata {
        matcher: MetadataMatcher,
        without_key: bool,
    },
    LogType {
        kinds: Vec<i32>,
        exclude: bool,
    },
}

struct Comparison {
    op: Op,
    value: u32,
    key: Box<str>,
}

impl LogFilter {
    /// From its message. `traceable_filter`, `grpc_status_filter` and `extension_filter` are refused.
    ///
    /// # Errors
    /// If a part of it is malformed or not supported.
    pub fn from_proto(message: &pb::AccessLogFilter, runtime: &RuntimeValues, path: &str) -> Result<Self, ConfigError> {
        Ok(Self { test: Test::from_proto(message, path)?, runtime: runtime.clone() })
    }

    /// Whether a stream is logged.
    pub fn matches(&self, context: &LogContext<'_>) -> bool {
        self.test.matches(context, &self.runtime)
    }

    /// The request fields that it reads.
    pub fn request_fields(&self) -> Vec<&HeaderName> {
        let mut all = Vec::new();
        self.test.fields(&mut all);
        all
    }
}

impl Test {
    fn from_proto(message: &pb::AccessLogFilter, path: &str) -> Result<Self, ConfigError> {
        let at = |field: &str| format!("{path}.{field}");
        let specifier = message.filter_specifier.as_ref();
        Ok(match specifier.ok_or_else(|| ConfigError::new(path, "a filter is required"))? {
            Specifier::StatusCodeFilter(filter) => {
                Self::Status(Comparison::from_proto(filter.comparison.as_ref(), &at("status_code_filter.comparison"))?)
            }
            Specifier::DurationFilter(filter) => {
                Self::Duration(Comparison::from_proto(filter.comparison.as_ref(), &at("duration_filter.comparison"))?)
            }
            // Only the health_check filter marks requests as health checks, and there is none here.
            Specifier::NotHealthCheckFilter(_) => Self::Always,
            Specifier::RuntimeFilter(filter) => {
                let fraction = filter.percent_sampled.as_ref().map_or_else(Fraction::never, Fraction::from_percent);
                let fraction = fraction.key(&filter.runtime_key);
                Self::Runtime { fraction, independent: filter.use_independent_randomness }
            }
            Specifier::AndFilter(and) => Self::And(Self::list(&and.filters, &at("and_filter.filters"))?),
            Specifier::OrFilter(or) => Self::Or(Self::list(&or.filters, &at("or_filter.filters"))?),
            Specifier::HeaderFilter(filter) => {
                let path = at("header_filter.header");
                let header = filter.header.as_ref().ok_or_else(|| ConfigError::missing(&*path))?;
                Self::Header(HeaderMatcher::from_proto(header, &path)?)
            }
            Specifier::ResponseFlagFilter(filter) => {
                Self::Flags(flags(&filter.flags, &at("response_flag_filter.flags"))?)
            }
            Specifier::MetadataFilter(filter) => {
                let path = at("metadata_filter.matcher");
                let matcher = filter.matcher.as_ref().ok_or_else(|| ConfigError::missing(&*path))?;
                let without_key = filter.match_if_key_not_found.unwrap_or(true);
                Self::Metadata { matcher: MetadataMatcher::from_proto(matcher, &path)?, without_key }
            }
            Specifier::LogTypeFilter(filter) => Self::LogType { kinds: filter.types.clone(), exclude: filter.exclude },
            Specifier::TraceableFilter(_) => return Err(ConfigError::unsupported(at("traceable_filter"))),
            Specifier::GrpcStatusFilter(_) => return Err(ConfigError::unsupported(at("grpc_status_filter"))),
            Specifier::ExtensionFilter(_) => return Err(ConfigError::unsupported(at("extension_filter"))),
        })
    }

    fn list(messages: &[pb::AccessLogFilter], path: &str) -> Result<Vec<Self>, ConfigError> {
        let each = messages.iter().enumerate();
        each.map(|(index, one)| Self::from_proto(one, &format!("{path}[{index}]"))).collect()
    }

    fn matches(&self, context: &LogContext<'_>, runtime: &RuntimeValues) -> bool {
        let info = context.info;
        match self {
            Self::Always => true,
            Self::Status(comparison) => comparison.holds(u64::from(info.response_code), runtime),
            Self::Duration(comparison) => {
                let duration = info.timing.end.unwrap_or_else(|| info.elapsed());
                comparison.holds(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), runtime)
            }
            Self::Runtime { fraction, independent } => {
                // The request id decides alike on every hop that sees it.
                let shared = info.stream_id.as_deref().filter(|_| !independent).and_then(sample_of_id);
                fraction.sampled(runtime, shared.unwrap_or_else(|| fastrand::u64(..)))
            }
            Self::And(all) => all.iter().all(|one| one.matches(context, runtime)),
            Self::Or(any) => any.iter().any(|one| one.matches(context, runtime)),
            Self::Header(matcher) => context.request.is_some_and(|head| matcher.matches(head)),
            Self::Flags(flags) if flags.is_empty() => !info.flags.is_empty(),
            Self::Flags(flags) => flags.iter().any(|flag| info.flags.has(*flag)),
            Self::Metadata { matcher, without_key } => {
                if matcher.find(&info.metadata).is_none() {
                    *without_key
                } else {
                    matcher.matches(&info.metadata)
                }
            }
            Self::LogType { kinds, exclude } => kinds.contains(&number(context.kind)) != *exclude,
        }
    }

    fn fields<'a>(&'a self, into: &mut Vec<&'a HeaderName>) {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().for_each(|one| one.fields(into)),
            Self::Header(matcher) => into.extend(matcher.field()),
            _ => {}
        }
    }
}

impl Comparison {
    fn from_proto(message: Option<&pb::ComparisonFilter>, path: &str) -> Result<Self, ConfigError> {
        let message = message.ok_or_else(|| ConfigError::missing(path))?;
        let value = message.value.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.value")))?;
        Ok(Self { op: message.op(), value: value.default_value, key: value.runtime_key.as_str().into() })
    }

    fn holds(&self, value: u64, runtime: &RuntimeValues) -> bool {
        let wanted = runtime.number(&self.key, f64::from(self.value)).max(0.0) as u64;
        match self.op {
            Op::Eq => value == wanted,
            Op::Ge => value >= wanted,
            Op::Le => value <= wanted,
            Op::Ne => value != wanted,
        }
    }
}

fn flags(names: &[String], path: &str) -> Result<Vec<ResponseFlag>, ConfigError> {
    let find = |name: &String| ResponseFlag::ALL.iter().copied().find(|flag| flag.short() == name);
    let each = names.iter().enumerate();
    each.map(|(index, name)| {
        find(name)
            .ok_or_else(|| ConfigError::new(format!("{path}[{index}]"), format!("unknown response flag '{name}'")))
    })
    .collect()
}

/// The number that a request id of UUID form stands for: its first eight digits.
fn sample_of_id(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(..8)?, 16).ok()
}

/// As `envoy.data.accesslog.v3.AccessLogType` numbers them: the order of the names is the same.
fn number(kind: AccessLogType) -> i32 {
    kind as i32
}

#[cfg(test)]
mod tests;
