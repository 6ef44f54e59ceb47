//! Origins: an echo over TCP, and an HTTP server that answers as the test says and records what it received.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::peer::Peer;

/// A listener on a port of its own.
pub fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// Echoes every connection until its end; half-closes answer half-closes. Gives the port.
pub fn echo() -> u16 {
    serve(|mut socket| {
        let mut block = [0; 65536];
        while let Ok(n) = socket.read(&mut block) {
            if n == 0 || socket.write_all(&block[..n]).is_err() {
                break;
            }
        }
        let _ = socket.shutdown(std::net::Shutdown::Write);
    })
}

/// Serves every connection in a thread of its own. Gives the port.
pub fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let (listener, port) = listen();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || {
                let _ = socket.set_nodelay(true);
                handle(socket);
            });
        }
    });
    port
}

/// Heads that an origin received, in order.
pub type Heads = Arc<Mutex<Vec<String>>>;

/// Answers each request head with a fixed text and goes on; after an answer that starts with `HTTP/1.1 101` it echoes.
/// Gives the port and the heads.
pub fn http(answer: &'static str) -> (u16, Heads) {
    let heads: Heads = Arc::default();
    let seen = heads.clone();
    let port = serve(move |socket| {
        let mut peer = Peer::from(socket);
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                if !matches!(peer.0.read(&mut byte), Ok(1)) {
                    return;
                }
                head.push(byte[0]);
            }
            seen.lock().expect("heads").push(String::from_utf8_lossy(&head).into_owned());
            if peer.0.write_all(answer.as_bytes()).is_err() {
                return;
            }
            if answer.starts_with("HTTP/1.1 101") {
                let mut block = [0; 65536];
                while let Ok(n) = peer.0.read(&mut block) {
                    if n == 0 || peer.0.write_all(&block[..n]).is_err() {
                        break;
                    }
                }
                let _ = peer.0.shutdown(std::net::Shutdown::Write);
                return;
            }
        }
    });
    (port, heads)
}

/// Answers every datagram with itself. Gives the port.
pub fn udp_echo() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((size, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..size], peer);
        }
    });
    port
}
