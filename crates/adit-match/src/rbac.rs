//! Role-based access control (`envoy.config.rbac.v3`): which requests and connections are let in.

mod permission;
mod principal;

use adit_config::proto::envoy::config::rbac::v3 as pb;
use adit_filter::StreamInfo;
use adit_http::RequestHead;
use adit_io::{ConnInfo, FilterState, Metadata};

use crate::ConfigError;
use permission::Permission;
use principal::Principal;

/// What rules look at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The request; `None` for a bare connection, which no rule about requests matches.
    pub head: Option<&'a RequestHead>,
    /// The downstream connection.
    pub conn: &'a ConnInfo,
    /// Filter state.
    pub state: &'a FilterState,
    /// Dynamic metadata.
    pub metadata: &'a Metadata,
}

impl<'a> Subject<'a> {
    /// A request.
    pub fn request(head: &'a RequestHead, info: &'a StreamInfo) -> Self {
        Self { head: Some(head), conn: &info.conn, state: &info.state, metadata: &info.metadata }
    }
}

/// What rules do with what matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Lets in what a policy matches, and nothing else.
    Allow,
    /// Lets in what no policy matches.
    Deny,
    /// Lets in everything, and marks what a policy matches for the log.
    Log,
}

/// What an engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the subject is let in.
    pub allowed: bool,
    /// The first policy that matches, in the order of names.
    pub policy: Option<&'a str>,
}

impl Decision<'_> {
    /// `rbac_access_denied_matched_policy[..]`, the response-code details of a refusal.
    pub fn denied_details(&self) -> String {
        let policy = self.policy.unwrap_or("none").replace(char::is_whitespace, "_");
        format!("rbac_access_denied_matched_policy[{policy}]")
    }
}

/// `RBAC`.
#[derive(Debug)]
pub struct Engine {
    action: Action,
    policies: Vec<Policy>,
}

#[derive(Debug)]
struct Policy {
    name: Box<str>,
    permissions: Vec<Permission>,
    principals: Vec<Principal>,
}

impl Engine {
    /// From its message. CEL conditions and audit logging are refused.
    pub fn from_proto(message: &pb::Rbac, path: &str) -> Result<Self, ConfigError> {
        if message.audit_logging_options.is_some() {
            return Err(ConfigError::unsupported(format!("{path}.audit_logging_options")));
        }
        let action = match message.action() {
            pb::rbac::Action::Allow => Action::Allow,
            pb::rbac::Action::Deny => Action::Deny,
            pb::rbac::Action::Log => Action::Log,
        };
        let policies = message.policies.iter();
        let policies = policies
            .map(|(name, policy)| Policy::from_proto(name, policy, &format!("{path}.policies[{name:?}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self { action, policies })
    }

    /// What its rules do.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Judges a request or a connection.
    pub fn decide(&self, subject: &Subject<'_>) -> Decision<'_> {
        let policy = self.policies.iter().find(|policy| policy.matches(subject)).map(|policy| &*policy.name);
        let allowed = match self.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        Decision { allowed, policy }
    }
}

impl Policy {
    fn from_proto(name: &str, message: &pb::Policy, path: &str) -> Result<Self, ConfigError> {
        for (set, field) in [
            (message.condition.is_some(), "condition"),
            (message.checked_condition.is_some(), "checked_condition"),
            (message.cel_config.is_some(), "cel_config"),
        ] {
            if set {
                return Err(ConfigError::unsupported(format!("{path}.{field}")));
            }
        }
        Ok(Self {
            name: name.into(),
            permissions: permission::list(&message.permissions, &format!("{path}.permissions"))?,
            principals: principal::list(&message.principals, &format!("{path}.principals"))?,
        })
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.permissions.iter().any(|one| one.matches(subject))
            && self.principals.iter().any(|one| one.matches(subject))
    }
}

/// `SourcedMetadata`; metadata of the route is refused.
fn sourced(message: &pb::SourcedMetadata, path: &str) -> Result<crate::MetadataMatcher, ConfigError> {
    if message.metadata_source() != pb::MetadataSource::Dynamic {
        return Err(ConfigError::unsupported(format!("{path}.metadata_source")));
    }
    let matcher =
        message.metadata_matcher.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.metadata_matcher")))?;
    crate::MetadataMatcher::from_proto(matcher, &format!("{path}.metadata_matcher"))
}

#[cfg(test)]
mod tests;
