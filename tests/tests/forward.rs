//! Hosts that requests name: the cluster of type `dynamic_forward_proxy` and its filter, beside Envoy.

use std::net::UdpSocket;
use std::path::Path;

use adit_tests::peer::Peer;
use adit_tests::{PATIENCE, Proxy, eventually, free_port, origin};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n";
const FLUSH: &[&str] = &["--file-flush-interval-msec", "20"];

/// A file of `configs/` with other ports and absolute names of certificates, without its `admin`.
fn file(name: &str, ports: &[(u16, u16)]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").canonicalize().unwrap();
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut text = text[text.find("static_resources:").unwrap()..].to_owned();
    for (from, to) in ports {
        text = text.replace(&format!("port_value: {from} "), &format!("port_value: {to} "));
    }
    text.replace("certs/", &format!("{}/certs/", folder.display()))
}

const WHO: &[&str] = if cfg!(feature = "e2e") { &["adit", "envoy"] } else { &["adit"] };

fn start(who: &str, yaml: &str) -> Proxy {
    if who == "adit" { Proxy::adit_with(yaml, FLUSH) } else { Proxy::envoy_with(yaml, FLUSH) }
}

/// The forward proxy, which logs to standard output.
fn forward(who: &str) -> (Proxy, u16) {
    let front = free_port();
    let log = "          stat_prefix: forward\n          access_log:\n          - name: out\n            typed_config:\n              \
               \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n              \
               log_format: { text_format_source: { inline_string: \"log %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\" } }\n";
    let yaml = file("forward_proxy.yaml", &[(10000, front)]).replace("          stat_prefix: forward\n", log);
    (start(who, &yaml), front)
}

fn ask(port: u16, text: &str) -> String {
    let mut client = Peer::connect(port);
    client.send(text);
    client.head()
}

#[test]
fn requests_and_tunnels_go_to_the_host_that_they_name() {
    for who in WHO {
        let (hello, heads) = origin::http(HELLO);
        let (proxy, front) = forward(who);
        for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
            let head = ask(front, &format!("GET http://{host}:{hello}/path HTTP/1.1\r\nhost: other\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{who} {host}: {head}");
            let mut client = Peer::connect(front);
            client.send(format!("CONNECT {host}:{hello} HTTP/1.1\r\n\r\n"));
            assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"), "{who} {host}");
            client.send("GET /inside HTTP/1.1\r\nhost: a\r\n\r\n");
            assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"), "{who} {host}");
        }
        assert!(heads.lock().unwrap()[0].starts_with("GET /path HTTP/1.1\r\n"));
        let stat = |name: &str| proxy.stat(&format!("dns_cache.dynamic_forward_proxy_cache_config.{name}"));
        assert_eq!((stat("dns_query_failure"), stat("dns_query_success") > 0), (0, true), "{who}");
    }
}

#[test]
fn a_name_that_is_none_is_a_503() {
    for who in WHO {
        let (proxy, front) = forward(who);
        for text in [
            "GET http://no-such-name.invalid/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "CONNECT no-such-name.invalid:443 HTTP/1.1\r\n\r\n",
        ] {
            let head = ask(front, text);
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{who}: {head}");
        }
        eventually("two lines", || proxy.log().lines().filter(|line| line.starts_with("log ")).count() == 2);
        for line in proxy.log().lines().filter(|line| line.starts_with("log ")) {
            assert!(line.starts_with("log 503 DF dns_resolution_failure"), "{who}: {line}");
        }
    }
}

/// The proxy itself, nobody and everybody are no hosts.
#[test]
fn addresses_that_are_no_host_are_refused() {
    let (_proxy, front) = forward("adit");
    for host in ["0.0.0.0", "[::]", "224.0.0.1", "255.255.255.255", "[::ffff:0.0.0.0]"] {
        let head = ask(front, &format!("CONNECT {host}:80 HTTP/1.1\r\n\r\n"));
        let status = head.split(' ').nth(1).unwrap();
        assert!(["400", "503"].contains(&status), "{host}: {head}");
    }
}

/// A UDP tunnel to a name, over HTTP/3.
#[test]
fn connect_udp_to_a_name() {
    let (a, b) = (free_port(), free_port());
    for who in WHO {
        let far = start(who, &file("terminate_http3_connect_udp_dns_resolution.yaml", &[(10001, b)]));
        let near = file("raw_udp_tunneling_http3.yaml", &[(10000, a), (10001, b)]);
        let near = near.replace("target_host: target.host.com", "target_host: localhost");
        let echo = origin::udp_echo();
        let _near = Proxy::adit(&near.replace("default_target_port: 443", &format!("default_target_port: {echo}")));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", a)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for number in 0..20 {
            let text = format!("{who} {number}");
            client.send(text.as_bytes()).unwrap();
            let mut buffer = [0; 100];
            let size = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(&buffer[..size], text.as_bytes());
        }
        drop(far);
    }
}

/// The certificate must be for the name that the request gave.
#[test]
fn names_over_tls() {
    use adit_tests::config::{cluster, hcm, listener_with, own, own_certificate, prefix, resources};
    let (far, front) = (free_port(), free_port());
    let tls = format!(
        "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {} }} }}\n",
        own_certificate()
    );
    let (hello, _) = origin::http(HELLO);
    let _far = Proxy::adit(&resources(
        &[listener_with("far", far, &hcm("far", &prefix("hello"), ""), &tls)],
        &[cluster("hello", hello, "")],
    ));
    let socket = format!(
        "    transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
         common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: {} }} }} }} }} }}\n",
        own("cacert.pem")
    );
    let names = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
                 \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
                 upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true }\n        \
                 explicit_http_config: { http_protocol_options: {} }\n";
    let forward = file("forward_proxy.yaml", &[(10000, front)]);
    let near = Proxy::adit(&format!("{forward}{socket}{names}"));
    let get = |host: &str| ask(front, &format!("GET http://{host}:{far}/ HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(get("localhost").starts_with("HTTP/1.1 200 OK\r\n"));
    // The certificate has this one, too, but not the next.
    assert!(get("127.0.0.1").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(get("127.0.0.2").starts_with("HTTP/1.1 503 "));
    near.wait_stat("cluster.wherever.ssl.handshake", 2);
    // Without asking whose certificate it is, no such cluster is taken.
    let folder = near.folder().join("refused.yaml");
    std::fs::write(&folder, format!("{forward}{socket}")).unwrap();
    let validate = std::process::Command::new(adit_tests::process::adit_binary())
        .args(["--mode", "validate", "-c"])
        .arg(&folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&validate.stderr).into_owned();
    assert!(!validate.status.success() && text.contains("auto_sni"), "{text}");
}
