#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::proto::validate::string_rules::WellKnown;
use crate::proto::validate::{
    AnyRules, BoolRules, DoubleRules, Int64Rules, KnownRegex, MessageRules, StringRules, UInt32Rules,
};
use crate::schema::schema;

/// What the rules say of a value that is set.
fn judge(rules: Type, value: Value) -> Option<String> {
    let rules = FieldRules { message: None, r#type: Some(rules) };
    let mut broken = Vec::new();
    check(&rules, &value, &Kind::String, true, &Path::root(), &mut broken);
    broken.into_iter().map(|(_, message)| message).next()
}

fn text(rules: StringRules, value: &str) -> Option<String> {
    judge(Type::String(rules), Value::String(value.to_owned()))
}

fn number(rules: UInt32Rules, value: u32) -> Option<String> {
    judge(Type::Uint32(rules), Value::U32(value))
}

#[test]
fn numbers() {
    let rules = |gt, gte, lt, lte| UInt32Rules { gt, gte, lt, lte, ..UInt32Rules::default() };
    for (rules, good, bad, message) in [
        (rules(Some(1), None, None, None), 2, 1, "value must be greater than 1"),
        (rules(None, Some(1), None, None), 1, 0, "value must be greater than or equal to 1"),
        (rules(None, None, Some(9), None), 8, 9, "value must be less than 9"),
        (rules(None, None, None, Some(9)), 9, 10, "value must be less than or equal to 9"),
        (rules(Some(1), None, Some(9), None), 2, 9, "value must be inside range (1, 9)"),
        (rules(None, Some(1), None, Some(9)), 9, 0, "value must be inside range [1, 9]"),
        (rules(Some(9), None, Some(1), None), 0, 5, "value must be outside range )1, 9("),
    ] {
        assert_eq!(number(rules.clone(), good), None, "{rules:?}");
        assert_eq!(number(rules.clone(), bad).as_deref(), Some(message), "{rules:?}");
    }
    let list = UInt32Rules { r#in: vec![1, 2], ..UInt32Rules::default() };
    assert_eq!(number(list, 3).as_deref(), Some("value must be in list [1, 2]"));
    let list = UInt32Rules { not_in: vec![1, 2], ..UInt32Rules::default() };
    assert_eq!(number(list, 2).as_deref(), Some("value must not be in list [1, 2]"));
    let only = UInt32Rules { r#const: Some(4), ..UInt32Rules::default() };
    assert_eq!(number(only, 3).as_deref(), Some("value must equal 4"));
    let empty = UInt32Rules { gte: Some(5), ignore_empty: Some(true), ..UInt32Rules::default() };
    assert_eq!(number(empty, 0), None);
    let signed = Int64Rules { gte: Some(-1), ..Int64Rules::default() };
    assert!(judge(Type::Int64(signed), Value::I64(-2)).is_some());
    let float = DoubleRules { lte: Some(1.5), ..DoubleRules::default() };
    assert!(judge(Type::Double(float.clone()), Value::F64(1.6)).is_some());
    assert!(judge(Type::Double(float), Value::F64(f64::NAN)).is_some());
    let truth = BoolRules { r#const: Some(true) };
    assert_eq!(judge(Type::Bool(truth), Value::Bool(false)).as_deref(), Some("value must equal true"));
}

#[test]
fn strings() {
    let rules = StringRules::default;
    for (rules, good, bad, message) in [
        (StringRules { min_len: Some(1), ..rules() }, "é", "", "value length must be at least 1 characters"),
        (StringRules { max_len: Some(1), ..rules() }, "é", "ab", "value length must be at most 1 characters"),
        (StringRules { len: Some(2), ..rules() }, "éa", "a", "value length must be 2 characters"),
        (StringRules { max_bytes: Some(1), ..rules() }, "a", "é", "value length must be at most 1 bytes"),
        (
            StringRules { min_bytes: Some(1), max_bytes: Some(2), ..rules() },
            "é",
            "abc",
            "value length must be between 1 and 2 bytes, inclusive",
        ),
        (StringRules { r#const: Some("a".into()), ..rules() }, "a", "b", "value must equal a"),
        (StringRules { prefix: Some("a".into()), ..rules() }, "ab", "ba", "value does not have prefix \"a\""),
        (StringRules { suffix: Some("a".into()), ..rules() }, "ba", "ab", "value does not have suffix \"a\""),
        (StringRules { contains: Some("a".into()), ..rules() }, "bab", "b", "value does not contain substring \"a\""),
        (StringRules { not_contains: Some("a".into()), ..rules() }, "b", "ba", "value contains substring \"a\""),
        (
            StringRules { pattern: Some("^a+$".into()), ..rules() },
            "aa",
            "ab",
            "value does not match regex pattern \"^a+$\"",
        ),
        (StringRules { r#in: vec!["a".into()], ..rules() }, "a", "b", "value must be in list [\"a\"]"),
        (StringRules { not_in: vec!["a".into()], ..rules() }, "b", "a", "value must not be in list [\"a\"]"),
    ] {
        assert_eq!(text(rules.clone(), good), None, "{rules:?}");
        assert_eq!(text(rules.clone(), bad).as_deref(), Some(message), "{rules:?}");
    }
}

#[test]
fn well_known_strings() {
    let regex = |kind: KnownRegex| WellKnown::WellKnownRegex(kind as i32);
    for (rule, strict, good, bad) in [
        (regex(KnownRegex::HttpHeaderName), true, ":authority", "a b"),
        (regex(KnownRegex::HttpHeaderName), true, "x-a_b", ""),
        (regex(KnownRegex::HttpHeaderName), false, "a b", "a\nb"),
        (regex(KnownRegex::HttpHeaderName), false, "", "a\0"),
        (regex(KnownRegex::HttpHeaderValue), true, "a\tb", "a\u{1}b"),
        (regex(KnownRegex::HttpHeaderValue), false, "a\u{1}b", "a\rb"),
        (WellKnown::Ip(true), true, "::1", "1.2.3"),
        (WellKnown::Ipv4(true), true, "1.2.3.4", "::1"),
        (WellKnown::Ipv6(true), true, "::1", "1.2.3.4"),
        (WellKnown::Hostname(true), true, "a.example", "-a.example"),
        (WellKnown::Hostname(true), true, "a", "a..b"),
        (WellKnown::Address(true), true, "::1", "a b"),
        (WellKnown::Email(true), true, "a@b.example", "a"),
        (WellKnown::Uri(true), true, "https://a/b", "//a/b"),
        (WellKnown::UriRef(true), true, "/a", "a b"),
        (WellKnown::Uuid(true), true, "0188f0e2-0000-7000-8000-00000000000a", "0188f0e2"),
    ] {
        let rules = StringRules { well_known: Some(rule), strict: Some(strict), ..StringRules::default() };
        assert_eq!(text(rules.clone(), good), None, "{rule:?} {good:?}");
        assert!(text(rules, bad).is_some(), "{rule:?} {bad:?}");
    }
}

#[test]
fn lists() {
    let items = |count: usize| Value::List((0..count).map(|_| Value::U32(1)).collect());
    let rules = |rules: RepeatedRules| Type::Repeated(Box::new(rules));
    let least = rules(RepeatedRules { min_items: Some(2), ..RepeatedRules::default() });
    assert_eq!(judge(least, items(1)).as_deref(), Some("value must contain at least 2 item(s)"));
    let most = rules(RepeatedRules { max_items: Some(2), ..RepeatedRules::default() });
    assert_eq!(judge(most, items(3)).as_deref(), Some("value must contain no more than 2 item(s)"));
    let exact = rules(RepeatedRules { min_items: Some(2), max_items: Some(2), ..RepeatedRules::default() });
    assert_eq!(judge(exact, items(3)).as_deref(), Some("value must contain exactly 2 item(s)"));
    let unique = rules(RepeatedRules { unique: Some(true), ..RepeatedRules::default() });
    assert_eq!(judge(unique, items(2)).as_deref(), Some("repeated value must contain unique items"));
    let each =
        FieldRules { message: None, r#type: Some(Type::Uint32(UInt32Rules { gt: Some(1), ..UInt32Rules::default() })) };
    let each = rules(RepeatedRules { items: Some(Box::new(each)), ..RepeatedRules::default() });
    assert_eq!(judge(each, items(1)).as_deref(), Some("value must be greater than 1"));
}

#[test]
fn what_must_be_there() {
    let any = DynamicMessage::new(schema().message("google.protobuf.Any").unwrap());
    let mut broken = Vec::new();
    let required = FieldRules { message: Some(MessageRules { required: Some(true), skip: None }), r#type: None };
    check(&required, &Value::Message(any.clone()), &Kind::String, false, &"a".into(), &mut broken);
    let required = AnyRules { required: Some(true), ..AnyRules::default() };
    let required = FieldRules { message: None, r#type: Some(Type::Any(required)) };
    check(&required, &Value::Message(any), &Kind::String, false, &"b".into(), &mut broken);
    assert_eq!(broken, [("a".into(), "value is required".into()), ("b".into(), "value is required".into())]);
}

/// A pattern that does not compile would let everything pass.
#[test]
fn every_pattern_of_the_schema_compiles() {
    fn patterns<'a>(rules: &'a FieldRules, found: &mut Vec<&'a str>) {
        match &rules.r#type {
            Some(Type::String(rules)) => found.extend(rules.pattern.as_deref()),
            Some(Type::Repeated(rules)) => rules.items.iter().for_each(|rules| patterns(rules, found)),
            Some(Type::Map(rules)) => {
                rules.keys.iter().chain(&rules.values).for_each(|rules| patterns(rules, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for rules in schema().all_rules() {
        patterns(rules, &mut found);
    }
    assert!(!found.is_empty());
    for pattern in found {
        assert!(regex::Regex::new(pattern).is_ok(), "{pattern}");
    }
}
