//! Filter state and dynamic metadata: what filters leave for each other and, where asked, for the next internal hop.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Address;

/// How far an object travels (`shared_with_upstream`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Stays with this connection.
    #[default]
    None,
    /// Reaches the next internal listener only.
    Once,
    /// Reaches every further internal listener.
    Transitive,
}

/// The value of a filter-state object.
#[derive(Clone)]
pub enum FilterValue {
    /// Text (`envoy.string`, `envoy.hashable_string`, cluster and host names).
    Text(Arc<str>),
    /// A truth value (`envoy.bool`).
    Bool(bool),
    /// A number (`envoy.tcp_proxy.per_connection_idle_timeout_ms`).
    Number(u64),
    /// An address (`envoy.network.transport_socket.original_dst_address`).
    Address(Address),
    /// Fields of a message (`envoy.tcp_proxy.propagate_response_headers`), in order.
    Headers(Arc<[(Box<str>, Box<str>)]>),
    /// Anything else, for filters of other crates.
    Any(Arc<dyn Any + Send + Sync>),
}

impl fmt::Debug for FilterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Headers(headers) => write!(f, "{headers:?}"),
            Self::Any(_) => f.write_str("(opaque)"),
        }
    }
}

impl FilterValue {
    /// As `%FILTER_STATE(key:PLAIN)%` prints it; `None` for what has no text form.
    pub fn to_plain(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.to_string()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            Self::Address(address) => Some(address.to_string()),
            Self::Headers(_) | Self::Any(_) => None,
        }
    }
}

/// A named object and how far it travels.
#[derive(Debug, Clone)]
pub struct FilterObject {
    /// The value.
    pub value: FilterValue,
    /// How far it travels.
    pub sharing: Sharing,
}

/// The filter state of a connection or a stream: a small map, shared until written to. Empty costs one word.
#[derive(Debug, Clone, Default)]
pub struct FilterState(Option<Arc<BTreeMap<Box<str>, FilterObject>>>);

impl FilterState {
    /// The object of this name.
    pub fn get(&self, key: &str) -> Option<&FilterObject> {
        self.0.as_ref()?.get(key)
    }

    /// The text of this object, if it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            FilterValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Sets an object, replacing one of the same name.
    pub fn set(&mut self, key: &str, value: FilterValue, sharing: Sharing) {
        let map = Arc::make_mut(self.0.get_or_insert_default());
        map.insert(key.into(), FilterObject { value, sharing });
    }

    /// Every object, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FilterObject)> {
        self.0.iter().flat_map(|map| map.iter()).map(|(key, object)| (&**key, object))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.is_empty())
    }

    /// What the next internal hop receives: `Once` objects arrive as `None`, `Transitive` ones stay so.
    pub fn shared_with_upstream(&self) -> Self {
        let mut shared = Self::default();
        for (key, object) in self.iter() {
            match object.sharing {
                Sharing::None => {}
                Sharing::Once => shared.set(key, object.value.clone(), Sharing::None),
                Sharing::Transitive => shared.set(key, object.value.clone(), Sharing::Transitive),
            }
        }
        shared
    }
}

/// A value of dynamic metadata (`google.protobuf.Value`).
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// A list.
    List(Vec<Value>),
    /// Named values.
    Struct(BTreeMap<Box<str>, Value>),
}

impl Value {
    /// Follows a path of names into nested structs.
    pub fn walk<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        let mut at = self;
        for step in path {
            match at {
                Self::Struct(fields) => at = fields.get(step)?,
                _ => return None,
            }
        }
        Some(at)
    }
}

/// Dynamic metadata: one struct for each namespace. Shared until written to; empty costs one word.
#[derive(Debug, Clone, Default)]
pub struct Metadata(Option<Arc<BTreeMap<Box<str>, Value>>>);

impl Metadata {
    /// The value of a namespace.
    pub fn get(&self, namespace: &str) -> Option<&Value> {
        self.0.as_ref()?.get(namespace)
    }

    /// Sets a whole namespace.
    pub fn set(&mut self, namespace: &str, value: Value) {
        Arc::make_mut(self.0.get_or_insert_default()).insert(namespace.into(), value);
    }

    /// Merges fields into a namespace, replacing those of the same name.
    pub fn merge(&mut self, namespace: &str, fields: impl IntoIterator<Item = (Box<str>, Value)>) {
        let entry = Arc::make_mut(self.0.get_or_insert_default()).entry(namespace.into()).or_default();
        if !matches!(entry, Value::Struct(_)) {
            *entry = Value::Struct(BTreeMap::new());
        }
        if let Value::Struct(map) = entry {
            map.extend(fields);
        }
    }

    /// Every namespace.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().flat_map(|map| map.iter()).map(|(key, value)| (&**key, value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.is_empty())
    }
}
