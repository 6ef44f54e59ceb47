//! Heads between the wire's form and the canonical one (RFC 9113 section 8, RFC 8441).

use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, Scheme, StreamError, Token, hop_by_hop, translate};
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use crate::config::FieldRules;
use crate::error::MESSAGING;

/// A `:protocol` longer than this names nothing.
const MAX_PROTOCOL_LEN: usize = 256;

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed (RFC 9113 section 8.1.1): a stream error of type PROTOCOL_ERROR.
    Malformed,
    /// More fields than `max_headers_count`, or one above `max_header_field_size_kb`: answered 431.
    TooLarge,
}

/// The canonical form of a received request.
pub(crate) fn request(parts: http::request::Parts, secure: bool, rules: FieldRules) -> Result<RequestHead, Refusal> {
    let http::request::Parts { method, uri, mut headers, mut extensions, .. } = parts;
    let found = check_fields(&headers, rules)?;
    let uri = uri.into_parts();
    let protocol = extensions.remove::<Protocol>();
    let authority = authority(uri.authority, found.hosts, &mut headers)?;
    if found.cookies > 1 {
        join_cookies(&mut headers);
    }
    let scheme = match uri.scheme.as_ref().map(|scheme| scheme.as_str()) {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        Some(_) => return Err(Refusal::Malformed),
        None if secure => Scheme::Https,
        None => Scheme::Http,
    };
    let mut head = RequestHead::new(RequestKind::Plain, method);
    (head.scheme, head.authority, head.version, head.headers) = (scheme, authority, Version::HTTP_2, headers);
    let bytestream = protocol.as_ref().is_some_and(|protocol| protocol.as_str() == translate::BYTESTREAM);
    match protocol {
        Some(protocol) if !bytestream => {
            head.path = Some(origin_form(uri.path_and_query, &head.method)?);
            if head.authority.is_none() || protocol.as_str().len() > MAX_PROTOCOL_LEN {
                return Err(Refusal::Malformed);
            }
            let token = Token::new(protocol.as_str()).ok_or(Refusal::Malformed)?;
            head.headers.remove(header::CONTENT_LENGTH);
            translate::extended_connect_to_upgrade(&mut head, token);
        }
        _ if head.method == Method::CONNECT => {
            let target = head.authority.clone().ok_or(Refusal::Malformed)?;
            head.headers.remove(header::CONTENT_LENGTH);
            head.kind = RequestKind::Connect(target);
        }
        _ => head.path = Some(origin_form(uri.path_and_query, &head.method)?),
    }
    Ok(head)
}

/// The limits of the configuration; and a value neither starts nor ends with a blank (RFC 9113 section 8.2.1).
pub(crate) fn check_fields(headers: &HeaderMap, rules: FieldRules) -> Result<Found, Refusal> {
    if headers.len() > rules.count {
        return Err(Refusal::TooLarge);
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut found = Found::default();
    for (name, value) in headers {
        let bytes = value.as_bytes();
        if *name == header::HOST {
            found.hosts += 1;
        } else if *name == header::COOKIE {
            found.cookies += 1;
        }
        if name.as_str().len() + bytes.len() > rules.size {
            return Err(Refusal::TooLarge);
        }
        if blank(bytes.first()) || blank(bytes.last()) || !(rules.obs_text || bytes.is_ascii()) {
            return Err(Refusal::Malformed);
        }
    }
    Ok(found)
}

/// How many there are of fields that a request's form depends on; counted on the way, as a look-up costs more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    hosts: usize,
    cookies: usize,
}

/// `:authority`, else the one `host`; `:authority` wins over any `host` (RFC 9113 section 8.3.1).
fn authority(pseudo: Option<Authority>, hosts: usize, headers: &mut HeaderMap) -> Result<Option<Authority>, Refusal> {
    let authority = match (pseudo, hosts) {
        (Some(authority), _) => Some(authority),
        (None, 0) => None,
        (None, 1) => {
            let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
            Some(Authority::try_from(host).map_err(|_| Refusal::Malformed)?)
        }
        (None, _) => return Err(Refusal::Malformed),
    };
    if hosts > 0 {
        headers.remove(header::HOST);
    }
    // User information has no place in a request's authority (RFC 9113 section 8.3.1).
    match &authority {
        Some(authority) if authority.as_str().contains('@') => Err(Refusal::Malformed),
        _ => Ok(authority),
    }
}

fn origin_form(path: Option<PathAndQuery>, method: &Method) -> Result<PathAndQuery, Refusal> {
    let path = path.ok_or(Refusal::Malformed)?;
    let asterisk = path.as_str() == "*" && *method == Method::OPTIONS;
    if path.as_str().starts_with('/') || asterisk { Ok(path) } else { Err(Refusal::Malformed) }
}

/// Cookie crumbs become one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in headers.get_all(header::COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

/// A request as it goes on the wire.
pub(crate) fn to_wire(mut head: RequestHead) -> Result<Request<()>, StreamError> {
    let mut uri = http::uri::Parts::default();
    let mut method = head.method.clone();
    let mut protocol = None;
    match &head.kind {
        RequestKind::Connect(target) => {
            hop_by_hop::strip(&mut head.headers, false);
            head.headers.remove(header::CONTENT_LENGTH);
            uri.authority = Some(target.clone());
            method = Method::CONNECT;
        }
        RequestKind::Upgrade(token) => {
            protocol = Some(match token.as_str() {
                "websocket" => Protocol::from_static("websocket"),
                other => Protocol::from(other),
            });
            translate::upgrade_to_extended_connect(&mut head);
            set_target(&mut uri, &mut head);
            method = Method::CONNECT;
        }
        RequestKind::Plain => {
            hop_by_hop::strip(&mut head.headers, false);
            set_target(&mut uri, &mut head);
        }
    }
    head.headers.remove(header::HOST);
    // Only a request without an authority goes without the scheme that the h2 crate would ask one for.
    let version = if uri.authority.is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
    let uri = Uri::from_parts(uri).map_err(|_| StreamError::Protocol("http2.invalid_target"))?;
    let mut request = Request::new(());
    if let Some(protocol) = protocol {
        if uri.authority().is_none() {
            return Err(StreamError::Protocol("http2.missing_authority"));
        }
        request.extensions_mut().insert(protocol);
    }
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (method, uri, version);
    *request.headers_mut() = head.headers;
    Ok(request)
}

fn set_target(uri: &mut http::uri::Parts, head: &mut RequestHead) {
    uri.authority = head.authority.take();
    if uri.authority.is_some() {
        uri.scheme = Some(match head.scheme {
            Scheme::Http => http::uri::Scheme::HTTP,
            Scheme::Https => http::uri::Scheme::HTTPS,
        });
    }
    uri.path_and_query = Some(head.path.take().unwrap_or_else(|| PathAndQuery::from_static("/")));
}

/// The canonical form of a received response to a request of `kind`.
pub(crate) fn response(
    response: Response<()>,
    kind: &RequestKind,
    rules: FieldRules,
) -> Result<ResponseHead, StreamError> {
    let (parts, ()) = response.into_parts();
    match check_fields(&parts.headers, rules) {
        // HTTP/2 has no 101 (RFC 9113 section 8.6).
        Ok(_) if parts.status != StatusCode::SWITCHING_PROTOCOLS => {}
        Ok(_) | Err(Refusal::Malformed) => return Err(StreamError::Protocol(MESSAGING)),
        Err(Refusal::TooLarge) => return Err(StreamError::TooLarge("http2.too_many_headers")),
    }
    let mut head = ResponseHead { status: parts.status, headers: parts.headers, version: Version::HTTP_2 };
    match kind {
        RequestKind::Upgrade(token) => translate::response_from_extended_connect(&mut head, token),
        RequestKind::Connect(_) if head.status.is_success() => {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        RequestKind::Connect(_) | RequestKind::Plain => {}
    }
    Ok(head)
}

/// An answer as it goes on the wire.
///
/// A 2xx other than the canonical 101 would tell the client of an extended CONNECT that its tunnel is open (RFC 8441
/// section 5): it becomes a 502, whoever let it come so far.
pub(crate) fn answer_to_wire(mut head: ResponseHead, kind: &RequestKind) -> Result<Response<()>, StreamError> {
    match kind {
        RequestKind::Upgrade(_) if head.status.is_success() => {
            head.status = StatusCode::BAD_GATEWAY;
            hop_by_hop::strip(&mut head.headers, false);
        }
        RequestKind::Upgrade(_) => translate::response_to_extended_connect(&mut head),
        _ if head.status == StatusCode::SWITCHING_PROTOCOLS => return Err(StreamError::Local(ErrorCode::Internal)),
        RequestKind::Connect(_) | RequestKind::Plain => hop_by_hop::strip(&mut head.headers, false),
    }
    if head.status.is_success() && kind.is_tunnel() {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    head.headers.remove(header::TE);
    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
    Ok(response)
}
