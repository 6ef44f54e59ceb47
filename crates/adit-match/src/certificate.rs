//! The names in a peer's certificate, as formats and RBAC speak of them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};

/// What formats print of one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The subject in RFC 2253 form (`CN=a,O=b`, the innermost first).
    pub subject: String,
    /// The issuer, likewise.
    pub issuer: String,
    /// The serial number in lower-case hexadecimal.
    pub serial: String,
    /// Subject alternative names of type URI.
    pub uri_names: Vec<String>,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP.
    pub ip_names: Vec<String>,
    /// Subject alternative names of type email.
    pub email_names: Vec<String>,
    /// Start of the validity.
    pub not_before: Option<SystemTime>,
    /// End of the validity.
    pub not_after: Option<SystemTime>,
}

impl Certificate {
    /// Reads a certificate in DER; `None` for what is none.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let mut certificate = Self {
            subject: rfc2253(parsed.subject()),
            issuer: rfc2253(parsed.issuer()),
            serial: hex(unsigned(parsed.raw_serial())),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            ..Self::default()
        };
        for extension in parsed.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                names.general_names.iter().for_each(|name| certificate.add_name(name));
            }
        }
        Some(certificate)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uri_names.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => self.dns_names.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => self.email_names.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_names.extend(ip(bytes).map(|ip| ip.to_string())),
            _ => {}
        }
    }
}

/// Lower-case hexadecimal, two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Without the leading zero byte that DER adds for the sign.
fn unsigned(number: &[u8]) -> &[u8] {
    match number {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn time(seconds: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// RFC 2253: the last relative name first, special characters escaped.
fn rfc2253(name: &X509Name<'_>) -> String {
    let registry = x509_parser::oid_registry::OidRegistry::default().with_x509().with_crypto();
    let mut parts: Vec<String> = Vec::new();
    for relative in name.iter_rdn() {
        let mut part = String::new();
        for attribute in relative.iter() {
            let key = short_name(&attribute.attr_type().to_id_string()).map_or_else(
                || {
                    registry
                        .get(attribute.attr_type())
                        .map_or_else(|| attribute.attr_type().to_id_string(), |e| e.sn().to_owned())
                },
                str::to_owned,
            );
            let separator = if part.is_empty() { "" } else { "+" };
            let _ = write!(part, "{separator}{key}=");
            escape(attribute.as_str().unwrap_or_default(), &mut part);
        }
        parts.push(part);
    }
    parts.reverse();
    parts.join(",")
}

fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escape(value: &str, into: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let edge = (index == 0 && matches!(letter, '#' | ' ')) || (index == last && letter == ' ');
        if edge || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            into.push('\\');
        }
        into.push(letter);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        let names = vec!["a.example".to_owned(), "10.0.0.1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/a".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme, Inc");
        params.distinguished_name.push(rcgen::DnType::CommonName, "a");
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0xab, 0x01]));
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(certificate.subject, r"CN=a,O=Acme\, Inc");
        assert_eq!(certificate.issuer, certificate.subject);
        assert_eq!(certificate.serial, "ab01");
        assert_eq!(certificate.uri_names, ["spiffe://td/a"]);
        assert_eq!(certificate.dns_names, ["a.example"]);
        assert_eq!(certificate.ip_names, ["10.0.0.1"]);
        assert!(certificate.not_before < certificate.not_after);
    }

    #[test]
    fn garbage_is_no_certificate() {
        assert_eq!(Certificate::from_der(b"garbage"), None);
    }
}
