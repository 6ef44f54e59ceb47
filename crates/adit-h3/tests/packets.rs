//! Packets from anybody: spoofed clients, garbage, paths that carry little. Straight on sockets, through a relay where a
//! path has to be bad.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use adit_codec::conformance::peers;
use adit_codec::{OutgoingStream, ServerConn};
use adit_h3::endpoint::{Admission, ClientEndpoint, QuicOptions, ServerEndpoint, ServerSetup};
use adit_h3::{ClientConfig, ServerConfig};
use adit_http::StreamError;
use common::raw::{GET, RawClient, WAIT, outcome, request};
use common::{allow_connect, client_setup, client_tls, server_tls, socket};
use quinn::crypto::rustls::QuicClientConfig;

/// Answers every request with 200 and as many bytes as asked.
fn serve(admission: Admission, body: usize) -> SocketAddr {
    serve_counting(admission, body).0
}

/// The same, with the number of clients that were let in to shake hands.
fn serve_counting(admission: Admission, body: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let admitted = Arc::new(AtomicUsize::new(0));
    let count = admitted.clone();
    let setup = ServerSetup::new(&server_tls(), &QuicOptions::default(), admission, 1).unwrap();
    let mut endpoint = ServerEndpoint::bind(socket(), &setup, 0).unwrap();
    let at = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(handshake) = poll_fn(|cx| endpoint.poll_accept(cx)).await {
            count.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let Ok(conn) = handshake.await else { return };
                let mut conn = adit_h3::server(conn, Arc::new(ServerConfig::default()));
                while let Some(Ok(incoming)) = poll_fn(|cx| conn.poll_accept(cx)).await {
                    let sink = incoming.responder.respond(peers::response(200, &[]), false).unwrap();
                    tokio::spawn(peers::pour(sink, body));
                }
            });
        }
    });
    (at, admitted)
}

fn client() -> quinn::Endpoint {
    let mut tls = client_tls();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

async fn ask(conn: &quinn::Connection, body: usize) {
    let (mut send, mut recv) = conn.open_bi().await.unwrap();
    send.write_all(&request(&GET)).await.unwrap();
    send.finish().unwrap();
    assert!(outcome(&mut recv).await.unwrap().len() >= body);
}

/// What a path does to a packet: from the client or to it, and its bytes.
type Rule = Box<dyn Fn(bool, &[u8]) -> bool + Send>;

/// A path between one client and `server` that lets packets through as `passes` says. Gives the address for the client.
async fn path(server: SocketAddr, passes: Rule) -> SocketAddr {
    let near = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((n, from)) = near.recv_from(&mut up) => {
                    client = Some(from);
                    if passes(true, &up[..n]) {
                        let _ = far.send_to(&up[..n], server).await;
                    }
                }
                Ok((n, _)) = far.recv_from(&mut down) => {
                    if passes(false, &down[..n]) && let Some(client) = client {
                        let _ = near.send_to(&down[..n], client).await;
                    }
                }
            }
        }
    });
    at
}

/// RFC 9000 section 8.1: to an address that has not shown itself go three bytes for each that came; quinn fills the packet
/// that reaches that limit.
#[tokio::test]
async fn amplification() {
    let server = serve(Admission::default(), 0);
    let (came, went) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (to, from) = (came.clone(), went.clone());
    // One packet reaches the server; what it answers goes nowhere.
    let rule = move |from_client: bool, packet: &[u8]| {
        let size = packet.len();
        if from_client {
            to.load(Relaxed) == 0 && to.fetch_add(size, Relaxed) == 0
        } else {
            from.fetch_add(size, Relaxed);
            false
        }
    };
    let at = path(server, Box::new(rule)).await;
    let endpoint = client();
    let _connecting = endpoint.connect(at, "localhost").unwrap();
    reaches(&went, 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (came, went) = (came.load(Relaxed), went.load(Relaxed));
    assert!(came >= 1200 && went > 0 && went < 3 * came + 1350, "{went} bytes for {came}");
}

/// What came of first packets of clients that never come back.
struct Spoofed {
    server: SocketAddr,
    admitted: Arc<AtomicUsize>,
    /// Packets toward the clients, and those of them that are Retries.
    answers: Arc<AtomicUsize>,
    retries: Arc<AtomicUsize>,
    _clients: (quinn::Endpoint, Vec<quinn::Connecting>),
}

async fn spoof(retry_from: usize, max_handshakes: usize) -> Spoofed {
    // Handshakes that are under way stay so.
    let admission = Admission { retry_from, max_handshakes, handshake_timeout: Duration::from_secs(300) };
    let (server, admitted) = serve_counting(admission, 0);
    let (answers, retries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (answers.clone(), retries.clone());
    let rule = move |from_client: bool, packet: &[u8]| {
        if !from_client {
            counters.0.fetch_add(1, Relaxed);
            // RFC 9000 section 17.2.5.
            counters.1.fetch_add(usize::from(packet[0] & 0xf0 == 0xf0), Relaxed);
        }
        from_client
    };
    let at = path(server, Box::new(rule)).await;
    let endpoint = client();
    // Each has a connection id of its own; to the server all come from one place and hear nothing.
    let mut spoofed = Vec::new();
    for _ in 0..500 {
        spoofed.push(endpoint.connect(at, "localhost").unwrap());
        tokio::task::yield_now().await;
    }
    Spoofed { server, admitted, answers, retries, _clients: (endpoint, spoofed) }
}

async fn reaches(counter: &AtomicUsize, least: usize) {
    let reached = async {
        while counter.load(Relaxed) < least {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, reached).await.unwrap_or_else(|_| panic!("{} of {least}", counter.load(Relaxed)));
}

/// From `retry_from` handshakes on only who can show an address gets in.
#[tokio::test]
async fn spoofed_initials() {
    let spoofed = spoof(16, 64).await;
    reaches(&spoofed.admitted, 16).await;
    reaches(&spoofed.retries, 100).await;
    assert_eq!(spoofed.admitted.load(Relaxed), 16);
    let honest = client();
    let connecting = honest.connect(spoofed.server, "localhost").unwrap();
    let conn = tokio::time::timeout(WAIT, connecting).await.unwrap().unwrap();
    ask(&conn, 0).await;
    assert_eq!(spoofed.admitted.load(Relaxed), 17);
}

/// From `max_handshakes` on nobody does.
#[tokio::test]
async fn spoofed_initials_where_no_address_need_be_shown() {
    let spoofed = spoof(usize::MAX, 16).await;
    reaches(&spoofed.admitted, 16).await;
    reaches(&spoofed.answers, 100).await;
    let honest = client();
    let connecting = honest.connect(spoofed.server, "localhost").unwrap();
    let refused = tokio::time::timeout(WAIT, connecting).await.unwrap().unwrap_err();
    let quinn::ConnectionError::ConnectionClosed(close) = refused else { panic!("{refused}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
    assert_eq!((spoofed.admitted.load(Relaxed), spoofed.retries.load(Relaxed)), (16, 0));
}

/// Neither a storm of packets of no connection (stateless resets are their answer), nor one of other versions or of random
/// long headers, hurts a connection that lives; and nobody gets more back than was sent.
#[tokio::test]
async fn storms_of_garbage() {
    let server = serve(Admission::default(), 0);
    let endpoint = client();
    let conn = endpoint.connect(server, "localhost").unwrap().await.unwrap();
    ask(&conn, 0).await;
    let storm = UdpSocket::bind("127.0.0.1:0").unwrap();
    storm.set_nonblocking(true).unwrap();
    let (mut sent, mut got) = (0, 0);
    let mut seed = 1_u64;
    let mut buffer = [0; 2000];
    for turn in 0..6000_usize {
        let size = [21, 43, 600, 1200][turn % 4];
        let mut packet: Vec<u8> = (0..size)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) as u8
            })
            .collect();
        // Short headers, long headers of version 1 of each type, of a version that is none, version negotiation.
        let first = [0x40, 0xc0, 0xd0, 0xe0, 0xf0, 0x80][turn % 6];
        packet[0] = first | (packet[0] & 0x0f);
        if first >= 0x80 {
            let version = [[0, 0, 0, 1], [0x1a, 0x2a, 0x3a, 0x4a], [0; 4]][turn % 3];
            packet[1..5].copy_from_slice(&version);
            packet[5] = 8;
        }
        sent += storm.send_to(&packet, server).unwrap_or(0);
        while let Ok((n, _)) = storm.recv_from(&mut buffer) {
            got += n;
        }
        if turn % 50 == 0 {
            ask(&conn, 0).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    while let Ok((n, _)) = storm.recv_from(&mut buffer) {
        got += n;
    }
    assert!(got <= sent, "{got} bytes for {sent}");
    ask(&conn, 0).await;
    let another = client().connect(server, "localhost").unwrap().await.unwrap();
    ask(&another, 0).await;
}

/// A path that carries 1200 bytes and no more, which is all that QUIC asks of one (RFC 9000 section 14).
#[tokio::test]
async fn tiny_mtu() {
    const BODY: usize = 1 << 20;
    let server = serve(Admission::default(), BODY);
    let at = path(server, Box::new(|_, packet| packet.len() <= 1200)).await;
    let endpoint = client();
    let whole = async {
        let conn = endpoint.connect(at, "localhost").unwrap().await.unwrap();
        ask(&conn, BODY).await;
    };
    tokio::time::timeout(Duration::from_secs(60), whole).await.expect("it works, if slowly");
}

/// A datagram larger than we announced to take (RFC 9221 section 3), and the largest that we take.
#[tokio::test]
async fn oversize_datagram() {
    let mut client = RawClient::polite(allow_connect()).await;
    let max = client.conn.max_datagram_size().unwrap();
    let too_large = client.conn.send_datagram(vec![0; max + 1].into());
    assert!(matches!(too_large, Err(quinn::SendDatagramError::TooLarge)), "{too_large:?}");
    client.conn.send_datagram_wait(vec![0; max].into()).await.unwrap();
    client.still_works().await;
}

/// A path that carries nothing any more, as when the server was killed: no new stream goes into it, and what lives waits for it
/// to come back.
#[tokio::test]
async fn a_silent_peer_gets_no_new_streams() {
    let setup = ServerSetup::new(&server_tls(), &QuicOptions::default(), Admission::default(), 1).unwrap();
    let mut endpoint = ServerEndpoint::bind(socket(), &setup, 0).unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let rule = broken.clone();
    let at = path(endpoint.local_addr().unwrap(), Box::new(move |_, _| !rule.load(Relaxed))).await;
    let echo = tokio::spawn(async move {
        let handshake = poll_fn(|cx| endpoint.poll_accept(cx)).await.unwrap();
        let mut conn = adit_h3::server(handshake.await.unwrap(), Arc::new(ServerConfig::default()));
        while let Some(Ok(incoming)) = poll_fn(|cx| conn.poll_accept(cx)).await {
            let mut sink = incoming.responder.respond(peers::response(200, &[]), false).unwrap();
            let mut recv = incoming.recv;
            tokio::spawn(async move {
                while let Some(chunk) = peers::chunk(&mut recv).await {
                    peers::send(&mut sink, chunk.unwrap(), false).await.unwrap();
                }
                peers::send(&mut sink, "", true).await.unwrap();
            });
        }
        drop(endpoint);
    });
    let near = ClientEndpoint::bind(socket()).unwrap();
    let conn = near.connect(&client_setup(), at, "localhost").unwrap().await.unwrap();
    let cfg = ClientConfig { silence: Duration::from_millis(1500), ..ClientConfig::default() };
    let mut parts = adit_h3::client(conn, Arc::new(cfg));
    let driver = tokio::spawn(parts.driver.take().unwrap());
    tokio::time::timeout(WAIT, poll_fn(|cx| parts.conn.poll_ready(cx))).await.unwrap().unwrap();
    // A connection on which nothing is to be answered is not silent.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    poll_fn(|cx| parts.conn.poll_ready(cx)).await.unwrap();
    let mut outgoing = parts.conn.open(&peers::connect("example.com:443"), false).unwrap();
    peers::head(&mut outgoing).await.unwrap();
    let OutgoingStream { mut send, response, .. } = outgoing;
    let mut recv = response.into_recv();
    broken.store(true, Relaxed);
    peers::send(&mut send, "lost at first", false).await.unwrap();
    let gone = async {
        while poll_fn(|cx| Poll::Ready(!matches!(parts.conn.poll_ready(cx), Poll::Ready(Err(_))))).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("it is noticed");
    assert_eq!(poll_fn(|cx| parts.conn.poll_ready(cx)).await.unwrap_err(), StreamError::TimedOut);
    assert!(!driver.is_finished(), "the stream that lives is kept");
    broken.store(false, Relaxed);
    assert_eq!(tokio::time::timeout(WAIT, peers::chunk(&mut recv)).await.unwrap().unwrap().unwrap(), "lost at first");
    peers::send(&mut send, "goes on", true).await.unwrap();
    assert_eq!(peers::all(&mut recv).await.unwrap(), b"goes on");
    drop((send, recv));
    // Then it is of no use any more.
    tokio::time::timeout(WAIT, driver).await.unwrap().unwrap().unwrap();
    echo.abort();
}
