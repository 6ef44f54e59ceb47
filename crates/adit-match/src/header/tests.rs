#![allow(clippy::unwrap_used)]
use super::*;
use adit_config::proto::envoy::r#type::matcher::v3 as m;
use adit_config::proto::envoy::r#type::v3::Int64Range;
use adit_http::RequestKind;
use http::{HeaderValue, Method, StatusCode};

fn head() -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Connect("a.example:443".parse().unwrap()), Method::CONNECT);
    head.authority = Some("a.example:443".parse().unwrap());
    head.headers.append("x-n", HeaderValue::from_static("7"));
    head.headers.append("x-many", HeaderValue::from_static("one"));
    head.headers.append("x-many", HeaderValue::from_static("two"));
    head
}

fn matcher(name: &str, test: Option<Specifier>) -> pb::HeaderMatcher {
    pb::HeaderMatcher { name: name.into(), header_match_specifier: test, ..Default::default() }
}

fn exact(text: &str) -> Option<Specifier> {
    let pattern = m::string_matcher::MatchPattern::Exact(text.into());
    Some(Specifier::StringMatch(m::StringMatcher { ignore_case: false, match_pattern: Some(pattern) }))
}

#[test]
#[expect(deprecated)]
fn every_specifier() {
    let range = |start, end| Some(Specifier::RangeMatch(Int64Range { start, end }));
    for (name, test, expected) in [
        ("x-n", None, true),
        ("x-none", None, false),
        ("x-n", Some(Specifier::PresentMatch(true)), true),
        ("x-n", Some(Specifier::PresentMatch(false)), false),
        ("x-none", Some(Specifier::PresentMatch(false)), true),
        ("X-N", exact("7"), true),
        ("x-n", exact("8"), false),
        ("x-none", exact(""), false),
        ("x-many", exact("two"), true),
        ("x-many", exact("one,two"), false),
        ("x-n", range(7, 8), true),
        ("x-n", range(0, 7), false),
        ("x-many", range(0, 7), false),
        (":method", exact("CONNECT"), true),
        (":path", exact(""), false),
        (":path", Some(Specifier::PresentMatch(false)), true),
        (":authority", exact("a.example:443"), true),
        ("host", exact("a.example:443"), true),
        ("x-n", Some(Specifier::ExactMatch("7".into())), true),
        ("x-many", Some(Specifier::PrefixMatch("tw".into())), true),
        ("x-many", Some(Specifier::SuffixMatch("ne".into())), true),
        ("x-many", Some(Specifier::ContainsMatch("w".into())), true),
        ("x-n", Some(Specifier::SafeRegexMatch(m::RegexMatcher { regex: "[0-9]".into(), engine_type: None })), true),
    ] {
        let message = matcher(name, test);
        assert_eq!(HeaderMatcher::from_proto(&message, "h").unwrap().matches(&head()), expected, "{message:?}");
    }
}

#[test]
fn inversion_does_not_make_a_missing_field_match_unless_it_counts_as_empty() {
    let with = |name: &str, missing_is_empty: bool| {
        let mut message = matcher(name, exact("7"));
        message.invert_match = true;
        message.treat_missing_header_as_empty = missing_is_empty;
        HeaderMatcher::from_proto(&message, "h").unwrap().matches(&head())
    };
    assert!(!with("x-n", false));
    assert!(with("x-many", false));
    assert!(!with("x-none", false));
    assert!(with("x-none", true));
}

#[test]
fn responses_have_a_status() {
    let mut response = ResponseHead::new(StatusCode::NOT_FOUND);
    response.headers.insert("x-a", HeaderValue::from_static("b"));
    let matches = |name: &str, value: &str| {
        HeaderMatcher::from_proto(&matcher(name, exact(value)), "h").unwrap().matches_response(&response)
    };
    assert!(matches(":status", "404"));
    assert!(matches("x-a", "b"));
    assert!(!matches(":path", "b"));
}

#[test]
fn bad_names_are_refused() {
    assert_eq!(HeaderMatcher::from_proto(&matcher("a b", None), "h").unwrap_err().path, "h.name");
}
