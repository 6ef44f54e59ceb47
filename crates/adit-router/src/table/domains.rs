//! Which virtual host a request belongs to (`VirtualHost.domains`).

use std::collections::HashMap;

use adit_match::ConfigError;

/// Domains to virtual hosts, by index: exact, then the longest suffix wildcard, the longest prefix wildcard, `*`.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: HashMap<Box<str>, usize>,
    /// `*.suffix` and `*-suffix`: what follows the `*`, longest first.
    suffixes: Vec<(Box<str>, usize)>,
    /// `prefix.*`: what precedes the `*`, longest first.
    prefixes: Vec<(Box<str>, usize)>,
    any: Option<usize>,
}

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
        // A wildcard stands for at least one character.
        let longer = |part: &str| host.len() > part.len();
        self.exact
            .get(host)
            .copied()
            .or_else(|| find(&self.suffixes, |suffix| longer(suffix) && host.ends_with(suffix)))
            .or_else(|| find(&self.prefixes, |prefix| longer(prefix) && host.starts_with(prefix)))
            .or(self.any)
    }
}

fn find(list: &[(Box<str>, usize)], fits: impl Fn(&str) -> bool) -> Option<usize> {
    list.iter().find(|(part, _)| fits(part)).map(|(_, host)| *host)
}

/// Inserts in order of length; says whether the part was there already.
fn insert(list: &mut Vec<(Box<str>, usize)>, part: &str, host: usize) -> bool {
    if list.iter().any(|(known, _)| **known == *part) {
        return true;
    }
    let place = list.iter().position(|(known, _)| known.len() < part.len()).unwrap_or(list.len());
    list.insert(place, (part.into(), host));
    false
}
