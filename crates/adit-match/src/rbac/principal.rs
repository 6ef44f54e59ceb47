//! Whom a policy is about.

use adit_config::proto::envoy::config::rbac::v3 as pb;
use adit_io::TlsInfo;
use pb::principal::Identifier;

use super::{Subject, sourced};
use crate::certificate::Certificate;
use crate::{CidrRange, ConfigError, FilterStateMatcher, HeaderMatcher, MetadataMatcher, PathMatcher, StringMatcher};

/// `Principal`.
#[derive(Debug)]
pub(super) enum Principal {
    And(Vec<Principal>),
    Or(Vec<Principal>),
    Any,
    /// The peer's certificate was verified; its first name of a kind (URI, DNS, subject) matches, if asked for.
    Authenticated(Option<StringMatcher>),
    /// The peer of the connection, never what a request says of itself.
    SourceIp(CidrRange),
    DirectRemoteIp(CidrRange),
    RemoteIp(CidrRange),
    Header(HeaderMatcher),
    UrlPath(PathMatcher),
    Metadata(MetadataMatcher),
    FilterState(FilterStateMatcher),
    Not(Box<Principal>),
}

pub(super) fn list(messages: &[pb::Principal], path: &str) -> Result<Vec<Principal>, ConfigError> {
    let each = messages.iter().enumerate();
    each.map(|(index, one)| Principal::from_proto(one, &format!("{path}[{index}]"))).collect()
}

impl Principal {
    #[expect(deprecated, reason = "old files use source_ip and metadata")]
    fn from_proto(message: &pb::Principal, path: &str) -> Result<Self, ConfigError> {
        let at = |field: &str| format!("{path}.{field}");
        Ok(match message.identifier.as_ref().ok_or_else(|| ConfigError::new(path, "an identifier is required"))? {
            Identifier::AndIds(set) => Self::And(list(&set.ids, &at("and_ids.ids"))?),
            Identifier::OrIds(set) => Self::Or(list(&set.ids, &at("or_ids.ids"))?),
            Identifier::Any(_) => Self::Any,
            Identifier::Authenticated(authenticated) => {
                let name = authenticated.principal_name.as_ref();
                let path = at("authenticated.principal_name");
                Self::Authenticated(name.map(|name| StringMatcher::from_proto(name, &path)).transpose()?)
            }
            Identifier::SourceIp(range) => Self::SourceIp(CidrRange::from_proto(range, &at("source_ip"))?),
            Identifier::DirectRemoteIp(range) => {
                Self::DirectRemoteIp(CidrRange::from_proto(range, &at("direct_remote_ip"))?)
            }
            Identifier::RemoteIp(range) => Self::RemoteIp(CidrRange::from_proto(range, &at("remote_ip"))?),
            Identifier::Header(header) => Self::Header(HeaderMatcher::from_proto(header, &at("header"))?),
            Identifier::UrlPath(matcher) => Self::UrlPath(PathMatcher::from_proto(matcher, &at("url_path"))?),
            Identifier::Metadata(matcher) => Self::Metadata(MetadataMatcher::from_proto(matcher, &at("metadata"))?),
            Identifier::SourcedMetadata(message) => Self::Metadata(sourced(message, &at("sourced_metadata"))?),
            Identifier::FilterState(matcher) => {
                Self::FilterState(FilterStateMatcher::from_proto(matcher, &at("filter_state"))?)
            }
            Identifier::NotId(id) => Self::Not(Box::new(Self::from_proto(id, &at("not_id"))?)),
            Identifier::Custom(_) => return Err(ConfigError::unsupported(at("custom"))),
        })
    }

    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let conn = subject.conn;
        match self {
            Self::And(all) => all.iter().all(|one| one.matches(subject)),
            Self::Or(any) => any.iter().any(|one| one.matches(subject)),
            Self::Any => true,
            Self::Authenticated(name) => conn.tls.as_deref().is_some_and(|tls| authenticated(tls, name.as_ref())),
            // On a request, `remote` may come from x-forwarded-for; on a connection at most from the PROXY protocol.
            Self::SourceIp(range) => {
                let address = if subject.head.is_some() { conn.direct_remote() } else { &conn.remote };
                address.ip().is_some_and(|ip| range.contains(ip))
            }
            Self::DirectRemoteIp(range) => conn.direct_remote().ip().is_some_and(|ip| range.contains(ip)),
            Self::RemoteIp(range) => conn.remote.ip().is_some_and(|ip| range.contains(ip)),
            Self::Header(matcher) => subject.head.is_some_and(|head| matcher.matches(head)),
            Self::UrlPath(matcher) => subject.head.is_some_and(|head| matcher.matches(head)),
            Self::Metadata(matcher) => matcher.matches(subject.metadata),
            Self::FilterState(matcher) => matcher.matches(subject.state),
            Self::Not(id) => !id.matches(subject),
        }
    }
}

/// URI names count, then DNS names where there is no URI name, then the subject where there is neither, as in Envoy.
fn authenticated(tls: &TlsInfo, name: Option<&StringMatcher>) -> bool {
    let Some(leaf) = tls.peer_certificates.first().filter(|_| tls.peer_validated) else { return false };
    let Some(name) = name else { return true };
    let Some(certificate) = Certificate::from_der(leaf) else { return false };
    if !certificate.uri_names.is_empty() {
        certificate.uri_names.iter().any(|uri| name.matches(uri))
    } else if !certificate.dns_names.is_empty() {
        certificate.dns_names.iter().any(|dns| name.matches(dns))
    } else {
        name.matches(&certificate.subject)
    }
}
