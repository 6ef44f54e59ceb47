//! The handshake of connections on which we speak first.

use socket2::Socket;

/// Has the last ACK of the handshake (RFC 9293 3.5) go out with the first payload instead of in a segment of its own, on a TCP
/// socket that is not connected yet and will be sent something as soon as it is.
///
/// That is one segment less, and one wake-up of the peer, which is told of the connection and of its first bytes at once. Where
/// nothing is sent after all, the kernel sends the ACK by its timer (200 ms at most).
///
/// [`ack_at_once`] belongs behind the first payload: without it the ACK of the peer's first answer is delayed as well, by up to
/// 40 ms, for which a peer with Nagle's algorithm (RFC 896) waits before a second small write.
pub fn join_ack(socket: &Socket) {
    // Where it is refused, the ACK has its own segment.
    let _ = socket.set_tcp_quickack(false);
}

/// Acknowledges what comes at once again, and what is unacknowledged now.
pub fn ack_at_once(socket: &Socket) {
    // Where it is refused, so was the other.
    let _ = socket.set_tcp_quickack(true);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::time::{Duration, Instant};

    use socket2::{Domain, Type};

    use super::*;

    /// Tries, as the kernel's timer, or a softirq that was put off, may be ahead of us or behind on a machine that is busy.
    const TRIES: usize = 20;

    fn listener() -> TcpListener {
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
    }

    fn connected(listener: &TcpListener, join: bool) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if join {
            join_ack(&socket);
        }
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        socket
    }

    /// A connection of which its listener was told before anything was sent, or was not.
    fn told(listener: &TcpListener, join: bool, wanted: bool) -> Option<Socket> {
        let looked = |socket| {
            listener.set_nonblocking(true).unwrap();
            let told = listener.accept().is_ok();
            listener.set_nonblocking(false).unwrap();
            (told == wanted).then_some(socket)
        };
        (0..TRIES).find_map(|_| looked(connected(listener, join)))
    }

    #[test]
    fn the_peer_learns_of_the_connection_by_its_first_bytes() {
        let listener = listener();
        told(&listener, false, true).expect("an ACK of its own");
        let mut socket = told(&listener, true, false).expect("an ACK with the first bytes");
        socket.write_all(b"hello").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    /// How long a peer that writes twice took to be heard.
    fn answered(listener: &TcpListener) -> Duration {
        let mut socket = connected(listener, true);
        let start = Instant::now();
        socket.write_all(b"hello").unwrap();
        ack_at_once(&socket);
        let (mut peer, _) = listener.accept().unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
        // Nagle's algorithm holds the second back until the first is acknowledged.
        peer.write_all(b"one").unwrap();
        peer.write_all(b"two").unwrap();
        socket.read_exact(&mut [0; 6]).unwrap();
        start.elapsed()
    }

    #[test]
    fn an_answer_in_two_writes_is_not_held_up() {
        let listener = listener();
        let best = (0..TRIES).map(|_| answered(&listener)).min().unwrap();
        assert!(best < Duration::from_millis(30), "{best:?}");
    }
}
