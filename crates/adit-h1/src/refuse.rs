//! Why a head is refused, and what is answered.

use adit_http::StreamError;
use http::StatusCode;

/// A head that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Answered by a server; a client turns every refusal into an error.
    pub(crate) status: StatusCode,
    /// Envoy's response-code detail.
    pub(crate) details: &'static str,
}

impl Refusal {
    pub(crate) const CODEC: Self = Self::bad("http1.codec_error");
    pub(crate) const URL: Self = Self::bad("http1.invalid_url");
    pub(crate) const SCHEME: Self = Self::bad("http1.invalid_scheme");
    pub(crate) const AUTHORITY: Self = Self::bad("http.invalid_authority");
    pub(crate) const CHARACTERS: Self = Self::bad("http1.invalid_characters");
    pub(crate) const FRAGMENT: Self = Self::bad("path_normalization_failed");
    pub(crate) const BODY_DISALLOWED: Self = Self::bad("http1.body_disallowed");
    pub(crate) const LENGTH_AND_CHUNKED: Self = Self::bad("http1.content_length_and_chunked_not_allowed");
    pub(crate) const CODING_NOT_ALLOWED: Self = Self::bad("http1.transfer_encoding_not_allowed");
    pub(crate) const LENGTH_NOT_ALLOWED: Self = Self::bad("http1.content_length_not_allowed");
    pub(crate) const TRANSFER_ENCODING: Self =
        Self { status: StatusCode::NOT_IMPLEMENTED, details: "http1.invalid_transfer_encoding" };
    pub(crate) const HEAD_TOO_LARGE: Self =
        Self { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, details: "http1.headers_too_large" };
    pub(crate) const TOO_MANY_HEADERS: Self =
        Self { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, details: "http1.too_many_headers" };
    pub(crate) const LOW_VERSION: Self = Self { status: StatusCode::UPGRADE_REQUIRED, details: "low_version" };
    pub(crate) const ABSOLUTE_URL: Self = Self { status: StatusCode::NOT_FOUND, details: "absolute_path_rejected" };
    pub(crate) const HEAD_TIMEOUT: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, details: "request_header_timeout" };

    const fn bad(details: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, details }
    }

    pub(crate) fn error(self) -> StreamError {
        if self.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
            StreamError::TooLarge(self.details)
        } else if self == Self::HEAD_TIMEOUT {
            StreamError::TimedOut
        } else {
            StreamError::Protocol(self.details)
        }
    }
}

impl From<httparse::Error> for Refusal {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TOO_MANY_HEADERS,
            _ => Self::CODEC,
        }
    }
}
