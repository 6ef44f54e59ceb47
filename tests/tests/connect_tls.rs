//! CONNECT in the clear with TLS inside, in one hop: both example files, and what a proxy in between sees.
#![cfg(feature = "e2e")]

use adit_tests::peer::Peer;
use adit_tests::{Proxy, curl, free_port, origin};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

/// A file of `configs/` with other ports and absolute names of certificates, without its `admin`.
fn file(name: &str, ports: &[(u16, u16)]) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").canonicalize().unwrap();
    let mut text = std::fs::read_to_string(folder.join(name)).unwrap();
    let admin = text.find("admin:\n").unwrap();
    let end = admin + text[admin..].match_indices('\n').nth(1).unwrap().0 + 1;
    text.replace_range(admin..end, "");
    for (from, to) in ports {
        text = text.replace(&format!("port_value: {from} "), &format!("port_value: {to} "));
    }
    text.replace("certs/", &format!("{}/certs/", folder.display()))
}

fn body(out: &std::process::Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn both_ends_are_adit() {
    let hello = origin::http(HELLO).0;
    let (tcp, http, proxy) = (free_port(), free_port(), free_port());
    let _far = Proxy::adit(&file("connect_tls_terminated.yaml", &[(10001, proxy), (10080, hello)]));
    let near = Proxy::adit(&file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, http), (10001, proxy)]));
    assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{tcp}/")])), "hello\n");
    for _ in 0..2 {
        assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{http}/")])), "hello\n");
    }
    assert_eq!(near.stat("cluster.origin.ssl.handshake"), 2, "the second request has a pooled connection");
}

#[test]
fn the_proxy_in_between_sees_a_connect_and_ciphertext() {
    let (tcp, http) = (free_port(), free_port());
    let (listener, proxy) = origin::listen();
    let _near = Proxy::adit(&file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, http), (10001, proxy)]));
    let mut client = Peer::connect(tcp);
    client.send("secret");
    let mut seen = Peer::accept(&listener);
    assert!(seen.head().starts_with("CONNECT 127.0.0.1:10443 HTTP/1.1\r\nHost: 127.0.0.1:10443\r\n"));
    seen.send("HTTP/1.1 200 OK\r\n\r\n");
    // A TLS record with a ClientHello.
    let record = seen.read(6);
    assert_eq!((record[0], record[1], record[5]), (22, 3, 1));
}

#[test]
fn a_refusal_of_the_proxy_is_a_503() {
    let (tcp, http) = (free_port(), free_port());
    let proxy = origin::http("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").0;
    let _near = Proxy::adit(&file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, http), (10001, proxy)]));
    let mut client = Peer::connect(http);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

/// The hop to the proxy is HTTP/2: TLS with the origin inside a CONNECT stream, for TCP and HTTP.
#[test]
fn the_proxy_is_spoken_to_in_http2() {
    let hello = origin::http(HELLO).0;
    let (tcp, http, proxy) = (free_port(), free_port(), free_port());
    let far = Proxy::adit(&file("connect_tls_terminated.yaml", &[(10001, proxy), (10080, hello)]));
    let near = file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, http), (10001, proxy)]).replace(
        "  - name: origin\n",
        "  - name: origin\n    metadata: { filter_metadata: { adit.http_11_proxy: { protocol: h2 } } }\n",
    );
    let _near = Proxy::adit(&near);
    assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{tcp}/")])), "hello\n");
    assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{http}/")])), "hello\n");
    assert_eq!(far.stat("http.connect.downstream_cx_http2_total"), 2);
    // 4 MiB through TLS in HTTP/2, and a half-close.
    let echo = origin::echo();
    let (tcp, proxy) = (free_port(), free_port());
    let _far = Proxy::adit(&file("connect_tls_terminated.yaml", &[(10001, proxy), (10080, echo)]));
    let near = file("connect_tls_in_one_hop.yaml", &[(10000, tcp), (10002, free_port()), (10001, proxy)]).replace(
        "  - name: origin\n",
        "  - name: origin\n    metadata: { filter_metadata: { adit.http_11_proxy: { protocol: h2 } } }\n",
    );
    let _near = Proxy::adit(&near);
    let mut client = Peer::connect(tcp);
    let data: Vec<u8> = (0..4u32 << 20).map(|i| (i % 253) as u8).collect();
    let mut writer = Peer::from(client.0.try_clone().unwrap());
    let sent = data.clone();
    let thread = std::thread::spawn(move || {
        writer.send(&sent);
        writer.fin();
    });
    let (got, end) = client.rest();
    thread.join().unwrap();
    assert!(got == data && end == adit_tests::peer::End::Fin, "{} bytes, {end:?}", got.len());
}
