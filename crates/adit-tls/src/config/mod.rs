//! From Envoy's messages to what rustls needs: what both sides have in common.

mod material;
mod validation;

use std::path::PathBuf;
use std::sync::Arc;

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_config::{Diagnostic, Path};
use pb::common_tls_context::ValidationContextType;
use pb::tls_parameters::TlsProtocol;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::names;
use crate::store::{Shown, TlsEnv};
use crate::verify::Validation;

pub(crate) use material::{Material, NamedIdentity, ticket_keys};

/// `CommonTlsContext`, read.
pub(crate) struct Common {
    pub(crate) identities: Vec<NamedIdentity>,
    pub(crate) validation: Arc<Validation>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) shown: Shown,
    /// The files it was read from, which are watched.
    pub(crate) files: Vec<PathBuf>,
    /// What is asked of peers, in a form to compare.
    pub(crate) demands: Vec<u8>,
}

/// Reads it, its files included.
pub(crate) fn common(message: &pb::CommonTlsContext, env: &TlsEnv, path: &Path) -> Result<Common, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    unsupported(message, path, &mut problems);
    let params = message.tls_params.clone().unwrap_or_default();
    let params_path = path.field("tls_params");
    let provider = provider(&params, &params_path, &mut problems);
    let versions = versions(&params, &params_path, &mut problems);
    let alpn = alpn(&message.alpn_protocols, path, &mut problems);
    let mut material = Material::new(env);
    let identities = material.identities(message, &provider, path);
    let validation = material.validation(message.validation_context_type.as_ref(), path);
    let Material { shown, files, demands, problems: found, .. } = material;
    problems.extend(found);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Common { identities, validation: Arc::new(validation), alpn, provider, versions, shown, files, demands })
}

/// What the loader refuses too; this holds for messages that came another way.
#[allow(deprecated)]
fn unsupported(message: &pb::CommonTlsContext, path: &Path, problems: &mut Vec<Diagnostic>) {
    let params = message.tls_params.clone().unwrap_or_default();
    let validation = match &message.validation_context_type {
        None | Some(ValidationContextType::ValidationContext(_)) => None,
        Some(ValidationContextType::ValidationContextSdsSecretConfig(_)) => None,
        Some(ValidationContextType::CombinedValidationContext(_)) => None,
        Some(_) => Some("validation_context_certificate_provider"),
    };
    let fields = [
        ("tls_certificate_provider_instance", message.tls_certificate_provider_instance.is_some()),
        ("custom_tls_certificate_selector", message.custom_tls_certificate_selector.is_some()),
        ("tls_certificate_certificate_provider", message.tls_certificate_certificate_provider.is_some()),
        (
            "tls_certificate_certificate_provider_instance",
            message.tls_certificate_certificate_provider_instance.is_some(),
        ),
        ("custom_handshaker", message.custom_handshaker.is_some()),
        ("tls_params.signature_algorithms", !params.signature_algorithms.is_empty()),
        ("tls_params.compliance_policies", !params.compliance_policies.is_empty()),
        (validation.unwrap_or_default(), validation.is_some()),
    ];
    for (field, set) in fields {
        if set {
            problems.push(Diagnostic::error(path.field(field), "not supported"));
        }
    }
}

fn provider(params: &pb::TlsParameters, path: &Path, problems: &mut Vec<Diagnostic>) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !params.cipher_suites.is_empty() {
        let mut suites: Vec<SupportedCipherSuite> = Vec::new();
        for (index, entry) in params.cipher_suites.iter().enumerate() {
            // BoringSSL's groups of equal preference: [A|B].
            for name in entry.trim_start_matches('[').trim_end_matches(']').split('|') {
                match names::suite(name) {
                    Some(suite) => suites.push(suite),
                    None => problems.push(Diagnostic::error(
                        path.item("cipher_suites", index),
                        format!("cipher suite {name} is not supported"),
                    )),
                }
            }
        }
        // As in Envoy, the list is about TLS 1.2 only.
        provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
        provider.cipher_suites.append(&mut suites);
    }
    if !params.ecdh_curves.is_empty() {
        provider.kx_groups.clear();
        for (index, name) in params.ecdh_curves.iter().enumerate() {
            match names::curve(name) {
                Some(group) => provider.kx_groups.push(group),
                None => problems
                    .push(Diagnostic::error(path.item("ecdh_curves", index), format!("curve {name} is not supported"))),
            }
        }
    }
    Arc::new(provider)
}

fn versions(
    params: &pb::TlsParameters,
    path: &Path,
    problems: &mut Vec<Diagnostic>,
) -> Vec<&'static SupportedProtocolVersion> {
    let mut limit = |value: TlsProtocol, field: &str, default: u8| match value {
        TlsProtocol::TlsAuto => default,
        TlsProtocol::TlSv12 => 2,
        TlsProtocol::TlSv13 => 3,
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            problems.push(Diagnostic::error(path.field(field), "TLS 1.0 and 1.1 are not supported"));
            default
        }
    };
    let least = limit(params.tls_minimum_protocol_version(), "tls_minimum_protocol_version", 2);
    let most = limit(params.tls_maximum_protocol_version(), "tls_maximum_protocol_version", 3);
    if least > most {
        problems.push(Diagnostic::error(path, "the minimum protocol version is above the maximum"));
    }
    let all = [(3, &version::TLS13), (2, &version::TLS12)];
    all.into_iter().filter(|(number, _)| (least..=most).contains(number)).map(|(_, version)| version).collect()
}

fn alpn(protocols: &[String], path: &Path, problems: &mut Vec<Diagnostic>) -> Vec<Vec<u8>> {
    for (index, protocol) in protocols.iter().enumerate() {
        if protocol.is_empty() || protocol.len() > 255 {
            problems.push(Diagnostic::error(path.item("alpn_protocols", index), "must have 1 to 255 octets"));
        }
    }
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}
