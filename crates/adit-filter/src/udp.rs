//! Filters of UDP listeners.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{BoxFuture, ListenerInfo, WorkerEnv};

/// The filter of a UDP listener (`envoy.filters.udp_listener.*`): it takes every datagram of a socket.
pub trait UdpListenerFilter: Send + Sync {
    /// Begins on a worker: the handler of that worker's socket.
    fn start(self: Arc<Self>, link: UdpLink) -> Box<dyn UdpHandler>;
}

/// What a handler is given of its worker.
#[derive(Clone)]
pub struct UdpLink {
    /// Sends answers.
    pub socket: Arc<dyn DatagramSocket>,
    /// The listener.
    pub listener: Arc<ListenerInfo>,
    /// What the worker lends.
    pub worker: Arc<WorkerEnv>,
}

/// Takes the datagrams of one socket on one worker. Its methods never wait.
pub trait UdpHandler: Send {
    /// A datagram; the payload may be empty.
    fn on_datagram(&mut self, datagram: Datagram<'_>);

    /// Reading the socket failed.
    fn on_error(&mut self);

    /// How many sessions live.
    fn live(&self) -> usize;

    /// Nothing new may begin; what lives goes on, and the socket is read for as long as [`UdpHandler::live`] is not 0.
    fn stop(&mut self);
}

/// A datagram as it came.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to.
    pub local: SocketAddr,
    /// What is in it; may be empty.
    pub payload: &'a [u8],
}

/// Sends datagrams from a listener's address.
pub trait DatagramSocket: Send + Sync {
    /// Sends one now, or fails: `WouldBlock` when the kernel has no room.
    fn try_send(&self, datagram: Datagram<'_>) -> io::Result<()>;
}

/// Takes a worker's UDP socket whole: a QUIC listener (`udp_listener_config.quic_options`).
pub trait QuicFilter: Send + Sync {
    /// Serves the socket of one worker, inside that worker's runtime, until `stopped`: then no client is new, and the task
    /// ends once the last one is gone or the worker closes.
    fn serve(
        self: Arc<Self>,
        socket: std::net::UdpSocket,
        listener: Arc<ListenerInfo>,
        worker: Arc<WorkerEnv>,
        stopped: BoxFuture<'static, ()>,
    ) -> BoxFuture<'static, ()>;
}
