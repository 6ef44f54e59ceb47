//! One path of each kind through the binary, with raw peers.

use std::thread;

use adit_tests::config::{cluster, hcm, listener, prefix, resources, tcp_proxy, terminate, upgrades};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, free_port, origin};

const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: example.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn one(port: u16, filter: &str, upstream: u16) -> String {
    resources(&[listener("l", port, filter)], &[cluster("c", upstream, "")])
}

#[test]
fn tcp_is_proxied_and_half_closes_cross() {
    let port = free_port();
    let adit = Proxy::adit(&one(port, &tcp_proxy("c", ""), origin::echo()));
    let mut client = Peer::connect(port);
    client.send("hello");
    client.expect("hello");
    client.send("and more");
    client.fin();
    assert_eq!(client.rest(), (b"and more".to_vec(), End::Fin));
    adit.wait_stat("tcp.c.downstream_cx_total", 1);
    adit.wait_stat("cluster.c.upstream_cx_active", 0);
}

#[test]
fn a_websocket_goes_through() {
    let (upstream, heads) = origin::http(ACCEPT);
    let port = free_port();
    let adit = Proxy::adit(&one(port, &hcm("h", &prefix("c"), &upgrades(&["websocket"])), upstream));
    let mut client = Peer::connect(port);
    client.send(UPGRADE);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    client.send("payload");
    client.expect("payload");
    adit.wait_stat("http.h.downstream_cx_upgrades_active", 1);
    client.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
    adit.wait_stat("http.h.downstream_cx_upgrades_active", 0);
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("sec-websocket-key: dGhl"), "{head}");
}

#[test]
fn an_upgrade_that_is_not_allowed_is_a_403() {
    let port = free_port();
    let adit = Proxy::adit(&one(port, &hcm("h", &prefix("c"), ""), origin::echo()));
    let mut client = Peer::connect(port);
    client.send(UPGRADE);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n") && head.contains("connection: close\r\n"), "{head}");
    adit.wait_stat("http.h.downstream_rq_ws_on_non_ws_route", 1);
}

#[test]
fn a_connect_is_terminated() {
    let port = free_port();
    let _adit = Proxy::adit(&one(port, &hcm("h", &terminate("c"), ""), origin::echo()));
    let mut client = Peer::connect(port);
    client.send("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    client.send("payload");
    client.expect("payload");
    client.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
}

#[test]
fn an_upstream_that_speaks_first_is_heard() {
    let port = free_port();
    let (upstream, at) = origin::listen();
    let _adit = Proxy::adit(&one(port, &hcm("h", &terminate("c"), ""), at));
    let mut client = Peer::connect(port);
    client.send("CONNECT example.com:443 HTTP/1.1\r\n\r\n");
    let mut server = Peer::accept(&upstream);
    server.send("220 ready\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    client.expect("220 ready\r\n");
    server.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
    client.send("still open");
    server.expect("still open");
}

#[test]
fn tcp_travels_in_a_connect_through_a_second_proxy() {
    let (near, far) = (free_port(), free_port());
    let terminator = Proxy::adit(&one(far, &hcm("far", &terminate("c"), ""), origin::echo()));
    let tunnel = tcp_proxy("c", "tunneling_config: { hostname: 'host.com:443' }");
    let _near = Proxy::adit(&one(near, &tunnel, far));
    let mut client = Peer::connect(near);
    client.send("through two proxies");
    client.expect("through two proxies");
    terminator.wait_stat("http.far.downstream_cx_upgrades_active", 1);
    client.fin();
    assert_eq!(client.rest(), (vec![], End::Fin));
    terminator.wait_stat("http.far.downstream_cx_upgrades_active", 0);
}

#[test]
fn a_connect_is_forwarded_and_payload_waits_for_the_answer() {
    let port = free_port();
    let (upstream, at) = origin::listen();
    let route =
        "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n";
    let _adit = Proxy::adit(&one(port, &hcm("h", route, ""), at));
    let mut client = Peer::connect(port);
    client.send("CONNECT example.com:443 HTTP/1.1\r\n\r\nearly");
    let mut server = Peer::accept(&upstream);
    let head = server.head();
    assert!(head.starts_with("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n"), "{head}");
    server.silent(std::time::Duration::from_millis(200));
    server.send("HTTP/1.1 200 Connection established\r\ncontent-length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    server.expect("early");
    let (big, expected) = (vec![7u8; 4 << 20], vec![7u8; 4 << 20]);
    let writer = thread::spawn(move || {
        client.send(&big);
        client.fin();
        client.rest()
    });
    let (got, end) = server.rest();
    assert!(got == expected && end == End::Fin);
    server.send("done");
    server.fin();
    assert_eq!(writer.join().unwrap(), (b"done".to_vec(), End::Fin));
}

#[test]
fn resets_arrive_as_resets() {
    let port = free_port();
    let (upstream, at) = origin::listen();
    let _adit = Proxy::adit(&one(port, &tcp_proxy("c", ""), at));
    let mut client = Peer::connect(port);
    let mut server = Peer::accept(&upstream);
    client.send("x");
    server.expect("x");
    server.rst();
    assert_eq!(client.rest(), (vec![], End::Reset));

    let mut client = Peer::connect(port);
    let mut server = Peer::accept(&upstream);
    client.send("x");
    server.expect("x");
    client.rst();
    assert_eq!(server.rest(), (vec![], End::Reset));
}

/// What the connection manager says of the end of a stream.
const LOG: &str = "access_log:\n- name: a\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    log_format: { text_format_source: { inline_string: \"LOG %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\" } }\n";

#[test]
fn a_client_that_leaves_while_the_answer_is_awaited_is_noticed() {
    let connect =
        "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n";
    for (request, route) in [("CONNECT a.com:443 HTTP/1.1\r\n\r\n", connect.to_owned()), (UPGRADE, prefix("c"))] {
        for resets in [false, true] {
            let port = free_port();
            let (upstream, at) = origin::listen();
            let extra = format!("{}{LOG}", upgrades(&["websocket"]));
            let yaml = one(port, &hcm("h", &route, &extra), at);
            let adit = Proxy::adit_with(&yaml, &["--file-flush-interval-msec", "20"]);
            let mut client = Peer::connect(port);
            client.send(request);
            let mut server = Peer::accept(&upstream);
            server.head();
            // Nobody answers.
            if resets {
                client.rst();
            } else {
                drop(client);
            }
            // The request had no answer: what was begun is reset.
            assert_eq!(server.rest(), (vec![], End::Reset));
            adit.wait_stat("http.h.downstream_cx_upgrades_active", 0);
            adit.wait_stat("cluster.c.upstream_rq_active", 0);
            adit.wait_log("LOG 0 DC downstream_remote_disconnect");
        }
    }
}

#[test]
fn a_half_close_behind_early_bytes_waits_for_the_answer() {
    let route =
        "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n";
    let port = free_port();
    let (upstream, at) = origin::listen();
    let _adit = Proxy::adit(&one(port, &hcm("h", route, ""), at));
    let mut client = Peer::connect(port);
    client.send("CONNECT a.com:443 HTTP/1.1\r\n\r\nearly");
    client.fin();
    let mut server = Peer::accept(&upstream);
    server.head();
    server.silent(std::time::Duration::from_millis(200));
    server.send("HTTP/1.1 200 OK\r\n\r\nback");
    assert_eq!(server.rest(), (b"early".to_vec(), End::Fin));
    server.fin();
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.rest(), (b"back".to_vec(), End::Fin));
}

#[test]
fn lines_at_the_start_of_a_request_at_its_tunnel_at_intervals_and_at_the_end() {
    let (upstream, _heads) = origin::http(ACCEPT);
    let port = free_port();
    let log = LOG.replace("LOG ", "LOG %ACCESS_LOG_TYPE% %UPSTREAM_CLUSTER% ");
    let options = "access_log_options: { flush_access_log_on_new_request: true, \
                   flush_log_on_tunnel_successfully_established: true, access_log_flush_interval: 0.1s }\n";
    let extra = format!("{}{log}{options}", upgrades(&["websocket"]));
    let yaml = one(port, &hcm("h", &prefix("c"), &extra), upstream);
    let adit = Proxy::adit_with(&yaml, &["--file-flush-interval-msec", "20"]);
    // A request that is none has no start.
    let mut client = Peer::connect(port);
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.head();
    adit.wait_log("LOG DownstreamEnd - 400 - missing_host_header");
    assert!(!adit.log().contains("DownstreamStart"));
    let mut client = Peer::connect(port);
    client.send(UPGRADE.replace("websocket", "other"));
    client.head();
    adit.wait_log("LOG DownstreamStart c 0 - -");
    adit.wait_log("LOG DownstreamEnd c 403 - upgrade_failed");
    let mut client = Peer::connect(port);
    client.send(UPGRADE);
    client.head();
    adit.wait_log("LOG DownstreamTunnelSuccessfullyEstablished c 101 - via_upstream");
    adit.wait_log("LOG DownstreamPeriodic c 101 - via_upstream");
    client.fin();
    client.rest();
    adit.wait_log("LOG DownstreamEnd c 101 DC downstream_remote_disconnect");
    assert_eq!(adit.log().matches("DownstreamStart").count(), 2);
}

/// `max_stream_duration` also ends a tunnel that stands and whose request is long forgotten.
#[test]
fn a_tunnel_that_stands_too_long_is_reset_and_says_why() {
    let port = free_port();
    let log = std::env::temp_dir().join(format!("adit-long-{}.log", std::process::id()));
    let more = format!(
        "common_http_protocol_options: {{ max_stream_duration: 2s }}\nupgrade_configs: [{{ upgrade_type: CONNECT }}]\n\
         access_log:\n- name: f\n  typed_config:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    path: {}\n    \
         log_format: {{ text_format_source: {{ inline_string: \"%RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%\\n\" }} }}\n",
        log.display()
    );
    let mut adit = Proxy::adit(&one(port, &hcm("h", &terminate("c"), &more), origin::echo()));
    let mut client = Peer::connect(port);
    client.send("CONNECT a.example:1 HTTP/1.1\r\n\r\n");
    client.head();
    client.send("abc");
    client.expect("abc");
    assert_eq!(client.rest(), (vec![], End::Reset));
    adit.wait_stat("http.h.downstream_rq_max_duration_reached", 1);
    adit.wait_stat("http.h.downstream_rq_active", 0);
    adit.signal("TERM");
    assert_eq!(adit.wait(), Some(0));
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert_eq!(lines, "max_duration_timeout 3 3\n");
}
