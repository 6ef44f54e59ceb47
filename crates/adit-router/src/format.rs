//! Header values and bodies that may be format strings.

use adit_filter::LogContext;
use adit_match::ConfigError;
use http::HeaderValue;

/// A fixed text, or one that a stream's facts are put into.
#[derive(Debug)]
pub(crate) enum Template {
    Literal(HeaderValue),
}

impl Template {
    pub(crate) fn literal(value: HeaderValue) -> Self {
        Self::Literal(value)
    }

    /// `%%` is a percent sign; any other `%` begins an operator.
    pub(crate) fn new(text: &str, at: &str) -> Result<Self, ConfigError> {
        HeaderValue::from_str(text)
            .map(Self::Literal)
            .map_err(|_| ConfigError::new(at, "not a header value"))
    }

    /// The value for a stream; `None` where it is no header value.
    pub(crate) fn header(&self, context: &LogContext<'_>) -> Option<HeaderValue> {
        let _ = context;
        match self {
            Self::Literal(value) => Some(value.clone()),
        }
    }
}
