//! Envoy's own examples, each pair as adit+adit, adit+Envoy and Envoy+adit.
#![cfg(feature = "e2e")]

use adit_tests::config::example;
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, curl, free_port, origin};

/// Who plays which part.
const CASTS: [(&str, &str); 3] = [("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")];

fn start(who: &str, yaml: &str) -> Proxy {
    if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) }
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n";

fn body(out: &std::process::Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// TCP in a tunnel: a request by curl, then 4 MiB each way with a half-close where both ends can.
fn tunnelled(near_file: &str, far_file: &str) {
    for (near, far) in CASTS {
        let (hello, _) = origin::http(HELLO);
        let (a, b) = (free_port(), free_port());
        let _far = start(far, &example(far_file, &[(10001, b)], hello));
        let _near = start(near, &example(near_file, &[(10000, a), (10001, b), (10002, free_port())], 0));
        let url = format!("http://127.0.0.1:{a}/");
        assert_eq!(body(&curl(&[&url])), "hello\n", "{near} -> {far}");
    }
    for (near, far) in CASTS {
        let (a, b) = (free_port(), free_port());
        let _far = start(far, &example(far_file, &[(10001, b)], origin::echo()));
        let _near = start(near, &example(near_file, &[(10000, a), (10001, b), (10002, free_port())], 0));
        let mut client = Peer::connect(a);
        let data: Vec<u8> = (0..4u32 << 20).map(|i| (i % 251) as u8).collect();
        let mut writer = Peer::from(client.0.try_clone().unwrap());
        let sent = data.clone();
        let thread = std::thread::spawn(move || writer.send(&sent));
        let got = client.read(data.len());
        assert!(got == data, "{near} -> {far}: 4 MiB came back changed");
        thread.join().unwrap();
        if near == "adit" && far == "adit" {
            client.send("last");
            client.fin();
            assert_eq!(client.rest(), (b"last".to_vec(), End::Fin));
        }
    }
}

#[test]
fn encapsulate_in_http1_connect() {
    tunnelled("encapsulate_in_http1_connect.yaml", "terminate_http1_connect.yaml");
}

#[test]
fn encapsulate_in_http2_connect() {
    tunnelled("encapsulate_in_http2_connect.yaml", "terminate_http2_connect.yaml");
}

#[test]
fn encapsulate_in_http2_post() {
    tunnelled("encapsulate_in_http2_post.yaml", "terminate_http2_post.yaml");
}

/// The second listener of the example: a header makes the far end dial the target of the CONNECT.
#[test]
fn the_header_driven_route_dials_the_target() {
    for (near, far) in CASTS {
        let (hello, _) = origin::http(HELLO);
        let (c, b) = (free_port(), free_port());
        let _far = start(far, &example("terminate_http1_connect.yaml", &[(10001, b)], 9));
        let near_yaml =
            example("encapsulate_in_http1_connect.yaml", &[(10000, free_port()), (10001, b), (10002, c)], 0)
                .replace("127.0.0.1:10003", &format!("127.0.0.1:{hello}"));
        let _near = start(near, &near_yaml);
        assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{c}/")])), "hello\n", "{near} -> {far}");
    }
}

#[test]
fn curl_speaks_to_a_terminator() {
    let (hello, _) = origin::http(HELLO);
    let b = free_port();
    let _far = Proxy::adit(&example("terminate_http1_connect.yaml", &[(10001, b)], hello));
    let proxy = format!("http://127.0.0.1:{b}");
    assert_eq!(body(&curl(&["--proxytunnel", "-x", &proxy, "http://anything.example/"])), "hello\n");
    let target = format!("http://127.0.0.1:{hello}/");
    assert_eq!(body(&curl(&["-p", "-x", &proxy, "--proxy-header", "foo: bar", &target])), "hello\n");
}

#[test]
fn proxy_connect() {
    for (near, far) in CASTS {
        let (hello, _) = origin::http(HELLO);
        let (a, b) = (free_port(), free_port());
        let _far = start(far, &example("terminate_http2_connect.yaml", &[(10001, b)], hello));
        let _near = start(near, &example("proxy_connect.yaml", &[(10001, a), (10002, b)], 0));
        let proxy = format!("http://127.0.0.1:{a}");
        assert_eq!(body(&curl(&["-p", "-x", &proxy, "http://anything.example/"])), "hello\n", "{near} -> {far}");
    }
}

#[test]
fn internal_listener_proxy() {
    let (hello, _) = origin::http(HELLO);
    let a = free_port();
    let _adit = Proxy::adit(&example("internal_listener_proxy.yaml", &[(9999, a), (10000, hello)], 0));
    assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{a}/")])), "hello\n");
}

#[test]
fn http_in_http2_connect() {
    for (near, far) in CASTS {
        let (a, b) = (free_port(), free_port());
        let _far = start(far, &example("terminate_http_in_http2_connect.yaml", &[(10001, b)], 0));
        let _near = start(near, &example("encapsulate_http_in_http2_connect.yaml", &[(10000, a), (10001, b)], 0));
        assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{a}/")])), "Hello, world!\n", "{near} -> {far}");
    }
}
