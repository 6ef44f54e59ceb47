//! Header fields (`envoy.config.route.v3.HeaderMatcher`).

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use adit_http::{RequestHead, ResponseHead};
use http::{HeaderMap, HeaderName};
use pb::header_matcher::HeaderMatchSpecifier as Specifier;

use crate::string::{plain, safe_regex};
use crate::{ConfigError, StringMatcher};

/// `HeaderMatcher`. A field with several values matches if one of them does.
#[derive(Debug, Clone)]
pub struct HeaderMatcher {
    name: Name,
    test: Test,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Debug, Clone)]
enum Name {
    /// `:path` and its like, and `host`.
    Pseudo(Box<str>),
    Field(HeaderName),
}

#[derive(Debug, Clone)]
enum Test {
    Present(bool),
    Range(i64, i64),
    String(StringMatcher),
}

impl HeaderMatcher {
    /// From its message, deprecated forms included.
    #[expect(deprecated, reason = "old files use the flat forms")]
    pub fn from_proto(message: &pb::HeaderMatcher, path: &str) -> Result<Self, ConfigError> {
        let at = |field: &str| format!("{path}.{field}");
        let test = match &message.header_match_specifier {
            None => Test::Present(true),
            Some(Specifier::PresentMatch(present)) => Test::Present(*present),
            Some(Specifier::RangeMatch(range)) => Test::Range(range.start, range.end),
            Some(Specifier::StringMatch(text)) => Test::String(StringMatcher::from_proto(text, &at("string_match"))?),
            Some(Specifier::SafeRegexMatch(regex)) => Test::String(safe_regex(regex, &at("safe_regex_match"))?),
            Some(Specifier::ExactMatch(text)) => Test::String(plain(MatchPattern::Exact(text.clone()), path)?),
            Some(Specifier::PrefixMatch(text)) => Test::String(plain(MatchPattern::Prefix(text.clone()), path)?),
            Some(Specifier::SuffixMatch(text)) => Test::String(plain(MatchPattern::Suffix(text.clone()), path)?),
            Some(Specifier::ContainsMatch(text)) => Test::String(plain(MatchPattern::Contains(text.clone()), path)?),
        };
        let name = message.name.to_ascii_lowercase();
        let name = if name.starts_with(':') || name == "host" {
            Name::Pseudo(name.into())
        } else {
            let bad = |_| ConfigError::new(at("name"), format!("'{name}' is not a header name"));
            Name::Field(HeaderName::from_bytes(name.as_bytes()).map_err(bad)?)
        };
        let missing_is_empty = message.treat_missing_header_as_empty;
        Ok(Self { name, test, invert: message.invert_match, missing_is_empty })
    }

    /// From a list; each at `path[index]`.
    pub fn list(messages: &[pb::HeaderMatcher], path: &str) -> Result<Vec<Self>, ConfigError> {
        messages.iter().enumerate().map(|(index, one)| Self::from_proto(one, &format!("{path}[{index}]"))).collect()
    }

    /// Whether a request's head matches.
    pub fn matches(&self, head: &RequestHead) -> bool {
        match &self.name {
            Name::Field(name) => self.matches_field(&head.headers, name),
            Name::Pseudo(name) => self.matches_values(head.field(name).iter().map(AsRef::as_ref)),
        }
    }

    /// Whether a response's head matches.
    pub fn matches_response(&self, head: &ResponseHead) -> bool {
        match &self.name {
            Name::Field(name) => self.matches_field(&head.headers, name),
            Name::Pseudo(name) if &**name == ":status" => {
                self.matches_values(std::iter::once(head.status.as_str().as_bytes()))
            }
            Name::Pseudo(_) => self.matches_values(std::iter::empty()),
        }
    }

    /// Whether header fields alone match; pseudo fields are missing.
    pub fn matches_map(&self, headers: &HeaderMap) -> bool {
        match &self.name {
            Name::Field(name) => self.matches_field(headers, name),
            Name::Pseudo(_) => self.matches_values(std::iter::empty()),
        }
    }

    /// The field it reads; `None` for a pseudo field.
    pub fn field(&self) -> Option<&HeaderName> {
        match &self.name {
            Name::Field(name) => Some(name),
            Name::Pseudo(_) => None,
        }
    }

    fn matches_field(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        self.matches_values(headers.get_all(name).iter().map(http::HeaderValue::as_bytes))
    }

    fn matches_values<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut values = values.peekable();
        let missing = values.peek().is_none();
        if let Test::Present(wanted) = self.test {
            return (missing != wanted) != self.invert;
        }
        // A missing field does not match, inverted or not, unless it counts as empty.
        if missing {
            return self.missing_is_empty && self.matches_one(b"") != self.invert;
        }
        values.any(|value| self.matches_one(value)) != self.invert
    }

    fn matches_one(&self, value: &[u8]) -> bool {
        match &self.test {
            Test::Present(wanted) => *wanted,
            Test::String(matcher) => matcher.matches(value),
            Test::Range(start, end) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<i64>().ok());
                number.is_some_and(|number| (*start..*end).contains(&number))
            }
        }
    }
}

#[cfg(test)]
mod tests;
