//! What a stream costs beside its payload, as Envoy 1.40 counts it: all octets of its QUIC stream but the payload of DATA. Of
//! HEADERS frames that come the field section counts as fields, of those that leave the whole frame.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;

use adit_codec::conformance::peers;
use bytes::Bytes;
use common::allow_connect;
use common::raw::*;
use http::Method;

const DATA: u64 = 0;
const UNKNOWN: u64 = 0x21;
const TRAILERS: [(&str, &str); 1] = [("t", "1")];

/// Octets of DATA payloads and of HEADERS frames in what a direction of a stream carried.
fn parts(bytes: &[u8]) -> (u64, u64) {
    let mut decoder = adit_h3::frame::FrameDecoder::new(adit_h3::frame::Role::Request, 1 << 16);
    let (mut input, mut payload, mut heads) = (Bytes::copy_from_slice(bytes), 0, 0);
    while let Some(part) = decoder.next(&mut input).unwrap() {
        match part {
            adit_h3::frame::Frame::Data(data) => payload += data.len() as u64,
            adit_h3::frame::Frame::Block(kind, block) => heads += frame(kind, &block).len() as u64,
        }
    }
    (payload, heads)
}

#[tokio::test]
async fn a_server_counts_what_its_streams_carry() {
    for tunnel in [false, true] {
        let mut raw = RawClient::polite(allow_connect()).await;
        let head: &[(&str, &str)] = if tunnel { &CONNECT } else { &GET };
        let mut bytes = [frame(UNKNOWN, b"abc"), request(head), frame(DATA, b"hello"), frame(UNKNOWN, b"")].concat();
        bytes.extend(frame(DATA, &[b'x'; 100]));
        let mut fields = block(head).len() as u64;
        if !tunnel {
            bytes.extend(request(&TRAILERS));
            fields += block(&TRAILERS).len() as u64;
        }
        // In pieces that do not care for frames.
        let (mut send, mut recv) = raw.bi(&bytes[..2], false).await;
        for piece in bytes[2..].chunks(7) {
            send.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        send.finish().unwrap();
        let mut incoming = tokio::time::timeout(WAIT, raw.requests.recv()).await.unwrap().unwrap();
        let meter = incoming.meter.clone().unwrap();
        assert_eq!(peers::all(&mut incoming.recv).await.unwrap().len(), 105);
        let trailers = peers::trailers(&mut incoming.recv).await.unwrap();
        assert_eq!(trailers.is_some(), !tunnel);
        assert_eq!(meter.total_received(), (bytes.len() as u64 - 105, fields));
        assert_eq!(meter.total_sent(), (0, 0));

        incoming.responder.inform(peers::response(103, &[("link", "x")])).unwrap();
        let mut sink = incoming.responder.respond(peers::response(200, &[("y", "z")]), false).unwrap();
        for size in [1, 63, 64, 20_000] {
            peers::send(&mut sink, vec![0; size], false).await.unwrap();
        }
        if tunnel {
            peers::send(&mut sink, Bytes::new(), true).await.unwrap();
        } else {
            let trailers = peers::headers(&TRAILERS);
            poll_fn(|cx| sink.poll_send_trailers(cx, &trailers)).await.unwrap();
        }
        let answer = outcome(&mut recv).await.unwrap();
        let (payload, heads) = parts(&answer);
        assert_eq!(payload, 20_128);
        assert_eq!(meter.total_sent(), (answer.len() as u64 - payload, heads));
    }
}

#[tokio::test]
async fn a_client_counts_what_its_streams_carry() {
    let mut server = RawServer::polite(&[]).await;
    let conn = &mut server.client.conn;
    poll_fn(|cx| conn.poll_ready(cx)).await.unwrap();
    let mut stream = conn.open(&peers::request(Method::POST, "/"), false).unwrap();
    let meter = stream.meter.clone().unwrap();
    peers::send(&mut stream.send, vec![0; 1000], false).await.unwrap();
    let trailers = peers::headers(&TRAILERS);
    poll_fn(|cx| stream.send.poll_send_trailers(cx, &trailers)).await.unwrap();
    let (mut send, mut recv) = tokio::time::timeout(WAIT, server.conn.accept_bi()).await.unwrap().unwrap();
    let asked = outcome(&mut recv).await.unwrap();
    let (payload, heads) = parts(&asked);
    assert_eq!(payload, 1000);
    assert_eq!(meter.total_sent(), (asked.len() as u64 - payload, heads));

    let (interim, last) = ([(":status", "103")], [(":status", "200")]);
    let bytes = [request(&interim), request(&last), frame(DATA, b"hello"), request(&TRAILERS)].concat();
    send.write_all(&bytes).await.unwrap();
    send.finish().unwrap();
    assert_eq!(peers::head(&mut stream).await.unwrap().status, 103);
    assert_eq!(peers::head(&mut stream).await.unwrap().status, 200);
    let mut recv = stream.response.into_recv();
    assert_eq!(peers::all(&mut recv).await.unwrap(), b"hello");
    assert!(peers::trailers(&mut recv).await.unwrap().is_some());
    let fields = [block(&interim), block(&last), block(&TRAILERS)].concat().len() as u64;
    assert_eq!(meter.total_received(), (bytes.len() as u64 - 5, fields));
}
