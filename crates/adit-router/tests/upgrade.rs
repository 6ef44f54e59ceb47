//! Upgrades: every row of what an upstream may answer, and that no payload moves before it accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::upstream::{FailureKind, Report};
use adit_http::{ErrorCode, StreamError, websocket};
use http::{HeaderValue, Version};
use support::*;

fn enabled() -> pb::RouteConfiguration {
    route_all(|_| {})
}

fn retrying(conditions: &str, per_try: Option<i64>) -> pb::RouteConfiguration {
    route_all(|action| {
        action.retry_policy = Some(pb::RetryPolicy {
            retry_on: conditions.into(),
            per_try_timeout: per_try.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        });
    })
}

/// `None` for a tunnel; else status and body.
type Expected = Option<(u16, &'static str)>;

#[tokio::test(start_paused = true)]
async fn every_answer_to_an_upgrade() {
    let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
    // token, client's version, upstream's version, answer, outcome
    let rows: Vec<(&str, Version, Version, u16, Expected)> = vec![
        ("websocket", h1, h1, 101, None),
        ("foo", h1, h1, 101, None),
        ("websocket", h1, h2, 101, None),
        ("websocket", h2, h2, 101, None),
        // Refusals pass with status and body, a websocket's 200 and 3xx too.
        ("websocket", h1, h1, 200, Some((200, "body"))),
        ("websocket", h1, h1, 302, Some((302, "body"))),
        ("websocket", h1, h1, 403, Some((403, "body"))),
        ("websocket", h1, h1, 426, Some((426, "body"))),
        ("websocket", h1, h1, 500, Some((500, "body"))),
        ("foo", h1, h1, 200, Some((200, "body"))),
        ("foo", h1, h1, 404, Some((404, "body"))),
        ("websocket", h1, h2, 201, Some((201, "body"))),
        ("websocket", h2, h2, 201, Some((201, "body"))),
        ("websocket", h2, h1, 403, Some((403, "body"))),
        // A 2xx of an HTTP/1 server must not look like an acceptance to an HTTP/2 client.
        (
            "foo",
            h2,
            h1,
            200,
            Some((502, "upstream connect error or disconnect/reset before headers. reset reason: protocol error")),
        ),
        (
            "foo",
            h2,
            h1,
            204,
            Some((502, "upstream connect error or disconnect/reset before headers. reset reason: protocol error")),
        ),
    ];
    for (token, client, version, status, expected) in rows {
        let mut upstream = Upstream::accepting(status, &[]).version(version);
        if expected.is_some() {
            upstream.body = Half::of("body");
        }
        let (sent, body) = (upstream.sent.clone(), upstream.body.clone());
        let mut head = upgrade(token);
        head.version = client;
        head.headers.insert("sec-websocket-key", HeaderValue::from_static("a2V5"));
        let up = Half::default();
        up.push("early payload");
        let running = Case::new(&enabled(), FakeCluster::new("c", vec![Attempt::Http(upstream)]), head, up).spawn();
        settle().await;
        let row = format!("{token} {client:?} {version:?} {status}");
        match expected {
            None => {
                assert_eq!(running.client.status(), Some(status), "{row}");
                assert!(running.client.tunnel(), "{row}");
                body.push("from upstream");
                settle().await;
                assert_eq!(
                    (sent.text().as_str(), running.down.text().as_str()),
                    ("early payload", "from upstream"),
                    "{row}"
                );
                running.up.finish();
                settle().await;
                assert!(sent.ended() && !running.down.ended(), "half-closed {row}");
                body.push("!");
                body.finish();
                let down = running.down.clone();
                let stream = running.done().await;
                assert!(down.ended() && down.text() == "from upstream!", "{row}");
                let flags = if client == h1 { "DC" } else { "-" };
                assert_eq!(stream.info.flags.to_string(), flags, "{row}");
            }
            Some((status, text)) => {
                assert_eq!((running.client.status(), running.down.text().as_str()), (Some(status), text), "{row}");
                assert!(!running.client.tunnel(), "{row}");
                let stream = running.done().await;
                assert_eq!(sent.text(), "", "payload after a refusal: {row}");
                assert!(sent.reset_code().is_some(), "{row}");
                assert_eq!(stream.info.bytes_received, 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn payload_waits_for_the_acceptance() {
    let mut upstream = Upstream::accepting(101, &[]);
    upstream.delay = Duration::from_secs(5);
    let sent = upstream.sent.clone();
    let up = Half::default();
    up.push("early");
    let running =
        Case::new(&enabled(), FakeCluster::new("c", vec![Attempt::Http(upstream)]), upgrade("foo"), up).spawn();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((sent.text().as_str(), running.client.status()), ("", None));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((sent.text().as_str(), running.client.status()), ("early", Some(101)));
    running.task.abort();
}

#[tokio::test(start_paused = true)]
async fn upgrades_ask_for_extended_connect_and_have_no_end() {
    let upstream = Upstream::status(403, "");
    let mut case = Case::new(
        &enabled(),
        FakeCluster::new("c", vec![Attempt::Http(upstream)]),
        upgrade("websocket"),
        Half::empty(),
    );
    case.run().await;
    let seen = case.cluster.seen.lock().unwrap();
    assert_eq!(seen.extended, [true]);
    let (head, end) = &seen.heads[0];
    assert!(!end);
    assert_eq!(
        (&head.headers["upgrade"], &head.headers["connection"]),
        (&"websocket".parse().unwrap(), &"upgrade".parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_made_for_a_native_client_and_its_answer_checked() {
    for (answer, accepted) in [(Some("right"), true), (Some("wrong"), false), (None, false)] {
        let mut head = upgrade("websocket");
        head.version = Version::HTTP_2;
        let mut upstream = Upstream::silent();
        upstream.body = Half::default();
        // The fake answers what the key was; it is only known once the request was sent.
        let cluster = FakeCluster::new("c", vec![]);
        fastrand::seed(7);
        let key = websocket::key_from(fastrand::u128(..).to_be_bytes());
        fastrand::seed(7);
        let right = websocket::accept_for(key.as_bytes());
        let value = answer.map(|answer| if answer == "right" { right.clone() } else { answer.to_owned() });
        let fields: Vec<(&'static str, &str)> =
            value.iter().map(|value| ("sec-websocket-accept", value.as_str())).collect();
        upstream.heads = vec![Ok(response(101, &fields))];
        cluster.script.lock().unwrap().push_back(Attempt::Http(upstream));
        let running = Case::new(&enabled(), cluster, head, Half::default()).spawn();
        settle().await;
        let sent_key = running.cluster.seen.lock().unwrap().heads[0].0.headers["sec-websocket-key"].clone();
        assert_eq!(sent_key, key.as_str());
        assert_eq!(running.client.status(), Some(if accepted { 101 } else { 502 }), "{answer:?}");
        assert_eq!(running.client.header("sec-websocket-accept"), None);
        running.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_key_gets_the_answer_that_a_native_server_leaves_out() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for (version, expected) in [(Version::HTTP_2, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), (Version::HTTP_11, None)] {
        let mut head = upgrade("websocket");
        head.headers.insert("sec-websocket-key", HeaderValue::from_static(key));
        let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::accepting(101, &[]).version(version))]);
        let running = Case::new(&enabled(), cluster, head, Half::default()).spawn();
        settle().await;
        assert_eq!(running.client.header("sec-websocket-accept").as_deref(), expected);
        assert_eq!(running.cluster.seen.lock().unwrap().heads[0].0.headers["sec-websocket-key"], key);
        running.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_retried_as_the_policy_says() {
    let cluster = FakeCluster::new(
        "c",
        vec![Attempt::Http(Upstream::status(500, "no")), Attempt::Http(Upstream::accepting(101, &[]))],
    );
    let running = Case::new(&retrying("5xx", None), cluster, upgrade("websocket"), Half::default()).spawn();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running.client.status(), Some(101));
    running.task.abort();
    let fail = || Attempt::Fail(FailureKind::Remote, "");
    let cluster = FakeCluster::new("c", vec![fail(), fail()]);
    let mut case = Case::new(&retrying("connect-failure", None), cluster, upgrade("foo"), Half::default());
    case.run().await;
    assert_eq!((case.client.status(), case.flags().as_str()), (Some(503), "URX,UF"));
}

#[tokio::test(start_paused = true)]
async fn timeouts_before_the_acceptance() {
    let silent = || Attempt::Http(Upstream::silent());
    // The route's timeout, while the upstream is silent, and while it is being connected.
    for first in [silent(), Attempt::HangConnect] {
        let start = tokio::time::Instant::now();
        let mut case = Case::new(&enabled(), FakeCluster::new("c", vec![first]), upgrade("websocket"), Half::default());
        case.run().await;
        assert_eq!(start.elapsed().as_secs(), 15);
        assert_eq!(
            (case.client.status(), case.flags().as_str(), case.details()),
            (Some(504), "UT", "response_timeout")
        );
        assert_eq!(case.down.text(), "upstream request timeout");
    }
    // Per try, once and with another try.
    let cluster = FakeCluster::new("c", vec![silent()]);
    let mut case = Case::new(&retrying("connect-failure", Some(2)), cluster, upgrade("websocket"), Half::default());
    case.run().await;
    assert_eq!((case.client.status(), case.details()), (Some(504), "upstream_per_try_timeout"));
    assert!(case.cluster.seen.lock().unwrap().reports.contains(&Report::PerTryTimeout));
    let cluster = FakeCluster::new("c", vec![silent(), silent()]);
    let mut case = Case::new(&retrying("5xx", Some(10)), cluster, upgrade("websocket"), Half::default());
    case.run().await;
    assert_eq!((case.client.status(), case.details()), (Some(504), "response_timeout"));
    assert_eq!(case.stream.info.upstream.as_ref().unwrap().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_before_and_after_the_acceptance() {
    let routes = route_all(|action| action.timeout = Some(prost_types::Duration { seconds: 0, nanos: 0 }));
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::silent())]);
    let mut case = Case::new(&routes, cluster, upgrade("websocket"), Half::default());
    case.stream.idle_timeout = Some(Duration::from_secs(60));
    case.run().await;
    assert_eq!((case.client.status(), case.flags().as_str(), case.details()), (Some(408), "SI", "stream_idle_timeout"));

    let upstream = Upstream::accepting(101, &[]);
    let (sent, body) = (upstream.sent.clone(), upstream.body.clone());
    let mut case =
        Case::new(&routes, FakeCluster::new("c", vec![Attempt::Http(upstream)]), upgrade("websocket"), Half::default());
    case.stream.idle_timeout = Some(Duration::from_secs(60));
    let start = tokio::time::Instant::now();
    let running = case.spawn();
    tokio::time::sleep(Duration::from_secs(50)).await;
    body.push("alive");
    let down = running.down.clone();
    let stream = running.done().await;
    assert_eq!(start.elapsed().as_secs(), 110);
    assert_eq!(stream.info.flags.to_string(), "SI");
    assert_eq!(stream.info.details.as_deref(), Some("stream_idle_timeout"));
    assert!(down.reset_code().is_some() && sent.reset_code().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_accepted_upgrade_outlives_the_route_timeout() {
    let upstream = Upstream::accepting(101, &[]);
    let body = upstream.body.clone();
    let running = Case::new(
        &enabled(),
        FakeCluster::new("c", vec![Attempt::Http(upstream)]),
        upgrade("websocket"),
        Half::default(),
    )
    .spawn();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    body.push("late");
    settle().await;
    assert_eq!(running.down.text(), "late");
    running.task.abort();
}

#[tokio::test(start_paused = true)]
async fn resets_cross_with_their_codes() {
    for (error, version, flags) in [
        (StreamError::Reset(ErrorCode::Internal), Version::HTTP_2, "UR"),
        (StreamError::Reset(ErrorCode::Connect), Version::HTTP_2, "UR"),
        (StreamError::Truncated, Version::HTTP_11, "UC"),
    ] {
        let upstream = Upstream::accepting(101, &[]).version(version);
        let body = upstream.body.clone();
        let running = Case::new(
            &enabled(),
            FakeCluster::new("c", vec![Attempt::Http(upstream)]),
            upgrade("foo"),
            Half::default(),
        )
        .spawn();
        settle().await;
        body.end(Err(error));
        let down = running.down.clone();
        let stream = running.done().await;
        assert_eq!(down.reset_code(), Some(error.code()));
        assert_eq!(stream.info.flags.to_string(), flags);
    }
    let upstream = Upstream::accepting(101, &[]);
    let sent = upstream.sent.clone();
    let mut head = upgrade("foo");
    head.version = Version::HTTP_2;
    let running =
        Case::new(&enabled(), FakeCluster::new("c", vec![Attempt::Http(upstream)]), head, Half::default()).spawn();
    settle().await;
    running.up.end(Err(StreamError::Reset(ErrorCode::Cancel)));
    let stream = running.done().await;
    assert_eq!(sent.reset_code(), Some(ErrorCode::Cancel));
    assert_eq!(
        (stream.info.flags.to_string().as_str(), stream.info.details.as_deref()),
        ("DR", Some("http2.remote_reset"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_we_wait_resets_the_upstream() {
    let upstream = Upstream::silent();
    let sent = upstream.sent.clone();
    let running =
        Case::new(&enabled(), FakeCluster::new("c", vec![Attempt::Http(upstream)]), upgrade("foo"), Half::default())
            .spawn();
    settle().await;
    running.client.leave(StreamError::Truncated);
    let client = running.client.clone();
    let stream = running.done().await;
    assert!(sent.reset_code().is_some() && client.reset().is_some());
    assert_eq!(stream.info.flags.to_string(), "DC");
    assert_eq!(stream.info.details.as_deref(), Some("downstream_remote_disconnect"));
}
