//! Certificates, both sides over loopback, and the messages that configure them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use adit_config::Path;
use adit_config::proto::envoy::config::core::v3::DataSource;
use adit_config::proto::envoy::config::core::v3::data_source::Specifier;
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_io::{Address, ConnInfo, Io};
use adit_stats::Store;
use adit_tls::{Acceptor, CertificateStore, ConnectOptions, Connector, TlsEnv, TlsError};
use pb::common_tls_context::ValidationContextType;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tokio::net::{TcpListener, TcpStream};

/// An authority.
pub struct Ca(pub CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, names: &[&str]) -> Cert {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Cert {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Cert { der: cert.der().to_vec(), chain: cert.pem(), key: key.serialize_pem() }
    }

    pub fn crl(&self, serials: &[u64]) -> String {
        let now = std::time::SystemTime::now();
        self.crl_until(serials, now + std::time::Duration::from_secs(3600))
    }

    pub fn crl_until(&self, serials: &[u64], until: std::time::SystemTime) -> String {
        let revoked_certs = serials
            .iter()
            .map(|serial| rcgen::RevokedCertParams {
                serial_number: (*serial).into(),
                revocation_time: rcgen::date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: until.into(),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, names.first().copied().unwrap_or("nobody"));
    for name in names {
        let san = if let Some(uri) = name.strip_prefix("uri:") {
            rcgen::SanType::URI(uri.try_into().unwrap())
        } else if let Some(mail) = name.strip_prefix("mail:") {
            rcgen::SanType::Rfc822Name(mail.try_into().unwrap())
        } else if let Ok(ip) = name.parse() {
            rcgen::SanType::IpAddress(ip)
        } else {
            rcgen::SanType::DnsName((*name).try_into().unwrap())
        };
        params.subject_alt_names.push(san);
    }
    params
}

/// A certificate with its key, in PEM.
pub struct Cert {
    pub der: Vec<u8>,
    pub chain: String,
    pub key: String,
}

/// Its own issuer.
pub fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Cert {
    let mut params = params(names);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    Cert { der: cert.der().to_vec(), chain: cert.pem(), key: key.serialize_pem() }
}

pub fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() })
}

pub fn file(path: &std::path::Path) -> Option<DataSource> {
    let name = path.to_str().unwrap().to_owned();
    Some(DataSource { specifier: Some(Specifier::Filename(name)), ..DataSource::default() })
}

pub fn tls_certificate(cert: &Cert) -> pb::TlsCertificate {
    pb::TlsCertificate {
        certificate_chain: inline(&cert.chain),
        private_key: inline(&cert.key),
        ..pb::TlsCertificate::default()
    }
}

pub fn common(certs: &[&Cert], validation: Option<pb::CertificateValidationContext>) -> pb::CommonTlsContext {
    pb::CommonTlsContext {
        tls_certificates: certs.iter().map(|cert| tls_certificate(cert)).collect(),
        validation_context_type: validation.map(ValidationContextType::ValidationContext),
        ..pb::CommonTlsContext::default()
    }
}

pub fn trust(pem: &str) -> pb::CertificateValidationContext {
    pb::CertificateValidationContext { trusted_ca: inline(pem), ..pb::CertificateValidationContext::default() }
}

pub fn downstream(common: pb::CommonTlsContext) -> pb::DownstreamTlsContext {
    pb::DownstreamTlsContext { common_tls_context: Some(common), ..pb::DownstreamTlsContext::default() }
}

pub fn upstream(common: pb::CommonTlsContext) -> pb::UpstreamTlsContext {
    pb::UpstreamTlsContext { common_tls_context: Some(common), ..pb::UpstreamTlsContext::default() }
}

/// What sockets are made with, and their counters below `d` and `u`.
pub struct Rig {
    pub store: Store,
    pub env: TlsEnv,
}

impl Default for Rig {
    fn default() -> Self {
        Self::with_secrets(&[])
    }
}

impl Rig {
    pub fn with_secrets(secrets: &[pb::Secret]) -> Self {
        Self { store: Store::new(1), env: TlsEnv::new(secrets, CertificateStore::new().unwrap()) }
    }

    pub fn acceptor(&self, message: &pb::DownstreamTlsContext) -> Arc<Acceptor> {
        Acceptor::from_proto(message, &self.env, &self.store.scope("d"), &Path::from("at")).unwrap()
    }

    pub fn connector(&self, message: &pb::UpstreamTlsContext) -> Arc<Connector> {
        Connector::from_proto(message, &self.env, &self.store.scope("u"), &Path::from("at")).unwrap()
    }

    pub fn refused(&self, message: &pb::DownstreamTlsContext) -> String {
        let Err(problems) = Acceptor::from_proto(message, &self.env, &self.store.scope("d"), &Path::from("at")) else {
            panic!("accepted");
        };
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    pub fn refused_upstream(&self, message: &pb::UpstreamTlsContext) -> String {
        let Err(problems) = Connector::from_proto(message, &self.env, &self.store.scope("u"), &Path::from("at")) else {
            panic!("accepted");
        };
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    pub fn count(&self, name: &str) -> u64 {
        self.store.counter_value(name).unwrap_or(0)
    }

    /// The sum of all counters that a refused handshake may raise.
    pub fn refusals(&self, side: &str) -> u64 {
        ["connection_error", "fail_verify_no_cert", "fail_verify_error", "fail_verify_san", "fail_verify_cert_hash"]
            .iter()
            .map(|name| self.count(&format!("{side}.ssl.{name}")))
            .sum()
    }
}

/// Two ends of a TCP connection.
pub async fn tcp() -> (Io, Io) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (io(client), io(server))
}

pub fn io(socket: TcpStream) -> Io {
    socket.set_nodelay(true).unwrap();
    let info = ConnInfo::new(
        ConnInfo::next_id(),
        Address::Ip(socket.local_addr().unwrap()),
        Address::Ip(socket.peer_addr().unwrap()),
    );
    Io::tcp(socket, Arc::new(info))
}

/// A handshake of the two: the client's end and the server's.
pub async fn shake(
    connector: &Connector,
    acceptor: &Acceptor,
    options: ConnectOptions<'_>,
) -> (Result<Io, TlsError>, Result<Io, TlsError>) {
    let (client, server) = tcp().await;
    tokio::join!(connector.connect(client, options), acceptor.accept(server))
}

/// A handshake that works.
pub async fn pair(connector: &Connector, acceptor: &Acceptor) -> (Io, Io) {
    pair_with(connector, acceptor, ConnectOptions::default()).await
}

pub async fn pair_with(connector: &Connector, acceptor: &Acceptor, options: ConnectOptions<'_>) -> (Io, Io) {
    let (client, server) = shake(connector, acceptor, options).await;
    let (client, server) = match (client, server) {
        (Ok(client), Ok(server)) => (client, server),
        (client, server) => panic!("client: {:?}, server: {:?}", client.err(), server.err()),
    };
    (client, server)
}

/// As with [`pair`], and a byte each way, so that tickets have arrived.
pub async fn exercise(connector: &Connector, acceptor: &Acceptor, options: ConnectOptions<'_>) -> (Io, Io) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, mut server) = pair_with(connector, acceptor, options).await;
    let mut byte = [0];
    for (from, to) in [(true, b"a"), (false, b"b")] {
        let (one, other) = if from { (&mut client, &mut server) } else { (&mut server, &mut client) };
        one.write_all(to).await.unwrap();
        one.flush().await.unwrap();
        other.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, to);
    }
    (client, server)
}
