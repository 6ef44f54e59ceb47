//! A cluster whose attempts follow a script.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use adit_codec::{OutgoingStream, PendingResponse, RecvStream};
use adit_filter::upstream::{
    Cluster, ClusterSettings, Clusters, ConnectFailure, FailureKind, Host, HostInfo, HttpUpstream, Lease, Need,
    Priority, Report, TcpUpstream, TlsNames,
};
use adit_filter::{BoxFuture, Soon};
use adit_http::{RequestHead, ResponseHead, StreamError};
use adit_io::{Address, ConnInfo, Io, Metadata};
use http::{StatusCode, Version};

use super::half::{Half, Reader, Writer};
use super::response;

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
    pub reselect: Vec<u32>,
    /// The server names that TLS would ask by.
    pub names: Vec<Option<Box<str>>>,
}

pub struct FakeCluster {
    settings: ClusterSettings,
    pub script: Mutex<VecDeque<Attempt>>,
    pub seen: Arc<Mutex<Seen>>,
    pub permits: Mutex<usize>,
    /// One more for each upstream request that is not over.
    pub guards: Arc<()>,
    /// Names of the hosts, those of the attempts in turn; the last one's stays.
    pub hostnames: &'static [&'static str],
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
            hostnames: &[""],
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
        seen.reselect.push(need.reselect);
        let names = need.tls_names.cloned().or_else(|| Some(*self.tls_names(need.request?)?));
        seen.names.push(names.and_then(|names| names.server_name));
        self.script.lock().unwrap().pop_front().unwrap_or(Attempt::HangConnect)
    }

    fn host(&self) -> Arc<dyn Host> {
        let attempt = self.seen.lock().unwrap().tried.len();
        let hostname = self.hostnames[attempt.min(self.hostnames.len()) - 1];
        Arc::new(FakeHost {
            info: HostInfo {
                address: Address::Ip("127.0.0.1:9".parse().unwrap()),
                hostname: hostname.into(),
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
                        lease: Box::new(FakeLease {
                            upstream: Some(upstream),
                            seen: self.seen.clone(),
                            _guard: self.guards.clone(),
                        }),
                        host: self.host(),
                        conn: Arc::new(conn),
                    })
                }
                Attempt::Fail(kind, reason) => {
                    // A circuit breaker refuses at once, a host takes its time.
                    if kind == FailureKind::Remote {
                        tokio::task::yield_now().await;
                    }
                    Err(failure(kind, reason))
                }
                Attempt::Refused(status) => {
                    Err(ConnectFailure { refusal: Some(status), ..failure(FailureKind::Remote, "refused") })
                }
                _ => std::future::pending().await,
            }
        }))
    }

    /// As `auto_sni`.
    fn tls_names(&self, request: &RequestHead) -> Option<Box<TlsNames>> {
        let name = request.authority.as_ref().map(|authority| authority.host().into());
        Some(Box::new(TlsNames { server_name: name, certificate: None }))
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

struct FakeLease {
    upstream: Option<Upstream>,
    seen: Arc<Mutex<Seen>>,
    _guard: Arc<()>,
}

impl Lease for FakeLease {
    fn open(&mut self, head: &RequestHead, end: bool) -> Result<OutgoingStream, StreamError> {
        let upstream = self.upstream.take().expect("it is opened once");
        if let Some(error) = upstream.open_error {
            return Err(error);
        }
        self.seen.lock().unwrap().heads.push((head.clone(), end));
        if end {
            upstream.sent.finish();
        }
        let send = Box::new(Writer(upstream.sent.clone()));
        let heads = upstream.heads.clone().into();
        let sleep = (!upstream.delay.is_zero()).then(|| Box::pin(tokio::time::sleep(upstream.delay)));
        Ok(OutgoingStream { send, response: Box::new(FakeResponse { upstream, heads, sleep }), meter: None })
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
        if self.upstream.after_body {
            std::task::ready!(self.upstream.sent.poll_finished(cx));
        }
        self.heads.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn into_recv(self: Box<Self>) -> Box<dyn RecvStream> {
        Box::new(Reader(self.upstream.body.clone()))
    }
}

pub struct FakeClusters(pub HashMap<String, Arc<FakeCluster>>);

impl Clusters for FakeClusters {
    fn get(&self, name: &str) -> Option<Arc<dyn Cluster>> {
        self.0.get(name).map(|cluster| cluster.clone() as Arc<dyn Cluster>)
    }
}
