//! TLS as configured, seen from outside: by Python's `ssl` (OpenSSL), and between two proxies.
#![cfg(feature = "e2e")]

use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, listener, listener_with, prefix, resources, tcp_proxy};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, curl, eventually, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

fn body(out: &std::process::Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// `typed_extension_protocol_options` with these fields.
fn options(fields: &str) -> String {
    format!(
        "typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, {fields} }} }}\n"
    )
}

fn http_listener(name: &str, port: u16, socket: &str) -> String {
    listener_with(name, port, &hcm(name, &prefix("hello"), ""), socket)
}

/// A session that one worker began goes on at any other, in TLS 1.2 and 1.3.
#[test]
fn tickets_are_shared_by_all_workers() {
    let certs = Certs::new();
    let hello = origin::http(HELLO).0;
    let port = free_port();
    let listener = http_listener("l", port, &certs.downstream("http/1.1", ""));
    let adit = Proxy::adit_with(&resources(&[listener], &[cluster("hello", hello, "")]), &["--concurrency", "4"]);
    let script = r#"
import socket, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    session, reused = None, 0
    for n in range(24):
        raw = socket.create_connection(("127.0.0.1", port), timeout=40)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            while not sock.recv(4096).endswith(b"hello\n"): pass
            reused += sock.session_reused
            session = session or sock.session
    print(version.name, reused)
"#;
    let out = python(script, &[&port.to_string(), &certs.path("ca.pem")]);
    assert_eq!(out, "TLSv1_2 23\nTLSv1_3 23\n");
    adit.wait_stat(&format!("listener.127.0.0.1_{port}.ssl.session_reused"), 46);
}

/// New files are served within a moment, connections that live keep theirs; `/certs` and the stats tell of both.
#[test]
fn certificates_follow_their_files() {
    let certs = Certs::new();
    let (port, front) = (free_port(), free_port());
    let adit = Proxy::adit(&resources(
        &[
            listener_with("l", port, &tcp_proxy("echo", ""), &certs.downstream("", "")),
            listener("front", front, &tcp_proxy("tls", "")),
        ],
        &[cluster("echo", origin::echo(), ""), cluster("tls", port, &certs.upstream("b.example", "", ""))],
    ));
    let view = adit.admin("/certs");
    assert!(view.contains(&certs.path("server.pem")) && view.contains("a.example"), "{view}");
    assert!(view.contains(&certs.path("ca.pem")), "{view}");
    assert!((1..=2).contains(&adit.stat("server.days_until_first_cert_expiring")));
    let script = r#"
import socket, ssl, subprocess, sys, time
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
def open():
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=40), server_hostname="a.example")
    sock.sendall(b"ping"); assert sock.recv(4) == b"ping"
    return sock
def names(sock):
    return [value for _, value in sock.getpeercert()["subjectAltName"]]
old = open()
assert "b.example" not in names(old)
print(names(old)); sys.stdout.flush()
end = time.time() + 60
import os
os.rename(sys.argv[3] + "/new.pem", sys.argv[3] + "/server.pem")
os.rename(sys.argv[3] + "/new.key", sys.argv[3] + "/server.key")
while "b.example" not in names(open()):
    assert time.time() < end, "the old certificate is still served"
    time.sleep(0.05)
old.sendall(b"still"); assert old.recv(5) == b"still"
print("ok")
"#;
    certs.issue("new", "DNS:a.example,DNS:b.example");
    let out = python(script, &[&port.to_string(), &certs.path("ca.pem"), &certs.folder().display().to_string()]);
    assert!(out.ends_with("ok\n"), "{out}");
    assert!(adit.admin("/certs").contains("b.example"));
    // The upstream side checks names by the CA that it has.
    let mut client = Peer::connect(front);
    client.send("ping");
    client.expect("ping");
}

/// `auto_config` takes what ALPN settles; `use_downstream_protocol_config` what the client spoke; a session is used again.
#[test]
fn the_upstreams_version_by_alpn_and_by_the_client() {
    let certs = Certs::new();
    let hello = origin::http(HELLO).0;
    let (both, one, clear) = (free_port(), free_port(), free_port());
    let far = Proxy::adit(&resources(
        &[
            http_listener("both", both, &certs.downstream("h2, http/1.1", "")),
            http_listener("one", one, &certs.downstream("http/1.1", "")),
            listener("clear", clear, &hcm("clear", &prefix("hello"), "")),
        ],
        &[cluster("hello", hello, "")],
    ));
    let auto = options("auto_config: { http2_protocol_options: {} }");
    let same = options("use_downstream_protocol_config: { http2_protocol_options: {}, http_protocol_options: {} }");
    let once = options(
        "common_http_protocol_options: { max_requests_per_connection: 1 }, explicit_http_config: { http_protocol_options: {} }",
    );
    let socket = |protocols: &str| certs.upstream("localhost", protocols, "");
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let near = Proxy::adit(&resources(
        &["a", "b", "c", "d"].map(|name| {
            let port = ports[usize::from(name.as_bytes()[0] - b'a')];
            listener(name, port, &hcm(name, &prefix(name), ""))
        }),
        &[
            cluster("a", both, &format!("{auto}{}", socket(""))),
            cluster("b", one, &format!("{auto}{}", socket(""))),
            cluster("c", clear, &same),
            cluster("d", one, &format!("{once}{}", socket(""))),
        ],
    ));
    for port in &ports {
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(body(&curl(&[&url])), "hello\n");
        assert_eq!(body(&curl(&["--http2-prior-knowledge", &url])), "hello\n");
    }
    let seen = |prefix: &str| {
        (
            far.stat(&format!("http.{prefix}.downstream_cx_http1_total")),
            far.stat(&format!("http.{prefix}.downstream_cx_http2_total")),
        )
    };
    assert_eq!(seen("both"), (0, 1), "auto_config, and HTTP/2 is spoken there");
    assert_eq!(seen("clear"), (1, 1), "as the client speaks");
    assert_eq!(seen("one").1, 0);
    near.wait_stat("cluster.d.ssl.handshake", 2);
    near.wait_stat("cluster.d.ssl.session_reused", 1);
}

/// `transport_socket_matches` by the endpoint's metadata; `auto_host_sni` by its name.
#[test]
fn endpoints_choose_their_socket_and_its_name() {
    let certs = Certs::new();
    let (port, clear, named) = (free_port(), free_port(), free_port());
    let echo = origin::echo();
    let chain = |name: &str| {
        format!(
            "    - filter_chain_match: {{ server_names: [{name}] }}\n      filters:\n{}      {}\n",
            tcp_proxy("echo", ""),
            certs.downstream("", "")
        )
    };
    let inspector = "    listener_filters: [{ name: tls, typed_config: { \"@type\": \
                     type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector } }]\n";
    let far = format!(
        "  - name: far\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n{inspector}    filter_chains:\n{}",
        chain("a.example")
    );
    let _far = Proxy::adit(&resources(&[far], &[cluster("echo", echo, "")]));
    let socket = |fields: &str| {
        format!(
            "{{ name: tls, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
             {fields}, common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: {} }} }} }} }} }}",
            certs.path("ca.pem")
        )
    };
    let endpoint = |port: u16, name: &str, more: &str| {
        format!(
            "{{ endpoint: {{ {name}address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}{more} }}"
        )
    };
    let matched = format!(
        "  - name: matched\n    transport_socket_matches:\n    - {{ name: tls, match: {{ tls: true }}, transport_socket: {} }}\n    \
         - {{ name: clear, match: {{}}, transport_socket: {{ name: envoy.transport_sockets.raw_buffer, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }} }} }}\n    \
         load_assignment: {{ cluster_name: matched, endpoints: [{{ lb_endpoints: [{}, {}] }}] }}\n",
        socket("sni: a.example"),
        endpoint(port, "", ", metadata: { filter_metadata: { envoy.transport_socket_match: { tls: true } } }"),
        endpoint(echo, "", "")
    );
    let by_name = format!(
        "  - name: by_name\n    transport_socket: {}\n    \
         load_assignment: {{ cluster_name: by_name, endpoints: [{{ lb_endpoints: [{}] }}] }}\n",
        socket("auto_host_sni: true, auto_sni_san_validation: true"),
        endpoint(port, "hostname: a.example, ", "")
    );
    // Filter state names another name than the configuration, and other protocols.
    let by_state = format!(
        "  - name: by_state\n    transport_socket: {}\n    \
         load_assignment: {{ cluster_name: by_state, endpoints: [{{ lb_endpoints: [{}] }}] }}\n",
        socket("sni: nobody.example"),
        endpoint(port, "", "")
    );
    let set = |key: &str, text: &str| {
        format!("{{ object_key: {key}, format_string: {{ text_format_source: {{ inline_string: \"{text}\" }} }} }}")
    };
    let filter = format!(
        "      - name: state\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config\n          \
         on_new_connection: [{}, {}]\n",
        set("envoy.network.upstream_server_name", "a.example"),
        set("envoy.network.application_protocols", "x/1,y/2")
    );
    let state = free_port();
    let near = Proxy::adit(&resources(
        &[
            listener("clear", clear, &tcp_proxy("matched", "")),
            listener("named", named, &tcp_proxy("by_name", "")),
            listener("state", state, &format!("{filter}{}", tcp_proxy("by_state", ""))),
        ],
        &[matched, by_name, by_state],
    ));
    for front in [clear, clear, clear, clear, named, state] {
        let mut client = Peer::connect(front);
        client.send("ping");
        client.expect("ping");
    }
    near.wait_stat("cluster.matched.ssl.handshake", 2);
    near.wait_stat("cluster.by_name.ssl.handshake", 1);
}

/// Who does not shake hands in time goes; so does who speaks no TLS; neither costs anything.
#[test]
fn handshakes_have_an_end() {
    let certs = Certs::new();
    let port = free_port();
    let more = format!("{}transport_socket_connect_timeout: 3s\n", certs.downstream("", ""));
    let adit = Proxy::adit(&resources(
        &[listener_with("l", port, &tcp_proxy("echo", ""), &more)],
        &[cluster("echo", origin::echo(), "")],
    ));
    let mut silent = Peer::connect(port);
    let mut half = Peer::connect(port);
    half.send([22, 3, 1, 0, 200, 1, 0]);
    assert!(silent.rest().0.is_empty());
    assert!(half.rest().0.is_empty());
    let mut clear = Peer::connect(port);
    clear.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let (answer, _) = clear.rest();
    assert!(answer.is_empty() || answer[0] == 21, "an alert or nothing: {answer:?}");
    eventually("all are gone", || adit.stat(&format!("listener.127.0.0.1_{port}.downstream_cx_active")) == 0);
    adit.wait_stat(&format!("listener.127.0.0.1_{port}.downstream_cx_transport_socket_connect_timeout"), 2);
    assert_eq!(adit.stat("cluster.echo.upstream_cx_total"), 0);
}

/// The upstream `proxy_protocol` socket around TLS: the header goes ahead in the clear.
#[test]
fn the_proxy_protocol_goes_ahead_of_tls() {
    let certs = Certs::new();
    let (front, middle) = (free_port(), free_port());
    let tls = certs.upstream("localhost", "", "");
    let inner = tls.trim_start_matches("transport_socket: ").trim_end();
    let outer = format!(
        "transport_socket: {{ name: proxy_protocol, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, \
         config: {{ version: V2 }}, transport_socket: {inner} }} }}\n"
    );
    let (upstream, at) = origin::listen();
    let filters = "    listener_filters: [{ name: pp, typed_config: { \"@type\": \
                   type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol } }]\n";
    let far = listener_with("far", middle, &tcp_proxy("raw", ""), &certs.downstream("", ""))
        .replace("    filter_chains:\n", &format!("{filters}    filter_chains:\n"));
    let v1 = "transport_socket: { name: proxy_protocol, typed_config: { \"@type\": \
              type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, \
              config: { version: V1 }, transport_socket: { name: envoy.transport_sockets.raw_buffer, typed_config: { \"@type\": \
              type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer } } } }\n";
    let _far = Proxy::adit(&resources(&[far], &[cluster("raw", at, v1)]));
    let _near =
        Proxy::adit(&resources(&[listener("near", front, &tcp_proxy("c", ""))], &[cluster("c", middle, &outer)]));
    let mut client = Peer::connect(front);
    let me = client.0.local_addr().unwrap().port();
    client.send("secret");
    let mut server = Peer::accept(&upstream);
    server.expect(format!("PROXY TCP4 127.0.0.1 127.0.0.1 {me} {front}\r\nsecret"));
    client.fin();
    assert_eq!(server.rest(), (vec![], End::Fin));
}

/// curl as the client of an HTTPS proxy, over HTTP/2 where it can.
#[test]
fn curl_browses_through_an_https_proxy() {
    let certs = Certs::new();
    let hello = origin::http(HELLO).0;
    let port = free_port();
    let socket = certs.downstream("h2, http/1.1", "");
    let filter = hcm("h", &adit_tests::config::terminate("hello"), "");
    let adit = Proxy::adit(&resources(&[listener_with("l", port, &filter, &socket)], &[cluster("hello", hello, "")]));
    let (proxy, ca) = (format!("https://localhost:{port}"), certs.path("ca.pem"));
    let common = ["--proxytunnel", "-x", &proxy, "--proxy-cacert", &ca, "http://anything.example/"];
    assert_eq!(body(&curl(&common)), "hello\n");
    adit.wait_stat("http.h.downstream_cx_http1_total", 1);
    let help = String::from_utf8_lossy(&curl(&["--help", "all"]).stdout).into_owned();
    if help.contains("--proxy-http2") {
        assert_eq!(body(&curl(&[&["--proxy-http2"][..], &common].concat())), "hello\n");
        adit.wait_stat("http.h.downstream_cx_http2_total", 1);
    }
}
