//! One peer of a tunnel, byte for byte: TCP, TLS by rustls without its conveniences, a stream of HTTP/2 in frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use adit_tests::certs::Certs;
use adit_tests::frames::{self, DATA, H2, HEADERS, RST_STREAM};
use adit_tests::peer::Peer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

/// How a peer ends its direction, or all of its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// FIN; close_notify and FIN; END_STREAM.
    Clean,
    /// close_notify, and the connection stays.
    NotifyOnly,
    /// FIN without close_notify.
    WithoutNotify,
    /// RST of the connection.
    Rst,
    /// RST_STREAM.
    Code(u32),
    /// FIN of the HTTP/2 connection, without END_STREAM.
    Lost,
}

/// What became of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// FIN; close_notify and FIN; END_STREAM.
    Clean,
    /// The end of a connection that says nothing of the tunnel's: TLS without close_notify, HTTP/2 without END_STREAM.
    Cut,
    /// RST of the connection.
    Rst,
    /// RST_STREAM.
    Code(u32),
}

pub enum Leg {
    Tcp(Peer),
    Tls(Box<Tls>),
    H2(Stream),
}

pub struct Tls {
    socket: TcpStream,
    session: Connection,
}

pub struct Stream {
    pub conn: H2,
    pub id: u32,
    /// DATA that was not asked for yet.
    got: Vec<u8>,
    seen: Option<Seen>,
}

/// What TLS peers are made of.
pub struct Identities {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Identities {
    pub fn new(certs: &Certs) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certs.path("ca.pem")).unwrap()).unwrap();
        let client =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_file(certs.path("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certs.path("server.key")).unwrap();
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    pub fn connect(&self, socket: TcpStream) -> Leg {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(self.client.clone(), name).unwrap();
        Leg::Tls(Box::new(Tls::new(socket, session.into())))
    }

    pub fn accept(&self, socket: TcpStream) -> Leg {
        let session = ServerConnection::new(self.server.clone()).unwrap();
        Leg::Tls(Box::new(Tls::new(socket, session.into())))
    }
}

impl Tls {
    #[track_caller]
    fn new(mut socket: TcpStream, mut session: Connection) -> Self {
        while session.is_handshaking() {
            session.complete_io(&mut socket).expect("a handshake");
        }
        Self { socket, session }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Plaintext; nothing at close_notify; an error of kind `UnexpectedEof` at an end without it.
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.session.read_tls(&mut self.socket)?;
            self.session.process_new_packets().map_err(std::io::Error::other)?;
        }
    }
}

impl Stream {
    pub fn new(conn: H2, id: u32) -> Self {
        Self { conn, id, got: Vec::new(), seen: None }
    }

    /// Takes one more frame in.
    #[track_caller]
    fn turn(&mut self) {
        let Some(frame) = self.conn.next() else {
            self.seen.get_or_insert(Seen::Cut);
            return;
        };
        if frame.stream != self.id {
            return;
        }
        match frame.kind {
            DATA => {
                let grown = frame.payload.len() as u32;
                if grown > 0 {
                    let windows = [frames::window_update(0, grown), frames::window_update(self.id, grown)].concat();
                    let _ = self.conn.try_send(windows);
                }
                self.got.extend(&frame.payload);
            }
            RST_STREAM => {
                // Also behind an end.
                self.seen = Some(Seen::Code(frame.code()));
            }
            HEADERS => {}
            _ => return,
        }
        if frame.ends() {
            self.seen.get_or_insert(Seen::Clean);
        }
    }
}

impl Leg {
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(peer) => peer.send(bytes),
            Self::Tls(tls) => {
                tls.session.writer().write_all(bytes).unwrap();
                tls.flush().expect("send");
            }
            Self::H2(stream) => {
                let frame = frames::data(stream.id, bytes, false);
                stream.conn.send(frame);
            }
        }
    }

    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        match self {
            Self::Tcp(peer) => got = peer.read(bytes.len()),
            Self::Tls(tls) => {
                let mut at = 0;
                while at < got.len() {
                    let n = tls.read(&mut got[at..]).expect("read");
                    assert!(n > 0, "close_notify came first");
                    at += n;
                }
            }
            Self::H2(stream) => {
                while stream.got.len() < bytes.len() {
                    assert!(stream.seen.is_none(), "{:?} came first", stream.seen);
                    stream.turn();
                }
                got = stream.got.drain(..bytes.len()).collect();
            }
        }
        assert_eq!(got, bytes);
    }

    /// TLS takes new keys (RFC 8446 section 4.6.3); others do nothing.
    #[track_caller]
    pub fn update_keys(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.refresh_traffic_keys().expect("TLS 1.3");
            tls.flush().expect("a key update");
        }
    }

    /// Ends as told.
    #[track_caller]
    pub fn end(&mut self, ending: Ending) {
        match (self, ending) {
            (Self::Tcp(peer), Ending::Clean) => peer.fin(),
            (Self::Tcp(peer), Ending::Rst) => rst(&mut peer.0),
            (Self::Tls(tls), Ending::Clean | Ending::NotifyOnly) => {
                tls.session.send_close_notify();
                tls.flush().expect("close_notify");
                if ending == Ending::Clean {
                    tls.socket.shutdown(Shutdown::Write).expect("shutdown");
                }
            }
            (Self::Tls(tls), Ending::WithoutNotify) => tls.socket.shutdown(Shutdown::Write).expect("shutdown"),
            (Self::Tls(tls), Ending::Rst) => rst(&mut tls.socket),
            (Self::H2(stream), Ending::Clean) => {
                let frame = frames::data(stream.id, b"", true);
                stream.conn.send(frame);
            }
            (Self::H2(stream), Ending::Code(code)) => {
                let frame = frames::reset(stream.id, code);
                stream.conn.send(frame);
            }
            (Self::H2(stream), Ending::Lost) => stream.conn.socket.shutdown(Shutdown::Write).expect("shutdown"),
            (Self::H2(stream), Ending::Rst) => rst(&mut stream.conn.socket),
            (_, ending) => panic!("{ending:?} is not of this leg"),
        }
    }

    /// Everything up to the end of the peer's direction, and how it ended.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, Seen) {
        match self {
            Self::Tcp(peer) => {
                let (bytes, end) = peer.rest();
                (bytes, if end == adit_tests::peer::End::Fin { Seen::Clean } else { Seen::Rst })
            }
            Self::Tls(tls) => {
                let mut bytes = Vec::new();
                let mut block = [0; 16 << 10];
                let end = loop {
                    match tls.read(&mut block) {
                        Ok(0) => break Seen::Clean,
                        Ok(n) => bytes.extend(&block[..n]),
                        Err(error) => match error.kind() {
                            ErrorKind::UnexpectedEof => break Seen::Cut,
                            ErrorKind::ConnectionReset => break Seen::Rst,
                            _ => panic!("neither end nor reset: {error}"),
                        },
                    }
                };
                if end == Seen::Clean {
                    // What announces an end is followed by it.
                    assert_eq!(tls.socket.read(&mut block).expect("a FIN"), 0, "bytes behind close_notify");
                }
                (bytes, end)
            }
            Self::H2(stream) => {
                while stream.seen.is_none() {
                    stream.turn();
                }
                (std::mem::take(&mut stream.got), stream.seen.unwrap())
            }
        }
    }

    /// Sends until it is told that nobody reads: by a reset, or by a failing write.
    #[track_caller]
    pub fn is_stopped(&mut self) {
        let end = std::time::Instant::now() + adit_tests::PATIENCE;
        loop {
            assert!(std::time::Instant::now() < end, "never told that nobody reads");
            let stopped = match self {
                Self::Tcp(peer) => peer.0.write_all(b"x").is_err(),
                Self::Tls(tls) => {
                    tls.session.writer().write_all(b"x").unwrap();
                    tls.flush().is_err()
                }
                Self::H2(stream) => {
                    stream.turn();
                    matches!(stream.seen, Some(Seen::Code(_) | Seen::Cut))
                }
            };
            if stopped {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// RST, now: the socket is replaced by one that nobody knows.
fn rst(socket: &mut TcpStream) {
    socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO)).expect("linger");
    let (listener, _) = adit_tests::origin::listen();
    *socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
}
