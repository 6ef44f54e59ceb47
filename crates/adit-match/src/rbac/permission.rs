//! What a policy is about.

use adit_config::proto::envoy::config::rbac::v3 as pb;
use pb::permission::Rule;

use super::{Subject, sourced};
use crate::{CidrRange, ConfigError, HeaderMatcher, MetadataMatcher, PathMatcher, StringMatcher};

/// `Permission`.
#[derive(Debug)]
pub(super) enum Permission {
    And(Vec<Permission>),
    Or(Vec<Permission>),
    Any,
    Header(HeaderMatcher),
    UrlPath(PathMatcher),
    DestinationIp(CidrRange),
    /// From, and up to but without.
    DestinationPort(i64, i64),
    Metadata(MetadataMatcher),
    Not(Box<Permission>),
    ServerName(StringMatcher),
}

pub(super) fn list(messages: &[pb::Permission], path: &str) -> Result<Vec<Permission>, ConfigError> {
    let each = messages.iter().enumerate();
    each.map(|(index, one)| Permission::from_proto(one, &format!("{path}[{index}]"))).collect()
}

impl Permission {
    #[expect(deprecated, reason = "old files use metadata")]
    fn from_proto(message: &pb::Permission, path: &str) -> Result<Self, ConfigError> {
        let at = |field: &str| format!("{path}.{field}");
        Ok(match message.rule.as_ref().ok_or_else(|| ConfigError::new(path, "a rule is required"))? {
            Rule::AndRules(set) => Self::And(list(&set.rules, &at("and_rules.rules"))?),
            Rule::OrRules(set) => Self::Or(list(&set.rules, &at("or_rules.rules"))?),
            Rule::Any(_) => Self::Any,
            Rule::Header(header) => Self::Header(HeaderMatcher::from_proto(header, &at("header"))?),
            Rule::UrlPath(matcher) => Self::UrlPath(PathMatcher::from_proto(matcher, &at("url_path"))?),
            Rule::DestinationIp(range) => Self::DestinationIp(CidrRange::from_proto(range, &at("destination_ip"))?),
            Rule::DestinationPort(port) => Self::DestinationPort(i64::from(*port), i64::from(*port) + 1),
            Rule::DestinationPortRange(range) => Self::DestinationPort(i64::from(range.start), i64::from(range.end)),
            Rule::Metadata(matcher) => Self::Metadata(MetadataMatcher::from_proto(matcher, &at("metadata"))?),
            Rule::SourcedMetadata(message) => Self::Metadata(sourced(message, &at("sourced_metadata"))?),
            Rule::NotRule(rule) => Self::Not(Box::new(Self::from_proto(rule, &at("not_rule"))?)),
            Rule::RequestedServerName(name) => {
                Self::ServerName(StringMatcher::from_proto(name, &at("requested_server_name"))?)
            }
            Rule::Matcher(_) => return Err(ConfigError::unsupported(at("matcher"))),
            Rule::UriTemplate(_) => return Err(ConfigError::unsupported(at("uri_template"))),
        })
    }

    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|one| one.matches(subject)),
            Self::Or(any) => any.iter().any(|one| one.matches(subject)),
            Self::Any => true,
            Self::Header(matcher) => subject.head.is_some_and(|head| matcher.matches(head)),
            Self::UrlPath(matcher) => subject.head.is_some_and(|head| matcher.matches(head)),
            Self::DestinationIp(range) => subject.conn.local.ip().is_some_and(|ip| range.contains(ip)),
            Self::DestinationPort(from, to) => {
                subject.conn.local.port().is_some_and(|port| (*from..*to).contains(&i64::from(port)))
            }
            Self::Metadata(matcher) => matcher.matches(subject.metadata),
            Self::Not(rule) => !rule.matches(subject),
            Self::ServerName(matcher) => matcher.matches(subject.conn.server_name.as_deref().unwrap_or_default()),
        }
    }
}
