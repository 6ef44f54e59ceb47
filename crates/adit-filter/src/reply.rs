//! Answers that adit makes itself.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};

use crate::ResponseFlag;

/// An answer that does not come from an upstream. The connection manager adds `content-length`, `content-type`, `date`
/// and `server`, applies `local_reply_config`, and logs the details and the flag.
#[derive(Debug, Clone)]
pub struct LocalReply {
    /// The status.
    pub status: StatusCode,
    /// The body; empty for none.
    pub body: Cow<'static, str>,
    /// `%RESPONSE_CODE_DETAILS%`, Envoy's words.
    pub details: Cow<'static, str>,
    /// `%RESPONSE_FLAGS%`.
    pub flag: Option<ResponseFlag>,
    /// Fields to set on the answer.
    pub headers: HeaderMap,
}

impl LocalReply {
    /// An answer without a body.
    pub fn new(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Self {
        Self { status, body: Cow::Borrowed(""), details: details.into(), flag: None, headers: HeaderMap::new() }
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Cow<'static, str>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a flag.
    #[must_use]
    pub fn flag(mut self, flag: ResponseFlag) -> Self {
        self.flag = Some(flag);
        self
    }
}
