//! `%DOWNSTREAM_PEER_SUBJECT%` and its kin: what certificates say.

use std::time::SystemTime;

use adit_filter::LogContext;
use adit_io::TlsInfo;
use adit_match::certificate::{Certificate, hex};
use aws_lc_rs::digest;
use base64::Engine as _;

use super::Val;
use super::time::TimeFormat;

/// Which connection, and which end's certificate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    pub upstream: bool,
    pub local: bool,
}

impl Whose {
    fn tls<'a>(self, context: &LogContext<'a>) -> Option<&'a TlsInfo> {
        let info = context.info;
        if self.upstream { info.upstream.as_ref()?.conn.as_ref()?.tls.as_deref() } else { info.conn.tls.as_deref() }
    }

    fn der<'a>(self, context: &LogContext<'a>) -> Option<&'a [u8]> {
        let tls = self.tls(context)?;
        if self.local { tls.local_certificate.as_deref() } else { tls.peer_certificates.first().map(Vec::as_slice) }
    }

    fn certificate(self, context: &LogContext<'_>) -> Option<Certificate> {
        Certificate::from_der(self.der(context)?)
    }
}

/// One fact of a certificate or a handshake.
#[derive(Debug, Clone)]
pub(super) enum TlsFact {
    Version,
    Cipher,
    Subject,
    Issuer,
    Serial,
    UriNames,
    DnsNames,
    IpNames,
    EmailNames,
    Fingerprint256,
    Fingerprint1,
    /// PEM, percent-encoded.
    Pem,
    ValidFrom(TimeFormat),
    ValidTo(TimeFormat),
}

impl TlsFact {
    /// `%DOWNSTREAM_PEER_SUBJECT%` and so on; `None` for another operator.
    pub fn parse(name: &str, argument: Option<&str>) -> Option<Result<(Whose, Self), String>> {
        let (upstream, rest) = match name.strip_prefix("DOWNSTREAM_") {
            Some(rest) => (false, rest),
            None => (true, name.strip_prefix("UPSTREAM_")?),
        };
        let (local, what) = match (rest.strip_prefix("PEER_"), rest.strip_prefix("LOCAL_"), rest.strip_prefix("TLS_")) {
            (Some(what), ..) => (false, what),
            (_, Some(what), _) => (true, what),
            (.., Some("VERSION")) => return Some(Ok((Whose { upstream, local: false }, Self::Version))),
            (.., Some("CIPHER")) => return Some(Ok((Whose { upstream, local: false }, Self::Cipher))),
            _ => return None,
        };
        let time = || TimeFormat::new(argument.unwrap_or_default());
        let fact = match what {
            "SUBJECT" => Self::Subject,
            "ISSUER" => Self::Issuer,
            "SERIAL" => Self::Serial,
            "URI_SAN" => Self::UriNames,
            "DNS_SAN" => Self::DnsNames,
            "IP_SAN" => Self::IpNames,
            "EMAIL_SAN" => Self::EmailNames,
            "FINGERPRINT_256" => Self::Fingerprint256,
            "FINGERPRINT_1" => Self::Fingerprint1,
            "CERT" => Self::Pem,
            "CERT_V_START" => return Some(time().map(|format| (Whose { upstream, local }, Self::ValidFrom(format)))),
            "CERT_V_END" => return Some(time().map(|format| (Whose { upstream, local }, Self::ValidTo(format)))),
            _ => return None,
        };
        Some(Ok((Whose { upstream, local }, fact)))
    }

    pub fn value<'a>(&self, whose: Whose, context: &LogContext<'a>) -> Val<'a> {
        match self {
            Self::Version => Val::text(whose.tls(context).map(|tls| tls.version)),
            Self::Cipher => Val::text(whose.tls(context).map(|tls| &*tls.cipher)),
            Self::Fingerprint256 => Val::owned(whose.der(context).map(|der| hash(&digest::SHA256, der))),
            Self::Fingerprint1 => {
                Val::owned(whose.der(context).map(|der| hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, der)))
            }
            Self::Pem => Val::owned(whose.der(context).map(pem)),
            _ => Val::owned(whose.certificate(context).and_then(|certificate| self.read(certificate))),
        }
    }

    fn read(&self, certificate: Certificate) -> Option<String> {
        let date = |format: &TimeFormat, time: Option<SystemTime>| time.map(|time| format.render(time));
        match self {
            Self::Subject => Some(certificate.subject),
            Self::Issuer => Some(certificate.issuer),
            Self::Serial => Some(certificate.serial),
            Self::UriNames => Some(certificate.uri_names.join(",")),
            Self::DnsNames => Some(certificate.dns_names.join(",")),
            Self::IpNames => Some(certificate.ip_names.join(",")),
            Self::EmailNames => Some(certificate.email_names.join(",")),
            Self::ValidFrom(format) => date(format, certificate.not_before),
            Self::ValidTo(format) => date(format, certificate.not_after),
            Self::Version | Self::Cipher | Self::Fingerprint256 | Self::Fingerprint1 | Self::Pem => None,
        }
    }
}

fn hash(algorithm: &'static digest::Algorithm, der: &[u8]) -> String {
    hex(digest::digest(algorithm, der).as_ref())
}

fn pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        for letter in line.chars() {
            match letter {
                '+' => text.push_str("%2B"),
                '/' => text.push_str("%2F"),
                '=' => text.push_str("%3D"),
                letter => text.push(letter),
            }
        }
        text.push_str("%0A");
        rest = after;
    }
    text.push_str("-----END%20CERTIFICATE-----%0A");
    text
}
