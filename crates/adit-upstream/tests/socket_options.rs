//! `upstream_bind_config.socket_options`, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::UdpSocket;

use adit_config::proto::envoy::config::core::v3::socket_option::Value;
use adit_config::proto::envoy::config::core::v3::{BindConfig, SocketOption};
use adit_config::{LoadOptions, Path, Source, load};
use adit_filter::upstream::FailureKind;
use adit_stats::Store;
use adit_upstream::{ClusterPlan, NoTransports, PlanEnv};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use socket2::SockRef;
use support::{Wish, World, acquire, cluster, exchange, ok, origin, soon, until, world};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};

fn bind(options: &str) -> String {
    format!("upstream_bind_config: {{ socket_options: [{options}] }}")
}

const RENO: &str = "{ level: 6, name: 13, buf_value: cmVubw== }";
const UNKNOWN: &str = "{ level: 6, name: 13, buf_value: bm9zdWNo }";
const TOS: &str = "{ level: 0, name: 1, int_value: 8 }";

async fn connected(world: &World) -> adit_filter::upstream::TcpUpstream {
    soon(world.cluster("a").tcp(&Wish::default().need())).await.ok().unwrap()
}

#[tokio::test]
async fn options_are_in_force_before_the_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A segment size counts only if it is known before the SYN, which announces it.
    let options =
        format!("{RENO}, {TOS}, {{ level: 6, name: 2, int_value: 1000 }}, {{ level: 1, name: 7, int_value: 70000 }}");
    let world = world(&cluster("a", &[port], &bind(&options)));
    let upstream = connected(&world).await;
    let (accepted, _) = listener.accept().await.unwrap();
    let socket = SockRef::from(upstream.io.tcp_socket().unwrap().as_ref());
    assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
    assert_eq!(socket.tos_v4().unwrap(), 8);
    assert_eq!(socket.send_buffer_size().unwrap(), 140_000);
    assert!(SockRef::from(&accepted).tcp_mss().unwrap() <= 1000);
}

#[tokio::test]
async fn what_goes_to_loopback_is_not_paced_unless_the_configuration_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let default = SockRef::from(&listener).tcp_congestion().unwrap();
    let of = async |more: &str| {
        let world = world(&cluster("a", &[port], more));
        let upstream = connected(&world).await;
        SockRef::from(upstream.io.tcp_socket().unwrap().as_ref()).tcp_congestion().unwrap()
    };
    let paced = default.starts_with(b"bbr");
    assert_eq!(of("").await.starts_with(b"reno\0"), paced || default.starts_with(b"reno\0"));
    let name = default.split(|&octet| octet == 0).next().unwrap();
    let named = format!("{{ level: 6, name: 13, buf_value: {} }}", STANDARD.encode(name));
    assert_eq!(of(&bind(&named)).await, default);
}

/// Of what is for other states, types and versions nothing is set, as in Envoy.
#[tokio::test]
async fn only_what_is_for_such_a_socket_before_its_bind_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let others = [
        "state: STATE_BOUND",
        "state: STATE_LISTENING",
        "type: { datagram: {} }",
        "ip_version: SOCKET_IP_VERSION_IPV6",
    ];
    let options: Vec<String> =
        others.iter().map(|one| format!("{{ level: 0, name: 1, int_value: 8, {one} }}")).collect();
    let priority = "{ level: 1, name: 12, int_value: 3, type: { stream: {} }, ip_version: SOCKET_IP_VERSION_IPV4 }";
    let world = world(&cluster("a", &[port], &bind(&format!("{}, {priority}", options.join(", ")))));
    let upstream = connected(&world).await;
    let socket = SockRef::from(upstream.io.tcp_socket().unwrap().as_ref());
    assert_eq!((socket.tos_v4().unwrap(), socket.priority().unwrap()), (0, 3));
}

#[tokio::test]
async fn an_option_that_cannot_be_set_is_a_local_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = world(&cluster("a", &[port], &bind(UNKNOWN)));
    let failure = soon(world.cluster("a").tcp(&Wish::default().need())).await.err().unwrap();
    assert_eq!((failure.kind, &*failure.reason), (FailureKind::Local, ""));
    assert!(failure.host.is_some());
    let failure = soon(acquire(&world.cluster("a"))).await.err().unwrap();
    assert_eq!((failure.kind, &*failure.reason), (FailureKind::Local, ""));
    for (name, value) in [
        ("upstream_cx_connect_fail", 2),
        ("upstream_cx_destroy_local", 2),
        ("upstream_cx_destroy_remote", 0),
        ("upstream_rq_pending_failure_eject", 2),
        ("bind_errors", 0),
    ] {
        world.expect_counter(&format!("cluster.a.{name}"), value).await;
    }
    // Nothing was begun: the first that is accepted is this one.
    let own = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(soon(listener.accept()).await.unwrap().1, own.local_addr().unwrap());
}

#[tokio::test]
async fn a_source_that_cannot_be_bound_is_a_local_failure_that_says_so() {
    let more = "upstream_bind_config: { source_address: { address: 192.0.2.1, port_value: 0 } }";
    let world = world(&cluster("a", &[9], more));
    let failure = soon(world.cluster("a").tcp(&Wish::default().need())).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Local);
    assert_eq!(failure.reason, "failed to bind to 192.0.2.1:0: Cannot assign requested address");
    world.expect_counter("cluster.a.bind_errors", 1).await;
    world.expect_counter("cluster.a.upstream_cx_destroy_local", 1).await;
}

#[tokio::test]
async fn requests_and_datagrams_have_them_too() {
    let origin = origin(ok).await;
    let http = world(&cluster("a", &[origin.port], &bind(TOS)));
    soon(exchange(soon(acquire(&http.cluster("a"))).await.ok().unwrap(), "/")).await;
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let options = format!("{TOS}, {{ level: 1, name: 12, int_value: 3, type: {{ stream: {{}} }} }}");
    let udp = world(&cluster("a", &[port], &bind(&options)));
    let upstream = udp.cluster("a").udp(&Wish::default().need()).ok().unwrap();
    let socket = upstream.socket.unwrap();
    assert_eq!(socket.peer_addr().unwrap(), receiver.local_addr().unwrap());
    // The system takes a priority from the TOS; what is for streams is not set.
    assert_eq!((SockRef::from(&socket).tos_v4().unwrap(), SockRef::from(&socket).priority().unwrap()), (8, 2));
    // Nothing of TCP can be set on a socket of UDP.
    let udp = world(&cluster("a", &[port], &bind(RENO)));
    let error = udp.cluster("a").udp(&Wish::default().need()).ok().unwrap().socket.unwrap_err();
    assert_eq!(error.to_string(), "socket option level 6 name 13: Protocol not available");
}

/// Unix sockets take none, as in Envoy.
#[tokio::test]
async fn unix_sockets_have_none() {
    let directory = std::env::temp_dir().join(format!("adit-socket-options-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let yaml = cluster("a", &[9], &bind(UNKNOWN));
    let pipe = format!("pipe: {{ path: {} }}", path.display());
    let yaml = yaml.replace("socket_address: { address: 127.0.0.1, port_value: 9 }", &pipe);
    let world = world(&yaml);
    let upstream = connected(&world).await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    drop(upstream);
    until("it is given back", || world.gauge("cluster.a.upstream_cx_active") == 0).await;
    assert_eq!(soon(accepted.read(&mut [0; 8])).await.unwrap(), 0);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn manager(name: i64) -> BindConfig {
    let option = SocketOption { level: 0, name, value: Some(Value::IntValue(16)), ..SocketOption::default() };
    BindConfig { socket_options: vec![option], ..BindConfig::default() }
}

fn lowered(more: &str, bind: &BindConfig) -> Result<std::sync::Arc<ClusterPlan>, String> {
    let text = cluster("a", &[9], more).lines().map(|line| format!("  {line}\n")).collect::<String>();
    let text = format!("static_resources:\n  clusters:\n{text}");
    let loaded =
        load(&[Source::new("test.yaml", &text)], &LoadOptions::default()).map_err(|error| error.to_string())?;
    let store = Store::new(1);
    let at = Path::from("cluster_manager.upstream_bind_config");
    let env = PlanEnv { scope: &store.root(), transports: &NoTransports, bind: Some((bind, &at)) };
    let message = &loaded.bootstrap.static_resources.unwrap().clusters[0];
    let plan = ClusterPlan::from_proto(message, &Path::from("c"), &env);
    plan.map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_clusters_own_replace_the_managers_as_a_whole() {
    let inherited = lowered("", &manager(1)).unwrap();
    assert!(!inherited.dial.options.is_empty());
    let own = lowered(&bind(TOS), &manager(1)).unwrap();
    assert!(!own.dial.options.is_empty() && own.dial.options != inherited.dial.options);
    let source = "upstream_bind_config: { source_address: { address: 127.0.0.2, port_value: 0 } }";
    assert!(lowered(source, &manager(1)).unwrap().dial.options.is_empty());
    assert!(lowered("upstream_bind_config: {}", &manager(1)).unwrap().dial.options.is_empty());
}

#[test]
fn refusals_say_where() {
    let expected =
        "cluster_manager.upstream_bind_config.socket_options[0].name: socket option level 0 name 4711 is not supported";
    assert_eq!(lowered("", &manager(4711)).err().unwrap(), expected);
    let expected = "c.upstream_bind_config.socket_options[0].int_value: -1 is out of range";
    assert_eq!(lowered(&bind("{ level: 0, name: 1, int_value: -1 }"), &manager(1)).err().unwrap(), expected);
    let missing = lowered(&bind("{ level: 0, name: 1 }"), &manager(1)).err().unwrap();
    let at = "line 5: static_resources.clusters[0].upstream_bind_config.socket_options[0]";
    assert!(missing.contains(at) && missing.contains("is required"), "{missing}");
}
