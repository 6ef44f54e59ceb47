//! Tunnels over an HTTP codec without a wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use adit_codec::conformance::peers::{at_least, chunk, failure, response, send};
use adit_codec::{IncomingStream, RecvStream, SendStream};
use adit_config::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use adit_config::proto::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use adit_filter::upstream::FailureKind;
use adit_http::{ErrorCode, RequestKind, StreamError};
use adit_io::FilterValue;
use adit_testkit::{End, within};
use common::{Attempt, World, message, tunnel};
use http::{HeaderMap, Method};

type Halves = (Box<dyn SendStream>, Box<dyn RecvStream>);

async fn request(world: &mut World) -> IncomingStream {
    within(world.requests.recv()).await.expect("a request")
}

fn accept(stream: IncomingStream, status: u16) -> Halves {
    let IncomingStream { recv, responder, .. } = stream;
    (responder.respond(response(status, &[]), false).unwrap(), recv)
}

fn refuse(stream: IncomingStream, status: u16) -> (Box<dyn SendStream>, Box<dyn RecvStream>) {
    let IncomingStream { recv, responder, .. } = stream;
    let fields = [("x-why", "because")];
    (responder.respond(response(status, &fields), true).unwrap(), recv)
}

async fn end(recv: &mut Box<dyn RecvStream>) {
    assert!(within(chunk(recv)).await.is_none(), "expected the end");
}

fn header(key: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
    HeaderValueOption { header: Some(header), ..Default::default() }
}

#[tokio::test]
async fn a_connect_tunnel_waits_for_its_acceptance() {
    let mut world = World::new(&tunnel(|tunnel| {
        tunnel.hostname = "%FILTER_STATE(host:PLAIN)%:8443".into();
        tunnel.headers_to_add = vec![header("proxy-authorization", "Basic %FILTER_STATE(host:PLAIN)%")];
    }));
    let (mut client, served) = world.client_with(&[("host", FilterValue::Text("far.test".into()))]).await;
    let mut stream = request(&mut world).await;
    assert_eq!(stream.head.kind, RequestKind::Connect("far.test:8443".parse().unwrap()));
    assert_eq!((stream.head.method.clone(), stream.head.path.clone()), (Method::CONNECT, None));
    assert_eq!(stream.head.headers["proxy-authorization"], "Basic far.test");
    assert!(!stream.head.headers.contains_key("content-length"));
    client.send("early").await;
    let early = tokio::time::timeout(Duration::from_millis(100), chunk(&mut stream.recv)).await;
    assert!(early.is_err(), "payload before the acceptance");
    let (mut far, mut recv) = accept(stream, 200);
    assert_eq!(within(at_least(&mut recv, 5)).await.unwrap(), b"early");
    within(send(&mut far, "back", false)).await.unwrap();
    client.expect("back").await;
    // The client ends first, the far side goes on.
    client.half_close().await;
    end(&mut recv).await;
    within(send(&mut far, "late", true)).await.unwrap();
    assert_eq!(client.receive_to_end().await, (b"late".to_vec(), End::Fin));
    let info = within(served).await.unwrap();
    assert_eq!((info.bytes_received, info.bytes_sent, info.response_code), (5, 8, 0));
    assert_eq!(info.upstream.unwrap().connection_id, HTTP_CONNECTION);
    assert_eq!(world.counter("tcp.t.tcpproxy_tunneling.rq_total"), 0);
    assert!(world.lines()[0].starts_with("TcpConnectionEnd - - up=192.0.2.9:99 attempts=1 rx=5 tx=8"));
}

/// The id of the fake's HTTP connection.
const HTTP_CONNECTION: u64 = 78;

#[tokio::test]
async fn a_post_tunnel_is_two_bodies() {
    let mut world = World::new(&tunnel(|tunnel| {
        tunnel.use_post = true;
        tunnel.post_path = "/tunnel?x=1".into();
        tunnel.propagate_response_trailers = true;
    }));
    let (mut client, served) = world.client().await;
    let stream = request(&mut world).await;
    assert_eq!(stream.head.kind, RequestKind::Plain);
    assert_eq!(stream.head.method, Method::POST);
    assert_eq!(stream.head.path.as_ref().unwrap().as_str(), "/tunnel?x=1");
    assert_eq!(stream.head.scheme.as_str(), "https");
    let (mut far, mut recv) = accept(stream, 201);
    client.send("up").await;
    assert_eq!(within(at_least(&mut recv, 2)).await.unwrap(), b"up");
    within(send(&mut far, "down", false)).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-last", "1".parse().unwrap());
    within(std::future::poll_fn(|cx| far.poll_send_trailers(cx, &trailers))).await.unwrap();
    // Trailers are the end for the client.
    assert_eq!(client.receive_to_end().await, (b"down".to_vec(), End::Fin));
    client.half_close().await;
    end(&mut recv).await;
    let info = within(served).await.unwrap();
    let kept = &info.state.get("envoy.tcp_proxy.propagate_response_trailers").unwrap().value;
    assert_eq!(format!("{kept:?}"), r#"[("x-last", "1")]"#);
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, _served) = world.client().await;
    let mut stream = request(&mut world).await;
    stream.responder.inform(response(103, &[])).unwrap();
    stream.responder.inform(response(100, &[])).unwrap();
    let (mut far, _recv) = accept(stream, 204);
    within(send(&mut far, "x", false)).await.unwrap();
    client.expect("x").await;
}

#[tokio::test]
async fn refusals_end_the_tunnel_and_nothing_is_sent_after_them() {
    for (status, ends) in [(407, true), (503, true), (302, true), (200, true), (101, false), (403, false)] {
        let mut world = World::new(&tunnel(|tunnel| tunnel.propagate_response_headers = true));
        let (mut client, served) = world.client().await;
        let stream = request(&mut world).await;
        client.send("secret").await;
        let (_far, mut recv) = if ends { refuse(stream, status) } else { accept(stream, status) };
        client.expect_rst().await;
        match within(chunk(&mut recv)).await {
            Some(Err(_)) => {}
            other => panic!("{status}: {other:?}"),
        }
        let info = within(served).await.unwrap();
        let line = &world.lines()[0];
        assert!(line.contains(" UF,URX tcp_initializion_failure:0 up=192.0.2.9:99 attempts=1 rx=0 tx=0"), "{line}");
        assert!(line.ends_with(&format!("why=tunnel_response:{status}")), "{line}");
        let kept = &info.state.get("envoy.tcp_proxy.propagate_response_headers").unwrap().value;
        assert!(format!("{kept:?}").starts_with(&format!(r#"[(":status", "{status}")"#)), "{kept:?}");
    }
}

#[tokio::test]
async fn a_silent_client_of_a_refused_tunnel_gets_an_end() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, _served) = world.client().await;
    let stream = request(&mut world).await;
    let _halves = refuse(stream, 403);
    client.expect_fin().await;
}

#[tokio::test]
async fn attempts_count_for_connections_and_handshakes_alike() {
    let retrying =
        pb::TcpProxy { max_connect_attempts: Some(4), ..tunnel(|tunnel| tunnel.propagate_response_headers = true) };
    let mut world = World::new(&retrying);
    world.then(Attempt::Fail(FailureKind::Timeout));
    let (mut client, served) = world.client().await;
    client.send("kept").await;
    // The second attempt is reset, the third refused, the fourth accepted.
    let stream = request(&mut world).await;
    stream.responder.reset(ErrorCode::Refused);
    let stream = request(&mut world).await;
    let _refused = refuse(stream, 407);
    let stream = request(&mut world).await;
    let (mut far, mut recv) = accept(stream, 200);
    assert_eq!(within(at_least(&mut recv, 4)).await.unwrap(), b"kept");
    within(send(&mut far, "", true)).await.unwrap();
    client.half_close().await;
    within(served).await.unwrap();
    assert!(world.lines()[0].starts_with("TcpConnectionEnd UF - up=192.0.2.9:99 attempts=4"), "{:?}", world.lines());
}

#[tokio::test]
async fn a_client_that_leaves_while_we_wait_is_noticed() {
    for (reset, speaks) in [(false, false), (true, false), (true, true)] {
        let mut world = World::new(&tunnel(|_| {}));
        let (mut client, served) = world.client().await;
        let mut stream = request(&mut world).await;
        if speaks {
            client.send("x").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if reset {
            client.rst();
        } else {
            drop(client);
        }
        let info = within(served).await.unwrap();
        assert_eq!(info.flags.to_string(), "DC");
        within(std::future::poll_fn(|cx| stream.responder.poll_cancelled(cx))).await;
        assert!(world.cluster.guard_dropped.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn an_end_behind_bytes_is_a_half_close() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, served) = world.client().await;
    let stream = request(&mut world).await;
    client.send("request").await;
    client.half_close().await;
    client.expect_silence(Duration::from_millis(100)).await;
    let (mut far, mut recv) = accept(stream, 200);
    assert_eq!(within(at_least(&mut recv, 7)).await.unwrap(), b"request");
    end(&mut recv).await;
    within(send(&mut far, "answer", true)).await.unwrap();
    assert_eq!(client.receive_to_end().await, (b"answer".to_vec(), End::Fin));
    within(served).await.unwrap();
}

#[tokio::test]
async fn the_idle_timer_covers_the_handshake() {
    let idle = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
    let mut world = World::new(&pb::TcpProxy { idle_timeout: Some(idle), ..tunnel(|_| {}) });
    let (mut client, served) = world.client().await;
    let mut stream = request(&mut world).await;
    client.expect_fin().await;
    within(std::future::poll_fn(|cx| stream.responder.poll_cancelled(cx))).await;
    within(served).await.unwrap();
    assert_eq!(world.counter("tcp.t.idle_timeout"), 1);
    assert!(world.lines()[0].contains("tcp_session_idle_timeout"));
}

#[tokio::test]
async fn every_reset_code_is_a_reset_for_the_client() {
    for code in [
        ErrorCode::NoError,
        ErrorCode::Protocol,
        ErrorCode::Internal,
        ErrorCode::StreamClosed,
        ErrorCode::Refused,
        ErrorCode::Cancel,
        ErrorCode::Connect,
        ErrorCode::Http11Required,
    ] {
        let mut world = World::new(&tunnel(|_| {}));
        let (mut client, served) = world.client().await;
        let (mut far, mut recv) = accept(request(&mut world).await, 200);
        client.send("x").await;
        within(at_least(&mut recv, 1)).await.unwrap();
        far.reset(code);
        client.expect_rst().await;
        let info = within(served).await.unwrap();
        assert_eq!(info.flags.to_string(), "UR", "{code:?}");
        assert_eq!(info.downstream_close_type, Some("LocalReset"));
        assert_eq!(info.upstream.unwrap().close_type, Some("RemoteReset"));
    }
}

#[tokio::test]
async fn a_clients_reset_is_one_for_the_far_side() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, served) = world.client().await;
    let (_far, mut recv) = accept(request(&mut world).await, 200);
    client.send("x").await;
    within(at_least(&mut recv, 1)).await.unwrap();
    client.rst();
    assert!(matches!(within(failure(&mut recv)).await, StreamError::Reset(_)));
    let info = within(served).await.unwrap();
    assert_eq!(info.downstream_close_type, Some("RemoteReset"));
}

#[tokio::test]
async fn the_far_side_may_end_first() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, served) = world.client().await;
    let (mut far, mut recv) = accept(request(&mut world).await, 200);
    within(send(&mut far, "bye", true)).await.unwrap();
    assert_eq!(client.receive_to_end().await, (b"bye".to_vec(), End::Fin));
    client.send("still").await;
    assert_eq!(within(at_least(&mut recv, 5)).await.unwrap(), b"still");
    client.half_close().await;
    end(&mut recv).await;
    within(served).await.unwrap();
}

#[tokio::test]
async fn an_orderly_shutdown_ends_a_tunnel() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, served) = world.client().await;
    let (_far, mut recv) = accept(request(&mut world).await, 200);
    client.send("x").await;
    within(at_least(&mut recv, 1)).await.unwrap();
    world.drain.close();
    end(&mut recv).await;
    client.expect_fin().await;
    within(served).await.unwrap();
}

#[tokio::test]
async fn a_host_name_that_is_none_fails_the_attempt() {
    let world = World::new(&tunnel(|tunnel| tunnel.hostname = "%FILTER_STATE(host:PLAIN)%".into()));
    let (mut client, served) = world.client_with(&[("host", FilterValue::Text("a b\r\nc".into()))]).await;
    client.expect_fin().await;
    within(served).await.unwrap();
    assert!(world.lines()[0].ends_with("why=invalid_tunnel_hostname"), "{:?}", world.lines());
}

#[tokio::test]
async fn filter_state_turns_the_tunnel_off() {
    let world = World::new(&tunnel(|_| {}));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.then(Attempt::Dial(listener.local_addr().unwrap()));
    let key = "envoy.tcp_proxy.disable_tunneling";
    let (mut client, _served) = world.client_with(&[(key, FilterValue::Bool(true))]).await;
    let mut upstream = adit_testkit::Peer::accept(&listener).await;
    client.send("plain").await;
    upstream.expect("plain").await;
}

#[tokio::test]
async fn ten_megabytes_each_way_arrive_intact() {
    let mut world = World::new(&tunnel(|_| {}));
    let (mut client, _served) = world.client().await;
    let (mut far, mut recv) = accept(request(&mut world).await, 200);
    const SIZE: u64 = 10 << 20;
    let (mut reader, mut writer) = client.split();
    let down = async {
        let mut payload = adit_testkit::Payload::new(7);
        for _ in 0..SIZE / (64 << 10) {
            send(&mut far, payload.take(64 << 10), false).await.unwrap();
        }
        send(&mut far, "", true).await.unwrap();
    };
    let up = async {
        let mut check = adit_testkit::Check::new(9);
        let mut total = 0;
        while let Some(bytes) = chunk(&mut recv).await {
            let bytes = bytes.unwrap();
            total += bytes.len() as u64;
            check.eat(&bytes);
        }
        total
    };
    let send_up = async {
        writer.send_in_pieces(9, SIZE).await;
        writer.half_close().await;
    };
    let (_, total, _, got) = within(async { tokio::join!(down, up, send_up, reader.check_to_end(7)) }).await;
    assert_eq!((total, got), (SIZE, (SIZE, End::Fin)));
}

#[test]
fn the_plain_message_has_no_tunnel_stats() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _context = runtime.enter();
    let world = World::new(&message());
    assert_eq!(world.store.counter_value("tcp.t.tcpproxy_tunneling.rq_total"), None);
    assert_eq!(world.store.counter_value("tcp.t.route_delayed_total"), Some(0));
}
