#![allow(clippy::unwrap_used)]
use super::*;
use adit_config::proto::envoy::r#type::v3::DoubleRange;
use adit_config::proto::xds::core::v3::CidrRange;
use adit_io::{Address, Sharing};

fn string(text: &str) -> MatchPattern {
    let pattern = pb::string_matcher::MatchPattern::Exact(text.into());
    MatchPattern::StringMatch(pb::StringMatcher { ignore_case: false, match_pattern: Some(pattern) })
}

fn value(pattern: MatchPattern) -> pb::ValueMatcher {
    pb::ValueMatcher { match_pattern: Some(pattern) }
}

fn double(pattern: pb::double_matcher::MatchPattern) -> MatchPattern {
    MatchPattern::DoubleMatch(pb::DoubleMatcher { match_pattern: Some(pattern) })
}

#[test]
fn values_match_by_kind() {
    let list = Value::List(vec![Value::Number(1.0), Value::String("a".into())]);
    let one_of =
        pb::ListMatcher { match_pattern: Some(pb::list_matcher::MatchPattern::OneOf(Box::new(value(string("a"))))) };
    let or = pb::OrMatcher { value_matchers: vec![value(MatchPattern::BoolMatch(true)), value(string("x"))] };
    for (pattern, subject, expected) in [
        (MatchPattern::NullMatch(Default::default()), Some(Value::Null), true),
        (MatchPattern::NullMatch(Default::default()), None, false),
        (MatchPattern::PresentMatch(true), Some(Value::Null), true),
        (MatchPattern::PresentMatch(true), None, false),
        (MatchPattern::PresentMatch(false), None, true),
        (MatchPattern::BoolMatch(false), Some(Value::Bool(false)), true),
        (double(pb::double_matcher::MatchPattern::Exact(2.0)), Some(Value::Number(2.0)), true),
        (
            double(pb::double_matcher::MatchPattern::Range(DoubleRange { start: 1.0, end: 2.0 })),
            Some(Value::Number(2.0)),
            false,
        ),
        (string("a"), Some(Value::String("a".into())), true),
        (string("1"), Some(Value::Number(1.0)), false),
        (MatchPattern::ListMatch(Box::new(one_of)), Some(list), true),
        (MatchPattern::OrMatch(or), Some(Value::String("x".into())), true),
    ] {
        let matcher = ValueMatcher::from_proto(&value(pattern.clone()), "v").unwrap();
        assert_eq!(matcher.matches(subject.as_ref()), expected, "{pattern:?}");
    }
}

#[test]
fn metadata_is_walked_and_inverted() {
    let mut metadata = Metadata::default();
    let inner = Value::Struct([("b".into(), Value::String("x".into()))].into());
    metadata.merge("ns", [("a".into(), inner)]);
    let matches = |path: &[&str], invert: bool| {
        let segment = |key: &&str| pb::metadata_matcher::PathSegment {
            segment: Some(pb::metadata_matcher::path_segment::Segment::Key((*key).into())),
        };
        let message = pb::MetadataMatcher {
            filter: "ns".into(),
            path: path.iter().map(segment).collect(),
            value: Some(value(string("x"))),
            invert,
        };
        MetadataMatcher::from_proto(&message, "m").unwrap().matches(&metadata)
    };
    assert!(matches(&["a", "b"], false));
    assert!(!matches(&["a", "c"], false));
    assert!(!matches(&["a", "b"], true));
    assert!(matches(&["a", "b", "c"], true));
}

#[test]
fn filter_state_matches_text_and_addresses() {
    let mut state = FilterState::default();
    state.set("t", FilterValue::Text("x".into()), Sharing::None);
    state.set("n", FilterValue::Number(5), Sharing::None);
    state.set("ip", FilterValue::Address(Address::Ip("10.1.2.3:80".parse().unwrap())), Sharing::None);
    let text = |key: &str, wanted: &str| {
        let MatchPattern::StringMatch(matcher) = string(wanted) else { return false };
        let matcher = Some(pb::filter_state_matcher::Matcher::StringMatch(matcher));
        FilterStateMatcher::from_proto(&pb::FilterStateMatcher { key: key.into(), matcher }, "f")
            .unwrap()
            .matches(&state)
    };
    assert!(text("t", "x") && !text("t", "y") && text("n", "5") && !text("none", ""));
    let address = |key: &str, invert_match: bool| {
        let ranges = vec![CidrRange { address_prefix: "10.0.0.0".into(), prefix_len: Some(8) }];
        let matcher = pb::filter_state_matcher::Matcher::AddressMatch(pb::AddressMatcher { ranges, invert_match });
        let message = pb::FilterStateMatcher { key: key.into(), matcher: Some(matcher) };
        FilterStateMatcher::from_proto(&message, "f").unwrap().matches(&state)
    };
    assert!(address("ip", false) && !address("ip", true) && !address("t", false) && !address("t", true));
}
