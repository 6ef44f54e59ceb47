//! Helpers for whoever reads the messages.

use std::collections::BTreeMap;

use prost::Name;
use prost_reflect::{DynamicMessage, SerializeOptions};
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value};

use crate::schema::schema;

/// Why an `Any` does not give the message that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// It holds another message, of this name.
    Type {
        /// Full name of the message that was wanted.
        wanted: String,
        /// What is in it; empty if nothing is.
        found: String,
    },
    /// Its octets are not such a message. It cannot happen to what [`crate::load`] returned.
    Damaged(String),
}

impl std::fmt::Display for UnpackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Type { wanted, found } if found.is_empty() => write!(f, "typed_config of type {wanted} is missing"),
            Self::Type { wanted, found } => write!(f, "expected a message of type {wanted}, found {found}"),
            Self::Damaged(why) => write!(f, "cannot be decoded: {why}"),
        }
    }
}

impl std::error::Error for UnpackError {}

/// The full name of the message in an `Any`: what follows the last `/` of its type URL.
#[must_use]
pub fn type_name(any: &Any) -> &str {
    any.type_url.rsplit_once('/').map_or("", |(_, name)| name)
}

/// Whether an `Any` holds a `T`.
#[must_use]
pub fn is<T: Name>(any: &Any) -> bool {
    type_name(any) == T::full_name()
}

/// The `T` in an `Any`.
///
/// # Errors
/// If it holds something else.
pub fn unpack<T: Name + Default>(any: &Any) -> Result<T, UnpackError> {
    if !is::<T>(any) {
        return Err(UnpackError::Type { wanted: T::full_name(), found: type_name(any).to_owned() });
    }
    T::decode(any.value.as_slice()).map_err(|error| UnpackError::Damaged(error.to_string()))
}

/// `message` in an `Any`, as a configuration would have it.
#[must_use]
pub fn pack<T: Name>(message: &T) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", T::full_name()), value: message.encode_to_vec() }
}

/// A protobuf duration; a negative one, which [`crate::load`] lets nobody set, is zero.
#[must_use]
pub fn duration(value: &prost_types::Duration) -> std::time::Duration {
    let seconds = u64::try_from(value.seconds).unwrap_or(0);
    let nanos = if value.seconds < 0 { 0 } else { u32::try_from(value.nanos).unwrap_or(0) };
    std::time::Duration::new(seconds, nanos.min(999_999_999))
}

/// A free-form value as JSON. Whole numbers have no fraction.
#[must_use]
pub fn value_to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::StringValue(value)) => Json::String(value.clone()),
        Some(Kind::NumberValue(value)) => number_to_json(*value),
        Some(Kind::StructValue(value)) => struct_to_json(value),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(value_to_json).collect()),
    }
}

/// A free-form mapping as JSON.
#[must_use]
pub fn struct_to_json(value: &Struct) -> serde_json::Value {
    serde_json::Value::Object(value.fields.iter().map(|(key, value)| (key.clone(), value_to_json(value))).collect())
}

fn number_to_json(number: f64) -> serde_json::Value {
    // Up to 2^53 a float names each whole number.
    if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
        #[allow(clippy::cast_possible_truncation)]
        return serde_json::Value::from(number as i64);
    }
    serde_json::Number::from_f64(number).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// JSON as a free-form value.
#[must_use]
pub fn json_to_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(json_to_value).collect() })
        }
        Json::Object(fields) => {
            let fields: BTreeMap<_, _> =
                fields.iter().map(|(key, value)| (key.clone(), json_to_value(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}

/// Any of Envoy's messages as JSON in the form of its admin interface: names in snake case, defaults left out, 64-bit
/// integers as strings, each `Any` opened with its `@type`. `None` if the message is not one of the schema.
#[must_use]
pub fn to_json<T: Name>(message: &T) -> Option<serde_json::Value> {
    let mut dynamic = DynamicMessage::new(schema().message(&T::full_name())?);
    dynamic.transcode_from(message).ok()?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options).ok()
}
