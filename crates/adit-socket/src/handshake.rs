//! The handshake of connections on which we speak first.

use socket2::Socket;

/// Has the last ACK of the handshake (RFC 9293 3.5) go out with the first payload instead of in a segment of its own, on a TCP
/// socket that is not connected yet and will be sent something as soon as it is.
///
/// That is one segment less, and one wake-up of the peer, which is told of the connection and of its first bytes at once. Where
/// nothing is sent after all, the kernel sends the ACK by its timer (200 ms at most). `TCP_QUICKACK` in `socket_options` is set
/// later, and stays.
pub fn join_ack(socket: &Socket) {
    // Where it is refused, the ACK has its own segment.
    let _ = socket.set_tcp_quickack(false);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use socket2::{Domain, Type};

    use super::*;

    /// A connection that was made, and whether its listener was told of it before anything was sent.
    fn connected(listener: &TcpListener, join: bool) -> (Socket, bool) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if join {
            join_ack(&socket);
        }
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let told = listener.accept().is_ok();
        listener.set_nonblocking(false).unwrap();
        (socket, told)
    }

    #[test]
    fn the_peer_learns_of_the_connection_by_its_first_bytes() {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let (_socket, told) = connected(&listener, false);
        assert!(told, "an ACK of its own");
        // The kernel's timer may come first on a machine that is busy.
        let late = (0..20).map(|_| connected(&listener, true)).find(|(_, told)| !told);
        let (mut socket, _) = late.expect("each of 20 connections was acknowledged before it had sent anything");
        socket.write_all(b"hello").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
}
