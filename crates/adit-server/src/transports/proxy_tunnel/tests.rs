#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::borrow::Cow;
use std::sync::Mutex;
use std::task::Waker;

use adit_filter::upstream::{ClusterSettings, Host, HostInfo, HttpUpstream, Report, TcpUpstream};
use adit_filter::{BoxFuture, Soon};
use adit_io::{Address, FilterValue, Metadata};
use http::HeaderMap;

use super::*;

/// A cluster of proxies that refuses, and keeps the filter state that came along.
struct Refusing {
    kind: FailureKind,
    seen: Mutex<FilterState>,
}

impl Refusing {
    fn failure(&self) -> ConnectFailure {
        ConnectFailure { kind: self.kind, reason: Cow::Borrowed(""), host: None, refusal: None }
    }
}

impl Cluster for Refusing {
    fn settings(&self) -> &ClusterSettings {
        unreachable!("nobody asks")
    }

    fn tcp<'a>(&'a self, _: &'a Need<'a>) -> BoxFuture<'a, Result<TcpUpstream, ConnectFailure>> {
        Box::pin(async { Err(self.failure()) })
    }

    fn http<'a>(&'a self, need: &Need<'_>) -> Soon<'a, Result<HttpUpstream, ConnectFailure>> {
        *self.seen.lock().unwrap() = need.state.clone();
        Soon::Later(Box::pin(async { Err(self.failure()) }))
    }

    fn retry_permit(&self, _: Priority) -> Option<Box<dyn Send>> {
        None
    }

    fn report(&self, _: Report) {}
}

struct TestHost(HostInfo);

impl Host for TestHost {
    fn info(&self) -> &HostInfo {
        &self.0
    }

    fn report(&self, _: Report) {}
}

async fn refusal(kind: FailureKind, state: FilterState) -> (TransportError, FilterState) {
    let address = Address::Ip("10.1.2.3:443".parse().unwrap());
    let info = HostInfo { address, hostname: "".into(), cluster: "c".into(), metadata: Metadata::default() };
    let ctx = TransportContext {
        host: Arc::new(TestHost(info)),
        cluster_metadata: Metadata::default(),
        clusters: None,
        downstream: None,
        state,
        metadata: Metadata::default(),
        auto_sni: None,
        auto_san_validation: false,
        verify_name: None,
        alpn: &[],
    };
    let target = Target { authority: Authority::from_static("a.test:443"), authorization: None, proxy: None };
    let cluster = Refusing { kind, seen: Mutex::default() };
    let Err(Refused::Failed(error)) = open(&cluster, &target, &ctx).await else { panic!("it refuses") };
    (error, cluster.seen.into_inner().unwrap())
}

#[tokio::test]
async fn what_is_said_of_the_host_does_not_steer_the_way_to_the_proxy() {
    let mut state = FilterState::default();
    let own = ["envoy.network.upstream_server_name", "envoy.network.application_protocols"];
    for name in own {
        state.set(name, FilterValue::Text("a.test".into()), Sharing::None);
    }
    state.set("once", FilterValue::Bool(true), Sharing::Once);
    state.set("always", FilterValue::Bool(true), Sharing::Transitive);
    let (_, seen) = refusal(FailureKind::Remote, state).await;
    let seen: Vec<_> = seen.iter().map(|(name, object)| (name.to_owned(), object.sharing)).collect();
    assert_eq!(seen, [("always".to_owned(), Sharing::Transitive), ("once".to_owned(), Sharing::Once)]);
}

#[tokio::test]
async fn what_the_cluster_of_the_proxy_lacks_keeps_its_name() {
    for (kind, expected) in [
        (FailureKind::Overflow, FailureKind::Overflow),
        (FailureKind::NoHealthyHost, FailureKind::NoHealthyHost),
        (FailureKind::Timeout, FailureKind::Timeout),
        (FailureKind::Protocol, FailureKind::Remote),
    ] {
        let (error, _) = refusal(kind, FilterState::default()).await;
        assert_eq!(error.kind, expected);
        assert!(error.reason.contains(kind.reset_reason()), "{}", error.reason);
    }
}

/// Takes so many bytes from the front, then has no room.
struct Taking(usize);

impl ByteSink for Taking {
    fn poll_send(&mut self, _: &mut Context<'_>, data: &mut Bytes, _: bool) -> Poll<Result<(), StreamError>> {
        let n = data.len().min(self.0);
        data.advance(n);
        self.0 -= n;
        if data.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, _: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Pending
    }

    fn reset(&mut self, _: ErrorCode) {}
}

impl SendStream for Taking {
    fn poll_send_trailers(&mut self, _: &mut Context<'_>, _: &HeaderMap) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }
}

struct Silent;

impl ByteSource for Silent {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Option<Result<Bytes, StreamError>>> {
        Poll::Pending
    }

    fn stop(&mut self, _: ErrorCode) {}
}

impl RecvStream for Silent {
    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, StreamError>> {
        Poll::Pending
    }

    fn is_end(&self) -> bool {
        false
    }
}

#[test]
fn nothing_is_kept_of_what_went() {
    let tunnel = |room| Tunnel {
        recv: Box::new(Silent),
        send: Box::new(Taking(room)),
        read: Bytes::new(),
        unsent: Bytes::new(),
        _guard: Box::new(()),
    };
    let data = vec![7; MAX_WRITE];
    let mut cx = Context::from_waker(Waker::noop());
    let mut write = |tunnel: &mut Tunnel| match Pin::new(tunnel).poll_write(&mut cx, &data) {
        Poll::Ready(Ok(n)) => n,
        other => panic!("{other:?}"),
    };
    let mut full = tunnel(10);
    assert_eq!(write(&mut full), MAX_WRITE);
    assert_eq!(full.unsent.len(), MAX_WRITE - 10, "what waits is kept");
    let mut idle = tunnel(usize::MAX);
    assert_eq!(write(&mut idle), MAX_WRITE);
    assert!(idle.unsent.is_empty() && !idle.unsent.is_unique(), "no allocation is behind it");
}
