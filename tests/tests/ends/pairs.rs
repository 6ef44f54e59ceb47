//! A proxy between two kinds of legs.

use std::net::TcpListener;

use adit_tests::certs::Certs;
use adit_tests::config::{cluster, hcm, listener, listener_with, resources, tcp_proxy, terminate};
use adit_tests::frames::{CONNECT, H2, HEADERS, Outcome, headers};
use adit_tests::peer::Peer;
use adit_tests::{Proxy, free_port, origin};

use crate::legs::{Ending, Identities, Leg, Stream};

/// What a side of the proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Tls,
    H1,
    H2,
}

impl Kind {
    fn raw(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Every way in which a peer of this kind can end.
    pub fn endings(self) -> Vec<Ending> {
        match self {
            Self::Tcp | Self::H1 => vec![Ending::Clean, Ending::Rst],
            Self::Tls => vec![Ending::Clean, Ending::NotifyOnly, Ending::WithoutNotify, Ending::Rst],
            // Every code of RFC 9113 section 7, and one that is none.
            Self::H2 => [Ending::Clean, Ending::Rst, Ending::Lost]
                .into_iter()
                .chain((0..=13).chain([0xdead]).map(Ending::Code))
                .collect(),
        }
    }
}

pub struct Pair {
    pub adit: Proxy,
    down: Kind,
    up: Kind,
    front: u16,
    upstream: TcpListener,
    identities: Identities,
    _certs: Certs,
}

impl Pair {
    /// With `one`, each tunnel has an upstream connection of its own.
    pub fn new(down: Kind, up: Kind, idle: Option<&str>, one: bool) -> Self {
        let certs = Certs::new();
        let (upstream, at) = origin::listen();
        let front = free_port();
        let alpn = if up == Kind::H2 {
            "http2_protocol_options: { allow_connect: true }"
        } else {
            "http_protocol_options: {}"
        };
        let limit = if one { "common_http_protocol_options: { max_requests_per_connection: 1 }, " } else { "" };
        let versions = format!(
            "typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \
             \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
             {limit}explicit_http_config: {{ {alpn} }} }} }}\n"
        );
        let more = match up {
            Kind::Tcp => String::new(),
            Kind::Tls => certs.upstream("localhost", "", ""),
            Kind::H1 | Kind::H2 => versions,
        };
        let idle_tcp = idle.map(|idle| format!("idle_timeout: {idle}\n")).unwrap_or_default();
        let idle_http = idle.map(|idle| format!("stream_idle_timeout: {idle}\n")).unwrap_or_default();
        let tunnel = if up.raw() { "" } else { "tunneling_config: { hostname: 'host.com:443' }\n" };
        let filter = match (down.raw(), up.raw()) {
            (true, _) => tcp_proxy("c", &format!("{idle_tcp}{tunnel}")),
            (false, true) => hcm("h", &terminate("c"), &idle_http),
            (false, false) => {
                let route = "- match: { connect_matcher: {} }\n  route: { cluster: c }\n";
                hcm("h", route, &format!("upgrade_configs: [{{ upgrade_type: CONNECT }}]\n{idle_http}"))
            }
        };
        let listener = match down {
            Kind::Tls => listener_with("l", front, &filter, &certs.downstream("", "")),
            _ => listener("l", front, &filter),
        };
        let adit = Proxy::adit(&resources(&[listener], &[cluster("c", at, &more)]));
        let identities = Identities::new(&certs);
        Self { adit, down, up, front, upstream, identities, _certs: certs }
    }

    /// Both peers of a new tunnel, which has carried bytes both ways.
    #[track_caller]
    pub fn open(&self) -> (Leg, Leg) {
        let mut client = match self.down {
            Kind::Tcp | Kind::H1 => Leg::Tcp(Peer::connect(self.front)),
            Kind::Tls => self.identities.connect(Peer::connect(self.front).0),
            Kind::H2 => Leg::H2(Stream::new(H2::connect(self.front), 1)),
        };
        match &mut client {
            Leg::Tcp(peer) if self.down == Kind::H1 => {
                peer.send("CONNECT h.example:443 HTTP/1.1\r\nhost: h.example:443\r\n\r\n");
            }
            Leg::H2(stream) => stream.conn.send(headers(1, CONNECT, false)),
            _ => {}
        }
        let socket = Peer::accept(&self.upstream);
        let mut server = match self.up {
            Kind::Tcp => Leg::Tcp(socket),
            Kind::Tls => self.identities.accept(socket.0),
            Kind::H1 => {
                let mut peer = socket;
                assert!(peer.head().starts_with("CONNECT "));
                peer.send("HTTP/1.1 200 OK\r\n\r\n");
                Leg::Tcp(peer)
            }
            Kind::H2 => {
                let mut conn = H2::accept(socket.0, &[]);
                let id = loop {
                    let frame = conn.next().expect("a request");
                    if frame.kind == HEADERS {
                        break frame.stream;
                    }
                };
                conn.send(headers(id, &[(":status", "200")], false));
                Leg::H2(Stream::new(conn, id))
            }
        };
        match &mut client {
            Leg::Tcp(peer) if self.down == Kind::H1 => assert!(peer.head().starts_with("HTTP/1.1 200 ")),
            Leg::H2(stream) => assert_eq!(stream.conn.outcome(1), Outcome::Status(200)),
            _ => {}
        }
        client.send(b"up");
        server.expect(b"up");
        server.send(b"down");
        client.expect(b"down");
        (client, server)
    }
}
