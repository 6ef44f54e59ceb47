//! Clusters from YAML, on one worker.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod http3;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use adit_config::{LoadOptions, Path, Source, load};
use adit_filter::upstream::{Cluster, Clusters, ConnectFailure, HttpUpstream, Need, Priority, TlsNames};
use adit_filter::{BoxFuture, Spawn};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{FilterState, Metadata};
use adit_stats::Store;
#[allow(unused_imports)]
pub use adit_testkit::{eventually as until, expect_value, within as soon};
use adit_upstream::{
    ClusterManager, ClusterPlan, ClusterSet, Codecs, NoInternalListeners, NoTransports, PlanEnv, TransportBuilder,
    WorkerDeps,
};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

pub struct World {
    pub store: Store,
    pub manager: Arc<ClusterManager>,
    pub set: Arc<ClusterSet>,
}

/// Lowers the clusters of a YAML list.
pub fn plans(yaml: &str, store: &Store) -> Result<Vec<Arc<ClusterPlan>>, String> {
    plans_with(yaml, store, &NoTransports)
}

pub fn plans_with(
    yaml: &str,
    store: &Store,
    transports: &dyn TransportBuilder,
) -> Result<Vec<Arc<ClusterPlan>>, String> {
    let indented: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("static_resources:\n  clusters:\n{indented}");
    let loaded = load(&[Source::new("test.yaml", &text)], &LoadOptions::default()).map_err(|e| e.to_string())?;
    let resources = loaded.bootstrap.static_resources.unwrap();
    let env = PlanEnv { scope: &store.root(), transports, bind: None };
    let path = Path::from("static_resources");
    let mut plans = Vec::new();
    for (index, cluster) in resources.clusters.iter().enumerate() {
        let plan = ClusterPlan::from_proto(cluster, &path.item("clusters", index), &env);
        plans.push(plan.map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?);
    }
    Ok(plans)
}

pub fn world(yaml: &str) -> World {
    world_with(yaml, &NoTransports)
}

pub fn world_with(yaml: &str, transports: &dyn TransportBuilder) -> World {
    let store = Store::new(1);
    let manager = ClusterManager::new(plans_with(yaml, &store, transports).unwrap());
    let deps =
        WorkerDeps { spawn: Arc::new(TokioSpawn), internal: Arc::new(NoInternalListeners), codecs: Arc::new(Codecs) };
    let set = manager.worker(Arc::new(deps));
    World { store, manager, set }
}

impl World {
    pub fn cluster(&self, name: &str) -> Arc<dyn Cluster> {
        self.set.get(name).unwrap()
    }

    pub fn run(&self) {
        for task in self.manager.run() {
            tokio::spawn(task);
        }
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.store.counter_value(name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    pub fn gauge(&self, name: &str) -> u64 {
        self.store.gauge_value(name).unwrap_or_else(|| panic!("no gauge {name}"))
    }

    /// Waits for a counter: the pool's tasks may count after the one that waited for them goes on.
    pub async fn expect_counter(&self, name: &str, wanted: u64) {
        expect_value(name, wanted, || self.counter(name)).await;
    }

    /// Waits for a gauge.
    pub async fn expect_gauge(&self, name: &str, wanted: u64) {
        expect_value(name, wanted, || self.gauge(name)).await;
    }
}

/// Owns what a [`Need`] borrows.
#[derive(Default)]
pub struct Wish {
    pub state: FilterState,
    pub metadata: Metadata,
    pub head: Option<RequestHead>,
    pub tls_names: Option<TlsNames>,
    pub hash: Option<u64>,
    pub downstream: Option<Arc<adit_io::ConnInfo>>,
    pub address: Option<std::net::SocketAddr>,
    pub tried: Vec<adit_io::Address>,
    pub reselect: u32,
    pub extended_connect: bool,
    /// Fails rather than wait for another stream's end.
    pub at_once: bool,
    pub speaks_first: bool,
}

impl Wish {
    pub fn need(&self) -> Need<'_> {
        Need {
            priority: Priority::Default,
            hash: self.hash,
            metadata_match: None,
            tried: &self.tried,
            reselect: self.reselect,
            request: self.head.as_ref(),
            tls_names: self.tls_names.as_ref(),
            downstream: self.downstream.as_ref(),
            state: &self.state,
            metadata: &self.metadata,
            extended_connect: self.extended_connect,
            address: self.address,
            wait: !self.at_once,
            speaks_first: self.speaks_first,
        }
    }
}

pub fn get(path: &str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.path = Some(path.parse().unwrap());
    head.authority = Some("example.com".parse().unwrap());
    head
}

/// A static cluster of these ports, with further lines. The time to connect is no test's business unless it says so.
pub fn cluster(name: &str, ports: &[u16], more: &str) -> String {
    let endpoints: String = ports
        .iter()
        .map(|port| {
            format!(
                "      - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
            )
        })
        .collect();
    let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "- name: {name}\n  connect_timeout: 20s\n{more}  load_assignment:\n    cluster_name: {name}\n    endpoints:\n    - lb_endpoints:\n{endpoints}"
    )
}

/// For an exchange, no tunnel.
pub async fn acquire(cluster: &Arc<dyn Cluster>) -> Result<HttpUpstream, ConnectFailure> {
    let wish = Wish { head: Some(get("/")), ..Wish::default() };
    let need = wish.need();
    cluster.http(&need).await
}

/// Sends a GET and reads the whole answer; the lease lives until the end.
pub async fn exchange(mut upstream: HttpUpstream, path: &str) -> (ResponseHead, Vec<u8>) {
    exchange_on(&mut upstream, path).await
}

/// The same; the lease goes on to live.
pub async fn exchange_on(upstream: &mut HttpUpstream, path: &str) -> (ResponseHead, Vec<u8>) {
    let stream = upstream.lease.open(&get(path), true).unwrap();
    let (mut send, mut response) = (stream.send, stream.response);
    std::future::poll_fn(|cx| send.poll_flush(cx)).await.unwrap();
    let head = std::future::poll_fn(|cx| response.poll_head(cx)).await.unwrap();
    let mut recv = response.into_recv();
    let body = read(&mut *recv).await;
    drop((send, recv));
    (head, body)
}

/// All bytes up to a clean end.
pub async fn read(recv: &mut dyn adit_codec::RecvStream) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| recv.poll_chunk(cx, 65536)).await {
        body.extend_from_slice(&chunk.unwrap());
    }
    body
}

/// An HTTP/1.1 origin that answers each request with its connection's number, keeping connections open.
pub struct Origin {
    pub port: u16,
    pub accepted: Arc<std::sync::atomic::AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// Waits until an origin has accepted that many connections.
pub async fn expect_accepted(accepted: &std::sync::atomic::AtomicUsize, wanted: usize) {
    expect_value("connections accepted", wanted, || accepted.load(std::sync::atomic::Ordering::SeqCst)).await;
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn origin(answer: impl Fn(usize) -> String + Clone + Send + 'static) -> Origin {
    origin_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
}

pub fn origin_on(listener: TcpListener, answer: impl Fn(usize) -> String + Clone + Send + 'static) -> Origin {
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = accepted.clone();
    let task = tokio::spawn(async move {
        let mut children = tokio::task::JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            children.spawn(serve(socket, number, answer.clone()));
        }
    });
    Origin { port, accepted, task }
}

async fn serve(mut socket: TcpStream, number: usize, answer: impl Fn(usize) -> String) {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
        while let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            buffer.drain(..at + 4);
            let text = answer(number);
            if socket.write_all(text.as_bytes()).await.is_err() {
                return;
            }
            if text.contains("connection: close") {
                return;
            }
        }
    }
}

pub fn ok(body: impl std::fmt::Display) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A port that refuses connections, for as long as the socket is held: nobody else gets it, and it does not listen.
pub fn refusing() -> (u16, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

/// Whether a future is still pending after one poll.
pub async fn pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx: &mut Context<'_>| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending()))
        .await
}
