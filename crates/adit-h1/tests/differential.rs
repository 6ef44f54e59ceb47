//! The same bytes mean the same to hyper, and hyper understands what we write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::convert::Infallible;
use std::future::poll_fn;

use adit_codec::ServerConn;
use adit_h1::probe::{self, Outcome};
use adit_h1::{ClientConfig, ServerConfig};
use adit_http::RequestKind;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

type Seen = (Method, String, HeaderMap, Vec<u8>);

/// What a hyper server makes of these bytes.
async fn hyper_request(wire: &[u8]) -> Option<Seen> {
    let (mut peer, ours) = tokio::io::duplex(1 << 20);
    let (seen, mut got) = mpsc::channel(4);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let message = (parts.method, parts.uri.to_string(), parts.headers, body.to_bytes().to_vec());
                let _ = seen.send(message).await;
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).header_read_timeout(None);
    let served = tokio::spawn(builder.serve_connection(TokioIo::new(ours), service));
    peer.write_all(wire).await.unwrap();
    peer.shutdown().await.unwrap();
    let first = common::soon(got.recv()).await;
    served.abort();
    first
}

/// What a hyper client makes of these bytes.
async fn hyper_response(wire: &[u8]) -> Option<(u16, HeaderMap, Vec<u8>)> {
    let (mut peer, ours) = tokio::io::duplex(1 << 20);
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
    let conn = tokio::spawn(conn);
    let wire = wire.to_vec();
    let writer = tokio::spawn(async move {
        let mut head = [0; 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut peer, &mut head).await;
        let _ = peer.write_all(&wire).await;
        let _ = peer.shutdown().await;
    });
    let request = Request::get("/").header("host", "h").body(Full::new(Bytes::new())).unwrap();
    let result = async {
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?;
        Some((parts.status.as_u16(), parts.headers, body.to_bytes().to_vec()))
    };
    let result = common::soon(result).await;
    writer.abort();
    conn.abort();
    result
}

/// Fields of the message, not of the hop or of its framing.
fn end_to_end(mut map: HeaderMap) -> HeaderMap {
    for name in ["host", "connection", "transfer-encoding", "content-length", "keep-alive"] {
        map.remove(name);
    }
    map
}

fn fields() -> impl Strategy<Value = String> {
    prop::collection::vec(("[xX]-[a-zA-Z0-9_!-]{0,10}", "[!-~]?([ -~\t]{0,20}[!-~])?", "[ \t]{0,2}"), 0..12).prop_map(
        |fields| fields.into_iter().map(|(name, value, space)| format!("{name}:{space}{value}{space}\r\n")).collect(),
    )
}

/// Framing fields and the bytes that they announce.
fn framed() -> impl Strategy<Value = (String, Vec<u8>)> {
    let chunk = (prop::collection::vec(any::<u8>(), 1..300), "(;[a-z]{1,5}(=[a-z]{1,5})?)?", any::<bool>());
    prop_oneof![
        Just((String::new(), Vec::new())),
        prop::collection::vec(any::<u8>(), 0..600)
            .prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
        (prop::collection::vec(chunk, 0..6), fields()).prop_map(|(chunks, trailers)| {
            let mut wire = Vec::new();
            for (data, extension, upper) in chunks {
                let size = if upper { format!("{:X}", data.len()) } else { format!("{:03x}", data.len()) };
                wire.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
                wire.extend_from_slice(&data);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            ("Transfer-Encoding: chunked\r\n".into(), wire)
        }),
    ]
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_mean_the_same_to_hyper(
        method in "(GET|POST|PUT|DELETE|OPTIONS|BREW)",
        path in "/[a-zA-Z0-9/._~%!$&'()*+,;=:@-]{0,20}(\\?[a-z0-9=&/?]{0,10})?",
        fields in fields(),
        (framing, body) in framed(),
    ) {
        let mut wire = format!("{method} {path} HTTP/1.1\r\nHost: example.com\r\n{fields}{framing}\r\n").into_bytes();
        wire.extend_from_slice(&body);
        let theirs = run(hyper_request(&wire));
        let Outcome::Taken(ours) = probe::request(&[&wire], &ServerConfig::default()) else {
            panic!("not taken, hyper: {theirs:?}");
        };
        let (method, uri, headers, body) = theirs.expect("hyper takes it");
        prop_assert_eq!(&ours.head.method, &method);
        prop_assert_eq!(ours.head.path.unwrap().to_string(), uri);
        prop_assert_eq!(end_to_end(ours.head.headers), end_to_end(headers));
        prop_assert_eq!(ours.body, body);
        prop_assert_eq!((ours.end, ours.left), (Ok(true), 0));
    }

    #[test]
    fn responses_mean_the_same_to_hyper(status in 200u16..600, reason in "( [a-zA-Z ]{0,10})?", fields in fields(), (framing, body) in framed()) {
        // A 204 that announces a body is refused here, and not by hyper.
        let framing = if status == 204 { String::new() } else { framing };
        let mut wire = format!("HTTP/1.1 {status}{reason}\r\n{fields}{framing}\r\n").into_bytes();
        if !matches!(status, 204 | 304) {
            wire.extend_from_slice(&body);
        }
        let theirs = run(hyper_response(&wire));
        let Outcome::Taken(ours) = probe::response(&[&wire], &ClientConfig::default(), RequestKind::Plain, false) else {
            panic!("not taken, hyper: {theirs:?}");
        };
        let (code, headers, body) = theirs.expect("hyper takes it");
        prop_assert_eq!(ours.head.status.as_u16(), code);
        prop_assert_eq!(end_to_end(ours.head.headers), end_to_end(headers));
        prop_assert_eq!(ours.body, body);
        prop_assert!(ours.end.is_ok());
    }
}

#[tokio::test]
async fn our_server_and_a_hyper_client() {
    let (peer, mut conn) = common::server(ServerConfig::default()).await;
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = poll_fn(|cx| conn.poll_accept(cx)).await {
            tokio::spawn(async move {
                let body = common::all(&mut stream.recv).await.unwrap();
                let mut sink = stream.responder.respond(common::response(200, &[]), false).unwrap();
                common::send(&mut sink, &body, true).await.unwrap();
            });
        }
    });
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(peer)).await.unwrap();
    tokio::spawn(conn);
    for size in [0, 1, 5000, 1 << 20] {
        let body = Bytes::from(vec![b'x'; size]);
        let request = Request::post("/").header("host", "h").body(Full::new(body.clone())).unwrap();
        let answer = common::soon(sender.send_request(request)).await.unwrap();
        assert_eq!(common::soon(answer.collect()).await.unwrap().to_bytes(), body);
        common::soon(sender.ready()).await.unwrap();
    }
}

#[tokio::test]
async fn our_client_and_a_hyper_server() {
    let (peer, mut conn) = common::client(ClientConfig::default()).await;
    let service =
        service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(Response::new(request.into_body())) });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(peer), service));
    for size in [0, 1, 5000, 1 << 20] {
        let body = vec![b'x'; size];
        let mut stream = common::open(&mut conn, common::request(Method::POST, "/"), false).await;
        let mut upload = stream.send;
        let sent = body.clone();
        let sending = tokio::spawn(async move { common::send(&mut upload, &sent, true).await });
        common::soon(poll_fn(|cx| stream.response.poll_head(cx))).await.unwrap();
        assert_eq!(common::all(&mut stream.response.into_recv()).await.unwrap(), body);
        sending.await.unwrap().unwrap();
    }
}
