//! Why a stream ended other than by its end.

use std::fmt;

/// A stream error code, named as in RFC 9113 section 7, with total maps to and from HTTP/2 and HTTP/3 codes.
///
/// TCP has one code only (RST); a hop over TCP carries any of these as an RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Nothing went wrong: a graceful close of the stream.
    NoError,
    /// The peer broke the protocol.
    Protocol,
    /// Something failed inside the sender.
    Internal,
    /// Flow control was violated.
    FlowControl,
    /// SETTINGS were not acknowledged in time (HTTP/2 only).
    SettingsTimeout,
    /// A frame came for a stream that was closed.
    StreamClosed,
    /// A frame had a size that its type does not allow.
    FrameSize,
    /// The stream was refused before any processing: it may be tried again.
    Refused,
    /// The stream is no longer wanted.
    Cancel,
    /// Header compression state is lost.
    Compression,
    /// The TCP connection behind a CONNECT was reset or failed.
    Connect,
    /// The peer causes too much load.
    EnhanceYourCalm,
    /// The transport is not secure enough.
    InadequateSecurity,
    /// HTTP/1.1 is required for this request.
    Http11Required,
    /// The request was not complete (HTTP/3 `H3_REQUEST_INCOMPLETE`).
    RequestIncomplete,
    /// A code without a meaning here, carried as it came.
    Other(u32),
}

impl ErrorCode {
    /// The HTTP/2 code (RFC 9113 section 7).
    pub fn to_h2(self) -> u32 {
        match self {
            Self::NoError => 0x0,
            Self::Protocol => 0x1,
            Self::Internal | Self::RequestIncomplete => 0x2,
            Self::FlowControl => 0x3,
            Self::SettingsTimeout => 0x4,
            Self::StreamClosed => 0x5,
            Self::FrameSize => 0x6,
            Self::Refused => 0x7,
            Self::Cancel => 0x8,
            Self::Compression => 0x9,
            Self::Connect => 0xa,
            Self::EnhanceYourCalm => 0xb,
            Self::InadequateSecurity => 0xc,
            Self::Http11Required => 0xd,
            Self::Other(code) => code,
        }
    }

    /// From an HTTP/2 code.
    pub fn from_h2(code: u32) -> Self {
        match code {
            0x0 => Self::NoError,
            0x1 => Self::Protocol,
            0x2 => Self::Internal,
            0x3 => Self::FlowControl,
            0x4 => Self::SettingsTimeout,
            0x5 => Self::StreamClosed,
            0x6 => Self::FrameSize,
            0x7 => Self::Refused,
            0x8 => Self::Cancel,
            0x9 => Self::Compression,
            0xa => Self::Connect,
            0xb => Self::EnhanceYourCalm,
            0xc => Self::InadequateSecurity,
            0xd => Self::Http11Required,
            other => Self::Other(other),
        }
    }

    /// The HTTP/3 code (RFC 9114 section 8.1).
    pub fn to_h3(self) -> u64 {
        match self {
            Self::NoError => 0x100,
            Self::Protocol | Self::FlowControl | Self::Compression => 0x101,
            Self::Internal | Self::SettingsTimeout | Self::InadequateSecurity => 0x102,
            Self::StreamClosed => 0x104,
            Self::FrameSize => 0x106,
            Self::EnhanceYourCalm => 0x107,
            Self::Refused => 0x10b,
            Self::Cancel => 0x10c,
            Self::RequestIncomplete => 0x10d,
            Self::Connect => 0x10f,
            Self::Http11Required => 0x110,
            Self::Other(code) => u64::from(code),
        }
    }

    /// From an HTTP/3 code; a code beyond 32 bits without a meaning here becomes [`ErrorCode::Internal`].
    pub fn from_h3(code: u64) -> Self {
        match code {
            0x100 => Self::NoError,
            0x101 | 0x103 | 0x105 | 0x108 | 0x109 | 0x10a | 0x10e => Self::Protocol,
            0x102 => Self::Internal,
            0x104 => Self::StreamClosed,
            0x106 => Self::FrameSize,
            0x107 => Self::EnhanceYourCalm,
            0x10b => Self::Refused,
            0x10c => Self::Cancel,
            0x10d => Self::RequestIncomplete,
            0x10f => Self::Connect,
            0x110 => Self::Http11Required,
            other => u32::try_from(other).map_or(Self::Internal, Self::Other),
        }
    }
}

/// Why a half of a stream failed. An end is never one of these, and none of these is ever reported as an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamError {
    /// The peer reset the stream: RST_STREAM, RESET_STREAM, or a TCP RST (then the code is [`ErrorCode::Cancel`]).
    Reset(ErrorCode),
    /// The peer reads no more: STOP_SENDING, or a write into a connection that the peer closed.
    Stopped(ErrorCode),
    /// The connection ended before the stream did: a body cut short, a connection lost under a live stream.
    Truncated,
    /// The peer broke the protocol; the text is Envoy's response-code detail, such as `http1.codec_error`.
    Protocol(&'static str),
    /// A limit of ours was exceeded; the text is Envoy's response-code detail.
    TooLarge(&'static str),
    /// We ended the stream ourselves.
    Local(ErrorCode),
    /// A wait of ours ended without what it waited for.
    TimedOut,
    /// The socket failed otherwise.
    Io(std::io::ErrorKind),
}

impl StreamError {
    /// The code with which the other side of a tunnel is reset when this side failed so.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Reset(code) | Self::Stopped(code) | Self::Local(code) => *code,
            Self::Truncated | Self::Io(_) => ErrorCode::Connect,
            Self::Protocol(_) => ErrorCode::Protocol,
            Self::TooLarge(_) => ErrorCode::EnhanceYourCalm,
            Self::TimedOut => ErrorCode::Cancel,
        }
    }
}

impl From<std::io::Error> for StreamError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Self::Reset(ErrorCode::Cancel),
            ErrorKind::BrokenPipe | ErrorKind::NotConnected => Self::Stopped(ErrorCode::Cancel),
            ErrorKind::UnexpectedEof => Self::Truncated,
            ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Io(kind),
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "reset by the peer ({code:?})"),
            Self::Stopped(code) => write!(f, "the peer reads no more ({code:?})"),
            Self::Truncated => f.write_str("the connection ended before the stream"),
            Self::Protocol(detail) => write!(f, "protocol error: {detail}"),
            Self::TooLarge(detail) => write!(f, "limit exceeded: {detail}"),
            Self::Local(code) => write!(f, "reset by us ({code:?})"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Io(kind) => write!(f, "socket error: {kind}"),
        }
    }
}

impl std::error::Error for StreamError {}
