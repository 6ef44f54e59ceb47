//! Upgrade in HTTP/1 form to extended CONNECT and back (RFC 8441 section 5, RFC 9220).

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{RequestHead, RequestKind, ResponseHead, Token, hop_by_hop};

/// Carries the method of an upgrade that is not a GET over a hop that has no place for it. Sent and understood by adit
/// only: others see an unknown field.
pub const ORIGINAL_METHOD: &str = "x-adit-upgrade-method";

const ORIGINAL_METHOD_NAME: HeaderName = HeaderName::from_static(ORIGINAL_METHOD);

/// `:protocol: bytestream` is an older spelling of a plain CONNECT.
pub const BYTESTREAM: &str = "bytestream";

/// The headers of an upgrade as they leave in an extended CONNECT: no `upgrade`, `connection`, `content-length`,
/// `transfer-encoding`; the method goes into [`ORIGINAL_METHOD`] unless it is GET.
pub fn upgrade_to_extended_connect(head: &mut RequestHead) {
    hop_by_hop::strip(&mut head.headers, false);
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::HOST);
    head.headers.remove(ORIGINAL_METHOD_NAME);
    if head.method != Method::GET
        && let Ok(value) = HeaderValue::from_str(head.method.as_str())
    {
        head.headers.insert(ORIGINAL_METHOD_NAME, value);
    }
}

/// Gives a received extended CONNECT its HTTP/1 form: kind, `upgrade` and `connection`, and the method it started with.
pub fn extended_connect_to_upgrade(head: &mut RequestHead, protocol: Token) {
    head.method = head
        .headers
        .remove(ORIGINAL_METHOD_NAME)
        .and_then(|value| Method::from_bytes(value.as_bytes()).ok())
        .filter(|method| method != Method::CONNECT)
        .unwrap_or(Method::GET);
    insert_upgrade(&mut head.headers, &protocol);
    head.kind = RequestKind::Upgrade(protocol);
}

/// A 101 becomes the 200 that accepts an extended CONNECT; every answer loses its HTTP/1 fields.
pub fn response_to_extended_connect(head: &mut ResponseHead) {
    hop_by_hop::strip(&mut head.headers, false);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        head.status = StatusCode::OK;
        head.headers.remove(header::CONTENT_LENGTH);
    }
}

/// Exactly a 200 to an extended CONNECT becomes the 101 of the HTTP/1 form; any other answer stays as it is.
pub fn response_from_extended_connect(head: &mut ResponseHead, protocol: &Token) {
    if head.status != StatusCode::OK {
        return;
    }
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.headers.remove(header::CONTENT_LENGTH);
    insert_upgrade(&mut head.headers, protocol);
}

fn insert_upgrade(headers: &mut HeaderMap, protocol: &Token) {
    let value = match protocol.as_str() {
        // Nearly all of them, and no allocation.
        "websocket" => Ok(HeaderValue::from_static("websocket")),
        other => HeaderValue::from_str(other),
    };
    if let Ok(value) = value {
        headers.insert(header::UPGRADE, value);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
}
