//! Heads between the wire's form and the canonical one (RFC 9113 section 8, RFC 8441).

use adit_http::{
    ErrorCode, RequestHead, RequestKind, ResponseHead, Scheme, StreamError, hop_by_hop, pseudo, translate,
};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Version};

use crate::conn::Block;
use crate::conn::stream::{AnswerHead, Fit};
use crate::error::MESSAGING;
use crate::hpack::Pseudo;
use crate::section::Section;

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed (RFC 9113 section 8.1.1): a stream error of type PROTOCOL_ERROR.
    Malformed,
    /// More fields than `max_headers_count`, or one above `max_header_field_size_kb`: answered 431.
    TooLarge,
}

/// The canonical form of a received request.
pub(crate) fn request(mut section: Section, secure: bool) -> Result<RequestHead, Refusal> {
    if section.too_large {
        return Err(Refusal::TooLarge);
    }
    let method = section.method.take().ok_or(Refusal::Malformed)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed)?;
    let extended = section.protocol.is_some();
    let connect = method == Method::CONNECT;
    // Of the forms of CONNECT only the extended one has a scheme and a path (RFC 9113 section 8.5, RFC 8441 section 4).
    let plain_connect = connect && !extended;
    let misplaced = plain_connect && (section.scheme.is_some() || section.path.is_some());
    if (extended && !connect) || misplaced {
        return Err(Refusal::Malformed);
    }
    let authority = authority(section.authority.take(), section.hosts, &mut section.headers)?;
    if section.cookies > 1 {
        pseudo::join_cookies(&mut section.headers);
    }
    let mut head = RequestHead::new(RequestKind::Plain, method);
    (head.authority, head.version, head.headers) = (authority, Version::HTTP_2, section.headers);
    if plain_connect {
        head.scheme = if secure { Scheme::Https } else { Scheme::Http };
        return pseudo::into_connect(head).ok_or(Refusal::Malformed);
    }
    head.scheme =
        section.scheme.as_ref().and_then(|value| pseudo::scheme(value.as_bytes())).ok_or(Refusal::Malformed)?;
    let path = section.path.as_ref().and_then(|value| pseudo::path(value.as_bytes(), &head.method));
    head.path = Some(path.ok_or(Refusal::Malformed)?);
    let Some(protocol) = section.protocol else { return Ok(head) };
    let token = pseudo::protocol(protocol.as_bytes()).filter(|_| head.authority.is_some()).ok_or(Refusal::Malformed)?;
    if token.as_str() == translate::BYTESTREAM {
        return pseudo::into_connect(head).ok_or(Refusal::Malformed);
    }
    head.headers.remove(header::CONTENT_LENGTH);
    translate::extended_connect_to_upgrade(&mut head, token);
    Ok(head)
}

/// `:authority`, else the one `host`; `:authority` wins over any `host` (RFC 9113 section 8.3.1).
fn authority(pseudo: Option<HeaderValue>, hosts: usize, headers: &mut HeaderMap) -> Result<Option<Authority>, Refusal> {
    let authority = match (pseudo, hosts) {
        (Some(authority), _) => Some(Authority::try_from(authority.as_bytes()).map_err(|_| Refusal::Malformed)?),
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

/// A request as it goes on the wire.
pub(crate) fn write_request(head: &RequestHead, block: &mut Block<'_>) {
    match &head.kind {
        RequestKind::Connect(target) => {
            block.pseudo(Pseudo::Method, b"CONNECT");
            block.pseudo(Pseudo::Authority, target.as_str().as_bytes());
        }
        RequestKind::Upgrade(token) => {
            block.pseudo(Pseudo::Method, b"CONNECT");
            write_target(head, block);
            block.pseudo(Pseudo::Protocol, token.as_str().as_bytes());
        }
        RequestKind::Plain => {
            block.pseudo(Pseudo::Method, head.method.as_str().as_bytes());
            write_target(head, block);
        }
    }
    let upgrade = matches!(head.kind, RequestKind::Upgrade(_));
    if names_others(&head.headers) {
        let mut headers = head.headers.clone();
        hop_by_hop::strip(&mut headers, false);
        write_fields(&headers, &head.kind, block);
    } else {
        write_fields(&head.headers, &head.kind, block);
    }
    // The method has no other place (see `translate`).
    if upgrade
        && head.method != Method::GET
        && let Ok(value) = HeaderValue::from_str(head.method.as_str())
    {
        block.field(&HeaderName::from_static(translate::ORIGINAL_METHOD), &value);
    }
}

fn write_target(head: &RequestHead, block: &mut Block<'_>) {
    // Only a request without an authority goes without the scheme it came with: who sent it knew none.
    let scheme = if head.authority.is_some() { head.scheme } else { Scheme::Http };
    block.pseudo(Pseudo::Scheme, scheme.as_str().as_bytes());
    if let Some(authority) = &head.authority {
        block.pseudo(Pseudo::Authority, authority.as_str().as_bytes());
    }
    block.pseudo(Pseudo::Path, head.path.as_ref().map_or("/", PathAndQuery::as_str).as_bytes());
}

/// Whether `connection` takes other fields away than those that never cross a hop.
fn names_others(headers: &HeaderMap) -> bool {
    let usual = |value: &HeaderValue| {
        let value = value.as_bytes();
        [&b"upgrade"[..], b"close", b"keep-alive"].iter().any(|known| value.eq_ignore_ascii_case(known))
    };
    !headers.get_all(header::CONNECTION).iter().all(usual)
}

/// The fields of a request but those of one hop (RFC 9113 section 8.2.2), as [`hop_by_hop::strip`] leaves them.
fn write_fields(headers: &HeaderMap, kind: &RequestKind, block: &mut Block<'_>) {
    let mut te = false;
    for (name, value) in headers {
        match name.as_str() {
            "host" => {}
            _ if hop_by_hop::is_connection_specific(name) => {}
            "te" => te = true,
            "content-length" if kind.is_tunnel() => {}
            translate::ORIGINAL_METHOD if matches!(kind, RequestKind::Upgrade(_)) => {}
            _ => block.field(name, value),
        }
    }
    if te && hop_by_hop::has_token(headers, &header::TE, "trailers") {
        block.field(&header::TE, &HeaderValue::from_static("trailers"));
    }
}

/// The canonical form of a received response to a request of `kind`.
pub(crate) fn response(answer: AnswerHead, kind: &RequestKind) -> Result<ResponseHead, StreamError> {
    // HTTP/2 has no 101 (RFC 9113 section 8.6).
    match answer.fit {
        Fit::TooLarge => return Err(StreamError::TooLarge("http2.too_many_headers")),
        Fit::Good if answer.status == StatusCode::SWITCHING_PROTOCOLS => return Err(StreamError::Protocol(MESSAGING)),
        Fit::Good => {}
    }
    let mut head = ResponseHead { status: answer.status, headers: answer.headers, version: Version::HTTP_2 };
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
pub(crate) fn answer_to_wire(mut head: ResponseHead, kind: &RequestKind) -> Result<ResponseHead, StreamError> {
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
    Ok(head)
}
