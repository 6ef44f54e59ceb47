//! Fakes of everything around the router: a client's stream, clusters, upstream streams, hooks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use adit_codec::{OutgoingStream, PendingResponse, RecvStream, Responder, SendStream};
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::extensions::filters::http::router::v3::Router as RouterMessage;
use adit_filter::upstream::{
    Cluster, ClusterSettings, Clusters, ConnectFailure, FailureKind, Host, HostInfo, HttpUpstream, Need, Opener,
    Priority, Report, TcpUpstream,
};
use adit_filter::{
    BoxFuture, HttpFilter, HttpStream, HttpTerminal, Lifecycle, LocalReply, PerFilterConfig, ResponseHook, RouteTable,
    RuntimeValues, Soon, Spawn, StreamInfo, WorkerEnv,
};
use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError};
use adit_io::{Address, ByteSink, ByteSource, ConnInfo, Io, Metadata};
use adit_router::{ConfigError, PerFilterConfigs, RouteConfig, RouteContext, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// One direction of a stream in memory; both ends hold it.
#[derive(Clone, Default)]
pub struct Half(Arc<Mutex<HalfState>>);

#[derive(Default)]
struct HalfState {
    queue: VecDeque<Bytes>,
    end: Option<Result<Option<HeaderMap>, StreamError>>,
    stopped: Option<ErrorCode>,
    reset: Option<ErrorCode>,
    /// The writer takes no more than this many bytes in the queue.
    room: Option<usize>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    total: usize,
}

impl Half {
    pub fn of(text: &str) -> Self {
        let half = Self::default();
        half.push(text);
        half.finish();
        half
    }

    pub fn empty() -> Self {
        let half = Self::default();
        half.finish();
        half
    }

    pub fn push(&self, text: impl AsRef<[u8]>) {
        let mut state = self.0.lock().unwrap();
        if !text.as_ref().is_empty() {
            state.queue.push_back(Bytes::copy_from_slice(text.as_ref()));
        }
        state.wake();
    }

    pub fn finish(&self) {
        self.end(Ok(None));
    }

    pub fn end(&self, end: Result<Option<HeaderMap>, StreamError>) {
        let mut state = self.0.lock().unwrap();
        state.end = Some(end);
        state.wake();
    }

    /// Everything written and not read, as text.
    pub fn text(&self) -> String {
        let state = self.0.lock().unwrap();
        String::from_utf8(state.queue.iter().flatten().copied().collect()).unwrap()
    }

    pub fn ended(&self) -> bool {
        matches!(self.0.lock().unwrap().end, Some(Ok(_)))
    }

    pub fn trailers(&self) -> Option<HeaderMap> {
        self.0.lock().unwrap().end.clone()?.ok()?
    }

    pub fn reset_code(&self) -> Option<ErrorCode> {
        self.0.lock().unwrap().reset
    }

    pub fn stop_code(&self) -> Option<ErrorCode> {
        self.0.lock().unwrap().stopped
    }

    pub fn limit(&self, room: usize) {
        self.0.lock().unwrap().room = Some(room);
    }

    pub fn total(&self) -> usize {
        self.0.lock().unwrap().total
    }
}

impl HalfState {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

pub struct Reader(pub Half);

impl ByteSource for Reader {
    fn poll_chunk(&mut self, cx: &mut Context<'_>, _max: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        let mut state = self.0.0.lock().unwrap();
        if let Some(chunk) = state.queue.pop_front() {
            if let Some(waker) = state.writer.take() {
                waker.wake();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &state.end {
            Some(Ok(_)) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(*error))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn stop(&mut self, code: ErrorCode) {
        let mut state = self.0.0.lock().unwrap();
        state.stopped.get_or_insert(code);
        state.wake();
    }
}

impl RecvStream for Reader {
    fn poll_trailers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(self.0.0.lock().unwrap().end.clone().unwrap_or(Ok(None)))
    }

    fn is_end(&self) -> bool {
        let state = self.0.0.lock().unwrap();
        state.queue.is_empty() && matches!(state.end, Some(Ok(None)))
    }
}

pub struct Writer(pub Half);

impl ByteSink for Writer {
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, end: bool) -> Poll<Result<(), StreamError>> {
        let mut state = self.0.0.lock().unwrap();
        if let Some(code) = state.stopped {
            return Poll::Ready(Err(StreamError::Stopped(code)));
        }
        let used: usize = state.queue.iter().map(Bytes::len).sum();
        let room = state.room.map_or(usize::MAX, |room| room.saturating_sub(used));
        let taken = data.split_to(room.min(data.len()));
        state.total += taken.len();
        if !taken.is_empty() {
            state.queue.push_back(taken);
            state.reader.take().into_iter().for_each(Waker::wake);
        }
        if !data.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if end {
            state.end = Some(Ok(None));
            state.reader.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.0.0.lock().unwrap();
        match state.stopped {
            Some(code) => Poll::Ready(StreamError::Stopped(code)),
            None => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn reset(&mut self, code: ErrorCode) {
        let mut state = self.0.0.lock().unwrap();
        state.reset.get_or_insert(code);
        state.end.get_or_insert(Err(StreamError::Reset(code)));
        state.wake();
    }
}

impl SendStream for Writer {
    fn poll_send_trailers(&mut self, _cx: &mut Context<'_>, trailers: &HeaderMap) -> Poll<Result<(), StreamError>> {
        self.0.end(Ok(Some(trailers.clone())));
        Poll::Ready(Ok(()))
    }
}

/// A half dropped unfinished is a reset.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.0.0.lock().unwrap().end.is_none() {
            self.reset(ErrorCode::Cancel);
        }
    }
}

/// What an upstream does with one stream.
#[derive(Clone)]
pub struct Upstream {
    pub version: Version,
    pub heads: Vec<Result<ResponseHead, StreamError>>,
    /// The answer waits for the end of the request's body.
    pub after_body: bool,
    /// The response's body, or the tunnel's bytes from the upstream.
    pub body: Half,
    /// What the router sent.
    pub sent: Half,
    pub open_error: Option<StreamError>,
    pub delay: std::time::Duration,
}

impl Upstream {
    pub fn new(heads: Vec<Result<ResponseHead, StreamError>>, body: &str) -> Self {
        Self {
            version: Version::HTTP_11,
            heads,
            after_body: false,
            body: Half::of(body),
            sent: Half::default(),
            open_error: None,
            delay: std::time::Duration::ZERO,
        }
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self::new(vec![Ok(response(status, &[]))], body)
    }

    pub fn silent() -> Self {
        Self::new(Vec::new(), "")
    }

    pub fn accepting(status: u16, headers: &[(&'static str, &str)]) -> Self {
        let mut upstream = Self::new(vec![Ok(response(status, headers))], "");
        upstream.body = Half::default();
        upstream
    }

    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    pub fn after_body(mut self) -> Self {
        self.after_body = true;
        self
    }
}

pub enum Attempt {
    Fail(FailureKind, &'static str),
    Refused(StatusCode),
    HangConnect,
    Http(Upstream),
    Tcp(Io),
}

#[derive(Default)]
pub struct Seen {
    pub heads: Vec<(RequestHead, bool)>,
    pub reports: Vec<Report>,
    pub extended: Vec<bool>,
    pub hashes: Vec<Option<u64>>,
    pub tried: Vec<usize>,
}

pub struct FakeCluster {
    settings: ClusterSettings,
    pub script: Mutex<VecDeque<Attempt>>,
    pub seen: Arc<Mutex<Seen>>,
    pub permits: Mutex<usize>,
    /// One more for each upstream request that is not over.
    pub guards: Arc<()>,
    pub hostname: &'static str,
}

impl FakeCluster {
    pub fn new(name: &str, script: Vec<Attempt>) -> Self {
        Self {
            settings: ClusterSettings {
                name: name.into(),
                terminates_connect: false,
                version: None,
                secure: false,
                buffer_limit: 1 << 20,
                max_stream_duration: None,
                metadata: Metadata::default(),
                resolver: None,
            },
            script: Mutex::new(script.into()),
            seen: Arc::default(),
            permits: Mutex::new(usize::MAX),
            guards: Arc::default(),
            hostname: "",
        }
    }

    pub fn settings(mut self, change: impl FnOnce(&mut ClusterSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    fn next(&self, need: &Need<'_>) -> Attempt {
        let mut seen = self.seen.lock().unwrap();
        seen.extended.push(need.extended_connect);
        seen.hashes.push(need.hash);
        seen.tried.push(need.tried.len());
        self.script.lock().unwrap().pop_front().unwrap_or(Attempt::HangConnect)
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::new(FakeHost {
            info: HostInfo {
                address: Address::Ip("127.0.0.1:9".parse().unwrap()),
                hostname: self.hostname.into(),
                cluster: self.settings.name.clone(),
                metadata: Metadata::default(),
            },
            seen: self.seen.clone(),
        })
    }
}

struct FakeHost {
    info: HostInfo,
    seen: Arc<Mutex<Seen>>,
}

impl Host for FakeHost {
    fn info(&self) -> &HostInfo {
        &self.info
    }

    fn report(&self, report: Report) {
        self.seen.lock().unwrap().reports.push(report);
    }
}

fn failure(kind: FailureKind, reason: &'static str) -> ConnectFailure {
    ConnectFailure { kind, reason: reason.into(), host: None, refusal: None }
}

impl Cluster for FakeCluster {
    fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    fn tcp<'a>(&'a self, need: &'a Need<'a>) -> BoxFuture<'a, Result<TcpUpstream, ConnectFailure>> {
        Box::pin(async move {
            match self.next(need) {
                Attempt::Tcp(io) => Ok(TcpUpstream { io, host: self.host(), guard: Box::new(()) }),
                Attempt::Fail(kind, reason) => Err(failure(kind, reason)),
                Attempt::Refused(status) => {
                    Err(ConnectFailure { refusal: Some(status), ..failure(FailureKind::Remote, "refused") })
                }
                _ => std::future::pending().await,
            }
        })
    }

    fn http<'a>(&'a self, need: &Need<'_>) -> Soon<'a, Result<HttpUpstream, ConnectFailure>> {
        let next = self.next(need);
        Soon::Later(Box::pin(async move {
            match next {
                Attempt::Http(upstream) => {
                    let address = |text: &str| Address::Ip(text.parse().unwrap());
                    let conn = ConnInfo::new(7, address("127.0.0.1:1"), address("127.0.0.1:9"));
                    Ok(HttpUpstream {
                        version: upstream.version,
                        opener: Box::new(FakeOpener { upstream, seen: self.seen.clone() }),
                        host: self.host(),
                        conn: Arc::new(conn),
                        guard: Box::new(self.guards.clone()),
                    })
                }
                Attempt::Fail(kind, reason) => Err(failure(kind, reason)),
                Attempt::Refused(status) => {
                    Err(ConnectFailure { refusal: Some(status), ..failure(FailureKind::Remote, "refused") })
                }
                _ => std::future::pending().await,
            }
        }))
    }

    fn retry_permit(&self, _priority: Priority) -> Option<Box<dyn Send>> {
        let mut permits = self.permits.lock().unwrap();
        *permits = permits.checked_sub(1)?;
        Some(Box::new(()))
    }

    fn report(&self, report: Report) {
        self.seen.lock().unwrap().reports.push(report);
    }
}

struct FakeOpener {
    upstream: Upstream,
    seen: Arc<Mutex<Seen>>,
}

impl Opener for FakeOpener {
    fn open(self: Box<Self>, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        if let Some(error) = self.upstream.open_error {
            return Err(error);
        }
        self.seen.lock().unwrap().heads.push((head.clone(), end));
        if end {
            self.upstream.sent.finish();
        }
        let send = Box::new(Writer(self.upstream.sent.clone()));
        let heads = self.upstream.heads.clone().into();
        let sleep = (!self.upstream.delay.is_zero()).then(|| Box::pin(tokio::time::sleep(self.upstream.delay)));
        Ok(OutgoingStream {
            send,
            response: Box::new(FakeResponse { upstream: self.upstream, heads, sleep }),
            meter: None,
        })
    }
}

struct FakeResponse {
    upstream: Upstream,
    heads: VecDeque<Result<ResponseHead, StreamError>>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl PendingResponse for FakeResponse {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, StreamError>> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        {
            let mut state = self.upstream.sent.0.lock().unwrap();
            if self.upstream.after_body && !matches!(state.end, Some(Ok(_))) {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.heads.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn into_recv(self: Box<Self>) -> Box<dyn RecvStream> {
        Box::new(Reader(self.upstream.body.clone()))
    }
}

struct FakeClusters(HashMap<String, Arc<FakeCluster>>);

impl Clusters for FakeClusters {
    fn get(&self, name: &str) -> Option<Arc<dyn Cluster>> {
        self.0.get(name).map(|cluster| cluster.clone() as Arc<dyn Cluster>)
    }
}

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

/// What the client saw.
#[derive(Clone, Default)]
pub struct Client(Arc<Mutex<ClientState>>);

#[derive(Default)]
struct ClientState {
    informed: Vec<StatusCode>,
    head: Option<(ResponseHead, bool)>,
    reset: Option<ErrorCode>,
    gone: Option<StreamError>,
    waker: Option<Waker>,
    tunnel: bool,
}

impl Client {
    pub fn leave(&self, error: StreamError) {
        let mut state = self.0.lock().unwrap();
        state.gone = Some(error);
        state.waker.take().into_iter().for_each(Waker::wake);
    }

    pub fn status(&self) -> Option<u16> {
        self.0.lock().unwrap().head.as_ref().map(|(head, _)| head.status.as_u16())
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        state.head.as_ref()?.0.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    pub fn informed(&self) -> Vec<u16> {
        self.0.lock().unwrap().informed.iter().map(|status| status.as_u16()).collect()
    }

    pub fn reset(&self) -> Option<ErrorCode> {
        self.0.lock().unwrap().reset
    }

    pub fn tunnel(&self) -> bool {
        self.0.lock().unwrap().tunnel
    }
}

struct FakeResponder {
    client: Client,
    down: Half,
}

impl Responder for FakeResponder {
    fn inform(&mut self, head: ResponseHead) -> Result<(), StreamError> {
        self.client.0.lock().unwrap().informed.push(head.status);
        Ok(())
    }

    fn respond(self: Box<Self>, head: ResponseHead, end: bool) -> Result<Box<dyn SendStream>, StreamError> {
        self.client.0.lock().unwrap().head = Some((head, end));
        if end {
            self.down.finish();
        }
        Ok(Box::new(Writer(self.down.clone())))
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.client.0.lock().unwrap();
        match state.gone {
            Some(error) => Poll::Ready(error),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn reset(self: Box<Self>, code: ErrorCode) {
        self.client.0.lock().unwrap().reset = Some(code);
    }
}

struct FakeHook(Client);

impl ResponseHook for FakeHook {
    fn keep_filter(&mut self, _filter: Box<dyn HttpFilter>) {}

    fn on_response(&mut self, _head: &mut ResponseHead, _request: &RequestHead, _info: &mut StreamInfo) {}

    fn render_reply(
        &mut self,
        reply: LocalReply,
        _request: &RequestHead,
        _info: &mut StreamInfo,
    ) -> (ResponseHead, Bytes) {
        let mut head = ResponseHead::new(reply.status);
        head.headers = reply.headers;
        (head, Bytes::from(reply.body.into_owned()))
    }

    fn on_tunnel(&mut self, _request: &RequestHead, _info: &mut StreamInfo) {
        self.0.0.lock().unwrap().tunnel = true;
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
