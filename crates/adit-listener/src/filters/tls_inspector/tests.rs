#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use adit_io::{Address, ConnInfo};
use adit_stats::Store;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A ClientHello with a server name and two protocols.
fn hello() -> Vec<u8> {
    let sni = [&[0, 0, 0, 11, 0, 9, 0, 0, 6][..], b"A.test"].concat();
    let alpn = [&[0, 16, 0, 14, 0, 12, 2][..], b"h2", &[8], b"http/1.1"].concat();
    let extensions = [sni, alpn].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

async fn inspect(message: pb::TlsInspector, bytes: &[u8], end: bool) -> (ListenerFilterVerdict, Io, Store) {
    let store = Store::new(1);
    let filter = TlsInspector::from_proto(&message, &store.root(), &Path::root()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, address) = listener.accept().await.unwrap();
    let local = Address::Ip(listener.local_addr().unwrap());
    let mut io = Io::tcp(server, Arc::new(ConnInfo::new(1, local, Address::Ip(address))));
    let write = async {
        for piece in bytes.chunks(50) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        if end {
            client.shutdown().await.unwrap();
        }
    };
    let ((), verdict) = tokio::join!(write, filter.accept(&mut io));
    (verdict, io, store)
}

#[tokio::test]
async fn a_client_hello_tells_names_and_stays() {
    for initial in [None, Some(256)] {
        let message = pb::TlsInspector { initial_read_buffer_size: initial, ..pb::TlsInspector::default() };
        let (verdict, io, store) = inspect(message, &hello(), false).await;
        assert_eq!(verdict, ListenerFilterVerdict::Continue);
        assert_eq!(io.info.transport, "tls");
        assert_eq!(io.info.server_name.as_deref(), Some("a.test"));
        assert_eq!(io.info.offered_alpn, ["h2".into(), "http/1.1".into()]);
        assert_eq!(io.ahead(), hello());
        for name in ["tls_found", "sni_found", "alpn_found"] {
            assert_eq!(store.counter_value(&format!("tls_inspector.{name}")), Some(1), "{name}");
        }
    }
}

#[tokio::test]
async fn anything_else_goes_on_as_it_is() {
    let mut damaged = hello();
    damaged[5] = 2;
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &damaged] {
        let (verdict, io, store) = inspect(pb::TlsInspector::default(), bytes, false).await;
        assert_eq!(verdict, ListenerFilterVerdict::Continue);
        assert_eq!(io.info.transport, "raw_buffer");
        assert_eq!(store.counter_value("tls_inspector.tls_not_found"), Some(1));
        let message =
            pb::TlsInspector { close_connection_on_client_hello_parsing_errors: true, ..pb::TlsInspector::default() };
        assert_eq!(inspect(message, bytes, false).await.0, ListenerFilterVerdict::Error);
    }
}

#[tokio::test]
async fn a_hello_may_be_too_large_or_cut() {
    let message = pb::TlsInspector { max_client_hello_size: Some(60), ..pb::TlsInspector::default() };
    let (verdict, _, store) = inspect(message, &hello(), false).await;
    assert_eq!(verdict, ListenerFilterVerdict::Error);
    assert_eq!(store.counter_value("tls_inspector.client_hello_too_large"), Some(1));
    let (verdict, _, _) = inspect(pb::TlsInspector::default(), &hello()[..40], true).await;
    assert_eq!(verdict, ListenerFilterVerdict::RemoteClose);
    let (verdict, _, _) = inspect(pb::TlsInspector::default(), b"", true).await;
    assert_eq!(verdict, ListenerFilterVerdict::RemoteClose);
}
