//! Flow control of the whole connection, and what must leave in spite of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::time::Duration;

use adit_codec::conformance::peers;
use bytes::Bytes;
use common::allow_connect;
use common::raw::*;
use http::Method;
use quinn::{RecvStream, SendStream, VarInt};

fn narrow() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport.receive_window(VarInt::from_u32(64 << 10)).stream_receive_window(VarInt::from_u32(64 << 10));
    transport
}

/// Fills the connection's window with one stream that its receiver leaves alone.
async fn clog(sink: &mut Box<dyn adit_codec::SendStream>) {
    let mut data = Bytes::from(vec![0; 1 << 20]);
    let mut looks = 0;
    while looks < 5 {
        let before = data.len();
        let sent = poll_fn(|cx| sink.poll_send(cx, &mut data, false));
        assert!(tokio::time::timeout(Duration::from_millis(50), sent).await.is_err());
        looks = if data.len() == before { looks + 1 } else { 0 };
    }
}

async fn read_some(recv: &mut RecvStream, n: usize) {
    let mut buffer = vec![0; n];
    tokio::time::timeout(WAIT, recv.read_exact(&mut buffer)).await.unwrap().unwrap();
}

/// Nobody asks for the request's sending half while its answer is awaited.
#[tokio::test]
async fn a_blocked_request_leaves_when_there_is_room() {
    let mut server = RawServer::with(narrow()).await;
    server.uni(&[&[0][..], &frame(4, &[])].concat()).await;
    let conn = &mut server.client.conn;
    poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
    let mut first = conn.open(&peers::request(Method::POST, "/1"), false).unwrap();
    let (_answer, mut clogged) = server.conn.accept_bi().await.unwrap();
    clog(&mut first.send).await;
    let mut blocked = Vec::new();
    for _ in 0..3 {
        poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
        blocked.push(conn.open(&peers::request(Method::GET, "/2"), true).unwrap());
    }
    // One is let go meanwhile: it was whole, so it still arrives.
    let adit_codec::OutgoingStream { send, response: _kept, .. } = blocked.remove(0);
    drop(send);
    let early = tokio::time::timeout(Duration::from_millis(100), server.conn.accept_bi()).await;
    assert!(early.is_err(), "room where there was none");
    let answer = async {
        read_some(&mut clogged, 60 << 10).await;
        for _ in 0..3 {
            let (mut send, mut recv): (SendStream, RecvStream) = server.conn.accept_bi().await.unwrap();
            assert!(!outcome(&mut recv).await.unwrap().is_empty());
            let _ = send.write_all(&request(&[(":status", "200")])).await;
            let _ = send.finish();
        }
    };
    tokio::time::timeout(WAIT, answer).await.expect("the requests leave");
    for stream in &mut blocked {
        assert_eq!(peers::head(stream).await.unwrap().status, 200);
    }
}

/// A reset overtakes a head that could not leave.
#[tokio::test]
async fn a_blocked_request_can_be_reset() {
    let mut server = RawServer::with(narrow()).await;
    server.uni(&[&[0][..], &frame(4, &[])].concat()).await;
    let conn = &mut server.client.conn;
    poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
    let mut first = conn.open(&peers::request(Method::POST, "/1"), false).unwrap();
    let (_answer, _clogged) = server.conn.accept_bi().await.unwrap();
    clog(&mut first.send).await;
    poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
    let mut second = conn.open(&peers::request(Method::POST, "/2"), false).unwrap();
    second.send.reset(adit_http::ErrorCode::Cancel);
    let (_send, mut recv) = tokio::time::timeout(WAIT, server.conn.accept_bi()).await.unwrap().unwrap();
    assert_eq!(outcome(&mut recv).await, Err(0x10c));
}

/// Nobody asks for the answer's half of an idle tunnel.
#[tokio::test]
async fn a_blocked_answer_leaves_when_there_is_room() {
    let mut client = RawClient::with(allow_connect(), narrow()).await;
    let (_up, mut clogged) = client.bi(&request(&CONNECT), false).await;
    let incoming = client.requests.recv().await.unwrap();
    let mut sink = incoming.responder.respond(peers::response(200, &[]), false).unwrap();
    clog(&mut sink).await;
    let (_up2, mut answer) = client.bi(&request(&CONNECT), false).await;
    let second = client.requests.recv().await.unwrap();
    let mut responder = second.responder;
    responder.inform(peers::response(103, &[])).unwrap();
    let mut second_sink = responder.respond(peers::response(200, &[]), false).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), answer.read_chunk(1, true)).await;
    assert!(early.is_err(), "room where there was none");
    read_some(&mut clogged, 60 << 10).await;
    let expected = [request(&[(":status", "103")]), request(&[(":status", "200")])].concat();
    let mut got = vec![0; expected.len()];
    tokio::time::timeout(WAIT, answer.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, expected);
    peers::send(&mut second_sink, "more", false).await.unwrap();
    read_some(&mut answer, 6).await;
}
