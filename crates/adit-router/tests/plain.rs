//! Plain requests: bodies, trailers, interim answers, failures with their texts, timeouts, retries, mirrors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use adit_config::proto::envoy::config::route::v3 as pb;
use adit_filter::upstream::{FailureKind, Report};
use adit_http::{ErrorCode, StreamError};
use http::{HeaderMap, HeaderValue, Method, Version};
use support::*;

fn retry_on(conditions: &str) -> pb::RouteConfiguration {
    route_all(|action| {
        action.retry_policy = Some(pb::RetryPolicy { retry_on: conditions.into(), ..Default::default() });
    })
}

fn post(path: &str) -> adit_http::RequestHead {
    let mut head = get(path);
    head.method = Method::POST;
    head
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_there_and_its_answer_comes_back() {
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, "hello").after_body())]);
    let mut case = Case::new(&route_all(|_| {}), cluster, post("/a?b=c"), Half::of("payload"));
    case.run().await;
    assert_eq!((case.client.status(), case.down.text().as_str()), (Some(200), "hello"));
    assert!(case.down.ended());
    assert_eq!(case.details(), "via_upstream");
    assert_eq!((case.stream.info.bytes_received, case.stream.info.bytes_sent), (7, 5));
    let seen = case.cluster.seen.lock().unwrap();
    let (head, end) = &seen.heads[0];
    assert!(!end);
    assert_eq!(head.path.as_ref().unwrap(), "/a?b=c");
    assert_eq!(head.headers["x-envoy-expected-rq-timeout-ms"], "15000");
    assert!(case.client.header("x-envoy-upstream-service-time").is_some());
    assert!(
        seen.reports.iter().any(|report| matches!(report, Report::Response { status, .. } if status.as_u16() == 200))
    );
}

#[tokio::test(start_paused = true)]
async fn trailers_cross_both_ways_and_interim_answers_pass() {
    let mut upstream = Upstream::new(vec![Ok(response(103, &[])), Ok(response(100, &[])), Ok(response(200, &[]))], "x");
    upstream.after_body = true;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    upstream.body.end(Ok(Some(trailers.clone())));
    let sent = upstream.sent.clone();
    let cluster = FakeCluster::new("c", vec![Attempt::Http(upstream)]);
    let body = Half::default();
    body.push("data");
    body.end(Ok(Some(trailers.clone())));
    let mut case = Case::new(&route_all(|_| {}), cluster, post("/"), body);
    case.run().await;
    assert_eq!(sent.text(), "data");
    assert_eq!(sent.trailers(), Some(trailers.clone()));
    assert_eq!(case.down.trailers(), Some(trailers));
    // A 100 is for who expects one.
    assert_eq!(case.client.informed(), [103]);
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_does_not_wait_for_the_request() {
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(413, "no"))]);
    let body = Half::default();
    body.push("endless");
    let mut case = Case::new(&route_all(|_| {}), cluster, post("/"), body);
    case.run().await;
    assert_eq!((case.client.status(), case.down.text().as_str()), (Some(413), "no"));
    assert_eq!(case.up.stop_code(), Some(ErrorCode::NoError));
    assert_eq!(case.client.header("x-envoy-upstream-service-time"), None);
}

/// A client that takes ten bytes, and the body that it is being sent.
fn answering_a_slow_client() -> (Running, Half) {
    let upstream = Upstream::accepting(200, &[]);
    let body = upstream.body.clone();
    let case =
        Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![Attempt::Http(upstream)]), get("/"), Half::empty());
    case.down.limit(10);
    (case.spawn(), body)
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_the_upstream_back() {
    let (running, body) = answering_a_slow_client();
    for _ in 0..100 {
        body.push("0123456789");
    }
    settle().await;
    assert_eq!(running.down.total(), 10);
    assert_eq!(body.text().len(), 980, "one chunk is in flight");
    assert!(running.cluster.seen.lock().unwrap().reports.contains(&Report::FlowControl { paused: true }));
    running.task.abort();
}

/// An answer that is read whole leaves its place at the upstream to others, however slowly the client takes it.
#[tokio::test(start_paused = true)]
async fn a_slow_client_does_not_keep_the_upstream() {
    let (running, body) = answering_a_slow_client();
    let held = || std::sync::Arc::strong_count(&running.cluster.guards) - 1;
    body.push("0123456789");
    settle().await;
    assert_eq!((running.down.total(), held()), (10, 1), "its end has not come");
    body.push("01234");
    body.finish();
    settle().await;
    assert_eq!((running.down.total(), running.down.ended(), held()), (10, false, 0));
    running.task.abort();
}

#[tokio::test(start_paused = true)]
async fn failures_have_envoys_words() {
    let text = "upstream connect error or disconnect/reset before headers. ";
    let reset = |error| {
        let upstream = Upstream::new(vec![Err(error)], "");
        Attempt::Http(upstream)
    };
    let rows: Vec<(Attempt, u16, String, &str, &str)> = vec![
        (
            Attempt::Fail(FailureKind::Remote, "delayed connect error: Connection refused"),
            503,
            format!("{text}reset reason: remote connection failure"),
            "UF",
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
        ),
        (
            Attempt::Fail(FailureKind::Timeout, ""),
            503,
            format!("{text}reset reason: connection timeout"),
            "UF",
            "upstream_reset_before_response_started{connection_timeout}",
        ),
        (
            Attempt::Fail(FailureKind::Overflow, ""),
            503,
            format!("{text}reset reason: overflow"),
            "UO",
            "upstream_reset_before_response_started{overflow}",
        ),
        (Attempt::Fail(FailureKind::NoHealthyHost, ""), 503, "no healthy upstream".into(), "UH", "no_healthy_upstream"),
        (
            reset(StreamError::Truncated),
            503,
            format!("{text}reset reason: connection termination"),
            "UC",
            "upstream_reset_before_response_started{connection_termination}",
        ),
        (
            reset(StreamError::Protocol("http1.codec_error")),
            502,
            format!("{text}reset reason: protocol error"),
            "UPE",
            "upstream_reset_before_response_started{protocol_error}",
        ),
        (
            Attempt::Http(Upstream::status(101, "")),
            502,
            format!("{text}reset reason: protocol error"),
            "UPE",
            "upstream_reset_before_response_started{protocol_error}",
        ),
        (
            Attempt::Http(
                Upstream::new(vec![Err(StreamError::Reset(ErrorCode::Refused))], "").version(Version::HTTP_2),
            ),
            503,
            format!("{text}reset reason: remote refused stream reset"),
            "UR",
            "upstream_reset_before_response_started{remote_refused_stream_reset}",
        ),
        (
            Attempt::Refused(http::StatusCode::FORBIDDEN),
            403,
            format!("{text}reset reason: remote connection failure"),
            "UF",
            "upstream_reset_before_response_started{remote_connection_failure|refused}",
        ),
    ];
    for (attempt, status, body, flags, details) in rows {
        let mut case = Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![attempt]), get("/"), Half::empty());
        case.run().await;
        assert_eq!((case.client.status(), case.down.text()), (Some(status), body));
        assert_eq!((case.flags().as_str(), case.details()), (flags, details));
        assert_eq!(case.client.header("x-envoy-overloaded").is_some(), flags == "UO");
        // Whatever the reason, the cluster counts an answer.
        let reports = &case.cluster.seen.lock().unwrap().reports;
        assert!(reports.iter().any(|report| matches!(report, Report::Charged { status: code, .. } if *code == status)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_cluster_and_a_missing_route() {
    let routes = route_all(|action| {
        action.cluster_specifier = Some(pb::route_action::ClusterSpecifier::ClusterHeader("x-cluster".into()));
        action.cluster_not_found_response_code = 1;
    });
    let mut case = Case::new(&routes, FakeCluster::new("c", vec![]), get("/"), Half::empty());
    case.run().await;
    assert_eq!((case.client.status(), case.flags().as_str(), case.details()), (Some(404), "NC", "cluster_not_found"));
    let mut case = Case::new(&Default::default(), FakeCluster::new("c", vec![]), get("/"), Half::empty());
    case.run().await;
    assert_eq!((case.client.status(), case.flags().as_str(), case.details()), (Some(404), "NR", "route_not_found"));
}

#[tokio::test(start_paused = true)]
async fn the_response_timer_counts_from_the_requests_end() {
    let upstream = Upstream::silent();
    let case =
        Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![Attempt::Http(upstream)]), post("/"), Half::default());
    let start = tokio::time::Instant::now();
    let running = case.spawn();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.client.status(), None, "the request is not complete");
    running.up.finish();
    let (client, down) = (running.client.clone(), running.down.clone());
    let stream = running.done().await;
    assert_eq!(start.elapsed().as_secs(), 75);
    assert_eq!((client.status(), down.text().as_str()), (Some(504), "upstream request timeout"));
    assert_eq!(stream.info.flags.to_string(), "UT");
    assert_eq!(stream.info.details.as_deref(), Some("response_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_takes_too_long_is_cut() {
    let upstream = Upstream::accepting(200, &[]);
    upstream.body.push("part");
    let mut case =
        Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![Attempt::Http(upstream)]), get("/"), Half::empty());
    case.run().await;
    assert_eq!((case.client.status(), case.flags().as_str(), case.details()), (Some(200), "UT", "response_timeout"));
    assert_eq!(case.down.reset_code(), Some(ErrorCode::Cancel));
}

#[tokio::test(start_paused = true)]
async fn an_idle_request_is_answered_504_and_an_idle_response_is_reset() {
    for (attempt, status, cut) in
        [(Attempt::HangConnect, 504, false), (Attempt::Http(Upstream::accepting(200, &[])), 200, true)]
    {
        let routes = route_all(|action| action.timeout = Some(prost_types::Duration { seconds: 0, nanos: 0 }));
        let mut case = Case::new(&routes, FakeCluster::new("c", vec![attempt]), get("/"), Half::empty());
        case.stream.idle_timeout = Some(Duration::from_secs(300));
        let start = tokio::time::Instant::now();
        case.run().await;
        assert_eq!(start.elapsed().as_secs(), 300);
        assert_eq!(
            (case.client.status(), case.flags().as_str(), case.details()),
            (Some(status), "SI", "stream_idle_timeout")
        );
        assert_eq!(case.down.reset_code().is_some(), cut);
        if !cut {
            assert_eq!(case.down.text(), "stream timeout");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_our_own_that_nobody_reads_is_reset_when_idle() {
    let routes = route_all(|_| {});
    let mut case = Case::new(&routes, FakeCluster::new("c", vec![]), get("/"), Half::empty());
    case.stream.route = None;
    case.stream.idle_timeout = Some(Duration::from_secs(300));
    case.down.limit(4);
    let mut send: Box<dyn adit_codec::SendStream> = Box::new(support::Writer(case.down.clone()));
    let start = tokio::time::Instant::now();
    let down = case.down.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(100)).await;
        down.limit(6);
        // Wakes who writes.
        down.push("");
    });
    let mut body = bytes::Bytes::from_static(b"of our own");
    assert!(case.stream.send_whole(&mut *send, &mut body).await.is_err());
    assert_eq!((start.elapsed().as_secs(), case.stream.info.bytes_sent), (400, 6));
    assert_eq!((case.flags().as_str(), case.details()), ("SI", "stream_idle_timeout"));
    assert!(case.down.reset_code().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_came_whole_while_connecting_was_received() {
    for (attempt, pieces, status, whole) in [
        (Attempt::Fail(FailureKind::Overflow, ""), 1, 503, false),
        (Attempt::Fail(FailureKind::Remote, ""), 1, 503, true),
        (Attempt::HangConnect, 1, 504, true),
        (Attempt::Fail(FailureKind::Remote, ""), 9, 503, false),
    ] {
        let body = Half::default();
        (0..pieces).for_each(|_| body.push("x".repeat(40_000)));
        body.finish();
        let mut case = Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![attempt]), post("/"), body);
        case.stream.idle_timeout = Some(Duration::from_secs(5));
        case.run().await;
        assert_eq!(case.client.status(), Some(status));
        assert_eq!(case.stream.info.timing.request_received.is_some(), whole);
        let received = case.stream.info.bytes_received;
        assert_eq!(received, [0, 40_000, 80_000][usize::from(received > 0) + usize::from(pieces > 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_response_is_a_reset() {
    for (error, version, flags, details) in [
        (StreamError::Truncated, Version::HTTP_11, "UPE", "upstream_reset_after_response_started{protocol_error}"),
        (
            StreamError::Reset(ErrorCode::Internal),
            Version::HTTP_2,
            "UR",
            "upstream_reset_after_response_started{remote_reset}",
        ),
    ] {
        let upstream = Upstream::accepting(200, &[]).version(version);
        upstream.body.push("part");
        upstream.body.end(Err(error));
        let mut case = Case::new(
            &route_all(|_| {}),
            FakeCluster::new("c", vec![Attempt::Http(upstream)]),
            get("/"),
            Half::empty(),
        );
        case.run().await;
        assert_eq!(case.down.text(), "part");
        assert_eq!(case.down.reset_code(), Some(error.code()));
        assert_eq!((case.flags().as_str(), case.details()), (flags, details));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_the_upstream() {
    for (answered, error, flags, details) in [
        (false, StreamError::Truncated, "DC", "downstream_remote_disconnect"),
        (true, StreamError::Stopped(ErrorCode::Cancel), "DC", "downstream_remote_disconnect"),
    ] {
        let upstream = if answered { Upstream::accepting(200, &[]) } else { Upstream::silent() };
        let sent = upstream.sent.clone();
        let cluster = FakeCluster::new("c", vec![Attempt::Http(upstream)]);
        let running = Case::new(&route_all(|_| {}), cluster, post("/"), Half::default()).spawn();
        settle().await;
        if answered {
            adit_io::ByteSource::stop(&mut Reader(running.down.clone()), ErrorCode::Cancel);
        } else {
            running.client.leave(error);
        }
        let stream = running.done().await;
        assert_eq!(stream.info.flags.to_string(), flags);
        assert_eq!(stream.info.details.as_deref(), Some(details));
        assert!(sent.reset_code().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_matrix() {
    let fail = |kind| move || Attempt::Fail(kind, "");
    let status = |code| move || Attempt::Http(Upstream::status(code, "bad"));
    let reset =
        |code| move || Attempt::Http(Upstream::new(vec![Err(StreamError::Reset(code))], "").version(Version::HTTP_2));
    type First = Box<dyn Fn() -> Attempt>;
    let rows: Vec<(&str, First, bool)> = vec![
        ("5xx", Box::new(status(500)), true),
        ("5xx", Box::new(status(404)), false),
        ("5xx", Box::new(fail(FailureKind::Remote)), true),
        ("5xx", Box::new(fail(FailureKind::Overflow)), false),
        ("gateway-error", Box::new(status(503)), true),
        ("gateway-error", Box::new(status(500)), false),
        ("retriable-4xx", Box::new(status(409)), true),
        ("retriable-4xx", Box::new(status(404)), false),
        ("connect-failure", Box::new(fail(FailureKind::Timeout)), true),
        ("connect-failure", Box::new(reset(ErrorCode::Cancel)), false),
        ("refused-stream", Box::new(reset(ErrorCode::Refused)), true),
        ("refused-stream", Box::new(reset(ErrorCode::Cancel)), false),
        ("reset", Box::new(reset(ErrorCode::Cancel)), true),
        ("reset", Box::new(status(503)), false),
        ("reset-before-request", Box::new(fail(FailureKind::Remote)), true),
        ("reset-before-request", Box::new(reset(ErrorCode::Cancel)), false),
        ("connect-failure", Box::new(fail(FailureKind::NoHealthyHost)), false),
    ];
    for (conditions, first, retried) in rows {
        let cluster = FakeCluster::new("c", vec![first(), Attempt::Http(Upstream::status(200, "good"))]);
        let mut case = Case::new(&retry_on(conditions), cluster, post("/"), Half::of("kept body"));
        case.run().await;
        assert_eq!(case.client.status() == Some(200), retried, "{conditions} {:?}", case.details());
        assert_eq!(case.stream.info.upstream.as_ref().unwrap().attempts, if retried { 2 } else { 1 });
        let seen = case.cluster.seen.lock().unwrap();
        assert_eq!(seen.reports.contains(&Report::Retry), retried);
        assert_eq!(seen.reports.contains(&Report::RetrySuccess), retried);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_sends_the_whole_body_again() {
    let (first, second) = (Upstream::status(503, "").after_body(), Upstream::status(200, "").after_body());
    let (one, two) = (first.sent.clone(), second.sent.clone());
    let cluster = FakeCluster::new("c", vec![Attempt::Http(first), Attempt::Http(second)]);
    let mut case = Case::new(&retry_on("5xx"), cluster, post("/"), Half::of("payload"));
    case.run().await;
    assert_eq!((one.text().as_str(), two.text().as_str()), ("payload", "payload"));
    assert_eq!(case.client.status(), Some(200));
}

#[tokio::test(start_paused = true)]
async fn hosts_are_chosen_again_a_bounded_number_of_times() {
    for (configured, times) in [(0, 1), (7, 7), (1 << 20, 1024), (i64::MAX, 1024)] {
        let routes = route_all(|action| {
            action.retry_policy =
                Some(pb::RetryPolicy { host_selection_retry_max_attempts: configured, ..Default::default() });
        });
        let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(200, ""))]);
        let mut case = Case::new(&routes, cluster, get("/"), Half::empty());
        case.run().await;
        assert_eq!(case.cluster.seen.lock().unwrap().reselect, [times]);
    }
}

/// As Envoy 1.40 does it: each attempt's host is rewritten from the one before, while TLS keeps to the first name.
#[tokio::test(start_paused = true)]
async fn a_retry_with_another_hosts_name_asks_tls_by_the_same_name() {
    let attempt = |status| Attempt::Http(Upstream::status(status, ""));
    for (hosts, script, sent, forwarded) in [
        (
            &["a.test", "b.test", "c.test"][..],
            vec![attempt(500), attempt(500), attempt(200)],
            [("a.test", "host"), ("b.test", "a.test"), ("c.test", "b.test")].as_slice(),
            "host,a.test,b.test",
        ),
        // A host without a name leaves the request as it is.
        (&["a.test", ""], vec![attempt(500), attempt(200)], &[("a.test", "host"), ("a.test", "host")], "host"),
        // One that is not reached has no say.
        (
            &["a.test", "b.test"],
            vec![Attempt::Fail(FailureKind::Remote, "refused"), attempt(200)],
            &[("b.test", "host")],
            "host",
        ),
    ] {
        let routes = route_all(|action| {
            action.host_rewrite_specifier = Some(pb::route_action::HostRewriteSpecifier::AutoHostRewrite(true));
            action.append_x_forwarded_host = true;
            action.retry_policy = Some(pb::RetryPolicy {
                retry_on: "5xx,connect-failure".into(),
                num_retries: Some(3),
                ..Default::default()
            });
        });
        let mut cluster = FakeCluster::new("c", script);
        cluster.hostnames = hosts;
        let mut case = Case::new(&routes, cluster, get("/"), Half::empty());
        case.run().await;
        let seen = case.cluster.seen.lock().unwrap();
        assert!(seen.names.iter().all(|name| name.as_deref() == Some("host")), "{hosts:?}: {:?}", seen.names);
        let heads = seen.heads.iter().map(|(head, _)| {
            let original = head.headers.get("x-envoy-original-host").unwrap().to_str().unwrap();
            (head.authority.as_ref().unwrap().as_str(), original)
        });
        assert_eq!(heads.collect::<Vec<_>>(), sent, "{hosts:?}");
        let last = &seen.heads.last().unwrap().0;
        let lists: Vec<_> = last.headers.get_all("x-forwarded-host").iter().collect();
        assert_eq!(lists, [forwarded], "{hosts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_not_retried() {
    let cluster = FakeCluster::new(
        "c",
        vec![Attempt::Http(Upstream::status(503, "").after_body()), Attempt::Http(Upstream::status(200, ""))],
    );
    let mut routes = retry_on("5xx");
    routes.virtual_hosts[0].request_body_buffer_limit = Some(4);
    let mut case = Case::new(&routes, cluster, post("/"), Half::of("payload"));
    case.run().await;
    assert_eq!(case.client.status(), Some(503));
}

#[tokio::test(start_paused = true)]
async fn exhausted_retries_say_so() {
    let fail = || Attempt::Fail(FailureKind::Remote, "");
    let mut routes = retry_on("connect-failure");
    if let Some(pb::route::Action::Route(action)) = &mut routes.virtual_hosts[0].routes[1].action {
        action.retry_policy.as_mut().unwrap().num_retries = Some(2);
    }
    routes.virtual_hosts[0].include_attempt_count_in_response = true;
    routes.virtual_hosts[0].include_request_attempt_count = true;
    let mut case = Case::new(&routes, FakeCluster::new("c", vec![fail(), fail(), fail()]), get("/"), Half::empty());
    case.run().await;
    assert_eq!(case.flags(), "URX,UF");
    assert_eq!(
        case.down.text(),
        "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure"
    );
    assert_eq!(case.client.header("x-envoy-attempt-count").as_deref(), Some("3"));
    assert!(case.cluster.seen.lock().unwrap().reports.contains(&Report::RetryLimitExceeded));
}

#[tokio::test(start_paused = true)]
async fn a_request_brings_its_own_policy() {
    let mut head = get("/");
    for (name, value) in [
        ("x-envoy-retry-on", "retriable-status-codes"),
        ("x-envoy-retriable-status-codes", "418"),
        ("x-envoy-max-retries", "3"),
        ("x-envoy-upstream-rq-timeout-ms", "700"),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "300"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    let teapot = || Attempt::Http(Upstream::status(418, ""));
    let cluster = FakeCluster::new("c", vec![teapot(), teapot(), teapot(), Attempt::Http(Upstream::status(200, ""))]);
    let mut case = Case::new(&route_all(|_| {}), cluster, head, Half::empty());
    case.run().await;
    assert_eq!(case.client.status(), Some(200));
    let seen = case.cluster.seen.lock().unwrap();
    assert_eq!(seen.heads[3].0.headers["x-envoy-expected-rq-timeout-ms"], "300");
    assert!(!seen.heads[0].0.headers.contains_key("x-envoy-retry-on"));
    assert!(!seen.heads[0].0.headers.contains_key("x-envoy-upstream-rq-timeout-ms"));
}

#[tokio::test(start_paused = true)]
async fn per_try_timeouts_are_retried_and_answered_504() {
    let silent = || Attempt::Http(Upstream::silent());
    let routes = |conditions: &str| {
        route_all(|action| {
            action.retry_policy = Some(pb::RetryPolicy {
                retry_on: conditions.into(),
                per_try_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                ..Default::default()
            });
        })
    };
    let cluster = FakeCluster::new("c", vec![silent(), Attempt::Http(Upstream::status(200, ""))]);
    let mut case = Case::new(&routes("5xx"), cluster, get("/"), Half::empty());
    case.run().await;
    assert_eq!(case.client.status(), Some(200));
    let cluster = FakeCluster::new("c", vec![silent(), silent()]);
    let mut case = Case::new(&routes("5xx"), cluster, get("/"), Half::empty());
    case.run().await;
    assert_eq!((case.client.status(), case.details()), (Some(504), "upstream_per_try_timeout"));
    assert_eq!(case.flags(), "URX,UT");
    assert_eq!(case.cluster.seen.lock().unwrap().reports.iter().filter(|r| **r == Report::PerTryTimeout).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stalls_is_reset_after_per_try_idle_timeout() {
    let routes = route_all(|action| {
        action.timeout = Some(prost_types::Duration::default());
        action.retry_policy = Some(pb::RetryPolicy {
            retry_on: "5xx".into(),
            per_try_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            per_try_idle_timeout: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            ..Default::default()
        });
    });
    let upstream = Upstream::accepting(200, &[]);
    let body = upstream.body.clone();
    let cluster = FakeCluster::new("c", vec![Attempt::Http(upstream)]);
    let start = tokio::time::Instant::now();
    let running = Case::new(&routes, cluster, get("/"), Half::empty()).spawn();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    body.push("some");
    let (client, down) = (running.client.clone(), running.down.clone());
    let info = running.done().await.info;
    assert_eq!(start.elapsed().as_millis(), 3500);
    assert_eq!((client.status(), down.reset_code().is_some()), (Some(200), true));
    assert_eq!(
        (info.flags.to_string().as_str(), info.details.as_deref()),
        ("UT", Some("upstream_per_try_idle_timeout"))
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_while_an_answer_is_on_its_way() {
    let upstream = Upstream::accepting(200, &[]);
    let body = upstream.body.clone();
    let mut case =
        Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![Attempt::Http(upstream)]), get("/"), Half::empty());
    body.push("some");
    // As a timer above the router does, which drops its future.
    tokio::time::timeout(Duration::from_millis(10), case.run()).await.unwrap_err();
    let upstream = case.stream.info.upstream.as_ref().unwrap();
    assert_eq!((case.stream.info.bytes_sent, upstream.bytes_received), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn the_retry_circuit_breaker_is_asked() {
    let cluster = FakeCluster::new("c", vec![Attempt::Http(Upstream::status(503, "first")), Attempt::HangConnect]);
    *cluster.permits.lock().unwrap() = 0;
    let mut case = Case::new(&retry_on("5xx"), cluster, get("/"), Half::empty());
    case.run().await;
    assert_eq!((case.client.status(), case.down.text().as_str(), case.flags().as_str()), (Some(503), "first", "UO"));
}

#[tokio::test(start_paused = true)]
async fn a_mirror_gets_the_request_and_is_not_waited_for() {
    let routes = route_all(|action| {
        action.request_mirror_policies =
            vec![pb::route_action::RequestMirrorPolicy { cluster: "c".into(), ..Default::default() }];
    });
    let (main, shadow) = (Upstream::status(200, "ok").after_body(), Upstream::status(500, "").after_body());
    let mirrored = shadow.sent.clone();
    let cluster = FakeCluster::new("c", vec![Attempt::Http(main), Attempt::Http(shadow)]);
    let mut case = Case::new(&routes, cluster, post("/"), Half::of("payload"));
    case.run().await;
    settle().await;
    assert_eq!((case.client.status(), mirrored.text().as_str()), (Some(200), "payload"));
    let seen = case.cluster.seen.lock().unwrap();
    assert!(seen.heads.iter().any(|(head, _)| head.authority.as_ref().is_some_and(|host| host == "host-shadow")));
}

#[tokio::test(start_paused = true)]
async fn a_mirrors_head_is_its_own() {
    use adit_config::proto::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
    use adit_config::proto::envoy::config::core::v3::{HeaderValue as Field, HeaderValueOption};
    use adit_config::proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
    let append = |key: &str, value: &str| HeaderMutation {
        action: Some(header_mutation::Action::Append(HeaderValueOption {
            header: Some(Field { key: key.into(), value: value.into(), ..Default::default() }),
            ..Default::default()
        })),
    };
    let remove = header_mutation::RemoveOnMatch {
        key_matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Prefix("x-del".into())),
            ..Default::default()
        }),
    };
    let policy = |change: &dyn Fn(&mut pb::route_action::RequestMirrorPolicy)| {
        let mut policy = pb::route_action::RequestMirrorPolicy { cluster: "c".into(), ..Default::default() };
        change(&mut policy);
        policy
    };
    let mutations = vec![
        append("x-a", "b%REQ(x-in)%"),
        HeaderMutation { action: Some(header_mutation::Action::Remove("x-in".into())) },
        HeaderMutation { action: Some(header_mutation::Action::RemoveOnMatch(remove)) },
    ];
    for (policy, host) in [
        (policy(&|_| {}), "host-shadow"),
        (policy(&|policy| policy.disable_shadow_host_suffix_append = true), "host"),
        (policy(&|policy| policy.host_rewrite_literal = "other.com:99".into()), "other.com:99"),
        (policy(&|policy| policy.request_headers_mutations = mutations.clone()), "host-shadow"),
    ] {
        let changed = !policy.request_headers_mutations.is_empty();
        let routes = route_all(|action| action.request_mirror_policies = vec![policy.clone()]);
        let upstreams = [0, 1].map(|_| Attempt::Http(Upstream::status(200, "ok"))).into();
        let mut head = get("/");
        head.headers.insert("x-in", HeaderValue::from_static("in"));
        head.headers.insert("x-del-1", HeaderValue::from_static("z"));
        let mut case = Case::new(&routes, FakeCluster::new("c", upstreams), head, Half::empty());
        case.run().await;
        settle().await;
        let seen = case.cluster.seen.lock().unwrap();
        // The request itself is as it came, whichever of the two was opened first.
        let (own, shadow) = match &seen.heads[..] {
            [(one, _), (other, _)] if one.headers.contains_key("x-a") || one.authority.as_ref().unwrap() != "host" => {
                (other, one)
            }
            [(one, _), (other, _)] => (one, other),
            other => panic!("{} heads", other.len()),
        };
        assert_eq!((own.authority.as_ref().unwrap().as_str(), own.headers.contains_key("x-del-1")), ("host", true));
        assert_eq!(shadow.authority.as_ref().unwrap().as_str(), host);
        let field = |name: &str| shadow.headers.get(name).map(|value| value.to_str().unwrap());
        let expected = if changed { (Some("bin"), None, None) } else { (None, Some("in"), Some("z")) };
        assert_eq!((field("x-a"), field("x-in"), field("x-del-1")), expected, "{host}");
    }
    let bad = policy(&|policy| policy.request_headers_mutations = vec![append("host", "x")]);
    let errors = table(&route_all(|action| action.request_mirror_policies = vec![bad.clone()])).err().unwrap();
    assert!(errors[0].path.ends_with("request_headers_mutations[0].append.header.key"), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn the_clusters_own_duration_limit() {
    let cluster = FakeCluster::new("c", vec![Attempt::HangConnect])
        .settings(|settings| settings.max_stream_duration = Some(Duration::from_secs(1)));
    let mut case = Case::new(&route_all(|_| {}), cluster, get("/"), Half::empty());
    case.run().await;
    assert_eq!((case.client.status(), case.flags().as_str()), (Some(504), "UMSDR"));
    assert!(case.cluster.seen.lock().unwrap().reports.contains(&Report::MaxDuration));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_the_last_hop_announced() {
    let router = adit_config::proto::envoy::extensions::filters::http::router::v3::Router {
        respect_expected_rq_timeout: true,
        ..Default::default()
    };
    let mut head = get("/");
    head.headers.insert("x-envoy-expected-rq-timeout-ms", HeaderValue::from_static("2500"));
    let cluster = FakeCluster::new("c", vec![Attempt::HangConnect]);
    let start = tokio::time::Instant::now();
    let mut case = Case::with(&route_all(|_| {}), cluster, head, Half::empty(), &router);
    case.run().await;
    assert_eq!((case.client.status(), start.elapsed().as_millis()), (Some(504), 2500));
}

/// What a request holds while it waits: all of the router's part, in about a KiB.
#[tokio::test]
async fn the_future_of_a_stream_is_small() {
    for (head, most) in [(get("/"), 800), (upgrade("websocket"), 1032)] {
        let mut case = Case::new(&route_all(|_| {}), FakeCluster::new("c", vec![]), head, Half::empty());
        let size = case.future_size();
        assert!(size <= most, "{size} bytes");
    }
}
