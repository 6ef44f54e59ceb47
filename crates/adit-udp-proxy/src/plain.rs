//! A session that goes to its upstream as it is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_filter::upstream::{ConnectFailure, Host, Need, Priority, Report, UdpUpstream};
use adit_filter::{AccessLogType, ResponseFlag, StreamInfo};
use adit_io::{Address, FilterState, Metadata};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::session::Session;

/// Datagrams taken in one turn: then other tasks get theirs.
const READS_PER_TURN: usize = 32;
/// What a receiver waits for.
const RECEIVE: Interest = Interest::READABLE.add(Interest::ERROR);
/// The largest datagram there is.
const LARGEST: usize = 65_535;

/// The upstream's side, as the listener's task writes to it.
pub(crate) struct Plain {
    socket: UdpSocket,
    host: Arc<dyn Host>,
    address: SocketAddr,
}

/// The upstream's side, and what is to be held while the session lives.
pub(crate) type Connected = (Arc<Plain>, Box<dyn Send>);

impl Plain {
    /// Chooses a host and makes a socket to it.
    pub(crate) fn connect(session: &Session) -> Result<Connected, Box<StreamInfo>> {
        let mut info = Box::new(session.stream_info());
        let proxy = &session.proxy;
        let Some(cluster) = session.link.worker.clusters.get(&proxy.cluster) else {
            proxy.stats.downstream_sess_no_route.inc();
            info.flags.set(ResponseFlag::NoClusterFound);
            return Err(info);
        };
        let need = Need {
            priority: Priority::Default,
            hash: proxy.hash(session.key.peer),
            metadata_match: None,
            tried: &[],
            reselect: 0,
            request: None,
            tls_names: None,
            downstream: Some(&info.conn),
            state: &FilterState::default(),
            metadata: &Metadata::default(),
            extended_connect: false,
            address: None,
            wait: true,
            speaks_first: false,
        };
        let connected = cluster.udp(&need);
        let upstream = match connected {
            Ok(upstream) => upstream,
            Err(ConnectFailure { kind, reason, host, .. }) => {
                info.flags.set(kind.flag());
                let known = info.upstream_mut();
                known.host = host;
                known.transport_failure = (!reason.is_empty()).then_some(reason);
                return Err(info);
            }
        };
        let UdpUpstream { host, address, socket, guard } = upstream;
        match socket {
            Ok(socket) => Ok((Arc::new(Self { socket, host, address }), guard)),
            Err(error) => {
                // The datagram that asked for the session.
                proxy.cluster_stats.sess_tx_errors.inc();
                info.flags.set(ResponseFlag::UpstreamConnectionFailure);
                let known = info.upstream_mut();
                known.host = Some(host);
                known.transport_failure = Some(error.to_string().into());
                Err(info)
            }
        }
    }

    /// A datagram from the client. What the kernel has no room for is dropped and counted.
    pub(crate) fn send(&self, session: &Session, payload: &[u8]) {
        // Not tokio's own: it knows of no room before the reactor has run once.
        let socket = SockRef::from(&self.socket);
        let mut sent = socket.send(payload);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            // What is refused is an earlier datagram; this one was not sent yet.
            session.proxy.cluster_stats.sess_rx_errors.inc();
            sent = socket.send(payload);
        }
        session.sent_upstream(&sent);
        if sent.is_ok() {
            self.host.report(Report::Bytes { sent: payload.len() as u64, received: 0 });
        }
    }

    /// Takes what the upstream sends until the session is over.
    pub(crate) async fn run(self: Arc<Self>, session: &Session) {
        let mut info = session.stream_info();
        let known = info.upstream_mut();
        known.host = Some(self.host.clone());
        known.cluster = Some(session.proxy.cluster.clone());
        known.remote = Some(Address::Ip(self.address));
        known.local = self.socket.local_addr().ok().map(Address::Ip);
        tokio::select! {
            () = self.receive(session) => {}
            () = session.idle() => {
                session.proxy.stats.idle_timeout.inc();
                info.flags.set(ResponseFlag::StreamIdleTimeout);
            }
            () = session.log_periodically(&info) => {}
            () = session.link.worker.lifecycle.closing() => {}
        }
        session.log(&mut info, AccessLogType::UdpSessionEnd);
    }

    async fn receive(&self, session: &Session) {
        loop {
            // An ICMP message makes it no more readable, but an error.
            let Ok(ready) = self.socket.ready(RECEIVE).await else { return };
            if ready.is_error() && self.take_error().is_some() {
                session.proxy.cluster_stats.sess_rx_errors.inc();
            }
            with_buffer(|buffer| {
                for _ in 0..READS_PER_TURN {
                    match self.socket.try_recv(buffer) {
                        Ok(size) => self.received(session, buffer.get(..size).unwrap_or_default()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                        // About an earlier datagram; the next one may arrive.
                        Err(_) => session.proxy.cluster_stats.sess_rx_errors.inc(),
                    }
                }
            });
            tokio::task::yield_now().await;
        }
    }

    /// The socket's pending error, which is then forgotten.
    fn take_error(&self) -> Option<io::Error> {
        let mut pending = None;
        let _ = self.socket.try_io(Interest::ERROR, || {
            pending = self.socket.take_error().ok().flatten();
            // So that the next one is waited for.
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
        pending
    }

    fn received(&self, session: &Session, payload: &[u8]) {
        let stats = &session.proxy.cluster_stats;
        if payload.len() > session.proxy.max_datagram {
            stats.sess_rx_datagrams_dropped.inc();
            return;
        }
        stats.sess_rx_datagrams.inc();
        self.host.report(Report::Bytes { sent: 0, received: payload.len() as u64 });
        session.reply(payload);
    }
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
