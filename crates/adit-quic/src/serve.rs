//! One worker's endpoint: clients are admitted, shaken hands with, and handed to the connection manager.

use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use adit_filter::{AccessLogType, BoxFuture, ListenerInfo, LogContext, QuicFilter, WorkerEnv};
use adit_h3::QuicConnection;
use adit_h3::endpoint::{Handshake, HandshakeFailure, ServerEndpoint, ServerSetup};
use adit_hcm::Session;
use adit_io::{Address, ConnInfo};

use crate::{CLOSING, QuicListener};

impl QuicFilter for QuicListener {
    fn serve(
        self: Arc<Self>,
        socket: UdpSocket,
        listener: Arc<ListenerInfo>,
        worker: Arc<WorkerEnv>,
        stopped: BoxFuture<'static, ()>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(run(self, socket, listener, worker, stopped))
    }
}

async fn run(
    quic: Arc<QuicListener>,
    socket: UdpSocket,
    listener: Arc<ListenerInfo>,
    worker: Arc<WorkerEnv>,
    stopped: BoxFuture<'static, ()>,
) {
    let mut endpoint = match quic.bind(socket, worker.index) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(listener = %listener.name, %error, "a QUIC listener cannot serve");
            return;
        }
    };
    let local = endpoint.local_addr().ok();
    let mut stopped = stopped;
    let mut accepting = true;
    let closing = worker.lifecycle.closing();
    tokio::pin!(closing);
    loop {
        let handshake = tokio::select! {
            handshake = poll_fn(|cx| endpoint.poll_accept(cx)) => handshake,
            () = &mut stopped, if accepting => {
                accepting = false;
                endpoint.set_accepting(false);
                continue;
            }
            () = &mut closing => {
                // Streams end by themselves when the worker closes; then the connections are told.
                tokio::time::sleep(CLOSING).await;
                endpoint.close();
                return;
            }
            () = tokio::time::sleep(CLOSING), if !accepting => {
                if endpoint.connections() == 0 {
                    return;
                }
                continue;
            }
        };
        let Some(handshake) = handshake else { return };
        let task = connection(quic.clone(), handshake, local, listener.clone(), worker.clone());
        worker.spawn.spawn(Box::pin(task));
    }
}

impl QuicListener {
    /// The endpoint of a worker. Keys are those of the first worker's start: QUIC listeners share one setup.
    fn bind(&self, socket: UdpSocket, worker: usize) -> Result<ServerEndpoint, String> {
        let setup = self.setup.get_or_init(|| {
            let tls = self.tls.quic_config();
            ServerSetup::new(&tls, &self.options, self.admission, self.workers).map_err(|error| error.to_string())
        });
        let setup = setup.as_ref().map_err(Clone::clone)?;
        let worker = u8::try_from(worker).map_err(|error| error.to_string())?;
        ServerEndpoint::bind(socket, setup, worker).map_err(|error| error.to_string())
    }
}

async fn connection(
    quic: Arc<QuicListener>,
    handshake: Handshake,
    local: Option<SocketAddr>,
    listener: Arc<ListenerInfo>,
    worker: Arc<WorkerEnv>,
) {
    let started = Instant::now();
    quic.stats.total.inc();
    let (worker_total, worker_active) = quic.stats.worker(worker.index);
    worker_total.inc();
    let active = (quic.stats.active.hold(), worker_active.hold());
    match handshake.await {
        Ok(connection) => {
            quic.stats.handshake.inc();
            serve(&quic, connection, local, listener, worker).await;
        }
        Err(HandshakeFailure::TimedOut) => quic.stats.handshake_timeout.inc(),
        Err(error) => {
            quic.stats.connection_error.inc();
            tracing::debug!(%error, "QUIC handshake");
        }
    }
    drop(active);
    quic.stats.destroy.inc();
    quic.stats.length.record(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
}

async fn serve(
    quic: &Arc<QuicListener>,
    connection: QuicConnection,
    local: Option<SocketAddr>,
    listener: Arc<ListenerInfo>,
    worker: Arc<WorkerEnv>,
) {
    let Some(config) = quic.hcm.http3() else { return };
    let remote = connection.remote();
    let port = local.map_or(0, |local| local.port());
    let ip = connection.local_ip().or(local.map(|local| local.ip())).unwrap_or(remote.ip());
    let mut info = ConnInfo::new(ConnInfo::next_id(), Address::Ip(SocketAddr::new(ip, port)), Address::Ip(remote));
    info.transport = "quic";
    info.server_name = connection.server_name();
    info.tls = Some(Arc::new(connection.tls_info()));
    let codec = adit_h3::server(connection, config.clone());
    let session = Session {
        info: Arc::new(info),
        listener,
        filter_chain_name: quic.chain_name.clone(),
        worker,
        guards: Vec::new(),
    };
    let info = quic.hcm.clone().serve_http3(Box::new(codec), session).await;
    let context = LogContext { kind: AccessLogType::TcpConnectionEnd, ..LogContext::new(&info) };
    for log in &quic.access_logs {
        log.log(&context);
    }
}
