//! Certificates, keys and the rest of what is read from files or inline.

use std::path::PathBuf;

use adit_config::proto::envoy::config::core::v3::data_source::Specifier;
use adit_config::proto::envoy::config::core::v3::{DataSource, WatchedDirectory};
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_config::{Diagnostic, Path, read_data_source};
use pb::secret::Type;
use rustls::crypto::CryptoProvider;

use crate::certs::Identity;
use crate::store::{CertificateFacts, Shown, TlsEnv};

/// A certificate of ours and its name in stats.
pub(crate) struct NamedIdentity {
    pub(crate) name: String,
    pub(crate) identity: Identity,
}

/// What is read, and what it was read from.
pub(crate) struct Material<'a> {
    env: &'a TlsEnv,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) shown: Shown,
    pub(crate) demands: Vec<u8>,
    pub(crate) problems: Vec<Diagnostic>,
}

impl<'a> Material<'a> {
    pub(crate) fn new(env: &'a TlsEnv) -> Self {
        Self { env, files: Vec::new(), shown: Shown::default(), demands: Vec::new(), problems: Vec::new() }
    }

    pub(crate) fn problem(&mut self, path: impl Into<Path>, message: impl Into<String>) {
        self.problems.push(Diagnostic::error(path, message));
    }

    /// A static secret of this name. `path` is that of the reference.
    pub(crate) fn secret(&mut self, reference: &pb::SdsSecretConfig, path: &Path) -> Option<&'a Type> {
        if reference.sds_config.is_some() {
            self.problem(path.field("sds_config"), "not supported: only secrets of static_resources are");
            return None;
        }
        let found = self.env.secrets.iter().find(|secret| secret.name == reference.name);
        match found.and_then(|secret| secret.r#type.as_ref()) {
            Some(kind) => Some(kind),
            None => {
                self.problem(path.field("name"), format!("Unknown static secret: {}", reference.name));
                None
            }
        }
    }

    /// What a data source holds; its file is watched.
    pub(crate) fn read(&mut self, source: &DataSource, path: &Path) -> Option<(Vec<u8>, Origin)> {
        let origin = match &source.specifier {
            Some(Specifier::Filename(name)) => {
                self.files.push(name.into());
                Origin::File(name.clone())
            }
            _ => Origin::Inline,
        };
        self.watch(source.watched_directory.as_ref());
        match read_data_source(source) {
            Ok(bytes) => Some((bytes, origin)),
            Err(error) => {
                self.problem(path, error.to_string());
                None
            }
        }
    }

    /// `watched_directory`: what is moved into it is noticed like a file that changes.
    pub(crate) fn watch(&mut self, directory: Option<&WatchedDirectory>) {
        self.files.extend(directory.map(|directory| PathBuf::from(&directory.path)));
    }

    /// `tls_certificates` and those named by `tls_certificate_sds_secret_configs`.
    pub(crate) fn identities(
        &mut self,
        message: &pb::CommonTlsContext,
        provider: &CryptoProvider,
        path: &Path,
    ) -> Vec<NamedIdentity> {
        let mut list = Vec::new();
        for (index, certificate) in message.tls_certificates.iter().enumerate() {
            let at = path.item("tls_certificates", index);
            list.extend(self.identity(certificate, None, provider, &at));
        }
        for (index, reference) in message.tls_certificate_sds_secret_configs.iter().enumerate() {
            let at = path.item("tls_certificate_sds_secret_configs", index);
            match self.secret(reference, &at) {
                Some(Type::TlsCertificate(certificate)) => {
                    list.extend(self.identity(certificate, Some(&reference.name), provider, &at));
                }
                Some(_) => self.problem(&at, format!("secret {} is not a tls_certificate", reference.name)),
                None => {}
            }
        }
        list
    }

    fn identity(
        &mut self,
        message: &pb::TlsCertificate,
        secret: Option<&str>,
        provider: &CryptoProvider,
        path: &Path,
    ) -> Option<NamedIdentity> {
        let fields = [
            ("pkcs12", message.pkcs12.is_some()),
            ("private_key_provider", message.private_key_provider.is_some()),
            ("ocsp_staple", message.ocsp_staple.is_some()),
            ("signed_certificate_timestamp", !message.signed_certificate_timestamp.is_empty()),
            ("tls_params", message.tls_params.is_some()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, set)| *set) {
            self.problem(path.field(field), "not supported");
        }
        if message.password.is_some() {
            self.problem(path.field("password"), "private keys that need a password are not supported");
        }
        self.watch(message.watched_directory.as_ref());
        let (chain_path, key_path) = (path.field("certificate_chain"), path.field("private_key"));
        let chain = match &message.certificate_chain {
            Some(source) => self.read(source, &chain_path),
            None => {
                self.problem(&chain_path, "value is required");
                None
            }
        };
        let key = match &message.private_key {
            Some(source) => self.read(source, &key_path),
            None => {
                self.problem(&key_path, "value is required");
                None
            }
        };
        let ((chain, origin), (key, _)) = chain.zip(key)?;
        match Identity::from_pem(&chain, &key, provider) {
            Ok(identity) => {
                let index = self.shown.chain.len();
                let name = secret.map_or_else(|| origin.name(index), str::to_owned);
                self.shown.chain.extend(CertificateFacts::new(identity.leaf(), &origin.path()));
                Some(NamedIdentity { name, identity })
            }
            Err(error) => {
                self.problem(path, format!("Failed to load the certificate chain from {}: {error}", origin.path()));
                None
            }
        }
    }
}

/// Where something was read from.
pub(crate) enum Origin {
    File(String),
    Inline,
}

impl Origin {
    /// As `/certs` has it.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::File(name) => name.clone(),
            Self::Inline => "<inline>".to_owned(),
        }
    }

    /// A name for stats: the file's without directory and extension.
    fn name(&self, index: usize) -> String {
        let stem = match self {
            Self::File(name) => std::path::Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned()),
            Self::Inline => None,
        };
        stem.unwrap_or_else(|| format!("inline_{index}"))
    }
}

/// `session_ticket_keys`: their octets.
pub(crate) fn ticket_keys(
    message: &pb::TlsSessionTicketKeys,
    material: &mut Material<'_>,
    path: &Path,
) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for (index, source) in message.keys.iter().enumerate() {
        keys.extend(material.read(source, &path.item("keys", index)).map(|(key, _)| key));
    }
    keys
}
