//! Our two sides against those of the `h2` crate, each with windows and frames of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;

use adit_h2::{ClientConfig, ServerConfig};
use adit_http::{ErrorCode, StreamError};
use bytes::Bytes;
use common::*;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

/// A stream's window, the connection's, and the largest frame.
const WINDOWS: [(u32, u32, u32); 4] =
    [(1, 65_535, 16_384), (1000, 70_000, 16_384), (65_535, 65_535, 20_000), (1 << 20, 1 << 24, 1 << 18)];

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at + seed) % 251) as u8).collect()
}

/// Sends as much as there is room for, then trailers.
async fn send_all(mut sink: h2::SendStream<Bytes>, mut data: Bytes, sum: HeaderValue) {
    while !data.is_empty() {
        sink.reserve_capacity(data.len());
        let room = match poll_fn(|cx| sink.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(data.len()),
            other => panic!("{other:?}"),
        };
        sink.send_data(data.split_to(room), false).unwrap();
    }
    sink.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), sum)])).unwrap();
}

async fn read_all(mut recv: h2::RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut all = Vec::new();
    while let Some(chunk) = recv.data().await {
        let chunk = chunk.unwrap();
        recv.flow_control().release_capacity(chunk.len()).unwrap();
        all.extend_from_slice(&chunk);
    }
    (all, recv.trailers().await.unwrap().unwrap())
}

/// Echoes bodies and trailers; `/reset` is reset.
fn serve_h2(socket: TcpStream, (stream, connection, frame): (u32, u32, u32)) {
    tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(stream).initial_connection_window_size(connection).max_frame_size(frame);
        let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                if request.uri().path() == "/reset" {
                    return respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
                }
                let (body, trailers) = read_all(request.into_body()).await;
                let sink = respond.send_response(Response::new(()), false).unwrap();
                send_all(sink, body.into(), trailers["x-sum"].clone()).await;
            });
        }
    });
}

#[tokio::test]
async fn our_client_and_another_server() {
    for windows in WINDOWS {
        let (dialled, accepted) = sockets().await;
        serve_h2(accepted, windows);
        let mut client = ClientSide::new(dialled, ClientConfig::default());
        let len = if windows.0 < 2000 { 300 * windows.0.min(100) as usize } else { 300_000 };
        let mut tasks = Vec::new();
        for seed in 0..10 {
            let mut stream = client.open(get("/echo"), false).await.unwrap();
            tasks.push(tokio::spawn(async move {
                let whole = pattern(len, seed);
                let (mut sink, sent) = (stream.send, Bytes::from(whole.clone()));
                let writer = tokio::spawn(async move {
                    send(&mut *sink, sent, false).await.unwrap();
                    let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from(seed))]);
                    soon("trailers", poll_fn(|cx| sink.poll_send_trailers(cx, &sum))).await.unwrap();
                });
                let answer = soon("head", poll_fn(|cx| stream.response.poll_head(cx))).await.unwrap();
                assert_eq!(answer.status, 200);
                let mut recv = stream.response.into_recv();
                assert_eq!(body(&mut *recv).await.unwrap(), whole);
                assert_eq!(trailers(&mut *recv).await.unwrap().unwrap()["x-sum"], seed.to_string());
                writer.await.unwrap();
            }));
        }
        let mut refused = client.open(get("/reset"), true).await.unwrap();
        assert_eq!(head(&mut refused).await.err(), Some(StreamError::Reset(ErrorCode::Http11Required)));
        for task in tasks {
            soon("stream", task).await.unwrap();
        }
        assert_eq!(client.conn.live_streams(), 1);
    }
}

#[tokio::test]
async fn our_server_and_another_client() {
    for (stream, connection, frame) in WINDOWS {
        let (dialled, accepted) = sockets().await;
        serve(accepted, ServerConfig::default(), |mut stream| async move {
            if stream.head.path_only() == "/reset" {
                return stream.responder.reset(ErrorCode::EnhanceYourCalm);
            }
            let whole = body(&mut *stream.recv).await.unwrap();
            let sum = trailers(&mut *stream.recv).await.unwrap().unwrap();
            let mut sink = stream.responder.respond(status(200), false).unwrap();
            send(&mut *sink, whole, false).await.unwrap();
            soon("trailers", poll_fn(|cx| sink.poll_send_trailers(cx, &sum))).await.unwrap();
        });
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(stream).initial_connection_window_size(connection).max_frame_size(frame);
        let (client, driver) = builder.handshake::<_, Bytes>(dialled).await.unwrap();
        tokio::spawn(driver);
        let len = if stream < 2000 { 300 * stream.min(100) as usize } else { 300_000 };
        let mut tasks = Vec::new();
        for seed in 0..10 {
            let mut client = client.clone().ready().await.unwrap();
            tasks.push(tokio::spawn(async move {
                let whole = pattern(len, seed);
                let request = Request::post("http://a/echo").body(()).unwrap();
                let (response, sink) = client.send_request(request, false).unwrap();
                send_all(sink, whole.clone().into(), HeaderValue::from(seed)).await;
                let (got, sum) = read_all(response.await.unwrap().into_body()).await;
                assert!(got == whole && sum["x-sum"] == seed.to_string());
            }));
        }
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(Request::get("http://a/reset").body(()).unwrap(), true).unwrap();
        let error = soon("reset", response).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
        for task in tasks {
            soon("stream", task).await.unwrap();
        }
    }
}
