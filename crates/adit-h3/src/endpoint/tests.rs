#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn options_that_quic_cannot_have() {
    let options = QuicOptions { idle_timeout: Duration::MAX, ..QuicOptions::default() };
    assert!(matches!(options.transport(true), Err(OptionsError::IdleTimeout)));
    for idle_timeout in [Duration::ZERO, Duration::from_secs(300)] {
        assert!(QuicOptions { idle_timeout, ..QuicOptions::default() }.transport(true).is_ok());
    }
}

#[test]
fn absurd_windows_are_cut_to_sense() {
    let options = QuicOptions {
        initial_stream_window_size: Some(u32::MAX),
        initial_connection_window_size: 0,
        max_packet_length: Some(0),
        ..QuicOptions::default()
    };
    assert!(options.transport(false).is_ok());
}
