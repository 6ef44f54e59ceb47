//! Codes of RFC 9113 section 7 and what became of a stream or a connection, in the model's terms.

use adit_http::{ErrorCode, StreamError};

/// Envoy's detail for a message that breaks RFC 9113 section 8.
pub(crate) const MESSAGING: &str = "http2.violation.of.messaging.rule";
/// Envoy's detail for a broken connection.
pub(crate) const CODEC: &str = "http2.codec_error";
/// Envoy's detail for a peer that floods us.
const FLOOD: &str = "http2.inbound_flood";

/// For a half asked for out of order.
pub(crate) const MISUSED: StreamError = StreamError::Local(ErrorCode::Internal);

/// Error codes (RFC 9113 section 7).
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0x0;
    pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub(crate) const STREAM_CLOSED: u32 = 0x5;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 0x6;
    pub(crate) const REFUSED_STREAM: u32 = 0x7;
    pub(crate) const CANCEL: u32 = 0x8;
    pub(crate) const COMPRESSION_ERROR: u32 = 0x9;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// Why a stream ended before both its halves did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// RST_STREAM from the peer.
    Peer(u32),
    /// Somebody above reset it, or ended its connection.
    Asked(u32),
    /// What the peer sent on it breaks RFC 9113: we reset it.
    Fault(u32),
    /// The peer's GOAWAY says that it was not processed: it may be tried again (RFC 9113 section 6.8).
    Unprocessed,
    /// Its connection ended under it.
    Truncated,
    /// What the peer sent cost it its connection.
    Broken,
}

impl Cause {
    /// For the receiving half.
    pub(crate) fn error(self) -> StreamError {
        match self {
            Self::Peer(code) => StreamError::Reset(ErrorCode::from_h2(code)),
            Self::Asked(code) => StreamError::Local(ErrorCode::from_h2(code)),
            Self::Fault(code::FLOW_CONTROL_ERROR) => StreamError::Protocol("http2.flow_control_error"),
            Self::Fault(_) => StreamError::Protocol(MESSAGING),
            Self::Unprocessed => StreamError::Reset(ErrorCode::Refused),
            Self::Truncated => StreamError::Truncated,
            Self::Broken => StreamError::Protocol(CODEC),
        }
    }

    /// For the sending half.
    pub(crate) fn stopped(self) -> StreamError {
        match self {
            // A peer that has all it wanted: only this direction ends (RFC 9113 section 8.1).
            Self::Peer(code::NO_ERROR) => StreamError::Stopped(ErrorCode::NoError),
            other => other.error(),
        }
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its peer closed it, or it was to be closed once it had no stream.
    Closed,
    /// The same, after a GOAWAY of the peer with this code.
    Peer(u32),
    /// We ended it for what the peer sent, with this code.
    Fault(u32),
    /// Somebody above ended it.
    Asked(u32),
    /// The transport failed, or ended in the middle of a frame.
    Lost(StreamError),
}

impl End {
    /// As the result of who drove it, and the detail of it.
    pub(crate) fn result(self) -> Result<(), (StreamError, &'static str)> {
        match self {
            Self::Closed | Self::Asked(_) => Ok(()),
            Self::Peer(code) => Err((StreamError::Reset(ErrorCode::from_h2(code)), CODEC)),
            Self::Fault(code::ENHANCE_YOUR_CALM) => Err((StreamError::Protocol("http2.flood"), FLOOD)),
            Self::Fault(_) => Err((StreamError::Protocol(CODEC), CODEC)),
            Self::Lost(error) => Err((error, CODEC)),
        }
    }

    /// What it is for the streams that live.
    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::Closed | Self::Peer(_) | Self::Lost(_) => Cause::Truncated,
            Self::Fault(_) => Cause::Broken,
            Self::Asked(code) => Cause::Asked(code),
        }
    }
}
