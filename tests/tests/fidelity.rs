//! The table of ends: FIN in either order, RST either way, idle, and every byte of bulk both ways, over every kind of
//! tunnel. One proxy, or two where the tunnel needs both its ends. `tests/ends` has one proxy between peers of every kind, TLS
//! among them.

use std::net::TcpListener;
use std::thread;

use adit_tests::config::{Hop, cluster, hcm, listener, prefix, resources, tcp_proxy, terminate, upgrades};
use adit_tests::peer::{End, Peer};
use adit_tests::{Proxy, free_port, origin};

/// A kind of tunnel, up and running.
struct Path {
    _proxies: Vec<Proxy>,
    front: u16,
    upstream: TcpListener,
    opening: &'static str,
}

impl Path {
    /// A client and the upstream's side of its tunnel.
    #[track_caller]
    fn open(&self) -> (Peer, Peer) {
        let mut client = Peer::connect(self.front);
        let mut server;
        match self.opening {
            "" => server = Peer::accept(&self.upstream),
            "connect" => {
                client.send("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n");
                server = Peer::accept(&self.upstream);
                assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
            }
            _ => {
                client.send(
                    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                );
                server = Peer::accept(&self.upstream);
                server.head();
                server.send(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                );
                assert!(client.head().starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
            }
        }
        client.send("up");
        server.expect("up");
        server.send("down");
        client.expect("down");
        (client, server)
    }
}

const INTERNAL: &str = "bootstrap_extensions:\n- name: internal\n  typed_config:\n    \
    \"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener\n";

fn internal_listener(name: &str, filter: &str) -> String {
    format!("  - name: {name}\n    internal_listener: {{}}\n    filter_chains:\n    - filters:\n{filter}")
}

fn internal_cluster(name: &str, listener: &str) -> String {
    format!(
        "  - name: {name}\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n        \
         - endpoint: {{ address: {{ envoy_internal_address: {{ server_listener_name: {listener} }} }} }}\n"
    )
}

fn path(kind: &str, idle: Option<&str>) -> Path {
    let (upstream, at) = origin::listen();
    let front = free_port();
    let idle_tcp = idle.map(|idle| format!("idle_timeout: {idle}\n")).unwrap_or_default();
    let idle_http = idle.map(|idle| format!("stream_idle_timeout: {idle}\n")).unwrap_or_default();
    let one = |filter: String| resources(&[listener("l", front, &filter)], &[cluster("c", at, "")]);
    let near = |tunnel: &str, hop: Hop, middle: u16| {
        let filter = tcp_proxy("c", &format!("{idle_tcp}{tunnel}"));
        Proxy::adit(&resources(&[listener("near", front, &filter)], &[cluster("c", middle, &hop.cluster())]))
    };
    let two = |tunnel: &str, hop: Hop, route: &str| {
        let middle = free_port();
        let far = resources(&[hop.listener("far", middle, route, "")], &[cluster("tcp", at, "")]);
        vec![Proxy::adit(&far), near(tunnel, hop, middle)]
    };
    let upgrade_over = |hop: Hop| {
        let middle = free_port();
        let more = format!("{}{idle_http}", upgrades(&["websocket"]));
        let far = resources(&[hop.listener("far", middle, &prefix("c"), &more)], &[cluster("c", at, "")]);
        let near = resources(
            &[listener("near", front, &hcm("near", &prefix("c"), &more))],
            &[cluster("c", middle, &hop.cluster())],
        );
        vec![Proxy::adit(&far), Proxy::adit(&near)]
    };
    let post = "- match: { prefix: /, headers: [{ name: ':method', string_match: { exact: POST } }] }\n  route: { cluster: tcp, \
                upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }\n";
    let connect_tunnel = "tunneling_config: { hostname: 'host.com:443' }\n";
    let post_tunnel = "tunneling_config: { hostname: 'host.com:443', use_post: true }\n";
    let (proxies, opening) = match kind {
        "tcp" => (vec![Proxy::adit(&one(tcp_proxy("c", &idle_tcp)))], ""),
        "h1 upgrade" => {
            let more = format!("{}{idle_http}", upgrades(&["websocket"]));
            (vec![Proxy::adit(&one(hcm("h", &prefix("c"), &more)))], "upgrade")
        }
        "h1 connect" => (vec![Proxy::adit(&one(hcm("h", &terminate("c"), &idle_http)))], "connect"),
        "two hops, h1 connect" => (two(connect_tunnel, Hop::Http1, &terminate("tcp")), ""),
        "two hops, h1 post" => (two(post_tunnel, Hop::Http1, post), ""),
        "two hops, h2 connect" => (two(connect_tunnel, Hop::Http2, &terminate("tcp")), ""),
        "two hops, h2 connect in TLS" => (two(connect_tunnel, Hop::Http2Tls, &terminate("tcp")), ""),
        "two hops, h2 post" => (two(post_tunnel, Hop::Http2, post), ""),
        "two hops, h3 connect" => (two(connect_tunnel, Hop::Http3, &terminate("tcp")), ""),
        "two hops, h3 post" => (two(post_tunnel, Hop::Http3, post), ""),
        "h1 upgrade over h2" => (upgrade_over(Hop::Http2), "upgrade"),
        "h1 upgrade over h3" => (upgrade_over(Hop::Http3), "upgrade"),
        // The far end of the tunnel is an internal listener behind the QUIC one.
        "two hops, h3 connect, internal" => {
            let middle = free_port();
            let listeners = [
                Hop::Http3.listener("far", middle, &terminate("hop"), ""),
                internal_listener("inner", &tcp_proxy("tcp", "")),
            ];
            let clusters = [internal_cluster("hop", "inner"), cluster("tcp", at, "")];
            let far = format!("{INTERNAL}{}", resources(&listeners, &clusters));
            (vec![Proxy::adit(&far), near(connect_tunnel, Hop::Http3, middle)], "")
        }
        "internal" => {
            let listeners = [
                listener("outer", front, &tcp_proxy("hop", &idle_tcp)),
                internal_listener("inner", &tcp_proxy("c", "")),
            ];
            let clusters = [internal_cluster("hop", "inner"), cluster("c", at, "")];
            (vec![Proxy::adit(&format!("{INTERNAL}{}", resources(&listeners, &clusters)))], "")
        }
        "three internal hops, h1 connect" => {
            let listeners = [
                listener("outer", front, &hcm("h", &terminate("a"), &idle_http)),
                internal_listener("a", &tcp_proxy("b", "")),
                internal_listener("b", &tcp_proxy("c", "")),
                internal_listener("c", &tcp_proxy("far", "")),
            ];
            let clusters = [
                internal_cluster("a", "a"),
                internal_cluster("b", "b"),
                internal_cluster("c", "c"),
                cluster("far", at, ""),
            ];
            (vec![Proxy::adit(&format!("{INTERNAL}{}", resources(&listeners, &clusters)))], "connect")
        }
        other => panic!("{other}"),
    };
    Path { _proxies: proxies, front, upstream, opening }
}

const KINDS: [&str; 15] = [
    "tcp",
    "h1 upgrade",
    "h1 connect",
    "two hops, h1 connect",
    "two hops, h1 post",
    "two hops, h2 connect",
    "two hops, h2 connect in TLS",
    "two hops, h2 post",
    "two hops, h3 connect",
    "two hops, h3 post",
    "h1 upgrade over h2",
    "h1 upgrade over h3",
    "two hops, h3 connect, internal",
    "internal",
    "three internal hops, h1 connect",
];

/// Runs one cell on every kind at once; a failure names its kind.
fn each(idle: Option<&'static str>, cell: impl Fn(&str, &Path) + Send + Sync + Clone + 'static) {
    let threads: Vec<_> = KINDS
        .into_iter()
        .map(|kind| {
            let cell = cell.clone();
            thread::Builder::new().name(kind.into()).spawn(move || cell(kind, &path(kind, idle))).unwrap()
        })
        .collect();
    let failed: Vec<_> =
        KINDS.into_iter().zip(threads).filter_map(|(kind, thread)| thread.join().err().map(|_| kind)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn client_fin_first_and_the_upstream_goes_on() {
    each(None, |_, path| {
        let (mut client, mut server) = path.open();
        client.send("last words");
        client.fin();
        assert_eq!(server.rest(), (b"last words".to_vec(), End::Fin));
        thread::sleep(std::time::Duration::from_millis(50));
        server.send(vec![1; 1 << 20]);
        server.fin();
        let (data, end) = client.rest();
        assert_eq!((data.len(), end), (1 << 20, End::Fin));
    });
}

/// On a chunked POST over HTTP/1.1 the response ends with its last chunk; the request goes on.
#[test]
fn upstream_fin_first_and_the_client_goes_on() {
    each(None, |_, path| {
        let (mut client, mut server) = path.open();
        server.send("last words");
        server.fin();
        assert_eq!(client.rest(), (b"last words".to_vec(), End::Fin));
        thread::sleep(std::time::Duration::from_millis(50));
        client.send(vec![1; 1 << 20]);
        client.fin();
        let (data, end) = server.rest();
        assert_eq!((data.len(), end), (1 << 20, End::Fin));
    });
}

#[test]
fn client_rst_is_an_rst_for_the_upstream() {
    each(None, |kind, path| {
        let (client, mut server) = path.open();
        client.rst();
        assert_eq!(server.rest(), (vec![], End::Reset), "{kind}");
    });
}

#[test]
fn upstream_rst_is_an_rst_for_the_client() {
    each(None, |kind, path| {
        let (mut client, server) = path.open();
        server.rst();
        assert_eq!(client.rest(), (vec![], End::Reset), "{kind}");
    });
}

#[test]
fn an_rst_behind_a_half_close_is_seen() {
    each(None, |kind, path| {
        let (client, mut server) = path.open();
        client.fin();
        assert_eq!(server.rest(), (vec![], End::Fin), "{kind}");
        client.rst();
        // The reset shows where the upstream writes or waits: its sends fail before long.
        let end = std::time::Instant::now() + adit_tests::PATIENCE;
        use std::io::Write;
        while server.0.write_all(&[0; 1024]).is_ok() {
            assert!(std::time::Instant::now() < end, "{kind}: the upstream never notices");
            thread::sleep(std::time::Duration::from_millis(5));
        }
    });
}

#[test]
fn an_idle_tunnel_ends_on_both_sides_and_bytes_keep_it() {
    each(Some("3s"), |kind, path| {
        let (mut client, mut server) = path.open();
        for _ in 0..6 {
            thread::sleep(std::time::Duration::from_millis(700));
            client.send("x");
            server.expect("x");
        }
        let (data, _) = client.rest();
        assert!(data.is_empty(), "{kind}");
        let (data, _) = server.rest();
        assert!(data.is_empty(), "{kind}");
    });
}

#[test]
fn sixty_four_mebibytes_each_way_at_once() {
    const SIZE: usize = 64 << 20;
    fn pattern(at: usize) -> u8 {
        (at ^ (at >> 8) ^ (at >> 16)) as u8
    }
    fn send(mut peer: Peer) {
        let mut block = vec![0; 1 << 18];
        for start in (0..SIZE).step_by(block.len()) {
            for (i, byte) in block.iter_mut().enumerate() {
                *byte = pattern(start + i);
            }
            peer.send(&block);
        }
        peer.fin();
    }
    fn receive(mut peer: Peer) {
        use std::io::Read;
        let mut at = 0;
        let mut block = vec![0; 1 << 18];
        loop {
            let n = peer.0.read(&mut block).expect("an end");
            if n == 0 {
                break;
            }
            for (i, byte) in block[..n].iter().enumerate() {
                assert!(*byte == pattern(at + i), "byte {} is another", at + i);
            }
            at += n;
        }
        assert_eq!(at, SIZE);
    }
    for kind in KINDS {
        let path = path(kind, None);
        let (client, server) = path.open();
        let halves = [client.0.try_clone().unwrap(), server.0.try_clone().unwrap()].map(Peer::from);
        let [client_out, server_out] = halves;
        let threads = [
            thread::spawn(|| send(client_out)),
            thread::spawn(|| send(server_out)),
            thread::spawn(|| receive(client)),
            thread::spawn(|| receive(server)),
        ];
        for thread in threads {
            thread.join().unwrap_or_else(|_| panic!("{kind}"));
        }
    }
}

/// A client that reads nothing costs the proxy at most 1 MiB of memory and never a byte.
#[test]
fn a_stopped_reader_costs_a_bounded_amount() {
    use std::io::Write;
    for kind in KINDS {
        let path = path(kind, None);
        let (mut client, server) = path.open();
        let before: u64 = path._proxies.iter().map(Proxy::rss_kib).sum();
        server.0.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let block = vec![9u8; 1 << 16];
        let mut sent = 0;
        while let Ok(n) = (&server.0).write(&block) {
            sent += n;
            assert!(sent < 256 << 20, "{kind}: the writer is never stopped");
        }
        let after: u64 = path._proxies.iter().map(Proxy::rss_kib).sum();
        // Each proxy and each internal hop may hold 1 MiB, and what the allocator rounds up.
        let hops = if kind.starts_with("three") { 3 } else { 0 };
        let allowed = (path._proxies.len() as u64 + hops) * 3 * 1024;
        assert!(after <= before + allowed, "{kind}: {before} -> {after} KiB after {sent} bytes");
        server.fin();
        let (data, end) = client.rest();
        assert_eq!((data.len(), end), (sent, End::Fin), "{kind}");
    }
}
