//! DNS, original destinations, health checks and HTTP/2 on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use adit_filter::upstream::{Cluster, FailureKind};
use adit_io::{Address, ConnInfo, FilterValue, Sharing};
use adit_upstream::HealthFlag;
use support::{
    Wish, acquire, cluster, exchange, expect_accepted, expect_value, get, ok, origin, refusing, soon, until, world,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const HTTP2: &str = "typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http2_protocol_options: { max_concurrent_streams: LIMIT } }";

fn named(kind: &str, host: &str, port: u16) -> String {
    format!(
        "- name: a\n  type: {kind}\n  dns_lookup_family: V4_ONLY\n  load_assignment:\n    cluster_name: a\n    endpoints:\n    - lb_endpoints:\n      - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}\n"
    )
}

#[tokio::test]
async fn names_are_resolved_and_readiness_waits_for_them() {
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        let origin = origin(ok).await;
        let world = world(&named(kind, "localhost", origin.port));
        assert!(!world.manager.is_ready());
        world.run();
        soon(world.manager.ready()).await;
        let upstream = soon(acquire(&world.cluster("a"))).await.ok().unwrap();
        assert_eq!(&*upstream.host.info().hostname, "localhost");
        assert_eq!(upstream.host.info().address.to_string(), format!("127.0.0.1:{}", origin.port));
        soon(exchange(upstream, "/")).await;
        world.expect_gauge("cluster.a.membership_total", 1).await;
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_answer_too() {
    let world = world(&named("STRICT_DNS", "does-not-exist.invalid", 1));
    world.run();
    soon(world.manager.ready()).await;
    assert_eq!(soon(acquire(&world.cluster("a"))).await.err().unwrap().kind, FailureKind::NoHealthyHost);
    world.expect_counter("cluster.a.update_failure", 1).await;
}

const ORIGINAL: &str = "- name: a
  type: ORIGINAL_DST
  lb_policy: CLUSTER_PROVIDED
  cleanup_interval: 0.1s
  original_dst_lb_config: { use_http_header: true, http_header_name: ':authority' }
";

#[tokio::test]
async fn an_original_destination_comes_from_the_header() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = world(ORIGINAL);
    world.run();
    let a = world.cluster("a");
    let mut wish = Wish { head: Some(get("/")), ..Wish::default() };
    wish.head.as_mut().unwrap().authority = Some(address.to_string().parse().unwrap());
    let upstream = soon(a.tcp(&wish.need())).await.ok().unwrap();
    assert_eq!(upstream.host.info().address, Address::Ip(address));
    world.expect_gauge("cluster.a.membership_total", 1).await;
    drop(upstream);
    until("it is cleaned up", || world.gauge("cluster.a.membership_total") == 0).await;

    let no_hosts = [
        "localhost:80",
        "0.0.0.0:80",
        "[::]:80",
        "255.255.255.255:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "[::ffff:127.0.0.1]:80",
        "[::ffff:0.0.0.0]:80",
    ];
    for (count, authority) in no_hosts.into_iter().enumerate() {
        wish.head.as_mut().unwrap().authority = Some(authority.parse().unwrap());
        assert_eq!(soon(a.tcp(&wish.need())).await.err().unwrap().kind, FailureKind::NoHealthyHost, "{authority}");
        world.expect_counter("cluster.a.original_dst_host_invalid", count as u64 + 1).await;
    }
}

#[tokio::test]
async fn an_original_destination_comes_from_state_or_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = world("- { name: a, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED }");
    let a = world.cluster("a");
    assert!(soon(a.tcp(&Wish::default().need())).await.is_err());
    let info =
        Arc::new(ConnInfo::new(1, Address::Ip(address), "127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap().into()));
    let by_connection = Wish { downstream: Some(info), ..Wish::default() };
    let mut by_state = Wish::default();
    let value = FilterValue::Address(Address::Ip(address));
    by_state.state.set("envoy.network.transport_socket.original_dst_address", value, Sharing::None);
    let by_caller = Wish { address: Some(address), ..Wish::default() };
    for wish in [by_connection, by_state, by_caller] {
        let upstream = soon(a.tcp(&wish.need())).await.ok().unwrap();
        assert_eq!(upstream.host.info().address, Address::Ip(address));
    }
}

#[tokio::test]
async fn hosts_that_requests_name_are_bounded_and_soon_forgotten() {
    let world = world(
        "- name: a
  lb_policy: CLUSTER_PROVIDED
  cleanup_interval: 0.02s
  cluster_type:
    name: x
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig
      dns_cache_config: { name: names, max_hosts: 2 }",
    );
    let a = world.cluster("a");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let wish = |address| {
        let mut wish = Wish::default();
        let value = FilterValue::Address(Address::Ip(address));
        wish.state.set("envoy.network.transport_socket.original_dst_address", value, Sharing::None);
        wish
    };
    let upstream = soon(a.tcp(&wish(address).need())).await.ok().unwrap();
    for _ in 0..2 {
        let (port, _held) = refusing();
        let gone = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        assert!(soon(a.tcp(&wish(gone).need())).await.is_err());
    }
    world.expect_gauge("cluster.a.membership_total", 2).await;
    world.expect_counter("dns_cache.names.host_overflow", 1).await;
    // One that is there serves on.
    soon(a.tcp(&wish(address).need())).await.ok().unwrap();
    world.run();
    until("the unused one is cleaned up", || world.gauge("cluster.a.membership_total") == 1).await;
    drop(upstream);
    until("all are cleaned up", || world.gauge("cluster.a.membership_total") == 0).await;
}

/// IPv4 within IPv6 would pass a policy that holds IPv4 back; only a listener's own address may be one.
#[tokio::test]
async fn ipv4_within_ipv6_is_no_destination_that_a_client_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mapped: std::net::SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    let forward = "cluster_type: { name: x, typed_config: { \"@type\": \
                   type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, dns_cache_config: { \
                   name: names } } }";
    let world = world(&format!(
        "- {{ name: a, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED }}\n- {{ name: b, lb_policy: CLUSTER_PROVIDED, {forward} }}"
    ));
    let mut by_state = Wish::default();
    let value = FilterValue::Address(Address::Ip(mapped));
    by_state.state.set("envoy.network.transport_socket.original_dst_address", value, Sharing::None);
    let by_caller = Wish { address: Some(mapped), ..Wish::default() };
    for (wish, cluster) in [(&by_state, "a"), (&by_state, "b"), (&by_caller, "a")] {
        let refused = soon(world.cluster(cluster).tcp(&wish.need())).await.err().unwrap();
        assert_eq!(refused.kind, FailureKind::NoHealthyHost);
    }
    world.expect_counter("cluster.a.original_dst_host_invalid", 2).await;
    world.expect_counter("cluster.b.original_dst_host_invalid", 1).await;
    let client: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
    let info = Arc::new(ConnInfo::new(1, Address::Ip(mapped), client.into()));
    let by_connection = Wish { downstream: Some(info), ..Wish::default() };
    assert_eq!(soon(world.cluster("a").tcp(&by_connection.need())).await.err().map(|failed| failed.kind), None);
}

fn checks(kind: &str) -> String {
    format!(
        "common_lb_config: {{ healthy_panic_threshold: {{ value: 0 }} }}\nhealth_checks:\n- timeout: 20s\n  interval: 0.03s\n  no_traffic_interval: 0.03s\n  healthy_threshold: 2\n  unhealthy_threshold: 2\n  {kind}\n"
    )
}

/// A host has failed while any of its checks fails.
#[tokio::test]
async fn several_checks_must_all_pass() {
    let status = Arc::new(AtomicU16::new(503));
    let answer = status.clone();
    let origin = origin(move |_| format!("HTTP/1.1 {} x\r\ncontent-length: 0\r\n\r\n", answer.load(SeqCst))).await;
    let base =
        "timeout: 20s, interval: 0.03s, no_traffic_interval: 0.03s, healthy_threshold: 1, unhealthy_threshold: 1";
    let both = format!(
        "health_checks:\n- {{ name: port, {base}, tcp_health_check: {{}} }}\n- {{ name: page, {base}, http_health_check: {{ path: / }} }}\n"
    );
    let world = world(&cluster("a", &[origin.port], &both));
    let host = world.manager.get("a").unwrap().hosts()[0].clone();
    world.run();
    until("both were asked", || {
        world.counter("cluster.a.health_check.name.port.success") > 3
            && world.counter("cluster.a.health_check.name.page.failure") > 3
    })
    .await;
    for _ in 0..20 {
        assert!(host.has(HealthFlag::FailedActiveHealthCheck));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let healthy = |name: &str| world.gauge(&format!("cluster.a.health_check.{name}healthy"));
    let all = || (healthy("name.port."), healthy("name.page."), healthy(""));
    expect_value("healthy by port, by page, by both", (1, 0, 0), all).await;
    status.store(200, SeqCst);
    until("healthy", || !host.has(HealthFlag::FailedActiveHealthCheck)).await;
    until("counted", || healthy("name.page.") == 1 && healthy("") == 1).await;
}

#[tokio::test]
async fn http_checks_turn_a_host_both_ways() {
    let status = Arc::new(AtomicU16::new(200));
    let answer = status.clone();
    let origin = origin(move |_| format!("HTTP/1.1 {} x\r\ncontent-length: 0\r\n\r\n", answer.load(SeqCst))).await;
    let check = checks(
        "http_health_check: { path: /health, expected_statuses: [{ start: 200, end: 201 }], retriable_statuses: [{ start: 503, end: 504 }] }",
    );
    let world = world(&cluster("a", &[origin.port], &check));
    let host = world.manager.get("a").unwrap().hosts()[0].clone();
    assert!(host.has(HealthFlag::FailedActiveHealthCheck));
    world.run();
    until("healthy", || !host.has(HealthFlag::FailedActiveHealthCheck)).await;
    world.expect_gauge("cluster.a.membership_healthy", 1).await;
    for failing in [500, 503] {
        status.store(failing, SeqCst);
        until("unhealthy", || host.has(HealthFlag::FailedActiveHealthCheck)).await;
        assert_eq!(soon(acquire(&world.cluster("a"))).await.err().unwrap().kind, FailureKind::NoHealthyHost);
        status.store(200, SeqCst);
        until("healthy again", || !host.has(HealthFlag::FailedActiveHealthCheck)).await;
    }
    until("all are counted", || {
        world.counter("cluster.a.health_check.network_failure") >= 2
            && world.counter("cluster.a.health_check.failure") >= 3
    })
    .await;
    // One connection serves all the checks.
    expect_accepted(&origin.accepted, 1).await;
    assert_eq!(world.manager.describe()[0].hosts[0].health_flags, "healthy");
}

#[tokio::test]
async fn tcp_checks_look_for_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaking = Arc::new(AtomicBool::new(true));
    let speaks = speaking.clone();
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let speaks = speaks.clone();
            open.push(tokio::spawn(async move {
                let mut got = [0; 4];
                while socket.read_exact(&mut got).await.is_ok() {
                    let answer: &[u8] = if &got == b"ping" && speaks.load(SeqCst) { b"xxpoxxng" } else { b"no" };
                    tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
                }
            }));
        }
    });
    let check = checks("tcp_health_check: { send: { text: 70696e67 }, receive: [{ text: 706f }, { text: 6e67 }] }");
    let world = world(&cluster("a", &[port], &check.replace("timeout: 20s", "timeout: 0.1s")));
    world.run();
    let host = world.manager.get("a").unwrap().hosts()[0].clone();
    until("healthy", || !host.has(HealthFlag::FailedActiveHealthCheck)).await;
    speaking.store(false, SeqCst);
    until("unhealthy", || host.has(HealthFlag::FailedActiveHealthCheck)).await;
    server.abort();
}

/// An HTTP/2 origin.
async fn h2_origin() -> (u16, Arc<std::sync::atomic::AtomicUsize>, tokio::task::JoinHandle<()>) {
    h2_origin_after(Duration::ZERO).await
}

/// An HTTP/2 origin whose SETTINGS are late.
async fn h2_origin_after(late: Duration) -> (u16, Arc<std::sync::atomic::AtomicUsize>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = accepted.clone();
    let task = tokio::spawn(async move {
        let mut conns = tokio::task::JoinSet::new();
        loop {
            let (socket, peer) = listener.accept().await.unwrap();
            count.fetch_add(1, SeqCst);
            let info = ConnInfo::new(1, Address::Ip(peer), Address::Ip(peer));
            let io = adit_io::Io::tcp(socket, Arc::new(info));
            conns.spawn(async move {
                use adit_codec::ServerConn;
                tokio::time::sleep(late).await;
                let mut server = adit_h2::server(io, Arc::default());
                while let Some(Ok(stream)) = std::future::poll_fn(|cx| server.poll_accept(cx)).await {
                    let head = adit_http::ResponseHead::new(http::StatusCode::OK);
                    stream.responder.respond(head, true).unwrap();
                }
            });
        }
    });
    (port, accepted, task)
}

#[tokio::test]
async fn http2_streams_share_a_connection_up_to_the_limit() {
    let (port, accepted, server) = h2_origin().await;
    let world = world(&cluster("a", &[port], &HTTP2.replace("LIMIT", "2")));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    // All at once, before there is a connection.
    let (one, two) = soon(async { tokio::join!(a.http(&need), a.http(&need)) }).await;
    expect_accepted(&accepted, 1).await;
    let third = soon(a.http(&need)).await.ok().unwrap();
    expect_accepted(&accepted, 2).await;
    world.expect_counter("cluster.a.upstream_cx_http2_total", 2).await;
    for upstream in [one.ok().unwrap(), two.ok().unwrap(), third] {
        assert_eq!(upstream.version, http::Version::HTTP_2);
        assert_eq!(soon(exchange(upstream, "/")).await.0.status.as_u16(), 200);
    }
    for _ in 0..10 {
        soon(exchange(soon(a.http(&need)).await.ok().unwrap(), "/")).await;
    }
    expect_accepted(&accepted, 2).await;
    world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
    server.abort();
    until("both are noticed", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
}

/// Who waits for the SETTINGS of a new connection has it, however short the time to idle is.
#[tokio::test]
async fn a_connection_whose_settings_are_due_does_not_idle() {
    let (port, accepted, server) = h2_origin_after(Duration::from_millis(500)).await;
    let idle = "    common_http_protocol_options: { idle_timeout: 0.1s }\n    explicit_http_config";
    let more = HTTP2.replace("LIMIT", "2").replace("    explicit_http_config", idle);
    let world = world(&cluster("a", &[port], &more));
    soon(exchange(soon(acquire(&world.cluster("a"))).await.ok().unwrap(), "/")).await;
    expect_accepted(&accepted, 1).await;
    world.expect_counter("cluster.a.upstream_cx_idle_timeout", 1).await;
    world.expect_counter("cluster.a.upstream_cx_total", 1).await;
    server.abort();
}

#[tokio::test]
async fn a_peer_that_speaks_no_http2_is_a_failure_and_not_a_loop() {
    let origin = origin(|_| "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_owned()).await;
    let world = world(&cluster("a", &[origin.port], &HTTP2.replace("LIMIT", "2")));
    let failure = soon(acquire(&world.cluster("a"))).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Remote);
    expect_accepted(&origin.accepted, 1).await;
    until("given back", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
}

#[tokio::test]
async fn extended_connect_needs_the_peers_leave() {
    let (port, _accepted, server) = h2_origin().await;
    let world = world(&cluster("a", &[port], &HTTP2.replace("LIMIT", "2")));
    let wish = Wish { extended_connect: true, ..Wish::default() };
    let a: Arc<dyn Cluster> = world.cluster("a");
    let failure = soon(a.http(&wish.need())).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Protocol);
    assert!(soon(acquire(&a)).await.is_ok());
    server.abort();
}

#[tokio::test]
async fn a_unix_socket_is_an_upstream() {
    let directory = adit_testkit::TempDir::new();
    let path = directory.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let world = world(&format!(
        "- name: a\n  load_assignment:\n    cluster_name: a\n    endpoints:\n    - lb_endpoints:\n      - endpoint: {{ address: {{ pipe: {{ path: {} }} }} }}\n",
        path.display()
    ));
    let mut upstream = soon(world.cluster("a").tcp(&Wish::default().need())).await.ok().unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut upstream.io, b"hi").await.unwrap();
    let mut got = [0; 2];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hi");
}

#[tokio::test]
async fn a_bound_source_address_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let more = "upstream_bind_config: { source_address: { address: 127.0.0.2, port_value: 0 } }\nupstream_connection_options: { tcp_keepalive: { keepalive_time: 7, keepalive_probes: 3, keepalive_interval: 2 } }";
    let world = world(&cluster("a", &[listener.local_addr().unwrap().port()], more));
    let upstream = soon(world.cluster("a").tcp(&Wish::default().need())).await.ok().unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.2");
    let socket = socket2::SockRef::from(upstream.io.tcp_socket().unwrap().as_ref()).tcp_keepalive_time().unwrap();
    assert_eq!(socket, Duration::from_secs(7));
}

#[tokio::test]
async fn retries_are_limited() {
    let world = world(&cluster("a", &[1], "circuit_breakers: { thresholds: [{ max_retries: 1 }] }"));
    let a = world.cluster("a");
    let permit = a.retry_permit(Default::default());
    assert!(permit.is_some() && a.retry_permit(Default::default()).is_none());
    world.expect_counter("cluster.a.upstream_rq_retry_overflow", 1).await;
    drop(permit);
    assert!(a.retry_permit(Default::default()).is_some());
}

#[tokio::test]
async fn a_host_that_was_tried_is_avoided() {
    let (one, two) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let ports = [one.local_addr().unwrap().port(), two.local_addr().unwrap().port()];
    let world = world(&cluster("a", &ports, ""));
    let wish = Wish { tried: vec![Address::Ip(one.local_addr().unwrap())], reselect: 3, ..Wish::default() };
    for _ in 0..10 {
        let upstream = soon(world.cluster("a").tcp(&wish.need())).await.ok().unwrap();
        assert_eq!(upstream.host.info().address.port(), Some(ports[1]));
    }
}
