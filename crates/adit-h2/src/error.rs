//! Errors of the `h2` crate in the model's terms.

use adit_http::{ErrorCode, StreamError};
use h2::Reason;

use crate::watch::CONDEMNED;

/// Envoy's detail for a message that breaks RFC 9113 section 8.
pub(crate) const MESSAGING: &str = "http2.violation.of.messaging.rule";
/// Envoy's detail for a broken connection.
pub(crate) const CODEC: &str = "http2.codec_error";

/// Envoy's detail for a peer that floods us.
const FLOOD: &str = "http2.inbound_flood";

/// Why a condemned connection ended, and the detail of it.
pub(crate) fn condemned(reason: Reason) -> (StreamError, &'static str) {
    match reason {
        Reason::ENHANCE_YOUR_CALM => (StreamError::Protocol("http2.flood"), FLOOD),
        _ => (StreamError::Protocol(CODEC), CODEC),
    }
}

pub(crate) fn code(reason: Reason) -> ErrorCode {
    ErrorCode::from_h2(reason.into())
}

pub(crate) fn reason(code: ErrorCode) -> Reason {
    Reason::from(code.to_h2())
}

/// Why one stream failed.
///
/// A GOAWAY of the peer fails only the streams it says it did not process, which may be tried again (RFC 9113 section
/// 6.8); a connection that ended under a stream cut it short, whatever ended it.
pub(crate) fn stream(error: &h2::Error) -> StreamError {
    match (error.reason(), error.is_reset(), error.is_go_away()) {
        (Some(reason), true, _) if error.is_remote() => StreamError::Reset(code(reason)),
        (Some(Reason::FLOW_CONTROL_ERROR), true, _) if error.is_library() => {
            StreamError::Protocol("http2.flow_control_error")
        }
        (Some(_), true, _) if error.is_library() => StreamError::Protocol(MESSAGING),
        (Some(_), _, true) if error.is_remote() => StreamError::Reset(ErrorCode::Refused),
        (Some(_), _, true) if error.is_library() => StreamError::Protocol(CODEC),
        (Some(reason), ..) => StreamError::Local(code(reason)),
        (None, ..) if is_condemned(error) => StreamError::Protocol(CODEC),
        (None, ..) => StreamError::Truncated,
    }
}

/// Whether we ended the connection for what the peer sent.
fn is_condemned(error: &h2::Error) -> bool {
    let text = error.get_io().and_then(|io| io.get_ref()).map(|cause| cause.to_string());
    text.is_some_and(|text| text == CONDEMNED)
}

/// Why a connection ended.
pub(crate) fn connection(error: &h2::Error) -> StreamError {
    match error.reason() {
        Some(reason) if error.is_remote() => StreamError::Reset(code(reason)),
        Some(_) if error.is_library() => StreamError::Protocol(CODEC),
        Some(reason) => StreamError::Local(code(reason)),
        None => error.get_io().map_or(StreamError::Truncated, |io| std::io::Error::from(io.kind()).into()),
    }
}
