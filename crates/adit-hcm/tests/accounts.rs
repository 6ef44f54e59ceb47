//! What is counted while a connection and its requests live is counted out again, however they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use adit_access_log::{SinkOptions, Sinks};
use adit_config::Path;
use adit_config::proto::envoy::config::route::v3::RouteConfiguration;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use adit_filter::upstream::{Cluster, Clusters};
use adit_filter::{
    BoxFuture, ChainEntry, Connection, FilterChain, HttpFilter, HttpFilterFactory, HttpStream, HttpTerminal, Lifecycle,
    ListenerInfo, NetworkTerminal, Route, RouteTable, RuntimeValues, Spawn, StandingTunnel, StreamInfo, TunnelStream,
    Verdict, WorkerEnv,
};
use adit_hcm::{Hcm, HcmContext};
use adit_http::{RequestHead, ResponseHead};
use adit_io::{Address, ConnInfo, Io, Side};
use adit_stats::Store;
use adit_testkit::{Peer, eventually, tcp_pair, within};

struct Nothing;

impl Clusters for Nothing {
    fn get(&self, _name: &str) -> Option<Arc<dyn Cluster>> {
        None
    }
}

impl Spawn for Nothing {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

impl Lifecycle for Nothing {
    fn should_drain(&self) -> bool {
        false
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl RouteTable for Nothing {
    fn find(&self, _head: &RequestHead, _info: &StreamInfo, _random: u64) -> Option<Arc<dyn Route>> {
        None
    }
}

/// Never answers.
impl HttpTerminal for Nothing {
    fn serve<'a>(&'a self, _stream: &'a mut HttpStream) -> BoxFuture<'a, Option<Box<dyn StandingTunnel>>> {
        Box::pin(std::future::pending())
    }
}

/// Accepts an upgrade, and then reads until its end.
struct Accepts;

impl HttpTerminal for Accepts {
    fn serve<'a>(&'a self, stream: &'a mut HttpStream) -> BoxFuture<'a, Option<Box<dyn StandingTunnel>>> {
        Box::pin(async move {
            let mut head = ResponseHead::new(http::StatusCode::SWITCHING_PROTOCOLS);
            head.headers.insert("connection", "upgrade".parse().unwrap());
            head.headers.insert("upgrade", "websocket".parse().unwrap());
            let recv = stream.recv.take()?;
            let send = stream.respond(head, false, tokio::time::Instant::now()).ok()?;
            stream.tunnel_established();
            Some(Box::new(Reads(adit_codec::tunnel_side(recv, send).await)) as Box<dyn StandingTunnel>)
        })
    }
}

struct Reads(Side);

impl StandingTunnel for Reads {
    fn poll_relay(&mut self, cx: &mut Context<'_>, stream: &mut TunnelStream) -> Poll<()> {
        while ready!(self.0.source.poll_chunk(cx, 1024)).is_some() {}
        let _ = self.0.sink.poll_send(cx, &mut bytes::Bytes::new(), true);
        stream.set_over();
        Poll::Ready(())
    }
}

impl adit_h2::CodecStats for Nothing {
    fn count(&self, _counter: adit_h2::Counter) {}
    fn gauge(&self, _gauge: adit_h2::Gauge, _delta: i64) {}
}

impl adit_h3::CodecStats for Nothing {
    fn count(&self, _counter: adit_h3::Counter) {}
    fn gauge(&self, _gauge: adit_h3::Gauge, _delta: i64) {}
}

fn manager(store: &Store) -> Arc<Hcm> {
    manager_with(store, &Vec::new, Arc::new(Nothing))
}

fn manager_with(store: &Store, entries: &dyn Fn() -> Vec<ChainEntry>, terminal: Arc<dyn HttpTerminal>) -> Arc<Hcm> {
    use pb::http_connection_manager::{RouteSpecifier, UpgradeConfig};
    let message = pb::HttpConnectionManager {
        stat_prefix: "h".into(),
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration::default())),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..UpgradeConfig::default() }],
        ..pb::HttpConnectionManager::default()
    };
    let context = HcmContext {
        stats: &store.root(),
        listener_stats: &store.root().scope("listener"),
        sinks: &Sinks::new(SinkOptions::default(), &store.root(), RuntimeValues::default()),
        routes: &|_, _| Ok(Arc::new(Nothing)),
        chain: &|_, _| Ok(FilterChain { entries: entries(), terminal: terminal.clone() }),
        service_cluster: "",
        quic: false,
        http3_stats: Arc::new(Nothing),
        http2_stats: Arc::new(Nothing),
    };
    Hcm::from_proto(&message, &context, &Path::default()).unwrap()
}

async fn connection() -> (Connection, Peer) {
    connection_of(false).await
}

/// Of a listener that logs, or does not.
async fn connection_of(logs: bool) -> (Connection, Peer) {
    let (ours, theirs) = tcp_pair().await;
    let info = ConnInfo::new(1, Address::Ip(ours.local_addr().unwrap()), Address::Ip(ours.peer_addr().unwrap()));
    let connection = Connection {
        io: Io::tcp(ours, Arc::new(info)),
        listener: Arc::new(ListenerInfo {
            name: "l".into(),
            stats_address: "l".into(),
            buffer_limit: 1 << 20,
            direction: "UNSPECIFIED",
            kind: "tcp",
            logs,
        }),
        filter_chain_name: None,
        worker: Arc::new(WorkerEnv {
            index: 0,
            clusters: Arc::new(Nothing),
            spawn: Arc::new(Nothing),
            lifecycle: Arc::new(Nothing),
            runtime: RuntimeValues::default(),
        }),
        guards: Vec::new(),
    };
    (connection, Peer::new(theirs))
}

#[tokio::test]
async fn gauges_go_back_when_the_future_of_a_connection_is_dropped_in_the_middle_of_a_request() {
    let gauges = ["cx_active", "cx_http1_active", "rq_active", "cx_upgrades_active"];
    for (request, expected) in [
        ("", [1, 0, 0, 0]),
        ("GET / HTTP/1.1\r\n", [1, 1, 0, 0]),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", [1, 1, 1, 0]),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc", [1, 1, 1, 0]),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", [1, 1, 1, 1]),
    ] {
        let store = Store::new(1);
        let scope = store.root().http("h");
        let values = || gauges.map(|name| scope.gauge(&format!("downstream_{name}")).value());
        let (connection, mut peer) = connection().await;
        peer.send(request).await;
        let task = tokio::spawn(manager(&store).serve(connection));
        eventually("counted", || values() == expected).await;
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(values(), [0; 4], "{request}");
        assert_eq!(scope.counter("downstream_cx_destroy").value(), 1, "{request}");
    }
}

/// A tunnel lives for hours: what only the listener's log would read of its connection goes when it stands, and what is
/// counted at its end is the same.
#[tokio::test]
async fn a_tunnel_forgets_its_connection_where_no_listener_logs_it() {
    for logs in [false, true] {
        let store = Store::new(1);
        let (connection, mut peer) = connection_of(logs).await;
        let facts = connection.io.info.clone();
        let task = tokio::spawn(manager_with(&store, &Vec::new, Arc::new(Accepts)).serve(connection));
        peer.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        peer.receive_until(b"\r\n\r\n").await;
        if logs {
            peer.send("hello").await;
        } else {
            eventually("forgotten", || Arc::strong_count(&facts) == 1).await;
        }
        let scope = store.root().http("h");
        let active = || ["cx", "cx_http1", "rq", "cx_upgrades"].map(|name| format!("downstream_{name}_active"));
        assert_eq!(active().map(|name| scope.gauge(&name).value()), [1; 4], "{logs}");
        peer.half_close().await;
        let info = within(task).await.unwrap();
        assert_eq!(info.map(|info| (info.conn.id, info.listener_name)), logs.then(|| (1, Some("l".into()))));
        assert_eq!(active().map(|name| scope.gauge(&name).value()), [0; 4], "{logs}");
        for (name, value) in [("total", 1), ("destroy", 1), ("destroy_local", 1), ("destroy_remote", 0)] {
            assert_eq!(scope.counter(&format!("downstream_cx_{name}")).value(), value, "{name} {logs}");
        }
        store.latch_histograms();
        assert_eq!(scope.histogram("downstream_cx_length_ms").count(), 1);
    }
}

/// A connection's place is free once the connection is counted out.
#[tokio::test]
async fn a_guard_of_a_connection_goes_behind_its_account() {
    struct Guard(adit_stats::Gauge, Arc<AtomicU64>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.1.store(self.0.value(), Ordering::SeqCst);
        }
    }

    // A codec that served, and one that never came to be.
    for request in ["GET / HTTP/1.1\r\nhost: a\r\n", ""] {
        let store = Store::new(1);
        let (mut connection, mut peer) = connection().await;
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let active = store.root().http("h").gauge("downstream_cx_active");
        connection.guards.push(Box::new(Guard(active, left.clone())));
        peer.send(request).await;
        drop(peer);
        within(manager(&store).serve(connection)).await;
        assert_eq!(left.load(Ordering::SeqCst), 0, "{request}");
    }
}

#[tokio::test]
async fn a_connection_that_a_filter_refused_has_had_a_length() {
    let store = Store::new(1);
    let (connection, _peer) = connection().await;
    manager(&store).refused(&mut connection.stream_info());
    store.latch_histograms();
    assert_eq!(store.root().http("h").histogram("downstream_cx_length_ms").count(), 1);
}

/// Says a verdict to the request, and its name in the answer.
struct Named(&'static str, fn() -> Verdict);

impl HttpFilterFactory for Named {
    fn create(&self, _: Option<&Arc<dyn std::any::Any + Send + Sync>>) -> Option<Box<dyn HttpFilter>> {
        Some(Box::new(Named(self.0, self.1)))
    }
}

impl HttpFilter for Named {
    fn on_request(&mut self, _: &mut HttpStream, _: bool) -> Verdict {
        (self.1)()
    }

    fn on_response(&mut self, head: &mut ResponseHead, _: &mut StreamInfo) {
        head.headers.insert(self.0, "seen".parse().unwrap());
    }
}

/// A body that breaks the protocol is answered through every filter: those that saw the request, the one that held it, and
/// those behind.
#[tokio::test]
async fn the_answer_to_a_broken_body_passes_through_the_whole_chain() {
    fn entry(name: &'static str, verdict: fn() -> Verdict) -> ChainEntry {
        ChainEntry { name: name.into(), disabled: false, factory: Arc::new(Named(name, verdict)) }
    }
    let entries = || {
        let passes = || Verdict::Continue;
        vec![entry("x-before", passes), entry("x-held", || Verdict::Buffer(100)), entry("x-behind", passes)]
    };
    let (connection, mut peer) = connection().await;
    let task = tokio::spawn(manager_with(&Store::new(1), &entries, Arc::new(Nothing)).serve(connection));
    peer.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnone\r\n").await;
    let head = String::from_utf8(peer.receive_until(b"\r\n\r\n").await).unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    for name in ["x-before: seen", "x-held: seen", "x-behind: seen"] {
        assert!(head.contains(name), "{name}: {head}");
    }
    task.abort();
}
