//! Hosts that are reached by UDP: chosen, limited and counted, each with a socket to it.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_filter::upstream::{ConnectFailure, FailureKind, Host, Need, Priority, UdpUpstream};
use adit_socket::{SocketKind, When};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::connect::{DialOptions, Unready, freebind, text};
use crate::host::HostState;
use crate::worker::WorkerCluster;

impl WorkerCluster {
    pub(crate) fn udp_upstream(&self, need: &Need<'_>) -> Result<UdpUpstream, ConnectFailure> {
        let host = self.pick(need)?;
        let failure = |kind, reason: &'static str| ConnectFailure {
            kind,
            reason: Cow::Borrowed(reason),
            host: Some(host.clone() as Arc<dyn Host>),
            refusal: None,
        };
        let Some(address) = host.address().socket() else {
            return Err(failure(FailureKind::Local, "the host has no IP address"));
        };
        let Some(this) = self.this.upgrade() else { return Err(failure(FailureKind::Local, "")) };
        if !host.try_place(need.priority) {
            self.core.stats.traffic.upstream_cx_overflow.inc();
            return Err(failure(FailureKind::Overflow, ""));
        }
        self.count_connection(&host);
        let socket = socket(address, &self.core.plan.dial).map_err(|unready| {
            if let Unready::Option(error) = &unready {
                self.core.warn_of_option(error);
            }
            let error = io::Error::from(unready);
            io::Error::new(error.kind(), text(&error))
        });
        let guard = Box::new(UdpGuard { cluster: this, host: host.clone(), priority: need.priority });
        Ok(UdpUpstream { host, address, socket, guard })
    }
}

/// A socket that is connected to this address, in the context of the worker's runtime.
fn socket(remote: SocketAddr, options: &DialOptions) -> Result<UdpSocket, Unready> {
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM.nonblocking(), Some(Protocol::UDP));
    let socket = socket.map_err(Unready::Socket)?;
    let source = options.source_for(remote);
    if source.is_some() && options.freebind {
        freebind(&socket, remote).map_err(Unready::Option)?;
    }
    // Of the later states none comes, as in Envoy.
    options.options.set(When::BeforeBind, SocketKind::datagram(&remote), &socket).map_err(Unready::Option)?;
    if let Some(source) = source {
        socket.bind(&source.into()).map_err(|error| Unready::Bind(source, error))?;
    }
    socket.connect(&remote.into()).map_err(Unready::Socket)?;
    UdpSocket::from_std(socket.into()).map_err(Unready::Socket)
}

/// A session's place under `max_connections`, the cluster's and the host's.
struct UdpGuard {
    cluster: Arc<WorkerCluster>,
    host: Arc<HostState>,
    priority: Priority,
}

impl Drop for UdpGuard {
    fn drop(&mut self) {
        self.cluster.uncount_connection(&self.host);
        self.host.unplace(self.priority);
    }
}
