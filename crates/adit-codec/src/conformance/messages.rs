//! Plain requests: bodies, interim heads, trailers, resets, the life of the connection.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use http::Method;

use super::Harness;
use super::peers::*;

const SIZE: usize = 8 << 20;

/// A request and an answer without bodies.
pub async fn get_without_a_body(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut asked = request(Method::GET, "/a?b=c");
    asked.headers = headers(&[("x-one", "1"), ("x-two", "2"), ("x-two", "3")]);
    let (mut outgoing, mut incoming) = peers.exchange(asked, true).await;
    assert_eq!(incoming.head.method, Method::GET);
    assert_eq!(incoming.head.path.as_ref().unwrap().as_str(), "/a?b=c");
    assert_eq!(incoming.head.authority.as_ref().unwrap(), "example.com");
    assert_eq!(incoming.head.headers.get_all("x-two").iter().collect::<Vec<_>>(), ["2", "3"]);
    assert!(incoming.recv.is_end());
    assert!(chunk(&mut incoming.recv).await.is_none());
    let sink = incoming.responder.respond(response(204, &[("y", "z")]), true).unwrap();
    let got = head(&mut outgoing).await.unwrap();
    assert_eq!((got.status.as_u16(), got.headers.get("y").unwrap().as_bytes()), (204, &b"z"[..]));
    let mut recv = outgoing.response.into_recv();
    assert!(chunk(&mut recv).await.is_none());
    assert!(recv.is_end());
    drop(sink);
}

/// Bodies whose lengths are announced.
pub async fn post_with_a_length(harness: &dyn Harness) {
    post(harness, &[("content-length", "5")]).await;
}

/// Bodies whose lengths are not announced.
pub async fn post_without_a_length(harness: &dyn Harness) {
    post(harness, &[]).await;
}

async fn post(harness: &dyn Harness, fields: &[(&'static str, &'static str)]) {
    let mut peers = Peers::new(harness).await;
    let mut asked = request(Method::POST, "/");
    asked.headers = headers(fields);
    let mut outgoing = peers.open(asked, false).await;
    send(&mut outgoing.send, "he", false).await.unwrap();
    send(&mut outgoing.send, "llo", true).await.unwrap();
    let mut incoming = peers.arrival(&mut outgoing).await;
    assert_eq!(incoming.head.headers.contains_key("content-length"), !fields.is_empty());
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"hello");
    let mut sink = incoming.responder.respond(response(200, fields), false).unwrap();
    send(&mut sink, "world", true).await.unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, 200);
    assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), b"world");
}

/// The answer to HEAD announces a length and has no body.
pub async fn head_has_no_body(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::HEAD, "/"), true).await;
    let sink = incoming.responder.respond(response(200, &[("content-length", "5")]), true).unwrap();
    let got = head(&mut outgoing).await.unwrap();
    assert_eq!(got.headers.get("content-length").unwrap(), "5");
    assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), b"");
    drop(sink);
}

/// Interim heads arrive in order, before the final one.
pub async fn interim_heads_come_first(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, mut incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    incoming.responder.inform(response(102, &[])).unwrap();
    incoming.responder.inform(response(103, &[("link", "x")])).unwrap();
    assert!(incoming.responder.inform(response(200, &[])).is_err());
    assert_eq!(head(&mut outgoing).await.unwrap().status, 102);
    assert_eq!(head(&mut outgoing).await.unwrap().headers.get("link").unwrap(), "x");
    let sink = incoming.responder.respond(response(200, &[]), true).unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, 200);
    drop(sink);
}

/// Trailers, where the protocol has them; elsewhere the message still ends.
pub async fn trailers_in_both_directions(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
    send(&mut outgoing.send, "body", false).await.unwrap();
    let sent = headers(&[("x-sum", "1")]);
    poll_fn(|cx| outgoing.send.poll_send_trailers(cx, &sent)).await.unwrap();
    let mut incoming = peers.arrival(&mut outgoing).await;
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"body");
    let expected = harness.abilities().trailers.then(|| sent.clone());
    assert_eq!(trailers(&mut incoming.recv).await.unwrap(), expected);
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    poll_fn(|cx| sink.poll_send_trailers(cx, &sent)).await.unwrap();
    flush(&mut sink).await.unwrap();
    head(&mut outgoing).await.unwrap();
    let mut recv = outgoing.response.into_recv();
    assert_eq!(all(&mut recv).await.unwrap(), b"");
    assert_eq!(trailers(&mut recv).await.unwrap(), expected);
}

/// An answer that does not wait for the request's end is delivered whole.
pub async fn early_answer(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
    send(&mut outgoing.send, "part", false).await.unwrap();
    let incoming = peers.arrival(&mut outgoing).await;
    let mut sink = incoming.responder.respond(response(413, &[]), false).unwrap();
    send(&mut sink, "too large", true).await.unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, 413);
    assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), b"too large");
    drop(incoming.recv);
}

/// Request and answer interleave.
pub async fn full_duplex(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
    send(&mut outgoing.send, "0", false).await.unwrap();
    let mut incoming = peers.arrival(&mut outgoing).await;
    assert_eq!(at_least(&mut incoming.recv, 1).await.unwrap(), b"0");
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    flush(&mut sink).await.unwrap();
    head(&mut outgoing).await.unwrap();
    let mut recv = outgoing.response.into_recv();
    for _ in 0..3 {
        send(&mut outgoing.send, "up", false).await.unwrap();
        assert_eq!(at_least(&mut incoming.recv, 2).await.unwrap(), b"up");
        send(&mut sink, "down", false).await.unwrap();
        assert_eq!(at_least(&mut recv, 4).await.unwrap(), b"down");
    }
    send(&mut outgoing.send, Bytes::new(), true).await.unwrap();
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"");
    send(&mut sink, "end", true).await.unwrap();
    assert_eq!(all(&mut recv).await.unwrap(), b"end");
}

/// After the end there is nothing but the end.
pub async fn an_end_stays_an_end(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
    send(&mut outgoing.send, "x", true).await.unwrap();
    assert!(send_raw(&mut outgoing.send, "y").await.is_err());
    let mut incoming = peers.arrival(&mut outgoing).await;
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"x");
    assert!(chunk(&mut incoming.recv).await.is_none());
    assert!(trailers(&mut incoming.recv).await.unwrap().is_none());
    assert!(chunk(&mut incoming.recv).await.is_none());
    assert!(incoming.recv.is_end());
}

async fn send_raw(sink: &mut Box<dyn crate::SendStream>, data: &'static str) -> Result<(), StreamError> {
    let mut data = Bytes::from_static(data.as_bytes());
    poll_fn(|cx| sink.poll_send(cx, &mut data, false)).await
}

/// Neither an end nor bytes come of sending nothing.
pub async fn empty_data_does_nothing(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
    send(&mut outgoing.send, Bytes::new(), false).await.unwrap();
    send(&mut outgoing.send, "a", false).await.unwrap();
    send(&mut outgoing.send, Bytes::new(), false).await.unwrap();
    send(&mut outgoing.send, "b", true).await.unwrap();
    let mut incoming = peers.arrival(&mut outgoing).await;
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"ab");
}

/// One connection, many exchanges.
pub async fn many_in_sequence(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    for round in 0..100u32 {
        let body = round.to_string();
        let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
        send(&mut outgoing.send, body.clone(), true).await.unwrap();
        let mut incoming = peers.arrival(&mut outgoing).await;
        assert_eq!(all(&mut incoming.recv).await.unwrap(), body.as_bytes());
        let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
        send(&mut sink, body.clone(), true).await.unwrap();
        head(&mut outgoing).await.unwrap();
        assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), body.as_bytes());
    }
    assert_eq!(peers.client.live_streams(), 0);
}

/// Streams beside each other, answered in reverse.
pub async fn many_in_parallel(harness: &dyn Harness) {
    if !harness.abilities().parallel {
        return;
    }
    let mut peers = Peers::new(harness).await;
    let mut streams = Vec::new();
    for n in 0..8u8 {
        let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
        send(&mut outgoing.send, vec![n; 1000], true).await.unwrap();
        let incoming = peers.arrival(&mut outgoing).await;
        streams.push((outgoing, incoming));
    }
    assert_eq!(peers.client.live_streams(), 8);
    for (n, (mut outgoing, mut incoming)) in (0..8u8).zip(streams).rev() {
        assert_eq!(all(&mut incoming.recv).await.unwrap(), vec![n; 1000]);
        let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
        send(&mut sink, vec![n; 1000], true).await.unwrap();
        head(&mut outgoing).await.unwrap();
        assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), vec![n; 1000]);
    }
}

/// 8 MiB up and 8 MiB down, with and without a length.
pub async fn big_bodies_arrive_intact(harness: &dyn Harness) {
    for fields in [&[][..], &[("content-length", "8388608")]] {
        let mut peers = Peers::new(harness).await;
        let mut asked = request(Method::POST, "/");
        asked.headers = headers(fields);
        let (mut outgoing, incoming) = peers.exchange(asked, false).await;
        let up = tokio::spawn(pour(outgoing.send, SIZE));
        let answered = response(200, fields);
        let server = tokio::spawn(async move {
            check_pour(incoming.recv, SIZE).await?;
            pour(incoming.responder.respond(answered, false)?, SIZE).await
        });
        up.await.unwrap().unwrap();
        poll_fn(|cx| outgoing.response.poll_head(cx)).await.unwrap();
        check_pour(outgoing.response.into_recv(), SIZE).await.unwrap();
        server.await.unwrap().unwrap();
    }
}

/// A receiver that does not read makes the sender wait; then every byte arrives.
pub async fn a_slow_reader_bounds_the_writer(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    let limit = harness.abilities().in_flight;
    let mut sent = 0;
    let mut left = Bytes::new();
    loop {
        if left.is_empty() {
            left = pattern(sent, 64 << 10);
        }
        let before = left.len();
        let step = poll_fn(|cx| sink.poll_send(cx, &mut left, false));
        let waited = tokio::time::timeout(Duration::from_millis(300), step).await;
        sent += before - left.len();
        assert!(sent <= limit, "{sent} bytes for a receiver that does not read");
        match waited {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
    }
    head(&mut outgoing).await.unwrap();
    let total = sent + left.len();
    let reader = tokio::spawn(check_pour(outgoing.response.into_recv(), total));
    send(&mut sink, left, true).await.unwrap();
    reader.await.unwrap().unwrap();
}

/// The body of an answer, dropped before its end, does not look like a shorter one.
pub async fn an_unfinished_answer_is_a_reset(harness: &dyn Harness) {
    for fields in [&[][..], &[("content-length", "100")]] {
        let mut peers = Peers::new(harness).await;
        let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
        let mut sink = incoming.responder.respond(response(200, fields), false).unwrap();
        send(&mut sink, "part", false).await.unwrap();
        head(&mut outgoing).await.unwrap();
        let mut recv = outgoing.response.into_recv();
        assert_eq!(at_least(&mut recv, 4).await.unwrap(), b"part");
        drop(sink);
        failure(&mut recv).await;
    }
}

/// The body of a request, dropped before its end, does not look like a shorter one.
pub async fn an_unfinished_request_is_a_reset(harness: &dyn Harness) {
    for fields in [&[][..], &[("content-length", "100")]] {
        let mut peers = Peers::new(harness).await;
        let mut asked = request(Method::POST, "/");
        asked.headers = headers(fields);
        let mut outgoing = peers.open(asked, false).await;
        send(&mut outgoing.send, "part", false).await.unwrap();
        let mut incoming = peers.arrival(&mut outgoing).await;
        assert_eq!(at_least(&mut incoming.recv, 4).await.unwrap(), b"part");
        drop(outgoing);
        failure(&mut incoming.recv).await;
    }
}

/// A request that nobody answers is reset.
pub async fn a_responder_dropped_is_a_reset(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    drop(incoming);
    head(&mut outgoing).await.unwrap_err();
    after_a_reset(harness, &mut peers).await;
}

/// A reset in the middle of an answer.
pub async fn a_reset_answer_carries_its_code(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, "part", false).await.unwrap();
    head(&mut outgoing).await.unwrap();
    let mut recv = outgoing.response.into_recv();
    assert_eq!(at_least(&mut recv, 4).await.unwrap(), b"part");
    sink.reset(ErrorCode::Internal);
    let error = failure(&mut recv).await;
    if harness.abilities().codes {
        assert_eq!(error.code(), ErrorCode::Internal);
    }
}

/// A reset instead of an answer.
pub async fn a_reset_responder_carries_its_code(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    incoming.responder.reset(ErrorCode::Refused);
    let error = head(&mut outgoing).await.unwrap_err();
    if harness.abilities().codes {
        assert_eq!(error.code(), ErrorCode::Refused);
    }
    after_a_reset(harness, &mut peers).await;
}

/// A reset in the middle of a request.
pub async fn a_reset_request_carries_its_code(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut outgoing = peers.open(request(Method::POST, "/"), false).await;
    send(&mut outgoing.send, "part", false).await.unwrap();
    let mut incoming = peers.arrival(&mut outgoing).await;
    assert_eq!(at_least(&mut incoming.recv, 4).await.unwrap(), b"part");
    outgoing.send.reset(ErrorCode::Cancel);
    let error = failure(&mut incoming.recv).await;
    if harness.abilities().codes {
        assert_eq!(error.code(), ErrorCode::Cancel);
    }
    drop((incoming, outgoing));
    after_a_reset(harness, &mut peers).await;
}

async fn after_a_reset(harness: &dyn Harness, peers: &mut Peers) {
    if harness.abilities().survives_reset {
        peers.exchange(request(Method::GET, "/"), true).await;
    } else {
        poll_fn(|cx| match peers.client.poll_ready(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
    }
}

/// A receiver's stop reaches the sender, where the protocol can say it.
pub async fn a_receiver_that_stops_is_noticed(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, "part", false).await.unwrap();
    head(&mut outgoing).await.unwrap();
    let mut recv = outgoing.response.into_recv();
    recv.stop(ErrorCode::Cancel);
    drop(recv);
    if !harness.abilities().stops {
        drop((outgoing.send, peers.client));
    }
    // Over TCP only a write finds out.
    loop {
        if poll_fn(|cx| Poll::Ready(sink.poll_stopped(cx).is_ready())).await
            || send(&mut sink, "more", false).await.is_err()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A client that gives a request up is noticed while its answer is awaited.
pub async fn cancelled_before_the_answer(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (outgoing, mut incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    let early = tokio::time::timeout(Duration::from_millis(50), cancelled(&mut incoming.responder)).await;
    assert!(early.is_err(), "cancelled by nobody: {early:?}");
    drop(outgoing);
    cancelled(&mut incoming.responder).await;
}

/// The end of a connection by abort is a reset for its streams.
pub async fn abort_resets_what_lives(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    peers.control.send(Control::Abort(ErrorCode::Internal)).await.unwrap();
    failure(&mut tunnel.client_recv).await;
    failure(&mut tunnel.server_recv).await;
    assert!(peers.served.await.unwrap().is_none());
}

/// A drained server finishes what it has begun, then it is over; its client learns that.
pub async fn drain_finishes_what_lives(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    peers.control.send(Control::Drain).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, "answer", true).await.unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, 200);
    assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), b"answer");
    drop(outgoing.send);
    drop((sink, incoming.recv));
    loop {
        match poll_fn(|cx| peers.client.poll_ready(cx)).await {
            Err(_) => break,
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    drop(peers.client);
    assert!(peers.served.await.unwrap().is_none());
}

/// A drained client finishes what it has begun and opens nothing.
pub async fn a_drained_client_opens_nothing(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(request(Method::GET, "/"), true).await;
    peers.client.drain();
    assert!(poll_fn(|cx| peers.client.poll_ready(cx)).await.is_err());
    let sink = incoming.responder.respond(response(200, &[]), true).unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, 200);
    drop(sink);
}

/// Whoever opened a stream may let go of the connection.
pub async fn a_stream_outlives_its_connection_handle(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, mut incoming) = peers.exchange(request(Method::POST, "/"), false).await;
    drop(peers.client);
    send(&mut outgoing.send, "hello", true).await.unwrap();
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"hello");
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    send(&mut sink, "world", true).await.unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, 200);
    assert_eq!(all(&mut outgoing.response.into_recv()).await.unwrap(), b"world");
}
