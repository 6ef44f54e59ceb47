//! Our own certificates, and which of them a client gets.

use std::sync::{Arc, OnceLock};

use adit_match::certificate::Certificate;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme, SupportedCipherSuite};

/// A certificate chain with its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    /// DNS names of the leaf in lower case, or its common name where it has none.
    names: Vec<String>,
    ecdsa: bool,
}

impl Identity {
    /// From PEM.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Self, String> {
        let chain = certificates(chain)?;
        let key = CertifiedKey::from_der(chain, private_key(key)?, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "the private key does not belong to the certificate".to_owned(),
            other => format!("the certificate and key cannot be used: {other}"),
        })?;
        let leaf = key.end_entity_cert().map_err(|error| error.to_string())?;
        let facts = Certificate::from_der(leaf).ok_or("the certificate cannot be read")?;
        let mut names: Vec<String> = facts.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if names.is_empty() {
            names.extend(common_name(&facts.subject));
        }
        let ecdsa = key.key.algorithm() == SignatureAlgorithm::ECDSA;
        Ok(Self { key: Arc::new(key), names, ecdsa })
    }

    /// Its leaf in DER.
    pub(crate) fn leaf(&self) -> &[u8] {
        self.key.cert.first().map_or(&[], |leaf| leaf)
    }

    /// The names it is for.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// The common name in a subject in RFC 2253 form.
fn common_name(subject: &str) -> Option<String> {
    let name = subject.split(',').find_map(|part| part.strip_prefix("CN="))?;
    Some(name.to_ascii_lowercase())
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let list = list.map_err(|error| format!("not a certificate in PEM: {error}"))?;
    if list.is_empty() {
        return Err("there is no certificate in PEM".to_owned());
    }
    Ok(list)
}

/// A private key in PKCS#8, PKCS#1 or SEC1.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err("private keys that need a password are not supported".to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "there is no private key in PEM".to_owned())
}

/// The certificates of a listener, the first of which is the default.
#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) list: Vec<Identity>,
    /// `full_scan_certs_on_sni_mismatch`
    pub(crate) full_scan: bool,
    /// `require_sni`
    pub(crate) require_name: bool,
    /// The suites of the versions that are spoken.
    pub(crate) suites: Vec<SupportedCipherSuite>,
}

/// What a client can use.
struct Offer<'a> {
    name: Option<&'a str>,
    schemes: &'a [SignatureScheme],
    suites: &'a [CipherSuite],
    /// It speaks TLS 1.3. Suites of that version alone do not say so: rustls lists them at any version.
    tls13: bool,
}

impl Identities {
    /// The certificate for a client: the name decides first, exact before wildcard, then the kind of key, ECDSA first.
    fn choose(&self, offer: &Offer<'_>) -> Option<usize> {
        let name = offer.name;
        if self.require_name && name.is_none() {
            return None;
        }
        let usable = |identity: &Identity| self.usable(identity, offer);
        let best = |fits: &dyn Fn(&Identity) -> bool| {
            let found = || self.list.iter().enumerate().filter(|(_, one)| fits(one) && usable(one));
            found().find(|(_, one)| one.ecdsa).or_else(|| found().next()).map(|(index, _)| index)
        };
        if let Some(name) = name {
            let name = name.to_ascii_lowercase();
            if let Some(index) = best(&|one| one.names.contains(&name)) {
                return Some(index);
            }
            let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            if let Some(index) = wildcard.and_then(|wildcard| best(&|one| one.names.contains(&wildcard))) {
                return Some(index);
            }
            if self.full_scan
                && let Some(index) = best(&|_| true)
            {
                return Some(index);
            }
        }
        // The default one, or one of the same names where its kind of key is better or the only one that the client can use.
        let default = self.list.first()?;
        best(&|one| one.names == default.names).or(Some(0))
    }

    /// Whether a client can check this kind of key: in TLS 1.2 the suite decides too.
    fn usable(&self, identity: &Identity, offer: &Offer<'_>) -> bool {
        let key = &identity.key.key;
        let tls13 = offer.tls13 && self.suites.iter().any(|suite| suite.tls13().is_some());
        let mut common = self.suites.iter().filter(|suite| offer.suites.contains(&suite.suite()));
        key.choose_scheme(offer.schemes).is_some()
            && common.any(|suite| match suite {
                SupportedCipherSuite::Tls12(suite) => !tls13 && key.choose_scheme(suite.sign).is_some(),
                SupportedCipherSuite::Tls13(_) => tls13,
            })
    }
}

/// The choice for one connection, which remembers what it was.
#[derive(Debug)]
pub(crate) struct Chooser {
    pub(crate) identities: Arc<Identities>,
    pub(crate) chosen: OnceLock<usize>,
    /// The client offers TLS 1.3.
    pub(crate) tls13: bool,
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offer = Offer {
            name: hello.server_name(),
            schemes: hello.signature_schemes(),
            suites: hello.cipher_suites(),
            tls13: self.tls13,
        };
        let index = self.identities.choose(&offer)?;
        let _ = self.chosen.set(index);
        self.identities.list.get(index).map(|identity| identity.key.clone())
    }
}
