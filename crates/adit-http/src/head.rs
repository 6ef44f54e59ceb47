//! Heads of requests and responses.

use std::borrow::Cow;
use std::fmt;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode, Version, header};

/// The whole value of an `Upgrade` field, or of `:protocol`: what a client asks to switch to.
///
/// Compares without case, as Envoy's upgrade types do; keeps the spelling it came with.
#[derive(Debug, Clone)]
pub struct Token(Cow<'static, str>);

impl Token {
    /// A token of visible ASCII, spaces and tabs (an `Upgrade` value may be a list); `None` when empty or otherwise.
    pub fn new(value: &str) -> Option<Self> {
        // Nearly all of them, and copied on the way of each.
        if value == "websocket" {
            return Some(Self(Cow::Borrowed("websocket")));
        }
        let ok = !value.is_empty() && value.bytes().all(|b| matches!(b, b' ' | b'\t' | 0x21..=0x7e));
        ok.then(|| Self(Cow::Owned(value.to_owned())))
    }

    /// As it was spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `websocket`.
    pub fn is_websocket(&self) -> bool {
        self.0.eq_ignore_ascii_case("websocket")
    }

    /// Whether this is `connect-udp` (RFC 9298).
    pub fn is_connect_udp(&self) -> bool {
        self.0.eq_ignore_ascii_case("connect-udp")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Token {}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request asks of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestKind {
    /// An ordinary exchange of messages.
    Plain,
    /// An HTTP/1.1 upgrade, or an extended CONNECT (RFC 8441, RFC 9220), to this protocol.
    Upgrade(Token),
    /// A plain CONNECT to this target, as the client spelled it (also `:protocol: bytestream`).
    Connect(Authority),
}

impl RequestKind {
    /// The name under which `upgrade_configs` are looked up: the upgrade token, or `CONNECT`; `None` for a plain request.
    pub fn upgrade_type(&self) -> Option<&str> {
        match self {
            Self::Plain => None,
            Self::Upgrade(token) => Some(token.as_str()),
            Self::Connect(_) => Some("CONNECT"),
        }
    }

    /// Whether this asks for a tunnel.
    pub fn is_tunnel(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// Over TLS or QUIC.
    Https,
}

impl Scheme {
    /// As in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A request's head, the same for every HTTP version.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// What the request asks of its connection.
    pub kind: RequestKind,
    /// The method; for an extended CONNECT the method of its HTTP/1 form (GET unless the sender named another).
    pub method: Method,
    /// The scheme of the target, where the version carries one or the transport implies it.
    pub scheme: Scheme,
    /// Host and port: the `host` field, `:authority`, or a CONNECT's target. Routing may change it; the target of a
    /// CONNECT stays in [`RequestKind::Connect`].
    pub authority: Option<Authority>,
    /// Path and query; `None` for a plain CONNECT.
    pub path: Option<PathAndQuery>,
    /// The version of the hop by which the request came.
    pub version: Version,
    /// The header fields, without `host`. An upgrade keeps `upgrade` and `connection`.
    pub headers: HeaderMap,
}

impl RequestHead {
    /// A head with nothing but a kind and a method.
    pub fn new(kind: RequestKind, method: Method) -> Self {
        Self {
            kind,
            method,
            scheme: Scheme::Http,
            authority: None,
            path: None,
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
        }
    }

    /// The first value of a field, pseudo fields (`:method`, `:path`, `:authority`, `host`, `:scheme`, `:protocol`)
    /// included. `name` is lower case.
    pub fn field(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let text = match name {
            ":method" => Some(self.method.as_str()),
            ":path" => self.path.as_ref().map(PathAndQuery::as_str),
            ":authority" | "host" => self.authority.as_ref().map(Authority::as_str),
            ":scheme" => Some(self.scheme.as_str()),
            ":protocol" => match &self.kind {
                RequestKind::Upgrade(token) if self.version >= Version::HTTP_2 => Some(token.as_str()),
                _ => None,
            },
            _ => return self.headers.get(name).map(|value| Cow::Borrowed(value.as_bytes())),
        };
        text.map(|text| Cow::Borrowed(text.as_bytes()))
    }

    /// The path without its query; empty when there is no path.
    pub fn path_only(&self) -> &str {
        self.path.as_ref().map_or("", PathAndQuery::path)
    }

    /// The host without its port; empty when there is no authority.
    pub fn host(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::host)
    }

    /// Whether the request announces a body by its framing fields (Content-Length above 0, or Transfer-Encoding).
    pub fn announces_body(&self) -> bool {
        self.headers.contains_key(header::TRANSFER_ENCODING)
            || self.headers.get(header::CONTENT_LENGTH).is_some_and(|value| value.as_bytes() != b"0")
    }
}

/// A response's head, the same for every HTTP version.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status; 101 is an accepted upgrade on every version.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The version of the hop by which the response came.
    pub version: Version,
}

impl ResponseHead {
    /// A head with a status and no fields.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), version: Version::HTTP_11 }
    }

    /// Whether this answer accepts what a request of `kind` asked for: 101 for an upgrade, any 2xx for a CONNECT.
    ///
    /// Codecs of HTTP/2 and HTTP/3 turn exactly a 200 to an extended CONNECT into the 101.
    pub fn accepts(&self, kind: &RequestKind) -> bool {
        match kind {
            RequestKind::Plain => false,
            RequestKind::Upgrade(_) => self.status == StatusCode::SWITCHING_PROTOCOLS,
            RequestKind::Connect(_) => self.status.is_success(),
        }
    }
}
