//! When a listener filter is left out (`ListenerFilterChainMatchPredicate`).

use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::{Diagnostic, Path};
use pb::listener_filter_chain_match_predicate::{MatchSet, Rule};

/// A predicate over the port that a connection came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Predicate {
    Or(Vec<Predicate>),
    And(Vec<Predicate>),
    Not(Box<Predicate>),
    Any,
    /// From the first, up to but without the second.
    DestinationPort(i32, i32),
}

impl Predicate {
    pub(crate) fn from_proto(message: &pb::ListenerFilterChainMatchPredicate, path: &Path) -> Result<Self, Diagnostic> {
        match &message.rule {
            Some(Rule::OrMatch(set)) => Ok(Self::Or(all(set, &path.field("or_match"))?)),
            Some(Rule::AndMatch(set)) => Ok(Self::And(all(set, &path.field("and_match"))?)),
            Some(Rule::NotMatch(inner)) => Ok(Self::Not(Box::new(Self::from_proto(inner, &path.field("not_match"))?))),
            Some(Rule::AnyMatch(_)) => Ok(Self::Any),
            Some(Rule::DestinationPortRange(range)) => Ok(Self::DestinationPort(range.start, range.end)),
            None => Err(Diagnostic::error(path, "a rule is required")),
        }
    }

    /// Whether it holds for a connection to `port`; a connection without a port is in no range.
    pub(crate) fn matches(&self, port: Option<u16>) -> bool {
        match self {
            Self::Or(any) => any.iter().any(|one| one.matches(port)),
            Self::And(all) => all.iter().all(|one| one.matches(port)),
            Self::Not(inner) => !inner.matches(port),
            Self::Any => true,
            Self::DestinationPort(start, end) => port.is_some_and(|port| (*start..*end).contains(&i32::from(port))),
        }
    }
}

fn all(set: &MatchSet, path: &Path) -> Result<Vec<Predicate>, Diagnostic> {
    let path = path.field("rules");
    let each = set.rules.iter().enumerate();
    each.map(|(index, rule)| Predicate::from_proto(rule, &path.index(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::Predicate::{And, Any, DestinationPort, Not, Or};

    #[test]
    fn predicates_combine() {
        let range = DestinationPort(10, 20);
        assert!(range.matches(Some(10)) && range.matches(Some(19)));
        assert!(!range.matches(Some(20)) && !range.matches(None));
        assert!(Not(Box::new(range.clone())).matches(None));
        assert!(Or(vec![range.clone(), Any]).matches(Some(1)));
        assert!(!And(vec![range, Any]).matches(Some(1)));
    }
}
