//! Dialling by QUIC, for HTTP/3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use adit_filter::upstream::FailureKind;
use adit_h3::QuicConnection;
use adit_h3::endpoint::{ClientEndpoint, ConnectFailure};
use adit_io::{Address, ConnInfo};
use adit_socket::{SocketKind, SocketOptions, When};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cluster::{Core, lock};
use crate::connect::{DialOptions, Unready, freebind};
use crate::host::HostState;
use crate::transport::{QuicTransport, TransportContext, TransportError};

/// Bytes of a socket's buffers, as far as the system lets us: one socket carries all of a worker's connections.
const SOCKET_BUFFER: usize = 2 << 20;

/// What Envoy says of a socket that was not made as the configuration has it.
const NO_SOCKET: &str = "QUIC_CONNECTION_CANCELLED with details: Fail to set up connection socket.";

/// One worker's sockets for QUIC: one for each address family, for each source address that a cluster binds to and each
/// list of options that it sets. Made when they are first needed.
#[derive(Default)]
pub struct QuicEndpoints(Mutex<Vec<(Source, ClientEndpoint)>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    address: SocketAddr,
    freebind: bool,
    options: SocketOptions,
}

impl Source {
    fn of(remote: SocketAddr, options: &DialOptions) -> Self {
        let any = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let source = options.source_for(remote);
        Self {
            address: source.unwrap_or(SocketAddr::new(any, 0)),
            freebind: options.freebind && source.is_some(),
            options: options.options.clone(),
        }
    }

    fn bind(&self) -> Result<std::net::UdpSocket, Unready> {
        let kind = SocketKind::datagram(&self.address);
        let socket = self.prepare(kind)?;
        socket.bind(&self.address.into()).map_err(|error| Unready::Bind(self.address, error))?;
        // Both after the bind, as in Envoy: nothing listens here.
        for when in [When::Bound, When::Listening] {
            self.options.set(when, kind, &socket).map_err(Unready::Option)?;
        }
        Ok(socket.into())
    }

    /// A socket that is not bound yet.
    fn prepare(&self, kind: SocketKind) -> Result<Socket, Unready> {
        let socket = Socket::new(Domain::for_address(self.address), Type::DGRAM.nonblocking(), Some(Protocol::UDP));
        let socket = socket.map_err(Unready::Socket)?;
        if self.address.is_ipv6() {
            socket.set_only_v6(true).map_err(Unready::Option)?;
        }
        if self.freebind {
            freebind(&socket, self.address).map_err(Unready::Option)?;
        }
        if self.address.port() != 0 {
            // Every worker has such a socket; what arrives at another's is lost to its connection, so no port is better.
            socket.set_reuse_port(true).map_err(Unready::Option)?;
        }
        // What the system allows is enough.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        self.options.set(When::BeforeBind, kind, &socket).map_err(Unready::Option)?;
        Ok(socket)
    }
}

impl QuicEndpoints {
    fn get(&self, source: &Source) -> Result<ClientEndpoint, Unready> {
        let mut endpoints = lock(&self.0);
        if let Some((_, endpoint)) = endpoints.iter().find(|(known, _)| known == source) {
            return Ok(endpoint.clone());
        }
        let endpoint = ClientEndpoint::bind(source.bind()?).map_err(Unready::Socket)?;
        endpoints.push((source.clone(), endpoint.clone()));
        Ok(endpoint)
    }

    /// An endpoint whose socket failed serves nobody any more.
    fn forget(&self, source: &Source) {
        lock(&self.0).retain(|(known, _)| known != source);
    }
}

/// Connects to a host: to its address, then to its further ones. The caller bounds it.
pub(crate) async fn connect(
    core: &Core,
    host: &HostState,
    endpoints: &QuicEndpoints,
    ctx: &TransportContext,
) -> Result<(QuicConnection, Arc<ConnInfo>), TransportError> {
    let Some(quic) = core.plan.transport(host.facts.transport).and_then(|factory| factory.quic()) else {
        return Err(TransportError::local("the transport socket does not speak QUIC"));
    };
    let mut result = dial(core, host.address(), endpoints, quic, ctx).await;
    for additional in &host.facts.additional {
        if result.is_ok() {
            break;
        }
        result = dial(core, additional, endpoints, quic, ctx).await;
    }
    result
}

async fn dial(
    core: &Core,
    address: &Address,
    endpoints: &QuicEndpoints,
    quic: &dyn QuicTransport,
    ctx: &TransportContext,
) -> Result<(QuicConnection, Arc<ConnInfo>), TransportError> {
    let Some(remote) = address.socket() else {
        return Err(TransportError::local(format_args!("{address} is not reached by UDP")));
    };
    let Some(http3) = &core.plan.http.h3 else {
        return Err(TransportError::local("the cluster does not speak HTTP/3"));
    };
    let source = Source::of(remote, &core.plan.dial);
    let bound = endpoints.get(&source);
    let bound = bound.and_then(|endpoint| Ok((endpoint.local_addr().map_err(Unready::Socket)?, endpoint)));
    let (local, endpoint) = bound.map_err(|unready| match unready {
        Unready::Option(_) => TransportError { reason: NO_SOCKET.to_owned(), ..unready.count(core) },
        _ => unready.count(core),
    })?;
    let local = SocketAddr::new(local_ip(local.ip(), remote), local.port());
    let mut info = ConnInfo::new(ConnInfo::next_id(), Address::Ip(local), Address::Ip(remote));
    info.transport = "quic";
    let setup = quic.setup(ctx, &info, &http3.quic)?;
    let name = quic.server_name(ctx);
    info.server_name = name.map(Box::from);
    // An address is sent as no name at all (RFC 6066 section 3).
    let asked = name.map_or_else(|| remote.ip().to_string(), str::to_owned);
    let connecting = endpoint.connect(&setup, remote, &asked).map_err(|error| {
        endpoints.forget(&source);
        TransportError::local(format_args!("immediate connect error: {error}"))
    })?;
    let connection = connecting.await.map_err(|error| TransportError {
        kind: match error {
            ConnectFailure::TimedOut => FailureKind::Timeout,
            _ => FailureKind::Remote,
        },
        reason: quic.failed(&error.to_string()),
        refusal: None,
    })?;
    let mut tls = connection.tls_info();
    quic.done(ctx, &mut tls);
    info.tls = Some(Arc::new(tls));
    Ok((connection, Arc::new(info)))
}

/// Our address on the way to `remote`. A socket for all remotes is bound to none, so the system is asked; nothing is sent.
fn local_ip(bound: IpAddr, remote: SocketAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let probe = std::net::UdpSocket::bind(SocketAddr::new(bound, 0));
    let found = probe.and_then(|probe| probe.connect(remote).and_then(|()| probe.local_addr()));
    found.map_or(bound, |address| address.ip())
}
