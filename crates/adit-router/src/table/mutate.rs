//! Header fields to add and to remove, at every level of a route configuration.

use std::sync::Arc;

use adit_config::proto::envoy::config::core::v3 as core;
use adit_filter::LogContext;
use adit_match::ConfigError;
use core::header_value_option::HeaderAppendAction;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::format::Template;

/// What one level does to a head: first it removes, then it adds.
#[derive(Debug, Default)]
pub(crate) struct Mutation {
    remove: Vec<HeaderName>,
    add: Vec<Addition>,
}

#[derive(Debug)]
struct Addition {
    name: HeaderName,
    value: Template,
    action: HeaderAppendAction,
    keep_empty: bool,
}

impl Mutation {
    pub(crate) fn from_proto(
        add: &[core::HeaderValueOption],
        remove: &[String],
        at: &str,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Arc<Self>> {
        if add.is_empty() && remove.is_empty() {
            return None;
        }
        let mut mutation = Self::default();
        for (index, name) in remove.iter().enumerate() {
            match field_name(name, &format!("{at}_to_remove[{index}]")) {
                Ok(name) => mutation.remove.push(name),
                Err(error) => errors.push(error),
            }
        }
        for (index, option) in add.iter().enumerate() {
            match Addition::from_proto(option, &format!("{at}_to_add[{index}]")) {
                Ok(addition) => mutation.add.push(addition),
                Err(error) => errors.push(error),
            }
        }
        Some(Arc::new(mutation))
    }

    /// Removes, then adds the values that [`Mutation::render`] made.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, rendered: &[Option<HeaderValue>]) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (addition, value) in self.add.iter().zip(rendered) {
            if let Some(value) = value {
                addition.apply(headers, value.clone());
            }
        }
    }

    /// The values to add, rendered before any of them is added.
    pub(crate) fn render(&self, context: &LogContext<'_>) -> smallvec::SmallVec<[Option<HeaderValue>; 4]> {
        self.add.iter().map(|addition| addition.value.header(context)).collect()
    }
}

impl Addition {
    fn from_proto(option: &core::HeaderValueOption, at: &str) -> Result<Self, ConfigError> {
        let header = option.header.as_ref().ok_or_else(|| ConfigError::missing(format!("{at}.header")))?;
        let name = field_name(&header.key, &format!("{at}.header.key"))?;
        let value = if header.raw_value.is_empty() {
            Template::new(&header.value, &format!("{at}.header.value"))?
        } else {
            let raw = HeaderValue::from_bytes(&header.raw_value);
            Template::literal(raw.map_err(|_| ConfigError::new(format!("{at}.header.raw_value"), "not a header value"))?)
        };
        let action = HeaderAppendAction::try_from(option.append_action)
            .map_err(|_| ConfigError::new(format!("{at}.append_action"), "not one of the enum"))?;
        Ok(Self { name, value, action, keep_empty: option.keep_empty_value })
    }

    fn apply(&self, headers: &mut HeaderMap, value: HeaderValue) {
        if value.is_empty() && !self.keep_empty {
            return;
        }
        match self.action {
            HeaderAppendAction::AppendIfExistsOrAdd => {
                headers.append(&self.name, value);
            }
            HeaderAppendAction::AddIfAbsent => {
                headers.entry(&self.name).or_insert(value);
            }
            HeaderAppendAction::OverwriteIfExistsOrAdd => {
                headers.insert(&self.name, value);
            }
            HeaderAppendAction::OverwriteIfExists => {
                if headers.contains_key(&self.name) {
                    headers.insert(&self.name, value);
                }
            }
        }
    }
}

fn field_name(name: &str, at: &str) -> Result<HeaderName, ConfigError> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(ConfigError::new(at, ":-prefixed or host headers may not be modified"));
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| ConfigError::new(at, format!("'{name}' is not a header name")))
}

/// The mutations of every level, in the order in which they are applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mutations {
    pub(crate) request: Vec<Arc<Mutation>>,
    pub(crate) response: Vec<Arc<Mutation>>,
}

impl Mutations {
    /// Levels come from the most specific to the least; `most_specific_header_mutations_wins` has them applied the other
    /// way round, so that the most specific has the last word.
    pub(crate) fn in_order(levels: &[&Self], most_specific_wins: bool) -> Self {
        let mut all = Self::default();
        for level in levels {
            all.request.extend(level.request.iter().cloned());
            all.response.extend(level.response.iter().cloned());
        }
        if most_specific_wins {
            all.request.reverse();
            all.response.reverse();
        }
        all
    }
}
