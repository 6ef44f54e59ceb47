//! HTTP/3 by python's `aioquic`.
#![cfg(feature = "e2e")]

use adit_tests::aioquic::CLIENT;
use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, http3, prefix, quic_listener, resources, terminate, upgrades};
use adit_tests::{Proxy, free_port, origin, python};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn get_websocket_and_connect() {
    let certs = Certs::new();
    let (hello, websocket, echo) = (origin::http(HELLO).0, origin::http(SWITCH).0, origin::echo());
    let port = free_port();
    let routes = format!(
        "{}- match: {{ prefix: /chat }}\n  route: {{ cluster: websocket }}\n{}",
        terminate("tcp"),
        prefix("hello")
    );
    let more = format!("{}http3_protocol_options: {{ allow_extended_connect: true }}\n", upgrades(&["websocket"]));
    let listener = quic_listener("q", port, &hcm("h", &routes, &more), &certs.server_context("h3"));
    let clusters = [cluster("hello", hello, ""), cluster("websocket", websocket, ""), cluster("tcp", echo, "")];
    let adit = Proxy::adit(&resources(&[listener], &clusters));
    let script = format!(
        "{CLIENT}{}",
        r#"
async def main():
    async with client(int(sys.argv[1])) as c:
        base = [(":scheme", "https"), (":authority", "localhost")]
        s = c.request([(":method", "GET"), (":path", "/")] + base, end=True)
        got = await c.until(s, lambda s: s["end"])
        assert (got["headers"][b":status"], got["data"]) == (b"200", b"hello\n"), got
        # WebSocket (RFC 9220)
        s = c.request([(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/chat")] + base + [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")])
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"200", got
        c.send(s, b"frames", end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"] == b"frames", got
        # CONNECT, terminated
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:443")])
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"200", got
        c.send(s, b"x" * 300000)
        await c.until(s, lambda s: len(s["data"]) == 300000)
        c.send(s, b"last", end=True)
        got = await c.until(s, lambda s: s["end"])
        assert got["data"][-4:] == b"last"
        # refusals
        s = c.request([(":method", "CONNECT"), (":protocol", "foo"), (":path", "/")] + base)
        got = await c.until(s, lambda s: s["headers"])
        assert got["headers"][b":status"] == b"403", got
        s = c.request([(":method", "CONNECT"), (":authority", "target.example:0")])
        got = await c.until(s, lambda s: s["headers"] or s["reset"])
        assert got["reset"] or got["headers"][b":status"] == b"400", got
    print("ok")
asyncio.run(main())
"#
    );
    assert_eq!(python(&script, &[&port.to_string()]), "ok\n");
    adit.wait_stat("http.h.downstream_cx_http3_active", 0);
    adit.wait_stat("http.h.downstream_cx_http3_total", 1);
    adit.wait_stat("http.h.downstream_rq_http3_total", 5);
}

fn start(who: &str, yaml: &str) -> Proxy {
    if who == "adit" { Proxy::adit(yaml) } else { Proxy::envoy(yaml) }
}

const CASTS: [(&str, &str); 3] = [("adit", "adit"), ("adit", "envoy"), ("envoy", "adit")];

/// TCP in CONNECT over HTTP/3, and a WebSocket over an HTTP/3 hop, beside Envoy in each role.
#[test]
fn two_hops_over_http3() {
    use adit_tests::config::{listener, tcp_proxy};
    use adit_tests::peer::{End, Peer};
    let certs = Certs::new();
    for (near, far) in CASTS {
        let (echo, websocket) = (origin::echo(), origin::http(SWITCH).0);
        let (tcp, http, middle) = (free_port(), free_port(), free_port());
        let routes = format!("{}{}", terminate("tcp"), prefix("websocket"));
        let more = format!("{}http3_protocol_options: {{ allow_extended_connect: true }}\n", upgrades(&["websocket"]));
        let far_yaml = resources(
            &[quic_listener("far", middle, &hcm("far", &routes, &more), &certs.server_context("h3"))],
            &[cluster("tcp", echo, ""), cluster("websocket", websocket, "")],
        );
        let hop = http3(&certs.path("ca.pem"));
        let near_yaml = resources(
            &[
                listener("tcp", tcp, &tcp_proxy("hop", "tunneling_config: { hostname: 'host.com:443' }")),
                listener("http", http, &hcm("near", &prefix("hop"), &upgrades(&["websocket"]))),
            ],
            &[cluster("hop", middle, &hop)],
        );
        let _far = start(far, &far_yaml);
        let _near = start(near, &near_yaml);
        let mut client = Peer::connect(tcp);
        let data = vec![5u8; 1 << 20];
        let mut writer = Peer::from(client.0.try_clone().unwrap());
        let sent = data.clone();
        let thread = std::thread::spawn(move || writer.send(&sent));
        assert!(client.read(data.len()) == data, "{near} -> {far}");
        thread.join().unwrap();
        let mut browser = Peer::connect(http);
        browser.send(
            "GET /chat HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let head = browser.head();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{near} -> {far}: {head}");
        browser.send("over three versions");
        browser.expect("over three versions");
        if (near, far) == ("adit", "adit") {
            client.send("last words");
            client.fin();
            assert_eq!(client.rest(), (b"last words".to_vec(), End::Fin));
        }
    }
}

/// Resets cross an HTTP/3 hop in both directions.
#[test]
fn resets_cross_http3() {
    use adit_tests::config::{listener, tcp_proxy};
    use adit_tests::peer::{End, Peer};
    let certs = Certs::new();
    let (upstream, at) = origin::listen();
    let (tcp, middle) = (free_port(), free_port());
    let far = resources(
        &[quic_listener("far", middle, &hcm("far", &terminate("tcp"), ""), &certs.server_context("h3"))],
        &[cluster("tcp", at, "")],
    );
    let near = resources(
        &[listener("tcp", tcp, &tcp_proxy("hop", "tunneling_config: { hostname: 'host.com:443' }"))],
        &[cluster("hop", middle, &http3(&certs.path("ca.pem")))],
    );
    let _far = Proxy::adit(&far);
    let _near = Proxy::adit(&near);
    let open = || {
        let mut client = Peer::connect(tcp);
        let mut server = Peer::accept(&upstream);
        client.send("x");
        server.expect("x");
        (client, server)
    };
    let (client, mut server) = open();
    client.rst();
    assert_eq!(server.rest(), (vec![], End::Reset));
    let (mut client, server) = open();
    server.rst();
    assert_eq!(client.rest(), (vec![], End::Reset));
    let (mut client, mut server) = open();
    server.send("bye");
    server.fin();
    assert_eq!(client.rest(), (b"bye".to_vec(), End::Fin));
    client.send("still heard");
    client.fin();
    assert_eq!(server.rest(), (b"still heard".to_vec(), End::Fin));
}

/// More TCP tunnels than a connection has streams, by CONNECT and by POST: each is its own, and few connections carry them.
#[test]
fn many_tunnels_share_connections() {
    use adit_tests::config::{Hop, listener, tcp_proxy};
    use adit_tests::peer::Peer;
    let post = "- match: { prefix: /, headers: [{ name: ':method', string_match: { exact: POST } }] }\n  route: { cluster: tcp, \
                upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }\n";
    let (middle, connect, by_post) = (free_port(), free_port(), free_port());
    let routes = format!("{}{post}", terminate("tcp"));
    let far = Proxy::adit(&resources(
        &[Hop::Http3.listener("far", middle, &routes, "")],
        &[cluster("tcp", origin::echo(), "")],
    ));
    let tunnel = |more: &str| tcp_proxy("hop", &format!("tunneling_config: {{ hostname: 'host.com:443'{more} }}"));
    let near = Proxy::adit(&resources(
        &[listener("connect", connect, &tunnel("")), listener("post", by_post, &tunnel(", use_post: true"))],
        &[cluster("hop", middle, &Hop::Http3.cluster())],
    ));
    let mut clients: Vec<Peer> =
        (0..250).map(|index| Peer::connect(if index % 2 == 0 { connect } else { by_post })).collect();
    for round in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(format!("{round} of {index:05}"));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            client.expect(format!("{round} of {index:05}"));
        }
    }
    far.wait_stat("cluster.tcp.upstream_cx_active", 250);
    // A connection has 100 streams.
    let connections = near.stat("cluster.hop.upstream_cx_http3_total");
    assert!((3..=4).contains(&connections), "{connections}");
    drop(clients);
    far.wait_stat("cluster.tcp.upstream_cx_active", 0);
}
