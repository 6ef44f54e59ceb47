//! Changes to the path and the host of a request, and redirects.

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_http::{RequestHead, RequestKind};
use adit_match::{ConfigError, RegexSubstitution};
use http::header::Entry;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use pb::route_action::HostRewriteSpecifier;

use super::matching::{PathRule, take};

const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How the path changes.
#[derive(Debug, Clone)]
pub(crate) enum PathRewrite {
    /// The part that the route matched is replaced.
    Prefix(Box<str>),
    /// `regex_rewrite`, on the path without its query.
    Regex(Box<RegexSubstitution>),
}

impl PathRewrite {
    pub(crate) fn from_proto(action: &pb::RouteAction, at: &str, errors: &mut Vec<ConfigError>) -> Option<Self> {
        if action.path_rewrite_policy.is_some() {
            errors.push(ConfigError::unsupported(format!("{at}.path_rewrite_policy")));
        }
        if !action.path_rewrite.is_empty() {
            errors.push(ConfigError::unsupported(format!("{at}.path_rewrite")));
        }
        if let Some(regex) = &action.regex_rewrite {
            if !action.prefix_rewrite.is_empty() {
                errors.push(ConfigError::new(
                    format!("{at}.regex_rewrite"),
                    "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
                ));
            }
            let regex = RegexSubstitution::from_proto(regex, &format!("{at}.regex_rewrite"));
            return Some(Self::Regex(Box::new(take(regex, errors)?)));
        }
        (!action.prefix_rewrite.is_empty()).then(|| Self::Prefix(action.prefix_rewrite.as_str().into()))
    }

    /// The new path with the query kept; `None` when there is no path or the new one is none.
    pub(crate) fn apply(&self, rule: &PathRule, path: &PathAndQuery) -> Option<PathAndQuery> {
        if matches!(rule, PathRule::Connect) {
            return None;
        }
        let bare = path.path();
        let mut text = match self {
            Self::Prefix(new) => {
                let rest = bare.get(rule.matched(bare).len()..).unwrap_or("");
                format!("{new}{rest}")
            }
            Self::Regex(regex) => regex.apply(bare),
        };
        if let Some(query) = path.query() {
            text.push('?');
            text.push_str(query);
        }
        PathAndQuery::try_from(text).ok()
    }
}

/// Rewrites the path in place, and keeps the old one in `x-envoy-original-path`.
pub(crate) fn rewrite_path(head: &mut RequestHead, rewrite: &PathRewrite, rule: &PathRule, keep_original: bool) {
    let Some(path) = &head.path else { return };
    let Some(new) = rewrite.apply(rule, path) else { return };
    if keep_original && let Ok(original) = HeaderValue::from_str(path.as_str()) {
        head.headers.insert(X_ENVOY_ORIGINAL_PATH, original);
    }
    head.path = Some(new);
}

/// How the host changes.
#[derive(Debug, Clone)]
pub(crate) enum HostRewrite {
    Literal(Authority),
    /// `host_rewrite_literal` of a weighted cluster, which leaves no trace of the old host.
    Weighted(Authority),
    /// The name of the host that was chosen (`auto_host_rewrite`).
    Auto,
    Header(HeaderName),
    PathRegex(Box<RegexSubstitution>),
}

impl HostRewrite {
    pub(crate) fn from_proto(
        specifier: Option<&HostRewriteSpecifier>,
        at: &str,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        match specifier? {
            HostRewriteSpecifier::HostRewriteLiteral(text) => {
                take(literal(text, &format!("{at}.host_rewrite_literal")), errors)
            }
            HostRewriteSpecifier::AutoHostRewrite(on) => on.then_some(Self::Auto),
            HostRewriteSpecifier::HostRewriteHeader(name) => {
                let bad = |_| ConfigError::new(format!("{at}.host_rewrite_header"), "not a header name");
                take(HeaderName::from_bytes(name.as_bytes()).map(Self::Header).map_err(bad), errors)
            }
            HostRewriteSpecifier::HostRewritePathRegex(regex) => {
                let regex = RegexSubstitution::from_proto(regex, &format!("{at}.host_rewrite_path_regex"));
                take(regex, errors).map(|regex| Self::PathRegex(Box::new(regex)))
            }
            HostRewriteSpecifier::HostRewrite(_) => {
                errors.push(ConfigError::unsupported(format!("{at}.host_rewrite")));
                None
            }
        }
    }

    /// The new host of a request; `None` when it stays, or depends on a host not chosen yet.
    pub(crate) fn apply(&self, head: &RequestHead) -> Option<Authority> {
        match self {
            Self::Literal(authority) | Self::Weighted(authority) => Some(authority.clone()),
            Self::Auto => None,
            Self::Header(name) => head.headers.get(name).and_then(|value| Authority::try_from(value.as_bytes()).ok()),
            Self::PathRegex(regex) => Authority::try_from(regex.apply(head.path_only())).ok(),
        }
    }
}

pub(crate) fn weighted(text: &str, at: &str) -> Result<HostRewrite, ConfigError> {
    Authority::try_from(text).map(HostRewrite::Weighted).map_err(|_| ConfigError::new(at, "not a host"))
}

fn literal(text: &str, at: &str) -> Result<HostRewrite, ConfigError> {
    Authority::try_from(text).map(HostRewrite::Literal).map_err(|_| ConfigError::new(at, "not a host"))
}

/// Gives a request a new host; the target of a CONNECT follows it, as in Envoy, where they are one. With `keep_original`
/// the old one stays in `x-envoy-original-host`.
pub(crate) fn set_host(head: &mut RequestHead, new: Authority, append_forwarded_host: bool, keep_original: bool) {
    if keep_original
        && let Some(old) = &head.authority
        && let Ok(old) = HeaderValue::from_str(old.as_str())
    {
        head.headers.insert(X_ENVOY_ORIGINAL_HOST, old);
    }
    if append_forwarded_host && let Some(old) = &head.authority {
        append_host(&mut head.headers, old.as_str());
    }
    if let RequestKind::Connect(target) = &mut head.kind {
        *target = new.clone();
    }
    head.authority = Some(new);
}

/// Adds a host to the list in `x-forwarded-host`, unless it is the last one there.
fn append_host(headers: &mut HeaderMap, host: &str) {
    let last = headers.get_all(&X_FORWARDED_HOST).iter().next_back();
    let list = last.map_or(&b""[..], HeaderValue::as_bytes);
    let listed = list.rsplit(|byte| *byte == b',').next().unwrap_or(list).trim_ascii();
    if listed == host.as_bytes() {
        return;
    }
    // One field, as Envoy has it: not every reader of this one knows that several fields are one list.
    let longer = if list.is_empty() { host.as_bytes().to_vec() } else { [list, host.as_bytes()].join(&b',') };
    let Ok(longer) = HeaderValue::from_bytes(&longer) else { return };
    match headers.entry(X_FORWARDED_HOST) {
        Entry::Occupied(mut entry) => {
            if let Some(last) = entry.iter_mut().last() {
                *last = longer;
            }
        }
        Entry::Vacant(entry) => {
            entry.insert(longer);
        }
    }
}

/// `RedirectAction`.
#[derive(Debug, Clone)]
pub(crate) struct Redirect {
    scheme: Option<Box<str>>,
    host: Box<str>,
    port: u16,
    path: RedirectPath,
    pub(crate) status: StatusCode,
    strip_query: bool,
}

#[derive(Debug, Clone)]
enum RedirectPath {
    Keep,
    /// The whole path; one with a query replaces the query too.
    Whole(Box<str>),
    Rewrite(PathRewrite),
}

impl Redirect {
    /// To the same place over TLS (`require_tls`).
    pub(crate) fn to_https() -> Self {
        Self {
            scheme: Some("https".into()),
            host: "".into(),
            port: 0,
            path: RedirectPath::Keep,
            status: StatusCode::MOVED_PERMANENTLY,
            strip_query: false,
        }
    }

    pub(crate) fn from_proto(message: &pb::RedirectAction, at: &str, errors: &mut Vec<ConfigError>) -> Option<Self> {
        let scheme = message.scheme_rewrite_specifier.as_ref().and_then(|scheme| match scheme {
            SchemeRewriteSpecifier::HttpsRedirect(on) => on.then(|| "https".into()),
            SchemeRewriteSpecifier::SchemeRedirect(text) => Some(text.as_str().into()),
        });
        let path = match &message.path_rewrite_specifier {
            None => RedirectPath::Keep,
            Some(PathRewriteSpecifier::PathRedirect(text)) => RedirectPath::Whole(text.as_str().into()),
            Some(PathRewriteSpecifier::PrefixRewrite(text)) => {
                RedirectPath::Rewrite(PathRewrite::Prefix(text.as_str().into()))
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                let regex = take(RegexSubstitution::from_proto(regex, &format!("{at}.regex_rewrite")), errors)?;
                RedirectPath::Rewrite(PathRewrite::Regex(Box::new(regex)))
            }
            Some(PathRewriteSpecifier::PathRewrite(_)) => {
                errors.push(ConfigError::unsupported(format!("{at}.path_rewrite")));
                return None;
            }
        };
        let status = match message.response_code() {
            RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            RedirectResponseCode::Found => StatusCode::FOUND,
            RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
            RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
            RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
        };
        let port = u16::try_from(message.port_redirect).unwrap_or_else(|_| {
            errors.push(ConfigError::new(format!("{at}.port_redirect"), "not a port"));
            0
        });
        let host = message.host_redirect.as_str().into();
        Some(Self { scheme, host, port, path, status, strip_query: message.strip_query })
    }

    /// Where a request is sent: the value of `location`.
    pub(crate) fn location(&self, head: &RequestHead, rule: &PathRule) -> Option<HeaderValue> {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme.as_str());
        let old = head.authority.as_ref();
        let host = if self.host.is_empty() { old.map_or("", Authority::host) } else { &self.host };
        let mut location = format!("{scheme}://{host}");
        if self.port != 0 {
            location.push_str(&format!(":{}", self.port));
        } else if self.host.is_empty()
            && let Some(port) = old.and_then(Authority::port_u16)
        {
            // A port that said no more than the old scheme would say something wrong about the new one.
            let implied = self.scheme.is_some() && port == if head.scheme.as_str() == "https" { 443 } else { 80 };
            if !implied {
                location.push_str(&format!(":{port}"));
            }
        }
        location.push_str(&self.target(head, rule));
        HeaderValue::from_str(&location).ok()
    }

    fn target(&self, head: &RequestHead, rule: &PathRule) -> String {
        let old = head.path.as_ref();
        let query = old.and_then(PathAndQuery::query).filter(|_| !self.strip_query);
        let bare = match &self.path {
            RedirectPath::Keep => old.map_or("", PathAndQuery::path).to_owned(),
            RedirectPath::Whole(text) if text.contains('?') => return text.to_string(),
            RedirectPath::Whole(text) => text.to_string(),
            RedirectPath::Rewrite(rewrite) => {
                let new = old.and_then(|old| rewrite.apply(rule, old));
                new.as_ref().or(old).map_or("", PathAndQuery::path).to_owned()
            }
        };
        match query {
            Some(query) => format!("{bare}?{query}"),
            None => bare,
        }
    }
}
