#![allow(clippy::unwrap_used)]
use super::*;
use adit_config::proto::envoy::r#type::matcher::v3::{StringMatcher as Text, string_matcher::MatchPattern};
use adit_http::RequestKind;
use http::Method;

#[test]
fn parameters_match_by_their_first_value() {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.path = Some("/p?a=1&b&a=2&c=".parse().unwrap());
    let exact = |text: &str| {
        let match_pattern = Some(MatchPattern::Exact(text.into()));
        Some(Specifier::StringMatch(Text { ignore_case: false, match_pattern }))
    };
    for (name, test, expected) in [
        ("a", None, true),
        ("b", Some(Specifier::PresentMatch(true)), true),
        ("z", Some(Specifier::PresentMatch(false)), true),
        ("z", None, false),
        ("a", exact("1"), true),
        ("a", exact("2"), false),
        ("b", exact(""), true),
        ("z", exact(""), false),
    ] {
        let message = pb::QueryParameterMatcher { name: name.into(), query_parameter_match_specifier: test };
        assert_eq!(QueryParameterMatcher::from_proto(&message, "q").unwrap().matches(&head), expected, "{message:?}");
    }
    head.path = None;
    let present = pb::QueryParameterMatcher { name: "a".into(), ..Default::default() };
    assert!(!QueryParameterMatcher::from_proto(&present, "q").unwrap().matches(&head));
}
