//! What an operator gives, and how it prints in text and in JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use adit_filter::ResponseFlags;
use adit_io::{Address, FilterValue, Value};
use http::HeaderValue;

/// What an operator gives for one stream.
pub(crate) enum Val<'a> {
    /// No value: `-` in text, null in JSON.
    Missing,
    Int(u64),
    Str(&'a str),
    Owned(String),
    Cow(Cow<'a, [u8]>),
    Header(&'a HeaderValue),
    Address(&'a Address),
    Ip(IpAddr),
    Flags(ResponseFlags),
    Metadata(&'a Value),
    /// A filter-state object as JSON (`TYPED`).
    Typed(&'a FilterValue),
}

impl<'a> Val<'a> {
    pub fn text(text: Option<&'a str>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(Self::Missing, Self::Str)
    }

    pub fn owned(text: Option<String>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(Self::Missing, Self::Owned)
    }

    pub fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Missing, Self::Int)
    }

    pub fn address(address: Option<&'a Address>) -> Self {
        address.map_or(Self::Missing, Self::Address)
    }

    /// The address without its port.
    pub fn host(address: Option<&'a Address>) -> Self {
        match address {
            None => Self::Missing,
            Some(address) => address.ip().map_or(Self::Address(address), Self::Ip),
        }
    }

    pub fn port(address: Option<&Address>) -> Self {
        Self::number(address.and_then(Address::port).map(u64::from))
    }

    /// Appends the text; `false` if there is none.
    pub fn write(&self, out: &mut String) -> bool {
        let done = match self {
            Self::Missing => return false,
            Self::Int(number) => write!(out, "{number}"),
            Self::Str(text) => out.write_str(text),
            Self::Owned(text) => out.write_str(text),
            Self::Cow(bytes) => out.write_str(&String::from_utf8_lossy(bytes)),
            Self::Header(value) => out.write_str(&String::from_utf8_lossy(value.as_bytes())),
            Self::Address(address) => write!(out, "{address}"),
            Self::Ip(ip) => write!(out, "{ip}"),
            Self::Flags(flags) => write!(out, "{flags}"),
            Self::Metadata(value) => return write_metadata(value, out),
            Self::Typed(value) => return write_typed(value, out),
        };
        done.is_ok()
    }

    /// Appends JSON, null included; `false` if it is null.
    pub fn write_json(&self, length: Option<usize>, out: &mut String) -> bool {
        match self {
            Self::Missing => {
                out.push_str("null");
                return false;
            }
            Self::Int(number) => put(out, format_args!("{number}")),
            Self::Metadata(value) if !matches!(value, Value::String(_)) => {
                write_json_value(value, out);
                return !matches!(value, Value::Null);
            }
            Self::Typed(value) => {
                let start = out.len();
                if !write_typed(value, out) {
                    out.truncate(start);
                    out.push_str("null");
                    return false;
                }
            }
            _ => {
                let mut text = String::new();
                self.write(&mut text);
                super::shorten(&mut text, 0, length);
                write_json_string(&text, out);
            }
        }
        true
    }
}

/// Strings raw, whole numbers without a fraction, the rest as JSON.
fn write_metadata(value: &Value, out: &mut String) -> bool {
    match value {
        Value::Null => return false,
        Value::String(text) => out.push_str(text),
        other => write_json_value(other, out),
    }
    true
}

fn write_typed(value: &FilterValue, out: &mut String) -> bool {
    match value {
        FilterValue::Text(text) => write_json_string(text, out),
        FilterValue::Bool(value) => put(out, format_args!("{value}")),
        FilterValue::Number(value) => put(out, format_args!("{value}")),
        FilterValue::Address(address) => write_json_string(&address.to_string(), out),
        FilterValue::Headers(headers) => {
            out.push_str("{\"headers\":[");
            for (index, (key, value)) in headers.iter().enumerate() {
                out.push_str(if index == 0 { "{\"key\":" } else { ",{\"key\":" });
                write_json_string(key, out);
                out.push_str(",\"value\":");
                write_json_string(value, out);
                out.push('}');
            }
            out.push_str("]}");
        }
        FilterValue::Any(_) => return false,
    }
    true
}

fn write_json_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => put(out, format_args!("{value}")),
        Value::Number(number) if number.is_finite() => put(out, format_args!("{number}")),
        Value::Number(_) => out.push_str("null"),
        Value::String(text) => write_json_string(text, out),
        Value::List(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_value(value, out);
            }
            out.push(']');
        }
        Value::Struct(fields) => {
            out.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_string(key, out);
                out.push(':');
                write_json_value(value, out);
            }
            out.push('}');
        }
    }
}

fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = out.write_fmt(arguments);
}

/// Appends a JSON string.
pub(crate) fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if u32::from(letter) < 0x20 || u32::from(letter) == 0x7f => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}
