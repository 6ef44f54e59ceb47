//! Peers that send anything: no panic, one counted refusal, no end that was not sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use adit_tls::ConnectOptions;
use rig::{Ca, Rig, common, downstream, upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Copies one way, spoiling one byte at `spoil`.
async fn spoil(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    spoil: Option<usize>,
) {
    let mut seen = 0;
    let mut buffer = [0; 4096];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(n) if n > 0 => n,
            _ => return,
        };
        if let Some(at) = spoil.and_then(|at| at.checked_sub(seen)).filter(|at| *at < n) {
            buffer[at] ^= 0x41;
        }
        seen += n;
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_spoiled_byte_never_arrives_as_another() {
    let rig = Rig::default();
    let ca = Ca::new("ca");
    let cert = ca.issue(&["a.test"]);
    let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
    let connector = rig.connector(&upstream(common(&[], Some(rig::trust(&ca.pem())))));
    let mut random = Random(7);
    for round in 0..120 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let back = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(back.local_addr().unwrap()).await.unwrap();
        let (server, _) = back.accept().await.unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        let at = Some((random.next() % 3000) as usize);
        let (up, down) = if round % 2 == 0 { (at, None) } else { (None, at) };
        let relays = [tokio::spawn(spoil(near_read, far_write, up)), tokio::spawn(spoil(far_read, near_write, down))];
        let exchange = async {
            let (client, server) = tokio::join!(
                connector.connect(rig::io(client), ConnectOptions::default()),
                acceptor.accept(rig::io(server))
            );
            let (Ok(mut client), Ok(mut server)) = (client, server) else { return };
            let message = [b'x'; 3000];
            let mut got = [Vec::new(), Vec::new()];
            let [first, second] = &mut got;
            let _ = tokio::join!(
                async {
                    client.write_all(&message).await?;
                    client.shutdown().await?;
                    client.read_to_end(first).await
                },
                async {
                    server.read_to_end(second).await?;
                    server.write_all(&message).await?;
                    server.shutdown().await
                }
            );
            for side in got {
                assert!(side.iter().all(|byte| *byte == b'x') && side.len() <= message.len());
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), exchange).await.expect("nothing hangs");
        relays.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn garbage_is_one_refusal_for_either_side() {
    let mut random = Random(3);
    for round in 0..200 {
        let rig = Rig::default();
        let cert = Ca::new("ca").issue(&["a.test"]);
        let acceptor = rig.acceptor(&downstream(common(&[&cert], None)));
        let connector = rig.connector(&upstream(common(&[], None)));
        let mut bytes: Vec<u8> = (0..random.next() % 400).map(|_| random.next() as u8).collect();
        if round % 2 == 0 && bytes.len() > 9 {
            let kind = if round % 4 == 0 { 1 } else { 2 };
            let length = (bytes.len() - 5) as u16;
            bytes[..3].copy_from_slice(&[22, 3, 3]);
            bytes[3..5].copy_from_slice(&length.to_be_bytes());
            bytes[5..9].copy_from_slice(&[kind, 0, 0, (length - 4).min(255) as u8]);
        }
        let (peer, io) = rig::tcp().await;
        let (_, mut peer_write) = tokio::io::split(peer);
        let talk = async {
            let _ = peer_write.write_all(&bytes).await;
            let _ = peer_write.shutdown().await;
        };
        if round % 3 == 0 {
            let ((), result) = tokio::join!(talk, connector.connect(io, ConnectOptions::default()));
            assert!(result.is_err());
            assert_eq!(rig.refusals("u"), 1);
        } else {
            let ((), result) = tokio::join!(talk, acceptor.accept(io));
            assert!(result.is_err());
            assert_eq!(rig.refusals("d"), 1);
        }
    }
}
