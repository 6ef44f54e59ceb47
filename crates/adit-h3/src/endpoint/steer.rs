//! Packets that land on the wrong worker's socket find the right one.
//!
//! The kernel spreads datagrams over the sockets of a port by their addresses, so a client that moved lands anywhere. Each
//! connection id that we issue names its worker, under a mask that only we can take off (RFC 9000 section 5.1 wants ids
//! that cannot be linked); a packet with a foreign one goes into the bounded queue of its worker, which reads it as if it
//! had come from its own socket. Answers leave from any socket of the port alike.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};

use crate::shared::lock;

/// Bytes of a connection id: six at random, the worker and a check, both masked by a hash of the six.
pub(super) const CID_LEN: usize = 8;
const NONCE: usize = 6;
/// Packets that wait for one worker; more are dropped, as a full socket drops them.
const QUEUE: usize = 512;

/// The way between the endpoints of one listener.
pub struct Steering {
    key: u64,
    workers: Box<[Mutex<Inbox>]>,
}

#[derive(Default)]
struct Inbox {
    packets: VecDeque<Packet>,
    waker: Option<Waker>,
}

struct Packet {
    from: SocketAddr,
    to: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    data: Box<[u8]>,
}

impl Steering {
    /// For this many workers.
    pub fn new(workers: u8) -> Arc<Self> {
        let mut key = [0; 8];
        fill_random(&mut key);
        let workers = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        Arc::new(Self { key: u64::from_le_bytes(key), workers })
    }

    fn mask(&self, nonce: &[u8]) -> [u8; 2] {
        let mut hash = self.key;
        for byte in nonce {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        let [.., a, b] = hash.to_le_bytes();
        [a, b]
    }

    fn issue(&self, worker: u8) -> [u8; CID_LEN] {
        let mut cid = [0; CID_LEN];
        let (nonce, masked) = cid.split_at_mut(NONCE);
        fill_random(nonce);
        let [worker_mask, check] = self.mask(nonce);
        masked.copy_from_slice(&[worker ^ worker_mask, check]);
        cid
    }

    /// The worker that issued an id; `None` when none of ours did.
    fn issuer(&self, cid: &[u8]) -> Option<u8> {
        let (nonce, masked) = cid.split_at_checked(NONCE)?;
        let &[worker, check] = masked else { return None };
        let [worker_mask, expected] = self.mask(nonce);
        let worker = worker ^ worker_mask;
        (check == expected && usize::from(worker) < self.workers.len()).then_some(worker)
    }

    /// The worker that a packet is for, if its connection id says so.
    fn owner(&self, packet: &[u8]) -> Option<u8> {
        let first = *packet.first()?;
        if first & 0x80 == 0 {
            return self.issuer(packet.get(1..=CID_LEN)?);
        }
        // Initial and 0-RTT packets may carry an id that the client chose (RFC 9000 section 17.2); they stay.
        let handshake = first & 0x30 == 0x20;
        let length = usize::from(*packet.get(5)?);
        if !handshake || length != CID_LEN {
            return None;
        }
        self.issuer(packet.get(6..6 + CID_LEN)?)
    }

    fn forward(&self, worker: u8, meta: &RecvMeta, data: &[u8]) {
        let Some(inbox) = self.workers.get(usize::from(worker)) else { return };
        let mut inbox = lock(inbox);
        if inbox.packets.len() >= QUEUE {
            return;
        }
        inbox.packets.push_back(Packet { from: meta.addr, to: meta.dst_ip, ecn: meta.ecn, data: data.into() });
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

fn fill_random(bytes: &mut [u8]) {
    // Fails only where the system has no randomness, and then no handshake succeeds either.
    let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(bytes);
}

/// Issues the connection ids of one worker.
#[derive(Debug, Clone)]
pub(super) struct Cids {
    pub(super) steering: Arc<Steering>,
    pub(super) worker: u8,
}

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.steering.issue(self.worker))
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A worker's socket, and what other workers' sockets got for it.
#[derive(Debug)]
pub(super) struct SteeredSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    steering: Arc<Steering>,
    worker: u8,
}

impl SteeredSocket {
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, steering: Arc<Steering>, worker: u8) -> Self {
        Self { socket, steering, worker }
    }

    /// What came by way of other workers.
    fn poll_inbox(&self, cx: &Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let Some(inbox) = self.steering.workers.get(usize::from(self.worker)) else { return 0 };
        let mut inbox = lock(inbox);
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = inbox.packets.pop_front() else { break };
            let Some(space) = buf.get_mut(..packet.data.len()) else { continue };
            space.copy_from_slice(&packet.data);
            let (len, ecn) = (packet.data.len(), packet.ecn);
            *meta = RecvMeta { addr: packet.from, len, stride: len, ecn, dst_ip: packet.to };
            count += 1;
        }
        if count == 0 {
            match &mut inbox.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => inbox.waker = Some(cx.waker().clone()),
            }
        }
        count
    }

    /// Sends foreign packets on and closes the gaps.
    fn steer(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let len = meta.len.min(buf.len());
        let (mut kept, mut at) = (0, 0);
        while at < len {
            let end = (at + stride).min(len);
            let Some(packet) = buf.get(at..end) else { break };
            match self.steering.owner(packet) {
                Some(worker) if worker != self.worker => self.steering.forward(worker, meta, packet),
                _ => {
                    if kept != at {
                        buf.copy_within(at..end, kept);
                    }
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for SteeredSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let alone = self.steering.workers.len() == 1;
        if !alone {
            let count = self.poll_inbox(cx, bufs, meta);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
        let received = std::task::ready!(self.socket.poll_recv(cx, bufs, meta))?;
        if !alone {
            for (buf, meta) in bufs.iter_mut().zip(meta).take(received) {
                self.steer(buf, meta);
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests;
