//! Envoy's messages become our options (feature `envoy-config`).

use std::time::Duration;

use adit_config::proto::envoy::config::core::v3 as pb;

use crate::Http3Options;
use crate::endpoint::QuicOptions;

/// Envoy's interval where `connection_keepalive` names none.
const KEEPALIVE: Duration = Duration::from_secs(15);

impl From<&pb::Http3ProtocolOptions> for Http3Options {
    /// A field that is not set keeps its default. What has no place here was refused when the file was read;
    /// `disable_qpack` asks for no more than what always holds: no dynamic table.
    fn from(message: &pb::Http3ProtocolOptions) -> Self {
        let defaults = Self::default();
        Self {
            allow_extended_connect: message.allow_extended_connect,
            stream_error_on_invalid_http_message: message.override_stream_error_on_invalid_http_message,
            disallow_obs_text: message.disallow_obs_text.unwrap_or(defaults.disallow_obs_text),
            ..defaults
        }
    }
}

impl From<&pb::QuicProtocolOptions> for QuicOptions {
    /// A field that is not set keeps its default.
    fn from(message: &pb::QuicProtocolOptions) -> Self {
        let defaults = Self::default();
        let (keepalive, keepalive_of_clients_only) = keepalive(message.connection_keepalive.as_ref());
        Self {
            max_concurrent_streams: message.max_concurrent_streams.unwrap_or(defaults.max_concurrent_streams),
            initial_stream_window_size: message.initial_stream_window_size,
            initial_connection_window_size: message
                .initial_connection_window_size
                .unwrap_or(defaults.initial_connection_window_size),
            idle_timeout: message.idle_network_timeout.as_ref().map_or(defaults.idle_timeout, adit_config::duration),
            keepalive,
            keepalive_of_clients_only,
            max_packet_length: message.max_packet_length.map(|length| u16::try_from(length).unwrap_or(u16::MAX)),
            ..defaults
        }
    }
}

/// The interval, and whether it is for client connections only: a server probes only where `initial_interval` is set. The
/// interval does not grow from the initial to the longest: the shorter of the two stays.
fn keepalive(message: Option<&pb::QuicKeepAliveSettings>) -> (Option<Duration>, bool) {
    let Some(message) = message else { return (None, false) };
    let longest = message.max_interval.as_ref().map_or(KEEPALIVE, adit_config::duration);
    let initial = message.initial_interval.as_ref().map(adit_config::duration);
    let interval = longest.min(initial.unwrap_or(longest));
    ((!interval.is_zero()).then_some(interval), initial.is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn messages_with_nothing_set_are_the_defaults() {
        let http3 = Http3Options::from(&pb::Http3ProtocolOptions::default());
        assert_eq!(format!("{http3:?}"), format!("{:?}", Http3Options::default()));
        let quic = QuicOptions::from(&pb::QuicProtocolOptions::default());
        assert_eq!(format!("{quic:?}"), format!("{:?}", QuicOptions::default()));
    }

    #[test]
    fn what_is_set_is_taken() {
        let message = pb::Http3ProtocolOptions { allow_extended_connect: true, ..pb::Http3ProtocolOptions::default() };
        assert!(Http3Options::from(&message).allow_extended_connect);
        let message = pb::QuicProtocolOptions {
            max_concurrent_streams: Some(7),
            initial_stream_window_size: Some(65_536),
            idle_network_timeout: seconds(30),
            max_packet_length: Some(1400),
            ..pb::QuicProtocolOptions::default()
        };
        let options = QuicOptions::from(&message);
        assert_eq!((options.max_concurrent_streams, options.initial_stream_window_size), (7, Some(65_536)));
        assert_eq!((options.idle_timeout.as_secs(), options.max_packet_length), (30, Some(1400)));
    }

    #[test]
    fn keepalive_as_envoy_means_it() {
        let of =
            |max, initial| keepalive(Some(&pb::QuicKeepAliveSettings { max_interval: max, initial_interval: initial }));
        assert_eq!(keepalive(None), (None, false));
        assert_eq!(of(None, None), (Some(KEEPALIVE), true));
        assert_eq!(of(seconds(0), None), (None, true));
        assert_eq!(of(seconds(20), seconds(5)), (Some(Duration::from_secs(5)), false));
    }
}
