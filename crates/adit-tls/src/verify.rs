//! What is asked of a peer's certificate (`CertificateValidationContext`).

use std::fmt;
use std::sync::Arc;

use adit_match::certificate::Certificate;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use crate::error::{Fault, Refusal};
use crate::san::{self, SanMatcher};
use crate::stats::TlsStats;

/// What is asked of a peer's certificate. Nothing is asked by default.
#[derive(Default)]
pub(crate) struct Validation {
    /// `trusted_ca`
    pub(crate) trust: Option<Trust>,
    /// `crl`
    pub(crate) crls: Vec<CertRevocationList<'static>>,
    /// `only_verify_leaf_cert_crl`
    pub(crate) leaf_crl_only: bool,
    /// `match_typed_subject_alt_names`
    pub(crate) names: Vec<SanMatcher>,
    /// `verify_certificate_hash`
    pub(crate) hashes: Vec<[u8; 32]>,
    /// `verify_certificate_spki`
    pub(crate) spki: Vec<[u8; 32]>,
    /// `allow_expired_certificate`
    pub(crate) allow_expired: bool,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`
    pub(crate) accept_untrusted: bool,
}

/// The certificates of `trusted_ca`.
#[derive(Default)]
pub(crate) struct Trust {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// The same in DER: a peer may present one of them as its own.
    pub(crate) exact: Vec<CertificateDer<'static>>,
    pub(crate) subjects: Vec<DistinguishedName>,
}

impl Trust {
    /// Trusts these certificates.
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut trust = Self::default();
        for certificate in &certificates {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|error| format!("a certificate cannot be trusted: {error}"))?
                .to_owned();
            trust.subjects.push(DistinguishedName::in_sequence(&anchor.subject));
            trust.anchors.push(anchor);
        }
        trust.exact = certificates;
        Ok(trust)
    }
}

/// Which end the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerIs {
    Client,
    Server,
}

impl Validation {
    /// Whether a peer's certificate is looked at.
    pub(crate) fn asks(&self) -> bool {
        self.trust.is_some() || !self.names.is_empty() || !self.hashes.is_empty() || !self.spki.is_empty()
    }

    /// Whether it holds; `host` is a name it must be for. The first thing wrong is told.
    fn check(&self, chain: &Chain<'_>, host: Option<&str>) -> Result<(), Refusal> {
        if let Some(trust) = &self.trust {
            self.check_chain(trust, chain)
                .map_err(|reason| Refusal { fault: Fault::Chain, reason: format!("verify cert failed: {reason}") })?;
        }
        if !self.names.is_empty() || host.is_some() {
            let refusal = |reason: &str| Refusal { fault: Fault::Name, reason: reason.to_owned() };
            let facts = Certificate::from_der(chain.leaf).ok_or_else(|| refusal("the certificate cannot be read"))?;
            let matched = match host {
                // As in Envoy, the name of the request replaces the list.
                Some(host) => san::is_for(&facts, host),
                None => self.names.iter().any(|matcher| matcher.matches(&facts)),
            };
            if !matched {
                return Err(refusal("verify cert failed: verify SAN list"));
            }
        }
        if !self.hashes.is_empty() || !self.spki.is_empty() {
            let refused =
                || Refusal { fault: Fault::Hash, reason: "verify cert failed: cert hash and spki".to_owned() };
            let hash = digest(&SHA256, chain.leaf);
            let matched = self.hashes.iter().any(|known| known == hash.as_ref()) || self.spki_matches(chain.leaf);
            if !matched {
                return Err(refused());
            }
        }
        Ok(())
    }

    fn spki_matches(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = EndEntityCert::try_from(leaf) else { return false };
        let key = parsed.subject_public_key_info();
        let hash = digest(&SHA256, &key);
        self.spki.iter().any(|known| known == hash.as_ref())
    }

    fn check_chain(&self, trust: &Trust, chain: &Chain<'_>) -> Result<(), webpki::Error> {
        if trust.exact.iter().any(|listed| listed == chain.leaf) {
            return self.check_listed(chain);
        }
        let leaf = EndEntityCert::try_from(chain.leaf)?;
        let verify = |now: UnixTime| {
            let crls: Vec<_> = self.crls.iter().collect();
            let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
                let depth =
                    if self.leaf_crl_only { RevocationCheckDepth::EndEntity } else { RevocationCheckDepth::Chain };
                let expiry = if self.allow_expired { ExpirationPolicy::Ignore } else { ExpirationPolicy::Enforce };
                options
                    .with_depth(depth)
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(expiry)
                    .build()
            });
            let usage = match chain.peer {
                PeerIs::Client => KeyUsage::client_auth(),
                PeerIs::Server => KeyUsage::server_auth(),
            };
            leaf.verify_for_usage(chain.algorithms, &trust.anchors, chain.rest, now, usage, revocation, None).map(drop)
        };
        match verify(chain.now) {
            Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) if self.allow_expired => {
                // webpki cannot leave time out: ask at the moments where the certificates begin and end.
                let moments = chain.moments();
                moments.into_iter().map(verify).find(Result::is_ok).unwrap_or_else(|| verify(chain.now))
            }
            result => result,
        }
    }

    /// A certificate that is itself listed needs no issuer; its time and its revocation still count.
    fn check_listed(&self, chain: &Chain<'_>) -> Result<(), webpki::Error> {
        let leaf = chain.leaf;
        if let Some((from, to)) = validity(leaf).filter(|_| !self.allow_expired) {
            let time = chain.now;
            if time < from {
                return Err(webpki::Error::CertNotValidYet { time, not_before: from });
            }
            if time > to {
                return Err(webpki::Error::CertExpired { time, not_after: to });
            }
        }
        if self.crls.is_empty() {
            return Ok(());
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| webpki::Error::BadDer)?;
        let issuer = parsed.issuer().as_raw();
        for crl in &self.crls {
            // webpki keeps names without their outer SEQUENCE.
            let same = DistinguishedName::in_sequence(crl.issuer()).as_ref() == issuer;
            if same && crl.find_serial(serial(parsed.raw_serial()))?.is_some() {
                return Err(webpki::Error::CertRevoked);
            }
        }
        Ok(())
    }
}

/// As webpki has it: without leading zero bytes.
fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    raw.get(zeros.min(raw.len().saturating_sub(1))..).unwrap_or_default()
}

/// A peer's certificates, and the moment.
struct Chain<'a> {
    leaf: &'a CertificateDer<'a>,
    rest: &'a [CertificateDer<'a>],
    now: UnixTime,
    peer: PeerIs,
    algorithms: &'a [&'static dyn rustls::pki_types::SignatureVerificationAlgorithm],
}

impl Chain<'_> {
    /// When the certificates begin and end to be valid: if there is a moment at which all are, one of these is it.
    fn moments(&self) -> Vec<UnixTime> {
        let all = std::iter::once(self.leaf).chain(self.rest);
        all.take(10).filter_map(validity).flat_map(|(from, to)| [from, to]).collect()
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(UnixTime, UnixTime)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let at = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    Some((at(parsed.validity().not_before.timestamp()), at(parsed.validity().not_after.timestamp())))
}

/// Asks a [`Validation`] for rustls.
#[derive(Clone)]
pub(crate) struct Verifier {
    pub(crate) validation: Arc<Validation>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) peer: PeerIs,
    /// `require_client_certificate`
    pub(crate) required: bool,
    /// The peer's certificate must be for the name it was asked by (`auto_sni_san_validation`).
    pub(crate) by_name: bool,
    /// Or for this one, whatever it was asked by (`auto_san_validation`).
    pub(crate) name: Option<Box<str>>,
    pub(crate) stats: TlsStats,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Verifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        host: Option<&str>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !self.validation.asks() && host.is_none() {
            return Ok(());
        }
        let chain = Chain { leaf, rest, now, peer: self.peer, algorithms: self.algorithms.all };
        match self.validation.check(&chain, host) {
            Err(_) if self.validation.accept_untrusted => {
                self.stats.untrusted();
                Ok(())
            }
            Err(refusal) => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))),
            Ok(()) => Ok(()),
        }
    }

    /// Whether the certificates of a finished handshake count as validated. One that was refused never gets here, so only
    /// where the untrusted are accepted is there something to find out.
    pub(crate) fn validated(&self, certificates: &[CertificateDer<'_>], host: Option<&str>) -> bool {
        let Some((leaf, rest)) = certificates.split_first() else { return false };
        if !self.validation.asks() && (host.is_none() || !self.by_name) {
            return false;
        }
        if !self.validation.accept_untrusted {
            return true;
        }
        let chain = Chain { leaf, rest, now: UnixTime::now(), peer: self.peer, algorithms: self.algorithms.all };
        self.validation.check(&chain, host.filter(|_| self.by_name)).is_ok()
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = verify_tls12_signature(message, certificate, signed, &self.algorithms)?;
        self.stats.signature(signed.scheme);
        Ok(valid)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = verify_tls13_signature(message, certificate, signed, &self.algorithms)?;
        self.stats.signature(signed.scheme);
        Ok(valid)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let asked = name.to_str();
        let name = self.name.as_deref().or_else(|| self.by_name.then_some(&*asked));
        self.verify(leaf, rest, name, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.required || self.validation.asks()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.validation.trust.as_ref().map_or(&[], |trust| &trust.subjects)
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, rest, None, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
