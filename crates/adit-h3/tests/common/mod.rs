//! Endpoints on the loopback with a certificate of their own.
#![allow(dead_code)]

pub mod raw;

use std::future::poll_fn;
use std::net::UdpSocket;
use std::sync::{Arc, OnceLock};

use adit_h3::endpoint::{Admission, ClientEndpoint, ClientSetup, QuicOptions, ServerEndpoint, ServerSetup};
use adit_h3::{Http3Options, QuicConnection, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One certificate for all tests of a process.
pub fn certificate() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static CERTIFICATE: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (signed.cert.der().clone(), signed.signing_key.serialize_der())
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub fn server_tls() -> rustls::ServerConfig {
    let (cert, key) = certificate();
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    let builder =
        rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    builder.with_no_client_auth().with_single_cert(vec![cert.clone()], key).unwrap()
}

pub fn client_tls() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate().0.clone()).unwrap();
    let builder =
        rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

pub fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

pub fn server_setup(options: &QuicOptions) -> ServerSetup {
    ServerSetup::new(&server_tls(), options, Admission::default(), 1).unwrap()
}

pub fn client_setup() -> ClientSetup {
    ClientSetup::new(&client_tls(), &QuicOptions::default()).unwrap()
}

/// Both ends of a connection, and the endpoints that they live on.
pub struct Link {
    pub server: QuicConnection,
    pub client: QuicConnection,
    pub server_endpoint: ServerEndpoint,
    pub client_endpoint: ClientEndpoint,
}

pub async fn link() -> Link {
    link_with(&QuicOptions::default()).await
}

pub async fn link_with(options: &QuicOptions) -> Link {
    let mut server_endpoint = ServerEndpoint::bind(socket(), &server_setup(options), 0).unwrap();
    let client_endpoint = ClientEndpoint::bind(socket()).unwrap();
    let at = server_endpoint.local_addr().unwrap();
    let connecting = client_endpoint.connect(&client_setup(), at, "localhost").unwrap();
    let client = tokio::spawn(connecting);
    let handshake = poll_fn(|cx| server_endpoint.poll_accept(cx)).await.unwrap();
    let server = handshake.await.unwrap();
    let client = client.await.unwrap().unwrap();
    Link { server, client, server_endpoint, client_endpoint }
}

/// A server that takes extended CONNECT.
pub fn allow_connect() -> ServerConfig {
    let http3 = Http3Options { allow_extended_connect: true, ..Http3Options::default() };
    ServerConfig { http3, stats: None }
}
