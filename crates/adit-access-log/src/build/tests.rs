#![allow(clippy::unwrap_used)]
use adit_config::pack;
use adit_config::proto::envoy::config::core::v3::{
    DataSource, JsonFormatOptions, data_source, substitution_format_string::Format as Form,
};
use adit_filter::{AccessLogType, RuntimeValues};
use adit_stats::Store;
use adit_testkit::TempDir;

use super::*;
use crate::SinkOptions;
use crate::testing::{bare, full, request, response};

fn sinks() -> Sinks {
    Sinks::new(SinkOptions::default(), &Store::new(1).root(), RuntimeValues::default())
}

fn file_log(path: &str, format: Option<file::file_access_log::AccessLogFormat>) -> pb::AccessLog {
    let log = file::FileAccessLog { path: path.into(), access_log_format: format };
    let any = pack(&log);
    pb::AccessLog { config_type: Some(pb::access_log::ConfigType::TypedConfig(any)), ..Default::default() }
}

fn log_format(format: Form, omit_empty_values: bool) -> Option<file::file_access_log::AccessLogFormat> {
    let json_format_options = Some(JsonFormatOptions::default());
    let format =
        SubstitutionFormatString { format: Some(format), omit_empty_values, json_format_options, ..Default::default() };
    Some(file::file_access_log::AccessLogFormat::LogFormat(format))
}

fn text(text: &str) -> Form {
    let specifier = Some(data_source::Specifier::InlineString(text.into()));
    Form::TextFormatSource(DataSource { specifier, ..Default::default() })
}

fn json(json: serde_json::Value) -> Form {
    let value = adit_config::json_to_value(&json);
    let Some(prost_types::value::Kind::StructValue(fields)) = value.kind else { return text("") };
    Form::JsonFormat(fields)
}

/// The line of the full stream and of the bare one.
fn lines(format: Option<file::file_access_log::AccessLogFormat>) -> String {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let sinks = sinks();
    let logs = build(&[file_log(path.to_str().unwrap(), format)], &sinks, "access_log").unwrap();
    let (info, request, response) = (full(), request(), response());
    let with = LogContext {
        info: &info,
        request: Some(&request),
        response: Some(&response),
        trailers: None,
        kind: AccessLogType::DownstreamEnd,
    };
    for log in &logs {
        log.log(&with);
        log.log(&LogContext::new(&bare()));
    }
    sinks.flush();
    std::fs::read_to_string(&path).unwrap()
}

#[test]
fn text_lines() {
    assert_eq!(lines(log_format(text("%PROTOCOL% %RESPONSE_CODE%\n"), false)), "HTTP/2 503\n- 0\n");
    assert_eq!(lines(log_format(text("%PROTOCOL%|%RESPONSE_FLAGS%\n"), true)), "HTTP/2|URX,UF\n|-\n");
    assert!(lines(None).starts_with("[2016-04-15T20:20:10.310Z] \"POST /api/v1?user=joe&x HTTP/2\" 503 URX,UF "));
}

#[test]
fn json_lines_keep_the_type_of_a_single_operator() {
    let format = json(serde_json::json!({
        "bytes": "%BYTES_SENT%",
        "protocol": "%PROTOCOL%",
        "mixed": "%BYTES_SENT%b %PROTOCOL%",
        "flags": "%RESPONSE_FLAGS%",
        "state": "%FILTER_STATE(headers:TYPED)%",
        "meta": "%DYNAMIC_METADATA(ns:a)%",
        "nested": {"agent": "%REQ(user-agent):3%", "list": ["%RESPONSE_CODE%", "%REQ(none)%"]},
        "constant": 1, "truth": true,
    }));
    let out = lines(log_format(format, false));
    let parsed: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let headers = serde_json::json!([{"key": ":status", "value": "407"}, {"key": "a", "value": "b"}]);
    assert_eq!(
        parsed,
        [
            serde_json::json!({
                "bytes": 226, "protocol": "HTTP/2", "mixed": "226b HTTP/2", "flags": "URX,UF",
                "state": {"headers": headers}, "meta": {"b": "deep", "n": 3},
                "nested": {"agent": "nsq", "list": [503, null]}, "constant": 1, "truth": true,
            }),
            serde_json::json!({
                "bytes": 0, "protocol": null, "mixed": "0b -", "flags": "-", "state": null, "meta": null,
                "nested": {"agent": null, "list": [0, null]}, "constant": 1, "truth": true,
            }),
        ]
    );
}

#[test]
fn empty_values_are_left_out_of_json() {
    let format = json(serde_json::json!({"a": "%PROTOCOL%", "b": "%RESPONSE_CODE%", "c": {"d": "%REQ(user-agent)%"}}));
    let out = lines(log_format(format, true));
    assert_eq!(out, "{\"a\":\"HTTP/2\",\"b\":503,\"c\":{\"d\":\"nsq2http\"}}\n{\"b\":0}\n");
}

#[test]
fn all_problems_are_found_with_their_paths() {
    let unknown = pb::AccessLog {
        config_type: Some(pb::access_log::ConfigType::TypedConfig(prost_types::Any {
            type_url: "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig".into(),
            value: Vec::new(),
        })),
        ..Default::default()
    };
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let messages = [
        file_log("/no/such/directory/log", None),
        file_log(path.to_str().unwrap(), log_format(text("%FOO%"), false)),
        unknown,
    ];
    let errors = build(&messages, &sinks(), "access_log").map(drop).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("access_log[0].path: unable to open file '/no/such/directory/log'"), "{texts:?}");
    assert_eq!(texts[1], "access_log[1].log_format.text_format_source: Not supported field in StreamInfo: FOO");
    assert!(texts[2].starts_with("access_log[2].typed_config: access log of type"), "{texts:?}");
}

#[test]
fn a_log_names_the_fields_it_reads() {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let messages = [file_log(path.to_str().unwrap(), log_format(text("%REQ(A)% %REQ(a?b)% %RESP(C)%"), false))];
    let logs = build(&messages, &sinks(), "access_log").unwrap();
    assert_eq!(logs[0].request_fields(), ["a", "b"]);
    assert_eq!(logs[0].response_fields(), ["c"]);
}
