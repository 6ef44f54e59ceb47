//! One adit before an origin that records every byte, and a neighbour that must not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adit_tests::config::{cluster, hcm, listener, resources, upgrades};
use adit_tests::peer::{End, Peer};
use adit_tests::{PATIENCE, Proxy, eventually, free_port, origin};

/// What an origin saw on one connection.
#[derive(Debug, Default, Clone)]
pub struct Record {
    pub bytes: Vec<u8>,
    pub end: Option<End>,
}

impl Record {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The head, and what came behind it.
    pub fn parts(&self) -> (String, String) {
        let text = self.text();
        let at = text.find("\r\n\r\n").map_or(text.len(), |at| at + 4);
        (text[..at].to_ascii_lowercase(), text[at..].to_owned())
    }
}

type Records = Arc<Mutex<Vec<Arc<Mutex<Record>>>>>;

/// Upgrades of these types, forwarded CONNECT and plain requests, all to one origin.
pub struct Lab {
    pub adit: Proxy,
    pub port: u16,
    records: Records,
    neighbour: Mutex<Peer>,
}

/// What a client got, and how its connection ended (`None`: it is open).
#[derive(Debug)]
pub struct Seen {
    pub text: String,
    pub end: Option<End>,
}

impl Seen {
    pub fn status(&self) -> &str {
        self.text.get(9..12).unwrap_or("")
    }

    pub fn head(&self) -> String {
        self.text.split_inclusive("\r\n\r\n").next().unwrap_or("").to_ascii_lowercase()
    }
}

/// For so long nothing comes from a connection that has said all.
const QUIET: Duration = Duration::from_millis(250);

const OK: &str = "GET /ok HTTP/1.1\r\nhost: neighbour\r\n\r\n";

pub const ROUTES: &str = "\
- match: { connect_matcher: {} }
  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }
- match: { prefix: / }
  route: { cluster: c }
";

impl Lab {
    /// An origin that gives this answer to the first head of each connection, then only listens.
    pub fn new(answer: impl Into<Vec<u8>>) -> Self {
        Self::with(answer, ROUTES, "")
    }

    /// The same with other routes, and more fields of the connection manager.
    pub fn with(answer: impl Into<Vec<u8>>, routes: &str, more: &str) -> Self {
        let records = Records::default();
        let upstream = recording_origin(answer.into(), records.clone());
        let port = free_port();
        let filter = hcm("h", routes, &format!("{}{more}", upgrades(&["websocket", "foo"])));
        let adit = Proxy::adit(&resources(&[listener("l", port, &filter)], &[cluster("c", upstream, "")]));
        let mut neighbour = Peer::connect(port);
        ask_ok(&mut neighbour);
        Self { adit, port, records, neighbour: Mutex::new(neighbour) }
    }

    /// Connections of the origin that carried anything but the neighbour's requests, from there on: a pooled connection may
    /// have carried these before.
    pub fn records(&self) -> Vec<Record> {
        let records = self.records.lock().unwrap();
        let mut all = Vec::new();
        for record in records.iter() {
            let mut record = record.lock().unwrap().clone();
            while record.bytes.starts_with(b"GET /ok ") {
                let at = record.text().find("\r\n\r\n").map_or(record.bytes.len(), |at| at + 4);
                record.bytes.drain(..at);
            }
            if !record.bytes.is_empty() {
                all.push(record);
            }
        }
        all
    }

    /// The one connection that an attack made at the origin.
    #[track_caller]
    pub fn record(&self) -> Record {
        let records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records.into_iter().next().unwrap()
    }

    /// Sends, half-closes nothing, and collects what comes until the end or silence.
    #[track_caller]
    pub fn attack(&self, bytes: impl AsRef<[u8]>) -> Seen {
        let mut client = Peer::connect(self.port);
        // A proxy that refused may close before all of it is written.
        let _ = client.0.write_all(bytes.as_ref());
        self.collect(&mut client)
    }

    /// The same, until this much of what is expected has come.
    #[track_caller]
    pub fn attack_until(&self, bytes: impl AsRef<[u8]>, all: impl Fn(&str) -> bool) -> Seen {
        let mut client = Peer::connect(self.port);
        let _ = client.0.write_all(bytes.as_ref());
        collect(&mut client.0, |text| !all(text))
    }

    #[track_caller]
    pub fn collect(&self, client: &mut Peer) -> Seen {
        collect(&mut client.0, |text| text.is_empty())
    }

    /// The attack got this status and nothing more, its connection was closed, and the origin saw nothing.
    #[track_caller]
    pub fn refused(&self, bytes: impl AsRef<[u8]>, status: &str) {
        let bytes = bytes.as_ref();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let before = self.records().len();
        let mut client = Peer::connect(self.port);
        let _ = client.0.write_all(bytes);
        let seen = collect(&mut client.0, |_| true);
        assert_eq!(seen.status(), status, "{shown:?}: {seen:?}");
        assert!(seen.head().contains("connection: close\r\n"), "{shown:?}: {seen:?}");
        assert_eq!(seen.text.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {seen:?}");
        assert_eq!(seen.end, Some(End::Fin), "{shown:?}: {seen:?}");
        assert_eq!(self.records().len(), before, "{shown:?} reached the origin: {:?}", self.records());
    }

    /// The neighbour is served on its old connection and on a new one, and nothing of the attack is left.
    #[track_caller]
    pub fn unharmed(&self) {
        ask_ok(&mut self.neighbour.lock().unwrap());
        ask_ok(&mut Peer::connect(self.port));
        self.adit.wait_stat("http.h.downstream_cx_upgrades_active", 0);
        self.adit.wait_stat("http.h.downstream_rq_active", 0);
        self.adit.wait_stat("cluster.c.upstream_rq_active", 0);
        eventually("only the neighbours' connections are left", || {
            self.adit.stat("http.h.downstream_cx_active") <= 1 && self.adit.stat("cluster.c.upstream_cx_active") <= 2
        });
        for record in self.records() {
            assert!(!record.text().contains("/ok"), "a connection was used again: {}", record.text());
        }
    }

    /// Waits until the origin's connection of an attack is over.
    #[track_caller]
    pub fn origin_closed(&self) {
        eventually("the origin's connection ends", || self.records().iter().all(|record| record.end.is_some()));
    }

    /// Waits until the origin received this much behind its head, and gives its record.
    #[track_caller]
    pub fn payload(&self, wanted: &str) -> Record {
        eventually("the payload arrives", || {
            self.records().iter().any(|record| record.parts().1.len() >= wanted.len())
        });
        let record = self.record();
        assert_eq!(record.parts().1, wanted);
        record
    }
}

#[track_caller]
fn ask_ok(peer: &mut Peer) {
    peer.send(OK);
    let head = peer.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    peer.expect("ok");
}

/// What comes until the end, or until nothing comes for a while and there is no more to wait for. Behind an answer that
/// closes there is an end to wait for.
fn collect(socket: &mut TcpStream, more: impl Fn(&str) -> bool) -> Seen {
    let start = Instant::now();
    let mut text = Vec::new();
    let mut block = [0; 16384];
    let end = loop {
        let so_far = String::from_utf8_lossy(&text);
        let waits = more(&so_far) || so_far.to_ascii_lowercase().contains("\r\nconnection: close\r\n");
        socket.set_read_timeout(Some(if waits { PATIENCE } else { QUIET })).unwrap();
        match socket.read(&mut block) {
            Ok(0) => break Some(End::Fin),
            Ok(n) => text.extend_from_slice(&block[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break Some(End::Reset),
            Err(_) => break None,
        }
        assert!(start.elapsed() < PATIENCE, "it never stops");
    };
    Seen { text: String::from_utf8_lossy(&text).into_owned(), end }
}

/// Answers `/ok` as often as asked; gives `answer` to the first other head, then records what follows.
fn recording_origin(answer: Vec<u8>, records: Records) -> u16 {
    origin::serve(move |mut socket| {
        let record = Arc::new(Mutex::new(Record::default()));
        records.lock().unwrap().push(record.clone());
        let (mut at, mut answered) = (0, false);
        let mut block = [0; 16384];
        let end = loop {
            match socket.read(&mut block) {
                Ok(0) => break End::Fin,
                Ok(n) => record.lock().unwrap().bytes.extend_from_slice(&block[..n]),
                Err(_) => break End::Reset,
            }
            let text = record.lock().unwrap().text();
            while !answered && let Some(length) = text[at..].find("\r\n\r\n") {
                let ok = text[at..].starts_with("GET /ok ");
                answered = !ok;
                at += length + 4;
                let bytes = if ok { &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..] } else { &answer };
                let _ = socket.write_all(bytes);
            }
        };
        record.lock().unwrap().end = Some(end);
    })
}

/// The head of an upgrade request with these fields beside its own.
pub fn upgrade(token: &str, fields: &str) -> String {
    format!("GET /chat HTTP/1.1\r\nhost: a.example\r\nconnection: Upgrade\r\nupgrade: {token}\r\n{fields}\r\n")
}

/// An answer that accepts an upgrade.
pub fn switch(token: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: {token}\r\n\r\n")
}

/// A request that must never be parsed.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: evil\r\n\r\n";
