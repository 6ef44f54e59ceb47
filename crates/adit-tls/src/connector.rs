//! The upstream side: [`Connector`].

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_io::{ConnInfo, Io, Stream, TlsInfo};
use adit_stats::{Counter, Scope};
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::acceptor::{handshake, publish};
use crate::config::{self, Common};
use crate::error::TlsError;
use crate::info;
use crate::keylog::KeyLogger;
use crate::session::Session;
use crate::stats::TlsStats;
use crate::store::{Shown, TlsEnv, Watched};
use crate::transport::TlsTransport;
use crate::verify::{PeerIs, Verifier};

/// What of a handshake depends on who asks for the connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions<'a> {
    /// The server name that overrides the configured one (`auto_sni`).
    pub sni: Option<&'a str>,
    /// The host's name, which `auto_host_sni` asks by; empty for none.
    pub host_name: &'a str,
    /// The certificate must be for `verify_name` (`auto_san_validation`).
    pub auto_san: bool,
    /// The name or the address that the certificate must be for; the server name where there is none.
    pub verify_name: Option<&'a str>,
    /// What to offer in ALPN unless the configuration lists protocols.
    pub alpn: &'a [&'a str],
    /// `alpn` is offered whatever the configuration lists.
    pub alpn_overrides: bool,
}

/// The TLS transport socket of a cluster (`UpstreamTlsContext`), shared by all workers.
pub struct Connector {
    message: pb::UpstreamTlsContext,
    path: Path,
    env: TlsEnv,
    scope: Scope,
    stats: TlsStats,
    key_log: Option<Arc<KeyLogger>>,
    updated: Counter,
    rejected: Counter,
    current: RwLock<Arc<Current>>,
}

struct Current {
    plain: Variant,
    /// With the certificate's names compared with the server name.
    by_name: Variant,
    has_alpn: bool,
    /// TLS 1.3 is among the versions.
    speaks_13: bool,
    local: Option<Vec<u8>>,
    shown: Shown,
    files: Vec<PathBuf>,
    certificate_names: Vec<String>,
}

/// A configuration and its verifier. Sessions are resumed only within one.
struct Variant {
    config: Arc<ClientConfig>,
    /// The same, with secrets written to the key log.
    logged: Option<Arc<ClientConfig>>,
    verifier: Arc<Verifier>,
}

impl Connector {
    /// From its message at `path`, with its files; they are watched from now on. Counts at `ssl.` below `scope`, the
    /// cluster's.
    ///
    /// # Errors
    /// All that is wrong with it, each with its path.
    pub fn from_proto(
        message: &pb::UpstreamTlsContext,
        env: &TlsEnv,
        scope: &Scope,
        path: &Path,
    ) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let stats = TlsStats::new(scope);
        let key_log = message.common_tls_context.as_ref().and_then(|common| common.key_log.as_ref());
        let key_log = key_log
            .map(|log| KeyLogger::from_proto(log, &path.field("common_tls_context").field("key_log")).map(Arc::new))
            .transpose()
            .map_err(|problem| vec![problem])?;
        let current = load(message, env, &stats, key_log.as_ref(), path)?;
        publish(scope, &current.shown, &current.certificate_names);
        let factory = scope.scope("client_ssl_socket_factory");
        let connector = Arc::new(Self {
            message: message.clone(),
            path: path.clone(),
            env: env.clone(),
            scope: scope.clone(),
            stats,
            key_log,
            updated: factory.counter("ssl_context_update_by_sds"),
            rejected: factory.counter("ssl_context_update_rejected"),
            current: RwLock::new(Arc::new(current)),
        });
        let watched: Arc<dyn Watched> = connector.clone();
        env.store.add(&watched);
        Ok(connector)
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server name that a connection is asked by: `auto_sni`, then `auto_host_sni`, then `sni`.
    pub fn server_name<'a>(&'a self, options: &ConnectOptions<'a>) -> Option<&'a str> {
        let host = Some(options.host_name).filter(|host| self.message.auto_host_sni && !host.is_empty());
        options.sni.or(host).or(Some(&*self.message.sni)).filter(|name| !name.is_empty())
    }

    /// Shakes hands. Unbounded in time: the caller drops the future.
    ///
    /// # Errors
    /// Why there is no session; counted, and told to the peer.
    pub async fn connect(&self, io: Io, options: ConnectOptions<'_>) -> Result<Io, TlsError> {
        let result = self.shake(io, options).await;
        if let Err(error) = &result {
            self.stats.failed(error);
        }
        result
    }

    async fn shake(&self, mut io: Io, options: ConnectOptions<'_>) -> Result<Io, TlsError> {
        let current = self.current();
        let name = self.server_name(&options);
        let variant = current.variant(self.by_name(&options));
        // Without a name none is sent, which rustls knows as an address.
        let server = match name {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| TlsError::connection(format_args!("{name} is no server name")))?,
            None => ServerName::from(
                io.info.remote.socket().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip()),
            ),
        };
        let config = self.config(variant, &options, &io.info);
        let host = options.pinned().map_or_else(|| server.to_str().into_owned(), str::to_owned);
        let session = if options.alpn.is_empty() || (current.has_alpn && !options.alpn_overrides) {
            UnbufferedClientConnection::new(config, server)
        } else {
            let alpn = options.alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
            UnbufferedClientConnection::new_with_alpn(config, server, alpn)
        };
        let session = session.map_err(TlsError::connection)?;
        let (state, metadata) = (std::mem::take(&mut io.state), std::mem::take(&mut io.metadata));
        let mut facts = io.info.clone();
        let mut transport = TlsTransport::new(io, Session::Client(session));
        handshake(&mut transport).await?;
        let session = transport.session();
        self.stats.done(session);
        let validated = session
            .peer_certificates()
            .is_some_and(|certificates| variant.verifier.validated(certificates, Some(&host)));
        let tls = info::tls_info(session, validated, current.local.clone());
        let settled = Arc::make_mut(&mut facts);
        settled.server_name = name.map(Box::from);
        settled.transport = "tls";
        settled.tls = Some(Arc::new(tls));
        let mut io = Io::new(Stream::Other(Box::new(transport)), facts);
        (io.state, io.metadata) = (state, metadata);
        Ok(io)
    }
}

impl Connector {
    fn by_name(&self, options: &ConnectOptions<'_>) -> bool {
        options.auto_san || self.message.auto_sni_san_validation
    }

    /// The configuration of this variant for a connection of which `info` is known.
    fn config(&self, variant: &Variant, options: &ConnectOptions<'_>, info: &ConnInfo) -> Arc<ClientConfig> {
        let logged = variant.logged.as_ref().filter(|_| self.wants_log(info));
        let config = logged.unwrap_or(&variant.config);
        let Some(name) = options.pinned() else { return config.clone() };
        let asked = match self.server_name(options) {
            Some(asked) => asked == name,
            None => info.remote.socket().is_some_and(|remote| name.parse() == Ok(remote.ip())),
        };
        if asked { config.clone() } else { Arc::new(variant.pinned(config, name)) }
    }

    fn wants_log(&self, info: &ConnInfo) -> bool {
        self.key_log.as_ref().is_some_and(|log| log.wants(info))
    }

    /// The configuration for a handshake that QUIC does itself, on a connection of which `info` is known; its ALPN is to be
    /// replaced.
    ///
    /// # Errors
    /// The versions configured leave out TLS 1.3, and QUIC has no other (RFC 9001 section 4.2).
    pub fn quic_config(&self, options: &ConnectOptions<'_>, info: &ConnInfo) -> Result<Arc<ClientConfig>, TlsError> {
        let current = self.current();
        if !current.speaks_13 {
            return Err(TlsError::connection("QUIC needs TLS 1.3"));
        }
        Ok(self.config(current.variant(self.by_name(options)), options, info))
    }

    /// Counts a handshake that QUIC did, and adds to `tls` what only the configuration knows.
    pub fn quic_done(&self, options: &ConnectOptions<'_>, tls: &mut TlsInfo) {
        self.stats.quic_done(tls);
        let current = self.current();
        let chain: Vec<_> = tls.peer_certificates.iter().map(|der| CertificateDer::from_slice(der)).collect();
        let name = options.pinned().or_else(|| self.server_name(options));
        tls.peer_validated = current.variant(self.by_name(options)).verifier.validated(&chain, name);
        tls.local_certificate.clone_from(&current.local);
    }

    /// Counts a handshake that failed with these words of QUIC, which keeps no more of the cause.
    pub fn quic_failed(&self, reason: &str) -> TlsError {
        let error = TlsError::from_words(reason);
        self.stats.failed(&error);
        error
    }
}

impl<'a> ConnectOptions<'a> {
    /// The name that the certificate must be for, whatever the server name.
    fn pinned(&self) -> Option<&'a str> {
        self.verify_name.filter(|_| self.auto_san)
    }
}

impl Variant {
    /// `config` for a server whose certificate must be for `name`, which is not what it is asked by. Sessions are known by what
    /// was asked, and a resumed one shows no certificate: there is none.
    fn pinned(&self, config: &ClientConfig, name: &str) -> ClientConfig {
        let mut config = config.clone();
        let verifier = Verifier { name: Some(name.into()), ..Verifier::clone(&self.verifier) };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config.resumption = Resumption::disabled();
        config
    }
}

impl Current {
    fn variant(&self, by_name: bool) -> &Variant {
        if by_name { &self.by_name } else { &self.plain }
    }
}

fn load(
    message: &pb::UpstreamTlsContext,
    env: &TlsEnv,
    stats: &TlsStats,
    key_log: Option<&Arc<KeyLogger>>,
    path: &Path,
) -> Result<Current, Vec<Diagnostic>> {
    let at = path.field("common_tls_context");
    let mut problems = Vec::new();
    if message.allow_renegotiation {
        problems.push(Diagnostic::error(path.field("allow_renegotiation"), "renegotiation is not supported"));
    }
    #[allow(deprecated)]
    if message.enforce_rsa_key_usage == Some(true) {
        problems.push(Diagnostic::error(path.field("enforce_rsa_key_usage"), "not supported"));
    }
    if !message.sni.is_empty() && ServerName::try_from(message.sni.as_str()).is_err() {
        problems.push(Diagnostic::error(path.field("sni"), format!("{} is no server name", message.sni)));
    }
    let common = config::common(&message.common_tls_context.clone().unwrap_or_default(), env, &at);
    let common = match common {
        Ok(common) => common,
        Err(found) => {
            problems.extend(found);
            return Err(problems);
        }
    };
    if common.identities.len() > 1 {
        problems.push(Diagnostic::error(&at, "Multiple TLS certificates are not supported for client contexts"));
    }
    if message.auto_sni_san_validation && common.validation.trust.is_none() {
        let text = "auto_sni_san_validation needs a validation context with trusted_ca";
        problems.push(Diagnostic::error(path.field("auto_sni_san_validation"), text));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    make(message, common, stats, key_log).map_err(|text| vec![Diagnostic::error(path, text)])
}

fn make(
    message: &pb::UpstreamTlsContext,
    common: Common,
    stats: &TlsStats,
    key_log: Option<&Arc<KeyLogger>>,
) -> Result<Current, String> {
    let identity = common.identities.first();
    let key = identity.map(|one| one.identity.key.clone());
    let variant = |by_name: bool| -> Result<Variant, String> {
        let verifier = Arc::new(Verifier {
            validation: common.validation.clone(),
            algorithms: common.provider.signature_verification_algorithms,
            peer: PeerIs::Server,
            required: false,
            by_name,
            name: None,
            stats: stats.clone(),
        });
        let builder = ClientConfig::builder_with_provider(common.provider.clone())
            .with_protocol_versions(&common.versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &key {
            Some(key) => builder.with_client_cert_resolver(resolver(key)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = common.alpn.clone();
        // `max_session_keys` is one by default.
        let sessions = message.max_session_keys.unwrap_or(1) as usize;
        config.resumption =
            if sessions == 0 { Resumption::disabled() } else { Resumption::in_memory_sessions(sessions) };
        let logged = key_log.map(|log| {
            let mut config = config.clone();
            config.key_log = log.clone();
            Arc::new(config)
        });
        Ok(Variant { config: Arc::new(config), logged, verifier })
    };
    Ok(Current {
        plain: variant(false)?,
        by_name: variant(true)?,
        has_alpn: !common.alpn.is_empty(),
        speaks_13: common.versions.iter().any(|version| version.version == rustls::ProtocolVersion::TLSv1_3),
        local: identity.map(|one| one.identity.leaf().to_vec()),
        shown: common.shown,
        files: common.files,
        certificate_names: common.identities.iter().map(|one| one.name.clone()).collect(),
    })
}

fn resolver(key: &Arc<CertifiedKey>) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key)))
}

impl Watched for Connector {
    fn files(&self) -> Vec<PathBuf> {
        self.current().files.clone()
    }

    fn reload(&self) -> Result<(), Vec<Diagnostic>> {
        let loaded = load(&self.message, &self.env, &self.stats, self.key_log.as_ref(), &self.path)
            .inspect_err(|_| self.rejected.inc())?;
        publish(&self.scope, &loaded.shown, &loaded.certificate_names);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        self.updated.inc();
        Ok(())
    }

    fn shown(&self) -> Shown {
        self.current().shown.clone()
    }
}
