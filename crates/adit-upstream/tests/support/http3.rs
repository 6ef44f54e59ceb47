//! An HTTP/3 origin, and a transport socket that trusts it.

use std::future::poll_fn;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use adit_codec::{IncomingStream, RecvStream, SendStream, ServerConn};
use adit_config::Path;
use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_filter::BoxFuture;
use adit_h3::endpoint::{Admission, ClientSetup, QuicOptions, ServerEndpoint, ServerSetup};
use adit_h3::{Http3Options, ServerConfig};
use adit_http::{RequestKind, ResponseHead};
use adit_io::{ConnInfo, Io, TlsInfo};
use adit_upstream::transport::{BuiltTransport, TransportSite};
use adit_upstream::{QuicTransport, TransportBuilder, TransportContext, TransportError, TransportSocketFactory};
use bytes::Bytes;
use http::StatusCode;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;

fn certificate() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static CERTIFICATE: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (signed.cert.der().clone(), signed.signing_key.serialize_der())
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Stands for `QuicUpstreamTransport`: trusts the origin's certificate under this name. What goes by TCP is in the clear,
/// and only called TLS.
pub struct Trusting {
    pub name: &'static str,
    pub failures: Arc<AtomicUsize>,
    pub done: Arc<AtomicUsize>,
}

impl Trusting {
    pub fn new(name: &'static str) -> Self {
        Self { name, failures: Arc::default(), done: Arc::default() }
    }
}

impl TransportBuilder for Trusting {
    fn build(
        &self,
        _any: &prost_types::Any,
        _path: &Path,
        _site: &TransportSite<'_>,
        _inner: &dyn Fn(Option<&TransportSocket>, &Path) -> BuiltTransport,
    ) -> Option<BuiltTransport> {
        let socket = Self { name: self.name, failures: self.failures.clone(), done: self.done.clone() };
        Some(Ok(Arc::new(socket)))
    }
}

impl TransportSocketFactory for Trusting {
    fn connect<'a>(&'a self, mut io: Io, _ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        let info = Arc::make_mut(&mut io.info);
        info.server_name = Some(self.name.into());
        info.tls = Some(Arc::new(TlsInfo::default()));
        Box::pin(async move { Ok(io) })
    }

    fn secure(&self) -> bool {
        true
    }

    fn quic(&self) -> Option<&dyn QuicTransport> {
        Some(self)
    }
}

impl QuicTransport for Trusting {
    fn server_name<'a>(&'a self, _ctx: &'a TransportContext) -> Option<&'a str> {
        Some(self.name)
    }

    fn setup(&self, _: &TransportContext, _: &ConnInfo, options: &QuicOptions) -> Result<ClientSetup, TransportError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate().0.clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider());
        let tls = builder.with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        ClientSetup::new(&tls, options).map_err(TransportError::local)
    }

    fn done(&self, _ctx: &TransportContext, tls: &mut TlsInfo) {
        assert_eq!(tls.alpn.as_deref(), Some("h3"));
        self.done.fetch_add(1, SeqCst);
    }

    fn failed(&self, reason: &str) -> String {
        self.failures.fetch_add(1, SeqCst);
        format!("TLS_error: {reason}")
    }
}

/// A UDP and a TCP socket of one port.
pub async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

/// Answers GET with the number of the connection, echoes everything else.
pub struct Http3Origin {
    pub port: u16,
    pub accepted: Arc<AtomicUsize>,
    drain: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Http3Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http3Origin {
    /// Sends GOAWAY on the connections that are open.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }
}

pub fn http3_origin(allow_extended_connect: bool, socket: UdpSocket, quic: &QuicOptions) -> Http3Origin {
    let (cert, key) = certificate();
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![cert.clone()], key).unwrap();
    let setup = ServerSetup::new(&tls, quic, Admission::default(), 1).unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut endpoint = ServerEndpoint::bind(socket, &setup, 0).unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let http3 = Http3Options { allow_extended_connect, ..Http3Options::default() };
    let config = Arc::new(ServerConfig { http3, stats: None });
    let drain = watch::Sender::new(false);
    let draining = drain.clone();
    let task = tokio::spawn(async move {
        let mut conns = tokio::task::JoinSet::new();
        while let Some(handshake) = poll_fn(|cx| endpoint.poll_accept(cx)).await {
            let (config, count, mut draining) = (config.clone(), count.clone(), draining.subscribe());
            draining.mark_unchanged();
            conns.spawn(async move {
                let Ok(connection) = handshake.await else { return };
                let number = count.fetch_add(1, SeqCst);
                let mut server = adit_h3::server(connection, config);
                let mut streams = tokio::task::JoinSet::new();
                loop {
                    tokio::select! {
                        stream = poll_fn(|cx| server.poll_accept(cx)) => match stream {
                            Some(Ok(stream)) => { streams.spawn(answer(stream, number)); }
                            _ => return,
                        },
                        Ok(()) = draining.changed() => server.drain(),
                    }
                }
            });
        }
    });
    Http3Origin { port, accepted, drain, task }
}

async fn answer(stream: IncomingStream, number: usize) {
    let IncomingStream { head, mut recv, responder, .. } = stream;
    let status = match &head.kind {
        RequestKind::Upgrade(_) => StatusCode::SWITCHING_PROTOCOLS,
        _ => StatusCode::OK,
    };
    let mut response = ResponseHead::new(status);
    if let RequestKind::Upgrade(token) = &head.kind {
        response.headers.insert("upgrade", token.as_str().parse().unwrap());
        response.headers.insert("connection", "upgrade".parse().unwrap());
    }
    let Ok(mut send) = responder.respond(response, false) else { return };
    if head.method == http::Method::GET && head.kind == RequestKind::Plain {
        let mut data = Bytes::from(number.to_string());
        let _ = poll_fn(|cx| send.poll_send(cx, &mut data, true)).await;
        let _ = poll_fn(|cx| send.poll_flush(cx)).await;
        return;
    }
    let _ = echo(&mut *recv, &mut *send).await;
}

async fn echo(recv: &mut dyn RecvStream, send: &mut dyn SendStream) -> Result<(), adit_http::StreamError> {
    while let Some(chunk) = poll_fn(|cx| recv.poll_chunk(cx, 65536)).await {
        let mut chunk = chunk?;
        poll_fn(|cx| send.poll_send(cx, &mut chunk, false)).await?;
        poll_fn(|cx| send.poll_flush(cx)).await?;
    }
    poll_fn(|cx| send.poll_send(cx, &mut Bytes::new(), true)).await?;
    poll_fn(|cx| send.poll_flush(cx)).await
}
