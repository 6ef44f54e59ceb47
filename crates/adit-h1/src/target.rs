//! The request target (RFC 9112 section 3.2), and the authority that follows from it and from Host.

use adit_http::{ConnectTarget, Scheme};
use bytes::Bytes;
use http::Method;
use http::uri::{Authority, PathAndQuery};

use crate::config::ServerConfig;
use crate::refuse::Refusal;
use crate::scan;

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Target {
    /// The target of a CONNECT.
    pub(crate) connect: Option<Authority>,
    pub(crate) authority: Option<Authority>,
    pub(crate) path: Option<PathAndQuery>,
    pub(crate) scheme: Scheme,
}

/// Reads the target. A CONNECT's target and an absolute target replace Host.
pub(crate) fn parse(
    method: &Method,
    target: Bytes,
    host: Option<Bytes>,
    cfg: &ServerConfig,
    scheme: Scheme,
) -> Result<Target, Refusal> {
    if method == Method::CONNECT {
        let text = std::str::from_utf8(&target).map_err(|_| Refusal::URL)?;
        ConnectTarget::check(text).map_err(|_| Refusal::URL)?;
        let authority = Authority::from_maybe_shared(target).map_err(|_| Refusal::URL)?;
        return Ok(Target { connect: Some(authority.clone()), authority: Some(authority), path: None, scheme });
    }
    if target.contains(&b'#') {
        return Err(Refusal::FRAGMENT);
    }
    if !target.is_ascii() {
        return Err(Refusal::CODEC);
    }
    match target.first() {
        Some(b'/') => {
            let path = PathAndQuery::from_maybe_shared(target).map_err(|_| Refusal::URL)?;
            Ok(Target { connect: None, authority: from_host(host)?, path: Some(path), scheme })
        }
        // Taken as it is; above, what is no path has no route.
        Some(b'*') if target.len() == 1 && method == Method::OPTIONS => {
            let path = Some(PathAndQuery::from_static("*"));
            Ok(Target { connect: None, authority: from_host(host)?, path, scheme })
        }
        _ => absolute(method, &target, host, cfg),
    }
}

fn absolute(method: &Method, target: &Bytes, host: Option<Bytes>, cfg: &ServerConfig) -> Result<Target, Refusal> {
    let (scheme, rest) = if let Some(rest) = after_prefix(target, b"http://") {
        (Scheme::Http, rest)
    } else if let Some(rest) = after_prefix(target, b"https://") {
        (Scheme::Https, rest)
    } else if target.as_ref() == b"*" {
        return Err(Refusal::URL);
    } else if target.windows(3).any(|part| part == b"://") {
        return Err(Refusal::SCHEME);
    } else {
        return Err(Refusal::CODEC);
    };
    if !cfg.allow_absolute_url {
        return Err(Refusal::ABSOLUTE_URL);
    }
    // Host is replaced, and yet it must be one that could stand: the next hop may look at it first.
    from_host(host)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = checked(rest.slice(..end)).ok_or(Refusal::URL)?;
    let path = match rest.slice(end..) {
        path if path.first() == Some(&b'/') => PathAndQuery::from_maybe_shared(path),
        path if path.is_empty() && method == Method::OPTIONS => Ok(PathAndQuery::from_static("*")),
        path if path.is_empty() => Ok(PathAndQuery::from_static("/")),
        query => PathAndQuery::from_maybe_shared(Bytes::from([b"/", &query[..]].concat())),
    };
    Ok(Target { connect: None, authority: Some(authority), path: Some(path.map_err(|_| Refusal::URL)?), scheme })
}

fn after_prefix(target: &Bytes, prefix: &[u8]) -> Option<Bytes> {
    let start = target.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| target.slice(prefix.len()..))
}

/// The authority that Host names; none when it is missing or empty, which is for others to judge.
fn from_host(host: Option<Bytes>) -> Result<Option<Authority>, Refusal> {
    match host {
        None => Ok(None),
        Some(host) if host.is_empty() => Ok(None),
        Some(host) => checked(host).map(Some).ok_or(Refusal::AUTHORITY),
    }
}

/// An authority without user information.
fn checked(text: Bytes) -> Option<Authority> {
    // Without user information the host is what stands in front.
    if text.first() == Some(&b':') || scan::find(&text, 0, b'@').is_some() {
        return None;
    }
    Authority::from_maybe_shared(text).ok()
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
