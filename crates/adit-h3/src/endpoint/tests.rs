#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn options_that_quic_cannot_have() {
    let options = QuicOptions { idle_timeout: Duration::MAX, ..QuicOptions::default() };
    assert!(matches!(options.transport(true), Err(OptionsError::IdleTimeout)));
    for idle_timeout in [Duration::ZERO, Duration::from_secs(300)] {
        assert!(QuicOptions { idle_timeout, ..QuicOptions::default() }.transport(true).is_ok());
    }
}

#[test]
fn absurd_windows_are_cut_to_sense() {
    let options = QuicOptions {
        initial_stream_window_size: Some(u32::MAX),
        initial_connection_window_size: 0,
        max_packet_length: Some(0),
        ..QuicOptions::default()
    };
    assert!(options.transport(false).is_ok());
}

/// Whether the system sends several packets with one call: what it says of itself, and does.
async fn has_gso(socket: std::net::UdpSocket) -> bool {
    use quinn::Runtime as _;

    let socket = quinn::TokioRuntime.wrap_udp_socket(socket).unwrap();
    let destination = socket.local_addr().unwrap();
    let mut poller = socket.clone().create_io_poller();
    std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
    let contents = &[7; 2400];
    let transmit = quinn::udp::Transmit { destination, ecn: None, contents, segment_size: Some(1200), src_ip: None };
    // Where it fails fewer segments are said to be possible from then on.
    socket.try_send(&transmit).is_ok() && socket.max_transmit_segments() > 1
}

/// Several packets leave with one call where the system can (GSO); a listener's socket takes several with one (GRO).
#[tokio::test]
async fn packets_leave_in_batches() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = || std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let options = QuicOptions::default();
    let socket = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let setup = ServerSetup::new(&server, &options, Admission::default(), 1).unwrap();
    let mut listener = ServerEndpoint::bind(socket(), &setup, 0).unwrap();
    let endpoint = ClientEndpoint::bind(socket()).unwrap();
    let setup = ClientSetup::new(&client, &options).unwrap();
    let connecting = tokio::spawn(endpoint.connect(&setup, listener.local_addr().unwrap(), "localhost").unwrap());
    let accepted = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().await.unwrap().0;
    let connected = connecting.await.unwrap().unwrap().0;
    let (mut send, mut back) = connected.open_bi().await.unwrap();
    let writing = async {
        send.write_all(&vec![7; 4 << 20]).await.unwrap();
        send.finish().unwrap();
    };
    let reading = async {
        let (mut answer, mut recv) = accepted.accept_bi().await.unwrap();
        assert_eq!(recv.read_to_end(4 << 20).await.unwrap().len(), 4 << 20);
        answer.write_all(&vec![7; 4 << 20]).await.unwrap();
        answer.finish().unwrap();
        answer
    };
    let (_answer, (), got) = tokio::join!(reading, writing, back.read_to_end(4 << 20));
    assert_eq!(got.unwrap().len(), 4 << 20);
    if !has_gso(socket()).await {
        return;
    }
    for side in [&connected, &accepted] {
        let sent = side.stats().udp_tx;
        assert!(sent.ios * 2 < sent.datagrams, "{} calls for {} packets", sent.ios, sent.datagrams);
    }
}
