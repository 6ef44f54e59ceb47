//! Pacing, where there is no network to spread the segments over.

use std::net::IpAddr;
use std::sync::OnceLock;

use socket2::Socket;

/// What new connections of this network namespace have, unless their socket says otherwise.
const DEFAULT: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Does not pace; every kernel has it, and any process may choose it.
const UNPACED: &[u8] = b"reno";

/// Spares a TCP socket, which is neither connected nor listening yet, the pacing of what it sends to this address, if that is a
/// loopback address.
///
/// With BBR as the system's congestion control the kernel sends every 64 KiB by a timer of its own. Over loopback that protects
/// no queue, and it is most of what bulk costs. A congestion control that `socket_options` name is set later, and stays.
pub fn spare_loopback(socket: &Socket, peer: IpAddr) {
    if peer.to_canonical().is_loopback() && is_paced() {
        // Where it is refused, the socket is paced, which only costs more.
        let _ = socket.set_tcp_congestion(UNPACED);
    }
}

/// Whether the system's congestion control paces: as it was when this was first asked.
fn is_paced() -> bool {
    static PACED: OnceLock<bool> = OnceLock::new();
    *PACED.get_or_init(|| std::fs::read_to_string(DEFAULT).is_ok_and(|default| paces(&default)))
}

/// Whether the congestion control of this name (`bbr` and its successors) paces by itself.
fn paces(name: &str) -> bool {
    name.starts_with("bbr")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use socket2::{Domain, Type};

    fn after(peer: &str) -> Vec<u8> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        spare_loopback(&socket, peer.parse().unwrap());
        let name = socket.tcp_congestion().unwrap();
        name.split(|&octet| octet == 0).next().unwrap().to_vec()
    }

    #[test]
    fn only_loopback_is_spared_and_only_what_paces() {
        let default = std::fs::read_to_string(DEFAULT).unwrap();
        let default = default.trim_end().as_bytes();
        let spared = if default.starts_with(b"bbr") { UNPACED } else { default };
        for peer in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(after(peer), spared, "{peer}");
        }
        for peer in ["0.0.0.0", "10.0.0.1", "::", "fe80::1"] {
            assert_eq!(after(peer), default, "{peer}");
        }
        assert!(paces("bbr\n") && paces("bbr3") && !paces("cubic\n") && !paces("reno") && !paces(""));
    }
}
