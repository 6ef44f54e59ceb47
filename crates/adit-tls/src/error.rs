//! Why a handshake failed.

use std::fmt;
use std::io;

/// A handshake that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// What was wrong; decides which counter it raises.
    pub fault: Fault,
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` and its upstream counterpart.
    pub reason: String,
}

/// What was wrong, one for each counter of a refused handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `ssl.connection_error`: anything that is none of those below.
    Connection,
    /// `ssl.fail_verify_no_cert`: the client gave no certificate where one is required.
    NoCertificate,
    /// `ssl.fail_verify_error`: the chain of the peer's certificate does not hold.
    Chain,
    /// `ssl.fail_verify_san`: none of its names is one of those asked for.
    Name,
    /// `ssl.fail_verify_cert_hash`: it is none of those listed by hash.
    Hash,
}

impl TlsError {
    pub(crate) fn connection(reason: impl fmt::Display) -> Self {
        Self { fault: Fault::Connection, reason: format!("TLS_error: {reason}") }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::from_rustls(error),
            None => Self { fault: Fault::Connection, reason: words(error) },
        }
    }

    /// From the words of a QUIC stack, through which no type of ours comes.
    pub(crate) fn from_words(words: &str) -> Self {
        let fault = if words.contains("verify SAN list") {
            Fault::Name
        } else if words.contains("cert hash and spki") {
            Fault::Hash
        } else if words.contains("verify cert failed") || words.contains("invalid peer certificate") {
            Fault::Chain
        } else {
            Fault::Connection
        };
        Self { fault, reason: format!("TLS_error: {words}") }
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error};
        let (fault, reason) = match error {
            Error::NoCertificatesPresented => (Fault::NoCertificate, "peer did not return a certificate".to_owned()),
            Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Refusal>() {
                Some(refusal) => (refusal.fault, refusal.reason.clone()),
                None => (Fault::Chain, format!("verify cert failed: {other}")),
            },
            Error::InvalidCertificate(error) => (Fault::Chain, format!("verify cert failed: {error}")),
            other => (Fault::Connection, other.to_string()),
        };
        Self { fault, reason: format!("TLS_error: {reason}") }
    }
}

/// The system's words without Rust's error number, as Envoy has them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TlsError {}

/// What a verifier of ours objects to, on its way through rustls.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    pub(crate) reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}
