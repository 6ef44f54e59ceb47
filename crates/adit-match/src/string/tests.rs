#![allow(clippy::unwrap_used)]
use super::*;

fn matcher(pattern: MatchPattern, ignore_case: bool) -> Result<StringMatcher, ConfigError> {
    StringMatcher::from_proto(&pb::StringMatcher { ignore_case, match_pattern: Some(pattern) }, "m")
}

fn regex(text: &str) -> pb::RegexMatcher {
    pb::RegexMatcher { regex: text.into(), engine_type: None }
}

#[test]
fn every_pattern_with_and_without_case() {
    use MatchPattern::{Contains, Exact, Prefix, SafeRegex, Suffix};
    for (pattern, ignore_case, value, expected) in [
        (Exact("abc".into()), false, "abc", true),
        (Exact("abc".into()), false, "ABC", false),
        (Exact("aBc".into()), true, "AbC", true),
        (Exact(String::new()), false, "", true),
        (Prefix("ab".into()), false, "abc", true),
        (Prefix("ab".into()), false, "a", false),
        (Prefix("AB".into()), true, "abc", true),
        (Suffix("bc".into()), false, "abc", true),
        (Suffix("bc".into()), false, "c", false),
        (Suffix("BC".into()), true, "abc", true),
        (Contains("b".into()), false, "abc", true),
        (Contains("d".into()), false, "abc", false),
        (Contains("B".into()), true, "abc", true),
        (Contains(String::new()), false, "abc", true),
        (SafeRegex(regex("a.c")), false, "abc", true),
        (SafeRegex(regex("a.c")), false, "xabc", false),
        (SafeRegex(regex("a|abc")), false, "abc", true),
        (SafeRegex(regex("A.C")), true, "abc", false),
    ] {
        assert_eq!(matcher(pattern.clone(), ignore_case).unwrap().matches(value), expected, "{pattern:?} {value}");
    }
}

#[test]
fn bytes_that_are_no_text_are_compared_too() {
    assert!(matcher(MatchPattern::Suffix("c".into()), false).unwrap().matches(b"\xff\xfec"));
    assert!(!matcher(MatchPattern::SafeRegex(regex("..c")), false).unwrap().matches(b"\xff\xfec"));
}

#[test]
fn bad_patterns_are_refused_with_their_path() {
    let error = matcher(MatchPattern::SafeRegex(regex("a)(b")), false).unwrap_err();
    assert_eq!(error.path, "m.safe_regex.regex");
    assert_eq!(matcher(MatchPattern::SafeRegex(regex("")), false).unwrap_err().path, "m.safe_regex.regex");
    assert!(matcher(MatchPattern::SafeRegex(regex("(?:a{1000}){1000}")), false).is_err());
    let none = pb::StringMatcher::default();
    assert_eq!(StringMatcher::from_proto(&none, "m").unwrap_err().path, "m");
}

#[test]
fn substitution_replaces_every_match() {
    let make = |pattern: &str, substitution: &str| {
        let message = pb::RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution: substitution.into() };
        RegexSubstitution::from_proto(&message, "r")
    };
    assert_eq!(
        make("^/service/([^/]+)(/.*)$", r"\2/instance/\1").unwrap().apply("/service/foo/v1/api"),
        "/v1/api/instance/foo"
    );
    assert_eq!(make("one", "two").unwrap().apply("/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
    assert_eq!(make("a", r"\0\\").unwrap().apply("ba"), r"ba\");
    assert_eq!(make("a", r"\1").unwrap_err().path, "r.substitution");
    assert_eq!(make("a", r"\x").unwrap_err().path, "r.substitution");
    assert_eq!(make("(", "x").unwrap_err().path, "r.pattern.regex");
}
