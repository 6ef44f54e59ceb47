//! The names in a peer's certificate against those that are asked for.

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
use adit_config::proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use adit_config::proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use adit_config::{Diagnostic, Path};
use adit_match::StringMatcher;
use adit_match::certificate::Certificate;

/// One entry of `match_typed_subject_alt_names`.
#[derive(Debug)]
pub(crate) struct SanMatcher {
    kind: SanType,
    /// An exact DNS name, which a wildcard in the certificate may cover.
    exact: Option<String>,
    matcher: StringMatcher,
}

impl SanMatcher {
    /// From its message.
    pub(crate) fn from_proto(message: &SubjectAltNameMatcher, path: &Path) -> Result<Self, Diagnostic> {
        let kind = message.san_type();
        if matches!(kind, SanType::OtherName | SanType::Unspecified) {
            return Err(Diagnostic::error(path.field("san_type"), "this type of name is not supported"));
        }
        let at = path.field("matcher");
        let Some(matcher) = &message.matcher else { return Err(Diagnostic::error(&at, "value is required")) };
        let exact = match &matcher.match_pattern {
            Some(MatchPattern::Exact(name)) if kind == SanType::Dns => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let matcher = StringMatcher::from_proto(matcher, at.as_str())
            .map_err(|error| Diagnostic::error(error.path, error.message))?;
        Ok(Self { kind, exact, matcher })
    }

    /// Whether one of the certificate's names matches.
    pub(crate) fn matches(&self, certificate: &Certificate) -> bool {
        let names = match self.kind {
            SanType::Email => &certificate.email_names,
            SanType::Dns => &certificate.dns_names,
            SanType::Uri => &certificate.uri_names,
            SanType::IpAddress => &certificate.ip_names,
            SanType::OtherName | SanType::Unspecified => return false,
        };
        names.iter().any(|name| match &self.exact {
            Some(wanted) => covers(name, wanted),
            None => self.matcher.matches(name),
        })
    }
}

/// Whether a certificate is for this host: a DNS name, or an address where the host is one.
pub(crate) fn is_for(certificate: &Certificate, host: &str) -> bool {
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        let address = address.to_string();
        return certificate.ip_names.contains(&address);
    }
    let host = host.to_ascii_lowercase();
    certificate.dns_names.iter().any(|name| covers(name, &host))
}

/// Whether a certificate's DNS name covers a host (lower case). A wildcard stands for one whole label (RFC 6125 6.4.3).
fn covers(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((first, rest))) = (name.strip_prefix("*."), host.split_once('.')) else { return false };
    !first.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label() {
        for (name, host, expected) in [
            ("a.example.com", "a.example.com", true),
            ("A.example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", false),
            ("a*.example.com", "ab.example.com", false),
            ("*.example.com", ".example.com", false),
        ] {
            assert_eq!(covers(name, host), expected, "{name} {host}");
        }
    }
}
