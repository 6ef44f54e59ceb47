//! Upgrades and CONNECTs: accepted, refused, ended, reset.

use adit_http::{ErrorCode, RequestKind};
use bytes::Bytes;
use http::StatusCode;

use super::Harness;
use super::peers::*;

const SIZE: usize = 8 << 20;

/// Bytes flow both ways after a 101.
pub async fn an_accepted_upgrade_is_a_tunnel(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(upgrade("Test"), false).await;
    assert_eq!(incoming.head.kind, upgrade("test").kind);
    assert_eq!(incoming.head.headers.get("upgrade").unwrap(), "Test");
    assert_eq!(incoming.head.path_only(), "/upgrade");
    let answer = response(101, &[("connection", "upgrade"), ("upgrade", "Test"), ("x", "y")]);
    let mut send_down = incoming.responder.respond(answer, false).unwrap();
    flush(&mut send_down).await.unwrap();
    let got = head(&mut outgoing).await.unwrap();
    assert_eq!(got.status, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(got.headers.get("x").unwrap(), "y");
    assert_eq!(got.headers.get("upgrade").unwrap(), "Test");
    let mut recv_down = outgoing.response.into_recv();
    let mut recv_up = incoming.recv;
    for _ in 0..3 {
        send(&mut outgoing.send, "ping", false).await.unwrap();
        assert_eq!(at_least(&mut recv_up, 4).await.unwrap(), b"ping");
        send(&mut send_down, "pong", false).await.unwrap();
        assert_eq!(at_least(&mut recv_down, 4).await.unwrap(), b"pong");
    }
}

/// Bytes flow both ways after a 2xx; a 204 is as good as a 200.
pub async fn an_accepted_connect_is_a_tunnel(harness: &dyn Harness) {
    for status in [200, 204] {
        let mut peers = Peers::new(harness).await;
        let (mut outgoing, incoming) = peers.exchange(connect("example.com:443"), false).await;
        assert_eq!(incoming.head.kind, RequestKind::Connect("example.com:443".parse().unwrap()));
        assert!(incoming.head.path.is_none());
        let mut send_down = incoming.responder.respond(response(status, &[]), false).unwrap();
        flush(&mut send_down).await.unwrap();
        assert_eq!(head(&mut outgoing).await.unwrap().status, status);
        let mut recv_down = outgoing.response.into_recv();
        let mut recv_up = incoming.recv;
        send(&mut outgoing.send, "ping", true).await.unwrap();
        assert_eq!(all(&mut recv_up).await.unwrap(), b"ping");
        send(&mut send_down, "pong", true).await.unwrap();
        assert_eq!(all(&mut recv_down).await.unwrap(), b"pong");
    }
}

/// A refusal is an ordinary answer with its body.
pub async fn a_refused_upgrade_is_an_answer(harness: &dyn Harness) {
    refused(harness, upgrade("test"), 403).await;
}

/// A refusal is an ordinary answer with its body.
pub async fn a_refused_connect_is_an_answer(harness: &dyn Harness) {
    refused(harness, connect("example.com:443"), 407).await;
}

async fn refused(harness: &dyn Harness, asked: adit_http::RequestHead, status: u16) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, incoming) = peers.exchange(asked, false).await;
    drop(incoming.recv);
    let mut sink = incoming.responder.respond(response(status, &[("content-length", "2")]), false).unwrap();
    send(&mut sink, "no", true).await.unwrap();
    assert_eq!(head(&mut outgoing).await.unwrap().status, status);
    drop(outgoing.send);
    let mut recv = outgoing.response.into_recv();
    assert_eq!(all(&mut recv).await.unwrap(), b"no");
    drop(recv);
    if harness.abilities().survives_refusal {
        peers.exchange(request(http::Method::GET, "/"), true).await;
    } else {
        drop(peers.client);
        assert!(peers.served.await.unwrap().is_none());
    }
}

/// The server goes on sending after the client's end.
pub async fn the_client_ends_first(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    send(&mut tunnel.client_send, "up", true).await.unwrap();
    assert_eq!(all(&mut tunnel.server_recv).await.unwrap(), b"up");
    for _ in 0..3 {
        send(&mut tunnel.server_send, "down", false).await.unwrap();
        assert_eq!(at_least(&mut tunnel.client_recv, 4).await.unwrap(), b"down");
    }
    send(&mut tunnel.server_send, "last", true).await.unwrap();
    assert_eq!(all(&mut tunnel.client_recv).await.unwrap(), b"last");
}

/// The client goes on sending after the server's end.
pub async fn the_server_ends_first(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    send(&mut tunnel.server_send, Bytes::new(), true).await.unwrap();
    assert_eq!(all(&mut tunnel.client_recv).await.unwrap(), b"");
    for _ in 0..3 {
        send(&mut tunnel.client_send, "more", false).await.unwrap();
        assert_eq!(at_least(&mut tunnel.server_recv, 4).await.unwrap(), b"more");
    }
    send(&mut tunnel.client_send, "last", true).await.unwrap();
    assert_eq!(all(&mut tunnel.server_recv).await.unwrap(), b"last");
}

/// 8 MiB in both directions at once.
pub async fn payload_arrives_intact(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let tunnel = peers.tunnel().await;
    let up = tokio::spawn(pour(tunnel.client_send, SIZE));
    let down = tokio::spawn(pour(tunnel.server_send, SIZE));
    let server = tokio::spawn(check_pour(tunnel.server_recv, SIZE));
    let client = tokio::spawn(check_pour(tunnel.client_recv, SIZE));
    up.await.unwrap().unwrap();
    down.await.unwrap().unwrap();
    server.await.unwrap().unwrap();
    client.await.unwrap().unwrap();
}

/// The server sees the reset, after or instead of what was sent, never an end.
pub async fn a_tunnel_reset_by_the_client(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    send(&mut tunnel.client_send, "up", false).await.unwrap();
    assert_eq!(at_least(&mut tunnel.server_recv, 2).await.unwrap(), b"up");
    tunnel.client_send.reset(ErrorCode::Connect);
    drop((tunnel.client_send, tunnel.client_recv));
    let error = failure(&mut tunnel.server_recv).await;
    if harness.abilities().codes {
        assert_eq!(error.code(), ErrorCode::Connect);
    }
}

/// The client sees the reset, after or instead of what was sent, never an end.
pub async fn a_tunnel_reset_by_the_server(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    send(&mut tunnel.server_send, "down", false).await.unwrap();
    assert_eq!(at_least(&mut tunnel.client_recv, 4).await.unwrap(), b"down");
    tunnel.server_send.reset(ErrorCode::Connect);
    drop((tunnel.server_send, tunnel.server_recv));
    let error = failure(&mut tunnel.client_recv).await;
    if harness.abilities().codes {
        assert_eq!(error.code(), ErrorCode::Connect);
    }
}

/// Halves that are dropped before their end never look like one.
pub async fn a_tunnel_half_dropped_is_a_reset(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    drop((tunnel.server_send, tunnel.server_recv));
    failure(&mut tunnel.client_recv).await;

    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    drop((tunnel.client_send, tunnel.client_recv, peers.client));
    failure(&mut tunnel.server_recv).await;
}

/// A drained connection still carries its tunnel, and is over when the tunnel is.
pub async fn drain_spares_a_tunnel(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let mut tunnel = peers.tunnel().await;
    peers.control.send(Control::Drain).await.unwrap();
    send(&mut tunnel.client_send, "up", true).await.unwrap();
    assert_eq!(all(&mut tunnel.server_recv).await.unwrap(), b"up");
    send(&mut tunnel.server_send, "down", true).await.unwrap();
    assert_eq!(all(&mut tunnel.client_recv).await.unwrap(), b"down");
    drop(tunnel);
    drop(peers.client);
    assert!(peers.served.await.unwrap().is_none());
}

/// Interim answers stand before the one that accepts.
pub async fn interim_heads_before_acceptance(harness: &dyn Harness) {
    let mut peers = Peers::new(harness).await;
    let (mut outgoing, mut incoming) = peers.exchange(connect("example.com:443"), false).await;
    incoming.responder.inform(response(103, &[("link", "x")])).unwrap();
    let mut sink = incoming.responder.respond(response(200, &[]), false).unwrap();
    flush(&mut sink).await.unwrap();
    let interim = head(&mut outgoing).await.unwrap();
    assert_eq!((interim.status.as_u16(), interim.headers.get("link").unwrap().as_bytes()), (103, &b"x"[..]));
    assert_eq!(head(&mut outgoing).await.unwrap().status, StatusCode::OK);
    send(&mut outgoing.send, "up", true).await.unwrap();
    assert_eq!(all(&mut incoming.recv).await.unwrap(), b"up");
}
