//! Scalars of YAML to scalars of protobuf, as Envoy's reader (yaml-cpp, then protobuf's JSON parser) converts them.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind, Value};

use super::{describe, did_you_mean, shorten};
use crate::yaml::Data;

/// The value of a scalar field.
///
/// # Errors
/// What is wrong with it.
pub(super) fn convert(data: &Data, kind: &Kind, json: bool) -> Result<Value, String> {
    let Data::Scalar { text, plain } = data else {
        return Err(format!("expected {}, found {}", expected(kind), describe(data)));
    };
    let unfit = || format!("expected {}, found {}", expected(kind), describe(data));
    match kind {
        Kind::String => {
            // In JSON nothing that is not quoted is a string; YAML has only these two.
            let other = *plain && (json || boolean(text).is_some() || small_integer(text));
            if other { Err(format!("{} (put it in quotes)", unfit())) } else { Ok(Value::String(text.clone())) }
        }
        Kind::Bytes => {
            decode_base64(text).map(Value::Bytes).ok_or_else(|| format!("'{}' is not base64", shorten(text)))
        }
        Kind::Bool => {
            let value = if *plain { boolean(text) } else { quoted_boolean(text) };
            value.map(Value::Bool).ok_or_else(unfit)
        }
        Kind::Enum(descriptor) => enumeration(text, *plain, descriptor),
        Kind::Double => float(text).map(Value::F64).ok_or_else(unfit),
        Kind::Float => {
            let number = float(text).ok_or_else(unfit)?;
            #[allow(clippy::cast_possible_truncation)]
            let narrow = number as f32;
            if narrow.is_infinite() && number.is_finite() {
                return Err(format!("{text} is out of range for a float"));
            }
            Ok(Value::F32(narrow))
        }
        _ => {
            let number = integer(text).ok_or_else(unfit)?;
            let fitted = match kind {
                Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::try_from(number).map(Value::I32),
                Kind::Uint32 | Kind::Fixed32 => u32::try_from(number).map(Value::U32),
                Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::try_from(number).map(Value::I64),
                _ => u64::try_from(number).map(Value::U64),
            };
            fitted.map_err(|_| format!("{text} is out of range for {}", expected(kind)))
        }
    }
}

fn expected(kind: &Kind) -> &'static str {
    match kind {
        Kind::String => "a string",
        Kind::Bytes => "base64",
        Kind::Bool => "a boolean",
        Kind::Enum(_) => "the name of an enum value",
        Kind::Double | Kind::Float => "a number",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a 32-bit integer",
        Kind::Uint32 | Kind::Fixed32 => "an unsigned 32-bit integer",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a 64-bit integer",
        _ => "an unsigned 64-bit integer",
    }
}

/// What yaml-cpp takes for a boolean: each word in lower case, upper case or capitalised.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let capitalised = text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.get(1..).is_some_and(|rest| !rest.contains(|c: char| c.is_ascii_uppercase()));
    if !(text == lower || capitalised || text == text.to_ascii_uppercase()) {
        return None;
    }
    match lower.as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// What protobuf's parser takes for a boolean in quotes.
fn quoted_boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match text {
        _ if is(["true", "t", "yes", "y", "1"]) => Some(true),
        _ if is(["false", "f", "no", "n", "0"]) => Some(false),
        _ => None,
    }
}

/// Decimal, `0x` and `0` octal, as C++ streams read them; also `1e3` and `2.0`, as protobuf reads them in quotes.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || digits.len() > 40 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let radix = |digits: &str, radix| i128::from_str_radix(digits, radix).ok();
    let number = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        if !hex.starts_with(|c: char| c.is_ascii_hexdigit()) {
            return None;
        }
        radix(hex, 16)?
    } else if let Some(octal) = digits.strip_prefix('0').filter(|rest| rest.bytes().all(|c| c.is_ascii_digit())) {
        if octal.is_empty() { 0 } else { radix(octal, 8)? }
    } else if digits.bytes().all(|c| c.is_ascii_digit()) {
        radix(digits, 10)?
    } else {
        let number: f64 = digits.parse().ok()?;
        // Beyond 2^53 a float no longer says which integer is meant.
        if number.fract() != 0.0 || number.abs() > 9_007_199_254_740_992.0 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)]
        let whole = number as i128;
        whole
    };
    Some(if negative { -number } else { number })
}

/// An integer that Envoy keeps as a number: it turns longer ones, and all fractions, into strings.
fn small_integer(text: &str) -> bool {
    let bare = text.trim_start_matches(['-', '+']);
    let plain = bare.bytes().all(|c| c.is_ascii_digit()) || bare.starts_with("0x") || bare.starts_with("0X");
    plain && integer(text).is_some_and(|number| i32::try_from(number).is_ok())
}

pub(super) fn float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if text.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')) => None,
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

fn enumeration(text: &str, plain: bool, descriptor: &EnumDescriptor) -> Result<Value, String> {
    if let Some(value) = descriptor.get_value_by_name(text) {
        return Ok(Value::EnumNumber(value.number()));
    }
    // Envoy has protobuf's parser ignore the case.
    if let Some(value) = descriptor.values().find(|value| value.name().eq_ignore_ascii_case(text)) {
        return Ok(Value::EnumNumber(value.number()));
    }
    // In quotes a number has only digits; without, a YAML integer.
    let number = if plain { integer(text).and_then(|number| number.try_into().ok()) } else { text.parse().ok() };
    if let Some(number) = number.filter(|_| !text.contains('.')) {
        // An enum is open: whether a number must be defined is for the rules to say.
        return Ok(Value::EnumNumber(number));
    }
    let values: Vec<_> = descriptor.values().collect();
    let hint = did_you_mean(text, values.iter().map(prost_reflect::EnumValueDescriptor::name));
    Err(format!("'{}' is no value of {}{hint}", shorten(text), descriptor.full_name()))
}

fn decode_base64(text: &str) -> Option<prost::bytes::Bytes> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok().map(Into::into)
}
