//! How two proxies come to speak HTTP/3, and what they do when it does not work: Alt-Svc, fallback, missing leave, GOAWAY.

use adit_tests::aioquic::CLIENT;
use adit_tests::certs::Certs;
use adit_tests::config::{
    Hop, cluster, hcm, http3, listener, listener_with, prefix, quic_listener, quic_socket, resources, tcp_proxy,
    terminate, upgrades,
};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, eventually, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A TCP listener that advertises HTTP/3 on its own port, and the QUIC listener there.
fn both(certs: &Certs, port: u16, quic: bool) -> Vec<String> {
    let routes = format!(
        "{}- match: {{ prefix: / }}\n  route: {{ cluster: hello }}\n  response_headers_to_add:\n  \
         - header: {{ key: alt-svc, value: 'h3=\":{port}\"; ma=86400' }}\n",
        terminate("tcp")
    );
    let tcp = listener_with("tcp", port, &hcm("tcp", &routes, ""), &certs.downstream("h2", ""));
    let udp = quic_listener("quic", port, &hcm("quic", &routes, ""), &certs.server_context("h3"));
    if quic { vec![tcp, udp] } else { vec![tcp] }
}

/// A cluster that speaks HTTP/3 where it learned of it, and HTTP/2 else.
fn auto(certs: &Certs) -> String {
    format!(
        "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
         auto_config: {{ http3_protocol_options: {{}}, http2_protocol_options: {{}}, alternate_protocols_cache_options: {{ name: cache }} }}\n{}",
        quic_socket(&certs.path("ca.pem"), "")
    )
}

#[track_caller]
fn get(port: u16) {
    let mut client = Peer::connect(port);
    client.send(GET);
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    client.expect("hello\n");
}

/// HTTP/2 first, HTTP/3 once it was advertised, and HTTP/2 again when nobody answers there any more: for requests and
/// tunnels.
#[test]
fn alt_svc_and_fallback() {
    let certs = Certs::new();
    let (port, web, tcp) = (free_port(), free_port(), free_port());
    let clusters = [cluster("hello", origin::http(HELLO).0, ""), cluster("tcp", origin::echo(), "")];
    let start = |quic| Proxy::adit(&resources(&both(&certs, port, quic), &clusters));
    let mut far = start(true);
    let near = Proxy::adit(&resources(
        &[
            listener("web", web, &hcm("web", &prefix("far"), "")),
            listener("tunnels", tcp, &tcp_proxy("far", "tunneling_config: { hostname: 'host.com:443' }\n")),
        ],
        &[cluster("far", port, &auto(&certs))],
    ));
    let version = |name: &str| near.stat(&format!("cluster.far.upstream_cx_{name}_total"));
    get(web);
    assert_eq!((version("http2"), version("http3")), (1, 0));
    // Where HTTP/3 is slow to connect, HTTP/2 serves meanwhile.
    eventually("requests go over HTTP/3", || {
        get(web);
        far.stat("http.quic.downstream_rq_total") > 0
    });
    assert_eq!((version("http2"), version("http3")), (1, 1));
    let mut tunnel = Peer::connect(tcp);
    tunnel.send("over HTTP/3");
    tunnel.expect("over HTTP/3");
    far.wait_stat("http.quic.downstream_cx_upgrades_total", 1);
    tunnel.fin();
    assert_eq!(tunnel.rest(), (vec![], End::Fin));
    // It says goodbye on its connections; from now on there is TCP only.
    far.signal("TERM");
    assert_eq!(far.wait(), Some(0));
    let far = start(false);
    near.wait_stat("cluster.far.upstream_cx_active", 0);
    for _ in 0..3 {
        get(web);
    }
    assert_eq!((version("http2"), version("http3")), (2, 1));
    let mut tunnel = Peer::connect(tcp);
    tunnel.send("over HTTP/2");
    tunnel.expect("over HTTP/2");
    far.wait_stat("http.tcp.downstream_cx_upgrades_total", 1);
}

/// An upstream that is killed says no goodbye, and its successor knows nothing of the connection.
#[test]
fn a_killed_upstream_is_left() {
    let certs = Certs::new();
    let (port, web) = (free_port(), free_port());
    let (hello, _) = origin::http(HELLO);
    let start = || {
        let listener = quic_listener("quic", port, &hcm("quic", &prefix("hello"), ""), &certs.server_context("h3"));
        Proxy::adit(&resources(&[listener], &[cluster("hello", hello, "")]))
    };
    let far = start();
    let route = "- match: { prefix: / }\n  route: { cluster: far, timeout: 1s }\n";
    let near = Proxy::adit(&resources(
        &[listener("web", web, &hcm("web", route, ""))],
        &[cluster("far", port, &http3(&certs.path("ca.pem")))],
    ));
    get(web);
    drop(far);
    let _far = start();
    eventually("requests go to the new one", || {
        let mut client = Peer::connect(web);
        client.send(GET);
        client.head().starts_with("HTTP/1.1 200 OK\r\n")
    });
    near.wait_stat("cluster.far.upstream_cx_http3_total", 2);
}

/// A hop that does not allow extended CONNECT is a 502 at once, over either version; the tunnel's neighbours go on.
#[test]
fn a_hop_without_extended_connect_is_a_502_at_once() {
    for hop in [Hop::Http2, Hop::Http3] {
        let (middle, front) = (free_port(), free_port());
        let websocket = upgrades(&["websocket"]);
        let far = hop.listener("far", middle, &prefix("hello"), &websocket).replace("nect: true }", "nect: false }");
        let far = Proxy::adit(&resources(&[far], &[cluster("hello", origin::http(HELLO).0, "")]));
        let _near = Proxy::adit(&resources(
            &[listener("front", front, &hcm("front", &prefix("far"), &websocket))],
            &[cluster("far", middle, &hop.cluster())],
        ));
        get(front);
        for _ in 0..3 {
            let mut client = Peer::connect(front);
            client.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{hop:?}: {head}");
        }
        get(front);
        far.wait_stat("http.far.downstream_cx_total", 1);
    }
}

/// A drained QUIC listener says GOAWAY: streams that live go on, new ones go nowhere.
#[test]
fn goaway() {
    let (front, at) = (free_port(), origin::echo());
    let adit = Proxy::adit_with(
        &resources(&[Hop::Http3.listener("h", front, &terminate("c"), "")], &[cluster("c", at, "")]),
        &["--drain-time-s", "2", "--drain-strategy", "immediate"],
    );
    let script = r#"
import urllib.request
class Watching(Client):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.goaways = []
        handle = self.h3._handle_control_frame
        def control(kind, data):
            if kind == 7:
                self.goaways.append(int.from_bytes(bytes([data[0] & 0x3f]) + data[1:], "big"))
                self.changed.set()
                return
            handle(kind, data)
        self.h3._handle_control_frame = control
async def main():
    config = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE, server_name="localhost")
    async with connect("127.0.0.1", int(sys.argv[1]), configuration=config, create_protocol=Watching) as c:
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        await c.until(s, lambda s: s["headers"])
        request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[2]}/drain_listeners?graceful", method="POST")
        urllib.request.urlopen(request).read()
        async with asyncio.timeout(40):
            while len(c.goaways) < 2:
                # As in Envoy, it is an answer that begins the drain.
                one = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
                await c.until(one, lambda s: s["headers"] or s["reset"] is not None)
                c.send(one, b"", end=True)
                await asyncio.sleep(0.05)
        # The last of them names the first stream that is not taken.
        assert c.goaways[-1] <= one + 4 and c.goaways[0] >= c.goaways[-1], c.goaways
        late = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        got = await c.until(late, lambda s: s["reset"] is not None or s["headers"])
        assert got["reset"] == 0x10b and not got["headers"], got
        had = len(c.of(s)["data"])
        c.send(s, b"still here", end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"].endswith(b"still here"), got
    print("ok")
asyncio.run(main())
"#;
    let out = python(&format!("{CLIENT}{script}"), &[&front.to_string(), &adit.admin.to_string()]);
    assert_eq!(out, "ok\n");
    eventually("nothing is left", || adit.stat("http.h.downstream_cx_active") == 0);
}
