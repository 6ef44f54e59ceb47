//! Which virtual host a request belongs to (`VirtualHost.domains`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use adit_match::ConfigError;

/// Domains to virtual hosts, by index: exact, then the longest suffix wildcard, the longest prefix wildcard, `*`.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: HashMap<Box<str>, usize>,
    /// `*.suffix` and `*-suffix`: what follows the `*`.
    suffixes: Wildcards,
    /// `prefix.*`: what precedes the `*`.
    prefixes: Wildcards,
    any: Option<usize>,
}

/// What wildcards leave of their domains, by length, the longest first: a look-up for each length that there is, however
/// many domains have it.
type Wildcards = BTreeMap<Reverse<usize>, HashMap<Box<str>, usize>>;

impl Domains {
    /// Adds a domain; domains are unique within a route configuration.
    pub(crate) fn add(&mut self, domain: &str, host: usize, at: &str, route_config: &str) -> Result<(), ConfigError> {
        let domain = domain.to_ascii_lowercase();
        let taken = if domain == "*" {
            if self.any.is_some() {
                let text = format!("Only a single wildcard domain is permitted in route {route_config}");
                return Err(ConfigError::new(at, text));
            }
            self.any = Some(host);
            false
        } else if let Some(suffix) = domain.strip_prefix('*') {
            insert(&mut self.suffixes, suffix, host)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            insert(&mut self.prefixes, prefix, host)
        } else {
            self.exact.insert(domain.as_str().into(), host).is_some()
        };
        if taken {
            let text = format!(
                "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {route_config}"
            );
            return Err(ConfigError::new(at, text));
        }
        Ok(())
    }

    /// The virtual host of a request's authority.
    pub(crate) fn find(&self, authority: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        if !authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lower(authority);
        }
        self.find_lower(&authority.to_ascii_lowercase())
    }

    fn find_lower(&self, host: &str) -> Option<usize> {
        self.exact
            .get(host)
            .copied()
            .or_else(|| find(&self.suffixes, host, |length| host.get(host.len() - length..)))
            .or_else(|| find(&self.prefixes, host, |length| host.get(..length)))
            .or(self.any)
    }
}

/// The longest of them that is this `part` of the host. A wildcard stands for at least one character.
fn find<'h>(list: &Wildcards, host: &'h str, part: impl Fn(usize) -> Option<&'h str>) -> Option<usize> {
    let mut shorter = list.iter().filter(|(Reverse(length), _)| *length < host.len());
    shorter.find_map(|(Reverse(length), known)| known.get(part(*length)?).copied())
}

/// Says whether the part was there already.
fn insert(list: &mut Wildcards, part: &str, host: usize) -> bool {
    list.entry(Reverse(part.len())).or_default().insert(part.into(), host).is_some()
}
