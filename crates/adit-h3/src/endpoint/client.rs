//! The endpoint from which one worker connects.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::{ConnectError, EndpointConfig, Runtime, TokioRuntime};

use super::steer::{SteeredSocket, Steering};
use super::{OptionsError, QuicConnection, QuicOptions};

/// Connects from one socket. One for each worker and address family is enough for every upstream.
#[derive(Clone)]
pub struct ClientEndpoint(quinn::Endpoint);

/// How an upstream is spoken to: made once for a cluster.
#[derive(Clone)]
pub struct ClientSetup(quinn::ClientConfig);

impl ClientSetup {
    /// ALPN is `h3` and 0-RTT is off, whatever `tls` says.
    pub fn new(tls: &rustls::ClientConfig, options: &QuicOptions) -> Result<Self, OptionsError> {
        Ok(Self(options.client(tls)?))
    }
}

/// Why a connection was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// The address or the name cannot be connected to from here.
    #[error("cannot connect: {0}")]
    Invalid(String),
    /// The server did not answer in the idle timeout.
    #[error("the QUIC handshake took too long")]
    TimedOut,
    /// TLS or QUIC failed, or the server refused.
    #[error("the QUIC handshake failed: {0}")]
    Failed(String),
}

impl ClientEndpoint {
    /// An endpoint on `socket`, which is nonblocking. Runs on the tokio runtime of the calling thread.
    pub fn bind(socket: UdpSocket) -> std::io::Result<Self> {
        let runtime = Arc::new(TokioRuntime);
        let socket = runtime.wrap_udp_socket(socket)?;
        let socket = SteeredSocket::new(socket, Steering::new(1), 0);
        let config = EndpointConfig::default();
        Ok(Self(quinn::Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), runtime)?))
    }

    /// Starts to connect. The caller bounds the wait.
    pub fn connect(
        &self,
        setup: &ClientSetup,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Connecting, ConnectFailure> {
        let connecting = self.0.connect_with(setup.0.clone(), remote, server_name);
        connecting.map(Connecting).map_err(|error: ConnectError| ConnectFailure::Invalid(error.to_string()))
    }

    /// The socket's address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection being made; dropped, it is given up.
pub struct Connecting(quinn::Connecting);

impl Future for Connecting {
    type Output = Result<QuicConnection, ConnectFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| match result {
            Ok(connection) => Ok(QuicConnection(connection)),
            Err(quinn::ConnectionError::TimedOut) => Err(ConnectFailure::TimedOut),
            Err(error) => Err(ConnectFailure::Failed(error.to_string())),
        })
    }
}
