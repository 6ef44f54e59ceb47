//! What a route matches (`envoy.config.route.v3.RouteMatch`).

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::{RuntimeValues, StreamInfo};
use adit_http::{RequestHead, RequestKind};
use adit_match::{
    ConfigError, FilterStateMatcher, Fraction, HeaderMatcher, MetadataMatcher, QueryParameterMatcher, RegexMatcher,
    StringMatcher,
};
use http::header;
use pb::route_match::PathSpecifier;

/// How a route looks at the path.
#[derive(Debug, Clone)]
pub(crate) enum PathRule {
    Prefix(Box<str>),
    Exact(Box<str>),
    /// The prefix itself, or the prefix and a `/`.
    Separated(Box<str>),
    Regex(Box<RegexMatcher>),
    /// CONNECT and CONNECT-UDP, whatever their path.
    Connect,
}

impl PathRule {
    /// The part of the path that `prefix_rewrite` replaces.
    pub(crate) fn matched<'a>(&self, path: &'a str) -> &'a str {
        match self {
            Self::Prefix(text) | Self::Exact(text) | Self::Separated(text) => path.get(..text.len()).unwrap_or(path),
            Self::Regex(_) => path,
            Self::Connect => "",
        }
    }
}

/// Decides whether a route is the one.
#[derive(Debug, Clone)]
pub(crate) struct RouteMatcher {
    pub(crate) path: PathRule,
    case_sensitive: bool,
    headers: Vec<HeaderMatcher>,
    query: Vec<QueryParameterMatcher>,
    cookies: Vec<(Box<str>, Option<StringMatcher>, bool)>,
    metadata: Vec<MetadataMatcher>,
    state: Vec<FilterStateMatcher>,
    fraction: Option<Fraction>,
}

impl RouteMatcher {
    pub(crate) fn from_proto(message: &pb::RouteMatch, at: &str, errors: &mut Vec<ConfigError>) -> Option<Self> {
        let path = path_rule(message, at, errors);
        if message.grpc.is_some() {
            errors.push(ConfigError::unsupported(format!("{at}.grpc")));
        }
        if message.tls_context.is_some() {
            errors.push(ConfigError::unsupported(format!("{at}.tls_context")));
        }
        let metadata = message.dynamic_metadata.iter().enumerate();
        let metadata = metadata.map(|(i, m)| MetadataMatcher::from_proto(m, &format!("{at}.dynamic_metadata[{i}]")));
        let state = message.filter_state.iter().enumerate();
        let state = state.map(|(i, m)| FilterStateMatcher::from_proto(m, &format!("{at}.filter_state[{i}]")));
        let parts = (
            take(HeaderMatcher::list(&message.headers, &format!("{at}.headers")), errors),
            take(QueryParameterMatcher::list(&message.query_parameters, &format!("{at}.query_parameters")), errors),
            take(cookies(message, at), errors),
            take(metadata.collect::<Result<Vec<_>, _>>(), errors),
            take(state.collect::<Result<Vec<_>, _>>(), errors),
        );
        let (Some(headers), Some(query), Some(cookies), Some(metadata), Some(state)) = parts else { return None };
        Some(Self {
            path: path?,
            case_sensitive: message.case_sensitive.unwrap_or(true),
            headers,
            query,
            cookies,
            metadata,
            state,
            fraction: message.runtime_fraction.as_ref().map(Fraction::from_runtime),
        })
    }

    /// Whether a request matches. A pathless request matches `connect_matcher` only.
    pub(crate) fn matches(&self, head: &RequestHead, info: &StreamInfo, runtime: &RuntimeValues, random: u64) -> bool {
        self.matches_path(head)
            && self.headers.iter().all(|matcher| matcher.matches(head))
            && self.query.iter().all(|matcher| matcher.matches(head))
            && self.cookies.iter().all(|(name, value, invert)| {
                let found =
                    cookie(head, name).is_some_and(|text| value.as_ref().is_none_or(|value| value.matches(text)));
                found != *invert
            })
            && self.metadata.iter().all(|matcher| matcher.matches(&info.metadata))
            && self.state.iter().all(|matcher| matcher.matches(&info.state))
            && self.fraction.as_ref().is_none_or(|fraction| fraction.sampled(runtime, random))
    }

    fn matches_path(&self, head: &RequestHead) -> bool {
        if matches!(self.path, PathRule::Connect) {
            return match &head.kind {
                RequestKind::Connect(_) => true,
                RequestKind::Upgrade(token) => token.is_connect_udp(),
                RequestKind::Plain => false,
            };
        }
        let Some(path) = head.path.as_ref().map(http::uri::PathAndQuery::path) else { return false };
        match &self.path {
            PathRule::Exact(text) => path.len() == text.len() && self.starts_with(path, text),
            PathRule::Prefix(text) => self.starts_with(path, text),
            PathRule::Separated(text) => {
                self.starts_with(path, text) && matches!(path.as_bytes().get(text.len()), None | Some(b'/'))
            }
            PathRule::Regex(regex) => regex.matches(path),
            PathRule::Connect => false,
        }
    }

    fn starts_with(&self, path: &str, prefix: &str) -> bool {
        match path.as_bytes().get(..prefix.len()) {
            Some(start) if self.case_sensitive => start == prefix.as_bytes(),
            Some(start) => start.eq_ignore_ascii_case(prefix.as_bytes()),
            None => false,
        }
    }
}

/// The value, or `None` with its error put on the list.
pub(crate) fn take<T>(result: Result<T, ConfigError>, errors: &mut Vec<ConfigError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn path_rule(message: &pb::RouteMatch, at: &str, errors: &mut Vec<ConfigError>) -> Option<PathRule> {
    let Some(specifier) = &message.path_specifier else {
        errors.push(ConfigError::missing(format!("{at}.path_specifier")));
        return None;
    };
    Some(match specifier {
        PathSpecifier::Prefix(text) => PathRule::Prefix(text.as_str().into()),
        PathSpecifier::Path(text) => PathRule::Exact(text.as_str().into()),
        PathSpecifier::PathSeparatedPrefix(text) => PathRule::Separated(text.as_str().into()),
        PathSpecifier::ConnectMatcher(_) => PathRule::Connect,
        PathSpecifier::SafeRegex(regex) => {
            PathRule::Regex(Box::new(take(RegexMatcher::from_proto(regex, &format!("{at}.safe_regex")), errors)?))
        }
        PathSpecifier::PathMatchPolicy(_) => {
            errors.push(ConfigError::unsupported(format!("{at}.path_match_policy")));
            return None;
        }
    })
}

type Cookies = Vec<(Box<str>, Option<StringMatcher>, bool)>;

fn cookies(message: &pb::RouteMatch, at: &str) -> Result<Cookies, ConfigError> {
    let one = |(i, m): (usize, &pb::CookieMatcher)| {
        let at = format!("{at}.cookies[{i}].string_match");
        let value = m.string_match.as_ref().map(|text| StringMatcher::from_proto(text, &at)).transpose()?;
        Ok((m.name.as_str().into(), value, m.invert_match))
    };
    message.cookies.iter().enumerate().map(one).collect()
}

/// The value of a cookie of a request, without quotes around it.
pub(crate) fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let values = head.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"'))
}
