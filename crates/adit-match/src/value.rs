//! Metadata and filter state.

use adit_config::proto::envoy::r#type::matcher::v3 as pb;
use adit_io::{FilterState, FilterValue, Metadata, Value};
use pb::value_matcher::MatchPattern;

use crate::{CidrSet, ConfigError, StringMatcher};

/// `ValueMatcher`.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    /// The value is null.
    Null,
    /// A number within `[start, end)`.
    Range(f64, f64),
    /// Exactly this number.
    Number(f64),
    /// A string.
    String(StringMatcher),
    /// A truth value.
    Bool(bool),
    /// Whether there is a value.
    Present(bool),
    /// A list, one of whose values matches.
    OneOf(Box<ValueMatcher>),
    /// One of these matches.
    Or(Vec<ValueMatcher>),
}

impl ValueMatcher {
    /// From its message.
    pub fn from_proto(message: &pb::ValueMatcher, path: &str) -> Result<Self, ConfigError> {
        let at = |field: &str| format!("{path}.{field}");
        Ok(match &message.match_pattern {
            None => return Err(ConfigError::new(path, "a match_pattern is required")),
            Some(MatchPattern::NullMatch(_)) => Self::Null,
            Some(MatchPattern::DoubleMatch(double)) => match &double.match_pattern {
                None => return Err(ConfigError::new(at("double_match"), "a match_pattern is required")),
                Some(pb::double_matcher::MatchPattern::Exact(number)) => Self::Number(*number),
                Some(pb::double_matcher::MatchPattern::Range(range)) => Self::Range(range.start, range.end),
            },
            Some(MatchPattern::StringMatch(text)) => {
                Self::String(StringMatcher::from_proto(text, &at("string_match"))?)
            }
            Some(MatchPattern::BoolMatch(wanted)) => Self::Bool(*wanted),
            Some(MatchPattern::PresentMatch(wanted)) => Self::Present(*wanted),
            Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
                None => return Err(ConfigError::missing(at("list_match.one_of"))),
                Some(pb::list_matcher::MatchPattern::OneOf(one)) => {
                    Self::OneOf(Box::new(Self::from_proto(one, &at("list_match.one_of"))?))
                }
            },
            Some(MatchPattern::OrMatch(or)) => {
                let each = or.value_matchers.iter().enumerate();
                Self::Or(
                    each.map(|(index, one)| Self::from_proto(one, &at(&format!("or_match.value_matchers[{index}]"))))
                        .collect::<Result<_, _>>()?,
                )
            }
        })
    }

    /// Whether a value, or its absence, matches.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (Self::Or(any), value) => any.iter().any(|one| one.matches(value)),
            (Self::Null, Some(Value::Null)) => true,
            (Self::Range(start, end), Some(Value::Number(number))) => start <= number && number < end,
            (Self::Number(wanted), Some(Value::Number(number))) => (wanted - number).abs() < f64::EPSILON,
            (Self::String(matcher), Some(Value::String(text))) => matcher.matches(text.as_bytes()),
            (Self::Bool(wanted), Some(Value::Bool(value))) => wanted == value,
            (Self::OneOf(one), Some(Value::List(values))) => values.iter().any(|value| one.matches(Some(value))),
            _ => false,
        }
    }
}

/// `MetadataMatcher`.
#[derive(Debug, Clone)]
pub struct MetadataMatcher {
    namespace: Box<str>,
    path: Vec<Box<str>>,
    value: ValueMatcher,
    invert: bool,
}

impl MetadataMatcher {
    /// From its message.
    pub fn from_proto(message: &pb::MetadataMatcher, path: &str) -> Result<Self, ConfigError> {
        let steps = message.path.iter().filter_map(|segment| {
            let pb::metadata_matcher::path_segment::Segment::Key(key) = segment.segment.as_ref()?;
            Some(key.as_str().into())
        });
        let value = message.value.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.value")))?;
        Ok(Self {
            namespace: message.filter.as_str().into(),
            path: steps.collect(),
            value: ValueMatcher::from_proto(value, &format!("{path}.value"))?,
            invert: message.invert,
        })
    }

    /// Whether metadata matches.
    pub fn matches(&self, metadata: &Metadata) -> bool {
        self.value.matches(self.find(metadata)) != self.invert
    }

    /// The value it looks at.
    pub fn find<'a>(&self, metadata: &'a Metadata) -> Option<&'a Value> {
        metadata.get(&self.namespace)?.walk(self.path.iter().map(|step| &**step))
    }
}

/// `FilterStateMatcher`.
#[derive(Debug, Clone)]
pub struct FilterStateMatcher {
    key: Box<str>,
    test: StateTest,
}

#[derive(Debug, Clone)]
enum StateTest {
    String(StringMatcher),
    Address { ranges: CidrSet, invert: bool },
}

impl FilterStateMatcher {
    /// From its message.
    pub fn from_proto(message: &pb::FilterStateMatcher, path: &str) -> Result<Self, ConfigError> {
        let test = match &message.matcher {
            None => return Err(ConfigError::new(path, "a matcher is required")),
            Some(pb::filter_state_matcher::Matcher::StringMatch(text)) => {
                StateTest::String(StringMatcher::from_proto(text, &format!("{path}.string_match"))?)
            }
            Some(pb::filter_state_matcher::Matcher::AddressMatch(address)) => StateTest::Address {
                ranges: CidrSet::from_xds(&address.ranges, &format!("{path}.address_match.ranges"))?,
                invert: address.invert_match,
            },
        };
        Ok(Self { key: message.key.as_str().into(), test })
    }

    /// Whether filter state matches; a missing object does not.
    pub fn matches(&self, state: &FilterState) -> bool {
        let Some(object) = state.get(&self.key) else { return false };
        match (&self.test, &object.value) {
            (StateTest::String(matcher), FilterValue::Text(text)) => matcher.matches(text.as_bytes()),
            (StateTest::String(matcher), value) => value.to_plain().is_some_and(|text| matcher.matches(text)),
            (StateTest::Address { ranges, invert }, FilterValue::Address(address)) => {
                address.ip().is_some_and(|ip| ranges.contains(ip) != *invert)
            }
            (StateTest::Address { .. }, _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
