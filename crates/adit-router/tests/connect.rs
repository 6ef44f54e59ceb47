//! CONNECT: proxied and terminated, with real sockets as raw upstreams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use adit_config::proto::envoy::config::core::v3::{DataSource, ProxyProtocolConfig, data_source};
use adit_config::proto::envoy::config::route::v3 as pb;
use adit_config::proto::envoy::extensions::filters::http::router::v3::Router as RouterMessage;
use adit_filter::upstream::FailureKind;
use adit_http::{ErrorCode, RequestKind, StreamError};
use adit_io::{Address, ConnInfo, Io};
use adit_testkit::{Peer, eventually, tcp_pair};
use http::{Method, Version};
use pb::route_action::UpgradeConfig;
use pb::route_action::upgrade_config::ConnectConfig;
use support::*;

fn terminating(config: ConnectConfig) -> pb::RouteConfiguration {
    route_all(|action| {
        action.upgrade_configs =
            vec![UpgradeConfig { upgrade_type: "CONNECT".into(), enabled: None, connect_config: Some(config) }];
    })
}

async fn raw() -> (Attempt, Peer) {
    let (ours, theirs) = tcp_pair().await;
    let address = |a: std::io::Result<std::net::SocketAddr>| Address::Ip(a.unwrap());
    let info = ConnInfo::new(9, address(ours.local_addr()), address(ours.peer_addr()));
    (Attempt::Tcp(Io::tcp(ours, Arc::new(info))), Peer::new(theirs))
}

fn h2(target: &str) -> adit_http::RequestHead {
    let mut head = connect(target);
    head.version = Version::HTTP_2;
    head
}

#[tokio::test]
async fn proxied_connect_takes_any_2xx_and_no_framing() {
    for (status, accepted) in [(200, true), (202, true), (204, true), (407, false), (503, false)] {
        let mut upstream = Upstream::accepting(status, &[("content-length", "5")]);
        if !accepted {
            upstream.body = Half::of("sorry");
        }
        let sent = upstream.sent.clone();
        let up = Half::default();
        up.push("early");
        let cluster = FakeCluster::new("c", vec![Attempt::Http(upstream)]);
        let running = Case::new(&route_all(|_| {}), cluster, connect("example.com:443"), up).spawn();
        settle().await;
        assert_eq!(running.client.status(), Some(status));
        assert_eq!(sent.text(), if accepted { "early" } else { "" });
        assert_eq!(running.client.tunnel(), accepted);
        assert_eq!(running.client.header("content-length").is_some(), !accepted);
        if !accepted {
            assert_eq!(running.down.text(), "sorry");
        }
        let seen = running.cluster.seen.lock().unwrap().heads[0].0.clone();
        assert_eq!(seen.kind, connect("example.com:443").kind);
        assert_eq!(seen.authority.unwrap(), "example.com:443");
        running.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_route_timeout_is_not_for_connect() {
    let case = Case::new(
        &route_all(|_| {}),
        FakeCluster::new("c", vec![Attempt::Http(Upstream::silent())]),
        connect("a:1"),
        Half::default(),
    );
    let running = case.spawn();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(running.client.status(), None);
    running.task.abort();
}

#[tokio::test]
async fn a_terminated_connect_is_answered_at_once_and_half_closes_in_both_orders() {
    for client_first in [true, false] {
        let (attempt, mut peer) = raw().await;
        let up = Half::default();
        up.push("early ");
        let running =
            Case::new(&terminating(Default::default()), FakeCluster::new("c", vec![attempt]), h2("a:1"), up).spawn();
        eventually("answered", || running.client.status().is_some()).await;
        assert_eq!(running.client.status(), Some(200));
        running.up.push("hello");
        peer.expect("early hello").await;
        peer.send("welcome").await;
        if client_first {
            running.up.finish();
            peer.expect_fin().await;
            peer.send(" back").await;
            peer.half_close().await;
        } else {
            peer.send(" back").await;
            peer.half_close().await;
            eventually("ended", || running.down.ended()).await;
            running.up.push(", still here");
            peer.expect(", still here").await;
            running.up.finish();
            peer.expect_fin().await;
        }
        let down = running.down.clone();
        let stream = running.done().await;
        assert_eq!(down.text(), "welcome back");
        assert!(down.ended());
        assert_eq!(stream.info.flags.to_string(), "-");
        assert_eq!(stream.info.details.as_deref(), Some("via_upstream"));
        assert_eq!(stream.info.bytes_sent, 12);
    }
}

#[tokio::test]
async fn a_header_only_connect_is_a_half_close() {
    let (attempt, mut peer) = raw().await;
    let running =
        Case::new(&terminating(Default::default()), FakeCluster::new("c", vec![attempt]), h2("a:1"), Half::empty())
            .spawn();
    peer.expect_fin().await;
    peer.send("bye").await;
    peer.half_close().await;
    let (down, client) = (running.down.clone(), running.client.clone());
    running.done().await;
    assert_eq!((client.status(), down.text().as_str()), (Some(200), "bye"));
}

#[tokio::test]
async fn resets_cross_a_terminated_connect() {
    let (attempt, peer) = raw().await;
    let running =
        Case::new(&terminating(Default::default()), FakeCluster::new("c", vec![attempt]), h2("a:1"), Half::default())
            .spawn();
    eventually("answered", || running.client.status().is_some()).await;
    peer.rst();
    let down = running.down.clone();
    let stream = running.done().await;
    assert_eq!(down.reset_code(), Some(ErrorCode::Connect));
    assert_eq!(stream.info.flags.to_string(), "UC");

    let (attempt, mut peer) = raw().await;
    let running =
        Case::new(&terminating(Default::default()), FakeCluster::new("c", vec![attempt]), h2("a:1"), Half::default())
            .spawn();
    eventually("answered", || running.client.status().is_some()).await;
    running.up.end(Err(StreamError::Reset(ErrorCode::Cancel)));
    peer.expect_rst().await;
    assert_eq!(running.done().await.info.flags.to_string(), "DR");
}

#[tokio::test]
async fn the_proxy_preamble_comes_first() {
    let config = |version| ConnectConfig {
        proxy_protocol_config: Some(ProxyProtocolConfig { version, ..Default::default() }),
        allow_post: false,
    };
    for (version, preamble) in [
        (0, b"PROXY TCP4 127.0.0.1 127.0.0.1 5000 8080\r\n".to_vec()),
        (1, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x13\x88\x1f\x90".to_vec()),
    ] {
        let (attempt, mut peer) = raw().await;
        let up = Half::default();
        up.push("early");
        let cluster = FakeCluster::new("c", vec![attempt]);
        let running = Case::new(&terminating(config(version)), cluster, connect("a:1"), up).spawn();
        peer.expect([preamble.as_slice(), b"early"].concat()).await;
        running.task.abort();
    }
}

#[tokio::test]
async fn an_upstream_that_is_lost_before_its_preamble_is_a_503_and_no_empty_tunnel() {
    for version in [0, 1] {
        let (ours, theirs) = tcp_pair().await;
        Peer::new(theirs).rst();
        // Told of the error by the write alone, as where the reset comes between the connect and the preamble.
        ours.ready(tokio::io::Interest::ERROR).await.unwrap();
        let address = |a: std::io::Result<std::net::SocketAddr>| Address::Ip(a.unwrap());
        let info = ConnInfo::new(9, address(ours.local_addr()), Address::Ip("127.0.0.1:9".parse().unwrap()));
        let cluster = FakeCluster::new("c", vec![Attempt::Tcp(Io::tcp(ours, Arc::new(info)))]);
        let config = ConnectConfig {
            proxy_protocol_config: Some(ProxyProtocolConfig { version, ..Default::default() }),
            allow_post: false,
        };
        let mut case = Case::new(&terminating(config), cluster, h2("a:1"), Half::default());
        case.run().await;
        assert_eq!((case.client.status(), case.flags().as_str()), (Some(503), "UC"));
        assert_eq!(case.details(), "upstream_reset_before_response_started{connection_termination}");
        assert!(!case.client.tunnel());
    }
}

#[tokio::test]
async fn post_is_terminated_where_that_is_allowed() {
    let mut head = get("/");
    head.method = Method::POST;
    let config = ConnectConfig { proxy_protocol_config: None, allow_post: true };
    let (attempt, mut peer) = raw().await;
    let running =
        Case::new(&terminating(config), FakeCluster::new("c", vec![attempt]), head.clone(), Half::of("posted")).spawn();
    peer.expect("posted").await;
    peer.expect_fin().await;
    peer.send("answer").await;
    peer.half_close().await;
    let (down, client) = (running.down.clone(), running.client.clone());
    running.done().await;
    assert_eq!((client.status(), down.text().as_str(), down.ended()), (Some(200), "answer", true));
    assert_eq!(client.header("content-length"), None);
    // Elsewhere it is an ordinary request.
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, "plain"))]);
    let mut case = Case::new(&terminating(Default::default()), cluster, head, Half::of("x"));
    case.run().await;
    assert_eq!(case.down.text(), "plain");
}

/// RFC 8470: what came in early data may be a replay.
#[tokio::test]
async fn early_data_opens_no_tunnel() {
    let allow_post = |allow_post| terminating(ConnectConfig { proxy_protocol_config: None, allow_post });
    let mut post = get("/");
    post.method = Method::POST;
    let mut websocket = get("/");
    websocket.kind = RequestKind::Upgrade(adit_http::Token::new("websocket").unwrap());
    for (routes, mut head, early) in [
        (route_all(|_| {}), connect("a:1"), true),
        (allow_post(false), connect("a:1"), true),
        (route_all(|_| {}), websocket, true),
        (allow_post(true), post.clone(), true),
        (allow_post(false), post, false),
    ] {
        head.headers.insert("early-data", "1".parse().unwrap());
        let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, "plain"))]);
        let mut case = Case::new(&routes, cluster, head, Half::of("x"));
        adit_testkit::within(case.run()).await;
        let (status, details) = if early { (425, "early_data_rejected") } else { (200, "via_upstream") };
        assert_eq!((case.client.status(), case.details()), (Some(status), details));
    }
}

#[tokio::test]
async fn a_cluster_may_terminate_by_itself() {
    let (attempt, mut peer) = raw().await;
    let cluster = FakeCluster::new("c", vec![attempt]).settings(|settings| settings.terminates_connect = true);
    let running = Case::new(&route_all(|_| {}), cluster, connect("a:1"), Half::of("x")).spawn();
    peer.expect("x").await;
    running.task.abort();
}

#[tokio::test]
async fn early_data_may_be_refused_before_anything_is_connected() {
    let router = RouterMessage { reject_connect_request_early_data: Some(true), ..Default::default() };
    let routes = terminating(Default::default());
    let early = Half::default();
    early.push("early");
    let cluster = FakeCluster::new("c", vec![Attempt::HangConnect]);
    let mut case = Case::with(&routes, cluster, connect("a:1"), early, &router);
    case.run().await;
    assert_eq!((case.client.status(), case.details()), (Some(400), "early_connect_data"));
    // Without early data it is a tunnel like any other, for one that ended its side at once too.
    for body in [Half::default(), Half::empty()] {
        let (attempt, mut peer) = raw().await;
        let running = Case::with(&routes, FakeCluster::new("c", vec![attempt]), connect("a:1"), body, &router).spawn();
        eventually("answered", || running.client.status().is_some()).await;
        assert_eq!(running.client.status(), Some(200));
        if running.up.ended() {
            peer.expect_fin().await;
        } else {
            running.up.push("late");
            peer.expect("late").await;
        }
        running.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_a_terminated_connect() {
    let text = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (kind, flags, body) in [
        (FailureKind::Remote, "UF", format!("{text}remote connection failure")),
        (FailureKind::Timeout, "UF", format!("{text}connection timeout")),
        (FailureKind::Overflow, "UO", format!("{text}overflow")),
        (FailureKind::NoHealthyHost, "UH", "no healthy upstream".to_owned()),
    ] {
        let cluster = FakeCluster::new("c", vec![Attempt::Fail(kind, "")]);
        let mut case = Case::new(&terminating(Default::default()), cluster, connect("a:1"), Half::default());
        case.run().await;
        assert_eq!((case.client.status(), case.down.text(), case.flags().as_str()), (Some(503), body, flags));
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_is_reset() {
    let upstream = Upstream::accepting(200, &[]);
    let cluster = FakeCluster::new("c", vec![Attempt::Http(upstream)])
        .settings(|settings| settings.max_stream_duration = Some(Duration::from_secs(1000)));
    let mut case = Case::new(&route_all(|_| {}), cluster, connect("a:1"), Half::default());
    case.stream.idle_timeout = Some(Duration::from_secs(300));
    case.run().await;
    assert_eq!((case.flags().as_str(), case.details()), ("SI", "stream_idle_timeout"));
    assert!(case.down.reset_code().is_some());
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::accepting(200, &[]))])
        .settings(|settings| settings.max_stream_duration = Some(Duration::from_secs(10)));
    let mut case = Case::new(&route_all(|_| {}), cluster, connect("a:1"), Half::default());
    case.run().await;
    assert_eq!((case.flags().as_str(), case.details()), ("UMSDR", "upstream_max_stream_duration_reached"));
}

#[tokio::test]
async fn a_direct_response_to_a_connect_is_a_tunnel_without_content_length() {
    let mut routes = route_all(|_| {});
    let body =
        DataSource { specifier: Some(data_source::Specifier::InlineString("hello".into())), watched_directory: None };
    for (status, kind_is_tunnel) in [(200, true), (403, false)] {
        routes.virtual_hosts[0].routes[0].action = Some(pb::route::Action::DirectResponse(pb::DirectResponseAction {
            status,
            body: Some(body.clone()),
            body_format: None,
        }));
        let mut case = Case::new(&routes, FakeCluster::new("c", vec![]), connect("a:1"), Half::default());
        case.run().await;
        assert_eq!((case.client.status(), case.down.text().as_str()), (Some(status as u16), "hello"));
        assert!(case.down.ended());
        assert_eq!(case.details(), "direct_response");
        assert_eq!(case.client.header("content-length"), None, "{kind_is_tunnel}");
    }
}
