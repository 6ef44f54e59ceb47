//! Chromium over HTTP/3.
#![cfg(feature = "e2e")]

use std::process::Command;

use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, prefix, quic_listener, resources, upgrades};
use adit_tests::{Proxy, free_port, python};

/// What `--ignore-certificate-errors-spki-list` takes: the base64 of the SHA-256 of the certificate's public key.
fn spki(certs: &Certs) -> String {
    let line = "openssl x509 -in server.pem -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64";
    let out = Command::new("sh").arg("-c").arg(line).current_dir(certs.folder()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A page, what it fetches, and its WebSocket as an extended CONNECT (RFC 9220), which Chromium has behind a feature flag.
/// Nobody listens by TCP.
#[test]
fn a_page_and_a_websocket_over_http3() {
    let certs = Certs::new();
    let (front, server) = (free_port(), free_port());
    let more = format!("{}http3_protocol_options: {{ allow_extended_connect: true }}\n", upgrades(&["websocket"]));
    let adit = Proxy::adit(&resources(
        &[quic_listener("quic", front, &hcm("quic", &prefix("c"), &more), &certs.server_context("h3"))],
        &[cluster("c", server, "")],
    ));
    let script = r#"
import asyncio, sys, threading
import websockets
from websockets.http11 import Response
from websockets.datastructures import Headers
front, server, spki = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
PAGE = b"""<!DOCTYPE html><title>waiting</title><script>
(async () => {
  const parts = await Promise.all([...Array(20).keys()].map(n => fetch("/part" + n).then(r => r.text())));
  if (!parts.every(p => p.length == 100000)) { document.title = "parts: " + parts.map(p => p.length); return; }
  const ws = new WebSocket(`wss://${location.host}/ws`);
  ws.onopen = () => ws.send("from the browser");
  ws.onmessage = e => { document.title = "got: " + e.data; };
  ws.onerror = () => { document.title = "error"; };
})();
</script>"""
async def echo(ws):
    async for message in ws:
        await ws.send(message)
def page(connection, request):
    if "upgrade" not in request.headers.get("Connection", "").lower():
        body = b"x" * 100000 if request.path.startswith("/part") else PAGE
        return Response(200, "OK", Headers([("content-type", "text/html"), ("content-length", str(len(body)))]), body)
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
options = webdriver.ChromeOptions()
for flag in ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-quic", "--enable-features=EnableWebsocketsOverHttp3", f"--origin-to-force-quic-on=localhost:{front}",
             f"--ignore-certificate-errors-spki-list={spki}", "--host-resolver-rules=MAP localhost 127.0.0.1", "--no-proxy-server",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]:
    options.add_argument(flag)
driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
try:
    driver.get(f"https://localhost:{front}/")
    WebDriverWait(driver, 60).until(lambda d: d.title != "waiting")
    protocols = driver.execute_script("return performance.getEntries().map(e => e.nextHopProtocol).filter(p => p)")
    print(driver.title, *sorted(set(protocols)))
finally:
    driver.quit()
"#;
    let out = python(script, &[&front.to_string(), &server.to_string(), &spki(&certs)]);
    assert_eq!(out, "got: from the browser h3\n");
    assert!(adit.stat("http.quic.downstream_cx_http3_total") >= 1);
    assert!(adit.stat("http.quic.downstream_rq_http3_total") >= 21);
    adit.wait_stat("http.quic.downstream_cx_upgrades_total", 1);
}
