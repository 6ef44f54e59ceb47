//! Options of a connection: Envoy's `Http3ProtocolOptions`, and what HTTP adds from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use crate::CodecStats;

/// Envoy's `Http3ProtocolOptions` without its QUIC part (that is [`QuicOptions`](crate::endpoint::QuicOptions)), with what
/// the HTTP connection manager and `HttpProtocolOptions` add.
#[derive(Debug, Clone)]
pub struct Http3Options {
    /// `allow_extended_connect`: extended CONNECT (RFC 9220) is advertised and taken. Plain CONNECT needs no leave.
    pub allow_extended_connect: bool,
    /// HTTP datagrams (RFC 9297) are advertised. Costs nothing where none are used.
    pub datagrams: bool,
    /// `max_request_headers_kb` / `max_response_headers_kb` in bytes: names, values and 32 for each field.
    pub max_header_list_size: u32,
    /// `max_headers_count`: fields of a message, cookie crumbs and `host` counted singly.
    pub max_headers_count: usize,
    /// `disallow_obs_text`: bytes from 0x80 make a value invalid.
    pub disallow_obs_text: bool,
    /// `override_stream_error_on_invalid_http_message`: `Some(false)` makes a malformed message end the connection, as in
    /// Envoy; otherwise it ends its stream only (RFC 9114 section 4.1.2).
    pub stream_error_on_invalid_http_message: Option<bool>,
}

impl Default for Http3Options {
    fn default() -> Self {
        Self {
            allow_extended_connect: false,
            datagrams: true,
            max_header_list_size: 60 << 10,
            max_headers_count: 100,
            disallow_obs_text: false,
            stream_error_on_invalid_http_message: None,
        }
    }
}

impl Http3Options {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            size: self.max_header_list_size,
            count: u32::try_from(self.max_headers_count).unwrap_or(u32::MAX),
            obs_text: !self.disallow_obs_text,
        }
    }

    pub(crate) fn malformed_is_fatal(&self) -> bool {
        self.stream_error_on_invalid_http_message == Some(false)
    }
}

/// What the fields of a message are held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a field section as RFC 9114 section 4.2.2 counts them.
    pub(crate) size: u32,
    /// Fields of one message.
    pub(crate) count: u32,
    /// Whether values may hold bytes from 0x80.
    pub(crate) obs_text: bool,
}

/// What a server connection needs.
#[derive(Clone, Default)]
pub struct ServerConfig {
    /// Envoy's `http3_protocol_options` of the connection manager.
    pub http3: Http3Options,
    /// Where events are counted.
    pub stats: Option<Arc<dyn CodecStats>>,
}

/// What a client connection needs.
#[derive(Clone)]
pub struct ClientConfig {
    /// Envoy's `http3_protocol_options` of the cluster.
    pub http3: Http3Options,
    /// `quic_protocol_options.max_concurrent_streams`: streams we open at once, if the peer allows as many.
    pub max_concurrent_streams: u32,
    /// How long the peer's SETTINGS may take before the connection is given up.
    pub settings_timeout: Duration,
    /// How long nothing may come from a peer that is to answer, before no new stream is opened. Streams that live go on until
    /// the idle timeout.
    pub silence: Duration,
    /// Where events are counted.
    pub stats: Option<Arc<dyn CodecStats>>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            http3: Http3Options::default(),
            max_concurrent_streams: 100,
            settings_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(5),
            stats: None,
        }
    }
}
