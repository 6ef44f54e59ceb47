//! Streams and connections for the tests of this crate.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::task::{Context, Poll};

use adit_codec::{RecvStream, Responder, SendStream};
use adit_filter::upstream::{Cluster, Clusters};
use adit_filter::{
    BoxFuture, Connection, HttpFilter, HttpStream, Lifecycle, ListenerInfo, LocalReply, ResponseHook, RuntimeValues,
    Spawn, StreamInfo, WorkerEnv,
};
use adit_http::{ErrorCode, RequestHead, RequestKind, ResponseHead, StreamError};
use adit_io::{ByteSource, ConnInfo, Io};
use adit_stats::{Scope, Store};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use crate::Env;

/// Scopes that outlive an [`Env`].
pub(crate) struct Scopes {
    pub root: Scope,
    http: Scope,
}

impl Scopes {
    pub fn new() -> Self {
        let root = Store::new(1).root();
        Self { http: root.http("p"), root }
    }

    pub fn env(&self) -> Env<'_> {
        Env { root: &self.root, http: &self.http }
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.root.store().counter_value(name).unwrap()
    }

    pub fn gauge(&self, name: &str) -> u64 {
        self.root.store().gauge_value(name).unwrap()
    }
}

struct Nothing;

impl Clusters for Nothing {
    fn get(&self, _: &str) -> Option<Arc<dyn Cluster>> {
        None
    }
}

impl Spawn for Nothing {
    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}

impl Lifecycle for Nothing {
    fn should_drain(&self) -> bool {
        false
    }

    fn closing(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl ByteSource for Nothing {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Ready(None)
    }

    fn stop(&mut self, _: ErrorCode) {}
}

impl RecvStream for Nothing {
    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Ready(Ok(None))
    }

    fn is_end(&self) -> bool {
        true
    }
}

impl Responder for Nothing {
    fn inform(&mut self, _: ResponseHead) -> Result<(), StreamError> {
        Ok(())
    }

    fn respond(self: Box<Self>, _: ResponseHead, _: bool) -> Result<Box<dyn SendStream>, StreamError> {
        Err(StreamError::Local(ErrorCode::Internal))
    }

    fn poll_cancelled(&mut self, _: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Pending
    }

    fn reset(self: Box<Self>, _: ErrorCode) {}
}

impl ResponseHook for Nothing {
    fn keep_filter(&mut self, _: Box<dyn HttpFilter>) {}

    fn on_response(&mut self, _: &mut ResponseHead, _: &RequestHead, _: &mut StreamInfo, _: Instant) {}

    fn render_reply(
        &mut self,
        reply: LocalReply,
        _: &RequestHead,
        _: &mut StreamInfo,
        _: Instant,
    ) -> (ResponseHead, Bytes) {
        (ResponseHead::new(reply.status), Bytes::new())
    }

    fn on_tunnel(&mut self, _: &RequestHead, _: &mut StreamInfo) {}
}

pub(crate) fn worker() -> Arc<WorkerEnv> {
    Arc::new(WorkerEnv {
        index: 0,
        clusters: Arc::new(Nothing),
        spawn: Arc::new(Nothing),
        lifecycle: Arc::new(Nothing),
        runtime: RuntimeValues::default(),
    })
}

pub(crate) fn conn_info() -> ConnInfo {
    let address = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
    ConnInfo::new(1, address("127.0.0.1:8080"), address("10.0.0.9:5"))
}

pub(crate) fn stream(request: RequestHead) -> HttpStream {
    let info = StreamInfo::new(Arc::new(conn_info()));
    HttpStream::new(request, Box::new(Nothing), Box::new(Nothing), Box::new(Nothing), info, worker())
}

/// A plain CONNECT: it has no path.
pub(crate) fn connect() -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Connect("a.example:443".parse().unwrap()), Method::CONNECT);
    head.authority = Some("a.example:443".parse().unwrap());
    head
}

/// A request with these fields.
pub(crate) fn get(path: &str, fields: &[(&'static str, &'static str)]) -> RequestHead {
    let mut head = RequestHead::new(RequestKind::Plain, Method::GET);
    head.path = Some(path.parse().unwrap());
    let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    head.headers.extend(fields);
    head
}

/// A connection from these bytes.
pub(crate) fn connection(socket: tokio::net::TcpStream) -> Connection {
    let listener = ListenerInfo {
        name: "l".into(),
        stats_address: "l".into(),
        buffer_limit: 1 << 20,
        direction: "UNSPECIFIED",
        kind: "tcp",
        logs: true,
    };
    Connection {
        io: Io::tcp(socket, Arc::new(conn_info())),
        listener: Arc::new(listener),
        filter_chain_name: None,
        worker: worker(),
        guards: Vec::new(),
    }
}
