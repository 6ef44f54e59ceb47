#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{bare, connect, full, request};
use adit_config::proto::envoy::config::core::v3::RuntimeUInt32;
use adit_config::proto::envoy::config::route::v3::HeaderMatcher as Header;
use adit_config::proto::envoy::r#type::v3::FractionalPercent;

fn filter(specifier: Specifier) -> pb::AccessLogFilter {
    pb::AccessLogFilter { filter_specifier: Some(specifier) }
}

fn comparison(op: Op, value: u32) -> Option<pb::ComparisonFilter> {
    let value = RuntimeUInt32 { default_value: value, runtime_key: "key".into() };
    Some(pb::ComparisonFilter { op: op as i32, value: Some(value) })
}

fn status(op: Op, value: u32) -> Specifier {
    Specifier::StatusCodeFilter(pb::StatusCodeFilter { comparison: comparison(op, value) })
}

fn flags(names: &[&str]) -> Specifier {
    Specifier::ResponseFlagFilter(pb::ResponseFlagFilter { flags: names.iter().map(|name| (*name).into()).collect() })
}

fn make(specifier: Specifier, runtime: &RuntimeValues) -> Result<LogFilter, ConfigError> {
    LogFilter::from_proto(&filter(specifier), runtime, "f")
}

/// On the full stream, a 503 with URX and UF, and on a bare one.
fn both(specifier: Specifier) -> (bool, bool) {
    let made = make(specifier, &RuntimeValues::default()).unwrap();
    let (info, head) = (full(), request());
    let with = LogContext { request: Some(&head), kind: AccessLogType::DownstreamEnd, ..LogContext::new(&info) };
    (made.matches(&with), made.matches(&LogContext::new(&bare())))
}

#[test]
fn every_filter() {
    let header = |name: &str| {
        let header = Header { name: name.into(), ..Default::default() };
        Specifier::HeaderFilter(pb::HeaderFilter { header: Some(header) })
    };
    let sampled = |numerator| {
        Specifier::RuntimeFilter(pb::RuntimeFilter {
            percent_sampled: Some(FractionalPercent { numerator, denominator: 0 }),
            ..Default::default()
        })
    };
    let kinds = |exclude| {
        let types = vec![AccessLogType::DownstreamEnd as i32];
        Specifier::LogTypeFilter(pb::LogTypeFilter { types, exclude })
    };
    let and =
        |list: Vec<Specifier>| Specifier::AndFilter(pb::AndFilter { filters: list.into_iter().map(filter).collect() });
    let or =
        |list: Vec<Specifier>| Specifier::OrFilter(pb::OrFilter { filters: list.into_iter().map(filter).collect() });
    for (specifier, expected) in [
        (status(Op::Ge, 500), (true, false)),
        (status(Op::Le, 499), (false, true)),
        (status(Op::Eq, 503), (true, false)),
        (status(Op::Ne, 503), (false, true)),
        (Specifier::DurationFilter(pb::DurationFilter { comparison: comparison(Op::Ge, 100) }), (true, false)),
        (Specifier::NotHealthCheckFilter(pb::NotHealthCheckFilter {}), (true, true)),
        (sampled(100), (true, true)),
        (sampled(0), (false, false)),
        (header("user-agent"), (true, false)),
        (header("none"), (false, false)),
        (flags(&[]), (true, false)),
        (flags(&["DC", "UF"]), (true, false)),
        (flags(&["DC"]), (false, false)),
        (kinds(false), (true, false)),
        (kinds(true), (false, true)),
        (and(vec![status(Op::Ge, 500), flags(&["UF"])]), (true, false)),
        (and(vec![status(Op::Ge, 500), flags(&["DC"])]), (false, false)),
        (or(vec![status(Op::Ge, 600), flags(&["UF"])]), (true, false)),
    ] {
        assert_eq!(both(specifier.clone()), expected, "{specifier:?}");
    }
}

#[test]
fn the_runtime_overrides_a_value() {
    let runtime = RuntimeValues::default();
    let made = make(status(Op::Ge, 500), &runtime).unwrap();
    let info = full();
    assert!(made.matches(&LogContext::new(&info)));
    runtime.set("key", "504");
    assert!(!made.matches(&LogContext::new(&info)));
}

#[test]
fn a_header_filter_takes_a_pathless_request() {
    let header = Header { name: ":path".into(), ..Default::default() };
    let specifier = Specifier::HeaderFilter(pb::HeaderFilter { header: Some(header) });
    let made = make(specifier, &RuntimeValues::default()).unwrap();
    let (info, head) = (bare(), connect());
    assert!(!made.matches(&LogContext { request: Some(&head), ..LogContext::new(&info) }));
}

#[test]
fn bad_filters_are_refused_with_their_path() {
    let error = |specifier| make(specifier, &RuntimeValues::default()).map(drop).unwrap_err();
    assert_eq!(error(flags(&["UF", "XX"])).path, "f.response_flag_filter.flags[1]");
    assert_eq!(error(Specifier::TraceableFilter(Default::default())).path, "f.traceable_filter");
    assert_eq!(error(Specifier::ExtensionFilter(Default::default())).path, "f.extension_filter");
    assert_eq!(error(Specifier::StatusCodeFilter(Default::default())).path, "f.status_code_filter.comparison");
    let nested = Specifier::AndFilter(pb::AndFilter { filters: vec![filter(flags(&["ZZ"]))] });
    assert_eq!(error(nested).path, "f.and_filter.filters[0].response_flag_filter.flags[0]");
}
