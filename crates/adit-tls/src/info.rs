//! What a finished handshake settled, for formats and filters.

use adit_io::TlsInfo;
use rustls::{CommonState, HandshakeKind};

use crate::names;

pub(crate) fn tls_info(session: &CommonState, peer_validated: bool, local_certificate: Option<Vec<u8>>) -> TlsInfo {
    TlsInfo {
        version: names::version(session.protocol_version()),
        cipher: session
            .negotiated_cipher_suite()
            .map_or_else(Box::default, |suite| names::cipher(suite.suite()).into()),
        alpn: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into()),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        peer_certificates: session.peer_certificates().unwrap_or_default().iter().map(|one| one.to_vec()).collect(),
        peer_validated,
        local_certificate,
    }
}
