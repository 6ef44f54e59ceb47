//! The downstream side: [`Acceptor`].

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_io::{Io, Stream};
use adit_stats::{Counter, Scope};
use aws_lc_rs::digest::{SHA256, digest};
use pb::downstream_tls_context::SessionTicketKeysType;
use pb::secret::Type;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets, UnbufferedServerConnection};

use crate::certs::{Chooser, Identities};
use crate::config::{self, Common, Material};
use crate::error::TlsError;
use crate::hello::{ClientHello, Inspect, inspect_client_hello};
use crate::info;
use crate::keylog::KeyLogger;
use crate::session::Session;
use crate::stats::TlsStats;
use crate::store::{Shown, TlsEnv, Watched};
use crate::tickets::{Binding, Sessions, StaticKeys, Tickets};
use crate::transport::TlsTransport;
use crate::verify::{PeerIs, Verifier};

/// `session_timeout` where it is absent: BoringSSL's two hours.
const SESSION_TIMEOUT: Duration = Duration::from_secs(7200);
/// TLS 1.3 in `supported_versions`.
const TLS13: u16 = 0x0304;
/// The most of a ClientHello that is waited for before rustls is asked, records included.
const HELLO_MOST: usize = 72 << 10;

/// The TLS transport socket of a filter chain (`DownstreamTlsContext`), shared by all workers.
pub struct Acceptor {
    message: pb::DownstreamTlsContext,
    path: Path,
    env: TlsEnv,
    scope: Scope,
    stats: TlsStats,
    key_log: Option<Arc<KeyLogger>>,
    updated: Counter,
    rejected: Counter,
    current: RwLock<Arc<Current>>,
}

/// What is made of the files as they are now.
pub(crate) struct Current {
    pub(crate) with_alpn: Arc<ServerConfig>,
    /// For clients that offer nothing of what is listed: Envoy goes on without, rustls would refuse.
    without_alpn: Arc<ServerConfig>,
    alpn: Vec<Box<str>>,
    chooser: Arc<Chooser>,
    verifier: Arc<Verifier>,
    shown: Shown,
    files: Vec<PathBuf>,
}

impl Acceptor {
    /// From its message at `path`, with its files; they are watched from now on. Counts at `ssl.` below `scope`, the
    /// listener's.
    ///
    /// # Errors
    /// All that is wrong with it, each with its path.
    pub fn from_proto(
        message: &pb::DownstreamTlsContext,
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
        let current = load(message, env, &stats, path)?;
        publish(scope, &current.shown, &current.names());
        let factory = scope.scope("server_ssl_socket_factory");
        let acceptor = Arc::new(Self {
            message: message.clone(),
            path: path.clone(),
            env: env.clone(),
            scope: scope.clone(),
            stats,
            key_log,
            updated: factory.counter("ssl_context_update_by_sds"),
            rejected: factory.counter("ssl_context_update_rejected"),
            current: RwLock::new(Arc::new(current.current)),
        });
        let watched: Arc<dyn Watched> = acceptor.clone();
        env.store.add(&watched);
        Ok(acceptor)
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shakes hands. Unbounded in time: the caller drops the future.
    ///
    /// # Errors
    /// Why there is no session; counted, and told to the peer where it listens.
    pub async fn accept(&self, io: Io) -> Result<Io, TlsError> {
        let result = self.shake(io).await;
        if let Err(error) = &result {
            self.stats.failed(error);
        }
        result
    }

    async fn shake(&self, mut io: Io) -> Result<Io, TlsError> {
        let hello = read_hello(&mut io).await?;
        let current = self.current();
        let key_log = self.key_log.as_ref().filter(|log| log.wants(&io.info));
        let (config, chooser) = current.config(&hello, key_log);
        let session = UnbufferedServerConnection::new(config).map_err(TlsError::connection)?;
        let (state, metadata) = (std::mem::take(&mut io.state), std::mem::take(&mut io.metadata));
        let mut facts = io.info.clone();
        let mut transport = TlsTransport::new(io, Session::Server(session));
        handshake(&mut transport).await?;
        let session = transport.session();
        self.stats.done(session);
        let validated =
            session.peer_certificates().is_some_and(|certificates| current.verifier.validated(certificates, None));
        let chosen = chooser.chosen.get().and_then(|index| chooser.identities.list.get(*index));
        let tls = info::tls_info(session, validated, chosen.map(|identity| identity.leaf().to_vec()));
        let settled = Arc::make_mut(&mut facts);
        settled.server_name = hello.server_name.or_else(|| settled.server_name.take());
        settled.transport = "tls";
        settled.tls = Some(Arc::new(tls));
        let mut io = Io::new(Stream::Other(Box::new(transport)), facts);
        (io.state, io.metadata) = (state, metadata);
        Ok(io)
    }
}

/// Shakes hands; a failure is told to the peer.
pub(crate) async fn handshake(transport: &mut TlsTransport) -> Result<(), TlsError> {
    poll_fn(|cx| {
        transport.poll_handshake(cx).map_err(|error| {
            transport.give_up(cx);
            TlsError::from_io(&error)
        })
    })
    .await
}

/// Looks at the ClientHello without consuming it.
async fn read_hello(io: &mut Io) -> Result<ClientHello, TlsError> {
    let mut seen = 0;
    loop {
        let ahead = io.fill(seen + 1, HELLO_MOST).await.map_err(|error| TlsError::from_io(&error))?;
        match inspect_client_hello(ahead) {
            Inspect::Hello(hello) => return Ok(hello),
            Inspect::NeedMore if ahead.len() > seen && ahead.len() < HELLO_MOST => seen = ahead.len(),
            Inspect::NeedMore if ahead.len() <= seen => {
                return Err(TlsError::connection("the connection ended during the handshake"));
            }
            // rustls says what is wrong with it, to the peer too.
            _ => return Ok(ClientHello::default()),
        }
    }
}

impl Current {
    fn config(&self, hello: &ClientHello, key_log: Option<&Arc<KeyLogger>>) -> (Arc<ServerConfig>, Arc<Chooser>) {
        let common = self.alpn.iter().any(|ours| hello.alpn.contains(ours));
        let base = if common || hello.alpn.is_empty() { &self.with_alpn } else { &self.without_alpn };
        let several = self.chooser.identities.list.len() > 1;
        if !several && key_log.is_none() {
            return (base.clone(), self.chooser.clone());
        }
        let mut config = ServerConfig::clone(base);
        let tls13 = hello.versions.contains(&TLS13);
        let chooser = Arc::new(Chooser { identities: self.chooser.identities.clone(), chosen: OnceLock::new(), tls13 });
        config.cert_resolver = chooser.clone();
        if let Some(log) = key_log {
            config.key_log = log.clone();
        }
        (Arc::new(config), chooser)
    }
}

struct Loaded {
    current: Current,
    /// The certificates' names in stats, in their order.
    certificate_names: Vec<String>,
    shown: Shown,
}

impl Loaded {
    fn names(&self) -> Vec<String> {
        self.certificate_names.clone()
    }
}

fn load(
    message: &pb::DownstreamTlsContext,
    env: &TlsEnv,
    stats: &TlsStats,
    path: &Path,
) -> Result<Loaded, Vec<Diagnostic>> {
    let at = path.field("common_tls_context");
    let common_message = message.common_tls_context.clone().unwrap_or_default();
    let mut problems = Vec::new();
    if message.ocsp_staple_policy != 0 {
        problems.push(Diagnostic::error(path.field("ocsp_staple_policy"), "not supported"));
    }
    let mut material = Material::new(env);
    let keys = keys(message, &mut material, path);
    problems.append(&mut material.problems);
    let common = match config::common(&common_message, env, &at) {
        Ok(common) => common,
        Err(found) => {
            problems.extend(found);
            return Err(problems);
        }
    };
    if common.identities.is_empty() {
        problems.push(Diagnostic::error(&at, "No TLS certificates found for server context"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut loaded = make(message, common, keys, env, stats).map_err(|text| vec![Diagnostic::error(path, text)])?;
    loaded.current.files.append(&mut material.files);
    Ok(loaded)
}

/// `session_ticket_keys`, if they are given.
fn keys(
    message: &pb::DownstreamTlsContext,
    material: &mut Material<'_>,
    path: &Path,
) -> Option<Arc<dyn ProducesTickets>> {
    let (keys, at) = match message.session_ticket_keys_type.as_ref()? {
        SessionTicketKeysType::SessionTicketKeys(keys) => (keys, path.field("session_ticket_keys")),
        SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(reference) => {
            let at = path.field("session_ticket_keys_sds_secret_config");
            match material.secret(reference, &at) {
                Some(Type::SessionTicketKeys(keys)) => (keys, at),
                Some(_) => {
                    material.problem(&at, format!("secret {} is not session_ticket_keys", reference.name));
                    return None;
                }
                None => return None,
            }
        }
        SessionTicketKeysType::DisableStatelessSessionResumption(_) => return None,
    };
    let octets = config::ticket_keys(keys, material, &at);
    match StaticKeys::new(&octets) {
        Ok(keys) => Some(Arc::new(keys)),
        Err(error) => {
            material.problem(at.field("keys"), error);
            None
        }
    }
}

fn make(
    message: &pb::DownstreamTlsContext,
    common: Common,
    keys: Option<Arc<dyn ProducesTickets>>,
    env: &TlsEnv,
    stats: &TlsStats,
) -> Result<Loaded, String> {
    let verifier = Arc::new(Verifier {
        validation: common.validation.clone(),
        algorithms: common.provider.signature_verification_algorithms,
        peer: PeerIs::Client,
        required: message.require_client_certificate == Some(true),
        by_name: false,
        name: None,
        stats: stats.clone(),
    });
    let binding = binding(message, &common, verifier.required);
    let (certificate_names, list): (Vec<_>, Vec<_>) =
        common.identities.into_iter().map(|one| (one.name, one.identity)).unzip();
    let identities = Arc::new(Identities {
        list,
        full_scan: message.full_scan_certs_on_sni_mismatch == Some(true),
        require_name: message.require_sni == Some(true),
        suites: (common.provider.cipher_suites.iter())
            .filter(|suite| common.versions.contains(&suite.version()))
            .copied()
            .collect(),
    });
    // Shared as it is only where there is one certificate, and so nothing to choose.
    let chooser = Arc::new(Chooser { identities, chosen: OnceLock::new(), tls13: true });
    let mut config = ServerConfig::builder_with_provider(common.provider)
        .with_protocol_versions(&common.versions)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(chooser.clone());
    config.ignore_client_order = !message.prefer_client_ciphers;
    let stateless = !matches!(
        message.session_ticket_keys_type,
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(true))
    );
    if stateless {
        config.ticketer =
            Arc::new(Tickets { keys: keys.unwrap_or_else(|| env.store.tickets()), binding: binding.clone() });
    } else {
        config.send_tls13_tickets = 1;
    }
    config.session_storage = if stateless || message.disable_stateful_session_resumption {
        Arc::new(NoServerSessionStorage {})
    } else {
        Arc::new(Sessions::new(binding))
    };
    let without_alpn = Arc::new(config.clone());
    let alpn = common.alpn.iter().map(|one| String::from_utf8_lossy(one).into()).collect();
    config.alpn_protocols = common.alpn;
    let current = Current {
        with_alpn: Arc::new(config),
        without_alpn,
        alpn,
        chooser,
        verifier,
        shown: common.shown.clone(),
        files: common.files,
    };
    Ok(Loaded { current, certificate_names, shown: common.shown })
}

fn binding(message: &pb::DownstreamTlsContext, common: &Common, required: bool) -> Binding {
    let mut text = common.demands.clone();
    text.push(u8::from(required));
    for one in &common.identities {
        for name in one.identity.names() {
            text.extend_from_slice(name.as_bytes());
            text.push(0);
        }
    }
    let mut context = [0; 32];
    context.copy_from_slice(digest(&SHA256, &text).as_ref());
    let lifetime = message.session_timeout.as_ref().map_or(SESSION_TIMEOUT, adit_config::duration);
    Binding { context, lifetime }
}

/// `ssl.certificate.<name>.expiration_unix_time_seconds`
pub(crate) fn publish(scope: &Scope, shown: &Shown, names: &[String]) {
    let ssl = scope.scope("ssl");
    for (name, facts) in names.iter().zip(&shown.chain) {
        let gauge = ssl.gauge_tagged(
            &format!("certificate.{name}.expiration_unix_time_seconds"),
            "certificate.expiration_unix_time_seconds",
            &[("envoy_tls_certificate", name)],
        );
        gauge.set(facts.expiration());
    }
}

impl Watched for Acceptor {
    fn files(&self) -> Vec<PathBuf> {
        self.current().files.clone()
    }

    fn reload(&self) -> Result<(), Vec<Diagnostic>> {
        let loaded = load(&self.message, &self.env, &self.stats, &self.path).inspect_err(|_| self.rejected.inc())?;
        publish(&self.scope, &loaded.shown, &loaded.certificate_names);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded.current);
        self.updated.inc();
        Ok(())
    }

    fn shown(&self) -> Shown {
        self.current().shown.clone()
    }
}
