//! What QUIC needs of a connector.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use adit_config::proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use adit_io::{Address, ConnInfo, TlsInfo};
use adit_tls::{ConnectOptions, Fault};
use pb::tls_parameters::TlsProtocol;
use rig::{Ca, Rig, common, trust, upstream};

fn info() -> ConnInfo {
    ConnInfo::new(1, Address::Pipe("".into()), Address::Pipe("".into()))
}

#[tokio::test]
async fn only_tls_1_3_will_do() {
    let rig = Rig::with_secrets(&[]);
    let options = ConnectOptions::default();
    assert!(rig.connector(&upstream(common(&[], None))).quic_config(&options, &info()).is_ok());
    let mut old = common(&[], None);
    let tls_maximum_protocol_version = TlsProtocol::TlSv12 as i32;
    old.tls_params = Some(pb::TlsParameters { tls_maximum_protocol_version, ..pb::TlsParameters::default() });
    let error = rig.connector(&upstream(old)).quic_config(&options, &info()).err().unwrap();
    assert_eq!(error.reason, "TLS_error: QUIC needs TLS 1.3");
}

#[tokio::test]
async fn what_quic_did_is_counted() {
    let rig = Rig::with_secrets(&[]);
    let ca = Ca::new("ca");
    let connector = rig.connector(&upstream(common(&[], Some(trust(&ca.pem())))));
    let certificate = ca.issue(&["localhost"]);
    let mut tls =
        TlsInfo { version: "TLSv1.3", peer_certificates: vec![certificate.der.clone()], ..TlsInfo::default() };
    connector.quic_done(&ConnectOptions::default(), &mut tls);
    assert!(tls.peer_validated);
    for (words, fault) in [
        ("invalid peer certificate: verify cert failed: verify SAN list", Fault::Name),
        ("verify cert failed: cert hash and spki", Fault::Hash),
        ("invalid peer certificate: UnknownIssuer", Fault::Chain),
        ("no application protocol", Fault::Connection),
    ] {
        let error = connector.quic_failed(words);
        assert_eq!((error.fault, error.reason), (fault, format!("TLS_error: {words}")));
    }
    let counted = ["handshake", "versions.TLSv1.3", "fail_verify_san", "fail_verify_cert_hash", "fail_verify_error"];
    for name in counted.into_iter().chain(["connection_error"]) {
        assert_eq!(rig.store.counter_value(&format!("u.ssl.{name}")), Some(1), "{name}");
    }
}
