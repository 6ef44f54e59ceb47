//! UDP listeners: one socket on each worker, every datagram to the listener's filter.
//!
//! With SO_REUSEPORT the kernel keeps the datagrams of one client on one worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_config::proto::envoy::config::core::v3::UdpSocketConfig;
use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_filter::{Datagram, DatagramSocket, ListenerInfo, UdpHandler, UdpLink, UdpListenerFilter};
use adit_runtime::Closing;
use adit_stats::{Counter, Scope};
use pb::listener_filter::ConfigType;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::{Factories, WorkerListener};

/// `downstream_socket_config.max_rx_datagram_size` where it is absent.
const DEFAULT_MAX_DATAGRAM: u64 = 1500;
/// Room for what one read of the socket may give: the largest datagram, or many that were received as one (GRO).
const SLOT: usize = 64 << 10;
/// Slots filled by one system call.
const SLOTS: usize = 8;
/// System calls in one turn: then other tasks get theirs.
const READS_PER_TURN: usize = 8;
/// How often a stopped listener looks whether its sessions are over.
const STOPPED_TICK: Duration = Duration::from_millis(200);
/// The pause after the socket failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What is configured of a UDP listener beyond its address.
pub(crate) struct UdpPlan {
    filter: Arc<dyn UdpListenerFilter>,
    max_datagram: usize,
    gro: bool,
    dropped: Counter,
}

impl UdpPlan {
    /// From a listener's message.
    pub(crate) fn from_proto(
        message: &pb::Listener,
        factories: &dyn Factories,
        info: &Arc<ListenerInfo>,
        scope: &Scope,
        path: &Path,
    ) -> Result<Self, Vec<Diagnostic>> {
        let problem = |at: &Path, text: String| vec![Diagnostic::error(at, text)];
        let chains = message.filter_chains.len() + usize::from(message.default_filter_chain.is_some());
        if chains > 0 {
            let text = format!(
                "error adding listener '{}': {chains} filter chain(s) specified for connection-less UDP listener.",
                info.name
            );
            return Err(problem(&path.field("filter_chains"), text));
        }
        if !message.access_log.is_empty() {
            let text = "a UDP listener has no connections to log; see the access logs of its filter";
            return Err(problem(&path.field("access_log"), text.into()));
        }
        let at = path.item("listener_filters", 0).field("typed_config");
        let [filter] = message.listener_filters.as_slice() else {
            return Err(problem(&path.field("listener_filters"), "a UDP listener needs exactly one filter".into()));
        };
        let Some(ConfigType::TypedConfig(config)) = &filter.config_type else {
            return Err(problem(&at, "typed_config is required".into()));
        };
        let filter = factories.udp_filter(config, &at).unwrap_or_else(|| {
            let name = adit_config::type_name(config);
            Err(problem(&at, format!("{name} is not a filter of UDP listeners that adit implements")))
        })?;
        let socket = message.udp_listener_config.as_ref().and_then(|config| config.downstream_socket_config);
        let socket: UdpSocketConfig = socket.unwrap_or_default();
        let max = socket.max_rx_datagram_size.unwrap_or(DEFAULT_MAX_DATAGRAM);
        Ok(Self {
            filter,
            max_datagram: usize::try_from(max).unwrap_or(usize::MAX),
            gro: socket.prefer_gro.unwrap_or(true),
            dropped: scope.counter("downstream_rx_datagram_dropped"),
        })
    }
}

/// One worker's socket.
pub(crate) struct WorkerSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
}

impl WorkerSocket {
    /// In the context of the worker's runtime.
    pub(crate) fn new(plan: &UdpPlan, bound: SocketAddr, socket: Socket) -> io::Result<Self> {
        let wildcard = bound.ip().is_unspecified();
        // Finding out what the kernel can do also sets the socket's options, among them one that no longer lets IPv6
        // datagrams be fragmented: so it is done on another one where neither GRO nor the local address is needed.
        let state = if wildcard || (plan.gro && bound.is_ipv4()) {
            UdpSocketState::new((&socket).into())?
        } else {
            let domain = if bound.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            UdpSocketState::new((&Socket::new(domain, Type::DGRAM, None)?).into())?
        };
        if bound.is_ipv4() {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT)?;
        }
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, state, bound })
    }

    /// Waits for datagrams and takes those that are there, up to a limit.
    fn poll_turn(&self, plan: &UdpPlan, handler: &mut dyn UdpHandler, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for read in 0..READS_PER_TURN {
            match self.socket.poll_recv_ready(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending if read == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
            match with_slots(|slots| self.read(plan, handler, slots)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => result?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn read(&self, plan: &UdpPlan, handler: &mut dyn UdpHandler, slots: &mut [u8]) -> io::Result<()> {
        let mut buffers: Vec<IoSliceMut<'_>> = slots.chunks_mut(SLOT).map(IoSliceMut::new).collect();
        let mut metas = [RecvMeta::default(); SLOTS];
        let read = self
            .socket
            .try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), &mut buffers, &mut metas))?;
        for (buffer, meta) in buffers.iter().zip(&metas).take(read) {
            let local = meta.dst_ip.filter(|_| self.bound.ip().is_unspecified()).unwrap_or(self.bound.ip());
            let local = SocketAddr::new(local.to_canonical(), self.bound.port());
            let peer = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let data = buffer.get(..meta.len).unwrap_or_default();
            let mut one = |payload: &[u8]| {
                if payload.len() > plan.max_datagram {
                    plan.dropped.inc();
                } else {
                    handler.on_datagram(Datagram { peer, local, payload });
                }
            };
            if data.is_empty() {
                one(data);
            }
            data.chunks(meta.stride.max(1)).for_each(&mut one);
        }
        Ok(())
    }
}

impl DatagramSocket for WorkerSocket {
    fn try_send(&self, datagram: Datagram<'_>) -> io::Result<()> {
        let v6 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) if self.bound.is_ipv6() => IpAddr::V6(ip.to_ipv6_mapped()),
            ip => ip,
        };
        let transmit = Transmit {
            destination: SocketAddr::new(v6(datagram.peer.ip()), datagram.peer.port()),
            ecn: None,
            contents: datagram.payload,
            segment_size: None,
            src_ip: self.bound.ip().is_unspecified().then(|| v6(datagram.local.ip())),
        };
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit))
    }
}

/// Lends the thread's receive buffers.
fn with_slots<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SLOTS_OF_THREAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut slots = SLOTS_OF_THREAD.take();
    if slots.is_empty() {
        slots = vec![0; SLOT * SLOTS];
    }
    let result = f(&mut slots);
    SLOTS_OF_THREAD.set(slots);
    result
}

/// Reads the socket until the worker closes, or until the listener stopped and its sessions are over.
pub(crate) async fn run(listener: Arc<WorkerListener>, socket: WorkerSocket, stop: Closing) {
    let Some(plan) = &listener.plan.udp else { return };
    let socket = Arc::new(socket);
    let link = UdpLink { socket: socket.clone(), listener: listener.plan.info().clone(), worker: listener.env.clone() };
    let mut handler = plan.filter.clone().start(link);
    let mut closing = pin!(listener.spawner.drain().closing());
    let mut stop = pin!(stop);
    let mut stopped = false;
    while !stopped || handler.live() > 0 {
        let turn = tokio::select! {
            biased;
            () = &mut closing => return,
            () = &mut stop, if !stopped => {
                stopped = true;
                handler.stop();
                continue;
            }
            turn = poll_fn(|cx| socket.poll_turn(plan, &mut *handler, cx)) => turn,
            () = tokio::time::sleep(STOPPED_TICK), if stopped => continue,
        };
        match turn {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                handler.on_error();
                tracing::debug!(listener = &**listener.plan.name(), %error, "cannot receive datagrams");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}
