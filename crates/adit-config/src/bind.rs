//! A YAML tree to an Envoy message, by descriptor: the JSON mapping of protobuf, as Envoy reads it, with every problem
//! reported at its line and path, and the line of every field kept.

mod any;
mod scalar;
mod well_known;

use std::collections::HashMap;
use std::sync::Arc;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::locations::Locations;
use crate::yaml::{Data, Entry, Node};
use crate::{Diagnostic, Path};

/// What a source is bound with.
pub(crate) struct Binder<'a> {
    pub locations: &'a mut Locations,
    pub file: usize,
    pub file_name: &'a str,
    /// From a JSON file: there a number is a number, also where YAML makes a string of it.
    pub json: bool,
    /// Unknown fields are warnings.
    pub allow_unknown: bool,
    pub problems: Vec<Diagnostic>,
    /// Hints given. A text of nothing but mistakes gets no more than [`MAX_HINTS`]: each compares many names.
    pub hints: usize,
}

const MAX_HINTS: usize = 50;

impl Binder<'_> {
    /// [`did_you_mean`], for the first mistakes.
    fn hint<'a>(&mut self, word: &str, names: impl Iterator<Item = &'a str>) -> String {
        self.hints += 1;
        if self.hints > MAX_HINTS { String::new() } else { did_you_mean(word, names) }
    }

    fn error(&mut self, path: &Path, line: u32, message: impl Into<String>) {
        self.problems.push(Diagnostic::error(path, message).at(self.file_name, line));
    }

    fn note(&mut self, path: &Path, line: u32) {
        self.locations.add(path.as_str(), self.file, line);
    }

    /// The message that `node` describes. Lists continue those of `base`, over which it will be merged.
    pub fn message(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
        path: &Path,
        base: Option<&DynamicMessage>,
    ) -> Option<DynamicMessage> {
        if descriptor.full_name().starts_with("google.protobuf.") {
            return self.well_known(node, descriptor, path);
        }
        match &node.data {
            Data::Mapping(entries) => Some(self.fields(entries, descriptor, path, base)),
            // An empty value, as in `router:` with nothing after it.
            Data::Null => Some(DynamicMessage::new(descriptor.clone())),
            other => {
                self.error(path, node.line, format!("expected a mapping, found {}", describe(other)));
                None
            }
        }
    }

    /// The fields of a message.
    fn fields(
        &mut self,
        entries: &[Entry],
        descriptor: &MessageDescriptor,
        path: &Path,
        base: Option<&DynamicMessage>,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut set: HashMap<u32, &str> = HashMap::new();
        let mut oneofs: HashMap<String, &str> = HashMap::new();
        for entry in entries {
            let Some(field) = self.find(descriptor, entry, path) else { continue };
            let here = path.field(field.name());
            if let Some(other) = set.insert(field.number(), &entry.key) {
                if *other != entry.key {
                    self.error(&here, entry.line, format!("'{}' is the same field as '{other}'", entry.key));
                }
                continue;
            }
            if matches!(entry.value.data, Data::Null) && !takes_null(&field) {
                continue;
            }
            if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
                && let Some(other) = oneofs.insert(oneof.name().to_owned(), &entry.key)
            {
                let message = format!(
                    "'{}' and '{other}' exclude each other: only one of {} may be set",
                    entry.key,
                    oneof.name()
                );
                self.error(&here, entry.line, message);
                continue;
            }
            self.note(&here, entry.line);
            let below = base.and_then(|base| base.has_field(&field).then(|| base.get_field(&field)));
            if let Some(value) = self.value(&entry.value, &field, &here, below.as_deref()) {
                // The value was made by the field's own kind.
                let _ = message.try_set_field(&field, value);
            }
        }
        message
    }

    /// The field that a key names, in either spelling.
    fn find(&mut self, descriptor: &MessageDescriptor, entry: &Entry, path: &Path) -> Option<FieldDescriptor> {
        let found = descriptor.get_field_by_name(&entry.key).or_else(|| descriptor.get_field_by_json_name(&entry.key));
        if found.is_none() {
            let names: Vec<FieldDescriptor> = descriptor.fields().collect();
            let hint = self.hint(&entry.key, names.iter().map(FieldDescriptor::name));
            let message = format!("unknown field '{}' in {}{hint}", entry.key, descriptor.full_name());
            let finding = if self.allow_unknown {
                Diagnostic::warning(path.field(&entry.key), message)
            } else {
                Diagnostic::error(path.field(&entry.key), message)
            };
            self.problems.push(finding.at(self.file_name, entry.line));
        }
        found
    }

    fn value(&mut self, node: &Node, field: &FieldDescriptor, path: &Path, base: Option<&Value>) -> Option<Value> {
        if field.is_map() {
            return self.map(node, field, path);
        }
        if field.is_list() {
            let before = base.and_then(Value::as_list).map_or(0, <[Value]>::len);
            return self.list(node, field, path, before);
        }
        self.single(node, &field.kind(), path, base)
    }

    fn single(&mut self, node: &Node, kind: &Kind, path: &Path, base: Option<&Value>) -> Option<Value> {
        match kind {
            Kind::Message(descriptor) => {
                let base = base.and_then(Value::as_message);
                self.message(node, descriptor, path, base).map(Value::Message)
            }
            _ => self.scalar(node, kind, path),
        }
    }

    fn list(&mut self, node: &Node, field: &FieldDescriptor, path: &Path, before: usize) -> Option<Value> {
        let Data::Sequence(items) = &node.data else {
            self.error(path, node.line, format!("expected a list, found {}", describe(&node.data)));
            return None;
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let here = path.index(before + index);
            self.note(&here, item.line);
            if matches!(item.data, Data::Null) && !takes_null(field) {
                self.error(&here, item.line, "an element of a list may not be null");
                continue;
            }
            // A failed element keeps its place, so that the paths of those behind it stay right.
            let value = self.single(item, &field.kind(), &here, None);
            values.push(value.unwrap_or_else(|| Value::default_value(&field.kind())));
        }
        Some(Value::List(values))
    }

    fn map(&mut self, node: &Node, field: &FieldDescriptor, path: &Path) -> Option<Value> {
        let Data::Mapping(entries) = &node.data else {
            self.error(path, node.line, format!("expected a mapping, found {}", describe(&node.data)));
            return None;
        };
        let Kind::Message(descriptor) = field.kind() else { return None };
        let (key, value) = (descriptor.map_entry_key_field(), descriptor.map_entry_value_field());
        let mut values = HashMap::new();
        for entry in entries {
            let here = path.key(&entry.key);
            self.note(&here, entry.line);
            let Some(map_key) = self.map_key(entry, &key.kind(), &here) else { continue };
            if matches!(entry.value.data, Data::Null) && !takes_null(&value) {
                self.error(&here, entry.line, "the value of a map's entry may not be null");
                continue;
            }
            if let Some(bound) = self.single(&entry.value, &value.kind(), &here, None) {
                values.insert(map_key, bound);
            }
        }
        Some(Value::Map(values))
    }

    fn map_key(&mut self, entry: &Entry, kind: &Kind, path: &Path) -> Option<MapKey> {
        if matches!(kind, Kind::String) {
            return Some(MapKey::String(entry.key.clone()));
        }
        let data = Data::Scalar { text: entry.key.clone(), plain: true };
        match scalar::convert(&data, kind, self.json) {
            Ok(value) => value.into_map_key(),
            Err(message) => {
                self.error(path, entry.line, message);
                None
            }
        }
    }

    fn scalar(&mut self, node: &Node, kind: &Kind, path: &Path) -> Option<Value> {
        match scalar::convert(&node.data, kind, self.json) {
            Ok(value) => Some(value),
            Err(message) => {
                self.error(path, node.line, message);
                None
            }
        }
    }
}

/// `google.protobuf.Value` has a null of its own; for everything else null means "not set".
fn takes_null(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(descriptor) if descriptor.full_name() == "google.protobuf.Value")
}

/// What a value is, for messages.
pub(crate) fn describe(data: &Data) -> String {
    match data {
        Data::Null => "nothing".to_owned(),
        Data::Sequence(_) => "a list".to_owned(),
        Data::Mapping(_) => "a mapping".to_owned(),
        Data::Scalar { text, plain: true } if scalar::boolean(text).is_some() => format!("the boolean {text}"),
        Data::Scalar { text, plain: true } if scalar::integer(text).is_some() => format!("the number {text}"),
        Data::Scalar { text, .. } => format!("'{}'", shorten(text)),
    }
}

/// A long text, cut: messages stay readable.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.escape_debug().to_string();
    }
    let cut: String = text.chars().take(MOST).collect();
    format!("{}...", cut.escape_debug())
}

/// `; did you mean 'x'?` if one of `names` is near to `word`.
pub(crate) fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    // Far longer than any name, and distances cost the product of the lengths.
    if word.len() > 200 {
        return String::new();
    }
    let limit = (word.len() / 3).clamp(1, 4);
    names
        .filter(|name| name.len().abs_diff(word.len()) <= limit)
        .map(|name| (strsim::osa_distance(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map_or_else(String::new, |(_, name)| format!("; did you mean '{name}'?"))
}

/// The children of a mapping.
pub(crate) fn entries(node: &Node) -> Option<&[Entry]> {
    match &node.data {
        Data::Mapping(entries) => Some(entries),
        _ => None,
    }
}

/// The root of a configuration must be a mapping.
///
/// # Errors
/// What it is instead.
pub(crate) fn root_problem(root: Option<&Arc<Node>>) -> Option<String> {
    match root.map(|node| &node.data) {
        Some(Data::Mapping(_)) => None,
        None | Some(Data::Null) => Some("the configuration is empty".to_owned()),
        Some(other) => Some(format!("the configuration must be a mapping, found {}", describe(other))),
    }
}
