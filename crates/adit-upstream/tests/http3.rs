//! HTTP/3 upstream, over QUIC on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use adit_codec::OutgoingStream;
use adit_filter::upstream::{Cluster, FailureKind, HttpUpstream};
use adit_h3::endpoint::QuicOptions;
use adit_http::{RequestHead, RequestKind, Token};
use adit_stats::Store;
use bytes::Bytes;
use http::{Method, StatusCode, Version};
use support::http3::{Http3Origin, Trusting, http3_origin, sockets};
use support::{
    Wish, World, acquire, cluster, exchange, expect_accepted, expect_value, get, ok, origin_on, plans, plans_with,
    read, soon, until, world_with,
};

const SOCKET: &str = "transport_socket:
  name: envoy.transport_sockets.quic
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport
    upstream_tls_context: { sni: localhost }
";

fn http3(protocol: &str) -> String {
    format!(
        "{SOCKET}typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    {protocol}
"
    )
}

fn explicit(quic: &str) -> String {
    http3(&format!("explicit_http_config: {{ http3_protocol_options: {{ quic_protocol_options: {{ {quic} }} }} }}"))
}

fn auto(cache: &str) -> String {
    http3(&format!(
        "auto_config: {{ http3_protocol_options: {{}}, alternate_protocols_cache_options: {{ name: c{cache} }} }}"
    ))
}

fn serve(allow_extended_connect: bool) -> Http3Origin {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    http3_origin(allow_extended_connect, socket, &QuicOptions::default())
}

fn world_of(port: u16, more: &str) -> World {
    world_with(&cluster("a", &[port], more), &Trusting::new("localhost"))
}

async fn get_one(a: &Arc<dyn Cluster>) -> (Version, String) {
    let upstream = soon(acquire(a)).await.map_err(|failure| failure.reason).unwrap();
    let version = upstream.version;
    let (head, body) = soon(exchange(upstream, "/")).await;
    assert_eq!(head.status, StatusCode::OK);
    (version, String::from_utf8(body).unwrap())
}

/// Opens a stream, waits for its head, then sends `data` and reads until the end.
async fn echoed(mut upstream: HttpUpstream, head: RequestHead, data: &'static [u8]) -> (StatusCode, Vec<u8>) {
    let tunnel = head.kind.is_tunnel();
    let OutgoingStream { mut send, mut response, .. } = upstream.lease.open(&head, false).unwrap();
    let mut data = Bytes::from_static(data);
    let mut status = None;
    if tunnel {
        status = Some(poll_fn(|cx| response.poll_head(cx)).await.unwrap().status);
    }
    poll_fn(|cx| send.poll_send(cx, &mut data, true)).await.unwrap();
    poll_fn(|cx| send.poll_flush(cx)).await.unwrap();
    if status.is_none() {
        status = Some(poll_fn(|cx| response.poll_head(cx)).await.unwrap().status);
    }
    let mut recv = response.into_recv();
    (status.unwrap(), read(&mut *recv).await)
}

fn upgrade() -> RequestHead {
    let mut head = get("/chat");
    head.kind = RequestKind::Upgrade(Token::new("websocket").unwrap());
    head.headers.insert("upgrade", "websocket".parse().unwrap());
    head.headers.insert("connection", "upgrade".parse().unwrap());
    head
}

#[tokio::test]
async fn requests_and_tunnels_share_one_connection() {
    let origin = serve(true);
    let socket = Trusting::new("localhost");
    let world = world_with(&cluster("a", &[origin.port], &explicit("")), &socket);
    let a = world.cluster("a");
    assert_eq!(a.settings().version, Some(Version::HTTP_3));
    assert_eq!(get_one(&a).await, (Version::HTTP_3, "0".to_owned()));

    let upstream = soon(acquire(&a)).await.ok().unwrap();
    assert_eq!((upstream.conn.transport, upstream.conn.server_name.as_deref()), ("quic", Some("localhost")));
    assert_eq!(upstream.conn.remote.socket().unwrap().port(), origin.port);
    assert!(upstream.conn.local.socket().is_some_and(|local| local.ip().is_loopback() && local.port() != 0));
    assert_eq!(upstream.conn.tls.as_ref().unwrap().version, "TLSv1.3");
    let mut post = get("/");
    post.method = Method::POST;
    assert_eq!(soon(echoed(upstream, post, b"body")).await, (StatusCode::OK, b"body".to_vec()));

    let mut connect = RequestHead::new(RequestKind::Connect("example.com:443".parse().unwrap()), Method::CONNECT);
    connect.authority = Some("example.com:443".parse().unwrap());
    let upstream = soon(acquire(&a)).await.ok().unwrap();
    assert_eq!(soon(echoed(upstream, connect, b"through")).await, (StatusCode::OK, b"through".to_vec()));

    let wish = Wish { extended_connect: true, ..Wish::default() };
    let upstream = soon(a.http(&wish.need())).await.ok().unwrap();
    let (status, bytes) = soon(echoed(upstream, upgrade(), b"frames")).await;
    assert_eq!((status, bytes), (StatusCode::SWITCHING_PROTOCOLS, b"frames".to_vec()));

    expect_value("accepted, done", (1, 1), || (origin.accepted.load(SeqCst), socket.done.load(SeqCst))).await;
    world.expect_counter("cluster.a.upstream_cx_http3_total", 1).await;
    world.expect_counter("cluster.a.http3.quic_version_rfc_v1", 1).await;
    until("no stream is left", || world.gauge("cluster.a.http3.streams_active") == 0).await;
    world.expect_gauge("cluster.a.upstream_rq_active", 0).await;
}

#[tokio::test]
async fn extended_connect_needs_the_peers_leave() {
    let origin = serve(false);
    let world = world_of(origin.port, &explicit(""));
    let a = world.cluster("a");
    let wish = Wish { extended_connect: true, ..Wish::default() };
    let start = Instant::now();
    let failure = soon(a.http(&wish.need())).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Protocol);
    assert!(start.elapsed() < Duration::from_secs(15), "no time to connect is waited for");
    // The connection serves others.
    assert_eq!(get_one(&a).await.1, "0");
}

#[tokio::test]
async fn a_full_connection_is_followed_by_another() {
    let origin = serve(true);
    let world = world_of(origin.port, &explicit("max_concurrent_streams: 2"));
    let a = world.cluster("a");
    let wish = Wish::default();
    let need = wish.need();
    let (one, two) = soon(async { tokio::join!(a.http(&need), a.http(&need)) }).await;
    expect_accepted(&origin.accepted, 1).await;
    let third = soon(a.http(&need)).await.ok().unwrap();
    expect_accepted(&origin.accepted, 2).await;
    for upstream in [one.ok().unwrap(), two.ok().unwrap(), third] {
        soon(exchange(upstream, "/")).await;
    }
    for _ in 0..5 {
        get_one(&a).await;
    }
    world.expect_counter("cluster.a.upstream_cx_http3_total", 2).await;
}

#[tokio::test]
async fn the_peers_limit_of_streams_counts_too() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let origin = http3_origin(true, socket, &QuicOptions { max_concurrent_streams: 1, ..QuicOptions::default() });
    let world = world_of(origin.port, &explicit(""));
    let a = world.cluster("a");
    let mut first = soon(acquire(&a)).await.ok().unwrap();
    let mut post = get("/");
    post.method = Method::POST;
    let open = first.lease.open(&post, false).unwrap();
    let second = soon(acquire(&a)).await.ok().unwrap();
    assert_eq!(soon(exchange(second, "/")).await.1, b"1");
    drop(open);
}

#[tokio::test]
async fn after_goaway_streams_finish_and_others_go_elsewhere() {
    let origin = serve(true);
    let world = world_of(origin.port, &explicit(""));
    let a = world.cluster("a");
    let mut upstream = soon(acquire(&a)).await.ok().unwrap();
    let mut connect = RequestHead::new(RequestKind::Connect("example.com:443".parse().unwrap()), Method::CONNECT);
    connect.authority = Some("example.com:443".parse().unwrap());
    let OutgoingStream { mut send, mut response, .. } = upstream.lease.open(&connect, false).unwrap();
    soon(poll_fn(|cx| response.poll_head(cx))).await.unwrap();
    origin.drain();
    until("the pool lets go", || world.counter("cluster.a.upstream_cx_destroy_remote") == 1).await;
    assert_eq!(get_one(&a).await.1, "1");
    let mut data = Bytes::from_static(b"still here");
    soon(poll_fn(|cx| send.poll_send(cx, &mut data, true))).await.unwrap();
    soon(poll_fn(|cx| send.poll_flush(cx))).await.unwrap();
    let mut recv = response.into_recv();
    assert_eq!(soon(read(&mut *recv)).await, b"still here");
    drop((send, recv, upstream));
    until("it is closed", || world.gauge("cluster.a.upstream_cx_active") == 1).await;
}

#[tokio::test]
async fn a_black_hole_is_a_connect_timeout() {
    let hole = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let yaml = cluster("a", &[hole.local_addr().unwrap().port()], &explicit("")).replace("20s", "1s");
    let world = world_with(&yaml, &Trusting::new("localhost"));
    let start = Instant::now();
    let failure = soon(acquire(&world.cluster("a"))).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    world.expect_counter("cluster.a.upstream_cx_connect_timeout", 1).await;
    world.expect_counter("cluster.a.upstream_cx_connect_fail", 1).await;
    until("given back", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_failure_of_the_host() {
    let origin = serve(true);
    let socket = Trusting::new("elsewhere.example");
    let world = world_with(&cluster("a", &[origin.port], &explicit("")), &socket);
    let failure = soon(acquire(&world.cluster("a"))).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Remote);
    assert!(failure.reason.starts_with("TLS_error: "), "{}", failure.reason);
    assert_eq!(socket.failures.load(SeqCst), 1);
}

/// One socket is for one list of options; what cannot be set is a failure on our side.
#[tokio::test]
async fn socket_options_are_set_in_every_state() {
    let origin = serve(true);
    let bind = |option: &str| format!("upstream_bind_config: {{ socket_options: [{option}] }}\n{}", explicit(""));
    let none = cluster("a", &[origin.port], &explicit(""));
    let some = ["STATE_PREBIND", "STATE_BOUND", "STATE_LISTENING"].map(|state| {
        let good =
            cluster(state, &[origin.port], &bind(&format!("{{ level: 0, name: 1, int_value: 8, state: {state} }}")));
        let bad = format!("{{ level: 6, name: 13, buf_value: cmVubw==, state: {state} }}");
        good + &cluster(&format!("{state}-bad"), &[origin.port], &bind(&bad))
    });
    let world = world_with(&(none + &some.concat()), &Trusting::new("localhost"));
    assert_eq!(get_one(&world.cluster("a")).await.0, Version::HTTP_3);
    for state in ["STATE_PREBIND", "STATE_BOUND", "STATE_LISTENING"] {
        assert_eq!(get_one(&world.cluster(state)).await.0, Version::HTTP_3);
        let failure = soon(acquire(&world.cluster(&format!("{state}-bad")))).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::Local);
        assert_eq!(failure.reason, "QUIC_CONNECTION_CANCELLED with details: Fail to set up connection socket.");
        world.expect_counter(&format!("cluster.{state}-bad.bind_errors"), 0).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let origin = serve(true);
    let more =
        explicit("").replace("    explicit", "    common_http_protocol_options: { idle_timeout: 0.1s }\n    explicit");
    let world = world_of(origin.port, &more);
    let a = world.cluster("a");
    get_one(&a).await;
    until("it is idle for too long", || world.counter("cluster.a.upstream_cx_idle_timeout") == 1).await;
    until("it is closed", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
    assert_eq!(get_one(&a).await.1, "1");
}

#[tokio::test]
async fn a_silent_peer_is_noticed_after_the_network_idle_timeout() {
    let origin = serve(true);
    let world =
        world_of(origin.port, &explicit("idle_network_timeout: 3s, connection_keepalive: { max_interval: 0s }"));
    get_one(&world.cluster("a")).await;
    until("it is over", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
    world.expect_counter("cluster.a.upstream_cx_idle_timeout", 0).await;
}

#[tokio::test]
async fn alt_svc_is_learned_and_used() {
    let (udp, listener) = sockets().await;
    let http3 = http3_origin(true, udp, &QuicOptions::default());
    let port = http3.port;
    let tcp = origin_on(listener, move |_| {
        format!("HTTP/1.1 200 OK\r\nalt-svc: h3=\":{port}\"; ma=60\r\ncontent-length: 3\r\n\r\ntcp")
    });
    let world = world_of(port, &auto(""));
    let a = world.cluster("a");
    assert_eq!(get_one(&a).await, (Version::HTTP_11, "tcp".to_owned()));
    // TCP serves once more where the handshake takes longer than its head start.
    let by_http3 = async { while get_one(&a).await != (Version::HTTP_3, "0".to_owned()) {} };
    soon(by_http3).await;
    assert_eq!(get_one(&a).await, (Version::HTTP_3, "0".to_owned()));
    assert_eq!((tcp.accepted.load(SeqCst), http3.accepted.load(SeqCst)), (1, 1));
}

/// By TCP, without waiting for HTTP/3. Tried again and again: a machine that is busy makes one of them slow, not all.
async fn served_at_once(a: &Arc<dyn Cluster>) {
    soon(async {
        loop {
            let start = Instant::now();
            assert_eq!(get_one(a).await.0, Version::HTTP_11);
            if start.elapsed() < Duration::from_millis(250) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn tcp_serves_where_http3_does_not_answer() {
    // The UDP socket takes every packet and says nothing.
    let (_hole, listener) = sockets().await;
    let tcp = origin_on(listener, |_| ok("tcp"));
    let entry = format!(", prepopulated_entries: [{{ hostname: localhost, port: {} }}]", tcp.port);
    let yaml = cluster("a", &[tcp.port], &auto(&entry)).replace("20s", "3s");
    let world = world_with(&yaml, &Trusting::new("localhost"));
    let a = world.cluster("a");
    let start = Instant::now();
    assert_eq!(get_one(&a).await.0, Version::HTTP_11);
    assert!(start.elapsed() >= Duration::from_millis(250), "no head start");
    served_at_once(&a).await;
    until("the attempt ends", || world.counter("cluster.a.upstream_cx_connect_timeout") == 1).await;
    served_at_once(&a).await;
    world.expect_counter("cluster.a.upstream_cx_connect_fail", 1).await;
}

#[tokio::test]
async fn tcp_serves_at_once_where_http3_fails_at_once() {
    let (udp, listener) = sockets().await;
    let http3 = http3_origin(true, udp, &QuicOptions::default());
    let _tcp = origin_on(listener, |_| ok("tcp"));
    let entry = format!(", prepopulated_entries: [{{ hostname: elsewhere.example, port: {} }}]", http3.port);
    let yaml = cluster("a", &[http3.port], &auto(&entry));
    // The certificate is for another name.
    let world = world_with(&yaml, &Trusting::new("elsewhere.example"));
    assert_eq!(get_one(&world.cluster("a")).await, (Version::HTTP_11, "tcp".to_owned()));
    world.expect_counter("cluster.a.upstream_cx_connect_fail", 1).await;
}

#[tokio::test]
async fn the_downstreams_version_is_used_where_it_is_configured() {
    let (udp, listener) = sockets().await;
    let http3 = http3_origin(true, udp, &QuicOptions::default());
    let _tcp = origin_on(listener, |_| ok("tcp"));
    let world = world_of(http3.port, &self::http3("use_downstream_protocol_config: { http3_protocol_options: {} }"));
    let a = world.cluster("a");
    for (version, body) in [(Version::HTTP_3, &b"0"[..]), (Version::HTTP_11, b"tcp")] {
        let mut head = get("/");
        head.version = version;
        let wish = Wish { head: Some(head), ..Wish::default() };
        let upstream = soon(a.http(&wish.need())).await.ok().unwrap();
        assert_eq!(upstream.version, version);
        assert_eq!(soon(exchange(upstream, "/")).await.1, body);
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let store = Store::new(1);
    let without = explicit("").replace(SOCKET, "");
    let message = plans(&cluster("a", &[1], &without), &store).err().unwrap();
    assert!(message.contains("HTTP3 requires a QuicUpstreamTransport transport socket"), "{message}");
    let message = plans_with(
        &cluster("a", &[1], &http3("auto_config: { http3_protocol_options: {} }")),
        &store,
        &Trusting::new("localhost"),
    )
    .err()
    .unwrap();
    assert!(message.contains("alternate protocols cache must be configured"), "{message}");
    for field in ["connection_options: x", "num_timeouts_to_trigger_port_migration: 1"] {
        let message = plans_with(&cluster("a", &[1], &explicit(field)), &store, &Trusting::new("localhost"));
        assert!(message.is_err(), "{field}");
    }
}
