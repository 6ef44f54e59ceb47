//! Listeners on real workers and real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::ErrorKind;

use adit_config::proto::envoy::config::core::v3 as core;
use adit_config::proto::envoy::config::listener::v3 as pb;
use adit_config::proto::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use adit_config::proto::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy_pb;
use adit_io::{Address, ConnInfo, Io, Stream};
use adit_listener::Listener;
use adit_testkit::{Peer, TempDir, eventually, expect_value, within};
use common::{World, address, chain, filter, listener, socket};
use prost_types::Duration as ProtoDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

/// An address of loopback that no other test uses, for one that frees its port and wants it again: no other test can take
/// it in between.
fn own(last: u8, port: u16) -> Option<core::Address> {
    Some(address(&format!("127.0.77.{last}"), port.into()))
}

async fn line(peer: &mut Peer) -> String {
    String::from_utf8(peer.receive_until(b"\n").await).unwrap()
}

#[tokio::test]
async fn connections_are_served_counted_and_logged() {
    let world = World::new();
    let running = world.start(&listener());
    let mut peer = Peer::connect(socket(&running)).await;
    let told = line(&mut peer).await;
    let local = format!("local={} remote={}", socket(&running), peer.stream().local_addr().unwrap());
    assert!(told.contains("chain=main") && told.contains(&local), "{told}");
    // Whatever the system's congestion control: it listens on a loopback address.
    assert!(told.contains("paced=false"), "{told}");
    world.expect_counter("listener.l.downstream_cx_total", 1).await;
    world.expect_gauge("listener.l.downstream_cx_active", 1).await;
    expect_value("connections", 1, || running.connections()).await;
    peer.send("abc").await;
    peer.expect("abc").await;
    peer.half_close().await;
    peer.expect_fin().await;
    world.expect_counter("listener.l.downstream_cx_destroy", 1).await;
    assert_eq!(world.logged(1).await, ["- - - -"]);
    world.expect_gauge("listener.l.downstream_cx_active", 0).await;
    let workers: u64 = (0..2).map(|i| world.counter(&format!("listener.l.worker_{i}.downstream_cx_total"))).sum();
    assert_eq!(workers, 1);
}

#[tokio::test]
async fn every_worker_shares_the_port_that_the_kernel_chose() {
    let world = World::new();
    let running = world.start(&listener());
    let mut peers = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let mut peer = Peer::connect(socket(&running)).await;
        seen.insert(line(&mut peer).await.split(' ').next().unwrap().to_owned());
        peers.push(peer);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[tokio::test]
async fn exact_balance_gives_each_worker_the_same_number() {
    use pb::listener::connection_balance_config::{BalanceType, ExactBalance};
    let world = World::new();
    let balance =
        pb::listener::ConnectionBalanceConfig { balance_type: Some(BalanceType::ExactBalance(ExactBalance {})) };
    let running = world.start(&pb::Listener { connection_balance_config: Some(balance), ..listener() });
    let mut peers = Vec::new();
    for _ in 0..20 {
        let mut peer = Peer::connect(socket(&running)).await;
        line(&mut peer).await;
        peers.push(peer);
    }
    for worker in 0..2 {
        world.expect_gauge(&format!("listener.l.worker_{worker}.downstream_cx_active"), 10).await;
    }
}

#[tokio::test]
async fn without_reuse_port_the_workers_share_one_socket() {
    let world = World::new();
    let running = world.start(&pb::Listener { address: own(1, 0), enable_reuse_port: Some(false), ..listener() });
    for _ in 0..8 {
        line(&mut Peer::connect(socket(&running)).await).await;
    }
    running.stop_accepting();
    eventually("the port is free", || std::net::TcpListener::bind(socket(&running)).is_ok()).await;
}

#[tokio::test]
async fn a_taken_port_and_a_foreign_address_fail_the_bind() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (ip, port, kind) in [("127.0.0.1", port, ErrorKind::AddrInUse), ("192.0.2.1", 0, ErrorKind::AddrNotAvailable)] {
        let message = pb::Listener { address: Some(address(ip, port.into())), ..listener() };
        let plan = world.plan(&message).unwrap();
        let error = Listener::bind(plan, 2, world.global.clone()).err().unwrap();
        assert_eq!(error.error.kind(), kind);
        assert!(error.to_string().contains(&format!("'l': cannot bind '{ip}:{port}'")), "{error}");
    }
}

#[tokio::test]
async fn a_port_that_is_shared_is_not_free() {
    let world = World::new();
    let first = world.start(&pb::Listener { address: own(2, 0), ..listener() });
    let port = socket(&first).port();
    let plan = world.plan(&pb::Listener { address: own(2, port), ..listener() }).unwrap();
    let error = Listener::probe(&plan).err().unwrap();
    assert_eq!(
        error.to_string().split(": ").take(2).collect::<Vec<_>>(),
        ["listener 'l'".to_owned(), format!("cannot bind '127.0.77.2:{port}'")]
    );
    let mut peer = Peer::connect(socket(&first)).await;
    line(&mut peer).await;
    first.stop_accepting();
    eventually("the port is free, connections or not", || Listener::probe(&plan).is_ok()).await;
    peer.send("x").await;
    peer.expect("x").await;
}

#[tokio::test]
async fn a_restart_on_the_same_port_works_at_once() {
    let world = World::new();
    let first = world.start(&pb::Listener { address: own(3, 0), ..listener() });
    let mut peer = Peer::connect(socket(&first)).await;
    line(&mut peer).await;
    first.stop_accepting();
    // A connect that is refused may have met one of its sockets as it closed, with others still there.
    eventually("nobody listens", || std::net::TcpListener::bind(socket(&first)).is_ok()).await;
    let port = socket(&first).port();
    let second = world.start(&pb::Listener { address: own(3, port), ..listener() });
    line(&mut Peer::connect(socket(&second)).await).await;
    // The connection of the first one lives on.
    peer.send("x").await;
    peer.expect("x").await;
}

#[tokio::test]
async fn additional_and_dual_stack_addresses() {
    let world = World::new();
    let mut any = address("::", 0);
    if let Some(core::address::Address::SocketAddress(socket)) = &mut any.address {
        socket.ipv4_compat = true;
    }
    let more = pb::AdditionalAddress { address: Some(any), ..Default::default() };
    let running = world.start(&pb::Listener { additional_addresses: vec![more], ..listener() });
    let ports: Vec<_> = running.addresses().iter().map(|address| address.port().unwrap()).collect();
    assert_eq!(ports.len(), 2);
    let mut peer = Peer::connect(format!("127.0.0.1:{}", ports[1]).parse().unwrap()).await;
    let told = line(&mut peer).await;
    assert!(told.contains(&format!("local=127.0.0.1:{} remote=127.0.0.1:", ports[1])), "{told}");
    let mut peer = Peer::connect(format!("[::1]:{}", ports[1]).parse().unwrap()).await;
    assert!(line(&mut peer).await.contains("local=[::1]:"));
}

#[tokio::test]
async fn unix_sockets_and_what_a_killed_process_left() {
    let world = World::new();
    let dir = TempDir::new();
    let path = dir.path().join("s");
    // A file that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let pipe = core::Pipe { path: path.to_str().unwrap().into(), mode: 0o600 };
    let address = core::Address { address: Some(core::address::Address::Pipe(pipe)) };
    let message = pb::Listener { address: Some(address), ..listener() };
    let running = world.start(&message);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = within(UnixStream::connect(&path)).await.unwrap();
    let mut told = [0; 512];
    let n = within(stream.read(&mut told)).await.unwrap();
    let told = String::from_utf8_lossy(&told[..n]).into_owned();
    assert!(told.contains(&format!("local={0} remote={0} ", path.display())), "{told}");
    // A live one is not taken away.
    let plan = world.plan(&message).unwrap();
    assert!(Listener::bind(plan, 1, world.global.clone()).is_err());
    drop(running);
}

#[tokio::test]
async fn limits_close_what_is_too_many() {
    let world = World::new();
    world.runtime.set("envoy.resource_limits.listener.l.connection_limit", "1");
    let running = world.start(&listener());
    let mut first = Peer::connect(socket(&running)).await;
    line(&mut first).await;
    let (got, _) = Peer::connect(socket(&running)).await.receive_to_end().await;
    assert!(got.is_empty());
    world.expect_counter("listener.l.downstream_cx_overflow", 1).await;
    world.runtime.set("envoy.resource_limits.listener.l.connection_limit", "9");
    world.runtime.set("overload.global_downstream_max_connections", "1");
    let (got, _) = Peer::connect(socket(&running)).await.receive_to_end().await;
    assert!(got.is_empty());
    world.expect_counter("listener.l.downstream_global_cx_overflow", 1).await;
    drop(first);
    eventually("there is room again", || running.connections() == 0).await;
    line(&mut Peer::connect(socket(&running)).await).await;
}

#[tokio::test]
async fn no_chain_and_the_default_chain() {
    let world = World::new();
    let mut only_tls = chain("tls");
    only_tls.filter_chain_match = Some(pb::FilterChainMatch { transport_protocol: "tls".into(), ..Default::default() });
    let message = pb::Listener { filter_chains: vec![only_tls], ..listener() };
    let running = world.start(&message);
    Peer::connect(socket(&running)).await.expect_fin().await;
    world.expect_counter("listener.l.no_filter_chain_match", 1).await;
    assert_eq!(world.logged(1).await, ["NR filter_chain_not_found - -"]);
    assert_eq!(world.counter("listener.l.downstream_cx_total"), 0);
    let running = world.start(&pb::Listener { default_filter_chain: Some(chain("rest")), ..message });
    assert!(line(&mut Peer::connect(socket(&running)).await).await.contains("chain=rest"));
}

#[tokio::test]
async fn a_network_filter_refuses() {
    let world = World::new();
    let running = world.start(&pb::Listener { filter_chains: vec![chain("refuse")], ..listener() });
    Peer::connect(socket(&running)).await.expect_fin().await;
    assert_eq!(world.logged(1).await, ["RL - refused by a test -"]);
    world.expect_counter("listener.l.downstream_cx_destroy", 1).await;
}

#[tokio::test]
async fn transport_sockets_are_bounded_in_time() {
    let world = World::new();
    let mut bang = chain("bang");
    bang.transport_socket = Some(core::TransportSocket::default());
    let running = world.start(&pb::Listener { filter_chains: vec![bang.clone()], ..listener() });
    let mut peer = Peer::connect(socket(&running)).await;
    peer.send("!").await;
    assert!(line(&mut peer).await.contains("chain=bang"));
    let mut peer = Peer::connect(socket(&running)).await;
    peer.send("?").await;
    peer.expect_fin().await;
    assert_eq!(world.logged(1).await, ["- - - no bang"]);
    bang.transport_socket_connect_timeout = Some(ProtoDuration { seconds: 0, nanos: 100_000_000 });
    let running = world.start(&pb::Listener { filter_chains: vec![bang], ..listener() });
    Peer::connect(socket(&running)).await.expect_fin().await;
    world.expect_counter("listener.l.downstream_cx_transport_socket_connect_timeout", 1).await;
    world.logged(2).await;
}

fn with_proxy_protocol(change: impl FnOnce(&mut proxy_pb::ProxyProtocol)) -> pb::Listener {
    let pair = proxy_pb::proxy_protocol::KeyValuePair {
        metadata_namespace: "tlv".into(),
        key: "key".into(),
        ..Default::default()
    };
    let rule = proxy_pb::proxy_protocol::Rule { tlv_type: 0xe0, on_tlv_present: Some(pair) };
    let mut message = proxy_pb::ProxyProtocol { rules: vec![rule], ..Default::default() };
    change(&mut message);
    pb::Listener { listener_filters: vec![filter(&message)], ..listener() }
}

#[tokio::test]
async fn proxy_protocol_gives_addresses_and_metadata_byte_by_byte() {
    let world = World::new();
    let running = world.start(&with_proxy_protocol(|_| {}));
    let mut v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x50\xe0\0\x03a\xffc".to_vec();
    v2.extend(b"payload");
    let v1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\npayload".to_vec();
    for (bytes, tlv) in [(v2, "a!c"), (v1, "-")] {
        let mut peer = Peer::connect(socket(&running)).await;
        let own = peer.stream().local_addr().unwrap();
        for byte in bytes {
            peer.send([byte]).await;
            tokio::task::yield_now().await;
        }
        let told = line(&mut peer).await;
        let expected = format!("local=5.6.7.8:80 remote=1.2.3.4:9 paced=false direct={own} alpn=[] tlv={tlv}\n");
        assert!(told.ends_with(&expected), "{told}");
        peer.expect("payload").await;
    }
    world.expect_counter("proxy_proto.versions.v1.found", 1).await;
    world.expect_counter("proxy_proto.versions.v2.found", 1).await;
    world.expect_gauge("listener.l.downstream_pre_cx_active", 0).await;
}

#[tokio::test]
async fn proxy_protocol_that_is_missing_or_wrong_closes() {
    let world = World::new();
    let running = world.start(&with_proxy_protocol(|_| {}));
    for (bytes, counter) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "proxy_proto.not_found_disallowed"),
        (b"PROXY TCP4 a b c d\r\n", "proxy_proto.versions.v1.error"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", "proxy_proto.versions.v2.error"),
    ] {
        let mut peer = Peer::connect(socket(&running)).await;
        peer.send(bytes).await;
        let (got, _) = peer.receive_to_end().await;
        assert!(got.is_empty());
        world.expect_counter(counter, 1).await;
    }
    world.expect_counter("listener.l.downstream_listener_filter_error", 3).await;
    world.expect_counter("downstream_cx_proxy_proto_error", 3).await;
    let mut peer = Peer::connect(socket(&running)).await;
    peer.half_close().await;
    peer.expect_fin().await;
    world.expect_counter("listener.l.downstream_listener_filter_remote_close", 1).await;
    assert_eq!(world.counter("listener.l.downstream_cx_total"), 0);
}

#[tokio::test]
async fn proxy_protocol_may_be_optional_or_of_one_version() {
    let world = World::new();
    let optional = world.start(&with_proxy_protocol(|message| {
        message.allow_requests_without_proxy_protocol = true;
        message.disallowed_versions = vec![core::proxy_protocol_config::Version::V1 as i32];
        message.stat_prefix = "o".into();
    }));
    for bytes in ["hello", "PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\n"] {
        let mut peer = Peer::connect(socket(&optional)).await;
        peer.send(bytes).await;
        assert!(line(&mut peer).await.contains("remote=127.0.0.1"));
        peer.expect(bytes).await;
    }
    world.expect_counter("proxy_proto.o.not_found_allowed", 2).await;
    let strict = world.start(&with_proxy_protocol(|message| {
        message.disallowed_versions = vec![core::proxy_protocol_config::Version::V1 as i32];
    }));
    let mut peer = Peer::connect(socket(&strict)).await;
    peer.send("PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\n").await;
    assert!(peer.receive_to_end().await.0.is_empty());
    world.expect_counter("proxy_proto.versions.v1.disallowed", 1).await;
}

#[tokio::test]
async fn the_http_inspector_offers_what_it_found() {
    let world = World::new();
    let mut h1 = chain("h1");
    h1.filter_chain_match =
        Some(pb::FilterChainMatch { application_protocols: vec!["http/1.1".into()], ..Default::default() });
    let running = world.start(&pb::Listener {
        listener_filters: vec![filter(&HttpInspector {})],
        filter_chains: vec![h1],
        default_filter_chain: Some(chain("other")),
        ..listener()
    });
    for (bytes, chain) in
        [("GET / HTTP/1.1\r\n", "h1"), ("\u{16}\u{3}", "other"), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "other")]
    {
        let mut peer = Peer::connect(socket(&running)).await;
        peer.send(bytes).await;
        assert!(line(&mut peer).await.contains(&format!("chain={chain}")));
        peer.expect(bytes).await;
    }
    world.expect_counter("http_inspector.http11_found", 1).await;
    world.expect_counter("http_inspector.http2_found", 1).await;
    world.expect_counter("http_inspector.http_not_found", 1).await;
}

#[tokio::test]
async fn listener_filters_are_bounded_in_time() {
    let world = World::new();
    let message = pb::Listener {
        listener_filters: vec![filter(&HttpInspector {})],
        listener_filters_timeout: Some(ProtoDuration { seconds: 0, nanos: 100_000_000 }),
        ..listener()
    };
    let running = world.start(&message);
    Peer::connect(socket(&running)).await.expect_fin().await;
    world.expect_counter("listener.l.downstream_pre_cx_timeout", 1).await;
    let running = world.start(&pb::Listener { continue_on_listener_filters_timeout: true, ..message });
    let mut peer = Peer::connect(socket(&running)).await;
    peer.send("GET").await;
    line(&mut peer).await;
    peer.expect("GET").await;
}

#[tokio::test]
async fn closing_ends_connections_in_every_phase() {
    let world = World::new();
    let message = pb::Listener {
        listener_filters: vec![filter(&HttpInspector {})],
        listener_filters_timeout: seconds(0),
        ..listener()
    };
    let running = world.start(&message);
    let mut waiting = Peer::connect(socket(&running)).await;
    let mut served = Peer::connect(socket(&running)).await;
    served.send("GET / HTTP/1.1\r\n").await;
    line(&mut served).await;
    eventually("both are there", || running.connections() == 2).await;
    running.close_connections();
    waiting.expect_fin().await;
    let _ = served.receive_to_end().await;
    eventually("all are gone", || running.connections() == 0).await;
}

#[tokio::test]
async fn a_stopped_listener_refuses_and_its_connections_live_on() {
    let world = World::new();
    let running = world.start(&pb::Listener { address: own(4, 0), ..listener() });
    let mut peer = Peer::connect(socket(&running)).await;
    line(&mut peer).await;
    running.stop_accepting();
    eventually("nobody listens", || std::net::TcpListener::bind(socket(&running)).is_ok()).await;
    peer.send("still").await;
    peer.expect("still").await;
}

#[tokio::test]
async fn internal_connections_take_the_same_path() {
    let world = World::new();
    let specifier = pb::listener::ListenerSpecifier::InternalListener(Default::default());
    let message = pb::Listener {
        name: "inner".into(),
        listener_specifier: Some(specifier),
        filter_chains: vec![chain("main")],
        ..Default::default()
    };
    let bound = world.bind(&message);
    assert_eq!(bound.addresses()[0].to_string(), "envoy://inner/");
    let worker = world.workers.get(1).unwrap();
    let started = bound.start(worker, &world.env(1)).unwrap();
    let (near, far) = adit_internal::pair(adit_internal::Limits::default());
    let local = Address::Internal { listener: "inner".into(), endpoint_id: "x".into() };
    let info = ConnInfo::new(ConnInfo::next_id(), local, Address::internal_client());
    let far = Io::new(Stream::Other(Box::new(far)), std::sync::Arc::new(info));
    started.accept(far).map_err(|_| ()).unwrap();
    let mut near = near;
    let mut told = [0; 512];
    let n = within(near.read(&mut told)).await.unwrap();
    let told = String::from_utf8_lossy(&told[..n]).into_owned();
    assert!(
        told.contains("worker=1 chain=main local=envoy://inner/x remote=envoy://internal_client_address/"),
        "{told}"
    );
    world.expect_counter("listener.envoy_internal_inner.downstream_cx_total", 1).await;
    bound.stop_accepting();
    let (_near, far) = adit_internal::pair(adit_internal::Limits::default());
    let info = ConnInfo::new(1, Address::internal_client(), Address::internal_client());
    assert!(started.accept(Io::new(Stream::Other(Box::new(far)), std::sync::Arc::new(info))).is_err());
    near.shutdown().await.unwrap();
}

#[tokio::test]
async fn messages_that_ask_for_what_is_not_there_are_refused() {
    let world = World::new();
    let bad = pb::Listener {
        address: Some(address("localhost", 1)),
        bind_to_port: Some(false),
        use_original_dst: Some(true),
        filter_chains: vec![pb::FilterChain {
            filter_chain_match: Some(pb::FilterChainMatch { destination_port: Some(70_000), ..Default::default() }),
            ..chain("main")
        }],
        listener_filters: vec![filter(&pb::Filter::default())],
        ..listener()
    };
    let problems = world.plan(&bad).err().unwrap();
    let mut paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    paths.sort_unstable();
    let expected = [
        "l.address.socket_address.address",
        "l.bind_to_port",
        "l.filter_chains[0].filter_chain_match.destination_port",
        "l.listener_filters[0].typed_config",
        "l.use_original_dst",
    ];
    assert_eq!(paths, expected, "{problems:?}");
    let problems = world.plan(&pb::Listener { filter_chains: Vec::new(), ..listener() }).err().unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].to_string(), "l.filter_chains: no filter chains specified");
}

#[tokio::test]
async fn a_flood_of_connections_that_leave_at_once_does_no_harm() {
    let world = World::new();
    let running = world.start(&pb::Listener { max_connections_to_accept_per_socket_event: Some(1), ..listener() });
    for _ in 0..200 {
        drop(TcpStream::connect(socket(&running)).await.unwrap());
    }
    line(&mut Peer::connect(socket(&running)).await).await;
    eventually("all are gone", || running.connections() == 0).await;
    world.expect_counter("listener.l.downstream_cx_total", 201).await;
}
