//! Heads between the wire's form and the canonical one (RFC 9114 sections 4.3 and 4.4, RFC 9220).

use adit_http::{
    ErrorCode, RequestHead, RequestKind, ResponseHead, Scheme, StreamError, hop_by_hop, pseudo, translate,
};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Version};

use crate::config::Limits;
use crate::error::MESSAGING;
use crate::fields::{self, Refusal, Section, Writer};

/// A received request and what its body is held to.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    /// The announced length of the body; a tunnel has none.
    pub(crate) length: Option<u64>,
}

/// The canonical form of a received request.
pub(crate) fn request(block: &[u8], limits: Limits, allow_extended: bool) -> Result<Request, Refusal> {
    let Section { pseudo: said, mut headers, length } = fields::read(block, limits)?;
    let malformed = Refusal::Malformed;
    let method = said.method.as_deref().and_then(|name| Method::from_bytes(name).ok()).ok_or(malformed)?;
    // Without our leave `:protocol` is a pseudo-header field that is not defined (RFC 8441 section 3).
    if said.status.is_some() || (said.protocol.is_some() && (!allow_extended || method != Method::CONNECT)) {
        return Err(malformed);
    }
    let authority = authority(said.authority.as_deref(), &mut headers)?;
    let mut head = RequestHead::new(RequestKind::Plain, method);
    (head.scheme, head.version) = (Scheme::Https, Version::HTTP_3);
    (head.authority, head.headers) = (Some(authority), headers);
    let into_connect = |head| Ok(Request { head: pseudo::into_connect(head).ok_or(malformed)?, length: None });
    if head.method == Method::CONNECT && said.protocol.is_none() {
        if said.scheme.is_some() || said.path.is_some() || said.authority.is_none() {
            return Err(malformed);
        }
        return into_connect(head);
    }
    head.scheme = said.scheme.as_deref().and_then(pseudo::scheme).ok_or(malformed)?;
    let path = said.path.as_deref().and_then(|path| pseudo::path(path, &head.method));
    head.path = Some(path.ok_or(malformed)?);
    let Some(protocol) = said.protocol.as_deref() else {
        return Ok(Request { head, length });
    };
    let token = pseudo::protocol(protocol).filter(|_| said.authority.is_some()).ok_or(malformed)?;
    if token.as_str() == translate::BYTESTREAM {
        return into_connect(head);
    }
    head.headers.remove(header::CONTENT_LENGTH);
    translate::extended_connect_to_upgrade(&mut head, token);
    Ok(Request { head, length: None })
}

/// `:authority` or `host`: one of them is there, and both say the same (RFC 9114 section 4.3.1).
fn authority(pseudo: Option<&[u8]>, headers: &mut HeaderMap) -> Result<Authority, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next().map(HeaderValue::as_bytes), hosts.next());
    let text = match (pseudo, host) {
        _ if second.is_some() => return Err(Refusal::Malformed),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return Err(Refusal::Malformed),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(Refusal::Malformed),
    };
    let authority = Authority::try_from(text).map_err(|_| Refusal::Malformed)?;
    headers.remove(header::HOST);
    // User information has no place in a request's authority (RFC 9114 section 4.3.1).
    if authority.as_str().contains('@') { Err(Refusal::Malformed) } else { Ok(authority) }
}

/// A request as a field section, which must fit in what the peer takes.
pub(crate) fn request_block(mut head: RequestHead, max: u64) -> Result<Bytes, StreamError> {
    let mut out = Writer::new();
    let kind = head.kind.clone();
    match &kind {
        RequestKind::Connect(target) => {
            hop_by_hop::strip(&mut head.headers, false);
            head.headers.remove(header::CONTENT_LENGTH);
            out.field(":method", b"CONNECT");
            out.field(":authority", target.as_str().as_bytes());
        }
        RequestKind::Upgrade(token) => {
            if head.authority.is_none() {
                return Err(StreamError::Protocol("http3.missing_authority"));
            }
            translate::upgrade_to_extended_connect(&mut head);
            out.field(":method", b"CONNECT");
            out.field(":protocol", token.as_str().as_bytes());
            target(&mut out, &head);
        }
        RequestKind::Plain => {
            hop_by_hop::strip(&mut head.headers, false);
            out.field(":method", head.method.as_str().as_bytes());
            target(&mut out, &head);
        }
    }
    head.headers.remove(header::HOST);
    out.fields(&head.headers);
    finish(out, max)
}

fn target(out: &mut Writer, head: &RequestHead) {
    out.field(":scheme", head.scheme.as_str().as_bytes());
    if let Some(authority) = &head.authority {
        out.field(":authority", authority.as_str().as_bytes());
    }
    out.field(":path", head.path.as_ref().map_or("/", PathAndQuery::as_str).as_bytes());
}

fn finish(out: Writer, max: u64) -> Result<Bytes, StreamError> {
    if out.size > max {
        return Err(StreamError::TooLarge("http3.headers_too_large_for_the_peer"));
    }
    let mut frame = Vec::with_capacity(out.block.len() + 16);
    crate::frame::header(crate::frame::HEADERS, out.block.len() as u64, &mut frame);
    frame.extend_from_slice(&out.block);
    Ok(frame.into())
}

/// A received response and what its body is held to.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) length: Option<u64>,
}

/// The canonical form of a received response to a request of `kind`; `no_body` for the answer to HEAD.
pub(crate) fn response(block: &[u8], limits: Limits, kind: &RequestKind, no_body: bool) -> Result<Response, Refusal> {
    let Section { pseudo: said, headers, length } = fields::read(block, limits)?;
    let status = said.status.as_deref().and_then(|text| StatusCode::from_bytes(text).ok());
    // HTTP/3 has no 101 (RFC 9114 section 4.5).
    let status = status.filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS).ok_or(Refusal::Malformed)?;
    if said.has_request_fields() {
        return Err(Refusal::Malformed);
    }
    let mut head = ResponseHead { status, headers, version: Version::HTTP_3 };
    let bodiless = no_body || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut length = if bodiless { Some(0) } else { length };
    match kind {
        RequestKind::Upgrade(token) => translate::response_from_extended_connect(&mut head, token),
        RequestKind::Connect(_) if head.status.is_success() => {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        RequestKind::Connect(_) | RequestKind::Plain => {}
    }
    if head.accepts(kind) || status.is_informational() {
        length = None;
    }
    Ok(Response { head, length })
}

/// An answer as a field section.
///
/// A 2xx other than the canonical 101 would tell the client of an extended CONNECT that its tunnel is open (RFC 9220
/// section 3): it becomes a 502, whoever let it come so far.
pub(crate) fn answer_block(mut head: ResponseHead, kind: &RequestKind, max: u64) -> Result<Bytes, StreamError> {
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
    let mut out = Writer::new();
    out.field(":status", head.status.as_str().as_bytes());
    out.fields(&head.headers);
    finish(out, max)
}

/// Trailers as a field section.
pub(crate) fn trailers_block(trailers: &HeaderMap, max: u64) -> Result<Bytes, StreamError> {
    let mut trailers = trailers.clone();
    hop_by_hop::strip(&mut trailers, false);
    trailers.remove(header::TE);
    let mut out = Writer::new();
    out.fields(&trailers);
    finish(out, max)
}

/// The error that a refused message is for whoever waits for it.
pub(crate) fn stream_error(refusal: Refusal) -> StreamError {
    match refusal {
        Refusal::Malformed => StreamError::Protocol(MESSAGING),
        Refusal::TooLarge => StreamError::TooLarge("http3.too_many_headers"),
        Refusal::Qpack => StreamError::Protocol(crate::error::CODEC),
    }
}

#[cfg(test)]
mod tests;
