#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn short(cid: &[u8]) -> Vec<u8> {
    [&[0x40][..], cid, b"payload"].concat()
}

fn meta(len: usize, stride: usize) -> RecvMeta {
    RecvMeta { addr: "127.0.0.1:1".parse().unwrap(), len, stride, ecn: None, dst_ip: None }
}

#[derive(Debug)]
struct NoSocket;

impl AsyncUdpSocket for NoSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        unreachable!()
    }

    fn try_send(&self, _transmit: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(&self, _: &mut Context<'_>, _: &mut [IoSliceMut<'_>], _: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok("127.0.0.1:1".parse().unwrap())
    }
}

fn socket(steering: &Arc<Steering>, worker: u8) -> SteeredSocket {
    SteeredSocket::new(Arc::new(NoSocket), steering.clone(), worker)
}

/// What a worker's inbox holds.
fn inbox(socket: &SteeredSocket) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    loop {
        let mut buffer = [0; 2000];
        let (mut bufs, mut metas) = ([IoSliceMut::new(&mut buffer)], [meta(0, 0)]);
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_recv(&mut cx, &mut bufs, &mut metas) {
            Poll::Ready(Ok(1)) => packets.push(bufs[0][..metas[0].len].to_vec()),
            other => {
                assert!(other.is_pending());
                return packets;
            }
        }
    }
}

#[test]
fn ids_name_their_worker() {
    let steering = Steering::new(4);
    for worker in 0..4 {
        for _ in 0..1000 {
            let cid = steering.issue(worker);
            assert_eq!(steering.issuer(&cid), Some(worker));
            assert_eq!(steering.owner(&short(&cid)), Some(worker));
        }
    }
    let (a, b) = (steering.issue(0), steering.issue(0));
    assert_ne!(a, b);
}

#[test]
fn other_ids_are_nobodys() {
    let steering = Steering::new(2);
    let other = Steering::new(2);
    let ours = (0..10_000).filter(|_| steering.issuer(&other.issue(1)).is_some()).count();
    assert!(ours < 20, "{ours}");
    assert_eq!(steering.owner(b""), None);
    assert_eq!(steering.owner(b"\x40short"), None);
    assert_eq!(steering.owner(&[0xc0; 5]), None);
}

#[test]
fn only_handshake_packets_are_steered_by_long_headers() {
    let steering = Steering::new(2);
    let cid = steering.issue(1);
    for (first, owner) in [(0xc0, None), (0xd0, None), (0xe0, Some(1)), (0xf0, None)] {
        let packet = [&[first, 0, 0, 0, 1, 8][..], &cid, &[0]].concat();
        assert_eq!(steering.owner(&packet), owner, "{first:x}");
    }
}

#[test]
fn foreign_packets_of_a_batch_are_taken_out() {
    let steering = Steering::new(2);
    let (mine, theirs) = (socket(&steering, 0), socket(&steering, 1));
    let packets: Vec<_> = [0, 1, 1, 0, 1].iter().map(|worker| short(&steering.issue(*worker))).collect();
    let stride = packets[0].len();
    let mut buf = packets.concat();
    buf.truncate(buf.len() - 3);
    let mut batch = meta(buf.len(), stride);
    mine.steer(&mut buf, &mut batch);
    assert_eq!(buf[..batch.len], [&packets[0][..], &packets[3]].concat());
    let last = packets[4][..stride - 3].to_vec();
    assert_eq!(inbox(&theirs), [packets[1].clone(), packets[2].clone(), last]);
    assert!(inbox(&mine).is_empty());
}

#[test]
fn an_inbox_is_bounded() {
    let steering = Steering::new(2);
    let (mine, theirs) = (socket(&steering, 0), socket(&steering, 1));
    for _ in 0..2 * QUEUE {
        let mut packet = short(&steering.issue(1));
        let mut batch = meta(packet.len(), packet.len());
        mine.steer(&mut packet, &mut batch);
        assert_eq!(batch.len, 0);
    }
    assert_eq!(inbox(&theirs).len(), QUEUE);
}
