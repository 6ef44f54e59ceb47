//! What formats and access logs read of a stream or a connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adit_codec::Meter;
use adit_http::{RequestHead, ResponseHead};
use adit_io::{Address, ConnInfo, FilterState, Metadata};
use http::{HeaderMap, HeaderName, Version};

use crate::ResponseFlags;
use crate::upstream::Host;

/// What happened on one HTTP stream, or on one TCP connection where no HTTP is spoken.
#[derive(Clone)]
pub struct StreamInfo {
    /// `%START_TIME%`.
    pub start: SystemTime,
    /// The same moment on the monotonic clock; every [`Timing`] counts from it.
    pub started: Instant,
    /// The downstream connection.
    pub conn: Arc<ConnInfo>,
    /// `%PROTOCOL%`; `None` for TCP.
    pub protocol: Option<Version>,
    /// `%RESPONSE_CODE%`; 0 before there is one, and for TCP.
    pub response_code: u16,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Option<Cow<'static, str>>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination_details: Option<Cow<'static, str>>,
    /// `%RESPONSE_FLAGS%`.
    pub flags: ResponseFlags,
    /// `%BYTES_RECEIVED%`: body bytes from downstream.
    pub bytes_received: u64,
    /// `%BYTES_SENT%`: body bytes to downstream.
    pub bytes_sent: u64,
    /// What came and went beside those (`%DOWNSTREAM_WIRE_BYTES_SENT%`, `%DOWNSTREAM_HEADER_BYTES_SENT%` and their kin),
    /// where the codec tells.
    pub meter: Option<Arc<Meter>>,
    /// Phases, for `%REQUEST_DURATION%` and its kin.
    pub timing: Timing,
    /// The upstream, once one was chosen.
    pub upstream: Option<Box<UpstreamInfo>>,
    /// `%ROUTE_NAME%`.
    pub route_name: Option<Arc<str>>,
    /// `%FILTER_CHAIN_NAME%`.
    pub filter_chain_name: Option<Arc<str>>,
    /// `%LISTENER_NAME%`.
    pub listener_name: Option<Arc<str>>,
    /// Filter state: that of the connection, with the stream's own objects.
    pub state: FilterState,
    /// Dynamic metadata: that of the connection, with the stream's own.
    pub metadata: Metadata,
    /// `%DOWNSTREAM_LOCAL_CLOSE_REASON%`.
    pub local_close_reason: Option<Cow<'static, str>>,
    /// `%DOWNSTREAM_DETECTED_CLOSE_TYPE%`: `Normal`, `LocalReset` or `RemoteReset`.
    pub downstream_close_type: Option<&'static str>,
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub downstream_transport_failure: Option<Cow<'static, str>>,
    /// `%STREAM_ID%`: the request id where there is one.
    pub stream_id: Option<Arc<str>>,
}

impl StreamInfo {
    /// A stream that starts now on this connection.
    pub fn new(conn: Arc<ConnInfo>) -> Self {
        Self::started(conn, SystemTime::now(), tokio::time::Instant::now().into_std())
    }

    /// A stream that started then on this connection.
    #[inline]
    pub fn started(conn: Arc<ConnInfo>, start: SystemTime, started: Instant) -> Self {
        Self {
            start,
            started,
            conn,
            protocol: None,
            response_code: 0,
            details: None,
            termination_details: None,
            flags: ResponseFlags::default(),
            bytes_received: 0,
            bytes_sent: 0,
            meter: None,
            timing: Timing::default(),
            upstream: None,
            route_name: None,
            filter_chain_name: None,
            listener_name: None,
            state: FilterState::default(),
            metadata: Metadata::default(),
            local_close_reason: None,
            downstream_close_type: None,
            downstream_transport_failure: None,
            stream_id: None,
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.elapsed_at(tokio::time::Instant::now())
    }

    /// The time from the start to this moment.
    #[inline]
    pub fn elapsed_at(&self, now: tokio::time::Instant) -> Duration {
        let now = now.into_std();
        // Much happens at the start itself.
        if now == self.started { Duration::ZERO } else { now.saturating_duration_since(self.started) }
    }

    /// Bytes received beside the payload, and those of them that are header fields.
    pub fn overhead_received(&self) -> (u64, u64) {
        self.meter.as_ref().map_or((0, 0), |meter| meter.total_received())
    }

    /// Bytes sent beside the payload, and those of them that are header fields.
    pub fn overhead_sent(&self) -> (u64, u64) {
        self.meter.as_ref().map_or((0, 0), |meter| meter.total_sent())
    }

    /// The upstream's facts, made when first needed.
    pub fn upstream_mut(&mut self) -> &mut UpstreamInfo {
        self.upstream.get_or_insert_default()
    }
}

/// When the phases of a stream were over, counted from its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// The last byte of the request was received (`%REQUEST_DURATION%`).
    pub request_received: Option<Duration>,
    /// The first byte of the request went upstream.
    pub upstream_first_sent: Option<Duration>,
    /// The last byte of the request went upstream.
    pub upstream_last_sent: Option<Duration>,
    /// The first byte of the response came (`%RESPONSE_DURATION%`).
    pub upstream_first_received: Option<Duration>,
    /// The last byte of the response came.
    pub upstream_last_received: Option<Duration>,
    /// The first byte of the response went downstream.
    pub downstream_first_sent: Option<Duration>,
    /// The last byte of the response went downstream.
    pub downstream_last_sent: Option<Duration>,
    /// The stream or connection is over (`%DURATION%`).
    pub end: Option<Duration>,
}

/// What is known of the upstream of a stream.
#[derive(Clone, Default)]
pub struct UpstreamInfo {
    /// The host that was last tried.
    pub host: Option<Arc<dyn Host>>,
    /// `%UPSTREAM_CLUSTER%`.
    pub cluster: Option<Arc<str>>,
    /// `%CLUSTER_METADATA%`: the metadata of that cluster.
    pub cluster_metadata: Metadata,
    /// `%UPSTREAM_LOCAL_ADDRESS%`.
    pub local: Option<Address>,
    /// `%UPSTREAM_REMOTE_ADDRESS%`: the address dialled.
    pub remote: Option<Address>,
    /// `%UPSTREAM_CONNECTION_ID%`; 0 for none.
    pub connection_id: u64,
    /// The upstream connection's facts, where it stood.
    pub conn: Option<Arc<ConnInfo>>,
    /// `%UPSTREAM_PROTOCOL%`.
    pub protocol: Option<Version>,
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`.
    pub attempts: u32,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Option<Cow<'static, str>>,
    /// `%UPSTREAM_DETECTED_CLOSE_TYPE%`.
    pub close_type: Option<&'static str>,
    /// `%UPSTREAM_LOCAL_CLOSE_REASON%`.
    pub local_close_reason: Option<Cow<'static, str>>,
    /// `%UPSTREAM_CONNECTION_POOL_READY_DURATION%`.
    pub pool_ready: Option<Duration>,
    /// Payload sent to it.
    pub bytes_sent: u64,
    /// Payload received from it.
    pub bytes_received: u64,
    /// What came and went beside those (`%UPSTREAM_WIRE_BYTES_SENT%` and its kin), where the codec tells.
    pub meter: Option<Arc<Meter>>,
}

impl UpstreamInfo {
    /// Counts another attempt, with what those before it cost.
    pub fn measure(&mut self, meter: Option<Arc<Meter>>) {
        if let (Some(before), Some(meter)) = (&self.meter, &meter) {
            meter.add(before);
        }
        self.meter = meter.or(self.meter.take());
    }

    /// As [`StreamInfo::overhead_received`], of the upstream.
    pub fn overhead_received(&self) -> (u64, u64) {
        self.meter.as_ref().map_or((0, 0), |meter| meter.total_received())
    }

    /// As [`StreamInfo::overhead_sent`], of the upstream.
    pub fn overhead_sent(&self) -> (u64, u64) {
        self.meter.as_ref().map_or((0, 0), |meter| meter.total_sent())
    }
}

/// Why a log line is written (`%ACCESS_LOG_TYPE%`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "Envoy's own names, in envoy.data.accesslog.v3.AccessLogType")]
pub enum AccessLogType {
    #[default]
    NotSet,
    TcpUpstreamConnected,
    TcpPeriodic,
    TcpConnectionEnd,
    DownstreamStart,
    DownstreamPeriodic,
    DownstreamEnd,
    UpstreamPoolReady,
    UpstreamPeriodic,
    UpstreamEnd,
    DownstreamTunnelSuccessfullyEstablished,
    UdpTunnelUpstreamConnected,
    UdpPeriodic,
    UdpSessionEnd,
    TcpConnectionStart,
}

impl AccessLogType {
    /// As `%ACCESS_LOG_TYPE%` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSet => "NotSet",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::DownstreamStart => "DownstreamStart",
            Self::DownstreamPeriodic => "DownstreamPeriodic",
            Self::DownstreamEnd => "DownstreamEnd",
            Self::UpstreamPoolReady => "UpstreamPoolReady",
            Self::UpstreamPeriodic => "UpstreamPeriodic",
            Self::UpstreamEnd => "UpstreamEnd",
            Self::DownstreamTunnelSuccessfullyEstablished => "DownstreamTunnelSuccessfullyEstablished",
            Self::UdpTunnelUpstreamConnected => "UdpTunnelUpstreamConnected",
            Self::UdpPeriodic => "UdpPeriodic",
            Self::UdpSessionEnd => "UdpSessionEnd",
            Self::TcpConnectionStart => "TcpConnectionStart",
        }
    }
}

/// What a format string or a log filter may look at.
#[derive(Clone, Copy)]
pub struct LogContext<'a> {
    /// The stream.
    pub info: &'a StreamInfo,
    /// The request's head, or what was kept of it (see [`AccessLog::request_fields`]).
    pub request: Option<&'a RequestHead>,
    /// The response's head as it left.
    pub response: Option<&'a ResponseHead>,
    /// The response's trailers.
    pub trailers: Option<&'a HeaderMap>,
    /// Why a line is written now.
    pub kind: AccessLogType,
}

impl<'a> LogContext<'a> {
    /// Nothing but the stream.
    pub fn new(info: &'a StreamInfo) -> Self {
        Self { info, request: None, response: None, trailers: None, kind: AccessLogType::NotSet }
    }
}

/// One configured access log: it decides whether to write, and writes without blocking the caller.
pub trait AccessLog: Send + Sync {
    /// Writes a line if the filter lets it.
    fn log(&self, context: &LogContext<'_>);

    /// The request fields that lines or filters of this log read, so that a tunnel need not keep its whole head.
    fn request_fields(&self) -> &[HeaderName];

    /// The response fields that lines or filters of this log read.
    fn response_fields(&self) -> &[HeaderName];
}
