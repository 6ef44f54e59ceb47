//! Datagrams of streams, and what becomes of those that have no place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use adit_codec::conformance::peers;
use adit_codec::{ClientConn, DatagramError, Datagrams, IncomingStream, OutgoingStream};
use adit_h3::endpoint::QuicOptions;
use adit_h3::{ClientConfig, QuicConnection};
use bytes::Bytes;
use common::raw::{RawClient, WAIT, serve};
use common::{Link, allow_connect, link_with};
use tokio::sync::mpsc;

struct Both {
    client: Box<dyn ClientConn>,
    requests: mpsc::Receiver<IncomingStream>,
    quic: (QuicConnection, QuicConnection),
    _link: (adit_h3::endpoint::ServerEndpoint, adit_h3::endpoint::ClientEndpoint),
}

async fn both(options: &QuicOptions, datagrams: bool) -> Both {
    let Link { server, client, server_endpoint, client_endpoint } = link_with(options).await;
    let quic = (server.clone(), client.clone());
    let (streams, requests) = mpsc::channel(64);
    tokio::spawn(serve(adit_h3::server(server, Arc::new(allow_connect())), streams));
    let mut cfg = ClientConfig::default();
    cfg.http3.datagrams = datagrams;
    let parts = adit_h3::client(client, Arc::new(cfg));
    tokio::spawn(parts.driver.unwrap());
    Both { client: parts.conn, requests, quic, _link: (server_endpoint, client_endpoint) }
}

impl Both {
    async fn tunnel(&mut self) -> (OutgoingStream, IncomingStream) {
        poll_fn(|cx| self.client.poll_ready(cx)).await.unwrap();
        let outgoing = self.client.open(&peers::upgrade("connect-udp"), false).unwrap();
        (outgoing, self.requests.recv().await.unwrap())
    }
}

async fn accept(
    outgoing: &mut OutgoingStream,
    incoming: IncomingStream,
) -> (Box<dyn Datagrams>, Box<dyn Datagrams>, Box<dyn std::any::Any>) {
    let mut recv = incoming.recv;
    let server = recv.datagrams().unwrap();
    let answer = peers::response(101, &[("connection", "upgrade"), ("upgrade", "connect-udp")]);
    let send = incoming.responder.respond(answer, false).unwrap();
    peers::head(outgoing).await.unwrap();
    let response = std::mem::replace(&mut outgoing.response, Box::new(Nothing));
    let mut back = response.into_recv();
    let client = back.datagrams().unwrap();
    (client, server, Box::new((recv, send, back)))
}

struct Nothing;

impl adit_codec::PendingResponse for Nothing {
    fn poll_head(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> Poll<Result<adit_http::ResponseHead, adit_http::StreamError>> {
        Poll::Pending
    }

    fn into_recv(self: Box<Self>) -> Box<dyn adit_codec::RecvStream> {
        unreachable!()
    }
}

async fn receive(datagrams: &mut Box<dyn Datagrams>) -> Option<Bytes> {
    tokio::time::timeout(WAIT, poll_fn(|cx| datagrams.poll_recv(cx))).await.expect("a datagram")
}

#[tokio::test]
async fn datagrams_find_their_streams_both_ways() {
    let mut both = both(&QuicOptions::default(), true).await;
    let mut tunnels = Vec::new();
    for _ in 0..70 {
        let (mut outgoing, incoming) = both.tunnel().await;
        let ends = accept(&mut outgoing, incoming).await;
        tunnels.push((outgoing.send, ends));
    }
    for (index, (_, (client, server, _))) in tunnels.iter_mut().enumerate() {
        let payload = index.to_be_bytes();
        client.send(&[&[0], &payload]).unwrap();
        assert_eq!(receive(server).await.unwrap(), [&[0][..], &payload].concat());
        server.send(&[b"", &payload, b"back"]).unwrap();
        assert_eq!(receive(client).await.unwrap(), [&payload[..], b"back"].concat());
        client.send(&[]).unwrap();
        assert_eq!(receive(server).await.unwrap(), "");
    }
    let (client, server) = (both.quic.1.clone(), &mut tunnels[0].1.1);
    client.close(adit_http::ErrorCode::NoError);
    assert!(receive(server).await.is_none());
}

#[tokio::test]
async fn the_largest_payload_fits_and_no_larger() {
    let mut both = both(&QuicOptions::default(), true).await;
    let (mut outgoing, incoming) = both.tunnel().await;
    let (mut client, mut server, _kept) = accept(&mut outgoing, incoming).await;
    let max = client.max_size().unwrap();
    assert!(max >= 1200, "{max}");
    client.send(&[&vec![7; max]]).unwrap();
    assert_eq!(receive(&mut server).await.unwrap().len(), max);
    assert_eq!(client.send(&[&vec![7; 70_000]]), Err(DatagramError::TooLarge));
}

#[tokio::test]
async fn a_flood_is_bounded_and_hurts_nobody() {
    let mut both = both(&QuicOptions::default(), true).await;
    let (mut outgoing, incoming) = both.tunnel().await;
    let (mut client, mut server, _kept) = accept(&mut outgoing, incoming).await;
    for _ in 0..5000 {
        client.send(&[&[0; 500]]).unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut count = 0;
    while poll_fn(|cx| Poll::Ready(server.poll_recv(cx).is_ready())).await {
        count += 1;
    }
    assert!((1..=64).contains(&count), "{count}");
    // What is still under way of the flood comes before it, or fills the queue in front of it.
    let after = async {
        loop {
            client.send(&[b"after"]).unwrap();
            let next = poll_fn(|cx| server.poll_recv(cx));
            if let Ok(got) = tokio::time::timeout(Duration::from_millis(200), next).await
                && got.unwrap() == "after"
            {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT, after).await.expect("it arrives");
    let (_outgoing, _incoming) = both.tunnel().await;
}

#[tokio::test]
async fn a_peer_without_datagrams_gets_none() {
    for (options, wanted) in
        [(QuicOptions::default(), false), (QuicOptions { datagrams: false, ..QuicOptions::default() }, true)]
    {
        let mut both = both(&options, wanted).await;
        let (outgoing, mut incoming) = both.tunnel().await;
        let mut server = incoming.recv.datagrams().unwrap();
        if !wanted {
            assert_eq!(server.max_size(), None);
            assert_eq!(server.send(&[b"x"]), Err(DatagramError::Unsupported));
        }
        drop(outgoing);
    }
}

/// A client may send datagrams with or before its request, and before its SETTINGS.
#[tokio::test]
async fn datagrams_ahead_of_the_request_are_kept() {
    let mut client = RawClient::new(allow_connect()).await;
    for index in 0..10u8 {
        client.conn.send_datagram(vec![0, index].into()).unwrap();
    }
    let sent = async {
        while client.conn.stats().frame_tx.datagram < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Time for the server to see them, however often the machine stands still.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, sent).await.expect("they are sent");
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
    ];
    let (_send, _recv) = client.bi(&common::raw::request(&fields), false).await;
    let mut incoming = client.requests.recv().await.unwrap();
    let mut datagrams = incoming.recv.datagrams().unwrap();
    // Not yet: its SETTINGS did not say that it takes any.
    assert_eq!(datagrams.max_size(), None);
    for index in 0..8u8 {
        assert_eq!(receive(&mut datagrams).await.unwrap(), [index][..]);
    }
    let more = tokio::time::timeout(Duration::from_millis(50), poll_fn(|cx| datagrams.poll_recv(cx))).await;
    assert!(more.is_err());
    client.uni(&[0, 4, 2, 0x33, 1]).await;
    let told = async {
        while datagrams.max_size().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, told).await.expect("its SETTINGS arrive");
    datagrams.send(&[b"hello"]).unwrap();
    assert_eq!(client.conn.read_datagram().await.unwrap(), "\0hello");
}
