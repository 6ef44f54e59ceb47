//! The hash by which ring hash and maglev choose (`RouteAction.hash_policy`).

use std::time::Duration;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::StreamInfo;
use adit_http::RequestHead;
use adit_match::{ConfigError, RegexSubstitution, first_query_value};
use http::{HeaderName, HeaderValue};
use pb::route_action::hash_policy::PolicySpecifier;
use xxhash_rust::xxh64::xxh64;

use super::matching::{cookie, take};

/// One entry of `hash_policy`.
#[derive(Debug, Clone)]
pub(crate) struct HashPolicy {
    source: Source,
    terminal: bool,
}

#[derive(Debug, Clone)]
enum Source {
    Header(HeaderName, Option<Box<RegexSubstitution>>),
    Cookie(Box<CookieSource>),
    Address,
    Query(Box<str>),
    FilterState(Box<str>),
}

#[derive(Debug, Clone)]
struct CookieSource {
    name: Box<str>,
    /// With a time to live, a client without the cookie is given one.
    ttl: Option<Duration>,
    path: Box<str>,
    attributes: Vec<(Box<str>, Box<str>)>,
}

impl HashPolicy {
    pub(crate) fn from_proto(
        message: &pb::route_action::HashPolicy,
        at: &str,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let source = match &message.policy_specifier {
            None => {
                errors.push(ConfigError::missing(format!("{at}.policy_specifier")));
                return None;
            }
            Some(PolicySpecifier::Header(header)) => {
                let bad = |_| ConfigError::new(format!("{at}.header.header_name"), "not a header name");
                let name = take(HeaderName::from_bytes(header.header_name.as_bytes()).map_err(bad), errors)?;
                let regex = header.regex_rewrite.as_ref().map(|regex| {
                    RegexSubstitution::from_proto(regex, &format!("{at}.header.regex_rewrite")).map(Box::new)
                });
                Source::Header(name, take(regex.transpose(), errors)?)
            }
            Some(PolicySpecifier::Cookie(cookie)) => Source::Cookie(Box::new(CookieSource {
                name: cookie.name.as_str().into(),
                ttl: cookie.ttl.as_ref().map(adit_config::duration),
                path: cookie.path.as_str().into(),
                attributes: cookie
                    .attributes
                    .iter()
                    .map(|a| (a.name.as_str().into(), a.value.as_str().into()))
                    .collect(),
            })),
            Some(PolicySpecifier::ConnectionProperties(_)) => Source::Address,
            Some(PolicySpecifier::QueryParameter(parameter)) => Source::Query(parameter.name.as_str().into()),
            Some(PolicySpecifier::FilterState(state)) => Source::FilterState(state.key.as_str().into()),
        };
        Some(Self { source, terminal: message.terminal })
    }
}

/// The hash of a request, and the cookies that its answer must set. Values of several policies are mixed in order; a
/// terminal policy that gave one ends the list.
pub(crate) fn hash(
    policies: &[HashPolicy],
    head: &RequestHead,
    info: &StreamInfo,
    random: u64,
) -> (Option<u64>, Vec<HeaderValue>) {
    let mut hash: Option<u64> = None;
    let mut cookies = Vec::new();
    for policy in policies {
        if let Some(new) = policy.source.hash(head, info, random, &mut cookies) {
            hash = Some(hash.map_or(new, |old| old.rotate_left(1) ^ new));
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    (hash, cookies)
}

impl Source {
    fn hash(&self, head: &RequestHead, info: &StreamInfo, random: u64, cookies: &mut Vec<HeaderValue>) -> Option<u64> {
        match self {
            Self::Header(name, regex) => {
                let mut values = head.headers.get_all(name).iter();
                let first = values.next()?;
                if let (Some(regex), Ok(text)) = (regex, first.to_str()) {
                    return Some(xxh64(regex.apply(text).as_bytes(), 0));
                }
                if values.next().is_none() {
                    return Some(xxh64(first.as_bytes(), 0));
                }
                let mut all: Vec<&[u8]> = head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                all.sort_unstable();
                Some(xxh64(&all.concat(), 0))
            }
            Self::Cookie(source) => match cookie(head, &source.name) {
                Some(value) => Some(xxh64(value.as_bytes(), 0)),
                None => {
                    let (value, header) = source.make(random)?;
                    cookies.push(header);
                    Some(xxh64(value.as_bytes(), 0))
                }
            },
            Self::Address => Some(xxh64(info.conn.remote.without_port().as_bytes(), 0)),
            Self::Query(name) => first_query_value(head, name).map(|value| xxh64(value.as_bytes(), 0)),
            Self::FilterState(key) => {
                info.state.get(key).and_then(|object| object.value.to_plain()).map(|text| xxh64(text.as_bytes(), 0))
            }
        }
    }
}

impl CookieSource {
    fn make(&self, random: u64) -> Option<(String, HeaderValue)> {
        let ttl = self.ttl?;
        let value = format!("{random:016x}");
        let mut text = format!("{}=\"{value}\"", self.name);
        if !ttl.is_zero() {
            text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        if !self.path.is_empty() {
            text.push_str(&format!("; Path={}", self.path));
        }
        for (name, value) in &self.attributes {
            text.push_str(&if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") });
        }
        text.push_str("; HttpOnly");
        HeaderValue::from_str(&text).ok().map(|header| (value, header))
    }
}
