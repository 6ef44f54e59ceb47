//! What is counted while a connection and its requests live is counted out again, however they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_access_log::{SinkOptions, Sinks};
use adit_config::Path;
use adit_config::proto::envoy::config::route::v3::RouteConfiguration;
use adit_config::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use adit_filter::upstream::{Cluster, Clusters};
use adit_filter::{
    BoxFuture, ChainEntry, Connection, FilterChain, HttpFilter, HttpFilterFactory, HttpStream, HttpTerminal, Lifecycle,
    ListenerInfo, NetworkTerminal, Route, RouteTable, RuntimeValues, Spawn, StandingTunnel, StreamInfo, Verdict,
    WorkerEnv,
};
use adit_hcm::{Hcm, HcmContext};
use adit_http::{RequestHead, ResponseHead};
use adit_io::{Address, ConnInfo, Io};
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

impl adit_h2::CodecStats for Nothing {
    fn count(&self, _counter: adit_h2::Counter) {}
    fn gauge(&self, _gauge: adit_h2::Gauge, _delta: i64) {}
}

impl adit_h3::CodecStats for Nothing {
    fn count(&self, _counter: adit_h3::Counter) {}
    fn gauge(&self, _gauge: adit_h3::Gauge, _delta: i64) {}
}

fn manager(store: &Store) -> Arc<Hcm> {
    manager_with(store, &Vec::new)
}

fn manager_with(store: &Store, entries: &dyn Fn() -> Vec<ChainEntry>) -> Arc<Hcm> {
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
        chain: &|_, _| Ok(FilterChain { entries: entries(), terminal: Arc::new(Nothing) }),
        service_cluster: "",
        quic: false,
        http3_stats: Arc::new(Nothing),
        http2_stats: Arc::new(Nothing),
    };
    Hcm::from_proto(&message, &context, &Path::default()).unwrap()
}

async fn connection() -> (Connection, Peer) {
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
    let task = tokio::spawn(manager_with(&Store::new(1), &entries).serve(connection));
    peer.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnone\r\n").await;
    let head = String::from_utf8(peer.receive_until(b"\r\n\r\n").await).unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    for name in ["x-before: seen", "x-held: seen", "x-behind: seen"] {
        assert!(head.contains(name), "{name}: {head}");
    }
    task.abort();
}
