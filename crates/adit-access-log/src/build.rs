//! From `AccessLog` messages to logs.

use std::cell::Cell;
use std::sync::Arc;

use adit_config::proto::envoy::config::accesslog::v3 as pb;
use adit_config::proto::envoy::config::core::v3::SubstitutionFormatString;
use adit_config::proto::envoy::extensions::access_loggers::{file::v3 as file, stream::v3 as stream};
use adit_filter::{AccessLog, LogContext};
use http::HeaderName;

use crate::json::unique;
use crate::{ConfigError, FileSink, LineFormat, LogFilter, Sinks};

/// The most that a worker keeps of its line buffer, in bytes.
const KEPT_LINE: usize = 16 << 10;

/// Makes the logs of a list at `path`; files are opened now.
///
/// # Errors
/// Everything that is wrong with the list: filters, formats, files that cannot be opened.
pub fn build(
    messages: &[pb::AccessLog],
    sinks: &Sinks,
    path: &str,
) -> Result<Vec<Arc<dyn AccessLog>>, Vec<ConfigError>> {
    let mut logs: Vec<Arc<dyn AccessLog>> = Vec::with_capacity(messages.len());
    let mut errors = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match Log::from_proto(message, sinks, &format!("{path}[{index}]")) {
            Ok(log) => logs.push(Arc::new(log)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(logs) } else { Err(errors) }
}

/// A log that writes lines.
struct Log {
    filter: Option<LogFilter>,
    format: LineFormat,
    sink: Arc<FileSink>,
    request_fields: Vec<HeaderName>,
    response_fields: Vec<HeaderName>,
}

impl Log {
    fn from_proto(message: &pb::AccessLog, sinks: &Sinks, path: &str) -> Result<Self, ConfigError> {
        let filter = message.filter.as_ref();
        let filter = filter
            .map(|filter| LogFilter::from_proto(filter, sinks.runtime(), &format!("{path}.filter")))
            .transpose()?;
        let pb::access_log::ConfigType::TypedConfig(any) =
            message.config_type.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.typed_config")))?;
        // A step into an Any adds nothing to a path.
        let (format, sink) = target(any, sinks, path)?;
        let formats = format.formats();
        let fields = formats.iter().flat_map(|format| format.request_fields());
        let request_fields = unique(fields.chain(filter.iter().flat_map(LogFilter::request_fields)));
        let response_fields = unique(formats.iter().flat_map(|format| format.response_fields()));
        Ok(Self { filter, format, sink, request_fields, response_fields })
    }
}

impl AccessLog for Log {
    fn log(&self, context: &LogContext<'_>) {
        thread_local! {
            static LINE: Cell<String> = const { Cell::new(String::new()) };
        }
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(context)) {
            return;
        }
        let mut line = LINE.take();
        line.clear();
        self.format.render_into(context, &mut line);
        self.sink.write(line.as_bytes());
        line.truncate(0);
        line.shrink_to(KEPT_LINE);
        LINE.set(line);
    }

    fn request_fields(&self) -> &[HeaderName] {
        &self.request_fields
    }

    fn response_fields(&self) -> &[HeaderName] {
        &self.response_fields
    }
}

#[expect(deprecated, reason = "old files use the flat forms")]
fn target(any: &prost_types::Any, sinks: &Sinks, path: &str) -> Result<(LineFormat, Arc<FileSink>), ConfigError> {
    use file::file_access_log::AccessLogFormat as Form;
    let name = adit_config::type_name(any).to_owned();
    let damaged = |error: adit_config::UnpackError| ConfigError::new(path, error.to_string());
    let or_standard = |format: Option<&SubstitutionFormatString>| match format {
        None => LineFormat::standard(),
        Some(format) => LineFormat::from_proto(format, &format!("{path}.log_format")),
    };
    if adit_config::is::<file::FileAccessLog>(any) {
        let log: file::FileAccessLog = adit_config::unpack(any).map_err(damaged)?;
        let format = match &log.access_log_format {
            None => LineFormat::standard()?,
            Some(Form::Format(text)) if text.is_empty() => LineFormat::standard()?,
            Some(Form::Format(text)) => LineFormat::text(text, &format!("{path}.format"))?,
            Some(Form::JsonFormat(fields)) => LineFormat::json(fields, &format!("{path}.json_format"))?,
            Some(Form::TypedJsonFormat(fields)) => LineFormat::json(fields, &format!("{path}.typed_json_format"))?,
            Some(Form::LogFormat(format)) => or_standard(Some(format))?,
        };
        let sink = sinks.open(&log.path).map_err(|error| {
            ConfigError::new(format!("{path}.path"), format!("unable to open file '{}': {error}", log.path))
        })?;
        return Ok((format, sink));
    }
    let failed = |error: std::io::Error| ConfigError::new(path, error.to_string());
    if adit_config::is::<stream::StdoutAccessLog>(any) {
        let log: stream::StdoutAccessLog = adit_config::unpack(any).map_err(damaged)?;
        let format = log.access_log_format.as_ref().map(|stream::stdout_access_log::AccessLogFormat::LogFormat(it)| it);
        return Ok((or_standard(format)?, sinks.open("/dev/stdout").map_err(failed)?));
    }
    if adit_config::is::<stream::StderrAccessLog>(any) {
        let log: stream::StderrAccessLog = adit_config::unpack(any).map_err(damaged)?;
        let format = log.access_log_format.as_ref().map(|stream::stderr_access_log::AccessLogFormat::LogFormat(it)| it);
        return Ok((or_standard(format)?, sinks.open("/dev/stderr").map_err(failed)?));
    }
    Err(ConfigError::new(format!("{path}.typed_config"), format!("access log of type '{name}' is not supported")))
}

#[cfg(test)]
mod tests;
