//! CONNECT-UDP terminated here (RFC 9298): a socket to the cluster's host for each stream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_codec::udp::{DatagramPort, UdpCause, UdpRelayOptions, UdpTunnel, relay_udp};
use adit_filter::upstream::{Host, Need, Report};
use adit_filter::{HttpStream, LocalReply, ResponseFlag};
use adit_http::{ResponseHead, StreamError};
use adit_io::Address;
use adit_stats::{Counter, Scope};
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::exchange::{Exchange, Missed, Next};
use crate::plain::reject;
use crate::reply::{self, Failure};
use crate::reset::ResetReason;

const CAPSULE_PROTOCOL: HeaderName = HeaderName::from_static("capsule-protocol");
/// "Message too long", on Linux.
const EMSGSIZE: i32 = 90;
/// The largest datagram there is.
const LARGEST: usize = 65_535;

/// A CONNECT-UDP that was accepted.
pub(crate) struct UdpSession {
    tunnel: UdpTunnel,
    socket: Arc<UdpSocket>,
    host: Arc<dyn Host>,
    guard: Box<dyn Send>,
    stats: UdpStats,
    /// End of the cluster's `max_stream_duration`.
    max: Option<Instant>,
}

/// The socket of one session, before the answer.
struct Connected {
    socket: UdpSocket,
    host: Arc<dyn Host>,
    guard: Box<dyn Send>,
}

/// `cluster.<name>.udp.`, as of the UDP proxy. Envoy counts nothing here.
struct UdpStats {
    sess_rx_datagrams: Counter,
    sess_rx_errors: Counter,
    sess_tx_datagrams: Counter,
    sess_tx_errors: Counter,
}

impl UdpStats {
    fn new(root: &Scope, cluster: &str) -> Self {
        let scope = root.cluster(cluster).scope("udp");
        Self {
            sess_rx_datagrams: scope.counter("sess_rx_datagrams"),
            sess_rx_errors: scope.counter("sess_rx_errors"),
            sess_tx_datagrams: scope.counter("sess_tx_datagrams"),
            sess_tx_errors: scope.counter("sess_tx_errors"),
        }
    }
}

impl Exchange<'_> {
    /// Makes the socket and accepts, or answers.
    pub(crate) async fn establish_udp(&mut self, stream: &mut HttpStream, root: &Scope) -> Option<Box<UdpSession>> {
        if stream.recv.as_ref().is_none_or(|recv| recv.is_end()) {
            let reply = self.reply(reply::connect_udp_without_stream(), stream);
            refuse(stream, reply).await;
            return None;
        }
        let Connected { socket, host, guard } = self.connect_udp_until(stream).await?;
        let mut head = ResponseHead::new(StatusCode::OK);
        self.sent(stream);
        self.received(stream, &*host, &head);
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(header::UPGRADE, HeaderValue::from_static("connect-udp"));
        head.headers.insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
        self.finish_head(stream, &mut head, &*host, false);
        let recv = stream.recv.take()?;
        let send = match stream.respond(head, false, stream.now) {
            Ok(send) => send,
            Err(error) => {
                stream.client_gone(error);
                return None;
            }
        };
        stream.tunnel_established();
        let stats = UdpStats::new(root, &self.cluster.settings().name);
        let tunnel = UdpTunnel::new(recv, send, stream.buffer_limit);
        Some(Box::new(UdpSession { tunnel, socket: Arc::new(socket), host, guard, stats, max: self.waits.max }))
    }

    /// Attempts until there is a socket; `None` once the client was answered, or left.
    async fn connect_udp_until(&mut self, stream: &mut HttpStream) -> Option<Connected> {
        loop {
            self.begin(stream);
            let failure = match self.connect_udp(stream) {
                Ok(connected) => return Some(connected),
                Err(failure) => failure,
            };
            let pause = match self.after_failure(stream, &failure, false, true) {
                Next::Again(pause) => pause,
                Next::Reply(reply) => {
                    refuse(stream, reply).await;
                    return None;
                }
            };
            if let Err(interrupt) = self.pause(stream, pause).await {
                match self.interrupted(stream, interrupt, None) {
                    Some(reply) => refuse(stream, reply).await,
                    None => reject(stream, interrupt).await,
                }
                return None;
            }
        }
    }

    /// One attempt: a host, and a socket to it.
    fn connect_udp(&mut self, stream: &mut HttpStream) -> Result<Connected, Failure> {
        let cluster = self.cluster.clone();
        let missed = |missed| match missed {
            Missed::Failed(failure) => failure,
            // Nothing was waited for.
            Missed::Interrupted(_) => local_failure(""),
        };
        let upstream = {
            let need = Need {
                priority: self.forward.common.priority,
                hash: self.hash,
                metadata_match: self.forward.metadata_match.as_ref(),
                tried: &[],
                reselect: 0,
                request: Some(&stream.request),
                tls_names: None,
                downstream: Some(&stream.info.conn),
                state: &stream.info.state,
                metadata: &stream.info.metadata,
                extended_connect: false,
                address: None,
                wait: true,
                speaks_first: false,
            };
            cluster.udp(&need)
        };
        let upstream = upstream.map_err(|failure| missed(self.not_connected(stream, failure)))?;
        stream.now = Instant::now();
        self.note_host(stream, &upstream.host);
        let socket = upstream.socket.map_err(|error| {
            stream.info.upstream_mut().transport_failure = Some(error.to_string().into());
            local_failure(&error.to_string())
        })?;
        let known = stream.info.upstream_mut();
        known.remote = Some(Address::Ip(upstream.address));
        known.local = socket.local_addr().ok().map(Address::Ip);
        Ok(Connected { socket, host: upstream.host, guard: upstream.guard })
    }
}

fn local_failure(detail: &str) -> Failure {
    Failure::Reset { reason: ResetReason::LocalConnectionFailure, detail: detail.to_owned().into() }
}

async fn refuse(stream: &mut HttpStream, reply: LocalReply) {
    // A client that left meanwhile has nothing to be told.
    let _ = stream.reply(reply).await;
}

impl UdpSession {
    /// Relays to the end, and writes down how it went.
    pub(crate) async fn run(self: Box<Self>, stream: &mut HttpStream) {
        let Self { mut tunnel, socket, host, guard, stats, max } = *self;
        let options = UdpRelayOptions {
            idle_timeout: stream.idle_timeout,
            max_duration: max.map(|at| at.saturating_duration_since(Instant::now())),
            closing: Some(stream.worker.lifecycle.closing()),
        };
        let failed = watch_error(socket.clone());
        let mut port = SocketPort { socket: &socket, failed, host: &*host, stats: &stats, stream };
        let cause = relay_udp(&mut tunnel, &mut port, options).await;
        record(stream, cause, &*host);
        drop(guard);
    }
}

/// The upstream of a session.
struct SocketPort<'a> {
    socket: &'a UdpSocket,
    /// Ready at an ICMP message: it makes the socket no more readable.
    failed: Pin<Box<dyn Future<Output = io::Error> + Send>>,
    host: &'a dyn Host,
    stats: &'a UdpStats,
    stream: &'a mut HttpStream,
}

impl DatagramPort for SocketPort<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_send_ready(cx))?;
            match self.socket.try_send(payload) {
                Ok(_) => {
                    self.stats.sess_tx_datagrams.inc();
                    self.host.report(Report::Bytes { sent: payload.len() as u64, received: 0 });
                    self.stream.info.bytes_received += payload.len() as u64;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.stats.sess_tx_errors.inc();
                    // Too large for the way: lost, as any router would lose it (RFC 9298 section 6.1).
                    let lost = error.raw_os_error() == Some(EMSGSIZE);
                    return Poll::Ready(if lost { Ok(()) } else { Err(error) });
                }
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(&[u8])) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.failed.as_mut().poll(cx) {
            self.stats.sess_rx_errors.inc();
            return Poll::Ready(Err(error));
        }
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let received: io::Result<usize> = with_buffer(|buffer| {
                let size = self.socket.try_recv(buffer)?;
                take(buffer.get(..size).unwrap_or_default());
                Ok(size)
            });
            match received {
                Ok(size) => {
                    self.stats.sess_rx_datagrams.inc();
                    self.host.report(Report::Bytes { sent: 0, received: size as u64 });
                    self.stream.info.bytes_sent += size as u64;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.stats.sess_rx_errors.inc();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) {
        self.stream.poll_tick(cx);
    }
}

fn watch_error(socket: Arc<UdpSocket>) -> Pin<Box<dyn Future<Output = io::Error> + Send>> {
    Box::pin(async move {
        loop {
            if let Err(error) = socket.ready(Interest::ERROR).await {
                return error;
            }
            let mut pending = None;
            let _ = socket.try_io(Interest::ERROR, || {
                pending = socket.take_error().ok().flatten();
                // So that the next one is waited for.
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            if let Some(error) = pending {
                return error;
            }
        }
    })
}

/// Lends the thread's buffer.
fn with_buffer<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static BUFFER: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    if buffer.is_empty() {
        buffer = vec![0; LARGEST];
    }
    let result = f(&mut buffer);
    BUFFER.set(buffer);
    result
}

fn record(stream: &mut HttpStream, cause: UdpCause, host: &dyn Host) {
    let elapsed = stream.info.elapsed();
    stream.info.timing.downstream_last_sent = Some(elapsed);
    stream.info.timing.upstream_last_received = Some(elapsed);
    let info = &mut stream.info;
    match cause {
        UdpCause::Ended => {
            if stream.request.version < Version::HTTP_2 {
                info.details = Some("downstream_remote_disconnect".into());
                info.flags.set(ResponseFlag::DownstreamConnectionTermination);
            }
        }
        UdpCause::Stream(error) => stream.client_gone(error),
        UdpCause::Port(error) => {
            host.report(Report::ReceivedReset);
            let reason = ResetReason::of_stream(&StreamError::from(error), Version::HTTP_11);
            info.details = Some(reason.after_response().into());
            info.flags.set(reason.flag());
        }
        UdpCause::IdleTimeout => {
            info.details = Some("stream_idle_timeout".into());
            info.flags.set(ResponseFlag::StreamIdleTimeout);
        }
        UdpCause::MaxDuration => {
            host.report(Report::MaxDuration);
            info.details = Some("upstream_max_stream_duration_reached".into());
            info.flags.set(ResponseFlag::UpstreamMaxStreamDurationReached);
        }
        UdpCause::Closing => info.local_close_reason = Some("server_shutdown".into()),
    }
}
