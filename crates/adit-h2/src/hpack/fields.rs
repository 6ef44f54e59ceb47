//! Fields, and the static table of RFC 7541 appendix A.

use http::header::{self, HeaderName, HeaderValue};

use super::STATIC_LEN;

/// What a decoded field is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A pseudo-header field that is known; of its value only the octets are checked.
    Pseudo(Pseudo, HeaderValue),
    /// Any other field.
    Regular(HeaderName, HeaderValue),
    /// A name or value with octets that RFC 9113 section 8.2.1 forbids, upper case among them, or an unknown pseudo-header
    /// field: the message is malformed, the table as good as before.
    Malformed,
}

/// The pseudo-header fields of RFC 9113 section 8.3 and RFC 8441.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pseudo {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:protocol`
    Protocol,
    /// `:status`
    Status,
}

impl Pseudo {
    /// The name with its colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Protocol => ":protocol",
            Self::Status => ":status",
        }
    }

    fn from_bytes(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            _ => return None,
        })
    }
}

/// A field's name, which another one may borrow.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Pseudo(Pseudo),
    Regular(HeaderName),
    Malformed,
}

impl Name {
    pub(super) fn from_bytes(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            Pseudo::from_bytes(name).map_or(Self::Malformed, Self::Pseudo)
        } else {
            HeaderName::from_lowercase(name).map_or(Self::Malformed, Self::Regular)
        }
    }

    /// The field of this name; a value of `None` has octets that it must not have.
    pub(super) fn with(self, value: Option<HeaderValue>) -> Field {
        match (self, value) {
            (Self::Pseudo(name), Some(value)) => Field::Pseudo(name, value),
            (Self::Regular(name), Some(value)) => Field::Regular(name, value),
            _ => Field::Malformed,
        }
    }
}

/// An entry of a table, its field ready to be given out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    /// `None` if it has octets that no value may have.
    pub(super) value: Option<HeaderValue>,
    pub(super) name_len: u32,
    pub(super) value_len: u32,
}

impl Entry {
    #[inline]
    pub(super) fn field(&self) -> Field {
        match (&self.name, &self.value) {
            (Name::Regular(name), Some(value)) => Field::Regular(name.clone(), value.clone()),
            (Name::Pseudo(name), Some(value)) => Field::Pseudo(*name, value.clone()),
            _ => Field::Malformed,
        }
    }

    /// Of name and value.
    #[inline]
    pub(super) fn octets(&self) -> u32 {
        self.name_len.saturating_add(self.value_len)
    }
}

/// RFC 7541 appendix A; the first one has index 1.
pub(super) static STATIC: [Entry; STATIC_LEN] = [
    pseudo(Pseudo::Authority, ""),
    pseudo(Pseudo::Method, "GET"),
    pseudo(Pseudo::Method, "POST"),
    pseudo(Pseudo::Path, "/"),
    pseudo(Pseudo::Path, "/index.html"),
    pseudo(Pseudo::Scheme, "http"),
    pseudo(Pseudo::Scheme, "https"),
    pseudo(Pseudo::Status, "200"),
    pseudo(Pseudo::Status, "204"),
    pseudo(Pseudo::Status, "206"),
    pseudo(Pseudo::Status, "304"),
    pseudo(Pseudo::Status, "400"),
    pseudo(Pseudo::Status, "404"),
    pseudo(Pseudo::Status, "500"),
    regular("accept-charset", ""),
    regular("accept-encoding", "gzip, deflate"),
    regular("accept-language", ""),
    regular("accept-ranges", ""),
    regular("accept", ""),
    regular("access-control-allow-origin", ""),
    regular("age", ""),
    regular("allow", ""),
    regular("authorization", ""),
    regular("cache-control", ""),
    regular("content-disposition", ""),
    regular("content-encoding", ""),
    regular("content-language", ""),
    regular("content-length", ""),
    regular("content-location", ""),
    regular("content-range", ""),
    regular("content-type", ""),
    regular("cookie", ""),
    regular("date", ""),
    regular("etag", ""),
    regular("expect", ""),
    regular("expires", ""),
    regular("from", ""),
    regular("host", ""),
    regular("if-match", ""),
    regular("if-modified-since", ""),
    regular("if-none-match", ""),
    regular("if-range", ""),
    regular("if-unmodified-since", ""),
    regular("last-modified", ""),
    regular("link", ""),
    regular("location", ""),
    regular("max-forwards", ""),
    regular("proxy-authenticate", ""),
    regular("proxy-authorization", ""),
    regular("range", ""),
    regular("referer", ""),
    regular("refresh", ""),
    regular("retry-after", ""),
    regular("server", ""),
    regular("set-cookie", ""),
    regular("strict-transport-security", ""),
    regular("transfer-encoding", ""),
    regular("user-agent", ""),
    regular("vary", ""),
    regular("via", ""),
    regular("www-authenticate", ""),
];

const fn pseudo(name: Pseudo, value: &'static str) -> Entry {
    entry(Name::Pseudo(name), name.as_str().len(), value)
}

const fn regular(name: &'static str, value: &'static str) -> Entry {
    entry(Name::Regular(HeaderName::from_static(name)), name.len(), value)
}

const fn entry(name: Name, name_len: usize, value: &'static str) -> Entry {
    let value_len = value.len() as u32;
    Entry { name, value: Some(HeaderValue::from_static(value)), name_len: name_len as u32, value_len }
}

/// The index of the only entry of the static table with this name, or 0.
#[rustfmt::skip]
pub(super) fn static_index(name: &HeaderName) -> u8 {
    match *name {
        header::ACCEPT_CHARSET => 15,
        header::ACCEPT_ENCODING => 16,
        header::ACCEPT_LANGUAGE => 17,
        header::ACCEPT_RANGES => 18,
        header::ACCEPT => 19,
        header::ACCESS_CONTROL_ALLOW_ORIGIN => 20,
        header::AGE => 21,
        header::ALLOW => 22,
        header::AUTHORIZATION => 23,
        header::CACHE_CONTROL => 24,
        header::CONTENT_DISPOSITION => 25,
        header::CONTENT_ENCODING => 26,
        header::CONTENT_LANGUAGE => 27,
        header::CONTENT_LENGTH => 28,
        header::CONTENT_LOCATION => 29,
        header::CONTENT_RANGE => 30,
        header::CONTENT_TYPE => 31,
        header::COOKIE => 32,
        header::DATE => 33,
        header::ETAG => 34,
        header::EXPECT => 35,
        header::EXPIRES => 36,
        header::FROM => 37,
        header::HOST => 38,
        header::IF_MATCH => 39,
        header::IF_MODIFIED_SINCE => 40,
        header::IF_NONE_MATCH => 41,
        header::IF_RANGE => 42,
        header::IF_UNMODIFIED_SINCE => 43,
        header::LAST_MODIFIED => 44,
        header::LINK => 45,
        header::LOCATION => 46,
        header::MAX_FORWARDS => 47,
        header::PROXY_AUTHENTICATE => 48,
        header::PROXY_AUTHORIZATION => 49,
        header::RANGE => 50,
        header::REFERER => 51,
        header::REFRESH => 52,
        header::RETRY_AFTER => 53,
        header::SERVER => 54,
        header::SET_COOKIE => 55,
        header::STRICT_TRANSPORT_SECURITY => 56,
        header::TRANSFER_ENCODING => 57,
        header::USER_AGENT => 58,
        header::VARY => 59,
        header::VIA => 60,
        header::WWW_AUTHENTICATE => 61,
        _ => 0,
    }
}
