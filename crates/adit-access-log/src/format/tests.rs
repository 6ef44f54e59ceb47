#![allow(clippy::unwrap_used)]
use adit_filter::AccessLogType;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::testing::{bare, connect, full, request, response};

fn render_full(format: &str) -> String {
    let (info, request, response) = (full(), request(), response());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("5"));
    let context = LogContext {
        info: &info,
        request: Some(&request),
        response: Some(&response),
        trailers: Some(&trailers),
        kind: AccessLogType::DownstreamEnd,
    };
    Format::parse(format).unwrap().render(&context)
}

fn render_bare(format: &str) -> String {
    Format::parse(format).unwrap().render(&LogContext::new(&bare()))
}

#[test]
fn the_default_format() {
    assert_eq!(
        render_full(DEFAULT_FORMAT),
        "[2016-04-15T20:20:10.310Z] \"POST /api/v1?user=joe&x HTTP/2\" 503 URX,UF 154 226 100 100 \"10.0.35.28\" \
         \"nsq2http\" \"-\" \"locations\" \"10.0.35.28:80\"\n"
    );
    let (info, head) = (bare(), connect());
    let context = LogContext { request: Some(&head), ..LogContext::new(&info) };
    let line = Format::parse(DEFAULT_FORMAT).unwrap().render(&context);
    assert!(line.starts_with("[2016-04-15T20:20:10.310Z] \"CONNECT - -\" 0 - 0 0 "), "{line}");
}

#[test]
fn every_operator_with_a_value_and_without() {
    for (format, with, without) in [
        ("%REQ(:METHOD)%", "POST", "-"),
        ("%REQ(X-NONE?USER-AGENT)%", "nsq2http", "-"),
        ("%REQUEST_HEADER(user-agent):3%", "nsq", "-"),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/api/v1", "-"),
        ("%RESP(:STATUS)%", "503", "-"),
        ("%RESPONSE_HEADER(x-none)%", "-", "-"),
        ("%TRAILER(GRPC-STATUS)%", "5", "-"),
        ("%GRPC_STATUS%", "NotFound", "-"),
        ("%GRPC_STATUS_NUMBER%", "5", "-"),
        ("%PATH()%", "/api/v1?user=joe&x", "-"),
        ("%PATH(NQ)%", "/api/v1", "-"),
        ("%PATH(WQ:ORIG)%", "-", "-"),
        ("%QUERY_PARAM(user)%", "joe", "-"),
        ("%PROTOCOL%", "HTTP/2", "-"),
        ("%UPSTREAM_PROTOCOL%", "HTTP/1.1", "-"),
        ("%RESPONSE_CODE%", "503", "0"),
        ("%RESPONSE_CODE_DETAILS%", "a_b{c}", "-"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "a b{c}", "-"),
        ("%CONNECTION_TERMINATION_DETAILS%", "gone", "-"),
        ("%RESPONSE_FLAGS%", "URX,UF", "-"),
        ("%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure", "-"),
        ("%BYTES_RECEIVED% %BYTES_SENT%", "154 226", "0 0"),
        ("%DOWNSTREAM_WIRE_BYTES_SENT% %DOWNSTREAM_WIRE_BYTES_RECEIVED%", "233 159", "0 0"),
        ("%UPSTREAM_WIRE_BYTES_SENT% %UPSTREAM_WIRE_BYTES_RECEIVED%", "184 240", "0 0"),
        ("%UPSTREAM_HEADER_BYTES_SENT% %UPSTREAM_HEADER_BYTES_RECEIVED%", "20 9", "0 0"),
        ("%DOWNSTREAM_HEADER_BYTES_SENT% %DOWNSTREAM_HEADER_BYTES_RECEIVED%", "6 3", "0 0"),
        ("%REQUEST_DURATION%", "5", "-"),
        ("%RESPONSE_DURATION%", "30", "-"),
        ("%RESPONSE_TX_DURATION%", "60", "-"),
        ("%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%", "2500", "-"),
        ("%COMMON_DURATION(US_RX_BEG:DS_TX_END:ms)%", "60", "-"),
        ("%UPSTREAM_CONNECTION_POOL_READY_DURATION%", "2", "-"),
        ("%UPSTREAM_HOST%", "10.0.35.28:80", "-"),
        ("%UPSTREAM_HOST_NAME%", "up.example:80", "-"),
        ("%UPSTREAM_HOST_NAME_WITHOUT_PORT%", "up.example", "-"),
        ("%UPSTREAM_CLUSTER%", "c", "-"),
        ("%UPSTREAM_LOCAL_ADDRESS%", "[::1]:4000", "-"),
        ("%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "::1", "-"),
        ("%UPSTREAM_LOCAL_PORT%", "4000", "-"),
        ("%UPSTREAM_REMOTE_ADDRESS%", "10.0.35.28:80", "-"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2", "0"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "refused", "-"),
        ("%UPSTREAM_CONNECTION_ID%", "9", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.9:5", "10.0.0.9:5"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.9", "10.0.0.9"),
        ("%DOWNSTREAM_REMOTE_PORT%", "5", "5"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "192.168.0.1:6", "10.0.0.9:5"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("%DOWNSTREAM_LOCAL_PORT%", "8080", "8080"),
        ("%DOWNSTREAM_LOCAL_CLOSE_REASON%", "why", "-"),
        ("%DOWNSTREAM_DETECTED_CLOSE_TYPE%", "Normal", "-"),
        ("%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER%", "TLSv1.3 AES", "- -"),
        ("%DOWNSTREAM_PEER_SUBJECT%%UPSTREAM_PEER_FINGERPRINT_256%", "--", "--"),
        ("%CONNECTION_ID%", "7", "7"),
        ("%STREAM_ID%", "11111111-2222", "-"),
        ("%REQUESTED_SERVER_NAME%", "sni.example", "-"),
        ("%ROUTE_NAME%", "route", "-"),
        ("%ACCESS_LOG_TYPE%", "DownstreamEnd", "NotSet"),
        ("%DYNAMIC_METADATA(ns:a:b)%", "deep", "-"),
        ("%DYNAMIC_METADATA(ns:a:n)%", "3", "-"),
        ("%DYNAMIC_METADATA(ns:a)%", "{\"b\":\"deep\",\"n\":3}", "-"),
        ("%METADATA(DYNAMIC:ns:flag)%", "true", "-"),
        ("%CLUSTER_METADATA(c:k)%", "1.5", "-"),
        ("%UPSTREAM_METADATA(h:k)%", "hv", "-"),
        ("%FILTER_STATE(text:PLAIN)%", "va\"l", "-"),
        ("%FILTER_STATE(text:TYPED)%", "\"va\\\"l\"", "-"),
        ("%FILTER_STATE(number)%", "5", "-"),
        (
            "%FILTER_STATE(headers:TYPED)%",
            "{\"headers\":[{\"key\":\":status\",\"value\":\"407\"},{\"key\":\"a\",\"value\":\"b\"}]}",
            "-",
        ),
        ("%FILTER_STATE(headers:FIELD:a)%", "b", "-"),
        ("%START_TIME(%Y %3f)%", "2016 310", "2016 310"),
        ("%ENVIRONMENT(ADIT_NO_SUCH_VARIABLE)%", "-", "-"),
        ("100%% %%REQ", "100% %REQ", "100% %REQ"),
        ("", "", ""),
    ] {
        assert_eq!(render_full(format), with, "{format}");
        assert_eq!(render_bare(format), without, "{format}");
    }
    assert_eq!(render_full("%UNIQUE_ID%").len(), 36);
    assert_ne!(render_full("%HOSTNAME%"), "");
    assert_eq!(render_full("%DURATION%"), "100");
}

#[test]
fn certificates_are_read() {
    use std::sync::Arc;
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/a".try_into().unwrap()));
    params.not_before = rcgen::date_time_ymd(2020, 1, 2);
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let mut info = bare();
    Arc::make_mut(&mut info.conn).tls =
        Some(Arc::new(adit_io::TlsInfo { peer_certificates: vec![der], ..Default::default() }));
    let render = |format: &str| Format::parse(format).unwrap().render(&LogContext::new(&info));
    assert_eq!(render("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_DNS_SAN%"), "spiffe://td/a a.example");
    assert_eq!(render("%DOWNSTREAM_PEER_CERT_V_START(%F)%"), "2020-01-02");
    assert_eq!(render("%DOWNSTREAM_PEER_FINGERPRINT_256%").len(), 64);
    assert_eq!(render("%DOWNSTREAM_PEER_FINGERPRINT_1%").len(), 40);
    assert!(render("%DOWNSTREAM_PEER_SUBJECT%").starts_with("CN="));
    assert!(render("%DOWNSTREAM_PEER_CERT%").starts_with("-----BEGIN%20CERTIFICATE-----%0A"));
    assert_eq!(render("%DOWNSTREAM_LOCAL_SUBJECT%"), "-");
}

#[test]
fn malformed_formats_are_refused() {
    for (format, words) in [
        ("%FOO%", "Not supported field in StreamInfo: FOO"),
        ("%PROTOCOL", "Incorrect configuration"),
        ("%REQ(a%", "Incorrect configuration"),
        ("% PROTOCOL%", "Incorrect configuration"),
        ("%protocol%", "Incorrect configuration"),
        ("%REQ(a):x%", "Length must be an integer, given: x"),
        ("%REQ()%", "needs a header name"),
        ("%REQ(a?b?c)%", "More than 1 alternative"),
        ("%REQ(a b)%", "not a header name"),
        ("%PROTOCOL(x)%", "takes no argument"),
        ("%FILTER_STATE(a:RAW)%", "Invalid filter state"),
        ("%FILTER_STATE(:PLAIN)%", "key cannot be empty"),
        ("%COMMON_DURATION(a:b:ms)%", "time point"),
        ("%COMMON_DURATION(DS_RX_BEG:DS_RX_END)%", "Invalid common duration"),
        ("%START_TIME(%Q)%", "Invalid time format"),
        ("%PATH(XX)%", "Invalid PATH option"),
        ("%METADATA(ROUTE:a)%", "does not know"),
    ] {
        let error = Format::parse(format).unwrap_err();
        assert!(error.contains(words), "{format}: {error}");
    }
}

#[test]
fn lengths_do_not_cut_characters() {
    let mut text = String::from("x\u{e9}\u{e9}");
    shorten(&mut text, 1, Some(3));
    assert_eq!(text, "x\u{e9}");
    shorten(&mut text, 1, Some(100));
    assert_eq!(text, "x\u{e9}");
}

#[test]
fn fields_are_named_for_those_who_keep_heads() {
    let format = Format::parse("%REQ(A?B)% %REQ(:PATH)% %RESP(C)% %PATH()% %GRPC_STATUS%").unwrap();
    assert_eq!(
        format.request_fields().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["a", "b", "x-envoy-original-path"]
    );
    assert_eq!(format.response_fields().map(HeaderName::as_str).collect::<Vec<_>>(), ["c", "grpc-status"]);
    assert!(format.reads_request() && !Format::parse("%PROTOCOL%").unwrap().reads_request());
    assert_eq!(Format::parse("a%%").unwrap().as_literal(), Some("a%"));
}
