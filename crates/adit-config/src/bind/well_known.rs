//! The messages of `google.protobuf`, which have forms of their own in JSON.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, Value};

use super::{Binder, describe, scalar, shorten};
use crate::Path;
use crate::yaml::{Data, Node};

/// Seconds in ten thousand years, protobuf's bound of a duration.
const MAX_SECONDS: i64 = 315_576_000_000;

impl Binder<'_> {
    pub(super) fn well_known(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
        path: &Path,
    ) -> Option<DynamicMessage> {
        match descriptor.full_name() {
            "google.protobuf.Any" => self.any(node, descriptor, path),
            "google.protobuf.Duration" => match &node.data {
                Data::Mapping(entries) => {
                    let message = self.fields(entries, descriptor, path, None);
                    self.checked_duration(node, message, path)
                }
                _ => self.time(node, descriptor, path, "a duration like '0.25s'", duration),
            },
            "google.protobuf.Timestamp" => {
                self.time(node, descriptor, path, "a time like '2030-01-02T03:04:05Z'", timestamp)
            }
            "google.protobuf.Struct" => self.structure(node, descriptor, path),
            "google.protobuf.Value" => Some(self.free_value(node, descriptor, path)),
            "google.protobuf.ListValue" => self.free_list(node, descriptor, path),
            "google.protobuf.Empty" => {
                if !matches!(&node.data, Data::Mapping(entries) if entries.is_empty()) {
                    self.error(path, node.line, format!("expected {{}}, found {}", describe(&node.data)));
                    return None;
                }
                Some(DynamicMessage::new(descriptor.clone()))
            }
            name if name.ends_with("Value") => {
                // Envoy also reads a wrapper as the message that it is: `{ value: 5 }`.
                if let Data::Mapping(entries) = &node.data {
                    return Some(self.fields(entries, descriptor, path, None));
                }
                let field = descriptor.get_field(1)?;
                let value = self.scalar(node, &field.kind(), path)?;
                let mut message = DynamicMessage::new(descriptor.clone());
                message.try_set_field(&field, value).ok()?;
                Some(message)
            }
            name => {
                self.error(path, node.line, format!("{name} is not implemented by adit"));
                None
            }
        }
    }

    fn time(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
        path: &Path,
        expected: &str,
        read: fn(&str) -> Result<(i64, i32), &'static str>,
    ) -> Option<DynamicMessage> {
        let Data::Scalar { text, .. } = &node.data else {
            self.error(path, node.line, format!("expected {expected}, found {}", describe(&node.data)));
            return None;
        };
        match read(text) {
            Ok((seconds, nanos)) => {
                let mut message = DynamicMessage::new(descriptor.clone());
                message.try_set_field_by_name("seconds", Value::I64(seconds)).ok()?;
                message.try_set_field_by_name("nanos", Value::I32(nanos)).ok()?;
                Some(message)
            }
            Err(why) => {
                self.error(path, node.line, format!("expected {expected}, found '{}'{why}", shorten(text)));
                None
            }
        }
    }

    /// A duration in the form of its message, `{ seconds: 1, nanos: 5 }`, which Envoy reads too.
    fn checked_duration(&mut self, node: &Node, message: DynamicMessage, path: &Path) -> Option<DynamicMessage> {
        let seconds = message.get_field_by_name("seconds").and_then(|value| value.as_i64()).unwrap_or(0);
        let nanos = message.get_field_by_name("nanos").and_then(|value| value.as_i32()).unwrap_or(0);
        let problem = if seconds < 0 || nanos < 0 {
            "a duration may not be negative"
        } else if seconds > MAX_SECONDS || nanos > 999_999_999 {
            "a duration is out of range"
        } else {
            return Some(message);
        };
        self.error(path, node.line, problem);
        None
    }

    fn structure(&mut self, node: &Node, descriptor: &MessageDescriptor, path: &Path) -> Option<DynamicMessage> {
        let Data::Mapping(entries) = &node.data else {
            self.error(path, node.line, format!("expected a mapping, found {}", describe(&node.data)));
            return None;
        };
        let field = descriptor.get_field_by_name("fields")?;
        let Kind::Message(entry_descriptor) = field.kind() else { return None };
        let Kind::Message(value) = entry_descriptor.map_entry_value_field().kind() else { return None };
        let mut values = HashMap::new();
        for entry in entries {
            let here = path.field(&entry.key);
            self.note(&here, entry.line);
            let bound = self.free_value(&entry.value, &value, &here);
            values.insert(MapKey::String(entry.key.clone()), Value::Message(bound));
        }
        let mut message = DynamicMessage::new(descriptor.clone());
        message.try_set_field(&field, Value::Map(values)).ok()?;
        Some(message)
    }

    fn free_list(&mut self, node: &Node, descriptor: &MessageDescriptor, path: &Path) -> Option<DynamicMessage> {
        let Data::Sequence(items) = &node.data else {
            self.error(path, node.line, format!("expected a list, found {}", describe(&node.data)));
            return None;
        };
        let field = descriptor.get_field_by_name("values")?;
        let Kind::Message(value) = field.kind() else { return None };
        let values = items
            .iter()
            .enumerate()
            .map(|(index, item)| Value::Message(self.free_value(item, &value, &path.index(index))))
            .collect();
        let mut message = DynamicMessage::new(descriptor.clone());
        message.try_set_field(&field, Value::List(values)).ok()?;
        Some(message)
    }

    /// `google.protobuf.Value`: whatever stands there.
    fn free_value(&mut self, node: &Node, descriptor: &MessageDescriptor, path: &Path) -> DynamicMessage {
        let (name, value) = match &node.data {
            Data::Null => ("null_value", Some(Value::EnumNumber(0))),
            Data::Scalar { text, plain } => free_scalar(text, *plain, self.json),
            Data::Mapping(_) => {
                let kind = descriptor.get_field_by_name("struct_value").map(|field| field.kind());
                let inner = match kind {
                    Some(Kind::Message(inner)) => self.structure(node, &inner, path),
                    _ => None,
                };
                ("struct_value", inner.map(Value::Message))
            }
            Data::Sequence(_) => {
                let kind = descriptor.get_field_by_name("list_value").map(|field| field.kind());
                let inner = match kind {
                    Some(Kind::Message(inner)) => self.free_list(node, &inner, path),
                    _ => None,
                };
                ("list_value", inner.map(Value::Message))
            }
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(value) = value {
            let _ = message.try_set_field_by_name(name, value);
        }
        message
    }
}

/// In a free-form value Envoy's YAML reader knows booleans and integers of 32 bits; all else is a string, fractions
/// included. Its JSON reader knows numbers.
fn free_scalar(text: &str, plain: bool, json: bool) -> (&'static str, Option<Value>) {
    if plain {
        if let Some(value) = scalar::boolean(text) {
            return ("bool_value", Some(Value::Bool(value)));
        }
        let number = if json {
            scalar::float(text).filter(|number| number.is_finite())
        } else {
            let digits = text.trim_start_matches(['-', '+']);
            let whole = digits.starts_with(|c: char| c.is_ascii_digit()) && !digits.contains(['.', 'e', 'E'])
                || digits.starts_with("0x");
            scalar::integer(text).filter(|_| whole).and_then(|n| i32::try_from(n).ok()).map(f64::from)
        };
        if let Some(number) = number {
            return ("number_value", Some(Value::F64(number)));
        }
    }
    ("string_value", Some(Value::String(text.to_owned())))
}

fn duration(text: &str) -> Result<(i64, i32), &'static str> {
    let number = text.strip_suffix('s').ok_or("")?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 || number.ends_with('.') {
        return Err("");
    }
    let seconds: i64 = whole.parse().map_err(|_| ": out of range")?;
    let nanos: i32 = format!("{fraction:0<9}").parse().map_err(|_| "")?;
    if seconds > MAX_SECONDS {
        return Err(": out of range");
    }
    // Envoy refuses it wherever it reads one ("Expected positive duration"), and so no field takes it.
    if negative && (seconds, nanos) != (0, 0) {
        return Err(": a duration may not be negative");
    }
    Ok((seconds, nanos))
}

/// RFC 3339, as protobuf's JSON mapping has it.
fn timestamp(text: &str) -> Result<(i64, i32), &'static str> {
    let time: prost_types::Timestamp = text.parse().map_err(|_| "")?;
    Ok((time.seconds, time.nanos))
}
