//! `ssl.*` of a listener or a cluster.

use adit_io::TlsInfo;
use adit_stats::{Counter, Scope, tag};
use rustls::{CommonState, HandshakeKind, SignatureScheme};

use crate::error::{Fault, TlsError};
use crate::names;

/// Counters of handshakes. A clone counts the same.
#[derive(Clone, Debug)]
pub(crate) struct TlsStats {
    scope: Scope,
    handshake: Counter,
    session_reused: Counter,
    no_certificate: Counter,
    connection_error: Counter,
    fail_verify_no_cert: Counter,
    fail_verify_error: Counter,
    fail_verify_san: Counter,
    fail_verify_cert_hash: Counter,
}

impl TlsStats {
    /// Counts at `ssl.` below `scope`.
    pub(crate) fn new(scope: &Scope) -> Self {
        let scope = scope.scope("ssl");
        // Envoy has these too; nothing here can raise them.
        for name in ["ocsp_staple_failed", "ocsp_staple_omitted", "ocsp_staple_requests", "ocsp_staple_responses"] {
            scope.counter(name);
        }
        Self {
            handshake: scope.counter("handshake"),
            session_reused: scope.counter("session_reused"),
            no_certificate: scope.counter("no_certificate"),
            connection_error: scope.counter("connection_error"),
            fail_verify_no_cert: scope.counter("fail_verify_no_cert"),
            fail_verify_error: scope.counter("fail_verify_error"),
            fail_verify_san: scope.counter("fail_verify_san"),
            fail_verify_cert_hash: scope.counter("fail_verify_cert_hash"),
            scope,
        }
    }

    /// A handshake that is done.
    pub(crate) fn done(&self, session: &CommonState) {
        self.handshake.inc();
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.session_reused.inc();
        }
        if session.peer_certificates().is_none_or(<[_]>::is_empty) {
            self.no_certificate.inc();
        }
        if let Some(suite) = session.negotiated_cipher_suite() {
            self.named("ciphers", &names::cipher(suite.suite()), tag::SSL_CIPHER);
        }
        self.named("versions", names::version(session.protocol_version()), "envoy_ssl_version");
        if let Some(group) = session.negotiated_key_exchange_group() {
            self.named("curves", names::curve_name(group.name()), "envoy_ssl_curve");
        }
    }

    /// A handshake that QUIC did, which tells less of it: neither cipher nor curve, nor whether a session was resumed.
    pub(crate) fn quic_done(&self, tls: &TlsInfo) {
        self.handshake.inc();
        if tls.peer_certificates.is_empty() {
            self.no_certificate.inc();
        }
        self.named("versions", tls.version, "envoy_ssl_version");
    }

    /// The peer proved its certificate with this algorithm.
    pub(crate) fn signature(&self, scheme: SignatureScheme) {
        self.named("sigalgs", &names::signature(scheme), "envoy_ssl_sigalg");
    }

    /// A handshake that failed, counted once.
    pub(crate) fn failed(&self, error: &TlsError) {
        match error.fault {
            Fault::Connection => self.connection_error.inc(),
            Fault::NoCertificate => self.fail_verify_no_cert.inc(),
            Fault::Chain => self.fail_verify_error.inc(),
            Fault::Name => self.fail_verify_san.inc(),
            Fault::Hash => self.fail_verify_cert_hash.inc(),
        }
    }

    /// The peer's chain does not hold, and is accepted all the same (`ACCEPT_UNTRUSTED`).
    pub(crate) fn untrusted(&self) {
        self.fail_verify_error.inc();
    }

    fn named(&self, kind: &str, name: &str, tag: &str) {
        if !name.is_empty() {
            self.scope.counter_tagged(&format!("{kind}.{name}"), kind, &[(tag, name)]).inc();
        }
    }
}
