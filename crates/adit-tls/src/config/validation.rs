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

impl Material<'_> {
    /// The validation context, inline or by a secret's name. None asks nothing.
    pub(crate) fn validation(&mut self, message: Option<&ValidationContextType>, path: &Path) -> Validation {
        match message {
            Some(ValidationContextType::ValidationContext(context)) => {
                self.context(context, &path.field("validation_context"))
            }
            Some(ValidationContextType::ValidationContextSdsSecretConfig(reference)) => {
                let at = path.field("validation_context_sds_secret_config");
                match self.secret(reference, &at) {
                    Some(Type::ValidationContext(context)) => self.context(context, &at),
                    Some(_) => {
                        self.problem(&at, format!("secret {} is not a validation_context", reference.name));
                        Validation::default()
                    }
                    None => Validation::default(),
                }
            }
            _ => Validation::default(),
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
