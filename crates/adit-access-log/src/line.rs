//! `SubstitutionFormatString`: a text or a JSON format.

use adit_config::proto::envoy::config::core::v3 as pb;
use adit_config::proto::envoy::extensions::formatter::{
    metadata::v3::Metadata, req_without_query::v3::ReqWithoutQuery,
};
use adit_filter::LogContext;
use pb::substitution_format_string::Format as Specifier;

use crate::json::Json;
use crate::{ConfigError, DEFAULT_FORMAT, Format};

/// The format of a log line or of a body.
#[derive(Debug, Clone)]
pub struct LineFormat {
    kind: Kind,
    omit_empty: bool,
    content_type: Box<str>,
}

#[derive(Debug, Clone)]
enum Kind {
    Text(Format),
    /// Ends with a line feed.
    Json(Json),
}

impl LineFormat {
    /// Envoy's own format.
    ///
    /// # Errors
    /// None: the default format is valid.
    pub fn standard() -> Result<Self, ConfigError> {
        Self::text(DEFAULT_FORMAT, "")
    }

    /// A text format.
    ///
    /// # Errors
    /// If it is no format string.
    pub fn text(text: &str, path: &str) -> Result<Self, ConfigError> {
        let format = Format::parse(text).map_err(|error| ConfigError::new(path, error))?;
        Ok(Self { kind: Kind::Text(format), omit_empty: false, content_type: "text/plain".into() })
    }

    pub(crate) fn json(fields: &prost_types::Struct, path: &str) -> Result<Self, ConfigError> {
        let kind = Kind::Json(Json::from_struct(fields, path)?);
        Ok(Self { kind, omit_empty: false, content_type: "application/json".into() })
    }

    /// From its message. A format file is read now. The formatters `metadata` and `req_without_query` are built in, all
    /// others are refused.
    ///
    /// # Errors
    /// If a format is malformed, a file cannot be read or a formatter is not known.
    #[expect(deprecated, reason = "old files use text_format")]
    pub fn from_proto(message: &pb::SubstitutionFormatString, path: &str) -> Result<Self, ConfigError> {
        check_formatters(&message.formatters, &format!("{path}.formatters"))?;
        let omit_empty = message.omit_empty_values;
        let parse = |text: &str, at: String| {
            let format = if omit_empty { Format::parse_omitting(text) } else { Format::parse(text) };
            format.map(Kind::Text).map_err(|error| ConfigError::new(at, error))
        };
        let (kind, content_type) = match &message.format {
            None => return Err(ConfigError::new(path, "a format is required")),
            Some(Specifier::TextFormat(text)) => (parse(text, format!("{path}.text_format"))?, "text/plain"),
            Some(Specifier::TextFormatSource(source)) => {
                let path = format!("{path}.text_format_source");
                (parse(&read_text(source, &path)?, path)?, "text/plain")
            }
            Some(Specifier::JsonFormat(fields)) => {
                (Kind::Json(Json::from_struct(fields, &format!("{path}.json_format"))?), "application/json")
            }
        };
        let content_type = if message.content_type.is_empty() { content_type } else { &message.content_type };
        Ok(Self { kind, omit_empty, content_type: content_type.into() })
    }

    /// Appends a line or a body.
    pub fn render_into(&self, context: &LogContext<'_>, out: &mut String) {
        self.render_reply(context, "", out);
    }

    /// Appends what it makes of a local reply with this body.
    pub fn render_reply(&self, context: &LogContext<'_>, body: &str, out: &mut String) {
        match &self.kind {
            Kind::Text(format) => format.render_reply(context, body, out),
            Kind::Json(json) => {
                json.write(context, body, self.omit_empty, out);
                out.push('\n');
            }
        }
    }

    /// `content_type`, or the kind's own.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The formats in it.
    pub(crate) fn formats(&self) -> Vec<&Format> {
        let mut all = Vec::new();
        match &self.kind {
            Kind::Text(format) => all.push(format),
            Kind::Json(json) => json.formats(&mut all),
        }
        all
    }
}

fn check_formatters(formatters: &[pb::TypedExtensionConfig], path: &str) -> Result<(), ConfigError> {
    for (index, formatter) in formatters.iter().enumerate() {
        let known = formatter
            .typed_config
            .as_ref()
            .is_some_and(|any| adit_config::is::<Metadata>(any) || adit_config::is::<ReqWithoutQuery>(any));
        if !known {
            return Err(ConfigError::unsupported(format!("{path}[{index}]")));
        }
    }
    Ok(())
}

pub(crate) fn read_text(source: &pb::DataSource, path: &str) -> Result<String, ConfigError> {
    let bytes = adit_config::read_data_source(source).map_err(|error| ConfigError::new(path, error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| ConfigError::new(path, "is not UTF-8"))
}
