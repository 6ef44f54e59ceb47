//! Envoy's messages become our options (feature `envoy-config`).

use adit_config::proto::envoy::config::core::v3 as pb;

use crate::Http3Options;
use crate::endpoint::QuicOptions;

impl From<&pb::Http3ProtocolOptions> for Http3Options {
    /// A field that is not set keeps its default. What has no place here was refused when the file was read.
    fn from(message: &pb::Http3ProtocolOptions) -> Self {
        let defaults = Self::default();
        Self {
            allow_extended_connect: message.allow_extended_connect,
            disallow_obs_text: message.disallow_obs_text.unwrap_or(defaults.disallow_obs_text),
            stream_error_on_invalid_http_message: message.override_stream_error_on_invalid_http_message,
            ..defaults
        }
    }
}

impl From<&pb::QuicProtocolOptions> for QuicOptions {
    fn from(message: &pb::QuicProtocolOptions) -> Self {
        let defaults = Self::default();
        let keepalive = message.connection_keepalive.as_ref();
        Self {
            max_concurrent_streams: message.max_concurrent_streams.unwrap_or(defaults.max_concurrent_streams),
            initial_stream_window_size: message.initial_stream_window_size,
            initial_connection_window_size: message
                .initial_connection_window_size
                .unwrap_or(defaults.initial_connection_window_size),
            idle_timeout: message.idle_network_timeout.as_ref().map_or(defaults.idle_timeout, adit_config::duration),
            keepalive: keepalive.and_then(|keepalive| keepalive.max_interval.as_ref()).map(adit_config::duration),
            max_packet_length: message
                .max_packet_length
                .and_then(|length| u16::try_from(length).ok())
                .unwrap_or(defaults.max_packet_length),
            ..defaults
        }
    }
}
