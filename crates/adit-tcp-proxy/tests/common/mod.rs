//! A TCP proxy between a client of the test's and a cluster of the test's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use adit_codec::conformance::memory;
use adit_codec::{ClientConn, IncomingStream, OutgoingStream};
use adit_config::proto::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use adit_config::proto::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use adit_config::{Diagnostic, Path};
use adit_filter::upstream::{
    Cluster, ClusterSettings, Clusters, ConnectFailure, FailureKind, Host, HostInfo, HttpUpstream, Lease, Need,
    Priority, Report, TcpUpstream,
};
use adit_filter::{
    AccessLog, BoxFuture, Connection, Lifecycle, ListenerInfo, LogContext, NetworkTerminal, RuntimeValues, Soon, Spawn,
    StreamInfo, WorkerEnv,
};
use adit_http::{RequestHead, StreamError};
use adit_io::{Address, ConnInfo, FilterValue, Io, Metadata};
use adit_runtime::Drain;
use adit_stats::{Scope, Store};
use adit_tcp_proxy::{Factories, TcpProxy};
use adit_testkit::{Peer, tcp_pair};
use http::{HeaderName, StatusCode, Version};
use pb::tcp_proxy::{ClusterSpecifier, TunnelingConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What one attempt meets.
pub enum Attempt {
    /// Connects to this address.
    Dial(SocketAddr),
    /// Fails so.
    Fail(FailureKind),
    /// Refused by an inner listener's upstream.
    Refusal(StatusCode),
    /// Never ends.
    Hang,
    /// This stream.
    Io(Io),
}

pub struct FakeHost {
    info: HostInfo,
    pub reports: Mutex<Vec<Report>>,
}

impl Host for FakeHost {
    fn info(&self) -> &HostInfo {
        &self.info
    }

    fn report(&self, report: Report) {
        self.reports.lock().unwrap().push(report);
    }
}

/// Set once it is dropped.
pub struct Flag(pub Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub struct FakeCluster {
    settings: ClusterSettings,
    pub attempts: Mutex<VecDeque<Attempt>>,
    pub asked: AtomicUsize,
    pub hashes: Mutex<Vec<Option<u64>>>,
    /// Of each attempt over TCP, whether bytes were said to be at hand.
    pub spoken: Mutex<Vec<bool>>,
    pub reports: Mutex<Vec<Report>>,
    pub host: Arc<FakeHost>,
    /// An attempt that hung was given up.
    pub given_up: Arc<AtomicBool>,
    pub guard_dropped: Arc<AtomicBool>,
    client: Arc<Mutex<Box<dyn ClientConn>>>,
}

impl FakeCluster {
    fn failure(&self, kind: FailureKind, refusal: Option<StatusCode>) -> ConnectFailure {
        let host: Arc<dyn Host> = self.host.clone();
        let host = (!matches!(kind, FailureKind::NoHealthyHost | FailureKind::Overflow)).then_some(host);
        ConnectFailure { kind, reason: kind.reset_reason().into(), host, refusal }
    }

    async fn meet(&self, hash: Option<u64>) -> Result<Option<Io>, ConnectFailure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.hashes.lock().unwrap().push(hash);
        let attempt = self.attempts.lock().unwrap().pop_front();
        match attempt {
            None => Ok(None),
            Some(Attempt::Dial(address)) => {
                let socket = TcpStream::connect(address).await.map_err(|_| self.failure(FailureKind::Remote, None))?;
                let info = ConnInfo::new(77, socket.local_addr().unwrap().into(), address.into());
                Ok(Some(Io::tcp(socket, Arc::new(info))))
            }
            Some(Attempt::Io(io)) => Ok(Some(io)),
            Some(Attempt::Fail(kind)) => Err(self.failure(kind, None)),
            Some(Attempt::Refusal(status)) => Err(self.failure(FailureKind::Remote, Some(status))),
            Some(Attempt::Hang) => {
                let _flag = Flag(self.given_up.clone());
                std::future::pending().await
            }
        }
    }
}

impl Cluster for FakeCluster {
    fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    fn tcp<'a>(&'a self, need: &'a Need<'a>) -> BoxFuture<'a, Result<TcpUpstream, ConnectFailure>> {
        Box::pin(async move {
            self.spoken.lock().unwrap().push(need.speaks_first);
            let io = self.meet(need.hash).await?.expect("an attempt");
            let guard = Box::new(Flag(self.guard_dropped.clone()));
            Ok(TcpUpstream { io, host: self.host.clone(), guard })
        })
    }

    fn http<'a>(&'a self, need: &Need<'_>) -> Soon<'a, Result<HttpUpstream, ConnectFailure>> {
        assert!(!need.wait, "a client would wait for another's tunnel to end");
        let hash = need.hash;
        Soon::Later(Box::pin(async move {
            self.meet(hash).await?;
            poll_fn(|cx| self.client.lock().unwrap().poll_ready(cx)).await.expect("ready");
            let conn = ConnInfo::new(78, Address::internal_client(), self.host.info.address.clone());
            Ok(HttpUpstream {
                lease: Box::new(MemoryLease { client: self.client.clone(), _guard: Flag(self.guard_dropped.clone()) }),
                host: self.host.clone(),
                version: Version::HTTP_2,
                conn: Arc::new(conn),
            })
        }))
    }

    fn retry_permit(&self, _priority: Priority) -> Option<Box<dyn Send>> {
        None
    }

    fn report(&self, report: Report) {
        self.reports.lock().unwrap().push(report);
    }
}

struct MemoryLease {
    client: Arc<Mutex<Box<dyn ClientConn>>>,
    _guard: Flag,
}

impl Lease for MemoryLease {
    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        self.client.lock().unwrap().open(head, end)
    }
}

/// By name.
pub struct FakeClusters(pub Mutex<HashMap<String, Arc<FakeCluster>>>);

impl Clusters for FakeClusters {
    fn get(&self, name: &str) -> Option<Arc<dyn Cluster>> {
        let found = self.0.lock().unwrap().get(name).cloned();
        found.map(|cluster| cluster as Arc<dyn Cluster>)
    }
}

pub struct TestLifecycle(pub Drain);

impl Lifecycle for TestLifecycle {
    fn should_drain(&self) -> bool {
        self.0.is_draining()
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.closing())
    }
}

impl Spawn for TestLifecycle {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
pub struct Lines(pub Arc<Mutex<Vec<String>>>);

impl AccessLog for Lines {
    fn log(&self, context: &LogContext<'_>) {
        let info = context.info;
        let upstream = info.upstream.clone().unwrap_or_default();
        let line = format!(
            "{} {} {} up={} attempts={} rx={} tx={} why={}",
            context.kind.as_str(),
            info.flags,
            info.local_close_reason.as_deref().unwrap_or("-"),
            upstream.host.map_or_else(|| "-".into(), |host| host.info().address.to_string()),
            upstream.attempts,
            info.bytes_received,
            info.bytes_sent,
            upstream.transport_failure.as_deref().unwrap_or("-"),
        );
        self.0.lock().unwrap().push(line);
    }

    fn request_fields(&self) -> &[HeaderName] {
        &[]
    }

    fn response_fields(&self) -> &[HeaderName] {
        &[]
    }
}

pub struct TestFactories(pub Scope, pub Lines);

impl Factories for TestFactories {
    fn access_logs(
        &self,
        messages: &[AccessLogMessage],
        _path: &Path,
    ) -> Result<Vec<Arc<dyn AccessLog>>, Vec<Diagnostic>> {
        Ok(messages.iter().map(|_| Arc::new(self.1.clone()) as Arc<dyn AccessLog>).collect())
    }

    fn stats(&self) -> &Scope {
        &self.0
    }
}

pub struct World {
    pub proxy: Arc<TcpProxy>,
    pub cluster: Arc<FakeCluster>,
    pub clusters: Arc<FakeClusters>,
    pub store: Store,
    pub lines: Lines,
    pub drain: Drain,
    pub env: Arc<WorkerEnv>,
    pub listener: Arc<ListenerInfo>,
    /// Requests for tunnels, as the far proxy gets them.
    pub requests: mpsc::Receiver<IncomingStream>,
}

/// A proxy to the cluster `c`, with a log.
pub fn message() -> pb::TcpProxy {
    pb::TcpProxy {
        stat_prefix: "t".into(),
        cluster_specifier: Some(ClusterSpecifier::Cluster("c".into())),
        access_log: vec![AccessLogMessage::default()],
        ..Default::default()
    }
}

/// The same through a tunnel to `far:443`.
pub fn tunnel(change: impl FnOnce(&mut TunnelingConfig)) -> pb::TcpProxy {
    let mut config = TunnelingConfig { hostname: "far:443".into(), ..Default::default() };
    change(&mut config);
    pb::TcpProxy { tunneling_config: Some(config), ..message() }
}

impl World {
    /// In the context of a runtime.
    pub fn new(message: &pb::TcpProxy) -> Self {
        let store = Store::new(1);
        let lines = Lines::default();
        let factories = TestFactories(store.root(), lines.clone());
        let proxy = TcpProxy::from_proto(message, &factories, &Path::from("p"));
        let proxy = proxy.unwrap_or_else(|problems| panic!("{problems:?}"));
        let pair = memory::pair();
        let (sender, requests) = mpsc::channel(64);
        let mut server = pair.server;
        tokio::spawn(async move {
            while let Some(Ok(stream)) = poll_fn(|cx| server.poll_accept(cx)).await {
                if sender.send(stream).await.is_err() {
                    return;
                }
            }
        });
        let address: SocketAddr = "192.0.2.9:99".parse().unwrap();
        let info = HostInfo {
            address: address.into(),
            hostname: "".into(),
            cluster: "c".into(),
            metadata: Metadata::default(),
        };
        let cluster = Arc::new(FakeCluster {
            settings: ClusterSettings {
                name: "c".into(),
                terminates_connect: false,
                version: None,
                secure: true,
                buffer_limit: 1 << 20,
                max_stream_duration: None,
                metadata: Metadata::default(),
                resolver: None,
            },
            attempts: Mutex::default(),
            asked: AtomicUsize::new(0),
            hashes: Mutex::default(),
            spoken: Mutex::default(),
            reports: Mutex::default(),
            host: Arc::new(FakeHost { info, reports: Mutex::default() }),
            given_up: Arc::default(),
            guard_dropped: Arc::default(),
            client: Arc::new(Mutex::new(pair.client.conn)),
        });
        let clusters = Arc::new(FakeClusters(Mutex::new(HashMap::from([("c".into(), cluster.clone())]))));
        let drain = Drain::new();
        let env = WorkerEnv {
            index: 0,
            clusters: clusters.clone(),
            spawn: Arc::new(TestLifecycle(drain.clone())),
            lifecycle: Arc::new(TestLifecycle(drain.clone())),
            runtime: RuntimeValues::default(),
        };
        let listener = Arc::new(ListenerInfo {
            name: "l".into(),
            stats_address: "l".into(),
            buffer_limit: 1 << 20,
            direction: "UNSPECIFIED",
            kind: "tcp",
            logs: true,
        });
        Self { proxy, cluster, clusters, store, lines, drain, env: Arc::new(env), listener, requests }
    }

    pub fn then(&self, attempt: Attempt) {
        self.cluster.attempts.lock().unwrap().push_back(attempt);
    }

    pub fn connection(&self, io: Io) -> Connection {
        Connection {
            io,
            listener: self.listener.clone(),
            filter_chain_name: None,
            worker: self.env.clone(),
            guards: Vec::new(),
        }
    }

    pub fn serve(&self, io: Io) -> JoinHandle<StreamInfo> {
        let served = self.proxy.clone().serve(self.connection(io));
        tokio::spawn(async move { *served.await.unwrap() })
    }

    /// A client over TCP, its filter state changed by `state`.
    pub async fn client_with(&self, state: &[(&str, FilterValue)]) -> (Peer, JoinHandle<StreamInfo>) {
        let (client, mut io) = waiting_client().await;
        for (key, value) in state {
            io.state.set(key, value.clone(), adit_io::Sharing::None);
        }
        (client, self.serve(io))
    }

    pub async fn client(&self) -> (Peer, JoinHandle<StreamInfo>) {
        self.client_with(&[]).await
    }

    /// A client and the upstream that it got, both over TCP.
    pub async fn connected(&self) -> (Peer, Peer, JoinHandle<StreamInfo>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.then(Attempt::Dial(listener.local_addr().unwrap()));
        let (client, served) = self.client().await;
        let upstream = Peer::accept(&listener).await;
        (client, upstream, served)
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.store.counter_value(name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().clone()
    }

    /// Bytes reported for the host: sent, received.
    pub fn bytes(&self) -> (u64, u64) {
        let reports = self.cluster.host.reports.lock().unwrap();
        reports.iter().fold((0, 0), |(tx, rx), report| match report {
            Report::Bytes { sent, received } => (tx + sent, rx + received),
            _ => (tx, rx),
        })
    }
}

/// A client over TCP that is not served yet.
pub async fn waiting_client() -> (Peer, Io) {
    let (near, far) = tcp_pair().await;
    let _ = far.set_nodelay(true);
    let info = ConnInfo::new(5, far.local_addr().unwrap().into(), far.peer_addr().unwrap().into());
    (Peer::new(near), Io::tcp(far, Arc::new(info)))
}
