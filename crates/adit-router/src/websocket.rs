//! The part of the WebSocket handshake that an HTTP/2 or HTTP/3 hop leaves out (RFC 8441 section 5): the key and the answer
//! to it. A key that the client sent, and the answer to that, pass untouched and unchecked.

use std::borrow::Cow;

use adit_http::websocket::{accept_for, key_from};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use http::{HeaderValue, Version, header};

/// The handshake of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    /// The key that we made.
    key: Option<String>,
}

impl Handshake {
    /// Makes a key where a WebSocket that came without one by HTTP/2 or HTTP/3 leaves by HTTP/1.
    pub(crate) fn begin(head: &mut Cow<'_, RequestHead>, upstream: Version) -> Self {
        let native = head.version >= Version::HTTP_2 && is_websocket(head);
        if !native || upstream >= Version::HTTP_2 || head.headers.contains_key(header::SEC_WEBSOCKET_KEY) {
            return Self::default();
        }
        let key = key_from(fastrand::u128(..).to_be_bytes());
        let head = head.to_mut();
        if let Ok(value) = HeaderValue::from_str(&key) {
            head.headers.insert(header::SEC_WEBSOCKET_KEY, value);
        }
        head.headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        Self { key: Some(key) }
    }

    /// Completes an accepting answer; `false` when the upstream did not answer the key that we made.
    pub(crate) fn finish(&self, request: &RequestHead, upstream: Version, head: &mut ResponseHead) -> bool {
        if let Some(key) = &self.key {
            let answer = head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            return answer.is_some_and(|answer| answer.as_bytes() == accept_for(key.as_bytes()).as_bytes());
        }
        let native = upstream >= Version::HTTP_2 && !head.headers.contains_key(header::SEC_WEBSOCKET_ACCEPT);
        if native
            && is_websocket(request)
            && request.version < Version::HTTP_2
            && let Some(key) = request.headers.get(header::SEC_WEBSOCKET_KEY)
            && let Ok(value) = HeaderValue::from_str(&accept_for(key.as_bytes()))
        {
            head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, value);
        }
        true
    }
}

fn is_websocket(head: &RequestHead) -> bool {
    matches!(&head.kind, RequestKind::Upgrade(token) if token.is_websocket())
}
