//! Why an upstream stream failed, in Envoy's words (`StreamResetReason`).

use adit_filter::ResponseFlag;
use adit_filter::upstream::FailureKind;
use adit_http::{ErrorCode, StreamError};
use http::Version;

/// Why an upstream stream failed before it was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetReason {
    RemoteConnectionFailure,
    /// The hop limit of internal listeners: to others a connection failure, but never tried again.
    Loop,
    LocalConnectionFailure,
    ConnectionTimeout,
    ConnectionTermination,
    Overflow,
    RemoteReset,
    RemoteRefused,
    LocalReset,
    ProtocolError,
    ConnectError,
}

impl ResetReason {
    /// From a failure of a stream that was open. HTTP/1 has no stream to reset but the connection.
    pub(crate) fn of_stream(error: &StreamError, version: Version) -> Self {
        match error {
            StreamError::Reset(_) | StreamError::Stopped(_) if version < Version::HTTP_2 => Self::ConnectionTermination,
            StreamError::Reset(ErrorCode::Refused) => Self::RemoteRefused,
            StreamError::Reset(ErrorCode::Connect) => Self::ConnectError,
            StreamError::Reset(_) | StreamError::Stopped(_) => Self::RemoteReset,
            StreamError::Truncated | StreamError::Io(_) | StreamError::TimedOut => Self::ConnectionTermination,
            StreamError::Protocol(_) | StreamError::TooLarge(_) => Self::ProtocolError,
            StreamError::Local(_) => Self::LocalReset,
        }
    }

    /// From a failed connect; `None` where there was no host to connect to.
    pub(crate) fn of_connect(kind: FailureKind) -> Option<Self> {
        Some(match kind {
            FailureKind::Remote => Self::RemoteConnectionFailure,
            FailureKind::Loop => Self::Loop,
            FailureKind::Local => Self::LocalConnectionFailure,
            FailureKind::Timeout => Self::ConnectionTimeout,
            FailureKind::Overflow => Self::Overflow,
            FailureKind::Protocol => Self::ProtocolError,
            FailureKind::NoHealthyHost => return None,
        })
    }

    pub(crate) fn is_connect_failure(self) -> bool {
        matches!(self, Self::RemoteConnectionFailure | Self::LocalConnectionFailure | Self::ConnectionTimeout)
    }

    /// As bodies and details have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RemoteConnectionFailure | Self::Loop => "remote connection failure",
            Self::LocalConnectionFailure => "local connection failure",
            Self::ConnectionTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::Overflow => "overflow",
            Self::RemoteReset => "remote reset",
            Self::RemoteRefused => "remote refused stream reset",
            Self::LocalReset => "local reset",
            Self::ProtocolError => "protocol error",
            Self::ConnectError => "remote error with CONNECT request",
        }
    }

    /// The response-code details of an answer that was begun and then reset.
    pub(crate) fn after_response(self) -> String {
        format!("upstream_reset_after_response_started{{{}}}", self.as_str()).replace(' ', "_")
    }

    pub(crate) fn flag(self) -> ResponseFlag {
        match self {
            Self::RemoteConnectionFailure | Self::Loop | Self::LocalConnectionFailure | Self::ConnectionTimeout => {
                ResponseFlag::UpstreamConnectionFailure
            }
            Self::ConnectionTermination => ResponseFlag::UpstreamConnectionTermination,
            Self::Overflow => ResponseFlag::UpstreamOverflow,
            Self::RemoteReset | Self::RemoteRefused | Self::ConnectError => ResponseFlag::UpstreamRemoteReset,
            Self::LocalReset => ResponseFlag::LocalReset,
            Self::ProtocolError => ResponseFlag::UpstreamProtocolError,
        }
    }
}
