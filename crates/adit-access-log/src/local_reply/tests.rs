#![allow(clippy::unwrap_used)]
use adit_config::proto::envoy::config::accesslog::v3 as log;
use adit_config::proto::envoy::config::core::v3 as core;
use core::substitution_format_string::Format as Form;

use super::*;
use crate::testing::{bare, connect};

fn at_least(code: u32) -> Option<log::AccessLogFilter> {
    let value = core::RuntimeUInt32 { default_value: code, runtime_key: String::new() };
    let op = log::comparison_filter::Op::Ge as i32;
    let comparison = Some(log::ComparisonFilter { op, value: Some(value) });
    let specifier = log::access_log_filter::FilterSpecifier::StatusCodeFilter(log::StatusCodeFilter { comparison });
    Some(log::AccessLogFilter { filter_specifier: Some(specifier) })
}

fn inline(text: &str) -> core::DataSource {
    let specifier = Some(core::data_source::Specifier::InlineString(text.into()));
    core::DataSource { specifier, ..Default::default() }
}

fn format(format: Form, content_type: &str) -> Option<core::SubstitutionFormatString> {
    Some(core::SubstitutionFormatString {
        format: Some(format),
        content_type: content_type.into(),
        ..Default::default()
    })
}

fn map(message: &pb::LocalReplyConfig, status: u16) -> (LocalReply, String, u16) {
    let mapper = LocalReplyMapper::from_proto(message, &RuntimeValues::default(), "m").unwrap_or_default();
    let mut reply = LocalReply::new(StatusCode::from_u16(status).unwrap(), "x").body("orig");
    let mut info = bare();
    let content_type = mapper.map(&mut reply, Some(&connect()), &mut info).to_owned();
    (reply, content_type, info.response_code)
}

#[test]
fn the_first_mapper_that_matches_changes_the_answer() {
    let header = core::HeaderValueOption {
        header: Some(core::HeaderValue { key: "x-code".into(), value: "%RESPONSE_CODE%".into(), raw_value: vec![] }),
        ..Default::default()
    };
    let message = pb::LocalReplyConfig {
        mappers: vec![
            pb::ResponseMapper {
                filter: at_least(500),
                status_code: Some(429),
                body: Some(inline("mapped")),
                headers_to_add: vec![header],
                ..Default::default()
            },
            pb::ResponseMapper {
                filter: at_least(400),
                body_format_override: format(Form::TextFormatSource(inline("<%LOCAL_REPLY_BODY%>")), "text/html"),
                ..Default::default()
            },
        ],
        body_format: format(Form::TextFormatSource(inline("%RESPONSE_CODE%:%LOCAL_REPLY_BODY% %REQ(:path)%")), ""),
    };
    let (reply, content_type, code) = map(&message, 503);
    assert_eq!((reply.status.as_u16(), &*reply.body, code), (429, "429:mapped -", 429));
    assert_eq!(reply.headers["x-code"], "503");
    assert_eq!(content_type, "text/plain");
    let (reply, content_type, _) = map(&message, 404);
    assert_eq!((reply.status.as_u16(), &*reply.body, &*content_type), (404, "<orig>", "text/html"));
    let (reply, ..) = map(&message, 200);
    assert_eq!(&*reply.body, "200:orig -");
}

#[test]
fn bodies_may_be_json() {
    let fields = [("code", "%RESPONSE_CODE%"), ("body", "%LOCAL_REPLY_BODY%")].map(|(key, value)| {
        let kind = prost_types::value::Kind::StringValue(value.into());
        (key.to_owned(), prost_types::Value { kind: Some(kind) })
    });
    let json = Form::JsonFormat(prost_types::Struct { fields: fields.into() });
    let (reply, content_type, _) = map(&pb::LocalReplyConfig { mappers: vec![], body_format: format(json, "") }, 503);
    assert_eq!(&*reply.body, "{\"body\":\"orig\",\"code\":503}\n");
    assert_eq!(content_type, "application/json");
}

#[test]
fn nothing_configured_changes_nothing() {
    let (reply, content_type, code) = map(&pb::LocalReplyConfig::default(), 403);
    assert_eq!((&*reply.body, &*content_type, code), ("orig", "text/plain", 403));
}

#[test]
fn all_problems_are_found() {
    let bad = pb::ResponseMapper { filter: at_least(1), status_code: Some(999), ..Default::default() };
    let none = pb::ResponseMapper::default();
    let message = pb::LocalReplyConfig {
        mappers: vec![bad, none],
        body_format: format(Form::TextFormatSource(inline("%X%")), ""),
    };
    let errors = LocalReplyMapper::from_proto(&message, &RuntimeValues::default(), "m").map(drop).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["m.mappers[0].status_code", "m.mappers[1].filter", "m.body_format.text_format_source"]);
}
