//! Options of a connection: Envoy's `Http2ProtocolOptions` with Envoy's defaults, and what HTTP adds from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use crate::CodecStats;

/// The window of a stream when the configuration names none. Envoy advertises 16 MiB, of which two stalled streams fill
/// its connection window; a stalled stream holds at most this much here, so that twenty of them cost about 20 MiB and
/// starve nobody.
pub(crate) const DEFAULT_STREAM_WINDOW: u32 = 1 << 20;

/// Envoy's `Http2ProtocolOptions`, with what the HTTP connection manager and `HttpProtocolOptions` add.
#[derive(Debug, Clone)]
pub struct Http2Options {
    /// `hpack_table_size`: bytes of the dynamic table we decode with.
    pub hpack_table_size: u32,
    /// `max_concurrent_streams`: streams the peer may open (server), streams we open at once (client).
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size` in bytes; `None` is 1 MiB (Envoy: 16 MiB).
    pub initial_stream_window_size: Option<u32>,
    /// `initial_connection_window_size` in bytes: the most that all stalled streams of a connection hold together.
    pub initial_connection_window_size: u32,
    /// `allow_connect`: extended CONNECT is advertised and taken. Plain CONNECT needs no leave.
    pub allow_connect: bool,
    /// `max_outbound_frames`: frames that senders may queue between two flushes of the connection; beyond it they wait.
    pub max_outbound_frames: u32,
    /// `max_outbound_control_frames`: answers to PING and SETTINGS that a peer may owe its reading to before it loses the
    /// connection.
    pub max_outbound_control_frames: u32,
    /// `max_consecutive_inbound_frames_with_empty_payload`, of DATA, HEADERS and CONTINUATION without END_STREAM.
    pub max_consecutive_inbound_frames_with_empty_payload: u32,
    /// `max_inbound_priority_frames_per_stream`.
    pub max_inbound_priority_frames_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`; a DATA frame counts once for each 16 KiB.
    pub max_inbound_window_update_frames_per_data_frame_sent: u32,
    /// `override_stream_error_on_invalid_http_message`: `Some(false)` makes a malformed message end the connection, as in
    /// Envoy; otherwise it ends its stream only (RFC 9113 section 8.1.1).
    pub stream_error_on_invalid_http_message: Option<bool>,
    /// `connection_keepalive`.
    pub keepalive: Option<KeepaliveOptions>,
    /// `stream_reset_burst`: RST_STREAM frames a client may send at once, and errors it may provoke, before it loses the
    /// connection.
    pub stream_reset_burst: u64,
    /// `stream_reset_rate`: how many of these come back each second.
    pub stream_reset_rate: u64,
    /// SETTINGS_MAX_FRAME_SIZE we advertise, from 16 KiB to 16 MiB - 1: between two adits a frame carries a whole chunk.
    pub max_frame_size: u32,
    /// `max_request_headers_kb` / `max_response_headers_kb` in bytes: names, values and 32 for each field.
    pub max_header_list_size: u32,
    /// `max_headers_count`: fields of a message, cookie crumbs and `host` counted singly.
    pub max_headers_count: usize,
    /// `max_header_field_size_kb` in bytes: name and value of one field.
    pub max_header_field_size: usize,
    /// `disallow_obs_text`: bytes from 0x80 make a value invalid.
    pub disallow_obs_text: bool,
    /// Bytes of DATA one stream may have queued for the socket.
    pub max_send_buffer_size: usize,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: None,
            initial_connection_window_size: 24 << 20,
            allow_connect: false,
            max_outbound_frames: 10_000,
            max_outbound_control_frames: 1000,
            max_consecutive_inbound_frames_with_empty_payload: 1,
            max_inbound_priority_frames_per_stream: 100,
            max_inbound_window_update_frames_per_data_frame_sent: 10,
            stream_error_on_invalid_http_message: None,
            keepalive: None,
            stream_reset_burst: 1000,
            stream_reset_rate: 33,
            max_frame_size: 256 << 10,
            max_header_list_size: 60 << 10,
            max_headers_count: 100,
            max_header_field_size: 64 << 10,
            disallow_obs_text: false,
            max_send_buffer_size: 256 << 10,
        }
    }
}

impl Http2Options {
    /// The stream window to advertise: never above the connection's.
    pub(crate) fn stream_window(&self) -> u32 {
        let window = self.initial_stream_window_size.unwrap_or(DEFAULT_STREAM_WINDOW);
        window.min(i32::MAX as u32)
    }

    pub(crate) fn connection_window(&self) -> u32 {
        self.initial_connection_window_size.clamp(65_535, i32::MAX as u32)
    }

    pub(crate) fn field_rules(&self) -> FieldRules {
        FieldRules {
            count: self.max_headers_count,
            size: self.max_header_field_size,
            obs_text: !self.disallow_obs_text,
        }
    }

    pub(crate) fn frame_size(&self) -> u32 {
        self.max_frame_size.clamp(16_384, (1 << 24) - 1)
    }

    /// The dynamic table to allow the peer's encoder: never more than it could ask for.
    pub(crate) fn table_size(&self) -> u32 {
        self.hpack_table_size.min(crate::hpack::MAX_TABLE_SIZE)
    }
}

/// What the fields of a message are held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldRules {
    /// Fields of one message.
    pub(crate) count: usize,
    /// Bytes of one field.
    pub(crate) size: usize,
    /// Whether values may hold bytes from 0x80.
    pub(crate) obs_text: bool,
}

/// Envoy's `KeepaliveSettings`.
#[derive(Debug, Clone, Copy)]
pub struct KeepaliveOptions {
    /// `interval` between PINGs; `None` sends them only ahead of a stream on a connection that was idle.
    pub interval: Option<Duration>,
    /// `timeout` for the answer; any byte from the peer starts it anew.
    pub timeout: Duration,
    /// `interval_jitter` in percent of the interval.
    pub jitter_percent: f64,
    /// `connection_idle_interval`: a stream opened after this much idleness sends a PING ahead.
    pub connection_idle_interval: Option<Duration>,
}

/// What a server connection needs.
#[derive(Clone, Default)]
pub struct ServerConfig {
    /// Envoy's `http2_protocol_options` of the connection manager.
    pub http2: Http2Options,
    /// `request_headers_timeout`: from a header block's first byte to its last; then the connection ends, as there is no
    /// stream yet that could be answered.
    pub request_headers_timeout: Option<Duration>,
    /// Where events are counted.
    pub stats: Option<Arc<dyn CodecStats>>,
}

/// What a client connection needs.
#[derive(Clone)]
pub struct ClientConfig {
    /// Envoy's `http2_protocol_options` of the cluster.
    pub http2: Http2Options,
    /// How long the peer's first SETTINGS may take before the connection is given up.
    pub settings_timeout: Duration,
    /// Where events are counted.
    pub stats: Option<Arc<dyn CodecStats>>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { http2: Http2Options::default(), settings_timeout: Duration::from_secs(10), stats: None }
    }
}
