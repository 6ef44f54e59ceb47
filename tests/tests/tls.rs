//! TLS on both sides, with curl, openssl, Envoy and a browser.
#![cfg(feature = "e2e")]

use adit_tests::certs::Certs;
use adit_tests::config::{
    HTTP2, cluster, hcm, listener, listener_with, prefix, resources, tcp_proxy, terminate, upgrades,
};
use adit_tests::{Proxy, curl, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

fn body(out: &std::process::Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn curl_over_both_versions_and_client_certificates() {
    let certs = Certs::new();
    let hello = origin::http(HELLO).0;
    let (open, strict) = (free_port(), free_port());
    let demand = format!(
        ", require_client_certificate: true, common_tls_context: {{ tls_certificates: [{{ certificate_chain: {{ filename: {} }}, \
         private_key: {{ filename: {} }} }}], validation_context: {{ trusted_ca: {{ filename: {} }} }} }}",
        certs.path("server.pem"),
        certs.path("server.key"),
        certs.path("ca.pem")
    );
    let strict_socket = format!(
        "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext{demand} }} }}\n"
    );
    let adit = Proxy::adit(&resources(
        &[
            listener_with("open", open, &hcm("open", &prefix("c"), ""), &certs.downstream("h2, http/1.1", "")),
            listener_with("strict", strict, &hcm("strict", &prefix("c"), ""), &strict_socket),
        ],
        &[cluster("c", hello, "")],
    ));
    let ca = certs.path("ca.pem");
    let url = format!("https://localhost:{open}/");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let out = curl(&[flag, "--cacert", &ca, "-w", "%{http_version}", &url]);
        assert_eq!(body(&out), format!("hello\n{version}"));
    }
    for flag in ["--tlsv1.2", "--tlsv1.3"] {
        assert_eq!(body(&curl(&[flag, "--cacert", &ca, &url])), "hello\n");
    }
    assert!(!curl(&["--tls-max", "1.1", "--cacert", &ca, &url]).status.success());
    let url = format!("https://localhost:{strict}/");
    assert!(!curl(&["--cacert", &ca, &url]).status.success());
    let out = curl(&["--cacert", &ca, "--cert", &certs.path("client.pem"), "--key", &certs.path("client.key"), &url]);
    assert_eq!(body(&out), "hello\n");
    adit.wait_stat(&format!("listener.127.0.0.1_{strict}.ssl.fail_verify_no_cert"), 1);
    assert!(adit.stat(&format!("listener.127.0.0.1_{open}.ssl.handshake")) >= 4);
    assert!(adit.admin("/certs").contains("localhost"), "{}", adit.admin("/certs"));
}

#[test]
fn chains_by_server_name_and_protocol() {
    let certs = Certs::new();
    let port = free_port();
    let origins: Vec<u16> = ["one\n", "two\n", "raw\n"]
        .into_iter()
        .map(|text| origin::http(format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{text}").leak()).0)
        .collect();
    let chain = |matching: &str, cluster: &str, socket: &str| {
        format!(
            "    - filter_chain_match: {{ {matching} }}\n      filters:\n{}      {socket}\n",
            tcp_proxy(cluster, "")
        )
    };
    let socket = certs.downstream("", "");
    let yaml = format!(
        "static_resources:\n  listeners:\n  - name: l\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n    \
         listener_filters:\n    - name: tls\n      typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }}\n    filter_chains:\n{}{}{}  clusters:\n{}{}{}",
        chain("server_names: [a.example]", "one", &socket),
        chain("server_names: [localhost]", "two", &socket),
        chain("transport_protocol: raw_buffer", "raw", ""),
        cluster("one", origins[0], ""),
        cluster("two", origins[1], ""),
        cluster("raw", origins[2], "")
    );
    let _adit = Proxy::adit(&yaml);
    let ca = certs.path("ca.pem");
    let resolve = format!("a.example:{port}:127.0.0.1");
    let out = curl(&["--cacert", &ca, "--resolve", &resolve, &format!("https://a.example:{port}/")]);
    assert_eq!(body(&out), "one\n");
    assert_eq!(body(&curl(&["--cacert", &ca, &format!("https://localhost:{port}/")])), "two\n");
    assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{port}/")])), "raw\n");
    assert!(!curl(&["-k", &format!("https://127.0.0.1:{port}/")]).status.success());
}

/// TCP -> HTTP/2 CONNECT in TLS with client certificates -> TCP, beside Envoy in each role.
#[test]
fn tunnels_in_mutual_tls() {
    let certs = Certs::new();
    let hello = origin::http(HELLO).0;
    for (near, far) in [("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")] {
        let start = |who: &str, yaml: &str| if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) };
        let (a, b) = (free_port(), free_port());
        let allow = "http2_protocol_options: { allow_connect: true }\n";
        let context = format!(
            "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
             require_client_certificate: true, common_tls_context: {{ alpn_protocols: [h2], tls_certificates: [{{ \
             certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}], validation_context: {{ trusted_ca: {{ \
             filename: {} }}, match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: client.example }} }}] }} }} }} }}\n",
            certs.path("server.pem"),
            certs.path("server.key"),
            certs.path("ca.pem")
        );
        let client = format!(
            "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: localhost, \
             common_tls_context: {{ alpn_protocols: [h2], tls_certificates: [{{ certificate_chain: {{ filename: {} }}, \
             private_key: {{ filename: {} }} }}], validation_context: {{ trusted_ca: {{ filename: {} }} }} }} }} }}\n{HTTP2}",
            certs.path("client.pem"),
            certs.path("client.key"),
            certs.path("ca.pem")
        );
        let far_yaml = resources(
            &[listener_with("far", b, &hcm("far", &terminate("tcp"), allow), &context)],
            &[cluster("tcp", hello, "")],
        );
        let near_yaml = resources(
            &[listener("near", a, &tcp_proxy("c", "tunneling_config: { hostname: 'host.com:443' }"))],
            &[cluster("c", b, &client)],
        );
        let _far = start(far, &far_yaml);
        let _near = start(near, &near_yaml);
        assert_eq!(body(&curl(&[&format!("http://127.0.0.1:{a}/")])), "hello\n", "{near} -> {far}");
    }
}

/// Chromium: a page and a WebSocket over HTTP/2 with TLS (RFC 8441), and browsing through adit as an HTTPS proxy.
#[test]
fn a_browser() {
    let certs = Certs::new();
    let (front, proxy, server) = (free_port(), free_port(), free_port());
    let allow = format!("{}http2_protocol_options: {{ allow_connect: true }}\n", upgrades(&["websocket"]));
    let adit = Proxy::adit(&resources(
        &[
            listener_with("front", front, &hcm("front", &prefix("c"), &allow), &certs.downstream("h2, http/1.1", "")),
            listener_with(
                "proxy",
                proxy,
                &hcm("proxy", &terminate("front"), ""),
                &certs.downstream("h2, http/1.1", ""),
            ),
        ],
        &[cluster("c", server, ""), cluster("front", front, "")],
    ));
    let script = r#"
import asyncio, sys, threading
import websockets
from websockets.http11 import Response
from websockets.datastructures import Headers
front, proxy, server = map(int, sys.argv[1:4])
PAGE = b"""<!DOCTYPE html><title>waiting</title><script>
const ws = new WebSocket(`wss://${location.host}/ws`);
ws.onopen = () => ws.send("from the browser");
ws.onmessage = e => { document.title = "got: " + e.data; };
ws.onerror = () => { document.title = "error"; };
</script>"""
async def echo(ws):
    async for message in ws:
        await ws.send(message)
def page(connection, request):
    if "upgrade" not in request.headers.get("Connection", "").lower():
        return Response(200, "OK", Headers([("content-type", "text/html"), ("content-length", str(len(PAGE)))]), PAGE)
started = threading.Event()
def serve():
    async def main():
        async with websockets.serve(echo, "127.0.0.1", server, process_request=page):
            started.set()
            await asyncio.Future()
    asyncio.run(main())
threading.Thread(target=serve, daemon=True).start()
started.wait()
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait
def browse(*more):
    options = webdriver.ChromeOptions()
    for flag in ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--ignore-certificate-errors",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", *more]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.get(f"https://localhost:{front}/")
        WebDriverWait(driver, 60).until(lambda d: d.title != "waiting")
        protocol = driver.execute_script("return performance.getEntriesByType('navigation')[0].nextHopProtocol")
        return driver.title, protocol
    finally:
        driver.quit()
print(*browse())
print(*browse(f"--proxy-server=https://localhost:{proxy}", "--proxy-bypass-list=<-loopback>"))
"#;
    let out = python(script, &[&front.to_string(), &proxy.to_string(), &server.to_string()]);
    assert_eq!(out, "got: from the browser h2\ngot: from the browser h2\n");
    // The page's WebSocket came as an extended CONNECT on the page's own connection.
    adit.wait_stat("http.front.downstream_cx_upgrades_total", 2);
    assert!(adit.stat("http.front.downstream_cx_http2_total") >= 2);
    assert_eq!(adit.stat("http.front.downstream_cx_http1_total"), 0);
    assert!(adit.stat("http.proxy.downstream_cx_http2_total") >= 1);
}
