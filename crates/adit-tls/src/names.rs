//! OpenSSL's names of what rustls negotiates, as Envoy prints and reads them.

use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme, SupportedCipherSuite};

/// The suites of TLS 1.2 that rustls has, by the name that `tls_params.cipher_suites` uses.
const TLS12: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The suite of TLS 1.2 of this name, OpenSSL's or the standard one.
pub(crate) fn suite(name: &str) -> Option<SupportedCipherSuite> {
    let standard = |suite: CipherSuite| suite.as_str() == Some(name);
    let wanted = TLS12.iter().find(|(known, suite)| *known == name || standard(*suite))?.1;
    aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|suite| suite.suite() == wanted).copied()
}

/// A suite's name.
pub(crate) fn cipher(suite: CipherSuite) -> String {
    if let Some((name, _)) = TLS12.iter().find(|(_, known)| *known == suite) {
        return (*name).to_owned();
    }
    let name = suite.as_str().unwrap_or("unknown");
    name.replacen("TLS13_", "TLS_", 1)
}

/// A version's name.
pub(crate) fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    }
}

/// The key exchange of this name (`tls_params.ecdh_curves`).
pub(crate) fn curve(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    let group = match name {
        "X25519" | "x25519" => NamedGroup::X25519,
        "P-256" | "secp256r1" | "prime256v1" => NamedGroup::secp256r1,
        "P-384" | "secp384r1" => NamedGroup::secp384r1,
        "X25519MLKEM768" => NamedGroup::X25519MLKEM768,
        _ => return None,
    };
    aws_lc_rs::ALL_KX_GROUPS.iter().find(|known| known.name() == group).copied()
}

/// A key exchange's name.
pub(crate) fn curve_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::secp521r1 => "P-521",
        other => other.as_str().unwrap_or("unknown"),
    }
}

/// A signature algorithm's name.
pub(crate) fn signature(scheme: SignatureScheme) -> String {
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256".to_owned(),
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384".to_owned(),
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512".to_owned(),
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256".to_owned(),
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384".to_owned(),
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512".to_owned(),
        other => other.as_str().unwrap_or("unknown").to_ascii_lowercase(),
    }
}
