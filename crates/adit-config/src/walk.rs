//! Goes through a bound configuration, into each `Any`, and judges every field: rules, support, deprecation.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, OneofDescriptor, ReflectMessage, Value,
};

use crate::rules;
use crate::schema::schema;
use crate::{Diagnostic, Path};

/// All findings about `message`, whose place is `path`.
pub(crate) fn check(message: &DynamicMessage, path: &Path) -> Vec<Diagnostic> {
    let mut walk = Walk { findings: Vec::new() };
    walk.message(message, path, true);
    walk.findings
}

struct Walk {
    findings: Vec<Diagnostic>,
}

impl Walk {
    /// `report`: whether what is not implemented is worth saying here, or was said of something around it.
    fn message(&mut self, message: &DynamicMessage, path: &Path, report: bool) {
        let descriptor = message.descriptor();
        if descriptor.full_name() == "google.protobuf.Any" {
            self.any(message, path, report);
            return;
        }
        if descriptor.full_name().starts_with("google.protobuf.") {
            return;
        }
        let supported = schema().supported(descriptor.full_name());
        if report && supported.is_none() {
            let text = format!("message {} is not implemented by adit", descriptor.full_name());
            self.findings.push(Diagnostic::error(path, text));
        }
        for field in descriptor.fields() {
            let set = message.has_field(&field);
            let here = path.field(field.name());
            let implemented = supported.is_some_and(|fields| fields.contains(field.name()));
            if report && set && supported.is_some() && !implemented {
                let text = format!("field {} of {} is not implemented by adit", field.name(), descriptor.full_name());
                self.findings.push(Diagnostic::error(&here, text));
            }
            self.field(message, &field, &here, set);
            if set {
                self.below(&message.get_field(&field), &here, report && implemented);
            }
        }
        for oneof in descriptor.oneofs() {
            self.oneof(message, &descriptor, &oneof, path);
        }
    }

    fn field(&mut self, message: &DynamicMessage, field: &FieldDescriptor, path: &Path, set: bool) {
        let Some(info) = schema().field(field.full_name()) else { return };
        if info.deprecated && set {
            let text = format!("field {} of {} is deprecated", field.name(), field.parent_message().full_name());
            self.findings.push(Diagnostic::warning(path, text));
        }
        let Some(rules) = info.rules.as_deref() else { return };
        // A scalar without presence is always there; what has presence is judged if it is set.
        let present = set || !field.supports_presence();
        let judged = present || matches!(field.kind(), Kind::Message(_)) && field.containing_oneof().is_none();
        if !judged {
            return;
        }
        let mut broken = Vec::new();
        rules::check(rules, &message.get_field(field), &field.kind(), present, path, &mut broken);
        self.findings.extend(broken.into_iter().map(|(path, text)| Diagnostic::error(path, text)));
    }

    fn oneof(
        &mut self,
        message: &DynamicMessage,
        descriptor: &MessageDescriptor,
        oneof: &OneofDescriptor,
        path: &Path,
    ) {
        if !schema().oneof_required(&format!("{}.{}", descriptor.full_name(), oneof.name()))
            || oneof.fields().any(|field| message.has_field(&field))
        {
            return;
        }
        let members: Vec<String> = oneof.fields().map(|field| field.name().to_owned()).collect();
        let text = match members.as_slice() {
            [only] => format!("{only} is required"),
            _ => format!("{} is required: one of {}", oneof.name(), members.join(", ")),
        };
        self.findings.push(Diagnostic::error(path, text));
    }

    fn below(&mut self, value: &Value, path: &Path, report: bool) {
        match value {
            Value::Message(message) => self.message(message, path, report),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Message(message) = item {
                        self.message(message, &path.index(index), report);
                    }
                }
            }
            Value::Map(entries) => {
                for (key, entry) in entries {
                    if let Value::Message(message) = entry {
                        self.message(message, &path.key(&key_text(key)), report);
                    }
                }
            }
            _ => {}
        }
    }

    fn any(&mut self, any: &DynamicMessage, path: &Path, report: bool) {
        let Some(inner) = unpack(any) else {
            // One without a type could not be bound, which was reported.
            if any.has_field_by_name("type_url") {
                self.findings.push(Diagnostic::error(path, "cannot be decoded: it is nested too deeply"));
            }
            return;
        };
        let descriptor = inner.descriptor();
        let name = descriptor.full_name();
        if report && !name.starts_with("google.protobuf.") && schema().supported(name).is_none() {
            let text = format!("extension {name} is not implemented by adit");
            self.findings.push(Diagnostic::error(path, text));
            self.message(&inner, path, false);
            return;
        }
        self.message(&inner, path, report);
    }
}

/// Calls `see` for `message` and for every message in it, within `Any` too.
pub(crate) fn visit(message: &DynamicMessage, path: &Path, see: &mut impl FnMut(&DynamicMessage, &Path)) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        if let Some(inner) = unpack(message) {
            visit(&inner, path, see);
        }
        return;
    }
    if message.descriptor().full_name().starts_with("google.protobuf.") {
        return;
    }
    see(message, path);
    for (field, value) in message.fields() {
        let here = path.field(field.name());
        match value {
            Value::Message(inner) => visit(inner, &here, see),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Message(inner) = item {
                        visit(inner, &here.index(index), see);
                    }
                }
            }
            Value::Map(entries) => {
                for (key, entry) in entries {
                    if let Value::Message(inner) = entry {
                        visit(inner, &here.key(&key_text(key)), see);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The message within an `Any`, if its type is known.
pub(crate) fn unpack(any: &DynamicMessage) -> Option<DynamicMessage> {
    let url = any.get_field_by_name("type_url")?;
    let (_, name) = url.as_str()?.rsplit_once('/')?;
    let value = any.get_field_by_name("value")?;
    DynamicMessage::decode(schema().message(name)?, value.as_bytes()?.clone()).ok()
}

/// A map's key as it stands in a path.
pub(crate) fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
