#![allow(clippy::unwrap_used)]
use http::Method;

use super::*;

fn conn(remote: &str) -> ConnInfo {
    ConnInfo::new(1, Address::Ip("127.0.0.1:10000".parse().unwrap()), Address::Ip(remote.parse().unwrap()))
}

fn get(fields: &[(&'static str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.authority = Some("example.com".parse().unwrap());
    head.path = Some("/".parse().unwrap());
    for (name, value) in fields {
        head.headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    head
}

fn field<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    head.headers.get(name).map(|value| value.to_str().unwrap())
}

fn id() -> Option<HeaderValue> {
    Some(HeaderValue::from_static("made-up"))
}

#[test]
fn a_uuid_has_its_version_and_variant() {
    let id = uuid();
    assert_eq!(id.len(), 36);
    assert_eq!(id.as_bytes()[14], b'4');
    assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    assert_ne!(id, uuid());
}

#[test]
fn without_use_remote_address_the_forwarded_fields_are_left_alone() {
    let options = RequestOptions { generate_request_id: true, ..RequestOptions::default() };
    let mut head = get(&[("x-forwarded-for", "1.2.3.4"), ("x-envoy-retry-on", "5xx"), ("x-request-id", "theirs")]);
    let client = prepare(&mut head, &conn("9.9.9.9:1"), &options, id);
    assert_eq!(field(&head, "x-forwarded-for"), Some("1.2.3.4"));
    assert_eq!(field(&head, "x-envoy-retry-on"), None, "only internal clients may ask for retries");
    assert_eq!(field(&head, "x-request-id"), Some("theirs"));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(client.remote.unwrap().ip(), Some("1.2.3.4".parse().unwrap()));
}

#[test]
fn an_edge_appends_the_peer_and_drops_what_only_friends_may_send() {
    let options = RequestOptions { use_remote_address: true, generate_request_id: true, ..RequestOptions::default() };
    let mut head = get(&[
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-internal", "true"),
        ("x-request-id", "theirs"),
    ]);
    let client = prepare(&mut head, &conn("9.9.9.9:1"), &options, id);
    assert_eq!(field(&head, "x-forwarded-for"), Some("1.2.3.4,9.9.9.9"));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(field(&head, "x-envoy-retry-on"), None);
    assert_eq!(field(&head, "x-envoy-internal"), None);
    assert_eq!(field(&head, "x-envoy-external-address"), Some("9.9.9.9"));
    assert_eq!(field(&head, "x-request-id"), Some("made-up"));
    assert!(client.remote.is_none());
}

#[test]
fn trusted_hops_count_from_the_end() {
    let options = RequestOptions { use_remote_address: true, xff_num_trusted_hops: 1, ..RequestOptions::default() };
    let mut head = get(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-proto", "https")]);
    let client = prepare(&mut head, &conn("9.9.9.9:1"), &options, id);
    assert_eq!(client.remote.unwrap().ip(), Some("2.2.2.2".parse().unwrap()));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&head, "x-forwarded-for"), Some("1.1.1.1, 2.2.2.2,9.9.9.9"));
}

#[test]
fn ports_and_dots_are_stripped_for_routing_only() {
    for (mode, dot, host, expected) in [
        (StripPort::No, false, "a.b:80", "a.b:80"),
        (StripPort::Any, false, "a.b:80", "a.b"),
        (StripPort::Any, false, "[::1]:80", "[::1]"),
        (StripPort::Matching, false, "a.b:80", "a.b:80"),
        (StripPort::Matching, false, "a.b:10000", "a.b"),
        (StripPort::No, true, "a.b.:80", "a.b:80"),
        (StripPort::Any, true, "a.b.", "a.b"),
    ] {
        let options = RequestOptions { strip_port: mode, strip_trailing_host_dot: dot, ..RequestOptions::default() };
        let mut head = get(&[]);
        head.authority = Some(host.parse().unwrap());
        check(&mut head, &conn("9.9.9.9:1"), &options).unwrap();
        assert_eq!(head.authority.unwrap().as_str(), expected, "{mode:?} {host}");
    }
}

#[test]
fn heads_that_no_route_may_see() {
    let options = RequestOptions { underscores: Underscores::Reject, ..RequestOptions::default() };
    let run = |change: &dyn Fn(&mut RequestHead)| {
        let mut head = get(&[]);
        change(&mut head);
        check(&mut head, &conn("9.9.9.9:1"), &options)
            .map_err(|reply| (reply.status.as_u16(), reply.details.to_string()))
    };
    assert_eq!(run(&|head| head.authority = None), Err((400, "missing_host_header".into())));
    assert_eq!(run(&|head| head.path = None), Err((404, "missing_path_rejected".into())));
    assert_eq!(run(&|head| head.path = Some("*".parse().unwrap())), Err((404, "absolute_path_rejected".into())));
    let underscore = |head: &mut RequestHead| {
        head.headers.insert("a_b", HeaderValue::from_static("x"));
    };
    assert_eq!(run(&underscore), Err((400, "http1.unexpected_underscore".into())));
    let options_asterisk = |head: &mut RequestHead| {
        head.method = Method::OPTIONS;
        head.path = Some("*".parse().unwrap());
    };
    assert_eq!(run(&options_asterisk), Err((404, "absolute_path_rejected".into())));
    let connect = |head: &mut RequestHead| {
        head.kind = RequestKind::Connect("example.com:443".parse().unwrap());
        head.path = None;
    };
    assert_eq!(run(&connect), Ok(0));
}
