//! Query parameters and paths.

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::r#type::matcher::v3::{PathMatcher as PathMessage, path_matcher::Rule};
use adit_http::RequestHead;
use http::uri::PathAndQuery;
use pb::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;

use crate::{ConfigError, StringMatcher};

/// `QueryParameterMatcher`; the first value of a parameter counts, as it was sent (not percent-decoded).
#[derive(Debug, Clone)]
pub struct QueryParameterMatcher {
    name: Box<str>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Present(bool),
    String(StringMatcher),
}

impl QueryParameterMatcher {
    /// From its message.
    pub fn from_proto(message: &pb::QueryParameterMatcher, path: &str) -> Result<Self, ConfigError> {
        let test = match &message.query_parameter_match_specifier {
            None => Test::Present(true),
            Some(Specifier::PresentMatch(present)) => Test::Present(*present),
            Some(Specifier::StringMatch(text)) => {
                Test::String(StringMatcher::from_proto(text, &format!("{path}.string_match"))?)
            }
        };
        Ok(Self { name: message.name.as_str().into(), test })
    }

    /// From a list; each at `path[index]`.
    pub fn list(messages: &[pb::QueryParameterMatcher], path: &str) -> Result<Vec<Self>, ConfigError> {
        messages.iter().enumerate().map(|(index, one)| Self::from_proto(one, &format!("{path}[{index}]"))).collect()
    }

    /// Whether a request matches.
    pub fn matches(&self, head: &RequestHead) -> bool {
        let value = first_query_value(head, &self.name);
        match &self.test {
            Test::Present(wanted) => value.is_some() == *wanted,
            Test::String(matcher) => value.is_some_and(|value| matcher.matches(value)),
        }
    }
}

/// The first value of a query parameter; empty for one without `=`.
pub fn first_query_value<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let query = head.path.as_ref().and_then(PathAndQuery::query)?;
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// `envoy.type.matcher.v3.PathMatcher`: the path without its query. A request with no path does not match.
#[derive(Debug, Clone)]
pub struct PathMatcher(StringMatcher);

impl PathMatcher {
    /// From its message.
    pub fn from_proto(message: &PathMessage, path: &str) -> Result<Self, ConfigError> {
        match &message.rule {
            Some(Rule::Path(text)) => StringMatcher::from_proto(text, &format!("{path}.path")).map(Self),
            None => Err(ConfigError::missing(format!("{path}.path"))),
        }
    }

    /// Whether a request matches.
    pub fn matches(&self, head: &RequestHead) -> bool {
        head.path.as_ref().is_some_and(|path| self.0.matches(path.path()))
    }
}

#[cfg(test)]
mod tests;
