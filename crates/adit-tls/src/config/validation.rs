//! `CertificateValidationContext`.

use adit_config::Path;
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use base64::Engine as _;
use pb::certificate_validation_context::TrustChainVerification;
use pb::common_tls_context::ValidationContextType;
use pb::secret::Type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::material::Material;
use crate::certs;
use crate::san::SanMatcher;
use crate::store::CertificateFacts;
use crate::verify::{Trust, Validation};

/// Where systems keep the authorities they trust (`system_root_certs`); the first that exists is used.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Adds one context to another as protobuf merges messages: what is set replaces, lists grow.
#[allow(deprecated)]
fn merge(into: &mut pb::CertificateValidationContext, from: pb::CertificateValidationContext) {
    fn set<T>(into: &mut Option<T>, from: Option<T>) {
        if from.is_some() {
            *into = from;
        }
    }
    set(&mut into.trusted_ca, from.trusted_ca);
    set(&mut into.ca_certificate_provider_instance, from.ca_certificate_provider_instance);
    set(&mut into.system_root_certs, from.system_root_certs);
    set(&mut into.watched_directory, from.watched_directory);
    set(&mut into.require_signed_certificate_timestamp, from.require_signed_certificate_timestamp);
    set(&mut into.crl, from.crl);
    set(&mut into.custom_validator_config, from.custom_validator_config);
    set(&mut into.max_verify_depth, from.max_verify_depth);
    into.verify_certificate_spki.extend(from.verify_certificate_spki);
    into.verify_certificate_hash.extend(from.verify_certificate_hash);
    into.match_typed_subject_alt_names.extend(from.match_typed_subject_alt_names);
    into.match_subject_alt_names.extend(from.match_subject_alt_names);
    into.allow_expired_certificate |= from.allow_expired_certificate;
    into.only_verify_leaf_cert_crl |= from.only_verify_leaf_cert_crl;
    into.suppress_client_ca_list |= from.suppress_client_ca_list;
    if from.trust_chain_verification != 0 {
        into.trust_chain_verification = from.trust_chain_verification;
    }
}

impl Material<'_> {
    /// The validation context, inline or by a secret's name. None asks nothing.
    pub(crate) fn validation(&mut self, message: Option<&ValidationContextType>, path: &Path) -> Validation {
        match message {
            Some(ValidationContextType::ValidationContext(context)) => {
                self.context(context, &path.field("validation_context"))
            }
            Some(ValidationContextType::ValidationContextSdsSecretConfig(reference)) => {
                let at = path.field("validation_context_sds_secret_config");
                match self.named_context(reference, &at) {
                    Some(context) => self.context(&context, &at),
                    None => Validation::default(),
                }
            }
            Some(ValidationContextType::CombinedValidationContext(combined)) => {
                let at = path.field("combined_validation_context");
                let mut context = combined.default_validation_context.clone().unwrap_or_default();
                if let Some(reference) = &combined.validation_context_sds_secret_config {
                    match self.named_context(reference, &at.field("validation_context_sds_secret_config")) {
                        Some(named) => merge(&mut context, named),
                        None => return Validation::default(),
                    }
                }
                self.context(&context, &at)
            }
            _ => Validation::default(),
        }
    }

    /// The validation context that a secret's name stands for.
    fn named_context(
        &mut self,
        reference: &pb::SdsSecretConfig,
        path: &Path,
    ) -> Option<pb::CertificateValidationContext> {
        match self.secret(reference, path)? {
            Type::ValidationContext(context) => Some(context.clone()),
            _ => {
                self.problem(path, format!("secret {} is not a validation_context", reference.name));
                None
            }
        }
    }

    fn context(&mut self, message: &pb::CertificateValidationContext, path: &Path) -> Validation {
        let fields = [
            ("ca_certificate_provider_instance", message.ca_certificate_provider_instance.is_some()),
            ("require_signed_certificate_timestamp", message.require_signed_certificate_timestamp == Some(true)),
            ("custom_validator_config", message.custom_validator_config.is_some()),
            ("max_verify_depth", message.max_verify_depth.is_some()),
            ("suppress_client_ca_list", message.suppress_client_ca_list),
        ];
        for (field, _) in fields.into_iter().filter(|(_, set)| *set) {
            self.problem(path.field(field), "not supported");
        }
        self.watch(message.watched_directory.as_ref());
        self.demands.extend_from_slice(format!("{message:?}").as_bytes());
        let mut validation = Validation {
            trust: self.trust(message, path),
            leaf_crl_only: message.only_verify_leaf_cert_crl,
            allow_expired: message.allow_expired_certificate,
            accept_untrusted: message.trust_chain_verification() == TrustChainVerification::AcceptUntrusted,
            ..Validation::default()
        };
        validation.crls = self.crls(message, path);
        for (index, matcher) in message.match_typed_subject_alt_names.iter().enumerate() {
            match SanMatcher::from_proto(matcher, &path.item("match_typed_subject_alt_names", index)) {
                Ok(matcher) => validation.names.push(matcher),
                Err(problem) => self.problems.push(problem),
            }
        }
        validation.hashes = self.hashes(&message.verify_certificate_hash, path);
        validation.spki = self.spki(&message.verify_certificate_spki, path);
        if !validation.names.is_empty() && validation.trust.is_none() {
            let text = "SAN-based verification of peer certificates without trusted CA is insecure and not allowed";
            self.problem(path, text);
        }
        if !validation.crls.is_empty() && validation.trust.is_none() {
            self.problem(path.field("crl"), "means nothing without trusted_ca");
        }
        validation
    }

    fn trust(&mut self, message: &pb::CertificateValidationContext, path: &Path) -> Option<Trust> {
        if let Some(source) = &message.trusted_ca {
            let at = path.field("trusted_ca");
            let (pem, origin) = self.read(source, &at)?;
            self.demands.extend_from_slice(&pem);
            let made = certs::certificates(&pem).and_then(|list| {
                self.shown.ca.extend(list.iter().filter_map(|one| CertificateFacts::new(one, &origin.path())));
                Trust::new(list)
            });
            return match made {
                Ok(trust) => Some(trust),
                Err(error) => {
                    self.problem(
                        &at,
                        format!("Failed to load trusted CA certificates from {}: {error}", origin.path()),
                    );
                    None
                }
            };
        }
        message.system_root_certs.as_ref()?;
        let at = path.field("system_root_certs");
        let Some((pem, file)) = SYSTEM_ROOTS.iter().find_map(|file| Some((std::fs::read(file).ok()?, *file))) else {
            self.problem(&at, format!("none of {} can be read", SYSTEM_ROOTS.join(", ")));
            return None;
        };
        self.files.push(file.into());
        // A bundle of the system may hold what webpki cannot use; that is left out.
        let list: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .filter_map(Result::ok)
            .filter(|one| webpki::anchor_from_trusted_cert(one).is_ok())
            .collect();
        if list.is_empty() {
            self.problem(&at, format!("{file} holds no certificate"));
            return None;
        }
        Trust::new(list).map_err(|error| self.problem(&at, error)).ok()
    }

    fn crls(&mut self, message: &pb::CertificateValidationContext, path: &Path) -> Vec<CertRevocationList<'static>> {
        let Some(source) = &message.crl else { return Vec::new() };
        let at = path.field("crl");
        let Some((pem, origin)) = self.read(source, &at) else { return Vec::new() };
        self.demands.extend_from_slice(&pem);
        let parsed: Result<Vec<_>, String> = CertificateRevocationListDer::pem_slice_iter(&pem)
            .map(|der| {
                let der = der.map_err(|error| error.to_string())?;
                OwnedCertRevocationList::from_der(&der).map(CertRevocationList::from).map_err(|error| error.to_string())
            })
            .collect();
        match parsed {
            Ok(list) if !list.is_empty() => list,
            Ok(_) => {
                self.problem(&at, format!("Failed to load CRL from {}: there is none in PEM", origin.path()));
                Vec::new()
            }
            Err(error) => {
                self.problem(&at, format!("Failed to load CRL from {}: {error}", origin.path()));
                Vec::new()
            }
        }
    }

    /// SHA-256 in hexadecimal, with or without colons.
    fn hashes(&mut self, list: &[String], path: &Path) -> Vec<[u8; 32]> {
        let mut hashes = Vec::new();
        for (index, text) in list.iter().enumerate() {
            let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
            let octets: Option<Vec<u8>> = digits
                .chunks(2)
                .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect();
            match octets.and_then(|octets| <[u8; 32]>::try_from(octets).ok()).filter(|_| digits.len() == 64) {
                Some(hash) => hashes.push(hash),
                None => self.problem(
                    path.item("verify_certificate_hash", index),
                    format!("Invalid hex-encoded SHA-256 {text}"),
                ),
            }
        }
        hashes
    }

    /// SHA-256 of the SubjectPublicKeyInfo in base64.
    fn spki(&mut self, list: &[String], path: &Path) -> Vec<[u8; 32]> {
        let mut hashes = Vec::new();
        for (index, text) in list.iter().enumerate() {
            let octets = base64::engine::general_purpose::STANDARD.decode(text).ok();
            match octets.and_then(|octets| <[u8; 32]>::try_from(octets).ok()) {
                Some(hash) => hashes.push(hash),
                None => self.problem(
                    path.item("verify_certificate_spki", index),
                    format!("Invalid base64-encoded SHA-256 {text}"),
                ),
            }
        }
        hashes
    }
}
