//! What is known of Envoy's messages: their fields, their validation rules, and which of them adit implements.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::proto::validate::FieldRules;

static DESCRIPTOR: &[u8] = include_bytes!("descriptor.bin");
static KNOWN_TYPES: &str = include_str!("known_types.txt");
static SUPPORTED: &str = include_str!("supported.txt");

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::new);

/// The schema, read once.
pub(crate) fn schema() -> &'static Schema {
    &SCHEMA
}

pub(crate) struct Schema {
    pool: DescriptorPool,
    /// By the field's full name; fields with neither rules nor deprecation are not in it.
    fields: HashMap<String, FieldInfo>,
    /// Full names (`message.oneof`) of the oneofs of which a member must be set.
    required_oneofs: HashSet<String>,
    supported: HashMap<&'static str, HashSet<&'static str>>,
    known: HashSet<&'static str>,
}

#[derive(Default)]
pub(crate) struct FieldInfo {
    pub deprecated: bool,
    pub rules: Option<Box<FieldRules>>,
}

impl Schema {
    fn new() -> Self {
        // Both are made together by `cargo xtask protos`, and a test decodes them; an empty pool would refuse all.
        let pool = DescriptorPool::decode(DESCRIPTOR).unwrap_or_default();
        let mut schema = Self {
            pool,
            fields: HashMap::new(),
            required_oneofs: HashSet::new(),
            supported: supported(SUPPORTED),
            known: KNOWN_TYPES.lines().collect(),
        };
        for file in raw::Set::decode(DESCRIPTOR).unwrap_or_default().file {
            for message in file.message_type {
                schema.learn(&file.package, message);
            }
        }
        schema
    }

    fn learn(&mut self, scope: &str, message: raw::Message) {
        let name = format!("{scope}.{}", message.name);
        for field in message.field {
            let Some(options) = field.options else { continue };
            let rules = options.rules.map(Box::new);
            if options.deprecated || rules.is_some() {
                let info = FieldInfo { deprecated: options.deprecated, rules };
                self.fields.insert(format!("{name}.{}", field.name), info);
            }
        }
        for oneof in message.oneof_decl {
            if oneof.options.is_some_and(|options| options.required) {
                self.required_oneofs.insert(format!("{name}.{}", oneof.name));
            }
        }
        for nested in message.nested_type {
            self.learn(&name, nested);
        }
    }

    pub fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }

    /// What is special about a field.
    pub fn field(&self, full_name: &str) -> Option<&FieldInfo> {
        self.fields.get(full_name)
    }

    pub fn oneof_required(&self, full_name: &str) -> bool {
        self.required_oneofs.contains(full_name)
    }

    /// The fields of the message that adit implements; `None` if it does not know the message at all.
    pub fn supported(&self, message: &str) -> Option<&HashSet<&'static str>> {
        self.supported.get(message)
    }

    /// Whether Envoy has a message of this name.
    pub fn known(&self, message: &str) -> bool {
        self.known.contains(message) || self.pool.get_message_by_name(message).is_some()
    }

    #[cfg(test)]
    pub fn all_rules(&self) -> impl Iterator<Item = &FieldRules> {
        self.fields.values().filter_map(|info| info.rules.as_deref())
    }

    pub fn known_types(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().copied()
    }
}

/// `message.full.Name: field field`; a line that starts with `#` is a comment, a message may have several lines.
fn supported(text: &'static str) -> HashMap<&'static str, HashSet<&'static str>> {
    let mut all: HashMap<&'static str, HashSet<&'static str>> = HashMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (message, fields) = line.split_once(':').unwrap_or((line, ""));
        all.entry(message.trim()).or_default().extend(fields.split_whitespace());
    }
    all
}

/// The descriptor set once more, with the options that prost's own types leave out.
mod raw {
    use crate::proto::validate::FieldRules;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub file: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "4")]
        pub message_type: Vec<Message>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Message {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub field: Vec<Field>,
        #[prost(message, repeated, tag = "3")]
        pub nested_type: Vec<Message>,
        #[prost(message, repeated, tag = "8")]
        pub oneof_decl: Vec<Oneof>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Field {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "8")]
        pub options: Option<FieldOptions>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct FieldOptions {
        #[prost(bool, tag = "3")]
        pub deprecated: bool,
        /// `validate.rules`
        #[prost(message, optional, tag = "1071")]
        pub rules: Option<FieldRules>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Oneof {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub options: Option<OneofOptions>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OneofOptions {
        /// `validate.required`
        #[prost(bool, tag = "1071")]
        pub required: bool,
    }
}

#[cfg(test)]
mod tests;
