//! `json_format`: a JSON object whose strings are formats.

use adit_filter::LogContext;
use http::HeaderName;
use prost_types::value::Kind;

use crate::format::{Look, write_json_string};
use crate::{ConfigError, Format};

/// A JSON value with formats in it. Objects print in the order of their keys.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    Object(Vec<(Box<str>, Json)>),
    List(Vec<Json>),
    Format(Format),
    /// Numbers and truth values, as they print.
    Literal(Box<str>),
    Null,
}

impl Json {
    pub fn from_struct(fields: &prost_types::Struct, path: &str) -> Result<Self, ConfigError> {
        let each = fields.fields.iter();
        each.map(|(key, value)| Ok((key.as_str().into(), Self::new(value, &format!("{path}[{key:?}]"))?)))
            .collect::<Result<_, _>>()
            .map(Self::Object)
    }

    fn new(value: &prost_types::Value, path: &str) -> Result<Self, ConfigError> {
        Ok(match &value.kind {
            None | Some(Kind::NullValue(_)) => Self::Null,
            Some(Kind::BoolValue(value)) => Self::Literal(value.to_string().into()),
            Some(Kind::NumberValue(number)) => Self::Literal(number.to_string().into()),
            Some(Kind::StringValue(text)) => {
                Self::Format(Format::parse(text).map_err(|error| ConfigError::new(path, error))?)
            }
            Some(Kind::StructValue(fields)) => Self::from_struct(fields, path)?,
            Some(Kind::ListValue(list)) => {
                let each = list.values.iter().enumerate();
                Self::List(
                    each.map(|(index, value)| Self::new(value, &format!("{path}[{index}]")))
                        .collect::<Result<_, _>>()?,
                )
            }
        })
    }

    /// Appends the JSON; with `omit` without fields that are null or empty objects.
    pub fn write(&self, context: &LogContext<'_>, body: &str, omit: bool, out: &mut String) {
        self.put(&Look { context: *context, body }, omit, out);
    }

    /// `false` if there is nothing in it.
    fn put(&self, look: &Look<'_>, omit: bool, out: &mut String) -> bool {
        match self {
            Self::Null => {
                out.push_str("null");
                false
            }
            Self::Literal(text) => {
                out.push_str(text);
                true
            }
            Self::Format(format) => format.write_json(look, out),
            Self::Object(fields) => {
                out.push('{');
                let mut any = false;
                for (key, value) in fields {
                    let start = out.len();
                    if any {
                        out.push(',');
                    }
                    write_json_string(key, out);
                    out.push(':');
                    if value.put(look, omit, out) || !omit {
                        any = true;
                    } else {
                        out.truncate(start);
                    }
                }
                out.push('}');
                any
            }
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.put(look, omit, out);
                }
                out.push(']');
                true
            }
        }
    }

    /// Every format in it.
    pub fn formats<'a>(&'a self, into: &mut Vec<&'a Format>) {
        match self {
            Self::Object(fields) => fields.iter().for_each(|(_, value)| value.formats(into)),
            Self::List(values) => values.iter().for_each(|value| value.formats(into)),
            Self::Format(format) => into.push(format),
            Self::Literal(_) | Self::Null => {}
        }
    }
}

/// Names without repetition.
pub(crate) fn unique<'a>(names: impl Iterator<Item = &'a HeaderName>) -> Vec<HeaderName> {
    let mut all: Vec<HeaderName> = Vec::new();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}
