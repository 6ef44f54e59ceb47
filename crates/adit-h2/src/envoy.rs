//! Envoy's message becomes our options (feature `envoy-config`).

use adit_config::proto::envoy::config::core::v3 as pb;

use crate::{Http2Options, KeepaliveOptions};

impl From<&pb::Http2ProtocolOptions> for Http2Options {
    /// A field that is not set keeps its default. What has no place here was refused when the file was read.
    fn from(message: &pb::Http2ProtocolOptions) -> Self {
        let defaults = Self::default();
        Self {
            hpack_table_size: message.hpack_table_size.unwrap_or(defaults.hpack_table_size),
            max_concurrent_streams: message.max_concurrent_streams.unwrap_or(defaults.max_concurrent_streams),
            initial_stream_window_size: message.initial_stream_window_size,
            initial_connection_window_size: message
                .initial_connection_window_size
                .unwrap_or(defaults.initial_connection_window_size),
            allow_connect: message.allow_connect,
            max_outbound_frames: message.max_outbound_frames.unwrap_or(defaults.max_outbound_frames),
            max_outbound_control_frames: message
                .max_outbound_control_frames
                .unwrap_or(defaults.max_outbound_control_frames),
            max_consecutive_inbound_frames_with_empty_payload: message
                .max_consecutive_inbound_frames_with_empty_payload
                .unwrap_or(defaults.max_consecutive_inbound_frames_with_empty_payload),
            max_inbound_priority_frames_per_stream: message
                .max_inbound_priority_frames_per_stream
                .unwrap_or(defaults.max_inbound_priority_frames_per_stream),
            max_inbound_window_update_frames_per_data_frame_sent: message
                .max_inbound_window_update_frames_per_data_frame_sent
                .unwrap_or(defaults.max_inbound_window_update_frames_per_data_frame_sent),
            stream_error_on_invalid_http_message: message.override_stream_error_on_invalid_http_message,
            keepalive: message.connection_keepalive.as_ref().map(KeepaliveOptions::from),
            stream_reset_burst: message.stream_reset_burst.unwrap_or(defaults.stream_reset_burst),
            stream_reset_rate: message.stream_reset_rate.unwrap_or(defaults.stream_reset_rate),
            max_header_field_size: message
                .max_header_field_size_kb
                .map_or(defaults.max_header_field_size, |kib| (kib as usize) << 10),
            disallow_obs_text: message.disallow_obs_text.unwrap_or(defaults.disallow_obs_text),
            ..defaults
        }
    }
}

impl From<&pb::KeepaliveSettings> for KeepaliveOptions {
    fn from(message: &pb::KeepaliveSettings) -> Self {
        Self {
            interval: message.interval.as_ref().map(adit_config::duration),
            timeout: message.timeout.as_ref().map(adit_config::duration).unwrap_or_default(),
            jitter_percent: message.interval_jitter.as_ref().map_or(15.0, |percent| percent.value),
            connection_idle_interval: message.connection_idle_interval.as_ref().map(adit_config::duration),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_with_nothing_set_is_the_default() {
        let options = Http2Options::from(&pb::Http2ProtocolOptions::default());
        assert_eq!(format!("{options:?}"), format!("{:?}", Http2Options::default()));
    }

    #[test]
    fn what_is_set_is_taken() {
        let keepalive = pb::KeepaliveSettings {
            interval: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            timeout: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            ..pb::KeepaliveSettings::default()
        };
        let message = pb::Http2ProtocolOptions {
            allow_connect: true,
            initial_stream_window_size: Some(65_536),
            max_header_field_size_kb: Some(128),
            connection_keepalive: Some(keepalive),
            ..pb::Http2ProtocolOptions::default()
        };
        let options = Http2Options::from(&message);
        assert!(options.allow_connect);
        assert_eq!((options.stream_window(), options.max_header_field_size), (65_536, 128 << 10));
        let keepalive = options.keepalive.unwrap();
        assert_eq!((keepalive.interval.unwrap().as_secs(), keepalive.timeout.as_millis()), (3, 1500));
        assert!((keepalive.jitter_percent - 15.0).abs() < f64::EPSILON);
    }
}
