//! The validation rules of Envoy's schema (`validate.rules`, protoc-gen-validate), interpreted.
//!
//! One value is judged here; [`crate::walk`] brings the values.

mod number;
mod text;

use std::collections::HashSet;

use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};

use crate::Path;
use crate::proto::validate::field_rules::Type;
use crate::proto::validate::{
    AnyRules, BytesRules, DurationRules, EnumRules, FieldRules, MapRules, RepeatedRules, TimestampRules, bytes_rules,
};
use number::Bounds;

/// What a value breaks: where, and the rule in Envoy's words.
pub(crate) type Broken = Vec<(Path, String)>;

/// Judges the value of a field. `set` says whether it is there at all: a scalar that is not set is its default and is
/// judged all the same, a message that is not set can only be required.
pub(crate) fn check(rules: &FieldRules, value: &Value, kind: &Kind, set: bool, path: &Path, broken: &mut Broken) {
    if !set && required(rules) {
        broken.push((path.clone(), "value is required".to_owned()));
        return;
    }
    let Some(kind_of_rules) = &rules.r#type else { return };
    match (kind_of_rules, value) {
        (Type::Repeated(rules), Value::List(items)) => repeated(rules, items, kind, path, broken),
        (Type::Map(rules), Value::Map(entries)) => map(rules, entries, kind, path, broken),
        (_, Value::Message(_)) if !set => {}
        (_, Value::Message(message)) => {
            if let Some(message) = in_message(kind_of_rules, message) {
                broken.push((path.clone(), message));
            }
        }
        _ => {
            if let Err(message) = scalar(kind_of_rules, value, kind) {
                broken.push((path.clone(), message));
            }
        }
    }
}

fn required(rules: &FieldRules) -> bool {
    rules.message.as_ref().is_some_and(|rules| rules.required())
        || match &rules.r#type {
            Some(Type::Any(rules)) => rules.required(),
            Some(Type::Duration(rules)) => rules.required(),
            Some(Type::Timestamp(rules)) => rules.required(),
            _ => false,
        }
}

/// Rules on a message are rules on a well-known type: a wrapper is judged by what it wraps.
fn in_message(rules: &Type, message: &DynamicMessage) -> Option<String> {
    match rules {
        Type::Duration(rules) => duration(rules, message).err(),
        Type::Timestamp(rules) => timestamp(rules, message).err(),
        Type::Any(rules) => any(rules, message).err(),
        _ => {
            let descriptor = message.descriptor();
            if !descriptor.full_name().starts_with("google.protobuf.") {
                return None;
            }
            let field = descriptor.get_field_by_name("value")?;
            scalar(rules, &message.get_field(&field), &field.kind()).err()
        }
    }
}

fn scalar(rules: &Type, value: &Value, kind: &Kind) -> Result<(), String> {
    match (rules, value) {
        (Type::Float(rules), Value::F32(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Double(rules), Value::F64(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Int32(rules), Value::I32(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Sint32(rules), Value::I32(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Sfixed32(rules), Value::I32(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Int64(rules), Value::I64(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Sint64(rules), Value::I64(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Sfixed64(rules), Value::I64(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Uint32(rules), Value::U32(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Fixed32(rules), Value::U32(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Uint64(rules), Value::U64(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Fixed64(rules), Value::U64(value)) => number::bounds!(rules).check(*value, "value"),
        (Type::Bool(rules), Value::Bool(value)) => match rules.r#const {
            Some(only) if only != *value => Err(format!("value must equal {only}")),
            _ => Ok(()),
        },
        (Type::String(rules), Value::String(value)) => text::check(rules, value),
        (Type::Bytes(rules), Value::Bytes(value)) => bytes(rules, value),
        (Type::Enum(rules), Value::EnumNumber(value)) => enumeration(rules, *value, kind),
        _ => Ok(()),
    }
}

fn enumeration(rules: &EnumRules, value: i32, kind: &Kind) -> Result<(), String> {
    let name = |number: i32| match kind {
        Kind::Enum(descriptor) => {
            descriptor.get_value(number).map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        _ => number.to_string(),
    };
    let list = |numbers: &[i32]| numbers.iter().map(|number| name(*number)).collect::<Vec<_>>().join(", ");
    if rules.r#const.is_some_and(|only| only != value) {
        return Err(format!("value must equal {}", name(rules.r#const())));
    }
    let defined = matches!(kind, Kind::Enum(descriptor) if descriptor.get_value(value).is_some());
    if rules.defined_only() && !defined {
        return Err("value must be one of the defined enum values".to_owned());
    }
    if !rules.r#in.is_empty() && !rules.r#in.contains(&value) {
        return Err(format!("value must be in list [{}]", list(&rules.r#in)));
    }
    if rules.not_in.contains(&value) {
        return Err(format!("value must not be in list [{}]", list(&rules.not_in)));
    }
    Ok(())
}

fn bytes(rules: &BytesRules, value: &[u8]) -> Result<(), String> {
    if rules.ignore_empty() && value.is_empty() {
        return Ok(());
    }
    let length = value.len() as u64;
    text::lengths(length, rules.len, rules.min_len, rules.max_len, "bytes")?;
    if rules.r#const.as_ref().is_some_and(|only| only != value) {
        return Err("value must equal the one that the schema fixes".to_owned());
    }
    if let Some(pattern) = &rules.pattern {
        let full = regex::bytes::Regex::new(&format!("^(?:{pattern})$"));
        if full.is_ok_and(|full| !full.is_match(value)) {
            return Err(format!("value does not match regex pattern {pattern:?}"));
        }
    }
    if rules.prefix.as_ref().is_some_and(|prefix| !value.starts_with(prefix)) {
        return Err("value does not have the required prefix".to_owned());
    }
    if rules.suffix.as_ref().is_some_and(|suffix| !value.ends_with(suffix)) {
        return Err("value does not have the required suffix".to_owned());
    }
    let contains = |part: &Vec<u8>| part.is_empty() || value.windows(part.len()).any(|window| window == part);
    if rules.contains.as_ref().is_some_and(|part| !contains(part)) {
        return Err("value does not contain the required bytes".to_owned());
    }
    if !rules.r#in.is_empty() && !rules.r#in.iter().any(|one| one == value) {
        return Err("value must be in the list that the schema gives".to_owned());
    }
    if rules.not_in.iter().any(|one| one == value) {
        return Err("value must not be in the list that the schema gives".to_owned());
    }
    match &rules.well_known {
        Some(bytes_rules::WellKnown::Ip(true)) if length != 4 && length != 16 => {
            Err("value must be a valid IP address".to_owned())
        }
        Some(bytes_rules::WellKnown::Ipv4(true)) if length != 4 => Err("value must be a valid IPv4 address".to_owned()),
        Some(bytes_rules::WellKnown::Ipv6(true)) if length != 16 => {
            Err("value must be a valid IPv6 address".to_owned())
        }
        _ => Ok(()),
    }
}

fn repeated(rules: &RepeatedRules, items: &[Value], kind: &Kind, path: &Path, broken: &mut Broken) {
    if rules.ignore_empty() && items.is_empty() {
        return;
    }
    let count = items.len() as u64;
    if let Err(message) = counts(count, rules.min_items, rules.max_items, "item(s)") {
        broken.push((path.clone(), message));
    }
    if rules.unique() {
        // Values have no order and no hash of their own; what is printed of them says all.
        let mut seen = HashSet::new();
        if !items.iter().all(|item| seen.insert(format!("{item:?}"))) {
            broken.push((path.clone(), "repeated value must contain unique items".to_owned()));
        }
    }
    if let Some(rules) = &rules.items {
        for (index, item) in items.iter().enumerate() {
            check(rules, item, kind, true, &path.index(index), broken);
        }
    }
}

fn map(
    rules: &MapRules,
    entries: &std::collections::HashMap<prost_reflect::MapKey, Value>,
    kind: &Kind,
    path: &Path,
    broken: &mut Broken,
) {
    if rules.ignore_empty() && entries.is_empty() {
        return;
    }
    if let Err(message) = counts(entries.len() as u64, rules.min_pairs, rules.max_pairs, "pair(s)") {
        broken.push((path.clone(), message));
    }
    let Kind::Message(descriptor) = kind else { return };
    let (key_kind, value_kind) = (descriptor.map_entry_key_field().kind(), descriptor.map_entry_value_field().kind());
    for (key, value) in entries {
        let here = path.key(&crate::walk::key_text(key));
        if let Some(rules) = &rules.keys {
            check(rules, &Value::from(key.clone()), &key_kind, true, &here, broken);
        }
        if let Some(rules) = &rules.values {
            check(rules, value, &value_kind, true, &here, broken);
        }
    }
}

fn counts(count: u64, min: Option<u64>, max: Option<u64>, what: &str) -> Result<(), String> {
    match (min, max) {
        (Some(min), Some(max)) if min == max && count != min => Err(format!("value must contain exactly {min} {what}")),
        (Some(min), _) if count < min => Err(format!("value must contain at least {min} {what}")),
        (_, Some(max)) if count > max => Err(format!("value must contain no more than {max} {what}")),
        _ => Ok(()),
    }
}

/// Seconds and nanoseconds of a duration or a timestamp.
fn instant(message: &DynamicMessage) -> number::Instant {
    let seconds = message.get_field_by_name("seconds").and_then(|value| value.as_i64()).unwrap_or(0);
    let nanos = message.get_field_by_name("nanos").and_then(|value| value.as_i32()).unwrap_or(0);
    number::Instant { seconds, nanos }
}

fn duration(rules: &DurationRules, message: &DynamicMessage) -> Result<(), String> {
    let list = |all: &[prost_types::Duration]| all.iter().map(Into::into).collect::<Vec<number::Instant>>();
    Bounds {
        only: rules.r#const.as_ref().map(Into::into),
        lt: rules.lt.as_ref().map(Into::into),
        lte: rules.lte.as_ref().map(Into::into),
        gt: rules.gt.as_ref().map(Into::into),
        gte: rules.gte.as_ref().map(Into::into),
        allowed: &list(&rules.r#in),
        denied: &list(&rules.not_in),
        ignore_empty: false,
    }
    .check(instant(message), "value")
}

/// The rules that need a clock (`lt_now`, `gt_now`, `within`) do not occur in Envoy's configuration.
fn timestamp(rules: &TimestampRules, message: &DynamicMessage) -> Result<(), String> {
    Bounds {
        only: rules.r#const.as_ref().map(Into::into),
        lt: rules.lt.as_ref().map(Into::into),
        lte: rules.lte.as_ref().map(Into::into),
        gt: rules.gt.as_ref().map(Into::into),
        gte: rules.gte.as_ref().map(Into::into),
        allowed: &[],
        denied: &[],
        ignore_empty: false,
    }
    .check(instant(message), "value")
}

fn any(rules: &AnyRules, message: &DynamicMessage) -> Result<(), String> {
    let url = message.get_field_by_name("type_url");
    let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
    if !rules.r#in.is_empty() && !rules.r#in.iter().any(|one| one == url) {
        return Err(format!("type URL must be in list [{}]", rules.r#in.join(", ")));
    }
    if rules.not_in.iter().any(|one| one == url) {
        return Err(format!("type URL must not be in list [{}]", rules.not_in.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
