//! Envoy's `QuicProtocolOptions` (core and listener) as quinn takes them.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// The window of a stream when the configuration names none: Envoy's is 16 MiB, of which two stalled streams fill its
/// connection window. See `adit-h2` for the same choice.
const DEFAULT_STREAM_WINDOW: u32 = 1 << 20;
/// Bytes sent and not acknowledged that a connection may hold.
const SEND_WINDOW: u64 = 4 << 20;
/// Unidirectional streams that a peer may have open: three of HTTP/3, and what it greases with.
const UNI_STREAMS: u32 = 16;
/// Bytes of datagrams that wait for the socket.
const DATAGRAM_SEND_BUFFER: usize = 256 << 10;
/// Bytes of datagrams that wait for the connection's owner.
const DATAGRAM_RECEIVE_BUFFER: usize = 256 << 10;
/// Bytes of the handshake that may arrive out of order.
const CRYPTO_BUFFER: usize = 64 << 10;
/// UDP payload to start with, where the path is unknown.
const INITIAL_MTU: u16 = 1350;
/// What every path of QUIC carries (RFC 9000 section 14).
const MIN_MTU: u16 = 1200;

/// Envoy's `QuicProtocolOptions`.
#[derive(Debug, Clone)]
pub struct QuicOptions {
    /// `max_concurrent_streams`: request streams that the peer may open.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size` in bytes; `None` is 1 MiB (Envoy: 16 MiB).
    pub initial_stream_window_size: Option<u32>,
    /// `initial_connection_window_size` in bytes: the most that all stalled streams of a connection hold together.
    pub initial_connection_window_size: u32,
    /// `idle_network_timeout` (listener: `idle_timeout`): a connection without a packet for so long is over; zero is never.
    pub idle_timeout: Duration,
    /// `connection_keepalive.max_interval`: a PING after so much silence; `None` sends none.
    pub keepalive: Option<Duration>,
    /// `connection_keepalive` without `initial_interval`: servers send none.
    pub keepalive_of_clients_only: bool,
    /// `max_packet_length`: the largest UDP payload that is sent, at least 1200. `None` starts with 1350 and probes for what
    /// an Ethernet path carries.
    pub max_packet_length: Option<u16>,
    /// Datagrams (RFC 9221) are taken.
    pub datagrams: bool,
    /// Segmentation offload, where the system has it. Coalesced receives (`prefer_gro`) are always on where it has them.
    pub gso: bool,
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 100,
            initial_stream_window_size: None,
            initial_connection_window_size: 24 << 20,
            idle_timeout: Duration::from_secs(300),
            keepalive: None,
            keepalive_of_clients_only: false,
            max_packet_length: None,
            datagrams: true,
            gso: true,
        }
    }
}

/// Options that QUIC cannot have.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Beyond what a QUIC timeout can say.
    #[error("the idle timeout is too long for QUIC")]
    IdleTimeout,
    /// TLS 1.3 with an AES-128-GCM suite is missing from the configuration.
    #[error("the TLS configuration cannot speak QUIC: {0}")]
    Tls(String),
}

impl QuicOptions {
    /// What both sides share. `is_server` takes request streams.
    pub(super) fn transport(&self, is_server: bool) -> Result<TransportConfig, OptionsError> {
        let idle = match self.idle_timeout {
            Duration::ZERO => None,
            timeout => Some(IdleTimeout::try_from(timeout).map_err(|_| OptionsError::IdleTimeout)?),
        };
        let connection_window = self.initial_connection_window_size.max(1);
        let stream_window =
            self.initial_stream_window_size.unwrap_or(DEFAULT_STREAM_WINDOW).clamp(1, connection_window);
        let streams = if is_server { self.max_concurrent_streams } else { 0 };
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(streams))
            .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
            .stream_receive_window(VarInt::from_u32(stream_window))
            .receive_window(VarInt::from_u32(connection_window))
            .send_window(SEND_WINDOW)
            .max_idle_timeout(idle)
            .keep_alive_interval(self.keepalive.filter(|_| !(is_server && self.keepalive_of_clients_only)))
            .initial_mtu(self.max_packet_length.map_or(INITIAL_MTU, |max| max.clamp(MIN_MTU, INITIAL_MTU)))
            .crypto_buffer_size(CRYPTO_BUFFER)
            .datagram_receive_buffer_size(self.datagrams.then_some(DATAGRAM_RECEIVE_BUFFER))
            .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
            .enable_segmentation_offload(self.gso);
        if let Some(max) = self.max_packet_length {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(max.max(MIN_MTU));
            transport.mtu_discovery_config(Some(discovery));
        }
        Ok(transport)
    }

    /// `tls` with ALPN `h3` and without 0-RTT.
    pub(super) fn server(&self, tls: &rustls::ServerConfig) -> Result<quinn::ServerConfig, OptionsError> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        tls.max_early_data_size = 0;
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| OptionsError::Tls(error.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(self.transport(true)?));
        Ok(config)
    }

    /// `tls` with ALPN `h3` and without 0-RTT.
    pub(super) fn client(&self, tls: &rustls::ClientConfig) -> Result<quinn::ClientConfig, OptionsError> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        tls.enable_early_data = false;
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| OptionsError::Tls(error.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(self.transport(false)?));
        Ok(config)
    }
}
