//! Our client against our server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;

use adit_h2::ServerConfig;
use adit_http::{ErrorCode, RequestKind, StreamError};
use bytes::Bytes;
use common::*;
use http::{HeaderMap, HeaderValue, Method};

#[tokio::test]
async fn a_request_and_its_response() {
    let mut client = pair(ServerConfig::default(), |stream| async move {
        assert_eq!(stream.head.method, Method::POST);
        assert_eq!(stream.head.authority.as_ref().unwrap(), "example.com");
        assert_eq!(stream.head.path.as_ref().unwrap(), "/a?b");
        assert_eq!(stream.head.headers.get("x").unwrap(), "y");
        assert!(!stream.head.headers.contains_key("connection"));
        echo(stream).await;
    })
    .await;
    let mut request = get("/a?b");
    request.method = Method::POST;
    request.headers.insert("x", HeaderValue::from_static("y"));
    request.headers.insert("connection", HeaderValue::from_static("keep-alive"));
    let mut stream = client.open(request, false).await.unwrap();
    send(&mut *stream.send, "hello ", false).await.unwrap();
    send(&mut *stream.send, "world", true).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"hello world");
}

#[tokio::test]
async fn a_megabyte_each_way_on_many_streams() {
    let mut client = pair(ServerConfig::default(), echo).await;
    let mut tasks = Vec::new();
    for i in 0..20u8 {
        let mut stream = client.open(connect("a:1"), false).await.unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status, 200);
        let (mut sink, mut recv) = (stream.send, stream.response.into_recv());
        tasks.push(tokio::spawn(async move {
            let whole = Bytes::from(vec![i; 3 << 20]);
            let expected = whole.clone();
            let writer = tokio::spawn(async move {
                for piece in whole.chunks(300_000) {
                    send(&mut *sink, Bytes::copy_from_slice(piece), false).await.unwrap();
                }
                send(&mut *sink, "", true).await.unwrap();
                sink
            });
            assert_eq!(body(&mut *recv).await.unwrap(), expected);
            writer.await.unwrap();
        }));
    }
    for task in tasks {
        soon("tunnel", task).await.unwrap();
    }
    assert_eq!(client.conn.live_streams(), 0);
}

#[tokio::test]
async fn interim_responses_and_trailers() {
    let mut client = pair(ServerConfig::default(), |mut stream| async move {
        let mut hint = status(103);
        hint.headers.insert("link", HeaderValue::from_static("</a>"));
        stream.responder.inform(status(100)).unwrap();
        stream.responder.inform(hint).unwrap();
        assert_eq!(body(&mut *stream.recv).await.unwrap(), b"q");
        let got = trailers(&mut *stream.recv).await.unwrap().unwrap();
        let mut sink = stream.responder.respond(status(200), false).unwrap();
        send(&mut *sink, "a", false).await.unwrap();
        soon("trailers", poll_fn(|cx| sink.poll_send_trailers(cx, &got))).await.unwrap();
    })
    .await;
    let mut stream = client.open(get("/"), false).await.unwrap();
    send(&mut *stream.send, "q", false).await.unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("x-sum", HeaderValue::from_static("7"));
    soon("trailers", poll_fn(|cx| stream.send.poll_send_trailers(cx, &fields))).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 100);
    let hint = head(&mut stream).await.unwrap();
    assert_eq!((hint.status.as_u16(), hint.headers.get("link").unwrap().as_bytes()), (103, &b"</a>"[..]));
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
    let mut recv = stream.response.into_recv();
    assert_eq!(body(&mut *recv).await.unwrap(), b"a");
    assert_eq!(trailers(&mut *recv).await.unwrap().unwrap(), fields);
}

#[tokio::test]
async fn an_upgrade_crosses_in_canonical_form() {
    for (token, method) in [("websocket", Method::GET), ("WebSocket", Method::GET), ("foo/2", Method::POST)] {
        let (name, sent) = (token, method.clone());
        let mut client = pair(allow_connect(), move |stream| {
            let method = sent.clone();
            async move {
                let RequestKind::Upgrade(token) = &stream.head.kind else { panic!("{:?}", stream.head) };
                assert_eq!(token.as_str(), name);
                assert_eq!(stream.head.headers.get("upgrade").unwrap(), name);
                assert_eq!(stream.head.headers.get("connection").unwrap(), "upgrade");
                assert_eq!(stream.head.method, method);
                assert!(!stream.head.headers.contains_key("content-length"));
                echo(stream).await;
            }
        })
        .await;
        let mut request = upgrade(token);
        request.method = method;
        request.headers.insert("content-length", HeaderValue::from_static("0"));
        let mut stream = client.open(request, false).await.unwrap();
        let answer = head(&mut stream).await.unwrap();
        assert_eq!(answer.status, 101);
        assert_eq!(answer.headers.get("upgrade").unwrap(), token);
        send(&mut *stream.send, "payload", true).await.unwrap();
        assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"payload");
    }
}

#[tokio::test]
async fn a_refused_upgrade_keeps_its_status_and_no_2xx_but_acceptance_crosses() {
    for (given, seen) in [(403, 403), (426, 426), (200, 502), (204, 502), (301, 301)] {
        let mut client = pair(allow_connect(), move |stream| async move {
            let _ = stream.responder.respond(status(given), true).unwrap();
        })
        .await;
        let mut stream = client.open(upgrade("websocket"), false).await.unwrap();
        assert_eq!(head(&mut stream).await.unwrap().status.as_u16(), seen, "{given}");
    }
}

#[tokio::test]
async fn an_upgrade_the_peer_does_not_allow_is_refused_here() {
    let mut client = pair(ServerConfig::default(), echo).await;
    let ready = soon("ready", poll_fn(|cx| client.conn.poll_ready(cx))).await.unwrap();
    assert!(!ready.extended_connect);
    let error = client.open(upgrade("websocket"), false).await.err().unwrap();
    assert_eq!(error, StreamError::Protocol("http2.extended_connect_not_allowed"));
    let mut stream = client.open(get("/"), true).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
}

#[tokio::test]
async fn capabilities_tell_of_extended_connect_and_of_room() {
    let mut cfg = allow_connect();
    cfg.http2.max_concurrent_streams = 2;
    let mut client = pair(cfg, echo).await;
    let ready = soon("ready", poll_fn(|cx| client.conn.poll_ready(cx))).await.unwrap();
    assert_eq!((ready.extended_connect, ready.open, ready.version), (true, 2, http::Version::HTTP_2));
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = client.open(connect("a:1"), false).await.unwrap();
        head(&mut stream).await.unwrap();
        streams.push(stream);
    }
    assert!(futures_pending(&mut client));
    let freed = tokio::spawn(async move {
        soon("room", poll_fn(|cx| client.conn.poll_ready(cx))).await.unwrap();
        client
    });
    tokio::task::yield_now().await;
    streams.pop();
    let mut client = freed.await.unwrap();
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 200);
}

fn futures_pending(client: &mut ClientSide) -> bool {
    client.conn.poll_ready(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[tokio::test]
async fn a_connect_answer_never_carries_content_length() {
    let mut client = pair(ServerConfig::default(), |stream| async move {
        assert_eq!(stream.head.path, None);
        assert!(matches!(&stream.head.kind, RequestKind::Connect(target) if target == "host:443"));
        let mut answer = status(204);
        answer.headers.insert("content-length", HeaderValue::from_static("0"));
        answer.headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        let sink = stream.responder.respond(answer, false).unwrap();
        echo_halves(stream.recv, sink).await;
    })
    .await;
    let mut request = connect("host:443");
    request.headers.insert("content-length", HeaderValue::from_static("3"));
    let mut stream = client.open(request, false).await.unwrap();
    let answer = head(&mut stream).await.unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.headers.is_empty(), "{:?}", answer.headers);
    send(&mut *stream.send, "through", true).await.unwrap();
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"through");
}

#[tokio::test]
async fn half_closes_in_both_orders() {
    // The server ends first, then hears the client out.
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let mut client = pair(ServerConfig::default(), move |mut stream| {
        let told = told.lock().unwrap().take().unwrap();
        async move {
            let mut sink = stream.responder.respond(status(200), false).unwrap();
            send(&mut *sink, "bye", true).await.unwrap();
            told.send(body(&mut *stream.recv).await).unwrap();
        }
    })
    .await;
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    head(&mut stream).await.unwrap();
    let mut recv = stream.response.into_recv();
    assert_eq!(body(&mut *recv).await.unwrap(), b"bye");
    assert!(recv.is_end());
    send(&mut *stream.send, "still here", true).await.unwrap();
    assert_eq!(soon("server", heard).await.unwrap().unwrap(), b"still here");

    // The client ends first: the echo comes after its end.
    let mut client = pair(ServerConfig::default(), |mut stream| async move {
        let mut sink = stream.responder.respond(status(200), false).unwrap();
        let all = body(&mut *stream.recv).await.unwrap();
        send(&mut *sink, all, true).await.unwrap();
    })
    .await;
    let mut stream = client.open(connect("a:1"), false).await.unwrap();
    head(&mut stream).await.unwrap();
    send(&mut *stream.send, "first", true).await.unwrap();
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"first");
}

const CODES: [ErrorCode; 14] = [
    ErrorCode::NoError,
    ErrorCode::Protocol,
    ErrorCode::Internal,
    ErrorCode::FlowControl,
    ErrorCode::SettingsTimeout,
    ErrorCode::StreamClosed,
    ErrorCode::FrameSize,
    ErrorCode::Refused,
    ErrorCode::Cancel,
    ErrorCode::Compression,
    ErrorCode::Connect,
    ErrorCode::EnhanceYourCalm,
    ErrorCode::Http11Required,
    ErrorCode::Other(0xabcd),
];

#[tokio::test]
async fn every_code_crosses_from_server_to_client() {
    for code in CODES {
        let mut client = pair(ServerConfig::default(), move |stream| async move {
            let mut sink = stream.responder.respond(status(200), false).unwrap();
            send(&mut *sink, "part", false).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            sink.reset(code);
        })
        .await;
        let mut stream = client.open(connect("a:1"), false).await.unwrap();
        head(&mut stream).await.unwrap();
        let stopped = soon("stopped", poll_fn(|cx| stream.send.poll_stopped(cx))).await;
        assert_eq!(stopped.code(), code);
        let mut recv = stream.response.into_recv();
        assert_eq!(chunk(&mut *recv).await.unwrap().unwrap(), "part");
        assert_eq!(chunk(&mut *recv).await, Some(Err(StreamError::Reset(code))));
        assert_eq!(chunk(&mut *recv).await, Some(Err(StreamError::Reset(code))));
        assert!(!recv.is_end());
    }
}

#[tokio::test]
async fn every_code_crosses_from_client_to_server() {
    for code in CODES {
        let (told, heard) = tokio::sync::oneshot::channel();
        let told = std::sync::Mutex::new(Some(told));
        let mut client = pair(ServerConfig::default(), move |mut stream| {
            let told = told.lock().unwrap().take().unwrap();
            async move {
                let mut sink = stream.responder.respond(status(200), false).unwrap();
                let stopped = soon("stopped", poll_fn(|cx| sink.poll_stopped(cx))).await;
                let read = body(&mut *stream.recv).await;
                let mut more = Bytes::from_static(b"x");
                let sent = poll_fn(|cx| sink.poll_send(cx, &mut more, false)).await;
                told.send((stopped, read, sent)).unwrap();
            }
        })
        .await;
        let mut stream = client.open(connect("a:1"), false).await.unwrap();
        head(&mut stream).await.unwrap();
        stream.send.reset(code);
        let (stopped, read, sent) = soon("server", heard).await.unwrap();
        assert_eq!((stopped.code(), read), (code, Err(StreamError::Reset(code))));
        assert_eq!(sent, Err(stopped));
    }
}

#[tokio::test]
async fn a_request_cancelled_before_its_answer_is_told_to_the_responder() {
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let mut client = pair(ServerConfig::default(), move |mut stream| {
        let told = told.lock().unwrap().take().unwrap();
        async move {
            told.send(soon("cancelled", poll_fn(|cx| stream.responder.poll_cancelled(cx))).await).unwrap();
        }
    })
    .await;
    let stream = client.open(get("/"), true).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    drop(stream);
    assert_eq!(soon("server", heard).await.unwrap(), StreamError::Reset(ErrorCode::Cancel));
    assert_eq!(client.conn.live_streams(), 0);
}

#[tokio::test]
async fn a_responder_dropped_without_an_answer_resets() {
    let mut client = pair(ServerConfig::default(), |stream| async move { drop(stream) }).await;
    let mut stream = client.open(get("/"), false).await.unwrap();
    assert_eq!(head(&mut stream).await.err(), Some(StreamError::Reset(ErrorCode::Internal)));
}

#[tokio::test]
async fn a_sending_half_dropped_unfinished_is_a_reset() {
    let mut client = pair(ServerConfig::default(), |stream| async move {
        let mut sink = stream.responder.respond(status(200), false).unwrap();
        send(&mut *sink, "half", false).await.unwrap();
    })
    .await;
    let mut stream = client.open(get("/"), true).await.unwrap();
    // The reset may overtake what it cuts short; never is it an end.
    let result = match head(&mut stream).await {
        Ok(_) => body(&mut *stream.response.into_recv()).await.err(),
        Err(error) => Some(error),
    };
    assert_eq!(result, Some(StreamError::Reset(ErrorCode::Internal)));
}

#[tokio::test]
async fn an_early_answer_stops_the_body_without_an_error() {
    let mut client = pair(ServerConfig::default(), |stream| async move {
        let mut sink = stream.responder.respond(status(413), false).unwrap();
        send(&mut *sink, "too big", true).await.unwrap();
    })
    .await;
    let mut stream = client.open(get("/"), false).await.unwrap();
    assert_eq!(head(&mut stream).await.unwrap().status, 413);
    let stopped = soon("stopped", poll_fn(|cx| stream.send.poll_stopped(cx))).await;
    assert_eq!(stopped, StreamError::Stopped(ErrorCode::NoError));
    assert_eq!(body(&mut *stream.response.into_recv()).await.unwrap(), b"too big");
}

#[tokio::test]
async fn a_connection_lost_truncates_every_stream() {
    let (dialled, accepted) = sockets().await;
    let server = serve(accepted, ServerConfig::default(), echo);
    let mut client = ClientSide::new(dialled, adit_h2::ClientConfig::default());
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = client.open(connect("a:1"), false).await.unwrap();
        head(&mut stream).await.unwrap();
        streams.push(stream);
    }
    server.abort();
    for mut stream in streams {
        let stopped = soon("stopped", poll_fn(|cx| stream.send.poll_stopped(cx))).await;
        assert_eq!(stopped, StreamError::Truncated);
        assert_eq!(chunk(&mut *stream.response.into_recv()).await, Some(Err(StreamError::Truncated)));
    }
    assert!(soon("ready", poll_fn(|cx| client.conn.poll_ready(cx))).await.is_err());
}
