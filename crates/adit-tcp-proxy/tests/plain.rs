//! Plain TCP: fidelity, attempts, timers, logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_config::proto::envoy::config::core::v3::BackoffStrategy;
use adit_config::proto::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use adit_config::proto::envoy::r#type::v3::{HashPolicy, hash_policy};
use adit_filter::NetworkTerminal;
use adit_filter::upstream::{FailureKind, Report};
use adit_io::{ConnInfo, FilterValue, Io, RefusalSlot, Stream};
use adit_runtime::{Begin, DrainReason, DrainStrategy};
use adit_testkit::{End, Peer, eventually, within};
use common::{Attempt, World, message, waiting_client};
use http::StatusCode;
use pb::UpstreamConnectMode;
use pb::tcp_proxy::TcpAccessLogOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn millis(millis: u64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: (millis / 1000).try_into().unwrap(),
        nanos: (millis % 1000 * 1_000_000).try_into().unwrap(),
    })
}

#[tokio::test]
async fn bytes_flow_and_are_counted_while_the_connection_lives() {
    let world = World::new(&message());
    let (mut client, mut upstream, served) = world.connected().await;
    client.send("hello").await;
    upstream.expect("hello").await;
    upstream.send("worlds").await;
    client.expect("worlds").await;
    eventually("bytes are counted", || {
        (world.counter("tcp.t.downstream_cx_rx_bytes_total"), world.counter("tcp.t.downstream_cx_tx_bytes_total"))
            == (5, 6)
    })
    .await;
    assert_eq!(world.bytes(), (5, 6));
    assert_eq!(world.counter("tcp.t.downstream_cx_total"), 1);
    client.half_close().await;
    upstream.expect_fin().await;
    upstream.send("late").await;
    upstream.half_close().await;
    assert_eq!(client.receive_to_end().await, (b"late".to_vec(), End::Fin));
    let info = within(served).await.unwrap();
    assert_eq!((info.bytes_received, info.bytes_sent, info.response_code), (5, 10, 0));
    assert_eq!(world.lines(), ["TcpConnectionEnd - - up=192.0.2.9:99 attempts=1 rx=5 tx=10 why=-"]);
    assert!(world.cluster.guard_dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn ends_and_resets_cross_in_both_directions() {
    // The upstream ends first; the client's direction stays open.
    let world = World::new(&message());
    let (mut client, mut upstream, served) = world.connected().await;
    upstream.half_close().await;
    client.expect_fin().await;
    client.send("after").await;
    upstream.expect("after").await;
    client.half_close().await;
    upstream.expect_fin().await;
    assert_eq!(within(served).await.unwrap().downstream_close_type, Some("Normal"));

    let (mut client, mut upstream, served) = world.connected().await;
    client.send("x").await;
    upstream.expect("x").await;
    client.rst();
    upstream.expect_rst().await;
    let info = within(served).await.unwrap();
    assert_eq!(info.downstream_close_type, Some("RemoteReset"));
    assert_eq!(info.upstream.unwrap().close_type, Some("LocalReset"));

    let (mut client, mut upstream, served) = world.connected().await;
    client.send("x").await;
    upstream.expect("x").await;
    upstream.rst();
    client.expect_rst().await;
    let info = within(served).await.unwrap();
    assert_eq!(info.downstream_close_type, Some("LocalReset"));
    assert_eq!(info.flags.to_string(), "UR");
    assert_eq!(info.upstream.unwrap().close_type, Some("RemoteReset"));
}

#[tokio::test]
async fn the_idle_timeout_ends_both_sides() {
    let world = World::new(&pb::TcpProxy { idle_timeout: millis(1500), ..message() });
    let (mut client, mut upstream, served) = world.connected().await;
    client.expect_fin().await;
    upstream.expect_fin().await;
    let info = within(served).await.unwrap();
    assert_eq!(info.local_close_reason.as_deref(), Some("tcp_session_idle_timeout"));
    assert!(info.flags.is_empty());
    assert_eq!(world.counter("tcp.t.idle_timeout"), 1);
    // One connection may have its own.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.then(Attempt::Dial(listener.local_addr().unwrap()));
    let key = "envoy.tcp_proxy.per_connection_idle_timeout_ms";
    let (mut client, _served) = world.client_with(&[(key, FilterValue::Number(0))]).await;
    let _upstream = Peer::accept(&listener).await;
    client.expect_silence(Duration::from_millis(2000)).await;
}

#[tokio::test]
async fn the_idle_timer_covers_connecting() {
    let world = World::new(&pb::TcpProxy { idle_timeout: millis(100), ..message() });
    world.then(Attempt::Hang);
    let (mut client, served) = world.client().await;
    client.expect_fin().await;
    within(served).await.unwrap();
    assert!(world.cluster.given_up.load(Ordering::SeqCst));
    assert_eq!(world.counter("tcp.t.idle_timeout"), 1);
    assert!(world.lines()[0].contains("tcp_session_idle_timeout"), "{:?}", world.lines());
}

#[tokio::test]
async fn the_longest_duration_ends_busy_connections() {
    let limited = pb::TcpProxy { max_downstream_connection_duration: millis(1500), ..message() };
    let world = World::new(&limited);
    let (mut client, mut upstream, served) = world.connected().await;
    for _ in 0..5 {
        client.send("x").await;
        upstream.expect("x").await;
    }
    client.expect_fin().await;
    upstream.expect_fin().await;
    let info = within(served).await.unwrap();
    assert_eq!(info.flags.to_string(), "DT");
    assert_eq!(world.counter("tcp.t.max_downstream_connection_duration"), 1);
}

#[tokio::test]
async fn every_attempt_failed() {
    let world = World::new(&pb::TcpProxy { max_connect_attempts: Some(3), ..message() });
    for kind in [FailureKind::Remote, FailureKind::Timeout, FailureKind::Local] {
        world.then(Attempt::Fail(kind));
    }
    let (mut client, served) = world.client().await;
    client.expect_fin().await;
    within(served).await.unwrap();
    let expected = "TcpConnectionEnd UF,URX tcp_initializion_failure:0 up=192.0.2.9:99 attempts=3 rx=0 tx=0 \
                    why=local connection failure";
    assert_eq!(world.lines(), [expected]);
    assert_eq!(*world.cluster.reports.lock().unwrap(), [Report::ConnectAttemptsExceeded]);
}

#[tokio::test]
async fn the_last_attempt_succeeds() {
    let world = World::new(&pb::TcpProxy { max_connect_attempts: Some(2), ..message() });
    world.then(Attempt::Fail(FailureKind::Remote));
    let (mut client, mut upstream, served) = world.connected().await;
    client.send("x").await;
    upstream.expect("x").await;
    client.half_close().await;
    upstream.half_close().await;
    within(served).await.unwrap();
    assert!(world.lines()[0].starts_with("TcpConnectionEnd UF - up=192.0.2.9:99 attempts=2 rx=1"));
}

#[tokio::test]
async fn what_no_second_attempt_can_mend() {
    let cases = [
        (Attempt::Fail(FailureKind::NoHealthyHost), "UH tcp_initializion_failure:1"),
        (Attempt::Fail(FailureKind::Overflow), "UO tcp_initializion_failure:2"),
    ];
    for (attempt, expected) in cases {
        let world = World::new(&pb::TcpProxy { max_connect_attempts: Some(3), ..message() });
        world.then(attempt);
        let (mut client, served) = world.client().await;
        client.expect_fin().await;
        within(served).await.unwrap();
        assert!(world.lines()[0].contains(expected), "{:?}", world.lines());
        assert_eq!(world.cluster.asked.load(Ordering::SeqCst), 1);
    }
    let world = World::new(&message());
    world.clusters.0.lock().unwrap().clear();
    let (mut client, served) = world.client().await;
    client.expect_fin().await;
    within(served).await.unwrap();
    assert!(world.lines()[0].contains("NC tcp_initializion_failure:3"));
    assert_eq!(world.counter("tcp.t.downstream_cx_no_route"), 1);
}

#[tokio::test]
async fn a_refused_client_that_spoke_is_reset() {
    let world = World::new(&message());
    world.then(Attempt::Hang);
    let (mut client, served) = world.client().await;
    client.send("early").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.drain.close();
    client.expect_rst().await;
    within(served).await.unwrap();
}

#[tokio::test]
async fn the_cluster_is_told_whether_the_client_has_spoken() {
    for speaks in [false, true] {
        let world = World::new(&message());
        world.then(Attempt::Fail(FailureKind::Remote));
        let (mut client, io) = waiting_client().await;
        if speaks {
            client.send("x").await;
            eventually("it came", || io.has_unread()).await;
        }
        within(world.serve(io)).await.unwrap();
        assert_eq!(*world.cluster.spoken.lock().unwrap(), [speaks]);
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_from_the_base_to_the_limit() {
    let backoff = BackoffStrategy { base_interval: millis(1000), max_interval: millis(3000) };
    let world = World::new(&pb::TcpProxy {
        max_connect_attempts: Some(40),
        backoff_options: Some(backoff),
        idle_timeout: millis(0),
        ..message()
    });
    for _ in 0..40 {
        world.then(Attempt::Fail(FailureKind::Remote));
    }
    let (near, far) = adit_internal::pair(adit_internal::Limits::default());
    let info = ConnInfo::new(1, adit_io::Address::internal_client(), adit_io::Address::internal_client());
    let start = tokio::time::Instant::now();
    let served = world.serve(Io::new(Stream::Other(Box::new(far)), std::sync::Arc::new(info)));
    served.await.unwrap();
    let elapsed = start.elapsed();
    assert_eq!(world.cluster.asked.load(Ordering::SeqCst), 40);
    // 39 pauses, evenly spread below 1 s, 2 s, then 3 s.
    assert!((Duration::from_secs(20)..Duration::from_secs(100)).contains(&elapsed), "{elapsed:?}");
    drop(near);
}

#[tokio::test]
async fn a_client_that_resets_while_we_connect_is_noticed() {
    for speaks in [false, true] {
        let world = World::new(&message());
        world.then(Attempt::Hang);
        let (mut client, served) = world.client().await;
        if speaks {
            client.send("x").await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.rst();
        let info = within(served).await.unwrap();
        assert_eq!((info.flags.to_string().as_str(), info.downstream_close_type), ("DC", Some("RemoteReset")));
        assert!(world.cluster.given_up.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn a_half_close_before_the_upstream_stands_is_passed_on() {
    let world = World::new(&message());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.then(Attempt::Hang);
    let (mut client, served) = world.client().await;
    client.half_close().await;
    client.expect_silence(Duration::from_millis(100)).await;
    served.abort();
    world.then(Attempt::Dial(listener.local_addr().unwrap()));
    let (mut client, _served) = world.client().await;
    client.half_close().await;
    let mut upstream = Peer::accept(&listener).await;
    upstream.expect_fin().await;
    upstream.send("greeting").await;
    client.expect("greeting").await;
}

#[tokio::test]
async fn an_orderly_shutdown_ends_both_sides() {
    let world = World::new(&message());
    let (mut client, mut upstream, served) = world.connected().await;
    client.send("x").await;
    upstream.expect("x").await;
    world.drain.close();
    client.expect_fin().await;
    upstream.expect_fin().await;
    within(served).await.unwrap();
    assert_eq!(world.lines().len(), 1);
}

fn draining() -> Begin {
    Begin {
        reason: DrainReason::Admin,
        now: std::time::Instant::now(),
        drain_time: Duration::from_secs(600),
        strategy: DrainStrategy::Immediate,
    }
}

#[tokio::test]
async fn draining_spares_connections_unless_they_are_to_be_closed() {
    let world = World::new(&message());
    let (mut client, mut upstream, _served) = world.connected().await;
    world.drain.begin(draining());
    client.send("x").await;
    upstream.expect("x").await;
    upstream.send("y").await;
    client.expect("y").await;

    let world = World::new(&pb::TcpProxy { check_drain_close: Some(true), ..message() });
    let (mut client, mut upstream, served) = world.connected().await;
    client.send("x").await;
    upstream.expect("x").await;
    world.drain.begin(draining());
    client.expect_silence(Duration::from_millis(50)).await;
    client.send("y").await;
    let _ = upstream.receive_to_end().await;
    let _ = client.receive_to_end().await;
    within(served).await.unwrap();
    assert_eq!(world.counter("tcp.t.downstream_cx_drain_close"), 1);
}

#[tokio::test]
async fn lines_at_the_start_when_connected_and_at_intervals() {
    let options = TcpAccessLogOptions {
        access_log_flush_interval: millis(50),
        flush_access_log_on_connected: true,
        flush_access_log_on_start: true,
    };
    let world = World::new(&pb::TcpProxy { access_log_options: Some(options), ..message() });
    let (mut client, mut upstream, served) = world.connected().await;
    client.send("abc").await;
    upstream.expect("abc").await;
    // Others may come before the bytes do.
    let periodic = |line: &&String| line.starts_with("TcpPeriodic - - up=192.0.2.9:99 attempts=1 rx=3");
    eventually("two periodic lines", || world.lines().iter().filter(periodic).count() >= 2).await;
    client.half_close().await;
    upstream.half_close().await;
    within(served).await.unwrap();
    let lines = world.lines();
    assert!(lines[0].starts_with("TcpConnectionStart - - up=- attempts=0"), "{lines:?}");
    let connected = "TcpUpstreamConnected - - up=192.0.2.9:99 attempts=1 rx=0";
    assert_eq!(lines.iter().filter(|line| line.starts_with(connected)).count(), 1, "{lines:?}");
    assert!(lines.last().unwrap().starts_with("TcpConnectionEnd"), "{lines:?}");
}

#[tokio::test]
async fn a_connection_that_a_filter_closed_is_counted_and_logged() {
    use adit_filter::NetworkTerminal;
    let world = World::new(&message());
    let info = ConnInfo::new(1, adit_io::Address::internal_client(), adit_io::Address::internal_client());
    let mut info = adit_filter::StreamInfo::new(std::sync::Arc::new(info));
    world.proxy.refused(&mut info);
    assert_eq!(world.counter("tcp.t.downstream_cx_total"), 1);
    assert_eq!(world.lines(), ["TcpConnectionEnd - - up=- attempts=0 rx=0 tx=0 why=-"]);
}

#[tokio::test]
async fn the_upstream_waits_for_the_first_bytes_where_asked_to() {
    let lazy = pb::TcpProxy {
        upstream_connect_mode: UpstreamConnectMode::OnDownstreamData as i32,
        max_early_data_bytes: Some(4),
        ..message()
    };
    let world = World::new(&lazy);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.then(Attempt::Dial(listener.local_addr().unwrap()));
    let (mut client, _served) = world.client().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.cluster.asked.load(Ordering::SeqCst), 0);
    client.send("more than four").await;
    let mut upstream = Peer::accept(&listener).await;
    upstream.expect("more than four").await;
    assert_eq!(world.counter("tcp.t.early_data_received_count_total"), 1);
    // A client that leaves without a word needs no upstream.
    let (mut client, served) = world.client().await;
    client.half_close().await;
    client.expect_fin().await;
    within(served).await.unwrap();
    assert_eq!(world.cluster.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn filter_state_chooses_the_cluster_and_the_hash() {
    let policy = hash_policy::PolicySpecifier::FilterState(hash_policy::FilterState { key: "k".into() });
    let hashed = pb::TcpProxy {
        hash_policy: vec![HashPolicy { policy_specifier: Some(policy) }],
        cluster_specifier: Some(pb::tcp_proxy::ClusterSpecifier::Cluster("nowhere".into())),
        ..message()
    };
    let world = World::new(&hashed);
    for (value, count) in [("a", 1), ("a", 2), ("b", 3)] {
        world.then(Attempt::Fail(FailureKind::Remote));
        let state =
            [("envoy.tcp_proxy.cluster", FilterValue::Text("c".into())), ("k", FilterValue::Text(value.into()))];
        let (mut client, _served) = world.client_with(&state).await;
        client.expect_fin().await;
        assert_eq!(world.cluster.asked.load(Ordering::SeqCst), count);
    }
    let hashes = world.cluster.hashes.lock().unwrap().clone();
    // XXH64 with seed 0, as Envoy's.
    assert_eq!(hashes[0], Some(0xd24e_c4f1_a98c_6e5b));
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

#[tokio::test]
async fn a_refusal_is_passed_on_before_the_reset() {
    let world = World::new(&message());
    world.then(Attempt::Refusal(StatusCode::FORBIDDEN));
    let (mut near, far) = adit_internal::pair(adit_internal::Limits::default());
    let mut info = ConnInfo::new(1, adit_io::Address::internal_client(), adit_io::Address::internal_client());
    let slot = RefusalSlot::new();
    info.refusal = Some(slot.clone());
    let io = Io::new(Stream::Other(Box::new(far)), std::sync::Arc::new(info));
    let served = world.serve(io);
    let error = within(near.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let refusal = slot.get().unwrap();
    assert_eq!(refusal.status, Some(403));
    assert_eq!(adit_filter::ResponseFlags::from_bits(refusal.flags).to_string(), "UF,URX");
    within(served).await.unwrap();
}

/// An internal listener that had accepted may yet refuse. Who connected to us is told, whether a log is written or not.
#[tokio::test]
async fn a_refusal_behind_the_acceptance_is_passed_on() {
    for logs in [true, false] {
        let mut message = message();
        if !logs {
            message.access_log.clear();
        }
        let mut world = World::new(&message);
        std::sync::Arc::make_mut(&mut world.listener).logs = logs;
        let internal = || {
            let (near, far) = adit_internal::pair(adit_internal::Limits::default());
            let client = adit_io::Address::internal_client();
            let (mut info, slot) = (ConnInfo::new(1, client.clone(), client), RefusalSlot::new());
            info.refusal = Some(slot.clone());
            (near, Io::new(Stream::Other(Box::new(far)), std::sync::Arc::new(info)), slot)
        };
        let ((mut client, downstream, told), (mut upstream, io, tells)) = (internal(), internal());
        world.then(Attempt::Io(io));
        let served = tokio::spawn(world.proxy.clone().serve(world.connection(downstream)));
        client.write_all(b"x").await.unwrap();
        assert_eq!(within(upstream.read_u8()).await.unwrap(), b'x');
        let mut flags = adit_filter::ResponseFlags::default();
        flags.set(adit_filter::ResponseFlag::NoHealthyUpstream);
        tells.set(adit_io::Refusal { flags: flags.to_bits(), details: "late".into(), ..Default::default() });
        drop(upstream);
        let error = within(client.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(told.get().map(|refusal| refusal.details.to_string()), Some("late".into()));
        let info = within(served).await.unwrap();
        assert_eq!(info.map(|info| info.flags.to_string()), logs.then(|| "UH".into()));
        let line = "TcpConnectionEnd UH - up=192.0.2.9:99 attempts=1 rx=1 tx=0 why=late".to_owned();
        assert_eq!(world.lines(), if logs { vec![line] } else { Vec::new() });
        assert_eq!(world.counter("tcp.t.downstream_cx_rx_bytes_total"), 1);
    }
}

/// An upstream's transport that keeps its end back until it is told to let go, as TLS does with what it has not written.
struct Slow {
    inner: tokio::io::DuplexStream,
    lets_go: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl tokio::io::AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.lets_go.load(Ordering::SeqCst) {
            return Pin::new(&mut self.inner).poll_shutdown(cx);
        }
        let waker = cx.waker().clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            waker.wake();
        });
        Poll::Pending
    }
}

impl adit_io::Transport for Slow {
    fn abort(&mut self) {}

    fn into_halves(self: Box<Self>) -> (Box<dyn adit_io::ByteSource>, Box<dyn adit_io::ByteSink>) {
        adit_io::transport_halves(*self)
    }
}

#[tokio::test]
async fn a_client_that_is_gone_while_its_last_bytes_wait_is_counted() {
    for client_first in [false, true] {
        let world = World::new(&message());
        let (inner, mut upstream) = tokio::io::duplex(1 << 10);
        let lets_go = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let info = ConnInfo::new(1, adit_io::Address::internal_client(), adit_io::Address::internal_client());
        let slow = Slow { inner, lets_go: lets_go.clone() };
        world.then(Attempt::Io(Io::new(Stream::Other(Box::new(slow)), std::sync::Arc::new(info))));
        let (mut client, served) = world.client().await;
        client.send("last").await;
        let mut last = [0; 4];
        within(upstream.read_exact(&mut last)).await.unwrap();
        let active = || world.store.root().tcp("t").gauge("upstream_flush_active").value();
        if client_first {
            client.half_close().await;
        }
        within(upstream.shutdown()).await.unwrap();
        client.expect_fin().await;
        if !client_first {
            assert_eq!(active(), 0, "the client may still send");
            client.half_close().await;
        }
        eventually("counted", || active() == 1).await;
        lets_go.store(true, Ordering::SeqCst);
        within(served).await.unwrap();
        assert_eq!((active(), world.counter("tcp.t.upstream_flush_total")), (0, 1));
    }
}
