//! Header mutations by `HeaderValueOption`: of routes, tunnels and local replies.

use adit_config::proto::envoy::config::core::v3 as pb;
use adit_filter::{LogContext, StreamInfo};
use adit_http::{RequestHead, ResponseHead};
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use pb::header_value_option::HeaderAppendAction as Action;

use crate::{ConfigError, Format};

/// Fields to remove and fields to set, in this order.
#[derive(Debug, Clone, Default)]
pub struct HeaderAdder {
    remove: Vec<HeaderName>,
    add: Vec<Addition>,
}

#[derive(Debug, Clone)]
struct Addition {
    name: HeaderName,
    value: Source,
    action: Action,
    keep_empty: bool,
}

#[derive(Debug, Clone)]
enum Source {
    Literal(HeaderValue),
    Format(Format),
}

impl HeaderAdder {
    /// From lists of fields to set and to remove, found at `path` and `remove_path`.
    ///
    /// # Errors
    /// For a name or value that cannot be sent, pseudo fields and `host`, and malformed format strings.
    pub fn from_proto(
        add: &[pb::HeaderValueOption],
        path: &str,
        remove: &[String],
        remove_path: &str,
    ) -> Result<Self, ConfigError> {
        let additions =
            add.iter().enumerate().map(|(index, one)| Addition::from_proto(one, &format!("{path}[{index}]")));
        let removals =
            remove.iter().enumerate().map(|(index, one)| field_name(one, &format!("{remove_path}[{index}]")));
        Ok(Self { add: additions.collect::<Result<_, _>>()?, remove: removals.collect::<Result<_, _>>()? })
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// What it does here; the formats are evaluated before anything changes.
    pub fn evaluate(&self, context: &LogContext<'_>) -> HeaderChanges<'_> {
        let add = self.add.iter().filter_map(|addition| {
            let value = match &addition.value {
                Source::Literal(value) => value.clone(),
                // A value that cannot be sent is no value.
                Source::Format(format) => HeaderValue::from_maybe_shared(format.render(context).into_bytes()).ok()?,
            };
            (addition.keep_empty || !value.is_empty()).then_some((&addition.name, value, addition.action))
        });
        HeaderChanges { remove: &self.remove, add: add.collect() }
    }

    /// Changes `headers`, which must not be those that the context refers to.
    pub fn apply(&self, headers: &mut HeaderMap, context: &LogContext<'_>) {
        if !self.is_empty() {
            self.evaluate(context).apply(headers);
        }
    }

    /// Changes a request's head; what is removed is gone for the formats too.
    pub fn apply_request(&self, head: &mut RequestHead, info: &StreamInfo) {
        if !self.is_empty() {
            self.remove_from(&mut head.headers);
            let changes = self.evaluate(&LogContext { request: Some(head), ..LogContext::new(info) });
            changes.apply(&mut head.headers);
        }
    }

    fn remove_from(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// Changes a response's head; what is removed is gone for the formats too.
    pub fn apply_response(&self, head: &mut ResponseHead, request: Option<&RequestHead>, info: &StreamInfo) {
        if !self.is_empty() {
            self.remove_from(&mut head.headers);
            let changes = self.evaluate(&LogContext { request, response: Some(head), ..LogContext::new(info) });
            changes.apply(&mut head.headers);
        }
    }

    /// Whether a format of it may look at the request.
    pub fn reads_request(&self) -> bool {
        self.add.iter().any(|addition| match &addition.value {
            Source::Literal(_) => false,
            Source::Format(format) => format.reads_request(),
        })
    }
}

/// What a [`HeaderAdder`] does to one message.
#[derive(Debug)]
pub struct HeaderChanges<'a> {
    remove: &'a [HeaderName],
    add: Vec<(&'a HeaderName, HeaderValue, Action)>,
}

impl HeaderChanges<'_> {
    /// Removes, then adds.
    pub fn apply(self, headers: &mut HeaderMap) {
        for name in self.remove {
            headers.remove(name);
        }
        for (name, value, action) in self.add {
            match action {
                Action::AppendIfExistsOrAdd => drop(headers.append(name, value)),
                Action::OverwriteIfExistsOrAdd => drop(headers.insert(name, value)),
                Action::AddIfAbsent => {
                    if let Entry::Vacant(entry) = headers.entry(name) {
                        entry.insert(value);
                    }
                }
                Action::OverwriteIfExists => {
                    if let Entry::Occupied(mut entry) = headers.entry(name) {
                        entry.insert(value);
                    }
                }
            }
        }
    }
}

impl Addition {
    #[expect(deprecated, reason = "old files use append")]
    fn from_proto(message: &pb::HeaderValueOption, path: &str) -> Result<Self, ConfigError> {
        let header = message.header.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.header")))?;
        let name = field_name(&header.key, &format!("{path}.header.key"))?;
        let value = if header.raw_value.is_empty() {
            let at = format!("{path}.header.value");
            let format = Format::parse_omitting(&header.value).map_err(|error| ConfigError::new(&*at, error))?;
            match format.as_literal().map(HeaderValue::from_str) {
                Some(Ok(value)) => Source::Literal(value),
                Some(Err(_)) => return Err(ConfigError::new(at, "cannot be sent in a header")),
                None => Source::Format(format),
            }
        } else {
            let value = HeaderValue::from_bytes(&header.raw_value);
            Source::Literal(
                value
                    .map_err(|_| ConfigError::new(format!("{path}.header.raw_value"), "cannot be sent in a header"))?,
            )
        };
        let action = match message.append {
            Some(true) => Action::AppendIfExistsOrAdd,
            Some(false) => Action::OverwriteIfExistsOrAdd,
            None => message.append_action(),
        };
        Ok(Self { name, value, action, keep_empty: message.keep_empty_value })
    }
}

fn field_name(name: &str, path: &str) -> Result<HeaderName, ConfigError> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(ConfigError::new(path, ":-prefixed or host headers may not be modified"));
    }
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ConfigError::new(path, format!("'{name}' is not a header name")))
}

#[cfg(test)]
mod tests;
