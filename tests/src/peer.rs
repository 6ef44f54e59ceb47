//! A raw client or server: bytes as the test says, halves as the test says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use crate::PATIENCE;

/// A blocking socket with an end to every wait.
pub struct Peer(pub TcpStream);

/// How the other side's direction came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Fin,
    /// RST.
    Reset,
}

impl Peer {
    /// Connects to a port on loopback.
    #[track_caller]
    pub fn connect(port: u16) -> Self {
        Self::from(TcpStream::connect(("127.0.0.1", port)).expect("a connection"))
    }

    /// Accepts one connection.
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Self {
        let end = std::time::Instant::now() + PATIENCE;
        listener.set_nonblocking(true).expect("nonblocking");
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).expect("blocking");
                    return Self::from(socket);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(std::time::Instant::now() < end, "nobody connects");
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Err(error) => panic!("accept: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn send(&mut self, data: impl AsRef<[u8]>) {
        self.0.write_all(data.as_ref()).expect("send");
    }

    /// Reads exactly this many bytes.
    #[track_caller]
    pub fn read(&mut self, n: usize) -> Vec<u8> {
        let mut data = vec![0; n];
        self.0.read_exact(&mut data).expect("read");
        data
    }

    #[track_caller]
    pub fn expect(&mut self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        let got = self.read(data.len());
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(data));
    }

    /// Reads a head, up to and with its empty line.
    #[track_caller]
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("no whole head ({error}): {:?}", String::from_utf8_lossy(&head)));
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("text")
    }

    /// Everything up to the end, and how it ended.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut data = Vec::new();
        let mut block = [0; 65536];
        loop {
            match self.0.read(&mut block) {
                Ok(0) => return (data, End::Fin),
                Ok(n) => data.extend_from_slice(&block[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (data, End::Reset),
                Err(error) => panic!("neither end nor reset: {error}"),
            }
        }
    }

    /// Nothing comes for this long.
    #[track_caller]
    pub fn silent(&mut self, time: std::time::Duration) {
        self.0.set_read_timeout(Some(time)).expect("a timeout");
        let mut byte = [0];
        match self.0.peek(&mut byte) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("not silent: {other:?} {byte:?}"),
        }
        self.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }

    /// FIN.
    pub fn fin(&self) {
        self.0.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// RST.
    pub fn rst(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    }
}

impl From<TcpStream> for Peer {
    fn from(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("nodelay");
        Self(socket)
    }
}
