#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use adit_config::proto::envoy::config::core::v3::TransportSocket;
use adit_filter::BoxFuture;
use adit_io::Io;

use super::*;
use crate::testing::{hosts, plan, plan_with};
use crate::transport::{BuiltTransport, TransportContext, TransportError};

fn refused(fields: &str) -> String {
    plan(fields).err().unwrap_or_else(|| panic!("taken: {fields}"))
}

#[test]
fn defaults() {
    let plan = plan("type: STATIC").unwrap();
    assert_eq!(plan.connect_timeout, Duration::from_secs(5));
    assert_eq!(plan.breakers, [Thresholds::default(); 2]);
    assert_eq!(plan.http.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(plan.settings.version, Some(::http::Version::HTTP_11));
    assert_eq!(plan.settings.buffer_limit, 1 << 20);
    assert_eq!(plan.lb, LbPlan::default());
    assert!(!plan.settings.secure && !plan.settings.terminates_connect && !plan.resolves());
}

/// A map of fields has an end of its own, at which it panics.
#[test]
fn fields_are_limited_whatever_the_configuration_allows() {
    for (count, limit) in [(50, 50), (16_384, 16_384), (u32::MAX, 16_384)] {
        let options = |protocol: &str| {
            plan(&format!(
                "typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ '@type': \
                 type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, common_http_protocol_options: \
                 {{ max_headers_count: {count} }}, explicit_http_config: {{ {protocol}: {{}} }} }} }}"
            ))
            .unwrap()
        };
        assert_eq!(options("http_protocol_options").http.h1.max_headers, limit);
        assert_eq!(options("http2_protocol_options").http.h2.http2.max_headers_count, limit);
    }
    let mut map = ::http::HeaderMap::new();
    for index in 0..adit_http::MAX_FIELDS + 4096 {
        map.insert(::http::HeaderName::try_from(format!("f{index}")).unwrap(), ::http::HeaderValue::from_static(""));
    }
}

#[test]
fn draws_are_limited_whatever_the_configuration_allows() {
    for (count, choices) in [(2, 2), (50, 50), (u32::MAX, 1024)] {
        let fields = format!("lb_policy: LEAST_REQUEST, least_request_lb_config: {{ choice_count: {count} }}");
        assert_eq!(plan(&fields).unwrap().lb.policy, LbPolicy::LeastRequest { choices, bias: 1.0 });
    }
}

#[test]
fn refusals_name_the_field() {
    for (fields, path) in [
        ("lb_policy: CLUSTER_PROVIDED", "c.lb_policy"),
        ("type: ORIGINAL_DST", "c.lb_policy"),
        ("type: LOGICAL_DNS, load_assignment: { cluster_name: a }", "c.load_assignment"),
        (
            "load_assignment: { cluster_name: a, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: \
             { address: example.com, port_value: 1 } } } }] }] }",
            "c.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: malformed",
        ),
        ("lb_policy: MAGLEV, maglev_lb_config: { table_size: 100 }", "c.maglev_lb_config.table_size"),
        (
            "lb_policy: RING_HASH, ring_hash_lb_config: { minimum_ring_size: 5, maximum_ring_size: 4 }",
            "c.ring_hash_lb_config",
        ),
        (
            "health_checks: [{ timeout: 1s, interval: 1s, healthy_threshold: 1, unhealthy_threshold: 1, \
             tcp_health_check: { send: { text: xyz } } }]",
            "c.health_checks[0].tcp_health_check.send.text",
        ),
        (
            "upstream_bind_config: { source_address: { address: x, port_value: 0 } }",
            "c.upstream_bind_config.source_address",
        ),
    ] {
        let message = refused(fields);
        assert!(message.contains(path), "{fields}\n  gave {message}");
    }
}

const FORWARD: &str = "cluster_type: { name: dfp, typed_config: { '@type': \
    type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, dns_cache_config: { name: names } } }";

#[test]
fn hosts_that_requests_name() {
    let plan = plan(&format!("lb_policy: CLUSTER_PROVIDED, {FORWARD}")).unwrap();
    assert!(plan.settings.resolver.is_some());
    assert!(matches!(&plan.discovery, Discovery::OriginalDst(plan) if plan.resolved && plan.header.is_none()));
    for (fields, path) in [
        (FORWARD.to_owned(), "c.lb_policy"),
        (
            format!("lb_policy: CLUSTER_PROVIDED, {FORWARD}, load_assignment: {{ cluster_name: a }}"),
            "no load assignment",
        ),
        (
            "lb_policy: CLUSTER_PROVIDED, cluster_type: { name: x, typed_config: { '@type': \
             type.googleapis.com/google.protobuf.StringValue, value: x } }"
                .to_owned(),
            "c.cluster_type.typed_config: is not supported",
        ),
        ("lb_policy: CLUSTER_PROVIDED, cluster_type: { name: x }".to_owned(), "c.cluster_type.typed_config"),
    ] {
        let message = refused(&fields);
        assert!(message.contains(path), "{fields}\n  gave {message}");
    }
}

/// TLS for every transport socket that is not raw.
struct Secure;

impl TransportBuilder for Secure {
    fn build(
        &self,
        _any: &prost_types::Any,
        _path: &Path,
        _site: &crate::transport::TransportSite<'_>,
        _inner: &dyn Fn(Option<&TransportSocket>, &Path) -> BuiltTransport,
    ) -> Option<BuiltTransport> {
        Some(Ok(Arc::new(Secure)))
    }
}

impl TransportSocketFactory for Secure {
    fn connect<'a>(&'a self, io: Io, _ctx: &'a TransportContext) -> BoxFuture<'a, Result<Io, TransportError>> {
        Box::pin(async move { Ok(io) })
    }

    fn secure(&self) -> bool {
        true
    }
}

#[test]
fn any_tls_to_hosts_that_requests_name_must_ask_for_their_names() {
    let tls = "transport_socket: { name: tls, typed_config: { '@type': \
               type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext } }";
    let options = "typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { '@type': \
                   type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: { \
                   http_protocol_options: {} }, upstream_http_protocol_options: { auto_sni: true, \
                   auto_san_validation: true } } }";
    let matched = format!("transport_socket_matches: [{{ name: x, match: {{}}, {tls} }}]");
    for tls in [tls, &matched] {
        let with = |more: &str| plan_with(&format!("lb_policy: CLUSTER_PROVIDED, {FORWARD}, {tls}{more}"), &Secure);
        let message = with("").err().unwrap();
        assert!(message.contains("needs upstream_http_protocol_options"), "{tls}\n  gave {message}");
        with(&format!(", {options}")).unwrap();
    }
}

#[test]
fn old_and_new_options_mean_the_same() {
    let old = plan("http2_protocol_options: { max_concurrent_streams: 7 }, max_requests_per_connection: 3").unwrap();
    let new = plan(
        "typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
         common_http_protocol_options: { max_requests_per_connection: 3 }, \
         explicit_http_config: { http2_protocol_options: { max_concurrent_streams: 7 } } } }",
    )
    .unwrap();
    for plan in [old, new] {
        assert_eq!(plan.settings.version, Some(::http::Version::HTTP_2));
        assert_eq!((plan.http.max_streams(plan.settings.version), plan.http.max_requests), (7, Some(3)));
    }
}

#[test]
fn metadata_of_an_endpoint_chooses_its_transport_socket() {
    let socket = "transport_socket: { name: raw, typed_config: { \"@type\": \
                  type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer } }";
    let matching = ", metadata: { filter_metadata: { envoy.transport_socket_match: { kind: x } } }";
    let endpoints = hosts([(1, matching), (2, "")]);
    let plan = plan(&format!("transport_socket_matches: [{{ name: x, match: {{ kind: x }}, {socket} }}], {endpoints}"));
    let hosts: Vec<usize> = plan.unwrap().fixed_hosts().iter().map(|host| host.transport).collect();
    assert_eq!(hosts, [0, 1]);
}

#[test]
fn a_terminating_pool_is_known() {
    let config = "upstream_config: { name: tcp, typed_config: { \"@type\": \
                  type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto } }";
    assert!(plan(config).unwrap().settings.terminates_connect);
}
