//! `local_reply_config`: what becomes of answers that adit makes itself.

use std::borrow::Cow;

use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use adit_filter::{LocalReply, LogContext, RuntimeValues, StreamInfo};
use adit_http::{RequestHead, ResponseHead};
use http::StatusCode;

use crate::line::read_text;
use crate::{ConfigError, HeaderAdder, LineFormat, LogFilter};

/// `LocalReplyConfig`. The default value changes nothing.
#[derive(Default)]
pub struct LocalReplyMapper {
    mappers: Vec<Mapper>,
    body_format: Option<LineFormat>,
}

struct Mapper {
    filter: LogFilter,
    status: Option<StatusCode>,
    body: Option<String>,
    body_format: Option<LineFormat>,
    headers: HeaderAdder,
}

impl LocalReplyMapper {
    /// From its message.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_proto(
        message: &pb::LocalReplyConfig,
        runtime: &RuntimeValues,
        path: &str,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut mapper = Self::default();
        for (index, one) in message.mappers.iter().enumerate() {
            match Mapper::from_proto(one, runtime, &format!("{path}.mappers[{index}]")) {
                Ok(one) => mapper.mappers.push(one),
                Err(error) => errors.push(error),
            }
        }
        let format = message.body_format.as_ref();
        match format.map(|format| LineFormat::from_proto(format, &format!("{path}.body_format"))).transpose() {
            Ok(format) => mapper.body_format = format,
            Err(error) => errors.push(error),
        }
        if errors.is_empty() { Ok(mapper) } else { Err(errors) }
    }

    /// Changes an answer as the first mapper whose filter matches says, formats its body, sets `response_code`, and gives
    /// the body's content type. `request` is `None` where there was none that could be read.
    pub fn map(&self, reply: &mut LocalReply, request: Option<&RequestHead>, info: &mut StreamInfo) -> &str {
        info.response_code = reply.status.as_u16();
        let context = LogContext { request, ..LogContext::new(info) };
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.matches(&context));
        let mut head = ResponseHead::new(reply.status);
        head.headers = std::mem::take(&mut reply.headers);
        if let Some(mapper) = mapper {
            if let Some(body) = &mapper.body {
                reply.body = Cow::Owned(body.clone());
            }
            // The fields still see the status that was.
            mapper.headers.apply_response(&mut head, request, info);
            reply.status = mapper.status.unwrap_or(reply.status);
            head.status = reply.status;
            info.response_code = reply.status.as_u16();
        }
        let format = mapper.and_then(|mapper| mapper.body_format.as_ref()).or(self.body_format.as_ref());
        if let Some(format) = format {
            let context = LogContext { request, response: Some(&head), ..LogContext::new(info) };
            let mut body = String::new();
            format.render_reply(&context, &reply.body, &mut body);
            reply.body = Cow::Owned(body);
        }
        reply.headers = head.headers;
        format.map_or("text/plain", LineFormat::content_type)
    }
}

impl Mapper {
    fn from_proto(message: &pb::ResponseMapper, runtime: &RuntimeValues, path: &str) -> Result<Self, ConfigError> {
        let filter = message.filter.as_ref().ok_or_else(|| ConfigError::missing(format!("{path}.filter")))?;
        let status = message.status_code.map(|code| {
            let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
            code.and_then(|code| StatusCode::from_u16(code).ok())
                .ok_or_else(|| ConfigError::new(format!("{path}.status_code"), "must be from 200 to 599"))
        });
        let body = message.body.as_ref().map(|body| read_text(body, &format!("{path}.body")));
        let format = message.body_format_override.as_ref();
        let format = format.map(|format| LineFormat::from_proto(format, &format!("{path}.body_format_override")));
        Ok(Self {
            filter: LogFilter::from_proto(filter, runtime, &format!("{path}.filter"))?,
            status: status.transpose()?,
            body: body.transpose()?,
            body_format: format.transpose()?,
            headers: HeaderAdder::from_proto(&message.headers_to_add, &format!("{path}.headers_to_add"), &[], "")?,
        })
    }
}

#[cfg(test)]
mod tests;
