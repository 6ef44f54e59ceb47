//! Fakes of everything around the router: a client's stream, clusters, upstream streams, hooks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs, unused_imports)]

mod client;
mod cluster;
mod half;

use std::collections::HashMap;
use std::sync::Arc;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::extensions::filters::http::router::v3::Router as RouterMessage;
use adit_filter::{
    BoxFuture, HttpStream, HttpTerminal, Lifecycle, PerFilterConfig, RouteTable, RuntimeValues, Spawn, StreamInfo,
    WorkerEnv,
};
use adit_http::{RequestHead, RequestKind, ResponseHead};
use adit_io::{Address, ConnInfo};
use adit_router::{ConfigError, PerFilterConfigs, RouteConfig, RouteContext, Router};
use http::{HeaderName, HeaderValue, Method, StatusCode};

pub use client::Client;
use client::{FakeHook, FakeResponder};
use cluster::FakeClusters;
pub use cluster::{Attempt, FakeCluster, Upstream};
pub use half::{Half, Reader, Writer};

struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

struct Forever;

impl Lifecycle for Forever {
    fn should_drain(&self) -> bool {
        false
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// Marks every filter configuration with its type URL.
pub struct TestFilters;

impl PerFilterConfigs for TestFilters {
    fn compile(&self, _name: &str, config: &prost_types::Any, at: &str) -> Result<PerFilterConfig, ConfigError> {
        if config.type_url.ends_with("Bad") {
            return Err(ConfigError::new(at, "bad"));
        }
        Ok(PerFilterConfig { disabled: None, config: Some(Arc::new(config.type_url.clone())) })
    }
}

pub fn table(message: &pb::RouteConfiguration) -> Result<Arc<RouteConfig>, Vec<ConfigError>> {
    table_with(message, RuntimeValues::default())
}

pub fn table_with(
    message: &pb::RouteConfiguration,
    runtime: RuntimeValues,
) -> Result<Arc<RouteConfig>, Vec<ConfigError>> {
    let exists = |name: &str| !name.starts_with("missing");
    RouteConfig::from_proto(
        message,
        &RouteContext { path: "", cluster_exists: &exists, filters: &TestFilters, runtime },
    )
}

pub fn response(status: u16, headers: &[(&'static str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        head.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    head
}

pub fn get(path: &str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.authority = Some("host".parse().unwrap());
    head.path = Some(path.parse().unwrap());
    head
}

pub fn upgrade(token: &str) -> RequestHead {
    let mut head = get("/ws");
    head.kind = RequestKind::Upgrade(adit_http::Token::new(token).unwrap());
    head.headers.insert("connection", HeaderValue::from_static("upgrade"));
    head.headers.insert("upgrade", HeaderValue::from_str(token).unwrap());
    head
}

pub fn connect(target: &str) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Connect(target.parse().unwrap()), Method::CONNECT);
    head.authority = Some(target.parse().unwrap());
    head
}

pub fn info() -> StreamInfo {
    let conn = ConnInfo::new(
        1,
        Address::Ip("127.0.0.1:8080".parse().unwrap()),
        Address::Ip("127.0.0.1:5000".parse().unwrap()),
    );
    StreamInfo::new(Arc::new(conn))
}

/// A route to cluster `c` for everything, changed as a test wants.
pub fn route_all(change: impl FnOnce(&mut pb::RouteAction)) -> pb::RouteConfiguration {
    let mut action = pb::RouteAction {
        cluster_specifier: Some(pb::route_action::ClusterSpecifier::Cluster("c".into())),
        ..Default::default()
    };
    change(&mut action);
    let any = |specifier| pb::Route {
        r#match: Some(pb::RouteMatch { path_specifier: Some(specifier), ..Default::default() }),
        action: Some(pb::route::Action::Route(action.clone())),
        ..Default::default()
    };
    pb::RouteConfiguration {
        virtual_hosts: vec![pb::VirtualHost {
            name: "v".into(),
            domains: vec!["*".into()],
            routes: vec![
                any(pb::route_match::PathSpecifier::ConnectMatcher(Default::default())),
                any(pb::route_match::PathSpecifier::Prefix("/".into())),
            ],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// One request through a router.
pub struct Case {
    pub client: Client,
    /// What the client sends.
    pub up: Half,
    /// What the client is sent.
    pub down: Half,
    pub cluster: Arc<FakeCluster>,
    pub stream: HttpStream,
    router: Arc<Router>,
}

impl Case {
    pub fn new(routes: &pb::RouteConfiguration, cluster: FakeCluster, head: RequestHead, body: Half) -> Self {
        Self::with(routes, cluster, head, body, &RouterMessage::default())
    }

    pub fn with(
        routes: &pb::RouteConfiguration,
        cluster: FakeCluster,
        head: RequestHead,
        body: Half,
        router: &RouterMessage,
    ) -> Self {
        let (client, down, cluster) = (Client::default(), Half::default(), Arc::new(cluster));
        let clusters = HashMap::from([("c".to_owned(), cluster.clone())]);
        let worker = WorkerEnv {
            index: 0,
            clusters: Arc::new(FakeClusters(clusters)),
            spawn: Arc::new(TokioSpawn),
            lifecycle: Arc::new(Forever),
            runtime: RuntimeValues::default(),
        };
        let route = table(routes).unwrap().find(&head, &info(), 0);
        let responder = Box::new(FakeResponder { client: client.clone(), down: down.clone() });
        let hook = Box::new(FakeHook(client.clone()));
        let recv = Box::new(Reader(body.clone()));
        let mut stream = HttpStream::new(head, recv, responder, hook, info(), Arc::new(worker));
        stream.route = route;
        let scope = adit_stats::Store::new(1).root().http("t");
        let router = Router::from_proto(router, &scope, "").unwrap();
        Self { client, up: body, down, cluster, stream, router }
    }

    /// The size of the future that serves.
    pub fn future_size(&mut self) -> usize {
        let router = self.router.clone();
        let future = router.serve(&mut self.stream);
        std::mem::size_of_val(&*future)
    }

    /// Serves to the end.
    pub async fn run(&mut self) {
        let router = self.router.clone();
        let served = serve(&router, &mut self.stream);
        tokio::time::timeout(std::time::Duration::from_secs(10_000), served).await.expect("it ends");
    }

    /// Serves in a task of its own, for tests that act meanwhile.
    pub fn spawn(self) -> Running {
        let Self { client, up, down, cluster, mut stream, router } = self;
        let task = tokio::spawn(async move {
            serve(&router, &mut stream).await;
            stream
        });
        Running { client, up, down, cluster, task }
    }

    pub fn flags(&self) -> String {
        self.stream.info.flags.to_string()
    }

    pub fn details(&self) -> &str {
        self.stream.info.details.as_deref().unwrap_or("")
    }
}

/// Serves to the end, that of the tunnel where there is one. The stream has the whole record then.
async fn serve(router: &Router, stream: &mut HttpStream) {
    let Some(mut tunnel) = router.serve(stream).await else { return };
    let (request, response, info) = (stream.request.clone(), stream.response.clone(), stream.info.clone());
    let nobody = FakeResponder { client: Client::default(), down: Half::default() };
    let empty = Box::new(Reader(Half::default()));
    let hook = Box::new(FakeHook(Client::default()));
    let mut left = HttpStream::new(request, empty, Box::new(nobody), hook, info, stream.worker.clone()).into_tunnel();
    assert!(response.is_some(), "a tunnel stands after its answer");
    std::future::poll_fn(|cx| tunnel.poll_relay(cx, &mut left)).await;
    stream.info = left.info().unwrap().clone();
}

pub struct Running {
    pub client: Client,
    pub up: Half,
    pub down: Half,
    pub cluster: Arc<FakeCluster>,
    pub task: tokio::task::JoinHandle<HttpStream>,
}

impl Running {
    pub async fn done(self) -> HttpStream {
        tokio::time::timeout(std::time::Duration::from_secs(10_000), self.task).await.expect("it ends").unwrap()
    }
}

/// Lets every task run until nothing moves.
pub async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
