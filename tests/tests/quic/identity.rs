//! TLS client certificates over QUIC: asked for, checked, forwarded.

use adit_tests::aioquic::CLIENT;
use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, http3, listener, prefix, quic_listener, quic_socket, resources, terminate};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";

/// A QUIC listener that demands a certificate of this CA.
fn demanding(certs: &Certs, port: u16, routes: &str) -> String {
    let more =
        "forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: { dns: true, subject: true }\n";
    let tls = format!(
        "require_client_certificate: true, {}",
        certs.server_context("h3").replacen(
            "common_tls_context: { ",
            &format!(
                "common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: {} }} }}, ",
                certs.path("ca.pem")
            ),
            1
        )
    );
    quic_listener("q", port, &hcm("h", routes, more), &tls)
}

#[test]
fn a_client_needs_its_certificate() {
    let (certs, foreign) = (Certs::new(), Certs::new());
    let port = free_port();
    let (hello, heads) = origin::http(HELLO);
    let routes = format!("{}{}", terminate("tcp"), prefix("hello"));
    let adit = Proxy::adit(&resources(
        &[demanding(&certs, port, &routes)],
        &[cluster("hello", hello, ""), cluster("tcp", origin::echo(), "")],
    ));
    let script = r#"
async def attempt(cert, key):
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost")
    if cert:
        config.load_cert_chain(cert, key)
    async with connect("127.0.0.1", int(sys.argv[1]), configuration=config, create_protocol=Client) as c:
        s = c.request([(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "localhost")], end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"] == b"hello\n", got
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        await c.until(s, lambda s: s["headers"])
        c.send(s, b"through", end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"] == b"through", got
async def refused(*args):
    try:
        await attempt(*args)
    except (ConnectionError, AssertionError) as error:
        return
    raise SystemExit("let in")
async def main():
    await attempt(sys.argv[2], sys.argv[3])
    await refused(None, None)
    await refused(sys.argv[4], sys.argv[5])
    print("ok")
asyncio.run(main())
"#;
    let args = [
        port.to_string(),
        certs.path("client.pem"),
        certs.path("client.key"),
        foreign.path("client.pem"),
        foreign.path("client.key"),
    ];
    assert_eq!(python(&format!("{CLIENT}{script}"), &args.each_ref().map(String::as_str)), "ok\n");
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].contains("x-forwarded-client-cert: ") && heads[0].contains("DNS=client.example"), "{}", heads[0]);
    adit.wait_stat("http.h.downstream_cx_http3_total", 1);
}

/// adit is the client too.
#[test]
fn a_cluster_shows_its_certificate() {
    let certs = Certs::new();
    let (middle, with, without) = (free_port(), free_port(), free_port());
    let (hello, heads) = origin::http(HELLO);
    let _far = Proxy::adit(&resources(&[demanding(&certs, middle, &prefix("hello"))], &[cluster("hello", hello, "")]));
    let ca = certs.path("ca.pem");
    let bare = http3(&ca);
    let own = format!(
        ", tls_certificates: [{{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}]",
        certs.path("client.pem"),
        certs.path("client.key")
    );
    let armed = bare.replace(&quic_socket(&ca, ""), &quic_socket(&ca, &own));
    let _near = Proxy::adit(&resources(
        &[
            listener("with", with, &hcm("with", &prefix("with"), "")),
            listener("without", without, &hcm("without", &prefix("without"), "")),
        ],
        &[cluster("with", middle, &armed), cluster("without", middle, &bare)],
    ));
    let get = |port| {
        let mut client = Peer::connect(port);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.head()
    };
    assert!(get(with).starts_with("HTTP/1.1 200 OK\r\n"));
    let head = get(without);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(heads.lock().unwrap()[0].contains("DNS=client.example"));
}
