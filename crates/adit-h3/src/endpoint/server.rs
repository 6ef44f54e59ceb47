//! The endpoint of a QUIC listener on one worker.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::{EndpointConfig, Incoming, Runtime, TokioRuntime};
use tokio::time::Sleep;

use super::steer::{Cids, SteeredSocket};
use super::{OptionsError, QuicConnection, QuicOptions, Steering};
use crate::error;

/// Handshakes of one endpoint that wait for nobody but quinn (`max_incoming`): beyond it new clients are refused.
const MAX_INCOMING: usize = 1024;
/// Bytes kept of one client's first packets until it is accepted, and of all of them.
const INCOMING_BUFFER: u64 = 64 << 10;
const INCOMING_BUFFER_TOTAL: u64 = 4 << 20;

/// Whom an endpoint lets in.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// Handshakes under way from which on a client must first show that it receives at its address (Retry).
    pub retry_from: usize,
    /// Handshakes under way from which on clients are refused.
    pub max_handshakes: usize,
    /// `crypto_handshake_timeout`.
    pub handshake_timeout: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self { retry_from: 64, max_handshakes: 1024, handshake_timeout: Duration::from_secs(20) }
    }
}

/// What the endpoints of one listener share: keys, options, and the way from one to another.
#[derive(Clone)]
pub struct ServerSetup {
    config: quinn::ServerConfig,
    endpoint: EndpointConfig,
    steering: Arc<Steering>,
    admission: Admission,
}

impl ServerSetup {
    /// For `workers` endpoints. ALPN is `h3` and 0-RTT is off, whatever `tls` says.
    pub fn new(
        tls: &rustls::ServerConfig,
        options: &QuicOptions,
        admission: Admission,
        workers: u8,
    ) -> Result<Self, OptionsError> {
        let mut config = options.server(tls)?;
        config
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
        Ok(Self { config, endpoint: EndpointConfig::default(), steering: Steering::new(workers), admission })
    }
}

/// One worker's endpoint of a QUIC listener.
pub struct ServerEndpoint {
    endpoint: quinn::Endpoint,
    accept: Option<Pin<Box<dyn Future<Output = Option<Incoming>> + Send>>>,
    admission: Admission,
    handshakes: Arc<AtomicUsize>,
    accepting: bool,
}

impl ServerEndpoint {
    /// An endpoint on `socket`, which is nonblocking and shares its port (SO_REUSEPORT) with the other workers' sockets.
    /// Runs on the tokio runtime of the calling thread.
    pub fn bind(socket: UdpSocket, setup: &ServerSetup, worker: u8) -> std::io::Result<Self> {
        let runtime = Arc::new(TokioRuntime);
        let socket = runtime.wrap_udp_socket(socket)?;
        let socket = SteeredSocket::new(socket, setup.steering.clone(), worker);
        let mut config = setup.endpoint.clone();
        let cids = Cids { steering: setup.steering.clone(), worker };
        config.cid_generator(move || Box::new(cids.clone()));
        let server = Some(setup.config.clone());
        let endpoint = quinn::Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), runtime)?;
        let handshakes = Arc::default();
        Ok(Self { endpoint, accept: None, admission: setup.admission, handshakes, accepting: true })
    }

    /// The next client; `None` once the endpoint is closed.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Handshake>> {
        loop {
            let accept = self.accept.get_or_insert_with(|| {
                let endpoint = self.endpoint.clone();
                Box::pin(async move { endpoint.accept().await })
            });
            let incoming = ready!(accept.as_mut().poll(cx));
            self.accept = None;
            match incoming {
                None => return Poll::Ready(None),
                Some(incoming) => {
                    if let Some(handshake) = self.admit(incoming) {
                        return Poll::Ready(Some(handshake));
                    }
                }
            }
        }
    }

    fn admit(&self, incoming: Incoming) -> Option<Handshake> {
        let under_way = self.handshakes.load(Relaxed);
        if !self.accepting || under_way >= self.admission.max_handshakes {
            incoming.refuse();
            return None;
        }
        if under_way >= self.admission.retry_from && !incoming.remote_address_validated() && incoming.may_retry() {
            // Fails only for a client that was validated.
            let _ = incoming.retry();
            return None;
        }
        let remote = incoming.remote_address();
        // Fails for a first packet that is not one.
        let connecting = incoming.accept().ok()?;
        self.handshakes.fetch_add(1, Relaxed);
        let timeout = Box::pin(tokio::time::sleep(self.admission.handshake_timeout));
        Some(Handshake { connecting, timeout, remote, under_way: UnderWay(self.handshakes.clone()) })
    }

    /// Refuses new clients from now on, or takes them again; live connections go on.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// The socket's address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Connections that live, those in their closing phase included.
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes every connection and takes no new one.
    pub fn close(&self) {
        self.endpoint.close(quinn::VarInt::from_u32(error::code::NO_ERROR), b"");
    }
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A client whose handshake is under way; dropped, the client is refused.
pub struct Handshake {
    connecting: quinn::Connecting,
    timeout: Pin<Box<Sleep>>,
    remote: SocketAddr,
    under_way: UnderWay,
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    /// `crypto_handshake_timeout` passed.
    #[error("the QUIC handshake took too long")]
    TimedOut,
    /// TLS or QUIC failed, or the client gave up.
    #[error("the QUIC handshake failed: {0}")]
    Failed(String),
}

impl Handshake {
    /// The client's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl Future for Handshake {
    type Output = Result<QuicConnection, HandshakeFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(result) = Pin::new(&mut self.connecting).poll(cx) {
            return Poll::Ready(match result {
                Ok(connection) => Ok(QuicConnection(connection)),
                Err(quinn::ConnectionError::TimedOut) => Err(HandshakeFailure::TimedOut),
                Err(error) => Err(HandshakeFailure::Failed(error.to_string())),
            });
        }
        ready!(self.timeout.as_mut().poll(cx));
        let _ = &self.under_way;
        Poll::Ready(Err(HandshakeFailure::TimedOut))
    }
}
