//! Codes of HTTP/3 and errors of quinn in the model's terms.

use adit_http::{ErrorCode, StreamError};
use quinn::{ConnectionError, VarInt};

/// Envoy's detail for a message that breaks RFC 9114 section 4.
pub(crate) const MESSAGING: &str = "http3.violation.of.messaging.rule";
/// Envoy's detail for a broken connection.
pub(crate) const CODEC: &str = "http3.codec_error";

/// Codes of RFC 9114 section 8.1 and RFC 9204 section 6.
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0x100;
    pub(crate) const INTERNAL_ERROR: u32 = 0x102;
    pub(crate) const STREAM_CREATION_ERROR: u32 = 0x103;
    pub(crate) const CLOSED_CRITICAL_STREAM: u32 = 0x104;
    pub(crate) const FRAME_UNEXPECTED: u32 = 0x105;
    pub(crate) const FRAME_ERROR: u32 = 0x106;
    pub(crate) const EXCESSIVE_LOAD: u32 = 0x107;
    pub(crate) const ID_ERROR: u32 = 0x108;
    pub(crate) const SETTINGS_ERROR: u32 = 0x109;
    pub(crate) const MISSING_SETTINGS: u32 = 0x10a;
    pub(crate) const REQUEST_REJECTED: u32 = 0x10b;
    pub(crate) const REQUEST_CANCELLED: u32 = 0x10c;
    pub(crate) const REQUEST_INCOMPLETE: u32 = 0x10d;
    pub(crate) const MESSAGE_ERROR: u32 = 0x10e;
    pub(crate) const DATAGRAM_ERROR: u32 = 0x33;
    pub(crate) const QPACK_DECOMPRESSION_FAILED: u32 = 0x200;
    pub(crate) const QPACK_ENCODER_STREAM_ERROR: u32 = 0x201;
    pub(crate) const QPACK_DECODER_STREAM_ERROR: u32 = 0x202;
}

/// What ends a whole connection: the code it is closed with, and a reason for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fatal(pub(crate) u32, pub(crate) &'static str);

/// The code as quinn takes it.
pub(crate) fn wire(code: ErrorCode) -> VarInt {
    VarInt::from_u64(code.to_h3()).unwrap_or(VarInt::from_u32(code::INTERNAL_ERROR))
}

pub(crate) fn from_wire(code: VarInt) -> ErrorCode {
    match code.into_inner() {
        // A frame of this stream was unexpected, or its message malformed: the model has one word for both.
        0x33 | 0x200..=0x202 => ErrorCode::Protocol,
        code => ErrorCode::from_h3(code),
    }
}

/// Why a half failed whose connection was lost.
pub(crate) fn lost(error: &ConnectionError) -> StreamError {
    match error {
        ConnectionError::TimedOut => StreamError::TimedOut,
        ConnectionError::LocallyClosed => StreamError::Local(ErrorCode::NoError),
        _ => StreamError::Truncated,
    }
}

/// How a connection ended; `None` is a proper end.
pub(crate) fn connection(error: &ConnectionError) -> Option<StreamError> {
    match error {
        ConnectionError::LocallyClosed => None,
        // Code 0 is what a QUIC endpoint says that closes without knowing HTTP.
        ConnectionError::ApplicationClosed(close) if matches!(close.error_code.into_inner(), 0 | 0x100) => None,
        ConnectionError::ApplicationClosed(close) => Some(StreamError::Reset(from_wire(close.error_code))),
        ConnectionError::TimedOut => Some(StreamError::TimedOut),
        ConnectionError::VersionMismatch => Some(StreamError::Protocol("quic.version_mismatch")),
        ConnectionError::TransportError(_) => Some(StreamError::Protocol("quic.transport_error")),
        ConnectionError::ConnectionClosed(_) | ConnectionError::Reset | ConnectionError::CidsExhausted => {
            Some(StreamError::Truncated)
        }
    }
}
