//! `google.protobuf.Any`: the message that `@type` names, with its fields beside it.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::{Binder, describe, entries, shorten};
use crate::Path;
use crate::schema::schema;
use crate::yaml::{Data, Entry, Node};

const TYPE: &str = "@type";

impl Binder<'_> {
    pub(super) fn any(&mut self, node: &Node, descriptor: &MessageDescriptor, path: &Path) -> Option<DynamicMessage> {
        let Some(fields) = entries(node) else {
            self.error(path, node.line, format!("expected a mapping with '@type', found {}", describe(&node.data)));
            return None;
        };
        // It may stand at any position: JSON objects have no order.
        let Some(tag) = fields.iter().find(|entry| entry.key == TYPE) else {
            self.error(path, node.line, "'@type' is missing: an extension is chosen by it, not by its name");
            return None;
        };
        let Data::Scalar { text: url, .. } = &tag.value.data else {
            self.error(path, tag.line, format!("'@type' must be a string, found {}", describe(&tag.value.data)));
            return None;
        };
        let inner = self.type_of(url, tag, path)?;
        let value = if inner.full_name().starts_with("google.protobuf.") {
            // Those have no fields in JSON: the value stands under a key of its own.
            let entry = fields.iter().find(|entry| entry.key == "value");
            match entry {
                Some(entry) => self.message(&entry.value, &inner, path, None)?,
                None => DynamicMessage::new(inner),
            }
        } else {
            let rest: Vec<Entry> = fields.iter().filter(|entry| entry.key != TYPE).cloned().collect();
            self.fields(&rest, &inner, path, None)
        };
        let mut any = DynamicMessage::new(descriptor.clone());
        any.try_set_field_by_name("type_url", Value::String(url.clone())).ok()?;
        any.try_set_field_by_name("value", Value::Bytes(value.encode_to_vec().into())).ok()?;
        Some(any)
    }

    fn type_of(&mut self, url: &str, tag: &Entry, path: &Path) -> Option<MessageDescriptor> {
        let here = path.field(TYPE);
        let Some((_, name)) = url.rsplit_once('/').filter(|(_, name)| !name.is_empty()) else {
            let message = format!("'{}' is not of the form type.googleapis.com/NAME", shorten(url));
            self.error(&here, tag.line, message);
            return None;
        };
        if matches!(name, "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct") {
            self.error(&here, tag.line, format!("{name} is not implemented by adit: give the message itself"));
            return None;
        }
        let found = schema().message(name);
        if found.is_none() {
            let message = if schema().known(name) {
                format!("extension {name} is not implemented by adit")
            } else {
                let hint = self.hint(name, schema().known_types());
                format!("unknown @type '{}'{hint}", shorten(url))
            };
            self.error(&here, tag.line, message);
        }
        found
    }
}
