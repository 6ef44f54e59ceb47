//! The head of a request, from bytes to the model.

use adit_http::{RequestHead, RequestKind, Scheme, Token, hop_by_hop};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Version};

use crate::config::ServerConfig;
use crate::decode::Body;
use crate::fields::{self, Framing, Said};
use crate::refuse::Refusal;
use crate::section::{self, Section, Whose};
use crate::{scan, target};

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Methods taken with `allow_custom_methods: false`: those that Envoy's parser knows.
const KNOWN_METHODS: [&str; 34] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "M-SEARCH",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// A request that was taken, and what it means for its connection.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    /// How the bytes behind the head are delimited.
    pub(crate) body: Body,
    /// The client wants the connection kept.
    pub(crate) keep_alive: bool,
    /// A 100 is to be sent when the body is asked for.
    pub(crate) expect_continue: bool,
    /// See [`fields::size`].
    pub(crate) fields: usize,
}

/// Parses a complete head of about so many lines, its empty line included.
pub(crate) fn parse(head: &Bytes, lines: usize, cfg: &ServerConfig, scheme: Scheme) -> Result<Request, Refusal> {
    let (line, start) = match plain_get(head) {
        Some(line) => line,
        None => request_line(head)?,
    };
    let section = section::parse(head, start, lines, cfg.max_headers, Whose::Request)?;
    if !cfg.allow_custom_methods && !KNOWN_METHODS.contains(&line.method.as_str()) {
        return Err(Refusal::CODEC);
    }
    if line.version == Version::HTTP_10 && !cfg.accept_http_10 {
        return Err(Refusal::LOW_VERSION);
    }
    assemble(line, section, cfg, scheme)
}

/// The line of most requests, a GET of visible ASCII, and where the fields start.
fn plain_get(head: &Bytes) -> Option<(Line, usize)> {
    let (method, version) = (b"GET ", b" HTTP/1.1\r\n");
    let end = scan::find(head, method.len(), b' ')?;
    let target = head.get(method.len()..end).filter(|target| !target.is_empty())?;
    let visible = target.iter().fold(true, |visible, byte| visible & byte.is_ascii_graphic());
    if !visible || !head.starts_with(method) || !head.get(end..)?.starts_with(version) {
        return None;
    }
    let line = Line { method: Method::GET, target: head.slice(method.len()..end), version: Version::HTTP_11 };
    Some((line, end + version.len()))
}

/// Any request line, and where the fields start.
fn request_line(head: &Bytes) -> Result<(Line, usize), Refusal> {
    let start = scan::line_break(head, 0).ok_or(Refusal::CODEC)? + 2;
    let mut parsed = httparse::Request::new(&mut []);
    // The line alone; that fields are missing is what it says then.
    let status = parsed.parse(head.get(..start).ok_or(Refusal::CODEC)?).map_err(|error| match error {
        httparse::Error::Version => wrong_version(head),
        error => error.into(),
    })?;
    let (true, Some(method), Some(path), Some(minor)) =
        (status.is_partial(), parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::CODEC);
    };
    let line = Line {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::CODEC)?,
        target: head.slice_ref(path.as_bytes()),
        version: if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 },
    };
    Ok((line, start))
}

/// What [`fields::size`] says of a head that was not taken; 0 where it is no message at all.
pub(crate) fn refused_fields(head: &[u8], refusal: &Refusal, max: usize) -> usize {
    if refusal.details == Refusal::CODEC.details {
        return 0;
    }
    let mut table = vec![httparse::EMPTY_HEADER; fields::at_most(max, head)];
    let mut parsed = httparse::Request::new(&mut table);
    let complete = parsed.parse(head).is_ok_and(|status| status.is_complete());
    if complete { fields::size(parsed.headers) } else { 0 }
}

/// A version that we do not speak, or a request line that has none.
fn wrong_version(head: &[u8]) -> Refusal {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    match (parts.next(), parts.next()) {
        (Some(version), None) if version.starts_with(b"HTTP/") => Refusal::LOW_VERSION,
        _ => Refusal::CODEC,
    }
}

/// The request line.
struct Line {
    method: Method,
    target: Bytes,
    version: Version,
}

fn assemble(line: Line, section: Section, cfg: &ServerConfig, scheme: Scheme) -> Result<Request, Refusal> {
    let Section { mut map, mut said, size: fields } = section;
    if said.hosts > 1 {
        return Err(Refusal::CODEC);
    }
    let old = line.version == Version::HTTP_10;
    let framing = said.framing(&mut map, cfg.allow_chunked_length)?;
    if old && framing == Framing::Chunked {
        return Err(Refusal::CODEC);
    }
    let keep_alive = said.keep_alive(old);
    let target = target::parse(&line.method, line.target, said.host.take(), cfg, scheme)?;
    let upgrade = upgrade_token(&mut map, &said, cfg)?.filter(|_| !old);
    let kind = match (target.connect, upgrade) {
        (Some(authority), _) => RequestKind::Connect(authority),
        (None, Some(token)) => RequestKind::Upgrade(token),
        (None, None) => RequestKind::Plain,
    };
    let body = body(&kind, framing, &mut map)?;
    let expect_continue = said.expect && !old && !cfg.proxy_100_continue && takes_continue(&mut map);
    let keep_upgrade = matches!(kind, RequestKind::Upgrade(_));
    if said.must_strip(keep_upgrade) {
        hop_by_hop::strip(&mut map, keep_upgrade);
    }
    let authority = target.authority.or_else(|| cfg.default_host_for_http_10.clone().filter(|_| old));
    let head = RequestHead {
        kind,
        method: line.method,
        scheme: target.scheme,
        authority,
        path: target.path,
        version: line.version,
        headers: map,
    };
    Ok(Request { head, body, keep_alive, expect_continue, fields })
}

/// What the client asks to switch to. `h2c` never counts (a proxy that let it through would open a way around every
/// check), nor does what `ignore_http_11_upgrade` names, nor an `upgrade` that `connection` does not announce.
fn upgrade_token(map: &mut HeaderMap, said: &Said, cfg: &ServerConfig) -> Result<Option<Token>, Refusal> {
    if said.upgrades == 0 {
        if said.announces_upgrade() {
            drop_connection_token(map, "upgrade");
        }
        return Ok(None);
    }
    let h2c = |token: &str| token.eq_ignore_ascii_case("h2c");
    if fields::remove_tokens(map, &header::UPGRADE, h2c) {
        map.remove(HTTP2_SETTINGS);
        drop_connection_token(map, "http2-settings");
    }
    if let Some(ignored) = &cfg.ignore_upgrade {
        fields::remove_tokens(map, &header::UPGRADE, |token| ignored.matches(token));
    }
    if said.upgrades > 1 && map.get_all(header::UPGRADE).iter().nth(1).is_some() {
        fields::join(map, &header::UPGRADE);
    }
    let value = map.get(header::UPGRADE).filter(|value| !value.is_empty());
    let Some(value) = value.filter(|_| said.announces_upgrade()) else {
        map.remove(header::UPGRADE);
        drop_connection_token(map, "upgrade");
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| Refusal::CODEC)?;
    Token::new(text).map(Some).ok_or(Refusal::CODEC)
}

fn drop_connection_token(map: &mut HeaderMap, token: &str) {
    fields::remove_tokens(map, &header::CONNECTION, |item| item.eq_ignore_ascii_case(token));
}

/// How the bytes behind the head are delimited. Behind an upgrade or a CONNECT nothing delimits them.
fn body(kind: &RequestKind, framing: Framing, map: &mut HeaderMap) -> Result<Body, Refusal> {
    match (kind, framing) {
        (RequestKind::Connect(_), Framing::Chunked) => Err(Refusal::TRANSFER_ENCODING),
        (RequestKind::Connect(_), Framing::Length(1..)) => Err(Refusal::BODY_DISALLOWED),
        (RequestKind::Connect(_), _) => {
            map.remove(header::CONTENT_LENGTH);
            Ok(Body::Raw)
        }
        (RequestKind::Upgrade(_), _) => Ok(Body::Raw),
        (RequestKind::Plain, Framing::Unsaid | Framing::Length(0)) => Ok(Body::Empty),
        (RequestKind::Plain, Framing::Length(length)) => Ok(Body::Length(length)),
        (RequestKind::Plain, Framing::Chunked) => Ok(Body::Chunked),
    }
}

/// Removes `expect: 100-continue` and says whether it was there (RFC 9110 section 10.1.1).
fn takes_continue(map: &mut HeaderMap) -> bool {
    let asked = map.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if asked {
        map.remove(header::EXPECT);
    }
    asked
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
