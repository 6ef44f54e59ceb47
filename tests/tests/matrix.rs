//! Every version to every version: WebSocket, CONNECT, POST and CONNECT-UDP come to a proxy in one and leave it in another.
//! Three proxies: one makes the tunnels, the one in the middle passes them on, the last one undoes them.

use std::net::{TcpListener, UdpSocket};

use adit_tests::config::{
    Hop, cluster, connect_udp, hcm, listener, prefix, resources, tcp_proxy, terminate, udp_tunnel, upgrades,
};
use adit_tests::peer::{End, Peer};
use adit_tests::{PATIENCE, Proxy, free_port, origin};

const POST: &str = "- match: { prefix: /, headers: [{ name: ':method', string_match: { exact: POST } }] }\n  route: { cluster: tcp, \
     upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }\n";

/// The three proxies, and what is behind them.
struct Chain {
    proxies: [Proxy; 3],
    upstream: TcpListener,
    connect: u16,
    post: u16,
    web: u16,
    udp: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect,
    Post,
    WebSocket,
}

const KINDS: [Kind; 3] = [Kind::Connect, Kind::Post, Kind::WebSocket];

fn chain(down: Hop, up: Hop) -> Chain {
    let (upstream, at) = origin::listen();
    let (middle, far) = (free_port(), free_port());
    let (connect, post, web, udp) = (free_port(), free_port(), free_port(), free_port());
    let websocket = upgrades(&["websocket"]);
    let only_udp = "connect_matcher: {}, headers: [{ name: upgrade, string_match: { exact: connect-udp } }]";
    let ends = [
        &*connect_udp("udp", ", connect_config: {}").replace("connect_matcher: {}", only_udp),
        &terminate("tcp"),
        POST,
        &prefix("tcp"),
    ];
    let last = resources(
        &[up.listener("far", far, &ends.concat(), &websocket)],
        &[cluster("tcp", at, ""), cluster("udp", origin::udp_echo(), "")],
    );
    let pass = "- match: { connect_matcher: {} }\n  route: { cluster: far, upgrade_configs: [{ upgrade_type: CONNECT }, { upgrade_type: CONNECT-UDP }] }\n";
    let mid = resources(
        &[down.listener("middle", middle, &format!("{pass}{}", prefix("far")), &websocket)],
        &[cluster("far", far, &up.cluster())],
    );
    let near = resources(
        &[
            listener("connect", connect, &tcp_proxy("mid", "tunneling_config: { hostname: 'host.com:443' }\n")),
            listener(
                "post",
                post,
                &tcp_proxy("mid", "tunneling_config: { hostname: 'host.com:443', use_post: true }\n"),
            ),
            listener("web", web, &hcm("web", &prefix("mid"), &websocket)),
            udp_tunnel(udp, "mid"),
        ],
        &[cluster("mid", middle, &down.cluster())],
    );
    Chain { proxies: [Proxy::adit(&last), Proxy::adit(&mid), Proxy::adit(&near)], upstream, connect, post, web, udp }
}

impl Chain {
    #[track_caller]
    fn open(&self, kind: Kind) -> (Peer, Peer) {
        let port = match kind {
            Kind::Connect => self.connect,
            Kind::Post => self.post,
            Kind::WebSocket => self.web,
        };
        let mut client = Peer::connect(port);
        if kind == Kind::WebSocket {
            client.send(
                "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            );
        }
        let mut server = Peer::accept(&self.upstream);
        if kind == Kind::WebSocket {
            let head = server.head();
            assert!(head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
            assert!(head.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{head}");
            server.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            );
            assert!(client.head().starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        }
        client.send("up");
        server.expect("up");
        server.send("down");
        client.expect("down");
        (client, server)
    }

    /// Bytes both ways, and the ends and resets of either side.
    fn streams(&self, kind: Kind, who: &str) {
        // To the one in the middle a POST is a request: a complete answer ends it, whatever its client still sends.
        let orders: &[bool] = if kind == Kind::Post { &[true] } else { &[true, false] };
        for &client_first in orders {
            let (client, server) = self.open(kind);
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            first.send("last words");
            first.fin();
            assert_eq!(second.rest(), (b"last words".to_vec(), End::Fin), "{who}");
            let data: Vec<u8> = (0..1u32 << 20).map(|i| (i % 251) as u8).collect();
            second.send(&data);
            second.fin();
            let (got, end) = first.rest();
            assert!(got == data && end == End::Fin, "{who}: {} bytes, {end:?}", got.len());
        }
        for client_resets in [true, false] {
            let (client, server) = self.open(kind);
            let (first, mut second) = if client_resets { (client, server) } else { (server, client) };
            first.rst();
            assert_eq!(second.rest(), (vec![], End::Reset), "{who}, by the client: {client_resets}");
        }
    }

    fn datagrams(&self, who: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", self.udp)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for size in [1, 0, 63, 64, 1000, 1400] {
            let datagram = vec![7; size];
            socket.send(&datagram).unwrap();
            let mut buffer = [0; 65_536];
            let got = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{who}, {size} bytes: {error}"));
            assert_eq!(&buffer[..got], datagram, "{who}");
        }
        self.proxies[0].wait_stat("cluster.udp.udp.sess_tx_datagrams", 6);
        self.proxies[0].wait_stat("cluster.udp.udp.sess_rx_datagrams", 6);
    }
}

fn every_kind(down: Hop) {
    for up in Hop::ALL {
        let chain = chain(down, up);
        for kind in KINDS {
            chain.streams(kind, &format!("{kind:?}, {down:?} -> {up:?}"));
        }
        chain.datagrams(&format!("{down:?} -> {up:?}"));
        let [_, middle, _] = &chain.proxies;
        let version = |hop: Hop| format!("http{}", Hop::ALL.iter().position(|one| *one == hop).unwrap() + 1);
        assert!(middle.stat(&format!("http.middle.downstream_cx_{}_total", version(down))) >= 1);
        assert!(middle.stat(&format!("cluster.far.upstream_cx_{}_total", version(up))) >= 1);
    }
}

#[test]
fn http1_to_each() {
    every_kind(Hop::Http1);
}

#[test]
fn http2_to_each() {
    every_kind(Hop::Http2);
}

#[test]
fn http3_to_each() {
    every_kind(Hop::Http3);
}
